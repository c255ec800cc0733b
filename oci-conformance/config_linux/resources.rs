// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, Memory, CPU, Block IO, PIDs, RDMA and Unified, on cgroup v2.
use crate::entry::Level::{Must, Should};
use crate::entry::{Outcome, Section, check, skip, tested, untestable};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;

pub const MEMORY: Section = Section {
    name: "config-linux.md#memory",
    entries: &[tested(
        "1",
        Must,
        "MUST reject the new limit",
        check_before_update,
        Break::File("--resources", |resources| resources["memory"]["checkBeforeUpdate"] = json!(false)),
    )],
};

pub const CPU: Section = Section {
    name: "config-linux.md#cpu",
    entries: &[
        untestable("1", Must, "it MUST be no smaller than burst", ERROR_IS_OPTIONAL),
        untestable("2", Must, "this value MUST be no larger than any positive quota", ERROR_IS_OPTIONAL),
    ],
};

const ERROR_IS_OPTIONAL: &str = "it binds the configuration, and leaves it to the runtime (MAY) whether breaking it is an error";

pub const BLOCK_IO: Section = Section {
    name: "config-linux.md#block-io",
    entries: &[tested("1", Must, "at least one of weight or leafWeight", empty_weight, NO_RESOURCES)],
};

pub const PIDS: Section = Section {
    name: "config-linux.md#pids",
    entries: &[tested("1", Should, "SHOULD be treated as such by runtimes", no_processes, UNLIMITED)],
};

pub const RDMA: Section = Section {
    name: "config-linux.md#rdma",
    entries: &[tested("1", Must, "at least one of the hcaHandles or hcaObjects", empty_rdma, NO_RESOURCES)],
};

pub const UNIFIED: Section = Section {
    name: "config-linux.md#unified",
    entries: &[
        tested("1", Must, "MUST ensure that the needed cgroup controllers are enabled", controllers, NO_RESOURCES),
        tested("2", Must, "Configuration unknown to the runtime MUST still be written", unknown_file, NO_RESOURCES),
        tested("3", Must, "refers to a cgroup controller that is not present", unknown_controller, NO_RESOURCES),
        tested("4", Must, "If the conversion is not possible", no_conversion, NO_RESOURCES),
    ],
};

const UNLIMITED: Break = Break::Config(|config| config["linux"]["resources"]["pids"]["limit"] = json!(-1));
const NO_RESOURCES: Break = Break::Config(|config| config["linux"]["resources"] = json!({}));

fn resources(config: &mut Value, resources: Value) {
    config["linux"]["resources"] = resources;
}

/// With `update`, which no operation of the specification is, but which this property is for: a new container uses
/// nothing that a limit could be lower than.
fn check_before_update(suite: &Suite) -> Outcome {
    suite.needs_controller("memory")?;
    const MIB: u64 = 1 << 20;
    let mut bundle = suite.bundle()?;
    resources(&mut bundle.config, json!({ "memory": { "limit": 96 * MIB } }));
    bundle.actions(&["eat:48", "wait"]);
    bundle.created()?;
    bundle.started()?;
    bundle.wait_for("eat:48")?;
    let file = bundle.dir.join("resources.json");
    let file = file.to_string_lossy().into_owned();
    let limit = || fs::read_to_string(bundle.cgroup().join("memory.max"));
    let update = |limit: u64, checked: bool| {
        let resources = json!({ "memory": { "limit": limit, "checkBeforeUpdate": checked } });
        fs::write(&file, resources.to_string())?;
        suite.runtime(&["update", "--resources", &file, &bundle.id])
    };
    let plain = update(80 * MIB, true)?;
    if !plain.ok() || limit()?.trim() != (80 * MIB).to_string() {
        skip!("update --resources does not set a memory limit: {}", plain.complaint());
    }
    let low = update(8 * MIB, true)?;
    check!(!low.ok(), "a limit below what the container uses was accepted");
    check!(limit()?.trim() == (80 * MIB).to_string(), "the limit below what the container uses was set");
    check!(bundle.status()?.as_deref() == Some("running"), "the container did not survive");
    Ok(())
}

fn empty_weight(suite: &Suite) -> Outcome {
    suite.needs_controller("io")?;
    suite.refuses(|config| resources(config, json!({ "blockIO": { "weightDevice": [{ "major": 7, "minor": 0 }] } })))
}

/// By what it comes to: the program runs, and can run no other. What stands in pids.max may be 0 or 1.
fn no_processes(suite: &Suite) -> Outcome {
    const EAGAIN: i64 = 11;
    suite.needs_controller("pids")?;
    let limited = suite.see(&["spawn"], |config| resources(config, json!({ "pids": { "limit": 0 } })))?;
    check!(limited.errno("spawn")? == EAGAIN, "with a limit of 0 it can run more processes (errno {})", limited.errno("spawn")?);
    let free = suite.see(&["spawn"], |config| resources(config, json!({ "pids": { "limit": -1 } })))?;
    check!(free.errno("spawn")? == 0, "with a limit of -1 it cannot run more processes (errno {})", free.errno("spawn")?);
    Ok(())
}

fn empty_rdma(suite: &Suite) -> Outcome {
    suite.refuses(|config| resources(config, json!({ "rdma": { "mlx5_1": {} } })))
}

/// In a cgroup two levels down, none of which exists yet.
fn controllers(suite: &Suite) -> Outcome {
    suite.needs_controller("pids")?;
    let mut bundle = suite.bundle()?;
    let outer = bundle.cgroup();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}/middle/inner", bundle.id));
    resources(&mut bundle.config, json!({ "unified": { "pids.max": "33" } }));
    let inner = bundle.cgroup();
    let result = bundle.created().and_then(|()| Ok(fs::read_to_string(inner.join("pids.max"))?));
    drop(bundle);
    let _ = fs::remove_dir(outer.join("middle")).and_then(|()| fs::remove_dir(&outer));
    let limit = result?;
    check!(limit.trim() == "33", "pids.max is {}, not 33", limit.trim());
    Ok(())
}

/// A file of the cgroup core, which exists without any controller.
fn unknown_file(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    resources(&mut bundle.config, json!({ "unified": { "cgroup.max.descendants": "7" } }));
    bundle.created()?;
    let value = fs::read_to_string(bundle.cgroup().join("cgroup.max.descendants"))?;
    check!(value.trim() == "7", "cgroup.max.descendants is {}, not 7", value.trim());
    Ok(())
}

fn unknown_controller(suite: &Suite) -> Outcome {
    suite.refuses(|config| resources(config, json!({ "unified": { "conformance.max": "7" } })))
}

/// Swappiness has no counterpart in version 2, whose memory controller is enabled.
fn no_conversion(suite: &Suite) -> Outcome {
    suite.needs_controller("memory")?;
    suite.refuses(|config| resources(config, json!({ "memory": { "swappiness": 33 } })))
}
