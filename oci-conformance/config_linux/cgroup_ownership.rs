// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, Cgroup ownership.
use crate::bundle::Bundle;
use crate::config::{mount, user_namespace};
use crate::entry::Level::{Must, MustNot, Should, ShouldNot};
use crate::entry::{Outcome, Section, check, skip, tested};
use crate::seen::mounts;
use crate::standin::{Break, Call};
use crate::suite::Suite;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

pub const OWNERSHIP: Section = Section {
    name: "config-linux.md#cgroup-ownership",
    entries: &[
        tested("1", ShouldNot, "when cgroups v1 is in use", v1, Break::After("create", give_away_v1)),
        tested(
            "2",
            ShouldNot,
            "unless it will also create a new cgroup namespace",
            no_namespace,
            Break::After("create", give_away),
        ),
        tested("3", Should, "if and only if the cgroup filesystem is to be mounted read/write", if_and_only_if, NO_MOUNT),
        tested("4", ShouldNot, "If the configuration does not specify such a mount", no_mount, Break::After("create", give_away)),
        tested(
            "5",
            Should,
            "SHOULD only change the ownership of the container's cgroup directory and files",
            only_listed,
            ALL_FILES,
        ),
        tested(
            "6a",
            MustNot,
            "Runtimes MUST NOT fail in this scenario",
            missing_files,
            Break::DenyIf(|config| config["linux"]["uidMappings"].is_array()),
        ),
        tested(
            "6b",
            Should,
            "SHOULD change the ownership of the listed files that do exist",
            listed,
            Break::After("create", take_back),
        ),
        tested(
            "7",
            Must,
            "the runtime MUST fall back to using the following list of files",
            fallback,
            Break::After("create", take_back),
        ),
        tested("8", ShouldNot, "SHOULD NOT change the ownership of any other files", only_listed, ALL_FILES),
    ],
};

/// The host's uid of root in the container (config::user_namespace).
const OWNER: u32 = 100_000;

const NO_MOUNT: Break = Break::Config(|config| drop(config["mounts"].as_array_mut().map(Vec::pop)));
const ALL_FILES: Break = Break::After("create", |call| {
    let cgroup = call.cgroup();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        let _ = chown(entry.path(), Some(OWNER), None);
    }
});

fn give_away(call: &Call) {
    let _ = chown(call.cgroup(), Some(OWNER), None);
}

fn give_away_v1(call: &Call) {
    for place in v1_hierarchies().into_iter().flatten() {
        let _ = chown(place.join(call.id()), Some(OWNER), None);
    }
}

fn take_back(call: &Call) {
    let _ = chown(call.cgroup().join("cgroup.threads"), Some(0), None);
}

/// A container in a user namespace with the cgroup file system mounted with these options.
fn delegated<'a>(suite: &'a Suite, options: &[&str]) -> Outcome<Bundle<'a>> {
    let mut bundle = suite.bundle()?;
    user_namespace(&mut bundle.config);
    mount(&mut bundle.config, "/sys/fs/cgroup", "cgroup", "cgroup", options);
    Ok(bundle)
}

fn owner(path: &Path) -> Outcome<u32> {
    Ok(fs::symlink_metadata(path)?.uid())
}

/// Passes if the created container's cgroup belongs to root still.
fn is_roots(bundle: &Bundle) -> Outcome {
    bundle.created()?;
    for path in [bundle.cgroup(), bundle.cgroup().join("cgroup.procs")] {
        let uid = owner(&path)?;
        check!(uid == 0, "{} belongs to {uid}", path.display());
    }
    Ok(())
}

/// The files of the cgroup and their owners. A cgroup below it is none of its files: a runtime may start the container in one.
fn owners(bundle: &Bundle) -> Outcome<Vec<(String, u32)>> {
    let mut owners = Vec::new();
    let files = fs::read_dir(bundle.cgroup())?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    for entry in files {
        owners.push((entry.file_name().to_string_lossy().into_owned(), owner(&entry.path())?));
    }
    Ok(owners)
}

/// What the kernel lists as files to hand over.
fn list() -> Outcome<Vec<String>> {
    let text = fs::read_to_string("/sys/kernel/cgroup/delegate")?;
    Ok(text.lines().map(str::to_string).collect())
}

/// Skips where no cgroup of version 2 can be handed over: then nothing is to be learnt from its owner.
fn handed_over(suite: &Suite) -> Outcome<Bundle<'_>> {
    let bundle = delegated(suite, &["rw"])?;
    bundle.created()?;
    if owner(&bundle.cgroup())? != OWNER {
        skip!("the runtime does not change the owner of cgroups, which it only SHOULD");
    }
    Ok(bundle)
}

/// Where the hierarchies of version 1 are mounted that have controllers.
fn v1_hierarchies() -> Outcome<Vec<PathBuf>> {
    let mounts = mounts(&fs::read_to_string("/proc/self/mountinfo")?);
    let v1 =
        mounts.into_iter().filter(|mount| mount.kind == "cgroup" && !mount.super_options.iter().any(|o| o.starts_with("name=")));
    Ok(v1.map(|mount| PathBuf::from(mount.target)).collect())
}

fn v1(suite: &Suite) -> Outcome {
    let hierarchies = v1_hierarchies()?;
    if hierarchies.is_empty() {
        skip!("there are no cgroup v1 hierarchies here (see --hybrid)");
    }
    let bundle = delegated(suite, &["rw"])?;
    let create = bundle.create()?;
    if !create.ok() {
        skip!("with cgroup v1 hierarchies the runtime makes no container: {}", create.complaint());
    }
    for place in hierarchies.iter().map(|place| place.join(&bundle.id)).filter(|place| place.exists()) {
        let uid = owner(&place)?;
        check!(uid == 0, "{} belongs to {uid}", place.display());
    }
    Ok(())
}

fn no_namespace(suite: &Suite) -> Outcome {
    let mut bundle = delegated(suite, &["rw"])?;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    namespaces.into_iter().for_each(|all| all.retain(|namespace| namespace["type"] != "cgroup"));
    is_roots(&bundle)
}

fn if_and_only_if(suite: &Suite) -> Outcome {
    let bundle = delegated(suite, &["rw"])?;
    bundle.created()?;
    let uid = owner(&bundle.cgroup())?;
    check!(uid == OWNER, "with the cgroup file system mounted read/write the cgroup belongs to {uid}, not to {OWNER}");
    is_roots(&delegated(suite, &["ro"])?)
}

fn no_mount(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    user_namespace(&mut bundle.config);
    is_roots(&bundle)
}

fn only_listed(suite: &Suite) -> Outcome {
    let bundle = handed_over(suite)?;
    let list = list()?;
    for (name, uid) in owners(&bundle)? {
        check!(uid == 0 || list.contains(&name), "{name}, which is not in the kernel's list, belongs to {uid}");
    }
    Ok(())
}

/// Some listed files are not in this cgroup, for lack of controllers.
fn missing_files(suite: &Suite) -> Outcome {
    let bundle = delegated(suite, &["rw"])?;
    bundle.created()?;
    let there = owners(&bundle)?;
    if list()?.iter().all(|name| there.iter().any(|(there, _)| there == name)) {
        skip!("every file that the kernel lists is in the cgroup");
    }
    Ok(())
}

fn listed(suite: &Suite) -> Outcome {
    let bundle = handed_over(suite)?;
    let list = list()?;
    for (name, uid) in owners(&bundle)? {
        check!(uid == OWNER || !list.contains(&name), "{name}, which is in the kernel's list, belongs to {uid}");
    }
    Ok(())
}

/// The kernel's list is hidden from the runtime.
fn fallback(suite: &Suite) -> Outcome {
    drop(handed_over(suite)?);
    let mut bundle = delegated(suite, &["rw"])?;
    let hide = "mount -t tmpfs none /sys/kernel/cgroup && exec \"$@\"";
    bundle.under(&["unshare", "--mount", "--propagation", "slave", "sh", "-c", hide, "sh"]);
    bundle.created()?;
    let list = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
    for (name, uid) in owners(&bundle)? {
        let wanted = if list.contains(&name.as_str()) { OWNER } else { 0 };
        check!(uid == wanted, "without the kernel's list {name} belongs to {uid}, not to {wanted}");
    }
    Ok(())
}
