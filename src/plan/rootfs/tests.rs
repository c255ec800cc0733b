// SPDX-License-Identifier: Apache-2.0
//! Tests of the planned root filesystem, and the setup that tests of mounts and devices share.

use proptest::prelude::*;

use super::*;
use crate::linux::types::{CgroupMode, IdRange, MountAttr};
use crate::plan::step::{Mount, ProcRule, Source};
use crate::plan::{Id, IdMap, Shape, Spawn};
use crate::spec::types::{Hook, Hooks};
use crate::spec::{self, Device, Process, Root};

/// Everything a [`Context`] borrows.
pub(crate) struct Setup {
    pub(crate) spec: Spec,
    pub(crate) request: Request,
    pub(crate) host: Host,
    pub(crate) namespaces: NamespacePlan,
    pub(crate) cgroup: Option<String>,
}

/// A privileged container with a mount and a cgroup namespace of its own.
pub(crate) fn setup() -> Setup {
    let spec = Spec { root: Some(Root { path: "rootfs".into(), readonly: false }), ..Default::default() };
    let new = Namespaces::MOUNT | Namespaces::CGROUP;
    let spawn = Spawn { create: new, shape: Shape::OneClone, id_map: None, id_map_programs: None, deny_setgroups: false };
    Setup {
        spec,
        request: Request::create(Id::parse("test").unwrap(), "/bundle", "/run/berth"),
        host: Host::example(),
        namespaces: NamespacePlan { new, join: Vec::new(), spawn, root_mapped: true, warnings: Vec::new() },
        cgroup: Some("/pod/test".into()),
    }
}

impl Setup {
    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            spec: &self.spec,
            request: &self.request,
            host: &self.host,
            namespaces: &self.namespaces,
            cgroup: self.cgroup.as_deref(),
        }
    }
    pub(crate) fn linux(&mut self) -> &mut Linux {
        self.spec.linux.get_or_insert_default()
    }
    /// Adds a user namespace that maps 0..65536 to 100000.
    pub(crate) fn user_namespace(&mut self) {
        let ids = vec![IdRange { inside: 0, outside: 100_000, count: 65_536 }];
        self.namespaces.new |= Namespaces::USER;
        self.namespaces.spawn.id_map = Some(IdMap { uids: ids.clone(), gids: ids });
    }
    /// The runtime is an ordinary user.
    pub(crate) fn rootless(&mut self) {
        self.user_namespace();
        (self.host.euid, self.host.capabilities) = (1000, CapSet(0));
    }
    pub(crate) fn add(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut spec::Mount {
        self.spec.mounts.push(spec::Mount {
            destination: destination.into(),
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|option| option.to_string()).collect(),
            ..Default::default()
        });
        self.spec.mounts.last_mut().unwrap()
    }
    pub(crate) fn plan(&self) -> RootPlan {
        root_steps(&self.context()).unwrap()
    }
    pub(crate) fn problems(&self) -> Vec<Problem> {
        root_steps(&self.context()).unwrap_err()
    }
    /// The mount of the configuration's only entry.
    pub(crate) fn mount(&self) -> Mount {
        mounts_of(&self.plan()).remove(0)
    }
}

pub(crate) fn mounts_of(plan: &RootPlan) -> Vec<Mount> {
    plan.mounts.iter().filter_map(|step| if let Op::Mount(mount) = &step.op { Some((**mount).clone()) } else { None }).collect()
}

fn ops(steps: &[Step]) -> Vec<&Op> {
    steps.iter().map(|step| &step.op).collect()
}

#[test]
fn the_order_of_a_container() {
    let mut setup = setup();
    setup.add("/proc", "proc", "proc", &[]);
    setup.add("/dev", "tmpfs", "tmpfs", &["mode=755", "ro"]);
    setup.spec.root.as_mut().unwrap().readonly = true;
    setup.spec.process = Some(Box::new(Process { cwd: "/work".into(), ..Default::default() }));
    setup.linux().masked_paths = vec!["/proc/kcore".into(), "sys/firmware".into()];
    setup.linux().readonly_paths = vec!["/proc/sys".into()];
    let plan = setup.plan();
    let slave = PropagationChange { kind: Propagation::Slave, recursive: true };
    let path = "/bundle/rootfs".to_string();
    assert_eq!(plan.mounts[0].op, Op::Propagation(slave));
    let source = Tree::Path(path.clone());
    assert_eq!(plan.mounts[1].op, Op::AttachRoot { source, path, propagation: None, private_parent: false });
    assert_eq!((plan.mounts[2].at.as_str(), plan.mounts[3].at.as_str()), ("mounts[0]", "mounts[1]"));
    assert!(plan.mounts[4..10].iter().all(|step| matches!(step.op, Op::Node(_))));
    assert!(plan.mounts[10..16].iter().all(|step| matches!(step.op, Op::Link { .. })));
    assert_eq!(plan.mounts[16].op, Op::Directory("/work".into()));
    assert_eq!(plan.mounts.len(), 17);
    assert_eq!(ops(&plan.pivot), [&Op::Pivot { shared: false }]);
    let masks = Op::MaskPaths { paths: vec!["/proc/kcore".into(), "/sys/firmware".into()], label: None };
    let hidden = [&Op::ReadonlyPath { path: "/proc/sys".into(), but: vec![] }, &masks, &Op::ReadonlyMounts, &Op::ReadonlyRoot];
    assert_eq!(ops(&plan.hide), hidden);
    assert!(plan.trees.is_empty() && plan.warnings.is_empty());
}

#[test]
fn what_is_mounted_on_files_of_a_read_only_path_is_kept() {
    let mut setup = setup();
    for place in ["/proc", "/proc/sys/../sys/kernel/ns_last_pid", "/proc/uptime", "/proc/sys/kernel/ns_last_pid"] {
        setup.add(place, "none", "/some", &["bind"]);
    }
    setup.linux().readonly_paths = ["/proc/sys", "/proc/sys/kernel", "/proc/sy", "/proc/", "/"].map(String::from).into();
    let kept = |step: &Step| match &step.op {
        Op::ReadonlyPath { but, .. } => but.join(" "),
        other => format!("{other}"),
    };
    let (pid, both) = ("/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/ns_last_pid /proc/uptime");
    assert_eq!(setup.plan().hide.iter().map(kept).collect::<Vec<_>>(), [pid, pid, "", both, both]);
}

#[test]
fn the_runtime_opens_the_trees_of_another_users_container() {
    let mut setup = setup();
    setup.user_namespace();
    setup.add("/a", "bind", "a", &["rbind"]);
    setup.add("/b", "none", "/b", &["bind", "src-nofollow"]);
    let plan = setup.plan();
    let opened: Vec<(usize, String, bool, bool)> = plan
        .trees
        .iter()
        .map(|step| match &step.op {
            ParentOp::OpenTree { slot, path, recursive, nofollow, .. } => (*slot, path.clone(), *recursive, *nofollow),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [(0, "/bundle/rootfs", true, false), (1, "/bundle/a", true, false), (2, "/b", false, true)];
    assert_eq!(opened, expected.map(|(slot, path, all, nofollow)| (slot, path.to_string(), all, nofollow)));
    assert!(matches!(&plan.mounts[1].op, Op::AttachRoot { source: Tree::FromRuntime(0), .. }));
    for (mount, slot) in mounts_of(&plan).iter().zip(1..) {
        assert!(matches!(&mount.source, Source::Bind { tree: Tree::FromRuntime(at), .. } if *at == slot));
    }
    // Root of a user namespace may see mounts that are not its own.
    setup.host.owns_mount_namespace = false;
    assert!(setup.plan().trees.is_empty());
    setup.host.owns_mount_namespace = true;
    setup.rootless();
    let plan = setup.plan();
    assert!(plan.trees.is_empty());
    assert!(matches!(&mounts_of(&plan)[0].source, Source::Bind { tree: Tree::Path(path), .. } if path == "/bundle/a"));
}

#[test]
fn propagation_of_the_root() {
    use Propagation::{Private, Shared, Slave, Unbindable};
    let cases = [
        ("", Some(Slave), Slave, None),
        ("rslave", Some(Slave), Slave, None),
        ("private", Some(Private), Private, None),
        ("shared", None, Slave, Some((Shared, false))),
        ("rshared", None, Slave, Some((Shared, true))),
        ("unbindable", Some(Private), Private, Some((Unbindable, false))),
        ("runbindable", Some(Private), Private, Some((Unbindable, true))),
    ];
    for (text, host, root, after) in cases {
        let mut setup = setup();
        setup.linux().rootfs_propagation = text.into();
        let plan = setup.plan();
        let first =
            plan.mounts.iter().find_map(|s| if let Op::Propagation(c) = &s.op { Some((c.kind, c.recursive)) } else { None });
        assert_eq!(first, host.map(|kind| (kind, true)), "{text}");
        let attached = |plan: &RootPlan| {
            plan.mounts
                .iter()
                .find_map(|s| if let Op::AttachRoot { propagation, .. } = &s.op { Some(*propagation) } else { None })
        };
        // It is a copy of what has been changed before, or changed itself; the runtime's copy is a slave.
        let change = Some(PropagationChange { kind: root, recursive: true });
        assert_eq!(attached(&plan), Some(change.filter(|_| host.is_none())), "{text}");
        assert_eq!(ops(&plan.pivot), [&Op::Pivot { shared: host.is_none() }], "{text}");
        setup.user_namespace();
        assert_eq!(attached(&setup.plan()), Some(change.filter(|_| host != Some(Slave))), "{text}");
        let last: Vec<&Op> = ops(&plan.hide);
        let expected = after.map(|(kind, recursive)| Op::RootPropagation(PropagationChange { kind, recursive }));
        assert_eq!(last, expected.iter().collect::<Vec<_>>(), "{text}");
    }
    // Hooks may do anything in the namespace.
    let hook = || vec![Hook { path: "/bin/true".into(), ..Hook::default() }];
    for (hooks, shared) in [
        (Hooks { prestart: hook(), ..Hooks::default() }, true),
        (Hooks { create_runtime: hook(), ..Hooks::default() }, true),
        (Hooks { create_container: hook(), ..Hooks::default() }, true),
        (Hooks { start_container: hook(), poststart: hook(), poststop: hook(), ..Hooks::default() }, false),
    ] {
        let mut setup = setup();
        setup.spec.hooks = Some(hooks);
        assert_eq!(ops(&setup.plan().pivot), [&Op::Pivot { shared }]);
    }
    let mut setup = setup();
    setup.linux().rootfs_propagation = "public".into();
    assert_eq!(setup.problems()[0].at, "linux.rootfsPropagation");
}

#[test]
fn a_mount_namespace_that_exists_is_taken_as_it_is() {
    let mut setup = setup();
    setup.add("/a", "tmpfs", "", &[]);
    setup.namespaces.new.remove(Namespaces::MOUNT);
    assert_eq!(setup.problems()[0].at, "linux.namespaces");
    let join = crate::plan::Join { kind: Namespaces::MOUNT, path: "/proc/1/ns/mnt".into(), at: String::new() };
    setup.namespaces.join.push(join);
    let plan = setup.plan();
    assert!(plan.mounts.is_empty() && plan.pivot.is_empty() && plan.hide.is_empty());
    assert!(plan.warnings[0].ends_with("not applied: mounts"), "{:?}", plan.warnings);
}

#[test]
fn all_problems_at_once() {
    let mut setup = setup();
    setup.add("/a", "", "x", &[]);
    setup.add("/proc", "tmpfs", "", &[]);
    setup.add("/proc/self/attr", "tmpfs", "", &[]);
    setup.linux().devices = vec![Device { kind: "x".into(), path: "/x".into(), ..Default::default() }];
    setup.linux().rootfs_propagation = "x".into();
    let at: Vec<String> = setup.problems().into_iter().map(|problem| problem.at).collect();
    let expected = ["linux.rootfsPropagation", "mounts[0].type", "mounts[1]", "mounts[2].destination", "linux.devices[0].type"];
    assert_eq!(at, expected);
    setup.spec.root = None;
    assert_eq!(setup.problems()[0].at, "root.path");
}

#[test]
fn chroot_instead_of_pivot() {
    let mut setup = setup();
    setup.request.no_pivot = true;
    assert_eq!(ops(&setup.plan().pivot), [&Op::MoveRoot]);
}

#[test]
fn cgroups_by_namespace_and_host() {
    let mut setup = setup();
    setup.add("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "ro"]);
    assert!(matches!(setup.mount().source, Source::New { fstype, mounted: true, fallback: None, .. } if fstype == "cgroup2"));
    for (cgroup, is_mounted) in [(CgroupMode::Hybrid, true), (CgroupMode::Legacy, false), (CgroupMode::Absent, false)] {
        setup.host.cgroup = cgroup;
        assert!(matches!(setup.mount().source, Source::New { mounted, .. } if mounted == is_mounted), "{cgroup:?}");
    }
    setup.host.cgroup = CgroupMode::Unified;
    setup.user_namespace();
    let source = setup.mount().source;
    assert!(matches!(source, Source::New { fallback: Some(path), .. } if path == "/sys/fs/cgroup/pod/test"));
    setup.namespaces.new.remove(Namespaces::CGROUP);
    setup.spec.mounts[0].options = vec!["rw".into()];
    for (mode, path) in
        [(CgroupMode::Unified, "/sys/fs/cgroup/pod/test"), (CgroupMode::Hybrid, "/sys/fs/cgroup/unified/pod/test")]
    {
        setup.host.cgroup = mode;
        let mount = setup.mount();
        assert_eq!(mount.source, Source::CgroupSubtree { path: path.into() });
        assert!(mount.attr.flags().contains(MountAttr::RDONLY), "the host's hierarchy was writable");
    }
    // Root's containers: the host's tree, as it was asked for.
    let mut of_root = self::setup();
    of_root.namespaces.new.remove(Namespaces::CGROUP);
    of_root.add("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nsdelegate"]);
    let mount = of_root.mount();
    assert_eq!(mount.source, Source::CgroupSubtree { path: "/sys/fs/cgroup".into() });
    assert!(!mount.attr.flags().contains(MountAttr::RDONLY));
    setup.cgroup = None;
    setup.host.own_cgroup = "/".into();
    assert_eq!(setup.mount().source, Source::CgroupSubtree { path: "/sys/fs/cgroup/unified".into() });
    setup.host.cgroup = CgroupMode::Absent;
    assert_eq!(setup.problems()[0].at, "mounts[0]");
}

/// A mount of random but acceptable kind.
fn any_mount() -> impl Strategy<Value = spec::Mount> {
    let kind = prop_oneof![Just("tmpfs"), Just("bind"), Just("proc"), Just("sysfs"), Just("cgroup"), Just("ext4")];
    let options = proptest::collection::vec(
        prop_oneof![Just("ro"), Just("rw"), Just("rro"), Just("nosuid"), Just("exec"), Just("size=1"), Just("rprivate")],
        0..5,
    );
    ("[/.a-z]{1,12}", kind, "/?[a-z]{1,5}", options).prop_map(|(destination, kind, source, options)| spec::Mount {
        destination,
        kind: kind.to_string(),
        source,
        options: options.into_iter().map(String::from).collect(),
        ..Default::default()
    })
}

proptest! {
    #[test]
    fn mounts_keep_their_order_and_places(mounts in proptest::collection::vec(any_mount(), 0..12), user in any::<bool>()) {
        let mut setup = setup();
        setup.spec.mounts = mounts;
        if user {
            setup.user_namespace();
        }
        let Ok(plan) = root_steps(&setup.context()) else { return Ok(()) };
        let attach = plan.mounts.iter().position(|step| matches!(step.op, Op::AttachRoot { .. })).unwrap();
        let at: Vec<(usize, String)> = plan
            .mounts
            .iter()
            .enumerate()
            .filter(|(_, step)| matches!(step.op, Op::Mount(_)))
            .map(|(index, step)| (index, step.at.clone()))
            .collect();
        prop_assert!(at.iter().all(|(index, _)| *index > attach));
        let expected: Vec<String> = (0..setup.spec.mounts.len()).map(|index| format!("mounts[{index}]")).collect();
        prop_assert_eq!(at.into_iter().map(|(_, at)| at).collect::<Vec<_>>(), expected);
        for mount in mounts_of(&plan) {
            prop_assert!(mount.destination.starts_with('/'));
            prop_assert_eq!(mount.attr.attr_set() & mount.attr.attr_clear() & !0x70, 0);
            prop_assert!(mount.proc == ProcRule::IsProc || crate::plan::mounts::clean(&mount.destination) != "/proc");
            prop_assert!(!mount.readonly_last || !mount.attr.flags().contains(MountAttr::RDONLY));
        }
        // Every slot is opened once, in order, and every tree from the runtime has been opened.
        let slots: Vec<usize> = plan.trees.iter().map(|step| match step.op { ParentOp::OpenTree { slot, .. } => slot, _ => 999 }).collect();
        prop_assert_eq!(&slots, &(0..slots.len()).collect::<Vec<_>>());
        let used = plan.mounts.iter().filter(|step| match &step.op {
            Op::AttachRoot { source: Tree::FromRuntime(_), .. } => true,
            Op::Mount(mount) => matches!(mount.source, Source::Bind { tree: Tree::FromRuntime(_), .. }),
            _ => false,
        });
        prop_assert_eq!(used.count(), slots.len());
    }
}
