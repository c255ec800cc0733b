// SPDX-License-Identifier: Apache-2.0
//! The host's cgroup tree: never writable from inside, and no path leads out of the container's own part.

use serde_json::json;

use super::attempt;
use crate::harness::look::{cgroup2_root, cgroups_named, mount_at, parse_mounts};
use crate::harness::{Bundle, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2023_25809_hosts_tree_is_never_writable)
        .needs(&[Need::Cgroup2])
        .differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(cve_2022_0492_no_release_agent_to_write).needs(&[Need::HybridCgroups]),
    test!(path_that_climbs_makes_nothing),
];

/// Without a cgroup namespace of its own a container in a user namespace is shown its own cgroup, read-only, whatever the options say; one
/// of root's can write only where they say so, as those of privileged containers do.
fn cve_2023_25809_hosts_tree_is_never_writable() {
    for options in [&["rw"][..], &["ro"], &[], &["rw", "nosuid", "noexec", "nodev", "relatime"]] {
        for users in [false, true].into_iter().filter(|users| *users || options == ["ro"]) {
            let script = "echo $$ >/sys/fs/cgroup/cgroup.procs && echo entered; mkdir /sys/fs/cgroup/made && echo made; \
                          mount -o remount,rw,bind /sys/fs/cgroup && echo remounted; \
                          ls /sys/fs/cgroup/..; cat /proc/self/mountinfo";
            let mut bundle = Bundle::sh(script);
            bundle.namespace("cgroup", Some("")).mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
            if users {
                bundle.user_namespace(&[(0, 100_000, 65536)]);
            }
            let output = attempt(&bundle);
            for word in ["entered", "made", "remounted"] {
                assert!(!output.stdout.contains(word), "{options:?}: {word}: {output:?}");
            }
            if output.status.success() {
                let mounts = parse_mounts(&output.stdout);
                assert!(mount_at(&mounts, "/sys/fs/cgroup").has("ro"), "{options:?}: {}", output.stdout);
            }
            assert!(!cgroup2_root().join("made").exists());
        }
    }
}

/// A v1 hierarchy would have a release_agent, which the kernel runs as root on the host. Only cgroup2 is shown, whatever is asked for.
fn cve_2022_0492_no_release_agent_to_write() {
    for namespace in [true, false] {
        let mut bundle = Bundle::sh("find /sys/fs/cgroup -name release_agent | wc -l; cat /proc/self/mountinfo");
        if !namespace {
            bundle.namespace("cgroup", Some(""));
        }
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "memory"]);
        let output = attempt(&bundle);
        // A cgroup2 that knows no option "memory" may refuse the whole mount.
        assert!(output.stdout.lines().next().is_none_or(|found| found == "0"), "{output:?}");
        assert!(!parse_mounts(&output.stdout).iter().any(|mount| mount.kind == "cgroup"), "{output:?}");
    }
}

/// CVE-2024-3154's and crun 1.28's kin: a path is text, and `..` in it is refused before anything is made.
fn path_that_climbs_makes_nothing() {
    for path in ["/../berth-climbed", "a/../../berth-climbed", "..", "/a/./../../b"] {
        let mut bundle = Bundle::new();
        bundle.set("/linux/cgroupsPath", json!(path));
        let output = bundle.output_of(bundle.create_call(&[]));
        let _container = bundle.container();
        if output.status.success() {
            // Another runtime may clean the path as text; then it stays below the root of the tree.
            assert!(!cgroup2_root().join("../berth-climbed").exists());
        }
    }
    assert_eq!(cgroups_named("berth-climbed"), Vec::<std::path::PathBuf>::new());
}
