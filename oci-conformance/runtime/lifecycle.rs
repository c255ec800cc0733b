// SPDX-License-Identifier: Apache-2.0
//! runtime.md, Lifecycle.
use crate::entry::Level::{Must, MustNot};
use crate::entry::{Outcome, Section, check, fail, tested};
use crate::hooks;
use crate::seen::mounts;
use crate::standin::{Break, start_too};
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// A runtime that forgets the hooks of one kind.
macro_rules! forget {
    ($kind:literal) => {
        Break::Config(|config| hooks::forget(config, $kind))
    };
}

pub const LIFECYCLE: Section = Section {
    name: "runtime.md#lifecycle",
    entries: &[
        tested("1", Must, "environment MUST be created according to the configuration", environment, Break::Config(pop_mount)),
        tested("2", Must, "If the runtime is unable to create the environment", impossible, Break::Config(pop_mount)),
        tested(
            "3",
            Must,
            "MUST be created, the user-specified program (from process) MUST NOT be run at this time",
            program_waits,
            Break::After("create", start_too),
        ),
        tested(
            "4",
            MustNot,
            "Any updates to config.json after this step MUST NOT affect the container",
            later_changes,
            // It creates the container anew, from what config.json says by now.
            Break::Instead("start", |call| {
                call.also(&["delete", "--force", call.id()]);
                call.recreate();
                call.real()
            }),
        ),
        tested("5", Must, "The prestart hooks MUST be invoked", |s| hooks::is_run(s, "prestart"), forget!("prestart")),
        tested("6", Must, "If any prestart hook fails", |s| fails(s, "prestart"), forget!("prestart")),
        tested(
            "7",
            Must,
            "The createRuntime hooks MUST be invoked",
            |s| hooks::is_run(s, "createRuntime"),
            forget!("createRuntime"),
        ),
        tested("8", Must, "If any createRuntime hook fails", |s| fails(s, "createRuntime"), forget!("createRuntime")),
        tested(
            "9",
            Must,
            "The createContainer hooks MUST be invoked",
            |s| hooks::is_run(s, "createContainer"),
            forget!("createContainer"),
        ),
        tested("10", Must, "If any createContainer hook fails", |s| fails(s, "createContainer"), forget!("createContainer")),
        tested(
            "11",
            Must,
            "The startContainer hooks MUST be invoked",
            |s| hooks::is_run(s, "startContainer"),
            forget!("startContainer"),
        ),
        tested("12", Must, "If any startContainer hook fails", |s| fails(s, "startContainer"), forget!("startContainer")),
        tested(
            "13",
            Must,
            "The runtime MUST run the user-specified program",
            program,
            Break::Config(|config| {
                config["process"]["args"] = json!(["/probe", "say:another"]);
            }),
        ),
        tested("14", Must, "The poststart hooks MUST be invoked", |s| hooks::is_run(s, "poststart"), forget!("poststart")),
        tested("15", Must, "If any poststart hook fails", |s| fails(s, "poststart"), forget!("poststart")),
        tested("16", Must, "The container MUST be destroyed by undoing the steps", destroyed, Break::Ignore("delete")),
        tested("17", Must, "The poststop hooks MUST be invoked", |s| hooks::is_run(s, "poststop"), forget!("poststop")),
        tested("18", Must, "If any poststop hook fails", poststop_fails, Break::Instead("delete", |call| call.real().max(1))),
    ],
};

fn pop_mount(config: &mut Value) {
    config["mounts"].as_array_mut().map(Vec::pop);
}

fn push_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().into_iter().for_each(|mounts| mounts.push(mount.clone()));
}

/// Looked at from outside, before the program runs.
fn environment(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    push_mount(&mut bundle.config, json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["noexec"] }));
    bundle.created()?;
    for name in ["mnt", "uts", "ipc", "net", "pid", "cgroup"] {
        let theirs = fs::read_link(bundle.proc(&format!("ns/{name}"))?)?;
        check!(theirs != fs::read_link(format!("/proc/self/ns/{name}"))?, "no {name} namespace of its own after create");
    }
    let mounts = mounts(&fs::read_to_string(bundle.proc("mountinfo")?)?);
    let mounted = mounts.iter().any(|mount| mount.target == "/m" && mount.kind == "tmpfs" && mount.has("noexec"));
    check!(mounted, "the configured tmpfs is not mounted at /m after create");
    Ok(())
}

fn impossible(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    push_mount(&mut bundle.config, json!({ "destination": "/m", "type": "conformance", "source": "none" }));
    let create = bundle.create()?;
    check!(!create.ok(), "no error, though no kernel has a file system of type \"conformance\"");
    Ok(())
}

/// What create makes is there, but the program says nothing before start.
fn program_waits(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.created()?;
    check!(bundle.cgroup().exists(), "no cgroup after create");
    std::thread::sleep(Duration::from_millis(300));
    check!(!bundle.has_run()?, "the program ran before start");
    Ok(())
}

fn later_changes(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.actions(&["report"]);
    bundle.created()?;
    bundle.config["hostname"] = json!("changed");
    bundle.actions(&["say:changed", "report"]);
    bundle.write()?;
    bundle.started()?;
    bundle.wait()?;
    let seen = bundle.seen()?;
    check!(seen.of("say:changed").is_err(), "the program of the changed config.json was run");
    check!(seen.text("hostname")? == "conformance", "the hostname is that of the changed config.json");
    Ok(())
}

fn program(suite: &Suite) -> Outcome {
    let seen = suite.see(&["say:this very program", "report"], |_| {})?;
    seen.of("say:this very program")?;
    let args = &seen.report()?["args"];
    check!(*args == json!(["/probe", "say:this very program", "report"]), "it was run with the arguments {args}");
    Ok(())
}

/// A failing hook: an error, the container stopped and destroyed, the poststop hooks called (steps 12 and 13).
fn fails(suite: &Suite, kind: &str) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.actions(&["wait"]);
    hooks::add(&mut bundle, kind, &["exit:3"])?;
    hooks::add(&mut bundle, "poststop", &[])?;
    let last = if kind == "startContainer" || kind == "poststart" {
        let create = bundle.create()?;
        check!(create.ok(), "create calls the {kind} hooks, or fails otherwise: {}", create.complaint());
        bundle.start()?
    } else {
        bundle.create()?
    };
    let mut wrong = Vec::new();
    if last.ok() {
        wrong.push("no error");
        // Then nothing says when the hook has run, and what the runtime does about it.
        std::thread::sleep(Duration::from_millis(500));
    }
    let spoken = hooks::spoken(&bundle)?;
    if !spoken.iter().any(|said| said == kind) {
        fail!("the {kind} hook was not run");
    }
    match bundle.status()?.as_deref() {
        None => {}
        Some("stopped") => wrong.push("the container is not destroyed (it is stopped)"),
        Some(_) => wrong.push("the container is not stopped"),
    }
    if !spoken.iter().any(|said| said == "poststop") {
        wrong.push("the poststop hooks are not called");
    }
    check!(wrong.is_empty(), "after a failed {kind} hook: {}", wrong.join("; "));
    Ok(())
}

fn destroyed(suite: &Suite) -> Outcome {
    // What a runtime keeps for later containers, whatever they are, is there after the first.
    suite.bundle()?.see()?;
    let mut bundle = suite.bundle()?;
    push_mount(&mut bundle.config, json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs" }));
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    bundle.see()?;
    check!(bundle.status()?.is_none(), "the container exists after delete");
    check!(!bundle.cgroup().exists(), "the cgroup exists after delete");
    check!(fs::read_to_string("/proc/self/mountinfo")? == before, "mounts are left after delete");
    Ok(())
}

fn poststop_fails(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, "poststop", &["exit:3"])?;
    hooks::add(&mut bundle, "poststop", &["say:the next"])?;
    bundle.created()?;
    bundle.started()?;
    bundle.wait()?;
    let delete = bundle.delete()?;
    check!(hooks::spoken(&bundle)?.iter().any(|said| said == "the next"), "the hook after the failed one was not run");
    check!(delete.ok(), "delete failed: {}", delete.complaint());
    check!(bundle.status()?.is_none(), "the container exists after delete");
    Ok(())
}
