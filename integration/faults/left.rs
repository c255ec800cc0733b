// SPDX-License-Identifier: Apache-2.0
//! Where to look for what a command has left: processes, cgroups, files.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};

/// Reaps what has ended; returns the children that live.
pub fn reap() -> Vec<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Err(Errno::ECHILD) => return Vec::new(),
            Ok(nix::sys::wait::WaitStatus::StillAlive) => break,
            _ => {}
        }
    }
    children()
}

/// The processes that this one has to reap, or has had come to it.
pub fn children() -> Vec<i32> {
    let text = fs::read_to_string("/proc/thread-self/children").unwrap();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A process, in words.
pub fn shown(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().filter(|line| line.starts_with("Name:") || line.starts_with("State:")).collect::<Vec<_>>().join(", ")
}

/// Its cgroups, from the top down.
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &mut |path| {
        if path.is_dir() && path.components().any(|part| part.as_os_str() == id) {
            found.push(path.to_path_buf());
        }
    });
    found
}

/// Visits all that is below a directory; what vanishes meanwhile is not there.
pub fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}
