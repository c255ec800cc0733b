// SPDX-License-Identifier: Apache-2.0
//! The compiled rules, run by an interpreter, against the sentence that they are held to.

use super::*;
use crate::linux::types::BpfInsn;
use proptest::prelude::*;

/// One request, as the kernel makes it.
#[derive(Clone, Copy, Debug)]
struct Request {
    kind: NodeKind,
    major: u32,
    minor: u32,
    access: u8,
}

/// The sentence at the top of this file, word for word.
fn oracle(rules: &[Rule], request: Request) -> bool {
    [access::MKNOD, access::READ, access::WRITE].into_iter().filter(|bit| request.access & bit != 0).all(|bit| {
        rules
            .iter()
            .rfind(|rule| {
                rule.kind.is_none_or(|kind| kind == request.kind)
                    && rule.major.is_none_or(|major| major == request.major)
                    && rule.minor.is_none_or(|minor| minor == request.minor)
                    && rule.access & bit != 0
            })
            .is_some_and(|rule| rule.allow)
    })
}

/// Runs a program as the kernel would; strict about everything that its verifier is strict about, and about jumps, which take the
/// verifier long.
fn run(program: &[BpfInsn], request: Request) -> u64 {
    let kind: u32 = if request.kind == NodeKind::Block { 1 } else { 2 };
    let context = [kind | u32::from(request.access) << 16, request.major, request.minor];
    let mut registers: [Option<u64>; 11] = [None; 11];
    let mut insns = program.iter();
    while let Some(insn) = insns.next() {
        let (to, from) = (usize::from(insn.regs & 15), usize::from(insn.regs >> 4));
        let read = |register: usize| registers[register].expect("read of a register that was never written");
        let imm = i64::from(insn.imm) as u64;
        let value = match insn.code {
            0x61 => {
                assert_eq!(from, 1, "only the context can be read");
                assert!(insn.off % 4 == 0 && insn.off >= 0);
                u64::from(context[insn.off as usize / 4])
            }
            0x18 => {
                let high = insns.next().expect("the second half of a number");
                assert_eq!((high.code, high.regs, high.off), (0, 0, 0));
                u64::from(insn.imm as u32) | u64::from(high.imm as u32) << 32
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
            0xa4 => u64::from(read(to) as u32 ^ insn.imm as u32),
            0xa7 => read(to) ^ imm,
            0xaf => read(to) ^ read(from),
            0xc7 => (read(to) as i64 >> insn.imm) as u64,
            0x95 => {
                assert!(insns.next().is_none(), "instructions that cannot be reached");
                return read(0);
            }
            other => panic!("unknown operation {other:#x}"),
        };
        registers[to] = Some(value);
    }
    panic!("no exit");
}

fn check(rules: &[Rule], request: Request) {
    let program = program(rules, "").unwrap();
    assert_eq!(run(&program, request), u64::from(oracle(rules, request)), "{request:?} of {rules:?}");
}

fn numbers() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..4u32, 2 => 62..67u32, 1 => Just(u32::MAX), 1 => Just(0x8000_0000)]
}

fn kinds() -> impl Strategy<Value = NodeKind> {
    prop_oneof![Just(NodeKind::Character), Just(NodeKind::Block)]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (any::<bool>(), prop::option::of(kinds()), prop::option::of(numbers()), prop::option::of(numbers()), 1..8u8)
        .prop_map(|(allow, kind, major, minor, access)| Rule { allow, kind, major, minor, access });
    prop::collection::vec(rule, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn the_program_answers_as_the_rules_do(rules in rules(), kind in kinds(), major in numbers(), minor in numbers(), access in 1..8u8) {
        check(&rules, Request { kind, major, minor, access });
    }
}

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: kind.into(), major: Some(major), minor: Some(minor), access: access.into() }
}

#[test]
fn the_usual_configuration() {
    let rules = with_defaults(&[rule(false, "", -1, -1, "rwm"), rule(true, "c", 10, 229, "rw")], "").unwrap();
    let asks = |kind, major, minor, access| {
        let request = Request { kind, major, minor, access };
        check(&rules, request);
        oracle(&rules, request)
    };
    let (character, block) = (NodeKind::Character, NodeKind::Block);
    assert!(asks(character, 1, 3, access::READ | access::WRITE), "/dev/null");
    assert!(asks(character, 136, 77, access::READ | access::WRITE), "/dev/pts/77");
    assert!(asks(character, 5, 2, access::READ | access::WRITE), "/dev/ptmx");
    assert!(asks(character, 10, 229, access::READ | access::WRITE), "/dev/fuse");
    assert!(asks(block, 8, 0, access::MKNOD), "mknod of /dev/sda");
    assert!(!asks(block, 8, 0, access::READ), "/dev/sda");
    assert!(!asks(character, 1, 1, access::READ), "/dev/mem");
    assert!(!asks(character, 5, 1, access::WRITE), "/dev/console of the host");
    let length = program(&rules, "").unwrap().len();
    assert!(length <= 60, "{length} instructions");
}

#[test]
fn a_later_rule_takes_back_a_part() {
    let rules: Vec<Rule> =
        [rule(true, "a", -1, -1, ""), rule(false, "b", -1, -1, "w"), rule(true, "b", 8, -1, "w"), rule(false, "b", 8, 1, "rw")]
            .iter()
            .map(|rule| understand(rule, &|field: &str| format!(".{field}")).unwrap())
            .collect();
    let block = |major, minor, access| {
        let request = Request { kind: NodeKind::Block, major, minor, access };
        check(&rules, request);
        oracle(&rules, request)
    };
    assert!(block(9, 0, access::READ | access::MKNOD));
    assert!(!block(9, 0, access::READ | access::WRITE));
    assert!(block(8, 0, access::READ | access::WRITE));
    assert!(!block(8, 1, access::READ));
    assert!(block(8, 1, access::MKNOD));
}

#[test]
fn one_answer_for_everything_is_a_program_of_few_instructions() {
    let all = Rule { allow: true, kind: None, major: None, minor: None, access: access::ALL };
    let program = program(&[all], "").unwrap();
    assert!(program.len() <= 10, "{program:?}");
    assert_eq!(run(&program, Request { kind: NodeKind::Block, major: 8, minor: 0, access: 7 }), 1);
}

#[test]
fn wrong_rules_are_all_named() {
    let problems = with_defaults(
        &[
            rule(true, "p", 1, 1, "r"),
            rule(true, "c", -2, 1, "r"),
            rule(true, "c", 1, 1 << 32, "r"),
            rule(true, "c", 1, 1, "rx"),
            rule(true, "c", 1, 1, ""),
        ],
        "linux.resources",
    )
    .unwrap_err();
    let at: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
    assert_eq!(
        at,
        [
            "linux.resources.devices[0].type",
            "linux.resources.devices[1].major",
            "linux.resources.devices[2].minor",
            "linux.resources.devices[3].access",
        ]
    );
}

#[test]
fn too_many_rules_are_refused() {
    let rule = |number| Rule { allow: true, kind: None, major: Some(number), minor: Some(number), access: access::READ };
    let rules: Vec<Rule> = (0..5000).map(rule).collect();
    let problem = program(&rules, "linux.resources.devices").unwrap_err();
    assert_eq!(problem.at, "linux.resources.devices");
}
