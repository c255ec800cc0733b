// SPDX-License-Identifier: Apache-2.0
//! What is kept, kept for real in a child that has a mount namespace and a /run of its own. They need root.

use super::*;
use crate::linux::clone;
use crate::linux::test_child::{in_child, is_root};
use crate::linux::types::{Namespaces, Propagation};

const OURS: &str = "berth_test";

/// In a child with an empty /run.
fn alone_with_run(test: impl FnOnce()) {
    if !is_root() {
        return;
    }
    in_child(|| {
        clone::unshare(Namespaces::MOUNT).unwrap();
        sys::set_propagation("/", Propagation::Private, true).unwrap();
        let run = sys::new_mount("tmpfs", [("mode", Some("755"))], 0).unwrap();
        sys::move_mount(run, fd::open_dir_path(PARENT).unwrap()).unwrap();
        // As systemd leaves it.
        sys::set_propagation(PARENT, Propagation::Shared, false).unwrap();
        test();
    });
}

/// `r0 = number; r0 &= 1; exit`: as many programs as there are numbers.
fn constant(number: i32) -> [BpfInsn; 3] {
    [(0xb7, number), (0x57, 1), (0x95, 0)].map(|(code, imm)| BpfInsn { code, regs: 0, off: 0, imm })
}

/// The id of the program that a container gets, which is the right one.
fn id(number: i32) -> u32 {
    let program = program(OURS, &constant(number)).unwrap();
    assert!(bpf::is_device_program(&program, OURS, &constant(number)));
    bpf::name_and_id(&program).unwrap().1
}

/// What is kept; some kernels put files of their own into every bpffs.
fn names() -> Vec<std::ffi::OsString> {
    let mut names = fd::names(directory().unwrap()).unwrap();
    names.retain(|name| name.len() == 2);
    names
}

#[test]
fn it_is_loaded_once() {
    alone_with_run(|| {
        let first = id(1);
        assert_eq!(id(1), first);
        assert!(is_bpffs(&directory().unwrap()).unwrap() && alone(&directory().unwrap()).unwrap());
        assert_ne!(id(0), first);
        assert_eq!(id(1), first);
        assert_eq!(names().len(), 2);
        // Mounted once.
        sys::umount(DIRECTORY, false).unwrap();
        assert!(!is_bpffs(&directory().unwrap()).unwrap());
    });
}

#[test]
fn another_program_in_its_place_is_not_used() {
    alone_with_run(|| {
        let first = id(0);
        let place = place(&constant(0));
        let instead = |name: &str, instructions: &[BpfInsn]| {
            fd::unlink(&place).unwrap();
            bpf::pin(bpf::load_device_program(name, instructions).unwrap(), &place).unwrap();
        };
        instead(OURS, &constant(1));
        let second = id(0);
        assert_ne!(second, first);
        assert_eq!(id(0), second, "it is kept in the other's stead");
        instead("another", &constant(0));
        let third = id(0);
        assert!(third != second && id(0) == third);
        // A link that leads to the program that is wanted is as good, one that leads nowhere is replaced.
        fd::unlink(&place).unwrap();
        let dir = fd::open_dir(DIRECTORY).unwrap();
        fd::symlinkat("/nowhere", &dir, place.rsplit('/').next().unwrap()).unwrap();
        let fourth = id(0);
        assert_eq!(id(0), fourth);
        fd::unlink(&place).unwrap();
        fd::mkdir(&place, 0o700).unwrap();
        assert_ne!(id(0), id(0), "a directory is left alone");
    });
}

/// However many programs there are, no more than 256 are kept, and the places are all taken.
#[test]
fn there_is_a_bound() {
    let mut places: Vec<String> = (0..10_000).map(|number| place(&constant(number))).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 256);
    assert!(places.iter().all(|place| place.len() == DIRECTORY.len() + 3));
    alone_with_run(|| {
        let same = |number: &i32| place(&constant(*number)) == place(&constant(0));
        let other = (1..100_000).find(same).unwrap();
        let first = id(0);
        let second = id(other);
        assert_eq!((id(other), names().len()), (second, 1));
        assert_ne!(id(0), first);
        assert_eq!(names().len(), 1);
    });
}

#[test]
fn what_is_not_roots_alone_is_done_without() {
    alone_with_run(|| {
        let without = |what: &str| assert_ne!(id(1), id(1), "{what}");
        fd::mkdir(DIRECTORY, 0o755).unwrap();
        without("others may look into it");
        let dir = directory().unwrap();
        fd::fchmod(&dir, 0o700).unwrap();
        fd::fchown(&dir, 1000, 1000).unwrap();
        without("it is somebody's");
        fd::fchown(&dir, 0, 0).unwrap();
        // Somebody else is making it.
        assert!(fd::flock(&dir, true, true).unwrap());
        without("its lock is held");
        drop(dir);
        assert_eq!(id(1), id(1));
        sys::umount(DIRECTORY, false).unwrap();
        assert_eq!(id(1), id(1), "unmounted");
        sys::umount(DIRECTORY, false).unwrap();
        let parent = fd::open_dir(PARENT).unwrap();
        fd::rmdirat(&parent, NAME).unwrap();
        assert_eq!(id(1), id(1), "removed");
        sys::umount(DIRECTORY, false).unwrap();
        fd::rmdirat(&parent, NAME).unwrap();
        fd::mkdirat(&parent, "elsewhere", 0o700).unwrap();
        fd::symlinkat("elsewhere", &parent, NAME).unwrap();
        without("a link");
        assert!(fd::names(fd::open_dir("/run/elsewhere").unwrap()).unwrap().is_empty());
        fd::unlinkat(&parent, NAME).unwrap();
        fd::create_file_at(&parent, NAME, b"").unwrap();
        without("a file says so");
        fd::unlinkat(&parent, NAME).unwrap();
        assert_eq!(id(1), id(1), "at last");
    });
}

/// Where the kernel refuses the mount, it is not asked again.
#[test]
fn a_mount_that_is_refused_is_tried_once() {
    alone_with_run(|| {
        fd::mkdir(DIRECTORY, 0o700).unwrap();
        // Nothing can be mounted on it: it has been removed.
        let gone = directory().unwrap();
        fd::rmdirat(fd::open_dir(PARENT).unwrap(), NAME).unwrap();
        assert_eq!(mount(&gone).unwrap_err().errno, Errno::ENOENT);
        fd::mkdir(DIRECTORY, 0o700).unwrap();
        give_up().unwrap();
        assert_eq!(bpf::pinned(place(&constant(1))).unwrap_err(), Errno::ENOTDIR);
        assert_ne!(id(1), id(1));
    });
}
