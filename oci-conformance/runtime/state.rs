// SPDX-License-Identifier: Apache-2.0
//! runtime.md: the scope of a container, its state, errors, warnings, and that there are operations at all.
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, tested};
use crate::seen::mounts;
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub const SCOPE: Section = Section {
    name: "runtime.md#scope-of-a-container",
    entries: &[tested("1", Must, "MUST be able to use the operations", whole_life, Break::Deny("kill"))],
};

pub const STATE: Section = Section {
    name: "runtime.md#state",
    entries: &[
        tested("1", Must, "MUST be unique across all containers on this host", unique_id, Break::Hide("create")),
        tested(
            "2",
            Must,
            "MUST be used to represent new runtime states not defined above",
            defined_states,
            Break::Output("state", |state| {
                if state["status"] == "running" {
                    state["status"] = json!("active");
                }
            }),
        ),
        tested(
            "3",
            Must,
            "the format MUST adhere to the JSON Schema",
            schema,
            Break::Output("state", |state| state["pid"] = json!(state["pid"].to_string())),
        ),
    ],
};

pub const ERRORS: Section = Section {
    name: "runtime.md#errors",
    entries: &[tested(
        "1",
        Must,
        "generating an error MUST leave the state of the environment as if the operation were never attempted",
        error_leaves_nothing,
        Break::After("create", |call| drop(fs::create_dir(call.cgroup()))),
    )],
};

pub const WARNINGS: Section = Section {
    name: "runtime.md#warnings",
    entries: &[tested(
        "1",
        Must,
        "it MUST continue as if the warning had not been logged",
        warning_changes_nothing,
        Break::DenyIf(|config| config.to_string().contains("CAP_CONFORMANCE")),
    )],
};

pub const OPERATIONS: Section = Section {
    name: "runtime.md#operations",
    entries: &[tested("1", Must, "runtimes MUST support the following operations", whole_life, Break::Deny("state"))],
};

/// Each operation, by the one who created the container.
fn whole_life(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.actions(&["say:up", "wait"]);
    bundle.created()?;
    bundle.state()?;
    bundle.started()?;
    bundle.wait_for("say:up")?;
    let kill = bundle.kill("KILL")?;
    check!(kill.ok(), "kill failed: {}", kill.complaint());
    bundle.wait()?;
    bundle.deleted()?;
    check!(bundle.status()?.is_none(), "state still knows the container after delete");
    Ok(())
}

fn unique_id(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.created()?;
    let before = bundle.state()?;
    check!(before["id"] == bundle.id.as_str(), "state gives the id {} for {}", before["id"], bundle.id);
    let again = bundle.create()?;
    check!(!again.ok(), "a second container with the same id was created");
    check!(bundle.state()?["pid"] == before["pid"], "the second create changed the first container");
    Ok(())
}

/// The defined situations bear the defined names.
fn defined_states(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.actions(&["say:up", "wait"]);
    let mut statuses = Vec::new();
    bundle.created()?;
    statuses.push(bundle.state()?["status"].clone());
    bundle.started()?;
    bundle.wait_for("say:up")?;
    statuses.push(bundle.state()?["status"].clone());
    bundle.kill("KILL")?;
    bundle.wait()?;
    statuses.push(bundle.state()?["status"].clone());
    check!(
        statuses == ["created", "running", "stopped"],
        "a created, a running and a stopped container are called {}",
        Value::from(statuses)
    );
    Ok(())
}

/// schema/state-schema.json, by hand.
fn schema(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.config["annotations"] = json!({ "com.example.key": "value" });
    bundle.created()?;
    let state = bundle.state()?;
    let texts = ["ociVersion", "id", "status", "bundle"];
    for name in texts {
        check!(state[name].is_string(), "{name} is {}, not a string", state[name]);
    }
    let status = state["status"].as_str().unwrap_or_default();
    check!(["creating", "created", "running", "stopped"].contains(&status), "status is {status:?}");
    let pid = &state["pid"];
    check!(pid.is_null() || pid.as_u64().is_some(), "pid is {pid}, not a natural number");
    let version = state["ociVersion"].as_str().unwrap_or_default();
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers = core.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
    check!(numbers == 3, "ociVersion is {version:?}, not a semantic version");
    let annotations = &state["annotations"];
    let strings = annotations.as_object().is_some_and(|map| map.values().all(Value::is_string));
    check!(annotations.is_null() || strings, "annotations are {annotations}, not a map of strings");
    Ok(())
}

fn error_leaves_nothing(suite: &Suite) -> Outcome {
    let mounted = || fs::read_to_string("/proc/self/mountinfo").map(|text| mounts(&text).len());
    // What a runtime keeps for later containers, whatever they are, is there after the first.
    suite.bundle()?.see()?;
    let mut bundle = suite.bundle()?;
    let whole = bundle.config.clone();
    bundle.config["mounts"] = json!([{ "destination": "/m", "source": "/conformance/no/such", "options": ["bind"] }]);
    let before = mounted()?;
    check!(!bundle.create()?.ok(), "no error to look at: a bind mount without a source was accepted");
    check!(bundle.status()?.is_none(), "the container exists after a failed create");
    check!(!bundle.cgroup().exists(), "the cgroup {} is left behind", bundle.cgroup().display());
    check!(mounted()? == before, "mounts are left behind");
    if let Ok(pid) = bundle.pid() {
        let left = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        check!(left.is_empty() || left.contains(") Z "), "the process {pid} is left behind");
    }
    bundle.config = whole;
    let again = bundle.create()?;
    check!(again.ok(), "its id cannot be used again: {}", again.complaint());
    check!(Path::new(&bundle.cgroup()).exists(), "no cgroup after the second create");
    Ok(())
}

/// A capability that no kernel knows is to be warned of (config.md#linux-process.1).
fn warning_changes_nothing(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report"], |config| {
        let sets = config["process"]["capabilities"].as_object_mut();
        for set in sets.into_iter().flat_map(|sets| sets.values_mut()) {
            set.as_array_mut().into_iter().for_each(|set| set.push(json!("CAP_CONFORMANCE")));
        }
    })?;
    check!(seen.status("CapEff")? != "0000000000000000", "the other capabilities were not given either");
    Ok(())
}
