// SPDX-License-Identifier: Apache-2.0
//! Hooks whose program is the probe: what they saw is in a file of the bundle.
use crate::bundle::Bundle;
use crate::entry::{Outcome, check};
use crate::seen::Seen;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;

/// All kinds, in the order in which they are called.
pub const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Whether hooks of this kind are found and run in the container, after pivot_root.
fn within(kind: &str) -> bool {
    kind == "startContainer"
}

/// Adds a hook that says `KIND`, does these actions, and writes into the bundle's log.
pub fn add(bundle: &mut Bundle, kind: &str, actions: &[&str]) -> Outcome {
    let folder = bundle.dir.join("hooks");
    fs::create_dir_all(&folder)?;
    let folder = folder.to_string_lossy().into_owned();
    if within(kind) {
        let mounts = &mut bundle.config["mounts"];
        let mount = json!({ "destination": "/out", "source": folder, "options": ["bind"] });
        mounts.as_array_mut().into_iter().for_each(|mounts| mounts.push(mount.clone()));
    }
    let program = if within(kind) { "/probe".to_string() } else { bundle.suite.probe.to_string_lossy().into_owned() };
    let log = if within(kind) { "to:/out/log".to_string() } else { format!("to:{folder}/log") };
    let say = format!("say:{kind}");
    let mut words = vec!["probe", &log, "drain", &say];
    words.extend(actions);
    let hook = json!({ "path": program, "args": words });
    match bundle.config["hooks"][kind].as_array_mut() {
        Some(hooks) => hooks.push(hook),
        None => bundle.config["hooks"][kind] = json!([hook]),
    }
    Ok(())
}

/// What the hooks have said so far.
pub fn log(bundle: &Bundle) -> Outcome<Seen> {
    Seen::parse(&fs::read_to_string(bundle.dir.join("hooks/log")).unwrap_or_default())
}

/// The kinds of the hooks that have spoken, in order.
pub fn spoken(bundle: &Bundle) -> Outcome<Vec<String>> {
    let said = log(bundle)?;
    Ok(said.lines.iter().filter_map(|line| line["say"].as_str().map(str::to_string)).collect())
}

/// A container with one hook of this kind, which does these actions; its whole life. What the hook said.
pub fn see(suite: &Suite, kind: &str, actions: &[&str]) -> Outcome<Seen> {
    let mut bundle = suite.bundle()?;
    add(&mut bundle, kind, actions)?;
    bundle.see()?;
    let said = log(&bundle)?;
    check!(!said.lines.is_empty(), "the {kind} hook was not run");
    Ok(said)
}

/// Passes if a hook of this kind is run.
pub fn is_run(suite: &Suite, kind: &str) -> Outcome {
    see(suite, kind, &[]).map(drop)
}

/// For broken runtimes: forgets the hooks of this kind.
pub fn forget(config: &mut Value, kind: &str) {
    if let Some(hooks) = config["hooks"].as_object_mut() {
        hooks.remove(kind);
    }
}

/// For broken runtimes: takes the hooks of one kind for hooks of another.
pub fn mistake(config: &mut Value, kind: &str, other: &str) {
    let hooks = config["hooks"][kind].take();
    forget(config, kind);
    config["hooks"][other] = hooks;
}
