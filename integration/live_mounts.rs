// SPDX-License-Identifier: Apache-2.0
//! `mounts add`, `remove` and `list`: mounts of a container that runs, as crun has the first two.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::bundle::{folder, state_root};
use crate::harness::look;
use crate::harness::{Bundle, Call, Container, Test};
use crate::test;

const NOT_RUNC: (&str, &str) = ("runc", "has no mounts");
const BOTH: &[(&str, &str)] = &[NOT_RUNC, ("crun", "knows add and remove of plain mounts only")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(added_and_removed).differs(&[NOT_RUNC]),
    test!(file_systems_of_their_own).differs(BOTH),
    test!(the_file_may_be_an_object).differs(&[NOT_RUNC, ("crun", "takes the array alone")]),
    test!(files_and_read_only).differs(&[NOT_RUNC]),
    test!(user_namespace_and_mapped_ids).differs(&[NOT_RUNC]),
    test!(a_failure_leaves_none_of_them).differs(BOTH),
    test!(listed_and_saved).differs(BOTH),
    test!(paused_containers_too).differs(&[NOT_RUNC]),
    test!(links_of_the_image_lead_nowhere_else).differs(BOTH),
    test!(what_is_refused).differs(BOTH),
];

pub fn sleeper() -> (Bundle, Container) {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = bundle.create();
    container.start();
    (bundle, container)
}

/// A folder of the host with one file in it.
fn host_folder() -> PathBuf {
    let dir = folder().join("data");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "of the host").unwrap();
    dir
}

fn file_with(value: &Value) -> String {
    let path = folder().join("mounts-file.json");
    fs::write(&path, value.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

pub fn mounts(container: &Container, action: &str, list: &[Value]) -> Call {
    Call::new(&["mounts", action, &container.id, &file_with(&json!(list))])
}

#[track_caller]
pub fn inside(container: &Container, script: &str) -> String {
    Call::new(&["exec", &container.id, "/bin/sh", "-c", script]).output().ok()
}

fn added_and_removed() {
    let (_, container) = sleeper();
    let data = host_folder();
    let list = [bind(data.to_str().unwrap(), "/added/here", &["bind"])];
    mounts(&container, "add", &list).output().ok();
    assert_eq!(inside(&container, "cat /added/here/file"), "of the host");
    fs::write(data.join("later"), "seen").unwrap();
    assert_eq!(inside(&container, "cat /added/here/later; echo back >/added/here/back"), "seen");
    assert_eq!(fs::read_to_string(data.join("back")).unwrap(), "back\n");
    mounts(&container, "remove", &list).output().ok();
    assert_eq!(inside(&container, "ls /added/here"), "");
    assert!(!look::mounts().iter().any(|mount| mount.at.contains("/added/here")), "the host has it too");
}

fn file_systems_of_their_own() {
    let (_, container) = sleeper();
    let list = [
        json!({ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=1777", "noexec"] }),
        json!({ "destination": "/scratch/proc", "type": "proc", "source": "proc" }),
    ];
    mounts(&container, "add", &list).output().ok();
    let seen = look::parse_mounts(&inside(&container, "cat /proc/self/mountinfo"));
    let scratch = look::mount_at(&seen, "/scratch");
    assert!(scratch.kind == "tmpfs" && scratch.has("size=64k") && scratch.has("noexec"), "{scratch:?}");
    // The container's own processes, and nobody else's.
    assert_eq!(inside(&container, "cat /scratch/proc/1/comm"), "sleep\n");
    mounts(&container, "remove", &list).output().ok();
    assert!(!inside(&container, "cat /proc/self/mountinfo").contains("/scratch"));
}

/// A whole config.json too.
fn the_file_may_be_an_object() {
    let (_, container) = sleeper();
    let data = host_folder();
    let list = json!({ "mounts": [bind(data.to_str().unwrap(), "/added", &["rbind", "rro"])] });
    Call::new(&["mounts", "add", &container.id, &file_with(&list)]).output().ok();
    assert_eq!(inside(&container, "cat /added/file; touch /added/x 2>/dev/null || echo cannot"), "of the hostcannot\n");
}

fn files_and_read_only() {
    let (_, container) = sleeper();
    let data = host_folder();
    let file = data.join("file");
    let list = [bind(file.to_str().unwrap(), "/etc/added.conf", &["bind", "ro", "nosuid"])];
    mounts(&container, "add", &list).output().ok();
    assert_eq!(
        inside(&container, "cat /etc/added.conf; echo x 2>/dev/null >/etc/added.conf || echo cannot"),
        "of the hostcannot\n"
    );
    mounts(&container, "remove", &list).output().ok();
    assert_eq!(inside(&container, "cat /etc/added.conf"), "");
}

/// What only the host's root may open is opened outside; owners appear as the mapping of the mount says.
fn user_namespace_and_mapped_ids() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.user_namespace(&[(0, 100_000, 65536)]);
    for path in ["/", "/bin", "/bin/busybox"] {
        std::os::unix::fs::chown(bundle.inside(path), Some(100_000), Some(100_000)).unwrap();
    }
    let container = bundle.create();
    container.start();
    let data = host_folder();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let mut mapped = bind(data.to_str().unwrap(), "/mapped", &["bind"]);
    mapped["uidMappings"] = maps.clone();
    mapped["gidMappings"] = maps;
    mounts(&container, "add", &[mapped, bind(data.to_str().unwrap(), "/plain", &["bind"])]).output().ok();
    assert_eq!(inside(&container, "stat -c %u:%g /mapped/file; stat -c %u /plain"), "0:0\n65534\n");
    inside(&container, "echo mine >/mapped/mine");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(data.join("mine")).unwrap()), 0);
}

fn a_failure_leaves_none_of_them() {
    let (_, container) = sleeper();
    let data = host_folder();
    let good = |place: &str| bind(data.to_str().unwrap(), place, &["bind"]);
    let wrong = json!({ "destination": "/c", "type": "tmpfs", "source": "tmpfs", "options": ["no-such-option=1"] });
    let said = mounts(&container, "add", &[good("/a"), good("/b"), wrong, good("/d")]).output().fails();
    assert!(said.contains("/c"), "{said}");
    let seen = inside(&container, "cat /proc/self/mountinfo");
    assert!(!seen.contains(" /a ") && !seen.contains(" /b ") && !seen.contains(" /d "), "{seen}");
    let said = mounts(&container, "add", &[good("/a"), bind("/not/there", "/b", &["bind"])]).output().fails();
    assert!(said.contains("no such file or directory") && said.contains("mounts[1]"), "{said}");
    assert!(!inside(&container, "cat /proc/self/mountinfo").contains(" /a "));
    assert!(!container.call(&["mounts", "list"]).output().stdout.contains("/a"));
}

fn listed_and_saved() {
    let (bundle, container) = sleeper();
    let data = host_folder();
    let list = || -> Vec<Value> { serde_json::from_str(&Call::new(&["mounts", "list", &container.id]).output().ok()).unwrap() };
    let before = list();
    assert_eq!(before.len(), bundle.config["mounts"].as_array().unwrap().len());
    assert_eq!(before[0]["destination"], bundle.config["mounts"][0]["destination"]);
    let one = bind(data.to_str().unwrap(), "/one", &["bind", "ro"]);
    mounts(&container, "add", &[one.clone(), bind(data.to_str().unwrap(), "/two", &["bind"])]).output().ok();
    let with = list();
    assert_eq!((with.len(), &with[with.len() - 2]), (before.len() + 2, &one));
    let saved: Value = serde_json::from_slice(&fs::read(state_root().join(&container.id).join("mounts.json")).unwrap()).unwrap();
    assert_eq!(saved, json!(with));
    // Only the place counts.
    mounts(&container, "remove", &[json!({ "destination": "one/" })]).output().ok();
    assert_eq!(list().last().unwrap()["destination"], "/two");
    assert_eq!(list().len(), before.len() + 1);
}

/// Its processes are frozen, ours is none of them.
fn paused_containers_too() {
    let (_, container) = sleeper();
    let data = host_folder();
    container.call(&["pause"]).output().ok();
    mounts(&container, "add", &[bind(data.to_str().unwrap(), "/added", &["bind"])]).output().ok();
    container.call(&["resume"]).output().ok();
    assert_eq!(inside(&container, "cat /added/file"), "of the host");
}

fn links_of_the_image_lead_nowhere_else() {
    let (bundle, container) = sleeper();
    let outside = folder().join("outside");
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.inside("/link")).unwrap();
    let data = host_folder();
    mounts(&container, "add", &[bind(data.to_str().unwrap(), "/link/place", &["bind"])]).output().ok();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(inside(&container, &format!("cat {}/place/file", outside.display())), "of the host");
    mounts(&container, "remove", &[json!({ "destination": "/link/place" })]).output().ok();
    mounts(&container, "remove", &[json!({ "destination": "/link" })]).output().fails();
}

fn what_is_refused() {
    let (_, container) = sleeper();
    let data = host_folder();
    for place in ["/", "/proc", "/proc/sys/kernel"] {
        mounts(&container, "add", &[bind(data.to_str().unwrap(), place, &["bind"])]).output().fails();
    }
    for place in ["/", "/proc", "/proc/kcore", "/nothing/there", "/bin"] {
        mounts(&container, "remove", &[json!({ "destination": place })]).output().fails();
    }
    Call::new(&["mounts", "add", &container.id, "/not/there.json"]).output().fails();
    Call::new(&["mounts", "change", &container.id, "x"]).output().fails();
    Call::new(&["mounts", "add", &container.id]).output().fails();
    Call::new(&["mounts"]).output().fails();
    let said = Call::new(&["mounts", "list", "unknown"]).output().fails();
    assert!(said.contains("does not exist"), "{said}");
    container.kill("KILL");
    container.wait_status("stopped");
    let said = mounts(&container, "add", &[]).output().fails();
    assert!(said.contains("container not running"), "{said}");
}
