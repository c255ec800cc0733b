// SPDX-License-Identifier: Apache-2.0
//! Labels where their module is there: `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`, for create and for exec.
//! Run by `hack/test apparmor` and `hack/test selinux`, which boot a kernel with the one module or the other.

use std::fs;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::look::{mount_at, parse_mounts};
use crate::harness::{Bundle, Call, Container, Need, Test, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(apparmor_profile_of_create).needs(APPARMOR),
    test!(apparmor_profile_of_exec).needs(APPARMOR),
    test!(apparmor_profile_that_is_not_loaded)
        .needs(APPARMOR)
        .differs(&[("runc", "does not name the profile"), ("crun", "does not name the profile")]),
    test!(selinux_label_of_create).needs(SELINUX),
    test!(selinux_label_of_exec).needs(SELINUX),
    test!(selinux_label_that_the_policy_does_not_have).needs(SELINUX),
    test!(selinux_mount_label).needs(SELINUX),
];

const APPARMOR: &[Need] = &[Need::File("/sys/kernel/security/apparmor"), Need::Program("apparmor_parser")];
/// The kernel makes this folder where SELinux is on, for its file system to be mounted.
const SELINUX: &[Need] = &[Need::File("/sys/fs/selinux"), Need::Program("checkpolicy")];

/// Loads a profile that allows all but to write to /tmp/denied.
fn load_profile(name: &str) {
    let text = format!(
        "profile {name} flags=(attach_disconnected) {{ file, capability, network, signal, mount, umount, ptrace, unix, deny /tmp/denied w, }}\n"
    );
    let file = folder().join(name);
    fs::write(&file, text).unwrap();
    let output = Command::new("apparmor_parser").args(["--replace", "--skip-cache"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// What a process is confined by, and whether that holds.
const SAY_PROFILE: &str =
    "cat /proc/self/attr/current; echo x 2>/dev/null >/tmp/denied || echo denied; echo x >/tmp/allowed && echo allowed";

fn confined_by(profile: &str) -> String {
    format!("{profile} (enforce)\ndenied\nallowed\n")
}

/// A program under a profile; `no_new_privileges` asks the kernel for more: it then looks whether the profile takes anything away.
fn apparmor_profile_of_create() {
    load_profile("berth-create");
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::sh(SAY_PROFILE);
        bundle.set("/process/apparmorProfile", json!("berth-create")).set("/process/noNewPrivileges", json!(no_new_privileges));
        assert_eq!(bundle.print(), confined_by("berth-create"));
    }
    let mut bundle = Bundle::sh("cat /proc/self/attr/current");
    bundle.set("/process/apparmorProfile", json!("unconfined"));
    assert_eq!(bundle.print(), "unconfined\n");
}

/// The container's own profile unless the flag or the process file names another.
fn apparmor_profile_of_exec() {
    load_profile("berth-first");
    load_profile("berth-second");
    let mut bundle = Bundle::new();
    bundle.set("/process/apparmorProfile", json!("berth-first"));
    let container = bundle.run_detached();
    let exec =
        |flags: &[&str], words: &[&str]| Call::new(&[&["exec"], flags, &[container.id.as_str()], words].concat()).output().ok();
    let script = ["/bin/sh", "-c", SAY_PROFILE];
    assert_eq!(exec(&[], &script), confined_by("berth-first"));
    assert_eq!(exec(&["--apparmor", "berth-second"], &script), confined_by("berth-second"));
    assert_eq!(
        exec(&["--process", process_file(&bundle, "apparmorProfile", "berth-second", SAY_PROFILE).as_str()], &[]),
        confined_by("berth-second")
    );
}

fn apparmor_profile_that_is_not_loaded() {
    let mut bundle = Bundle::new();
    bundle.set("/process/apparmorProfile", json!("berth-not-loaded"));
    let message = bundle.create_fails();
    assert!(message.contains("berth-not-loaded"), "{message}");
    let container = Bundle::new().run_detached();
    let output = Call::new(&["exec", "--apparmor", "berth-not-loaded", &container.id, "/bin/true"]).output();
    assert!(output.code() == 255 && output.stderr.contains("berth-not-loaded"), "{output:?}");
}

/// A process file like the container's own process, with another program and label.
fn process_file(bundle: &Bundle, field: &str, label: &str, script: &str) -> String {
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", script]);
    process[field] = json!(label);
    let file = folder().join(format!("{field}.json"));
    fs::write(&file, process.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// selinuxfs in the test's own mount namespace, unmounted when dropped.
struct Selinuxfs;

impl Drop for Selinuxfs {
    fn drop(&mut self) {
        umount2("/sys/fs/selinux", MntFlags::MNT_DETACH).unwrap();
    }
}

/// Gives the kernel the least policy that has labels, once.
fn load_policy() -> Selinuxfs {
    if let Err(errno) = mount(Some("selinuxfs"), "/sys/fs/selinux", Some("selinuxfs"), MsFlags::empty(), None::<&str>) {
        skip(&format!("this kernel mounts no selinuxfs: {errno}"));
    }
    let mounted = Selinuxfs;
    let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    if own.contains(":host_t") {
        return mounted;
    }
    let (source, policy) = (folder().join("policy.conf"), folder().join("policy"));
    fs::write(&source, include_str!("selinux.policy")).unwrap();
    let output = Command::new("checkpolicy").args(["-U", "allow", "-o"]).args([&policy, &source]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::write("/sys/fs/selinux/load", fs::read(policy).unwrap()).unwrap();
    let own = fs::read_to_string("/proc/self/attr/current").unwrap();
    assert!(own.contains(":host_t"), "{own:?}");
    mounted
}

fn label_of(container: &Container) -> String {
    fs::read_to_string(format!("/proc/{}/attr/current", container.pid())).unwrap().trim_end_matches('\0').to_owned()
}

fn selinux_label_of_create() {
    let _mounted = load_policy();
    let own = Bundle::new().run_detached();
    assert_eq!(label_of(&own), "u:r:host_t", "without a label it keeps the caller's");
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::new();
        bundle.set("/process/selinuxLabel", json!("u:r:container_t")).set("/process/noNewPrivileges", json!(no_new_privileges));
        let container = bundle.create();
        assert_eq!(label_of(&container), "u:r:host_t", "until its program is executed");
        container.start();
        container.wait_status("running");
        crate::harness::look::eventually("the program has its label", || label_of(&container) == "u:r:container_t");
    }
}

fn selinux_label_of_exec() {
    let _mounted = load_policy();
    let mut bundle = Bundle::new();
    bundle.set("/process/selinuxLabel", json!("u:r:container_t"));
    let container = bundle.run_detached();
    let script = "tr -d '\\0' </proc/self/attr/current";
    let exec =
        |flags: &[&str], words: &[&str]| Call::new(&[&["exec"], flags, &[container.id.as_str()], words].concat()).output().ok();
    let words = ["/bin/sh", "-c", script];
    assert_eq!(exec(&[], &words), "u:r:container_t");
    assert_eq!(exec(&["--process-label", "u:r:exec_t"], &words), "u:r:exec_t");
    assert_eq!(exec(&["--process", process_file(&bundle, "selinuxLabel", "u:r:exec_t", script).as_str()], &[]), "u:r:exec_t");
}

fn selinux_label_that_the_policy_does_not_have() {
    let _mounted = load_policy();
    let mut bundle = Bundle::new();
    bundle.set("/process/selinuxLabel", json!("u:r:nobody_t"));
    let message = bundle.create_fails();
    assert!(message.contains("u:r:nobody_t"), "{message}");
}

/// All new filesystems have it but those whose files the kernel labels itself.
fn selinux_mount_label() {
    let _mounted = load_policy();
    let mut bundle = Bundle::new();
    bundle.set("/linux/mountLabel", json!("u:object_r:files_t"));
    let container = bundle.create();
    let mounts = parse_mounts(&fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap());
    for at in ["/dev", "/dev/shm", "/dev/pts"] {
        let mount = mount_at(&mounts, at);
        assert!(
            mount.line.contains("context=u:object_r:files_t") || mount.line.contains("context=\"u:object_r:files_t\""),
            "{}",
            mount.line
        );
    }
    assert!(!mount_at(&mounts, "/proc").line.contains("files_t"));
}
