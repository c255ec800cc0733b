// SPDX-License-Identifier: Apache-2.0
//! What there is: processes, cgroups, mounts, files, descriptors, kernel objects and memory.

use std::fmt;
use std::fs;
use std::path::Path;

/// Counts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Processes that are ours or were left to us.
    pub processes: usize,
    /// Cgroups of our tree, of all hierarchies.
    pub cgroups: usize,
    /// Mounts in our own namespace.
    pub mounts: usize,
    /// Files and directories in the state root.
    pub files: usize,
    /// Descriptors of this process, which starts all commands.
    pub descriptors: usize,
    /// Cgroups that are removed and that something still holds.
    pub dying: usize,
    /// Network namespaces of the whole machine, as the kernel counts their objects; 0 where it does not tell.
    pub networks: usize,
    /// Memory of the whole machine that the kernel cannot reclaim: slabs, stacks, page tables.
    pub kernel_kib: usize,
}

impl Figures {
    /// Counts. `processes` of the caller's own that are known to be no leftovers are not counted.
    pub fn take(state_root: &Path) -> Figures {
        let own = std::process::id() as i32;
        let parent = std::os::unix::process::parent_id().to_string();
        let mut processes = children("self");
        processes.extend(children(&parent).into_iter().filter(|pid| *pid != own));
        Figures {
            processes: processes.len(),
            cgroups: below(Path::new("/sys/fs/cgroup"), true),
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            files: below(state_root, false),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            dying: dying(),
            networks: slab_objects("net_namespace"),
            kernel_kib: kernel_memory(),
        }
    }

    /// What there is more of than `before`, after so many lives of containers. The last two are the machine's, where others work too:
    /// there only what grows with the lives is a leak.
    pub fn leaks_since(&self, before: &Figures, lives: usize) -> Vec<String> {
        let exact = [
            ("processes", before.processes, self.processes),
            ("cgroups", before.cgroups, self.cgroups),
            ("mounts", before.mounts, self.mounts),
            ("files in the state root", before.files, self.files),
            ("descriptors", before.descriptors, self.descriptors),
        ];
        let mut leaks: Vec<String> = exact
            .into_iter()
            .filter(|(_, before, now)| now > before)
            .map(|(what, before, now)| format!("{what}: {before} before, {now} now"))
            .collect();
        let growing = [
            ("dying cgroups", before.dying, self.dying, lives / 100 + 10),
            ("network namespaces", before.networks, self.networks, lives / 50 + 100),
            ("KiB of the kernel", before.kernel_kib, self.kernel_kib, lives * 4 + (64 << 10)),
        ];
        let grown = growing.into_iter().filter(|(_, before, now, most)| *now > before + most);
        leaks.extend(grown.map(|(what, before, now, _)| format!("{what}: {before} before, {now} now, after {lives} lives")));
        leaks
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { processes, cgroups, mounts, files, descriptors, dying, networks, kernel_kib } = self;
        let kernel = kernel_kib / 1024;
        write!(f, "{processes:>9} {cgroups:>7} {mounts:>6} {files:>5} {descriptors:>4} {dying:>5} {networks:>8} {kernel:>10}")
    }
}

/// The heads of the columns.
pub const HEAD: &str = "processes cgroups mounts files  fds dying networks kernel MiB";

/// The children of a process, by all its threads.
pub fn children(process: &str) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// How many entries, or directories, there are below a directory.
fn below(dir: &Path, only_directories: bool) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        count += usize::from(is_dir || !only_directories);
        if is_dir {
            count += below(&entry.path(), only_directories);
        }
    }
    count
}

fn dying() -> usize {
    let places = ["/sys/fs/cgroup/cgroup.stat", "/sys/fs/cgroup/unified/cgroup.stat"];
    let text = places.iter().find_map(|place| fs::read_to_string(place).ok()).unwrap_or_default();
    field(&text, "nr_dying_descendants ")
}

fn slab_objects(name: &str) -> usize {
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    text.lines().find(|line| line.split(' ').next() == Some(name)).map_or(0, |line| field(line, name))
}

fn kernel_memory() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"].iter().map(|name| field(&text, name)).sum()
}

/// The number that follows the first place where a line begins with this.
fn field(text: &str, begin: &str) -> usize {
    let rest = text.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default();
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
