// SPDX-License-Identifier: Apache-2.0
//! One command, measured: wall time, CPU, peak memory.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// Whatever goes wrong ends the benchmark.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A runtime to measure, with a state directory of its own.
pub struct Runtime {
    /// As it is called in tables.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    root: String,
    /// The program that measures, and where it writes.
    measure: PathBuf,
    took: PathBuf,
}

/// What one command took.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    /// From its start to its end.
    pub wall_ms: f64,
    /// User and system time.
    pub cpu_ms: f64,
    /// The most that was resident at once, of it or of a process it waited for.
    pub peak_kib: f64,
}

impl Runtime {
    /// The runtime at `path`, with its state below `dir`.
    pub fn new(name: &str, path: &str, dir: &Path) -> Outcome<Runtime> {
        let path = fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
        let root = dir.join("state").join(name);
        fs::create_dir_all(&root)?;
        Ok(Runtime {
            name: name.to_string(),
            path,
            root: root.to_string_lossy().into_owned(),
            measure: dir.join("bin/measure"),
            took: dir.join(format!("took-{name}")),
        })
    }

    /// Its command line with these arguments, after the `prefix` of a program that runs others.
    pub fn command(&self, prefix: &[&str], arguments: &[&str]) -> Command {
        let program = self.path.to_string_lossy();
        let words: Vec<&str> = prefix.iter().copied().chain([program.as_ref()]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["--root", &self.root]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs a command that has to succeed, by a small program that waits for it and writes what it took (measure.c).
    pub fn cost(&self, arguments: &[&str]) -> Outcome<Cost> {
        let (measure, took) = (self.measure.to_string_lossy(), self.took.to_string_lossy());
        self.command(&[&measure, &took], arguments).status()?;
        let bytes = fs::read(&self.took)?;
        let numbers: Vec<i64> =
            bytes.chunks_exact(8).filter_map(|chunk| Some(i64::from_ne_bytes(chunk.try_into().ok()?))).collect();
        let [status, wall_ns, cpu_us, peak_kib] = numbers[..] else { return Err("measure wrote something else".into()) };
        if status != 0 {
            return Err(format!("{} {}: status {status}", self.name, arguments.join(" ")).into());
        }
        Ok(Cost { wall_ms: wall_ns as f64 / 1e6, cpu_ms: cpu_us as f64 / 1e3, peak_kib: peak_kib as f64 })
    }
}

/// The CPU time that a process has had so far, in milliseconds; proc_pid_schedstat(5).
pub fn cpu_of(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or_default() / 1e6
}

/// User and system time of all processes that were waited for, in milliseconds; getrusage(2).
pub fn cpu_of_children() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let ms = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
    Ok(ms(usage.user_time()) + ms(usage.system_time()))
}

/// The memory that only this process has, in KiB, with its share of what it shares (Pss).
pub fn pss_of(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The pid in a pid file.
pub fn pid_in(file: &Path) -> Outcome<i32> {
    Ok(fs::read_to_string(file)?.trim().parse()?)
}

/// Waits until the init of a container, a child by then, is gone.
pub fn reap(pid: i32) {
    let _ = waitpid(Pid::from_raw(pid), None);
}

/// The middle of these numbers; 0 of none.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => 0.0,
        count if count % 2 == 1 => numbers[count / 2],
        count => (numbers[count / 2 - 1] + numbers[count / 2]) / 2.0,
    }
}
