// SPDX-License-Identifier: Apache-2.0
//! `linux.seccomp` of a configuration, read and compiled (config-linux.md, Seccomp; seccomp(2)). Used for create and for exec.

use super::seccomp::{Action, Arch, Condition, Op, Options, Profile, Rule, compile};
use super::step::SeccompLoad;
use crate::spec::Problem;
use crate::spec::types::{Seccomp, SeccompArg, SeccompSyscall, Spec};

/// The flags that config.json may name, with their bits (linux/seccomp.h).
pub const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 1 << 0),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1 << 5),
];

/// crun's annotation for the listener's socket, which counts where the profile has no listenerPath.
pub const RECEIVER: &str = "run.oci.seccomp.receiver";

/// Compiles the profile of a configuration, if it has one.
pub fn load(spec: &Spec, warnings: &mut Vec<String>) -> Result<Option<SeccompLoad>, Vec<Problem>> {
    let Some(given) = spec.linux.as_deref().and_then(|linux| linux.seccomp.as_ref()) else { return Ok(None) };
    let profile = profile(given, Arch::NATIVE, warnings)?;
    let program = compile(&profile, Options::default()).map_err(|error| fail("", &error))?;
    if !program.unknown.is_empty() {
        warnings.push(format!("linux.seccomp: passed over unknown system calls: {}", program.unknown.join(", ")));
    }
    let receiver = Some(&given.listener_path).filter(|path| !path.is_empty()).or_else(|| spec.annotations.get(RECEIVER));
    let listener = match (program.notifies, receiver) {
        (true, None) => return Err(fail("listenerPath", &"SCMP_ACT_NOTIFY needs the path of a listener's socket")),
        (true, Some(path)) => Some((path.clone(), given.listener_metadata.clone())),
        (false, _) => None,
    };
    Ok(Some(SeccompLoad { filter: program.filter, flags: flags(given, program.notifies)?, listener }))
}

fn fail(field: &str, error: &dyn std::fmt::Display) -> Vec<Problem> {
    let at = if field.is_empty() { "linux.seccomp".to_string() } else { format!("linux.seccomp.{field}") };
    vec![Problem::new(at, error.to_string())]
}

/// The profile as it is meant on a machine of this architecture.
pub fn profile<'a>(given: &'a Seccomp, native: Arch, warnings: &mut Vec<String>) -> Result<Profile<'a>, Vec<Problem>> {
    let default_action =
        Action::from_oci(&given.default_action, given.default_errno_ret).map_err(|error| fail("defaultAction", &error))?;
    let mut rules = Vec::with_capacity(given.syscalls.len());
    for (index, syscall) in given.syscalls.iter().enumerate() {
        rules.push(rule(syscall).map_err(|error| fail(&format!("syscalls[{index}]"), &error))?);
    }
    Ok(Profile { default_action, architectures: architectures(given, native, warnings)?, rules })
}

/// Without those of the other byte order, which no program on this machine can be of: nothing would ever match their part of a filter.
fn architectures(given: &Seccomp, native: Arch, warnings: &mut Vec<String>) -> Result<Vec<Arch>, Vec<Problem>> {
    let mut all = Vec::with_capacity(given.architectures.len());
    for (index, name) in given.architectures.iter().enumerate() {
        let at = format!("linux.seccomp.architectures[{index}]");
        let arch = Arch::from_oci(name).map_err(|error| vec![Problem::new(&at, error.to_string())])?;
        match arch.is_big_endian() == native.is_big_endian() {
            true => all.push(arch),
            false => {
                warnings.push(format!("{at}: {name} is of another byte order than this machine, where none of its programs run"))
            }
        }
    }
    Ok(all)
}

/// A flag about listeners is refused without one, as the kernel does: seccomp(2) says EINVAL.
fn flags(given: &Seccomp, notifies: bool) -> Result<u64, Vec<Problem>> {
    let mut bits = 0;
    for (index, name) in given.flags.iter().enumerate() {
        let at = format!("linux.seccomp.flags[{index}]");
        let known = FLAGS.iter().find(|(known, _)| known == name);
        if name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" && !notifies {
            return Err(vec![Problem::new(
                at,
                format!("\"{name}\" is about a listener: no rule of the profile has SCMP_ACT_NOTIFY"),
            )]);
        }
        bits |= known.ok_or_else(|| vec![Problem::new(at, format!("unknown seccomp flag \"{name}\""))])?.1;
    }
    Ok(bits)
}

fn rule(syscall: &SeccompSyscall) -> Result<Rule<'_>, super::seccomp::Error> {
    let condition = |arg: &SeccompArg| {
        let value_two = arg.value_two.unwrap_or(0);
        Ok(Condition { index: arg.index, value: arg.value, value_two, op: Op::from_oci(&arg.op)? })
    };
    Ok(Rule {
        names: &syscall.names,
        action: Action::from_oci(&syscall.action, syscall.errno_ret)?,
        args: syscall.args.iter().map(condition).collect::<Result<_, _>>()?,
    })
}
