// SPDX-License-Identifier: Apache-2.0
//! Watches over one test: runs its body with a deadline, then looks for what it left behind, and cleans that up.
//!
//! A test that passed must have left nothing: no live process, no cgroup, no mount in its caller's mount namespace, no
//! entry in the state root. The warden prints a line with the outcome and then the body's log. Called by `run` only.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::run::FAILED;
use super::{call, look};

/// Runs the body of the test `name`, looks, prints, and exits with the outcome.
pub fn watch(name: &str, deadline: Duration) -> ! {
    set_child_subreaper(true).unwrap();
    // As on a host under systemd all mounts are shared, so that one which escapes from a container shows up here.
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).unwrap();

    let place = PathBuf::from(std::env::var_os("BERTH_TEST_PLACE").unwrap());
    let mut dir = place.join(name);
    if dir.exists() {
        // A second try: the first one's folder is as its failure left it.
        dir = place.join(format!("{name}-again"));
    }
    fs::create_dir(&dir).unwrap();
    fs::create_dir(dir.join("state")).unwrap();
    let mounts = look::mounts();
    let (mut outcome, mut message) = run_body(name, &dir, deadline);

    let mut left = left_processes();
    left.extend(left_cgroups(&format!("bt-{}-", std::process::id())));
    // What berth keeps for the next containers is meant to stay; it ends with this mount namespace.
    let kept = |mount: &&look::Mount| mount.at.starts_with("/run/berth.mntns/") || mount.at == "/run/berth.bpf";
    let now = look::mounts();
    let new = now.iter().filter(|mount| !kept(mount) && !mounts.iter().any(|old| old.id == mount.id));
    left.extend(new.map(|mount| format!("mount {}", mount.line)));
    left.extend(left_state(&dir.join("state")));
    if outcome != FAILED && !left.is_empty() {
        outcome = FAILED;
        message = format!("left behind: {}", left.join("; "));
    }
    let printable = |c: char| if c.is_control() { '?' } else { c };
    let line: String = message.trim().replace('\n', "; ").chars().map(printable).take(1000).collect();
    let _ = writeln!(std::io::stdout(), "{line}");
    let _ = std::io::stdout().write_all(&fs::read(beside(&dir, "log")).unwrap_or_default());
    if outcome == FAILED {
        left.iter().for_each(|thing| println!("left behind: {thing}"));
    }
    exit(outcome)
}

/// A file of ours beside the test's folder, in which the test may put what it likes.
pub fn beside(dir: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}.{extension}", dir.display()))
}

/// Returns the body's outcome and its message.
fn run_body(name: &str, dir: &Path, deadline: Duration) -> (i32, String) {
    let log = fs::File::create(beside(dir, "log")).unwrap();
    let mut body = Command::new(std::env::current_exe().unwrap())
        .args(["--body", name])
        .env("BERTH_TEST_ID", format!("bt-{}-", std::process::id()))
        .env("BERTH_TEST_DIR", dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let message = || fs::read_to_string(beside(dir, "message")).unwrap_or_default();
    let pid = Pid::from_raw(i32::try_from(body.id()).unwrap());
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = body.try_wait().unwrap() {
            return match status.code() {
                Some(code) => (code, message()),
                None => (FAILED, format!("the test's process ended with {status}")),
            };
        }
        if start.elapsed() > deadline {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = body.wait();
            return (FAILED, format!("still running after {} s: {}", deadline.as_secs(), message()));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// All processes below us, which were orphaned; after a second's grace those that are still alive are named and killed.
fn left_processes() -> Vec<String> {
    let start = Instant::now();
    let mut left = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return left,
            Ok(WaitStatus::StillAlive) => {}
            _ => continue,
        }
        if left.is_empty() && start.elapsed() > Duration::from_secs(1) {
            left = look::children_of_self().iter().map(|pid| format!("process {pid} ({})", look::comm(*pid))).collect();
        }
        if !left.is_empty() {
            for child in look::children_of_self() {
                let _ = kill(child, Signal::SIGKILL);
            }
        }
        if start.elapsed() > Duration::from_secs(5) {
            left.push("which cannot be killed".to_owned());
            return left;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Cgroups whose name contains the test's id, removed on the way.
fn left_cgroups(id: &str) -> Vec<String> {
    let left: Vec<PathBuf> = look::cgroups_named(id);
    for dir in &left {
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        for below in look::cgroups_below(dir) {
            for _ in 0..100 {
                if fs::remove_dir(&below).is_ok() {
                    break;
                }
                sleep(Duration::from_millis(5));
            }
        }
    }
    left.iter().map(|dir| format!("cgroup {}", dir.display())).collect()
}

fn left_state(root: &Path) -> Vec<String> {
    let mut left: Vec<String> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    if call::runtime_name().as_deref() == Some("crun") {
        left.retain(|name| ![".empty-directory", ".empty-file", ".cache"].contains(&name.as_str())); // kept for all containers
    }
    left.iter().map(|name| format!("state {name}")).collect()
}
