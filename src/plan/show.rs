// SPDX-License-Identifier: Apache-2.0
//! Plans in words: what `berth plan` prints, what errors and the debug log call a step, what the golden tests hold.

use std::fmt::{self, Display, Formatter};

use super::namespaces::name;
use super::step::*;
use super::{Plan, Shape};
use crate::linux::types::{CapSet, IdRange, MountAttr, Namespaces, NodeKind};

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::AwaitRuntime => write!(f, "wait for the runtime"),
            Op::BecomeNamespaceRoot => write!(f, "become user 0 of the user namespace"),
            Op::Join(joins) => write!(f, "enter {}", joined(joins)),
            Op::NewSession => write!(f, "begin a session"),
            Op::NewKeyring(name) => write!(f, "begin session keyring {name}"),
            Op::NewCgroupNamespace => write!(f, "make a cgroup namespace"),
            Op::NewTimeNamespace(offsets) => {
                write!(f, "make a time namespace with")?;
                offsets.iter().try_for_each(|offset| write!(f, " {} {}.{:09}", offset.clock, offset.secs, offset.nanosecs))
            }
            Op::LoopbackUp => write!(f, "bring up lo"),
            Op::OpenProc => write!(f, "open the host's /proc"),
            Op::Propagation(change) => write!(f, "make / {change}"),
            Op::AttachRoot { source, path, propagation, private_parent } => {
                let parent = if *private_parent { ", on a mount that is made private" } else { "" };
                write!(f, "mount the root filesystem over {path}")?;
                propagation.map_or(Ok(()), |change| write!(f, ", {change}"))?;
                write!(f, "{parent}")?;
                if let Tree::FromRuntime(slot) = source { write!(f, ", from tree {slot}") } else { Ok(()) }
            }
            Op::EnterRoot { path, route, root, trees } => {
                write!(f, "copy the trees to be mounted")?;
                trees.map_or(Ok(()), |kind| write!(f, ", r{}", kind.name()))?;
                let how = match route {
                    Route::OpenTree => "one that is made around it",
                    Route::Pinned => "a copy of the small one that is kept",
                };
                write!(f, "; enter {path}, r{}, as the root of a mount namespace: {how}", root.name())
            }
            Op::Mount(mount) => mount.fmt(f),
            Op::Node(node) => node.fmt(f),
            Op::Directory(path) => write!(f, "directory {path}"),
            Op::Link { path, target, only_existing } => {
                write!(f, "link {path} -> {target}{}", if *only_existing { " where that exists" } else { "" })
            }
            Op::AskForRuntimeHooks => write!(f, "wait for the createRuntime hooks"),
            Op::CreateContainerHooks => write!(f, "run the createContainer hooks"),
            Op::Pivot { shared } => {
                write!(f, "pivot into the root filesystem{}", if *shared { ", the host's mounts made slaves first" } else { "" })
            }
            Op::MoveRoot => write!(f, "move the root filesystem over / and chroot into it"),
            Op::RootPropagation(change) => write!(f, "make the container's / {change}"),
            Op::Console { size, bound } => {
                write!(f, "open a terminal")?;
                size.map_or(Ok(()), |(columns, rows)| write!(f, " of {columns} by {rows}"))?;
                if *bound { write!(f, ", bound to /dev/console") } else { Ok(()) }
            }
            Op::Hostname(name) => write!(f, "set host name {name}"),
            Op::Domainname(name) => write!(f, "set domain name {name}"),
            Op::Sysctl { key, value } => write!(f, "set {key} = {value}"),
            Op::ReadonlyPath { path, but } if but.is_empty() => write!(f, "make {path} read-only"),
            Op::ReadonlyPath { path, but } => write!(f, "make {path} read-only, but not {}", but.join(" ")),
            Op::MaskPaths { paths, .. } => write!(f, "mask {}", paths.join(" ")),
            Op::ReadonlyMounts => write!(f, "make the mounts that waited for it read-only"),
            Op::Unmount(path) => write!(f, "take away the mount at {path}"),
            Op::End => write!(f, "end"),
            Op::ReadonlyRoot => write!(f, "make the root filesystem read-only"),
            other => other.fmt_process(f),
        }
    }
}

impl Op {
    /// The steps that make the process what it will be.
    fn fmt_process(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::Rlimit { name, soft, hard, .. } => write!(f, "limit {name} to {soft} (hard {hard})"),
            Op::Scheduler(given) => {
                write!(f, "schedule with policy {}, nice {}, priority {}", given.policy, given.nice, given.priority)
            }
            Op::IoPriority { class, level } => write!(f, "set io priority class {class} level {level}"),
            Op::MemoryPolicy { mode, nodes } => write!(f, "set memory policy {mode:#x} on nodes {nodes:?}"),
            Op::Affinity(cpus) => write!(f, "run on cpus {cpus:?}"),
            Op::Personality(domain) => write!(f, "set personality {domain:#x}"),
            Op::ApparmorProfile(profile) => write!(f, "enter AppArmor profile {profile} at exec"),
            Op::SelinuxLabel(label) => write!(f, "enter SELinux label {label} at exec"),
            Op::OwnStdio { uid } => write!(f, "give the standard streams to user {uid}"),
            Op::Umask(mask) => write!(f, "set umask {mask:04o}"),
            Op::Identity(identity) => identity.fmt(f),
            Op::WorkingDirectory { path, made: false } => write!(f, "change into {path}"),
            Op::WorkingDirectory { path, made: true } => write!(f, "change into {path}, made where it is missing"),
            Op::NoNewPrivileges => write!(f, "allow no new privileges"),
            Op::FindProgram => write!(f, "find the program"),
            Op::CloseDescriptors { keep: 0 } => write!(f, "close every other descriptor"),
            Op::CloseDescriptors { keep } => write!(f, "close every other descriptor but 3 to {}", keep + 2),
            Op::Ready => write!(f, "report ready, and wait until the state is saved"),
            Op::AwaitStart => write!(f, "wait for start"),
            Op::StartContainerHooks => write!(f, "run the startContainer hooks"),
            Op::Seccomp(load) => {
                write!(f, "load the seccomp filter of {} instructions", load.filter.len())?;
                load.listener.as_ref().map_or(Ok(()), |(path, _)| write!(f, ", listener to {path}"))
            }
            _ => write!(f, "execute the program"),
        }
    }
}

impl Display for ParentOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ParentOp::SaveCreating => write!(f, "save the journal of what will be made"),
            ParentOp::MakeCgroup => write!(f, "make the cgroup, its limits and its device filter"),
            ParentOp::OpenNamespaces(joins) => write!(f, "open {}", joined(joins)),
            ParentOp::OpenTree { slot, path, recursive, id_map, .. } => {
                write!(f, "take a copy of {path}{} as tree {slot}", if *recursive { " and the mounts below" } else { "" })?;
                id_map.as_ref().map_or(Ok(()), |map| write!(f, ", id-mapped {map}"))
            }
            ParentOp::ConnectConsole(socket) => write!(f, "connect to the console socket {socket}"),
            ParentOp::ConnectListener(socket) => write!(f, "connect to the seccomp listener's socket {socket}"),
            ParentOp::MakeStartGate => write!(f, "make the start gate"),
            ParentOp::MakeNotifySocket => write!(f, "make the notify socket"),
            ParentOp::OpenPinnedNamespace => write!(f, "open the small mount namespace that is kept, or make it"),
            ParentOp::Clone => write!(f, "clone the container's process"),
            ParentOp::OomScoreAdj(adjust) => write!(f, "set its oom_score_adj to {adjust}"),
            ParentOp::WriteIdMaps => write!(f, "write its id mappings"),
            ParentOp::MoveNetDevice { name, new_name } => write!(f, "move net device {name} in, as {new_name}"),
            ParentOp::EnterResctrl(resctrl) => write!(f, "put it into the resctrl group {}", resctrl.group),
            ParentOp::ReleaseChild => write!(f, "let it go on"),
            ParentOp::OpenHookOutput(output) => {
                let files: Vec<_> = output.stdout.iter().chain(&output.stderr).map(String::as_str).collect();
                write!(f, "open {} for what hooks print", files.join(" and "))
            }
            ParentOp::RuntimeHooks => write!(f, "run the prestart and createRuntime hooks when it asks"),
            ParentOp::AwaitReady => write!(f, "wait until it is ready"),
            ParentOp::SaveCreated => write!(f, "save the state"),
            ParentOp::PidFile(path) => write!(f, "write the pid file {path}"),
            ParentOp::SendPidfd(socket) => write!(f, "send a pidfd to {socket}"),
            ParentOp::ReleaseReady => write!(f, "let it go on: the container exists"),
            ParentOp::AwaitExec => write!(f, "wait until the program runs"),
            ParentOp::PoststartHooks => write!(f, "run the poststart hooks"),
        }
    }
}

fn joined(joins: &[Join]) -> String {
    joins.iter().map(|join| format!("{} namespace {}", name(join.kind), join.path)).collect::<Vec<_>>().join(", ")
}

impl Display for Tree {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Path(path) => f.write_str(path),
            Tree::FromRuntime(slot) => write!(f, "tree {slot}"),
        }
    }
}

impl Display for PropagationChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.recursive { "r" } else { "" }, self.kind.name())
    }
}

impl Display for Mount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::New { fstype, parameters, copy_up, fallback, .. } => {
                write!(f, "mount {fstype} at {}", self.destination)?;
                for (key, value) in parameters {
                    match value {
                        Some(value) => write!(f, " {key}={value}")?,
                        None => write!(f, " {key}")?,
                    }
                }
                if *copy_up {
                    write!(f, " tmpcopyup")?;
                }
                if let Some(path) = fallback {
                    write!(f, " (or bind {path})")?;
                }
            }
            Source::Bind { tree, source, recursive, copy_symlink, .. } => {
                let from = if let Tree::FromRuntime(slot) = tree { format!("tree {slot}, {source},") } else { source.clone() };
                write!(f, "{} {from} at {}", if *recursive { "rbind" } else { "bind" }, self.destination)?;
                if *copy_symlink {
                    write!(f, " copy-symlink")?;
                }
            }
            Source::Remount { .. } => write!(f, "remount {}", self.destination)?,
            Source::CgroupSubtree { path } => write!(f, "bind the cgroup {path} at {}", self.destination)?,
        }
        write!(f, "{}{}", Attributes(self.attr, ""), Attributes(self.attr_recursive, "r"))?;
        self.propagation.iter().try_for_each(|change| write!(f, " {change}"))
    }
}

/// Attributes as mount options, `r` before those that hold for the whole tree.
struct Attributes(AttrChange, &'static str);

impl Display for Attributes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [(MountAttr, &str, &str); 6] = [
            (MountAttr::RDONLY, "ro", "rw"),
            (MountAttr::NOSUID, "nosuid", "suid"),
            (MountAttr::NODEV, "nodev", "dev"),
            (MountAttr::NOEXEC, "noexec", "exec"),
            (MountAttr::NODIRATIME, "nodiratime", "diratime"),
            (MountAttr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
        ];
        let (set, clear) = (self.0.attr_set(), self.0.attr_clear());
        for (attr, on, off) in NAMES {
            if set & attr.bits() != 0 {
                write!(f, " {}{on}", self.1)?;
            } else if clear & attr.bits() != 0 {
                write!(f, " {}{off}", self.1)?;
            }
        }
        match (clear & 0x70 != 0, set & 0x70) {
            (true, 0x10) => write!(f, " {}noatime", self.1),
            (true, 0x20) => write!(f, " {}strictatime", self.1),
            (true, _) => write!(f, " {}relatime", self.1),
            _ => Ok(()),
        }
    }
}

impl Display for IdMap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |ranges: &[IdRange]| {
            ranges.iter().map(|range| format!("{}:{}:{}", range.inside, range.outside, range.count)).collect::<Vec<_>>().join(",")
        };
        write!(f, "users {} groups {}", list(&self.uids), list(&self.gids))
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            NodeKind::Character => "c",
            NodeKind::Block => "b",
            NodeKind::Fifo => "p",
        };
        match self.bind {
            true => write!(f, "bind the host's node {}", self.path),
            false => {
                let DeviceNumber { major, minor } = self.number;
                write!(f, "node {} {kind} {major}:{minor} {:04o} {}:{}", self.path, self.mode, self.uid, self.gid)
            }
        }
    }
}

use crate::linux::types::DeviceNumber;

impl Display for Identity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let set = |set: CapSet| match set.names() {
            names if names.is_empty() => "none".to_string(),
            names => names.iter().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect::<Vec<_>>().join(","),
        };
        write!(f, "become user {} group {}", self.uid, self.gid)?;
        match &self.groups {
            Some(groups) if groups.is_empty() => write!(f, " without further groups")?,
            Some(groups) => write!(f, " groups {groups:?}")?,
            None => write!(f, " with the groups it has")?,
        }
        write!(f, ", bounding {}", set(self.bounding))?;
        for (name, caps) in [
            ("permitted", self.permitted),
            ("effective", self.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ] {
            match caps == self.bounding {
                true => write!(f, ", {name} the same")?,
                false => write!(f, ", {name} {}", set(caps))?,
            }
        }
        Ok(())
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "runtime, {} steps:", self.parent.len())?;
        for (index, step) in self.parent.iter().enumerate() {
            line(f, index, &step.op, &step.at)?;
            match &step.op {
                ParentOp::MakeCgroup => cgroup(f, self)?,
                ParentOp::Clone => writeln!(f, "       {}", Clone(self))?,
                _ => {}
            }
        }
        writeln!(f, "container's process, {} steps:", self.child.len())?;
        for (index, step) in self.child.iter().enumerate() {
            line(f, index, &step.op, &step.at)?;
        }
        if !self.exec.args.is_empty() {
            writeln!(f, "program:\n       {:?}", self.exec.args)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

fn line(f: &mut Formatter<'_>, index: usize, op: &dyn Display, at: &str) -> fmt::Result {
    match at {
        "" => writeln!(f, "  {:3}  {op}", index + 1),
        at => writeln!(f, "  {:3}  {op}  [{at}]", index + 1),
    }
}

/// Where the cgroup is made and what is set in it, a line each.
fn cgroup(f: &mut Formatter<'_>, plan: &Plan) -> fmt::Result {
    let saved = &plan.cgroup.saved;
    if let Some(unit) = &saved.unit {
        writeln!(f, "       unit {} of systemd{}", unit.name, if unit.runtime_dir.is_some() { ", the user's" } else { "" })?;
    }
    for dir in saved.v2.iter().chain(&saved.v1) {
        writeln!(f, "       {}{}", dir.mount, dir.path)?;
    }
    for write in &plan.cgroup.writes {
        writeln!(f, "       {} = {}  [{}]", write.file, write.value.escape_debug(), write.at)?;
    }
    match &plan.cgroup.devices {
        Some(filter) => writeln!(f, "       device filter of {} instructions", filter.program.len()),
        None => Ok(()),
    }
}

/// How the process comes to be, in one line.
struct Clone<'a>(&'a Plan);

impl Display for Clone<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let spawn = &self.0.spawn;
        let kinds: Vec<_> = Namespaces::all().iter().filter(|kind| spawn.create.contains(*kind)).map(name).collect();
        write!(f, "new namespaces: {}", if kinds.is_empty() { "none".to_string() } else { kinds.join(" ") })?;
        if let Shape::TwoClones(joins) = &spawn.shape {
            write!(f, "; from a first process that enters {}", joined(joins))?;
        }
        if let Some(map) = &spawn.id_map {
            write!(f, "; ids {map}")?;
            match &spawn.id_map_programs {
                Some((uid, gid)) => write!(f, " by {uid} and {gid}")?,
                None if spawn.deny_setgroups => write!(f, ", setgroups denied")?,
                None => {}
            }
        }
        Ok(())
    }
}
