// SPDX-License-Identifier: Apache-2.0
//! Namespaces that the container's process enters or makes itself, and what belongs to them: kernel parameters, LSM labels, keyring
//! (config-linux.md, "Namespaces", "Sysctl"; namespaces(7)). Called by `init`.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::fd::{self, OFlag};
use crate::linux::proc::Procfs;
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{clone, cred};
use crate::plan::Join;
use crate::plan::step::TimeOffset;

/// Enters existing namespaces, in order. The process is undumpable from here on: whoever lives in them already could look into it, and
/// at what it has open (CVE-2016-9962).
pub fn join(joins: &[Join], namespaces: &[OwnedFd]) -> Result<()> {
    if joins.len() != namespaces.len() {
        return Err(Error::new(Kind::Peer, "the runtime opened other namespaces than are to be joined"));
    }
    cred::set_dumpable(false).told(|| "cannot hide the process from those in the namespaces".into())?;
    for (join, namespace) in joins.iter().zip(namespaces) {
        let told = || format!("cannot join the namespace {}", join.path);
        clone::setns(namespace, join.kind).told(told).map_err(|error| error.at(join.at.as_str()))?;
    }
    Ok(())
}

/// For exec: enters these namespaces of the container's first process, all or none (setns(2) with a pidfd).
pub fn enter(process: &OwnedFd, kinds: Namespaces) -> Result<()> {
    if !kinds.is_empty() {
        clone::setns(process, kinds).told(|| "cannot enter the container's namespaces".into())?;
    }
    if !kinds.contains(Namespaces::USER) {
        return Ok(());
    }
    // As user 0 of the container, so that what is made for the program (its terminal) belongs to it. A user namespace may have none.
    match cred::setresgid(0).and_then(|()| cred::setresuid(0)) {
        Err(error) if error.errno != Errno::EINVAL => Err(Error::from(error).doing("cannot become user 0 of the container")),
        _ => Ok(()),
    }
}

/// A cgroup namespace whose root is the cgroup that the process is in.
pub fn new_cgroup_namespace() -> Result<()> {
    clone::unshare(Namespaces::CGROUP).told(|| "cannot make a cgroup namespace".into())
}

/// A time namespace with these offsets, and into it: the kernel makes it for children first, and fixes the offsets with the first process
/// in it.
#[inline(never)] // Rare.
pub fn new_time_namespace(offsets: &[TimeOffset]) -> Result<()> {
    let told = || "cannot make a time namespace".to_string();
    clone::unshare(Namespaces::TIME).told(told)?;
    let lines: String = offsets.iter().map(|offset| format!("{} {} {}\n", offset.clock, offset.secs, offset.nanosecs)).collect();
    if !lines.is_empty() {
        let proc = Procfs::host().told(told)?;
        let wrote = match proc.write("self/timens_offsets", lines.as_bytes()) {
            // A process that has changed its ids is undumpable, and its files in /proc are the host root's (proc(5)).
            Err(error) if error.errno == Errno::EACCES => cred::set_dumpable(true)
                .and_then(|()| proc.write("self/timens_offsets", lines.as_bytes()))
                .and_then(|()| cred::set_dumpable(false)),
            other => other,
        };
        wrote.told(|| format!("cannot set the clock offsets {:?}", lines.trim_end()))?;
    }
    let namespace = fd::open("/proc/self/ns/time_for_children", OFlag::O_RDONLY).told(told)?;
    clone::setns(&namespace, Namespaces::TIME).told(told)
}

/// A session keyring of this name, which the process may search.
pub fn new_keyring(name: &str) -> Result<()> {
    /// What the kernel gives a new session keyring (all to who has it; view, read and link to its user), and KEY_USR_SEARCH.
    const PERMISSIONS: u32 = 0x3f13_0000 | 0x0008_0000;
    let told = || format!("cannot make the session keyring {name}");
    let name = CString::new(name).map_err(|_| Error::new(Kind::Config, told()))?;
    let made = cred::join_session_keyring(&name).and_then(|serial| cred::set_key_permissions(serial, PERMISSIONS));
    match made {
        // A kernel without keyrings keeps no keys that could be shared.
        Err(error) if error.errno == Errno::ENOSYS => Ok(()),
        other => other.told(told).map_err(|error| match error.errno {
            Some(Errno::EDQUOT) => error
                .cause(Code::Keyring)
                .hint("the user has as many keys as /proc/sys/kernel/keys/maxkeys allows; see --no-new-keyring"),
            _ => error,
        }),
    }
}

/// Sets a kernel parameter of this process's namespaces. Returns its file, which is of no more use.
pub fn sysctl(proc: &Procfs<impl AsFd>, key: &str, value: &str) -> Result<OwnedFd> {
    let path = format!("sys/{}", sysctl_path(key));
    proc.written(&path, value.as_bytes())
        .told(|| format!("cannot set the kernel parameter {key} to \"{value}\""))
        .map_err(|error| error.cause(Code::Sysctl))
}

/// As sysctl(8) reads names: whichever of `.` and `/` comes first separates, the other is part of a name (`net/ipv4/conf/eth0.100/…`).
fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('/') => key.to_string(),
        _ => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    }
}

/// The AppArmor profile that execve(2) enters.
#[inline(never)] // Rare.
pub fn apparmor_profile(proc: &Procfs, profile: &str) -> Result<()> {
    let text = format!("exec {profile}");
    // Kernels from 5.1 on have a directory of its own for each security module; without stacked modules the other file is the same.
    let wrote = match proc.write("self/attr/apparmor/exec", text.as_bytes()) {
        Err(error) if error.errno == Errno::ENOENT => proc.write("self/attr/exec", text.as_bytes()),
        other => other,
    };
    wrote.told(|| format!("cannot set the AppArmor profile \"{profile}\"")).map_err(|error| match error.errno {
        Some(Errno::ENOENT) => error.cause(Code::LsmProfile).hint("is the profile loaded? see aa-status"),
        _ => error.cause(Code::LsmProfile),
    })
}

/// The SELinux label that execve(2) enters.
#[inline(never)] // Rare.
pub fn selinux_label(proc: &Procfs, label: &str) -> Result<()> {
    proc.write("self/attr/exec", label.as_bytes())
        .told(|| format!("cannot set the SELinux label \"{label}\""))
        .map_err(|error| error.cause(Code::LsmProfile).hint("does the policy know the label? see the audit log: ausearch -m avc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::in_child;

    #[test]
    fn names_of_kernel_parameters() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(sysctl_path("odd"), "odd");
    }

    #[test]
    fn clocks_run_ahead_in_a_time_namespace() {
        if cred::ids().1 != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        in_child(|| {
            let before = std::fs::read_to_string("/proc/uptime").unwrap();
            let offset = TimeOffset { clock: "boottime".into(), secs: 1_000_000, nanosecs: 0 };
            new_time_namespace(&[offset]).unwrap();
            let after = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
            assert!(seconds(&after) >= seconds(&before) + 1_000_000, "{before} {after}");
        });
    }

    #[test]
    fn sysctl_of_a_new_namespace_only() {
        if cred::ids().1 != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        in_child(|| {
            clone::unshare(Namespaces::IPC).unwrap();
            let proc = Procfs::open(false).unwrap();
            sysctl(&proc, "kernel.msgmax", "4321").unwrap();
            assert_eq!(proc.read("sys/kernel/msgmax").unwrap(), b"4321\n");
            let error = sysctl(&proc, "kernel.no_such", "1").unwrap_err();
            assert!(
                error.to_string().starts_with("cannot set the kernel parameter kernel.no_such to \"1\": openat2("),
                "{error}"
            );
        });
    }

    #[test]
    fn joins_in_order_and_says_which_failed() {
        if cred::ids().1 != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        in_child(|| {
            let uts = clone::own_namespace(Namespaces::UTS).unwrap();
            clone::unshare(Namespaces::UTS).unwrap();
            let named = |kind, path: &str| Join { kind, path: path.into(), at: "linux.namespaces[0].path".into() };
            let joins = [named(Namespaces::UTS, "/proc/1/ns/uts")];
            join(&joins, &[uts.try_clone().unwrap()]).unwrap();
            let own = fd::stat(clone::own_namespace(Namespaces::UTS).unwrap()).unwrap();
            assert!(own.same_file(&fd::stat(&uts).unwrap()));
            let error = join(&[named(Namespaces::NET, "/x")], &[uts]).unwrap_err();
            assert_eq!(
                (error.what.as_str(), error.config.as_deref()),
                ("cannot join the namespace /x", Some("linux.namespaces[0].path"))
            );
            assert_eq!(join(&joins, &[]).unwrap_err().kind, Kind::Peer);
            assert!(!nix::sys::prctl::get_dumpable().unwrap());
        });
    }
}
