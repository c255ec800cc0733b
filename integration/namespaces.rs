// SPDX-License-Identifier: Apache-2.0
//! Namespaces: new, inherited, joined by path; id mappings; time offsets (config-linux.md "Namespaces").

use std::fs;

use serde_json::json;

use crate::harness::bundle::wait_orphan;
use crate::harness::look::{self, namespace};
use crate::harness::{Bundle, Container, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(listed_namespaces_are_new),
    test!(unlisted_namespaces_are_the_callers),
    test!(without_a_mount_namespace_nothing_runs).differs(&[
        ("runc", "accepts it when no path is to be masked or made read-only"),
        ("crun", "mounts on the caller's own tree"),
    ]),
    test!(pid_namespace),
    test!(no_pid_namespace),
    test!(killing_a_container_without_pid_namespace_kills_all_of_it).differs(&[("crun", "kills the first process only")]),
    test!(network_namespace_has_loopback_up),
    test!(cgroup_namespace),
    test!(uts_and_ipc_of_another_container),
    test!(network_of_another_container),
    test!(pid_namespace_of_another_container),
    test!(all_of_another_container),
    test!(user_namespace),
    test!(user_namespace_with_several_mappings),
    test!(user_namespace_without_root_of_the_caller_in_it),
    test!(user_of_a_user_namespace),
    test!(user_and_network_of_another_container),
    test!(user_namespace_with_network_of_the_host),
    test!(time_namespace).needs(&[Need::TIME_NAMESPACE]),
    test!(time_namespace_with_offsets).needs(&[Need::TIME_NAMESPACE]),
    test!(time_namespace_of_another_container)
        .needs(&[Need::TIME_NAMESPACE])
        .differs(&[("crun", "cannot join one: its first process dies")]),
];

/// The names in /proc/PID/ns for the types of config.json.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// The container's namespaces must differ from ours in these types only.
#[track_caller]
fn assert_own_namespaces(container: &Container, own: &[&str]) {
    let pid = container.pid();
    for (kind, file) in KINDS {
        if file == "time" && Need::TIME_NAMESPACE.missing().is_some() {
            continue;
        }
        let new = namespace(pid, file) != namespace("self", file);
        assert_eq!(new, own.contains(&kind), "the container has a {kind} namespace of its own");
    }
}

fn listed_namespaces_are_new() {
    let container = Bundle::new().create();
    assert_own_namespaces(&container, &["pid", "network", "ipc", "uts", "mount", "cgroup"]);
}

fn unlisted_namespaces_are_the_callers() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/namespaces", json!([{ "type": "mount" }])).unset("", "hostname");
    let container = bundle.run_detached();
    assert_own_namespaces(&container, &["mount"]);
}

/// Without one every mount would be the caller's, and stay there.
fn without_a_mount_namespace_nothing_runs() {
    let mut bundle = Bundle::sh("echo ran");
    bundle.namespace("mount", Some("")).set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    let output = bundle.run();
    assert_eq!(output.stdout, "");
    output.fails();
}

fn pid_namespace() {
    assert_eq!(Bundle::sh("echo $$; ls -d /proc/[0-9]*").print(), "1\n/proc/1\n");
}

fn no_pid_namespace() {
    let mut bundle = Bundle::sh("echo $$; exec sleep 1000");
    bundle.namespace("pid", Some(""));
    let container = bundle.run_detached();
    let inside = container.wait_stdout("\n");
    assert_eq!(inside.trim(), container.pid().to_string());
}

fn killing_a_container_without_pid_namespace_kills_all_of_it() {
    let mut bundle = Bundle::sh("sleep 1000 & setsid sleep 1001 & echo ready; wait");
    bundle.namespace("pid", Some(""));
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    container.kill("KILL");
    container.wait_status("stopped");
    look::eventually("all its processes are gone", || look::children_of_self().iter().all(|child| !look::alive(child.as_raw())));
}

/// /sys/class/net/lo/flags: IFF_LOOPBACK 8, IFF_UP 1.
fn network_namespace_has_loopback_up() {
    let output = Bundle::sh("ls /sys/class/net; cat /sys/class/net/lo/flags; ip -4 -o addr show lo").print();
    assert!(output.starts_with("lo\n"), "{output}");
    assert!(output.contains("0x9\n"), "{output}");
    assert!(output.contains("127.0.0.1/8"), "{output}");
}

fn cgroup_namespace() {
    let output = Bundle::sh("grep ^0:: /proc/self/cgroup").print();
    assert_eq!(output, "0::/\n");
    let mut bundle = Bundle::sh("grep ^0:: /proc/self/cgroup");
    bundle.namespace("cgroup", Some(""));
    assert_ne!(bundle.print(), "0::/\n");
}

/// `/proc/PID/ns/FILE` of a container's first process.
fn namespace_path(container: &Container, file: &str) -> String {
    format!("/proc/{}/ns/{file}", container.pid())
}

#[track_caller]
fn assert_shared(one: &Container, other: &Container, files: &[&str]) {
    for file in files {
        assert_eq!(namespace(one.pid(), file), namespace(other.pid(), file), "{file}");
    }
}

fn uts_and_ipc_of_another_container() {
    let first = Bundle::new().create();
    let mut bundle = Bundle::args(&["/bin/hostname"]);
    bundle.namespace("uts", Some(&namespace_path(&first, "uts"))).namespace("ipc", Some(&namespace_path(&first, "ipc")));
    bundle.unset("", "hostname");
    let second = bundle.create();
    assert_shared(&first, &second, &["uts", "ipc"]);
    assert_ne!(namespace(first.pid(), "net"), namespace(second.pid(), "net"));
    second.start();
    second.wait_stdout("inside\n");
}

fn network_of_another_container() {
    let first = Bundle::sh("echo hello | nc -l -p 4321").run_detached();
    let mut bundle = Bundle::sh("for try in $(seq 100); do nc 127.0.0.1 4321 && break; sleep 0.02; done");
    bundle.namespace("network", Some(&namespace_path(&first, "net")));
    assert_eq!(bundle.print(), "hello\n");
}

fn pid_namespace_of_another_container() {
    let first = Bundle::args(&["/bin/sleep", "54321"]).run_detached();
    let mut bundle = Bundle::sh("echo $$; cat /proc/1/cmdline | tr '\\0' ' '; sleep 1000");
    bundle.namespace("pid", Some(&namespace_path(&first, "pid")));
    let second = bundle.run_detached();
    let output = second.wait_stdout("54321");
    assert!(output.ends_with("/bin/sleep 54321 "), "{output}");
    assert!(!output.starts_with("1\n"), "{output}");
    let (one, two) = (first.pid(), second.pid());
    first.kill("KILL");
    second.wait_status("stopped");
    // The first can only be reaped when all of its pid namespace have been.
    wait_orphan(two);
    wait_orphan(one);
}

fn all_of_another_container() {
    let first = Bundle::new().create();
    let mut bundle = Bundle::new();
    let files = ["pid", "net", "ipc", "uts", "cgroup"];
    for (kind, file) in KINDS.iter().filter(|(_, file)| files.contains(file)) {
        bundle.namespace(kind, Some(&namespace_path(&first, file)));
    }
    bundle.unset("", "hostname");
    let second = bundle.create();
    assert_shared(&first, &second, &files);
    assert_ne!(namespace(first.pid(), "mnt"), namespace(second.pid(), "mnt"));
    second.start();
    assert_eq!(second.status(), "running");
    // The first process of the pid namespace can only die when the others have been reaped, which is up to us.
    let pid = second.pid();
    second.kill("KILL");
    wait_orphan(pid);
}

/// A map file's lines without their padding.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn user_namespace() {
    let mut bundle = Bundle::sh("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/made");
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    std::os::unix::fs::chown(bundle.inside("/tmp"), Some(100_000), Some(100_000)).unwrap();
    assert_eq!(lines(&bundle.print()), ["0", "0", "0 100000 1000", "0 100000 1000"]);
    let made = fs::metadata(bundle.inside("/tmp/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 100_000, "as seen by the host");
}

fn user_namespace_with_several_mappings() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/uid_map", "/proc/self/gid_map"]);
    let maps = json!([
        { "containerID": 0, "hostID": 100_000, "size": 10 },
        { "containerID": 1000, "hostID": 200_000, "size": 1 },
        { "containerID": 65534, "hostID": 65534, "size": 1 },
    ]);
    bundle.namespace("user", None).set("/linux/uidMappings", maps);
    bundle.set("/linux/gidMappings", json!([{ "containerID": 0, "hostID": 300_000, "size": 65536 }]));
    let expected = ["0 100000 10", "1000 200000 1", "65534 65534 1", "0 300000 65536"];
    assert_eq!(lines(&bundle.print()), expected);
}

/// Nothing in it is the host's root, which could do everything if it got out.
fn user_namespace_without_root_of_the_caller_in_it() {
    let mut bundle = Bundle::new();
    bundle.user_namespace(&[(0, 100_000, 65536)]);
    let container = bundle.run_detached();
    assert_eq!(look::status(container.pid(), "Uid").unwrap(), "100000 100000 100000 100000");
    assert_own_namespaces(&container, &["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]);
}

fn user_of_a_user_namespace() {
    let mut bundle = Bundle::sh("id -u; id -g; id -G");
    bundle.user_namespace(&[(0, 100_000, 65536)]);
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 2000, "additionalGids": [3000] }));
    assert_eq!(bundle.print(), "1000\n2000\n2000 3000\n");
}

fn user_and_network_of_another_container() {
    let mut bundle = Bundle::new();
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    let first = bundle.create();
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/uid_map"]);
    bundle.namespace("user", Some(&namespace_path(&first, "user")));
    bundle.namespace("network", Some(&namespace_path(&first, "net")));
    let second = bundle.create();
    assert_shared(&first, &second, &["user", "net"]);
    second.start();
    second.wait_stdout("100000");
}

/// The network namespace belongs to the host's user namespace, so it must be joined before the new one is entered.
/// (A sysfs of it cannot be mounted from there.)
fn user_namespace_with_network_of_the_host() {
    let first = Bundle::new().create();
    let mut bundle = Bundle::new();
    bundle.user_namespace(&[(0, 100_000, 1000)]).namespace("network", Some(&namespace_path(&first, "net")));
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    let second = bundle.create();
    assert_shared(&first, &second, &["net"]);
    assert_ne!(namespace(second.pid(), "user"), namespace("self", "user"));
}

fn time_namespace() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/timens_offsets"]);
    bundle.namespace("time", None);
    let container = bundle.create();
    assert_own_namespaces(&container, &["pid", "network", "ipc", "uts", "mount", "cgroup", "time"]);
    container.start();
    let offsets = container.wait_stdout("boottime");
    assert_eq!(lines(&offsets), ["monotonic 0 0", "boottime 0 0"]);
}

fn time_namespace_with_offsets() {
    let mut bundle = Bundle::sh("cat /proc/self/timens_offsets /proc/uptime");
    bundle.namespace("time", None);
    bundle.set("/linux/timeOffsets", json!({ "monotonic": { "secs": 86400 }, "boottime": { "secs": 1_000_000, "nanosecs": 5 } }));
    let output = bundle.print();
    let lines = lines(&output);
    assert_eq!(lines[..2], ["monotonic 86400 0", "boottime 1000000 5"]);
    let uptime: f64 = lines[2].split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "the program's own clock: {uptime}");
}

fn time_namespace_of_another_container() {
    let mut bundle = Bundle::new();
    bundle.namespace("time", None).set("/linux/timeOffsets", json!({ "boottime": { "secs": 5_000_000 } }));
    let first = bundle.create();
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/uptime"]);
    bundle.namespace("time", Some(&namespace_path(&first, "time")));
    let output = bundle.print();
    let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 5_000_000.0, "{uptime}");
}
