// SPDX-License-Identifier: Apache-2.0
//! `check`: looks at the host, and at a bundle where one is given, without changing anything; `plan::check` says what it means.

use std::os::fd::OwnedFd;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::bundle::Bundle;
use crate::linux::call::errno_text;
use crate::linux::fd::{self, Root};
use crate::linux::types::{CgroupMode, Errno, Namespaces};
use crate::linux::{probe, proc, sched};
use crate::plan::check::{BundleFacts, CgroupPlace, Program, Survey};
use crate::plan::resources::SavedDir;
use crate::plan::step::{Op, ParentOp, Source, Step, Tree};
use crate::plan::{Host, Plan};
use crate::process::init::program;

/// The largest file that is read here.
const SMALL: usize = 1 << 20;

/// Looks at everything that a verdict may depend on. `plan` is what was planned, where that was possible.
pub fn survey(host: &Host, root: &str, plan: Option<&Plan>, bundle: Option<&Bundle>) -> Survey {
    let limits = probe::user_namespaces();
    // The other parameters are about ordinary users.
    let forbidden = if host.privileged() { limits.forbidden().filter(|_| limits.max == Some(0)) } else { limits.forbidden() };
    let all = Namespaces::all().iter().filter(|kind| probe::has_namespace(*kind));
    let saved = plan.and_then(|plan| plan.cgroup.saved.v2.as_ref());
    Survey {
        host: host.clone(),
        namespaces: all.fold(Namespaces::empty(), |all, kind| all | kind),
        no_user_namespace: forbidden.map(String::from),
        proc_masked_at: proc::masked_below("/proc").unwrap_or_default(),
        sys_masked_at: proc::masked_below("/sys").unwrap_or_default(),
        seccomp: fd::exists("/proc/sys/kernel/seccomp/actions_avail"),
        filesystems: filesystems(),
        hard_limits: (0..16).map(|resource| sched::limit(0, resource).map_or(u64::MAX, |(_, hard)| hard)).collect(),
        oom_score_adj: text("/proc/self/oom_score_adj").trim().parse().unwrap_or(0),
        granted_uids: granted("/etc/subuid", host.euid),
        granted_gids: granted("/etc/subgid", host.euid),
        state_root: (root.to_string(), unusable(root)),
        criu: probe::program("criu"),
        cgroup: saved.filter(|_| host.cgroup != CgroupMode::Absent).and_then(place),
        bundle: bundle.map(|bundle| facts(bundle, plan)),
    }
}

fn text(path: &str) -> String {
    let bytes = fd::read_file_bounded(path, SMALL).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Types that need no module any more; the last word of a line of /proc/filesystems.
fn filesystems() -> Vec<String> {
    text("/proc/filesystems").lines().filter_map(|line| line.split_whitespace().last()).map(String::from).collect()
}

/// What subuid(5) or subgid(5) grants to a user, by number or by the name that the host's own passwd has for it.
fn granted(file: &str, uid: u32) -> Vec<(u32, u32)> {
    let passwd = text("/etc/passwd");
    let names = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let number = uid.to_string();
    let names: Vec<&str> = names.chain([number.as_str()]).collect();
    let line = |line: &str| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        let range = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        names.contains(&who).then_some(range)
    };
    text(file).lines().filter_map(line).collect()
}

/// Why nothing can be made in a directory that may not be there yet, if so: judged by the nearest one that is.
fn unusable(path: &str) -> Option<String> {
    let mut at = path;
    while !fd::exists(at) {
        at = match at.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((above, _)) => above,
        };
    }
    let errno = accessible(at, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    Some(if at == path { errno_text(errno) } else { format!("{at}: {}", errno_text(errno)) })
}

#[allow(clippy::disallowed_methods, reason = "to tell what would be permitted; nothing is opened after it")]
fn accessible(path: &str, how: AccessFlags) -> Result<(), Errno> {
    faccessat(AT_FDCWD, path, how, AtFlags::AT_EACCESS)
}

/// The nearest cgroup above a planned one that there is.
fn place(saved: &SavedDir) -> Option<CgroupPlace> {
    let mut above = saved.path.rsplit_once('/')?.0;
    let path = loop {
        let path = format!("{}{above}", saved.mount);
        if fd::exists(&path) {
            break path;
        }
        above = above.rsplit_once('/')?.0;
    };
    let words = |file: &str| text(&format!("{path}/{file}")).split_whitespace().map(String::from).collect();
    // The root has no type, and may have both.
    let busy = fd::exists(format!("{path}/cgroup.type")) && !text(&format!("{path}/cgroup.procs")).is_empty();
    Some(CgroupPlace {
        controllers: words("cgroup.controllers"),
        passes_on: words("cgroup.subtree_control"),
        writable: accessible(&path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        busy,
        path,
    })
}

fn facts(bundle: &Bundle, plan: Option<&Plan>) -> BundleFacts {
    let root = match fd::stat_path(&bundle.rootfs) {
        Ok(stat) if stat.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} is no directory", bundle.rootfs)),
        Err(error) => Err(format!("{}: {}", bundle.rootfs, errno_text(error.errno))),
    };
    let mut facts = BundleFacts { rootfs: root.err(), ..BundleFacts::default() };
    if facts.rootfs.is_none() {
        let flags = fd::open_dir_path(&bundle.rootfs).and_then(|dir| fd::statfs(&dir)).map_or(0, |found| found.flags);
        facts.noexec = flags & libc::ST_NOEXEC != 0;
    }
    let Some(plan) = plan else { return facts };
    if facts.rootfs.is_none() {
        facts.program = find_program(&bundle.rootfs, plan);
    }
    for step in &plan.child {
        match &step.op {
            Op::Mount(mount) => {
                if let Source::Bind { tree: Tree::Path(path), .. } = &mount.source {
                    missing(&mut facts.missing_sources, path, &step.at);
                }
            }
            Op::Sysctl { key, .. } if !fd::exists(sysctl(key)) => facts.missing_sysctls.push((key.clone(), step.at.clone())),
            _ => {}
        }
    }
    for step in &plan.parent {
        match &step.op {
            ParentOp::OpenTree { path, .. } => missing(&mut facts.missing_sources, path, &step.at),
            ParentOp::ConnectListener(path) => missing(&mut facts.missing_sockets, path, &step.at),
            ParentOp::MoveNetDevice { name, .. } if !fd::exists(format!("/sys/class/net/{name}")) => {
                facts.missing_devices.push((name.clone(), step.at.clone()));
            }
            _ => {}
        }
    }
    // startContainer's are inside the container.
    let hooks = &plan.hooks;
    let outside = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.poststart, &hooks.poststop];
    let hooks = outside.into_iter().flatten().filter(|hook| accessible(&hook.path, AccessFlags::X_OK).is_err());
    facts.missing_hooks = hooks.map(|hook| (hook.path.clone(), hook.at.clone())).collect();
    facts
}

fn missing(list: &mut Vec<(String, String)>, path: &str, at: &str) {
    if !fd::exists(path) {
        list.push((path.to_string(), at.to_string()));
    }
}

/// The file of a kernel parameter: dots separate, unless a slash does.
fn sysctl(key: &str) -> String {
    let path = if key.contains('/') { key.to_string() } else { key.replace('.', "/") };
    format!("/proc/sys/{path}")
}

/// Looks for the program in the root filesystem as the container will see it, as far as that can be told from outside.
fn find_program(rootfs: &str, plan: &Plan) -> Program {
    let Some(name) = plan.exec.args.first() else { return Program::Unseen };
    let Ok(root) = Root::open(rootfs) else { return Program::Unseen };
    let covered = |path: &str| {
        let over = |step: &Step| match &step.op {
            Op::Mount(mount) => path.starts_with(&format!("{}/", mount.destination.trim_end_matches('/'))),
            _ => false,
        };
        plan.child.iter().any(over)
    };
    let path = plan.exec.env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let candidates: Vec<String> = match name.contains('/') {
        true => vec![name.clone()],
        false => path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| format!("{dir}/{name}")).collect(),
    };
    if candidates.iter().any(|path| covered(path) || !path.starts_with('/')) {
        return Program::Unseen;
    }
    for path in &candidates {
        let Ok(file) = root.open_path(path) else { continue };
        let Ok(stat) = fd::stat(&file) else { continue };
        if stat.is_regular() && stat.mode & 0o111 != 0 {
            return inspect(&root, path, &covered);
        }
        if name.contains('/') {
            return Program::Missing("it is no file that may be executed".into());
        }
    }
    Program::Missing(if name.contains('/') {
        "it is missing in the root filesystem".into()
    } else {
        format!("it is in none of {path}")
    })
}

fn inspect(root: &Root, path: &str, covered: &dyn Fn(&str) -> bool) -> Program {
    let Ok(file) = root.open_file(path) else { return Program::Found(path.to_string()) };
    let head = head_of(&file);
    if let Some(machine) = program::foreign_machine(&head) {
        return Program::Foreign { path: path.to_string(), machine };
    }
    match program::interpreter(&head) {
        Some(interpreter) if !covered(&interpreter) && root.open_path(&interpreter).is_err() => {
            Program::NoInterpreter { path: path.to_string(), interpreter }
        }
        _ => Program::Found(path.to_string()),
    }
}

fn head_of(file: &OwnedFd) -> Vec<u8> {
    let mut head = vec![0; program::HEAD];
    let length = fd::read_some(file, &mut head).unwrap_or(0);
    head.truncate(length);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_judged_by_the_nearest_directory() {
        assert_eq!(unusable("/tmp/none/at/all"), None);
        assert_eq!(unusable("/"), accessible("/", AccessFlags::W_OK).err().map(errno_text));
        if probe::euid() != 0 {
            assert!(unusable("/etc/none").is_some_and(|why| why.starts_with("/etc: ")));
        }
    }

    #[test]
    fn parameters_are_files() {
        assert_eq!(sysctl("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(sysctl("net/ipv4/conf/eth0.1/forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn this_host_is_seen() {
        let survey = survey(&super::super::host::probe(), "/tmp/x", None, None);
        assert!(survey.namespaces.contains(Namespaces::MOUNT | Namespaces::PID));
        assert!(survey.filesystems.iter().any(|name| name == "proc"));
        assert_eq!(survey.hard_limits.len(), 16);
        assert_eq!((survey.state_root, survey.bundle, survey.cgroup), (("/tmp/x".to_string(), None), None, None));
    }
}
