// SPDX-License-Identifier: Apache-2.0
//! runtime.md, Kill and Delete.
use crate::entry::Level::{Must, MustNot};
use crate::entry::{Outcome, Section, check, fail, tested};
use crate::standin::Break;
use crate::suite::Suite;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde_json::json;
use std::fs;

pub const KILL: Section = Section {
    name: "runtime.md#kill",
    entries: &[
        tested("1", Must, "if it is not provided the container ID", kill_none, Break::Hide("kill")),
        tested("2", Must, "neither created nor running MUST have no effect", kill_others, Break::Hide("kill")),
        tested(
            "3",
            Must,
            "MUST send the specified signal",
            the_signal,
            Break::Instead("kill", |call| call.also(&["kill", call.id(), "KILL"])),
        ),
    ],
};

pub const DELETE: Section = Section {
    name: "runtime.md#delete",
    entries: &[
        tested("1", Must, "if it is not provided the container ID", delete_none, Break::Hide("delete")),
        tested(
            "2",
            Must,
            "Attempting to delete a container that is not stopped",
            delete_others,
            Break::Instead("delete", |call| call.also(&["delete", "--force", call.id()])),
        ),
        tested("3", Must, "MUST delete the resources that were created", deletes_its_own, Break::Ignore("delete")),
        tested(
            "4",
            MustNot,
            "not created by this container, MUST NOT be deleted",
            leaves_the_rest,
            Break::After("delete", |call| drop(fs::remove_dir_all(call.home().join("volume")))),
        ),
    ],
};

fn kill_none(suite: &Suite) -> Outcome {
    check!(!suite.runtime(&["kill"])?.ok(), "no error");
    Ok(())
}

fn kill_others(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    check!(!bundle.kill("TERM")?.ok(), "no error for a container that does not exist");
    bundle.created()?;
    bundle.started()?;
    bundle.wait()?;
    let before = bundle.state()?;
    check!(!bundle.kill("TERM")?.ok(), "no error for a stopped container");
    check!(bundle.state()? == before, "kill changed a stopped container");
    Ok(())
}

/// In the suite's own pid namespace: the first process of another one would not die of a signal it does not handle.
fn the_signal(suite: &Suite) -> Outcome {
    for (name, signal) in [("TERM", Signal::SIGTERM), ("USR1", Signal::SIGUSR1), ("9", Signal::SIGKILL)] {
        let mut bundle = suite.bundle()?;
        bundle.actions(&["say:up", "wait"]);
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
        namespaces.into_iter().for_each(|all| all.retain(|namespace| namespace["type"] != "pid"));
        bundle.created()?;
        bundle.started()?;
        bundle.wait_for("say:up")?;
        let kill = bundle.kill(name)?;
        check!(kill.ok(), "kill {name} failed: {}", kill.complaint());
        match bundle.wait()? {
            Some(WaitStatus::Signaled(_, died, _)) if died == signal => {}
            other => fail!("after kill {name} the container process ended so: {other:?}"),
        }
    }
    Ok(())
}

fn delete_none(suite: &Suite) -> Outcome {
    check!(!suite.runtime(&["delete"])?.ok(), "no error");
    Ok(())
}

fn delete_others(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    check!(!bundle.delete()?.ok(), "no error for a container that does not exist");
    bundle.actions(&["say:up", "wait"]);
    let mut wrong = Vec::new();
    bundle.created()?;
    if bundle.delete()?.ok() {
        wrong.push("a created container is deleted");
        bundle.created()?;
    }
    bundle.started()?;
    bundle.wait_for("say:up")?;
    let before = bundle.state()?;
    if bundle.delete()?.ok() {
        wrong.push("a running container is deleted");
    } else if bundle.state()? != before {
        wrong.push("a running container is changed");
    }
    check!(wrong.is_empty(), "no error: {}", wrong.join("; "));
    Ok(())
}

fn deletes_its_own(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    bundle.created()?;
    check!(bundle.cgroup().exists(), "no cgroup after create");
    bundle.started()?;
    bundle.wait()?;
    bundle.deleted()?;
    check!(!bundle.cgroup().exists(), "its cgroup exists after delete");
    check!(bundle.status()?.is_none(), "its state is known after delete");
    let left = fs::read_dir(suite.dir.join("state"))?.flatten().find(|entry| entry.file_name() == bundle.id.as_str());
    check!(left.is_none(), "its folder {left:?} exists after delete");
    Ok(())
}

/// The bundle, a volume, and a network namespace that was there before.
fn leaves_the_rest(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    let volume = bundle.folder_with("volume", "file")?;
    bundle.config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/m", "source": volume, "options": ["rbind"] },
    ]);
    let netns = bundle.dir.join("netns").to_string_lossy().into_owned();
    fs::write(&netns, "")?;
    suite.tool("unshare", &[&format!("--net={netns}"), "true"])?;
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        if namespace["type"] == "network" {
            namespace["path"] = json!(netns);
        }
    }
    let result = bundle.see().and_then(|_| {
        check!(bundle.dir.join("volume/file").exists(), "the file of the volume is gone");
        check!(bundle.rootfs("probe").exists(), "the root file system is gone");
        check!(bundle.dir.join("config.json").exists(), "config.json is gone");
        suite.tool("nsenter", &[&format!("--net={netns}"), "true"]).map(drop)
    });
    suite.tool("umount", &[&netns])?;
    result
}
