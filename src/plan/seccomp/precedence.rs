// SPDX-License-Identifier: Apache-2.0
//! In which order the clauses of a system call are tried when they do not all have the same action.
//! The runtime-spec does not say; libseccomp's documentation does not either, but what it does has a
//! logic, and existing profiles count on it. Called by `rules::answer`.
//!
//! libseccomp keeps the conditions of a system call in a tree of word comparisons: a clause is a path
//! in it, from its lowest argument to its highest, high word before low word, and clauses that begin
//! alike share the beginning. On each level the order is:
//! 1. higher arguments before lower ones;
//! 2. `EQ`, `NE`, `MASKED_EQ` before `LT`, `LE` before `GT`, `GE`;
//! 3. greater values before smaller ones, but for `LT` and `LE` smaller ones first;
//! 4. as in the profile.
//!
//! In short, the more particular condition comes first. Of equal clauses the first one counts, and a
//! clause that begins like an earlier, shorter one comes after it and thus never counts. (libseccomp
//! refuses the reverse and some other contradictions; here they have the order above.)

use super::Op;
use super::arch::Arch;
use super::rules::Clause;

/// A comparison of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// Rank of the word: higher arguments have higher ones.
    word: u32,
    /// Rank of the operator.
    class: u32,
    /// The comparison that BPF makes for it.
    compare: Op,
    mask: u32,
    value: u32,
}

impl Step {
    /// Whether both are the same node of the tree. The class is that of the clause that came first.
    fn same(&self, other: &Step) -> bool {
        (self.word, self.compare, self.mask, self.value) == (other.word, other.compare, other.mask, other.value)
    }

    /// Whether `self` is to be tried after `other`.
    fn after(&self, other: &Step) -> bool {
        let ranks = (self.word, self.class).cmp(&(other.word, other.class));
        let values = match self.class {
            LESS => other.value.cmp(&self.value),
            _ => self.value.cmp(&other.value),
        };
        ranks.then(values).is_lt()
    }
}

const EQUAL: u32 = 3;
const LESS: u32 = 2;
const GREATER: u32 = 1;

/// The path of a clause.
fn path(clause: &Clause, arch: Arch) -> Vec<Step> {
    let mut steps = Vec::with_capacity(12);
    for c in clause.conditions() {
        let (class, high, low) = match c.op {
            Op::Eq | Op::Ne => (EQUAL, Op::Eq, Op::Eq),
            Op::MaskedEq => (EQUAL, Op::MaskedEq, Op::MaskedEq),
            Op::Lt => (LESS, Op::Gt, Op::Ge),
            Op::Le => (LESS, Op::Gt, Op::Gt),
            Op::Ge => (GREATER, Op::Gt, Op::Ge),
            Op::Gt => (GREATER, Op::Gt, Op::Gt),
        };
        let (mask, value) = match c.op {
            Op::MaskedEq => (c.value, c.value_two),
            _ => (u64::MAX, c.value),
        };
        let step =
            |shift, word, compare| Step { word, class, compare, mask: (mask >> shift) as u32, value: (value >> shift) as u32 };
        if arch.is_wide() {
            steps.push(step(32, 2 * c.index + 1, high));
        }
        steps.push(step(0, 2 * c.index, low));
    }
    steps
}

/// Puts clauses into the order in which they are tried.
pub(super) fn sort(clauses: &mut Vec<Clause>, arch: Arch) {
    let mut sorted: Vec<(Vec<Step>, Clause)> = Vec::with_capacity(clauses.len());
    for clause in clauses.drain(..) {
        let path = path(&clause, arch);
        let at = place(&sorted, &path);
        sorted.insert(at, (path, clause));
    }
    clauses.extend(sorted.into_iter().map(|(_, clause)| clause));
}

/// Where a path belongs among those that are there: walks down the tree that they make.
fn place(sorted: &[(Vec<Step>, Clause)], path: &[Step]) -> usize {
    // The clauses that begin like this one.
    let (mut from, mut to) = (0, sorted.len());
    for (level, step) in path.iter().enumerate() {
        let node = |i: usize| sorted.get(i).and_then(|(path, _)| path.get(level));
        // A clause that ends here is shorter and earlier: nothing after it counts.
        if (from..to).any(|i| node(i).is_none()) {
            return to;
        }
        let end_of = |i: usize| {
            let same = |j: &usize| matches!((node(*j), node(i)), (Some(a), Some(b)) if a.same(b));
            (i + 1..to).find(|j| !same(j)).unwrap_or(to)
        };
        let mut at = from;
        loop {
            match node(at).filter(|_| at < to) {
                Some(there) if there.same(step) => break,
                Some(there) if there.after(step) => return at,
                Some(_) => at = end_of(at),
                None => return to,
            }
        }
        (from, to) = (at, end_of(at));
    }
    to
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Condition, Profile, Rule, rules};
    use super::*;

    /// A rule: action, conditions (argument, operator, value).
    type Short<'a> = (Action, &'a [(u32, Op, u64)]);

    /// The order of rules about one system call, as indices into `rules`.
    fn order(rules: &[Short], arch: Arch) -> Vec<usize> {
        let names = ["socket"].iter().collect();
        let rules = rules.iter().map(|(action, args)| Rule {
            names: &names,
            action: *action,
            args: args.iter().map(|&(index, op, value)| Condition { index, op, value, value_two: value }).collect(),
        });
        let profile = Profile { default_action: Action::Errno(1), architectures: vec![], rules: rules.collect() };
        rules::check(&profile).unwrap();
        let numbers = rules::numbers(&profile, arch);
        match rules::answer(&profile, numbers.only(), arch) {
            rules::Answer::First(clauses) => clauses.iter().map(|c| c.rule).collect(),
            rules::Answer::Always(..) => vec![],
        }
    }

    #[test]
    fn the_more_particular_comes_first() {
        const A: Action = Action::Allow;
        const T: Action = Action::Trap;
        let wide = Arch::X86_64;
        // higher arguments
        assert_eq!(order(&[(A, &[(0, Op::Eq, 1)]), (T, &[(2, Op::Eq, 1)])], wide), [1, 0]);
        // operators
        let rules: &[Short] = &[(A, &[(0, Op::Gt, 9)]), (T, &[(0, Op::Lt, 7)]), (A, &[(0, Op::Eq, 3)])];
        assert_eq!(order(rules, wide), [2, 1, 0]);
        // values
        assert_eq!(order(&[(A, &[(0, Op::Gt, 5)]), (T, &[(0, Op::Gt, 9)])], wide), [1, 0]);
        assert_eq!(order(&[(A, &[(0, Op::Lt, 9)]), (T, &[(0, Op::Lt, 5)])], wide), [1, 0]);
        // otherwise as in the profile; all alike in action are left alone
        assert_eq!(order(&[(A, &[(0, Op::Eq, 5)]), (T, &[(0, Op::Eq, 5)])], wide), [0, 1]);
        assert_eq!(order(&[(A, &[(0, Op::Gt, 5)]), (A, &[(0, Op::Gt, 9)])], wide), [0, 1]);
    }

    #[test]
    fn what_a_shorter_clause_covers_comes_after_it() {
        const A: Action = Action::Allow;
        const T: Action = Action::Trap;
        let short: Short = (A, &[(0, Op::Eq, 1)]);
        let long: Short = (T, &[(0, Op::Eq, 1), (1, Op::Eq, 2)]);
        assert_eq!(order(&[short, long], Arch::X86_64), [0, 1]);
        assert_eq!(order(&[long, short], Arch::X86_64), [0, 1]);
        let other: Short = (T, &[(0, Op::Eq, 1), (2, Op::Eq, 2)]);
        assert_eq!(order(&[short, long, other], Arch::X86_64), [0, 1, 2]);
    }
}
