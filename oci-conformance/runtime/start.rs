// SPDX-License-Identifier: Apache-2.0
//! runtime.md, Start.
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, skip, tested};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::json;

pub const START: Section = Section {
    name: "runtime.md#start",
    entries: &[
        tested("1", Must, "if it is not provided the container ID", of_none, Break::Hide("start")),
        tested("2", Must, "Attempting to start a container that is not created", of_others, Break::Hide("start")),
        tested(
            "3",
            Must,
            "MUST run the user-specified program",
            runs_the_program,
            Break::Config(|config| config["process"]["env"] = json!(["OTHER=1"])),
        ),
        tested("4", Must, "MUST generate an error if process was not set", without_process, Break::Hide("start")),
    ],
};

fn of_none(suite: &Suite) -> Outcome {
    check!(!suite.runtime(&["start"])?.ok(), "no error");
    Ok(())
}

/// Running, stopped, and not there at all.
fn of_others(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    check!(!bundle.start()?.ok(), "no error for a container that does not exist");
    bundle.actions(&["say:up", "wait"]);
    bundle.created()?;
    bundle.started()?;
    bundle.wait_for("say:up")?;
    let before = bundle.state()?;
    check!(!bundle.start()?.ok(), "no error for a running container");
    check!(bundle.state()? == before, "start changed a running container");
    bundle.kill("KILL")?;
    bundle.wait()?;
    check!(!bundle.start()?.ok(), "no error for a stopped container");
    check!(bundle.status()?.as_deref() == Some("stopped"), "start changed a stopped container");
    check!(bundle.seen()?.lines.len() == 1, "the program was run again");
    Ok(())
}

fn runs_the_program(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report"], |config| {
        config["process"]["env"] = json!(["PATH=/bin", "CONFORMANCE=yes"]);
        config["process"]["cwd"] = json!("/tmp");
    })?;
    let report = seen.report()?;
    check!(report["args"] == json!(["/probe", "report"]), "its arguments were {}", report["args"]);
    check!(report["cwd"] == "/tmp", "its working directory was {}", report["cwd"]);
    let env = report["env"].as_array().cloned().unwrap_or_default();
    check!(env.contains(&json!("CONFORMANCE=yes")), "its environment was {env:?}");
    Ok(())
}

fn without_process(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.config.as_object_mut().map(|config| config.remove("process"));
    let create = bundle.create()?;
    if !create.ok() {
        skip!("create refuses a configuration without process already, so there is nothing to start: {}", create.complaint());
    }
    check!(!bundle.start()?.ok(), "no error");
    Ok(())
}
