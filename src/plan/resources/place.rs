// SPDX-License-Identifier: Apache-2.0
//! Where the container's cgroup is made, and whose it is. Called by [`super::plan`].

use super::{Delegate, SavedCgroup, SavedDir, SavedUnit, UserManager, path};
use crate::error::Code;
use crate::linux::types::CgroupMode;
use crate::plan::{CgroupManager, Host, Request, Rootless};
use crate::spec::Problem;
use crate::spec::types::{Linux, Spec};

/// The directories that the container gets, and the unit where systemd makes them.
pub(super) fn place(cgroups_path: &str, request: &Request, host: &Host) -> Result<(SavedCgroup, Option<path::Systemd>), Problem> {
    let id = request.id.as_str();
    let v2_mount = match host.cgroup {
        CgroupMode::Unified => Some("/sys/fs/cgroup"),
        CgroupMode::Hybrid => Some("/sys/fs/cgroup/unified"),
        CgroupMode::Legacy | CgroupMode::Absent => None,
    };
    let v2_dir = |path: String| v2_mount.map(|mount| SavedDir { mount: mount.to_string(), path, controllers: Vec::new() });
    if request.cgroup_manager == CgroupManager::Systemd {
        if host.cgroup != CgroupMode::Unified {
            return Err(Problem::new(
                path::FIELD,
                "the systemd cgroup driver needs a host with cgroup v2 only; use the cgroupfs driver, or boot with \
                 systemd.unified_cgroup_hierarchy=1",
            )
            .cause(Code::Systemd));
        }
        let user = user_manager(request, host)?;
        let unit = path::Systemd::parse(cgroups_path, id, user.is_some())?;
        let above = user.map_or("", |manager| manager.cgroup.trim_end_matches('/'));
        let runtime_dir = user.map(|manager| manager.runtime_dir.clone());
        let saved = SavedCgroup {
            v2: v2_dir(format!("{above}{}", unit.path)),
            v1: Vec::new(),
            unit: Some(SavedUnit { name: unit.unit.clone(), runtime_dir }),
            leaf: None,
        };
        return Ok((saved, Some(unit)));
    }
    let path = path::Cgroupfs::parse(cgroups_path, id)?;
    let v1 = host.v1_hierarchies.iter().map(|hierarchy| SavedDir {
        mount: hierarchy.mount.clone(),
        path: path.in_v1(&hierarchy.own),
        controllers: hierarchy.controllers.clone(),
    });
    Ok((SavedCgroup { v2: v2_dir(path.in_v2(&host.own_cgroup)), v1: v1.collect(), unit: None, leaf: None }, None))
}

/// The user's systemd, where that is to be asked instead of the system's.
fn user_manager<'a>(request: &Request, host: &'a Host) -> Result<Option<&'a UserManager>, Problem> {
    match &host.user_manager {
        Some(manager) if rootless(request, host) => Ok(Some(manager)),
        _ if host.euid == 0 => Ok(None),
        _ => Err(Problem::new(
            path::FIELD,
            "the user's systemd cannot be reached, and the system's takes no orders from this user; log in through PAM, or set \
             XDG_RUNTIME_DIR to the user's own",
        )
        .cause(Code::Systemd)),
    }
}

/// Whether failing to get a cgroup may be passed over.
pub(super) fn rootless(request: &Request, host: &Host) -> bool {
    match request.rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Unsaid | Rootless::Auto => !host.privileged(),
    }
}

/// The host's id of the user that the container's process runs as, where that user is to own the cgroup.
pub(super) fn owner(spec: &Spec, linux: &Linux) -> Option<u32> {
    let own_namespace = linux.namespaces.iter().any(|namespace| namespace.kind == "cgroup" && namespace.path.is_empty());
    let writable = spec.mounts.iter().any(|mount| {
        matches!(mount.kind.as_str(), "cgroup" | "cgroup2")
            && path::clean(&mount.destination) == "/sys/fs/cgroup"
            && mount.words().filter(|word| matches!(*word, "ro" | "rw")).last() != Some("ro")
    });
    if own_namespace && writable { process_user(spec, linux) } else { None }
}

/// The host's id of the user that the container's process runs as; none for the host's root, and where the id is not mapped.
fn process_user(spec: &Spec, linux: &Linux) -> Option<u32> {
    let uid = spec.process.as_deref().map_or(0, |process| process.user.uid);
    if !linux.namespaces.iter().any(|namespace| namespace.kind == "user") {
        return Some(uid).filter(|uid| *uid != 0);
    }
    let maps = &linux.uid_mappings;
    let range = maps.iter().find(|map| uid >= map.container_id && uid - map.container_id < map.size)?;
    range.host_id.checked_add(uid - range.container_id)
}

/// The annotation that asks for a cgroup of the container's own making; crun's.
const DELEGATE: &str = "run.oci.delegate-cgroup";
/// The cgroup that is given over where no annotation names it.
const LEAF: &str = "init";

/// The cgroup below the container's own that is given over to the container: where its annotation asks for one, and where somebody who
/// is not the host's root gets a cgroup mount that can be written to. The first process is in it before the cgroup namespace is made,
/// which begins there: the files that hold the container's limits are out of its sight, and what it sees is its own to divide. Its limits
/// are written into the leaf too, where those look who ask /proc/PID/cgroup, inside and outside.
///
/// The host's root (`--privileged` containers of engines, whose cgroup mount can be written to as well) gets none: nothing keeps it from
/// what it likes, and engines and monitors take the container's cgroup for the one that its processes are in.
pub(super) fn delegate(spec: &Spec, linux: &Linux, host: &Host) -> Result<Option<Delegate>, Problem> {
    let Some(name) = spec.annotations.get(DELEGATE) else {
        let owner = owner(spec, linux).filter(|_| host.cgroup == CgroupMode::Unified);
        return Ok(owner.map(|uid| Delegate { name: LEAF.to_string(), owner: Some(uid) }));
    };
    let bad = |rule: &str| Err(Problem::new(format!("annotations[{DELEGATE:?}]"), format!("{name:?} {rule}")));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.:@-".contains(&byte);
    if !(1..=255).contains(&name.len()) || name.starts_with('.') || !name.bytes().all(plain) {
        return bad("is no plain name of a cgroup");
    }
    if host.cgroup != CgroupMode::Unified {
        return bad("can be given over only where the host has cgroup v2 alone");
    }
    Ok(Some(Delegate { name: name.clone(), owner: process_user(spec, linux) }))
}
