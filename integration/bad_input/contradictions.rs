// SPDX-License-Identifier: Apache-2.0
//! Fields that are right each and do not go together, and what the host cannot do.

use serde_json::json;

use super::{Bench, OWN_WORDS};
use crate::harness::{Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(namespaces).differs(OWN_WORDS),
    test!(mounts).differs(OWN_WORDS),
    test!(the_rest).differs(OWN_WORDS),
    test!(the_hosts_own_root).differs(OWN_WORDS),
];

fn namespaces() {
    let mut bench = Bench::new();
    for (what, kind) in [("hostname", "uts"), ("linux.namespaces", "mount")] {
        bench.refuses(&format!("no {kind} namespace"), &[what], |bundle| {
            bundle.namespace(kind, Some(""));
        });
    }
    bench.refuses("no namespaces at all", &["linux.namespaces", "MNT namespace"], |bundle| {
        bundle.set("/linux/namespaces", json!([]));
    });
    for kind in ["pid", "network", "mount", "ipc", "uts", "cgroup"] {
        bench.refuses(&format!("a second {kind} namespace"), &["linux.namespaces", kind, "already"], |bundle| {
            bundle.set("/linux/namespaces/-", json!({ "type": kind }));
        });
        bench.refuses(&format!("a relative path of the {kind} namespace"), &["path", "ns/it", "absolute"], |bundle| {
            bundle.namespace(kind, Some("ns/it"));
        });
        bench.refuses(&format!("a missing {kind} namespace"), &["/not/there", "linux.namespaces"], |bundle| {
            bundle.namespace(kind, Some("/not/there")).unset("", "hostname");
        });
        bench.refuses(&format!("a {kind} namespace that is none"), &["/dev/null", "linux.namespaces"], |bundle| {
            bundle.namespace(kind, Some("/dev/null")).unset("", "hostname");
        });
        let other = if kind == "ipc" { "uts" } else { "ipc" };
        bench.refuses(&format!("an {other} namespace as the {kind} namespace"), &["linux.namespaces", other], |bundle| {
            bundle.namespace(kind, Some(&format!("/proc/self/ns/{other}"))).unset("", "hostname");
        });
    }
    bench.refuses("a user namespace without mappings", &["uidMappings", "gidMappings"], |bundle| {
        bundle.namespace("user", None);
    });
    bench.refuses("mappings without a user namespace", &["uidMappings"], |bundle| {
        bundle.user_namespace(&[(0, 100_000, 10)]).namespace("user", Some(""));
    });
    bench.refuses("time offsets without a time namespace", &["timeOffsets"], |bundle| {
        bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 5 } }));
    });
    bench.finish(36);
}

fn mounts() {
    let mut bench = Bench::new();
    for (what, mount, words) in [
        ("a bind without a source", json!({ "destination": "/mnt", "type": "bind" }), vec!["mounts[5].source"]),
        (
            "a bind of nothing",
            json!({ "destination": "/mnt", "source": "/not/there", "options": ["bind"] }),
            vec!["/not/there", "mounts[5]"],
        ),
        (
            "a relative bind of nothing",
            json!({ "destination": "/mnt", "source": "not-there", "options": ["bind"] }),
            vec!["not-there"],
        ),
        (
            "a file on a directory",
            json!({ "destination": "/tmp", "source": "/etc/hostname", "options": ["bind"] }),
            vec!["/tmp", "directory"],
        ),
        (
            "a directory on a file",
            json!({ "destination": "/etc/passwd", "source": "/tmp", "options": ["bind"] }),
            vec!["/etc/passwd", "directory"],
        ),
        (
            "a file in a file",
            json!({ "destination": "/etc/passwd/x", "source": "/etc/hostname", "options": ["bind"] }),
            vec!["/etc/passwd/x"],
        ),
        ("a tmpfs on a file", json!({ "destination": "/etc/passwd", "type": "tmpfs", "source": "tmpfs" }), vec!["/etc/passwd"]),
        (
            "a remount of nothing",
            json!({ "destination": "/tmp", "options": ["remount", "ro"] }),
            vec!["/tmp", "nothing is mounted"],
        ),
        ("a remount of what is not there", json!({ "destination": "/no/such", "options": ["remount", "ro"] }), vec!["/no/such"]),
        (
            "a mapping of one kind",
            json!({ "destination": "/mnt", "source": "/tmp", "options": ["bind"],
            "uidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }] }),
            vec!["mounts[5].gidMappings"],
        ),
        (
            "an idmap without a mapping",
            json!({ "destination": "/mnt", "source": "/tmp", "options": ["bind", "idmap"] }),
            vec!["mounts[5]", "idmap"],
        ),
        (
            "an overlay without layers",
            json!({ "destination": "/mnt", "type": "overlay", "source": "overlay" }),
            vec!["mounts[5]", "/mnt"],
        ),
        (
            "a disk that is none",
            json!({ "destination": "/mnt", "type": "ext4", "source": "/etc/hostname" }),
            vec!["mounts[5]", "/mnt"],
        ),
    ] {
        bench.refuses(what, &words, |bundle| {
            bundle.set("/mounts/-", mount.clone());
        });
    }
    for (destination, options) in
        [("/proc/self/attr", "bind"), ("/proc/sys", "bind"), ("/proc/../proc/sysrq-trigger", "bind"), ("/proc", "bind")]
    {
        bench.refuses(&format!("a directory over {destination}"), &["mounts[5]", "/proc"], |bundle| {
            bundle.mount(destination, "bind", "/tmp", &[options]);
        });
        bench.refuses(&format!("a tmpfs over {destination}"), &["mounts[5]", "/proc"], |bundle| {
            bundle.mount(destination, "tmpfs", "tmpfs", &[]);
        });
    }
    bench.finish(21);
}

fn the_rest() {
    let mut bench = Bench::new();
    bench.refuses("effective without permitted", &["process.capabilities.effective[0]", "CAP_CHOWN"], |bundle| {
        bundle.set("/process/capabilities", json!({ "effective": ["CAP_CHOWN"] }));
    });
    bench.refuses("one resource limit twice", &["process.rlimits[1]", "RLIMIT_CORE"], |bundle| {
        let limit = json!({ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 });
        bundle.set("/process/rlimits", json!([limit, limit]));
    });
    bench.refuses("a terminal without a socket", &["process.terminal", "tty"], |bundle| {
        bundle.set("/process/terminal", json!(true));
    });
    bench.refuses("an AppArmor profile", &["process.apparmorProfile", "berth-nothing"], |bundle| {
        bundle.set("/process/apparmorProfile", json!("berth-nothing"));
    });
    bench.refuses("an SELinux label", &["process.selinuxLabel", "berth_nothing"], |bundle| {
        bundle.set("/process/selinuxLabel", json!("berth_nothing"));
    });
    bench.refuses("node lists that exclude each other", &["linux.memoryPolicy.flags"], |bundle| {
        let flags = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"];
        bundle.set("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": flags }));
    });
    bench.refuses("nodes where there are none to be", &["linux.memoryPolicy.nodes", "0"], |bundle| {
        bundle.set("/linux/memoryPolicy", json!({ "mode": "MPOL_DEFAULT", "nodes": "0" }));
    });
    bench.refuses("a network device that is not there", &["linux.netDevices", "berth-no-dev"], |bundle| {
        bundle.set("/linux/netDevices", json!({ "berth-no-dev": {} }));
    });
    bench.refuses("a listener that is not there", &["linux.seccomp.listenerPath", "/not/there"], |bundle| {
        let rule = json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" });
        let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/not/there", "syscalls": [rule] });
        bundle.set("/linux/seccomp", profile);
    });
    for path in ["/../escape", "a/../../b", "..", "/x/..", "system.slice:..:x"] {
        bench.refuses_value("/linux/cgroupsPath", json!(path), &[".."]);
    }
    bench.refuses("many mistakes at once", &["process.cwd", "hostname", "mounts[0].destination"], |bundle| {
        bundle.set("/process/cwd", json!("tmp")).set("/hostname", json!("x".repeat(100))).set("/mounts/0/destination", json!(""));
    });
    bench.finish(15);
}

/// Whatever leads there: the host's root as a container's would be in the container's hands.
fn the_hosts_own_root() {
    let mut bench = Bench::new();
    std::os::unix::fs::symlink("/", bench.bundle.dir.join("link")).unwrap();
    for path in ["/", "//", "/.", "/tmp/..", "link", "/proc/self/root", "../../../../../../../.."] {
        bench.refuses(&format!("the root {path}"), &["root"], |bundle| {
            bundle.set("/root/path", json!(path));
        });
    }
    bench.bundle.save();
    let words = ["run", "--no-pivot", "--bundle", bench.bundle.path(), &bench.bundle.id].map(str::to_owned);
    bench.bundle.set("/root/path", json!("/"));
    bench.bundle.save();
    bench.fails("the root / without a pivot", Call::new(&words.each_ref().map(String::as_str)), &["root"]);
    bench.finish(8);
}
