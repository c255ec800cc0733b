// SPDX-License-Identifier: Apache-2.0
//! Ids, flags and words of the command line that are none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Bench, OWN_WORDS, file};
use crate::harness::bundle::{folder, state_root};
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(ids).differs(OWN_WORDS),
    test!(flags_of_create).differs(OWN_WORDS),
    test!(flags_of_exec).differs(OWN_WORDS),
    test!(flags_of_update).differs(OWN_WORDS),
    test!(other_commands).differs(OWN_WORDS),
    test!(bytes_that_are_no_text).differs(OWN_WORDS),
];

fn ids() {
    let mut bench = Bench::new();
    bench.bundle.save();
    let long = "x".repeat(2000);
    for id in [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../x",
        "/etc",
        "a b",
        "a\nb",
        "a\tb",
        "a:b",
        "a;b",
        "a*",
        "é",
        "a\u{202e}b",
        "a%b",
        "$(id)",
        long.as_str(),
    ] {
        let bundle = bench.bundle.path().to_owned();
        bench.fails(
            &format!("create of {:?}", super::shortened(id)),
            Call::new(&["create", "--bundle", &bundle, "--", id]),
            &["id"],
        );
        for verb in ["state", "start", "delete", "pause", "ps"] {
            bench.fails(&format!("{verb} of {:?}", super::shortened(id)), Call::new(&[verb, "--", id]), &["id"]);
        }
    }
    bench.finish(108);
}

fn flags_of_create() {
    let mut bench = Bench::new();
    bench.bundle.save();
    let (bundle, id) = (bench.bundle.path().to_owned(), bench.bundle.id.clone());
    let plain = file("plain", "");
    let in_plain = format!("{plain}/x");
    let long = format!("/{}", "x".repeat(5000));
    for (flag, value, word) in [
        ("--bundel", "x", "bundel"),
        ("--preserve-fds", "-1", "preserve-fds"),
        ("--preserve-fds", "many", "many"),
        ("--preserve-fds", "4294967296", "4294967296"),
        ("--preserve-fds", "1.5", "1.5"),
        ("--preserve-fds", "1000000", "preserved-fd"),
        ("--console-socket", "/not/there", "console"),
        ("--pidfd-socket", "/not/there", "/not/there"),
        ("--pidfd-socket", plain.as_str(), plain.as_str()),
        ("--pid-file", "/not/there/pid", "/not/there/pid"),
        ("--pid-file", in_plain.as_str(), in_plain.as_str()),
        ("--pid-file", "/proc/sys/kernel/pid", "/proc/sys/kernel/pid"),
        ("--pid-file", long.as_str(), "too long"),
        ("--no-pivot=perhaps", "", "perhaps"),
    ] {
        let value: &[&str] = if value.is_empty() { &[] } else { &[value] };
        let call = Call::new(&[&["create", "--bundle", &bundle, flag], value, &[&id]].concat());
        bench.fails(&format!("create {flag} {value:?}"), call, &[word]);
    }
    for (what, words, word) in [
        ("a flag without its value", vec!["create", &id, "--bundle"], "flag needs an argument: -bundle"),
        ("a bundle that is missing", vec!["create", "--bundle", "/not/there", &id], "/not/there"),
        ("a bundle that is a file", vec!["create", "--bundle", &plain, &id], &plain),
        ("an empty bundle", vec!["create", "--bundle", "", &id], "config.json"),
        ("a bundle with a long name", vec!["create", "--bundle", &long, &id], "too long"),
        ("two ids", vec!["create", "--bundle", &bundle, &id, "another"], "another"),
        ("no id", vec!["create", "--bundle", &bundle], "exactly 1 argument"),
    ] {
        bench.fails(what, Call::new(&words), &[word]);
    }
    for (what, words, word) in [
        ("a root that is a file", vec!["--root", plain.as_str()], "plain"),
        ("a root in a file", vec!["--root", in_plain.as_str()], "plain"),
        ("/ as the root", vec!["--root", "/"], "--root"),
        ("nothing as the root", vec!["--root", ""], "--root"),
        ("a root in /proc", vec!["--root", "/proc/x"], "/proc/x"),
        ("a root with a long name", vec!["--root", long.as_str()], "too long"),
        ("an unknown log format", vec!["--log-format", "xml"], "xml"),
        ("an unknown log level", vec!["--log-level", "loud"], "loud"),
        ("an unknown cgroup manager", vec!["--cgroup-manager", "none"], "none"),
        ("an unknown answer", vec!["--rootless", "maybe"], "maybe"),
        ("an unknown global flag", vec!["--rot", "x"], "rot"),
    ] {
        let call = Call::bare(&[&words[..], &["create", "--bundle", &bundle, &id]].concat());
        bench.fails(what, call, &[word]);
    }
    bench.finish(32);
}

fn flags_of_exec() {
    let container = Bundle::new().run_detached();
    let id = container.id.as_str();
    let mut bench = Bench::new();
    for user in
        ["root", "-1", "+1", "0x10", " 1", "1 ", "1:", ":1", "1:2:3", "4294967295", "4294967296", "1.0", "1e3", "٣", "\n1"]
    {
        bench.judge(&format!("--user {user:?}"), Call::new(&["exec", "--user", user, id, "true"]), &["--user"]);
    }
    for group in ["wheel", "-1", "4294967295", "1,,2", "1;2", ","] {
        bench.judge(
            &format!("groups {group:?}"),
            Call::new(&["exec", "--additional-gids", group, id, "true"]),
            &["--additional-gids"],
        );
    }
    let long = format!("/{}", "x/".repeat(3000));
    for (what, words, word) in [
        ("no program", vec!["exec", id], "process args cannot be empty"),
        ("an empty program", vec!["exec", id, ""], "exec"),
        ("a program that is missing", vec!["exec", id, "/not/there"], "/not/there"),
        ("a directory as the program", vec!["exec", id, "/tmp"], "/tmp"),
        ("a relative directory", vec!["exec", "--cwd", "tmp", id, "true"], "tmp"),
        ("a file as the directory", vec!["exec", "--cwd", "/etc/passwd", id, "true"], "/etc/passwd"),
        ("a directory with a long name", vec!["exec", "--cwd", &long, id, "true"], "too long"),
        ("a variable without a value", vec!["exec", "--env", "NAME", id, "true"], "NAME"),
        ("a variable without a name", vec!["exec", "--env", "=x", id, "true"], "name"),
        ("a socket that is missing", vec!["exec", "-d", "-t", "--console-socket", "/not/there", id, "true"], "/not/there"),
        ("a terminal without a socket", vec!["exec", "-d", "-t", id, "true"], "tty"),
        ("a cgroup that climbs", vec!["exec", "--cgroup", "../..", id, "true"], ".."),
        ("a cgroup that is missing", vec!["exec", "--cgroup", "/not-there", id, "true"], "not-there"),
        ("descriptors that are not open", vec!["exec", "--preserve-fds", "9", id, "true"], "preserved-fd"),
        ("a pid file nowhere", vec!["exec", "-d", "--pid-file", "/not/there/pid", id, "true"], "/not/there/pid"),
        ("an unknown flag", vec!["exec", "--usr", "1", id, "true"], "usr"),
        ("an AppArmor profile", vec!["exec", "--apparmor", "nothing", id, "true"], "nothing"),
        ("an SELinux label", vec!["exec", "--process-label", "nothing", id, "true"], "nothing"),
    ] {
        bench.judge(what, Call::new(&words), &[word]);
    }
    let processes: Vec<i32> = serde_json::from_str(&Call::new(&["ps", "--format", "json", id]).output().ok()).unwrap();
    assert_eq!(processes, [container.pid()], "an exec that failed left something in the container");
    bench.finish(39);
}

fn flags_of_update() {
    let container = Bundle::new().run_detached();
    let mut bench = Bench::new();
    for (flag, value) in [
        ("--memory", "lots"),
        ("--memory", "-2"),
        ("--memory", "1x"),
        ("--memory", "99999999999999999999"),
        ("--memory", "1.2.3m"),
        ("--memory-reservation", "m"),
        ("--memory-swap", "1 0m"),
        ("--pids-limit", "ten"),
        ("--pids-limit", "1e3"),
        ("--cpu-share", "-1"),
        ("--cpu-quota", "half"),
        ("--cpu-period", "10"),
        ("--cpu-period", "-1"),
        ("--cpu-idle", "2"),
        ("--cpuset-cpus", "3-1"),
        ("--cpuset-mems", "x"),
        ("--blkio-weight", "1"),
        ("--blkio-weight", "70000"),
        ("--no-such-limit", "no-such-limit"),
        ("--resources", "/not/there"),
    ] {
        bench.judge(
            &format!("{flag} {value}"),
            Call::new(&["update", flag, value, &container.id]),
            &[value.trim_start_matches('-').trim()],
        );
    }
    bench.finish(20);
}

fn other_commands() {
    let container = Bundle::new().run_detached();
    let id = container.id.as_str();
    let mut bench = Bench::new();
    for signal in ["NOPE", "", "0x9", "-9", "65", "99999999999", "SIG", "SIGSIG", "9.0", "KILL "] {
        bench.judge(&format!("the signal {signal:?}"), Call::new(&["kill", id, signal]), &["signal"]);
    }
    for interval in ["soon", "-1s", "0", "5", "1x", "1s1", "s"] {
        bench.judge(
            &format!("the interval {interval}"),
            Call::new(&["events", "--stats", "--interval", interval, id]),
            &["interval"],
        );
    }
    for (what, words, word) in [
        ("a command that is none", vec!["crate", id], "crate"),
        ("a format that is none", vec!["list", "--format", "yaml"], "yaml"),
        ("a format of ps that is none", vec!["ps", "--format", "yaml", id], "yaml"),
        ("a word too many", vec!["state", id, "more"], "more"),
        ("a word behind the signal", vec!["kill", id, "TERM", "more"], "more"),
        ("a container that is not there", vec!["state", "no-such"], "does not exist"),
        ("a bundle for spec that is missing", vec!["spec", "--bundle", "/not/there"], "/not/there"),
    ] {
        bench.judge(what, Call::new(&words), &[word]);
    }
    assert_eq!(container.status(), "running", "a signal that is none was sent");
    bench.finish(24);
}

/// A word that is not UTF-8 cannot be handed on as it is, and is not silently changed to another.
fn bytes_that_are_no_text() {
    let container = Bundle::new().run_detached();
    let id = container.id.as_str();
    let bad = OsStr::from_bytes(b"a\xffb").to_owned();
    let script = "printf 'a\\377b' >\"$0\"; exec \"$@\" \"$(cat \"$0\")\"";
    let place = folder().join("word");
    let mut bench = Bench::new();
    let bundle = bench.bundle.path().to_owned();
    bench.bundle.save();
    for words in [
        vec!["create", "--bundle", bundle.as_str()],
        vec!["create", id, "--bundle"],
        vec!["exec", id, "echo"],
        vec!["exec", "--cwd"],
        vec!["state"],
        vec!["--log"],
    ] {
        let call = Call::through(&["sh", "-c", script, place.to_str().unwrap()], &words);
        bench.judge(&format!("{words:?} and {bad:?}"), call, &["UTF-8"]);
    }
    assert_eq!(std::fs::read_dir(state_root()).unwrap().count(), 1);
    bench.finish(6);
}
