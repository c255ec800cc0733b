// SPDX-License-Identifier: Apache-2.0
//! config.md, Linux mount options: those applied to a mount and all within it, by mount_setattr(AT_RECURSIVE).
use super::mount_options::{Volume, last, shows};
use super::mounts::mount;
use crate::entry::Level::Should;
use crate::entry::{Entry, Outcome, Section, tested};
use crate::standin::Break;
use crate::suite::Suite;
use nix::mount::MsFlags;

pub const OPTIONS: Section = Section {
    name: "config.md#linux-mount-options",
    entries: &[
        tested("ratime", Should, "Recursive atime", |s| gives(s, "ratime", MsFlags::MS_NOATIME, &[], &["noatime"]), WITHOUT),
        tested("rdev", Should, "Recursive dev", |s| gives(s, "rdev", MsFlags::MS_NODEV, &[], &["nodev"]), WITHOUT),
        tested(
            "rdiratime",
            Should,
            "Recursive diratime",
            |s| gives(s, "rdiratime", MsFlags::MS_NODIRATIME, &[], &["nodiratime"]),
            WITHOUT,
        ),
        tested("rexec", Should, "Recursive dev", |s| gives(s, "rexec", MsFlags::MS_NOEXEC, &[], &["noexec"]), WITHOUT),
        tested("rnoatime", Should, "Recursive noatime", |s| gives(s, "rnoatime", NONE, &["noatime"], &[]), WITHOUT),
        tested("rnodiratime", Should, "Recursive nodiratime", |s| gives(s, "rnodiratime", NONE, &["nodiratime"], &[]), WITHOUT),
        tested("rnoexec", Should, "Recursive noexec", |s| gives(s, "rnoexec", NONE, &["noexec"], &[]), WITHOUT),
        NORELATIME,
        tested(
            "rnostrictatime",
            Should,
            "Recursive nostrictatime",
            |s| gives(s, "rnostrictatime", STRICT, &["relatime"], &[]),
            WITHOUT,
        ),
        tested("rnosuid", Should, "Recursive nosuid", |s| gives(s, "rnosuid", NONE, &["nosuid"], &[]), WITHOUT),
        tested(
            "rnosymfollow",
            Should,
            "Recursive nosymfollow",
            |s| gives(s, "rnosymfollow", NONE, &["nosymfollow"], &[]),
            WITHOUT,
        ),
        tested("rrelatime", Should, "Recursive relatime", |s| gives(s, "rrelatime", STRICT, &["relatime"], &[]), WITHOUT),
        tested("rro", Should, "Recursive ro", |s| gives(s, "rro", NONE, &["ro"], &[]), WITHOUT),
        tested("rrw", Should, "Recursive rw", |s| gives(s, "rrw", MsFlags::MS_RDONLY, &["rw"], &["ro"]), WITHOUT),
        tested(
            "rstrictatime",
            Should,
            "Recursive strictatime",
            |s| gives(s, "rstrictatime", NONE, &[], &["relatime", "noatime"]),
            WITHOUT,
        ),
        tested("rsuid", Should, "Recursive suid", |s| gives(s, "rsuid", MsFlags::MS_NOSUID, &[], &["nosuid"]), WITHOUT),
        tested(
            "rsymfollow",
            Should,
            "Recursive symfollow",
            |s| gives(s, "rsymfollow", NOSYMFOLLOW, &[], &["nosymfollow"]),
            WITHOUT,
        ),
    ],
};

/// What it is to have no relatime is nowhere said: but the runtime must know it, for tmpfs does not.
const NORELATIME: Entry = tested(
    "rnorelatime",
    Should,
    "Recursive norelatime",
    |suite| suite.see(&["report"], |config| mount(config, "/m", "tmpfs", "tmpfs", &["rnorelatime"])).map(drop),
    Break::Config(|config| last(config)["options"] = serde_json::json!(["conformance"])),
);

const NONE: MsFlags = MsFlags::empty();
const STRICT: MsFlags = MsFlags::MS_STRICTATIME;
/// MS_NOSYMFOLLOW of linux/mount.h, which nix does not name.
const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

/// A runtime that does not know the last option of the last mount.
const WITHOUT: Break = Break::Config(|config| drop(last(config)["options"].as_array_mut().map(Vec::pop)));

/// A recursive bind of mounts with these flags, and the option: what all of them must and must not have.
fn gives(suite: &Suite, option: &str, flags: MsFlags, with: &[&str], without: &[&str]) -> Outcome {
    let mut bundle = suite.bundle()?;
    let volume = Volume::new(&bundle, flags, MsFlags::MS_PRIVATE)?;
    mount(&mut bundle.config, "/m", "none", &volume.source(), &["rbind", option]);
    let seen = bundle.see()?;
    for place in ["/m", "/m/sub"] {
        let mut mount = seen.mount(place)?;
        // These are attributes of the mounts; the file systems beneath stay as they are.
        mount.super_options.clear();
        shows(&mount, &["rbind", option], with, without)?;
    }
    Ok(())
}
