// SPDX-License-Identifier: Apache-2.0
//! What an image can do with its /dev: links in place of devices, files in place of the null device, a console that leads elsewhere.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use super::{Outside, attempt, exec, replace_by_link, without_mounts};
use crate::harness::bundle::folder;
use crate::harness::look::parse_mounts;
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2026_41579_dev_is_a_link).differs(&[("runc", "the version in Debian is older than the fix")]),
    test!(cve_2026_88264_console_is_a_link).differs(&[("crun", "versions up to 1.29.1 have CVE-2026-88264")]),
    test!(cve_2025_52565_console_leads_into_proc),
    test!(cve_2025_31133_null_device_of_the_image),
    test!(cve_2026_88265_output_stays_the_callers).differs(&[("crun", "versions up to 1.29.1 have CVE-2026-88265")]),
    test!(cve_2026_88265_null_device_is_replaced_at_run_time)
        .needs(&[Need::Capability("CAP_MKNOD", 27)])
        .differs(&[("crun", "versions up to 1.29.1 have CVE-2026-88265")]),
    test!(pty_of_the_image_is_not_opened),
];

/// CVE-2026-41579, CVE-2026-47766, CVE-2025-24965: nodes and links are made in /dev, and ptmx is removed there, before the new root is
/// entered.
fn cve_2026_41579_dev_is_a_link() {
    let outside = Outside::new();
    for target in outside.links().into_iter().chain([format!("{}/dev", outside.path()), format!("{}/missing", outside.path())]) {
        for (place, link) in [
            ("/dev", target.clone()),
            ("/dev/pts", target.clone()),
            ("/dev/ptmx", format!("{target}/ptmx")),
            ("/dev/shm", target),
        ] {
            let mut bundle = Bundle::sh("echo ran");
            without_mounts(&mut bundle, "/dev");
            if place == "/dev/pts" || place == "/dev/shm" {
                bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
                bundle.mount("/dev/shm", "tmpfs", "tmpfs", &["mode=1777"]);
            }
            replace_by_link(&bundle, place, &link);
            attempt(&bundle);
            outside.assert_untouched();
        }
    }
}

/// A bundle with a terminal whose /dev is the image's, with nothing mounted over it but devpts.
fn with_console(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    without_mounts(&mut bundle, "/dev");
    fs::create_dir_all(bundle.inside("/dev/pts")).unwrap();
    bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
    bundle.set("/process/terminal", json!(true));
    bundle
}

fn cve_2026_88264_console_is_a_link() {
    let outside = Outside::new();
    for link in outside.links() {
        for leaf in ["made", "console", "target/made"] {
            let bundle = with_console("exec sleep 1000");
            symlink(format!("{link}/{leaf}"), bundle.inside("/dev/console")).unwrap();
            let receiver = Receiver::new(&format!("console-{}", bundle.id));
            let _container = bundle.container();
            bundle.output_of(bundle.create_call(&["--console-socket", receiver.path()]));
            outside.assert_untouched();
        }
    }
}

/// The terminal is bound to /dev/console: a link there must not put it over a file of the kernel, which then is neither masked nor
/// read-only.
fn cve_2025_52565_console_leads_into_proc() {
    for target in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/self/attr/exec", "../proc/kcore", "/etc/passwd"]
    {
        let bundle = with_console("exec sleep 1000");
        symlink(target, bundle.inside("/dev/console")).unwrap();
        let receiver = Receiver::new(&format!("console-{}", bundle.id));
        let container = bundle.container();
        let made = bundle.output_of(bundle.create_call(&["--console-socket", receiver.path()]));
        if !made.status.success() {
            continue;
        }
        let mounts = exec(&container, &[], &["/bin/cat", "/proc/self/mountinfo"]).ok();
        let devpts: Vec<_> =
            parse_mounts(&mounts).into_iter().filter(|mount| mount.kind == "devpts").map(|mount| mount.at).collect();
        assert!(devpts.iter().all(|at| at.starts_with("/dev/")), "{target}: the terminal is at {devpts:?}");
    }
}

/// CVE-2025-31133, CVE-2025-62161: files are masked with the null device. Where that is the image's word, it is something else.
fn cve_2025_31133_null_device_of_the_image() {
    type Make = fn(&Bundle);
    let fakes: [(&str, Make); 6] = [
        ("a link into /proc", |bundle| symlink("/proc/sys/kernel/core_pattern", bundle.inside("/dev/null")).unwrap()),
        ("a link to a file", |bundle| symlink("/etc/passwd", bundle.inside("/dev/null")).unwrap()),
        ("a link to nothing", |bundle| symlink("/not/there", bundle.inside("/dev/null")).unwrap()),
        ("a file", |bundle| fs::write(bundle.inside("/dev/null"), "fake\n").unwrap()),
        ("a directory", |bundle| fs::create_dir(bundle.inside("/dev/null")).unwrap()),
        ("another device", |bundle| {
            // Without CAP_MKNOD there is no other device to be had.
            let _ = mknod(&bundle.inside("/dev/null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5));
        }),
    ];
    for (what, make) in fakes {
        let mut bundle =
            Bundle::sh("stat -c %t:%T /proc/version /secret; cat /secret; echo x >/proc/sys/kernel/core_pattern && echo written");
        without_mounts(&mut bundle, "/dev");
        fs::write(bundle.inside("/secret"), "secret\n").unwrap();
        make(&bundle);
        bundle.set("/linux/maskedPaths", json!(["/proc/version", "/secret"]));
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let output = attempt(&bundle);
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
        assert!(!output.stdout.contains("written") && !output.stdout.contains("secret"), "{what}: {output:?}");
        // Refused, or masked with the one and only null device.
        if !output.stdout.is_empty() {
            assert_eq!(output.stdout, "1:3\n1:3\n", "{what}");
        }
    }
}

/// A regular file as /dev/null has the same device number as every other regular file: none.
fn cve_2026_88265_output_stays_the_callers() {
    let mut bundle = Bundle::sh("echo for the caller; echo and this >&2");
    without_mounts(&mut bundle, "/dev");
    fs::write(bundle.inside("/dev/null"), "").unwrap();
    fs::set_permissions(bundle.inside("/dev/null"), fs::Permissions::from_mode(0o666)).unwrap();
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let output = attempt(&bundle);
    assert_eq!(fs::read_to_string(bundle.inside("/dev/null")).unwrap(), "", "the output went into the image");
    assert_eq!(fs::metadata(bundle.inside("/dev/null")).unwrap().uid(), 0, "the image's file was given away");
    assert!(!output.status.success() || output.stdout == "for the caller\n", "{output:?}");
}

/// The same by a container that replaces its own /dev/null, before an exec.
fn cve_2026_88265_null_device_is_replaced_at_run_time() {
    let fakes = [
        "rm /dev/null; echo -n >/dev/null; chmod 666 /dev/null",
        "rm /dev/null; ln -s /trap /dev/null; echo -n >/trap; chmod 666 /trap",
        "rm /dev/null; mkfifo -m 666 /dev/null",
        "rm /dev/null; ln -s /proc/self/fd/1 /dev/null",
        "rm /dev/null; mkdir /dev/null",
    ];
    for fake in fakes {
        let bundle = Bundle::sh(&format!("{fake}; echo ready >/ready; exec sleep 1000"));
        let container = bundle.run_detached();
        crate::harness::look::eventually("its null device is replaced", || bundle.inside("/ready").exists());
        let (out, err) = (folder().join("out"), folder().join("err"));
        let words = ["exec", "--user", "1000", &container.id, "/bin/sh", "-c", "echo for the caller; cat; echo end >&2"];
        let mut child = Call::new(&words).spawn_to(&out, &err);
        assert!(crate::harness::call::wait(&mut child).success(), "{fake}: {:?}", fs::read_to_string(&err));
        assert_eq!(fs::read_to_string(&out).unwrap(), "for the caller\n", "{fake}");
        assert_eq!(fs::read_to_string(&err).unwrap(), "end\n", "{fake}");
        let caught = exec(
            &container,
            &[],
            &["/bin/sh", "-c", "for f in /dev/null /trap; do test -f $f && stat -L -c '%s %u' $f; done; true"],
        )
        .ok();
        assert!(caught.lines().all(|line| line == "0 0"), "{fake}: it caught the output: {caught:?}");
        fs::remove_file(&out).unwrap();
        fs::remove_file(&err).unwrap();
    }
}

/// /dev/pts of the image with a ptmx of its own making: no terminal comes from there.
fn pty_of_the_image_is_not_opened() {
    for make in ["file", "fifo", "link", "null"] {
        let mut bundle = with_console("exec sleep 1000");
        without_mounts(&mut bundle, "/dev");
        let ptmx = bundle.inside("/dev/pts/ptmx");
        match make {
            "file" => fs::write(&ptmx, "").unwrap(),
            "fifo" => nix::unistd::mkfifo(&ptmx, Mode::S_IRWXU).unwrap(),
            "link" => symlink("/dev/tty", &ptmx).unwrap(),
            // Without CAP_MKNOD there is nothing there, which is refused as well.
            _ => drop(mknod(&ptmx, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3))),
        }
        let receiver = Receiver::new(&format!("console-{}", bundle.id));
        let output = bundle.output_of(bundle.create_call(&["--console-socket", receiver.path()]));
        output.fails();
    }
}
