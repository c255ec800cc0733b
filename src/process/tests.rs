// SPDX-License-Identifier: Apache-2.0
//! Both sides together: real processes, made by plans of a few steps, without a root filesystem of their own. They need root.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::exec;
use super::gate::{self, Passage};
use super::init::InitContext;
use super::sources::Sources;
use super::spawn::Spawned;
use crate::error::{Error, Kind};
use crate::hooks::{HookState, Output};
use crate::linux::clone::{self, CloneArgs, Cloned, clone3, exit_now};
use crate::linux::fd::tests::Scratch;
use crate::linux::fd::{self, OFlag};
use crate::linux::pid::{self, Exit};
use crate::linux::test_child::in_child;
use crate::linux::types::{CapSet, IdRange, Namespaces};
use crate::linux::{cred, signal};
use crate::plan::exec::ExecPlan;
use crate::plan::step::Identity;
use crate::plan::{self, Exec, Hook, HookOutput, Hooks, Host, Id, IdMap, Join, Op, Plan, Request, Shape, Spawn, Step};
use crate::spec::load::parse_config;

const SOON: Option<Duration> = Some(Duration::from_secs(20));

/// As [`in_child`], with root only.
fn as_root(test: impl FnOnce()) {
    match cred::ids().1 {
        0 => in_child(test),
        _ => eprintln!("skipped: needs root"),
    }
}

/// User 0 with all that this test has; in a new user namespace, with less than that has.
fn root_identity() -> Identity {
    let held = cred::capget().unwrap().permitted;
    Identity {
        uid: 0,
        gid: 0,
        groups: Some(vec![]),
        bounding: held,
        last_bounding: 63,
        effective: held,
        permitted: held,
        inheritable: CapSet(0),
        ambient: CapSet(0),
        keep_for_seccomp: CapSet(0),
    }
}

/// `sh -c SCRIPT` with the steps that every plan has, and `more` before them.
fn plan(script: &str, more: Vec<Op>) -> Plan {
    let mut ops = vec![Op::NewSession];
    ops.extend(more);
    ops.extend([
        Op::Identity(root_identity()),
        Op::WorkingDirectory { path: "/".into(), made: false },
        Op::FindProgram,
        Op::CloseDescriptors { keep: 0 },
        Op::Ready,
        Op::AwaitStart,
        Op::Exec,
    ]);
    let child = ops.into_iter().map(|op| Step { op, at: String::new() }).collect();
    let exec = Exec {
        args: ["sh", "-c", script].map(String::from).to_vec(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        home_for_uid: None,
        terminal: false,
        inherited_fds: 0,
    };
    let spawn =
        Spawn { create: Namespaces::empty(), shape: Shape::OneClone, id_map: None, id_map_programs: None, deny_setgroups: false };
    Plan { spawn, parent: vec![], child, hooks: Hooks::default(), exec, ..smallest() }
}

fn smallest() -> Plan {
    let config = br#"{"ociVersion":"1.3.0","root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"mount"}]}}"#;
    let request = Request::create(Id::parse("c").unwrap(), "/bundle", "/run/berth");
    plan::create(&parse_config(config).unwrap(), &request, &Host::example()).unwrap()
}

fn spawn(plan: &Plan, context: InitContext) -> Spawned<'static> {
    Spawned::clone(plan, context, &HookState { id: "c".into(), ..HookState::default() }, None).unwrap()
}

/// Brings a process to its program, and waits for that.
fn run(plan: &Plan) -> Exit {
    let mut spawned = spawn(plan, InitContext::default());
    spawned.await_ready(Sources::default()).unwrap();
    spawned.go_on().unwrap();
    spawned.await_exec().unwrap();
    pid::wait(spawned.pidfd()).unwrap()
}

/// What a process that does not become ready says.
fn failure(plan: &Plan) -> Error {
    spawn(plan, InitContext::default()).await_ready(Sources::default()).unwrap_err()
}

#[test]
fn a_program_runs_as_if_nothing_had_been_before() {
    as_root(|| {
        signal::ignore(libc::SIGUSR1).unwrap();
        signal::set_mask(signal::Set::of(&[libc::SIGTERM])).unwrap();
        let _leak = fd::dup_from(fd::open("/", OFlag::O_PATH).unwrap(), 50).unwrap();
        let script = r#"
            status() { sed -n "s/^$1:[[:space:]]*//p" /proc/$$/status; }
            [ "$(status SigIgn)$(status SigBlk)" = 00000000000000000000000000000000 ] || exit 1
            for fd in $(seq 3 80); do ! [ -e /proc/$$/fd/$fd ] || exit 2; done
            [ "$(cut -d' ' -f6 /proc/$$/stat)" = $$ ] || exit 3
            [ "$(tr '\0' ' ' </proc/$$/environ)" = "PATH=/usr/bin:/bin " ] || exit 4
            [ "$(readlink /proc/$$/cwd)" = / ] || exit 5
            grep -q '^Groups:[[:space:]]*$' /proc/$$/status || exit 6
            exit 42"#;
        assert_eq!(run(&plan(script, vec![])), Exit::Code(42));
        assert_eq!(run(&plan("kill -USR1 $$", vec![])), Exit::Signal(libc::SIGUSR1));
    });
}

#[test]
fn what_fails_is_told_with_its_step() {
    as_root(|| {
        let mut missing = plan("", vec![]);
        missing.exec.args = vec!["no-such-program".into()];
        missing.child[3].at = "process.args[0]".into();
        assert_eq!(
            failure(&missing).to_string(),
            "unable to start container process: error during container init: exec: \"no-such-program\": executable file not found \
             in $PATH (process.args[0]) [step 4 of 8 of the container's process]"
        );
        let error = failure(&plan("", vec![Op::Hostname("x".repeat(100))]));
        assert_eq!((error.step, error.errno), (Some((2, 9)), Some(nix::errno::Errno::EINVAL)));
        assert!(failure(&plan("", vec![Op::AskForRuntimeHooks])).to_string().contains("was its turn"));
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_explained() {
    as_root(|| {
        let scratch = Scratch::new();
        let script = scratch.path().join("script");
        std::fs::write(&script, "#!/no/interpreter\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut bad = plan("", vec![]);
        bad.exec.args = vec![script.display().to_string()];
        let mut spawned = spawn(&bad, InitContext::default());
        spawned.await_ready(Sources::default()).unwrap();
        spawned.go_on().unwrap();
        let text = spawned.await_exec().unwrap_err().to_string();
        let path = script.display();
        assert_eq!(
            text,
            format!(
                "unable to start container process: exec {path}: no such file or directory [step 8 of 8 of the container's process]; hint: its interpreter \
                 /no/interpreter is missing in the container; {path} itself was found"
            )
        );
    });
}

#[test]
fn a_created_process_waits_for_start_and_outlives_the_runtime() {
    as_root(|| {
        let scratch = Scratch::new();
        let directory = scratch.dir();
        let created = |plan: &Plan| -> OwnedFd {
            let context = InitContext { gate: Some(gate::make(&directory).unwrap()), ..InitContext::default() };
            let mut spawned = spawn(plan, context);
            spawned.await_ready(Sources::default()).unwrap();
            spawned.go_on().unwrap();
            let pidfd = pid::pidfd_open(spawned.pid()).unwrap();
            drop(spawned);
            assert!(!pid::wait_exited(&pidfd, Some(Duration::from_millis(50))).unwrap(), "it did not wait");
            pidfd
        };
        let process = created(&plan("exit 7", vec![]));
        assert_eq!(gate::release(&directory, gate::find(&directory).unwrap(), SOON).unwrap(), Passage::Executed);
        assert_eq!(pid::wait(&process).unwrap(), Exit::Code(7));
        gate::remove(&directory).unwrap();

        let mut bad = plan("", vec![]);
        bad.exec.args = vec!["/etc/passwd".into()];
        std::fs::write(scratch.path().join("empty"), "").unwrap();
        std::fs::set_permissions(scratch.path().join("empty"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bad.exec.args = vec![scratch.path().join("empty").display().to_string()];
        let process = created(&bad);
        let error = gate::release(&directory, gate::find(&directory).unwrap(), SOON).unwrap_err();
        assert!(error.to_string().contains("exec format error [step 8 of 8 of the container's process]; hint: "), "{error}");
        assert_eq!(pid::wait(&process).unwrap(), Exit::Code(1));
    });
}

#[test]
fn hooks_run_where_and_when_they_should() {
    as_root(|| {
        let scratch = Scratch::new();
        let hook = |name: &str, script: &str| Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(String::from).to_vec(),
            env: Some(vec![]),
            timeout_s: Some(20),
            output: HookOutput::default(),
            at: format!("hooks.{name}[0]"),
        };
        let out = scratch.path().display();
        let mut with = plan("exit 0", vec![Op::AskForRuntimeHooks, Op::CreateContainerHooks]);
        with.child.insert(8, Step { op: Op::StartContainerHooks, at: String::new() });
        with.hooks.create_container.push(hook("createContainer", &format!("cat >{out}/create")));
        with.hooks.start_container.push(hook("startContainer", &format!("cat >{out}/start")));
        let mut spawned = spawn(&with, InitContext::default());
        spawned.await_hooks(Sources::default()).unwrap();
        assert!(!scratch.path().join("create").exists());
        spawned.hooks_done().unwrap();
        spawned.await_ready(Sources::default()).unwrap();
        let seen = std::fs::read_to_string(scratch.path().join("create")).unwrap();
        assert!(seen.contains(r#""id":"c","status":"creating","pid":"#), "{seen}");
        assert!(!scratch.path().join("start").exists());
        spawned.go_on().unwrap();
        spawned.await_exec().unwrap();
        assert!(std::fs::read_to_string(scratch.path().join("start")).unwrap().contains(r#""status":"created""#));

        with.hooks.create_container.push(hook("createContainer", "echo why >&2; exit 3"));
        let mut spawned = spawn(&with, InitContext::default());
        spawned.await_hooks(Sources::default()).unwrap();
        spawned.hooks_done().unwrap();
        let error = spawned.await_ready(Sources::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error running createContainer hook #0: exit status 3, stdout: , stderr: why (hooks.createContainer[0]) [step 3 of 11 of the container's process]"
        );
    });
}

#[test]
fn new_namespaces_with_mapped_ids() {
    as_root(|| {
        let mut mapped = plan(
            "[ $$ = 1 ] && [ $(id -u) = 0 ] && [ $(hostname) = inside ] && grep -q '^ *0 *100000 *65536$' /proc/self/uid_map",
            vec![Op::AwaitRuntime, Op::BecomeNamespaceRoot, Op::Hostname("inside".into())],
        );
        mapped.spawn.create = Namespaces::USER | Namespaces::PID | Namespaces::UTS;
        let range = vec![IdRange { inside: 0, outside: 100_000, count: 65_536 }];
        mapped.spawn.id_map = Some(IdMap { uids: range.clone(), gids: range });
        let mut spawned = spawn(&mapped, InitContext::default());
        assert_eq!(spawned.proceed().unwrap_err().kind, Kind::Peer);
        spawned.write_id_maps(&mapped.spawn).unwrap();
        spawned.oom_score_adj(123).unwrap();
        spawned.proceed().unwrap();
        spawned.await_ready(Sources::default()).unwrap();
        let adjust = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", spawned.pid())).unwrap();
        assert_eq!(adjust, "123\n");
        spawned.go_on().unwrap();
        spawned.await_exec().unwrap();
        assert_eq!(pid::wait(spawned.pidfd()).unwrap(), Exit::Code(0));

        mapped.spawn.id_map.as_mut().unwrap().uids.push(IdRange { inside: 5, outside: 5, count: 1 });
        let error = spawn(&mapped, InitContext::default()).write_id_maps(&mapped.spawn).unwrap_err();
        assert_eq!((error.errno, error.config.as_deref()), (Some(nix::errno::Errno::EINVAL), Some("linux.uidMappings")));
    });
}

/// A process in new namespaces, which ends with this test.
fn pod(namespaces: Namespaces) -> (i32, OwnedFd) {
    let (ready, named) = fd::pipe().unwrap();
    match clone3(&CloneArgs { namespaces, ..CloneArgs::default() }).unwrap() {
        Cloned::Parent { pid, pidfd } => {
            drop(named);
            // The end of the pipe: the name is set.
            assert!(pid::wait_readable(&ready, Some(std::time::Duration::from_secs(10))).unwrap());
            (pid, pidfd)
        }
        Cloned::Child => {
            let _ = pid::set_parent_death_signal(libc::SIGKILL);
            cred::sethostname("pod").unwrap();
            drop(named);
            loop {
                pid::pause()
            }
        }
    }
}

#[test]
fn namespaces_are_joined_by_a_first_process_that_leaves_nothing_behind() {
    as_root(|| {
        pid::set_child_subreaper(true).unwrap();
        let (leader, pidfd) = pod(Namespaces::PID | Namespaces::UTS);
        let named =
            |kind: Namespaces| Join { kind, path: format!("/proc/{leader}/ns/{}", clone::namespace_file(kind)), at: "at".into() };
        let joins = vec![named(Namespaces::UTS), named(Namespaces::PID)];
        let open = |joins: &[Join]| joins.iter().map(|join| clone::open_namespace(&join.path).unwrap()).collect::<Vec<_>>();
        let context = InitContext { namespaces: open(&joins), ..InitContext::default() };
        let mut joined = plan("[ $$ != 1 ] && [ $$ -lt 10 ] && [ $(hostname) = pod ]; exit $?", vec![]);
        joined.spawn.create = Namespaces::IPC;
        joined.spawn.shape = Shape::TwoClones(joins.clone());
        let mut spawned = spawn(&joined, context);
        spawned.await_ready(Sources::default()).unwrap();
        let parent = crate::linux::proc::pid_stat(spawned.pid()).unwrap().unwrap().ppid;
        assert_eq!(parent, pid::getpid(), "a process was left in between");
        spawned.go_on().unwrap();
        spawned.await_exec().unwrap();
        assert_eq!(pid::wait(spawned.pidfd()).unwrap(), Exit::Code(0));

        let wrong = InitContext { namespaces: vec![fd::open("/dev/null", OFlag::O_RDONLY).unwrap()], ..InitContext::default() };
        joined.spawn.shape = Shape::TwoClones(vec![named(Namespaces::UTS)]);
        let error = Spawned::clone(&joined, wrong, &HookState::default(), None).unwrap_err();
        assert_eq!(error.config.as_deref(), Some("at"));
        pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
        pid::wait(&pidfd).unwrap();
        assert_eq!(pid::wait_any(false).unwrap_err().errno, nix::errno::Errno::ECHILD, "a child was left");
    });
}

#[test]
fn a_process_dies_with_the_runtime_until_it_is_ready() {
    as_root(|| {
        pid::set_child_subreaper(true).unwrap();
        let Cloned::Parent { pidfd, .. } = clone3(&CloneArgs::default()).unwrap() else {
            // A runtime that is killed before it lets its process go on.
            let spawned = spawn(&plan("exit 0", vec![Op::AwaitRuntime]), InitContext::default());
            let _ = pid::send_signal(pid::pidfd_open(pid::getpid()).unwrap(), libc::SIGKILL);
            drop(spawned);
            exit_now(0)
        };
        assert_eq!(pid::wait(&pidfd).unwrap(), Exit::Signal(libc::SIGKILL));
        let (_, exit) = pid::wait_any(true).unwrap().unwrap();
        assert!([Exit::Signal(libc::SIGKILL), Exit::Code(1)].contains(&exit), "{exit}");

        let Cloned::Parent { pidfd, .. } = clone3(&CloneArgs::default()).unwrap() else {
            // And one that is killed when its process is ready: nobody tells that to go on, ever.
            let mut spawned = spawn(&plan("exit 0", vec![]), InitContext::default());
            spawned.await_ready(Sources::default()).unwrap();
            let _ = pid::send_signal(pid::pidfd_open(pid::getpid()).unwrap(), libc::SIGKILL);
            drop(spawned);
            exit_now(0)
        };
        assert_eq!(pid::wait(&pidfd).unwrap(), Exit::Signal(libc::SIGKILL));
        assert_eq!(pid::wait_any(true).unwrap().map(|(_, exit)| exit), Some(Exit::Code(1)));
    });
}

#[test]
fn a_process_that_dies_is_noticed_and_one_that_is_dropped_dies() {
    as_root(|| {
        let mut spawned = spawn(&plan("exit 0", vec![Op::AwaitRuntime]), InitContext::default());
        pid::send_signal(spawned.pidfd(), libc::SIGKILL).unwrap();
        let error = spawned.await_ready(Sources::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("the container's process died before it was ready: killed by SIGKILL; hint: "),
            "{error}"
        );
        let spawned = spawn(&plan("exit 0", vec![Op::AwaitRuntime]), InitContext::default());
        let pid = spawned.pid();
        drop(spawned);
        assert_eq!(pid::wait_pid(pid).unwrap_err().errno, nix::errno::Errno::ECHILD);
    });
}

#[test]
fn descriptors_are_handed_over_and_must_be_the_callers() {
    as_root(|| {
        let null = fd::open("/dev/null", OFlag::O_RDONLY).unwrap();
        // As after an execve(2): the first three are the caller's, the next is our own.
        (3..6).for_each(|number| fd::dup_onto(&null, number).unwrap());
        std::mem::forget(null);
        // What other tests of this process have open.
        fd::close_range(6, false).unwrap();
        let own = fd::open("/dev/null", OFlag::O_RDONLY).unwrap();
        let own = std::os::fd::AsRawFd::as_raw_fd(&own);
        let inheriting = |count: u32| {
            let script = "for fd in 3 4 5; do [ -e /proc/$$/fd/$fd ] || exit 1; done; ! [ -e /proc/$$/fd/6 ]";
            let mut plan = plan(script, vec![]);
            plan.exec.inherited_fds = count;
            let closing = plan.child.iter_mut().find(|step| matches!(step.op, Op::CloseDescriptors { .. })).unwrap();
            closing.op = Op::CloseDescriptors { keep: count };
            plan
        };
        assert_eq!((run(&inheriting(3)), own), (Exit::Code(0), 6));
        let error = Spawned::clone(&inheriting(4), InitContext::default(), &HookState::default(), None).unwrap_err();
        assert!(error.to_string().starts_with("unable to stat preserved-fd 3 (of 4)"), "{error}");
        let hook = Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", "! [ -e /proc/$$/fd/4 ]"].map(String::from).to_vec(),
            env: None,
            timeout_s: None,
            output: HookOutput::default(),
            at: String::new(),
        };
        crate::hooks::run(&hook, b"", &Output::default()).unwrap();
    });
}

/// A plan to join a container in these namespaces.
fn joining(kinds: Namespaces, child: Vec<Step>, exec: Exec) -> ExecPlan {
    ExecPlan {
        watched: false,
        oom_score_adj: None,
        initial_cpus: None,
        moved: false,
        tells_ready: false,
        listener: None,
        enter_before_clone: Namespaces::PID,
        enter_after_clone: kinds - Namespaces::PID,
        child,
        exec,
        warnings: vec![],
    }
}

#[test]
fn one_more_process_joins_the_others() {
    as_root(|| {
        let kinds = Namespaces::PID | Namespaces::UTS | Namespaces::NET;
        let (_, leader) = pod(kinds);
        let from =
            plan("[ $$ != 1 ] && [ $$ -lt 10 ] && [ $(hostname) = pod ] && ! [ -e /sys/class/net/x ]; exit $((40 + $?))", vec![]);
        let child = from.child.into_iter().filter(|step| !matches!(step.op, Op::Ready | Op::AwaitStart)).collect();
        let mut more = joining(kinds, child, from.exec);
        let join = |plan: &ExecPlan| {
            exec::join(plan, leader.try_clone().unwrap(), InitContext::default(), &HookState::default(), None).unwrap()
        };
        let mut spawned = join(&more);
        spawned.await_exec().unwrap();
        assert_eq!(pid::wait(spawned.pidfd()).unwrap(), Exit::Code(40));
        more.exec.args = vec!["/no/such".into()];
        let error = join(&more).await_exec().unwrap_err();
        let text = "unable to start container process: exec: \"/no/such\": stat /no/such: no such file or directory";
        assert_eq!(error.what, text);
        pid::send_signal(&leader, libc::SIGKILL).unwrap();
    });
}

#[test]
fn one_more_process_becomes_a_user_of_the_user_namespace() {
    as_root(|| {
        let kinds = Namespaces::USER | Namespaces::PID | Namespaces::UTS | Namespaces::MOUNT;
        let (pid, leader) = pod(kinds);
        let range = vec![IdRange { inside: 0, outside: 200_000, count: 10 }];
        let mapped = Spawn { id_map: Some(IdMap { uids: range.clone(), gids: range }), ..plan("", vec![]).spawn };
        super::idmap::write(pid, &mapped).unwrap();
        let script =
            "[ $(id -u):$(id -g) = 5:6 ] && [ $$ -lt 10 ] && grep -q '^ *0 *200000 *10$' /proc/self/uid_map; exit $((40 + $?))";
        let from = plan(script, vec![]);
        let identity =
            Identity { uid: 5, gid: 6, bounding: CapSet(0), effective: CapSet(0), permitted: CapSet(0), ..root_identity() };
        let change = |step: Step| match step.op {
            Op::Identity(_) => Some(Step { op: Op::Identity(identity.clone()), ..step }),
            Op::Ready | Op::AwaitStart => None,
            _ => Some(step),
        };
        let more = joining(kinds, from.child.into_iter().filter_map(change).collect(), from.exec);
        let first = leader.try_clone().unwrap();
        let mut spawned = exec::join(&more, first, InitContext::default(), &HookState::default(), None).unwrap();
        spawned.await_exec().unwrap();
        assert_eq!(pid::wait(spawned.pidfd()).unwrap(), Exit::Code(40));
        pid::send_signal(&leader, libc::SIGKILL).unwrap();
    });
}
