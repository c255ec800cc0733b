// SPDX-License-Identifier: Apache-2.0
//! Which namespaces are made, which are joined, in which order and by how many processes (config-linux.md, Namespaces; clone(2),
//! setns(2), user_namespaces(7)).

use super::{Host, IdMap, Join, Shape, Spawn, step::Op};
use crate::linux::types::{CapSet, IdRange, Namespaces};
use crate::spec::Problem;
use crate::spec::types::{IdMapping, Linux, Spec};

/// The namespaces of a container, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacePlan {
    /// Made anew.
    pub new: Namespaces,
    /// Joined by path, in the order in which they are entered.
    pub join: Vec<Join>,
    /// How the process comes to be.
    pub spawn: Spawn,
    /// User 0 of the container's user namespace exists (always so without one).
    pub root_mapped: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl NamespacePlan {
    /// No namespace at all, for a process that enters those of a container.
    pub fn none() -> NamespacePlan {
        let new = Namespaces::empty();
        let spawn = Spawn { create: new, shape: Shape::OneClone, id_map: None, id_map_programs: None, deny_setgroups: false };
        NamespacePlan { new, join: Vec::new(), spawn, root_mapped: true, warnings: Vec::new() }
    }

    /// The process ends up in another user namespace than the runtime's.
    pub fn other_user_namespace(&self) -> bool {
        self.has(Namespaces::USER)
    }

    /// The namespace of this kind is not the runtime's, new or joined.
    pub fn has(&self, kind: Namespaces) -> bool {
        self.new.contains(kind) || self.joined(kind)
    }

    /// The namespace of this kind is joined by path.
    pub fn joined(&self, kind: Namespaces) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }
}

/// The kind that config.json calls by this name.
pub fn kind(name: &str) -> Option<Namespaces> {
    Some(match name {
        "pid" => Namespaces::PID,
        "network" => Namespaces::NET,
        "mount" => Namespaces::MOUNT,
        "ipc" => Namespaces::IPC,
        "uts" => Namespaces::UTS,
        "user" => Namespaces::USER,
        "cgroup" => Namespaces::CGROUP,
        "time" => Namespaces::TIME,
        _ => return None,
    })
}

/// The name that config.json gives a kind.
pub fn name(kind: Namespaces) -> &'static str {
    match kind {
        Namespaces::PID => "pid",
        Namespaces::NET => "network",
        Namespaces::MOUNT => "mount",
        Namespaces::IPC => "ipc",
        Namespaces::UTS => "uts",
        Namespaces::USER => "user",
        Namespaces::CGROUP => "cgroup",
        _ => "time",
    }
}

/// Decides the namespaces of a validated configuration.
pub fn plan(spec: &Spec, host: &Host) -> Result<NamespacePlan, Vec<Problem>> {
    let empty = Linux::default();
    let linux = spec.linux.as_deref().unwrap_or(&empty);
    let mut new = Namespaces::empty();
    let mut join = Vec::new();
    let mut warnings = Vec::new();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let at = format!("linux.namespaces[{index}]");
        let Some(kind) = kind(&namespace.kind) else {
            return Err(vec![Problem::new(format!("{at}.type"), format!("unknown namespace \"{}\"", namespace.kind))]);
        };
        if namespace.path.is_empty() {
            new |= kind;
        } else {
            join.push(Join { kind, path: namespace.path.clone(), at: format!("{at}.path") });
        }
    }
    let mut id_map = IdMap { uids: ranges(&linux.uid_mappings), gids: ranges(&linux.gid_mappings) };
    let joins_user = join.iter().any(|join| join.kind == Namespaces::USER);
    if host.euid != 0 && !joins_user && !new.contains(Namespaces::USER) {
        new |= Namespaces::USER;
        id_map = single(host);
        warnings.push(format!("no user namespace is configured, which user {} needs: made one in which it is user 0", host.euid));
    }
    let makes_user = new.contains(Namespaces::USER);
    let deny_setgroups = host.setgroups_denied;
    let mut spawn = Spawn { create: new, shape: Shape::OneClone, id_map: None, id_map_programs: None, deny_setgroups };
    let mut root_mapped = true;
    if makes_user {
        map_ids(&mut spawn, id_map, host, &mut warnings);
        root_mapped = spawn.id_map.as_ref().is_some_and(|map| covers(&map.uids, 0) && covers(&map.gids, 0));
    }
    sort_joins(&mut join, host.privileged());
    // clone3(2) would root the new cgroup namespace at the runtime's own cgroup, and a time namespace with offsets must get them
    // before anything is in it: the process makes these two itself.
    spawn.create.remove(Namespaces::CGROUP);
    if !linux.time_offsets.is_empty() {
        spawn.create.remove(Namespaces::TIME);
    }
    let enters_pid = join.iter().any(|join| join.kind == Namespaces::PID);
    let from_inside = (makes_user && !join.is_empty()) || (joins_user && !spawn.create.is_empty());
    if enters_pid || from_inside {
        spawn.shape = Shape::TwoClones(join.clone());
    }
    Ok(NamespacePlan { new, join, spawn, root_mapped, warnings })
}

/// What the process itself does about namespaces, once it may.
pub fn steps(plan: &NamespacePlan, spec: &Spec) -> Vec<(Op, String)> {
    let mut steps = Vec::new();
    if matches!(plan.spawn.shape, Shape::OneClone) && !plan.join.is_empty() {
        steps.push((Op::Join(plan.join.clone()), "linux.namespaces".to_string()));
    }
    if plan.other_user_namespace() && plan.root_mapped {
        steps.push((Op::BecomeNamespaceRoot, "linux.uidMappings".to_string()));
    }
    if plan.new.contains(Namespaces::CGROUP) {
        steps.push((Op::NewCgroupNamespace, "linux.namespaces".to_string()));
    }
    let offsets = spec.linux.iter().flat_map(|linux| &linux.time_offsets);
    let offsets: Vec<_> = offsets
        .map(|(clock, offset)| super::step::TimeOffset { clock: clock.clone(), secs: offset.secs, nanosecs: offset.nanosecs })
        .collect();
    if !offsets.is_empty() && plan.new.contains(Namespaces::TIME) {
        steps.push((Op::NewTimeNamespace(offsets), "linux.timeOffsets".to_string()));
    }
    if plan.new.contains(Namespaces::NET) {
        steps.push((Op::LoopbackUp, "linux.namespaces".to_string()));
    }
    steps
}

/// Who writes the mappings: the runtime where its capabilities allow, else newuidmap(1), else it can map only itself.
fn map_ids(spawn: &mut Spawn, wanted: IdMap, host: &Host, warnings: &mut Vec<String>) {
    const SETGID_SETUID: CapSet = CapSet(1 << 6 | 1 << 7);
    spawn.id_map = Some(wanted.clone());
    if host.capabilities.contains(SETGID_SETUID) {
        return;
    }
    let only_itself = |map: &[IdRange], own: u32| matches!(map, [one] if one.count == 1 && one.outside == own);
    if only_itself(&wanted.uids, host.euid) && only_itself(&wanted.gids, host.egid) {
        spawn.deny_setgroups = true;
        return;
    }
    match (&host.newuidmap, &host.newgidmap) {
        (Some(uid), Some(gid)) => spawn.id_map_programs = Some((uid.clone(), gid.clone())),
        _ => {
            spawn.deny_setgroups = true;
            spawn.id_map = Some(single(host));
            warnings.push(format!(
                "newuidmap and newgidmap are not installed (package uidmap): only user {} itself is mapped, as user 0",
                host.euid
            ));
        }
    }
}

fn single(host: &Host) -> IdMap {
    let one = |outside| vec![IdRange { inside: 0, outside, count: 1 }];
    IdMap { uids: one(host.euid), gids: one(host.egid) }
}

/// Mappings of the configuration as ranges.
pub fn ranges(mappings: &[IdMapping]) -> Vec<IdRange> {
    mappings.iter().map(|map| IdRange { inside: map.container_id, outside: map.host_id, count: map.size }).collect()
}

/// Whether the id of the namespace is mapped.
pub fn covers(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.inside && u64::from(id) < u64::from(range.inside) + u64::from(range.count))
}

/// Root enters a user namespace last, while its rights over the others' owners still count; anybody else gains rights over the
/// others by entering it first. The mount namespace comes late, because entering it moves root and working directory.
fn sort_joins(join: &mut [Join], privileged: bool) {
    join.sort_by_key(|join| match join.kind {
        Namespaces::USER if privileged => 9,
        Namespaces::USER => 0,
        Namespaces::MOUNT => 8,
        _ => 4,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::Namespace;

    fn spec(namespaces: &[(&str, &str)], mappings: &[(u32, u32, u32)]) -> Spec {
        let map: Vec<_> = mappings.iter().map(|m| IdMapping { container_id: m.0, host_id: m.1, size: m.2 }).collect();
        let namespaces =
            namespaces.iter().map(|(kind, path)| Namespace { kind: kind.to_string(), path: path.to_string() }).collect();
        let linux = Linux { namespaces, uid_mappings: map.clone(), gid_mappings: map, ..Default::default() };
        Spec { linux: Some(Box::new(linux)), ..Default::default() }
    }
    fn user(euid: u32) -> Host {
        Host { euid, egid: euid, capabilities: CapSet(0), ..Host::example() }
    }

    #[test]
    fn a_pod_container_needs_one_clone() {
        let got =
            plan(&spec(&[("pid", ""), ("mount", ""), ("cgroup", ""), ("network", "/n"), ("ipc", "/i")], &[]), &Host::example())
                .unwrap();
        assert_eq!(got.spawn.create, Namespaces::PID | Namespaces::MOUNT);
        assert_eq!(got.spawn.shape, Shape::OneClone);
        let ops: Vec<_> = steps(&got, &Spec::default()).into_iter().map(|(op, _)| op).collect();
        assert!(matches!(&ops[..], [Op::Join(join), Op::NewCgroupNamespace] if join.len() == 2));
    }

    #[test]
    fn a_second_clone_only_where_the_kernel_demands_it() {
        let two = |spaces: &[(&str, &str)]| {
            matches!(plan(&spec(spaces, &[(0, 100, 10)]), &Host::example()).unwrap().spawn.shape, Shape::TwoClones(_))
        };
        assert!(two(&[("mount", ""), ("pid", "/p")]));
        assert!(two(&[("mount", ""), ("user", "/u")]));
        assert!(two(&[("mount", ""), ("user", ""), ("network", "/n")]));
        assert!(!two(&[("mount", ""), ("user", ""), ("network", "")]));
        assert!(!two(&[("mount", ""), ("network", "/n"), ("uts", "/u")]));
    }

    #[test]
    fn the_user_namespace_is_entered_last_by_root_and_first_by_others() {
        let spaces = [("user", "/u"), ("mount", "/m"), ("network", "/n")];
        let order = |host: &Host| plan(&spec(&spaces, &[]), host).unwrap().join.iter().map(|j| name(j.kind)).collect::<Vec<_>>();
        assert_eq!(order(&Host::example()), ["network", "mount", "user"]);
        assert_eq!(order(&user(1000)), ["user", "network", "mount"]);
    }

    #[test]
    fn an_ordinary_user_maps_itself_or_asks_newuidmap() {
        let own = plan(&spec(&[("mount", ""), ("user", "")], &[(0, 1000, 1)]), &user(1000)).unwrap().spawn;
        assert!(own.deny_setgroups && own.id_map_programs.is_none());
        let many = spec(&[("mount", ""), ("user", "")], &[(0, 1000, 1), (1, 100_000, 65_536)]);
        let asked = plan(&many, &user(1000)).unwrap().spawn;
        assert!(asked.id_map_programs.is_some() && !asked.deny_setgroups);
        let without = plan(&many, &Host { newuidmap: None, ..user(1000) }).unwrap();
        assert_eq!(without.spawn.id_map.unwrap().uids, [IdRange { inside: 0, outside: 1000, count: 1 }]);
        assert_eq!(without.warnings.len(), 1);
        let none = plan(&spec(&[("mount", "")], &[]), &user(1000)).unwrap();
        assert!(none.new.contains(Namespaces::USER) && none.warnings.len() == 1);
    }

    #[test]
    fn what_the_outer_user_namespace_denies_is_denied_below() {
        let host = Host { setgroups_denied: true, initial_user_namespace: false, ..Host::example() };
        assert!(plan(&spec(&[("mount", "")], &[]), &host).unwrap().spawn.deny_setgroups);
        assert!(plan(&spec(&[("mount", ""), ("user", "")], &[(0, 0, 1)]), &host).unwrap().spawn.deny_setgroups);
    }

    #[test]
    fn offsets_keep_the_time_namespace_out_of_the_clone() {
        let mut with = spec(&[("mount", ""), ("time", "")], &[]);
        assert!(plan(&with, &Host::example()).unwrap().spawn.create.contains(Namespaces::TIME));
        with.linux.as_deref_mut().unwrap().time_offsets.insert("monotonic".into(), Default::default());
        let got = plan(&with, &Host::example()).unwrap();
        assert!(!got.spawn.create.contains(Namespaces::TIME));
        assert!(matches!(steps(&got, &with)[0].0, Op::NewTimeNamespace(_)));
    }
}
