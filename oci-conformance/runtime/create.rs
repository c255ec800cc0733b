// SPDX-License-Identifier: Apache-2.0
//! runtime.md, Query State and Create.
use crate::entry::Level::{Must, MustNot};
use crate::entry::{Outcome, Section, check, fail, tested};
use crate::seen::mounts;
use crate::standin::{Break, start_too};
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

pub const QUERY_STATE: Section = Section {
    name: "runtime.md#query-state",
    entries: &[
        tested("1", Must, "if it is not provided the ID of a container", state_of_none, Break::Hide("state")),
        tested("2", Must, "Attempting to query a container that does not exist", state_of_missing, Break::Hide("state")),
        tested(
            "3",
            Must,
            "MUST return the state of a container as specified",
            state_is_whole,
            Break::Output("state", |state| drop(state.as_object_mut().map(|state| state.remove("bundle")))),
        ),
    ],
};

pub const CREATE: Section = Section {
    name: "runtime.md#create",
    entries: &[
        tested(
            "1",
            Must,
            "if it is not provided a path to the bundle and the container ID",
            create_lacking,
            Break::Hide("create"),
        ),
        tested("2", Must, "If the ID provided is not unique", bad_ids, Break::Hide("create")),
        tested("3", Must, "This operation MUST create a new container", creates, Break::Ignore("create")),
        tested(
            "4",
            Must,
            "except for process MUST be applied",
            applied_by_create,
            Break::Config(|config| drop(config.as_object_mut().map(|config| config.remove("hostname")))),
        ),
        tested(
            "5",
            MustNot,
            "process.args MUST NOT be applied until triggered by the start operation",
            args_wait,
            Break::After("create", start_too),
        ),
        tested(
            "6",
            Must,
            "If the runtime cannot apply a property",
            inapplicable,
            Break::Config(|config| config["linux"]["sysctl"] = json!({})),
        ),
    ],
};

fn state_of_none(suite: &Suite) -> Outcome {
    check!(!suite.runtime(&["state"])?.ok(), "no error");
    Ok(())
}

fn state_of_missing(suite: &Suite) -> Outcome {
    check!(!suite.runtime(&["state", "conformance-no-such"])?.ok(), "no error");
    Ok(())
}

/// Every property that runtime.md#state requires, with the value it must have.
fn state_is_whole(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    let annotations = json!({ "com.example.key": "value", "com.example.empty": "" });
    bundle.config["annotations"] = annotations.clone();
    bundle.created()?;
    let state = bundle.state()?;
    check!(state["ociVersion"].is_string(), "no ociVersion in {state}");
    check!(state["id"] == bundle.id.as_str(), "the id is {}", state["id"]);
    check!(state["status"] == "created", "the status is {}", state["status"]);
    check!(state["pid"] == bundle.pid()?.as_raw(), "the pid is {}, that of --pid-file {}", state["pid"], bundle.pid()?);
    let path = bundle.dir.to_string_lossy();
    check!(state["bundle"] == path.as_ref(), "the bundle is {}, not {path}", state["bundle"]);
    check!(state["annotations"] == annotations, "the annotations are {}", state["annotations"]);
    Ok(())
}

fn create_lacking(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.write()?;
    let path = bundle.dir.to_string_lossy().into_owned();
    check!(!suite.runtime(&["create", "--bundle", &path])?.ok(), "no error without an id");
    // On a command line the bundle may be the working directory, if nothing else is said: so that is none here.
    let empty = bundle.dir.join("empty");
    fs::create_dir(&empty)?;
    let empty = empty.to_string_lossy().into_owned();
    let command = suite.command(&["env", "-C", &empty], &["create", &bundle.id]);
    check!(!suite.run(command, &suite.dir.join("printed"))?.ok(), "no error without a bundle");
    check!(bundle.status()?.is_none(), "a container was created without a bundle");
    Ok(())
}

fn bad_ids(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.created()?;
    let before = bundle.state()?;
    check!(!bundle.create()?.ok(), "no error for an id that is taken");
    check!(bundle.state()? == before, "the container that had the id was changed");
    let path = bundle.dir.to_string_lossy().into_owned();
    for id in ["", "..", "../conformance", "a/b"] {
        let create = suite.runtime(&["create", "--bundle", &path, id])?;
        if create.ok() {
            suite.runtime(&["delete", "--force", id])?;
            fail!("no error for the id {id:?}");
        }
    }
    Ok(())
}

fn creates(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.created()?;
    check!(bundle.status()?.as_deref() == Some("created"), "its status is {:?}", bundle.status()?);
    check!(bundle.proc("exe")?.exists() || bundle.proc("stat")?.exists(), "there is no container process");
    Ok(())
}

/// Properties of all kinds, seen from outside in the created container.
fn applied_by_create(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["linux"]["sysctl"] = json!({ "kernel.shm_rmid_forced": "1" });
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/conformance", "type": "c", "major": 1, "minor": 3, "fileMode": 438 }]);
    bundle.created()?;
    let pid = bundle.pid()?.to_string();
    let within = |flag: &str, path: &str| suite.tool("nsenter", &["--target", &pid, flag, "cat", path]);
    let hostname = within("--uts", "/proc/sys/kernel/hostname")?;
    check!(hostname.trim() == "conformance", "after create the hostname is {hostname:?}");
    let sysctl = within("--ipc", "/proc/sys/kernel/shm_rmid_forced")?;
    check!(sysctl.trim() == "1", "after create the sysctl is {sysctl:?}");
    let mounts = mounts(&fs::read_to_string(bundle.proc("mountinfo")?)?);
    let readonly = mounts.iter().any(|mount| mount.target == "/" && mount.has("ro"));
    check!(readonly, "after create the root file system is not read-only");
    check!(mounts.iter().any(|mount| mount.target == "/dev/shm"), "after create /dev/shm is not mounted");
    check!(bundle.proc("root/dev/conformance")?.exists(), "after create the device is not there");
    Ok(())
}

fn args_wait(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.created()?;
    std::thread::sleep(Duration::from_millis(300));
    check!(!bundle.has_run()?, "the program ran before start");
    let cmdline = fs::read_to_string(bundle.proc("cmdline")?)?;
    check!(!cmdline.starts_with("/probe"), "the program was executed before start");
    bundle.started()?;
    bundle.wait_for("report")
}

fn inapplicable(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    let sysctl: Value = json!({ "net.ipv4.conformance_no_such": "1" });
    bundle.config["linux"]["sysctl"] = sysctl;
    check!(!bundle.create()?.ok(), "no error for a sysctl that does not exist");
    check!(bundle.status()?.is_none(), "the container exists after the failed create");
    Ok(())
}
