// SPDX-License-Identifier: Apache-2.0
//! Plans of configurations that nobody has written: the fixtures with a few of their values replaced by others of the same kind. Planning
//! never panics, says where what is wrong, and what it does make keeps the order that safety rests on.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::linux::types::CgroupMode;
use crate::spec::load::parse_config;
use crate::spec::{Problem, fixtures, validate};

/// Words that mean something in one place or another, and some that mean nothing anywhere.
const WORDS: &[&str] = &[
    "",
    "/",
    ".",
    "..",
    "/..",
    "/proc",
    "/proc/self",
    "/dev",
    "relative",
    "bind",
    "rbind",
    "remount",
    "proc",
    "sysfs",
    "cgroup",
    "tmpfs",
    "devpts",
    "user",
    "pid",
    "network",
    "mount",
    "time",
    "c",
    "b",
    "p",
    "u",
    "a",
    "rwm",
    "shared",
    "rslave",
    "runbindable",
    "rro",
    "ro",
    "rw",
    "idmap",
    "ridmap",
    "idmap=uids=@0-0-10;gids=0-1-1",
    "idmap=uids=0-0-4294967295;gids=0-0-1",
    "tmpcopyup",
    "copy-symlink",
    "mode=1",
    "gid=5",
    "size=",
    "=",
    "0-3",
    "3-0",
    "0-99999",
    "max",
    "eth%d",
    "a:b:c",
    "::",
    "-",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_MIPS",
    "openat",
    "no_such_call",
    "CAP_SYS_ADMIN",
    "CAP_NONE",
    "RLIMIT_NICE",
    "SCHED_DEADLINE",
    "SCHED_FIFO",
    "MPOL_BIND",
    "IOPRIO_CLASS_RT",
    "LINUX32",
    "net.ipv4.ip_forward",
    "boottime",
    "memory.max",
    "1\n2",
    "PATH",
    "HOME=",
    "=x",
    "\u{e9}",
    "4294967296",
];

/// Replaces a value somewhere below by another of its kind, or removes or doubles it.
fn alter(value: &mut Value, choices: &mut impl Iterator<Item = usize>) {
    let mut choose = |among: usize| choices.next().unwrap_or(0) % among.max(1);
    match value {
        Value::Object(map) => match (map.len(), choose(12)) {
            (0, _) => {}
            (length, 0) => {
                let name = map.keys().nth(choose(length)).cloned().unwrap_or_default();
                map.remove(&name);
            }
            (length, _) => {
                let at = choose(length);
                map.values_mut().nth(at).into_iter().for_each(|inner| alter(inner, choices));
            }
        },
        Value::Array(list) => match (list.len(), choose(12)) {
            (0, _) => {}
            (length, 0) => drop(list.remove(choose(length))),
            (length, 1) => {
                let again = list[choose(length)].clone();
                list.push(again);
            }
            (length, _) => {
                let at = choose(length);
                alter(&mut list[at], choices);
            }
        },
        Value::String(text) => *text = WORDS[choose(WORDS.len())].to_string(),
        Value::Number(number) => {
            let numbers =
                [0i64, 1, -1, 7, 40, 511, 1000, 65_535, 65_536, i64::from(i32::MAX), i64::from(u32::MAX), i64::MAX, i64::MIN];
            *number = numbers[choose(numbers.len())].into();
        }
        Value::Bool(flag) => *flag = !*flag,
        Value::Null => {}
    }
}

/// Hosts that differ in what matters to a plan.
fn host(which: usize) -> Host {
    let root = Host::example();
    match which {
        0 => root,
        1 => Host { cgroup: CgroupMode::Hybrid, apparmor: true, selinux: true, ..root },
        2 => Host { cgroup: CgroupMode::Absent, owns_mount_namespace: false, initial_user_namespace: false, ..root },
        3 => Host { euid: 1000, egid: 1000, capabilities: Default::default(), ..root },
        4 => Host { kernel: super::route::OPEN_TREE_NAMESPACE, ..root },
        5 => Host { mounts: super::route::MANY_MOUNTS, ..root },
        _ => {
            Host { euid: 1000, egid: 1000, capabilities: Default::default(), newuidmap: None, cgroup: CgroupMode::Legacy, ..root }
        }
    }
}

/// What the runtime does with a configuration before anything is made: all of it or what is wrong with it.
fn plan(text: &str, request: &Request, host: &Host) -> Result<Plan, Vec<Problem>> {
    let spec = parse_config(text.as_bytes())?;
    // Planning need not be safe to do with what validation forbids, but it must not take the runtime down.
    let planned = create(&spec, request, host);
    let forbidden = validate::config(&spec).problems;
    if forbidden.is_empty() { planned } else { Err(forbidden) }
}

fn check(plan: &Plan) -> Result<(), TestCaseError> {
    let position = |found: &dyn Fn(&Op) -> bool| plan.child.iter().position(|step| found(&step.op));
    let identity = position(&|op| matches!(op, Op::Identity(_)));
    prop_assert_eq!(super::order::out_of_order(&plan.child), None);
    prop_assert_eq!(plan.child.last().map(|step| &step.op), Some(&Op::Exec));
    prop_assert_eq!(plan.parent.first().map(|step| &step.op), Some(&ParentOp::SaveCreating));
    // Without `process` a container can be created, and its start fails: there is no program.
    prop_assert!(identity.is_some() || plan.exec.args.is_empty(), "the program would run as root, with everything");
    for (index, step) in plan.child.iter().enumerate() {
        let as_root =
            matches!(step.op, Op::Mount(_) | Op::Node(_) | Op::MaskPaths { .. } | Op::ReadonlyPath { .. } | Op::Sysctl { .. });
        prop_assert!(!as_root || identity.is_none_or(|identity| index < identity), "{:?} comes after the identity", step.op);
    }
    let waits = position(&|op| *op == Op::AwaitRuntime).is_some();
    prop_assert_eq!(waits, plan.parent.iter().any(|step| step.op == ParentOp::ReleaseChild), "one waits for the other");
    let moves = plan.parent.iter().any(|step| matches!(step.op, ParentOp::MoveNetDevice { .. } | ParentOp::WriteIdMaps));
    prop_assert!(waits || !moves, "the process must not go on before its devices and ids are there");
    prop_assert!(!plan.to_string().is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn any_configuration_is_planned_or_refused(
        which in 0..fixtures::ALL.len(),
        edits in prop::collection::vec(prop::collection::vec(0usize..1000, 16), 0..6),
        on in 0usize..5,
        console: bool,
    ) {
        let mut value: Value = serde_json::from_str(fixtures::ALL[which].1).unwrap();
        for choices in edits {
            alter(&mut value, &mut choices.into_iter());
        }
        let mut request = Request::create(Id::parse("any").unwrap(), "/bundle", "/run/berth");
        request.console_socket = console.then(|| "/console.sock".to_string());
        match plan(&value.to_string(), &request, &host(on)) {
            Ok(plan) => check(&plan)?,
            Err(problems) => {
                prop_assert!(!problems.is_empty(), "refused without a reason");
                for problem in problems {
                    prop_assert!(!problem.rule.is_empty(), "{:?}", problem);
                }
            }
        }
    }
}
