// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, Control groups, Cgroups Path and Allowed Device list.
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, tested, untestable};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;

pub const CONTROL_GROUPS: Section = Section {
    name: "config-linux.md#control-groups",
    entries: &[untestable(
        "1",
        Must,
        "MUST generate an error if such a check fails",
        "the check is optional (MAY): a runtime that accepts an unfit cgroup may not have checked it",
    )],
};

pub const PATH: Section = Section {
    name: "config-linux.md#cgroups-path",
    entries: &[
        untestable("1", Must, "MUST be either an absolute path or a relative path", "every string is one or the other"),
        tested(
            "2",
            Must,
            "MUST take the path to be relative to the cgroups mount point",
            absolute,
            Break::Config(|config| {
                let path = config["linux"]["cgroupsPath"].as_str().unwrap_or_default().replace("/inner", "-inner");
                config["linux"]["cgroupsPath"] = json!(path);
            }),
        ),
        tested(
            "3",
            Must,
            "MUST consistently attach to the same place in the cgroups hierarchy",
            consistent,
            Break::Config(|config| {
                let path = config["linux"]["cgroupsPath"].as_str().unwrap_or_default();
                config["linux"]["cgroupsPath"] = json!(format!("{path}-{}", std::process::id()));
            }),
        ),
        untestable(
            "4",
            Must,
            "Runtimes MAY consider certain cgroupsPath values to be invalid",
            "which values are invalid is the runtime's choice (MAY): one that is accepted was not considered so",
        ),
    ],
};

pub const ALLOWED_DEVICES: Section = Section {
    name: "config-linux.md#allowed-device-list",
    entries: &[tested(
        "1",
        Must,
        "The runtime MUST apply entries in the listed order",
        device_rules,
        Break::Config(|config| {
            config["linux"]["resources"]["devices"].as_array_mut().into_iter().for_each(|rules| rules.reverse());
        }),
    )],
};

/// The cgroup2 path of the container process, within the suite's own cgroup namespace.
fn place(bundle: &crate::bundle::Bundle) -> Outcome<String> {
    let text = fs::read_to_string(bundle.proc("cgroup")?)?;
    Ok(text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_string())
}

fn absolute(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    let outer = bundle.cgroup();
    let path = format!("/{}/inner", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = json!(path);
    bundle.created()?;
    let found = place(&bundle)?;
    drop(bundle);
    let _ = fs::remove_dir(outer);
    check!(found == path, "the container is in the cgroup {found}, not in {path}");
    Ok(())
}

/// A relative path, whose place is the runtime's choice: the same each time.
fn consistent(suite: &Suite) -> Outcome {
    let mut found = Vec::new();
    for _ in 0..2 {
        let mut bundle = suite.bundle()?;
        bundle.config["linux"]["cgroupsPath"] = json!(format!("conformance-again-{}", std::process::id()));
        bundle.created()?;
        found.push(place(&bundle)?);
        bundle.started()?;
        bundle.wait()?;
        bundle.deleted()?;
    }
    check!(found[0] == found[1], "the same cgroupsPath led to {}, then to {}", found[0], found[1]);
    Ok(())
}

/// Devices whose major number is for local use, so that opening one that is allowed gives ENXIO, not EPERM.
fn device_rules(suite: &Suite) -> Outcome {
    let rule = |allow: bool, minor: Option<u32>| {
        let mut rule = json!({ "allow": allow, "type": "c", "major": 240, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    };
    let nothing = json!({ "allow": false, "access": "rwm" });
    let orders: [(Value, &[bool]); 3] = [
        (json!([nothing, rule(true, None), rule(false, Some(1))]), &[true, false]),
        (json!([nothing, rule(false, Some(1)), rule(true, None)]), &[true, true]),
        (json!([rule(true, None), nothing, rule(true, Some(1))]), &[false, true]),
    ];
    for (rules, allowed) in orders {
        let seen = suite.see(&["open:r:/tmp/0", "open:r:/tmp/1"], |config| {
            config["linux"]["devices"] = json!([
                { "path": "/tmp/0", "type": "c", "major": 240, "minor": 0, "fileMode": 438 },
                { "path": "/tmp/1", "type": "c", "major": 240, "minor": 1, "fileMode": 438 },
            ]);
            config["linux"]["resources"] = json!({ "devices": rules });
        })?;
        for (minor, allowed) in allowed.iter().enumerate() {
            const EPERM: i64 = 1;
            let errno = seen.errno(&format!("open:r:/tmp/{minor}"))?;
            let words = if *allowed { "allowed" } else { "denied" };
            check!((errno != EPERM) == *allowed, "240:{minor} is not {words} (errno {errno}) by {rules}");
        }
    }
    Ok(())
}
