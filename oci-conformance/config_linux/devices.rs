// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, Devices and Default Devices.
use crate::config::mount;
use crate::entry::Level::{Must, ShouldNot};
use crate::entry::{AUTHOR, Outcome, Section, check, fail, tested, untestable};
use crate::seen::Seen;
use crate::standin::{Break, undo};
use crate::suite::Suite;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use std::fs;
use std::os::unix::net::UnixListener;

pub const DEVICES: Section = Section {
    name: "config-linux.md#devices",
    entries: &[
        tested("1", Must, "lists devices that MUST be available in the container", available, NO_DEVICES),
        tested("2", Must, "already exists at path that does not match the requested device", mismatch, NO_DEVICES),
        untestable("3", ShouldNot, "SHOULD NOT be used for multiple devices", AUTHOR),
    ],
};

const NO_DEVICES: Break = Break::Config(|config| config["linux"]["devices"] = json!([]));

pub const DEFAULT_DEVICES: Section = Section {
    name: "config-linux.md#default-devices",
    entries: &[tested(
        "1",
        Must,
        "the runtime MUST also supply",
        defaults,
        Break::Config(|config| undo(config, "unlink:/dev/full")),
    )],
};

/// Every type, within /dev and elsewhere, with mode and owner.
fn available(suite: &Suite) -> Outcome {
    let actions = ["stat:/dev/c", "stat:/dev/u", "stat:/dev/b", "stat:/dev/sub/p", "stat:/tmp/c", "open:rw:/tmp/c"];
    let seen = suite.see(&actions, |config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/c", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6 },
            { "path": "/dev/u", "type": "u", "major": 1, "minor": 5, "fileMode": 0o606 },
            { "path": "/dev/b", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600 },
            { "path": "/dev/sub/p", "type": "p", "fileMode": 0o622, "uid": 7, "gid": 8 },
            { "path": "/tmp/c", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 },
        ]);
    })?;
    let wanted = [
        ("/dev/c", "c", 1, 3, 0o640, 5, 6),
        ("/dev/u", "c", 1, 5, 0o606, 0, 0),
        ("/dev/b", "b", 7, 300, 0o600, 0, 0),
        ("/dev/sub/p", "p", 0, 0, 0o622, 7, 8),
        ("/tmp/c", "c", 1, 3, 0o666, 0, 0),
    ];
    for (path, kind, major, minor, mode, uid, gid) in wanted {
        let found = seen.of(&format!("stat:{path}"))?;
        check!(found["errno"] == 0, "no {path}");
        check!(found["type"] == kind, "{path} is of type {}, not {kind}", found["type"]);
        let device = (&found["major"], &found["minor"]);
        check!(kind == "p" || (*device.0 == major && *device.1 == minor), "{path} is device {}:{}", device.0, device.1);
        check!(found["mode"] == mode, "{path} has mode {}, not {mode} (decimal)", found["mode"]);
        check!(found["uid"] == uid && found["gid"] == gid, "{path} belongs to {}:{}", found["uid"], found["gid"]);
    }
    let errno = seen.errno("open:rw:/tmp/c")?;
    check!(errno == 0, "opening /tmp/c, which is another /dev/null, gives errno {errno}");
    Ok(())
}

/// A regular file, and another device.
fn mismatch(suite: &Suite) -> Outcome {
    for what in ["a regular file", "another device"] {
        let mut bundle = suite.bundle()?;
        let path = bundle.rootfs("tmp/node");
        if what == "another device" {
            mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))?;
        } else {
            fs::write(&path, what)?;
        }
        bundle.config["linux"]["devices"] =
            json!([{ "path": "/tmp/node", "type": "c", "major": 1, "minor": 3, "fileMode": 438 }]);
        check!(!bundle.create()?.ok(), "no error, though {what} is where the device should be");
    }
    Ok(())
}

fn defaults(suite: &Suite) -> Outcome {
    let wanted = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let mut actions: Vec<String> = wanted.iter().map(|(name, ..)| format!("stat:/dev/{name}")).collect();
    actions.extend(["open:rw:/dev/null", "open:r:/dev/urandom", "stat:/dev/ptmx", "open:rw:/dev/ptmx"].map(str::to_string));
    let seen = suite.see(&actions.iter().map(String::as_str).collect::<Vec<_>>(), |_| {})?;
    for (name, major, minor) in wanted {
        let found = seen.of(&format!("stat:/dev/{name}"))?;
        let right = found["type"] == "c" && found["major"] == major && found["minor"] == minor;
        check!(right, "/dev/{name} is not the device {major}:{minor}: {found}");
    }
    for action in ["open:rw:/dev/null", "open:r:/dev/urandom", "open:rw:/dev/ptmx"] {
        check!(seen.errno(action)? == 0, "{action} gives errno {}", seen.errno(action)?);
    }
    let ptmx = seen.of("stat:/dev/ptmx")?;
    let link = ["pts/ptmx", "/dev/pts/ptmx"].iter().any(|target| ptmx["target"] == *target);
    check!(link || (ptmx["type"] == "c" && ptmx["major"] == 5 && ptmx["minor"] == 2), "/dev/ptmx is {ptmx}");
    let console = console(suite)?;
    let found = console.of("stat:/dev/console")?;
    // A pseudoterminal's number, and the process's own terminal.
    check!(found["type"] == "c" && found["major"] == 136, "with a terminal /dev/console is {found}");
    check!(console.mount("/dev/console")?.kind == "devpts", "/dev/console is no bind mount of the pseudoterminal");
    Ok(())
}

/// What a program sees that has a terminal, received by a console socket.
fn console(suite: &Suite) -> Outcome<Seen> {
    let mut bundle = suite.bundle()?;
    let log = bundle.dir.join("hooks");
    fs::create_dir(&log)?;
    mount(&mut bundle.config, "/out", "none", &log.to_string_lossy(), &["bind"]);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.actions(&["to:/out/log", "stat:/dev/console", "report"]);
    let socket = bundle.dir.join("console").to_string_lossy().into_owned();
    let listener = UnixListener::bind(&socket)?;
    let create = bundle.create_with(&["--console-socket", &socket])?;
    if !create.ok() {
        fail!("create with a terminal failed: {}", create.complaint());
    }
    let (peer, _) = listener.accept()?;
    let received = crate::relay::receive(&peer, std::time::Duration::from_secs(2));
    check!(received.descriptors.iter().flatten().count() == 1, "no terminal came by the console socket");
    bundle.started()?;
    bundle.wait()?;
    Seen::parse(&fs::read_to_string(log.join("log")).unwrap_or_default())
}
