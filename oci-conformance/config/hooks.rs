// SPDX-License-Identifier: Apache-2.0
//! config.md, POSIX-platform Hooks: what is said of all of them.
use super::hook_phases::{in_container, in_runtime};
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, tested};
use crate::hooks::{self, KINDS};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};

/// A runtime that forgets the hooks of one kind.
macro_rules! forget {
    ($kind:literal) => {
        Break::Config(|config| hooks::forget(config, $kind))
    };
}

/// One that calls them in the container, before pivot_root.
macro_rules! late {
    ($kind:literal) => {
        Break::Config(|config| hooks::mistake(config, $kind, "createContainer"))
    };
}

/// One that calls them outside of it.
macro_rules! early {
    ($kind:literal) => {
        Break::Config(|config| hooks::mistake(config, $kind, "createRuntime"))
    };
}

pub const HOOKS: Section = Section {
    name: "config.md#posix-platform-hooks",
    entries: &[
        tested("1", Must, "path MUST be absolute", |s| relative_path(s, "prestart"), forget!("prestart")),
        tested("2", Must, "timeout MUST be greater than zero", |s| bad_timeout(s, "prestart"), NO_TIMEOUT),
        tested("3", Must, "path MUST resolve in the runtime namespace", |s| hooks::is_run(s, "prestart"), forget!("prestart")),
        tested("4", Must, "The prestart hooks MUST be executed in the runtime", |s| in_runtime(s, "prestart"), late!("prestart")),
        tested("5", Must, "path MUST be absolute", |s| relative_path(s, "createRuntime"), forget!("createRuntime")),
        tested("6", Must, "timeout MUST be greater than zero", |s| bad_timeout(s, "createRuntime"), NO_TIMEOUT),
        tested("7", Must, "path MUST resolve in the runtime", |s| hooks::is_run(s, "createRuntime"), forget!("createRuntime")),
        tested(
            "8",
            Must,
            "createRuntime hooks MUST be executed in the runtime",
            |s| in_runtime(s, "createRuntime"),
            late!("createRuntime"),
        ),
        tested(
            "9",
            Must,
            "path MUST resolve in the runtime",
            |s| hooks::is_run(s, "createContainer"),
            forget!("createContainer"),
        ),
        tested(
            "10",
            Must,
            "MUST be executed in the container",
            |s| in_container(s, "createContainer"),
            early!("createContainer"),
        ),
        tested(
            "11",
            Must,
            "path MUST resolve in the container",
            |s| hooks::is_run(s, "startContainer"),
            forget!("startContainer"),
        ),
        tested("12", Must, "MUST be executed in the container", |s| in_container(s, "startContainer"), early!("startContainer")),
        tested("13", Must, "path MUST resolve in the runtime", |s| hooks::is_run(s, "poststart"), forget!("poststart")),
        tested("14", Must, "poststart hooks MUST be executed in the runtime", |s| in_runtime(s, "poststart"), late!("poststart")),
        tested("15", Must, "path MUST resolve in the runtime", |s| hooks::is_run(s, "poststop"), forget!("poststop")),
        tested("16", Must, "poststop hooks MUST be executed in the runtime", |s| in_runtime(s, "poststop"), late!("poststop")),
        tested(
            "17",
            Must,
            "Hooks MUST be called in the listed order",
            order,
            Break::Config(|config| {
                config["hooks"]["poststop"].as_array_mut().into_iter().for_each(|hooks| hooks.reverse());
            }),
        ),
        tested(
            "18",
            Must,
            "MUST be passed to hooks over stdin",
            state_on_stdin,
            Break::Config(|config| {
                let hook = &mut config["hooks"]["createRuntime"][0];
                let program = hook["path"].take();
                let mut words = vec![json!("sh"), json!("-c"), json!("exec \"$@\" </dev/null"), json!("sh"), program];
                words.extend(hook["args"].as_array().into_iter().flatten().skip(1).cloned());
                *hook = json!({ "path": "/bin/sh", "args": words });
            }),
        ),
    ],
};

const NO_TIMEOUT: Break = Break::Config(|config| {
    let hooks = config["hooks"].as_object_mut().into_iter().flat_map(|hooks| hooks.values_mut());
    for hook in hooks.flat_map(|hooks| hooks.as_array_mut()).flatten() {
        hook.as_object_mut().map(|hook| hook.remove("timeout"));
    }
});

/// It must not be taken for a path from wherever the runtime or its hooks happen to be.
fn relative_path(suite: &Suite, kind: &str) -> Outcome {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, kind, &[])?;
    std::fs::copy(&suite.probe, bundle.dir.join("probe"))?;
    bundle.config["hooks"][kind][0]["path"] = json!("probe");
    let home = bundle.dir.to_string_lossy().into_owned();
    bundle.under(&["env", "-C", &home]);
    bundle.is_refused()
}

fn bad_timeout(suite: &Suite, kind: &str) -> Outcome {
    for timeout in [0, -1] {
        let mut bundle = suite.bundle()?;
        hooks::add(&mut bundle, kind, &[])?;
        bundle.config["hooks"][kind][0]["timeout"] = json!(timeout);
        let create = bundle.create()?;
        check!(!create.ok(), "no error for a timeout of {timeout}");
    }
    Ok(())
}

fn order(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    for kind in KINDS {
        for place in ["say:first", "say:second", "say:third"] {
            hooks::add(&mut bundle, kind, &[place])?;
        }
    }
    // The folder with the log is mounted once for each hook of the container: once is enough.
    let mounts = bundle.config["mounts"].as_array_mut();
    mounts.into_iter().for_each(|mounts| mounts.dedup());
    bundle.see()?;
    let spoken = hooks::spoken(&bundle)?;
    for kind in KINDS {
        let turn: Vec<&String> =
            spoken.iter().enumerate().filter(|(at, _)| *at > 0 && spoken[at - 1] == kind).map(|(_, said)| said).collect();
        check!(turn == ["first", "second", "third"], "the {kind} hooks were called in this order: {turn:?}");
    }
    Ok(())
}

fn state_on_stdin(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    for kind in KINDS {
        hooks::add(&mut bundle, kind, &["stdin"])?;
    }
    bundle.config["annotations"] = json!({ "com.example.key": "value" });
    bundle.see()?;
    let log = hooks::log(&bundle)?;
    let mut wrong = Vec::new();
    for kind in KINDS {
        let spoke = log.lines.iter().position(|line| line["say"] == kind).and_then(|at| log.lines.get(at + 1));
        let text = spoke.and_then(|line| line["stdin"].as_str()).unwrap_or_default();
        let state: Value = serde_json::from_str(text).unwrap_or_default();
        if !state.is_object() {
            wrong.push(format!("{kind} hooks are passed {text:?}"));
            continue;
        }
        let status = match kind {
            "prestart" | "createRuntime" | "createContainer" => "creating",
            "startContainer" => "created",
            "poststart" => "running",
            _ => "stopped",
        };
        let pid = match kind {
            // As seen in the container, which has a pid namespace of its own.
            "createContainer" | "startContainer" => json!(1),
            "poststop" => state["pid"].clone(),
            _ => json!(bundle.pid()?.as_raw()),
        };
        let wanted = [
            ("id", json!(bundle.id)),
            ("bundle", json!(bundle.dir)),
            ("status", json!(status)),
            ("pid", pid),
            ("annotations", bundle.config["annotations"].clone()),
        ];
        for (name, wanted) in wanted {
            if state[name] != wanted {
                wrong.push(format!("for {kind} hooks {name} is {}, not {wanted}", state[name]));
            }
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}
