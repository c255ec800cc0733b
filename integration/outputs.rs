// SPDX-License-Identifier: Apache-2.0
//! What commands print, to the letter: members in runc's order, what is left out and what is null, tables, and the three kinds of log.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::harness::bundle::{end_orphan, folder, state_root};
use crate::harness::look::{self, eventually};
use crate::harness::{Bundle, Call, Container, Need, Test, call};
use crate::test;

const CRUN_SHAPES: &[(&str, &str)] = &[("crun", "prints other members")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(state).differs(CRUN_SHAPES),
    test!(state_when_stopped),
    test!(list_as_json).differs(CRUN_SHAPES),
    test!(list_as_a_table).differs(&[("crun", "has columns of other widths")]),
    test!(list_does_not_stumble_over_what_is_half_made).differs(&[("runc", "fails"), ("crun", "fails")]),
    test!(ps_as_json).differs(&[("crun", "prints an empty list and spaces")]),
    test!(ps_as_json_needs_no_ps).differs(CRUN_SHAPES),
    test!(ps_as_a_table).needs(&[Need::Program("ps")]).differs(&[("crun", "has no columns but one")]),
    test!(version_under_the_name_of_runc).differs(&[("crun", "keeps its name")]),
    test!(text_log).differs(&[("crun", "writes the text alone")]),
    test!(debug_tells_what_every_step_took).differs(&[("runc", "has no steps"), ("crun", "has no steps")]),
    test!(logs_of_services).differs(&[("runc", "logs to files"), ("crun", "logs through libsystemd and syslog(3)")]),
];

fn sleeper() -> Container {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    container.start();
    container
}

/// The parts stand in this order, each after the one before.
#[track_caller]
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not where it should be in {text}"));
        rest = &rest[at + part.len()..];
    }
}

const MEMBERS: [&str; 7] =
    ["\"ociVersion\": \"", "\"id\": \"", "\"pid\": ", "\"status\": \"", "\"bundle\": \"/", "\"rootfs\": \"/", "\"created\": \"2"];

fn state() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = bundle.create();
    let text = container.call(&["state"]).output().ok();
    assert!(
        text.starts_with("{\n  \"ociVersion\": \"") && text.ends_with("\n}"),
        "two spaces, and no newline at the end: {text:?}"
    );
    in_order(&text, &MEMBERS);
    in_order(&text, &["\"created\"", "\"owner\": \"\""]);
    assert!(!text.contains("annotations"), "left out where there are none: {text}");
    let created = serde_json::from_str::<Value>(&text).unwrap()["created"].as_str().unwrap().to_owned();
    assert!(created.len() >= 20 && &created[10..11] == "T" && created.ends_with('Z'), "RFC 3339: {created}");
    container.delete();
    bundle.set("/annotations", json!({ "k": "v" }));
    let text = bundle.create().call(&["state"]).output().ok();
    in_order(&text, &["\"created\"", "\"annotations\": {\n    \"k\": \"v\"\n  }", "\"owner\""]);
}

fn state_when_stopped() {
    let container = sleeper();
    container.kill("KILL");
    container.wait_status("stopped");
    let text = container.call(&["state"]).output().ok();
    in_order(&text, &["\"pid\": 0,\n", "\"status\": \"stopped\""]);
}

fn list_as_json() {
    let container = sleeper();
    let text = Call::new(&["list", "--format", "json"]).output().ok();
    assert!(text.starts_with("[{") && text.ends_with("}]\n") && text.matches('\n').count() == 1, "{text:?}");
    let members = MEMBERS.map(|member| member.replace("\": ", "\":"));
    in_order(&text, &members.each_ref().map(String::as_str));
    in_order(&text, &["\"created\"", "\"owner\":\"root\"}"]);
    assert_eq!(Call::new(&["list", "-f=json", "-q"]).output().ok(), format!("{}\n", container.id));
}

fn list_as_a_table() {
    assert_eq!(
        Call::new(&["list"]).output().ok().trim_end(),
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER"
    );
    let container = sleeper();
    let state = container.state();
    let text = Call::new(&["list"]).output().ok();
    let lines: Vec<&str> = text.lines().collect();
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let pid = container.pid().to_string();
    let wanted =
        [&container.id, pid.as_str(), "running", state["bundle"].as_str().unwrap(), state["created"].as_str().unwrap(), "root"];
    assert_eq!(words, wanted);
    for (name, value) in ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].iter().zip(wanted) {
        assert_eq!(lines[0].find(name), lines[1].find(value), "{name} does not stand over {value}: {text}");
    }
}

fn list_does_not_stumble_over_what_is_half_made() {
    let container = sleeper();
    let entry = |name: &str, state: Option<&str>| {
        let dir = state_root().join(name);
        fs::create_dir(&dir).unwrap();
        state.into_iter().for_each(|text| fs::write(dir.join("state.json"), text).unwrap());
        dir
    };
    let made = [entry("empty", None), entry("cut", Some("{\"id\":\"cut\"")), entry("other", Some("{\"version\":999}"))];
    fs::write(state_root().join("a-file"), "").unwrap();
    let all: Vec<Value> = serde_json::from_str(&Call::new(&["list", "--format=json"]).output().ok()).unwrap();
    let whole: Vec<&str> = all.iter().filter(|one| one["status"] != "unknown").map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(whole, [&container.id]);
    // What is damaged is shown as such, so that somebody can delete it; what is no directory is no container.
    assert_eq!(all.len(), 1 + made.len());
    assert_eq!(Call::new(&["list"]).output().ok().lines().count(), 2 + made.len());
    fs::remove_file(state_root().join("a-file")).unwrap();
    for (dir, name) in made.iter().zip(["empty", "cut", "other"]) {
        Call::new(&["delete", "--force", name]).output().ok();
        assert!(!dir.exists());
    }
}

fn ps_as_json() {
    let container = sleeper();
    let pid = container.pid();
    assert_eq!(container.call(&["ps", "--format", "json"]).output().ok(), format!("[{pid}]\n"));
    let pid_file = folder().join("pid");
    let bundle_output = folder().join("exec-output");
    let mut child = Call::new(&["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), &container.id, "sleep", "1000"])
        .spawn_to(&bundle_output, &bundle_output);
    call::wait(&mut child);
    let other = fs::read_to_string(&pid_file).unwrap();
    let text = container.call(&["ps", "-f=json"]).output().ok();
    let mut all: Vec<i32> = serde_json::from_str(&text).unwrap();
    all.sort_unstable();
    let mut wanted = [pid, other.parse().unwrap()];
    wanted.sort_unstable();
    assert_eq!(all, wanted);
    end_orphan(&pid_file);
    container.kill("KILL");
    container.wait_status("stopped");
    eventually("the other one is gone, too", || container.call(&["ps", "-f=json"]).output().ok() == "null\n");
}

fn ps_as_json_needs_no_ps() {
    let container = sleeper();
    container.call(&["ps", "--format", "json"]).no_env().output().ok();
    container.call(&["ps", "--format", "json"]).env("PATH", "/nowhere").output().ok();
    let said = container.call(&["ps"]).env("PATH", "/nowhere").output().fails();
    assert!(said.contains("ps"), "{said}");
}

/// As ps(1) prints it, with the container's lines only; what stands after the id is for ps.
fn ps_as_a_table() {
    let container = sleeper();
    let pid = container.pid().to_string();
    for options in [&[][..], &["-o", "pid,comm"], &["aux"]] {
        // Where the kernel does not say when it booted, ps(1) itself fails: there is nothing to print.
        let own = if options.is_empty() { &["-ef"][..] } else { options };
        if !Call::program(&[&["ps"], own].concat()).output().status.success() {
            container.call(&["ps"]).output().fails();
            continue;
        }
        let text = Call::new(&[&["ps", &container.id], options].concat()).output().ok();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("PID") && lines[1].contains(&pid), "{options:?}: {text}");
        assert!(lines[1].contains("sleep"), "{options:?}: {text}");
    }
    Call::new(&["ps", &container.id, "-o", "comm"]).output().fails();
    Call::new(&["ps", &container.id, "--no-such-option"]).output().fails();
}

/// go-runc, nerdctl and Docker split these lines.
fn version_under_the_name_of_runc() {
    let name = folder().join("runc");
    std::os::unix::fs::symlink(call::runtime(), &name).unwrap();
    let text = Call::program(&[name.to_str().unwrap(), "--version"]).output().ok();
    let words: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
    assert_eq!((words.len(), words[0], words[1]), (3, "runc", "version"), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("commit: ")) && text.lines().any(|line| line.starts_with("spec: 1.")),
        "{text}"
    );
}

fn text_log() {
    let log = folder().join("log");
    let said = Call::new(&["--log", log.to_str().unwrap(), "state", "unknown"]).output().fails();
    assert!(!said.contains("level="), "plain words beside the log: {said}");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("time=\"2") && text.contains(" level=error msg=\"container does not exist"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

fn debug_tells_what_every_step_took() {
    let bundle = Bundle::sh("true");
    let log = folder().join("log");
    let said =
        Call::new(&["--debug", "--log", log.to_str().unwrap(), "run", "--bundle", bundle_path(&bundle), &bundle.id]).output();
    assert_eq!((said.stderr.as_str(), said.code()), ("", 0));
    let text = fs::read_to_string(&log).unwrap();
    let steps =
        |who: &str| text.lines().filter(|line| line.contains(&format!("msg=\"{who} step ")) && line.contains(" µs\"")).count();
    assert!(steps("runtime") >= 5 && steps("process") >= 10, "{text}");
    in_order(
        &text,
        &["runtime step 1 of ", "clone the container's process: ", "process step 1 of ", "mount ", "find the program: "],
    );
    assert!(text.lines().all(|line| line.contains(" level=debug ")), "{text}");
    let container = sleeper();
    fs::remove_file(&log).unwrap();
    Call::new(&["--debug", "--log", log.to_str().unwrap(), "exec", &container.id, "true"]).output().ok();
    let text = fs::read_to_string(&log).unwrap();
    in_order(&text, &["process step 1 of ", "find the program: ", " µs\""]);
}

fn bundle_path(bundle: &Bundle) -> &str {
    bundle.save();
    bundle.path()
}

/// Stand-ins for journald and syslogd, in a mount namespace of this test's own.
fn logs_of_services() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let (runtime, copy) = (call::runtime(), PathBuf::from("/dev/runtime"));
    for place in ["/dev", "/run"] {
        mount(Some("stand-in"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    fs::copy(&runtime, &copy).unwrap();
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod("/dev/null", nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666), null)
        .unwrap();
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let listen = |path: &str| {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    };
    let (journal, syslog) = (listen("/run/systemd/journal/socket"), listen("/dev/log"));
    let heard = |socket: &UnixDatagram, target: &str| {
        let words = [copy.to_str().unwrap(), "--root", "/run/root", "--log", target, "state", "unknown"];
        let said = Call::program(&words).dir(&PathBuf::from("/run")).output().fails();
        assert!(said.starts_with("container does not exist"), "{said}");
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let entry = heard(&journal, "journald:some-id");
    assert!(
        entry.starts_with("PRIORITY=3\nSYSLOG_IDENTIFIER=some-id\nMESSAGE\n") && entry.contains("container does not exist"),
        "{entry}"
    );
    let line = heard(&syslog, "syslog:some-id");
    assert!(line.starts_with("<27>some-id: container does not exist"), "{line}");
    // A service that is down is not the command's failure to tell.
    drop(syslog);
    let said =
        Call::program(&[copy.to_str().unwrap(), "--log", "syslog:x", "--root", "/run/root", "state", "unknown"]).output().fails();
    assert!(said.contains("does not exist") && look::alive(1), "{said}");
}
