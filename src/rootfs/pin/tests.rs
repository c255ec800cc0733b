// SPDX-License-Identifier: Apache-2.0
//! The kept namespace, made for real in a child that has a mount namespace and a /run of its own. They need root.

use super::*;
use crate::linux::test_child::{in_child, is_root};
use crate::linux::{probe, sched};

/// In a child with an empty /run.
fn alone(test: impl FnOnce()) {
    alone_on(None, test);
}

/// The same, with a mount namespace that is made on this CPU.
fn alone_on(cpu: Option<u32>, test: impl FnOnce()) {
    if !is_root() {
        return;
    }
    in_child(|| {
        cpu.into_iter().for_each(|cpu| sched::set_affinity(0, &[cpu]).unwrap());
        clone::unshare(Namespaces::MOUNT).unwrap();
        sys::set_propagation("/", Propagation::Private, true).unwrap();
        sys::move_mount(tmpfs_for_tests(), fd::open_dir_path("/run").unwrap()).unwrap();
        test();
    });
}

fn tmpfs_for_tests() -> OwnedFd {
    sys::new_mount("tmpfs", [("mode", Some("755"))], 0).unwrap()
}

fn place_of_file() -> String {
    format!("{DIRECTORY}/{OWN}/{FILE}")
}

fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    fd::stat(one).unwrap().same_file(&fd::stat(other).unwrap())
}

fn own() -> OwnedFd {
    clone::own_namespace(Namespaces::MOUNT).unwrap()
}

#[test]
fn it_is_made_once_and_holds_one_mount() {
    alone(|| {
        assert!(!fd::exists(DIRECTORY));
        let made = open().unwrap();
        assert!(same(&made, &open().unwrap()));
        let host = own();
        enter(&made).unwrap();
        // Not what is below it, which nobody sees.
        assert!(matches!(probe::mounts(8), 0 | 1));
        assert_eq!(fd::names(fd::open_dir("/").unwrap()).unwrap(), [MARK]);
        assert_eq!(fd::mkdir("/x", 0o755).unwrap_err().errno, Errno::EROFS);
        clone::setns(&host, Namespaces::MOUNT).unwrap();
        // Nobody below takes a copy of it along.
        clone::unshare(Namespaces::MOUNT).unwrap();
        let there = fd::open(place_of_file(), OFlag::O_PATH).unwrap();
        assert!(!fd::stat(&there).unwrap().mount_root);
    });
}

/// Whichever CPU has numbered this process's own namespace, and whichever it runs on.
#[test]
fn it_is_made_on_every_cpu() {
    let cpus = sched::affinity(0).unwrap();
    for (made_on, runs_on) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (Some(made_on), Some(runs_on)) = (cpus.get(made_on), cpus.get(runs_on)) else { continue };
        alone_on(Some(*made_on), || {
            sched::set_affinity(0, &[*made_on, *runs_on]).unwrap();
            assert!(open().is_some(), "made on {made_on}, runs on {runs_on}");
            assert_eq!(sched::affinity(0).unwrap().len(), if made_on == runs_on { 1 } else { 2 });
        });
    }
}

#[test]
fn what_is_damaged_is_made_anew() {
    alone(|| {
        let first = open().unwrap();
        let remade = |what: &str| {
            let made = open().unwrap_or_else(|| panic!("{what}"));
            assert!(!same(&made, &first), "{what}");
            assert!(same(&made, &open().unwrap()), "{what}");
        };
        sys::umount(place_of_file(), true).unwrap();
        remade("unmounted");
        let null = sys::open_tree_path("/dev/null", sys::OpenTree::CLONE).unwrap();
        sys::move_mount(&null, fd::open(place_of_file(), OFlag::O_PATH).unwrap()).unwrap();
        remade("covered by a device");
        let net = sys::clone_tree(clone::own_namespace(Namespaces::NET).unwrap(), false).unwrap();
        sys::move_mount(&net, fd::open(place_of_file(), OFlag::O_PATH).unwrap()).unwrap();
        remade("covered by a namespace of another kind");
        sys::umount(format!("{DIRECTORY}/{OWN}"), true).unwrap();
        remade("without its tmpfs");
        sys::umount(format!("{DIRECTORY}/{OWN}"), true).unwrap();
        fd::rmdirat(fd::open_dir(DIRECTORY).unwrap(), OWN).unwrap();
        remade("an empty directory");
    });
}

#[test]
fn what_is_not_roots_alone_is_done_without() {
    alone(|| {
        fd::mkdir(DIRECTORY, 0o755).unwrap();
        assert!(open().is_none());
        let dir = fd::open_dir(DIRECTORY).unwrap();
        fd::fchmod(&dir, 0o700).unwrap();
        fd::fchown(&dir, 1000, 1000).unwrap();
        assert!(open().is_none());
        fd::fchown(&dir, 0, 0).unwrap();
        fd::symlinkat("/tmp", &dir, OWN).unwrap();
        assert!(open().is_none());
        fd::unlinkat(&dir, OWN).unwrap();
        // Somebody else is making it.
        assert!(fd::flock(&dir, true, true).unwrap());
        assert!(open().is_none());
        drop(dir);
        assert!(open().is_some());
    });
}

#[test]
fn what_the_kernel_refused_once_is_not_tried_again() {
    alone(|| {
        drop(open().unwrap());
        sys::umount(place_of_file(), true).unwrap();
        fd::fchmod(fd::open(place_of_file(), OFlag::O_PATH).unwrap(), GIVEN_UP).unwrap();
        assert!(open().is_none());
    });
}

#[test]
fn somebody_elses_namespace_is_left_again() {
    alone(|| {
        let (host, before) = (own(), probe::mounts(64));
        let other = other_namespace();
        enter(&other).unwrap();
        assert!(same(&own(), &host));
        assert_eq!(probe::mounts(64), before);
        // What is no mount namespace cannot even be entered.
        enter(&clone::own_namespace(Namespaces::NET).unwrap()).unwrap();
        assert!(same(&own(), &host));
    });
}

/// A copy of this mount namespace, without anybody in it.
fn other_namespace() -> OwnedFd {
    let (wait, go) = fd::pipe().unwrap();
    match clone::clone3(&CloneArgs { namespaces: Namespaces::MOUNT, ..CloneArgs::default() }).unwrap() {
        Cloned::Child => {
            drop(go);
            let _ = fd::read_bounded(&wait, 1);
            clone::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let namespace = clone::open_namespace(format!("/proc/{pid}/ns/mnt")).unwrap();
            drop(go);
            pid::wait(&pidfd).unwrap();
            namespace
        }
    }
}
