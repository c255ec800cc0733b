// SPDX-License-Identifier: Apache-2.0
//! A container's own files, damaged: every command says so and ends, nobody else's process is touched, and `delete --force` cleans up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use super::{Bench, OWN_WORDS};
use crate::harness::bundle::state_root;
use crate::harness::look::{alive, eventually};
use crate::harness::{Bundle, Call, Container, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(damaged_state).differs(OWN_WORDS).seconds(120),
    test!(damaged_configuration).differs(OWN_WORDS),
    test!(damaged_help_for_exec).differs(OWN_WORDS),
    test!(directory_of_an_older_berth).differs(OWN_WORDS),
    test!(pid_of_another).differs(OWN_WORDS),
    test!(state_of_another_boot).differs(OWN_WORDS),
    test!(process_known_by_its_inode).needs(&[Need::Kernel(6, 9)]).differs(OWN_WORDS),
    test!(process_known_by_its_start).differs(OWN_WORDS),
    test!(damaged_containers_are_listed).differs(OWN_WORDS),
    test!(strangers_in_the_state_root).differs(OWN_WORDS),
];

fn state_file(id: &str) -> PathBuf {
    state_root().join(id).join("state.json")
}

/// Something done to a file.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 12] = [
    ("empty", |path| fs::write(path, "").unwrap()),
    ("cut off", |path| {
        let text = fs::read(path).unwrap();
        fs::write(path, &text[..text.len() / 2]).unwrap();
    }),
    ("full of NUL bytes", |path| {
        let length = fs::read(path).unwrap().len();
        fs::write(path, vec![0; length]).unwrap();
    }),
    ("an array", |path| fs::write(path, "[]").unwrap()),
    ("an empty object", |path| fs::write(path, "{}").unwrap()),
    ("of a wrong type", |path| change(path, "init_process_pid", "one".into())),
    ("of a future version", |path| change(path, "version", 99.into())),
    ("no JSON", |path| fs::write(path, "\x7fELF").unwrap()),
    ("64 MiB long", |path| fs::File::options().write(true).open(path).unwrap().set_len(64 << 20).unwrap()),
    ("a FIFO", |path| {
        fs::remove_file(path).unwrap();
        mkfifo(path, Mode::S_IRWXU).unwrap();
    }),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("a link", |path| {
        let away = path.with_extension("away");
        fs::rename(path, &away).unwrap();
        symlink(&away, path).unwrap();
    }),
];

fn change(path: &Path, name: &str, value: Value) {
    let mut state: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    state[name] = value;
    fs::write(path, state.to_string()).unwrap();
}

fn damaged_state() {
    let bundle = Bundle::new();
    let mut bench = Bench::new();
    for (what, damage) in DAMAGES {
        let container = bundle.run_detached();
        let (id, pid) = (container.id.as_str(), container.pid());
        damage(&state_file(id));
        for words in [
            vec!["state", id],
            vec!["start", id],
            vec!["kill", id, "KILL"],
            vec!["exec", id, "true"],
            vec!["pause", id],
            vec!["ps", "--format", "json", id],
            vec!["update", "--pids-limit", "5", id],
            vec!["delete", id],
        ] {
            bench.judge(&format!("{} with a state that is {what}", words[0]), Call::new(&words), &["state", id]);
        }
        assert!(alive(pid), "{what}: the container was killed by a command that failed");
        Call::new(&["delete", "--force", id]).output().ok();
        eventually(&format!("{what}: the container's process is gone"), || !alive(pid));
        assert!(!state_root().join(id).exists(), "{what}: the state is still there");
    }
    bench.finish(96);
}

fn journal(id: &str) -> PathBuf {
    state_root().join(id).join("journal")
}

/// Where in a journal its parts begin: what exec needs, the first state, the configuration.
fn parts(journal: &[u8]) -> [usize; 3] {
    let line = journal.iter().position(|byte| *byte == b'\n').unwrap();
    let numbers: Vec<usize> =
        str::from_utf8(&journal[..line]).unwrap().split(' ').skip(2).map(|number| number.parse().unwrap()).collect();
    assert_eq!(line + 1 + numbers.iter().sum::<usize>(), journal.len());
    [line + 1, line + 1 + numbers[0], line + 1 + numbers[0] + numbers[1]]
}

/// What the container was made by: exec and mounts read it, and a delete finds its cgroup by it where the state is gone.
fn damaged_configuration() {
    let bundle = Bundle::new();
    let mut bench = Bench::new();
    for (what, damage) in
        DAMAGES.into_iter().filter(|(what, _)| !["of a wrong type", "of a future version", "a link"].contains(what))
    {
        let container = bundle.run_detached();
        let id = container.id.as_str();
        damage(&journal(id));
        let whole = what == "64 MiB long"; // The beginning is as it was.
        for (words, read) in [(["exec", id, "true"], whole || what == "cut off"), (["mounts", "list", id], whole)] {
            if read {
                Call::new(&words).output().ok();
            } else {
                bench.judge(&format!("{} with a journal that is {what}", words[0]), Call::new(&words), &["journal"]);
            }
        }
        assert_eq!(container.status(), "running");
    }
    bench.finish(15);
}

/// What create made ready for exec is only a help: the configuration says the same.
fn damaged_help_for_exec() {
    let mut bundle = Bundle::new();
    bundle.set("/process/env", serde_json::json!(["PATH=/bin", "WHO=me"]));
    let container = bundle.run_detached();
    let file = journal(&container.id);
    let mut bytes = fs::read(&file).unwrap();
    let [exec, state, _] = parts(&bytes);
    assert!(state > exec);
    let say = || Call::new(&["exec", &container.id, "/bin/sh", "-c", "echo $WHO"]).output().ok();
    assert_eq!(say(), "me\n");
    bytes[exec..state].fill(b' ');
    fs::write(&file, bytes).unwrap();
    assert_eq!(say(), "me\n");
}

/// The files of a berth that knew no journal.
fn directory_of_an_older_berth() {
    for damaged in [false, true] {
        let container = Bundle::new().run_detached();
        let dir = state_root().join(&container.id);
        let pid = container.pid();
        let bytes = fs::read(journal(&container.id)).unwrap();
        let [exec, state, config] = parts(&bytes);
        fs::write(dir.join("exec.saved"), &bytes[exec..state]).unwrap();
        fs::write(dir.join("config.json"), &bytes[config..]).unwrap();
        fs::remove_file(journal(&container.id)).unwrap();
        assert_eq!(Call::new(&["exec", &container.id, "/bin/echo", "in"]).output().ok(), "in\n");
        Call::new(&["mounts", "list", &container.id]).output().ok();
        let words = if damaged {
            fs::write(dir.join("state.json"), "{").unwrap();
            vec!["delete", "--force", &container.id]
        } else {
            container.kill("KILL");
            eventually("it is gone", || container.status() == "stopped");
            vec!["delete", &container.id]
        };
        Call::new(&words).output().ok();
        eventually("its process is gone", || !alive(pid));
        assert!(!dir.exists());
    }
}

/// A pid that is another's by now: nobody is signalled, and the delete succeeds.
fn pid_of_another() {
    let bundle = Bundle::new();
    let container = bundle.run_detached();
    // The kernel tells when a process began in hundredths of a second: two that are alive at once may have the same, a pid that was
    // used again cannot.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let stranger = Bundle::new().run_detached();
    let pid = container.pid();
    let victim = stranger.pid();
    container.kill("KILL");
    eventually("it is gone", || !alive(pid));
    for number in [i64::from(victim), 1, i64::from(std::process::id()), -1, 0] {
        change(&state_file(&container.id), "init_process_pid", number.into());
        assert_eq!(container.status(), "stopped", "{number}");
        container.call(&["kill"]).output().fails();
    }
    change(&state_file(&container.id), "init_process_pid", victim.into());
    container.delete();
    assert!(alive(victim), "a process that is not the container's was killed");
}

/// After a reboot the pid and the cgroup of the state are somebody else's: here a container's that runs. None of them is touched, not even
/// while a delete by force waits for another command to let go of the container.
fn state_of_another_boot() {
    let victim = Bundle::new().run_detached();
    let (pid, state) = (victim.pid(), fs::read(state_file(&victim.id)).unwrap());
    for (words, held) in [(vec!["delete"], false), (vec!["delete", "--force"], false), (vec!["delete", "--force"], true)] {
        let dir = state_root().join("old");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("state.json"), &state).unwrap();
        change(&dir.join("state.json"), "id", "old".into());
        change(&dir.join("state.json"), "boot_id", "00000000-0000-0000-0000-000000000000".into());
        assert!(Call::new(&["state", "old"]).output().ok().contains("\"stopped\""));
        let lock = Flock::lock(fs::File::open(&dir).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let lock = held.then_some(lock);
        let deleting = Call::new(&[&words[..], &["old"]].concat()).spawn();
        if lock.is_some() {
            // Long enough for it to see the lock, and what it must not do is done at once.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        drop(lock);
        deleting.finish().ok();
        assert!(!dir.exists(), "{words:?}");
        assert!(alive(pid) && victim.status() == "running", "{words:?} has killed a stranger, held: {held}");
    }
}

/// What else the state says of the process does not count, where the kernel gives each process's handle an inode of its own.
fn process_known_by_its_inode() {
    let container = Bundle::new().run_detached();
    let file = state_file(&container.id);
    let state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let inode = state["init_process_inode"].as_u64().unwrap();
    change(&file, "init_process_start", 1.into());
    assert_eq!(container.status(), "running");
    for other in [inode + 1, 1, u64::MAX] {
        change(&file, "init_process_inode", other.into());
        assert_stopped(&container);
    }
    change(&file, "init_process_inode", inode.into());
    assert_eq!(container.status(), "running");
}

/// As on kernels before 6.9, and as an older berth has saved it.
fn process_known_by_its_start() {
    let container = Bundle::new().run_detached();
    let file = state_file(&container.id);
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let start = state["init_process_start"].as_u64().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(22 - 3), Some(start.to_string().as_str()));
    let fields = state.as_object_mut().unwrap();
    fields.remove("init_process_inode");
    fields.insert("creator_pid".into(), 1.into());
    fields.insert("creator_start".into(), 1.into());
    fields.insert("boot_id".into(), fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().into());
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(container.status(), "running");
    assert_eq!(Call::new(&["exec", &container.id, "/bin/echo", "in"]).output().ok(), "in\n");
    change(&file, "init_process_start", (start + 1).into());
    assert_stopped(&container);
    change(&file, "init_process_start", start.into());
    container.kill("KILL");
    eventually("it is gone", || container.status() == "stopped");
    container.delete();
}

/// Every command takes it for stopped, and its process is left alone.
#[track_caller]
fn assert_stopped(container: &Container) {
    assert_eq!(container.status(), "stopped");
    container.call(&["kill"]).output().fails();
    container.call(&["start"]).output().fails();
    container.call(&["pause"]).output().fails();
    let list: Value = serde_json::from_str(&Call::new(&["list", "--format", "json"]).output().ok()).unwrap();
    assert!(
        list.as_array().unwrap().iter().any(|one| one["id"] == container.id.as_str() && one["status"] == "stopped"),
        "{list}"
    );
}

/// They are there: their ids are taken, and somebody has to delete them.
fn damaged_containers_are_listed() {
    let (good, bad) = (Bundle::new().create(), Bundle::new().create());
    fs::write(state_file(&bad.id), "{").unwrap();
    let output = Call::new(&["list", "--format", "json"]).output();
    assert_eq!(output.stderr, "", "engines read both streams as one document");
    let list: Value = serde_json::from_str(&output.ok()).unwrap();
    let entry = |id: &str| list.as_array().unwrap().iter().find(|entry| entry["id"] == id).unwrap_or_else(|| panic!("{list}"));
    assert_eq!(entry(&good.id)["status"], "created");
    assert_eq!(entry(&bad.id)["status"], "unknown");
    assert_eq!(entry(&bad.id)["pid"], 0);
    assert!(crate::lifecycle::is_rfc3339(entry(&bad.id)["created"].as_str().unwrap()), "{list}");
    let table = Call::new(&["list"]).output().ok();
    assert!(table.lines().any(|line| line.contains(&bad.id) && line.contains("unknown")), "{table}");
    let ids = Call::new(&["list", "-q"]).output().ok();
    assert!(ids.lines().any(|line| line == bad.id), "{ids}");
}

/// Files of others in the state root are not containers.
fn strangers_in_the_state_root() {
    let container = Bundle::new().create();
    fs::write(state_root().join("file"), "x").unwrap();
    fs::write(state_root().join(".hidden"), "x").unwrap();
    symlink("/etc", state_root().join("link")).unwrap();
    mkfifo(&state_root().join("fifo"), Mode::S_IRWXU).unwrap();
    let list: Value = serde_json::from_str(&Call::new(&["list", "--format", "json"]).output().ok()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(Call::new(&["list", "-q"]).output().ok().trim(), container.id);
    let mut bench = Bench::new();
    for id in ["file", "link", "fifo"] {
        for verb in ["state", "start", "delete"] {
            bench.judge(&format!("{verb} of the {id}"), Call::new(&[verb, id]), &[id]);
        }
        let call = Call::new(&["delete", "--force", id]);
        bench.judge(&format!("delete by force of the {id}"), call, &[id]);
    }
    assert!(Path::new("/etc/passwd").exists());
    for name in ["file", ".hidden", "link", "fifo"] {
        fs::remove_file(state_root().join(name)).unwrap();
    }
    drop(container);
    bench.finish(12);
}
