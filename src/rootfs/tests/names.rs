// SPDX-License-Identifier: Apache-2.0
//! What is found by its name alone, in filesystems that only the container's process can change.

use super::*;

#[test]
fn names_in_proc_are_what_they_lead_to() {
    in_bundle(|mut bundle| {
        engine(&mut bundle);
        bundle.add("/proc/uptime", "bind", "host/file", &["bind"]);
        let linux = bundle.setup.linux();
        let masked = [
            "/proc/irq",         // read-only as well
            "/proc/self/fdinfo", // not directly there
            "/proc/fs",          // a copy of the first empty directory
            "/sys/firmware",     // of another filesystem
            "/sys/kernel/mm",
            "/sys/kernel",
            "/proc/keys",
            "/proc/uptime", // what was mounted there before
            "/proc/mounts", // a link to a file
            "/proc/version/",
            "/dev/null",
            "/proc/nowhere",
            "/proc/..",
        ];
        linux.masked_paths = masked.map(String::from).into();
        linux.readonly_paths =
            ["/proc/irq", "/proc/sys", "/proc/bus", "/proc/net", "/sys/fs", "/proc/uptime"].map(String::from).into();
        let (plan, made) = bundle.build();
        let mut made = Some(made.unwrap_or_else(|error| panic!("{error}")));
        carry_out(&plan.pivot, &mut made, &mut None).unwrap();
        carry_out(&plan.hide, &mut made, &mut None).unwrap();
        for empty in ["/proc/irq", "/proc/fs", "/sys/firmware", "/sys/kernel", "/proc/self/fdinfo"] {
            if Path::new(empty).exists() {
                let mount = if empty.contains("self") { None } else { Some(mounted(empty).options) };
                assert!(mount.is_none_or(|options| options == "ro,nosuid,nodev,noexec,relatime"), "{empty}");
                let filesystem =
                    mountinfo().into_iter().rfind(|line| line.point.ends_with(empty.trim_start_matches("/proc/self")));
                assert!(filesystem.unwrap().filesystem.starts_with("ro,"), "{empty}");
                assert_eq!(fs::read_dir(empty).unwrap().count(), 0, "{empty}");
                assert!(fs::write(format!("{empty}/new"), "").is_err(), "{empty}");
            }
        }
        for file in ["/proc/keys", "/proc/uptime", "/proc/self/mounts", "/proc/mounts"] {
            assert_eq!(fs::read(file).unwrap_or_default(), b"", "{file}");
        }
        assert!(fs::symlink_metadata("/proc/mounts").unwrap().is_symlink());
        assert!(fs::symlink_metadata("/proc/uptime").unwrap().file_type().is_char_device());
        for path in ["/proc/sys", "/proc/bus", "/proc/self/net", "/sys/fs"] {
            let line = mountinfo().into_iter().rfind(|line| line.point.ends_with(path.trim_start_matches("/proc/self")));
            assert!(line.unwrap().options.starts_with("ro,nosuid"), "{path}");
        }
        assert!(fs::write("/proc/sys/kernel/hostname", "x").is_err());
        assert!(!Path::new("/sys/fs/cgroup/cgroup.procs").exists() || fs::write("/sys/fs/cgroup/cgroup.procs", "0").is_err());
    });
}

#[test]
fn names_that_a_procfs_lacks_need_no_hiding() {
    in_bundle(|mut bundle| {
        bundle.add("/proc", "proc", "proc", &["subset=pid"]);
        let linux = bundle.setup.linux();
        linux.masked_paths = ["/proc/kcore", "/proc/acpi", "/proc/1"].map(String::from).into();
        linux.readonly_paths = ["/proc/sys", "/proc/bus"].map(String::from).into();
        let (plan, made) = bundle.build();
        let mut made = Some(made.unwrap_or_else(|error| panic!("{error}")));
        carry_out(&plan.pivot, &mut made, &mut None).unwrap();
        carry_out(&plan.hide, &mut made, &mut None).unwrap();
        assert_eq!(fs::read_dir("/proc/1").unwrap().count(), 0);
        assert_eq!(count(Path::new("/proc")), 2);
    });
}

#[test]
fn a_name_in_a_fresh_filesystem_may_be_taken() {
    in_bundle(|mut bundle| {
        symlink("/old", bundle.host("link")).unwrap();
        bundle.add("/dev", "tmpfs", "tmpfs", &["mode=755"]);
        bundle.add("/dev/link", "bind", "host/link", &["bind", "copy-symlink"]);
        bundle.add("/dev/link", "devpts", "devpts", &["newinstance"]);
        bundle.add("/dev/file", "bind", "host/file", &["bind"]);
        bundle.add("/dev/twice", "tmpfs", "first", &["mode=700", "size=4k"]);
        bundle.add("/dev/twice", "tmpfs", "second", &["mode=711", "size=8k"]);
        bundle.add("/dev/twice/in", "mqueue", "mqueue", &[]);
        bundle.add("/dev/after", "mqueue", "mqueue", &["nosuid"]);
        let _rootfs = bundle.built();
        assert_eq!(mounted(bundle.rootfs("old")).fstype, "devpts");
        assert_eq!(fs::read_link(bundle.rootfs("dev/link")).unwrap(), Path::new("/old"));
        assert_eq!(fs::read_to_string(bundle.rootfs("dev/file")).unwrap(), "of the host");
        assert_eq!(mounted(bundle.rootfs("dev/twice")).source, "second");
        assert_eq!(fs::metadata(bundle.rootfs("dev/twice")).unwrap().permissions().mode() & 0o777, 0o711);
        assert_eq!(mounted(bundle.rootfs("dev/twice/in")).fstype, "mqueue");
        assert_eq!(mounted(bundle.rootfs("dev/after")).options, "rw,nosuid,relatime");
        // A file is in the way, and what the kernel does not like it says.
        bundle.add("/dev/file", "mqueue", "mqueue", &[]);
        assert!(bundle.refused().contains("ordinary directory"));
        bundle.setup.spec.mounts.pop();
        bundle.add("/dev/wrong", "devpts", "devpts", &["mode=9z"]);
        let error = bundle.refused();
        assert!(error.contains("/dev/wrong") && error.contains("fsconfig") && error.contains("9z"), "{error}");
    });
}
