// SPDX-License-Identifier: Apache-2.0
//! Which functions of a runtime its commands run, by a program that goes through them step by step (step.c): for `hack/hot-functions`.

use std::time::{Duration, Instant};

use crate::bundle::Bundles;
use crate::measure::{Outcome, Runtime, pid_in, reap};

/// How long a command may take under the tracer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Writes `functions-COMMAND` for each of the common commands, below the folder of the bundles.
pub fn functions(runtime: &Runtime, bundles: &Bundles) -> Outcome<bool> {
    let (step, pid_file) = (bundles.scratch("bin/step"), bundles.scratch("pid"));
    let (step, file) = (step.to_string_lossy(), pid_file.to_string_lossy());
    let (short, long) = (bundles.path("true"), bundles.path("pause"));
    let traced = |arguments: &[&str]| {
        let out = bundles.scratch(&format!("functions-{}", arguments[0]));
        runtime.command(&[&step, &out.to_string_lossy()], arguments)
    };
    let run = |arguments: &[&str]| -> Outcome {
        match traced(arguments).status()?.success() {
            true => Ok(()),
            false => Err(format!("{} fails step by step", arguments.join(" ")).into()),
        }
    };
    run(&["run", "--bundle", &short, "traced"])?;
    // The tracer of create goes on with the container's process until that ends.
    let mut create = traced(&["create", "--bundle", &long, "--pid-file", &file, "traced"]).spawn()?;
    let begun = Instant::now();
    while !runtime.command(&[], &["start", "traced"]).status()?.success() {
        if begun.elapsed() > PATIENCE {
            return Err("create does not end".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    run(&["state", "traced"])?;
    run(&["list"])?;
    run(&["exec", "traced", "/bin/true"])?;
    run(&["kill", "traced", "KILL"])?;
    create.wait()?;
    reap(pid_in(&pid_file)?);
    run(&["delete", "traced"])?;
    let plain = |arguments: &[&str]| runtime.command(&[], arguments).status();
    plain(&["create", "--bundle", &long, "--pid-file", &file, "traced"])?;
    run(&["start", "traced"])?;
    plain(&["kill", "traced", "KILL"])?;
    reap(pid_in(&pid_file)?);
    plain(&["delete", "traced"])?;
    Ok(true)
}
