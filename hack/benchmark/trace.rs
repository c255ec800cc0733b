// SPDX-License-Identifier: Apache-2.0
//! Which code of a runtime its commands run, told by a tracer: step.c goes through them step by step, for `hack/hot-functions`; count.c
//! counts, for `hack/profile`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::Bundles;
use crate::measure::{Outcome, Runtime, pid_in, reap};

/// How long a command may take under the tracer.
const PATIENCE: Duration = Duration::from_secs(600);

/// One way in which commands are given: the words before each, and what its container is called and made from.
struct Caller {
    name: &'static str,
    words: Vec<String>,
    id: String,
    bundle: &'static str,
    short: &'static str,
    long: &'static str,
    exec: Vec<String>,
}

/// Has the tracer `bin/tracer` write `functions-CALLER-COMMAND` for each of the common commands, below the folder of the bundles: as
/// engines give them, and as somebody does by hand. What only one of them needs lies apart from what runs otherwise.
pub fn functions(runtime: &Runtime, bundles: &Bundles) -> Outcome<bool> {
    by_hand(bundles, "true-by-hand")?;
    by_hand(bundles, "pause-by-hand")?;
    bundles.write("true-by-podman", by_podman)?;
    bundles.write("pause-by-podman", by_podman)?;
    let process = bundles.scratch("process.json");
    let mut wanted = bundles.config()["process"].clone();
    wanted["args"] = json!(["/bin/true"]);
    fs::write(&process, serde_json::to_vec(&wanted)?)?;
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let engine = Caller {
        name: "engine",
        words: vec!["--log".into(), text(bundles.scratch("log.json")), "--log-format".into(), "json".into()],
        id: format!("{:064x}", 7),
        bundle: "--bundle",
        short: "true",
        long: "pause",
        exec: vec!["--process".into(), text(process), "--pid-file".into(), text(bundles.scratch("exec-pid"))],
    };
    let hand = Caller {
        name: "hand",
        words: Vec::new(),
        id: "traced".into(),
        bundle: "-b",
        short: "true-by-hand",
        long: "pause-by-hand",
        exec: Vec::new(),
    };
    let podman = Caller {
        name: "podman",
        words: Vec::new(),
        id: format!("{:064x}", 8),
        bundle: "--bundle",
        short: "true-by-podman",
        long: "pause-by-podman",
        exec: engine.exec.clone(),
    };
    commands(runtime, bundles, &engine)?;
    commands(runtime, bundles, &hand)?;
    commands(runtime, bundles, &podman)?;
    Ok(true)
}

/// What Podman asks for and Docker does not.
fn by_podman(config: &mut Value) {
    config["annotations"] = json!({ "io.container.manager": "libpod", "org.opencontainers.image.stopSignal": "15" });
    config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048 },
        { "type": "RLIMIT_NPROC", "soft": 2048, "hard": 4096 },
    ]);
    let Some(mounts) = config["mounts"].as_array_mut() else { return };
    for mount in mounts {
        if mount["destination"] == "/dev/shm" {
            *mount = json!({ "destination": "/dev/shm", "type": "bind", "source": "/dev/shm",
                "options": ["bind", "rprivate", "nosuid", "noexec", "nodev"] });
        }
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"]);
        }
    }
}

/// A configuration as a person writes it: with blanks, another user, and limits.
fn by_hand(bundles: &Bundles, name: &str) -> Outcome {
    let mut text = Vec::new();
    bundles.write(name, |config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "umask": 18, "additionalGids": [5, 10] });
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 256, "hard": 256 }]);
        config["process"]["noNewPrivileges"] = json!(true);
        config["root"]["readonly"] = json!(true);
        text = serde_json::to_vec_pretty(config).unwrap_or_default();
    })?;
    Ok(fs::write(Path::new(&bundles.path(name)).join("config.json"), text)?)
}

fn commands(runtime: &Runtime, bundles: &Bundles, caller: &Caller) -> Outcome {
    let (tracer, pid_file) = (bundles.scratch("bin/tracer"), bundles.scratch("pid"));
    let (tracer, file) = (tracer.to_string_lossy(), pid_file.to_string_lossy());
    let (short, long, id) = (bundles.path(caller.short), bundles.path(caller.long), caller.id.as_str());
    let given = |arguments: &[&str]| -> Vec<String> {
        caller.words.iter().cloned().chain(arguments.iter().map(|word| word.to_string())).collect()
    };
    let command = |prefix: &[&str], arguments: &[&str]| {
        let words = given(arguments);
        runtime.command(prefix, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let traced = |arguments: &[&str]| {
        let out = bundles.scratch(&format!("functions-{}-{}", caller.name, arguments[0]));
        command(&[&tracer, &out.to_string_lossy()], arguments)
    };
    let run = |arguments: &[&str]| -> Outcome {
        match traced(arguments).status()?.success() {
            true => Ok(()),
            false => Err(format!("{} fails under the tracer", arguments.join(" ")).into()),
        }
    };
    run(&["run", caller.bundle, &short, id])?;
    // The tracer of create goes on with the container's process until that ends.
    let mut create = traced(&["create", caller.bundle, &long, "--pid-file", &file, id]).spawn()?;
    let begun = Instant::now();
    while !command(&[], &["start", id]).status()?.success() {
        if begun.elapsed() > PATIENCE {
            return Err("create does not end".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    run(&["state", id])?;
    run(&["list"])?;
    let mut exec: Vec<&str> = ["exec"].into_iter().chain(caller.exec.iter().map(String::as_str)).chain([id]).collect();
    if caller.exec.is_empty() {
        exec.push("/bin/true");
    }
    run(&exec)?;
    run(&["kill", id, "KILL"])?;
    create.wait()?;
    reap(pid_in(&pid_file)?);
    run(&["delete", id])?;
    let plain = |arguments: &[&str]| command(&[], arguments).status();
    plain(&["create", caller.bundle, &long, "--pid-file", &file, id])?;
    run(&["start", id])?;
    plain(&["kill", id, "KILL"])?;
    reap(pid_in(&pid_file)?);
    plain(&["delete", id])?;
    Ok(())
}
