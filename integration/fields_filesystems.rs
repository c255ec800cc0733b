// SPDX-License-Identifier: Apache-2.0
//! Words of `mounts[].options` that are about a filesystem as a whole, words that undo others, and mounts that the kernel refuses; then
//! `maskedPaths` and `readonlyPaths` where symbolic links and exec are about (config.md, config-linux.md).

use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::look::{Mount, mount_at, parse_mounts};
use crate::harness::{Bundle, Call, Container, Need, Test, skip};
use crate::test;

/// What this file tests.
pub const TESTS: &[Test] = &[
    test!(flags_of_a_filesystem).differs(&[("crun", "leaves a flag on that a later word undoes")]),
    test!(words_that_undo_words).differs(&[
        ("crun", "an option and its opposite do not cancel each other"),
        ("runc", "passes the recursive words over on a new filesystem"),
    ]),
    test!(words_without_effect)
        .differs(&[("runc", "does not know all of them"), ("crun", "asks the kernel for what it refuses")]),
    test!(options_in_one_string),
    test!(flags_in_one_string).differs(&[("runc", "asks the filesystem for them"), ("crun", "asks the filesystem for them")]),
    test!(remount_of_a_filesystem_changes_its_flags),
    test!(propagation_alone_changes_what_is_there)
        .differs(&[("runc", "wants a source on the host"), ("crun", "wants a source on the host")]),
    test!(unknown_filesystem_is_told).differs(&[("runc", "says what the kernel says"), ("crun", "says what the kernel says")]),
    test!(masked_proc_outside_is_told)
        .needs(&[Need::Program("unshare")])
        .differs(&[("runc", "says what the kernel says"), ("crun", "says what the kernel says")]),
    test!(idmap_of_user_and_group_apart).needs(&[Need::Kernel(6, 3)]),
    test!(idmap_relative_to_the_container).needs(&[Need::Kernel(6, 3)]).differs(&[("runc", "does not know this form")]),
    test!(wrong_idmaps_are_refused).differs(&[("runc", "names the mount and not the word"), ("crun", "leaves it to the kernel")]),
    test!(masked_and_read_only_for_exec_too),
    test!(read_only_symlink),
    test!(masked_and_read_only_of_a_read_only_root),
];

fn mounts_of(container: &Container) -> Vec<Mount> {
    parse_mounts(&fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap())
}

/// The mounts of new tmpfs, one for each list of options, in one container.
fn tmpfs<'a>(lists: impl IntoIterator<Item = &'a [&'a str]>) -> Vec<Mount> {
    let mut bundle = Bundle::new();
    let mut count = 0;
    for options in lists {
        bundle.mount(&format!("/mnt/{count}"), "tmpfs", "tmpfs", options);
        count += 1;
    }
    let mounts = mounts_of(&bundle.create());
    (0..count).map(|number| mount_at(&mounts, &format!("/mnt/{number}")).clone()).collect()
}

fn flags_of_a_filesystem() {
    let rows = [
        (&["sync"][..], "sync", true),
        (&["sync", "async"], "sync", false),
        (&["async", "sync"], "sync", true),
        (&["dirsync"], "dirsync", true),
        (&["lazytime"], "lazytime", true),
        (&["lazytime", "nolazytime"], "lazytime", false),
        (&["nolazytime"], "lazytime", false),
    ];
    for ((options, flag, on), mount) in rows.iter().zip(tmpfs(rows.iter().map(|row| row.0))) {
        assert_eq!(mount.data.iter().any(|word| word == flag), *on, "{options:?}: {}", mount.line);
    }
}

fn words_that_undo_words() {
    let rows = [
        (&["noatime", "norelatime"][..], "noatime", true),
        (&["noatime", "nostrictatime"], "noatime", true),
        (&["noatime", "atime"], "noatime", false),
        (&["norelatime"], "relatime", true),
        (&["strictatime", "nostrictatime"], "relatime", true),
        (&["strictatime"], "relatime", false),
        (&["nosymfollow", "symfollow"], "nosymfollow", false),
        (&["nodiratime", "diratime"], "nodiratime", false),
        (&["nosuid", "suid"], "nosuid", false),
        (&["nodev", "dev"], "nodev", false),
        (&["noexec", "exec"], "noexec", false),
        (&["ro", "rw"], "ro", false),
        // On a new filesystem there is nothing below: the recursive forms mean the same.
        (&["rro"], "ro", true),
        (&["rnosymfollow"], "nosymfollow", true),
        (&["rnosuid"], "nosuid", true),
        (&["rnosymfollow", "rsymfollow"], "nosymfollow", false),
        (&["rnoatime", "rnorelatime"], "noatime", true),
        (&["rstrictatime", "rnostrictatime"], "relatime", true),
    ];
    for ((options, attribute, on), mount) in rows.iter().zip(tmpfs(rows.iter().map(|row| row.0))) {
        assert_eq!(mount.options.iter().any(|word| word == attribute), *on, "{options:?}: {}", mount.line);
    }
}

/// mount(8): they are the kernel's way anyway, or of no meaning on this kernel, and are accepted for the sake of fstab.
fn words_without_effect() {
    let words = "defaults silent loud iversion noiversion nomand rasync rsync rdirsync rmand rnomand async nolazytime";
    let lists: Vec<Vec<&str>> = std::iter::once(vec![]).chain(words.split(' ').map(|word| vec![word])).collect();
    let mounts = tmpfs(lists.iter().map(Vec::as_slice));
    for (list, mount) in lists.iter().zip(&mounts) {
        assert_eq!((&mount.options, &mount.data), (&mounts[0].options, &mounts[0].data), "{list:?}");
    }
}

/// mount(2) takes them so, and an empty one is none.
fn options_in_one_string() {
    let mounts = tmpfs([&["size=1m,mode=0700", "", "nr_inodes=50,uid=7"][..]]);
    for option in ["size=1024k", "nr_inodes=50", "uid=7"] {
        assert!(mounts[0].has(option), "{option}: {}", mounts[0].line);
    }
}

fn flags_in_one_string() {
    let mounts = tmpfs([&["ro,nosuid,size=1m", "sync,nodev"][..]]);
    for option in ["ro", "nosuid", "nodev", "sync", "size=1024k"] {
        assert!(mounts[0].has(option), "{option}: {}", mounts[0].line);
    }
}

fn remount_of_a_filesystem_changes_its_flags() {
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["size=1m", "sync"]);
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["remount", "async", "size=2m", "noexec"]);
    let mounts = mounts_of(&bundle.create());
    let mount = mount_at(&mounts, "/mnt");
    assert_eq!(mounts.iter().filter(|mount| mount.at == "/mnt").count(), 1, "no second mount");
    assert!(mount.has("size=2048k") && mount.has("noexec") && !mount.has("sync"), "{}", mount.line);
}

/// config.md: a mount of options about propagation only changes that of what is there.
fn propagation_alone_changes_what_is_there() {
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &[]);
    bundle.set("/mounts/-", json!({ "destination": "/mnt", "options": ["remount", "bind", "shared"], "source": "none" }));
    let mounts = mounts_of(&bundle.create());
    assert!(mount_at(&mounts, "/mnt").tags.iter().any(|tag| tag.starts_with("shared:")), "{mounts:#?}");
}

fn unknown_filesystem_is_told() {
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "berthfs", "none", &[]);
    let message = bundle.create_fails();
    assert!(message.contains("mounts[5]") && message.contains("berthfs") && message.contains("/proc/filesystems"), "{message}");
}

/// In a user namespace the kernel lets nobody mount a procfs that shows what is covered outside (mount_too_revealing).
fn masked_proc_outside_is_told() {
    let mut bundle = Bundle::args(&["/bin/true"]);
    bundle.user_namespace(&[(0, 0, 1)]).unset("/linux", "cgroupsPath");
    bundle.namespace("cgroup", Some(""));
    let script = "mount --bind /dev/null /proc/version && exec unshare --user --map-root-user --mount \"$@\"";
    let output = bundle.run_through(&["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"], &[]).output();
    if output.stderr.contains("unshare") || output.stderr.contains("mount: ") {
        skip(&format!("no namespaces of an ordinary user here: {}", output.stderr));
    }
    assert_ne!(output.code(), 0);
    assert!(output.stderr.contains("mounts[0]") && output.stderr.contains("outer one is seen whole"), "{output:?}");
}

fn idmap_of_user_and_group_apart() {
    let source = folder().join("apart");
    fs::create_dir_all(&source).unwrap();
    for (name, uid, gid) in [("a", 0, 0), ("b", 10, 21), ("c", 9, 9)] {
        fs::write(source.join(name), "").unwrap();
        std::os::unix::fs::chown(source.join(name), Some(uid), Some(gid)).unwrap();
    }
    let mut bundle = Bundle::sh("cd /mnt; stat -c '%n %u:%g' a b c");
    let map = |rows: &[(u32, u32, u32)]| {
        let row = |(c, h, n): &(u32, u32, u32)| json!({ "containerID": c, "hostID": h, "size": n });
        json!(rows.iter().map(row).collect::<Vec<_>>())
    };
    bundle.set(
        "/mounts/-",
        json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"],
            "uidMappings": map(&[(0, 100, 1), (10, 200, 5)]), "gidMappings": map(&[(0, 300, 1), (20, 400, 5)]) }),
    );
    assert_eq!(bundle.print(), "a 100:300\nb 200:401\nc 65534:65534\n", "mappings alone ask for it, without the option");
}

/// crun's `@`: the outer id is one of the container's user namespace.
fn idmap_relative_to_the_container() {
    let source = folder().join("relative");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    let mut bundle = Bundle::args(&["/bin/stat", "-c", "%u:%g", "/mnt/file"]);
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
    bundle.mount("/mnt", "bind", source.to_str().unwrap(), &["bind", "idmap=uids=@0-7-1;gids=@0-8-1"]);
    assert_eq!(bundle.print(), "7:8\n");
}

fn wrong_idmaps_are_refused() {
    for option in [
        "idmap=",
        "idmap=uids=0-0-1",
        "idmap=uids=0-0;gids=0-0-1",
        "idmap=uids=0-0-0;gids=0-0-1",
        "idmap=users=0-0-1;gids=0-0-1",
        "ridmap=uids=x-0-1;gids=0-0-1",
    ] {
        let mut bundle = Bundle::new();
        bundle.mount("/mnt", "bind", "/tmp", &["bind", option]);
        let message = bundle.create_fails();
        assert!(message.contains("mounts[5].options[1]"), "{option}: {message}");
    }
    let map = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    let overlapping = json!([{ "containerID": 0, "hostID": 5, "size": 3 }, { "containerID": 2, "hostID": 50, "size": 1 }]);
    for (uids, gids) in [(map.clone(), json!([])), (json!([]), map.clone()), (overlapping, map)] {
        let mut bundle = Bundle::new();
        bundle.set(
            "/mounts/-",
            json!({ "destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind"], "uidMappings": uids, "gidMappings": gids }),
        );
        let message = bundle.create_fails();
        assert!(message.contains("mounts[5]"), "{uids} {gids}: {message}");
    }
}

fn masked_and_read_only_for_exec_too() {
    let mut bundle = Bundle::new();
    fs::write(bundle.inside("/secret"), "secret\n").unwrap();
    fs::create_dir(bundle.inside("/fixed")).unwrap();
    bundle
        .set("/linux/maskedPaths", json!(["/secret", "/proc/kcore"]))
        .set("/linux/readonlyPaths", json!(["/fixed", "/proc/sys"]));
    let container = bundle.run_detached();
    let script = "cat /secret; head -c 1 /proc/kcore | wc -c; touch /fixed/x; echo 1 >/proc/sys/kernel/msgmax; umount /secret; cat /secret; exit 0";
    let output = Call::new(&["exec", &container.id, "/bin/sh", "-c", script]).output();
    assert_eq!(output.stdout, "0\n", "{output:?}");
    assert!(output.stderr.contains("/fixed/x: Read-only file system"), "{output:?}");
}

/// What a symbolic link of the image names is taken inside the image; nothing of the host changes.
fn read_only_symlink() {
    let outside = folder().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let mut bundle = Bundle::sh("touch /real/x; touch /link/x; touch /tmp/x && echo writable; exit 0");
    fs::create_dir(bundle.inside("/real")).unwrap();
    symlink("/real", bundle.inside("/link")).unwrap();
    symlink(&outside, bundle.inside("/out")).unwrap();
    bundle.set("/linux/readonlyPaths", json!(["/link", "/out"]));
    let output = bundle.run();
    assert_eq!(output.stdout, "writable\n");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output:?}");
    fs::write(outside.join("still-writable"), "").unwrap();
}

fn masked_and_read_only_of_a_read_only_root() {
    let host = folder().join("disk");
    fs::create_dir_all(&host).unwrap();
    mount(Some("host"), &host, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(host.join("secret"), "secret\n").unwrap();
    let mut bundle = Bundle::sh("cat /disk/secret; touch /disk/x && echo written; touch /x; ls /disk; exit 0");
    fs::create_dir(bundle.inside("/disk")).unwrap();
    bundle.set("/root/readonly", json!(true)).mount("/disk", "bind", host.to_str().unwrap(), &["bind"]);
    bundle.set("/linux/maskedPaths", json!(["/disk/secret"])).set("/linux/readonlyPaths", json!([]));
    let output = bundle.run();
    umount2(&host, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(output.stdout, "written\nsecret\nx\n", "{output:?}");
    assert!(output.stderr.contains("/x: Read-only file system"), "{output:?}");
}
