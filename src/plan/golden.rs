// SPDX-License-Identifier: Apache-2.0
//! Golden plans: what `berth plan` prints for each fixture of `spec/fixtures`, held in `plan/golden/`, and for some of them on hosts with
//! another way into the mount namespace (`route`). After a wanted change:
//! `BLESS=1 cargo test golden`, and read the diff.

use std::fs;
use std::path::Path;

use super::*;
use crate::spec::fixtures;
use crate::spec::load::parse_config;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plan/golden");

/// The fixtures that are planned for other routes too, and on which hosts.
fn routes() -> Vec<(&'static str, &'static str, Host)> {
    let new = Host { kernel: super::route::OPEN_TREE_NAMESPACE, ..Host::example() };
    let full = Host { mounts: super::route::MANY_MOUNTS, ..Host::example() };
    vec![("containerd-cri", ".open-tree", new.clone()), ("containerd-cri", ".pinned", full), ("podman", ".open-tree", new)]
}

/// Every fixture with the host and the user it is planned for.
fn each(mut with: impl FnMut(&str, &Plan)) {
    let usual = fixtures::ALL.iter().map(|(name, _)| (*name, "", Host::example()));
    for (name, suffix, host) in usual.chain(routes()) {
        let text = fixtures::ALL.iter().find(|(known, _)| *known == name).unwrap().1;
        let mut spec = parse_config(text.as_bytes()).unwrap();
        // What no cgroup v2 host can do is refused; that has its own test.
        if let Some(cpu) = spec.linux.as_deref_mut().and_then(|linux| linux.resources.as_mut()).and_then(|all| all.cpu.as_mut()) {
            (cpu.realtime_runtime, cpu.realtime_period) = (None, None);
        }
        if let Some(memory) =
            spec.linux.as_deref_mut().and_then(|linux| linux.resources.as_mut()).and_then(|all| all.memory.as_mut())
        {
            (memory.swappiness, memory.disable_oom_killer) = (None, None);
        }
        let mut host = Host { apparmor: true, selinux: true, ..host };
        match name {
            // Podman is root over a user namespace of its own by then; runc's example is for an ordinary user.
            "podman-rootless" => host.initial_user_namespace = false,
            "runc-spec-rootless" => host = Host { euid: 1000, egid: 1000, capabilities: Default::default(), ..host },
            _ => {}
        }
        let mut request = Request::create(Id::parse("example").unwrap(), "/bundle", "/run/berth");
        let terminal = spec.process.as_deref().is_some_and(|process| process.terminal);
        request.console_socket = terminal.then(|| "/console.sock".to_string());
        let systemd = spec.linux.as_deref().is_some_and(|linux| linux.cgroups_path.matches(':').count() == 2);
        request.cgroup_manager = if systemd { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
        let plan = create(&spec, &request, &host).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        with(&format!("{name}{suffix}"), &plan);
    }
}

#[test]
fn plans_of_the_fixtures_are_as_they_were() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut changed = Vec::new();
    each(|name, plan| {
        let file = Path::new(GOLDEN).join(format!("{name}.txt"));
        let shown = plan.to_string();
        if bless {
            fs::create_dir_all(GOLDEN).unwrap();
            fs::write(&file, &shown).unwrap();
        }
        let held = fs::read_to_string(&file).unwrap_or_default();
        if held != shown {
            let line = shown.lines().zip(held.lines().chain(std::iter::repeat(""))).find(|(now, then)| now != then);
            changed.push(format!("{name}: {line:?}"));
        }
    });
    assert!(changed.is_empty(), "plans changed (BLESS=1 takes them over):\n{}", changed.join("\n"));
}

#[test]
fn what_has_a_pid_namespace_of_its_own_leaves_nobody_to_the_runtime() {
    each(|name, plan| {
        let without_hooks =
            |create| Plan { hooks: Hooks::default(), spawn: Spawn { create, ..plan.spawn.clone() }, ..plan.clone() };
        let own = without_hooks(Namespaces::PID | Namespaces::MOUNT);
        assert!(!own.leaves_orphans() && without_hooks(Namespaces::MOUNT).leaves_orphans(), "{name}");
        let at = "hooks.poststop[0]".to_string();
        let hook = Hook { path: "/x".into(), args: vec![], env: None, timeout_s: None, output: HookOutput::default(), at };
        assert!(Plan { hooks: Hooks { poststop: vec![hook], ..Hooks::default() }, ..own }.leaves_orphans(), "{name}");
    });
}

/// The order that safety rests on holds in every plan.
#[test]
fn what_must_come_first_comes_first() {
    each(|name, plan| {
        assert_eq!(super::order::out_of_order(&plan.child), None, "{name}");
        let child = |found: &dyn Fn(&Op) -> bool| plan.child.iter().position(|step| found(&step.op));
        let last = |found: &dyn Fn(&Op) -> bool| plan.child.iter().rposition(|step| found(&step.op));
        let before = |first: Option<usize>, then: Option<usize>, what: &str| {
            if let (Some(first), Some(then)) = (first, then) {
                assert!(first < then, "{name}: {what}");
            }
        };
        let pivot = child(&|op| matches!(op, Op::Pivot { .. } | Op::MoveRoot));
        let enter = child(&|op| matches!(op, Op::EnterRoot { .. }));
        assert!(pivot.is_some() != enter.is_some(), "{name}: one change of root");
        before(enter, child(&|op| matches!(op, Op::Mount(_))), "what is mounted is mounted in the new root");
        let identity = child(&|op| matches!(op, Op::Identity(_)));
        assert!(identity.is_none() || child(&|op| matches!(op, Op::CloseDescriptors { .. })).is_some(), "{name}");
        before(last(&|op| matches!(op, Op::Mount(_))), pivot, "every mount comes before the change of root");
        before(pivot, child(&|op| matches!(op, Op::MaskPaths { .. })), "masks cover what the container will see");
        before(
            last(&|op| matches!(op, Op::MaskPaths { .. } | Op::ReadonlyPath { .. } | Op::Sysctl { .. })),
            identity,
            "root's work first",
        );
        before(
            child(&|op| matches!(op, Op::WorkingDirectory { .. })),
            identity,
            "the working directory is made while that is permitted",
        );
        before(
            child(&|op| matches!(op, Op::CloseDescriptors { .. })),
            child(&|op| *op == Op::Ready),
            "nothing is open when ready",
        );
        before(child(&|op| *op == Op::Ready), child(&|op| *op == Op::AwaitStart), "ready before start");
        assert_eq!(plan.child.last().map(|step| &step.op), Some(&Op::Exec), "{name}");
        if let Some(seccomp) = child(&|op| matches!(op, Op::Seccomp(_))) {
            assert_eq!(seccomp + 2, plan.child.len(), "{name}: the filter is loaded last");
        }
        let parent = |found: &dyn Fn(&ParentOp) -> bool| plan.parent.iter().position(|step| found(&step.op)).unwrap();
        assert_eq!(parent(&|op| *op == ParentOp::SaveCreating), 0, "{name}: the journal comes before everything");
        let (cgroup, clone) = (parent(&|op| *op == ParentOp::MakeCgroup), parent(&|op| *op == ParentOp::Clone));
        assert_eq!(plan.cgroup.unit.is_none(), cgroup < clone, "{name}: only systemd needs the process first");
        if plan.cgroup.unit.is_some() {
            assert!(cgroup < parent(&|op| *op == ParentOp::ReleaseChild), "{name}: nothing runs without its limits");
            assert_eq!(child(&|op| *op == Op::AwaitRuntime), Some(0), "{name}");
        }
        assert!(parent(&|op| *op == ParentOp::SaveCreated) < parent(&|op| *op == ParentOp::ReleaseReady), "{name}");
    });
}
