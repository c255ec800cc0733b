// SPDX-License-Identifier: Apache-2.0
//! Between mount namespaces: what propagates where, and containers of another user.

use super::*;

/// Runs `test` in a further child, in these new namespaces.
fn nested(namespaces: Namespaces, test: impl FnOnce()) {
    match clone::clone3(&CloneArgs { namespaces, ..CloneArgs::default() }).unwrap() {
        Cloned::Child => {
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).is_ok();
            clone::exit_now(if passed { 0 } else { 101 })
        }
        Cloned::Parent { pidfd, .. } => assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Code(0)),
    }
}

#[test]
fn a_shared_root_tells_the_host_only_what_it_shall() {
    in_bundle(|mut bundle| {
        // This child is the host now: all is shared, as systemd has it.
        sys::set_propagation("/", Propagation::Shared, true).unwrap();
        fs::create_dir(bundle.host("dir/sub")).unwrap();
        nix::mount::mount(Some("v"), &bundle.host("dir"), Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir(bundle.host("dir/sub")).unwrap();
        bundle.setup.linux().rootfs_propagation = "rshared".into();
        bundle.add("/proc", "proc", "proc", &[]);
        bundle.add("/tell", "bind", "host/dir", &["rbind", "rshared"]);
        bundle.add("/quiet", "bind", "host/dir", &["rbind"]);
        let before = mountinfo().len();
        nested(Namespaces::MOUNT, || {
            let (plan, made) = bundle.build();
            let mut made = Some(made.unwrap());
            carry_out(&plan.pivot, &mut made, &mut None).unwrap();
            carry_out(&plan.hide, &mut made, &mut None).unwrap();
            assert!(mounted("/").propagation.contains("shared:"));
            nix::mount::mount(Some("q"), "/quiet/sub", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
            nix::mount::mount(Some("t"), "/tell/sub", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
        });
        let after = mountinfo();
        assert_eq!(after.len(), before + 1, "{after:?}");
        assert_eq!(mounted(bundle.host("dir/sub")).source, "t");
        // By default nothing is told, and what the host mounts is seen.
        bundle.setup.linux().rootfs_propagation.clear();
        bundle.setup.spec.mounts.pop();
        nested(Namespaces::MOUNT, || {
            let (plan, made) = bundle.build();
            let mut made = Some(made.unwrap());
            carry_out(&plan.pivot, &mut made, &mut None).unwrap();
            assert!(mounted("/").propagation.starts_with("master:"));
            nix::mount::mount(Some("n"), "/tell/sub", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
        });
        assert_eq!(mountinfo().len(), before + 1);
    });
}

#[test]
fn binds_are_private_wherever_they_go() {
    in_bundle(|mut bundle| {
        sys::set_propagation("/", Propagation::Shared, true).unwrap();
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("v"), &bundle.host("dir"), Some("tmpfs"), none, None::<&str>).unwrap();
        fs::create_dir(bundle.host("dir/sub")).unwrap();
        nix::mount::mount(Some("s"), &bundle.host("dir/sub"), Some("tmpfs"), none, None::<&str>).unwrap();
        fs::create_dir(bundle.host("dir/sub/on")).unwrap();
        bundle.add("/old", "bind", "host/dir", &["rbind", "rprivate"]);
        bundle.add("/new/there", "bind", "host/dir", &["rbind", "rprivate", "ro"]);
        bundle.add("/dev", "tmpfs", "tmpfs", &["mode=755"]);
        bundle.add("/dev/file", "bind", "host/file", &["bind", "private"]);
        bundle.add("/top", "bind", "host/dir", &["rbind", "private"]);
        bundle.add("/slave", "bind", "host/dir", &["rbind", "rslave"]);
        bundle.add("/shared", "bind", "host/dir", &["rbind", "rshared"]);
        // What goes onto a shared mount would be shared by that.
        bundle.add("/shared/sub/on", "bind", "host/dir", &["rbind", "rprivate"]);
        bundle.add("/run", "tmpfs", "tmpfs", &["mode=755", "shared"]);
        bundle.add("/run/on", "bind", "host/dir", &["rbind", "rprivate"]);
        nested(Namespaces::MOUNT, || {
            let _rootfs = bundle.built();
            let propagation = |path: &str| mounted(bundle.rootfs(path)).propagation;
            for private in
                ["old", "old/sub", "new/there", "new/there/sub", "dev/file", "top", "shared/sub/on", "run/on", "run/on/sub"]
            {
                assert_eq!(propagation(private), "", "{private}");
            }
            for slave in ["top/sub", "slave", "slave/sub"] {
                assert!(propagation(slave).starts_with("master:"), "{slave}");
            }
            assert!(propagation("shared").starts_with("shared:") && propagation("run").starts_with("shared:"));
        });
        // A root that is shared itself.
        bundle.setup.spec.mounts.clear();
        bundle.add("/", "bind", "host/dir", &["rbind", "rshared"]);
        bundle.add("/sub", "bind", "host/dir", &["rbind", "rprivate"]);
        nested(Namespaces::MOUNT, || {
            let _rootfs = bundle.built();
            let on = mountinfo().into_iter().rfind(|line| line.point == bundle.rootfs("sub").to_str().unwrap());
            assert_eq!(on.unwrap().propagation, "");
        });
    });
}

#[test]
fn what_hooks_share_with_the_host_stays_mounted_there() {
    in_bundle(|bundle| {
        sys::set_propagation("/", Propagation::Shared, true).unwrap();
        let none = nix::mount::MsFlags::empty();
        fs::create_dir(bundle.host("other")).unwrap();
        nix::mount::mount(Some("v"), &bundle.host("dir"), Some("tmpfs"), none, None::<&str>).unwrap();
        fs::create_dir(bundle.host("dir/sub")).unwrap();
        nix::mount::mount(Some("s"), &bundle.host("dir/sub"), Some("tmpfs"), none, None::<&str>).unwrap();
        for (shared, left) in [(true, "s"), (false, "v")] {
            // A peer of the host's, which a hook brings into the namespace.
            let tree = sys::open_tree_path(bundle.host("dir"), OpenTree::CLONE | OpenTree::RECURSIVE).unwrap();
            nested(Namespaces::MOUNT, || {
                let (mut plan, made) = bundle.build();
                let mut made = Some(made.unwrap());
                sys::move_mount(&tree, fd::open_dir_path(bundle.host("other")).unwrap()).unwrap();
                plan.pivot[0].op = Op::Pivot { shared };
                carry_out(&plan.pivot, &mut made, &mut None).unwrap();
                assert!(!Path::new(&bundle.dir).exists());
            });
            // Where nothing is said of it, the kernel unmounts the host's as well.
            let line = fd::stat_path(bundle.host("dir/sub")).unwrap().mount_id.unwrap().to_string();
            assert_eq!(mountinfo().into_iter().find(|mount| mount.id == line).unwrap().source, left);
        }
    });
}

#[test]
fn unbindable_and_private_roots() {
    for (text, expected) in [("unbindable", "unbindable"), ("runbindable", "unbindable"), ("private", ""), ("shared", "shared:")]
    {
        in_bundle(|mut bundle| {
            bundle.setup.linux().rootfs_propagation = text.into();
            bundle.setup.linux().readonly_paths = vec!["/etc".into(), "/proc/sys".into()];
            bundle.setup.linux().masked_paths = vec!["/old".into()];
            bundle.add("/proc", "proc", "proc", &[]);
            let (plan, made) = bundle.build();
            let mut made = Some(made.unwrap());
            carry_out(&plan.pivot, &mut made, &mut None).unwrap();
            carry_out(&plan.hide, &mut made, &mut None).unwrap();
            let propagation = mounted("/").propagation;
            assert!(propagation.starts_with(expected) && propagation.is_empty() == expected.is_empty(), "{text}: {propagation}");
        });
    }
}

#[test]
fn a_container_of_another_user() {
    in_bundle(|mut bundle| {
        engine(&mut bundle);
        bundle.setup.user_namespace();
        let map = bundle.setup.namespaces.spawn.id_map.clone().unwrap();
        // Only the host's root may come here.
        fs::set_permissions(bundle.host(""), fs::Permissions::from_mode(0o700)).unwrap();
        nix::unistd::chown(&bundle.dir.join("rootfs"), Some(100_000.into()), Some(100_000.into())).unwrap();
        for dir in ["etc", "dev", "proc", "sys"] {
            nix::unistd::chown(&bundle.rootfs(dir), Some(100_000.into()), Some(100_000.into())).unwrap();
        }
        fs::set_permissions(&bundle.dir, fs::Permissions::from_mode(0o700)).unwrap();
        let plan = bundle.setup.plan();
        let mut trees = HostTrees::default();
        for step in &plan.trees {
            let ParentOp::OpenTree { slot, path, recursive, nofollow, id_map, id_map_recursive } = &step.op else { continue };
            let (recursive, nofollow, id_map_recursive) = (*recursive, *nofollow, *id_map_recursive);
            let tree = tree::HostTree { path, recursive, nofollow, id_map: id_map.as_ref(), id_map_recursive };
            trees.open(*slot, tree).unwrap();
        }
        let spaces = Namespaces::USER | Namespaces::MOUNT | Namespaces::PID | Namespaces::IPC;
        in_user_namespace(spaces, &map, || {
            clone::unshare(Namespaces::CGROUP).unwrap();
            assert!(fs::read_dir(&bundle.dir).is_err(), "the test's premise");
            let mut made = Some(build(&plan, trees).unwrap_or_else(|error| panic!("{error}")));
            carry_out(&plan.pivot, &mut made, &mut None).unwrap();
            carry_out(&plan.hide, &mut made, &mut None).unwrap();
            assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), "of the host");
            // The network namespace is the host's: sysfs itself is refused, and a read-only copy of /sys stands in.
            let sys = mountinfo().into_iter().find(|line| line.point == "/sys").unwrap();
            assert!(sys.options.starts_with("ro,nosuid,nodev,noexec"), "{sys:?}");
            assert_eq!(mounted("/sys/fs/cgroup").fstype, "cgroup2");
            fs::write("/dev/null", "x").unwrap();
            assert_eq!(mounted("/dev/null").point, "/dev/null");
            assert!(mountinfo().iter().all(|line| !line.point.contains("berth-test")));
        });
    });
}

/// Runs `test` as user 0 of a new user namespace.
fn in_user_namespace(namespaces: Namespaces, map: &IdMap, test: impl FnOnce()) {
    let (wait, go) = fd::pipe().unwrap();
    match clone::clone3(&CloneArgs { namespaces, ..CloneArgs::default() }).unwrap() {
        Cloned::Child => {
            drop(go);
            let _ = fd::read_bounded(&wait, 1);
            let become_root = || {
                nix::unistd::setgid(0.into()).unwrap();
                nix::unistd::setuid(0.into()).unwrap();
                test()
            };
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(become_root)).is_ok();
            clone::exit_now(if passed { 0 } else { 101 })
        }
        Cloned::Parent { pid, pidfd } => {
            for (name, ranges) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
                let range = ranges[0];
                fs::write(format!("/proc/{pid}/{name}"), format!("{} {} {}", range.inside, range.outside, range.count)).unwrap();
            }
            drop((wait, go));
            assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Code(0));
        }
    }
}

#[test]
fn a_user_does_not_lift_the_hosts_restrictions() {
    use nix::mount::MsFlags;
    in_bundle(|mut bundle| {
        bundle.setup.rootless();
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        nix::mount::mount(Some("t"), &bundle.host("dir"), Some("tmpfs"), flags, None::<&str>).unwrap();
        let ids = vec![crate::linux::types::IdRange { inside: 0, outside: 0, count: 65_536 }];
        let map = IdMap { uids: ids.clone(), gids: ids };
        let spaces = Namespaces::USER | Namespaces::MOUNT;
        in_user_namespace(spaces, &map, || {
            bundle.add("/plain", "bind", "host/dir", &["rbind"]);
            bundle.add("/rw", "bind", "host/dir", &["rbind", "rw", "nodev"]);
            bundle.add("/below", "bind", "host", &["rbind", "ro"]);
            let _rootfs = bundle.built();
            assert_eq!(mounted(bundle.rootfs("plain")).options, "ro,nosuid,noexec,noatime");
            assert_eq!(mounted(bundle.rootfs("rw")).options, "ro,nosuid,nodev,noexec,noatime");
            assert_eq!(mounted(bundle.rootfs("below")).options, "ro,relatime");
            for word in ["exec", "suid", "strictatime"] {
                bundle.setup.spec.mounts.clear();
                bundle.add("/x", "bind", "host/dir", &["rbind", word]);
                let error = bundle.refused();
                assert!(error.contains("EPERM") && error.contains("may not lift the restrictions"), "{word}: {error}");
            }
            bundle.setup.spec.mounts.clear();
            bundle.add("/x", "bind", "host", &["bind"]);
            assert!(bundle.refused().contains("rbind"));
            // Nodes cannot be made, so the host's are bound where the plan did not expect that.
            bundle.setup.spec.mounts.clear();
            bundle.setup.spec.root.as_mut().unwrap().path = "fresh".into();
            fs::create_dir(bundle.dir.join("fresh")).unwrap();
            let mut plan = bundle.setup.plan();
            for step in &mut plan.mounts {
                if let Op::Node(node) = &mut step.op {
                    node.bind = false;
                }
            }
            let _rootfs = build(&plan, HostTrees::default()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(fs::metadata(bundle.dir.join("fresh/dev/null")).unwrap().rdev(), 0x103);
        });
    });
}

#[test]
fn owners_are_shifted() {
    in_bundle(|mut bundle| {
        nix::unistd::chown(&bundle.host("file"), Some(5.into()), Some(6.into())).unwrap();
        bundle.add("/x", "bind", "host", &["rbind", "idmap=uids=0-1000-10;gids=0-2000-10"]);
        let plan = bundle.setup.plan();
        let ParentOp::OpenTree { slot, path, recursive, nofollow, id_map, .. } = &plan.trees[0].op else { panic!() };
        let tree = |id_map| tree::HostTree { path, recursive: *recursive, nofollow: *nofollow, id_map, id_map_recursive: false };
        let mut trees = HostTrees::default();
        trees.open(*slot, tree(id_map.as_ref())).unwrap();
        let _rootfs = build(&plan, trees).unwrap();
        let meta = fs::metadata(bundle.rootfs("x/file")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1005, 2006));
        // No process is left behind, and mappings that the kernel refuses are an error.
        assert_eq!(pid::wait_any(false).unwrap_err().errno, Errno::ECHILD);
        let wrong = IdMap { uids: Vec::new(), gids: Vec::new() };
        assert!(HostTrees::default().open(0, tree(Some(&wrong))).is_err());
        assert_eq!(pid::wait_any(false).unwrap_err().errno, Errno::ECHILD);
        let error = HostTrees::default().take(0).unwrap_err();
        assert!(error.to_string().contains("did not open tree 0"));
    });
}
