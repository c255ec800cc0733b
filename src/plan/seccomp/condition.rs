// SPDX-License-Identifier: Apache-2.0
//! Conditions on arguments as graph nodes. BPF compares 32-bit words, arguments have 64 bits
//! (`seccomp_data.args`), so a comparison looks at the high word and, if that does not settle it, at
//! the low word. Called by `tree.rs` for system calls whose rules have conditions.

use super::arch::Arch;
use super::graph::{ALL, Compare, Fact, Graph, Id, Test, Word};
use super::rules::Clause;
use super::{Condition, Op};

/// The node that tries the clauses in turn and goes to `otherwise` if none matches.
pub(super) fn clauses(graph: &mut Graph, arch: Arch, clauses: &[Clause], otherwise: Id) -> Id {
    clauses.iter().rev().fold(otherwise, |next, clause| {
        let action = graph.verdict(clause.action.verdict());
        clause.conditions().rev().fold(action, |then, condition| one(graph, arch, condition, then, next))
    })
}

/// The words of an argument: (high, low).
fn words(arch: Arch, index: u32) -> (Word, Word) {
    // seccomp_data: nr, arch, instruction_pointer, then the arguments, eight bytes each.
    let start = 16 + 8 * index as Word;
    if arch.is_big_endian() { (start, start + 4) } else { (start + 4, start) }
}

/// The node that goes to `then` if the condition holds, else to `next`.
fn one(graph: &mut Graph, arch: Arch, condition: &Condition, then: Id, next: Id) -> Id {
    let (high, low) = words(arch, condition.index);
    let low_value = condition.value as u32;
    // Every operator is one of four comparisons, or the opposite of one.
    let (compare, yes, no) = match condition.op {
        Op::Eq | Op::MaskedEq => (Compare::Eq, then, next),
        Op::Ne => (Compare::Eq, next, then),
        Op::Gt => (Compare::Gt, then, next),
        Op::Le => (Compare::Gt, next, then),
        Op::Ge => (Compare::Ge, then, next),
        Op::Lt => (Compare::Ge, next, then),
    };
    let masked = condition.op == Op::MaskedEq;
    let word = |word, mask, k| Test { word, mask, compare, k };
    let (low_test, high_test) = if masked {
        (
            word(low, low_value, condition.value_two as u32),
            word(high, (condition.value >> 32) as u32, (condition.value_two >> 32) as u32),
        )
    } else {
        (word(low, ALL, low_value), word(high, ALL, (condition.value >> 32) as u32))
    };
    if !arch.is_wide() {
        return narrow(graph, low_test, yes, no);
    }
    match compare {
        Compare::Eq => equal(graph, high_test, low_test, yes, no),
        Compare::Gt | Compare::Ge => ordered(graph, high_test, low_test, yes, no),
    }
}

/// One test, with the branches cut short by what its outcome tells.
fn narrow(graph: &mut Graph, test: Test, yes: Id, no: Id) -> Id {
    let (if_yes, if_no) = match (test.compare, test.mask, test.k) {
        (Compare::Eq, ALL, k) => (Fact::Within(k, k), Fact::Not(k)),
        (Compare::Gt, ALL, k) if k < ALL => (Fact::Within(k + 1, ALL), Fact::Within(0, k)),
        (Compare::Ge, ALL, k) if k > 0 => (Fact::Within(k, ALL), Fact::Within(0, k - 1)),
        _ => (Fact::Tested(test, true), Fact::Tested(test, false)),
    };
    let yes = graph.given(yes, test.word, if_yes);
    let no = graph.given(no, test.word, if_no);
    graph.test(test, yes, no)
}

/// Both words equal, each under its mask.
fn equal(graph: &mut Graph, high: Test, low: Test, yes: Id, no: Id) -> Id {
    // The low word is looked at where the high one is known: what follows need not ask again.
    let known = if high.mask == ALL { Fact::Within(high.k, high.k) } else { Fact::Tested(high, true) };
    let yes = graph.given(yes, high.word, known);
    let no_low = graph.given(no, high.word, known);
    let low = narrow(graph, low, yes, no_low);
    narrow(graph, high, low, no)
}

/// Greater, or greater or equal: the high word settles it unless it is equal.
fn ordered(graph: &mut Graph, high: Test, low: Test, yes: Id, no: Id) -> Id {
    let k = high.k;
    let same = Fact::Within(k, k);
    let yes_low = graph.given(yes, high.word, same);
    let no_low = graph.given(no, high.word, same);
    let low = narrow(graph, low, yes_low, no_low);
    let not_greater = if k == 0 {
        low
    } else {
        let below = graph.given(no, high.word, Fact::Within(0, k - 1));
        let is_same = Test { compare: Compare::Eq, ..high };
        graph.test(is_same, low, below)
    };
    let is_greater = Test { compare: Compare::Gt, ..high };
    let above = if k == ALL { yes } else { graph.given(yes, high.word, Fact::Within(k + 1, ALL)) };
    graph.test(is_greater, above, not_greater)
}
