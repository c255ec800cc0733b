// SPDX-License-Identifier: Apache-2.0
//! Images and configurations that would lead out of the root filesystem, or put something false into it.

use super::*;

#[test]
fn destinations_stay_inside() {
    in_bundle(|mut bundle| {
        let before = bundle.outside();
        symlink(bundle.host("dir"), bundle.rootfs("absolute")).unwrap();
        symlink("../../host/dir", bundle.rootfs("up")).unwrap();
        symlink("etc/hosts", bundle.rootfs("chain")).unwrap();
        symlink("/run/nowhere/resolv.conf", bundle.rootfs("etc/resolv.conf")).unwrap();
        symlink("loop2", bundle.rootfs("loop1")).unwrap();
        symlink("loop1", bundle.rootfs("loop2")).unwrap();
        for (destination, place) in [
            ("/absolute", bundle.host("dir").strip_prefix("/").unwrap().to_str().unwrap()),
            ("/up/below", "host/dir/below"),
            ("/../../../escape", "escape"),
            ("relative/path", "relative/path"),
            ("/old/../etc/x/../y", "etc/y"),
        ] {
            bundle.setup.spec.mounts.clear();
            bundle.add(destination, "tmpfs", "tmpfs", &[]);
            let _rootfs = bundle.built();
            assert_eq!(mounted(bundle.rootfs(place)).fstype, "tmpfs", "{destination}");
        }
        for (destination, place) in [("/etc/resolv.conf", "run/nowhere/resolv.conf"), ("/chain", "etc/hosts")] {
            bundle.setup.spec.mounts.clear();
            bundle.add(destination, "bind", "host/file", &["bind"]);
            let _rootfs = bundle.built();
            assert_eq!(fs::read_to_string(bundle.rootfs(place)).unwrap(), "of the host");
        }
        bundle.setup.spec.mounts.clear();
        bundle.add("/loop1/x", "tmpfs", "tmpfs", &[]);
        assert!(bundle.refused().contains("ELOOP"));
        assert_eq!(bundle.outside(), before);
    });
}

#[test]
fn proc_and_sys_are_not_led_astray() {
    in_bundle(|mut bundle| {
        for kind in ["proc", "sysfs"] {
            let place = if kind == "proc" { "proc" } else { "sys" };
            fs::remove_dir(bundle.rootfs(place)).unwrap();
            symlink("/old", bundle.rootfs(place)).unwrap();
            bundle.setup.spec.mounts.clear();
            bundle.add(&format!("/{place}"), kind, kind, &[]);
            let error = bundle.refused();
            assert!(error.contains("on ordinary directory"), "{error}");
            fs::remove_file(bundle.rootfs(place)).unwrap();
            fs::create_dir(bundle.rootfs(place)).unwrap();
        }
        assert_eq!(count(&bundle.rootfs("old")), 0);
        // A link of the image that leads into the real /proc, as a destination.
        symlink("/proc/self/attr", bundle.rootfs("link")).unwrap();
        bundle.setup.spec.mounts.clear();
        bundle.add("/proc", "proc", "proc", &[]);
        bundle.add("/link", "tmpfs", "tmpfs", &[]);
        let error = bundle.refused();
        assert!(error.contains("leads into /proc"), "{error}");
        bundle.setup.spec.mounts.pop();
        bundle.add("/proc/meminfo", "bind", "host/file", &["bind"]);
        let _rootfs = bundle.built();
        assert_eq!(fs::read_to_string(bundle.rootfs("proc/meminfo")).unwrap(), "of the host");
    });
}

#[test]
fn only_a_procfs_is_bound_on_proc() {
    in_bundle(|mut bundle| {
        bundle.add("/proc", "bind", "/proc", &["rbind"]);
        let _rootfs = bundle.built();
        assert_eq!(mounted(bundle.rootfs("proc")).fstype, "proc");
        for source in ["host/dir", "/proc/self"] {
            bundle.setup.spec.mounts.clear();
            bundle.add("/proc", "bind", source, &["bind"]);
            let error = bundle.refused();
            assert!(error.contains("not the root of a procfs"), "{error}");
        }
    });
}

#[test]
fn a_wrong_device_is_not_taken() {
    in_bundle(|bundle| {
        fs::write(bundle.rootfs("dev/null"), "").unwrap();
        let error = bundle.refused();
        assert!(error.contains("what is there already is not the character device 1:3"), "{error}");
        fs::remove_file(bundle.rootfs("dev/null")).unwrap();
        symlink("/etc/target", bundle.rootfs("dev/null")).unwrap();
        assert!(bundle.refused().contains("is not the character device"));
        fs::remove_file(bundle.rootfs("dev/null")).unwrap();
        // Nodes that are there and right are taken, and a second run finds those of the first.
        let _first = bundle.built();
        let _second = bundle.built();
        assert!(fs::symlink_metadata(bundle.rootfs("dev/null")).unwrap().file_type().is_char_device());
    });
}

#[test]
fn devices_through_a_link_stay_inside() {
    in_bundle(|mut bundle| {
        let before = bundle.outside();
        fs::remove_dir(bundle.rootfs("dev")).unwrap();
        symlink(bundle.host("dir"), bundle.rootfs("dev")).unwrap();
        bundle.setup.linux().devices = vec![crate::spec::Device {
            kind: "c".into(),
            path: "/dev/net/tun".into(),
            major: Some(10),
            minor: Some(200),
            file_mode: Some(0o600),
            uid: Some(5),
            gid: Some(6),
        }];
        let _rootfs = bundle.built();
        assert_eq!(bundle.outside(), before);
        let inside = bundle.rootfs(bundle.host("dir").strip_prefix("/").unwrap().to_str().unwrap());
        let tun = fs::metadata(inside.join("net/tun")).unwrap();
        assert_eq!((tun.mode(), tun.uid(), tun.gid()), (0o020600, 5, 6));
        assert!(inside.join("ptmx").is_symlink());
    });
}

#[test]
fn the_hosts_root_is_refused() {
    in_bundle(|mut bundle| {
        bundle.setup.spec.root.as_mut().unwrap().path = "/".into();
        assert!(bundle.refused().contains("the host's own root"));
        bundle.setup.spec.root.as_mut().unwrap().path = "host/file".into();
        assert!(bundle.refused().contains("is not a directory"));
        bundle.setup.spec.root.as_mut().unwrap().path = "none".into();
        assert!(bundle.refused().contains("ENOENT"));
    });
}

#[test]
fn swapping_a_directory_for_a_link_never_leads_out() {
    in_bundle(|bundle| {
        let (swap, link) = (bundle.rootfs("swap"), bundle.rootfs("link"));
        fs::create_dir(&swap).unwrap();
        symlink(bundle.host("dir"), &link).unwrap();
        let before = bundle.outside();
        let mut rootfs = bundle.built();
        let Cloned::Parent { pidfd, .. } = clone::clone3(&CloneArgs::default()).unwrap() else {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            loop {
                let _ = renameat2(AT_FDCWD, &swap, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE);
            }
        };
        let mut setup = setup();
        let mut made = 0;
        for turn in 0..150 {
            setup.spec.mounts.clear();
            setup.add(&format!("/swap/t{turn}/x"), "tmpfs", "tmpfs", &[]);
            made += u32::from(rootfs.mount(&setup.mount()).is_ok());
            setup.spec.mounts.clear();
            setup.add(&format!("/swap/f{turn}"), "bind", "/dev/null", &["bind"]);
            made += u32::from(rootfs.mount(&setup.mount()).is_ok());
            let _ = rootfs.link(&format!("/swap/l{turn}"), "x", false);
            let _ = rootfs.directory(&format!("/swap/d{turn}"));
        }
        pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
        pid::wait(&pidfd).unwrap();
        assert!(made > 50, "only {made} mounts were made");
        assert_eq!(bundle.outside(), before);
        let led_out: Vec<Line> =
            mountinfo().into_iter().filter(|line| Path::new(&line.point).starts_with(bundle.host(""))).collect();
        assert!(led_out.is_empty(), "{led_out:?}");
    });
}
