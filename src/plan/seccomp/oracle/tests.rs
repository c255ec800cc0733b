// SPDX-License-Identifier: Apache-2.0
//! The comparisons.

use std::cell::Cell;
use std::collections::BTreeSet;

use libseccomp::ScmpSyscall;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::super::explain::{Explainer, Judge};
use super::super::rules::Clause;
use super::super::*;
use super::cases::{all_numbers, argument_lists, ask, own_numbers};
use super::pfc::Pfc;
use super::profile::{Owned, docker, when};
use super::scmp::{self, scmp_arch, subcall};

/// Without the answer to newer system calls, which libseccomp does not have.
const EXACT: Options = Options { native: Arch::X86_64, newer_is_enosys: false };

/// What libseccomp answers to a call (arch, number, arguments), if it can be trusted with it.
type Oracle<'a> = &'a dyn Fn(&Judge, u32, u32, &[u64; 6]) -> Option<u32>;

/// Asks berth's program, the rules and libseccomp about everything that can make a difference, and
/// about `others`. Returns how often libseccomp was heard.
fn compare(owned: &Owned, options: Options, others: &[u32], mixtures: usize, oracle: Oracle<'_>) -> usize {
    let native = options.native;
    let profile = owned.profile();
    let program = owned.compile(options).unwrap().filter;
    let explainer = Explainer::new(&profile, options).unwrap();
    let mut heard = 0;
    let lists = argument_lists(owned, mixtures);
    let plain = [[0; 6], [u64::MAX; 6]];
    let mut audits: BTreeSet<u32> = owned.architectures.iter().map(|a| a.audit()).collect();
    audits.extend([native.audit(), Arch::Loongarch64.audit(), 0]);
    for audit in audits {
        let members = Arch::ALL.into_iter().filter(|a| a.audit() == audit);
        let own: BTreeSet<u32> = members.flat_map(|a| own_numbers(owned, a)).collect();
        let others = others.iter().filter(|n| !own.contains(n));
        for (nr, lists) in own.iter().map(|n| (*n, &lists[..])).chain(others.map(|n| (*n, &plain[..]))) {
            let judge = explainer.number(audit, nr);
            for args in lists {
                let verdict = ask(&program, native, audit, nr, args);
                let told = judge.decide(args);
                let call = format_args!("arch {audit:#x} nr {nr:#x} args {args:x?}\n{owned:?}");
                assert_eq!(verdict, told.action.verdict(), "rules say {told:?}: {call}");
                if let Some(told) = oracle(&judge, audit, nr, args) {
                    assert_eq!(verdict, told, "libseccomp says {told:#x}: {call}");
                    heard += 1;
                }
            }
        }
    }
    heard
}

/// Compares with libseccomp's BPF.
fn compare_with_bpf(owned: &Owned, native: Arch, others: &[u32], mixtures: usize) {
    let program = scmp::export(&scmp::filter(owned, native).unwrap(), native.is_big_endian());
    let options = Options { native, ..EXACT };
    let heard = compare(owned, options, others, mixtures, &|_, audit, nr, args| Some(ask(&program, native, audit, nr, args)));
    assert!(heard > 0);
}

/// Whether libseccomp takes these clauses of one system call for what they are. It mixes them up or
/// loses some (see the module's text) if two share a comparison that one of them leaves both ways, to
/// go on to further conditions: all operators but `EQ` and `MASKED_EQ` do. And if actions differ, it
/// is the order of the rules, not `precedence`, by which one of several `NE`, `LT` or `LE` counts where
/// the high word settles them.
fn libseccomp_is_right(clauses: &[Clause]) -> bool {
    let single_path = |c: &Clause| c.conditions().all(|c| matches!(c.op, Op::Eq | Op::MaskedEq));
    let leaves_false = |c: &&Clause| c.conditions().any(|c| matches!(c.op, Op::Ne | Op::Lt | Op::Le));
    let alike = clauses.iter().all(|c| c.action == clauses[0].action);
    clauses.len() < 2
        || clauses.iter().all(single_path)
        || clauses.iter().all(|c| c.conditions().count() == 1) && (alike || clauses.iter().filter(leaves_false).count() < 2)
}

#[test]
fn the_table_agrees_with_libseccomp() {
    let mut known = 0;
    for arch in Arch::ALL {
        let Some(scmp) = scmp_arch(arch) else {
            continue;
        };
        for syscall in Syscall::all() {
            let name = syscall.name();
            // Newer than the installed libseccomp.
            let Ok(theirs) = ScmpSyscall::from_name_by_arch(name, scmp) else {
                continue;
            };
            known += 1;
            match theirs.as_raw_syscall() {
                // 2.5 has it there although the kernel has not: arch/parisc/kernel/syscalls/syscall.tbl
                140 if name == "_llseek" && arch == Arch::Parisc64 => {}
                // in 2.6 a common number, as the kernel's table reserves it
                nr if nr < 0 && name == "map_shadow_stack" && arch == Arch::X32 => {}
                nr if nr >= 0 => {
                    assert_eq!(syscall.number(arch), Some(nr as u32), "{name} on {arch:?}")
                }
                _ if arch.has_multiplexers() && subcall(theirs).is_some() => {
                    let ours = syscall.subcall(arch).map(|s| s.call);
                    assert_eq!(ours, subcall(theirs), "{name} on {arch:?}");
                }
                _ => assert_eq!(syscall.number(arch), None, "{name} on {arch:?}"),
            }
        }
    }
    // 19 architectures and nearly all names of 2.5.4.
    assert!(known > 19 * 450, "only {known} numbers compared");
}

#[test]
fn docker_profile() {
    let owned = docker().known_to_libseccomp(Arch::X86_64);
    compare_with_bpf(&owned, Arch::X86_64, &all_numbers(), 1000);
}

/// Docker's rules on every architecture that libseccomp 2.5 and the kernel know, alone.
#[test]
fn docker_rules_on_every_architecture() {
    for native in Arch::ALL.into_iter().filter(|a| scmp_arch(*a).is_some()) {
        let alone = Owned { architectures: vec![], ..docker() };
        let numbers: Vec<u32> = all_numbers().into_iter().step_by(7).collect();
        compare_with_bpf(&alone.known_to_libseccomp(native), native, &numbers, 20);
    }
}

/// Newer system calls get ENOSYS, everything else what libseccomp says: the rule of runc, worked out
/// with libseccomp's numbers as runc does.
#[test]
fn newer_system_calls() {
    let both = [Arch::X86_64, Arch::X32];
    let mut combinations: Vec<(Arch, &[Arch])> = vec![
        (Arch::X86_64, &both),
        (Arch::X86_64, &[Arch::X86]),
        (Arch::X86_64, &[Arch::X32, Arch::X86, Arch::X32]),
        (Arch::X86, &[Arch::X32]),
    ];
    let alone = [Arch::Aarch64, Arch::Arm, Arch::S390, Arch::S390X, Arch::Mips64N32, Arch::Ppc64Le];
    combinations.extend(alone.map(|a| (a, &[][..])));
    let numbers: Vec<u32> = all_numbers().into_iter().filter(|n| n % 5 == 0 || n % 600 > 380).collect();
    for (native, architectures) in combinations {
        let profile = Owned { architectures: architectures.to_vec(), ..docker() };
        let owned = profile.known_to_libseccomp(native);
        let program = scmp::export(&scmp::filter(&owned, native).unwrap(), native.is_big_endian());
        let highest = |arch: Arch| {
            let names = owned.rules.iter().flat_map(|r| &r.0);
            let numbers = names.map(|n| ScmpSyscall::from_name_by_arch(n, scmp_arch(arch).unwrap()).unwrap());
            numbers.map(|s| s.as_raw_syscall()).max().unwrap() as u32
        };
        let members: Vec<Arch> = architectures.iter().copied().chain([native]).collect();
        let limits: Vec<(Arch, u32)> = members.into_iter().map(|a| (a, highest(a))).collect();
        let options = Options { native, newer_is_enosys: true };
        compare(&owned, options, &numbers, 0, &|_, audit, nr, args| {
            let bit = nr & X32_SYSCALL_BIT != 0;
            let is_caller = |a: Arch| a.audit() == audit && (audit != Arch::X86_64.audit() || (a == Arch::X32) == bit);
            let limit = limits.iter().find(|(a, _)| is_caller(*a));
            let multiplexer = matches!(limit, Some((Arch::S390 | Arch::S390X, _))) && nr == 0;
            Some(if multiplexer || limit.is_some_and(|(_, highest)| nr > *highest) {
                Action::Errno(ENOSYS).verdict()
            } else {
                ask(&program, native, audit, nr, args)
            })
        });
    }
}

#[test]
fn docker_size() {
    let options = Options { native: Arch::X86_64, newer_is_enosys: true };
    let program = docker().compile(options).unwrap();
    assert_eq!(program, docker().compile(options).unwrap());
    assert_eq!(program.unknown, Vec::<String>::new());
    assert!(!program.notifies);
    // 216 when this was written; libseccomp makes 1025.
    assert!(program.filter.len() <= 240, "{} instructions", program.filter.len());
}

/// The socket rules of Podman's default profile: different actions that exclude each other. (Without
/// the rule for socketcall(2), libseccomp refuses the others on x86, where all conditions on the first
/// argument of socket(2) become the same one on that of socketcall(2); and without that for read(2),
/// it forgets to load the number, because no simpler system call than socketcall(2) is left.)
#[test]
fn podman_socket_rules() {
    let owned = Owned::new(Action::Errno(1), &[Arch::X86_64, Arch::X86, Arch::X32])
        .rule(&["read", "socketcall"], Action::Allow, &[])
        .rule(&["socket"], Action::Errno(22), &[when(0, Op::Eq, 16), when(2, Op::Eq, 9)])
        .rule(&["socket"], Action::Allow, &[when(2, Op::Ne, 9)])
        .rule(&["socket"], Action::Allow, &[when(0, Op::Ne, 16)])
        .rule(&["socket"], Action::Allow, &[when(2, Op::Ne, 9)]);
    compare_with_bpf(&owned, Arch::X86_64, &[], 2000);
}

const NAMES: &[&str] = &[
    "read",
    "openat",
    "socket",
    "personality",
    "clone",
    "recv",
    "accept4",
    "semop",
    "shmget",
    "semtimedop",
    "ipc",
    "socketcall",
    "mmap2",
    "futex_waitv",
    "close_range",
    "cacheflush",
    "execveat",
    "no_such_call",
    "rt_sigaction",
];
const VALUES: &[u64] = &[
    0,
    1,
    2,
    3,
    5,
    38,
    0x7e02_0000,
    0xffff_fffe,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 1,
    (5 << 32) + 5,
    7 << 32,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];
const ACTIONS: &[Action] = &[Action::Allow, Action::Errno(13), Action::Trap, Action::Log, Action::Errno(1)];

fn any_condition() -> impl Strategy<Value = Condition> {
    let op = prop::sample::select(vec![Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq]);
    let value = || prop::sample::select(VALUES);
    (0..4_u32, op, value(), value()).prop_map(|(index, op, value, value_two)| Condition { index, op, value, value_two })
}

fn any_profile(arches: &'static [Arch], actions: &'static [Action]) -> impl Strategy<Value = Owned> {
    let names = prop::collection::vec(prop::sample::select(NAMES), 1..3).prop_map(|names| names.iter().collect::<CallNames>());
    let conditions = prop::collection::vec(any_condition(), 0..4);
    let rules = prop::collection::vec((names, prop::sample::select(actions), conditions), 1..6);
    let default = prop::sample::select(vec![Action::Errno(1), Action::KillProcess, Action::Allow, Action::Trace(1)]);
    let arches = prop::sample::subsequence(arches, 0..4);
    (default, arches, rules).prop_map(|(default_action, architectures, rules)| Owned { default_action, architectures, rules })
}

const LITTLE: &[Arch] =
    &[Arch::X86, Arch::X86_64, Arch::X32, Arch::Arm, Arch::Aarch64, Arch::Ppc64Le, Arch::Mipsel, Arch::Mipsel64N32];
const BIG: &[Arch] = &[Arch::S390X, Arch::S390, Arch::Mips, Arch::Mips64N32, Arch::Ppc64, Arch::Parisc];

/// Compares random profiles with libseccomp's idea of them, if it accepts them and can be trusted.
fn random_profiles(native: Arch, arches: &'static [Arch], actions: &'static [Action]) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) };
    let heard = Cell::new(0);
    let outcome = TestRunner::new(config).run(&any_profile(arches, actions), |owned| {
        let owned = owned.known_to_libseccomp(native);
        let options = Options { native, ..EXACT };
        let pfc = scmp::filter(&owned, native).map(|filter| Pfc::export(&filter)).ok();
        let count = compare(&owned, options, &[], 100, &|judge, audit, nr, args| {
            let pfc = pfc.as_ref().filter(|_| libseccomp_is_right(judge.clauses()));
            pfc.map(|pfc| pfc.ask(audit, nr, args))
        });
        heard.set(heard.get() + count);
        // The answer to newer system calls, by the rules alone.
        let options = Options { newer_is_enosys: true, ..options };
        compare(&owned, options, &[500, 0x4000_0400, u32::MAX], 20, &|_, _, _, _| None);
        Ok(())
    });
    outcome.unwrap();
    assert!(heard.get() > 20_000, "libseccomp was heard {} times only", heard.get());
}

#[test]
fn random_profiles_with_one_action() {
    random_profiles(Arch::X86_64, LITTLE, &ACTIONS[..1]);
}

#[test]
fn random_profiles_with_many_actions() {
    random_profiles(Arch::X86_64, LITTLE, ACTIONS);
}

#[test]
fn random_profiles_big_endian() {
    random_profiles(Arch::S390X, BIG, ACTIONS);
}

#[test]
fn random_profiles_32_bit() {
    random_profiles(Arch::X86, LITTLE, ACTIONS);
}
