// SPDX-License-Identifier: Apache-2.0
//! Mounts: kinds, options, bind mounts, propagation, and that no destination lies outside the rootfs (config.md "Mounts").

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::look::{Mount, mount_at, parse_mounts};
use crate::harness::{Bundle, Container, Need, Test, need};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(the_usual_mounts),
    test!(tmpfs_options),
    test!(mqueue).needs(&[Need::File("/proc/sys/fs/mqueue")]),
    test!(cgroup2_with_a_cgroup_namespace).needs(&[Need::Cgroup2]),
    test!(cgroup2_without_a_cgroup_namespace).needs(&[Need::Cgroup2]),
    test!(bind_of_a_directory),
    test!(bind_of_a_file),
    test!(bind_with_a_source_relative_to_the_bundle),
    test!(bind_of_a_missing_source_is_refused),
    test!(bind_read_only),
    test!(bind_options).differs(&[("crun", "an option and its opposite do not cancel each other")]),
    test!(bind_is_not_recursive_and_rbind_is),
    test!(read_only_is_not_recursive_and_rro_is),
    test!(destinations_are_created).differs(&[("crun", "makes them with the sticky bit")]),
    test!(later_mounts_lie_over_earlier_ones),
    test!(tmpcopyup),
    test!(idmapped_bind).needs(&[Need::Kernel(6, 3)]),
    test!(propagation_of_the_rootfs),
    test!(propagation_of_a_mount),
    test!(mounts_of_the_host_reach_a_slave),
    test!(mounts_of_the_host_do_not_reach_a_private_one),
    test!(relative_destination_is_taken_from_the_root),
    test!(destination_through_an_absolute_symlink),
    test!(destination_through_a_climbing_symlink),
    test!(destination_through_a_dangling_symlink).differs(&[("crun", "refuses it")]),
    test!(destination_with_dots),
];

/// The mounts that the container's first process sees.
fn mounts_of(container: &Container) -> Vec<Mount> {
    parse_mounts(&fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap())
}

fn the_usual_mounts() {
    let mounts = mounts_of(&Bundle::new().create());
    for (at, kind, options) in [
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let mount = mount_at(&mounts, at);
        assert_eq!(mount.kind, kind);
        options.iter().for_each(|option| assert!(mount.has(option), "{at} has {option}: {}", mount.line));
    }
    assert!(!mount_at(&mounts, "/dev").has("nodev"));
}

fn tmpfs_options() {
    let mut bundle = Bundle::sh("stat -c %a:%u:%g /mnt; df -k /mnt | tail -1");
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["size=4m", "mode=1750", "uid=5", "gid=6", "noatime", "nodiratime", "sync"]);
    let container = bundle.create();
    let mounts = mounts_of(&container);
    let mount = mount_at(&mounts, "/mnt");
    for option in ["rw", "noatime", "nodiratime", "size=4096k", "sync"] {
        assert!(mount.has(option), "{option}: {}", mount.line);
    }
    container.start();
    let output = container.wait_stdout("/mnt");
    assert!(output.starts_with("1750:5:6\n"), "{output}");
    assert_eq!(output.split_whitespace().nth(2), Some("4096"), "{output}");
}

fn mqueue() {
    let mut bundle = Bundle::sh("ls -A /dev/mqueue; echo listed");
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let container = bundle.create();
    assert_eq!(mount_at(&mounts_of(&container), "/dev/mqueue").kind, "mqueue");
    container.start();
    container.wait_stdout("listed");
}

/// The container sees its own cgroup as the root of the tree, and may not write there if the mount is read-only.
fn cgroup2_with_a_cgroup_namespace() {
    let mut bundle = Bundle::sh("cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/below; ls -d /sys/fs/cgroup/bt-*; exit 0");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let output = bundle.run();
    assert!(output.stdout.starts_with("1\n"), "{output:?}");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    assert!(!output.stdout.contains("bt-"), "other cgroups are not seen: {output:?}");
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.set("/process/args/2", json!("mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below && echo made"));
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    assert_eq!(bundle.print(), "made\n");
}

fn cgroup2_without_a_cgroup_namespace() {
    let mut bundle = Bundle::sh("test -e /sys/fs/cgroup/cgroup.procs && echo mounted");
    bundle.namespace("cgroup", Some(""));
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    assert_eq!(bundle.print(), "mounted\n");
    assert!(need::cgroup2());
}

/// A directory of the host with the file `file` in it.
fn host_dir(name: &str) -> String {
    let dir = folder().join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "of the host\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn bind_of_a_directory() {
    let source = host_dir("source");
    let mut bundle = Bundle::sh("cat /mnt/file; echo from inside >/mnt/new");
    bundle.mount("/mnt", "bind", &source, &["bind"]);
    assert_eq!(bundle.print(), "of the host\n");
    assert_eq!(fs::read_to_string(format!("{source}/new")).unwrap(), "from inside\n");
    let mut bundle = Bundle::args(&["/bin/cat", "/mnt/file"]);
    bundle.set("/mounts/-", json!({ "destination": "/mnt", "source": source, "options": ["rbind"] }));
    assert_eq!(bundle.print(), "of the host\n", "a type is not needed");
}

fn bind_of_a_file() {
    let source = format!("{}/file", host_dir("source"));
    let mut bundle = Bundle::sh("cat /etc/hosts /new/place/file");
    bundle.mount("/etc/hosts", "bind", &source, &["bind", "ro"]);
    bundle.mount("/new/place/file", "bind", &source, &["bind"]);
    assert_eq!(bundle.print(), "of the host\nof the host\n");
}

fn bind_with_a_source_relative_to_the_bundle() {
    let mut bundle = Bundle::args(&["/bin/cat", "/mnt/file"]);
    fs::create_dir(bundle.dir.join("data")).unwrap();
    fs::write(bundle.dir.join("data/file"), "beside config.json\n").unwrap();
    bundle.mount("/mnt", "bind", "data", &["bind"]);
    assert_eq!(bundle.print(), "beside config.json\n");
}

fn bind_of_a_missing_source_is_refused() {
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "bind", "/not/there", &["bind"]);
    let message = bundle.create_fails();
    assert!(message.contains("/not/there"), "{message}");
}

fn bind_read_only() {
    let source = host_dir("source");
    let mut bundle = Bundle::sh("cat /mnt/file; touch /mnt/new; exit 0");
    bundle.mount("/mnt", "bind", &source, &["bind", "ro"]);
    let output = bundle.run();
    assert_eq!(output.stdout, "of the host\n");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    fs::write(format!("{source}/outside"), "").unwrap();
}

fn bind_options() {
    let source = host_dir("source");
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "bind", &source, &["rbind", "ro", "nosuid", "nodev", "noexec", "noatime"]);
    bundle.mount("/tmp", "bind", &source, &["rbind", "nosuid", "suid", "noexec", "exec", "strictatime"]);
    let mounts = mounts_of(&bundle.create());
    let mount = mount_at(&mounts, "/mnt");
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(mount.options.iter().any(|o| o == option), "{option}: {}", mount.line);
    }
    assert_eq!(mount_at(&mounts, "/tmp").options, ["rw"], "the last of two opposites wins");
}

/// A tmpfs of the host's with a file in it, unmounted when dropped.
struct HostMount(String);

impl HostMount {
    fn at(place: &str) -> HostMount {
        fs::create_dir_all(place).unwrap();
        mount(Some("host"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::write(format!("{place}/file"), "of the host\n").unwrap();
        HostMount(place.to_owned())
    }

    fn new() -> HostMount {
        HostMount::at(folder().join("mounted").to_str().unwrap())
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        umount2(self.0.as_str(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn bind_is_not_recursive_and_rbind_is() {
    let source = host_dir("source");
    let _below = HostMount::at(&format!("{source}/below"));
    for (option, expected) in [("bind", "no\n"), ("rbind", "yes\n")] {
        let mut bundle = Bundle::sh("test -e /mnt/below/file && echo yes || echo no");
        bundle.mount("/mnt", "bind", &source, &[option]);
        assert_eq!(bundle.print(), expected, "{option}");
    }
}

fn read_only_is_not_recursive_and_rro_is() {
    let source = host_dir("source");
    let _below = HostMount::at(&format!("{source}/below"));
    for (option, expected) in [("ro", "rw"), ("rro", "ro")] {
        let mut bundle = Bundle::new();
        bundle.mount("/mnt", "bind", &source, &["rbind", option]);
        let mounts = mounts_of(&bundle.create());
        assert_eq!(mount_at(&mounts, "/mnt").options[0], "ro", "{option}");
        assert_eq!(mount_at(&mounts, "/mnt/below").options[0], expected, "{option}");
    }
}

fn destinations_are_created() {
    let source = host_dir("source");
    let mut bundle = Bundle::args(&["/bin/cat", "/a/b/c/file"]);
    bundle.mount("/a/b/c", "bind", &source, &["bind"]);
    assert_eq!(bundle.print(), "of the host\n");
    assert_eq!(fs::metadata(bundle.inside("/a/b")).unwrap().permissions().mode() & 0o7777, 0o755);
}

fn later_mounts_lie_over_earlier_ones() {
    let mut bundle = Bundle::sh("ls -A /mnt; stat -f -c %T /mnt/below");
    bundle.mount("/mnt", "tmpfs", "one", &[]).mount("/mnt/below", "tmpfs", "two", &[]);
    assert_eq!(bundle.print(), "below\ntmpfs\n");
    bundle.mount("/mnt", "tmpfs", "three", &[]).set("/process/args", json!(["/bin/ls", "-A", "/mnt"]));
    assert_eq!(bundle.print(), "");
}

fn tmpcopyup() {
    let mut bundle = Bundle::sh("cat /home/file; echo inside >/home/file");
    fs::write(bundle.inside("/home/file"), "of the image\n").unwrap();
    bundle.mount("/home", "tmpfs", "tmpfs", &["tmpcopyup"]);
    assert_eq!(bundle.print(), "of the image\n");
    assert_eq!(fs::read_to_string(bundle.inside("/home/file")).unwrap(), "of the image\n");
}

/// What belongs to 0 on the host belongs to 5 inside, and the other way round.
fn idmapped_bind() {
    let source = host_dir("source");
    let mut bundle = Bundle::sh("stat -c %u:%g /mnt/file");
    let map = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "idmap"],
            "uidMappings": map, "gidMappings": map }),
    );
    assert_eq!(bundle.print(), "5:5\n");
    assert_eq!(fs::metadata(format!("{source}/file")).unwrap().uid(), 0);
}

/// Whether a mount receives (`master`), sends and receives (`shared`), or neither.
fn propagation(mount: &Mount) -> Vec<&str> {
    mount.tags.iter().map(|tag| tag.split(':').next().unwrap()).filter(|tag| *tag != "propagate_from").collect()
}

/// What it says holds for the root and for all mounts that say nothing themselves.
fn propagation_of_the_rootfs() {
    let host = HostMount::new();
    let tags = |value: Option<&str>| {
        let mut bundle = Bundle::new();
        bundle.mount("/mnt", "bind", &host.0, &["rbind"]);
        if let Some(value) = value {
            bundle.set("/linux/rootfsPropagation", json!(value));
        }
        let mounts = mounts_of(&bundle.create());
        let tags = |at: &str| propagation(mount_at(&mounts, at)).join(" ");
        (tags("/"), tags("/mnt"))
    };
    assert_eq!(tags(Some("private")).0, "");
    let (root, mount) = tags(Some("rslave"));
    assert!(!root.contains("shared") && mount == "master", "rslave: {root:?} {mount:?}");
    assert!(tags(Some("shared")).0.contains("shared"));
    assert_eq!(tags(Some("unbindable")).0, "unbindable");
    let (root, mount) = tags(None);
    assert!(!root.contains("shared") && !mount.contains("shared"), "by default nothing goes out: {root:?} {mount:?}");
}

fn propagation_of_a_mount() {
    let host = HostMount::new();
    for (option, of_rootfs, expected) in [
        ("private", "slave", ""),
        ("rprivate", "shared", ""),
        ("rslave", "rslave", "master"),
        ("rshared", "shared", "shared"),
        ("unbindable", "private", "unbindable"),
    ] {
        let mut bundle = Bundle::new();
        bundle.mount("/mnt", "bind", &host.0, &["rbind", option]).set("/linux/rootfsPropagation", json!(of_rootfs));
        let mounts = mounts_of(&bundle.create());
        let tags = propagation(mount_at(&mounts, "/mnt"));
        assert!(if expected.is_empty() { tags.is_empty() } else { tags.contains(&expected) }, "{option}: {tags:?}");
    }
}

/// Whether a mount that the host makes below a bind source while the container runs is seen inside.
fn host_mount_is_seen(option: &str) -> bool {
    let host = HostMount::new();
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "bind", &host.0, &["rbind", option]).set("/linux/rootfsPropagation", json!("rslave"));
    let container = bundle.run_detached();
    let _below = HostMount::at(&format!("{}/below", host.0));
    Path::new(&format!("/proc/{}/root/mnt/below/file", container.pid())).exists()
}

fn mounts_of_the_host_reach_a_slave() {
    assert!(host_mount_is_seen("rslave"));
}

fn mounts_of_the_host_do_not_reach_a_private_one() {
    assert!(!host_mount_is_seen("rprivate"));
}

fn relative_destination_is_taken_from_the_root() {
    let mut bundle = Bundle::args(&["/bin/cat", "/some/where/file"]);
    bundle.mount("some/where", "bind", &host_dir("source"), &["bind"]).set("/process/cwd", json!("/tmp"));
    assert_eq!(bundle.print(), "of the host\n");
}

/// Mounts on `destination`, which leads through a symlink of the image to `target`; the file must be seen at `seen`
/// inside, and nothing may change at `outside` of the host.
#[track_caller]
fn assert_stays_inside(destination: &str, link: &str, target: &str, seen: &str) {
    let outside = folder().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let mut bundle = Bundle::sh(&format!("cat {seen}/file"));
    symlink(target.replace("OUTSIDE", outside.to_str().unwrap()), bundle.inside(link)).unwrap();
    bundle.mount(destination, "bind", &host_dir("source"), &["bind"]);
    assert_eq!(bundle.print(), "of the host\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing is made outside the rootfs");
}

fn destination_through_an_absolute_symlink() {
    assert_stays_inside("/link/sub", "/link", "/home", "/home/sub");
}

fn destination_through_a_climbing_symlink() {
    assert_stays_inside("/link/sub", "/link", "../../../../../../../../../../../home", "/home/sub");
}

fn destination_through_a_dangling_symlink() {
    assert_stays_inside("/link/sub", "/link", "OUTSIDE", "/link/sub");
}

fn destination_with_dots() {
    let outside = folder().join("bundle-outside");
    let mut bundle = Bundle::sh("cat /bundle-outside/file");
    bundle.mount("/../../bundle-outside", "bind", &host_dir("source"), &["bind"]);
    assert_eq!(bundle.print(), "of the host\n");
    assert!(!outside.exists());
}
