// SPDX-License-Identifier: Apache-2.0
//! Rootless: the runtime runs as an ordinary user, with a user namespace and without a cgroup of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id, state_root};
use crate::harness::look::{self, status_field};
use crate::harness::{Bundle, Call, Need, Test, call, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(runs_as_its_own_root),
    test!(maps_are_the_users_own),
    test!(lifecycle),
    test!(user_owns_the_files_made_inside),
    test!(no_capability_outside),
    test!(default_state_root),
    test!(terminal_and_devices),
    test!(masked_and_read_only_paths),
    test!(limit_that_cannot_be_set_is_refused)
        .needs(&[Need::Cgroup2])
        .differs(&[("crun", "runs the container without the limit")]),
    test!(ranges_by_helpers).needs(&[Need::Program("newuidmap"), Need::Program("newgidmap")]),
    test!(range_that_is_not_the_users_is_refused).needs(&[Need::Program("newuidmap")]),
    test!(foreign_container_is_out_of_reach),
];

/// A user that has no entry anywhere.
const USER: u32 = 54_321;

/// A call as that user. It is skipped where the user cannot reach the runtime.
fn as_user(words: &[&str]) -> Call {
    let reach = Call::program(&["test", "-x", call::runtime().to_str().unwrap()]).user(USER, USER).output();
    if !reach.status.success() {
        skip(&format!("user {USER} may not execute {}", call::runtime().display()));
    }
    Call::new(words).user(USER, USER).env("XDG_RUNTIME_DIR", run_dir().to_str().unwrap()).env("HOME", "/")
}

/// The user's XDG_RUNTIME_DIR.
fn run_dir() -> PathBuf {
    let dir = folder().join("run");
    if !dir.exists() {
        fs::create_dir(&dir).unwrap();
        give(&dir);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    dir
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
}

/// A bundle of the user's, with itself mapped to root, and everything left out that only root may have.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    give(&state_root());
    give(&bundle.dir);
    give(&bundle.inside("/"));
    for dir in ["dev", "etc", "home", "proc", "root", "run", "sys", "tmp"] {
        give(&bundle.inside(dir));
    }
    bundle.namespace("user", None).unset("/linux", "cgroupsPath");
    bundle.set("/linux/uidMappings", json!([{ "containerID": 0, "hostID": USER, "size": 1 }]));
    bundle.set("/linux/gidMappings", json!([{ "containerID": 0, "hostID": USER, "size": 1 }]));
    bundle
}

fn run(bundle: &Bundle) -> crate::harness::Output {
    bundle.save();
    as_user(&["run", "--bundle", bundle.path(), &bundle.id]).output()
}

fn runs_as_its_own_root() {
    assert_eq!(run(&bundle("id -u; id -g; hostname; echo $$")).ok(), "0\n0\ninside\n1\n");
}

fn maps_are_the_users_own() {
    let output = run(&bundle("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")).ok();
    let words: Vec<&str> = output.split_whitespace().collect();
    let user = USER.to_string();
    assert_eq!(words, ["0", &user, "1", "0", &user, "1", "deny"]);
}

fn lifecycle() {
    let bundle = bundle("echo started; exec sleep 1000");
    bundle.save();
    bundle.output_of(as_user(&["create", "--bundle", bundle.path(), &bundle.id])).ok();
    let state = || -> Value { serde_json::from_str(&as_user(&["state", &bundle.id]).output().ok()).unwrap() };
    assert_eq!(state()["status"], "created");
    let pid = i32::try_from(state()["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(look::status(pid, "Uid").unwrap(), format!("{USER} {USER} {USER} {USER}"));
    as_user(&["start", &bundle.id]).output().ok();
    assert_eq!(state()["status"], "running");
    as_user(&["kill", &bundle.id, "KILL"]).output().ok();
    look::eventually("it is stopped", || state()["status"] == "stopped");
    as_user(&["delete", &bundle.id]).output().ok();
    as_user(&["state", &bundle.id]).output().fails();
}

fn user_owns_the_files_made_inside() {
    let bundle = bundle("touch /tmp/new; stat -c %u:%g /tmp/new");
    assert_eq!(run(&bundle).ok(), "0:0\n");
    let made = fs::metadata(bundle.inside("/tmp/new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (USER, USER));
}

/// Root inside has no power over what is outside, whatever capabilities it is given.
fn no_capability_outside() {
    let mut bundle = bundle("cat /secret; grep CapEff /proc/self/status; exit 0");
    let secret = bundle.inside("/secret");
    fs::write(&secret, "secret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let caps = json!(["CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
    bundle.set("/process/capabilities", json!({ "bounding": caps, "effective": caps, "permitted": caps }));
    let output = run(&bundle);
    assert!(output.stderr.contains("Permission denied"), "{output:?}");
    assert_eq!(status_field(&output.stdout, "CapEff"), "0000000000200002");
}

/// Without --root the state is below XDG_RUNTIME_DIR, in a folder that is the user's alone.
fn default_state_root() {
    let bundle = bundle("exec sleep 1000");
    bundle.save();
    let without_root = |words: &[&str]| {
        as_user(&[]);
        Call::bare(words).user(USER, USER).env("XDG_RUNTIME_DIR", run_dir().to_str().unwrap())
    };
    bundle.output_of(without_root(&["run", "--detach", "--bundle", bundle.path(), &bundle.id])).ok();
    assert_eq!(without_root(&["list", "-q"]).output().ok().trim(), bundle.id);
    let made: Vec<_> = fs::read_dir(run_dir()).unwrap().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let root = made[0].metadata().unwrap();
    assert_eq!((root.uid(), root.mode() & 0o077), (USER, 0));
    without_root(&["delete", "--force", &bundle.id]).output().ok();
}

/// Devices cannot be made, so those of the host are mounted.
fn terminal_and_devices() {
    let output = run(&bundle(
        "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; echo x >/dev/null && echo written; readlink /dev/fd",
    ));
    assert_eq!(output.ok(), "written\n/proc/self/fd\n");
}

fn masked_and_read_only_paths() {
    let mut bundle = bundle("cat /etc/secret; touch /home/new; exit 0");
    fs::write(bundle.inside("/etc/secret"), "secret\n").unwrap();
    bundle.set("/linux/maskedPaths/-", json!("/etc/secret")).set("/linux/readonlyPaths/-", json!("/home"));
    let output = run(&bundle);
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
}

fn limit_that_cannot_be_set_is_refused() {
    let mut bundle = bundle("true");
    bundle.set("/linux/resources", json!({ "pids": { "limit": 10 } }));
    run(&bundle).fails();
}

/// A file put over one of the host's, for this test.
struct Instead(&'static str);

impl Instead {
    fn of(path: &'static str, text: &str) -> Instead {
        let file = folder().join(path.rsplit('/').next().unwrap());
        fs::write(&file, text).unwrap();
        mount(Some(&file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Instead(path)
    }
}

impl Drop for Instead {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// The user in passwd, with 65536 ids of its own: newuidmap(1) looks at all three.
fn subordinate_ids() -> [Instead; 3] {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let range = format!("berthtest:600000:65536\n{USER}:600000:65536\n");
    [
        Instead::of("/etc/passwd", &format!("{passwd}\nberthtest:x:{USER}:{USER}::/:/bin/sh\n")),
        Instead::of("/etc/subuid", &range),
        Instead::of("/etc/subgid", &range),
    ]
}

/// Itself as root, and a range that root has set aside for the user.
fn bundle_with_range(first: u32) -> Bundle {
    let mut bundle = bundle("cat /proc/self/uid_map /proc/self/gid_map; id -u");
    let maps = json!([
        { "containerID": 0, "hostID": USER, "size": 1 },
        { "containerID": 1, "hostID": first, "size": 65536 },
    ]);
    bundle.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps);
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [2000] }));
    bundle
}

fn ranges_by_helpers() {
    let _files = subordinate_ids();
    let mut bundle = bundle_with_range(600_000);
    bundle.unset("/process/user", "additionalGids");
    let output = run(&bundle).ok();
    let words: Vec<&str> = output.split_whitespace().collect();
    let user = USER.to_string();
    let map = ["0", &user, "1", "1", "600000", "65536"];
    assert_eq!(words, [&map[..], &map[..], &["1000"]].concat());
}

fn range_that_is_not_the_users_is_refused() {
    let _files = subordinate_ids();
    run(&bundle_with_range(100_000)).fails();
}

/// What root has made is neither seen nor killed.
fn foreign_container_is_out_of_reach() {
    let container = Bundle::new().run_detached();
    fs::set_permissions(state_root(), fs::Permissions::from_mode(0o700)).unwrap();
    as_user(&["kill", &container.id, "KILL"]).output().fails();
    let _ = as_user(&["delete", "--force", &container.id]).output();
    assert_eq!(container.status(), "running");
    as_user(&["state", &new_id()]).output().fails();
}
