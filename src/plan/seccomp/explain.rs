// SPDX-License-Identifier: Apache-2.0
//! Which part of a profile decides a system call: evaluates the rules themselves, without making a
//! program. For the user, and for the tests, where it must always agree with the program.

use super::arch::{Arch, X32_SYSCALL_BIT};
use super::rules::{self, Answer, Clause, Numbers};
use super::{Action, Condition, ENOSYS, Error, Options, Profile};

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
/// [`X32_SYSCALL_BIT`]); `audit` is the `AUDIT_ARCH_*` value it reports.
pub fn explain(profile: &Profile<'_>, options: Options, audit: u32, number: u32, args: &[u64; 6]) -> Result<Decision, Error> {
    Ok(Explainer::new(profile, options)?.number(audit, number).decide(args))
}

/// A profile with its names resolved, to ask about many system calls.
pub struct Explainer<'a> {
    profile: &'a Profile<'a>,
    /// Whether newer system calls get ENOSYS.
    answers_newer: bool,
    /// By `AUDIT_ARCH_*` value.
    families: Vec<(u32, Vec<(Arch, Numbers)>)>,
}

/// What a profile says to all calls with one number.
pub struct Judge {
    /// Tried first, with the architecture that they are about.
    clauses: Vec<Clause>,
    arch: Arch,
    otherwise: Decision,
}

impl<'a> Explainer<'a> {
    /// Fails as [`super::compile`] does, but for [`Error::TooLong`].
    pub fn new(profile: &'a Profile<'a>, options: Options) -> Result<Explainer<'a>, Error> {
        rules::check(profile)?;
        let numbers = |arch| (arch, rules::numbers(profile, arch));
        let families = rules::architectures(profile, options.native)?.into_iter();
        Ok(Explainer {
            profile,
            answers_newer: rules::answers_newer(profile, options),
            families: families.map(|(audit, members)| (audit, members.into_iter().map(numbers).collect())).collect(),
        })
    }

    /// What it says to calls with this number, whatever their arguments.
    pub fn number(&self, audit: u32, number: u32) -> Judge {
        let family = self.families.iter().find(|f| f.0 == audit);
        let members = family.map_or(&[][..], |f| &f.1);
        let has_x32 = members.iter().any(|m| m.0 == Arch::X32);
        let x86_64 = audit == Arch::X86_64.audit();
        // The kernel tells x32 by this bit.
        let is_x32 = number & X32_SYSCALL_BIT != 0;
        let Some((arch, numbers)) = members.iter().find(|m| !x86_64 || (m.0 == Arch::X32) == is_x32) else {
            // A tracer skips a system call by -1; and what is neither x86_64 nor x32 passes for x32.
            let skipped = number == u32::MAX && x86_64 && !members.is_empty();
            return if skipped || has_x32 && number >= 2 * X32_SYSCALL_BIT {
                Judge::always(self.profile.default_action, Reason::Default)
            } else {
                Judge::always(Action::KillThread, Reason::WrongArch)
            };
        };
        let unknown_to_s390 = matches!(arch, Arch::S390 | Arch::S390X) && number == 0;
        let newer = numbers.highest.is_some_and(|h| number > h || unknown_to_s390);
        if newer && self.answers_newer {
            return Judge::always(Action::Errno(ENOSYS), Reason::Newer);
        }
        if x86_64 && number >= 2 * X32_SYSCALL_BIT && !has_x32 {
            return Judge::always(Action::KillThread, Reason::WrongArch);
        }
        match rules::answer(self.profile, numbers.said(number), *arch) {
            Answer::Always(action, rule) => Judge::always(action, Reason::Rule(rule)),
            Answer::First(clauses) => {
                Judge { clauses, arch: *arch, ..Judge::always(self.profile.default_action, Reason::Default) }
            }
        }
    }
}

impl Judge {
    fn always(action: Action, reason: Reason) -> Judge {
        Judge { clauses: Vec::new(), arch: Arch::NATIVE, otherwise: Decision { action, reason } }
    }

    /// What a call with these arguments gets.
    pub fn decide(&self, args: &[u64; 6]) -> Decision {
        let found = self.clauses.iter().find(|c| c.matches(args, self.arch));
        found.map_or(self.otherwise, |clause| Decision { action: clause.action, reason: Reason::Rule(clause.rule) })
    }

    /// What can come of a call of which these arguments are known: each possibility with the conditions that it still depends on, in the
    /// order in which they are tried. The last one is what else it gets.
    pub fn cases(&self, args: &[Option<u64>; 6]) -> Vec<(Vec<Condition>, Decision)> {
        let mut cases = Vec::new();
        for clause in &self.clauses {
            let known = |c: &Condition| args[c.index as usize].map(|arg| rules::holds(c, arg, self.arch));
            let decision = Decision { action: clause.action, reason: Reason::Rule(clause.rule) };
            if clause.conditions().any(|c| known(c) == Some(false)) {
                continue;
            }
            let conditions = clause.conditions().copied().collect();
            if clause.conditions().all(|c| known(c) == Some(true)) {
                cases.push((conditions, decision));
                return cases;
            }
            cases.push((conditions, decision));
        }
        cases.push((Vec::new(), self.otherwise));
        cases
    }

    /// The clauses, in the order in which they are tried.
    #[cfg(test)]
    pub(super) fn clauses(&self) -> &[Clause] {
        &self.clauses
    }
}
