// SPDX-License-Identifier: Apache-2.0
//! Cgroups: the trees, the controllers, and whether this user may have one. Called by [`super::check`].

use super::{Finding, Survey, has_cgroups};
use crate::error::Code;
use crate::linux::types::{CapSet, CgroupMode};
use crate::plan::Plan;
use crate::plan::resources::{Denied, path::FIELD};

const BPF: CapSet = CapSet(1 << 39);
const NET_ADMIN: CapSet = CapSet(1 << 12);
/// What limits are usually asked of.
const USUAL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

pub(super) fn check(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let mut found = vec![trees(survey)];
    if !has_cgroups(&survey.host) {
        return found;
    }
    found.extend(controllers(survey));
    if let Some(plan) = plan.filter(|plan| plan.cgroup.saved.v2.is_some()) {
        found.extend(place(survey, plan));
        found.extend(devices(survey, plan));
    }
    found
}

fn trees(survey: &Survey) -> Finding {
    const WHAT: &str = "cgroups";
    match survey.host.cgroup {
        CgroupMode::Unified => Finding::works(WHAT, "cgroup v2 alone, on /sys/fs/cgroup"),
        CgroupMode::Hybrid => Finding::degrades(
            WHAT,
            "controllers are on cgroup v1, beside a cgroup2 tree: no pressure, no memory.high, no systemd driver",
        )
        .remedy("boot with systemd.unified_cgroup_hierarchy=1"),
        CgroupMode::Legacy => Finding::degrades(
            WHAT,
            "cgroup v1 only: no killing and no freezing at one stroke, no systemd driver, device rules are not changed",
        )
        .remedy("boot with systemd.unified_cgroup_hierarchy=1"),
        CgroupMode::Absent => {
            Finding::degrades(WHAT, "no cgroup file system is mounted: no limits, and no grouping of processes")
                .code(Code::CgroupAbsent)
        }
    }
}

/// Which controllers no tree offers: a limit that needs one is a problem of the plan, and told as such.
fn controllers(survey: &Survey) -> Vec<Finding> {
    let host = &survey.host;
    let v1 = |name: &str| {
        let name = if name == "io" { "blkio" } else { name };
        host.v1_hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|has| has == name))
    };
    let there: Vec<&str> =
        USUAL.into_iter().filter(|name| host.v2_controllers.iter().any(|has| has == name) || v1(name)).collect();
    let missing: Vec<&str> = USUAL.into_iter().filter(|name| !there.contains(name)).collect();
    let mut found = Vec::new();
    if !there.is_empty() {
        found.push(Finding::works("controllers", there.join(", ")));
    }
    if !missing.is_empty() {
        let why = format!("no tree has {}: containers with such limits are refused", missing.join(", "));
        found.push(Finding::degrades("controllers", why).code(Code::Controller));
    }
    found
}

/// Whether the container's cgroup can be made where it is planned, with what is asked of it.
fn place(survey: &Survey, plan: &Plan) -> Vec<Finding> {
    const WHAT: &str = "cgroup of the container";
    if plan.cgroup.unit.is_some() {
        return vec![Finding::works(WHAT, "systemd makes it").at(FIELD)];
    }
    let Some(place) = &survey.cgroup else { return Vec::new() };
    if !place.writable {
        let why = format!("{} does not belong to this user", place.path);
        let finding = match plan.cgroup.denied {
            Denied::NoCgroup => Finding::degrades(WHAT, format!("{why}: the container stays in the runtime's own cgroup")),
            _ => Finding::fails(WHAT, why),
        };
        return vec![finding.code(Code::Delegation).at(FIELD)];
    }
    let mut found = Vec::new();
    for name in &plan.cgroup.required {
        let at = plan.cgroup.writes.iter().find(|write| write.controller == *name).map_or(FIELD, |write| write.at.as_str());
        if !place.controllers.contains(name) {
            let why = format!("the controller {name} is not available in {}", place.path);
            found.push(Finding::fails(WHAT, why).code(Code::Controller).at(at));
        } else if place.busy && !place.passes_on.contains(name) {
            let why = format!("{} has processes of its own and so cannot pass {name} on", place.path);
            found.push(Finding::fails(WHAT, why).code(Code::CgroupBusy).at(at));
        }
    }
    if found.is_empty() {
        found.push(Finding::works(WHAT, format!("it can be made in {}", place.path)).at(FIELD));
    }
    found
}

/// Cgroup v2 filters devices by a program, which not everybody may load.
fn devices(survey: &Survey, plan: &Plan) -> Option<Finding> {
    const WHAT: &str = "device filter";
    let filter = plan.cgroup.devices.as_ref()?;
    let host = &survey.host;
    let holds = |set| host.capabilities.contains(set);
    if host.initial_user_namespace && (holds(CapSet::SYS_ADMIN) || holds(BPF | NET_ADMIN)) {
        return Some(Finding::works(WHAT, "this user may load it"));
    }
    let why = "this user may not load BPF programs";
    Some(match filter.optional {
        true => Finding::degrades(WHAT, format!("{why}; it can make no device nodes either")).remedy("none is needed"),
        false => Finding::fails(WHAT, why).code(Code::DeviceFilter),
    })
}
