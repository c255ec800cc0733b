// SPDX-License-Identifier: Apache-2.0
//! Rules for `linux` (config-linux.md), without its resources, seccomp profile and kernel parameters.

use super::process::user_or_group_id;
use super::{Rows, Verdict, interface_name, resources, seccomp, sysctl};
use crate::spec::{At, IdMapping, Linux, Process, Spec, names};
use crate::texts::texts;

/// config-linux.md, top to bottom.
pub(super) const LINUX: Rows<Linux> = rows![
    ("namespaces", namespaces),
    ("uidMappings", |linux, at, verdict| user_namespace(linux, &linux.uid_mappings, at, verdict)),
    ("gidMappings", |linux, at, verdict| user_namespace(linux, &linux.gid_mappings, at, verdict)),
    ("timeOffsets", time_offsets),
    ("devices", devices),
    ("netDevices", net_devices),
    ("cgroupsPath", |linux, at, verdict| {
        if linux.cgroups_path.split(['/', ':']).any(|part| part == "..") {
            verdict.problem(at, format!("{:?} leaves its place by \"..\"", linux.cgroups_path));
        }
    }),
    ("resources", |linux, at, verdict| {
        if let Some(of) = &linux.resources {
            verdict.judge(resources::RESOURCES, of, at);
        }
    }),
    ("intelRdt", intel_rdt),
    ("memoryPolicy", memory_policy),
    ("sysctl", sysctl::sysctls),
    ("seccomp", |linux, at, verdict| {
        if let Some(of) = &linux.seccomp {
            verdict.judge(seccomp::SECCOMP, of, at);
        }
    }),
    ("rootfsPropagation", |linux, at, verdict| {
        if !linux.rootfs_propagation.is_empty() {
            verdict.one_of(at, &linux.rootfs_propagation, names::ROOTFS_PROPAGATIONS);
        }
    }),
    ("maskedPaths", |linux, at, verdict| absolute_paths(&linux.masked_paths, at, verdict)),
    ("readonlyPaths", |linux, at, verdict| absolute_paths(&linux.readonly_paths, at, verdict)),
    ("mountLabel", |linux, at, verdict| {
        if linux.mount_label.contains(['"', '\n']) {
            verdict.problem(at, format!("{:?} is no SELinux context", linux.mount_label));
        }
    }),
    ("personality", |linux, at, verdict| {
        if let Some(personality) = &linux.personality {
            verdict.one_of(&at.name("domain"), &personality.domain, names::PERSONALITIES);
            if !personality.flags.is_empty() {
                verdict
                    .warning(&at.name("flags"), format!("no flags are defined; {} are left out", personality.flags.join(", ")));
            }
        }
    }),
];

/// The root file system is put together in a mount namespace; without one it would be on top of the host's.
pub(super) fn mount_namespace(spec: &Spec, at: &At, verdict: &mut Verdict) {
    if !spec.has_namespace("mount") {
        verdict.problem(at, "cannot set up the root file system without a private MNT namespace: add {\"type\": \"mount\"}");
    }
}

/// config-linux.md, "Namespaces": known types, each once, joined by absolute path.
fn namespaces(linux: &Linux, at: &At, verdict: &mut Verdict) {
    for (which, namespace) in linux.namespaces.iter().enumerate() {
        let at = &at.index(which);
        verdict.one_of(&at.name("type"), &namespace.kind, names::NAMESPACES);
        if let Some(first) = linux.namespaces[..which].iter().position(|other| other.kind == namespace.kind) {
            verdict.problem(&at.name("type"), format!("{:?} is given already by namespaces[{first}]", namespace.kind));
        }
        if !namespace.path.is_empty() {
            verdict.absolute(&at.name("path"), &namespace.path);
        }
    }
}

/// config-linux.md, "User namespace mappings".
fn user_namespace(linux: &Linux, mappings: &[IdMapping], at: &At, verdict: &mut Verdict) {
    let namespace = linux.namespaces.iter().find(|namespace| namespace.kind == "user");
    match namespace {
        None if !mappings.is_empty() => verdict.problem(at, "is set, but linux.namespaces has no user namespace"),
        Some(namespace) if namespace.path.is_empty() && mappings.is_empty() => {
            verdict.problem(at, "is required for a new user namespace");
        }
        _ => {}
    }
    id_mappings(mappings, at, verdict);
}

/// user_namespaces(7): at most 340 ranges, none empty, none beyond the last id, none overlapping another on either side.
pub(super) fn id_mappings(mappings: &[IdMapping], at: &At, verdict: &mut Verdict) {
    const MOST: usize = 340;
    if mappings.len() > MOST {
        verdict.problem(at, format!("{} ranges are more than the kernel's {MOST}", mappings.len()));
        return;
    }
    // One page less one byte, in one write(2).
    const LONGEST: usize = 4095;
    let line = |mapping: &IdMapping| format!("{} {} {}\n", mapping.container_id, mapping.host_id, mapping.size).len();
    let length: usize = mappings.iter().map(line).sum();
    if length > LONGEST {
        verdict.problem(at, format!("{} ranges make {length} bytes, of which the kernel takes {LONGEST}", mappings.len()));
        return;
    }
    let overlap = |a: u32, a_size: u32, b: u32, b_size: u32| {
        u64::from(a) < u64::from(b) + u64::from(b_size) && u64::from(b) < u64::from(a) + u64::from(a_size)
    };
    for (which, mapping) in mappings.iter().enumerate() {
        let at = &at.index(which);
        let IdMapping { container_id, host_id, size } = *mapping;
        if size == 0 {
            verdict.problem(&at.name("size"), "0 ids: must be more than 0");
        }
        for (name, first) in [("containerID", container_id), ("hostID", host_id)] {
            if first.checked_add(size).is_none() {
                verdict.problem(&at.name(name), format!("{size} ids from {first} go beyond the last id, 4294967294"));
            }
        }
        for (before, other) in mappings[..which].iter().enumerate() {
            if overlap(container_id, size, other.container_id, other.size) {
                verdict
                    .problem(&at.name("containerID"), format!("{size} ids from {container_id} overlap those of range {before}"));
            }
            if overlap(host_id, size, other.host_id, other.size) {
                verdict.problem(&at.name("hostID"), format!("{size} ids from {host_id} overlap those of range {before}"));
            }
        }
    }
}

/// The ids of the container's first process.
pub(super) fn user_is_mapped(spec: &Spec, at: &At, verdict: &mut Verdict) {
    if let Some(process) = &spec.process {
        ids_are_mapped(process, spec, at, verdict);
    }
}

/// The ids of a process must be ids of the container's new user namespace, or setresuid(2) and setgroups(2) fail with EINVAL.
pub(super) fn ids_are_mapped(process: &Process, container: &Spec, at: &At, verdict: &mut Verdict) {
    let Some(linux) = &container.linux else { return };
    if !linux.namespaces.iter().any(|namespace| namespace.kind == "user" && namespace.path.is_empty()) {
        return;
    }
    let mut check = |at: &At, id: u32, mappings: &[IdMapping], name: &str| {
        let maps = |mapping: &IdMapping| id.checked_sub(mapping.container_id).is_some_and(|offset| offset < mapping.size);
        if !mappings.is_empty() && !mappings.iter().any(maps) {
            verdict.problem(at, format!("{id} is not an id of the container: linux.{name} does not map it"));
        }
    };
    check(&at.name("uid"), process.user.uid, &linux.uid_mappings, "uidMappings");
    check(&at.name("gid"), process.user.gid, &linux.gid_mappings, "gidMappings");
    for (which, gid) in process.user.additional_gids.iter().enumerate() {
        check(&at.name("additionalGids").index(which), *gid, &linux.gid_mappings, "gidMappings");
    }
}

/// time_namespaces(7).
fn time_offsets(linux: &Linux, at: &At, verdict: &mut Verdict) {
    let new = linux.namespaces.iter().any(|namespace| namespace.kind == "time" && namespace.path.is_empty());
    if !linux.time_offsets.is_empty() && !new {
        verdict.problem(at, "is set, but linux.namespaces has no new time namespace");
    }
    for (clock, offset) in &linux.time_offsets {
        let at = &at.key(clock);
        if clock != "boottime" && clock != "monotonic" {
            verdict.problem(at, format!("{clock:?} is unknown; known are boottime, monotonic"));
        }
        verdict.within(&at.name("nanosecs"), offset.nanosecs, 0, 999_999_999);
    }
}

/// config-linux.md, "Devices".
fn devices(linux: &Linux, at: &At, verdict: &mut Verdict) {
    for (which, device) in linux.devices.iter().enumerate() {
        let at = &at.index(which);
        verdict.one_of(&at.name("type"), &device.kind, texts!["b", "c", "p", "u"]);
        verdict.absolute(&at.name("path"), &device.path);
        if device.kind != "p" {
            for (name, number) in [("major", device.major), ("minor", device.minor)] {
                if number.is_none() {
                    verdict.problem(&at.name(name), format!("is required for a device of type {:?}", device.kind));
                }
            }
            resources::device_number(at, device.major.unwrap_or(0), device.minor.unwrap_or(0), verdict);
        }
        // Some callers leave the bits of the file type in.
        verdict.within(&at.name("fileMode"), device.file_mode.unwrap_or(0), 0, 0o177_777);
        for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
            user_or_group_id(&at.name(name), id.unwrap_or(0), verdict);
        }
    }
}

/// config-linux.md, "Network Devices".
fn net_devices(linux: &Linux, at: &At, verdict: &mut Verdict) {
    if !linux.net_devices.is_empty() && !linux.has_namespace("network") {
        verdict.problem(at, "is set, but linux.namespaces has no network namespace to move the devices to");
    }
    let mut taken: Vec<&str> = Vec::new();
    for (host_name, device) in &linux.net_devices {
        let at = &at.key(host_name);
        interface_name(at, host_name, verdict);
        let name = if device.name.is_empty() { host_name } else { &device.name };
        if !device.name.is_empty() {
            interface_name(&at.name("name"), name, verdict);
        }
        if taken.contains(&name.as_str()) {
            verdict.problem(&at.name("name"), format!("{name:?} is the name of another device in the container"));
        }
        taken.push(name);
    }
}

/// config-linux.md, "IntelRdt": a directory of its own right below the resctrl file system, and lines.
fn intel_rdt(linux: &Linux, at: &At, verdict: &mut Verdict) {
    let Some(rdt) = &linux.intel_rdt else { return };
    // `/` is the class that everything is in.
    let no_name =
        matches!(rdt.clos_id.as_str(), "." | ".." | "info" | "mon_data" | "mon_groups") || rdt.clos_id.contains(['/', '\n']);
    if no_name && rdt.clos_id != "/" {
        verdict.problem(&at.name("closID"), format!("{:?} is no name for a directory", rdt.clos_id));
    }
    if !rdt.mem_bw_schema.is_empty() && (!rdt.mem_bw_schema.starts_with("MB:") || rdt.mem_bw_schema.contains('\n')) {
        verdict.problem(&at.name("memBwSchema"), format!("{:?} is not one line that starts with MB:", rdt.mem_bw_schema));
    }
    for (which, line) in rdt.schemata.iter().enumerate() {
        if line.is_empty() || line.contains('\n') {
            verdict.problem(&at.name("schemata").index(which), format!("{line:?} is not one line"));
        }
    }
}

/// config-linux.md, "Memory Policy"; set_mempolicy(2).
fn memory_policy(linux: &Linux, at: &At, verdict: &mut Verdict) {
    let Some(policy) = &linux.memory_policy else { return };
    let nodes = &at.name("nodes");
    let flags = &at.name("flags");
    let flag = |name: &str| policy.flags.iter().any(|flag| flag == name);
    verdict.one_of(&at.name("mode"), &policy.mode, names::MEMORY_MODES);
    verdict.all_of(flags, &policy.flags, names::MEMORY_FLAGS);
    verdict.number_list(nodes, &policy.nodes);
    match policy.mode.as_str() {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !policy.nodes.is_empty() => {
            verdict.problem(nodes, format!("{:?}: {} takes no nodes", policy.nodes, policy.mode));
        }
        "MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_WEIGHTED_INTERLEAVE" | "MPOL_PREFERRED_MANY" if policy.nodes.is_empty() => {
            verdict.problem(nodes, format!("is required with {}", policy.mode));
        }
        _ => {}
    }
    if flag("MPOL_F_STATIC_NODES") && flag("MPOL_F_RELATIVE_NODES") {
        verdict.problem(flags, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
}

/// config-linux.md, "Masked Paths", "Readonly Paths".
fn absolute_paths(paths: &[String], at: &At, verdict: &mut Verdict) {
    for (which, path) in paths.iter().enumerate() {
        verdict.absolute(&at.index(which), path);
    }
}
