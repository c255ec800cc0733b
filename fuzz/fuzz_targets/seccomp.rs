// SPDX-License-Identifier: Apache-2.0
//! A seccomp profile made of any bytes: the program, run by an interpreter, answers each system call as the rules do when they are asked
//! themselves; on two machines, at and around every value that the profile names.
#![no_main]

use berth::plan::seccomp::explain::Explainer;
use berth::plan::seccomp::interpret::{SeccompData, run};
use berth::plan::seccomp::{Action, Arch, Condition, Error, MAX_INSNS, Op, Options, Profile, Rule, Syscall, compile};
use berth::spec::types::CallNames;
use libfuzzer_sys::fuzz_target;

/// Takes choices from the input; zero when it ends.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    fn word(&mut self) -> u64 {
        let special = [0, 1, 7, 0xffff_ffff, 0x1_0000_0000, u64::MAX, 0x8000_0000, 0xffff_ffff_0000_0000];
        match self.byte() {
            byte @ 0..=127 => special[usize::from(byte) % special.len()],
            128..=191 => u64::from(self.byte()),
            _ => (0..8).fold(0, |value, _| value << 8 | u64::from(self.byte())),
        }
    }
}

fn action(choices: &mut Choices<'_>) -> Action {
    let errno = u16::from(choices.byte());
    let all = [
        Action::Allow,
        Action::Errno(errno),
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Trace(errno),
        Action::Log,
        Action::Notify,
    ];
    choices.of(&all)
}

fn condition(choices: &mut Choices<'_>) -> Condition {
    let ops = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq];
    let index = u32::from(choices.byte() % 7);
    Condition { index, value: choices.word(), value_two: choices.word(), op: choices.of(&ops) }
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes.iter());
    let names = [
        "read",
        "write",
        "clone",
        "socket",
        "socketcall",
        "ipc",
        "semop",
        "personality",
        "openat2",
        "mmap",
        "ptrace",
        "",
        "none",
    ];
    let native = choices.of(&[Arch::X86_64, Arch::Aarch64]);
    let more = [Arch::X86, Arch::X32, Arch::Arm, Arch::X86_64, Arch::Aarch64, Arch::S390X];
    let architectures: Vec<Arch> = (0..choices.byte() % 4).map(|_| choices.of(&more)).collect();
    let default_action = action(&mut choices);
    let mut values = vec![0, u64::MAX];
    let mut lists: Vec<CallNames> = Vec::new();
    let mut parts = Vec::new();
    for _ in 0..choices.byte() % 12 {
        lists.push((0..choices.byte() % 4).map(|_| choices.of(&names)).collect());
        let conditions: Vec<Condition> = (0..choices.byte() % 4).map(|_| condition(&mut choices)).collect();
        values.extend(conditions.iter().flat_map(|one| [one.value, one.value_two]));
        parts.push((action(&mut choices), conditions));
    }
    let rules = lists.iter().zip(parts).map(|(names, (action, args))| Rule { names, action, args }).collect();
    let profile = Profile { default_action, architectures, rules };
    let options = Options { native, newer_is_enosys: choices.byte() % 2 == 0 };
    let program = match (compile(&profile, options), Explainer::new(&profile, options)) {
        (Ok(program), Ok(explainer)) => (program, explainer),
        (Err(Error::TooLong { .. }), Ok(_)) => return,
        (Err(one), Err(other)) => return assert_eq!(one, other),
        (one, other) => panic!("one takes it, the other does not: {one:?} {:?}", other.err()),
    };
    let (program, explainer) = program;
    assert!((1..=MAX_INSNS).contains(&program.filter.len()));
    values.extend(
        values.clone().into_iter().flat_map(|value| [value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 32, !value]),
    );
    for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::X32] {
        let known = names.iter().filter_map(|name| Syscall::from_name(name)?.number(arch));
        let numbers: Vec<u32> = known.chain([u32::MAX, 0x4000_0000, 0x7fff_ffff, 460, 1000]).collect();
        for number in numbers {
            let judge = explainer.number(arch.audit(), number);
            for (turn, value) in values.iter().enumerate() {
                let at = |offset: usize| values[(turn * 7 + offset * 3) % values.len()];
                for args in [[*value; 6], [at(0), at(1), at(2), at(3), at(4), at(5)]] {
                    let data = SeccompData { nr: number, arch: arch.audit(), instruction_pointer: 0, args };
                    let answer = run(&program.filter, &data, false).expect("the kernel would not load it").verdict;
                    let right = judge.decide(&args).action.verdict();
                    assert_eq!(answer, right, "{number} of {arch:?} with {args:x?} in {profile:?}");
                }
            }
        }
    }
});
