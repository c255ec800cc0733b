// SPDX-License-Identifier: Apache-2.0
//! What is wrong is refused: with a message that names it, with an exit status, with one record in the log, and with
//! nothing left behind (which the test's warden looks for after each).

use std::fs;

use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id};
use crate::harness::{Bundle, Call, Test};
use crate::lifecycle::is_rfc3339;
use crate::test;

const CRUN_TEXTS: (&str, &str) = ("crun", "has its own words");
const CRUN_LEAVES_CGROUP: (&str, &str) = ("crun", "leaves its cgroup when it fails");

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(bad_ids),
    test!(good_ids),
    test!(missing_bundle),
    test!(bad_config_files),
    test!(config_that_is_no_regular_file)
        .differs(&[("runc", "waits for ever for a writer of a FIFO"), ("crun", "waits for ever for a writer of a FIFO")]),
    test!(missing_rootfs),
    test!(wrong_types_are_named).differs(&[("crun", "takes a number for a string, and other wrong types")]),
    test!(required_members).differs(&[("crun", "creates a container without arguments")]),
    test!(contradictions).differs(&[("crun", "accepts a relative working directory")]),
    test!(contradictory_namespaces).differs(&[CRUN_LEAVES_CGROUP]),
    test!(mappings_without_a_user_namespace).differs(&[("runc", "ignores them"), ("crun", "ignores them")]),
    test!(namespace_paths_that_are_none).differs(&[CRUN_LEAVES_CGROUP]),
    test!(program_not_found),
    test!(program_that_cannot_be_executed),
    test!(program_with_a_bad_format_fails_at_start),
    test!(texts_of_a_program_not_found).differs(&[CRUN_TEXTS]),
    test!(texts_of_states).differs(&[CRUN_TEXTS]),
    test!(texts_of_terminals).differs(&[CRUN_TEXTS]),
    test!(failed_mount_is_named).differs(&[CRUN_LEAVES_CGROUP]),
    test!(failed_sysctl_is_named),
    test!(plain_message_on_stderr),
    test!(log_file_as_json),
    test!(log_file_as_text),
    test!(log_file_is_appended_to),
    test!(log_that_cannot_be_written_is_told)
        .differs(&[("runc", "fails before it does anything"), ("crun", "fails before it does anything")]),
    test!(success_is_silent),
    test!(root_that_cannot_be_written),
];

/// `create` must fail; the message must contain `text`.
#[track_caller]
fn refused(what: &str, text: &str, edit: impl FnOnce(&mut Bundle)) {
    let mut bundle = Bundle::new();
    edit(&mut bundle);
    let output = bundle.output_of(bundle.create_call(&[]));
    assert!(output.code() != 0, "{what}: accepted");
    assert!(output.stderr.to_lowercase().contains(&text.to_lowercase()), "{what}: the message lacks {text:?}: {}", output.stderr);
    assert!(output.stderr.trim().len() > 10, "{what}: no message to speak of: {:?}", output.stderr);
}

fn bad_ids() {
    let mut bundle = Bundle::new();
    for id in ["", ".", "..", "a/b", "../a", "/a", "a b", "a\nb", "ü", "a:b", "a*", &"x".repeat(5000)] {
        bundle.id = id.to_owned();
        let output = bundle.output_of(bundle.create_call(&[]));
        assert!(output.code() != 0, "the id {id:?} was accepted");
    }
}

fn good_ids() {
    let mut bundle = Bundle::new();
    let id = new_id();
    for suffix in ["A.b", "_under", "+plus", "-9"] {
        bundle.id = format!("{id}{suffix}");
        assert_eq!(bundle.create().status(), "created");
    }
}

fn missing_bundle() {
    let missing = folder().join("missing");
    let message = Call::new(&["create", "--bundle", missing.to_str().unwrap(), &new_id()]).output().fails();
    assert!(message.contains("missing"), "{message}");
    let empty = folder().join("empty");
    fs::create_dir(&empty).unwrap();
    let message = Call::new(&["create", "--bundle", empty.to_str().unwrap(), &new_id()]).output().fails();
    assert!(message.contains("config.json"), "{message}");
}

/// Replaces config.json by a text and tries to create the container.
#[track_caller]
fn create_with_config(text: &[u8]) -> String {
    let bundle = Bundle::new();
    let call = bundle.create_call(&[]);
    fs::write(bundle.dir.join("config.json"), text).unwrap();
    bundle.output_of(call).fails()
}

fn bad_config_files() {
    for text in ["", " ", "{", "[]", "null", "\"text\"", "{\"ociVersion\": \"1.0.2\"", "{\"ociVersion\" \"1.0.2\"}", "\0", "{}"] {
        create_with_config(text.as_bytes());
    }
    create_with_config(b"{\"ociVersion\": \"\xff\xfe\"}");
    create_with_config("[".repeat(100_000).as_bytes());
}

fn config_that_is_no_regular_file() {
    let bundle = Bundle::new();
    let call = bundle.create_call(&[]);
    let path = bundle.dir.join("config.json");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    bundle.output_of(call).fails();
    let call = Call::new(&["create", "--bundle", bundle.path(), &bundle.id]);
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle.output_of(call).fails();
}

fn missing_rootfs() {
    refused("a root that is missing", "missing", |bundle| {
        bundle.set("/root/path", json!("missing"));
    });
    refused("a root that is a file", "", |bundle| {
        fs::write(bundle.dir.join("file"), "").unwrap();
        bundle.set("/root/path", json!("file"));
    });
    refused("no root", "root", |bundle| {
        bundle.unset("", "root");
    });
}

/// Each of these members of config.json gets a value of a wrong type; the message must name the member.
fn wrong_types_are_named() {
    for (pointer, value) in [
        ("/ociVersion", json!(1)),
        ("/process/args", json!("sh")),
        ("/process/args/0", json!(7)),
        ("/process/env", json!({ "PATH": "/bin" })),
        ("/process/cwd", json!(["/"])),
        ("/process/terminal", json!("yes")),
        ("/process/user/uid", json!("0")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/gid", json!(1.5)),
        ("/process/user/additionalGids", json!([4_294_967_296u64])),
        ("/process/capabilities/bounding", json!("CAP_KILL")),
        ("/process/oomScoreAdj", json!("low")),
        ("/root/readonly", json!(1)),
        ("/mounts", json!({})),
        ("/mounts/0/options", json!("ro")),
        ("/linux/namespaces", json!("pid")),
        ("/linux/sysctl", json!(["a=b"])),
        ("/linux/maskedPaths", json!("/proc/kcore")),
        ("/linux/resources/memory/limit", json!("64M")),
        ("/linux/resources/devices", json!({})),
        ("/hooks/createRuntime", json!("/bin/true")),
        ("/annotations", json!(["a"])),
    ] {
        let name = pointer.rsplit('/').find(|word| word.parse::<usize>().is_err()).unwrap();
        refused(&format!("{pointer} = {value}"), name, |bundle| {
            bundle.set(pointer, value.clone());
        });
    }
}

fn required_members() {
    for (what, object, name, text) in [
        ("no arguments", "/process", "args", "args"),
        ("no working directory", "/process", "cwd", "cwd"),
        ("a mount without a destination", "/mounts/0", "destination", "destination"),
        ("a namespace without a type", "/linux/namespaces/0", "type", "namespace"),
    ] {
        refused(what, text, |bundle| {
            bundle.unset(object, name);
        });
    }
    refused("empty arguments", "args", |bundle| {
        bundle.set("/process/args", json!([]));
    });
}

fn contradictions() {
    refused("a relative working directory", "cwd", |bundle| {
        bundle.set("/process/cwd", json!("tmp"));
    });
    refused("a sysctl that belongs to no namespace", "kernel.panic", |bundle| {
        bundle.set("/linux/sysctl", json!({ "kernel.panic": "1" }));
    });
    refused("a sysctl with dots to climb", "", |bundle| {
        bundle.set("/linux/sysctl", json!({ "net/../kernel/panic": "1" }));
    });
    refused("an unknown seccomp action", "SCMP_ACT_PLEASE", |bundle| {
        bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_PLEASE" }));
    });
    refused("an unknown propagation", "everywhere", |bundle| {
        bundle.set("/linux/rootfsPropagation", json!("everywhere"));
    });
    refused("an unknown rlimit", "RLIMIT_PATIENCE", |bundle| {
        bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1 }]));
    });
}

fn contradictory_namespaces() {
    refused("a hostname without a uts namespace", "uts", |bundle| {
        bundle.namespace("uts", Some(""));
    });
    refused("an unknown namespace", "space", |bundle| {
        bundle.namespace("space", None);
    });
    refused("a namespace twice", "ipc", |bundle| {
        bundle.set("/linux/namespaces/-", json!({ "type": "ipc" }));
    });
    refused("a network sysctl without a network namespace", "net.ipv4.ip_forward", |bundle| {
        bundle.namespace("network", Some("")).set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    });
    refused("a user namespace without mappings", "mapping", |bundle| {
        bundle.namespace("user", None);
    });
    refused("time offsets without a time namespace", "time", |bundle| {
        bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 5 } }));
    });
}

/// They would promise what is not there.
fn mappings_without_a_user_namespace() {
    refused("mappings without a user namespace", "user", |bundle| {
        bundle.user_namespace(&[(0, 100_000, 10)]).namespace("user", Some(""));
    });
}

fn namespace_paths_that_are_none() {
    refused("a namespace path that is missing", "/not/there", |bundle| {
        bundle.namespace("network", Some("/not/there"));
    });
    refused("a path that is no namespace", "", |bundle| {
        bundle.namespace("network", Some("/dev/null"));
    });
    refused("a namespace of another type", "", |bundle| {
        bundle.namespace("network", Some("/proc/self/ns/ipc"));
    });
}

/// Programs that cannot be executed, with what runc says of them (its clients look for these words).
fn programs() -> Vec<(Value, &'static str)> {
    vec![
        (json!(["nothere"]), "exec: \"nothere\": executable file not found in $PATH"),
        (json!(["/not/there"]), "exec: \"/not/there\": stat /not/there: no such file or directory"),
        (json!(["/etc"]), "exec: \"/etc\": is a directory"),
        (json!(["/etc/passwd"]), "exec: \"/etc/passwd\": permission denied"),
    ]
}

/// Podman and Docker tell "not found" (127) from "cannot be executed" (126) by these words, whatever their case.
fn program_not_found() {
    for args in [json!(["nothere"]), json!(["/not/there"]), json!(["/bin/not/there"]), json!([""])] {
        let mut bundle = Bundle::new();
        bundle.set("/process/args", args.clone());
        let message = bundle.create_fails().to_lowercase();
        let words = [
            "executable file not found",
            "executable file `",
            "no such file or directory",
            "executable path",
            "not a directory",
            "permission denied",
        ];
        assert!(words.iter().any(|word| message.contains(word)), "{args}: {message}");
    }
}

fn program_that_cannot_be_executed() {
    for program in ["/etc", "/etc/passwd"] {
        let mut bundle = Bundle::args(&[program]);
        let message = bundle.create_fails().to_lowercase();
        assert!(
            ["permission denied", "is a directory", "operation not permitted"].iter().any(|word| message.contains(word)),
            "{program}: {message}"
        );
        bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        bundle.create_fails();
    }
}

/// That a file can be executed but is no program is found out by execve alone.
fn program_with_a_bad_format_fails_at_start() {
    let bundle = Bundle::args(&["/bad"]);
    fs::write(bundle.inside("/bad"), "\x7fELFnothing").unwrap();
    fs::set_permissions(bundle.inside("/bad"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let container = bundle.create();
    container.call(&["start"]).output();
    container.wait_status("stopped");
    assert_ne!(bundle.run().code(), 0);
}

/// A failing call's plain message: with a log file, stderr has just that.
#[track_caller]
fn message(words: &[&str]) -> String {
    let log = folder().join("log");
    Call::new(&[&["--log", log.to_str().unwrap()], words].concat()).output().fails()
}

#[track_caller]
fn says(words: &[&str], text: &str) {
    let message = message(words);
    assert!(message.contains(text), "the message lacks {text:?}: {message:?}");
}

fn texts_of_a_program_not_found() {
    for (args, text) in programs() {
        let mut bundle = Bundle::new();
        bundle.set("/process/args", args).save();
        let text = format!("unable to start container process: error during container init: {text}");
        says(&["create", "--bundle", bundle.path(), &bundle.id], &text);
        says(&["run", "--bundle", bundle.path(), &bundle.id], &text);
    }
}

fn texts_of_states() {
    for command in ["state", "start", "kill", "delete"] {
        says(&[command, &new_id()], "container does not exist");
    }
    let bundle = Bundle::new();
    let container = bundle.run_detached();
    let id = container.id.as_str();
    says(&["start", id], "cannot start an already running container");
    says(&["delete", id], &format!("cannot delete container {id} that is not stopped: running"));
    says(&["kill", id, "FOO"], "unknown signal \"FOO\"");
    says(&["create", "--bundle", bundle.path(), id], "container with given ID already exists");
    container.kill("KILL");
    container.wait_status("stopped");
    says(&["start", id], "cannot start a container that has stopped");
    says(&["kill", id], "container not running");
    says(&["create", "--bundle", bundle.path(), ""], "container id cannot be empty");
    says(&["create", "--bundle", bundle.path(), "a b"], "invalid container ID format");
}

fn texts_of_terminals() {
    let mut bundle = Bundle::new();
    bundle.set("/process/terminal", json!(true)).save();
    let create = ["create", "--bundle", bundle.path(), &bundle.id];
    says(&create, "cannot allocate tty if runc will detach without setting console socket");
    let run = ["run", "--console-socket", "/not/there", "--bundle", bundle.path(), &bundle.id];
    says(&run, "cannot use console socket if runc will not detach or allocate tty");
}

fn failed_mount_is_named() {
    refused("an unknown file system", "/mnt", |bundle| {
        bundle.mount("/mnt", "nosuchfs", "nosuchfs", &[]);
    });
    refused("an option that tmpfs does not know", "/mnt", |bundle| {
        bundle.mount("/mnt", "tmpfs", "tmpfs", &["nosuchoption=1"]);
    });
}

fn failed_sysctl_is_named() {
    refused("a sysctl that does not exist", "no_such_thing", |bundle| {
        bundle.set("/linux/sysctl", json!({ "net.ipv4.no_such_thing": "1" }));
    });
}

/// A call with these global options that fails because its rootfs `not-there` is missing.
fn failing(options: &[&str]) -> crate::harness::Output {
    let mut bundle = Bundle::new();
    bundle.set("/root/path", json!("not-there")).save();
    Call::new(&[options, &["create", "--bundle", bundle.path(), &bundle.id]].concat()).output()
}

fn plain_message_on_stderr() {
    let file = folder().join("log");
    let output = failing(&["--log", file.to_str().unwrap(), "--log-format", "json"]);
    assert_eq!(output.code(), 1);
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr.lines().count(), 1, "{:?}", output.stderr);
    assert!(output.stderr.contains("not-there"), "{:?}", output.stderr);
    assert!(!output.stderr.contains("\"level\""), "{:?}", output.stderr);
}

/// Exactly one object, which Podman decodes as a whole, with a time that Go can decode.
fn log_file_as_json() {
    let file = folder().join("log");
    let output = failing(&["--log", file.to_str().unwrap(), "--log-format=json"]);
    let text = fs::read_to_string(&file).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("not one JSON object ({error}): {text:?}"));
    assert_eq!(record["level"], "error");
    assert!(is_rfc3339(record["time"].as_str().unwrap()), "{record}");
    let message = record["msg"].as_str().unwrap();
    assert!(output.stderr.contains(message.trim()), "{message:?} is on stderr too: {:?}", output.stderr);
}

fn log_file_as_text() {
    let file = folder().join("log");
    failing(&["--log", file.to_str().unwrap()]).fails();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("not-there") && text.ends_with('\n'), "{text:?}");
    let output = failing(&[]);
    assert!(output.stderr.contains("not-there"), "without a log file it goes to stderr: {output:?}");
}

fn log_file_is_appended_to() {
    let file = folder().join("log");
    fs::write(&file, "what was there\n").unwrap();
    failing(&["--log", file.to_str().unwrap(), "--log-format", "json"]).fails();
    failing(&["--log", file.to_str().unwrap(), "--log-format", "json"]).fails();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("what was there\n{"), "{text:?}");
    assert_eq!(text.matches("\"msg\"").count(), 2, "{text:?}");
}

/// It changes nothing else: the failure is told as ever, and success is success.
fn log_that_cannot_be_written_is_told() {
    let log = ["--log", "/no/such/folder/log", "--log-format", "json"];
    let output = failing(&log);
    assert_eq!(output.code(), 1);
    assert!(output.stderr.lines().next().unwrap().contains("not-there"), "{output:?}");
    let last = output.stderr.lines().last().unwrap();
    assert!(last.contains("/no/such/folder/log") && last.contains("No such file"), "{output:?}");
    let container = Bundle::args(&["/bin/sleep", "1000"]).run_detached();
    let output = container.call(&[&log[..], &["state"]].concat()).output();
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""));
}

fn success_is_silent() {
    let bundle = Bundle::new();
    let file = folder().join("log");
    let log = ["--log", file.to_str().unwrap(), "--log-format", "json"];
    let container = bundle.container();
    bundle.save();
    let id = bundle.id.as_str();
    for words in [
        &["create", "--bundle", bundle.path(), id][..],
        &["start", id],
        &["state", id],
        &["kill", id, "KILL"],
        &["delete", "--force", id],
    ] {
        let output = bundle.output_of(Call::new(&[&log, words].concat()));
        assert_eq!(output.code(), 0);
        assert_eq!((output.stderr.as_str(), output.stdout.is_empty()), ("", words[0] != "state"), "{words:?}");
    }
    drop(container);
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), "", "nothing is logged when nothing is wrong");
}

fn root_that_cannot_be_written() {
    let bundle = Bundle::new();
    bundle.save();
    let id = bundle.id.as_str();
    let call = Call::bare(&["--root", "/proc/nowhere", "create", "--bundle", bundle.path(), id]);
    let message = bundle.output_of(call).fails();
    assert!(message.contains("/proc/nowhere"), "{message}");
}
