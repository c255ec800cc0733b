// SPDX-License-Identifier: Apache-2.0
//! Which part of a profile decides a system call: evaluates the rules themselves, without making a
//! program. For the user, and for the tests, where it must always agree with the program.

use super::arch::{Arch, X32_SYSCALL_BIT};
use super::rules::{self, Answer};
use super::{Action, ENOSYS, Error, Options, Profile};

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `syscalls[i]` of the profile.
    Rule(usize),
    /// No rule matches.
    Default,
    /// The number is higher than all that the profile names.
    Newer,
    /// The architecture is not in the profile.
    WrongArch,
}

/// What a system call gets, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it gets.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What a profile says to one system call. `number` is what the kernel reports (x32 calls have
/// [`X32_SYSCALL_BIT`]); `arch` is the `AUDIT_ARCH_*` value it reports.
pub fn explain(profile: &Profile<'_>, options: Options, arch: u32, number: u32, args: &[u64; 6]) -> Result<Decision, Error> {
    let resolved = rules::resolve(profile)?;
    let families = rules::architectures(profile, options.native)?;
    let members = families.iter().find(|f| f.0 == arch).map_or(&[][..], |f| &f.1);
    let answers_newer = rules::answers_newer(profile, options);
    // The kernel tells x32 by the bit; the bit above it is never set, but the filter sees what it sees.
    let is_x32 = number & X32_SYSCALL_BIT != 0;
    let x86_64 = arch == Arch::X86_64.audit();
    let caller = members.iter().find(|&&m| !x86_64 || (m == Arch::X32) == is_x32);
    let mut decision = Decision { action: profile.default_action, reason: Reason::Default };
    if let Some(&caller) = caller {
        let numbers = rules::numbers(profile, &resolved, caller);
        let multiplexer = matches!(caller, Arch::S390 | Arch::S390X) && number == 0;
        if answers_newer && numbers.highest.is_some_and(|h| number > h || multiplexer) {
            return Ok(Decision { action: Action::Errno(ENOSYS), reason: Reason::Newer });
        }
        if !x86_64 || number < 2 * X32_SYSCALL_BIT {
            let uses: Vec<_> = numbers.uses.into_iter().filter(|u| u.number == number).collect();
            let found = match rules::answer(profile, &uses, caller) {
                Answer::Always(action, rule) => Some((action, rule)),
                Answer::First(clauses) => clauses.iter().find(|c| c.matches(args, caller)).map(|c| (c.action, c.rule)),
            };
            if let Some((action, rule)) = found {
                decision = Decision { action, reason: Reason::Rule(rule) };
            }
            return Ok(decision);
        }
    }
    // Numbers of no system call: with x32 in the profile they belong to it, and so does -1 always.
    let of_x32 = members.contains(&Arch::X32) && number >= X32_SYSCALL_BIT;
    if !(of_x32 || x86_64 && !members.is_empty() && number == u32::MAX) {
        decision = Decision { action: Action::KillThread, reason: Reason::WrongArch };
    }
    Ok(decision)
}
