// SPDX-License-Identifier: Apache-2.0
//! config.md, Linux mount options: those of one mount. Each row of the table is an entry, named by the option.
//!
//! The kernel shows most of them in mountinfo. Of those it does not show, tmpfs tells whether the runtime knows them:
//! it refuses to be mounted when it is handed an option that it does not know itself, as runtimes do with what they
//! take for an option of the file system.
use super::mounts::mount;
use crate::bundle::Bundle;
use crate::entry::Level::{Must, Should};
use crate::entry::{Entry, Outcome, Section, check, tested, untestable};
use crate::seen::{Mount, Seen};
use crate::standin::Break;
use crate::suite::Suite;
use nix::mount::{MntFlags, MsFlags, umount2};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

pub const OPTIONS: Section = Section {
    name: "config.md#linux-mount-options",
    entries: &[
        untestable(
            "1",
            Must,
            "MUST/SHOULD/MAY implement the following option strings",
            "it introduces a table: each row has an entry of its own",
        ),
        tested("async", Must, "async", |s| gives(s, &["sync", "async"], &[], &["sync"]), WITHOUT_LAST),
        tested("atime", Must, "atime", |s| gives(s, &["noatime", "atime"], &[], &["noatime"]), WITHOUT_LAST),
        tested("bind", Must, "Bind mount", bind, Break::Config(|config| last(config)["options"] = json!(["rbind"]))),
        tested("defaults", Must, "defaults", |s| gives(s, &["defaults"], &["rw"], &[]), UNKNOWN_LAST),
        tested("dev", Must, "dev", |s| gives(s, &["nodev", "dev"], &[], &["nodev"]), WITHOUT_LAST),
        tested("diratime", Must, "diratime", |s| gives(s, &["nodiratime", "diratime"], &[], &["nodiratime"]), WITHOUT_LAST),
        tested("dirsync", Must, "dirsync", |s| gives(s, &["dirsync"], &["dirsync"], &[]), WITHOUT_LAST),
        tested("exec", Must, "exec", |s| gives(s, &["noexec", "exec"], &[], &["noexec"]), WITHOUT_LAST),
        tested("iversion", Must, "iversion", |s| gives(s, &["iversion"], &[], &[]), UNKNOWN_LAST),
        tested("lazytime", Must, "lazytime", |s| gives(s, &["lazytime"], &["lazytime"], &[]), WITHOUT_LAST),
        tested("loud", Must, "loud", |s| gives(s, &["loud"], &[], &[]), UNKNOWN_LAST),
        tested("noatime", Must, "noatime", |s| gives(s, &["noatime"], &["noatime"], &[]), WITHOUT_LAST),
        tested("nodev", Must, "nodev", |s| gives(s, &["nodev"], &["nodev"], &[]), WITHOUT_LAST),
        tested("nodiratime", Must, "nodiratime", |s| gives(s, &["nodiratime"], &["nodiratime"], &[]), WITHOUT_LAST),
        tested("noexec", Must, "noexec", |s| gives(s, &["noexec"], &["noexec"], &[]), WITHOUT_LAST),
        tested("noiversion", Must, "noiversion", |s| gives(s, &["noiversion"], &[], &[]), UNKNOWN_LAST),
        tested("nolazytime", Must, "nolazytime", |s| gives(s, &["lazytime", "nolazytime"], &[], &["lazytime"]), WITHOUT_LAST),
        tested("norelatime", Must, "norelatime", |s| gives(s, &["norelatime"], &[], &[]), UNKNOWN_LAST),
        tested(
            "nostrictatime",
            Must,
            "nostrictatime",
            |s| gives(s, &["strictatime", "nostrictatime"], &["relatime"], &[]),
            WITHOUT_LAST,
        ),
        tested("nosuid", Must, "nosuid", |s| gives(s, &["nosuid"], &["nosuid"], &[]), WITHOUT_LAST),
        tested("nosymfollow", Should, "nosymfollow", |s| gives(s, &["nosymfollow"], &["nosymfollow"], &[]), WITHOUT_LAST),
        tested("private", Must, "Bind mount propagation", |s| propagates(s, &["bind", "private"], ""), SHARED_LAST),
        tested("rbind", Must, "Recursive bind mount", rbind, Break::Config(|config| last(config)["options"] = json!(["bind"]))),
        tested("relatime", Must, "relatime", |s| gives(s, &["relatime"], &["relatime"], &[]), UNKNOWN_LAST),
        tested("remount", Must, "remount", remount, Break::Config(|config| last(config)["options"] = json!(["remount"]))),
        tested("ro", Must, "ro", |s| gives(s, &["ro"], &["ro"], &["rw"]), WITHOUT_LAST),
        tested("rprivate", Must, "Bind mount propagation", |s| propagates(s, &["rbind", "rprivate"], ""), SHARED_LAST),
        tested("rshared", Must, "Bind mount propagation", |s| propagates(s, &["rbind", "rshared"], "shared"), WITHOUT_LAST),
        tested("rslave", Must, "Bind mount propagation", |s| propagates(s, &["rbind", "rslave"], "master"), PRIVATE_LAST),
        tested(
            "runbindable",
            Must,
            "Bind mount propagation",
            |s| propagates(s, &["rbind", "runbindable"], "unbindable"),
            WITHOUT_LAST,
        ),
        tested("rw", Must, "rw", |s| gives(s, &["ro", "rw"], &["rw"], &["ro"]), WITHOUT_LAST),
        tested("shared", Must, "shared", |s| propagates(s, &["bind", "shared"], "shared"), WITHOUT_LAST),
        tested("silent", Must, "silent", |s| gives(s, &["silent"], &[], &[]), UNKNOWN_LAST),
        tested("slave", Must, "Bind mount propagation", |s| propagates(s, &["bind", "slave"], "master"), PRIVATE_LAST),
        tested("strictatime", Must, "strictatime", |s| gives(s, &["strictatime"], &[], &["relatime", "noatime"]), WITHOUT_LAST),
        tested("suid", Must, "suid", |s| gives(s, &["nosuid", "suid"], &[], &["nosuid"]), WITHOUT_LAST),
        tested(
            "symfollow",
            Should,
            "Opposite of nosymfollow",
            |s| gives(s, &["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
            WITHOUT_LAST,
        ),
        tested("sync", Must, "sync", |s| gives(s, &["sync"], &["sync"], &[]), WITHOUT_LAST),
        tested(
            "unbindable",
            Must,
            "Bind mount propagation",
            |s| propagates(s, &["bind", "unbindable"], "unbindable"),
            WITHOUT_LAST,
        ),
        MAPPED,
        CUSTOM,
        UNKNOWN,
    ],
};

const MAPPED: Entry =
    untestable("2", Must, "The \"MUST\" options correspond to mount(8)", "it explains the table: the rows are held to mount(8)");

const CUSTOM: Entry = untestable(
    "3",
    Should,
    "the runtime SHOULD follow the behavior of mount(8)",
    "it is about options that a runtime MAY have beyond the table, and nothing tells which those are",
);

const UNKNOWN: Entry = tested("4", Should, "SHOULD treat unknown options as filesystem-specific ones", data, WITHOUT_LAST);

/// A runtime that does not know the last option of the last mount.
const WITHOUT_LAST: Break = Break::Config(|config| drop(last(config)["options"].as_array_mut().map(Vec::pop)));

/// A runtime that takes the last option of the last mount for one of the file system's.
const UNKNOWN_LAST: Break = Break::Config(|config| replace_last(config, "conformance"));
const SHARED_LAST: Break = Break::Config(|config| replace_last(config, "rshared"));
const PRIVATE_LAST: Break = Break::Config(|config| replace_last(config, "rprivate"));

fn replace_last(config: &mut Value, option: &str) {
    if let Some(options) = last(config)["options"].as_array_mut() {
        options.pop();
        options.push(json!(option));
    }
}

/// The last mount of the configuration.
pub fn last(config: &mut Value) -> &mut Value {
    let index = config["mounts"].as_array().map_or(0, |mounts| mounts.len().saturating_sub(1));
    &mut config["mounts"][index]
}

/// A tmpfs with these options has, in mountinfo, some and not others.
fn gives(suite: &Suite, options: &[&str], with: &[&str], without: &[&str]) -> Outcome {
    let seen = suite.see(&["report"], |config| mount(config, "/m", "tmpfs", "tmpfs", options))?;
    shows(&seen.mount("/m")?, options, with, without)
}

/// Compares what a mount has with what it should.
pub fn shows(mount: &Mount, options: &[&str], with: &[&str], without: &[&str]) -> Outcome {
    let all = format!("{} | {}", mount.options.join(","), mount.super_options.join(","));
    let place = &mount.target;
    for option in with {
        check!(mount.has(option) || mount.super_has(option), "with {options:?} the mount at {place} has no {option}: {all}");
    }
    for option in without {
        // A file system is rw although its mount is ro.
        let has = mount.has(option) || (*option != "rw" && mount.super_has(option));
        check!(!has, "with {options:?} the mount at {place} has {option}: {all}");
    }
    Ok(())
}

/// A tmpfs of the host's at `volume` in a bundle, another at `volume/sub`; each holds a file. Gone when dropped.
pub struct Volume {
    pub path: PathBuf,
}

impl Volume {
    pub fn new(bundle: &Bundle, flags: MsFlags, propagation: MsFlags) -> Outcome<Volume> {
        let volume = Volume { path: bundle.dir.join("volume") };
        for (path, file) in [(volume.path.clone(), "outer"), (volume.path.join("sub"), "inner")] {
            fs::create_dir(&path)?;
            nix::mount::mount(Some("volume"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            fs::write(path.join(file), file)?;
        }
        for path in [volume.path.join("sub"), volume.path.clone()] {
            let none = None::<&str>;
            nix::mount::mount(none, &path, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, none)?;
            nix::mount::mount(none, &path, none, propagation, none)?;
        }
        Ok(volume)
    }

    pub fn source(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// A bind mount of a volume at /m: what the container sees of it.
fn bound(suite: &Suite, options: &[&str]) -> Outcome<Seen> {
    let mut bundle = suite.bundle()?;
    let volume = Volume::new(&bundle, MsFlags::empty(), MsFlags::MS_SHARED)?;
    mount(&mut bundle.config, "/m", "none", &volume.source(), options);
    bundle.actions(&["report", "stat:/m/outer", "stat:/m/sub/inner"]);
    bundle.see()
}

fn bind(suite: &Suite) -> Outcome {
    let seen = bound(suite, &["bind"])?;
    check!(seen.errno("stat:/m/outer")? == 0, "the source's file is not seen at /m");
    check!(seen.errno("stat:/m/sub/inner")? != 0, "what is mounted within the source came along");
    Ok(())
}

fn rbind(suite: &Suite) -> Outcome {
    let seen = bound(suite, &["rbind"])?;
    check!(seen.errno("stat:/m/outer")? == 0, "the source's file is not seen at /m");
    check!(seen.errno("stat:/m/sub/inner")? == 0, "what is mounted within the source did not come along");
    Ok(())
}

/// `word` is what mountinfo must show of the mount's propagation, or nothing at all.
fn propagates(suite: &Suite, options: &[&str], word: &str) -> Outcome {
    let seen = bound(suite, options)?;
    let places: &[&str] = if options.contains(&"rbind") { &["/m", "/m/sub"] } else { &["/m"] };
    for place in places {
        let mount = seen.mount(place)?;
        let right = if word.is_empty() { mount.propagation.is_empty() } else { mount.propagates(word) };
        check!(right, "with {options:?} the mount at {place} shows {:?} in mountinfo", mount.propagation);
    }
    Ok(())
}

/// A second entry changes the first one's mount.
fn remount(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report", "stat:/m"], |config| {
        mount(config, "/m", "tmpfs", "tmpfs", &["mode=700"]);
        mount(config, "/m", "tmpfs", "tmpfs", &["remount", "ro", "nosuid"]);
    })?;
    let mounts = seen.mounts()?.into_iter().filter(|mount| mount.target == "/m").count();
    check!(mounts == 1, "{mounts} mounts are at /m");
    shows(&seen.mount("/m")?, &["remount", "ro", "nosuid"], &["ro", "nosuid"], &[])
}

/// Options that only tmpfs knows, several of them.
fn data(suite: &Suite) -> Outcome {
    let seen = suite.see(&["report", "stat:/m"], |config| {
        mount(config, "/m", "tmpfs", "tmpfs", &["noexec", "nr_inodes=77", "mode=1750", "size=128k"]);
    })?;
    let mount = seen.mount("/m")?;
    shows(&mount, &["nr_inodes=77", "size=128k"], &["noexec", "nr_inodes=77", "size=128k"], &[])?;
    let mode = &seen.of("stat:/m")?["mode"];
    check!(*mode == 0o1750, "with mode=1750 its mode is {mode} (decimal)");
    Ok(())
}
