// SPDX-License-Identifier: Apache-2.0
//! The command line as runc's callers write it, and the commands that only print.

use std::fs;

use serde_json::Value;

use crate::harness::bundle::{folder, new_id, state_root};
use crate::harness::{Bundle, Call, Test, call};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(forms_of_a_flag),
    test!(last_of_repeated_flags_wins),
    test!(single_dash_long_flags).differs(&[("crun", "knows double dashes only")]),
    test!(flags_after_the_id).differs(&[("crun", "knows flags before the id only")]),
    test!(ignored_flags).differs(&[("crun", "has no --criu")]),
    test!(signal_zero_asks_only),
    test!(unknown_flags_and_commands),
    test!(wrong_number_of_arguments),
    test!(texts_of_misuse).differs(&[("crun", "says it in other words")]),
    test!(help),
    test!(layout_of_help).differs(&[("crun", "has GNU's layout")]),
    test!(version),
    test!(features),
    test!(spec_writes_a_configuration_that_runs),
    test!(spec_does_not_overwrite),
    test!(configuration_from_another_file).differs(&[("runc", "has no --config")]),
    test!(spec_by_another_name).differs(&[("runc", "has no --file")]),
    test!(kill_and_delete_by_regular_expression).differs(&[("runc", "has no --regex"), ("crun", "crashes in 1.28")]),
    test!(words_for_true_and_false).differs(&[("crun", "has switches without values")]),
    test!(two_dashes_end_the_flags),
    test!(ids_as_runc_takes_them).differs(&[("crun", "takes no id that begins with a dot")]),
    test!(list_of_a_missing_root).differs(&[("crun", "makes the directory")]),
    test!(debug_does_not_disturb),
];

fn forms_of_a_flag() {
    let root = state_root();
    let root = root.to_str().unwrap();
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    let log = format!("--log={}/log", bundle.path());
    let words =
        [&format!("--root={root}"), &log, "--log-format=json", "create", &format!("--bundle={}", bundle.path()), &bundle.id];
    bundle.output_of(Call::bare(&words)).ok();
    Call::bare(&[&format!("--root={root}"), "delete", "-f", &bundle.id]).output().ok();
    bundle.output_of(Call::new(&["create", "-b", bundle.path(), &bundle.id])).ok();
    assert_eq!(container.status(), "created");
}

fn last_of_repeated_flags_wins() {
    let container = Bundle::new().create();
    let root = state_root();
    let root = root.to_str().unwrap();
    let words = [
        "--root",
        "/not/there",
        "--log-format=text",
        "--log-format=json",
        "--debug",
        "--debug",
        "--root",
        root,
        "state",
        &container.id,
    ];
    let state: Value = serde_json::from_str(&Call::bare(&words).output().ok()).unwrap();
    assert_eq!(state["status"], "created");
    Call::new(&["delete", "--force", "--force", &container.id]).output().ok();
}

fn single_dash_long_flags() {
    let root = state_root();
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    let pid_file = folder().join("pid");
    let words = [
        "-root",
        root.to_str().unwrap(),
        "create",
        "-bundle",
        bundle.path(),
        "-pid-file",
        pid_file.to_str().unwrap(),
        &bundle.id,
    ];
    bundle.output_of(Call::bare(&words)).ok();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), container.pid().to_string());
}

fn flags_after_the_id() {
    let container = Bundle::new().run_detached();
    Call::new(&["delete", &container.id, "--force"]).output().ok();
    container.call(&["state"]).output().fails();
    let bundle = Bundle::new();
    bundle.save();
    let container = bundle.container();
    bundle.output_of(Call::new(&["create", &bundle.id, "--bundle", bundle.path()])).ok();
    assert_eq!(container.status(), "created");
}

fn ignored_flags() {
    let container = Bundle::new().run_detached();
    Call::new(&["kill", "--all", &container.id, "CONT"]).output().ok();
    Call::new(&["kill", "-a", &container.id, "CONT"]).output().ok();
    for global in [&["--rootless=false"][..], &["--rootless", "auto"], &["--criu", "/bin/criu"]] {
        Call::new(&[global, &["state", &container.id]].concat()).output().ok();
    }
    assert_eq!(container.status(), "running");
    let bundle = Bundle::sh("echo ran");
    assert_eq!(bundle.run_call(&["--no-subreaper"]).output().ok(), "ran\n");
}

/// kill(2): nothing is sent, and whether there is somebody is told.
fn signal_zero_asks_only() {
    let container = Bundle::new().run_detached();
    container.kill("0");
    assert_eq!(container.status(), "running");
    container.kill("KILL");
    container.wait_status("stopped");
    Call::new(&["kill", &container.id, "0"]).output().fails();
}

fn unknown_flags_and_commands() {
    Call::new(&["state", "--no-such-flag", &new_id()]).output().fails();
    Call::new(&["--no-such-flag", "list"]).output().fails();
    Call::new(&["nosuchcommand"]).output().fails();
    Call::new(&["help", "nosuchcommand"]).output().fails();
}

fn wrong_number_of_arguments() {
    let bundle = Bundle::new();
    bundle.save();
    for command in ["create", "run", "start", "state", "delete", "kill"] {
        Call::new(&[command]).dir(&bundle.dir).output().fails();
    }
    let (one, two) = (new_id(), new_id());
    for command in ["create", "run", "start", "state"] {
        bundle.output_of(Call::new(&[command, &one, &two]).dir(&bundle.dir)).fails();
    }
}

/// Scripts look for runc's words.
fn texts_of_misuse() {
    for (words, text) in [
        (&["create"][..], "\"create\" requires exactly 1 argument(s)"),
        (&["state", "a", "b"], "\"state\" requires exactly 1 argument(s)"),
        (&["list", "a"], "\"list\" requires exactly 0 argument(s)"),
        (&["exec"], "\"exec\" requires a minimum of 1 argument(s)"),
        (&["kill"], "\"kill\" requires a minimum of 1 argument(s)"),
        (&["kill", "a", "TERM", "b"], "\"kill\" requires a maximum of 2 argument(s)"),
        (&["list", "--format", "xml"], "invalid format option"),
        (&["help", "nosuchcommand"], "No help topic for 'nosuchcommand'"),
        (&["--log-format", "xml", "list"], "invalid log-format: xml"),
        (&["state", "--nosuchflag", "a"], "flag provided but not defined: -nosuchflag"),
        (&["create", "--bundle"], "flag needs an argument: -bundle"),
    ] {
        let output = Call::new(words).output();
        // runc quotes what it quotes once more.
        let said = output.stderr.replace('\\', "");
        assert!(!output.status.success() && said.contains(text), "{words:?}: {output:?}");
    }
}

fn help() {
    let output = Call::bare(&["--help"]).output().ok();
    for command in ["create", "run", "start", "state", "kill", "delete", "list"] {
        assert!(output.contains(command), "--help names {command}");
        Call::bare(&[command, "--help"]).output().ok();
    }
}

/// The lines that scripts know from runc: what it is and how to call it, of the whole and of each command.
fn layout_of_help() {
    let lines = |words: &[&str]| Call::bare(words).output().ok().lines().map(String::from).collect::<Vec<_>>();
    let first = lines(&["--help"]);
    assert_eq!(first[0], "NAME:");
    assert!(first[1].ends_with(" - Open Container Initiative runtime"), "{first:?}");
    for command in ["create", "exec", "list", "spec", "events", "checkpoint", "restore", "update"] {
        let lines = lines(&[command, "-h"]);
        assert!(lines[0] == "NAME:" && lines[1].contains(&format!(" {command} - ")), "{lines:?}");
        let usage = lines.iter().position(|line| line == "USAGE:").unwrap();
        assert!(lines[usage + 1].contains(&format!(" {command} ")), "{lines:?}");
        assert!(lines.iter().any(|line| line == "OPTIONS:"), "{lines:?}");
    }
}

/// Callers split these lines: `NAME version X`, `commit: …`, `spec: X`.
fn version() {
    for flag in ["--version", "-v"] {
        let output = Call::bare(&[flag]).output();
        assert_eq!(output.stderr, "");
        let text = output.ok();
        let lines: Vec<&str> = text.lines().collect();
        let words: Vec<&str> = lines[0].split(' ').collect();
        assert_eq!((words.len(), words[1]), (3, "version"), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("commit: ")), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("spec: 1.")), "{text}");
    }
}

/// CRI-O decodes stdout and stderr together.
fn features() {
    let output = Call::bare(&["features"]).no_env().output();
    assert_eq!(output.stderr, "");
    let features: Value = serde_json::from_str(&output.ok()).unwrap();
    for name in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[name].as_str().unwrap().starts_with("1."), "{features}");
    }
    let has = |list: &Value, item: &str| list.as_array().unwrap().iter().any(|value| value == item);
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(has(&features["hooks"], hook), "hook {hook}");
    }
    for option in ["ro", "rro", "nosuid", "rbind", "rprivate", "tmpcopyup"] {
        assert!(has(&features["mountOptions"], option), "mount option {option}");
    }
    for namespace in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup"] {
        assert!(has(&features["linux"]["namespaces"], namespace), "namespace {namespace}");
    }
    assert!(has(&features["linux"]["capabilities"], "CAP_NET_ADMIN"));
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
}

/// The example is a whole configuration: with a rootfs and without its terminal it runs.
fn spec_writes_a_configuration_that_runs() {
    let mut bundle = Bundle::new();
    Call::bare(&["spec"]).dir(&bundle.dir).output().ok();
    let text = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    bundle.config = serde_json::from_str(&text).unwrap();
    assert_eq!(bundle.config["process"]["terminal"], true);
    bundle.set("/process/terminal", false.into()).set("/process/args", serde_json::json!(["/bin/echo", "hello"]));
    assert_eq!(bundle.print(), "hello\n");
    Call::bare(&["spec", "--bundle", folder().to_str().unwrap()]).output().ok();
    assert!(folder().join("config.json").exists());
}

fn spec_does_not_overwrite() {
    let file = folder().join("config.json");
    fs::write(&file, "mine").unwrap();
    let text = Call::bare(&["spec"]).dir(&folder()).output().fails();
    assert!(text.contains("config.json") && text.contains("exists"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

/// The bundle's own is neither needed nor looked at; what is relative in it is still seen from the bundle.
fn configuration_from_another_file() {
    let bundle = Bundle::sh("echo from there");
    bundle.save();
    fs::rename(bundle.dir.join("config.json"), folder().join("there.json")).unwrap();
    let words = ["run", "--bundle", bundle.path(), "--config", "there.json", &bundle.id];
    assert_eq!(Call::new(&words).dir(&folder()).output().ok(), "from there\n");
    fs::write(bundle.dir.join("config.json"), "not json").unwrap();
    let path = folder().join("there.json");
    let words = ["run", "-b", bundle.path(), "-f", path.to_str().unwrap(), &bundle.id];
    assert_eq!(Call::new(&words).output().ok(), "from there\n");
    let said = Call::new(&["run", "-b", bundle.path(), "--config=/not/there.json", &bundle.id]).output().fails();
    assert!(said.contains("/not/there.json"), "{said}");
}

fn spec_by_another_name() {
    Call::bare(&["spec", "--bundle", folder().to_str().unwrap(), "--file", "other.json"]).output().ok();
    let text = fs::read_to_string(folder().join("other.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap()["process"].is_object());
    Call::bare(&["spec", "-f", "third.json"]).dir(&folder()).output().ok();
    assert!(folder().join("third.json").exists() && !folder().join("config.json").exists());
}

fn kill_and_delete_by_regular_expression() {
    let root = folder().join("own-root");
    let root = root.to_str().unwrap();
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.save();
    let ids: Vec<String> = ["one", "two", "other"].map(|name| format!("{}-{name}", bundle.id)).to_vec();
    let mut config = bundle.config.clone();
    for id in &ids {
        config["linux"]["cgroupsPath"] = serde_json::json!(format!("/{id}"));
        fs::write(bundle.dir.join("config.json"), config.to_string()).unwrap();
        bundle.output_of(Call::bare(&["--root", root, "run", "--detach", "--bundle", bundle.path(), id])).ok();
    }
    let run = |words: &[&str]| Call::bare(&[&["--root", root], words].concat()).output();
    let status = |id: &str| serde_json::from_str::<Value>(&run(&["state", id]).ok()).unwrap()["status"].clone();
    run(&["kill", "--regex", "(-one|-two)$", "KILL"]).ok();
    for id in &ids[..2] {
        crate::harness::look::eventually("it is stopped", || status(id) == "stopped");
    }
    assert_eq!(status(&ids[2]), "running");
    run(&["delete", "--force", "--regex", "^nothing-is-named-so$"]).ok();
    run(&["delete", "--regex", &format!("^{}-(one|two)$", bundle.id)]).ok();
    run(&["state", &ids[0]]).fails();
    run(&["delete", "--regex", "("]).fails();
    run(&["delete", "-r", "-f", "."]).ok();
    run(&["state", &ids[2]]).fails();
}

fn words_for_true_and_false() {
    let container = Bundle::new().run_detached();
    for word in ["0", "f", "F", "false", "FALSE", "False"] {
        Call::new(&["delete", &format!("--force={word}"), &container.id]).output().fails();
    }
    Call::new(&["delete", "--force=maybe", &container.id]).output().fails();
    Call::new(&["--debug=false", "delete", "-force=T", &container.id]).output().ok();
}

fn two_dashes_end_the_flags() {
    let container = Bundle::new().run_detached();
    Call::new(&["state", "--", &container.id]).output().ok();
    Call::new(&["exec", "--", &container.id, "true"]).output().ok();
    Call::new(&["kill", "--", &container.id, "CONT"]).output().ok();
    Call::new(&["delete", "--force", "--", &container.id]).output().ok();
}

fn ids_as_runc_takes_them() {
    let bundle = Bundle::new();
    bundle.save();
    for id in [".dot", "a+b", "_x", "..."] {
        bundle.output_of(Call::new(&["create", "--bundle", bundle.path(), id])).ok();
        Call::new(&["delete", "--force", id]).output().ok();
    }
    for id in [".", "..", "a/b", "a b", ""] {
        bundle.output_of(Call::new(&["create", "--bundle", bundle.path(), id])).fails();
    }
}

fn list_of_a_missing_root() {
    let missing = folder().join("missing");
    Call::bare(&["--root", missing.to_str().unwrap(), "list"]).output().fails();
    assert!(!missing.exists());
}

fn debug_does_not_disturb() {
    let bundle = Bundle::sh("echo hello");
    bundle.save();
    let output = Call::new(&["--debug", "run", "--bundle", bundle.path(), &bundle.id]).output();
    assert_eq!(output.ok(), "hello\n");
    assert!(call::runtime().exists());
}
