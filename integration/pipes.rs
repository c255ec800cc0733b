// SPDX-License-Identifier: Apache-2.0
//! Files that the caller names and that are pipes: shells make them (`--process <(command)`), and scripts write to a FIFO or to
//! /dev/stdin. They are read to their end; one that nobody writes to keeps no command.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::{Bundle, Call, Container, Need, Test, look};
use crate::test;

const WAITS: &[(&str, &str)] =
    &[("runc", "waits for ever for a writer of a FIFO"), ("crun", "waits for ever for a writer of a FIFO")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(process_from_a_pipe_of_a_shell).needs(&[Need::Program("bash")]),
    test!(process_from_stdin),
    test!(process_from_a_fifo),
    test!(limits_from_pipes).needs(&[Need::Controller("pids")]),
    test!(configuration_from_a_fifo).differs(&[("crun", "reads it twice")]),
    test!(configuration_from_a_pipe_of_a_shell)
        .needs(&[Need::Program("bash")])
        .differs(&[("runc", "has no --config"), ("crun", "reads it twice")]),
    test!(mounts_from_a_fifo).differs(&[("runc", "has no mounts")]),
    test!(fifo_without_a_writer).differs(WAITS),
];

fn sleeper() -> Container {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    container.start();
    container
}

fn process(script: &str) -> String {
    json!({ "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/" }).to_string()
}

fn path(name: &str) -> PathBuf {
    folder().join(name)
}

/// A pipe of which a program that is started gets nothing but what it is given.
fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

/// A FIFO to which a thread writes `text` in three pieces, with pauses.
fn slow_fifo(name: &str, text: String) -> (String, thread::JoinHandle<()>) {
    let path = path(name);
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let writer = thread::spawn({
        let path = path.clone();
        move || {
            let mut file = fs::File::options().write(true).open(path).unwrap();
            for piece in text.as_bytes().chunks(text.len() / 3 + 1) {
                thread::sleep(Duration::from_millis(20));
                file.write_all(piece).unwrap();
            }
        }
    });
    (path.to_str().unwrap().to_owned(), writer)
}

fn process_from_a_pipe_of_a_shell() {
    let container = sleeper();
    fs::write(path("process.json"), process("echo out")).unwrap();
    let file = path("process.json");
    let script = format!(r#""$@" --process <(cat {}) {}"#, file.display(), container.id);
    assert_eq!(Call::through(&["bash", "-c", &script, "-"], &["exec"]).output().ok(), "out\n");
}

fn process_from_stdin() {
    let container = sleeper();
    let (reader, writer) = pipe();
    let text = process("echo out");
    let write = thread::spawn(move || fs::File::from(writer).write_all(text.as_bytes()).unwrap());
    let call = Call::new(&["exec", "--process", "/dev/stdin", &container.id]).stdin(reader);
    assert_eq!(call.output().ok(), "out\n");
    write.join().unwrap();
}

fn process_from_a_fifo() {
    let container = sleeper();
    let (fifo, writer) = slow_fifo("process", process(&format!("echo {}", "x".repeat(50_000))));
    assert_eq!(Call::new(&["exec", "--process", &fifo, &container.id]).output().ok().len(), 50_001);
    writer.join().unwrap();
}

fn limits_from_pipes() {
    let container = sleeper();
    let limit = |number: u32| json!({ "pids": { "limit": number } }).to_string();
    let (fifo, writer) = slow_fifo("limits", limit(33));
    Call::new(&["update", "--resources", &fifo, &container.id]).output().ok();
    writer.join().unwrap();
    assert_eq!(pids_max(&container), "33");
    for word in ["/dev/stdin", "-"] {
        let (reader, writer) = pipe();
        fs::File::from(writer).write_all(limit(34).as_bytes()).unwrap();
        Call::new(&["update", "--resources", word, &container.id]).stdin(reader).output().ok();
        assert_eq!(pids_max(&container), "34", "{word}");
    }
}

fn pids_max(container: &Container) -> String {
    let cgroup = look::cgroup(container.pid());
    fs::read_to_string(look::cgroup2_root().join(&cgroup[1..]).join("pids.max")).unwrap().trim().to_owned()
}

fn configuration_from_a_fifo() {
    let bundle = Bundle::args(&["/bin/true"]);
    let place = bundle.dir.join("config.json");
    let call = bundle.create_call(&[]);
    let text = fs::read_to_string(&place).unwrap();
    fs::remove_file(&place).unwrap();
    let (fifo, writer) = slow_fifo("config", text);
    std::os::unix::fs::symlink(fifo, &place).unwrap();
    let container = bundle.container();
    bundle.output_of(call).ok();
    writer.join().unwrap();
    assert_eq!(container.status(), "created");
}

fn configuration_from_a_pipe_of_a_shell() {
    let bundle = Bundle::args(&["/bin/true"]);
    bundle.save();
    fs::rename(bundle.dir.join("config.json"), path("other.json")).unwrap();
    let other = path("other.json");
    let script = format!(r#""$@" --config <(cat {}) --bundle {} {}"#, other.display(), bundle.path(), bundle.id);
    let container = bundle.container();
    bundle.output_of(Call::through(&["bash", "-c", &script, "-"], &["create"])).ok();
    assert_eq!(container.status(), "created");
}

fn mounts_from_a_fifo() {
    let container = sleeper();
    let mounts = json!([{ "destination": "/new", "type": "tmpfs", "source": "tmpfs" }]);
    let (fifo, writer) = slow_fifo("mounts", mounts.to_string());
    Call::new(&["mounts", "add", &container.id, &fifo]).output().ok();
    writer.join().unwrap();
    assert_eq!(Call::new(&["exec", &container.id, "stat", "-f", "-c", "%T", "/new"]).output().ok(), "tmpfs\n");
}

/// One that nobody opens, and one that somebody opens and leaves without a word.
fn fifo_without_a_writer() {
    let container = sleeper();
    let fifo = path("silent");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let name = fifo.to_str().unwrap().to_owned();
    let start = Instant::now();
    let said = Call::new(&["exec", "--process", &name, &container.id]).output().fails();
    assert!(said.contains("nobody has opened it for writing") && said.contains(&name), "{said}");
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    let writer = thread::spawn(move || drop(fs::File::options().write(true).open(fifo).unwrap()));
    let said = Call::new(&["exec", "--process", &name, &container.id]).output().fails();
    assert!(said.contains("empty"), "{said}");
    writer.join().unwrap();
}
