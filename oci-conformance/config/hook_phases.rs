// SPDX-License-Identifier: Apache-2.0
//! config.md: when and where the hooks of each kind are called.
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, fail, tested};
use crate::hooks::{self, forget, is_run, mistake};
use crate::seen::{Seen, namespaces};
use crate::standin::Break;
use crate::suite::Suite;
use std::collections::BTreeMap;
use std::fs;

pub const PRESTART: Section = Section {
    name: "config.md#prestart",
    entries: &[
        tested("1", Must, "after the runtime environment has been created", |s| within_create(s, "prestart"), LATE_PRESTART),
        tested(
            "2",
            Must,
            "MUST be called before the createRuntime hooks",
            |s| in_turn(s, "prestart", "createRuntime"),
            LATE_PRESTART,
        ),
        tested("3", Must, "path MUST resolve in the runtime namespace", |s| is_run(s, "prestart"), LATE_PRESTART),
        tested("4", Must, "MUST be executed in the runtime namespace", |s| in_runtime(s, "prestart"), LATE_PRESTART),
    ],
};

/// These runtimes call hooks as if they were of another kind, one called later or earlier, or not at all.
const LATE_PRESTART: Break = Break::Config(|config| mistake(config, "prestart", "startContainer"));
const LATE_RUNTIME: Break = Break::Config(|config| mistake(config, "createRuntime", "startContainer"));
const EARLY_CONTAINER: Break = Break::Config(|config| mistake(config, "createContainer", "createRuntime"));
const NO_CONTAINER: Break = Break::Config(|config| forget(config, "createContainer"));
const NO_START: Break = Break::Config(|config| forget(config, "startContainer"));
const EARLY_POSTSTART: Break = Break::Config(|config| mistake(config, "poststart", "createRuntime"));
const NO_POSTSTART: Break = Break::Config(|config| forget(config, "poststart"));
const EARLY_POSTSTOP: Break = Break::Config(|config| mistake(config, "poststop", "poststart"));
const NO_POSTSTOP: Break = Break::Config(|config| forget(config, "poststop"));

pub const CREATE_RUNTIME: Section = Section {
    name: "config.md#createruntime-hooks",
    entries: &[
        tested("1", Must, "after the runtime environment has been created", |s| within_create(s, "createRuntime"), LATE_RUNTIME),
        tested("2", Must, "path MUST resolve in the runtime namespace", |s| is_run(s, "createRuntime"), LATE_RUNTIME),
        tested("3", Must, "MUST be executed in the runtime namespace", |s| in_runtime(s, "createRuntime"), LATE_RUNTIME),
    ],
};

pub const CREATE_CONTAINER: Section = Section {
    name: "config.md#createcontainer-hooks",
    entries: &[
        tested("1", Must, "but before the pivot_root", before_pivot, NO_CONTAINER),
        tested(
            "2",
            Must,
            "MUST be called after the createRuntime hooks",
            |s| in_turn(s, "createRuntime", "createContainer"),
            Break::Config(|config| mistake(config, "createContainer", "prestart")),
        ),
        tested("3", Must, "path MUST resolve in the runtime namespace", |s| is_run(s, "createContainer"), NO_CONTAINER),
        tested("4", Must, "MUST be executed in the container namespace", |s| in_container(s, "createContainer"), EARLY_CONTAINER),
    ],
};

pub const START_CONTAINER: Section = Section {
    name: "config.md#startcontainer-hooks",
    entries: &[
        tested(
            "1",
            Must,
            "before the user-specified process is executed as part of the start operation",
            before_program,
            NO_START,
        ),
        tested("2", Must, "path MUST resolve in the container namespace", |s| is_run(s, "startContainer"), NO_START),
        tested("3", Must, "MUST be executed in the container namespace", |s| in_container(s, "startContainer"), NO_START),
    ],
};

pub const POSTSTART: Section = Section {
    name: "config.md#poststart",
    entries: &[
        tested(
            "1",
            Must,
            "after the user-specified process is executed but before the start operation returns",
            after_program,
            EARLY_POSTSTART,
        ),
        tested("2", Must, "path MUST resolve in the runtime namespace", |s| is_run(s, "poststart"), NO_POSTSTART),
        tested("3", Must, "MUST be executed in the runtime namespace", |s| in_runtime(s, "poststart"), NO_POSTSTART),
    ],
};

pub const POSTSTOP: Section = Section {
    name: "config.md#poststop",
    entries: &[
        tested(
            "1",
            Must,
            "after the container is deleted but before the delete operation returns",
            after_deletion,
            EARLY_POSTSTOP,
        ),
        tested("2", Must, "path MUST resolve in the runtime namespace", |s| is_run(s, "poststop"), NO_POSTSTOP),
        tested("3", Must, "MUST be executed in the runtime namespace", |s| in_runtime(s, "poststop"), NO_POSTSTOP),
    ],
};

/// The namespaces of the suite, which are those of the runtime that it runs.
fn own_namespaces() -> Outcome<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/ns")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with("_for_children") {
            all.insert(name, fs::read_link(entry.path())?.to_string_lossy().into_owned());
        }
    }
    Ok(all)
}

fn same(what: &str, found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Outcome {
    for (name, link) in wanted {
        let found = found.get(name).map_or("nothing", String::as_str);
        check!(found == link, "{what} is in {found}, not in {link}");
    }
    Ok(())
}

/// Passes if hooks of this kind are executed in the namespaces of the runtime.
pub fn in_runtime(suite: &Suite, kind: &str) -> Outcome {
    let said = hooks::see(suite, kind, &["report"])?;
    same(&format!("a {kind} hook"), &said.namespaces()?, &own_namespaces()?)
}

/// Passes if hooks of this kind are executed in the namespaces of the container.
pub fn in_container(suite: &Suite, kind: &str) -> Outcome {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, kind, &["report"])?;
    bundle.actions(&["report"]);
    let program = bundle.see()?;
    let mut wanted = program.namespaces()?;
    // Before pivot_root cgroups might not have been dealt with yet, the document says.
    if kind == "createContainer" {
        wanted.remove("cgroup");
    }
    let said = hooks::log(&bundle)?;
    check!(!said.lines.is_empty(), "the {kind} hook was not run");
    same(&format!("a {kind} hook"), &said.namespaces()?, &wanted)
}

/// What a hook said, once `create` had returned.
fn said_by_create(suite: &Suite, kind: &str, actions: &[&str]) -> Outcome<Seen> {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, kind, actions)?;
    bundle.created()?;
    let said = hooks::log(&bundle)?;
    check!(!said.lines.is_empty(), "the {kind} hook was not run by create");
    Ok(said)
}

/// From outside: the container's namespaces exist, and its process still sees the host's root.
fn within_create(suite: &Suite, kind: &str) -> Outcome {
    let said = said_by_create(suite, kind, &["stdin", "container", "say:end"])?;
    said.of("say:end")?;
    let container = said.of("container")?;
    let theirs = namespaces(&container["ns"]);
    let own = own_namespaces()?;
    for name in ["mnt", "net", "pid", "uts", "ipc"] {
        let (Some(theirs), Some(own)) = (theirs.get(name), own.get(name)) else {
            fail!("a {kind} hook finds no process with the pid in the state");
        };
        check!(theirs != own, "when the {kind} hooks are called the container has no {name} namespace yet");
    }
    check!(container["its_root_has_the_bundle"] == true, "when the {kind} hooks are called the root has been pivoted");
    Ok(())
}

/// From inside: in its mount namespace the bundle on the host is still to be seen.
fn before_pivot(suite: &Suite) -> Outcome {
    let said = said_by_create(suite, "createContainer", &["stdin", "container", "report", "say:end"])?;
    said.of("say:end")?;
    check!(said.namespaces()?.get("mnt") != own_namespaces()?.get("mnt"), "no mount namespace has been made");
    let container = said.of("container")?;
    check!(container["my_root_has_the_bundle"] == true, "the root has been pivoted already");
    Ok(())
}

/// Hooks of one kind, called before those of another.
fn in_turn(suite: &Suite, first: &str, second: &str) -> Outcome {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, second, &[])?;
    hooks::add(&mut bundle, first, &["sleep:50"])?;
    bundle.see()?;
    let spoken = hooks::spoken(&bundle)?;
    check!(spoken == [first, second], "the hooks called were, in this order, {spoken:?}");
    Ok(())
}

fn before_program(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, "startContainer", &["sleep:100", "say:done"])?;
    bundle.actions(&["to:/out/log", "say:program"]);
    bundle.created()?;
    check!(hooks::spoken(&bundle)?.is_empty(), "the startContainer hooks are called by create");
    bundle.started()?;
    bundle.wait()?;
    let spoken = hooks::spoken(&bundle)?;
    check!(spoken == ["startContainer", "done", "program"], "hook and program spoke in this order: {spoken:?}");
    Ok(())
}

/// A startContainer hook holds the program up, so that who is first is no matter of luck.
fn after_program(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    hooks::add(&mut bundle, "startContainer", &["sleep:300"])?;
    hooks::add(&mut bundle, "poststart", &["stdin", "container", "sleep:100", "say:end"])?;
    bundle.actions(&["say:up", "wait"]);
    bundle.created()?;
    check!(hooks::spoken(&bundle)?.is_empty(), "the poststart hooks are called by create");
    bundle.started()?;
    let said = hooks::log(&bundle)?;
    check!(said.of("say:end").is_ok(), "start returned before the poststart hooks had ended");
    let cmdline = said.of("container")?["cmdline"].as_str().unwrap_or_default();
    let program = cmdline.split(' ').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    check!(cmdline.contains("say:up"), "the poststart hooks were called while the container process still was {program:?}");
    Ok(())
}

fn after_deletion(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    let look = format!("stat:{}", bundle.cgroup().display());
    hooks::add(&mut bundle, "poststop", &[&look, "sleep:100", "say:end"])?;
    bundle.created()?;
    check!(bundle.cgroup().exists(), "no cgroup after create");
    bundle.started()?;
    bundle.wait()?;
    check!(hooks::spoken(&bundle)?.is_empty(), "the poststop hooks are called before delete");
    bundle.deleted()?;
    let said = hooks::log(&bundle)?;
    check!(said.of("say:end").is_ok(), "delete returned before the poststop hooks had ended");
    check!(said.errno(&look)? != 0, "when the poststop hooks are called the cgroup still exists");
    Ok(())
}
