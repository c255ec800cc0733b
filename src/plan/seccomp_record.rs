// SPDX-License-Identifier: Apache-2.0
//! A run whose system calls are all told (`berth seccomp record`): the filter that tells them, and the smallest profile that allows them.
//! seccomp_unotify(2).

use super::Plan;
use super::seccomp::{Action, Arch, Syscall, X32_SYSCALL_BIT};
use super::step::{Op, SeccompLoad};
use crate::linux::types::SockFilter;
use crate::spec::types::{Seccomp, SeccompSyscall, Spec};

/// A system call as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called {
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    /// Its number there.
    pub number: u32,
}

impl Called {
    /// Whether it is one of these, on the machine's own architecture.
    pub fn is(self, names: &[&str]) -> bool {
        let own = |name: &&str| Syscall::from_name(name).and_then(|syscall| syscall.number(Arch::NATIVE)) == Some(self.number);
        self.arch == Arch::NATIVE.audit() && names.iter().any(own)
    }
}

/// A profile in place of the configuration's, so that the plan has a step for it.
pub fn prepare(spec: &mut Spec) {
    let linux = spec.linux.get_or_insert_default();
    linux.seccomp = Some(Seccomp { default_action: Action::Allow.oci_name().into(), ..Seccomp::default() });
}

/// Makes the plan load a filter that has every system call told, but for sendmsg(2) on this descriptor, over which the container's process
/// hands on the listener: nobody could be told of that.
pub fn record(plan: &mut Plan, socket: i32, flags: u64) {
    for step in &mut plan.child {
        if let Op::Seccomp(load) = &mut step.op {
            *load = SeccompLoad { filter: filter(socket), flags, listener: Some(Default::default()) };
        }
    }
}

fn filter(socket: i32) -> Vec<SockFilter> {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let insn = |code, jf, k| SockFilter { code, jt: 0, jf, k };
    let sendmsg = Syscall::from_name("sendmsg").and_then(|syscall| syscall.number(Arch::NATIVE)).unwrap_or(u32::MAX);
    // seccomp_data: the number, the architecture, eight bytes, then the arguments of eight bytes each.
    let first_low = if Arch::NATIVE.is_big_endian() { 20 } else { 16 };
    vec![
        insn(LOAD, 0, 4),
        insn(IF_EQUAL, 5, Arch::NATIVE.audit()),
        insn(LOAD, 0, 0),
        insn(IF_EQUAL, 3, sendmsg),
        insn(LOAD, 0, first_low),
        insn(IF_EQUAL, 1, socket as u32),
        insn(RETURN, 0, Action::Allow.verdict()),
        insn(RETURN, 0, Action::Notify.verdict()),
    ]
}

/// A profile, and what could not be put into it.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// All else gets EPERM.
    pub seccomp: Seccomp,
    /// Calls that have no name here: their numbers, with the architecture.
    pub unnamed: Vec<String>,
}

/// The smallest profile that allows these calls, and what `more` names.
pub fn profile(calls: &[Called], more: Vec<String>) -> Recorded {
    let (mut names, mut architectures, mut unnamed) = (more, vec![Arch::NATIVE], Vec::new());
    for call in calls {
        let of_x32 =
            |arch: &Arch| (*arch == Arch::X32) == (call.arch == Arch::X86_64.audit() && call.number & X32_SYSCALL_BIT != 0);
        let arch = Arch::ALL.into_iter().find(|arch| arch.audit() == call.arch && of_x32(arch));
        match arch.and_then(|arch| Some((arch, Syscall::from_number(arch, call.number)?))) {
            Some((arch, syscall)) => {
                names.push(syscall.name().to_string());
                if !architectures.contains(&arch) {
                    architectures.push(arch);
                }
            }
            None => unnamed.push(format!("{} on {}", call.number, arch.map_or("?", Arch::oci_name))),
        }
    }
    names.sort_unstable();
    names.dedup();
    let names = names.iter().collect();
    let allowed = SeccompSyscall { names, action: Action::Allow.oci_name().into(), ..SeccompSyscall::default() };
    let seccomp = Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(1),
        architectures: architectures.into_iter().map(|arch| arch.oci_name().to_string()).collect(),
        syscalls: vec![allowed],
        ..Seccomp::default()
    };
    Recorded { seccomp, unnamed }
}

/// The calls that a profile allows whatever their arguments.
pub fn allowed(seccomp: &Seccomp) -> Vec<String> {
    let plain = seccomp.syscalls.iter().filter(|rule| rule.action == Action::Allow.oci_name() && rule.args.is_empty());
    plain.flat_map(|rule| rule.names.iter().map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::interpret::{SeccompData, run};
    use super::*;

    fn called(arch: Arch, name: &str) -> Called {
        Called { arch: arch.audit(), number: Syscall::from_name(name).unwrap().number(arch).unwrap() }
    }

    #[test]
    fn everything_is_told_but_the_handing_on_of_the_listener() {
        let program = filter(700);
        let verdict = |call: Called, first: u64| {
            let args = [first, 0, 0, 0, 0, 0];
            let data = SeccompData { nr: call.number, arch: call.arch, instruction_pointer: 0, args };
            run(&program, &data, Arch::NATIVE.is_big_endian()).unwrap().verdict
        };
        let (allow, notify) = (Action::Allow.verdict(), Action::Notify.verdict());
        assert_eq!(verdict(called(Arch::NATIVE, "sendmsg"), 700), allow);
        assert_eq!(verdict(called(Arch::NATIVE, "sendmsg"), 3), notify);
        for name in ["read", "execve", "exit_group", "rt_sigreturn"] {
            assert_eq!(verdict(called(Arch::NATIVE, name), 700), notify);
        }
        let other = if Arch::NATIVE == Arch::X86 { Arch::X86_64 } else { Arch::X86 };
        assert_eq!(verdict(Called { arch: other.audit(), ..called(Arch::NATIVE, "sendmsg") }, 700), notify);
    }

    #[test]
    fn the_profile_names_each_call_once_and_its_architectures() {
        let calls = [called(Arch::X86_64, "write"), called(Arch::X86_64, "read"), called(Arch::X32, "read")];
        let calls = [&calls[..], &[called(Arch::X86, "write"), Called { arch: Arch::X86_64.audit(), number: 100_000 }]].concat();
        let recorded = profile(&calls, vec!["futex".into(), "read".into()]);
        assert_eq!(allowed(&recorded.seccomp), ["futex", "read", "write"]);
        assert_eq!(recorded.unnamed, ["100000 on SCMP_ARCH_X86_64"]);
        for arch in ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"] {
            assert!(recorded.seccomp.architectures.iter().any(|named| named == arch), "{arch}");
        }
        assert!(called(Arch::NATIVE, "execve").is(&["execve", "execveat"]) && !called(Arch::NATIVE, "read").is(&["execve"]));
    }
}
