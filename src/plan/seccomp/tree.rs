// SPDX-License-Identifier: Apache-2.0
//! From numbers to graph nodes: a search tree over ranges of system call numbers that get the same
//! answer. Called by `compile` once for every architecture and once for every `AUDIT_ARCH_*` value.
//!
//! Most of a profile is one answer with exceptions of a single number, so a leaf of the tree is a
//! *run*: a range with one answer and up to [`EXCEPTIONS`] numbers in it that get another one. An
//! exception costs one instruction, a range of its own would cost two.

use super::arch::{Arch, X32_SYSCALL_BIT};
use super::condition;
use super::graph::{ALL, ARCH, Compare, Graph, Id, NR, Node, Test};
use super::rules::{self, Answer, Numbers};
use super::{Action, Profile};

/// How many exceptions a run may have: more make fewer instructions but longer ways.
const EXCEPTIONS: usize = 4;

/// From this number on, system calls have the same numbers on all architectures (but for a base):
/// the tree divides here, so that their parts above it can be shared.
const COMMON: u32 = 424;

/// Numbers from `first` up to the next range get `answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    answer: Id,
}

/// What all numbers of an architecture get, from the first number it can have.
pub(super) struct Ranges {
    list: Vec<Range>,
    /// Whether numbers that are too high for the profile get ENOSYS.
    newer: bool,
}

/// The architectures that share an `AUDIT_ARCH_*` value: one, or x86_64 and x32.
#[derive(Default)]
pub(super) struct Family {
    plain: Option<(Arch, Ranges)>,
    x32: Option<Ranges>,
}

impl Family {
    /// Puts an architecture into its place.
    pub(super) fn add(&mut self, arch: Arch, ranges: Ranges) {
        match arch {
            Arch::X32 => self.x32 = Some(ranges),
            _ => self.plain = Some((arch, ranges)),
        }
    }
}

/// Builds the trees of one filter.
pub(super) struct Forest<'g> {
    graph: &'g mut Graph,
    default: Id,
    wrong_arch: Id,
    /// The answer to newer system calls, if they get one of their own.
    newer: Option<Id>,
}

impl<'g> Forest<'g> {
    pub(super) fn new(graph: &'g mut Graph, default: Action, newer: Option<Action>) -> Forest<'g> {
        Forest {
            // SCMP_FLTATR_ACT_BADARCH of libseccomp has this default, and runc leaves it there.
            wrong_arch: graph.verdict(Action::KillThread.verdict()),
            default: graph.verdict(default.verdict()),
            newer: newer.map(|a| graph.verdict(a.verdict())),
            graph,
        }
    }

    /// What a call on an architecture gets that is not in the profile.
    pub(super) fn wrong_arch(&self) -> Id {
        self.wrong_arch
    }

    /// The ranges of one architecture.
    pub(super) fn ranges(&mut self, arch: Arch, numbers: &Numbers, profile: &Profile<'_>) -> Ranges {
        let mut list = Vec::with_capacity(200);
        let mut next = if arch == Arch::X32 { X32_SYSCALL_BIT } else { 0 };
        let newer = self.newer.zip(numbers.highest);
        if let (Some((enosys, _)), Arch::S390 | Arch::S390X) = (newer, arch) {
            push(&mut list, 0, enosys);
            next = 1;
        }
        for (number, count, said) in numbers.each() {
            let (number, end) = (number.max(next), number + count);
            if end <= number {
                continue;
            }
            let answer = match rules::answer(profile, said, arch) {
                Answer::Always(action, _) => self.graph.verdict(action.verdict()),
                Answer::First(clauses) => condition::clauses(self.graph, arch, &clauses, self.default),
            };
            if number > next {
                push(&mut list, next, self.default);
            }
            push(&mut list, number, answer);
            next = end;
        }
        match newer {
            Some((enosys, highest)) => {
                if next <= highest {
                    push(&mut list, next, self.default);
                }
                push(&mut list, highest + 1, enosys);
            }
            None => push(&mut list, next, self.default),
        }
        Ranges { list, newer: newer.is_some() }
    }

    /// Adds the test for an `AUDIT_ARCH_*` value before `others`, which deals with all other values.
    pub(super) fn add(&mut self, audit: u32, family: Family, others: Id) -> Id {
        let mut list = match family {
            Family { plain: Some((arch, ranges)), x32: None } if arch != Arch::X86_64 => ranges.list,
            family => self.x86_family(family),
        };
        let numbers = self.divide(&mut list, &[X32_SYSCALL_BIT, COMMON], u32::MAX);
        let test = Test { word: ARCH, mask: ALL, compare: Compare::Eq, k: audit };
        self.graph.test(test, numbers, others)
    }

    /// x86_64 and x32 side by side: they differ by [`X32_SYSCALL_BIT`] only.
    fn x86_family(&self, family: Family) -> Vec<Range> {
        let (plain, x32) = (family.plain.map(|(_, ranges)| ranges), family.x32);
        let newer = |ranges: &Option<Ranges>| self.newer.filter(|_| ranges.as_ref().is_some_and(|r| r.newer));
        // No system call has these numbers; a tracer uses -1 to skip one, and that is never the wrong
        // architecture.
        let nonsense = if x32.is_some() { self.default } else { self.wrong_arch };
        let high = newer(&plain).unwrap_or(nonsense);
        let high_x32 = newer(&x32).unwrap_or(nonsense);
        let minus_one = newer(&x32).unwrap_or(self.default);

        let absent = |first| vec![Range { first, answer: self.wrong_arch }];
        let mut list = plain.map_or_else(|| absent(0), |r| r.list);
        for range in x32.map_or_else(|| absent(X32_SYSCALL_BIT), |r| r.list) {
            push(&mut list, range.first, range.answer);
        }
        push(&mut list, 2 * X32_SYSCALL_BIT, high);
        push(&mut list, 3 * X32_SYSCALL_BIT, high_x32);
        push(&mut list, u32::MAX, minus_one);
        list
    }

    /// Divides the ranges at the given numbers, then builds a tree for each part. `end` is the last
    /// number of the last range.
    fn divide(&mut self, list: &mut [Range], at: &[u32], end: u32) -> Id {
        let Some((&pivot, rest)) = at.split_first() else {
            return self.tree(list, end);
        };
        let i = list.partition_point(|r| r.first < pivot);
        if i == 0 || i == list.len() {
            return self.divide(list, rest, end);
        }
        let below = self.divide(&mut list[..i], rest, pivot - 1);
        // The right part begins with the range that the pivot lies in.
        let right = if list[i].first == pivot {
            &mut list[i..]
        } else {
            list[i - 1].first = pivot;
            &mut list[i - 1..]
        };
        let above = self.divide(right, rest, end);
        self.at_least(pivot, above, below)
    }

    /// A balanced tree over the runs of a list.
    fn tree(&mut self, list: &[Range], end: u32) -> Id {
        let runs = runs(list, end);
        self.balance(list, &runs)
    }

    fn balance(&mut self, list: &[Range], runs: &[Run]) -> Id {
        if let [run] = runs {
            return self.run(&list[run.from..run.to], run.answer);
        }
        let (left, right) = runs.split_at(runs.len() / 2);
        let below = self.balance(list, left);
        let above = self.balance(list, right);
        self.at_least(list[right[0].from].first, above, below)
    }

    /// One answer with exceptions.
    fn run(&mut self, list: &[Range], answer: Id) -> Id {
        let mut node = answer;
        // Tried first, so made last: the answers that depend on arguments. The kernel remembers plain
        // "allow" (since 5.11), so these are the calls for which the filter really runs.
        for depends in [false, true] {
            for range in list.iter().rev() {
                let tests = matches!(self.graph.node(range.answer), Node::Test { .. });
                if range.answer != answer && tests == depends {
                    let test = Test { word: NR, mask: ALL, compare: Compare::Eq, k: range.first };
                    node = self.graph.test(test, range.answer, node);
                }
            }
        }
        node
    }

    fn at_least(&mut self, number: u32, above: Id, below: Id) -> Id {
        let test = Test { word: NR, mask: ALL, compare: Compare::Ge, k: number };
        self.graph.test(test, above, below)
    }
}

/// Adds a range, or lengthens the last one.
fn push(list: &mut Vec<Range>, first: u32, answer: Id) {
    if list.last().is_none_or(|last| last.answer != answer) {
        list.push(Range { first, answer });
    }
}

/// Consecutive ranges, all of which have `answer` or are a single number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: usize,
    to: usize,
    answer: Id,
}

/// Divides a list into as few runs as possible.
fn runs(list: &[Range], end: u32) -> Vec<Run> {
    let mut runs = Vec::with_capacity(list.len() / 2 + 1);
    let mut from = 0;
    // The answer of the run, once there is a range that cannot be an exception.
    let mut answer = None;
    let mut exceptions = 0;
    for (i, range) in list.iter().enumerate() {
        let last = list.get(i + 1).map_or(end, |next| next.first - 1);
        let single = last == range.first;
        let longer = match answer {
            Some(a) if a == range.answer => Some((answer, exceptions)),
            Some(_) if !single => None,
            Some(_) => Some((answer, exceptions + 1)),
            None if single => Some((None, exceptions + 1)),
            None => {
                let others = list[from..i].iter().filter(|r| r.answer != range.answer).count();
                Some((Some(range.answer), others))
            }
        };
        match longer {
            // A run without an answer yet will take that of one of its numbers.
            Some((a, e)) if e <= EXCEPTIONS + usize::from(a.is_none()) => (answer, exceptions) = (a, e),
            _ => {
                runs.push(close(list, from, i, answer));
                from = i;
                answer = (!single).then_some(range.answer);
                exceptions = usize::from(single);
            }
        }
    }
    runs.push(close(list, from, list.len(), answer));
    runs
}

fn close(list: &[Range], from: usize, to: usize, answer: Option<Id>) -> Run {
    Run { from, to, answer: answer.unwrap_or(list[to - 1].answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(u32, Id)]) -> Vec<Range> {
        let mut list = Vec::new();
        for &(first, answer) in pairs {
            push(&mut list, first, answer);
        }
        list
    }

    fn shape(pairs: &[(u32, Id)]) -> Vec<(usize, usize, Id)> {
        let runs = runs(&ranges(pairs), u32::MAX);
        runs.iter().map(|r| (r.from, r.to, r.answer)).collect()
    }

    #[test]
    fn neighbours_with_one_answer_are_one_range() {
        let list = ranges(&[(0, 7), (1, 7), (2, 8), (3, 7), (9, 7)]);
        let pairs: Vec<(u32, Id)> = list.iter().map(|r| (r.first, r.answer)).collect();
        assert_eq!(pairs, [(0, 7), (2, 8), (3, 7)]);
    }

    #[test]
    fn single_numbers_are_exceptions() {
        assert_eq!(shape(&[(0, 7)]), [(0, 1, 7)]);
        assert_eq!(shape(&[(0, 7), (5, 8), (6, 7)]), [(0, 3, 7)]);
        // two numbers are a range of their own
        assert_eq!(shape(&[(0, 7), (5, 8), (7, 7)]), [(0, 1, 7), (1, 2, 8), (2, 3, 7)]);
        // what begins with exceptions takes the answer of the first range that is none
        assert_eq!(shape(&[(0, 7), (1, 8), (2, 9), (3, 7)]), [(0, 4, 7)]);
        assert_eq!(shape(&[(0, 7), (1, 8), (2, 9)]), [(0, 3, 9)]);
    }

    #[test]
    fn a_run_has_few_exceptions() {
        let pairs: Vec<(u32, Id)> = (0..20).map(|i| (i * 3 + i % 2, if i % 2 == 0 { 7 } else { 8 })).collect();
        let singles: Vec<(u32, Id)> = (0..20).map(|i| (i / 2 * 4 + i % 2 * 3, 7 + i % 2)).collect();
        for list in [pairs, singles] {
            let list = ranges(&list);
            let runs = runs(&list, u32::MAX);
            assert!(runs.len() > 1);
            assert_eq!(runs[0].from, 0);
            assert_eq!(runs[runs.len() - 1].to, list.len());
            for (i, run) in runs.iter().enumerate() {
                assert!(i == 0 || runs[i - 1].to == run.from);
                let others: Vec<usize> = (run.from..run.to).filter(|j| list[*j].answer != run.answer).collect();
                assert!(others.len() <= EXCEPTIONS, "{run:?}");
                assert!(others.iter().all(|j| list[j + 1].first == list[*j].first + 1), "{run:?}");
            }
        }
    }

    /// Where architectures agree, they share nodes.
    #[test]
    fn common_numbers_are_built_once() {
        let mut graph = Graph::with_capacity(64);
        let mut forest = Forest::new(&mut graph, Action::Allow, None);
        let trap = forest.graph.verdict(Action::Trap.verdict());
        let allow = forest.default;
        let high = [(COMMON + 3, trap), (COMMON + 9, allow), (COMMON + 20, trap), (COMMON + 30, allow)];
        let mut one = ranges(&[&[(0, allow), (5, trap), (10, allow)], &high[..]].concat());
        let mut two = ranges(&[&[(0, trap), (50, allow)], &high[..]].concat());
        forest.divide(&mut one, &[COMMON], u32::MAX);
        let before = forest.graph.nodes().len();
        forest.divide(&mut two, &[COMMON], u32::MAX);
        // one test in the lower part, one for the division
        assert_eq!(forest.graph.nodes().len() - before, 2);
    }
}
