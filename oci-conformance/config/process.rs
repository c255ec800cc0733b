// SPDX-License-Identifier: Apache-2.0
//! config.md, Process, POSIX process and Linux Process.
use crate::entry::Level::{Must, MustNot, ShouldNot};
use crate::entry::{Outcome, Section, check, skip, tested, untestable};
use crate::seen::Seen;
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;

pub const PROCESS: Section = Section {
    name: "config.md#process",
    entries: &[
        tested(
            "1",
            Must,
            "Runtimes MUST ignore consoleSize",
            console_size,
            Break::DenyIf(|config| config["process"]["consoleSize"].is_object()),
        ),
        tested(
            "2",
            Must,
            "This value MUST be an absolute path",
            cwd,
            Break::Config(|config| config["process"]["cwd"] = json!("/tmp")),
        ),
    ],
};

pub const POSIX_PROCESS: Section = Section {
    name: "config.md#posix-process",
    entries: &[
        tested("1", Must, "for any values which cannot be mapped to a relevant kernel interface", unknown_limit, NO_LIMITS),
        tested("2", Must, "a getrlimit(3) on type MUST succeed", every_limit, NO_LIMITS),
        tested("3", Must, "rlim.rlim_cur MUST match the configured value", soft_limit, NO_LIMITS),
        tested("4", Must, "rlim.rlim_max MUST match the configured value", hard_limit, NO_LIMITS),
        tested("5", Must, "If rlimits contains duplicated entries", duplicated_limit, NO_LIMITS),
    ],
};

const NO_LIMITS: Break = Break::Config(|config| config["process"]["rlimits"] = json!([]));

pub const LINUX_PROCESS: Section = Section {
    name: "config.md#linux-process",
    entries: &[
        untestable(
            "1",
            Must,
            "cannot be granted otherwise MUST be logged as a warning",
            "how a warning is shown, and whether at all, is left open (runtime.md#warnings); that the runtime goes on is runtime.md#warnings.1",
        ),
        tested(
            "2",
            ShouldNot,
            "Runtimes SHOULD NOT fail if the container configuration requests capabilities that cannot be granted",
            ungrantable,
            Break::DenyIf(|config| config["process"]["capabilities"].to_string().contains("CAP_SYS_TIME")),
        ),
        tested("3", Must, "If oomScoreAdj is set", score_set, Break::Config(forget_score)),
        tested(
            "4",
            MustNot,
            "If oomScoreAdj is not set",
            score_unset,
            Break::Config(|config| config["process"]["oomScoreAdj"] = json!(5)),
        ),
        tested(
            "5",
            ShouldNot,
            "If omitted or empty, runtime SHOULD NOT change process' CPU affinity",
            affinity,
            Break::File("--process", |process| process["execCPUAffinity"]["final"] = json!("0")),
        ),
    ],
};

fn forget_score(config: &mut Value) {
    config["process"].as_object_mut().map(|process| process.remove("oomScoreAdj"));
}

fn console_size(suite: &Suite) -> Outcome {
    for terminal in [None, Some(false)] {
        suite.see(&["report"], |config| {
            config["process"]["consoleSize"] = json!({ "height": 17, "width": 71 });
            if let Some(terminal) = terminal {
                config["process"]["terminal"] = json!(terminal);
            }
        })?;
    }
    Ok(())
}

fn cwd(suite: &Suite) -> Outcome {
    suite.refuses(|config| config["process"]["cwd"] = json!("tmp"))
}

fn limits(config: &mut Value, limits: &[(&str, u64, u64)]) {
    let limits = limits.iter().map(|(name, soft, hard)| json!({ "type": name, "soft": soft, "hard": hard }));
    config["process"]["rlimits"] = limits.collect();
}

fn unknown_limit(suite: &Suite) -> Outcome {
    suite.refuses(|config| limits(config, &[("RLIMIT_CONFORMANCE", 1, 1)]))
}

fn duplicated_limit(suite: &Suite) -> Outcome {
    suite.refuses(|config| limits(config, &[("RLIMIT_NOFILE", 64, 64), ("RLIMIT_CORE", 1, 1), ("RLIMIT_NOFILE", 32, 32)]))
}

/// Every limit of getrlimit(2) with its name in /proc/self/limits and a value below what the suite itself has.
const LIMITS: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1 << 33, 1 << 34),
    ("RLIMIT_CORE", "Max core file size", 0, 0),
    ("RLIMIT_CPU", "Max cpu time", 1001, 1002),
    ("RLIMIT_DATA", "Max data size", 1 << 31, 1 << 32),
    ("RLIMIT_FSIZE", "Max file size", 1 << 28, 1 << 29),
    ("RLIMIT_LOCKS", "Max file locks", 1003, 1004),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 5000, 6000),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_NOFILE", "Max open files", 65, 66),
    ("RLIMIT_NPROC", "Max processes", 1005, 1006),
    ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1007, 1008),
    ("RLIMIT_SIGPENDING", "Max pending signals", 1009, 1010),
    ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
];

fn limited(suite: &Suite) -> Outcome<Seen> {
    let all = LIMITS.map(|(name, _, soft, hard)| (name, soft, hard));
    suite.see(&["report"], |config| limits(config, &all))
}

fn compare(seen: &Seen, pick: fn(&(String, String)) -> &str, want: fn(&(&str, &str, u64, u64)) -> u64) -> Outcome {
    for limit in &LIMITS {
        let found = seen.limit(limit.1)?;
        let want = want(limit);
        check!(pick(&found) == want.to_string(), "{} is {} in the container, not {want}", limit.0, pick(&found));
    }
    Ok(())
}

fn every_limit(suite: &Suite) -> Outcome {
    let seen = limited(suite)?;
    compare(&seen, |found| &found.0, |limit| limit.2)?;
    compare(&seen, |found| &found.1, |limit| limit.3)
}

fn soft_limit(suite: &Suite) -> Outcome {
    compare(&limited(suite)?, |found| &found.0, |limit| limit.2)
}

fn hard_limit(suite: &Suite) -> Outcome {
    compare(&limited(suite)?, |found| &found.1, |limit| limit.3)
}

/// One that the runtime itself is not given, and one that no kernel has.
fn ungrantable(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    for name in ["bounding", "effective", "permitted"] {
        let set = bundle.config["process"]["capabilities"][name].as_array_mut();
        set.into_iter().for_each(|set| set.extend([json!("CAP_SYS_TIME"), json!("CAP_CONFORMANCE")]));
    }
    bundle.under(&["setpriv", "--bounding-set=-sys_time"]);
    let seen = bundle.see()?;
    let effective = seen.status("CapEff")?;
    let effective = u64::from_str_radix(&effective, 16).unwrap_or_default();
    // CAP_CHOWN is 0.
    check!(effective & 1 == 1, "the capabilities that can be granted are not: {effective:#x}");
    Ok(())
}

fn score_set(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report"], |config| config["process"]["oomScoreAdj"] = json!(345))?;
    let score = seen.text("oom_score_adj")?.trim();
    check!(score == "345", "oom_score_adj is {score}, not 345");
    Ok(())
}

/// The runtime is given a value of its own, which the container's process must inherit.
fn score_unset(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.under(&["choom", "-n", "77", "--"]);
    let seen = bundle.see()?;
    let score = seen.text("oom_score_adj")?.trim();
    check!(score == "77", "oom_score_adj is {score}, but the runtime has 77");
    Ok(())
}

/// With `exec`, which no operation of the specification is, but which this property is for.
fn affinity(suite: &Suite) -> Outcome {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    if online.trim() == "0" {
        skip!("there is only one CPU here");
    }
    let mut bundle = suite.bundle()?;
    bundle.actions(&["say:up", "wait"]);
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/probe", "to:/out/log", "report"]);
    process["execCPUAffinity"] = json!({ "initial": "1" });
    let out = bundle.dir.join("exec");
    fs::create_dir(&out)?;
    super::mounts::mount(&mut bundle.config, "/out", "none", &out.to_string_lossy(), &["bind"]);
    bundle.created()?;
    bundle.started()?;
    bundle.wait_for("say:up")?;
    let file = bundle.dir.join("process.json");
    fs::write(&file, process.to_string())?;
    let file = file.to_string_lossy().into_owned();
    let command = suite.command(&["taskset", "-c", "1"], &["exec", "--process", &file, &bundle.id]);
    let exec = suite.run(command, &bundle.dir.join("verbs"))?;
    if !exec.ok() {
        skip!("exec --process fails: {}", exec.complaint());
    }
    let seen = Seen::parse(&fs::read_to_string(out.join("log"))?)?;
    let cpus = seen.status("Cpus_allowed_list")?;
    check!(cpus == "1", "the process executed from CPU 1 may run on {cpus}");
    Ok(())
}
