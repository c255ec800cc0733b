// SPDX-License-Identifier: Apache-2.0
//! features.md: what `features` prints, and whether it is so.
use crate::config::mount;
use crate::entry::Level::{Must, MustNot, Should, ShouldNot};
use crate::entry::{Outcome, Section, check, skip, tested, untestable};
use crate::hooks;
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;

pub const STRUCTURE: Section = Section {
    name: "features.md#features-structure",
    entries: &[
        tested(
            "1",
            Should,
            "SHOULD be determined on the compilation time",
            same_everywhere,
            Break::Output("features", |features| {
                features["linux"]["cgroup"]["v2"] = json!(fs::exists("/sys/fs/cgroup/cgroup.procs").unwrap_or(false));
            }),
        ),
        untestable("2", MustNot, "MUST NOT be confused with an empty value", "it binds whoever reads the structure"),
    ],
};

pub const VERSION: Section = Section {
    name: "features.md#specification-version",
    entries: &[
        tested("1", Must, "The runtime MUST accept this value", |s| accepts(s, "ociVersionMin"), REFUSES),
        tested("2", Must, "The runtime MUST accept this value", |s| accepts(s, "ociVersionMax"), REFUSES),
        tested(
            "3",
            MustNot,
            "MUST NOT be less than the value of the ociVersionMin",
            in_order,
            Break::Output("features", |features| features["ociVersionMax"] = json!("0.9.0")),
        ),
        tested(
            "4",
            MustNot,
            "MUST NOT contain properties that are not defined",
            only_defined,
            Break::Output("features", |features| features["linux"]["conformance"] = json!(true)),
        ),
    ],
};

const REFUSES: Break = Break::DenyIf(|config| config["ociVersion"] != "1.0.2");

pub const HOOKS: Section = Section {
    name: "features.md#hooks",
    entries: &[tested(
        "1",
        Must,
        "MUST support the elements in this array as the hooks property",
        hooks_are_run,
        Break::Output("features", |features| add(&mut features["hooks"], "conformance")),
    )],
};

pub const MOUNT_OPTIONS: Section = Section {
    name: "features.md#mount-options",
    entries: &[
        tested(
            "1",
            Must,
            "MUST recognize the elements in this array as the options of mounts",
            options_are_known,
            Break::Output("features", |features| add(&mut features["mountOptions"], "conformance")),
        ),
        tested(
            "2",
            ShouldNot,
            "SHOULD NOT contain filesystem-specific mount options",
            no_data,
            Break::Output("features", |features| add(&mut features["mountOptions"], "size")),
        ),
    ],
};

pub const ANNOTATIONS: Section = Section {
    name: "features.md#annotations",
    entries: &[tested(
        "1",
        Must,
        "Annotations MUST be a key-value map",
        annotations,
        Break::Output("features", |features| features["annotations"] = json!({ "com.example.key": 7 })),
    )],
};

/// For broken runtimes: one more name in a list.
pub fn add(list: &mut Value, name: &str) {
    match list.as_array_mut() {
        Some(names) => names.push(json!(name)),
        None => *list = json!([name]),
    }
}

/// The names in a list of the structure; skips if there is none.
pub fn names(features: &Value, pointer: &str) -> Outcome<Vec<String>> {
    let Some(list) = features.pointer(pointer).and_then(Value::as_array) else {
        skip!("the features structure has no {}", pointer.trim_start_matches('/').replace('/', "."));
    };
    Ok(list.iter().filter_map(|name| name.as_str().map(str::to_string)).collect())
}

/// In a place without cgroups, with almost no capabilities and no configuration of the system.
fn same_everywhere(suite: &Suite) -> Outcome {
    let here = suite.features()?;
    let hide = "for dir in /sys/fs/cgroup /sys/kernel /proc/sys /etc; do mount -t tmpfs none $dir 2>/dev/null; done; \
                exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let prefix = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", hide, "sh"];
    let ran = suite.run(suite.command(&prefix, &["features"]), &suite.dir.join("printed"))?;
    check!(ran.ok(), "features fails in a bare place: {}", ran.complaint());
    let there: Value = serde_json::from_str(&ran.stdout)?;
    check!(here == there, "features depends on the system: {}", difference(&here, &there));
    Ok(())
}

/// The first place where two structures differ.
fn difference(one: &Value, other: &Value) -> String {
    if let (Some(one), Some(other)) = (one.as_object(), other.as_object()) {
        let keys = one.keys().chain(other.keys()).find(|key| one.get(*key) != other.get(*key));
        return keys.map_or(String::new(), |key| {
            let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            format!("{key}: {}", difference(&of(one), &of(other)))
        });
    }
    format!("{one} here, {other} there")
}

fn accepts(suite: &Suite, name: &str) -> Outcome {
    let features = suite.features()?;
    let Some(version) = features[name].as_str() else {
        return Err(crate::entry::Stop::Failed(format!("the features structure has no {name}, which is required")));
    };
    suite.see(&["report"], |config| config["ociVersion"] = json!(version)).map(drop)
}

/// Major, minor, patch; whether it is a release; and its mark, if it is not.
fn semantic(version: &Value) -> (Vec<u64>, bool, String) {
    let text = version.as_str().unwrap_or_default().split('+').next().unwrap_or_default();
    let (core, mark) = text.split_once('-').unwrap_or((text, ""));
    (core.split('.').filter_map(|part| part.parse().ok()).collect(), mark.is_empty(), mark.to_string())
}

fn in_order(suite: &Suite) -> Outcome {
    let features = suite.features()?;
    let (min, max) = (&features["ociVersionMin"], &features["ociVersionMax"]);
    check!(semantic(max) >= semantic(min), "ociVersionMax is {max}, ociVersionMin {min}");
    Ok(())
}

/// All properties of features.md and features-linux.md; those of which an empty list is given may hold anything.
const DEFINED: [(&str, &[&str]); 11] = [
    (
        "",
        &[
            "ociVersionMin",
            "ociVersionMax",
            "hooks",
            "mountOptions",
            "linux",
            "annotations",
            "potentiallyUnsafeConfigAnnotations",
        ],
    ),
    (
        "/linux",
        &[
            "namespaces",
            "capabilities",
            "cgroup",
            "seccomp",
            "apparmor",
            "selinux",
            "intelRdt",
            "memoryPolicy",
            "mountExtensions",
            "netDevices",
        ],
    ),
    ("/linux/cgroup", &["v1", "v2", "systemd", "systemdUser", "rdma"]),
    ("/linux/seccomp", &["enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags"]),
    ("/linux/apparmor", &["enabled"]),
    ("/linux/selinux", &["enabled"]),
    ("/linux/intelRdt", &["enabled", "schemata", "monitoring"]),
    ("/linux/memoryPolicy", &["modes", "flags"]),
    ("/linux/mountExtensions", &["idmap"]),
    ("/linux/mountExtensions/idmap", &["enabled"]),
    ("/linux/netDevices", &["enabled"]),
];

fn only_defined(suite: &Suite) -> Outcome {
    let features = suite.features()?;
    for (pointer, defined) in DEFINED {
        for name in features.pointer(pointer).and_then(Value::as_object).into_iter().flat_map(|object| object.keys()) {
            check!(defined.contains(&name.as_str()), "{pointer}/{name} is not defined");
        }
    }
    Ok(())
}

/// A hook of each kind that is listed.
fn hooks_are_run(suite: &Suite) -> Outcome {
    for kind in names(&suite.features()?, "/hooks")? {
        hooks::is_run(suite, &kind)?;
    }
    Ok(())
}

/// Each on a mount for which it can mean something: tmpfs refuses what it is handed and does not know itself.
fn options_are_known(suite: &Suite) -> Outcome {
    let listed = names(&suite.features()?, "/mountOptions")?;
    let bound = |option: &str| {
        let propagation = ["shared", "slave", "private", "unbindable"];
        propagation.contains(&option.strip_prefix('r').unwrap_or(option)) || ["bind", "rbind"].contains(&option)
    };
    let mut unknown = Vec::new();
    for option in listed {
        let mut bundle = suite.bundle()?;
        let volume = bundle.folder_with("volume", "file")?;
        let mapped = ["idmap", "ridmap"].contains(&option.as_str());
        match option.as_str() {
            "remount" => {
                mount(&mut bundle.config, "/m", "tmpfs", "tmpfs", &[]);
                mount(&mut bundle.config, "/m", "tmpfs", "tmpfs", &["remount"]);
            }
            option if bound(option) => mount(&mut bundle.config, "/m", "none", &volume, &["bind", option]),
            option if mapped => mount(&mut bundle.config, "/m", "none", &volume, &["bind", option]),
            option => mount(&mut bundle.config, "/m", "tmpfs", "tmpfs", &[option]),
        }
        if mapped {
            let last = bundle.config["mounts"].as_array().map_or(0, |mounts| mounts.len() - 1);
            for name in ["uidMappings", "gidMappings"] {
                bundle.config["mounts"][last][name] = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
            }
        }
        let create = bundle.create()?;
        if !create.ok() {
            unknown.push(format!("{option}: {}", create.complaint()));
        }
    }
    check!(unknown.is_empty(), "listed but not accepted: {}", unknown.join("; "));
    Ok(())
}

/// Options of the file systems that containers have; the list cannot be complete.
fn no_data(suite: &Suite) -> Outcome {
    const DATA: [&str; 22] = [
        "size",
        "nr_blocks",
        "nr_inodes",
        "huge",
        "mpol",
        "mode",
        "uid",
        "gid",
        "hidepid",
        "subset",
        "newinstance",
        "ptmxmode",
        "max",
        "lowerdir",
        "upperdir",
        "workdir",
        "nsdelegate",
        "memory_recursiveprot",
        "data",
        "journal",
        "discard",
        "compress",
    ];
    for name in names(&suite.features()?, "/mountOptions")? {
        let plain = name.split('=').next().unwrap_or_default();
        check!(!DATA.contains(&plain), "{name} is an option of some file systems only");
    }
    Ok(())
}

fn annotations(suite: &Suite) -> Outcome {
    let features = suite.features()?;
    let annotations = &features["annotations"];
    if annotations.is_null() {
        skip!("the features structure has no annotations");
    }
    let Some(map) = annotations.as_object() else {
        return Err(crate::entry::Stop::Failed(format!("annotations is {annotations}")));
    };
    check!(!map.contains_key(""), "annotations has an empty key");
    check!(map.values().all(Value::is_string), "annotations has a value that is no string: {annotations}");
    Ok(())
}
