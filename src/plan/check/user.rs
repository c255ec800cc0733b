// SPDX-License-Identifier: Apache-2.0
//! User namespaces and id mappings. Called by [`super::check`].

use super::{Finding, Survey, granted, wanted};
use crate::error::Code;
use crate::linux::types::{CapSet, Namespaces};
use crate::plan::Plan;

/// Whether this user can make a user namespace, where one is needed.
pub(super) fn namespace(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    const WHAT: &str = "user namespaces";
    let host = &survey.host;
    let needed = plan.is_some_and(|plan| wanted(plan).contains(Namespaces::USER)) || host.euid != 0;
    if host.privileged() && !host.capabilities.contains(CapSet::SYS_ADMIN) {
        let why = "root without CAP_SYS_ADMIN can make no namespace but a user namespace";
        let remedy = "give the outer container CAP_SYS_ADMIN, or run as a user with a user namespace of its own";
        return vec![Finding::fails("capabilities", why).code(Code::Permission).remedy(remedy)];
    }
    vec![match &survey.no_user_namespace {
        None => Finding::works(WHAT, "this user may make them"),
        Some(why) if needed => Finding::fails(WHAT, why).code(Code::UserNamespaces),
        Some(why) => Finding::degrades(WHAT, why).code(Code::UserNamespaces),
    }]
}

/// Whether the mappings of the plan can be written.
pub(super) fn mappings(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    const WHAT: &str = "id mappings";
    let host = &survey.host;
    let mut found = Vec::new();
    if host.euid != 0 && (host.newuidmap.is_none() || host.newgidmap.is_none()) {
        let why = "newuidmap and newgidmap are not installed: only this user's own id can be mapped";
        found.push(Finding::degrades(WHAT, why).code(Code::NoUidMapPrograms));
    }
    let Some(spawn) = plan.map(|plan| &plan.spawn) else { return found };
    let (Some(map), Some(_)) = (&spawn.id_map, &spawn.id_map_programs) else { return found };
    for (ranges, have, own, file, at) in [
        (&map.uids, &survey.granted_uids, host.euid, "/etc/subuid", "linux.uidMappings"),
        (&map.gids, &survey.granted_gids, host.egid, "/etc/subgid", "linux.gidMappings"),
    ] {
        match ranges.iter().find(|range| !granted(range, have, own)) {
            None => found.push(Finding::works(WHAT, format!("{file} grants what is mapped")).at(at)),
            Some(range) => {
                let last = u64::from(range.outside) + u64::from(range.count) - 1;
                let why = format!("{file} does not grant ids {} to {last} to this user", range.outside);
                found.push(Finding::fails(WHAT, why).code(Code::SubIds).at(at));
            }
        }
    }
    found
}
