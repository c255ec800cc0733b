// SPDX-License-Identifier: Apache-2.0
//! Device access rules compiled to one eBPF program (config-linux.md, "Allowed Device list"; BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! Called by [`super::resources`]; the program is loaded and attached by `crate::cgroup::devices`. What the rules mean: each access
//! (read, write, mknod) to a device is decided by the last rule that names both, and refused where none does; a request for several
//! accesses at once is granted when each of them is. The tests hold the program, run by an interpreter, against that sentence.
//!
//! The rules are first folded into a table by device number, so the program's length depends on how many different answers there are and
//! not on how many rules: Docker's default is some thirty instructions.

use crate::linux::types::{BpfInsn, NodeKind};
use crate::spec::Problem;
use crate::spec::types::DeviceRule;

/// Accesses as bits: `BPF_DEVCG_ACC_*` of linux/bpf.h.
pub mod access {
    /// mknod(2).
    pub const MKNOD: u8 = 1;
    /// Opening for reading.
    pub const READ: u8 = 2;
    /// Opening for writing.
    pub const WRITE: u8 = 4;
    /// All of them.
    pub const ALL: u8 = 7;
}

/// One rule, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow, or else deny.
    pub allow: bool,
    /// Character or block devices; none for both.
    pub kind: Option<NodeKind>,
    /// None for all.
    pub major: Option<u32>,
    /// None for all.
    pub minor: Option<u32>,
    /// Bits of [`access`].
    pub access: u8,
}

/// What every container may do, after all that its configuration says: make any node, and use those that every /dev has. The same as
/// runc, whose users count on it: c 10:200 is /dev/net/tun.
const DEFAULTS: &[Rule] = &[
    allowed(NodeKind::Character, None, None, access::MKNOD),
    allowed(NodeKind::Block, None, None, access::MKNOD),
    allowed(NodeKind::Character, Some(1), Some(3), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(8), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(7), access::ALL),
    allowed(NodeKind::Character, Some(5), Some(0), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(5), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(9), access::ALL),
    allowed(NodeKind::Character, Some(136), None, access::ALL),
    allowed(NodeKind::Character, Some(5), Some(2), access::ALL),
    allowed(NodeKind::Character, Some(10), Some(200), access::ALL),
];

const fn allowed(kind: NodeKind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: Some(kind), major, minor, access }
}

/// The configuration's rules and after them those that always hold; or everything wrong with the configuration's.
pub fn with_defaults(rules: &[DeviceRule], at: &str) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut understood = Vec::with_capacity(rules.len() + DEFAULTS.len());
    for (index, rule) in rules.iter().enumerate() {
        let at = if at.is_empty() { format!("devices[{index}]") } else { format!("{at}.devices[{index}]") };
        match understand(rule, &at) {
            Ok(rule) => understood.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    understood.extend_from_slice(DEFAULTS);
    if problems.is_empty() { Ok(understood) } else { Err(problems) }
}

fn understand(rule: &DeviceRule, at: &str) -> Result<Rule, Problem> {
    let kind = match rule.kind.as_str() {
        "" | "a" => None,
        "c" | "u" => Some(NodeKind::Character),
        "b" => Some(NodeKind::Block),
        other => return Err(Problem::new(format!("{at}.type"), format!("{other:?} is none of a, b and c"))),
    };
    let number = |value: Option<i64>, half: &str| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Problem::new(format!("{at}.{half}"), format!("{value} is neither a device number nor -1 (all)"))),
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => access::READ,
            'w' => access::WRITE,
            'm' => access::MKNOD,
            _ => {
                return Err(Problem::new(format!("{at}.access"), format!("{:?} has letters other than r, w and m", rule.access)));
            }
        };
    }
    if access == 0 {
        access = access::ALL;
    }
    Ok(Rule { allow: rule.allow, kind, major: number(rule.major, "major")?, minor: number(rule.minor, "minor")?, access })
}

/// Bits of [`access`] as `rwm`, or what there is of it.
pub fn letters(bits: u8) -> String {
    [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

/// What the rules come to, by device number. Numbers that are not listed have the answer of the level above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Character devices.
    pub character: Vec<Major>,
    /// Block devices.
    pub block: Vec<Major>,
}

/// The devices of one major number, or (always last, and always there) of all that are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Major {
    /// None for all others.
    pub number: Option<u32>,
    /// Minor numbers with an answer of their own: what is granted, as bits of [`access`].
    pub minors: Vec<(u32, u8)>,
    /// What is granted to all others.
    pub others: u8,
}

/// Folds the rules into a table.
pub fn table(rules: &[Rule]) -> Table {
    let of = |kind: NodeKind| {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.kind.is_none_or(|named| named == kind)).collect();
        let last = major(&rules, None);
        let mut numbers: Vec<u32> = rules.iter().filter_map(|rule| rule.major).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut majors: Vec<Major> = numbers.into_iter().map(|number| major(&rules, Some(number))).collect();
        majors.retain(|major| major.minors != last.minors || major.others != last.others);
        majors.push(last);
        majors
    };
    Table { character: of(NodeKind::Character), block: of(NodeKind::Block) }
}

fn major(rules: &[&Rule], number: Option<u32>) -> Major {
    // A rule for a single major number says nothing about the majors that no rule names.
    let rules: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.major.is_none() || rule.major == number).collect();
    let granted = |minor: Option<u32>| {
        let mut granted = 0;
        for rule in rules.iter().filter(|rule| rule.minor.is_none() || rule.minor == minor) {
            granted = if rule.allow { granted | rule.access } else { granted & !rule.access };
        }
        granted
    };
    let others = granted(None);
    let mut minors: Vec<u32> = rules.iter().filter_map(|rule| rule.minor).collect();
    minors.sort_unstable();
    minors.dedup();
    let minors =
        minors.into_iter().map(|minor| (minor, granted(Some(minor)))).filter(|(_, granted)| *granted != others).collect();
    Major { number, minors, others }
}

/// The longest program this compiler makes: jumps have 16 bits, so all of it can be reached from everywhere.
const MAX_INSNS: usize = i16::MAX as usize;

/// Compiles the rules.
pub fn program(rules: &[Rule], at: &str) -> Result<Vec<BpfInsn>, Problem> {
    let table = table(rules);
    let mut code = Code::default();
    // ctx is struct bpf_cgroup_dev_ctx: access_type (type in the low 16 bits, access in the high), major, minor.
    code.load(TYPE, 0);
    code.push(ALU32 | MOV | X, ACCESS, TYPE, 0);
    code.push(ALU32 | RSH | K, ACCESS, 0, 16);
    code.load(MAJOR, 4);
    code.load(MINOR, 8);
    if table.character != table.block {
        code.push(ALU32 | AND | K, TYPE, 0, 0xffff);
        let character = code.label();
        code.jump_if(TYPE, DEV_CHARACTER, character);
        code.majors(&table.block);
        code.place(character);
    }
    code.majors(&table.character);
    code.verdicts();
    let length = code.insns.len();
    code.finish().filter(|insns| insns.len() <= MAX_INSNS).ok_or_else(|| {
        Problem::new(at, format!("these rules make a program of {length} instructions, more than {MAX_INSNS}: use wildcards"))
    })
}

// Registers, beside r0 for the verdict and r1 for the context.
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// BPF_DEVCG_DEV_CHAR; the only other type is BPF_DEVCG_DEV_BLOCK.
const DEV_CHARACTER: u32 = 2;

// Parts of an operation: Documentation/bpf/standardization/instruction-set.rst.
const LDX_W_MEM: u8 = 0x61;
const ALU32: u8 = 0x04;
const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const AND: u8 = 0x50;
const RSH: u8 = 0x70;
const MOV: u8 = 0xb0;
const JA: u8 = 0x00;
const JEQ: u8 = 0x10;
const JSET: u8 = 0x40;
const EXIT: u8 = 0x90;
const K: u8 = 0x00;
const X: u8 = 0x08;

/// Instructions in the making: jumps name a label, which is placed later. All jumps go forward, as the verifier wants them.
#[derive(Default)]
struct Code {
    insns: Vec<BpfInsn>,
    /// Which instruction jumps to which label.
    jumps: Vec<(usize, usize)>,
    /// Where each label stands.
    labels: Vec<Option<usize>>,
    /// The label of each verdict that is used: what is granted.
    verdicts: Vec<(u8, usize)>,
}

impl Code {
    fn push(&mut self, code: u8, destination: u8, source: u8, imm: i32) {
        self.insns.push(BpfInsn { code, regs: source << 4 | destination, off: 0, imm });
    }

    fn load(&mut self, register: u8, offset: i16) {
        self.insns.push(BpfInsn { code: LDX_W_MEM, regs: 1 << 4 | register, off: offset, imm: 0 });
    }

    fn label(&mut self) -> usize {
        self.labels.push(None);
        self.labels.len() - 1
    }

    fn place(&mut self, label: usize) {
        self.labels[label] = Some(self.insns.len());
    }

    fn jump(&mut self, label: usize) {
        self.jumps.push((self.insns.len(), label));
        self.push(JMP | JA, 0, 0, 0);
    }

    /// Jumps when the register equals a number; 32 bits wide, because a 64-bit comparison would extend the number's sign.
    fn jump_if(&mut self, register: u8, number: u32, label: usize) {
        self.jumps.push((self.insns.len(), label));
        self.push(JMP32 | JEQ | K, register, 0, number.cast_signed());
    }

    /// The place where this much is granted.
    fn verdict(&mut self, granted: u8) -> usize {
        if let Some((_, label)) = self.verdicts.iter().find(|(known, _)| *known == granted) {
            return *label;
        }
        let label = self.label();
        self.verdicts.push((granted, label));
        label
    }

    /// Decides by major and minor number.
    fn majors(&mut self, majors: &[Major]) {
        let mut ahead = Vec::new();
        for major in majors {
            match major.number {
                Some(number) if major.minors.is_empty() => {
                    let verdict = self.verdict(major.others);
                    self.jump_if(MAJOR, number, verdict);
                }
                Some(number) => {
                    let label = self.label();
                    self.jump_if(MAJOR, number, label);
                    ahead.push((label, major));
                }
                None => self.minors(major),
            }
        }
        for (label, major) in ahead {
            self.place(label);
            self.minors(major);
        }
    }

    fn minors(&mut self, major: &Major) {
        for (minor, granted) in &major.minors {
            let verdict = self.verdict(*granted);
            self.jump_if(MINOR, *minor, verdict);
        }
        let verdict = self.verdict(major.others);
        self.jump(verdict);
    }

    /// The ends: those that grant a part look at the request, and then there is all or nothing. Only ends that something leads to: the
    /// verifier refuses instructions that cannot be reached.
    fn verdicts(&mut self) {
        let partial: Vec<(u8, usize)> =
            self.verdicts.iter().copied().filter(|(granted, _)| *granted != 0 && *granted != access::ALL).collect();
        for (granted, label) in partial {
            let (refuse, grant) = (self.verdict(0), self.verdict(access::ALL));
            self.place(label);
            self.jumps.push((self.insns.len(), refuse));
            self.push(JMP32 | JSET | K, ACCESS, 0, i32::from(access::ALL & !granted));
            self.jump(grant);
        }
        for (granted, label) in self.verdicts.clone() {
            if granted == 0 || granted == access::ALL {
                self.place(label);
                self.push(ALU64 | MOV | K, 0, 0, i32::from(granted != 0));
                self.push(JMP | EXIT, 0, 0, 0);
            }
        }
    }

    /// Fills in the jumps; none where one is too long, or a label has no place.
    fn finish(mut self) -> Option<Vec<BpfInsn>> {
        for (from, label) in self.jumps {
            let to = self.labels[label]?;
            self.insns[from].off = i16::try_from(to.checked_sub(from + 1)?).ok()?;
        }
        Some(self.insns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Runs a program as the kernel would; strict about everything that its verifier is strict about.
    fn run(program: &[BpfInsn], request: Request) -> u64 {
        let kind: u32 = if request.kind == NodeKind::Block { 1 } else { 2 };
        let context = [kind | u32::from(request.access) << 16, request.major, request.minor];
        let mut registers: [Option<u64>; 11] = [None; 11];
        let mut at = 0;
        loop {
            let insn = program[at];
            let (to, from) = (usize::from(insn.regs & 15), usize::from(insn.regs >> 4));
            at += 1;
            let read = |register: usize| registers[register].expect("read of a register that was never written");
            match insn.code {
                0x61 => {
                    assert_eq!(from, 1, "only the context can be read");
                    assert!(insn.off % 4 == 0 && insn.off >= 0);
                    registers[to] = Some(u64::from(context[insn.off as usize / 4]));
                }
                0xbc => registers[to] = Some(read(from) & 0xffff_ffff),
                0xb7 => registers[to] = Some(insn.imm as i64 as u64),
                0x74 => registers[to] = Some((read(to) as u32 >> insn.imm) as u64),
                0x54 => registers[to] = Some((read(to) as u32 & insn.imm as u32) as u64),
                0x05 => at += usize::try_from(insn.off).expect("a jump back"),
                0x16 if read(to) as u32 == insn.imm as u32 => at += usize::try_from(insn.off).expect("a jump back"),
                0x46 if read(to) as u32 & insn.imm as u32 != 0 => at += usize::try_from(insn.off).expect("a jump back"),
                0x16 | 0x46 => {}
                0x95 => return read(0),
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    fn check(rules: &[Rule], request: Request) {
        let program = program(rules, "").unwrap();
        assert_eq!(run(&program, request), u64::from(oracle(rules, request)), "{request:?} of {rules:?}");
    }

    fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![0..4u32, Just(u32::MAX), Just(0x8000_0000)]
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

        #[test]
        fn every_instruction_can_be_reached(rules in rules()) {
            // The kernel refuses programs with unreachable instructions to users without CAP_SYS_ADMIN.
            let program = program(&rules, "").unwrap();
            let mut reached = vec![false; program.len()];
            let mut todo = vec![0];
            while let Some(at) = todo.pop() {
                if std::mem::replace(&mut reached[at], true) {
                    continue;
                }
                let insn = program[at];
                let target = at + 1 + insn.off as usize;
                match insn.code {
                    0x95 => {}
                    0x05 => todo.push(target),
                    0x16 | 0x46 => todo.extend([at + 1, target]),
                    _ => todo.push(at + 1),
                }
            }
            let missed: Vec<usize> = (0..program.len()).filter(|at| !reached[*at]).collect();
            prop_assert!(missed.is_empty(), "{missed:?} of {}", program.len());
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
        assert!(length <= 36, "{length} instructions");
    }

    #[test]
    fn a_later_rule_takes_back_a_part() {
        let rules: Vec<Rule> = [
            rule(true, "a", -1, -1, ""),
            rule(false, "b", -1, -1, "w"),
            rule(true, "b", 8, -1, "w"),
            rule(false, "b", 8, 1, "rw"),
        ]
        .iter()
        .map(|rule| understand(rule, "").unwrap())
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
        let mut rules = Vec::new();
        for number in 0..200 {
            rules.push(Rule { allow: true, kind: None, major: Some(number), minor: Some(number), access: access::READ });
            rules.push(Rule { allow: true, kind: None, major: None, minor: Some(1000 + number), access: access::READ });
        }
        let problem = program(&rules, "linux.resources.devices").unwrap_err();
        assert_eq!(problem.at, "linux.resources.devices");
    }
}
