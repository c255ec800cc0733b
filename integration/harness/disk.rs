// SPDX-License-Identifier: Apache-2.0
//! Block devices for tests of block I/O.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use super::bundle::folder;
use super::{Bundle, Call, skip};

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
        let _ = Call::program(&["modprobe", "loop"]).output();
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
