// SPDX-License-Identifier: Apache-2.0
//! `linux` of config.json, field by field (config-linux.md): what the kernel says of each.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::look::{mount_at, parse_mounts};
use crate::harness::{Bundle, Call, Need, Test, skip};
use crate::test;

/// What this file tests.
pub const TESTS: &[Test] = &[
    test!(net_devices_are_moved).needs(&[IP]).differs(NET_DEVICES),
    test!(net_device_gets_a_free_name)
        .needs(&[IP])
        .differs(&[("runc", "versions before 1.4 do not know the field"), ("crun", "looks for a device of the name with %d")]),
    test!(net_device_of_a_joined_namespace).needs(&[IP]).differs(NET_DEVICES),
    test!(net_device_in_a_user_namespace).needs(&[IP]).differs(NET_DEVICES),
    test!(net_device_that_is_not_there).differs(NET_DEVICES),
    test!(net_device_whose_name_is_taken).needs(&[IP]).differs(&[
        ("runc", "versions before 1.4 do not know the field"),
        ("crun", "fails when the device has left the host, which loses it"),
    ]),
    test!(net_device_is_given_back_when_create_fails).needs(&[IP]).differs(&[
        ("runc", "leaves it to the kernel, which removes virtual devices"),
        ("crun", "leaves it to the kernel, which removes virtual devices"),
    ]),
    test!(resctrl_without_its_filesystem_is_refused)
        .differs(&[("runc", "ignores the field there"), ("crun", "ignores some fields there")]),
    test!(mount_label_without_selinux_is_told)
        .differs(&[("runc", "leaves it to the kernel, which refuses the mounts"), ("crun", "says nothing")]),
    test!(every_kind_of_device).needs(&[Need::Capability("CAP_MKNOD", 27)]),
    test!(devices_of_a_user_namespace_are_bound),
    test!(every_propagation_of_the_root).differs(&[("crun", "takes any word")]),
    test!(time_offsets_of_both_clocks).needs(&[Need::TIME_NAMESPACE]),
    test!(wrong_time_offsets_are_refused).differs(&[("crun", "ignores them")]),
    test!(every_notify_descriptor_has_the_state),
    test!(features_say_what_the_other_tests_show)
        .differs(&[("runc", "versions before 1.4 do less"), ("crun", "does not say what it does of resource control")]),
];

const IP: Need = Need::Program("ip");
const NET_DEVICES: &[(&str, &str)] = &[("runc", "versions before 1.4 do not know the field")];

/// Runs the bundle from a network namespace of its own in which the device `berthA` has addresses; then says what is there.
fn run_with_device(bundle: &Bundle, more: &str) -> String {
    let can =
        Command::new("unshare").args(["--net", "ip", "link", "add", "berthA", "type", "veth", "peer", "name", "berthB"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        skip("this kernel makes no veth");
    }
    let script = format!(
        "ip link add berthA type veth peer name berthB && ip addr add 10.66.0.2/24 dev berthA && ip addr add 10.66.0.9/32 dev berthA \
         && ip addr add 169.254.7.7/16 scope link dev berthA && ip link set berthA mtu 1400 || exit 99; {more} \"$0\" \"$@\"; status=$?; \
         echo; echo host: $(ip -o addr show dev berthA 2>&1) $(ip -o link show 2>&1); exit $status"
    );
    let call: Call = bundle.run_through(&["unshare", "--net", "sh", "-c", &script], &[]);
    let output = call.output();
    format!("{}\nstatus {}\n{}", output.stdout, output.code(), output.stderr)
}

/// Permanent global addresses and other attributes are kept, the device is up, and named as asked.
fn net_devices_are_moved() {
    moved(&[(None, "berthA"), (Some("eth7"), "eth7")]);
}

/// "The kernel will generate a unique name for the interface" where the name ends in %d.
fn net_device_gets_a_free_name() {
    moved(&[(Some("eth%d"), "eth0")]);
}

fn moved(rows: &[(Option<&str>, &str)]) {
    for &(name, inside) in rows {
        let mut bundle = Bundle::sh("ip addr");
        bundle.set("/linux/netDevices", json!({ "berthA": name.map_or(json!({}), |name| json!({ "name": name })) }));
        let output = run_with_device(&bundle, "");
        let (container, host) = output.split_once("host:").unwrap();
        let device = container.split(": ").skip_while(|part| !part.starts_with(inside)).nth(1);
        let device = device.unwrap_or_else(|| panic!("{name:?}: no {inside} in {output}"));
        assert!(device.contains("UP") && device.contains("mtu 1400"), "{name:?}: {output}");
        assert!(container.contains("10.66.0.2/24") && container.contains("10.66.0.9/32"), "{name:?}: {output}");
        assert!(!container.contains("169.254.7.7"), "addresses of the link are not: {output}");
        assert!(!host.contains("10.66.0.2"), "{name:?}: {output}");
        assert!(output.contains("status 0"), "{name:?}: {output}");
    }
}

fn net_device_of_a_joined_namespace() {
    let other = Bundle::new().run_detached();
    let mut bundle = Bundle::sh("ip addr show dev eth5");
    bundle.namespace("network", Some(&format!("/proc/{}/ns/net", other.pid())));
    bundle.set("/linux/netDevices", json!({ "berthA": { "name": "eth5" } }));
    let output = run_with_device(&bundle, "");
    assert!(output.contains("10.66.0.2/24") && output.contains("status 0"), "{output}");
}

fn net_device_in_a_user_namespace() {
    let mut bundle = Bundle::sh("ip addr show dev eth5");
    bundle.user_namespace(&[(0, 100_000, 1000)]).set("/linux/netDevices", json!({ "berthA": { "name": "eth5" } }));
    std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
    let output = run_with_device(&bundle, "");
    assert!(output.contains("10.66.0.2/24") && output.contains("status 0"), "{output}");
}

fn net_device_that_is_not_there() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/netDevices", json!({ "berth-none": {} }));
    let message = bundle.create_fails();
    assert!(message.contains("berth-none"), "{message}");
}

fn net_device_whose_name_is_taken() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/netDevices", json!({ "berthA": { "name": "lo" } }));
    let output = run_with_device(&bundle, "");
    assert!(!output.contains("status 0") && output.contains("netDevices"), "{output}");
    assert!(output.split_once("host:").unwrap().1.contains("10.66.0.2"), "the host keeps it: {output}");
}

/// With the container's namespace the kernel would remove it.
fn net_device_is_given_back_when_create_fails() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/netDevices", json!({ "berthA": { "name": "eth0" } }));
    bundle.set("/hooks", json!({ "createRuntime": [{ "path": "/bin/false" }] }));
    let output = run_with_device(&bundle, "ip link set berthA up;");
    let host = output.split_once("host:").unwrap().1;
    assert!(!output.contains("status 0"), "{output}");
    assert!(host.contains("10.66.0.2/24") && host.contains("berthA@berthB") && host.contains(",UP"), "{output}");
}

fn resctrl_without_its_filesystem_is_refused() {
    if parse_mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap()).iter().any(|mount| mount.kind == "resctrl") {
        skip("this host has resource control");
    }
    for rdt in [
        json!({ "closID": "gold" }),
        json!({ "schemata": ["L3:0=f"] }),
        json!({ "memBwSchema": "MB:0=50", "enableMonitoring": true }),
    ] {
        let mut bundle = Bundle::new();
        bundle.set("/linux/intelRdt", rdt);
        let message = bundle.create_fails().to_lowercase();
        assert!(message.contains("rdt") || message.contains("resctrl"), "{message}");
    }
}

fn mount_label_without_selinux_is_told() {
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        skip("this host has SELinux");
    }
    let mut bundle = Bundle::args(&["/bin/echo", "runs"]);
    bundle.set("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0"));
    let output = bundle.run();
    assert!(output.stdout == "runs\n" && output.stderr.contains("linux.mountLabel"), "{output:?}");
}

fn every_kind_of_device() {
    let rows: [(&str, Value, &str); 6] = [
        (
            "/dev/one",
            json!({ "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 }),
            "character special file a:e5 640 3:4",
        ),
        ("/dev/two", json!({ "type": "u", "major": 1, "minor": 5, "fileMode": 0o600 }), "character special file 1:5 600 0:0"),
        (
            "/dev/deep/three",
            json!({ "type": "b", "major": 7, "minor": 300, "fileMode": 0o660 }),
            "block special file 7:12c 660 0:0",
        ),
        ("/opt/four", json!({ "type": "p", "fileMode": 0o622, "gid": 9 }), "fifo 0:0 622 0:9"),
        (
            "/dev/five",
            json!({ "type": "c", "major": 1, "minor": 3, "fileMode": 0o020_666 }),
            "character special file 1:3 666 0:0",
        ),
        ("/six", json!({ "type": "c", "major": 1, "minor": 7, "fileMode": 0 }), "character special file 1:7 0 0:0"),
    ];
    for (path, device, expected) in rows {
        let mut bundle = Bundle::args(&["/bin/stat", "-c", "%F %t:%T %a %u:%g", path]);
        let mut device = device;
        device["path"] = json!(path);
        bundle.set("/linux/devices", json!([device]));
        assert_eq!(bundle.print().trim_end(), expected, "{path}");
    }
}

fn devices_of_a_user_namespace_are_bound() {
    let mut bundle = Bundle::sh(
        "for node in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$node; done; echo x >/dev/null && echo works",
    );
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
    let expected = "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n/dev/urandom 1:9\n/dev/tty 5:0\nworks\n";
    assert_eq!(bundle.print(), expected);
}

fn every_propagation_of_the_root() {
    for (value, expected) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "not shared"),
        ("rslave", "not shared"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let mut bundle = Bundle::new();
        bundle.set("/linux/rootfsPropagation", json!(value));
        if expected == "unbindable" {
            // Other runtimes cannot cover anything in an unbindable root.
            bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        }
        let container = bundle.create();
        let mounts = parse_mounts(&std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap());
        let tags = mount_at(&mounts, "/").tags.join(" ");
        let fits = match expected {
            "" => tags.is_empty(),
            "not shared" => !tags.contains("shared"),
            word => tags.contains(word),
        };
        assert!(fits, "{value}: {tags:?}");
    }
    let mut bundle = Bundle::new();
    bundle.set("/linux/rootfsPropagation", json!("sideways"));
    assert!(bundle.create_fails().to_lowercase().contains("propagation"));
}

fn time_offsets_of_both_clocks() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/timens_offsets"]);
    bundle.namespace("time", None);
    bundle.set("/linux/timeOffsets", json!({ "monotonic": { "secs": 7777, "nanosecs": 5 }, "boottime": { "secs": 100 } }));
    let output = bundle.print();
    let rows: Vec<Vec<&str>> = output.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["monotonic", "7777", "5"], ["boottime", "100", "0"]]);
}

fn wrong_time_offsets_are_refused() {
    for (offsets, with_namespace) in [
        (json!({ "realtime": { "secs": 1 } }), true),
        (json!({ "boottime": { "nanosecs": 1_000_000_000 } }), true),
        (json!({ "boottime": { "secs": 1 } }), false),
    ] {
        let mut bundle = Bundle::new();
        if with_namespace {
            bundle.namespace("time", None);
        }
        bundle.set("/linux/timeOffsets", offsets.clone());
        let message = bundle.create_fails().to_lowercase();
        assert!(message.contains("time") || message.contains("clock"), "{offsets}: {message}");
    }
}

/// Containers with the same profile have each their own listener, and no metadata where none is given.
fn every_notify_descriptor_has_the_state() {
    let receiver = crate::harness::receive::Receiver::new("notify");
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": receiver.path(),
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
    let mut bundle = Bundle::new();
    bundle.set("/linux/seccomp", profile).set("/annotations", json!({ "org.example.key": "value" }));
    let container = bundle.run_detached();
    let (text, _fd) = receiver.receive();
    let sent: Value = serde_json::from_str(&text).unwrap();
    assert!(sent.get("metadata").is_none_or(|metadata| metadata == ""), "{sent}");
    assert_eq!(sent["pid"], json!(container.pid()));
    let state = &sent["state"];
    assert_eq!((&state["id"], &state["pid"]), (&json!(bundle.id), &json!(container.pid())), "{sent}");
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert!(["creating", "created", "running"].contains(&state["status"].as_str().unwrap()), "{sent}");
}

/// What `features` says is there is what this suite has seen at work.
fn features_say_what_the_other_tests_show() {
    let features: Value = serde_json::from_str(&Call::new(&["features"]).output().ok()).unwrap();
    let linux = &features["linux"];
    for path in [
        "/netDevices/enabled",
        "/intelRdt/enabled",
        "/intelRdt/schemata",
        "/intelRdt/monitoring",
        "/seccomp/enabled",
        "/mountExtensions/idmap/enabled",
    ] {
        assert_eq!(linux.pointer(path), Some(&json!(true)), "{path}");
    }
    let options = features["mountOptions"].as_array().unwrap();
    for option in [
        "rro",
        "rrw",
        "rnosymfollow",
        "tmpcopyup",
        "idmap",
        "ridmap",
        "copy-symlink",
        "src-nofollow",
        "dest-nofollow",
        "runbindable",
    ] {
        assert!(options.contains(&json!(option)), "{option}");
    }
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"] {
        assert!(linux["namespaces"].as_array().unwrap().contains(&json!(namespace)), "{namespace}");
    }
    for (list, words) in [("modes", vec!["MPOL_BIND", "MPOL_WEIGHTED_INTERLEAVE"]), ("flags", vec!["MPOL_F_STATIC_NODES"])] {
        for word in words {
            assert!(linux["memoryPolicy"][list].as_array().unwrap().contains(&json!(word)), "{word}");
        }
    }
}
