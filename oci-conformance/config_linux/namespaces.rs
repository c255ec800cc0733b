// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, Default Filesystems, Namespaces and User namespace mappings.
use crate::config::user_namespace;
use crate::entry::Level::{Must, Should, ShouldNot};
use crate::entry::{Outcome, Section, check, tested};
use crate::seen::mounts;
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

pub const DEFAULT_FILESYSTEMS: Section = Section {
    name: "config-linux.md#default-filesystems",
    entries: &[tested(
        "1",
        Should,
        "SHOULD be made available in each container's filesystem",
        default_filesystems,
        Break::Config(|config| config["mounts"] = json!([])),
    )],
};

pub const NAMESPACES: Section = Section {
    name: "config-linux.md#namespaces",
    entries: &[
        tested(
            "1",
            Should,
            "The following namespace types SHOULD be supported",
            every_type,
            Break::Config(|c| drop_type(c, "time")),
        ),
        tested("2", Must, "This value MUST be an absolute path", relative_path, NO_PATHS),
        tested("3", Must, "MUST place the container process in the namespace associated with that path", joins, NO_PATHS),
        tested("4", Must, "if path is not associated with a namespace of type type", wrong_type, NO_PATHS),
        tested(
            "5",
            Must,
            "If path is not specified, the runtime MUST create a new",
            creates,
            Break::Config(|c| drop_type(c, "ipc")),
        ),
        tested(
            "6",
            Must,
            "the container MUST inherit the runtime namespace of that type",
            inherits,
            Break::Config(|config| all(config).push(json!({ "type": "ipc" }))),
        ),
        tested(
            "7",
            Must,
            "contains duplicated namespaces with same type",
            duplicates,
            Break::Config(|config| all(config).dedup()),
        ),
    ],
};

const NO_PATHS: Break = Break::Config(|config| {
    for namespace in all(config) {
        namespace.as_object_mut().map(|namespace| namespace.remove("path"));
    }
});

pub const USER_MAPPINGS: Section = Section {
    name: "config-linux.md#user-namespace-mappings",
    entries: &[tested(
        "1",
        ShouldNot,
        "SHOULD NOT modify the ownership of referenced filesystems",
        ownership_stays,
        Break::After("create", |call| drop(chown(call.home().join("rootfs/probe"), Some(100_000), None))),
    )],
};

/// The namespaces of a configuration.
fn all(config: &mut Value) -> &mut Vec<Value> {
    let namespaces = &mut config["linux"]["namespaces"];
    namespaces.as_array_mut().expect("every configuration of the suite has namespaces")
}

fn drop_type(config: &mut Value, kind: &str) {
    all(config).retain(|namespace| namespace["type"] != kind);
}

/// Type in a configuration, name in /proc/PID/ns.
const TYPES: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// The suite's own namespace of this name, which is that of the runtime.
fn own(name: &str) -> Outcome<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{name}"))?.to_string_lossy().into_owned())
}

/// Read literally: in a container whose configuration does not ask for them.
fn default_filesystems(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.config["mounts"] = json!([]);
    bundle.created()?;
    let mounts = mounts(&fs::read_to_string(bundle.proc("mountinfo")?)?);
    let wanted = [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")];
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(place, kind)| !mounts.iter().any(|mount| mount.target == *place && mount.kind == *kind))
        .map(|(place, _)| *place)
        .collect();
    check!(missing.is_empty(), "without an entry in mounts there is no {}", missing.join(", no "));
    Ok(())
}

fn every_type(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    user_namespace(&mut bundle.config);
    all(&mut bundle.config).push(json!({ "type": "time" }));
    let seen = bundle.see()?;
    let found = seen.namespaces()?;
    for (kind, name) in TYPES {
        check!(found.get(name) != Some(&own(name)?), "no {kind} namespace was made");
    }
    Ok(())
}

fn creates(suite: &Suite) -> Outcome {
    let bundle = suite.bundle()?;
    let first = bundle.see()?.namespaces()?;
    for (kind, name) in
        [("pid", "pid"), ("network", "net"), ("mount", "mnt"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")]
    {
        check!(first.get(name) != Some(&own(name)?), "no new {kind} namespace was made");
    }
    Ok(())
}

/// A mount namespace is always asked for: without one a runtime would mount upon the host.
fn inherits(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report"], |config| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
        config.as_object_mut().map(|config| config.remove("hostname"));
    })?;
    let found = seen.namespaces()?;
    for (kind, name) in TYPES.iter().filter(|(kind, _)| *kind != "mount") {
        let (found, own) = (found.get(*name).map_or("nothing", String::as_str), own(name)?);
        check!(found == own, "the container is in {found}, not in the runtime's {kind} namespace {own}");
    }
    Ok(())
}

fn duplicates(suite: &Suite) -> Outcome {
    suite.refuses(|config| {
        let first = all(config)[0].clone();
        all(config).insert(0, first);
    })
}

/// Gives the namespaces of a configuration the paths that `path` says, by type.
fn with_paths(config: &mut Value, path: impl Fn(&str) -> Option<String>) {
    for namespace in all(config) {
        if let Some(path) = path(namespace["type"].as_str().unwrap_or_default()) {
            namespace["path"] = json!(path);
        }
    }
}

/// The namespaces of a first container, by its process.
fn joins(suite: &Suite) -> Outcome {
    let mut first = suite.bundle()?;
    first.actions(&["wait"]);
    all(&mut first.config).push(json!({ "type": "time" }));
    first.created()?;
    let folder = first.proc("ns")?;
    let shared: Vec<_> = TYPES.iter().filter(|(kind, _)| *kind != "mount" && *kind != "user").collect();
    let mut second = suite.bundle()?;
    all(&mut second.config).push(json!({ "type": "time" }));
    second.config.as_object_mut().map(|config| config.remove("hostname"));
    with_paths(&mut second.config, |kind| {
        let (_, name) = shared.iter().find(|(shared, _)| *shared == kind)?;
        Some(folder.join(name).to_string_lossy().into_owned())
    });
    let found = second.see()?.namespaces()?;
    for (kind, name) in shared {
        let there = fs::read_link(folder.join(name))?;
        let found = found.get(*name).map_or("nothing", String::as_str);
        check!(there.to_string_lossy() == found, "it is in {found}, not in the {kind} namespace at path, {}", there.display());
    }
    Ok(())
}

fn wrong_type(suite: &Suite) -> Outcome {
    let first = suite.bundle()?;
    first.created()?;
    let path = first.proc("ns/net")?.to_string_lossy().into_owned();
    suite.refuses(|config| with_paths(config, |kind| (kind == "ipc").then(|| path.clone())))
}

/// One that would be found from where the runtime is.
fn relative_path(suite: &Suite) -> Outcome {
    let first = suite.bundle()?;
    first.created()?;
    let path = first.proc("ns/net")?.to_string_lossy().trim_start_matches('/').to_string();
    let mut bundle = suite.bundle()?;
    with_paths(&mut bundle.config, |kind| (kind == "network").then(|| path.clone()));
    bundle.under(&["env", "-C", "/"]);
    bundle.is_refused()
}

fn ownership_stays(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    user_namespace(&mut bundle.config);
    let volume = bundle.folder_with("volume", "file")?;
    crate::config::mount(&mut bundle.config, "/m", "none", &volume, &["bind"]);
    bundle.see()?;
    for path in ["rootfs", "rootfs/probe", "rootfs/tmp", "rootfs/m", "volume", "volume/file"] {
        let found = fs::symlink_metadata(bundle.dir.join(path))?;
        let (uid, gid) = (found.uid(), found.gid());
        check!(uid == 0 && gid == 0, "{path} belongs to {uid}:{gid} afterwards, it belonged to 0:0");
    }
    Ok(())
}
