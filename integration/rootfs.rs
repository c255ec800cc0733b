// SPDX-License-Identifier: Apache-2.0
//! The root file system: pivot, read-only, devices and links in /dev, masked and read-only paths.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::look::parse_mounts;
use crate::harness::{Bundle, Call, Need, Test, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(root_is_the_rootfs),
    test!(absolute_root_path),
    test!(nothing_of_the_host_is_mounted),
    test!(no_pivot),
    test!(read_only_root),
    test!(read_only_root_can_be_populated_first),
    test!(bundle_is_left_as_it_was),
    test!(default_devices),
    test!(default_devices_work),
    test!(default_links),
    test!(given_devices).needs(&[Need::Capability("CAP_MKNOD", 27)]),
    test!(given_device_replaces_a_default_one),
    test!(masked_file),
    test!(masked_directory),
    test!(masked_path_that_is_missing),
    test!(masked_symlink),
    test!(many_masked_paths),
    test!(read_only_file_and_directory),
    test!(read_only_path_keeps_its_restrictions),
    test!(read_only_path_that_is_missing),
    test!(file_mounted_below_a_read_only_path),
];

fn root_is_the_rootfs() {
    let bundle = Bundle::sh("ls /; cat /mark; cat /../../mark");
    fs::write(bundle.inside("/mark"), "here\n").unwrap();
    assert_eq!(bundle.print(), "bin\ndev\netc\nhome\nmark\nproc\nroot\nrun\nsys\ntmp\nhere\nhere\n");
}

fn absolute_root_path() {
    let other = Bundle::new();
    fs::write(other.inside("/mark"), "other\n").unwrap();
    let mut bundle = Bundle::args(&["/bin/cat", "/mark"]);
    bundle.set("/root/path", json!(other.inside("/")));
    assert_eq!(bundle.print(), "other\n");
}

/// Every mount is one of the container's: the old root is not just hidden.
fn nothing_of_the_host_is_mounted() {
    let mounts = parse_mounts(&Bundle::args(&["/bin/cat", "/proc/self/mountinfo"]).print());
    let known =
        |at: &str| at == "/" || ["/proc", "/dev", "/sys"].iter().any(|top| at == *top || at.starts_with(&format!("{top}/")));
    for mount in &mounts {
        assert!(known(&mount.at), "{}", mount.line);
    }
    assert_eq!(mounts.iter().filter(|mount| mount.at == "/").count(), 1, "{mounts:#?}");
}

fn no_pivot() {
    let bundle = Bundle::sh("cat /mark; ls /proc/1/exe; ls / | grep -c run");
    fs::write(bundle.inside("/mark"), "here\n").unwrap();
    let output = bundle.run_call(&["--no-pivot"]).output().ok();
    assert_eq!(output, "here\n/proc/1/exe\n1\n");
    let call = Call::new(&["create", "--no-pivot", "--bundle", bundle.path(), &bundle.id]);
    let container = bundle.container();
    bundle.output_of(call).ok();
    container.start();
    container.wait_stdout("here");
}

fn read_only_root() {
    let mut bundle = Bundle::sh("touch /file /tmp/file /dev/shm/file; ls /dev/shm; exit 0");
    bundle.set("/root/readonly", json!(true));
    let output = bundle.run();
    assert!(output.stderr.contains("/file: Read-only file system"), "{output:?}");
    assert!(output.stderr.contains("/tmp/file: Read-only file system"), "{output:?}");
    assert_eq!(output.stdout, "file\n", "mounts of their own are writable");
    fs::write(bundle.inside("/still-writable-outside"), "").unwrap();
}

fn read_only_root_can_be_populated_first() {
    let mut bundle = Bundle::sh("stat -f -c %T /made/here; cat /etc/hosts");
    let file = folder().join("hosts");
    fs::write(&file, "hosts\n").unwrap();
    bundle.set("/root/readonly", json!(true)).mount("/made/here", "tmpfs", "tmpfs", &[]);
    bundle.mount("/etc/hosts", "bind", file.to_str().unwrap(), &["bind"]);
    assert_eq!(bundle.print(), "tmpfs\nhosts\n");
}

/// A container leaves nothing of its setting up in the image.
fn bundle_is_left_as_it_was() {
    let list = |bundle: &Bundle| -> Vec<String> {
        let walk = Call::program(&["find", bundle.dir.to_str().unwrap()]).output().ok();
        walk.lines().map(str::to_owned).collect()
    };
    let bundle = Bundle::sh("echo ran");
    bundle.save();
    let before = list(&bundle);
    assert_eq!(bundle.print(), "ran\n");
    assert_eq!(list(&bundle), before);
}

/// Type, numbers (hexadecimal) and mode of devices (config-linux.md "Default Devices").
fn default_devices() {
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty";
    let expected = "null character special file 1:3 666 0:0
zero character special file 1:5 666 0:0
full character special file 1:7 666 0:0
random character special file 1:8 666 0:0
urandom character special file 1:9 666 0:0
tty character special file 5:0 666 0:0
";
    assert_eq!(Bundle::sh(script).print(), expected);
}

fn default_devices_work() {
    let script =
        "echo x >/dev/null && head -c 3 /dev/zero | od -An -tx1; head -c 9 /dev/urandom | wc -c; echo x >/dev/full; exit 0";
    let output = Bundle::sh(script).run();
    assert_eq!(output.stdout, " 00 00 00\n9\n");
    assert!(output.stderr.contains("No space left on device"), "{output:?}");
}

fn default_links() {
    let output = Bundle::sh("cd /dev; for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done").print();
    let ptmx = output.lines().last().unwrap();
    assert!(ptmx == "ptmx pts/ptmx" || ptmx == "ptmx /dev/pts/ptmx", "{output}");
    let links = "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n";
    assert!(output.starts_with(links), "{output}");
}

fn given_devices() {
    let mut bundle = Bundle::sh("stat -c '%n %F %t:%T %a %u:%g' /dev/mine /dev/sub/disk /opt/pipe");
    bundle.set(
        "/linux/devices",
        json!([
            { "path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 },
            { "path": "/dev/sub/disk", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600 },
            { "path": "/opt/pipe", "type": "p", "fileMode": 0o622 },
        ]),
    );
    let expected = "/dev/mine character special file a:e5 640 3:4
/dev/sub/disk block special file 7:12c 600 0:0
/opt/pipe fifo 0:0 622 0:0
";
    assert_eq!(bundle.print(), expected);
}

fn given_device_replaces_a_default_one() {
    let mut bundle = Bundle::sh("stat -c '%F %t:%T %a %u:%g' /dev/zero");
    let device = json!({ "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 7, "gid": 8 });
    bundle.set("/linux/devices", json!([device]));
    assert_eq!(bundle.print(), "character special file 1:5 600 7:8\n");
}

fn masked_file() {
    let mut bundle = Bundle::sh("cat /secret; wc -c </secret; echo x >/secret; cat /secret; exit 0");
    fs::write(bundle.inside("/secret"), "secret\n").unwrap();
    bundle.set("/linux/maskedPaths/-", json!("/secret"));
    let output = bundle.run();
    assert_eq!(output.stdout, "0\n");
    assert_eq!(fs::read_to_string(bundle.inside("/secret")).unwrap(), "secret\n");
}

fn masked_directory() {
    let mut bundle = Bundle::sh("ls -A /secret; touch /secret/new; exit 0");
    fs::create_dir(bundle.inside("/secret")).unwrap();
    fs::write(bundle.inside("/secret/file"), "").unwrap();
    bundle.set("/linux/maskedPaths/-", json!("/secret"));
    let output = bundle.run();
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    assert!(!bundle.inside("/secret/new").exists());
}

fn masked_path_that_is_missing() {
    let mut bundle = Bundle::sh("ls -d /not 2>/dev/null; echo ran");
    bundle.set("/linux/maskedPaths", json!(["/not/there", "/proc/not/there"]));
    assert_eq!(bundle.print(), "ran\n");
}

/// A symlink of the image leads to what it names inside the image, never of the host.
fn masked_symlink() {
    let outside = folder().join("outside");
    fs::write(&outside, "of the host\n").unwrap();
    let mut bundle = Bundle::sh("cat /real; cat /link; echo end");
    fs::write(bundle.inside("/real"), "secret\n").unwrap();
    symlink("/real", bundle.inside("/link")).unwrap();
    symlink(&outside, bundle.inside("/out")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/link", "/out"]));
    assert_eq!(bundle.print(), "end\n");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host\n");
}

fn many_masked_paths() {
    let mut bundle = Bundle::sh("cat /many/*; ls /dirs/*/; echo end");
    for n in 0..40 {
        fs::create_dir_all(bundle.inside(&format!("/dirs/{n}"))).unwrap();
        fs::create_dir_all(bundle.inside("/many")).unwrap();
        fs::write(bundle.inside(&format!("/many/{n}")), "secret\n").unwrap();
        fs::write(bundle.inside(&format!("/dirs/{n}/file")), "secret\n").unwrap();
        bundle.set("/linux/maskedPaths/-", json!(format!("/many/{n}"))).set("/linux/maskedPaths/-", json!(format!("/dirs/{n}")));
    }
    let output = bundle.print();
    assert!(!output.contains("secret") && !output.contains("file") && output.ends_with("end\n"), "{output}");
}

fn read_only_file_and_directory() {
    let mut bundle = Bundle::sh("cat /etc/file; echo x >/etc/file; touch /home/new; touch /tmp/new && echo made; exit 0");
    fs::write(bundle.inside("/etc/file"), "text\n").unwrap();
    bundle.set("/linux/readonlyPaths", json!(["/etc/file", "/home"]));
    let output = bundle.run();
    assert_eq!(output.stdout, "text\nmade\n");
    assert_eq!(
        output.stderr.matches("Read-only file system").count() + output.stderr.matches("can't create").count(),
        3,
        "{output:?}"
    );
    assert!(!bundle.inside("/home/new").exists());
    assert_eq!(fs::read_to_string(bundle.inside("/etc/file")).unwrap(), "text\n");
}

/// What /proc had, nosuid, nodev and noexec, stays on the read-only part of it.
fn read_only_path_keeps_its_restrictions() {
    let mounts = parse_mounts(&Bundle::args(&["/bin/cat", "/proc/self/mountinfo"]).print());
    let mount = crate::harness::look::mount_at(&mounts, "/proc/sys");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.options.iter().any(|o| o == option), "{option}: {}", mount.line);
    }
}

/// As CRIU wants it in a container: what the configuration mounts on a file of /proc/sys can be written to, and nothing else there.
fn file_mounted_below_a_read_only_path() {
    let places = ["/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"];
    let Some(place) = places.iter().find(|place| std::path::Path::new(place).exists()) else {
        skip("no such file in /proc here")
    };
    for (options, wanted) in [(&["bind"][..], "new"), (&["bind", "ro"], "old")] {
        let mut bundle = Bundle::sh(&format!("echo new >{place}; echo x >/proc/sys/kernel/hostname; cat {place}"));
        let file = folder().join("file");
        fs::write(&file, "old\n").unwrap();
        bundle.mount(place, "none", file.to_str().unwrap(), options).set("/linux/readonlyPaths", json!(["/proc/sys"]));
        let output = bundle.run();
        assert_eq!(output.stdout.trim(), wanted, "{output:?}");
        assert!(output.stderr.contains("/proc/sys/kernel/hostname"), "{output:?}");
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), wanted);
    }
}

fn read_only_path_that_is_missing() {
    let mut bundle = Bundle::sh("ls -d /not 2>/dev/null; echo ran");
    bundle.set("/linux/readonlyPaths", json!(["/not/there"]));
    assert_eq!(bundle.print(), "ran\n");
}
