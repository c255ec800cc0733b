// SPDX-License-Identifier: Apache-2.0
//! A host with many mounts, on which berth keeps what later containers can use.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

use super::operations::SOURCE;

/// Where the mount namespace is kept.
pub const KEPT: &str = "/run/berth.mntns/own";
/// Where device programs are.
pub const PROGRAMS: &str = "/run/berth.bpf";

/// Makes this a host with many mounts, in a mount namespace and with a /run of its own. All on one CPU: Linux 6.18 numbers namespaces by
/// CPU, and mounts only those that it takes for younger than one's own.
pub fn crowd() {
    let none = None::<&str>;
    let mut cpus = CpuSet::new();
    cpus.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    for number in 0..150 {
        let place = format!("/run/crowd/{number}");
        fs::create_dir_all(&place).unwrap();
        mount(Some("crowd"), place.as_str(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    let file = format!("{SOURCE}/ns");
    fs::create_dir(SOURCE).unwrap();
    fs::write(&file, "").unwrap();
    let mut other = Command::new("/bin/busybox").args(["unshare", "-m", "sleep", "1000"]).spawn().unwrap();
    let (own, its) = (fs::read_link("/proc/self/ns/mnt").unwrap(), format!("/proc/{}/ns/mnt", other.id()));
    while fs::read_link(&its).unwrap() == own {
        sleep(Duration::from_millis(1));
    }
    mount(Some(its.as_str()), file.as_str(), none, MsFlags::MS_BIND, none).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}
