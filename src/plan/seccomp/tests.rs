// SPDX-License-Identifier: Apache-2.0
//! What the comparisons with libseccomp do not show: refusals, limits, the edges of rules.

use super::emit::{JA, RET_K};
use super::explain::{Decision, Explainer, Reason, explain};
use super::oracle::cases::ask;
use super::oracle::profile::{Owned, docker, masked, when};
use super::*;

const NATIVE: Options = Options { native: Arch::X86_64, newer_is_enosys: true };

/// What x86_64 calls get.
fn verdict(owned: &Owned, nr: u32, args: [u64; 6]) -> u32 {
    let program = owned.compile(NATIVE).unwrap();
    ask(&program.filter, Arch::X86_64, Arch::X86_64.audit(), nr, &args)
}

fn number(name: &str, arch: Arch) -> u32 {
    Syscall::from_name(name).unwrap().number(arch).unwrap()
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM_VERDICT: u32 = 0x0005_0001;
const ENOSYS_VERDICT: u32 = 0x0005_0026;

#[test]
fn words_of_a_config() {
    assert_eq!(Action::from_oci("SCMP_ACT_ERRNO", None), Ok(Action::Errno(1)));
    assert_eq!(Action::from_oci("SCMP_ACT_ERRNO", Some(38)), Ok(Action::Errno(38)));
    assert_eq!(Action::from_oci("SCMP_ACT_TRACE", None), Ok(Action::Trace(1)));
    assert_eq!(Action::from_oci("SCMP_ACT_KILL", None), Ok(Action::KillThread));
    assert_eq!(Action::from_oci("SCMP_ACT_ALLOW", Some(1)), Err(Error::ErrnoWithoutErrno("SCMP_ACT_ALLOW".into())));
    assert_eq!(Action::from_oci("SCMP_ACT_ERRNO", Some(70000)), Err(Error::ErrnoTooLarge(70000)));
    assert_eq!(Action::from_oci("ALLOW", None), Err(Error::UnknownAction("ALLOW".into())));
    assert_eq!(Op::from_oci("SCMP_CMP_MASKED_EQ"), Ok(Op::MaskedEq));
    assert_eq!(Op::from_oci("=="), Err(Error::UnknownOperator("==".into())));
    assert_eq!(Arch::from_oci("SCMP_ARCH_AARCH64"), Ok(Arch::Aarch64));
    assert_eq!(Arch::from_oci("SCMP_ARCH_Z80"), Err(Error::UnknownArch("SCMP_ARCH_Z80".into())));
}

#[test]
fn refusals() {
    let base = || Owned::new(Action::Errno(1), &[]);
    let refused = |owned: Owned| owned.compile(NATIVE).unwrap_err();
    let condition = when(6, Op::Eq, 0);
    assert_eq!(
        refused(base().rule(&["read"], Action::Allow, &[]).rule(&["read"], Action::Allow, &[when(0, Op::Eq, 0), condition])),
        Error::ArgIndex { rule: 1, arg: 1, index: 6 }
    );
    // A rule that says nothing is not looked at.
    assert!(base().rule(&["read"], Action::Errno(1), &[condition]).compile(NATIVE).is_ok());
    assert_eq!(refused(base().rule(&["read", ""], Action::Allow, &[])), Error::EmptyName { rule: 0 });
    assert_eq!(refused(base().rule(&["write"], Action::Notify, &[])), Error::NotifyWrite { rule: 0 });
    assert_eq!(refused(Owned::new(Action::Notify, &[])), Error::NotifyDefault);
    assert_eq!(
        refused(Owned::new(Action::Allow, &[Arch::X86, Arch::S390X])),
        Error::ByteOrder { arch: Arch::S390X, native: Arch::X86_64 }
    );
    let message = refused(Owned::new(Action::Allow, &[Arch::S390X])).to_string();
    assert!(message.contains("SCMP_ARCH_S390X") && message.contains("SCMP_ARCH_X86_64"), "{message}");
}

#[test]
fn unknown_names_are_reported_and_ignored() {
    let owned = Owned::new(Action::Errno(1), &[]).rule(&["no_such_call", "read"], Action::Allow, &[]).rule(
        &["nor_this"],
        Action::Notify,
        &[],
    );
    let program = owned.compile(NATIVE).unwrap();
    assert_eq!(program.unknown, ["no_such_call", "nor_this"]);
    assert!(program.notifies);
    assert_eq!(verdict(&owned, number("read", Arch::X86_64), [0; 6]), ALLOW);
    assert!(!Owned::new(Action::Errno(1), &[]).rule(&[], Action::Notify, &[]).compile(NATIVE).unwrap().notifies);
}

#[test]
fn rules_without_conditions_win() {
    let personality = number("personality", Arch::X86_64);
    let one = [when(0, Op::Eq, 1)];
    let all = |first: Action, args: &[Condition], second: Action| {
        let owned = Owned::new(Action::Errno(1), &[]).rule(&["personality"], first, args).rule(&["personality"], second, &[]);
        [0, 1].map(|arg| verdict(&owned, personality, [arg, 0, 0, 0, 0, 0]))
    };
    assert_eq!(all(Action::Trap, &one, Action::Allow), [ALLOW; 2]);
    assert_eq!(all(Action::Trap, &[], Action::Allow), [Action::Trap.verdict(); 2]);
    // a mask of nothing is no condition
    assert_eq!(all(Action::Trap, &[masked(0, 0, 7)], Action::Allow), [Action::Trap.verdict(); 2]);
}

#[test]
fn sixty_four_bits_count() {
    let personality = number("personality", Arch::X86_64);
    let high = 1 << 32;
    for (condition, matching, other) in [
        (when(0, Op::Eq, 5), vec![5], vec![4, 6, high + 5]),
        (when(0, Op::Ne, high + 5), vec![5, high, high + 4], vec![high + 5]),
        (when(0, Op::Gt, high + 5), vec![high + 6, 2 * high], vec![0, 6, high + 5]),
        (when(0, Op::Ge, high + 5), vec![high + 5, 2 * high], vec![0, 6, high + 4]),
        (when(0, Op::Lt, high + 5), vec![0, 6, high + 4], vec![high + 5, 2 * high]),
        (when(0, Op::Le, high + 5), vec![0, 6, high + 5], vec![high + 6, 2 * high]),
        (masked(0, high + 7, high + 1), vec![high + 1, high + 9], vec![1, high + 2]),
        (masked(0, 7, 9), vec![1, 9], vec![2, 8]),
    ] {
        let owned = Owned::new(Action::Errno(1), &[]).rule(&["personality"], Action::Allow, &[condition]);
        for arg in matching {
            assert_eq!(verdict(&owned, personality, [arg, 0, 0, 0, 0, 0]), ALLOW, "{condition:?} {arg:#x}");
        }
        for arg in other {
            assert_eq!(verdict(&owned, personality, [arg, 0, 0, 0, 0, 0]), EPERM_VERDICT, "{condition:?} {arg:#x}");
        }
    }
}

#[test]
fn newer_numbers_by_hand() {
    let owned = Owned::new(Action::Errno(1), &[]).rule(&["write", "exit_group"], Action::Allow, &[]);
    let exit_group = number("exit_group", Arch::X86_64);
    assert_eq!(verdict(&owned, exit_group, [0; 6]), ALLOW);
    assert_eq!(verdict(&owned, exit_group - 1, [0; 6]), EPERM_VERDICT);
    assert_eq!(verdict(&owned, exit_group + 1, [0; 6]), ENOSYS_VERDICT);
    // x32 is not in the profile
    assert_eq!(verdict(&owned, X32_SYSCALL_BIT + 1, [0; 6]), 0);
    // names count even if their rule says nothing
    let owned = owned.rule(&["openat"], Action::Errno(1), &[]);
    assert_eq!(verdict(&owned, exit_group + 1, [0; 6]), EPERM_VERDICT);
    assert_eq!(verdict(&owned, number("openat", Arch::X86_64) + 1, [0; 6]), ENOSYS_VERDICT);
}

#[test]
fn when_newer_numbers_get_the_default_action() {
    let with = |default: Action, name: &str| {
        let owned = Owned::new(default, &[]).rule(&[name], Action::Trap, &[]);
        verdict(&owned, 400, [0; 6])
    };
    assert_eq!(with(Action::KillProcess, "write"), ENOSYS_VERDICT);
    assert_eq!(with(Action::Errno(13), "write"), ENOSYS_VERDICT);
    for default in [Action::Allow, Action::Log, Action::Trace(3), Action::Errno(38)] {
        assert_eq!(with(default, "write"), default.verdict());
    }
    // Number 0 is no number to go by, and neither is a name that x86_64 does not have.
    assert_eq!(with(Action::Errno(13), "read"), Action::Errno(13).verdict());
    assert_eq!(with(Action::Errno(13), "mmap2"), Action::Errno(13).verdict());
    let mut off = NATIVE;
    off.newer_is_enosys = false;
    let program = Owned::new(Action::Errno(13), &[]).rule(&["write"], Action::Trap, &[]).compile(off).unwrap();
    let told = ask(&program.filter, Arch::X86_64, Arch::X86_64.audit(), 400, &[0; 6]);
    assert_eq!(told, Action::Errno(13).verdict());
}

/// Unlike runc, which knows socket(2) on x86 only as a subcall.
#[test]
fn subcalls_count_with_both_numbers() {
    let options = Options { native: Arch::X86, newer_is_enosys: true };
    let owned = Owned::new(Action::Errno(1), &[]).rule(&["read", "socket"], Action::Allow, &[]);
    let program = owned.compile(options).unwrap();
    let told = |nr, arg| ask(&program.filter, Arch::X86, Arch::X86.audit(), nr, &[arg, 0, 0, 0, 0, 0]);
    assert_eq!(told(number("socket", Arch::X86), 0), ALLOW);
    assert_eq!(told(number("socketcall", Arch::X86), 1), ALLOW);
    assert_eq!(told(number("socketcall", Arch::X86), 2), EPERM_VERDICT);
    assert_eq!(told(number("socket", Arch::X86) + 1, 0), ENOSYS_VERDICT);
}

/// Every system call of three architectures gets an answer of its own: jumps do not reach that far.
#[test]
fn long_jumps() {
    let mut owned = Owned::new(Action::KillProcess, &[Arch::X86_64, Arch::X32, Arch::X86]);
    let errno = |syscall: Syscall| (2 + syscall.name().bytes().map(u16::from).sum::<u16>() % 300) | 0x100;
    for syscall in Syscall::all() {
        let args: &[Condition] = if errno(syscall) % 3 == 0 { &[when(1, Op::Gt, 1 << 40)] } else { &[] };
        owned = owned.rule(&[syscall.name()], Action::Errno(errno(syscall)), args);
    }
    let program = owned.compile(NATIVE).unwrap().filter;
    assert!(program.len() > 1000, "{} instructions", program.len());
    assert!(program.iter().any(|i| i.code == JA), "no long jump");
    let answers = program.iter().filter(|i| i.code == RET_K && i.k == Action::KillProcess.verdict());
    assert!(answers.count() > 1, "no copied answer");
    let profile = owned.profile();
    let explainer = Explainer::new(&profile, NATIVE).unwrap();
    for arch in [Arch::X86_64, Arch::X32, Arch::X86] {
        for nr in Syscall::all().filter_map(|s| s.number(arch)) {
            let judge = explainer.number(arch.audit(), nr);
            for args in [[0; 6], [1; 6], [1 << 40; 6], [u64::MAX; 6]] {
                let told = ask(&program, Arch::X86_64, arch.audit(), nr, &args);
                assert_eq!(told, judge.decide(&args).action.verdict(), "{arch:?} {nr} {args:x?}");
            }
        }
    }
}

#[test]
fn too_long() {
    let with = |count: u64| {
        (0..count).fold(Owned::new(Action::Errno(1), &[]), |owned, i| {
            owned.rule(&["personality"], Action::Allow, &[when(0, Op::Eq, (i << 32) | i)])
        })
    };
    let program = with(1300).compile(NATIVE).unwrap().filter;
    assert!(program.len() > 3900 && program.len() <= MAX_INSNS, "{} instructions", program.len());
    let args = |v: u64| [v, 0, 0, 0, 0, 0];
    assert_eq!(verdict(&with(1300), 135, args((1299 << 32) | 1299)), ALLOW);
    assert_eq!(verdict(&with(1300), 135, args((1299 << 32) | 1298)), EPERM_VERDICT);
    match with(3000).compile(NATIVE) {
        Err(Error::TooLong { needed }) => assert!(needed > MAX_INSNS, "{needed}"),
        other => panic!("{other:?}"),
    }
    // All that can be said in few instructions is.
    let repeated = (0..3000)
        .fold(Owned::new(Action::Errno(1), &[]), |owned, _| owned.rule(&["personality"], Action::Allow, &[when(0, Op::Eq, 7)]));
    assert!(repeated.compile(NATIVE).unwrap().filter.len() < 32);
}

#[test]
fn nothing_but_a_default() {
    for default in [Action::Allow, Action::KillThread] {
        let owned = Owned::new(default, &[]);
        let program = owned.compile(NATIVE).unwrap().filter;
        assert_eq!(verdict(&owned, 0, [0; 6]), default.verdict());
        assert_eq!(ask(&program, Arch::X86_64, Arch::X86.audit(), 0, &[0; 6]), 0);
        assert_eq!(ask(&program, Arch::X86_64, Arch::X86_64.audit(), u32::MAX, &[0; 6]), default.verdict());
    }
}

#[test]
fn explanations() {
    let owned = docker();
    let rule_of = |name: &str, errno: bool| {
        let fits = |r: &(CallNames, Action, Vec<Condition>)| r.0.contains(name) && (r.1 != Action::Allow) == errno;
        owned.rules.iter().position(fits).unwrap()
    };
    let told = |arch: Arch, nr, args: [u64; 6]| explain(&owned.profile(), NATIVE, arch.audit(), nr, &args).unwrap();
    let x86_64 = |name: &str| number(name, Arch::X86_64);
    let decision = |action, reason| Decision { action, reason };
    let rule = |name| Reason::Rule(rule_of(name, false));
    assert_eq!(told(Arch::X86_64, x86_64("read"), [0; 6]), decision(Action::Allow, rule("read")));
    assert_eq!(told(Arch::X86_64, x86_64("socket"), [1, 0, 0, 0, 0, 0]), decision(Action::Allow, rule("socket")));
    assert_eq!(told(Arch::X86_64, x86_64("socket"), [40, 0, 0, 0, 0, 0]), decision(Action::Errno(1), Reason::Default));
    assert_eq!(told(Arch::X86_64, x86_64("mount"), [0; 6]), decision(Action::Errno(1), Reason::Default));
    let clone3 = Reason::Rule(rule_of("clone3", true));
    assert_eq!(told(Arch::X86_64, x86_64("clone3"), [0; 6]), decision(Action::Errno(38), clone3));
    assert_eq!(told(Arch::X86_64, 900, [0; 6]), decision(Action::Errno(38), Reason::Newer));
    assert_eq!(told(Arch::Aarch64, 0, [0; 6]), decision(Action::KillThread, Reason::WrongArch));
}
