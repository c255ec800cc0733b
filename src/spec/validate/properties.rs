// SPDX-License-Identifier: Apache-2.0
//! Rules held against the plainest reading of the manuals, for values that nobody has written.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::linux::id_mappings;
use super::*;
use crate::spec::IdMapping;

/// user_namespaces(7), one id after the other.
fn maps_are_sound(mappings: &[IdMapping]) -> bool {
    let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
    mappings.iter().all(|mapping| {
        let ids = |first: u32| (u64::from(first)..u64::from(first) + u64::from(mapping.size)).collect::<Vec<u64>>();
        let fits = |first: u32| u64::from(first) + u64::from(mapping.size) <= u64::from(u32::MAX);
        mapping.size > 0
            && fits(mapping.container_id)
            && fits(mapping.host_id)
            && ids(mapping.container_id).into_iter().all(|id| inside.insert(id))
            && ids(mapping.host_id).into_iter().all(|id| outside.insert(id))
    })
}

/// Small numbers, which collide, and those at the end of all ids.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..40, 1 => u32::MAX - 20..=u32::MAX]
}

proptest! {
    #[test]
    fn id_maps_are_judged_as_id_by_id(ranges in prop::collection::vec((id(), id(), 0u32..12), 0..5)) {
        let mappings: Vec<IdMapping> =
            ranges.into_iter().map(|(container_id, host_id, size)| IdMapping { container_id, host_id, size }).collect();
        let mut verdict = Verdict::default();
        id_mappings(&mappings, &At::DOCUMENT, &mut verdict);
        prop_assert_eq!(verdict.is_sound(), maps_are_sound(&mappings), "{:?}: {:?}", mappings, verdict);
    }

    /// Whatever it is called, a kernel parameter stays below /proc/sys, and a name with slashes is a path already.
    #[test]
    fn sysctl_paths_lead_down(name in "[a-z./]{0,20}|.{0,12}") {
        if let Some(path) = sysctl_path(&name) {
            prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{:?} is {:?}", name, path);
            prop_assert_eq!(path.len(), name.len());
        }
    }

    /// Nothing of the text of a mount's destination, device's path or cgroup's path makes the rules fall over.
    #[test]
    fn any_path_is_judged(path in ".{0,40}|[./]{0,12}") {
        let mut spec = Spec { oci_version: "1.3.0".into(), ..Spec::default() };
        spec.mounts.push(Mount { destination: path.clone(), kind: "tmpfs".into(), ..Mount::default() });
        let mut linux = crate::spec::Linux { cgroups_path: path.clone(), ..Default::default() };
        linux.masked_paths.push(path.clone());
        spec.linux = Some(Box::new(linux));
        let problems = config(&spec).problems;
        prop_assert_eq!(problems.iter().any(|problem| problem.at == "linux.maskedPaths[0]"), !path.starts_with('/'));
        let climbs = path.split(['/', ':']).any(|part| part == "..");
        prop_assert_eq!(problems.iter().any(|problem| problem.at == "linux.cgroupsPath"), climbs);
    }
}
