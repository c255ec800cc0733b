// SPDX-License-Identifier: Apache-2.0
//! The config.json that `berth spec` writes (with [`super::write`], indented by tabs): a shell in a root file system, to begin a bundle
//! of one's own with.

use super::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, Process, Resources, Rlimit, Root, Spec,
    features::OCI_VERSION_MAX,
};
use crate::texts::{Texts, texts};

/// Capabilities that a shell in a container gets.
const CAPABILITIES: Texts = texts!["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// The file systems that config-linux.md asks for ("Default Filesystems"), and what programs expect besides: destination, type, source and
/// options of each.
const MOUNTS: Texts = texts![
    "/proc proc proc",
    "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
    "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
    "/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=65536k",
    "/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
    "/sys sysfs sysfs nosuid,noexec,nodev,ro",
    "/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev,relatime,ro",
];

/// Namespaces of a container that root makes.
const NAMESPACES: Texts = texts!["pid", "network", "ipc", "uts", "mount", "cgroup"];

/// Files that tell of the host or lead into it.
const MASKED_PATHS: Texts = texts![
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

/// Files that change the host.
const READONLY_PATHS: Texts = texts!["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The example for root.
pub fn example() -> Spec {
    let capabilities = || owned(CAPABILITIES);
    let process = Process {
        terminal: true,
        args: vec!["sh".into()],
        env: owned(texts!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: capabilities(),
            effective: capabilities(),
            permitted: capabilities(),
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    };
    let deny_all = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
    let linux = Linux {
        resources: Some(Resources { devices: vec![deny_all], ..Resources::default() }),
        namespaces: NAMESPACES.iter().map(namespace).collect(),
        masked_paths: owned(MASKED_PATHS),
        readonly_paths: owned(READONLY_PATHS),
        ..Linux::default()
    };
    Spec {
        oci_version: OCI_VERSION_MAX.into(),
        process: Some(Box::new(process)),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: "berth".into(),
        mounts: MOUNTS.iter().map(mount).collect(),
        linux: Some(Box::new(linux)),
        ..Spec::default()
    }
}

/// The example for the user `uid` of group `gid`: in a user namespace whose root they are, on the host's network, without limits.
/// sysfs cannot be mounted there without a network namespace, so the host's is bound.
pub fn rootless_example(uid: u32, gid: u32) -> Spec {
    let mut spec = example();
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
        if mount.destination == "/sys" {
            *mount = self::mount("/sys none /sys rbind,nosuid,noexec,nodev,ro");
        }
    }
    if let Some(linux) = &mut spec.linux {
        linux.namespaces.retain(|namespace| namespace.kind != "network");
        linux.namespaces.push(namespace("user"));
        linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: uid, size: 1 }];
        linux.gid_mappings = vec![IdMapping { container_id: 0, host_id: gid, size: 1 }];
        linux.resources = None;
    }
    spec
}

fn owned(list: Texts) -> Vec<String> {
    list.iter().map(String::from).collect()
}

fn namespace(kind: &str) -> Namespace {
    Namespace { kind: kind.into(), path: String::new() }
}

/// A row of [`MOUNTS`].
fn mount(row: &str) -> Mount {
    let mut parts = row.split(' ');
    let mut part = || parts.next().unwrap_or_default();
    let (destination, kind, source, options) = (part(), part(), part(), part());
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.split(',').filter(|option| !option.is_empty()).map(String::from).collect(),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::to_json;
    use super::super::{fixtures, load, validate};
    use super::*;

    /// What runc writes, but for the name of the host.
    #[test]
    fn is_what_users_of_runc_expect() {
        for (ours, theirs) in [(example(), "runc-spec"), (rootless_example(1000, 1000), "runc-spec-rootless")] {
            let theirs = Spec { hostname: "berth".into(), ..fixtures::spec(theirs) };
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn is_sound_and_reads_back() {
        for spec in [example(), rootless_example(1000, 100)] {
            assert_eq!(validate::config(&spec), validate::Verdict::default());
            let text = to_json(&spec, "\t").unwrap();
            assert_eq!(load::parse_config(&text), Ok(spec));
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,"), "{text}");
            serde_json::from_str::<oci_spec::runtime::Spec>(&text).unwrap();
        }
    }

    #[test]
    fn rootless_maps_the_caller() {
        let linux = rootless_example(1000, 100).linux.unwrap();
        assert_eq!(linux.uid_mappings, [IdMapping { container_id: 0, host_id: 1000, size: 1 }]);
        assert_eq!(linux.gid_mappings, [IdMapping { container_id: 0, host_id: 100, size: 1 }]);
    }
}
