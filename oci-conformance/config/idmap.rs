// SPDX-License-Identifier: Apache-2.0
//! config.md: id-mapped mounts, in Linux mount options and in POSIX-platform Mounts.
use super::mount_options::{Volume, last};
use super::mounts::mount;
use crate::entry::Level::{Must, Should, ShouldNot};
use crate::entry::{AUTHOR, Outcome, Section, check, tested, untestable};
use crate::seen::Seen;
use crate::standin::Break;
use crate::suite::Suite;
use nix::mount::MsFlags;
use serde_json::{Value, json};

pub const OPTIONS: Section = Section {
    name: "config.md#linux-mount-options",
    entries: &[
        tested("idmap", Should, "idmap", |s| maps(s, BIND), UNMAPPED),
        tested("idmap.1", Must, "the mount MUST have an idmapping applied", |s| maps(s, BIND), UNMAPPED),
        untestable("idmap.2", ShouldNot, "SHOULD NOT be passed to the underlying mount(2) call", SYSTEM_CALL),
        tested("idmap.3", Must, "the runtime MUST use those values", |s| uses_values(s, BIND), OTHER_VALUES),
        tested("idmap.4", Must, "otherwise an error MUST be returned", |s| of_the_namespace(s, BIND), UNMAPPED),
        tested("idmap.5", Must, "the container isn't using user namespaces", |s| without_any(s, BIND), UNMAPPED),
        tested(
            "idmap.6",
            Should,
            "SHOULD be implemented using mount_setattr(MOUNT_ATTR_IDMAP)",
            |s| attribute(s, BIND),
            UNMAPPED,
        ),
        tested("ridmap", Should, "ridmap", |s| maps(s, RBIND), UNMAPPED),
        tested("ridmap.1", Must, "the mapping is applied recursively", |s| maps(s, RBIND), ONE_MOUNT_ONLY),
        untestable("ridmap.2", ShouldNot, "SHOULD NOT be passed to the underlying mount(2) call", SYSTEM_CALL),
        tested("ridmap.3", Must, "the runtime MUST use those values", |s| uses_values(s, RBIND), OTHER_VALUES),
        tested("ridmap.4", Must, "otherwise an error MUST be returned", |s| of_the_namespace(s, RBIND), UNMAPPED),
        tested("ridmap.5", Must, "the container isn't using user namespaces", |s| without_any(s, RBIND), UNMAPPED),
        tested(
            "ridmap.6",
            Should,
            "SHOULD be implemented using mount_setattr(MOUNT_ATTR_IDMAP)",
            |s| attribute(s, RBIND),
            UNMAPPED,
        ),
    ],
};

pub const POSIX_MOUNTS: Section = Section {
    name: "config.md#posix-platform-mounts",
    entries: &[
        tested("1", Should, "SHOULD be implemented using mount_setattr(MOUNT_ATTR_IDMAP)", |s| attribute(s, BIND), UNMAPPED),
        untestable("2", Should, "SHOULD contain either idmap or ridmap", AUTHOR),
        tested("3", Must, "it MUST be specified along with gidMappings", |s| one_of_two(s, "uidMappings"), BOTH),
        tested("4", Should, "SHOULD be implemented using mount_setattr(MOUNT_ATTR_IDMAP)", |s| attribute(s, BIND), UNMAPPED),
        untestable("5", Should, "SHOULD contain either idmap or ridmap", AUTHOR),
        tested("6", Must, "it MUST be specified along with uidMappings", |s| one_of_two(s, "gidMappings"), BOTH),
    ],
};

const SYSTEM_CALL: &str = "only the runtime's own system calls show it: the kernel ignores the string for bind mounts, \
     and no other mount needs to take an id mapping";

/// A kind of bind mount, the option that maps it, and the places to look at.
type Kind = (&'static str, &'static str, &'static [&'static str]);

const BIND: Kind = ("bind", "idmap", &["/m"]);
const RBIND: Kind = ("rbind", "ridmap", &["/m", "/m/sub"]);

/// A runtime that knows nothing of mapped mounts.
const UNMAPPED: Break = Break::Config(|config| {
    let mount = last(config);
    for name in ["uidMappings", "gidMappings"] {
        mount.as_object_mut().map(|mount| mount.remove(name));
    }
    if let Some(options) = mount["options"].as_array_mut() {
        options.retain(|option| option != "idmap" && option != "ridmap");
    }
});

const ONE_MOUNT_ONLY: Break = Break::Config(|config| last(config)["options"] = json!(["rbind", "idmap"]));

const OTHER_VALUES: Break =
    Break::Config(|config| last(config)["uidMappings"] = json!([{ "containerID": 0, "hostID": 7, "size": 1 }]));

const BOTH: Break = Break::Config(|config| {
    for name in ["uidMappings", "gidMappings"] {
        last(config)[name] = mapping(1000);
    }
});

fn mapping(id: u32) -> Value {
    json!([{ "containerID": 0, "hostID": id, "size": 10 }])
}

/// Maps root of the volume's files to uid 1000 and gid 2000, changed further by `change`.
fn mapped(suite: &Suite, kind: Kind, change: impl FnOnce(&mut Value)) -> Outcome<Seen> {
    let mut bundle = suite.bundle()?;
    let volume = Volume::new(&bundle, MsFlags::empty(), MsFlags::MS_PRIVATE)?;
    mount(&mut bundle.config, "/m", "none", &volume.source(), &[kind.0, kind.1]);
    last(&mut bundle.config)["uidMappings"] = mapping(1000);
    last(&mut bundle.config)["gidMappings"] = mapping(2000);
    change(&mut bundle.config);
    let actions: Vec<String> = kind.2.iter().map(|place| format!("stat:{place}")).collect();
    let mut actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    actions.push("report");
    bundle.actions(&actions);
    bundle.see()
}

fn unmap(config: &mut Value) {
    for name in ["uidMappings", "gidMappings"] {
        last(config).as_object_mut().map(|mount| mount.remove(name));
    }
}

/// Adds a user namespace in which root is uid and gid 100000 of the host.
pub fn user_namespace(config: &mut Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    namespaces.into_iter().for_each(|all| all.push(json!({ "type": "user" })));
    for name in ["uidMappings", "gidMappings"] {
        config["linux"][name] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    }
}

fn owners(seen: &Seen, kind: Kind, uid: u32, gid: u32) -> Outcome {
    for place in kind.2 {
        let found = seen.of(&format!("stat:{place}"))?;
        let right = found["uid"] == uid && found["gid"] == gid;
        check!(right, "{place} belongs to {}:{}, not to {uid}:{gid}", found["uid"], found["gid"]);
    }
    Ok(())
}

fn maps(suite: &Suite, kind: Kind) -> Outcome {
    owners(&mapped(suite, kind, |_| {})?, kind, 1000, 2000)
}

fn uses_values(suite: &Suite, kind: Kind) -> Outcome {
    // In a user namespace too, the mount's own values go before the namespace's.
    owners(&mapped(suite, kind, |config| last(config)["uidMappings"] = mapping(1234))?, kind, 1234, 2000)
}

/// The user namespace's mapping, or an error; but not a mount that is not mapped.
fn of_the_namespace(suite: &Suite, kind: Kind) -> Outcome {
    let mut bundle = suite.bundle()?;
    // In a user namespace nobody may bind a mount without what is mounted in it: so only rbind is tried with such.
    let volume = (kind.0 == "rbind").then(|| Volume::new(&bundle, MsFlags::empty(), MsFlags::MS_PRIVATE)).transpose()?;
    let source = volume.as_ref().map_or_else(|| bundle.folder_with("plain", "file"), |volume| Ok(volume.source()))?;
    user_namespace(&mut bundle.config);
    mount(&mut bundle.config, "/m", "none", &source, &[kind.0, kind.1]);
    bundle.actions(&["stat:/m", "stat:/m/sub"]);
    if !bundle.create()?.ok() {
        return Ok(());
    }
    bundle.started()?;
    bundle.wait()?;
    owners(&bundle.seen()?, kind, 0, 0)
}

fn without_any(suite: &Suite, kind: Kind) -> Outcome {
    let mut bundle = suite.bundle()?;
    let volume = Volume::new(&bundle, MsFlags::empty(), MsFlags::MS_PRIVATE)?;
    mount(&mut bundle.config, "/m", "none", &volume.source(), &[kind.0, kind.1]);
    unmap(&mut bundle.config);
    bundle.is_refused()
}

/// The kernel says of a mount mapped by it that it is.
fn attribute(suite: &Suite, kind: Kind) -> Outcome {
    let seen = mapped(suite, kind, |_| {})?;
    for place in kind.2 {
        let mount = seen.mount(place)?;
        check!(mount.has("idmapped"), "mountinfo does not call {place} idmapped: {:?}", mount.options);
    }
    Ok(())
}

fn one_of_two(suite: &Suite, name: &str) -> Outcome {
    let mut bundle = suite.bundle()?;
    let volume = bundle.folder_with("volume", "file")?;
    mount(&mut bundle.config, "/m", "none", &volume, &["bind", "idmap"]);
    last(&mut bundle.config)[name] = mapping(1000);
    bundle.is_refused()
}
