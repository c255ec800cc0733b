// SPDX-License-Identifier: Apache-2.0
//! The decision graph between rules and instructions: every node either answers or compares one
//! 32-bit word of `struct seccomp_data` (linux/seccomp.h) and goes on to one of two nodes. Equal
//! nodes are the same node, so equal parts of a filter are made only once. `condition.rs` and
//! `tree.rs` build it, `emit.rs` lays it out.

/// A node. Nodes are made after the nodes they lead to, so they lead to smaller ids only.
pub(super) type Id = u32;

/// A word of `seccomp_data`, by its offset in bytes.
pub(super) type Word = u8;

/// `seccomp_data.nr`.
pub(super) const NR: Word = 0;
/// `seccomp_data.arch`.
pub(super) const ARCH: Word = 4;
/// All bits of a word.
pub(super) const ALL: u32 = u32::MAX;

/// The comparisons that BPF has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Gt,
    Ge,
}

/// `word & mask` compared with `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) word: Word,
    pub(super) mask: u32,
    pub(super) compare: Compare,
    pub(super) k: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Answer with this `SECCOMP_RET_*` value.
    Return(u32),
    /// Go on to `yes` or `no`.
    Test { test: Test, yes: Id, no: Id },
}

/// What is known of a word at some place in the graph.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    /// It lies in this range, both ends included.
    Within(u32, u32),
    /// It is not this value.
    Not(u32),
    /// This test on it was true or false.
    Tested(Test, bool),
}

/// All nodes of one filter.
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// Open hash table of ids; a power of two long, never more than half full.
    index: Vec<Id>,
}

const FREE: Id = Id::MAX;

impl Graph {
    pub(super) fn with_capacity(nodes: usize) -> Graph {
        Graph { nodes: Vec::with_capacity(nodes), index: vec![FREE; (nodes * 2).next_power_of_two()] }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn node(&self, id: Id) -> Node {
        self.nodes[id as usize]
    }

    /// The node that answers `verdict`.
    pub(super) fn verdict(&mut self, verdict: u32) -> Id {
        self.intern(Node::Return(verdict))
    }

    /// The node that makes `test`; one of the branches if the test is needless.
    pub(super) fn test(&mut self, test: Test, yes: Id, no: Id) -> Id {
        let decided = match test.compare {
            Compare::Eq if test.k & !test.mask != 0 => Some(false),
            Compare::Eq if test.mask == 0 => Some(true),
            Compare::Gt if test.k >= test.mask => Some(false),
            Compare::Ge if test.k == 0 => Some(true),
            _ => None,
        };
        match decided {
            _ if yes == no => yes,
            Some(true) => yes,
            Some(false) => no,
            None => self.intern(Node::Test { test, yes, no }),
        }
    }

    /// Where evaluation gets to from `id` if `fact` holds of `word`.
    pub(super) fn given(&self, mut id: Id, word: Word, fact: Fact) -> Id {
        while let Node::Test { test, yes, no } = self.node(id) {
            match decide(test, word, fact) {
                Some(true) => id = yes,
                Some(false) => id = no,
                None => break,
            }
        }
        id
    }

    fn intern(&mut self, node: Node) -> Id {
        if (self.nodes.len() + 1) * 2 > self.index.len() {
            self.grow();
        }
        let mut slot = self.slot(&node);
        while self.index[slot] != FREE {
            if self.nodes[self.index[slot] as usize] == node {
                return self.index[slot];
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
        let id = self.nodes.len() as Id;
        self.nodes.push(node);
        self.index[slot] = id;
        id
    }

    fn grow(&mut self) {
        self.index = vec![FREE; self.index.len() * 2];
        for (id, node) in self.nodes.iter().enumerate() {
            let mut slot = self.slot(node);
            while self.index[slot] != FREE {
                slot = (slot + 1) & (self.index.len() - 1);
            }
            self.index[slot] = id as Id;
        }
    }

    /// Where the search for a node begins.
    fn slot(&self, node: &Node) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |a: u64, b: u64| (a ^ b).wrapping_mul(ODD).rotate_left(23);
        let hash = match *node {
            Node::Return(verdict) => mix(1, verdict.into()),
            Node::Test { test, yes, no } => {
                let what = u64::from(test.word) << 8 | test.compare as u64;
                let value = u64::from(test.mask) << 32 | u64::from(test.k);
                mix(mix(what + 2, value), u64::from(yes) << 32 | u64::from(no))
            }
        };
        (hash.wrapping_mul(ODD) >> 32) as usize & (self.index.len() - 1)
    }
}

/// The outcome of `test`, if `fact` of `word` settles it.
fn decide(test: Test, word: Word, fact: Fact) -> Option<bool> {
    if test.word != word {
        return None;
    }
    match fact {
        Fact::Tested(other, outcome) => (test == other).then_some(outcome),
        Fact::Not(value) => (test.compare == Compare::Eq && test.mask == ALL && test.k == value).then_some(false),
        Fact::Within(low, high) if low == high => {
            let value = low & test.mask;
            Some(match test.compare {
                Compare::Eq => value == test.k,
                Compare::Gt => value > test.k,
                Compare::Ge => value >= test.k,
            })
        }
        Fact::Within(low, high) if test.mask == ALL => match test.compare {
            Compare::Eq => (test.k < low || test.k > high).then_some(false),
            Compare::Gt if low > test.k => Some(true),
            Compare::Gt => (high <= test.k).then_some(false),
            Compare::Ge if low >= test.k => Some(true),
            Compare::Ge => (high < test.k).then_some(false),
        },
        Fact::Within(..) => None,
    }
}
