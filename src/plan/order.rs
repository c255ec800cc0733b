// SPDX-License-Identifier: Apache-2.0
//! The fixed order of what a container's process does between clone3(2) and execve(2), as one table, and the test that every plan keeps
//! it: those of the fixtures (`golden`), those of configurations that nobody has written (`property`), and those of exec.
//!
//! Safety rests on it (docs/security.md, rule 17): nothing is mounted after the change of root, nothing is written to /proc by root once
//! masks could hide what is written, nothing is done as root after the identity is taken on, nothing of the host is open when the process
//! says that it is ready, and the filter comes last.

use super::{Op, Step};

/// Where an operation stands. A new operation has to be given its place here before it compiles.
fn rank(op: &Op) -> u32 {
    match op {
        Op::AwaitRuntime => 0,
        Op::NewSession => 1,
        Op::BecomeNamespaceRoot => 2,
        Op::Join(_) => 3,
        Op::NewCgroupNamespace => 4,
        Op::NewTimeNamespace(_) => 5,
        Op::LoopbackUp => 6,
        Op::NewKeyring(_) => 7,
        // Before anything of the container could be mounted on /proc.
        Op::OpenProc => 8,
        Op::Propagation(_) => 9,
        Op::AttachRoot { .. } | Op::EnterRoot { .. } => 10,
        Op::Mount(_) | Op::Unmount(_) => 11,
        Op::Node(_) | Op::Link { .. } => 12,
        Op::Directory(_) => 13,
        // The notify socket's directory is the one mount that stands after the others.
        Op::AskForRuntimeHooks => 14,
        Op::CreateContainerHooks => 15,
        Op::Pivot { .. } | Op::MoveRoot => 16,
        Op::Console { .. } => 17,
        Op::Hostname(_) => 18,
        Op::Domainname(_) => 19,
        Op::Sysctl { .. } => 20,
        Op::ReadonlyPath { .. } => 21,
        Op::MaskPaths { .. } => 22,
        Op::ReadonlyMounts => 23,
        Op::ReadonlyRoot => 24,
        Op::RootPropagation(_) => 25,
        Op::Rlimit { .. } => 26,
        Op::Scheduler(_) | Op::IoPriority { .. } | Op::Affinity(_) => 27,
        Op::ApparmorProfile(_) | Op::SelinuxLabel(_) => 28,
        Op::Personality(_) | Op::MemoryPolicy { .. } => 29,
        Op::OwnStdio { .. } => 30,
        Op::Umask(_) => 31,
        // As user 0, and only with what the container itself can see.
        Op::WorkingDirectory { .. } => 32,
        Op::Identity(_) => 33,
        Op::FindProgram => 34,
        Op::NoNewPrivileges => 35,
        Op::CloseDescriptors { .. } => 36,
        Op::Ready => 37,
        Op::AwaitStart => 38,
        Op::StartContainerHooks => 39,
        Op::Seccomp(_) => 40,
        Op::Exec | Op::End => 41,
    }
}

/// The first two steps that stand the wrong way round. Of an exec the CPUs come first of all, because they are those of the cgroup that it
/// has just entered; and the bind of the notify socket stands behind the directories.
pub(super) fn out_of_order(steps: &[Step]) -> Option<String> {
    let counted = |step: &&Step| !matches!(step.op, Op::Affinity(_)) && !is_notify(&step.op);
    let ranked: Vec<(u32, &Op)> = steps.iter().filter(counted).map(|step| (rank(&step.op), &step.op)).collect();
    let wrong = ranked.windows(2).find(|pair| pair[0].0 > pair[1].0)?;
    Some(format!("{:?} stands before {:?}", wrong[0].1, wrong[1].1))
}

fn is_notify(op: &Op) -> bool {
    matches!(op, Op::Mount(mount) if mount.destination == "/run/notify")
}

#[test]
fn the_check_finds_what_stands_the_wrong_way_round() {
    let steps = |ops: Vec<Op>| ops.into_iter().map(|op| Step { op, at: String::new() }).collect::<Vec<_>>();
    assert_eq!(
        out_of_order(&steps(vec![Op::NewSession, Op::Pivot { shared: false }, Op::NoNewPrivileges, Op::Ready, Op::Exec])),
        None
    );
    assert!(out_of_order(&steps(vec![Op::NoNewPrivileges, Op::Pivot { shared: false }])).is_some());
    assert!(out_of_order(&steps(vec![Op::Ready, Op::CloseDescriptors { keep: 0 }])).is_some());
}

#[test]
fn execs_of_the_fixtures_keep_the_order() {
    use super::exec::{Entered, ExecRequest, exec};
    use crate::linux::types::Namespaces;
    use crate::spec::fixtures;
    for (name, _) in fixtures::ALL {
        let spec = fixtures::spec(name);
        let Some(process) = spec.process.clone() else { continue };
        let process = crate::spec::Process { terminal: false, ..*process };
        let entered =
            Entered { id: "x".into(), namespaces: Namespaces::PID | Namespaces::MOUNT, moved: true, ..Entered::default() };
        let host = super::Host { apparmor: true, selinux: true, ..super::Host::example() };
        let plan = exec(&spec, &process, &ExecRequest::default(), &entered, &host).unwrap();
        assert_eq!(out_of_order(&plan.child), None, "{name}");
    }
}
