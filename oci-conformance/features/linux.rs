// SPDX-License-Identifier: Apache-2.0
//! features-linux.md: what the runtime says it recognizes, it must.
//!
//! Of some values the kernel here may not know what the runtime recognizes. Then the runtime may fail, but not with the
//! words that it has for a value nobody knows.
use super::structure::{add, names};
use crate::config::user_namespace;
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, skip, tested};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixListener;

/// A runtime that lists what does not exist.
macro_rules! lists {
    ($list:literal) => {
        Break::Output("features", |features| add(&mut features["linux"][$list], "CONFORMANCE"))
    };
    ($object:literal, $list:literal) => {
        Break::Output("features", |features| add(&mut features["linux"][$object][$list], "CONFORMANCE"))
    };
}

pub const NAMESPACES: Section = Section {
    name: "features-linux.md#namespaces",
    entries: &[tested(
        "1",
        Must,
        "MUST recognize the elements in this array as the type of linux.namespaces",
        namespaces,
        lists!("namespaces"),
    )],
};

pub const CAPABILITIES: Section = Section {
    name: "features-linux.md#capabilities",
    entries: &[tested(
        "1",
        Must,
        "MUST recognize the elements in this array in the process.capabilities",
        capabilities,
        lists!("capabilities"),
    )],
};

pub const SECCOMP: Section = Section {
    name: "features-linux.md#seccomp",
    entries: &[
        tested("1", Must, "syscalls[].action", |s| seccomp(s, "actions", rule_with_action), lists!("seccomp", "actions")),
        tested(
            "2",
            Must,
            "syscalls[].args[].op",
            |s| seccomp(s, "operators", rule_with_operator),
            lists!("seccomp", "operators"),
        ),
        tested("3", Must, "the architectures property", |s| seccomp(s, "archs", with_architecture), lists!("seccomp", "archs")),
        tested("4", Must, "the flags property", |s| seccomp(s, "knownFlags", with_flag), lists!("seccomp", "knownFlags")),
        tested("5", Must, "MUST recognize and support the elements", supported_flags, lists!("seccomp", "supportedFlags")),
    ],
};

pub const MEMORY_POLICY: Section = Section {
    name: "features-linux.md#memorypolicy",
    entries: &[
        tested("1", Must, "as the mode of linux.memoryPolicy", |s| policy(s, "modes"), lists!("memoryPolicy", "modes")),
        tested(
            "2",
            Must,
            "in the flags property of the linux.memoryPolicy",
            |s| policy(s, "flags"),
            lists!("memoryPolicy", "flags"),
        ),
    ],
};

pub const MOUNT_EXTENSIONS: Section = Section {
    name: "features-linux.md#mountextensions",
    entries: &[tested(
        "1",
        Must,
        "runtimes MUST still set this value to true",
        id_mapped_mounts,
        Break::Output("features", |features| features["linux"]["mountExtensions"]["idmap"]["enabled"] = json!(false)),
    )],
};

fn namespaces(suite: &Suite) -> Outcome {
    for kind in names(&suite.features()?, "/linux/namespaces")? {
        let mut bundle = suite.bundle()?;
        let known = bundle.config["linux"]["namespaces"].as_array_mut();
        if kind == "user" {
            user_namespace(&mut bundle.config);
        } else if let Some(all) = known
            && !all.iter().any(|namespace| namespace["type"] == kind.as_str())
        {
            all.push(json!({ "type": kind }));
        }
        let create = bundle.create()?;
        check!(create.ok(), "{kind} is listed but not accepted: {}", create.complaint());
    }
    Ok(())
}

/// The capabilities of Linux 5.9 and later, by number (capabilities(7)).
const CAPABILITY_NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT \
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE \
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// All that are listed and that the suite itself may hold are asked for, and must be in the bounding set.
fn capabilities(suite: &Suite) -> Outcome {
    let listed = names(&suite.features()?, "/linux/capabilities")?;
    let known: Vec<String> = CAPABILITY_NAMES.split_whitespace().map(|name| format!("CAP_{name}")).collect();
    let status = fs::read_to_string("/proc/self/status")?;
    let own = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap_or_default();
    let own = u64::from_str_radix(own.trim(), 16).unwrap_or_default();
    let mut numbers = Vec::new();
    for name in &listed {
        match known.iter().position(|known| known == name) {
            Some(number) if own & (1 << number) != 0 => numbers.push(number),
            Some(_) => {}
            None => return Err(crate::entry::Stop::Failed(format!("{name} is listed, but is no capability"))),
        }
    }
    let asked: Vec<&String> = numbers.iter().map(|number| &known[*number]).collect();
    let seen = suite.see(&["report"], |config| {
        config["process"]["capabilities"] = json!({ "bounding": asked, "permitted": asked, "effective": asked });
    })?;
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        let found = u64::from_str_radix(&seen.status(set)?, 16).unwrap_or_default();
        let missing: Vec<&String> =
            numbers.iter().filter(|number| found & (1 << **number) == 0).map(|number| &known[*number]).collect();
        check!(missing.is_empty(), "asked for and not in {set}: {missing:?}");
    }
    Ok(())
}

/// Whether the runtime takes a configuration, or else its words, with `value` in them made the same for all.
fn verdict(suite: &Suite, value: &str, change: impl FnOnce(&mut Value)) -> Outcome<Result<(), String>> {
    let mut bundle = suite.bundle()?;
    // For SCMP_ACT_NOTIFY.
    let _listener = UnixListener::bind(bundle.dir.join("agent"))?;
    change(&mut bundle.config);
    let seccomp = &mut bundle.config["linux"]["seccomp"];
    if seccomp.to_string().contains("SCMP_ACT_NOTIFY") {
        seccomp["listenerPath"] = json!(bundle.dir.join("agent"));
    }
    let create = bundle.create()?;
    if create.ok() {
        return Ok(Ok(()));
    }
    // Without the id, which differs each time, and the value itself.
    Ok(Err(create.complaint().replace(value, "VALUE").replace(&bundle.id, "ID")))
}

/// Every listed value must be taken, or refused otherwise than one that nobody knows.
fn recognized(suite: &Suite, listed: &[String], unknown: &str, change: fn(&mut Value, &str)) -> Outcome {
    let stranger = match verdict(suite, unknown, |config| change(config, unknown))? {
        Ok(()) => skip!("the runtime takes even {unknown}, so that nothing shows what it recognizes"),
        Err(words) => words,
    };
    for value in listed {
        if let Err(words) = verdict(suite, value, |config| change(config, value))? {
            check!(words != stranger, "{value} is listed, but refused as {unknown} is: {words}");
        }
    }
    Ok(())
}

/// A filter that matches a system call the probe never makes.
fn filter(config: &mut Value, action: &str) {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": action }],
    });
}

fn rule_with_action(config: &mut Value, action: &str) {
    filter(config, action);
    if action == "SCMP_ACT_ALLOW" {
        config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_LOG");
    }
}

fn rule_with_operator(config: &mut Value, operator: &str) {
    filter(config, "SCMP_ACT_ERRNO");
    config["linux"]["seccomp"]["syscalls"][0]["args"] = json!([{ "index": 1, "value": 7, "valueTwo": 7, "op": operator }]);
}

fn with_architecture(config: &mut Value, architecture: &str) {
    filter(config, "SCMP_ACT_ERRNO");
    config["linux"]["seccomp"]["architectures"] = json!([architecture]);
}

fn with_flag(config: &mut Value, flag: &str) {
    // One flag is for filters with an agent only; a filter with one takes the others, too.
    filter(config, "SCMP_ACT_NOTIFY");
    config["linux"]["seccomp"]["flags"] = json!([flag]);
}

fn seccomp(suite: &Suite, list: &str, change: fn(&mut Value, &str)) -> Outcome {
    let listed = names(&suite.features()?, &format!("/linux/seccomp/{list}"))?;
    let unknown = match list {
        "actions" => "SCMP_ACT_CONFORMANC",
        "operators" => "SCMP_CMP_CONFORMANC",
        "archs" => "SCMP_ARCH_CONFORMANC",
        _ => "SECCOMP_FILTER_FLAG_CONFORMANC",
    };
    recognized(suite, &listed, unknown, change)
}

fn supported_flags(suite: &Suite) -> Outcome {
    for flag in names(&suite.features()?, "/linux/seccomp/supportedFlags")? {
        if let Err(words) = verdict(suite, &flag, |config| with_flag(config, &flag))? {
            // TSYNC and a listener exclude each other, unless the kernel is asked otherwise (seccomp(2)).
            let alone = verdict(suite, &flag, |config| {
                filter(config, "SCMP_ACT_ERRNO");
                config["linux"]["seccomp"]["flags"] = json!([flag]);
            })?;
            check!(alone.is_ok(), "{flag} is listed as supported, but not accepted: {words}");
        }
    }
    Ok(())
}

fn policy(suite: &Suite, list: &str) -> Outcome {
    let listed = names(&suite.features()?, &format!("/linux/memoryPolicy/{list}"))?;
    match list {
        "modes" => recognized(suite, &listed, "MPOL_CONFORMANC", |config, mode| {
            config["linux"]["memoryPolicy"] = match mode {
                "MPOL_DEFAULT" | "MPOL_LOCAL" => json!({ "mode": mode }),
                _ => json!({ "mode": mode, "nodes": "0" }),
            };
        }),
        _ => recognized(suite, &listed, "MPOL_F_CONFORMANC", |config, flag| {
            config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] });
        }),
    }
}

fn id_mapped_mounts(suite: &Suite) -> Outcome {
    let features = suite.features()?;
    let mut bundle = suite.bundle()?;
    let volume = bundle.folder_with("volume", "file")?;
    crate::config::mount(&mut bundle.config, "/m", "none", &volume, &["bind", "idmap"]);
    let last = bundle.config["mounts"].as_array().map_or(0, |mounts| mounts.len() - 1);
    for name in ["uidMappings", "gidMappings"] {
        bundle.config["mounts"][last][name] = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    }
    bundle.actions(&["stat:/m"]);
    let mapped = bundle.see().is_ok_and(|seen| seen.of("stat:/m").is_ok_and(|found| found["uid"] == 1000));
    if !mapped {
        skip!("the runtime makes no id-mapped mounts");
    }
    let enabled = &features["linux"]["mountExtensions"]["idmap"]["enabled"];
    check!(*enabled == true, "id-mapped mounts work, but mountExtensions.idmap.enabled is {enabled}");
    Ok(())
}
