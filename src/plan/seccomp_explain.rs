// SPDX-License-Identifier: Apache-2.0
//! Which rule of a seccomp profile decides about a system call: `berth seccomp explain`.

use super::seccomp::explain::{Decision, Explainer, Reason};
use super::seccomp::{Action, Arch, Condition, Op, Options, Syscall};
use super::seccomp_profile;
use crate::linux::types::{Errno, errno_name};
use crate::spec::Problem;
use crate::spec::seccomp_file::{Meant, SeccompFile};

/// The capabilities that Docker and Podman give by default, of which their profiles speak.
const USUAL_CAPS: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question<'a> {
    /// A name or a number.
    pub syscall: &'a str,
    /// The architecture it is called on; the host's where none is said.
    pub arch: Option<&'a str>,
    /// Its first arguments, as far as they are known.
    pub args: &'a [u64],
    /// The container's capabilities, where they are not the usual ones.
    pub caps: &'a [String],
    /// The kernel: major, minor.
    pub kernel: (u16, u16),
}

/// What the profile says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The call's name, or its number where that has none.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// The architecture.
    pub arch: Arch,
    /// What is tried in turn; the last one is without conditions, and the only one where the arguments are known.
    pub cases: Vec<Case>,
    /// Rules that name it and are not for this container, with the reason.
    pub left_out: Vec<(String, String)>,
}

/// One thing that can come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What the call gets.
    pub action: Action,
    /// The field that says so, or why it needs none.
    pub by: String,
    /// Under which conditions.
    pub conditions: Vec<String>,
}

/// What a profile says to a system call.
pub fn answer(file: &SeccompFile, question: &Question<'_>) -> Result<Answer, Vec<Problem>> {
    let arch = question.arch.map_or(Ok(Arch::NATIVE), find_arch)?;
    let native = host_of(arch);
    let docker_arch = docker_name(native);
    let usual: Vec<String> = USUAL_CAPS.map(String::from).to_vec();
    let caps = if question.caps.is_empty() { &usual } else { question.caps };
    let meant = Meant { native: native.oci_name(), docker_arch: &docker_arch, caps, kernel: question.kernel };
    let (seccomp, left_out) = file.meant_for(&meant);
    let profile = seccomp_profile::profile(&seccomp, native, &mut Vec::new())?;
    let options = Options { native, ..Options::default() };
    let explainer = Explainer::new(&profile, options).map_err(|error| vec![Problem::new("linux.seccomp", error.to_string())])?;
    let (name, number) = find_syscall(question.syscall, arch)?;
    let mut args = [None; 6];
    args.iter_mut().zip(question.args).for_each(|(known, arg)| *known = Some(*arg));
    let cases = explainer.number(arch.audit(), number).cases(&args);
    let prefix = file.prefix;
    let names_it = |index: &usize| file.seccomp.syscalls.get(*index).is_some_and(|rule| rule.names.contains(&name));
    let left_out = left_out.into_iter().filter(|(index, _)| names_it(index));
    Ok(Answer {
        cases: cases.into_iter().map(|(conditions, decision)| case(&conditions, decision, prefix)).collect(),
        left_out: left_out.map(|(index, why)| (format!("{prefix}syscalls[{index}]"), why)).collect(),
        name,
        number,
        arch,
    })
}

fn case(conditions: &[Condition], decision: Decision, prefix: &str) -> Case {
    let by = match decision.reason {
        Reason::Rule(index) => format!("{prefix}syscalls[{index}]"),
        Reason::Default => format!("{prefix}defaultAction"),
        Reason::Newer => "its number, which is higher than all that the profile names".to_string(),
        Reason::WrongArch => format!("{prefix}architectures, where this one is missing"),
    };
    Case { action: decision.action, by, conditions: conditions.iter().map(condition).collect() }
}

fn condition(condition: &Condition) -> String {
    let Condition { index, value, value_two, op } = condition;
    let sign = match op {
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Eq => "==",
        Op::Ge => ">=",
        Op::Gt => ">",
        Op::MaskedEq => return format!("args[{index}] & {value:#x} == {value_two:#x}"),
    };
    format!("args[{index}] {sign} {value:#x}")
}

impl Case {
    /// The action, with its errno where it has one: `SCMP_ACT_ERRNO EPERM (1)`.
    pub fn action_text(&self) -> String {
        match self.action {
            Action::Errno(errno) => {
                format!("{} {} ({errno})", self.action.oci_name(), errno_name(Errno::from_raw(i32::from(errno))))
            }
            Action::Trace(message) => format!("{} {message}", self.action.oci_name()),
            other => other.oci_name().to_string(),
        }
    }
}

/// The architecture of this name: that of config.json, with or without its prefix, or that of uname(1) or of Docker.
fn find_arch(name: &str) -> Result<Arch, Vec<Problem>> {
    let short = name.to_ascii_uppercase();
    let short = match short.trim_start_matches("SCMP_ARCH_") {
        "AMD64" => "X86_64",
        "ARM64" => "AARCH64",
        "386" | "I386" | "I686" => "X86",
        other => other,
    };
    Arch::from_oci(&format!("SCMP_ARCH_{short}")).map_err(|_| {
        vec![Problem::new("--arch", format!("\"{name}\" is no architecture: x86_64, aarch64, SCMP_ARCH_RISCV64, …"))]
    })
}

/// The machine that such a call is made on: this one, where its programs run here.
fn host_of(arch: Arch) -> Arch {
    match (Arch::NATIVE, arch) {
        (Arch::X86_64, Arch::X86 | Arch::X32) | (Arch::Aarch64, Arch::Arm) => Arch::NATIVE,
        _ => arch,
    }
}

fn docker_name(arch: Arch) -> String {
    match arch {
        Arch::X86_64 => "amd64".into(),
        Arch::Aarch64 => "arm64".into(),
        other => other.oci_name().trim_start_matches("SCMP_ARCH_").to_ascii_lowercase(),
    }
}

fn find_syscall(word: &str, arch: Arch) -> Result<(String, u32), Vec<Problem>> {
    let problem = |rule: String| vec![Problem::new("SYSCALL", rule)];
    if let Ok(number) = word.parse::<u32>() {
        let name = Syscall::from_number(arch, number).map_or_else(|| number.to_string(), |syscall| syscall.name().to_string());
        return Ok((name, number));
    }
    let syscall = Syscall::from_name(word).ok_or_else(|| problem(format!("no architecture has a system call \"{word}\"")))?;
    match syscall.number(arch) {
        Some(number) => Ok((word.to_string(), number)),
        None => Err(problem(format!("{} has no system call {word}", arch.oci_name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::interpret::{SeccompData, run};
    use super::super::seccomp::{compile, interpret::Outcome};
    use super::*;
    use crate::spec::seccomp_file;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["read", "write", "statx"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_TRAP", "args": [{ "index": 0, "value": 9, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
              "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 2, "op": "SCMP_CMP_GT" }] },
            { "names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS" }
        ] }"#;

    fn ask(syscall: &str, args: &[u64], arch: Option<&str>) -> Answer {
        let file = seccomp_file::parse(PROFILE.as_bytes()).unwrap().unwrap();
        answer(&file, &Question { syscall, arch, args, kernel: (6, 1), ..Question::default() }).unwrap()
    }

    fn only(answer: &Answer) -> (String, &str) {
        assert_eq!(answer.cases.len(), 1, "{answer:?}");
        (answer.cases[0].action_text(), answer.cases[0].by.as_str())
    }

    #[test]
    fn names_the_rule_that_decides() {
        let x86_64 = Some("x86_64");
        assert_eq!(only(&ask("read", &[], x86_64)), ("SCMP_ACT_ALLOW".into(), "syscalls[0]"));
        assert_eq!(only(&ask("mount", &[], Some("amd64"))), ("SCMP_ACT_ERRNO EACCES (13)".into(), "defaultAction"));
        assert_eq!(only(&ask("reboot", &[1], x86_64)), ("SCMP_ACT_KILL_PROCESS".into(), "syscalls[5]"));
        assert_eq!(only(&ask("personality", &[9], x86_64)), ("SCMP_ACT_TRAP".into(), "syscalls[3]"));
        assert_eq!(only(&ask("clone3", &[], x86_64)).0, "SCMP_ACT_ERRNO ENOSYS (38)", "newer than statx");
        assert_eq!(only(&ask("read", &[], Some("x32"))).0, "SCMP_ACT_KILL_THREAD");
        assert_eq!(ask("0", &[], x86_64).name, "read");
    }

    #[test]
    fn says_on_which_arguments_it_depends() {
        let answer = ask("clone", &[], Some("x86_64"));
        assert_eq!(answer.cases.len(), 2);
        assert_eq!(answer.cases[0].conditions, ["args[0] & 0x7e020000 == 0x0"]);
        assert_eq!((answer.cases[1].by.as_str(), answer.cases[1].conditions.len()), ("defaultAction", 0));
        // One argument settles it, the other is not needed.
        assert_eq!(only(&ask("socket", &[1], Some("x86_64"))).1, "defaultAction");
        assert_eq!(ask("socket", &[40], Some("x86_64")).cases.len(), 2);
        assert_eq!(only(&ask("socket", &[40, 3], Some("x86_64"))), ("SCMP_ACT_ERRNO EAFNOSUPPORT (97)".into(), "syscalls[4]"));
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let file = seccomp_file::parse(PROFILE.as_bytes()).unwrap().unwrap();
        let wrong = |syscall, arch| answer(&file, &Question { syscall, arch, ..Question::default() }).unwrap_err()[0].at.clone();
        assert_eq!((wrong("no_such", None), wrong("read", Some("z80"))), ("SYSCALL".into(), "--arch".into()));
        assert_eq!(wrong("arch_prctl", Some("aarch64")), "SYSCALL");
    }

    /// The compiled program is the oracle: of every system call, with arguments at and around every value of the profile.
    #[test]
    fn agrees_with_the_program() {
        let file = seccomp_file::parse(PROFILE.as_bytes()).unwrap().unwrap();
        let seccomp = file.seccomp.clone();
        let native = host_of(Arch::X86);
        if native != Arch::X86_64 {
            eprintln!("skipped: asks about x86 on x86_64");
            return;
        }
        let profile = seccomp_profile::profile(&seccomp, native, &mut Vec::new()).unwrap();
        let program = compile(&profile, Options::default()).unwrap();
        let mut compared = 0;
        for arch in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64] {
            for syscall in Syscall::all() {
                // Calls of another machine are judged as on that: the program is not for it.
                let Some(number) = syscall.number(arch).filter(|_| host_of(arch) == native) else { continue };
                for first in [0, 7, 8, 9, 40, 1 << 17, 0x7e02_0000, 1 << 40] {
                    let args = [first, 3, 0, 0, 0, 0];
                    let question =
                        Question { syscall: syscall.name(), arch: Some(arch.oci_name()), args: &args, ..Question::default() };
                    let got = answer(&file, &question).unwrap();
                    let data = SeccompData { nr: number, arch: arch.audit(), instruction_pointer: 0, args };
                    let Outcome { verdict, .. } = run(&program.filter, &data, false).unwrap();
                    assert_eq!(got.cases.len(), 1, "{got:?}");
                    assert_eq!(got.cases[0].action.verdict(), verdict, "{got:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 5000, "{compared}");
    }
}
