// SPDX-License-Identifier: Apache-2.0
//! Device rules made of any bytes: the program, run by an interpreter, answers each request as the list of the rules does. The sentence
//! that both are held to: each access is decided by the last rule that names it and the device, and refused where none does.
#![no_main]

use berth::linux::types::{BpfInsn, NodeKind};
use berth::plan::devices_filter::{Rule, access, program, with_defaults};
use berth::spec::types::DeviceRule;
use libfuzzer_sys::fuzz_target;

type Request = (NodeKind, u32, u32, u8);

fn granted(rules: &[Rule], (kind, major, minor, accesses): Request) -> bool {
    let decides = |rule: &&Rule, bit: u8| {
        let device = rule.kind.is_none_or(|own| own == kind) && rule.major.is_none_or(|own| own == major);
        device && rule.minor.is_none_or(|own| own == minor) && rule.access & bit != 0
    };
    let bits = [access::MKNOD, access::READ, access::WRITE].into_iter().filter(|bit| accesses & bit != 0);
    bits.into_iter().all(|bit| rules.iter().rfind(|rule| decides(rule, bit)).is_some_and(|rule| rule.allow))
}

/// The instructions that the compiler uses, as the kernel runs them; registers must have been written before they are read.
fn run(program: &[BpfInsn], (kind, major, minor, accesses): Request) -> u64 {
    let first = if kind == NodeKind::Block { 1 } else { 2 } | u32::from(accesses) << 16;
    let mut registers: [Option<u64>; 11] = [None; 11];
    let mut insns = program.iter();
    while let Some(insn) = insns.next() {
        let (to, from) = (usize::from(insn.regs & 15), usize::from(insn.regs >> 4));
        let read = |register: usize| registers[register].expect("a register is read that was never written");
        let imm = i64::from(insn.imm) as u64;
        registers[to] = Some(match insn.code {
            0x61 => [first, major, minor][usize::try_from(insn.off).expect("before the context") / 4].into(),
            0x18 => {
                let high = insns.next().expect("the second half of a number").imm as u32;
                u64::from(insn.imm as u32) | u64::from(high) << 32
            }
            0xb7 => imm,
            0xbf => read(from),
            0x17 => read(to).wrapping_sub(imm),
            0x4f => read(to) | read(from),
            0x57 => read(to) & imm,
            0x5f => read(to) & read(from),
            0x67 => read(to) << insn.imm,
            0x6f => read(to) << (read(from) & 63),
            0x77 => read(to) >> insn.imm,
            0xa4 => (read(to) as u32 ^ insn.imm as u32).into(),
            0xa7 => read(to) ^ imm,
            0xaf => read(to) ^ read(from),
            0xc7 => (read(to) as i64 >> insn.imm) as u64,
            0x95 => return read(0),
            other => panic!("instruction {other:#x}"),
        });
    }
    panic!("no exit");
}

fuzz_target!(|bytes: &[u8]| {
    let number = |byte: u8| match byte % 16 {
        0 | 1 => -1,
        2 => i64::from(u32::MAX),
        3 => 1 << 31,
        4 => 1 << 40,
        other => i64::from(other) - 5,
    };
    let rules: Vec<DeviceRule> = bytes
        .chunks_exact(4)
        .take(60)
        .map(|part| DeviceRule {
            allow: part[0] & 1 == 1,
            kind: ["", "a", "b", "c", "u", "p"][usize::from(part[0] >> 1) % 6].into(),
            major: (part[1] < 250).then(|| number(part[1])),
            minor: (part[2] < 250).then(|| number(part[2])),
            access: ["", "r", "w", "m", "rw", "rm", "wm", "rwm"][usize::from(part[3]) % 8].into(),
        })
        .collect();
    let Ok(rules) = with_defaults(&rules, "devices") else { return };
    let Ok(program) = program(&rules, "devices") else { return };
    let numbers: Vec<u32> = (0..12).chain([63, 64, 70, 136, 200, 1 << 31, u32::MAX]).collect();
    for kind in [NodeKind::Character, NodeKind::Block] {
        for (major, minor) in numbers.iter().flat_map(|major| numbers.iter().map(move |minor| (*major, *minor))) {
            for accesses in 1..8 {
                let request = (kind, major, minor, accesses);
                assert_eq!(run(&program, request), u64::from(granted(&rules, request)), "{request:?} of {rules:?}");
            }
        }
    }
});
