// SPDX-License-Identifier: Apache-2.0
//! What the kernel must show of a container that was made by a plan: the asked half of `berth plan --diff`. `container::diff` looks at
//! what the kernel has; [`agrees`] says whether that is what was asked, written as the kernel writes it.

use super::resources::{Absent, Tree};
use super::step::{AttrChange, Mount, Op, Source};
use super::{Identity, ParentOp, Plan, Shape};
use crate::linux::types::{CapSet, IdRange, MountAttr, Namespaces, NodeKind};

/// What can be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The cgroup of the process, below its hierarchy's mount.
    Cgroup,
    /// A file of the container's cgroup.
    CgroupFile {
        /// The tree it is in.
        tree: Tree,
        /// The controller it belongs to.
        controller: String,
        /// Its name.
        file: String,
    },
    /// How many device filters are attached to the cgroup.
    DeviceFilter,
    /// Whose namespace of a kind the process is in: [`OWN`], [`HOSTS`] or the path that it joined.
    Namespace(Namespaces),
    /// /proc/PID/uid_map or gid_map.
    IdMap(&'static str),
    /// /proc/PID/timens_offsets
    TimeOffsets,
    /// What is mounted at a path of the container: type and options.
    Mount(String),
    /// Whether a path of the container is hidden: [`MASKED`].
    Masked(String),
    /// Whether a path of the container is read-only: [`READ_ONLY`].
    ReadOnly(String),
    /// A device node of the container: type, number, permission bits.
    Device(String),
    /// A line of /proc/PID/status.
    Status(&'static str),
    /// A resource limit: soft and hard.
    Rlimit {
        /// `RLIMIT_NOFILE`
        name: String,
        /// Its number.
        resource: u32,
    },
    /// /proc/PID/oom_score_adj
    OomScoreAdj,
    /// /proc/PID/personality
    Personality,
    /// Policy and nice value, of /proc/PID/stat.
    Scheduler,
    /// Class and level of I/O priority; ioprio_get(2).
    IoPriority,
    /// The memory policy, as /proc/PID/numa_maps writes it: `bind:0-1`.
    MemoryPolicy,
    /// How the mount at a path of the container propagates: `shared`, `slave`, `private` or `unbindable`.
    Propagation(String),
    /// A network device of the container's network namespace: [`THERE`].
    NetDevice(String),
    /// The resctrl group that the process is in.
    ResctrlGroup,
    /// The file `schemata` of that group.
    Schemata,
    /// A kernel parameter, as the container's namespaces have it.
    Sysctl(String),
    /// /proc/PID/attr/apparmor/current
    Apparmor,
    /// /proc/PID/attr/current
    Selinux,
}

/// The process has a namespace of its own.
pub const OWN: &str = "its own";
/// The process is in the runtime's namespace.
pub const HOSTS: &str = "the host's";
/// It is there.
pub const THERE: &str = "there";
/// Something is mounted over the path, or there is nothing to hide.
pub const MASKED: &str = "masked";
/// Nothing can be written there, or there is nothing.
pub const READ_ONLY: &str = "read-only";

impl Subject {
    /// In words, for people.
    pub fn name(&self) -> String {
        match self {
            Subject::Cgroup => "cgroup".into(),
            Subject::CgroupFile { file, .. } => file.clone(),
            Subject::DeviceFilter => "device filters".into(),
            Subject::Namespace(kind) => format!("{} namespace", super::namespaces::name(*kind)),
            Subject::IdMap(file) => (*file).into(),
            Subject::TimeOffsets => "timens_offsets".into(),
            Subject::Mount(path) => format!("mount {path}"),
            Subject::Masked(path) | Subject::ReadOnly(path) => path.clone(),
            Subject::Device(path) => format!("device {path}"),
            Subject::Status(line) => (*line).into(),
            Subject::Rlimit { name, .. } => name.clone(),
            Subject::OomScoreAdj => "oom_score_adj".into(),
            Subject::Personality => "personality".into(),
            Subject::Scheduler => "scheduling policy and nice".into(),
            Subject::IoPriority => "I/O priority".into(),
            Subject::MemoryPolicy => "memory policy".into(),
            Subject::Propagation(path) => format!("propagation of {path}"),
            Subject::NetDevice(name) => format!("network device {name}"),
            Subject::ResctrlGroup => "resctrl group".into(),
            Subject::Schemata => "resctrl schemata".into(),
            Subject::Sysctl(key) => key.clone(),
            Subject::Apparmor => "AppArmor profile".into(),
            Subject::Selinux => "SELinux label".into(),
        }
    }
}

/// One thing that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Of what.
    pub subject: Subject,
    /// What was asked, as the kernel would write it.
    pub asked: String,
    /// The field that asked for it; empty where none did.
    pub at: String,
    /// It holds from the moment on that the program runs, not before.
    pub running: bool,
}

/// Everything that can be compared, in the order of the plan.
pub fn expected(plan: &Plan) -> Vec<Expected> {
    let mut all = cgroup(plan);
    all.extend(namespaces(plan));
    all.extend(mounts(plan));
    all.extend(propagation(plan));
    for step in &plan.parent {
        match &step.op {
            ParentOp::OomScoreAdj(adjust) => all.push(one(Subject::OomScoreAdj, adjust.to_string(), &step.at)),
            ParentOp::MoveNetDevice { new_name, .. } => all.push(one(Subject::NetDevice(new_name.clone()), THERE, &step.at)),
            ParentOp::EnterResctrl(group) => {
                all.push(one(Subject::ResctrlGroup, format!("/{}", group.group.trim_start_matches('/')), &step.at));
                if !group.schemata.is_empty() {
                    all.push(one(Subject::Schemata, group.schemata.join(", "), &step.at));
                }
            }
            _ => {}
        }
    }
    for step in &plan.child {
        all.extend(of_process(&step.op, &step.at, plan));
    }
    all
}

fn one(subject: Subject, asked: impl Into<String>, at: &str) -> Expected {
    Expected { subject, asked: asked.into(), at: at.into(), running: false }
}

fn running(subject: Subject, asked: impl Into<String>, at: &str) -> Expected {
    Expected { running: true, ..one(subject, asked, at) }
}

fn cgroup(plan: &Plan) -> Vec<Expected> {
    let mut all: Vec<Expected> = Vec::new();
    if let Some(saved) = &plan.cgroup.saved.v2 {
        all.push(one(Subject::Cgroup, &saved.path, super::resources::path::FIELD));
    }
    for write in &plan.cgroup.writes {
        let subject =
            |file: &str| Subject::CgroupFile { tree: write.tree, controller: write.controller.clone(), file: file.into() };
        // Some files take a line for each device and keep them all; elsewhere the last word counts.
        let keyed = write.value.split_once(' ').is_some_and(|(key, _)| key.contains(':'));
        if !keyed {
            all.retain(|other| other.subject != subject(&write.file));
        }
        if matches!(write.absent, Absent::Error | Absent::Harmless) {
            all.push(one(subject(&write.file), &write.value, &write.at));
        }
    }
    if plan.cgroup.devices.is_some() {
        all.push(one(Subject::DeviceFilter, "1", "linux.resources.devices"));
    }
    all
}

fn namespaces(plan: &Plan) -> Vec<Expected> {
    let joined: Vec<_> = match &plan.spawn.shape {
        Shape::TwoClones(joins) => joins.clone(),
        Shape::OneClone => {
            plan.child.iter().flat_map(|step| if let Op::Join(joins) = &step.op { joins.clone() } else { Vec::new() }).collect()
        }
    };
    let mut all = Vec::new();
    for kind in Namespaces::all().iter() {
        let subject = Subject::Namespace(kind);
        match joined.iter().find(|join| join.kind == kind) {
            Some(join) => all.push(one(subject, &join.path, &join.at)),
            None if plan.namespaces.contains(kind) => all.push(one(subject, OWN, "linux.namespaces")),
            None => all.push(one(subject, HOSTS, "linux.namespaces")),
        }
    }
    if let Some(map) = &plan.spawn.id_map {
        for (file, ranges, at) in [("uid_map", &map.uids, "linux.uidMappings"), ("gid_map", &map.gids, "linux.gidMappings")] {
            let lines: Vec<_> =
                ranges.iter().map(|range| format!("{} {} {}", range.inside, range.outside, range.count)).collect();
            all.push(one(Subject::IdMap(file), lines.join(", "), at));
        }
    }
    all
}

/// What is mounted where, all steps about one place together: the last word on an option counts.
fn mounts(plan: &Plan) -> Vec<Expected> {
    let mut all: Vec<(&Mount, String, AttrChange, &str)> = Vec::new();
    for step in &plan.child {
        let Op::Mount(mount) = &step.op else { continue };
        let kind = match &mount.source {
            Source::New { fstype, fallback: None, .. } => fstype.clone(),
            _ => String::new(),
        };
        let mut attr = mount.attr;
        if mount.readonly_last {
            attr.set(MountAttr::RDONLY);
        }
        match all.iter_mut().find(|(other, ..)| other.destination == mount.destination) {
            Some(there) if matches!(mount.source, Source::Remount { .. }) => {
                for flag in MountAttr::all().iter() {
                    if attr.flags().contains(flag) {
                        there.2.set(flag);
                    } else if attr.clears(flag) {
                        there.2.clear(flag);
                    }
                }
            }
            Some(there) => *there = (mount, kind, attr, &step.at),
            None => all.push((mount, kind, attr, &step.at)),
        }
    }
    // A symbolic link that was copied instead is no mount.
    let is_mount = |mount: &Mount| !matches!(mount.source, Source::Bind { copy_symlink: true, .. });
    let shown = all.into_iter().filter(|(mount, ..)| is_mount(mount));
    shown.map(|(mount, kind, attr, at)| one(Subject::Mount(mount.destination.clone()), options(&kind, attr), at)).collect()
}

/// How mounts propagate where the configuration says so: the last word on a place counts, and what is said of a place's mounts as a whole is
/// compared of the place alone.
fn propagation(plan: &Plan) -> Vec<Expected> {
    let mut all: Vec<Expected> = Vec::new();
    for step in &plan.child {
        let (path, change) = match &step.op {
            Op::Mount(mount) => (mount.destination.as_str(), mount.propagation.last()),
            Op::RootPropagation(change) => ("/", Some(change)),
            _ => continue,
        };
        let Some(change) = change else { continue };
        let subject = Subject::Propagation(path.into());
        all.retain(|other| other.subject != subject);
        all.push(one(subject, change.kind.name(), &step.at));
    }
    all
}

/// `tmpfs nosuid,nodev,!noexec`: what must be there, and after `!` what must not.
fn options(kind: &str, attr: AttrChange) -> String {
    const NAMES: [(MountAttr, &str); 5] = [
        (MountAttr::RDONLY, "ro"),
        (MountAttr::NOSUID, "nosuid"),
        (MountAttr::NODEV, "nodev"),
        (MountAttr::NOEXEC, "noexec"),
        (MountAttr::NODIRATIME, "nodiratime"),
    ];
    let mut words = Vec::new();
    for (flag, name) in NAMES {
        if attr.flags().contains(flag) {
            words.push(name.to_string());
        } else if attr.clears(flag) && flag != MountAttr::RDONLY {
            // `rw` is said of every volume, and passed over where it may not be.
            words.push(format!("!{name}"));
        }
    }
    match (kind, words.is_empty()) {
        ("", true) => "a mount".into(),
        ("", false) => words.join(","),
        (kind, true) => kind.into(),
        (kind, false) => format!("{kind} {}", words.join(",")),
    }
}

fn of_process(op: &Op, at: &str, plan: &Plan) -> Vec<Expected> {
    match op {
        Op::Hostname(name) => vec![one(Subject::Sysctl("kernel.hostname".into()), name, at)],
        Op::Domainname(name) => vec![one(Subject::Sysctl("kernel.domainname".into()), name, at)],
        Op::Sysctl { key, value } => vec![one(Subject::Sysctl(key.clone()), value, at)],
        Op::NewTimeNamespace(offsets) => {
            let line = |clock: &str| {
                let offset = offsets.iter().find(|offset| offset.clock == clock);
                format!("{clock} {} {}", offset.map_or(0, |offset| offset.secs), offset.map_or(0, |offset| offset.nanosecs))
            };
            vec![one(Subject::TimeOffsets, format!("{}, {}", line("monotonic"), line("boottime")), at)]
        }
        Op::MaskPaths { paths, .. } => paths
            .iter()
            .enumerate()
            .map(|(index, path)| one(Subject::Masked(path.clone()), MASKED, &format!("linux.maskedPaths[{index}]")))
            .collect(),
        Op::ReadonlyPath { path, .. } => vec![one(Subject::ReadOnly(path.clone()), READ_ONLY, at)],
        Op::ReadonlyRoot => vec![one(Subject::ReadOnly("/".into()), READ_ONLY, at)],
        Op::Node(node) => {
            let kind = match node.kind {
                NodeKind::Character => 'c',
                NodeKind::Block => 'b',
                NodeKind::Fifo => 'p',
            };
            let number = format!("{kind} {}:{}", node.number.major, node.number.minor);
            let asked = if node.bind { number } else { format!("{number} {:04o}", node.mode & 0o7777) };
            vec![one(Subject::Device(node.path.clone()), asked, at)]
        }
        Op::Rlimit { name, resource, soft, hard } => {
            let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_string() } else { limit.to_string() };
            let subject = Subject::Rlimit { name: name.clone(), resource: *resource };
            vec![one(subject, format!("{} {}", shown(*soft), shown(*hard)), at)]
        }
        Op::Scheduler(wanted) => vec![one(Subject::Scheduler, format!("{} {}", wanted.policy, wanted.nice), at)],
        Op::IoPriority { class, level } => vec![one(Subject::IoPriority, format!("{class} {level}"), at)],
        Op::MemoryPolicy { mode, nodes } => vec![one(Subject::MemoryPolicy, memory_policy(*mode, nodes), at)],
        Op::Affinity(cpus) => vec![one(Subject::Status("Cpus_allowed_list"), list(cpus), at)],
        Op::Personality(domain) => vec![one(Subject::Personality, format!("{domain:08x}"), at)],
        Op::ApparmorProfile(profile) => vec![running(Subject::Apparmor, profile, at)],
        Op::SelinuxLabel(label) => vec![running(Subject::Selinux, label, at)],
        Op::Umask(mask) => vec![one(Subject::Status("Umask"), format!("{mask:04o}"), at)],
        Op::NoNewPrivileges => vec![one(Subject::Status("NoNewPrivs"), "1", at)],
        Op::Seccomp(_) => vec![running(Subject::Status("Seccomp"), "2", at)],
        Op::Identity(identity) => self::identity(identity, at, plan),
        _ => Vec::new(),
    }
}

/// As the kernel's mpol_to_str writes it: the mode, its flag, the nodes.
fn memory_policy(mode: u32, nodes: &[u32]) -> String {
    const NAMES: [&str; 7] = ["default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"];
    // linux/mempolicy.h
    const FLAGS: [(u32, &str); 2] = [(1 << 15, "=static"), (1 << 14, "=relative")];
    let name = NAMES.get((mode & 0xff) as usize).copied().unwrap_or("?");
    let flag = FLAGS.iter().find(|(bit, _)| mode & bit != 0).map_or("", |(_, name)| name);
    match nodes {
        [] => name.to_string(),
        nodes => format!("{name}{flag}:{}", list(nodes)),
    }
}

/// Ids as the runtime sees them, and the sets of capabilities as execve(2) leaves them (capabilities(7)) where no file adds any.
fn identity(identity: &Identity, at: &str, plan: &Plan) -> Vec<Expected> {
    let map = plan.spawn.id_map.as_ref();
    let outside = |ranges: Option<&Vec<IdRange>>, id: u32| ranges.map_or(Some(id), |ranges| translate(ranges, id));
    let four = |id: Option<u32>| id.map(|id| [id; 4].map(|id| id.to_string()).join(" "));
    let mut all = Vec::new();
    // Where the ids of the namespace are somebody else's to map, they cannot be told from here.
    let known = map.is_some() || !plan.namespaces.contains(Namespaces::USER);
    if let Some(uid) = four(outside(map.map(|map| &map.uids), identity.uid)).filter(|_| known) {
        all.push(one(Subject::Status("Uid"), uid, &format!("{at}.uid")));
    }
    if let Some(gid) = four(outside(map.map(|map| &map.gids), identity.gid)).filter(|_| known) {
        all.push(one(Subject::Status("Gid"), gid, &format!("{at}.gid")));
    }
    if let (Some(groups), true) = (&identity.groups, known) {
        let outside = groups.iter().map(|group| outside(map.map(|map| &map.gids), *group));
        if let Some(mut groups) = outside.collect::<Option<Vec<u32>>>() {
            groups.sort_unstable();
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            all.push(one(Subject::Status("Groups"), groups.join(" "), &format!("{at}.additionalGids")));
        }
    }
    let root = identity.uid == 0;
    let (permitted, effective) = match root {
        true => (identity.inheritable | identity.bounding, identity.inheritable | identity.bounding),
        false => (identity.ambient, identity.ambient),
    };
    let set = |set: CapSet| format!("{:016x}", set.0);
    let field = |name: &str| format!("process.capabilities.{name}");
    all.push(one(Subject::Status("CapBnd"), set(identity.bounding), &field("bounding")));
    all.push(running(Subject::Status("CapInh"), set(identity.inheritable), &field("inheritable")));
    all.push(running(Subject::Status("CapPrm"), set(permitted), &field("permitted")));
    all.push(running(Subject::Status("CapEff"), set(effective), &field("effective")));
    all.push(running(Subject::Status("CapAmb"), set(identity.ambient), &field("ambient")));
    all
}

fn translate(ranges: &[IdRange], id: u32) -> Option<u32> {
    let range = ranges.iter().find(|range| id >= range.inside && id - range.inside < range.count)?;
    range.outside.checked_add(id - range.inside)
}

/// Numbers as the kernel lists them: `0-3,7`.
fn list(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let shown = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(shown).collect::<Vec<_>>().join(",")
}

/// Whether what the kernel has is what was asked, which it may write in another way: rounded to pages, as `max`, among more.
pub fn agrees(expected: &Expected, now: &str) -> bool {
    let asked = expected.asked.trim();
    if asked == now {
        return true;
    }
    match &expected.subject {
        Subject::CgroupFile { file, .. } => file_agrees(file, asked, now),
        Subject::Cgroup => now.strip_prefix(asked).is_some_and(|rest| rest.starts_with('/')),
        Subject::DeviceFilter => now.parse::<u32>().is_ok_and(|count| count > 0),
        Subject::Mount(_) => mount_agrees(asked, now),
        Subject::Device(_) => now.strip_prefix(asked).is_some_and(|rest| rest.starts_with(' ')),
        Subject::Apparmor => now.split_once(" (").is_some_and(|(profile, _)| profile == asked),
        // A slave may be shared as well, and where there was nobody to be a slave of, it is private.
        Subject::Propagation(_) => now.split(',').any(|word| word == asked) || (asked == "slave" && now == "private"),
        Subject::Schemata => {
            let wanted: Vec<String> = asked.split(", ").map(String::from).collect();
            super::resctrl::first_difference(&wanted, &now.replace(", ", "\n")).is_none()
        }
        Subject::Sysctl(_) => asked.split_whitespace().eq(now.split_whitespace()),
        _ => false,
    }
}

fn mount_agrees(asked: &str, now: &str) -> bool {
    let Some((kind, options)) = now.split_once(' ') else { return false };
    let has = |name: &str| options.split(',').any(|option| option == name);
    let word = |word: &str| match word.strip_prefix('!') {
        Some(name) => !has(name),
        None => has(word),
    };
    match asked {
        "a mount" => true,
        asked => match asked.split_once(' ') {
            Some((fstype, words)) => fstype == kind && words.split(',').all(word),
            // A type alone, or options alone.
            None => asked == kind || asked.split(',').all(word),
        },
    }
}

fn file_agrees(file: &str, asked: &str, now: &str) -> bool {
    const NO_LIMIT: u64 = 1 << 62;
    const LARGEST_PAGE: u64 = 1 << 16;
    let number = |text: &str| match text {
        "max" | "-1" => Some(u64::MAX),
        text => text.parse::<u64>().ok().map(|value| if value >= NO_LIMIT { u64::MAX } else { value }),
    };
    if let (Some(asked), Some(now)) = (number(asked), number(now)) {
        // The kernel rounds bytes down to whole pages.
        let bytes = file.starts_with("memory.") || file.starts_with("hugetlb.");
        return asked == now || (bytes && now < asked && asked - now < LARGEST_PAGE && asked != u64::MAX);
    }
    if file.starts_with("cpuset.") {
        return numbers(asked).is_some_and(|asked| Some(asked) == numbers(now));
    }
    let (mut words, first) = (asked.split_whitespace(), asked.split_whitespace().next().unwrap_or_default());
    if first.contains(':') {
        // A line for a device among others, with values among others.
        let line = now.lines().find(|line| line.split_whitespace().next() == Some(first));
        return line.is_some_and(|line| words.all(|word| line.split_whitespace().any(|other| other == word)));
    }
    // `cpu.max` has a period that may have been left out; `io.weight` a word before it.
    let mut there = now.split_whitespace().peekable();
    if there.peek() == Some(&"default") && first != "default" {
        there.next();
    }
    words.all(|word| there.next() == Some(word))
}

/// The numbers of a list such as `0-3,7`.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        all.extend((first..=last).take(1 << 16));
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests;
