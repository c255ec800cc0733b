// SPDX-License-Identifier: Apache-2.0
//! What engines depend on beyond the specification, rule by rule: containerd, CRI-O, conmon, Podman, Docker, BuildKit call a runtime like
//! this. The number of the rule is in the name of its test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::harness::bundle::{end_orphan, folder, state_root, wait_orphan};
use crate::harness::look::{self, eventually};
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
    test!(r4_words_after_the_id_of_exec_and_ps).differs(&[("crun", "takes no options of ps")]),
    test!(r5_help_of_every_command).differs(&[("crun", "has no -h")]),
    test!(r6_exit_statuses).differs(&[("crun", "ends with 1 where exec itself fails")]),
    test!(r7_ignored_flags).differs(&[("crun", "has no --criu"), ("runc", "has no --criu any more")]),
    test!(r8_one_object_in_the_log).differs(&[("crun", "writes an object over several lines")]),
    test!(r8_records_of_many_commands_do_not_mix).differs(&[("crun", "writes an object over several lines")]),
    test!(r9_message_on_stderr_without_a_log),
    test!(r9_record_of_one_line_where_nobody_sits).differs(&[("crun", "writes the text alone")]),
    test!(r10_nothing_on_stderr_beside_json).differs(&[("crun", "has no events")]),
    test!(r11_nobody_holds_the_output),
    test!(r11_nor_that_of_exec),
    test!(r12_create_is_over_when_everything_is_there),
    test!(r13_missing_programs_are_errors_of_create),
    test!(r13_texts_of_missing_programs).differs(CRUN_WORDS),
    test!(r13_a_bad_format_fails_at_start_only),
    test!(r14_pid_file_is_a_number_and_nothing_else),
    test!(r14_pid_file_is_seen_from_the_caller).differs(&[("crun", "sees it from the bundle")]),
    test!(r15_first_process_is_left_to_the_subreaper),
    test!(r15_so_is_the_process_of_exec),
    test!(r16_death_of_the_caller),
    test!(r17_streams_belong_to_the_user).differs(&[("crun", "changes the group as well")]),
    test!(r18_terminal_misuse_in_runcs_words).differs(CRUN_WORDS),
    test!(r19_r20_console_socket),
    test!(r20_console_of_exec),
    test!(r22_pidfd_socket).differs(&[("crun", "has no --pidfd-socket"), ("runc", "older ones have no --pidfd-socket")]),
    test!(r23_empty_runtime_directory),
    test!(r25_descriptors_for_us_are_passed).differs(&[("crun", "does not tell the program how many")]),
    test!(r25_descriptors_for_another_process_are_not_passed).differs(&[("crun", "does not look at LISTEN_PID")]),
    test!(r26_home_and_duplicates_in_the_environment),
    test!(texts_that_engines_match).differs(CRUN_WORDS),
    test!(every_rule_names_its_tests),
    test!(state_root_behind_a_symbolic_link),
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

/// What follows is for the program, whatever it looks like.
fn r4_words_after_the_id_of_exec_and_ps() {
    let container = sleeper();
    let words = ["exec", &container.id, "echo", "--user", "7", "-t", "--", "--help"];
    assert_eq!(Call::new(&words).output().ok(), "--user 7 -t -- --help\n");
    // Flags right after the id are the program's and ps(1)'s: full format, and not --format.
    let output = Call::new(&["exec", &container.id, "-t", "true"]).output();
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.fails().contains("\"-t\": executable file not found"));
    let full = Call::new(&["ps", &container.id, "-f"]).output();
    // Not every machine tells ps(1) when it was started, which that format shows.
    match Call::program(&["ps", "-f"]).output().status.success() {
        true => assert!(full.ok().contains("PPID")),
        false => assert!(full.fails().contains("ps failed")),
    }
    let text = Call::new(&["ps", &container.id, "-o", "pid,args"]).output().ok();
    assert!(text.contains("sleep 1000"), "{text}");
}

fn r5_help_of_every_command() {
    for command in [
        "create", "run", "start", "state", "kill", "delete", "list", "exec", "update", "ps", "pause", "resume", "spec",
        "features",
    ] {
        for flag in ["--help", "-h"] {
            let output = Call::bare(&[command, flag]).output();
            assert_eq!(output.stderr, "", "{command}");
            assert!(output.ok().contains(command), "{command}");
        }
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

fn r8_records_of_many_commands_do_not_mix() {
    let log = folder().join("log");
    let (root, log_name) = (state_root(), log.to_str().unwrap().to_owned());
    let words = ["--root", root.to_str().unwrap(), "--log", &log_name, "--log-format", "json", "state", "unknown"];
    let running: Vec<_> = (0..12).map(|_| Call::bare(&words).spawn()).collect();
    running.into_iter().for_each(|call| drop(call.finish().fails()));
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 12);
    for line in text.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["level"], "error", "{line}");
    }
    fs::remove_file(&log).unwrap();
    let container = sleeper();
    Call::bare(&[&words[..6], &["state", &container.id]].concat()).output().ok();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "", "nothing that is no error");
}

/// A terminal gets plain words.
fn r9_record_of_one_line_where_nobody_sits() {
    let output = Call::new(&["state", "unknown"]).output();
    assert!(output.stderr.starts_with("time=\"2") && output.stderr.contains(" level=error msg=\"container does not exist"));
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
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

fn r11_nor_that_of_exec() {
    let container = sleeper();
    let console = Receiver::new("exec-console");
    let pid_file = folder().join("exec-pid");
    let flags = ["exec", "--detach", "--tty", "--pid-file", pid_file.to_str().unwrap(), "--console-socket", console.path()];
    Call::new(&[&flags[..], &[&container.id, "sleep", "1000"]].concat()).output().ok();
    let (_, _master) = console.receive();
    Call::new(&["exec", &container.id, "true"]).output().ok();
    container.call(&["update"]).output().ok();
    container.call(&["ps", "--format=json"]).output().ok();
    end_orphan(&pid_file);
    container.call(&["delete", "--force"]).output().ok();
}

/// Cloned, in its cgroup, in its namespaces, its console sent, its pid file written, hooks run, its program not yet executed.
fn r12_create_is_over_when_everything_is_there() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let seen = folder().join("seen-by-hooks");
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("echo ran >>{}", seen.display())] });
    for kind in ["prestart", "createRuntime", "createContainer"] {
        bundle.set(&format!("/hooks/{kind}"), json!([hook]));
    }
    bundle.set("/process/terminal", json!(true));
    let (console, pid_file) = (Receiver::new("r12-console"), folder().join("pid"));
    let container = bundle.container();
    let words = ["--console-socket", console.path(), "--pid-file", pid_file.to_str().unwrap()];
    bundle.create_call(&words).output().ok();
    let (_, _master) = console.receive();
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(fs::read_to_string(&seen).unwrap(), "ran\nran\nran\n");
    assert_eq!(look::cgroup(pid), format!("/{}", bundle.id));
    for name in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        assert_ne!(look::namespace(pid, name), look::namespace("self", name), "{name}");
    }
    assert!(fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap().contains(" /dev/shm "));
    assert_ne!(look::comm(nix::unistd::Pid::from_raw(pid)), "sleep");
    assert_eq!(container.status(), "created");
}

fn r13_texts_of_missing_programs() {
    let bundle = Bundle::new();
    fs::write(bundle.inside("/plain"), "x").unwrap();
    let container = sleeper();
    let cases = [
        ("nothing-here", "exec: \"nothing-here\": executable file not found in $PATH"),
        ("/nothing", "exec: \"/nothing\": stat /nothing: no such file or directory"),
        ("/bin", "exec: \"/bin\": is a directory"),
    ];
    for (program, text) in cases {
        let said = Bundle::args(&[program]).create_fails();
        assert!(said.contains(text) && said.contains("unable to start container process"), "{said}");
        let output = Call::new(&["exec", &container.id, program]).output();
        assert_eq!(output.code(), 255);
        let said = output.fails();
        assert!(said.contains(text), "{said}");
    }
    let mut denied = bundle;
    denied.set("/process/args", json!(["/plain"]));
    let said = denied.create_fails();
    assert!(said.contains("exec: \"/plain\": permission denied"), "{said}");
}

fn r13_a_bad_format_fails_at_start_only() {
    let mut bundle = Bundle::args(&["/bad"]);
    fs::write(bundle.inside("/bad"), "no program").unwrap();
    fs::set_permissions(bundle.inside("/bad"), PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/process/args", json!(["/bad"]));
    let container = bundle.create();
    let start = container.call(&["start"]).output();
    container.wait_status("stopped");
    let said = format!("{}{}", start.stderr, container.stderr()).to_lowercase();
    assert!(said.contains("exec format error"), "{said}");
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

/// Relative, from where the caller stands, not from the bundle; and there is none before.
fn r14_pid_file_is_seen_from_the_caller() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = bundle.container();
    bundle.output_of(bundle.create_call(&["--pid-file", "relative-pid"]).dir(&folder())).ok();
    assert_eq!(fs::read_to_string(folder().join("relative-pid")).unwrap(), container.pid().to_string());
    let pid_file = folder().join("exec-pid");
    let words = ["exec", "--pid-file", pid_file.to_str().unwrap(), &container.id, "sh", "-c", "echo begun; sleep 1000"];
    let mut exec = Call::new(&words).spawn();
    exec.wait_for("begun");
    eventually("the pid is written", || pid_file.exists());
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert!(look::alive(pid));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(exec.finish().code(), 137);
}

fn r15_so_is_the_process_of_exec() {
    let container = sleeper();
    let (pid_file, output) = (folder().join("exec-pid"), folder().join("exec-output"));
    let words = ["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), &container.id, "sh", "-c", "exit 6"];
    crate::harness::call::wait(&mut Call::new(&words).spawn_to(&output, &output));
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(wait_orphan(pid), nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(pid), 6));
}

/// Callers have the runtime die with them; the container must not.
fn r16_death_of_the_caller() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.save();
    let container = bundle.container();
    let prefix = ["setpriv", "--pdeathsig", "KILL"];
    bundle.output_of(Call::through(&prefix, &["create", "--bundle", bundle.path(), &bundle.id])).ok();
    container.start();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(look::alive(container.pid()) && container.status() == "running");
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

fn r20_console_of_exec() {
    let container = sleeper();
    let console = Receiver::new("exec-console");
    let pid_file = folder().join("exec-pid");
    let flags = ["exec", "--detach", "--tty", "--pid-file", pid_file.to_str().unwrap(), "--console-socket", console.path()];
    Call::new(&[&flags[..], &[&container.id, "sh", "-c", "tty; sleep 1000"]].concat()).output().ok();
    let (name, master) = console.receive();
    assert!((1..4096).contains(&name.len()));
    let mut text = [0; 64];
    let length = nix::unistd::read(&master, &mut text).unwrap();
    assert!(String::from_utf8_lossy(&text[..length]).starts_with("/dev/pts/"));
    end_orphan(&pid_file);
}

fn r22_pidfd_socket() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let socket = Receiver::new("pidfd");
    let container = bundle.create_with(&["--pidfd-socket", socket.path()]);
    let (name, fd) = socket.receive();
    assert_eq!(name, "standard");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
    assert_eq!(look::status_field(&info, "Pid"), container.pid().to_string());
    let (socket, pid_file) = (Receiver::new("exec-pidfd"), folder().join("exec-pid"));
    let words =
        ["exec", "-d", "--pidfd-socket", socket.path(), "--pid-file", pid_file.to_str().unwrap(), &container.id, "sleep", "1000"];
    let output = folder().join("exec-output");
    crate::harness::call::wait(&mut Call::new(&words).spawn_to(&output, &output));
    let (name, fd) = socket.receive();
    assert_eq!(name, "setns");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
    assert_eq!(look::status_field(&info, "Pid"), fs::read_to_string(&pid_file).unwrap());
    end_orphan(&pid_file);
}

fn r23_empty_runtime_directory() {
    let container = sleeper();
    container.call(&["state"]).no_env().env("XDG_RUNTIME_DIR", "").output().ok();
    container.call(&["pause"]).no_env().output().ok();
    container.call(&["resume"]).no_env().output().ok();
    container.call(&["delete", "--force"]).no_env().output().ok();
}

/// A shell that keeps its pid when it executes us is the service manager here.
fn r25_descriptors_for_us_are_passed() {
    let bundle = Bundle::sh("echo fds:$LISTEN_FDS pid:$LISTEN_PID; cat <&3");
    bundle.save();
    let file = folder().join("third");
    fs::write(&file, "third\n").unwrap();
    let script = format!("exec 3<{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", file.display());
    let output = bundle.run_through(&["sh", "-c", &script, "sh"], &[]).output();
    assert_eq!(output.ok(), "fds:1 pid:1\nthird\n");
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

/// docs/contract.md says which test shows which rule: every rule is there, and so is every test that it names.
fn every_rule_names_its_tests() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md")).unwrap();
    let all: Vec<String> = crate::GROUPS
        .iter()
        .chain(crate::checkpoint::GROUPS)
        .flat_map(|group| group.tests.iter().map(|test| format!("{}.{}", group.name, test.name())))
        .collect();
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').map(str::trim).collect()).collect();
    for rule in (1..=26).map(|number| format!("R{number}")) {
        let row = rows.iter().find(|row| row[1] == rule).unwrap_or_else(|| panic!("docs/contract.md has no row for {rule}"));
        assert!(row[3].contains('`'), "{rule} names no test");
    }
    let named = rows.iter().flat_map(|row| row[3].split('`').skip(1).step_by(2));
    let missing: Vec<&str> = named.filter(|name| !all.iter().any(|known| known == name)).collect();
    assert!(missing.is_empty(), "docs/contract.md names tests that there are not: {missing:?}");
}

// Docker's is in /var/run/docker, and /var/run is a link on every distribution.
fn state_root_behind_a_symbolic_link() {
    let place = folder();
    fs::create_dir(place.join("run")).unwrap();
    symlink("run", place.join("link")).unwrap();
    let root = place.join("link/engine/runtime");
    let root = root.to_str().unwrap();
    let bundle = Bundle::args(&["/bin/true"]);
    bundle.save();
    for _ in ["made by the first", "found by the second"] {
        bundle.output_of(Call::bare(&["--root", root, "create", "--bundle", bundle.path(), &bundle.id])).ok();
        assert!(place.join("run/engine/runtime").join(&bundle.id).is_dir());
        Call::bare(&["--root", root, "delete", "--force", &bundle.id]).output().ok();
    }
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
    assert_eq!(config["mounts"][0]["destination"], bundle.config["mounts"][0]["destination"]);
    assert_eq!(config["mounts"].as_array().unwrap().len(), bundle.config["mounts"].as_array().unwrap().len());
    assert_eq!(state["namespace_paths"]["NEWPID"], json!(format!("/proc/{}/ns/pid", container.pid())));
    let streams = [0, 1, 2].map(|number| fs::read_link(format!("/proc/{}/fd/{number}", container.pid())).unwrap());
    assert_eq!(state["external_descriptors"], json!(streams));
    container.start();
    assert!(!dir.join("exec.fifo").exists(), "it is there exactly while the container is created");
}
