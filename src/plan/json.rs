// SPDX-License-Identifier: Apache-2.0
//! Plans as JSON: `berth plan --format json`. The same steps, numbers and words as the text of [`super::show`], for programs to read.

use serde_json::{Value, json};

use super::namespaces::name;
use super::step::{IdMap, Join};
use super::{Hook, HookOutput, Plan, Shape};
use crate::linux::types::{IdRange, Namespaces};

/// The whole plan. Of the environment only the names: values may be secrets, and are in config.json for those who may read that.
pub fn value(plan: &Plan) -> Value {
    json!({
        "id": plan.id.as_str(),
        "runtime": plan.parent.iter().zip(1..).map(|(step, number)| one(number, &step.op, &step.at)).collect::<Vec<_>>(),
        "process": plan.child.iter().zip(1..).map(|(step, number)| one(number, &step.op, &step.at)).collect::<Vec<_>>(),
        "cgroup": cgroup(plan),
        "namespaces": namespaces(plan),
        "idMappings": plan.spawn.id_map.as_ref().map(|map| mappings(plan, map)),
        "hooks": hooks(plan),
        "program": {
            "args": plan.exec.args,
            "env": plan.exec.env.iter().map(|entry| entry.split('=').next().unwrap_or_default()).collect::<Vec<_>>(),
            "terminal": plan.exec.terminal,
            "inheritedFds": plan.exec.inherited_fds,
        },
        "warnings": plan.warnings,
    })
}

/// One step: its number, which errors name, what kind it is, what it does, and which field asked for it.
fn one(number: u32, op: &(impl std::fmt::Debug + std::fmt::Display), at: &str) -> Value {
    // The name of the variant, which the derived text begins with.
    let debug = format!("{op:?}");
    let kind = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut object = json!({ "step": number, "op": kind, "what": op.to_string() });
    if !at.is_empty() {
        object["config"] = at.into();
    }
    object
}

fn cgroup(plan: &Plan) -> Value {
    let cgroup = &plan.cgroup;
    let dir = |dir: &super::resources::SavedDir| format!("{}{}", dir.mount, dir.path);
    let writes = cgroup.writes.iter().map(|write| json!({ "file": write.file, "value": write.value, "config": write.at }));
    json!({
        "v2": cgroup.saved.v2.as_ref().map(dir),
        "v1": cgroup.saved.v1.iter().map(dir).collect::<Vec<_>>(),
        "unit": cgroup.saved.unit.as_ref().map(|unit| unit.name.as_str()),
        "controllers": cgroup.required,
        "writes": writes.collect::<Vec<_>>(),
        "deviceFilterInstructions": cgroup.devices.as_ref().map(|filter| filter.program.len()),
    })
}

fn namespaces(plan: &Plan) -> Value {
    let names = |set: Namespaces| set.iter().map(name).collect::<Vec<_>>();
    let joined: Vec<&Join> = match &plan.spawn.shape {
        Shape::TwoClones(joins) => joins.iter().collect(),
        Shape::OneClone => {
            plan.child.iter().flat_map(|step| if let super::Op::Join(joins) = &step.op { &joins[..] } else { &[] }).collect()
        }
    };
    let join = |join: &&Join| json!({ "type": name(join.kind), "path": join.path, "config": join.at });
    json!({
        "private": names(plan.namespaces),
        "cloned": names(plan.spawn.create),
        "joined": joined.iter().map(join).collect::<Vec<_>>(),
        "clones": if plan.spawn.shape == Shape::OneClone { 1 } else { 2 },
    })
}

fn mappings(plan: &Plan, map: &IdMap) -> Value {
    let ranges = |ranges: &[IdRange]| {
        let one = |range: &IdRange| json!({ "containerID": range.inside, "hostID": range.outside, "size": range.count });
        ranges.iter().map(one).collect::<Vec<_>>()
    };
    json!({
        "uid": ranges(&map.uids),
        "gid": ranges(&map.gids),
        "programs": plan.spawn.id_map_programs.as_ref().map(|(uid, gid)| [uid, gid]),
        "setgroupsDenied": plan.spawn.deny_setgroups,
    })
}

fn hooks(plan: &Plan) -> Value {
    let list = |hooks: &[Hook]| {
        let one = |hook: &Hook| {
            let HookOutput { stdout, stderr } = &hook.output;
            json!({ "path": hook.path, "args": hook.args, "timeout": hook.timeout_s, "stdout": stdout, "stderr": stderr, "config": hook.at })
        };
        hooks.iter().map(one).collect::<Vec<_>>()
    };
    let hooks = &plan.hooks;
    json!({
        "prestart": list(&hooks.prestart),
        "createRuntime": list(&hooks.create_runtime),
        "createContainer": list(&hooks.create_container),
        "startContainer": list(&hooks.start_container),
        "poststart": list(&hooks.poststart),
        "poststop": list(&hooks.poststop),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Host, Id, Request, create};
    use crate::spec::fixtures;
    use crate::spec::load::parse_config;

    #[test]
    fn every_fixture_has_the_steps_of_its_text() {
        for (fixture, text) in fixtures::ALL {
            let spec = parse_config(text.as_bytes()).unwrap();
            let mut request = Request::create(Id::parse("example").unwrap(), "/bundle", "/run/berth");
            request.console_socket = spec.process.as_deref().and_then(|process| process.terminal.then(|| "/s".to_string()));
            let host = Host { apparmor: true, selinux: true, ..Host::example() };
            let Ok(plan) = create(&spec, &request, &host) else { continue };
            let read: Value = serde_json::from_str(&value(&plan).to_string()).unwrap();
            for (list, steps) in [("runtime", plan.parent.len()), ("process", plan.child.len())] {
                assert_eq!(read[list].as_array().unwrap().len(), steps, "{fixture}");
            }
            let shown = plan.to_string();
            for step in read["runtime"].as_array().unwrap().iter().chain(read["process"].as_array().unwrap()) {
                let line = format!("  {:3}  {}", step["step"].as_u64().unwrap(), step["what"].as_str().unwrap());
                assert!(shown.contains(&line), "{fixture}: {line}");
                let op = step["op"].as_str().unwrap();
                assert!(op.len() > 1 && op.chars().all(|c| c.is_ascii_alphanumeric()), "{fixture}: {op}");
            }
            assert_eq!(read["process"].as_array().unwrap().last().unwrap()["op"], "Exec");
            let env = read["program"]["env"].as_array().unwrap();
            assert!(env.iter().all(|name| !name.as_str().unwrap().contains('=')), "{fixture}: {env:?}");
        }
    }
}
