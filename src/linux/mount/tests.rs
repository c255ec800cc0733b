// SPDX-License-Identifier: Apache-2.0
//! Mounts made and taken apart in a mount namespace of the test's own.

use super::*;
use crate::linux::clone::unshare;
use crate::linux::fd::{self, OFlag, Root, tests::Scratch};
use crate::linux::test_child::{in_child, is_root};
use crate::linux::types::Namespaces;

/// Runs `test` in a private mount namespace, with a tmpfs as working area.
fn privately(test: impl FnOnce(OwnedFd)) {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    in_child(|| {
        unshare(Namespaces::MOUNT).unwrap();
        set_propagation("/", Propagation::Private, true).unwrap();
        let tmpfs = new_mount("tmpfs", [("mode", Some("755"))], 0).unwrap();
        move_mount(&tmpfs, scratch.dir()).unwrap();
        test(tmpfs);
    });
}

fn sub(dir: &OwnedFd, name: &str) -> OwnedFd {
    fd::mkdirat(dir, name, 0o755).unwrap();
    fd::openat(dir, name, OFlag::O_PATH, 0).unwrap()
}

#[test]
fn new_filesystem_with_attributes() {
    privately(|work| {
        let mount = new_mount("tmpfs", [("size", Some("64k")), ("mode", Some("1777")), ("source", Some("shm"))], 0x2 | 0x4 | 0x8)
            .unwrap();
        assert_eq!(fd::stat(&mount).unwrap().mode & 0o7777, 0o1777);
        let flags = fd::statfs(&mount).unwrap().flags;
        assert_eq!(flags & 0xe, libc::ST_NOSUID | libc::ST_NODEV | libc::ST_NOEXEC);
        move_mount(&mount, sub(&work, "shm")).unwrap();
        let again = Root::from(work).open_path("shm").unwrap();
        assert_eq!(fd::stat(&again).unwrap().mount_id, fd::stat(&mount).unwrap().mount_id);
    });
}

#[test]
fn the_kernel_says_why() {
    if !is_root() {
        return;
    }
    in_child(|| {
        let error = new_mount("tmpfs", [("mode", Some("9z"))], 0).unwrap_err();
        assert!(error.call.starts_with("fsconfig(") && error.call.ends_with("tmpfs: Bad value for 'mode'"), "{error}");
        let error = new_mount("tmpfs", [("nonsense", None)], 0).unwrap_err();
        assert!(
            error.call.contains("FSCONFIG_SET_FLAG, \"nonsense\"") && error.call.contains("Unknown parameter 'nonsense'"),
            "{error}"
        );
        assert_eq!(
            new_mount("no-such-fs", [], 0).unwrap_err().to_string(),
            "fsopen(\"no-such-fs\", FSOPEN_CLOEXEC) = ENODEV (no such device)"
        );
    });
}

#[test]
fn binds_by_descriptor() {
    privately(|work| {
        let (source, target) = (sub(&work, "source"), sub(&work, "target"));
        fd::write_file_atomic(&source, "file", b"seen", 0o644).unwrap();
        let copy = clone_tree(&source, false).unwrap();
        mount_setattr(&copy, false, &Change { set: 0x1, ..Change::default() }).unwrap();
        move_mount(&copy, &target).unwrap();
        assert!(fd::statfs(&copy).unwrap().read_only());
        assert!(!fd::statfs(&source).unwrap().read_only());
        assert_eq!(fd::read_at(&copy, "file", 10).unwrap(), b"seen");
        assert_eq!(fd::mkdirat(&copy, "no", 0o755).unwrap_err().errno, Errno::EROFS);
        // A file as well, and a mount onto a file.
        fd::write_file_atomic(&work, "onto", b"", 0o644).unwrap();
        let file = clone_tree(fd::openat(&source, "file", OFlag::O_PATH, 0).unwrap(), false).unwrap();
        move_mount_to(&file, &work, "onto").unwrap();
        let root = Root::from(work);
        assert_eq!(root.read_file("onto", 10).unwrap(), b"seen");
        assert_eq!(root.read_file("target/file", 10).unwrap(), b"seen");
    });
}

#[test]
fn recursive_copies_and_attributes() {
    privately(|work| {
        let outer = sub(&work, "outer");
        let inner = new_mount("tmpfs", [], 0).unwrap();
        move_mount(&inner, sub(&outer, "inner")).unwrap();
        fd::write_file_atomic(&inner, "deep", b"", 0o644).unwrap();
        let flat = Root::from(clone_tree(&outer, false).unwrap());
        assert_eq!(flat.open_path("inner/deep").unwrap_err().errno, Errno::ENOENT);
        let all = clone_tree(&outer, true).unwrap();
        mount_setattr(&all, true, &Change { set: 0x1, propagation: Some(Propagation::Private), ..Change::default() }).unwrap();
        let below = Root::from(all).open_path("inner").unwrap();
        assert!(fd::statfs(&below).unwrap().read_only());
        assert!(!fd::statfs(&inner).unwrap().read_only());
        assert_eq!(open_tree_path("/nowhere", OpenTree::CLONE).unwrap_err().errno, Errno::ENOENT);
        let error = mount_setattr(&outer, false, &Change { set: 0x20 | 0x1, ..Change::default() }).unwrap_err();
        assert!(error.call.contains("attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_STRICTATIME, attr_clr=0, propagation=0}"), "{error}");
    });
}

#[test]
fn a_copy_is_made_and_changed_by_one_call_or_by_two() {
    privately(|dir| {
        move_mount(new_mount("tmpfs", [], 0).unwrap(), sub(&dir, "inner")).unwrap();
        for missing in [false, true] {
            MISSING.store(missing, Ordering::Relaxed);
            let change = Change { set: 0x1, propagation: Some(Propagation::Private), ..Change::default() };
            let copy = |flags| Root::from(open_tree_changed(&dir, "", flags | OpenTree::EMPTY_PATH, &change).unwrap());
            for all in [copy(OpenTree::RECURSIVE), copy(OpenTree::empty())] {
                assert!(fd::statfs(&all).unwrap().read_only(), "{missing}");
                assert!(fd::statfs(all.open_path("inner").unwrap()).unwrap().read_only(), "{missing}");
            }
            assert!(!fd::statfs(&dir).unwrap().read_only());
            let error = open_tree_changed(&dir, "nowhere", OpenTree::empty(), &change).unwrap_err();
            assert!(error.errno == Errno::ENOENT && error.to_string().contains("open_tree("), "{error}");
        }
    });
}

#[test]
fn reconfigures_a_filesystem() {
    privately(|work| {
        reconfigure(&work, [("ro", None)]).unwrap();
        assert_eq!(fd::mkdirat(&work, "no", 0o755).unwrap_err().errno, Errno::EROFS);
        assert!(reconfigure(&work, [("nonsense", Some("1"))]).unwrap_err().call.contains("nonsense"));
    });
}

#[test]
fn classic_mounts() {
    privately(|work| {
        let at = sub(&work, "classic");
        mount_classic("shm", &at, "tmpfs", 0x2, "mode=0711").unwrap();
        let opened = Root::from(work).open_path("classic").unwrap();
        assert_eq!(fd::stat(&opened).unwrap().mode & 0o777, 0o711);
        assert!(
            mount_classic("x", &at, "no-such-fs", 0, "")
                .unwrap_err()
                .to_string()
                .ends_with("\"no-such-fs\", 0, \"\") = ENODEV (no such device)")
        );
    });
}

#[test]
fn pivots() {
    privately(|work| {
        let new_root = new_mount("tmpfs", [], 0).unwrap();
        move_mount(&new_root, sub(&work, "root")).unwrap();
        fd::mkdirat(&new_root, "marker", 0o755).unwrap();
        fchdir(&new_root).unwrap();
        pivot_root(".", ".").unwrap();
        umount(".", true).unwrap();
        chdir("/").unwrap();
        assert_eq!(fd::names(fd::open_dir("/").unwrap()).unwrap(), ["marker"]);
        assert_eq!(getcwd().unwrap(), "/");
    });
}

#[test]
fn a_working_directory_outside_is_noticed() {
    privately(|work| {
        let outside = sub(&work, "outside");
        sub(&work, "jail");
        fchdir(&work).unwrap();
        chroot("jail").unwrap();
        fchdir(&outside).unwrap();
        let error = getcwd().unwrap_err();
        assert_eq!(error.errno, Errno::ENOENT);
        assert!(error.call.contains("(unreachable)"), "{error}");
    });
}

#[test]
fn unmounts() {
    privately(|work| {
        let at = sub(&work, "m");
        let mount = new_mount("tmpfs", [], 0).unwrap();
        move_mount(&mount, &at).unwrap();
        fchdir(&work).unwrap();
        assert_eq!(
            umount("m", false).unwrap_err().to_string(),
            "umount2(\"m\", UMOUNT_NOFOLLOW) = EBUSY (device or resource busy)"
        );
        drop(mount);
        umount("m", false).unwrap();
        assert_eq!(umount("m", false).unwrap_err().errno, Errno::EINVAL);
    });
}
