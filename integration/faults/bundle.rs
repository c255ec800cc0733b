// SPDX-License-Identifier: Apache-2.0
//! The bundle of the programs that strain the runtime: as engines make them, with busybox for its programs. `faults` and `soak` add what
//! they need.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Makes a root filesystem with busybox in it under these names.
pub fn make_rootfs(rootfs: &Path, applets: &[&str]) {
    for dir in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    let busybox = rootfs.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).unwrap();
    applets.iter().for_each(|applet| fs::hard_link(&busybox, rootfs.join("bin").join(applet)).unwrap());
}

/// One entry of `mounts`.
pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// The configuration of a container whose program is this one and this user's.
pub fn config(args: &[&str], user: u32) -> Value {
    let caps = json!(["CAP_KILL"]);
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": args, "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": user, "gid": user },
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps }, "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "inside",
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({ "type": kind })),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                { "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }
            ] },
        },
    })
}
