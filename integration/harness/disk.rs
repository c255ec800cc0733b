// SPDX-License-Identifier: Apache-2.0
//! Block devices for tests of block I/O.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bundle::folder;
use super::{Bundle, Call, skip};

/// Has the kernel load a module, if it is not in it already: a machine without modprobe(8) may have it built in.
pub fn load_module(name: &str) {
    let _ = std::process::Command::new("modprobe").args(["--quiet", name]).status();
}

/// A block device over memory, removed when dropped.
pub struct Loop {
    path: String,
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
}

impl Loop {
    /// One of so many bytes; the test is skipped where there can be none.
    pub fn new(bytes: u64) -> Loop {
        load_module("loop");
        let file = folder().join("disk");
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        let made = Call::program(&["losetup", "--find", "--show", file.to_str().unwrap()]).output();
        if !made.status.success() {
            skip(&format!("no loop device here: {}", made.stderr.trim()));
        }
        let path = made.stdout.trim().to_owned();
        let rdev = fs::metadata(&path).unwrap().rdev();
        Loop { path, major: nix::sys::stat::major(rdev), minor: nix::sys::stat::minor(rdev) }
    }

    /// Its node.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Has this I/O scheduler serve it; the test is skipped where the kernel has none of that name.
    pub fn schedule_by(&self, name: &str) {
        load_module(name);
        let file = format!("/sys/block/{}/queue/scheduler", self.path.trim_start_matches("/dev/"));
        if let Err(error) = fs::write(&file, name) {
            skip(&format!("no I/O scheduler {name} here: {error}"));
        }
    }

    /// Gives it to a container, as /dev/disk.
    pub fn give_to(&self, bundle: &mut Bundle) {
        let Loop { major, minor, .. } = self;
        bundle.set("/linux/devices", json!([{ "path": "/dev/disk", "type": "b", "major": major, "minor": minor }]));
        let rule = json!({ "allow": true, "type": "b", "major": major, "minor": minor, "access": "rw" });
        bundle.set("/linux/resources/devices", json!([{ "allow": false, "access": "rwm" }, rule]));
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Call::program(&["losetup", "--detach", &self.path]).output();
    }
}

/// A container that reads past the cache is as slow as its limit says, and without one it is not.
pub fn assert_throttle_is_a_rate() {
    let disk = Loop::new(8 << 20);
    let took = |resources: Value| {
        let mut bundle = Bundle::limited("dd if=/dev/disk of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null", resources);
        disk.give_to(&mut bundle);
        let start = Instant::now();
        bundle.run().ok();
        start.elapsed()
    };
    let rate = json!([{ "major": disk.major, "minor": disk.minor, "rate": 1 << 20 }]);
    let (free, held) = (took(json!({})), took(json!({ "blockIO": { "throttleReadBpsDevice": rate } })));
    // Two MiB at one MiB a second.
    assert!(
        held > Duration::from_millis(1500) && held > free + Duration::from_secs(1),
        "{held:?} with a limit, {free:?} without"
    );
}
