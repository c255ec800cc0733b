// SPDX-License-Identifier: Apache-2.0
//! A soak: many containers alive, many more made and deleted at once again and again, execs beside updates and deletes; at the end nothing
//! may be left. `hack/soak` builds and runs it.
//!
//! usage: soak [--minutes N] [--alive N] [--burst N] [--no-updates]
//!
//! Two processes. The first adopts what the runtime's commands leave behind, as an engine's shim would, and reaps it; the second,
//! [`work`], drives the runtime named by RUNTIME and counts ([`figures`]). A command that fails where it must not, hangs for a minute, dies
//! of a signal or panics is a wrong result. The exit status is 1 after any, or where something has leaked.

// A failed `unwrap` is a failed soak, with its place.
#![allow(clippy::unwrap_used)]

#[path = "../faults/bundle.rs"]
mod bundle;
mod figures;
mod work;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What is asked for.
pub struct Options {
    /// How long.
    pub minutes: f64,
    /// Containers that live all the time.
    pub alive: usize,
    /// Containers that are made, and then deleted, at once.
    pub burst: usize,
    /// Limits are updated as well; they need a controller.
    pub updates: bool,
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut found = Options { minutes: 10.0, alive: 500, burst: 50, updates: true };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse::<f64>().ok()).filter(|value| *value > 0.0);
            value.ok_or(format!("{word} wants a number"))
        };
        match word.as_str() {
            "--minutes" => found.minutes = number()?,
            "--alive" => found.alive = number()? as usize,
            "--burst" => found.burst = number()? as usize,
            "--no-updates" => found.updates = false,
            _ => return Err(format!("unknown: {word}")),
        }
    }
    if found.alive < 10 { Err("--alive wants 10 or more".into()) } else { Ok(found) }
}

#[allow(clippy::zombie_processes, reason = "whatever ends is waited for below, the worker among it")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "work") {
        let clean = work::run(&options(&words[1..]).unwrap());
        return if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Err(why) = options(&words) {
        eprintln!("soak: {why}");
        return ExitCode::from(2);
    }
    if std::env::var_os("RUNTIME").is_none() {
        eprintln!("RUNTIME must name the runtime's binary: see hack/soak");
        return ExitCode::from(2);
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let worker = Command::new(std::env::current_exe().unwrap()).arg("work").args(&words).spawn().unwrap();
    let worker = Pid::from_raw(worker.id() as i32);
    let clean = loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == worker => break code == 0,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == worker => {
                println!("FAIL the soak itself died of {signal}");
                break false;
            }
            _ => {}
        }
    };
    if end_orphans() && clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all that was left to us has ended by itself; what has not is killed, so that the machine is as it was.
fn end_orphans() -> bool {
    let started = Instant::now();
    let mut clean = true;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Err(Errno::ECHILD) => return clean,
            Ok(WaitStatus::StillAlive) => {}
            _ => continue,
        }
        if started.elapsed() > Duration::from_secs(10) {
            let left = figures::children("self");
            if clean {
                println!("FAIL {} processes are left", left.len());
            }
            clean = false;
            left.into_iter().for_each(|pid| _ = kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        if started.elapsed() > Duration::from_secs(30) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
