// SPDX-License-Identifier: Apache-2.0
//! Commands that meet: of one container at the same moment, with a hook that is killed, with a disk that is full or read-only later in a
//! life. What is left after a kill of the runtime is tested in `lifecycle`, `run` and, at every call, by `hack/faults`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::bundle::{folder, state_root};
use crate::harness::look::{self, eventually};
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(four_deletes_at_once).differs(&[("crun", "some of them fail")]),
    test!(delete_beside_start),
    test!(two_starts_at_once),
    test!(killed_hook_ends_the_create),
    test!(full_disk_after_the_create).differs(OWN),
    test!(read_only_state_root_after_the_create).differs(OWN),
    test!(boot_of_a_state_that_may_outlive_it).differs(OWN),
    test!(state_beside_create),
    test!(state_of_one_half_made).differs(OWN),
    test!(what_is_not_written_to_its_end).differs(OWN),
];

/// What they do on such a disk is not ours to say.
const OWN: &[(&str, &str)] = &[("runc", "does this in another way"), ("crun", "does this in another way")];

/// What there is of a container: its cgroups, its state.
#[track_caller]
fn assert_gone(id: &str, pid: i32) {
    assert!(!look::alive(pid), "process {pid} lives");
    assert_eq!(look::cgroups_named(id), Vec::<PathBuf>::new());
    assert!(!state_root().join(id).exists());
}

/// All of them say that it is gone, and it is; whatever state it was in. The id can be used again.
fn four_deletes_at_once() {
    for round in 0..12 {
        let bundle = Bundle::new();
        let container = if round % 2 == 0 { bundle.run_detached() } else { bundle.create() };
        let pid = container.pid();
        let deletes: Vec<_> = (0..4).map(|_| container.call(&["delete", "--force"]).spawn()).collect();
        let outputs: Vec<_> = deletes.into_iter().map(|delete| delete.finish()).collect();
        outputs.into_iter().for_each(|output| drop(output.ok()));
        assert_gone(&bundle.id, pid);
        assert_eq!(bundle.create().status(), "created");
    }
}

/// Whichever comes first: the start says what became of it, the delete succeeds, and nothing is left.
fn delete_beside_start() {
    for round in 0..12 {
        let bundle = Bundle::new();
        let container = bundle.create();
        let pid = container.pid();
        let mut calls = vec![container.call(&["start"]), container.call(&["delete", "--force"])];
        if round % 2 == 1 {
            calls.reverse();
        }
        let mut outputs: Vec<_> =
            calls.into_iter().map(Call::spawn).collect::<Vec<_>>().into_iter().map(|call| call.finish()).collect();
        if round % 2 == 1 {
            outputs.reverse();
        }
        let delete = outputs.pop().unwrap();
        let start = outputs.pop().unwrap();
        assert!(start.code() == 0 || !start.stderr.trim().is_empty(), "{start:?}");
        delete.ok();
        assert_gone(&bundle.id, pid);
    }
}

/// One of them starts it, and says so; the other says why not.
fn two_starts_at_once() {
    for _ in 0..6 {
        let container = Bundle::new().create();
        let starts = [container.call(&["start"]).spawn(), container.call(&["start"]).spawn()];
        let good = starts.map(|start| start.finish()).into_iter().filter(|output| output.code() == 0).count();
        assert_eq!(good, 1);
        assert_eq!(container.status(), "running");
    }
}

/// By the administrator, or for lack of memory: it has failed, and the create with it.
fn killed_hook_ends_the_create() {
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = Bundle::new();
        let begun = folder().join(kind);
        let script = format!("echo $$ >{0}.tmp; mv {0}.tmp {0}; exec sleep 1000", begun.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
        bundle.set(&format!("/hooks/{kind}/-"), hook);
        let container = bundle.container();
        let create = bundle.create_call(&[]).spawn();
        eventually("the hook runs", || begun.exists());
        // Of a createContainer hook the number is that inside: its own pid namespace's.
        let inside = fs::read_to_string(&begun).unwrap().trim().to_owned();
        let is_hook = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let numbers = look::status(*pid, "NSpid").unwrap_or_default();
            line.starts_with(b"sleep\x001000") && numbers.split(' ').next_back() == Some(inside.as_str())
        };
        eventually("the hook sleeps", || look::processes().iter().any(is_hook));
        let hook = look::processes().into_iter().find(is_hook).unwrap();
        kill(Pid::from_raw(hook), Signal::SIGKILL).unwrap();
        let message = create.finish().fails();
        assert!(message.contains("SIGKILL") || message.contains("signal"), "{kind}: {message}");
        container.call(&["state"]).output().fails();
        assert!(look::cgroups_named(&bundle.id).is_empty(), "{kind}");
    }
}

/// A state root of its own on a tmpfs, for as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn new(options: &str) -> Disk {
        let place = folder().join("disk");
        fs::create_dir(&place).unwrap();
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Disk(place)
    }

    fn call(&self, words: &[&str]) -> Call {
        Call::bare(&[&["--root", self.0.to_str().unwrap()], words].concat())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Fills a file system to the last byte.
fn fill(place: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(place.join("filler")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// No state can be written: an update says so and leaves the state whole; what needs no room works, delete above all.
fn full_disk_after_the_create() {
    let disk = Disk::new("size=256k");
    for foreground in [false, true] {
        let bundle = Bundle::new();
        bundle.save();
        let made = if foreground { ["run", "--detach"].as_slice() } else { ["create"].as_slice() };
        bundle.output_of(disk.call(&[made, &["--bundle", bundle.path(), &bundle.id]].concat())).ok();
        fill(&disk.0);
        if !foreground {
            disk.call(&["start", &bundle.id]).output().ok();
        }
        disk.call(&["exec", &bundle.id, "/bin/true"]).output().ok();
        let other = Bundle::new();
        other.save();
        let message = other.output_of(disk.call(&["create", "--bundle", other.path(), &other.id])).fails();
        assert!(message.contains("no space left"), "{message}");
        assert!(!disk.0.join(&other.id).exists() && look::cgroups_named(&other.id).is_empty());
        assert!(disk.call(&["state", &bundle.id]).output().ok().contains("\"running\""));
        disk.call(&["kill", &bundle.id, "KILL"]).output().ok();
        disk.call(&["delete", "--force", &bundle.id]).output().ok();
        assert!(!disk.0.join(&bundle.id).exists() && look::cgroups_named(&bundle.id).is_empty());
        fs::remove_file(disk.0.join("filler")).unwrap();
    }
}

/// A state that cannot be removed is told; it is removed when it can be, and nothing runs meanwhile.
fn read_only_state_root_after_the_create() {
    let disk = Disk::new("size=256k");
    let bundle = Bundle::new();
    bundle.save();
    bundle.output_of(disk.call(&["run", "--detach", "--bundle", bundle.path(), &bundle.id])).ok();
    let state: serde_json::Value = serde_json::from_str(&disk.call(&["state", &bundle.id]).output().ok()).unwrap();
    let pid = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    let remount = |flags| mount(None::<&str>, &disk.0, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
    remount(MsFlags::MS_RDONLY);
    disk.call(&["exec", &bundle.id, "/bin/true"]).output().ok();
    let message = disk.call(&["delete", "--force", &bundle.id]).output().fails();
    assert!(message.contains("read-only"), "{message}");
    eventually("its process is dead all the same", || !look::alive(pid));
    assert!(disk.call(&["state", &bundle.id]).output().ok().contains("\"stopped\""));
    remount(MsFlags::empty());
    disk.call(&["delete", "--force", &bundle.id]).output().ok();
    assert!(!disk.0.join(&bundle.id).exists() && look::cgroups_named(&bundle.id).is_empty());
}

/// Where the state root is in memory, no state can be of another boot, and none says of which it is. What an older berth has left says it.
fn boot_of_a_state_that_may_outlive_it() {
    let disk = Disk::new("size=1m");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let bundle = Bundle::new();
    bundle.save();
    bundle.output_of(disk.call(&["run", "--detach", "--bundle", bundle.path(), &bundle.id])).ok();
    let file = disk.0.join(&bundle.id).join("state.json");
    let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(&file).unwrap()).unwrap();
    let status = || disk.call(&["state", &bundle.id]).output().ok();
    assert!(read().get("boot_id").is_none());
    assert!(status().contains("\"running\""));
    for (boot, word) in [(boot.trim(), "\"running\""), ("00000000-0000-0000-0000-000000000000", "\"stopped\"")] {
        let mut state = read();
        state["boot_id"] = json!(boot);
        fs::write(&file, state.to_string()).unwrap();
        assert!(status().contains(word), "{boot}");
    }
    fs::write(&file, {
        let mut state = read();
        state.as_object_mut().unwrap().remove("boot_id");
        state.to_string()
    })
    .unwrap();
    disk.call(&["delete", "--force", &bundle.id]).output().ok();
    // Elsewhere it says so, if that is no file system in memory.
    let container = Bundle::new().create();
    let file = state_root().join(&container.id).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let in_memory = nix::sys::statfs::statfs(&state_root()).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC;
    assert_eq!(state.get("boot_id").and_then(|id| id.as_str()), (!in_memory).then_some(boot.trim()));
}

/// It is not there, or being made, or made: at no moment anything else, although its maker ends as soon as it is made.
fn state_beside_create() {
    for _ in 0..10 {
        let bundle = Bundle::new();
        bundle.save();
        let container = bundle.container();
        let mut create = bundle.create_call(&[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
        let mut made = false;
        while !made {
            made = create.try_wait().unwrap().is_some();
            let seen = container.call(&["state"]).output();
            if seen.code() == 0 {
                let state: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
                let status = state["status"].as_str().unwrap();
                assert!(if made { status == "created" } else { ["creating", "created"].contains(&status) }, "{state}");
            } else {
                assert!(!made && seen.stderr.contains("does not exist"), "{seen:?}");
            }
        }
        assert!(create.wait().unwrap().success());
    }
}

/// Its maker was killed after the journal: it has stopped, and a delete knows its cgroup.
fn state_of_one_half_made() {
    let mut bundle = Bundle::sh("true");
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}));
    bundle.save();
    let mut making = bundle.create_call(&[]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    let container = bundle.container();
    let dir = state_root().join(&bundle.id);
    eventually("it is being made", || {
        let seen = container.call(&["state"]).output();
        seen.code() == 0 && seen.stdout.contains("creating") && !look::cgroups_named(&bundle.id).is_empty()
    });
    assert!(!dir.join("state.json").exists());
    making.kill().unwrap();
    making.wait().unwrap();
    assert_eq!(container.status(), "stopped");
    container.delete();
    assert!(!dir.exists());
    assert!(look::cgroups_named(&bundle.id).is_empty());
}

/// A journal that is cut is none: its maker was killed before it made anything. An empty state may be damaged, and what it was of may run.
fn what_is_not_written_to_its_end() {
    let container = Bundle::new().run_detached();
    let dir = state_root().join(&container.id);
    fs::write(dir.join("state.json"), "").unwrap();
    let cut = state_root().join("cut");
    fs::create_dir(&cut).unwrap();
    fs::write(cut.join("journal"), "journal 1 0 900 14000\n{\"version\":1,").unwrap();
    for id in [container.id.as_str(), "cut"] {
        for words in [["state", id], ["start", id], ["delete", id]] {
            let message = Call::new(&words).output().fails();
            assert!(message.contains("does not exist") && message.contains("delete --force"), "{message}");
        }
    }
    let list: serde_json::Value = serde_json::from_str(&Call::new(&["list", "--format", "json"]).output().ok()).unwrap();
    assert_eq!(list.as_array().unwrap().iter().filter(|one| one["status"] == "unknown").count(), 2, "{list}");
    Call::new(&["delete", "--force", "cut"]).output().ok();
    assert!(!cut.exists() && !look::cgroups_named(&container.id).is_empty());
    Call::new(&["delete", "--force", &container.id]).output().ok();
    assert!(!dir.exists() && look::cgroups_named(&container.id).is_empty());
}
