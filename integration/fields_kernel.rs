// SPDX-License-Identifier: Apache-2.0
//! `linux.sysctl` and `linux.intelRdt` (config-linux.md), and whether `features` says the truth: each name that it lists is tried.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::bundle::{folder, state_root};
use crate::harness::look::status_field;
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// What this file tests.
pub const TESTS: &[Test] = &[
    test!(sysctls_of_every_namespace)
        .differs(&[("crun", "takes no user.* for a user namespace"), ("runc", "takes no user.* for a user namespace")]),
    test!(sysctls_without_their_namespace_are_refused),
    test!(sysctls_of_the_host_are_refused),
    test!(exec_enters_the_resctrl_group).differs(&[("runc", "has another state file"), ("crun", "has another state file")]),
    test!(resctrl_values_that_are_wrong_are_refused)
        .differs(&[("runc", "leaves all but closID to the kernel"), ("crun", "leaves them to the kernel")]),
    test!(features_mount_options_are_taken).differs(&[
        ("runc", "lists words that it then takes for the filesystem's"),
        ("crun", "lists words that the kernel then refuses"),
    ]),
    test!(features_names_are_taken).differs(&[("runc", "versions before 1.4 have no memory policy")]),
    test!(features_are_the_specifications)
        .differs(&[("runc", "versions before 1.4 follow an older specification"), ("crun", "follows an older specification")]),
    test!(features_flags_are_the_kernels).differs(&[("runc", "knows those of its libseccomp"), ("crun", "lists none")]),
];

/// A parameter, its value, the type of the namespace that it belongs to, and the file.
const SYSCTLS: [(&str, &str, &str, &str); 13] = [
    ("net.ipv4.ip_unprivileged_port_start", "81", "network", "net/ipv4/ip_unprivileged_port_start"),
    ("net.ipv4.conf.lo.forwarding", "1", "network", "net/ipv4/conf/lo/forwarding"),
    ("net/ipv4/conf/default/rp_filter", "2", "network", "net/ipv4/conf/default/rp_filter"),
    ("net.core.somaxconn", "77", "network", "net/core/somaxconn"),
    ("kernel.msgmax", "4097", "ipc", "kernel/msgmax"),
    ("kernel.msgmni", "321", "ipc", "kernel/msgmni"),
    ("kernel.shmmni", "123", "ipc", "kernel/shmmni"),
    ("kernel.shmall", "12345", "ipc", "kernel/shmall"),
    ("kernel.sem", "250 32000 32 128", "ipc", "kernel/sem"),
    ("kernel.shm_rmid_forced", "1", "ipc", "kernel/shm_rmid_forced"),
    ("fs.mqueue.msg_max", "11", "ipc", "fs/mqueue/msg_max"),
    ("kernel.domainname", "example.org", "uts", "kernel/domainname"),
    ("user.max_net_namespaces", "7", "user", "user/max_net_namespaces"),
];

fn sysctls_of_every_namespace() {
    for (name, value, namespace, file) in SYSCTLS {
        let file = format!("/proc/sys/{file}");
        let Ok(before) = fs::read_to_string(&file) else {
            eprintln!("  this kernel has no {file}");
            continue;
        };
        let mut bundle = Bundle::args(&["/bin/cat", &file]);
        if namespace == "user" {
            bundle.user_namespace(&[(0, 100_000, 1000)]);
            std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
        }
        bundle.set("/linux/sysctl", json!({ name: value }));
        let inside = bundle.print();
        assert_eq!(inside.split_whitespace().collect::<Vec<_>>().join(" "), value, "{name}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "the host's {name}");
    }
}

fn refuse(name: &str, edit: impl FnOnce(&mut Bundle)) {
    let mut bundle = Bundle::new();
    bundle.set("/linux/sysctl", json!({ name: "1" }));
    edit(&mut bundle);
    let message = bundle.create_fails();
    let word = name.rsplit(['.', '/']).next().unwrap();
    assert!(message.contains(word), "{name}: {message}");
}

fn sysctls_without_their_namespace_are_refused() {
    for (name, _, namespace, file) in SYSCTLS {
        let file = format!("/proc/sys/{file}");
        let before = fs::read_to_string(&file).ok();
        refuse(name, |bundle| {
            bundle.namespace(namespace, Some(""));
            if namespace == "uts" {
                bundle.unset("", "hostname");
            }
        });
        assert_eq!(fs::read_to_string(&file).ok(), before, "the host's {name}");
    }
}

fn sysctls_of_the_host_are_refused() {
    for name in [
        "kernel.hostname",
        "kernel.pid_max",
        "kernel.core_pattern",
        "vm.swappiness",
        "fs.file-max",
        "kernel/../vm/swappiness",
        "vm",
    ] {
        refuse(name, |_| {});
    }
}

/// The kernel offers resctrl only where the processor has it, and `create` finds it by the type of its mount. `exec` goes by the saved
/// state: here a folder with the kernel's files stands in for the group that create has made.
fn exec_enters_the_resctrl_group() {
    let bundle = Bundle::new();
    let container = bundle.run_detached();
    let fake = folder().join("resctrl");
    let monitoring = fake.join("gold/mon_groups").join(&bundle.id);
    fs::create_dir_all(&monitoring).unwrap();
    let tasks = [fake.join("gold/tasks"), monitoring.join("tasks")];
    tasks.iter().for_each(|file| fs::write(file, "").unwrap());
    let file = state_root().join(&bundle.id).join("state.json");
    let saved = fs::read_to_string(&file).unwrap();
    let mut state: Value = serde_json::from_str(&saved).unwrap();
    state["resctrl"] = json!({ "mount": fake, "group": "gold", "remove_group": false, "monitoring": bundle.id });
    fs::write(&file, state.to_string()).unwrap();
    let pid_file = folder().join("pid");
    let words = ["exec", "--pid-file", pid_file.to_str().unwrap(), &container.id, "/bin/true"];
    Call::new(&words).output().ok();
    let pid = fs::read_to_string(&pid_file).unwrap();
    for file in &tasks {
        assert_eq!(fs::read_to_string(file).unwrap().trim(), pid.trim(), "{}", file.display());
    }
    // A group that is gone is an error, before the program runs.
    fs::remove_file(&tasks[1]).unwrap();
    fs::remove_dir(&monitoring).unwrap();
    let output = Call::new(&["exec", &container.id, "/bin/echo", "ran"]).output();
    assert_eq!((output.code(), output.stdout.as_str()), (255, ""));
    assert!(output.stderr.contains("resctrl group") && output.stderr.contains("gold"), "{output:?}");
    fs::write(&file, saved).unwrap();
}

fn resctrl_values_that_are_wrong_are_refused() {
    for (rdt, field) in [
        (json!({ "closID": "a/b" }), "closID"),
        (json!({ "closID": ".." }), "closID"),
        (json!({ "closID": "info" }), "closID"),
        (json!({ "memBwSchema": "L3:0=f" }), "memBwSchema"),
        (json!({ "memBwSchema": "MB:0=50\nL3:0=f" }), "memBwSchema"),
        (json!({ "schemata": ["L3:0=f\nMB:0=50"] }), "schemata"),
        (json!({ "schemata": [""] }), "schemata"),
    ] {
        let mut bundle = Bundle::new();
        bundle.set("/linux/intelRdt", rdt.clone());
        let message = bundle.create_fails();
        assert!(message.contains(field), "{rdt}: {message}");
    }
}

fn features() -> Value {
    serde_json::from_str(&Call::new(&["features"]).output().ok()).unwrap()
}

fn words(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap_or_else(|_| panic!("not a list of words: {list}"))
}

/// Each word is one of the runtime's: to a filesystem it would be a parameter that tmpfs does not have, to a bind a warning.
fn features_mount_options_are_taken() {
    let options = words(&features()["mountOptions"]);
    let source = folder().join("source");
    fs::create_dir_all(&source).unwrap();
    let map = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    let mut bundle = Bundle::sh("grep -c ' /mnt/' /proc/self/mountinfo");
    for option in &options {
        let place = format!("/mnt/{option}");
        let bind = json!({ "destination": place, "type": "bind", "source": source, "options": ["bind", option] });
        match option.as_str() {
            "remount" => {
                bundle.mount(&place, "tmpfs", "tmpfs", &[]).mount(&place, "tmpfs", "tmpfs", &[option]);
            }
            "idmap" | "ridmap" => {
                bundle.set("/mounts/-", bind);
                let last = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
                last["uidMappings"] = map.clone();
                last["gidMappings"] = map.clone();
            }
            "bind" | "rbind" | "copy-symlink" | "src-nofollow" => {
                bundle.set("/mounts/-", bind);
            }
            _ => {
                bundle.mount(&place, "tmpfs", "tmpfs", &[option]);
            }
        }
    }
    let output = bundle.run();
    assert_eq!((output.stdout.trim(), output.stderr.as_str()), (options.len().to_string().as_str(), ""));
    for wrong in ["rbindd", "RO", "nosuidd", "mode"] {
        assert!(!options.contains(&wrong.to_owned()));
        let mut bundle = Bundle::new();
        bundle.mount("/mnt", "tmpfs", "tmpfs", &[wrong]);
        bundle.create_fails();
    }
}

/// Runs a container to its end, which must succeed and say nothing.
#[track_caller]
fn taken(what: &str, edit: impl FnOnce(&mut Bundle)) {
    let mut bundle = Bundle::args(&["/bin/true"]);
    edit(&mut bundle);
    let output = bundle.run();
    assert!(output.status.success() && output.stderr.is_empty(), "{what}: {output:?}");
}

fn features_names_are_taken() {
    let features = features();
    let linux = &features["linux"];
    taken("hooks", |bundle| {
        for hook in words(&features["hooks"]) {
            bundle.set(&format!("/hooks/{hook}/-"), json!({ "path": "/bin/true" }));
        }
    });
    let names = words(&linux["capabilities"]);
    let held = u64::from_str_radix(&status_field(&fs::read_to_string("/proc/self/status").unwrap(), "CapEff"), 16).unwrap();
    // Of those that there are here, in the order of the kernel's numbers, every second one.
    let chosen = names.iter().enumerate().filter(|(number, _)| held & 1 << number != 0).step_by(2);
    let (numbers, chosen): (Vec<usize>, Vec<&String>) = chosen.unzip();
    let mut bundle = Bundle::args(&["/bin/grep", "CapBnd", "/proc/self/status"]);
    bundle.set("/process/capabilities", json!({ "bounding": chosen }));
    let expected = numbers.iter().fold(0u64, |mask, number| mask | 1 << number);
    assert_eq!(bundle.run().stdout, format!("CapBnd:\t{expected:016x}\n"));
    taken("namespaces", |bundle| {
        for namespace in words(&linux["namespaces"]).iter().filter(|kind| *kind != "user") {
            if namespace != "time" || Path::new("/proc/self/ns/time").exists() {
                bundle.namespace(namespace, None);
            }
        }
    });
    let seccomp = &linux["seccomp"];
    let actions: Vec<String> = words(&seccomp["actions"]).into_iter().filter(|action| action != "SCMP_ACT_NOTIFY").collect();
    let rare = ["acct", "quotactl", "swapon", "swapoff", "kexec_load", "syslog", "vhangup", "pivot_root", "settimeofday"];
    let rules = actions.iter().zip(rare).map(|(action, name)| json!({ "names": [name], "action": action }));
    let compared = |op: &String| json!({ "names": ["reboot"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "valueTwo": 1, "op": op }] });
    let operators = words(&seccomp["operators"]);
    let rules: Vec<Value> = rules.chain(operators.iter().map(compared)).collect();
    assert_eq!((actions.len(), operators.len()), (8, 7));
    taken("seccomp", |bundle| {
        bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }));
    });
    let modes = words(&linux["memoryPolicy"]["modes"]);
    if Path::new("/proc/self/numa_maps").exists() {
        for mode in &modes {
            let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str()) { "" } else { "0" };
            taken(mode, |bundle| {
                bundle.set("/linux/memoryPolicy", json!({ "mode": mode, "nodes": nodes }));
            });
        }
    }
    assert_eq!((modes.len(), words(&linux["memoryPolicy"]["flags"]).len()), (7, 3));
}

/// features.md and features-linux.md: the names of members, and that each that is a bool says one.
fn features_are_the_specifications() {
    let features = features();
    assert_eq!((&features["ociVersionMin"], &features["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
    let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let mut top = names(&features);
    top.sort();
    assert_eq!(
        top,
        ["annotations", "hooks", "linux", "mountOptions", "ociVersionMax", "ociVersionMin", "potentiallyUnsafeConfigAnnotations"]
    );
    let linux = &features["linux"];
    let mut members = names(linux);
    members.sort();
    let specified = [
        "apparmor",
        "capabilities",
        "cgroup",
        "intelRdt",
        "memoryPolicy",
        "mountExtensions",
        "namespaces",
        "netDevices",
        "seccomp",
        "selinux",
    ];
    assert_eq!(members, specified);
    for bool in [
        "/cgroup/v1",
        "/cgroup/v2",
        "/cgroup/systemd",
        "/cgroup/systemdUser",
        "/cgroup/rdma",
        "/seccomp/enabled",
        "/apparmor/enabled",
        "/selinux/enabled",
        "/intelRdt/enabled",
        "/intelRdt/schemata",
        "/intelRdt/monitoring",
        "/mountExtensions/idmap/enabled",
        "/netDevices/enabled",
    ] {
        assert!(linux.pointer(bool).is_some_and(Value::is_boolean), "{bool}");
    }
}

/// `supportedFlags` "may be a subset of knownFlags due to some flags not supported by the current kernel": seccomp(2) with a null filter
/// stumbles over that (EFAULT) where it knows the flag.
fn features_flags_are_the_kernels() {
    let seccomp = &features()["linux"]["seccomp"];
    let known = words(&seccomp["knownFlags"]);
    let supported = words(&seccomp["supportedFlags"]);
    for (name, flags) in [
        ("SECCOMP_FILTER_FLAG_TSYNC", 1),
        ("SECCOMP_FILTER_FLAG_LOG", 2),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32 | 8),
    ] {
        // SAFETY: a null filter is refused before anything is loaded.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, 1, flags, std::ptr::null::<u8>()) };
        assert_eq!(result, -1);
        let has = std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT);
        assert!(known.contains(&name.to_owned()), "{name}");
        assert_eq!(supported.contains(&name.to_owned()), has, "{name}");
    }
}
