// SPDX-License-Identifier: Apache-2.0
//! `linux.intelRdt`: the container's resctrl group (config-linux.md, "IntelRdt"; Documentation/filesystems/resctrl.rst). Called by
//! `container::create` and, for what is saved in the state, by `container::delete`.
//!
//! A group is a directory of the resctrl file system, a process is in it when its number has been written to `tasks`, and so are all its
//! children. What will be made is saved before it is made, so that a delete finds it.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::fd;
use crate::linux::proc;
use crate::linux::types::Errno;
use crate::plan::resctrl::{Resctrl, first_difference};

const AT: &str = "linux.intelRdt";
/// The directory of monitoring groups in a group.
const MONITORING: &str = "mon_groups";
/// Most bytes of a `schemata` file.
const MOST: usize = 1 << 20;

/// What was made, and where: all that delete needs, and exec to put a process there too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedResctrl {
    /// Where the resctrl file system is mounted.
    pub mount: String,
    /// The group, a directory right below.
    pub group: String,
    /// The group is the container's own, and goes with it.
    pub remove_group: bool,
    /// The container's monitoring group, below `mon_groups` of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<String>,
}

/// Everything is in this class unless it is told otherwise.
const ROOT: &str = "/";

fn open_group(root: &OwnedFd, group: &str) -> crate::linux::call::Result<OwnedFd> {
    match group {
        ROOT => fd::openat2(root, ".", fd::OFlag::O_DIRECTORY, 0, fd::ResolveFlag::empty()),
        group => fd::openat(root, group, fd::OFlag::O_DIRECTORY, 0),
    }
}

/// What [`make`] is going to make, to be saved first. An error where there is no resctrl file system.
pub fn prepare(plan: &Resctrl) -> Result<SavedResctrl> {
    let mounts = proc::mountinfo().told(|| "cannot look for the resctrl file system".into())?;
    let Some(mount) = mounts.iter().find(|mount| mount.fstype == "resctrl" && mount.root == "/") else {
        return Err(Error::new(Kind::Unsupported, "no resctrl file system is mounted on this host")
            .cause(Code::Resctrl)
            .at(AT)
            .hint(
                "mount -t resctrl resctrl /sys/fs/resctrl, where the processor has resource control (rdt_a in /proc/cpuinfo)",
            ));
    };
    let root = fd::open_dir(&mount.mount_point).told(|| format!("cannot open {}", mount.mount_point))?;
    let there = match open_group(&root, &plan.group) {
        Ok(_) => true,
        Err(error) if error.errno == Errno::ENOENT => false,
        Err(error) => return Err(Error::from(error).doing(format!("cannot look for the resctrl group {}", plan.group)).at(AT)),
    };
    if plan.named && !there && plan.schemata.is_empty() {
        let text =
            format!("there is no resctrl group \"{}\", and the configuration has no schemata to make one with", plan.group);
        return Err(Error::new(Kind::Config, text).at("linux.intelRdt.closID"));
    }
    if !plan.named && there {
        return Err(Error::new(Kind::Exists, format!("a resctrl group \"{}\" exists already", plan.group)).at(AT));
    }
    Ok(SavedResctrl {
        mount: mount.mount_point.clone(),
        group: plan.group.clone(),
        remove_group: !plan.named,
        monitoring: plan.monitoring.clone(),
    })
}

/// Makes the group, or takes the one that is there, and puts the process in it.
pub fn make(plan: &Resctrl, saved: &SavedResctrl, pid: i32) -> Result<()> {
    let told = || format!("cannot make the resctrl group \"{}\"", plan.group);
    let root = fd::open_dir(&saved.mount).told(told)?;
    let made = match fd::mkdirat(&root, &plan.group, 0o755) {
        _ if plan.group == ROOT => false,
        Ok(()) => true,
        Err(error) if error.errno == Errno::EEXIST && plan.named => false,
        other => return other.told(told).map_err(explain),
    };
    let group = open_group(&root, &plan.group).told(told)?;
    if made {
        write_schemata(&group, &plan.schemata, &plan.group)?
    } else {
        compare(&group, plan)?
    }
    if let Some(name) = &saved.monitoring {
        let told = || format!("cannot make the monitoring group \"{name}\" of the resctrl group \"{}\"", plan.group);
        let all = fd::openat(&group, MONITORING, fd::OFlag::O_DIRECTORY, 0).told(told).map_err(|error| match error.errno {
            Some(Errno::ENOENT) => error.at("linux.intelRdt.enableMonitoring").hint("this processor cannot monitor"),
            _ => error,
        })?;
        fd::mkdirat(&all, name, 0o755).told(told).map_err(explain)?;
    }
    enter(saved, pid)
}

/// Puts a process into the group, and into its monitoring group.
pub fn enter(saved: &SavedResctrl, pid: i32) -> Result<()> {
    let told = || format!("cannot put process {pid} into the resctrl group \"{}\"", saved.group);
    let root = fd::open_dir(&saved.mount).told(told)?;
    let group = open_group(&root, &saved.group).told(told)?;
    fd::write_at(&group, "tasks", pid.to_string().as_bytes()).told(told)?;
    let Some(name) = &saved.monitoring else { return Ok(()) };
    let all = fd::openat(&group, MONITORING, fd::OFlag::O_DIRECTORY, 0).told(told)?;
    let monitoring = fd::openat(&all, name, fd::OFlag::O_DIRECTORY, 0).told(told)?;
    fd::write_at(&monitoring, "tasks", pid.to_string().as_bytes()).told(told)
}

/// What the group's `schemata` says now, to be given to [`set_schemata`] if a change has to be taken back.
pub fn schemata(saved: &SavedResctrl) -> Result<Vec<String>> {
    let told = || format!("cannot read the schemata of the resctrl group \"{}\"", saved.group);
    let group = fd::open_dir(&saved.mount).and_then(|root| open_group(&root, &saved.group)).told(told)?;
    let file = fd::read_at(&group, "schemata", MOST).told(told)?;
    Ok(String::from_utf8_lossy(&file).lines().map(|line| line.trim().to_string()).collect())
}

/// Changes the group: what no line is about stays as it is.
pub fn set_schemata(saved: &SavedResctrl, lines: &[String]) -> Result<()> {
    let told = || format!("cannot open the resctrl group \"{}\"", saved.group);
    let group = fd::open_dir(&saved.mount).and_then(|root| open_group(&root, &saved.group)).told(told)?;
    write_schemata(&group, lines, &saved.group)
}

/// Removes what was made for the container; what has gone already is no error.
pub fn remove(saved: &SavedResctrl) -> Result<()> {
    let told = || format!("cannot remove the resctrl group \"{}\"", saved.group);
    let gone = |error: &crate::linux::call::CallError| matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR);
    let done = || {
        let root = fd::open_dir(&saved.mount)?;
        if saved.remove_group {
            return fd::rmdirat(&root, &saved.group);
        }
        let Some(name) = &saved.monitoring else { return Ok(()) };
        let group = open_group(&root, &saved.group)?;
        fd::rmdirat(fd::openat(&group, MONITORING, fd::OFlag::O_DIRECTORY, 0)?, name)
    };
    match done() {
        Err(error) if gone(&error) => Ok(()),
        other => other.told(told),
    }
}

/// The kernel takes all lines in one write, or as many as are right.
fn write_schemata(group: &OwnedFd, lines: &[String], name: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.join("\n") + "\n";
    let told = || format!("cannot set the schemata of the resctrl group \"{name}\" to {:?}", text.trim_end());
    fd::write_at(group, "schemata", text.as_bytes())
        .told(told)
        .map_err(|error| error.cause(Code::Resctrl).at(AT).hint("see info/last_cmd_status there"))
}

/// A group that others may be in is not changed: what is asked for must be what it has.
fn compare(group: &OwnedFd, plan: &Resctrl) -> Result<()> {
    if plan.schemata.is_empty() {
        return Ok(());
    }
    let told = || format!("cannot read the schemata of the resctrl group \"{}\"", plan.group);
    let file = fd::read_at(group, "schemata", MOST).told(told)?;
    match first_difference(&plan.schemata, &String::from_utf8_lossy(&file)) {
        None => Ok(()),
        Some(line) => Err(Error::new(
            Kind::Config,
            format!("the resctrl group \"{}\" exists, and its schemata do not say \"{line}\"", plan.group),
        )
        .at("linux.intelRdt.closID")),
    }
}

fn explain(error: Error) -> Error {
    match error.errno {
        Some(Errno::ENOSPC) => error
            .cause(Code::Resctrl)
            .at(AT)
            .hint("the processor has no class of service or monitoring id left: remove unused groups"),
        _ => error.at(AT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;

    /// A folder with the files of a group stands in for the file system: what is written where is the same there.
    #[test]
    fn makes_enters_and_removes_a_group() {
        let scratch = Scratch::new();
        let mount = scratch.path().to_str().unwrap().to_string();
        let saved =
            SavedResctrl { mount: mount.clone(), group: "gold".into(), remove_group: false, monitoring: Some("c1".into()) };
        let plan = Resctrl { group: "gold".into(), named: true, schemata: vec!["L3:0=f".into()], monitoring: Some("c1".into()) };
        std::fs::create_dir_all(scratch.path().join("gold/mon_groups")).unwrap();
        std::fs::write(scratch.path().join("gold/schemata"), "L3:0=ff\n").unwrap();
        std::fs::write(scratch.path().join("gold/tasks"), "").unwrap();
        let error = make(&plan, &saved, 77).unwrap_err();
        assert!(error.to_string().contains("do not say \"L3:0=f\""), "{error}");
        std::fs::write(scratch.path().join("gold/schemata"), "    L3:0=f\n").unwrap();
        // Here the kernel does not fill a new monitoring group, so that entering it fails; the group itself has the process by then.
        assert!(make(&plan, &saved, 77).is_err());
        assert_eq!(std::fs::read_to_string(scratch.path().join("gold/tasks")).unwrap(), "77");
        assert!(scratch.path().join("gold/mon_groups/c1").is_dir());
        assert_eq!(schemata(&saved).unwrap(), ["L3:0=f"]);
        set_schemata(&saved, &["L3:0=3".to_string(), "MB:0=50".to_string()]).unwrap();
        assert_eq!(std::fs::read_to_string(scratch.path().join("gold/schemata")).unwrap(), "L3:0=3\nMB:0=50\n");
        remove(&saved).unwrap();
        assert!(!scratch.path().join("gold/mon_groups/c1").exists() && scratch.path().join("gold").exists());
        remove(&saved).unwrap();
        std::fs::create_dir(scratch.path().join("own")).unwrap();
        let own = SavedResctrl { group: "own".into(), remove_group: true, monitoring: None, ..saved };
        remove(&own).unwrap();
        assert!(!scratch.path().join("own").exists());
        remove(&SavedResctrl { mount: format!("{mount}/none"), ..own }).unwrap();
    }
}
