// SPDX-License-Identifier: Apache-2.0
//! The installed libseccomp, asked for its programs.

use std::io::Read;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use super::super::emit::RET_K;
use super::super::{Action, Arch, Condition, Op, SockFilter, Syscall};
use super::profile::Owned;

/// Whether the installed libseccomp knows a name, and knows it to have the numbers that berth's table
/// says. Where not, a test of its own says so.
pub(super) fn knows(name: &str, arches: &[Arch]) -> bool {
    arches.iter().all(|arch| {
        let Ok(theirs) = ScmpSyscall::from_name_by_arch(name, scmp_arch(*arch).unwrap()) else {
            return false;
        };
        let ours = Syscall::from_name(name).and_then(|s| s.number(*arch));
        subcall(theirs).is_some() || u32::try_from(theirs.as_raw_syscall()).ok() == ours
    })
}

/// The subcall of socketcall(2) or ipc(2) that a pseudo number stands for.
pub(super) fn subcall(syscall: ScmpSyscall) -> Option<u8> {
    match syscall.as_raw_syscall() {
        nr @ -120..=-101 => Some((-nr - 100) as u8),
        nr @ -224..=-201 => Some((-nr - 200) as u8),
        _ => None,
    }
}

/// The architecture in libseccomp's words, if the crate and libseccomp 2.5 know it.
pub(super) fn scmp_arch(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::X86 => ScmpArch::X86,
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X32 => ScmpArch::X32,
        Arch::Arm => ScmpArch::Arm,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Mips => ScmpArch::Mips,
        Arch::Mips64 => ScmpArch::Mips64,
        Arch::Mips64N32 => ScmpArch::Mips64N32,
        Arch::Mipsel => ScmpArch::Mipsel,
        Arch::Mipsel64 => ScmpArch::Mipsel64,
        Arch::Mipsel64N32 => ScmpArch::Mipsel64N32,
        Arch::Ppc => ScmpArch::Ppc,
        Arch::Ppc64 => ScmpArch::Ppc64,
        Arch::Ppc64Le => ScmpArch::Ppc64Le,
        Arch::S390 => ScmpArch::S390,
        Arch::S390X => ScmpArch::S390X,
        Arch::Parisc => ScmpArch::Parisc,
        Arch::Parisc64 => ScmpArch::Parisc64,
        Arch::Riscv64 => ScmpArch::Riscv64,
        _ => return None,
    })
}

fn scmp_action(action: Action) -> ScmpAction {
    match action {
        Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno(e) => ScmpAction::Errno(e.into()),
        Action::Trace(m) => ScmpAction::Trace(m),
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Notify => ScmpAction::Notify,
    }
}

fn scmp_condition(c: &Condition) -> ScmpArgCompare {
    match c.op {
        Op::MaskedEq => ScmpArgCompare::new(c.index, ScmpCompareOp::MaskedEqual(c.value), c.value_two),
        Op::Ne => ScmpArgCompare::new(c.index, ScmpCompareOp::NotEqual, c.value),
        Op::Lt => ScmpArgCompare::new(c.index, ScmpCompareOp::Less, c.value),
        Op::Le => ScmpArgCompare::new(c.index, ScmpCompareOp::LessOrEqual, c.value),
        Op::Eq => ScmpArgCompare::new(c.index, ScmpCompareOp::Equal, c.value),
        Op::Ge => ScmpArgCompare::new(c.index, ScmpCompareOp::GreaterEqual, c.value),
        Op::Gt => ScmpArgCompare::new(c.index, ScmpCompareOp::Greater, c.value),
    }
}

/// libseccomp's filter for a profile given as runc gives it; the error is its refusal of a rule.
pub(super) fn filter(owned: &Owned, native: Arch) -> Result<ScmpFilterContext, SeccompError> {
    let mut ctx = ScmpFilterContext::new(scmp_action(owned.default_action))?;
    // The filter starts out with the architecture of this machine.
    let host = ScmpArch::native();
    let mut wanted: Vec<ScmpArch> = vec![scmp_arch(native).unwrap()];
    for arch in &owned.architectures {
        let arch = scmp_arch(*arch).unwrap();
        if !wanted.contains(&arch) {
            wanted.push(arch);
        }
    }
    if !wanted.contains(&host) {
        ctx.remove_arch(host)?;
    }
    for arch in wanted {
        ctx.add_arch(arch)?;
    }
    for (names, action, args) in &owned.rules {
        if *action == owned.default_action {
            continue;
        }
        let repeated = (0..6).any(|i| args.iter().filter(|c| c.index == i).count() > 1);
        let conditions: Vec<ScmpArgCompare> = args.iter().map(scmp_condition).collect();
        for name in names {
            let Ok(syscall) = ScmpSyscall::from_name(name) else {
                continue;
            };
            let action = scmp_action(*action);
            if conditions.is_empty() {
                ctx.add_rule(action, syscall)?;
            } else if repeated {
                for condition in &conditions {
                    ctx.add_rule_conditional(action, syscall, &[*condition])?;
                }
            } else {
                ctx.add_rule_conditional(action, syscall, &conditions)?;
            }
        }
    }
    Ok(ctx)
}

/// Whether a number looks like `SECCOMP_RET_*`.
fn is_verdict(k: u32) -> bool {
    k == 0 || matches!(k >> 16, 0x8000 | 3 | 5 | 0x7ff0 | 0x7fc0 | 0x7ffc | 0x7fff)
}

/// What is written to a pipe.
pub(super) fn read_pipe(write: impl FnOnce(&std::io::PipeWriter)) -> Vec<u8> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let bytes = scope.spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        write(&writer);
        drop(writer);
        bytes.join().unwrap()
    })
}

/// The program of a filter.
pub(super) fn export(ctx: &ScmpFilterContext, big_endian: bool) -> Vec<SockFilter> {
    let bytes = read_pipe(|writer| ctx.export_bpf(writer).unwrap());
    let insns = bytes.chunks_exact(8).map(|b| {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = b.try_into().unwrap();
        let code = if big_endian { u16::from_be_bytes([c0, c1]) } else { u16::from_le_bytes([c0, c1]) };
        let little = u32::from_le_bytes([k0, k1, k2, k3]);
        let big = u32::from_be_bytes([k0, k1, k2, k3]);
        // Made on a machine of the other byte order, answers that libseccomp copied to bring them
        // nearer are swapped once too often.
        let swapped = code == RET_K && !is_verdict(big);
        let k = if big_endian && !swapped { big } else { little };
        SockFilter { code, jt, jf, k }
    });
    insns.collect()
}
