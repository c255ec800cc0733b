// SPDX-License-Identifier: Apache-2.0
//! Seccomp profiles compiled to classic BPF: a pure function from a [`Profile`] to a [`Program`].
//! Called when a create or exec plan is made; runtime-spec config-linux.md `linux.seccomp`,
//! seccomp(2), bpf: Documentation/networking/filter.rst.
//!
//! ```text
//! Profile ──rules──► per architecture: number → clauses ──condition──► argument tests ─┐
//!                                                       (numbers in ranges) ──tree──► graph ──emit──► Program
//! ```
//! A filter decides by architecture, then by a search tree over ranges of numbers with the same
//! answer, then (few numbers) by tests on argument words. `interpret` runs a program, `explain`
//! answers the same question from the rules themselves; both serve the tests and the user.
//!
//! # What a profile means
//! As runc and libseccomp read it:
//! - The native architecture is always included. A call made on an architecture that is not in the
//!   profile kills the thread; so does an x32 number when x86_64 is in the profile and x32 is not.
//! - A rule whose action equals the default action says nothing and is skipped.
//! - A name that no architecture knows is ignored, and reported in [`Program::unknown`].
//! - A rule without conditions beats every rule with conditions on the same system call; of two such
//!   rules the first counts.
//! - All conditions of a rule must hold, but if an argument occurs twice in a rule, each condition
//!   stands alone, as a rule of its own.
//! - `SCMP_CMP_MASKED_EQ` compares `arg & value` with `valueTwo & value`.
//! - On 32-bit architectures, x32 and MIPS n32 only the low 32 bits of arguments and values count.
//! - Where socketcall(2) and ipc(2) exist, a rule for one of their subcalls also stands for that
//!   subcall, with its condition on the first argument replaced by the subcall's number. (So a
//!   condition on the first argument of socket(2) does not bind socketcall(2).)
//! - If rules with conditions and *different* actions match the same call, the order of
//!   `precedence` decides; libseccomp refuses some of these.
//!
//! libseccomp makes wrong programs of some profiles with several conditions (`oracle` lists how); a
//! program made here does what the rules say.
//!
//! # Newer system calls
//! A profile cannot allow what its author did not know, and programs probe for new system calls by
//! ENOSYS, not EPERM. So, unless the default action lets calls pass (allow, log, trace) or is ENOSYS
//! anyway, a number above the highest one that the profile names on that architecture gets ENOSYS;
//! if the profile names none there, the default action stays. On s390 and s390x also number 0 gets
//! ENOSYS, because the kernel reports unknown large numbers as 0. Unlike runc, which overlooks them,
//! subcalls of socketcall(2) and ipc(2) count with both of their numbers.

mod arch;
mod condition;
mod emit;
pub mod explain;
mod graph;
pub mod interpret;
mod precedence;
mod rules;
mod syscall;
mod table;
mod tree;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use crate::linux::types::SockFilter;
use crate::spec::types::CallNames;
pub use arch::{Arch, X32_SYSCALL_BIT};
pub use syscall::{Subcall, Syscall};

/// What to do with a system call (`SCMP_ACT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Kill the thread (`SCMP_ACT_KILL` and `SCMP_ACT_KILL_THREAD`).
    KillThread,
    /// Kill the process.
    KillProcess,
    /// Send SIGSYS.
    Trap,
    /// Fail with this errno.
    Errno(u16),
    /// Hand over to a tracer with this message.
    Trace(u16),
    /// Let it pass.
    Allow,
    /// Let it pass and log it.
    Log,
    /// Ask the process that holds the listener.
    Notify,
}

impl Action {
    /// The action of a config.json. `errno_ret` is its `errnoRet` or `defaultErrnoRet`, if any.
    pub fn from_oci(name: &str, errno_ret: Option<u32>) -> Result<Action, Error> {
        let data = || {
            let value = errno_ret.unwrap_or(EPERM.into());
            u16::try_from(value).map_err(|_| Error::ErrnoTooLarge(value))
        };
        let action = match name {
            "SCMP_ACT_ERRNO" => return Ok(Action::Errno(data()?)),
            "SCMP_ACT_TRACE" => return Ok(Action::Trace(data()?)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
            "SCMP_ACT_TRAP" => Action::Trap,
            "SCMP_ACT_ALLOW" => Action::Allow,
            "SCMP_ACT_LOG" => Action::Log,
            "SCMP_ACT_NOTIFY" => Action::Notify,
            _ => return Err(Error::UnknownAction(name.into())),
        };
        match errno_ret {
            Some(_) => Err(Error::ErrnoWithoutErrno(name.into())),
            None => Ok(action),
        }
    }

    /// Its name in a config.json.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Action::KillThread => "SCMP_ACT_KILL_THREAD",
            Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
            Action::Trap => "SCMP_ACT_TRAP",
            Action::Errno(_) => "SCMP_ACT_ERRNO",
            Action::Trace(_) => "SCMP_ACT_TRACE",
            Action::Allow => "SCMP_ACT_ALLOW",
            Action::Log => "SCMP_ACT_LOG",
            Action::Notify => "SCMP_ACT_NOTIFY",
        }
    }

    /// `SECCOMP_RET_*` of linux/seccomp.h with its data.
    pub const fn verdict(self) -> u32 {
        match self {
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | errno as u32,
            Action::Trace(message) => 0x7ff0_0000 | message as u32,
            Action::Allow => 0x7fff_0000,
            Action::Log => 0x7ffc_0000,
            Action::Notify => 0x7fc0_0000,
        }
    }

    /// Whether it lets calls through, to the kernel or to a tracer.
    const fn is_permissive(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// A comparison (`SCMP_CMP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater or equal.
    Ge,
    /// Greater.
    Gt,
    /// Equal under a mask.
    MaskedEq,
}

impl Op {
    /// The operator of a config.json.
    pub fn from_oci(name: &str) -> Result<Op, Error> {
        Ok(match name {
            "SCMP_CMP_NE" => Op::Ne,
            "SCMP_CMP_LT" => Op::Lt,
            "SCMP_CMP_LE" => Op::Le,
            "SCMP_CMP_EQ" => Op::Eq,
            "SCMP_CMP_GE" => Op::Ge,
            "SCMP_CMP_GT" => Op::Gt,
            "SCMP_CMP_MASKED_EQ" => Op::MaskedEq,
            _ => return Err(Error::UnknownOperator(name.into())),
        })
    }
}

/// A condition on one argument of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// The value to compare with; the mask of [`Op::MaskedEq`].
    pub value: u64,
    /// The value of [`Op::MaskedEq`]; unused otherwise.
    pub value_two: u64,
    /// How to compare; arguments are unsigned.
    pub op: Op,
}

/// One element of `linux.seccomp.syscalls`.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// Names of system calls.
    pub names: &'a CallNames,
    /// What to do with them.
    pub action: Action,
    /// Under which conditions.
    pub args: Vec<Condition>,
}

/// `linux.seccomp` of a config.json.
#[derive(Clone, Debug)]
pub struct Profile<'a> {
    /// What to do with calls that no rule matches.
    pub default_action: Action,
    /// The architectures besides the native one; it may be named too.
    pub architectures: Vec<Arch>,
    /// The rules, in the order of the config.json.
    pub rules: Vec<Rule<'a>>,
}

/// Where a program will run and how it treats what the profile could not know.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The architecture of the kernel.
    pub native: Arch,
    /// Whether newer system calls get ENOSYS (see the module's text).
    pub newer_is_enosys: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { native: Arch::NATIVE, newer_is_enosys: true }
    }
}

/// A compiled profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What seccomp(2) takes; at most [`MAX_INSNS`] instructions.
    pub filter: Vec<SockFilter>,
    /// Names in the profile that no architecture knows: they were ignored, the caller may warn.
    pub unknown: Vec<String>,
    /// Whether a rule asks for [`Action::Notify`], so that the filter needs a listener.
    pub notifies: bool,
}

/// `BPF_MAXINSNS` of linux/bpf_common.h: the longest filter the kernel takes.
pub const MAX_INSNS: usize = 4096;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Why a profile cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `architectures` names something else.
    #[error("unknown seccomp architecture \"{0}\"")]
    UnknownArch(String),
    /// `action` or `defaultAction` names something else.
    #[error("unknown seccomp action \"{0}\"")]
    UnknownAction(String),
    /// `op` names something else.
    #[error("unknown seccomp operator \"{0}\"")]
    UnknownOperator(String),
    /// `errnoRet` with an action that has no use for it: the runtime-spec wants an error.
    #[error("errnoRet is given with {0}, which returns no errno")]
    ErrnoWithoutErrno(String),
    /// `errnoRet` does not fit into a filter's answer.
    #[error("errnoRet {0} is too large (at most 65535)")]
    ErrnoTooLarge(u32),
    /// An architecture of the other byte order can never run here, and one program cannot serve both.
    #[error("seccomp architecture {} has another byte order than this machine ({})", arch.oci_name(), native.oci_name())]
    ByteOrder {
        /// The architecture in the profile.
        arch: Arch,
        /// The machine's.
        native: Arch,
    },
    /// A condition on an argument that no system call has.
    #[error("syscalls[{rule}].args[{arg}]: index {index}: a system call has arguments 0 to 5")]
    ArgIndex {
        /// Which rule.
        rule: usize,
        /// Which of its conditions.
        arg: usize,
        /// The index it gives.
        index: u32,
    },
    /// A name is the empty string.
    #[error("syscalls[{rule}].names: an empty string is no system call")]
    EmptyName {
        /// Which rule.
        rule: usize,
    },
    /// Notification of every call would include those that hand over the listener.
    #[error("SCMP_ACT_NOTIFY cannot be the default action")]
    NotifyDefault,
    /// The listener is handed over by a write after the filter is in force.
    #[error("syscalls[{rule}]: SCMP_ACT_NOTIFY cannot be used for write")]
    NotifyWrite {
        /// Which rule.
        rule: usize,
    },
    /// The kernel would refuse the program.
    #[error("the seccomp profile needs {needed} BPF instructions; the kernel takes at most {MAX_INSNS}")]
    TooLong {
        /// How many instructions.
        needed: usize,
    },
}

/// Compiles a profile. Equal input gives equal output.
pub fn compile(profile: &Profile<'_>, options: Options) -> Result<Program, Error> {
    let unknown = rules::check(profile)?;
    let architectures = rules::architectures(profile, options.native)?;
    let newer = rules::answers_newer(profile, options).then_some(Action::Errno(ENOSYS));
    let mut graph = graph::Graph::with_capacity(256);
    let mut forest = tree::Forest::new(&mut graph, profile.default_action, newer);
    // Nodes are laid out backwards: what is made last comes first, and that is the native architecture.
    let mut root = forest.wrong_arch();
    for (audit, members) in architectures.into_iter().rev() {
        let mut family = tree::Family::default();
        for arch in members {
            let numbers = rules::numbers(profile, arch);
            family.add(arch, forest.ranges(arch, &numbers, profile));
        }
        root = forest.add(audit, family, root);
    }
    let filter = emit::emit(&graph, root)?;
    Ok(Program { filter, unknown, notifies: profile.rules.iter().any(|r| r.action == Action::Notify && !r.names.is_empty()) })
}
