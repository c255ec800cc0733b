// SPDX-License-Identifier: Apache-2.0
//! Runs a classic BPF program on one system call, as the kernel would (net/core/filter.c and
//! kernel/seccomp.c): for the tests, which compare it with libseccomp's programs, and for showing a
//! user what a filter answers. Knows the instructions that filters by berth and libseccomp consist of.

use super::SockFilter;
use super::emit::{AND_K, JA, JEQ_K, JGE_K, JGT_K, LD_W_ABS, RET_K};

/// `BPF_JMP | BPF_JSET | BPF_K`.
const JSET_K: u16 = 0x45;

/// One system call: `struct seccomp_data` of linux/seccomp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompData {
    /// Number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where it is called.
    pub instruction_pointer: u64,
    /// Arguments.
    pub args: [u64; 6],
}

/// A program that the kernel would not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An instruction that is not known here.
    #[error("instruction {at}: unknown code {code:#06x}")]
    Code {
        /// Its place.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A load from outside `seccomp_data` or not from a multiple of four.
    #[error("instruction {at}: no word of seccomp_data begins at byte {offset}")]
    Load {
        /// Its place.
        at: usize,
        /// What it loads.
        offset: u32,
    },
    /// The end is reached without an answer.
    #[error("instruction {at} is outside the program")]
    Outside {
        /// The place.
        at: usize,
    },
}

/// What a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `SECCOMP_RET_*`.
    pub verdict: u32,
    /// How many instructions it took.
    pub steps: usize,
}

/// Runs a program. `big_endian` is the byte order of the machine that made the call.
pub fn run(program: &[SockFilter], data: &SeccompData, big_endian: bool) -> Result<Outcome, Error> {
    let mut accumulator = 0;
    let mut at = 0;
    let mut steps = 0;
    loop {
        let insn = program.get(at).ok_or(Error::Outside { at })?;
        steps += 1;
        let jump = |taken: bool| usize::from(if taken { insn.jt } else { insn.jf });
        at += 1 + match insn.code {
            LD_W_ABS => {
                accumulator = load(data, insn.k, big_endian).ok_or(Error::Load { at, offset: insn.k })?;
                0
            }
            AND_K => {
                accumulator &= insn.k;
                0
            }
            JA => insn.k as usize,
            JEQ_K => jump(accumulator == insn.k),
            JGT_K => jump(accumulator > insn.k),
            JGE_K => jump(accumulator >= insn.k),
            JSET_K => jump(accumulator & insn.k != 0),
            RET_K => {
                return Ok(Outcome { verdict: insn.k, steps });
            }
            code => return Err(Error::Code { at, code }),
        };
    }
}

/// The word of `seccomp_data` at an offset in bytes.
fn load(data: &SeccompData, offset: u32, big_endian: bool) -> Option<u32> {
    if !offset.is_multiple_of(4) {
        return None;
    }
    let half = |value: u64, second: bool| {
        if second == big_endian { value as u32 } else { (value >> 32) as u32 }
    };
    let second = offset % 8 == 4;
    match offset {
        0 => Some(data.nr),
        4 => Some(data.arch),
        8 | 12 => Some(half(data.instruction_pointer, second)),
        _ => data.args.get((offset as usize - 16) / 8).map(|arg| half(*arg, second)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: SeccompData =
        SeccompData { nr: 7, arch: 9, instruction_pointer: 0x1_0000_0002, args: [0x3_0000_0004, 0, 0, 0, 0, 0x5_0000_0006] };

    fn ld(k: u32) -> SockFilter {
        SockFilter { code: LD_W_ABS, jt: 0, jf: 0, k }
    }

    fn j(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
        SockFilter { code, jt, jf, k }
    }

    fn ret(k: u32) -> SockFilter {
        SockFilter { code: RET_K, jt: 0, jf: 0, k }
    }

    #[test]
    fn loads_follow_the_byte_order() {
        for (offset, little, big) in [(0, 7, 7), (4, 9, 9), (8, 2, 1), (12, 1, 2), (16, 4, 3), (20, 3, 4), (60, 5, 6)] {
            assert_eq!(load(&DATA, offset, false), Some(little), "{offset}");
            assert_eq!(load(&DATA, offset, true), Some(big), "{offset}");
        }
        assert_eq!(load(&DATA, 64, false), None);
        assert_eq!(load(&DATA, 2, false), None);
    }

    #[test]
    fn jumps_go_both_ways() {
        for (insn, taken) in [
            (j(JEQ_K, 7, 1, 0), true),
            (j(JEQ_K, 8, 1, 0), false),
            (j(JGT_K, 6, 1, 0), true),
            (j(JGT_K, 7, 1, 0), false),
            (j(JGE_K, 7, 1, 0), true),
            (j(JGE_K, 8, 1, 0), false),
            (j(JSET_K, 2, 1, 0), true),
            (j(JSET_K, 8, 1, 0), false),
        ] {
            let out = run(&[ld(0), insn, ret(0), ret(1)], &DATA, false);
            assert_eq!(out, Ok(Outcome { verdict: taken.into(), steps: 3 }));
        }
        let out = run(&[j(JA, 1, 0, 0), ret(0), ret(5)], &DATA, false);
        assert_eq!(out.map(|o| o.verdict), Ok(5));
        let out = run(&[ld(0), j(AND_K, 3, 0, 0), j(JEQ_K, 3, 0, 1), ret(4), ret(5)], &DATA, false);
        assert_eq!(out.map(|o| o.verdict), Ok(4));
    }

    #[test]
    fn broken_programs_are_refused() {
        assert_eq!(run(&[ld(0)], &DATA, false), Err(Error::Outside { at: 1 }));
        assert_eq!(run(&[ld(3)], &DATA, false), Err(Error::Load { at: 0, offset: 3 }));
        let odd = j(0xffff, 0, 0, 0);
        assert_eq!(run(&[odd], &DATA, false), Err(Error::Code { at: 0, code: 0xffff }));
    }
}
