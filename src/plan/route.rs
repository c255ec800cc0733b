// SPDX-License-Identifier: Apache-2.0
//! Which way the container's process comes into a mount namespace of its own: three routes, decided here. Called by `plan::create`.
//!
//! | route                  | what it costs                                   | where                                              |
//! |------------------------|-------------------------------------------------|----------------------------------------------------|
//! | [`Route::OpenTree`]    | the root filesystem's mounts                    | Linux 7.0                                          |
//! | [`Route::Pinned`]      | the same, and two                               | Linux 6.8, a host with [`MANY_MOUNTS`]              |
//! | the classic one        | every mount of the host, twice                  | everywhere; the only one for what is listed below  |
//!
//! On the first two, nothing of the host is in sight any more when the first mount is made. So they are for containers that need nothing of
//! it by then: what the host gives is copied before, by the paths that the configuration names. The classic route is for
//! - user namespaces, and a runtime in one: the kernel shows such a container a new proc or sysfs only where it sees another;
//! - hooks before the change of root: createContainer hooks are found in the runtime's files, the others may enter the mount namespace
//!   and expect the root filesystem at its path;
//! - `--no-pivot`; nodes bound from the host; a mount over `/`;
//! - filesystems whose source or parameters are paths of the host (overlay, disks), or longer than fsconfig(2) takes;
//! - binds of what other mounts of the container may change first (in the root filesystem), of what would show the container in itself (a
//!   recursive bind of what the root filesystem is in), and recursive ones of the few directories where hosts keep mount namespaces:
//!   a copy of such a mount may not go into a younger namespace. The classic route leaves it out; so does the runtime where a tree with one
//!   elsewhere has been copied on another route (`process::sources`), at the price of copying that tree twice.

use super::Host;
use super::mounts::{clean, is_below};
use super::namespaces::NamespacePlan;
use super::step::{Mount, Op, Route, Source, Step, Tree};
use crate::linux::types::{CapSet, KernelVersion, Namespaces};

/// The first kernel with OPEN_TREE_NAMESPACE.
pub const OPEN_TREE_NAMESPACE: KernelVersion = KernelVersion { major: 7, minor: 0 };

/// So many mounts take longer to copy than it takes to do without: [`Host::mounts`] counts no further.
pub const MANY_MOUNTS: usize = 128;

/// More trees of the host are not held open at once: there may be few descriptors.
const MOST_TREES: usize = 64;

/// Filesystems that name nothing of the host.
const OF_THE_KERNEL: [&str; 6] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2"];

/// fsconfig(2) takes no longer value.
const LONGEST_VALUE: usize = 255;

/// The directory in which the host keeps a small mount namespace for [`Route::Pinned`].
pub const KEPT: &str = "/run/berth.mntns";

/// Where hosts keep mount namespaces: ours, snapd's, LXD's.
const NAMESPACES_KEPT: [&str; 3] = [KEPT, "/run/snapd/ns", "/var/snap/lxd/common/ns"];

/// Rewrites the steps of the container's process for one of the first two routes, where all of them allow it.
pub fn take(host: &Host, namespaces: &mut NamespacePlan, child: &mut Vec<Step>) -> Option<Route> {
    let route = offered(host)?;
    let privileged = host.privileged() && host.capabilities.contains(CapSet::SYS_ADMIN);
    if !privileged || namespaces.other_user_namespace() || !namespaces.new.contains(Namespaces::MOUNT) {
        return None;
    }
    let (at, entry) = entry(route, child)?;
    child[at].op = entry;
    child.retain(|step| !matches!(step.op, Op::Propagation(_) | Op::Pivot { .. }));
    namespaces.spawn.create.remove(Namespaces::MOUNT);
    Some(route)
}

/// Where the mount namespaces of this host's containers come from, where nothing in their configuration stands in the way; for `check`.
pub fn explain(host: &Host) -> String {
    match offered(host).filter(|_| host.privileged()) {
        Some(Route::OpenTree) => "made around the root filesystem, however many mounts the host has".to_string(),
        Some(Route::Pinned) => format!("the host has many mounts: a copy of the small one that is kept in {KEPT}"),
        None => "a copy of the host's".to_string(),
    }
}

/// What this host has that is better than the classic route.
fn offered(host: &Host) -> Option<Route> {
    if host.kernel >= OPEN_TREE_NAMESPACE {
        // The first root of all, below the others, is in the new namespace too. It must be empty, or nobody's root.
        return (!host.root_in_memory).then_some(Route::OpenTree);
    }
    (host.mounts >= MANY_MOUNTS).then_some(Route::Pinned)
}

/// The step that stands for the classic ones, and the place of the one that it replaces, if no step stands in the way.
fn entry(route: Route, child: &[Step]) -> Option<(usize, Op)> {
    let mut host = None;
    let mut found = None;
    let mut trees = 0;
    for (index, step) in child.iter().enumerate() {
        match &step.op {
            Op::Propagation(change) => host = Some(change.kind),
            Op::AttachRoot { source: Tree::Path(path), propagation, .. } => {
                found = Some((index, path, propagation.map(|change| change.kind).or(host)?));
            }
            Op::AttachRoot { .. } | Op::MoveRoot | Op::AskForRuntimeHooks | Op::CreateContainerHooks => return None,
            Op::Node(node) if node.bind => return None,
            Op::Mount(mount) => {
                let (_, root, _) = found?;
                if !allows(mount, &clean(root)) {
                    return None;
                }
                trees += usize::from(matches!(mount.source, Source::Bind { .. } | Source::CgroupSubtree { .. }));
            }
            _ => {}
        }
    }
    let (index, path, root) = found.filter(|_| trees <= MOST_TREES)?;
    Some((index, Op::EnterRoot { path: path.clone(), route, root, trees: host }))
}

/// Whether a mount is the same when the host is out of sight and its tree has been copied before. `root` is the path of the root filesystem.
fn allows(mount: &Mount, root: &str) -> bool {
    let remount = matches!(mount.source, Source::Remount { .. });
    if clean(&mount.destination) == "/" && !remount {
        return false;
    }
    match &mount.source {
        Source::New { fstype, source, parameters, fallback, .. } => {
            let short = |value: &String| value.len() <= LONGEST_VALUE;
            let all_short = short(source) && parameters.iter().all(|(_, value)| value.as_ref().is_none_or(short));
            OF_THE_KERNEL.contains(&fstype.as_str()) && all_short && fallback.is_none()
        }
        Source::Bind { tree: Tree::Path(path), recursive, .. } => {
            let path = clean(path);
            // The usual link.
            let path = path.strip_prefix("/var").filter(|rest| is_below(rest, "/run")).unwrap_or(&path);
            let shows = |place: &str| is_below(place, path);
            !is_below(path, root) && !(*recursive && (shows(root) || NAMESPACES_KEPT.iter().any(|place| shows(place))))
        }
        // The runtime's copies, and parts of cgroups, are the same on each route.
        Source::Bind { tree: Tree::FromRuntime(_), .. } | Source::CgroupSubtree { .. } | Source::Remount { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::rootfs::tests::{Setup, setup};
    use crate::plan::step::Node;
    use crate::plan::{Id, Plan, Request, create};
    use crate::spec::fixtures;
    use crate::spec::types::{Hook, Hooks, Root, Spec};

    fn newest() -> Host {
        Host { kernel: OPEN_TREE_NAMESPACE, ..Host::example() }
    }

    fn full() -> Host {
        Host { mounts: MANY_MOUNTS, ..Host::example() }
    }

    fn planned(change: impl FnOnce(&mut Spec, &mut Request), host: &Host) -> Plan {
        let mut spec = fixtures::spec("containerd-cri");
        let mut request = Request::create(Id::parse("x").unwrap(), "/bundle", "/run/berth");
        spec.process.as_deref_mut().unwrap().apparmor_profile = String::new();
        change(&mut spec, &mut request);
        create(&spec, &request, host).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn route(plan: &Plan) -> Option<Route> {
        let classic = plan.child.iter().any(|step| matches!(step.op, Op::AttachRoot { .. } | Op::Pivot { .. } | Op::MoveRoot));
        let found = plan.child.iter().find_map(|step| match step.op {
            Op::EnterRoot { route, .. } => Some(route),
            _ => None,
        });
        assert_eq!(classic, found.is_none());
        assert_eq!(plan.spawn.create.contains(Namespaces::MOUNT), classic);
        assert!(plan.namespaces.contains(Namespaces::MOUNT));
        let opens = plan.parent.iter().any(|step| step.op == crate::plan::ParentOp::OpenPinnedNamespace);
        assert_eq!(opens, found == Some(Route::Pinned));
        found
    }

    #[test]
    fn the_host_offers_a_route() {
        let kernel = |major, minor| KernelVersion { major, minor };
        for (host, wanted) in [
            (Host::example(), None),
            (Host { mounts: MANY_MOUNTS - 1, ..Host::example() }, None),
            (full(), Some(Route::Pinned)),
            (newest(), Some(Route::OpenTree)),
            (Host { kernel: kernel(7, 2), ..full() }, Some(Route::OpenTree)),
            (Host { kernel: kernel(6, 99), ..newest() }, None),
            (Host { root_in_memory: true, ..newest() }, None),
        ] {
            assert_eq!(route(&planned(|_, _| {}, &host)), wanted, "{host:?}");
        }
    }

    #[test]
    fn only_whoever_administers_the_host_has_a_choice() {
        let mut child = vec![];
        for host in [
            Host { initial_user_namespace: false, ..newest() },
            Host { capabilities: CapSet(0), ..newest() },
            Host { euid: 1000, ..newest() },
        ] {
            let mut setup = setup();
            setup.host = host;
            child.extend(setup.plan().mounts);
            assert_eq!(take(&setup.host, &mut setup.namespaces, &mut child), None, "{:?}", setup.host);
        }
        let with_users = |spec: &mut Spec, _: &mut Request| {
            let linux = spec.linux.as_deref_mut().unwrap();
            linux.namespaces.push(crate::spec::types::Namespace { kind: "user".into(), path: String::new() });
            let map = vec![crate::spec::types::IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }];
            (linux.uid_mappings, linux.gid_mappings) = (map.clone(), map);
        };
        assert_eq!(route(&planned(with_users, &newest())), None);
    }

    #[test]
    fn what_needs_the_host_in_sight_is_classic() {
        let hook = || vec![Hook { path: "/bin/true".into(), ..Hook::default() }];
        let hooks = |hooks: Hooks| move |spec: &mut Spec, _: &mut Request| spec.hooks = Some(hooks);
        for host in [newest(), full()] {
            for given in [
                Hooks { prestart: hook(), ..Hooks::default() },
                Hooks { create_runtime: hook(), ..Hooks::default() },
                Hooks { create_container: hook(), ..Hooks::default() },
            ] {
                assert_eq!(route(&planned(hooks(given), &host)), None);
            }
            let later = Hooks { start_container: hook(), poststart: hook(), poststop: hook(), ..Hooks::default() };
            assert!(route(&planned(hooks(later), &host)).is_some());
            assert_eq!(route(&planned(|_, request| request.no_pivot = true, &host)), None);
            let joined = |spec: &mut Spec, _: &mut Request| {
                let namespaces = &mut spec.linux.as_deref_mut().unwrap().namespaces;
                namespaces.iter_mut().find(|one| one.kind == "mount").unwrap().path = "/proc/1/ns/mnt".into();
            };
            assert!(!planned(joined, &host).child.iter().any(|step| matches!(step.op, Op::EnterRoot { .. })));
        }
    }

    fn of(setup: &Setup) -> Option<Op> {
        let steps = setup.plan().mounts;
        entry(Route::OpenTree, &steps).map(|(_, op)| op)
    }

    #[test]
    fn mounts_that_stand_in_the_way() {
        let long = format!("lowerdir={}", "x".repeat(300));
        for (destination, kind, source, options, allowed) in [
            ("/a", "tmpfs", "tmpfs", &["size=1m", "mode=755"][..], true),
            ("/a", "tmpfs", "tmpfs", &[long.as_str()], false),
            ("/a", "overlay", "overlay", &["lowerdir=/x:/y"], false),
            ("/a", "ext4", "/dev/sdb", &[], false),
            ("/sys/fs/cgroup", "cgroup", "cgroup", &[], true),
            ("/", "tmpfs", "tmpfs", &[], false),
            ("/x/..", "bind", "/srv", &["bind"], false),
            ("/", "", "", &["remount", "ro"], true),
            ("/a", "bind", "/srv", &["rbind", "rslave"], true),
            ("/a", "bind", "/bundle/data", &["rbind"], true),
            ("/a", "bind", "rootfs-of-another", &["bind"], true),
            ("/a", "bind", "rootfs", &["bind"], false),
            ("/a", "bind", "rootfs/etc", &["bind"], false),
            ("/a", "bind", "/srv/../bundle/./rootfs/etc", &["bind"], false),
            ("/a", "bind", "/", &["rbind"], false),
            ("/a", "bind", "/", &["bind"], true),
            ("/a", "bind", "/bundle", &["rbind"], false),
            ("/a", "bind", "/run", &["rbind"], false),
            ("/a", "bind", "/var/run", &["rbind"], false),
            ("/a", "bind", "/var/run/docker.sock", &["rbind"], true),
            ("/a", "bind", "/run/containerd/x", &["rbind"], true),
            ("/a", "bind", "/var", &["rbind"], false),
            ("/a", "bind", "/var/lib/kubelet/pods", &["rbind"], true),
        ] {
            let mut setup = setup();
            setup.spec.root = Some(Root { path: "rootfs".into(), readonly: false });
            setup.add(destination, kind, source, options);
            assert_eq!(of(&setup).is_some(), allowed, "{destination} {kind} {source} {options:?}");
        }
        let mut many = setup();
        for number in 0..=MOST_TREES {
            assert_eq!(of(&many).is_some(), number <= MOST_TREES);
            many.add("/a", "bind", "/srv", &["bind"]);
        }
        assert!(of(&many).is_none());
        let mut steps = setup().plan().mounts;
        let node = |bind| Node { bind, ..node() };
        steps.push(Step { op: Op::Node(node(false)), at: String::new() });
        assert!(entry(Route::OpenTree, &steps).is_some());
        steps.push(Step { op: Op::Node(node(true)), at: String::new() });
        assert!(entry(Route::OpenTree, &steps).is_none());
    }

    fn node() -> Node {
        use crate::linux::types::{DeviceNumber, NodeKind};
        let number = DeviceNumber { major: 1, minor: 3 };
        Node { path: "/dev/x".into(), kind: NodeKind::Character, number, mode: 0o666, uid: 0, gid: 0, bind: false }
    }

    #[test]
    fn copies_propagate_as_the_hosts_mounts_would() {
        use crate::linux::types::Propagation::{Private, Slave};
        for (given, wanted_trees, wanted_root) in [
            ("", Some(Slave), Slave),
            ("rslave", Some(Slave), Slave),
            ("private", Some(Private), Private),
            ("unbindable", Some(Private), Private),
            // What asks for it stays shared with the host; the plan of each mount says what does not.
            ("rshared", None, Slave),
        ] {
            let mut setup = setup();
            setup.linux().rootfs_propagation = given.into();
            let Some(Op::EnterRoot { root, trees, path, .. }) = of(&setup) else { panic!("{given}") };
            assert_eq!((trees, root, path.as_str()), (wanted_trees, wanted_root, "/bundle/rootfs"), "{given}");
        }
    }
}
