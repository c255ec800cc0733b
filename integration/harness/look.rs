// SPDX-License-Identifier: Apache-2.0
//! What the kernel says: processes, namespaces, mounts, cgroups. Used by the tests and by their wardens.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::call::patience;

/// Waits until `condition` holds, at most ten seconds (times [`patience`]); `what` says what was waited for.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10) * patience(), "waited ten seconds in vain until {what}");
        sleep(Duration::from_millis(2));
    }
}

/// A mount as /proc/PID/mountinfo has it (proc_pid_mountinfo(5)).
#[derive(Clone, Debug)]
pub struct Mount {
    /// Its unique number.
    pub id: u64,
    /// Where it is mounted, as seen from the process's root.
    pub at: String,
    /// Per-mount options: ro, nosuid, …
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `unbindable`, …
    pub tags: Vec<String>,
    /// Its file system type.
    pub kind: String,
    /// Options of its file system (super block).
    pub data: Vec<String>,
    /// The whole line.
    pub line: String,
}

impl Mount {
    /// True if it has the option or super block option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.data).any(|o| o == option)
    }
}

/// Parses the text of a mountinfo file.
pub fn parse_mounts(text: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let dash = words.iter().position(|word| *word == "-").unwrap();
        let list = |word: &str| word.split(',').map(str::to_owned).collect();
        Mount {
            id: words[0].parse().unwrap(),
            at: words[4].to_owned(),
            options: list(words[5]),
            tags: words[6..dash].iter().map(|tag| (*tag).to_owned()).collect(),
            kind: words[dash + 1].to_owned(),
            data: list(words.get(dash + 3).unwrap_or(&"")),
            line: line.to_owned(),
        }
    };
    text.lines().filter(|line| line.contains(" - ")).map(parse).collect()
}

/// The mounts of our own namespace.
pub fn mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap())
}

/// The last mount at a place: the one that is seen there.
pub fn mount_at<'m>(mounts: &'m [Mount], at: &str) -> &'m Mount {
    mounts.iter().rfind(|mount| mount.at == at).unwrap_or_else(|| panic!("nothing is mounted at {at}: {mounts:#?}"))
}

/// The target of /proc/PID/ns/NAME, for example `mnt:[4026531841]`.
pub fn namespace(pid: impl std::fmt::Display, name: &str) -> String {
    let path = format!("/proc/{pid}/ns/{name}");
    fs::read_link(&path).unwrap_or_else(|error| panic!("{path}: {error}")).to_string_lossy().into_owned()
}

/// A field of the text of /proc/PID/status, without its tabs.
pub fn status_field(status: &str, field: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no field {field} in:\n{status}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A field of /proc/PID/status; None when there is no such process.
pub fn status(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status_field(&text, field))
}

/// What criu(8) says: whether it agrees, and its words; None where it is not here.
pub fn criu_says(words: &[&str]) -> Option<(bool, String)> {
    let path = std::env::var_os("BERTH_TEST_CRIU").map_or("criu".into(), |dir| PathBuf::from(dir).join("criu"));
    let output = std::process::Command::new(path).args(words).output().ok()?;
    Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Whether criu(8) is here and agrees.
pub fn criu(words: &[&str]) -> bool {
    criu_says(words).is_some_and(|(agrees, _)| agrees)
}

/// True while the process exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The name of a process, `?` when it is gone.
pub fn comm(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map_or("?".to_owned(), |name| name.trim().to_owned())
}

/// The parent of a process; 0 when it is gone.
pub fn parent(pid: i32) -> i32 {
    status(pid, "PPid").map_or(0, |parent| parent.parse().unwrap())
}

/// All our children, zombies included.
pub fn children_of_self() -> Vec<Pid> {
    let own = i32::try_from(std::process::id()).unwrap();
    processes().into_iter().filter(|pid| parent(*pid) == own).map(Pid::from_raw).collect()
}

/// All processes.
pub fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The directories of the cgroup tree, of all hierarchies, whose own name contains a text.
pub fn cgroups_named(text: &str) -> Vec<PathBuf> {
    let named = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().contains(text));
    cgroups_below(Path::new("/sys/fs/cgroup")).into_iter().filter(named).collect()
}

/// A directory and all below it, the deepest first.
pub fn cgroups_below(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(cgroups_below(&entry.path()));
        }
    }
    all.push(dir.to_owned());
    all
}

/// Where cgroup2 is mounted: /sys/fs/cgroup, or below it on a hybrid host.
pub fn cgroup2_root() -> PathBuf {
    let mounts = mounts();
    let mount = mounts.iter().rfind(|mount| mount.kind == "cgroup2" && mount.at.starts_with("/sys/fs/cgroup"));
    PathBuf::from(&mount.unwrap_or_else(|| panic!("no cgroup2 mount: {mounts:#?}")).at)
}

/// The cgroup2 path of a process relative to the hierarchy's mount, as /proc/PID/cgroup has it.
pub fn cgroup(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_else(|| panic!("no cgroup2 entry: {text}")).to_owned()
}
