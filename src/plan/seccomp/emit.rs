// SPDX-License-Identifier: Apache-2.0
//! Lays a decision graph out as classic BPF, the last step of `compile`. Jumps only go forward, by at
//! most 255 instructions; nodes only lead to smaller ids. So the program is made from its end: node
//! by node in the order of ids, and what a jump cannot reach is brought nearer by a copy of the
//! answer or by a `ja`.

use super::graph::{ALL, Compare, Graph, Id, Node, Test, Word};
use super::{Error, MAX_INSNS, SockFilter};

// linux/bpf_common.h
pub(super) const LD_W_ABS: u16 = 0x20;
pub(super) const AND_K: u16 = 0x54;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ_K: u16 = 0x15;
pub(super) const JGT_K: u16 = 0x25;
pub(super) const JGE_K: u16 = 0x35;
pub(super) const RET_K: u16 = 0x06;

/// How far a conditional jump reaches.
const REACH: usize = 255;

/// Where a node can be entered; places are counted from the end of the program.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// The node can be reached.
    used: bool,
    /// A way leads to it on which the accumulator holds something else than it tests.
    loads: bool,
    /// Where its word is loaded (an answer has only this).
    load: usize,
    /// Where its comparison stands, for ways on which the word is loaded already.
    compare: usize,
}

/// The program that evaluates `root`.
pub(super) fn emit(graph: &Graph, root: Id) -> Result<Vec<SockFilter>, Error> {
    let mut entries = entries(graph, root);
    let mut backwards: Vec<SockFilter> = Vec::with_capacity(graph.nodes().len() + graph.nodes().len() / 4 + 16);
    for (id, node) in graph.nodes()[..entries.len()].iter().enumerate() {
        if !entries[id].used {
            continue;
        }
        match *node {
            Node::Return(verdict) => {
                entries[id].load = backwards.len();
                backwards.push(insn(RET_K, verdict));
            }
            Node::Test { test, yes, no } => {
                let (jt, jf) = reach(graph, &mut entries, &mut backwards, test, yes, no);
                entries[id].compare = backwards.len();
                let code = match test.compare {
                    Compare::Eq => JEQ_K,
                    Compare::Gt => JGT_K,
                    Compare::Ge => JGE_K,
                };
                backwards.push(SockFilter { code, jt, jf, k: test.k });
                if entries[id].loads {
                    if test.mask != ALL {
                        backwards.push(insn(AND_K, test.mask));
                    }
                    entries[id].load = backwards.len();
                    backwards.push(insn(LD_W_ABS, test.word.into()));
                }
            }
        }
    }
    if backwards.len() > MAX_INSNS {
        return Err(Error::TooLong { needed: backwards.len() });
    }
    backwards.reverse();
    Ok(backwards)
}

/// Which nodes are used, and which must load their word.
fn entries(graph: &Graph, root: Id) -> Vec<Entry> {
    let nodes = &graph.nodes()[..=root as usize];
    let mut entries = vec![Entry::default(); nodes.len()];
    entries[root as usize].used = true;
    entries[root as usize].loads = true;
    for (id, node) in nodes.iter().enumerate().rev() {
        if let (true, Node::Test { test, yes, no }) = (entries[id].used, *node) {
            for next in [yes, no] {
                let entry = &mut entries[next as usize];
                entry.used = true;
                entry.loads |= held(graph, next) != Some((test.word, test.mask));
            }
        }
    }
    entries
}

/// What a node wants in the accumulator.
fn held(graph: &Graph, id: Id) -> Option<(Word, u32)> {
    match graph.node(id) {
        Node::Return(_) => None,
        Node::Test { test, .. } => Some((test.word, test.mask)),
    }
}

/// The distances from a comparison that is to be placed next, after what brings its targets near.
fn reach(graph: &Graph, entries: &mut [Entry], backwards: &mut Vec<SockFilter>, test: Test, yes: Id, no: Id) -> (u8, u8) {
    loop {
        let here = backwards.len();
        let mut distances = [0; 2];
        let mut far = None;
        for (distance, id) in distances.iter_mut().zip([yes, no]) {
            let same = held(graph, id) == Some((test.word, test.mask));
            let entry = &mut entries[id as usize];
            let place = if same { &mut entry.compare } else { &mut entry.load };
            *distance = here - *place - 1;
            if *distance > REACH {
                let nearer = match graph.node(id) {
                    Node::Return(verdict) => insn(RET_K, verdict),
                    Node::Test { .. } => insn(JA, *distance as u32),
                };
                *place = here;
                far = Some(nearer);
                break;
            }
        }
        match far {
            // Nothing falls through to it: every node ends in jumps or an answer.
            Some(nearer) => backwards.push(nearer),
            None => return (distances[0] as u8, distances[1] as u8),
        }
    }
}

fn insn(code: u16, k: u32) -> SockFilter {
    SockFilter { code, jt: 0, jf: 0, k }
}
