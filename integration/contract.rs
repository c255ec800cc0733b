// SPDX-License-Identifier: Apache-2.0
//! What engines depend on beyond the specification, rule by rule: containerd, CRI-O, conmon, Podman, Docker, BuildKit call a runtime like
//! this. The number of the rule is in the name of its test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::harness::bundle::{folder, state_root, wait_orphan};
use crate::harness::look;
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Container, Test};
use crate::test;

/// crun has a grammar of its own.
const CRUN_GRAMMAR: &[(&str, &str)] = &[("crun", "has GNU's grammar, not Go's")];
/// Words of crun's own.
const CRUN_WORDS: &[(&str, &str)] = &[("crun", "says it in other words")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(r1_values_with_and_without_an_equals_sign),
    test!(r2_repeated_flags),
    test!(r3_single_dash_long_flags).differs(CRUN_GRAMMAR),
    test!(r4_flags_after_the_id).differs(CRUN_GRAMMAR),
    test!(r5_help_of_every_command),
    test!(r6_exit_statuses).differs(&[("crun", "ends with 1 where exec itself fails")]),
    test!(r7_ignored_flags).differs(&[("crun", "has no --criu"), ("runc", "has no --criu any more")]),
    test!(r8_one_object_in_the_log).differs(&[("crun", "writes an object over several lines")]),
    test!(r9_message_on_stderr_without_a_log),
    test!(r10_nothing_on_stderr_beside_json).differs(&[("crun", "has no events")]),
    test!(r11_nobody_holds_the_output),
    test!(r13_missing_programs_are_errors_of_create),
    test!(r14_pid_file_is_a_number_and_nothing_else),
    test!(r15_first_process_is_left_to_the_subreaper),
    test!(r17_streams_belong_to_the_user),
    test!(r18_terminal_misuse_in_runcs_words).differs(CRUN_WORDS),
    test!(r19_r20_console_socket),
    test!(r22_pidfd_socket).differs(&[("crun", "has no --pidfd-socket"), ("runc", "older ones have no --pidfd-socket")]),
    test!(r23_empty_runtime_directory),
    test!(r25_descriptors_for_another_process_are_not_passed).differs(&[("crun", "does not look at LISTEN_PID")]),
    test!(r26_home_and_duplicates_in_the_environment),
    test!(texts_that_engines_match).differs(CRUN_WORDS),
    test!(state_directory_as_tools_read_it).differs(&[("crun", "has status instead of state.json")]),
];

fn sleeper() -> Container {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    container.start();
    container
}

fn r1_values_with_and_without_an_equals_sign() {
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    let root = format!("--root={}", state_root().display());
    let words = [&root, "--log-format=json", "create", &format!("--bundle={}", bundle.path()), &bundle.id];
    bundle.output_of(Call::bare(&words)).ok();
    assert_eq!(container.status(), "created");
}

fn r2_repeated_flags() {
    let container = sleeper();
    let root = state_root();
    let root = root.to_str().unwrap();
    let words = ["--root", "/no/such", "--log-format", "text", "--root", root, "--log-format", "json", "state", &container.id];
    Call::bare(&words).output().ok();
    Call::new(&["delete", "--force", "--force", &container.id]).output().ok();
}

fn r3_single_dash_long_flags() {
    let container = sleeper();
    let root = state_root();
    Call::bare(&["-root", root.to_str().unwrap(), "delete", "-force", &container.id]).output().ok();
}

fn r4_flags_after_the_id() {
    let container = sleeper();
    Call::new(&["delete", &container.id, "--force"]).output().ok();
}

fn r5_help_of_every_command() {
    for command in ["create", "run", "start", "state", "kill", "delete", "list", "exec", "update", "ps", "pause", "resume"] {
        assert_ne!(Call::bare(&[command, "--help"]).output().ok(), "", "{command}");
    }
}

fn r6_exit_statuses() {
    assert_eq!(Call::new(&["state", "unknown"]).output().code(), 1);
    assert_eq!(Call::new(&["exec", "unknown", "true"]).output().code(), 255);
    assert_eq!(Bundle::sh("exit 9").run().code(), 9);
    assert_eq!(Bundle::args(&["/missing"]).run().code(), 1);
    let container = sleeper();
    assert_eq!(Call::new(&["exec", &container.id, "sh", "-c", "kill -KILL $$"]).output().code(), 137);
}

fn r7_ignored_flags() {
    let container = sleeper();
    let root = state_root();
    let words = ["--criu", "/x", "--rootless", "false", "--root", root.to_str().unwrap(), "kill", "--all", &container.id, "KILL"];
    Call::bare(&words).output().ok();
}

fn r8_one_object_in_the_log() {
    let log = folder().join("log");
    let root = state_root();
    let call = || {
        let words =
            ["--root", root.to_str().unwrap(), "--log", log.to_str().unwrap(), "--log-format", "json", "state", "unknown"];
        Call::bare(&words).output().fails()
    };
    assert!(call().contains("does not exist"));
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["level"], "error");
    assert!(record["msg"].as_str().unwrap().contains("does not exist"), "{record}");
    assert!(record["time"].as_str().unwrap().contains('T'), "{record}");
    call();
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2, "it is appended to");
}

fn r9_message_on_stderr_without_a_log() {
    let output = Call::new(&["state", "unknown"]).output();
    assert_eq!(output.stdout, "");
    assert_ne!(output.fails(), "");
}

fn r10_nothing_on_stderr_beside_json() {
    let container = sleeper();
    let id = container.id.as_str();
    let lists: [&[&str]; 6] =
        [&["features"], &["--version"], &["state", id], &["list"], &["ps", "--format", "json", id], &["events", "--stats", id]];
    for words in lists {
        let output = Call::new(words).output();
        assert_eq!(output.stderr, "", "{words:?}");
        output.ok();
    }
}

/// Every `Call::output` waits for the end of its pipes.
fn r11_nobody_holds_the_output() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/terminal", json!(true));
    let console = Receiver::new("console");
    let container = bundle.container();
    bundle.create_call(&["--console-socket", console.path()]).output().ok();
    let (_, _master) = console.receive();
    container.call(&["start"]).output().ok();
    container.call(&["pause"]).output().ok();
    container.call(&["resume"]).output().ok();
    container.kill("KILL");
}

fn r13_missing_programs_are_errors_of_create() {
    let said = Bundle::args(&["nothing-here"]).create_fails();
    assert!(said.contains("not found in"), "{said}");
    let said = Bundle::args(&["/nothing/here"]).create_fails();
    assert!(said.to_lowercase().contains("no such file or directory"), "{said}");
}

fn r14_pid_file_is_a_number_and_nothing_else() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let pid_file = folder().join("pid");
    let container = bundle.create_with(&["--pid-file", pid_file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), container.pid().to_string());
    let left: Vec<_> =
        fs::read_dir(folder()).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().contains("pid")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

fn r15_first_process_is_left_to_the_subreaper() {
    let container = sleeper();
    let pid = container.pid();
    assert_eq!(look::parent(pid), i32::try_from(std::process::id()).unwrap());
    container.kill("KILL");
    wait_orphan(pid);
}

fn r17_streams_belong_to_the_user() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let _container = bundle.create();
    let stdout = fs::metadata(bundle.stdout_file()).unwrap();
    assert_eq!((stdout.uid(), stdout.gid()), (1000, 0), "the group stays");
}

fn r18_terminal_misuse_in_runcs_words() {
    let mut bundle = Bundle::new();
    let said = bundle.output_of(bundle.create_call(&["--console-socket", "/not/there"])).fails();
    assert!(said.contains("cannot use console socket if runc will not detach or allocate tty"), "{said}");
    bundle.set("/process/terminal", json!(true));
    let said = bundle.output_of(bundle.create_call(&[])).fails();
    assert!(said.contains("cannot allocate tty if runc will detach without setting console socket"), "{said}");
}

fn r19_r20_console_socket() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/terminal", json!(true));
    let console = Receiver::new("a-console");
    let _container = bundle.create_with(&["--console-socket", console.path()]);
    let (name, _) = console.receive();
    assert!((1..4096).contains(&name.len()));
}

fn r22_pidfd_socket() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let socket = Receiver::new("pidfd");
    let container = bundle.create_with(&["--pidfd-socket", socket.path()]);
    let (name, fd) = socket.receive();
    assert_eq!(name, "standard");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
    assert_eq!(look::status_field(&info, "Pid"), container.pid().to_string());
}

fn r23_empty_runtime_directory() {
    let container = sleeper();
    container.call(&["state"]).no_env().env("XDG_RUNTIME_DIR", "").output().ok();
    container.call(&["pause"]).no_env().output().ok();
    container.call(&["resume"]).no_env().output().ok();
    container.call(&["delete", "--force"]).no_env().output().ok();
}

fn r25_descriptors_for_another_process_are_not_passed() {
    let bundle = Bundle::sh("echo fds:$LISTEN_FDS pid:$LISTEN_PID");
    let output = bundle.run_call(&[]).env("LISTEN_FDS", "1").env("LISTEN_PID", "1").output();
    assert_eq!(output.ok(), "fds: pid:\n");
}

fn r26_home_and_duplicates_in_the_environment() {
    let mut bundle = Bundle::sh("env");
    bundle.set("/process/env", json!(["PATH=/bin", "A=1", "A=2"])).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let said = bundle.print();
    assert!(said.contains("HOME=/home\n") && said.contains("A=2\n") && !said.contains("A=1\n"), "{said}");
    assert!(!said.contains("LIBCONTAINER"), "{said}");
}

fn texts_that_engines_match() {
    let container = sleeper();
    let id = container.id.as_str();
    let says = |words: &[&str], text: &str| {
        let said = Call::new(words).output().fails();
        assert!(said.contains(text), "{words:?}: {said}");
    };
    says(&["kill", "unknown"], "container does not exist");
    says(&["delete", id], "that is not stopped: running");
    says(&["start", id], "cannot start an already running container");
    says(&["resume", id], "container not paused");
    says(&["kill", id, "NOTHING"], "unknown signal");
    container.kill("KILL");
    container.wait_status("stopped");
    says(&["kill", id, "KILL"], "container not running");
    says(&["start", id], "cannot start a container that has stopped");
    says(&["exec", id, "true"], "cannot exec in a stopped container");
}

fn state_directory_as_tools_read_it() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/annotations", json!({ "org.example": "yes" }));
    let container = bundle.create();
    let dir = state_root().join(&container.id);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o711);
    assert!(dir.join("exec.fifo").exists());
    let state: Value = serde_json::from_slice(&fs::read(dir.join("state.json")).unwrap()).unwrap();
    assert_eq!(state["init_process_pid"], container.pid());
    assert!(state["init_process_start"].is_u64(), "{state}");
    assert_eq!(state["id"], json!(container.id));
    let config = &state["config"];
    assert_eq!(config["rootfs"], json!(bundle.inside("/").to_str().unwrap().trim_end_matches('/')));
    let labels = config["labels"].as_array().unwrap();
    assert!(
        labels.contains(&json!("org.example=yes")) && labels.contains(&json!(format!("bundle={}", bundle.path()))),
        "{config}"
    );
    assert_eq!(state["namespace_paths"]["NEWPID"], json!(format!("/proc/{}/ns/pid", container.pid())));
    container.start();
    assert!(!dir.join("exec.fifo").exists(), "it is there exactly while the container is created");
}
