// SPDX-License-Identifier: Apache-2.0
//! The caller's world, and the state directory: what must not get in, and what must not be readable.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use serde_json::json;

use crate::harness::bundle::{folder, state_root, wait_orphan};
use crate::harness::{Bundle, Call, Test, call, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(state_under_any_umask).differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(users_state_under_any_umask).differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(state_is_not_readable_from_inside),
    test!(callers_umask_groups_and_signals_are_not_the_programs)
        .differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(cve_2020_15257_abstract_sockets_of_the_host),
    test!(secrets_of_the_caller_are_not_seen),
    test!(environment_of_the_caller_is_not_seen_before_the_start)
        .differs(&[("runc", "shows the environment of its caller"), ("crun", "shows the environment of its caller")]),
];

/// A user that has no entry anywhere.
pub const USER: u32 = 54_321;

/// A call as that user, by a copy of the runtime that he can reach.
pub fn as_user(words: &[&str]) -> Call {
    let copy = folder().join("users-runtime");
    if !copy.exists() {
        fs::copy(call::runtime(), &copy).unwrap();
    }
    let run = folder().join("users-run");
    if !run.exists() {
        fs::create_dir(&run).unwrap();
        chown(&run, Some(USER), Some(USER)).unwrap();
    }
    let root = state_root();
    chown(&root, Some(USER), Some(USER)).unwrap();
    let copy = copy.to_str().unwrap();
    if !Call::program(&[copy, "--version"]).user(USER, USER).output().status.success() {
        skip(&format!("user {USER} cannot execute a copy of {}", call::runtime().display()));
    }
    let all = [&[copy, "--root", root.to_str().unwrap()], words].concat();
    Call::program(&all).user(USER, USER).env("XDG_RUNTIME_DIR", run.to_str().unwrap()).env("HOME", "/")
}

/// Modes of the state root that is made, of the container's directory, and of all that is in it.
#[track_caller]
fn assert_modes(root: &Path, id: &str) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(root), 0o700, "the state root");
    assert_eq!(mode(&root.join(id)), 0o711, "the container's directory");
    for entry in fs::read_dir(root.join(id)).unwrap().flatten() {
        let (path, mode) = (entry.path(), mode(&entry.path()));
        let name = entry.file_name();
        if name != "exec.fifo" && name != "notify" {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
}

fn state_under_any_umask() {
    let bundle = Bundle::new();
    bundle.save();
    let root = folder().join("made/root");
    for umask in ["0", "0777", "022", "077"] {
        let runtime = call::runtime();
        let words = ["--root", root.to_str().unwrap()];
        let bare = |rest: &[&str]| {
            let script = format!("umask {umask}; exec \"$@\"");
            Call::program(&[&["sh", "-c", &script, "sh", runtime.to_str().unwrap()], &words[..], rest].concat())
        };
        bundle.output_of(bare(&["create", "--bundle", bundle.path(), &bundle.id])).ok();
        assert_modes(&root, &bundle.id);
        bare(&["start", &bundle.id]).output().ok();
        bare(&["update", "--pids-limit", "0", &bundle.id]).output();
        assert_modes(&root, &bundle.id);
        bare(&["delete", "--force", &bundle.id]).output().ok();
        fs::remove_dir(&root).unwrap();
    }
}

/// An ordinary user whose umask takes all from him too can go on with his container.
fn users_state_under_any_umask() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.unset("/linux", "cgroupsPath");
    chown(&bundle.dir, Some(USER), Some(USER)).unwrap();
    for dir in ["", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp"] {
        chown(bundle.inside(dir), Some(USER), Some(USER)).unwrap();
    }
    bundle.user_namespace(&[(0, USER, 1)]);
    bundle.save();
    for umask in ["0777", "0", "0377"] {
        let script = format!("umask {umask}; exec \"$@\"");
        let call = |rest: &[&str]| {
            // The copy is made, and its place given over, by the first call.
            let _ = as_user(&["--version"]);
            let (copy, root, run) = (folder().join("users-runtime"), state_root(), folder().join("users-run"));
            let words = ["sh", "-c", &script, "sh", copy.to_str().unwrap(), "--root", root.to_str().unwrap()];
            Call::program(&[&words[..], rest].concat()).user(USER, USER).env("XDG_RUNTIME_DIR", run.to_str().unwrap())
        };
        bundle.output_of(call(&["create", "--bundle", bundle.path(), &bundle.id])).ok();
        call(&["start", &bundle.id]).output().ok();
        call(&["exec", &bundle.id, "/bin/true"]).output().ok();
        call(&["delete", "--force", &bundle.id]).output().ok();
    }
}

/// The state has the environment of the program in it, and paths of the host.
fn state_is_not_readable_from_inside() {
    let mut bundle = Bundle::sh("cat /state/*/state.json /state/*/journal; ls /state/*; exit 0");
    bundle.mount("/state", "bind", state_root().to_str().unwrap(), &["bind"]);
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.set("/process/env", json!(["PATH=/bin", "SECRET=of-this-container"]));
    let output = bundle.run();
    assert!(!output.stdout.contains("of-this-container") && !output.stdout.contains(bundle.path()), "{output:?}");
}

fn callers_umask_groups_and_signals_are_not_the_programs() {
    let bundle = Bundle::args(&["/bin/cat", "/proc/self/status"]);
    bundle.save();
    let prefix =
        ["setpriv", "--groups", "3,4,5", "sh", "-c", "umask 0147; trap '' USR1 PIPE TERM; ulimit -c 0; exec \"$@\"", "sh"];
    let check = |printed: &str, how: &str| {
        let field = |name| crate::harness::look::status_field(printed, name);
        assert_eq!(field("Umask"), "0022", "{how}");
        assert_eq!(field("Groups"), "", "{how}");
        for set in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
            assert_eq!(field(set), "0000000000000000", "{how}: {set}");
        }
    };
    let words = ["run", "--bundle", bundle.path(), bundle.id.as_str()];
    check(&Call::through(&prefix, &words).output().ok(), "run");
    let container = Bundle::args(&["/bin/sleep", "1000"]).run_detached();
    let words = ["exec", container.id.as_str(), "/bin/cat", "/proc/self/status"];
    check(&Call::through(&prefix, &words).output().ok(), "exec");
}

/// CVE-2020-15257: an abstract socket belongs to a network namespace. With one of its own the container reaches none of the host's, and
/// the runtime itself listens on none.
fn cve_2020_15257_abstract_sockets_of_the_host() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let address = SocketAddr::from_abstract_name(format!("berth-{}", std::process::id())).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let container = Bundle::sh("cat /proc/net/unix; echo end; exec sleep 1000").run_detached();
    let seen = container.wait_stdout("end\n");
    assert!(!seen.contains("@berth-"), "{seen}");
    let pid = container.pid().to_string();
    let own = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!own.lines().any(|line| line.contains('@') && line.contains(&container.id)), "{own}");
    assert_ne!(crate::harness::look::namespace(&pid, "net"), crate::harness::look::namespace("self", "net"));
}

/// Arguments and environment of the runtime are not what the container finds in the process that becomes its program.
fn secrets_of_the_caller_are_not_seen() {
    let mut bundle = Bundle::sh("cat /proc/1/environ /proc/1/cmdline | tr '\\0' '\\n'");
    bundle.set("/process/env", json!(["PATH=/bin"]));
    let output = bundle.run_call(&[]).env("SECRET", "of-the-caller").output().ok();
    assert!(!output.contains("of-the-caller") && !output.contains("--bundle"), "{output}");
}

/// Nor in the process that waits for its start, in a pid namespace of its own or in another container's; a hook without an environment
/// of its own gets the caller's all the same.
fn environment_of_the_caller_is_not_seen_before_the_start() {
    let secret = |call: Call| call.env("SECRET", "of-the-caller");
    let seen_by = |id: &str| Call::new(&["exec", id, "/bin/sh", "-c", "cat /proc/[0-9]*/environ; echo end"]).output().ok();
    let (hook, pod) = (folder().join("hook"), Bundle::new());
    for with_hook in [false, true] {
        let mut bundle = Bundle::new();
        if with_hook {
            let script = format!("echo \"$SECRET\" >{}", hook.display());
            bundle.set("/hooks/createContainer/-", json!({ "path": "/bin/sh", "args": ["sh", "-c", script] }));
        }
        let first = bundle.container();
        bundle.output_of(secret(bundle.create_call(&[]))).ok();
        let seen = seen_by(&first.id);
        assert!(seen.contains("PATH=/bin") && seen.ends_with("end\n") && !seen.contains("of-the-caller"), "{seen:?}");
        let environ = fs::read(format!("/proc/{}/environ", first.pid())).unwrap();
        assert!(environ.iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(&environ));
    }
    assert_eq!(fs::read_to_string(hook).unwrap(), "of-the-caller\n");
    let pod = pod.run_detached();
    let mut second = Bundle::new();
    second.namespace("pid", Some(&format!("/proc/{}/ns/pid", pod.pid())));
    let second_container = second.container();
    second.output_of(secret(second.create_call(&[]))).ok();
    let seen = seen_by(&pod.id);
    assert!(seen.contains("PATH=/bin") && !seen.contains("of-the-caller"), "{seen:?}");
    let orphan = second_container.pid();
    drop(second_container);
    wait_orphan(orphan);
}
