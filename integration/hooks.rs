// SPDX-License-Identifier: Apache-2.0
//! Hooks: when, where and with what each kind runs, and what its failure does (config.md "POSIX-platform Hooks").

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::bundle::{folder, wait_orphan};
use crate::harness::look::{self, eventually, namespace};
use crate::harness::{Bundle, Container, Test};
use crate::test;

const POSTSTART_AT_CREATE: (&str, &str) = ("runc", "runs poststart hooks in create");

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(order).differs(&[POSTSTART_AT_CREATE, ("crun", "runs poststart hooks before the program has started")]),
    test!(order_in_run),
    test!(state_on_stdin)
        .differs(&[POSTSTART_AT_CREATE, ("crun", "calls the status `created` before there is anything to start")]),
    test!(hook_that_does_not_read_its_stdin).differs(&[("crun", "dies of SIGPIPE")]),
    test!(namespaces_of_the_runtime),
    test!(namespaces_of_the_container),
    test!(working_directories).differs(&[("crun", "runs createContainer hooks where the caller stands")]),
    test!(arguments),
    test!(environment_is_exactly_what_is_given),
    test!(environment_of_the_process_does_not_reach_hooks),
    test!(environment_of_the_caller_lasts_until_the_start)
        .differs(&[("runc", "has given up the caller's environment by then"), ("crun", "does not wait for the hook")]),
    test!(timeout_kills),
    test!(hook_in_time_is_not_killed),
    test!(failure_before_start_undoes_the_container),
    test!(failure_before_start_runs_poststop).differs(&[("crun", "runs no poststop hooks for a container that failed")]),
    test!(later_hooks_do_not_run_after_a_failure),
    test!(failure_names_the_hook),
    test!(failure_shows_what_the_hook_said)
        .differs(&[("runc", "shows all of it, however long"), ("crun", "leaves it to the hook's own streams")]),
    test!(state_has_the_root)
        .differs(&[("runc", "has no root in the state of hooks"), ("crun", "has it as the configuration writes it")]),
    test!(output_goes_to_the_files_of_annotations).differs(&[
        ("runc", "has no such annotations"),
        ("crun", "takes a relative path from where the caller of start or delete stands"),
    ]),
    test!(output_to_a_file_that_is_not_to_be_had)
        .differs(&[("runc", "has no such annotations"), ("crun", "waits for a reader of a FIFO, and says it in other words")]),
    test!(failure_of_start_container_stops_the_program),
    test!(failure_of_start_container_fails_start).differs(&[
        ("runc", "has returned from start before the hook runs"),
        ("crun", "has returned from start before the hook runs"),
    ]),
    test!(failure_of_poststart_stops_the_container),
    test!(failure_of_poststop_is_a_warning).differs(&[("runc", "fails to delete")]),
    test!(signals_before_the_program_are_kept_for_it)
        .differs(&[("runc", "passes on what comes later, and waits for the hook"), ("crun", "is killed by them")]),
    test!(interrupted_while_a_hook_runs).differs(&[("runc", "waits for the hook"), ("crun", "leaves the hook running")]),
    test!(missing_hook_is_an_error),
    test!(relative_path_is_an_error).differs(&[("runc", "accepts it"), ("crun", "accepts it")]),
];

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Where hooks write: for those that run in the container's root it is mounted at /log.
fn log() -> PathBuf {
    folder().join("log-of-hooks")
}

fn read(name: &str) -> String {
    fs::read_to_string(log().join(name)).unwrap_or_default()
}

/// Adds a hook that runs a script, in which `$log` is the folder where it may write and `$state` what it got on stdin.
fn hook(bundle: &mut Bundle, kind: &str, script: &str) {
    let place = if kind == "startContainer" { PathBuf::from("/log") } else { log() };
    let script = format!("log={}; state=$(cat); {script}", place.display());
    bundle.set(
        &format!("/hooks/{kind}/-"),
        json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }),
    );
}

fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    fs::create_dir_all(log()).unwrap();
    bundle.mount("/log", "bind", log().to_str().unwrap(), &["bind"]);
    bundle
}

/// A bundle in which every kind has two hooks that write their name in turn.
fn all_kinds() -> Bundle {
    let mut bundle = bundle("echo program >>/log/order; exec sleep 1000");
    for kind in KINDS {
        for number in [1, 2] {
            hook(&mut bundle, kind, &format!("echo {kind}{number} >>$log/order"));
        }
    }
    bundle
}

fn order() {
    let bundle = all_kinds();
    let container = bundle.create();
    let created = "prestart1\nprestart2\ncreateRuntime1\ncreateRuntime2\ncreateContainer1\ncreateContainer2\n";
    assert_eq!(read("order"), created, "in create");
    container.start();
    eventually("the program runs", || read("order").contains("program\n"));
    let started = read("order");
    let lines: Vec<&str> = started[created.len()..].lines().collect();
    let at = |line: &str| lines.iter().position(|l| *l == line).unwrap_or_else(|| panic!("no {line} in {lines:?}"));
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(at("startContainer1") < at("startContainer2") && at("startContainer2") < at("program"), "{lines:?}");
    assert!(at("startContainer2") < at("poststart1") && at("poststart1") < at("poststart2"), "{lines:?}");
    container.kill("KILL");
    container.wait_status("stopped");
    assert_eq!(read("order"), started, "nothing runs when it stops");
    container.delete();
    assert_eq!(read("order")[started.len()..], *"poststop1\npoststop2\n");
}

/// Ctrl-C, or a service manager that stops a foreground `run`: its program does not run yet and cannot heed the signal.
fn interrupted_while_a_hook_runs() {
    for kind in &KINDS[..5] {
        let mut bundle = bundle(if *kind == "poststart" { "exec sleep 1000" } else { "echo ran >>/log/ran" });
        fs::remove_file(log().join("begun")).unwrap_or_default();
        hook(&mut bundle, kind, "echo begun >$log/begun; sleep 1000");
        let run = bundle.run_call(&[]).spawn();
        eventually("the hook runs", || log().join("begun").exists());
        let start = Instant::now();
        run.signal(Signal::SIGINT);
        let output = run.finish();
        assert_eq!(output.code(), 1, "{kind}");
        assert!(output.stderr.contains("interrupted"), "{kind}: {}", output.stderr);
        assert!(start.elapsed() < Duration::from_secs(10), "{kind}");
        bundle.container().call(&["state"]).output().fails();
    }
    assert_eq!(read("ran"), "");
}

/// What asks for no end neither breaks the making off nor keeps what does from being heard; its program gets it.
fn signals_before_the_program_are_kept_for_it() {
    for end in [None, Some(Signal::SIGTERM)] {
        let mut bundle = bundle("exec sleep 1000");
        // The first process of a pid namespace would pass over what it does not handle.
        bundle.namespace("pid", Some(""));
        ["begun", "go"].iter().for_each(|name| fs::remove_file(log().join(name)).unwrap_or_default());
        hook(&mut bundle, "createContainer", "echo begun >$log/begun; until [ -e $log/go ]; do sleep 0.01; done");
        let run = bundle.run_call(&[]).spawn();
        eventually("the hook runs", || log().join("begun").exists());
        [Signal::SIGWINCH, Signal::SIGUSR1].into_iter().chain(end).for_each(|signal| run.signal(signal));
        if end.is_none() {
            fs::write(log().join("go"), "").unwrap();
        }
        let output = run.finish();
        match end {
            None => assert_eq!(output.code(), 128 + Signal::SIGUSR1 as i32, "{output:?}"),
            Some(_) => assert!(output.code() == 1 && output.stderr.contains("interrupted"), "{output:?}"),
        }
        bundle.container().call(&["state"]).output().fails();
    }
}

fn order_in_run() {
    let mut bundle = all_kinds();
    bundle.set("/process/args/2", json!("echo program >>/log/order"));
    bundle.print();
    let order = read("order");
    let without_poststart: Vec<&str> = order.lines().filter(|line| !line.starts_with("poststart")).collect();
    let expected = "prestart1 prestart2 createRuntime1 createRuntime2 createContainer1 createContainer2 startContainer1 \
        startContainer2 program poststop1 poststop2";
    assert_eq!(without_poststart.join(" "), expected);
}

fn state_on_stdin() {
    let mut bundle = bundle("exec sleep 1000");
    bundle.set("/annotations", json!({ "org.example.key": "value" }));
    KINDS.iter().for_each(|kind| hook(&mut bundle, kind, &format!("printf '%s' \"$state\" >$log/{kind}")));
    let container = bundle.create();
    let pid = container.pid();
    assert_eq!(read("poststart"), "");
    container.start();
    eventually("poststart has run", || !read("poststart").is_empty());
    container.kill("KILL");
    container.wait_status("stopped");
    container.delete();
    for (kind, status) in KINDS.iter().zip(["creating", "creating", "creating", "created", "running", "stopped"]) {
        let text = read(kind);
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{kind}: {error}: {text:?}"));
        assert_eq!(state["status"], status, "{kind}: {state}");
        assert_eq!(state["id"], json!(bundle.id), "{kind}");
        assert_eq!(state["bundle"], json!(bundle.path()), "{kind}");
        assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}: {state}");
        match *kind {
            "prestart" | "createRuntime" | "poststart" => assert_eq!(state["pid"], json!(pid), "{kind}"),
            "poststop" => assert!(state["pid"].as_i64().unwrap_or(0) == 0, "{kind}: {state}"),
            _ => {}
        }
    }
}

/// The state is larger than a pipe holds.
fn hook_that_does_not_read_its_stdin() {
    let mut bundle = bundle("echo ran");
    bundle.set("/annotations", json!({ "large": "x".repeat(200_000) }));
    KINDS.iter().for_each(|kind| {
        bundle.set(&format!("/hooks/{kind}/-"), json!({ "path": "/bin/true" }));
    });
    assert_eq!(bundle.print(), "ran\n");
}

/// Of every kind, inside and outside, of root and of a user namespace in which nobody could open them; they are appended to.
fn output_goes_to_the_files_of_annotations() {
    // Not the bundle: a file that is looked for from here is not found, and goes with the test.
    std::env::set_current_dir(folder()).unwrap();
    for ids in [None, Some(100_000)] {
        let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
        if let Some(first) = ids {
            bundle.user_namespace(&[(0, first, 1000)]);
        }
        fs::create_dir_all(log()).unwrap();
        fs::set_permissions(log(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        fs::write(log().join("out"), "before\n").unwrap();
        bundle.set("/annotations", json!({ "run.oci.hooks.stdout": log().join("out"), "run.oci.hooks.stderr": "err" }));
        for kind in KINDS {
            let args = json!(["sh", "-c", format!("echo {kind}; echo bad {kind} >&2")]);
            bundle.set(&format!("/hooks/{kind}/-"), json!({ "path": "/bin/sh", "args": args }));
        }
        let container = bundle.create();
        container.start();
        // Nothing of them is left open in the program.
        let open = fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap().flatten();
        let open: Vec<_> =
            open.filter_map(|entry| fs::read_link(entry.path()).ok()).filter(|path| path.starts_with(log())).collect();
        assert!(open.is_empty(), "{open:?}");
        container.kill("KILL");
        container.wait_status("stopped");
        container.delete();
        let lines = |before: &str| KINDS.iter().map(|kind| format!("{before}{kind}\n")).collect::<String>();
        assert_eq!(read("out"), format!("before\n{}", lines("")));
        let errors = std::path::Path::new(bundle.path()).join("err");
        assert_eq!(fs::read_to_string(&errors).unwrap(), lines("bad "));
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(errors).unwrap().permissions()) & 0o777, 0o700);
        fs::remove_dir_all(log()).unwrap();
    }
}

/// Told by create, which leaves nothing; when the file has gone later, what cleans up runs all the same.
fn output_to_a_file_that_is_not_to_be_had() {
    let mut bundle = bundle("exec sleep 1000");
    nix::unistd::mkfifo(log().join("fifo").as_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    hook(&mut bundle, "poststop", "echo ran >>$log/ran");
    for (path, word) in [("none/there", "no such file"), ("", "is empty"), (".", "is a directory"), ("fifo", "nobody reads")] {
        let path = if path.is_empty() { String::new() } else { log().join(path).to_str().unwrap().to_owned() };
        bundle.set("/annotations", json!({ "run.oci.hooks.stderr": path }));
        let said = bundle.create_call(&[]).output().fails();
        assert!(said.contains("run.oci.hooks.stderr") && said.contains(word), "{path}: {said}");
        bundle.container().call(&["state"]).output().fails();
    }
    fs::remove_file(log().join("ran")).unwrap_or_default();
    fs::create_dir(log().join("later")).unwrap();
    bundle.set("/annotations", json!({ "run.oci.hooks.stderr": log().join("later/file") }));
    let container = bundle.create();
    container.start();
    fs::remove_dir_all(log().join("later")).unwrap();
    container.kill("KILL");
    container.wait_status("stopped");
    let output = container.call(&["delete"]).output();
    assert!(output.stderr.contains("later/file") && output.code() == 0, "{output:?}");
    assert_eq!(read("ran"), "ran\n");
}

/// A hook that writes what /proc/self says of its mount, network and pid namespaces.
const WRITE_NAMESPACES: &str = "for n in mnt net pid; do readlink /proc/self/ns/$n; done >$log/";

fn namespaces_of_the_runtime() {
    let own: String = ["mnt", "net", "pid"].iter().map(|name| namespace("self", name) + "\n").collect();
    let mut bundle = bundle("true");
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    kinds.iter().for_each(|kind| hook(&mut bundle, kind, &format!("{WRITE_NAMESPACES}{kind}")));
    bundle.print();
    kinds.iter().for_each(|kind| assert_eq!(read(kind), own, "{kind}"));
}

fn namespaces_of_the_container() {
    let mut bundle = bundle("exec sleep 1000");
    let kinds = ["createContainer", "startContainer"];
    kinds.iter().for_each(|kind| hook(&mut bundle, kind, &format!("{WRITE_NAMESPACES}{kind}")));
    let container = bundle.create();
    let inside: String = ["mnt", "net", "pid"].iter().map(|name| namespace(container.pid(), name) + "\n").collect();
    assert_eq!(read("createContainer"), inside);
    container.start();
    eventually("startContainer has run", || read("startContainer") == inside);
}

/// createRuntime: the bundle. createContainer: the rootfs, with the mounts made, before the root is changed.
/// startContainer: the new root.
fn working_directories() {
    let mut bundle = bundle("true");
    hook(&mut bundle, "createRuntime", "pwd >$log/createRuntime");
    hook(&mut bundle, "createContainer", "pwd >$log/createContainer; ls -d proc/self dev/null >>$log/createContainer");
    hook(&mut bundle, "startContainer", "pwd >$log/startContainer; ls / >>$log/startContainer");
    bundle.print();
    assert_eq!(read("createRuntime"), format!("{}\n", bundle.path()));
    assert_eq!(read("createContainer"), format!("{}/rootfs\ndev/null\nproc/self\n", bundle.path()));
    assert!(read("startContainer").starts_with("/\nbin\n"), "{}", read("startContainer"));
}

fn arguments() {
    let mut bundle = bundle("true");
    let script = log().join("script");
    fs::write(&script, format!("#!/bin/sh\nprintf '%s|' \"$@\" >{}/arguments\n", log().display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let args = json!(["zero", "", "two words", "$HOME", "--flag"]);
    bundle.set("/hooks/createRuntime/-", json!({ "path": script, "args": args }));
    bundle.print();
    assert_eq!(read("arguments"), "|two words|$HOME|--flag|");
}

/// A bundle whose hooks of all kinds write the environment that they got.
fn environments() -> Bundle {
    let mut bundle = bundle("true");
    for kind in KINDS {
        let place = if kind == "startContainer" { PathBuf::from("/log") } else { log() };
        let args = json!(["dd", "if=/proc/self/environ", format!("of={}/{kind}", place.display())]);
        bundle.set(&format!("/hooks/{kind}/-"), json!({ "path": "/bin/dd", "args": args, "env": ["ONE=1", "PATH=", "A=b=c"] }));
    }
    bundle
}

fn environment_is_exactly_what_is_given() {
    environments().run_call(&[]).env("OF_THE_CALLER", "1").output().ok();
    KINDS.iter().for_each(|kind| assert_eq!(read(kind), "ONE=1\0PATH=\0A=b=c\0", "{kind}"));
}

/// Otherwise the image could have LD_PRELOAD obeyed outside. (A startContainer hook is a program of the image.)
fn environment_of_the_process_does_not_reach_hooks() {
    let mut bundle = environments();
    bundle.set("/process/env", json!(["PATH=/bin", "LD_PRELOAD=/evil.so"]));
    KINDS.iter().for_each(|kind| {
        bundle.unset(&format!("/hooks/{kind}/0"), "env");
    });
    bundle.print();
    for kind in KINDS.iter().filter(|kind| **kind != "startContainer") {
        assert!(log().join(kind).exists() && !read(kind).contains("LD_PRELOAD"), "{kind}: {}", read(kind));
    }
}

/// That of whoever created it; the process may wait for long in between.
fn environment_of_the_caller_lasts_until_the_start() {
    let mut bundle = bundle("true");
    let args = json!(["sh", "-c", "echo \"$OF_THE_CALLER $0 $1\" >/log/startContainer", "zero", "one"]);
    bundle.set("/hooks/startContainer/-", json!({ "path": "/bin/sh", "args": args }));
    let container = bundle.container();
    bundle.output_of(bundle.create_call(&[]).env("OF_THE_CALLER", "hers")).ok();
    container.start();
    assert_eq!(read("startContainer"), "hers zero one\n");
}

fn timeout_kills() {
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = bundle("true");
        hook(&mut bundle, kind, &format!("echo $$ >$log/{kind}; exec sleep 1000"));
        bundle.set(&format!("/hooks/{kind}/0/timeout"), json!(1));
        let started = Instant::now();
        bundle.create_fails();
        assert!(started.elapsed() < Duration::from_secs(5), "{kind}: took {:?}", started.elapsed());
        assert_ne!(read(kind), "", "{kind} ran");
    }
}

fn hook_in_time_is_not_killed() {
    let mut bundle = bundle("true");
    hook(&mut bundle, "createRuntime", "sleep 0.1; echo done >$log/hook");
    bundle.set("/hooks/createRuntime/0/timeout", json!(10));
    bundle.print();
    assert_eq!(read("hook"), "done\n");
}

const BEFORE_START: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

fn failure_before_start_undoes_the_container() {
    for kind in BEFORE_START {
        let mut bundle = bundle("echo ran");
        hook(&mut bundle, kind, "exit 3");
        bundle.create_fails();
        bundle.container().call(&["state"]).output().fails();
        assert!(look::cgroups_named(&bundle.id).is_empty(), "{kind}");
        let output = bundle.run();
        assert_eq!(output.stdout, "", "{kind}");
        output.fails();
    }
}

fn failure_before_start_runs_poststop() {
    for kind in BEFORE_START {
        let mut bundle = bundle("true");
        hook(&mut bundle, kind, "exit 3");
        hook(&mut bundle, "poststop", &format!("echo poststop >$log/{kind}"));
        bundle.create_fails();
        assert_eq!(read(kind), "poststop\n", "after a failed {kind}");
    }
}

fn later_hooks_do_not_run_after_a_failure() {
    let mut bundle = bundle("true");
    hook(&mut bundle, "createRuntime", "exit 3");
    hook(&mut bundle, "createRuntime", "touch $log/second");
    hook(&mut bundle, "createContainer", "touch $log/later");
    bundle.create_fails();
    assert!(!log().join("second").exists() && !log().join("later").exists());
}

fn failure_names_the_hook() {
    let mut bundle = bundle("true");
    let script = log().join("my-own-hook");
    fs::write(&script, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/hooks/createRuntime/-", json!({ "path": script }));
    let message = bundle.create_fails();
    assert!(message.contains("my-own-hook") || message.contains("createRuntime") || message.contains("hook #0"), "{message}");
    assert!(message.contains('3'), "its exit status: {message}");
}

/// The end of both streams, whichever kind it is and wherever it runs.
fn failure_shows_what_the_hook_said() {
    for kind in BEFORE_START {
        let mut bundle = bundle("true");
        hook(&mut bundle, kind, "seq 1 5000; echo told on stdout; echo told on stderr >&2; exit 3");
        let message = bundle.create_fails();
        assert!(message.contains("told on stdout") && message.contains("told on stderr"), "{kind}: {message}");
        assert!(message.len() < 20_000, "{kind}: the end of it, not all: {} bytes", message.len());
    }
    let mut bundle = bundle("true");
    hook(&mut bundle, "startContainer", "echo told on stderr >&2; exit 3");
    let container = bundle.create();
    let message = container.call(&["start"]).output().fails();
    assert!(message.contains("told on stderr"), "{message}");
}

/// Not in the specification: NVIDIA's hook and others look for it.
fn state_has_the_root() {
    let mut bundle = bundle("exec sleep 1000");
    KINDS.iter().for_each(|kind| hook(&mut bundle, kind, &format!("printf '%s' \"$state\" >$log/{kind}")));
    let container = bundle.create();
    container.start();
    eventually("poststart has run", || !read("poststart").is_empty());
    container.kill("KILL");
    container.wait_status("stopped");
    container.delete();
    for kind in KINDS {
        let state: Value = serde_json::from_str(&read(kind)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(state["root"], json!(bundle.inside("/").to_str().unwrap().trim_end_matches('/')), "{kind}: {state}");
    }
}

fn failure_of_start_container_stops_the_program() {
    let mut bundle = bundle("touch /log/ran");
    hook(&mut bundle, "startContainer", "exit 3");
    let container = bundle.create();
    let pid = container.pid();
    container.call(&["start"]).output();
    wait_orphan(pid);
    assert_stopped_or_gone(&container);
    assert!(!log().join("ran").exists());
}

fn failure_of_start_container_fails_start() {
    let mut bundle = bundle("true");
    hook(&mut bundle, "startContainer", "exit 3");
    let container = bundle.create();
    container.call(&["start"]).output().fails();
}

/// "the runtime MUST generate an error, stop the container" (runtime.md, lifecycle step 9).
fn failure_of_poststart_stops_the_container() {
    let mut bundle = bundle("exec sleep 1000");
    hook(&mut bundle, "poststart", "exit 3");
    let container = bundle.container();
    bundle.output_of(bundle.run_call(&["--detach"])).fails();
    assert_stopped_or_gone(&container);
}

/// After a failed hook "the lifecycle continues at step 12": the container may have been destroyed already.
#[track_caller]
fn assert_stopped_or_gone(container: &Container) {
    let state = container.call(&["state"]).output();
    assert!(!state.status.success() || state.stdout.contains("\"stopped\""), "{state:?}");
}

fn failure_of_poststop_is_a_warning() {
    let mut bundle = bundle("true");
    hook(&mut bundle, "poststop", "exit 3");
    hook(&mut bundle, "poststop", "echo second >$log/second");
    bundle.create().delete();
    assert_eq!(read("second"), "second\n");
}

fn missing_hook_is_an_error() {
    let mut bundle = bundle("true");
    bundle.set("/hooks/createRuntime/-", json!({ "path": "/not/there" }));
    let message = bundle.create_fails();
    assert!(message.contains("/not/there"), "{message}");
}

fn relative_path_is_an_error() {
    let mut bundle = bundle("true");
    fs::copy("/bin/true", bundle.dir.join("hook")).unwrap();
    bundle.set("/hooks/createRuntime/-", json!({ "path": "./hook" }));
    bundle.create_fails();
}
