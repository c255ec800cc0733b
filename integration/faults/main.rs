// SPDX-License-Identifier: Apache-2.0
//! Fault injection: whatever moment a runtime dies at, and whatever call of the kernel fails, `delete --force` leaves nothing behind.
//! `hack/faults` builds and runs it.
//!
//! usage: faults [--jobs N] [--sample N] [WORD…]
//!
//! For each command and each *strike* one row, over all points ([`trace`]), or N of them evenly spaced with --sample:
//!
//! * kill: SIGKILL before a call that has an effect, of the runtime's main process (`main`), of the process that makes the call
//!   (`self`), or of all its processes (`tree`). Then `delete --force` must answer 0 and leave no process, cgroup, mount or file.
//! * an errno: one call fails with it, without being made. The runtime must end within 8 s, not by a signal or a panic. Either it fails
//!   with one line on stderr, and a create or run has left nothing then; or it goes on, and has done what it says. After `delete
//!   --force` nothing may be left.
//!
//! All points of a row have the same container id, so each shows that the one before has left it usable. WORDs choose rows whose name
//! contains one (`create`, `start/main`, `ENOSPC`). RUNTIME names the binary. Best run under `hack/native`.

// A failed `unwrap` is a failed row, with its place.
#![allow(clippy::unwrap_used)]

#[cfg(target_arch = "x86_64")]
mod bundle;
mod calls;
#[cfg(target_arch = "x86_64")]
mod crowd;
#[cfg(target_arch = "x86_64")]
mod left;
#[cfg(target_arch = "x86_64")]
mod operations;
#[cfg(target_arch = "x86_64")]
mod row;
#[cfg(target_arch = "x86_64")]
mod trace;

use std::time::Duration;

/// How long a command may take.
const HANG: Duration = Duration::from_secs(8);

/// The errors that a call is made to fail with.
const ERRORS: [(&str, i32); 6] = [
    ("ENOMEM", libc::ENOMEM),
    ("EIO", libc::EIO),
    ("ENOSPC", libc::ENOSPC),
    ("EAGAIN", libc::EAGAIN),
    ("EINTR", libc::EINTR),
    ("EMFILE", libc::EMFILE),
];

/// What is done at a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    /// Kills the main process.
    Main,
    /// Kills the process that is at the point.
    Itself,
    /// Kills all processes.
    Tree,
    /// The call fails with this errno.
    Fail(i32),
    /// Nothing: counts the points where processes can be killed.
    CountKills,
    /// Nothing: counts the points where calls can fail.
    CountFailures,
}

impl Strike {
    fn name(self) -> String {
        match self {
            Strike::Main => "main".into(),
            Strike::Itself => "self".into(),
            Strike::Tree => "tree".into(),
            Strike::CountKills => "count-kills".into(),
            Strike::CountFailures => "count-failures".into(),
            Strike::Fail(number) => ERRORS.iter().find(|(_, errno)| *errno == number).map_or("?", |(name, _)| name).into(),
        }
    }

    fn all() -> Vec<Strike> {
        let kills = [Strike::Main, Strike::Itself, Strike::Tree];
        kills.into_iter().chain(ERRORS.iter().map(|(_, errno)| Strike::Fail(*errno))).collect()
    }

    fn parse(name: &str) -> Option<Strike> {
        Strike::all().into_iter().chain([Strike::CountKills, Strike::CountFailures]).find(|strike| strike.name() == name)
    }

    fn is_kill(self) -> bool {
        !matches!(self, Strike::Fail(_) | Strike::CountFailures)
    }

    fn is_count(self) -> bool {
        matches!(self, Strike::CountKills | Strike::CountFailures)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("skip faults: the tracer knows the registers of x86_64 only\n0 passed, 0 failed, 1 skipped");
}

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("traced") => trace::traced(&words[1..]),
        Some("trace") => trace::trace(&words[1..]),
        Some("row") => row::run(&words[1..]),
        _ => return table(words),
    }
    std::process::ExitCode::SUCCESS
}

/// Runs the rows, each in a process of its own, and adds them up.
#[cfg(target_arch = "x86_64")]
fn table(mut words: Vec<String>) -> std::process::ExitCode {
    use std::process::{Child, Command, ExitCode, Stdio};

    let mut option = |name: &str, default: usize| match words.iter().position(|word| word == name) {
        Some(at) => words.drain(at..at + 2).nth(1).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} N")),
        None => default,
    };
    let (jobs, sample) = (option("--jobs", 2), option("--sample", usize::MAX));
    if std::env::var_os("RUNTIME").is_none() {
        println!("RUNTIME must name the runtime's binary: see hack/faults");
        return ExitCode::FAILURE;
    }
    let rows =
        operations::OPERATIONS.iter().flat_map(|operation| Strike::all().into_iter().map(move |strike| (operation.name, strike)));
    let mut rows = rows.filter(|(operation, strike)| {
        let name = format!("{operation}/{}", strike.name());
        words.is_empty() || words.iter().any(|word| name.contains(word))
    });
    println!("{}", row::Counts::HEAD);
    let (mut sum, mut running): (row::Counts, Vec<Child>) = Default::default();
    loop {
        while running.len() < jobs
            && let Some((operation, strike)) = rows.next()
        {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["row", operation, &strike.name(), &sample.to_string()]).stdout(Stdio::piped());
            running.push(command.spawn().unwrap());
        }
        if running.is_empty() {
            break;
        }
        // In their order; the second goes on meanwhile.
        let output = running.remove(0).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| !line.starts_with("counts ")).for_each(|line| println!("{line}"));
        match text.lines().rev().find_map(|line| line.strip_prefix("counts ")) {
            Some(counts) if output.status.success() => sum.add(counts),
            _ => {
                println!("FAIL a row broke off: {}", output.status);
                sum.failed += 1;
            }
        }
    }
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
