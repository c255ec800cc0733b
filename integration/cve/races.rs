// SPDX-License-Identifier: Apache-2.0
//! A neighbour exchanges a directory of a shared volume with a link to the host while containers are made.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Outside, Swap, attempt, volume, without_mounts};
use crate::harness::bundle::folder;
use crate::harness::look::parse_mounts;
use crate::harness::{Bundle, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2021_30465_mounts),
    test!(cve_2024_45310_directories_and_files),
    test!(cve_2019_19921_proc).differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(cve_2025_31133_masked_and_read_only_paths),
    test!(cve_2026_47766_devices).needs(&[Need::Capability("CAP_MKNOD", 27)]),
    test!(working_directory),
    test!(tmpcopyup),
];

/// Tries of each race.
const TRIES: usize = 25;

/// Runs the bundle again and again while `/vol/a` and `/vol/b` are exchanged; `check` sees what it printed, where it ran.
fn race(bundle: &Bundle, outside: &Outside, link: &str, mut check: impl FnMut(&str)) {
    let (a, b) = volume(bundle, link);
    let swap = Swap::of(a, b);
    for _ in 0..TRIES {
        let output = attempt(bundle);
        outside.assert_untouched();
        if output.status.success() {
            check(&output.stdout);
        }
    }
    drop(swap);
}

fn climbing(outside: &Outside) -> String {
    format!("{}{}", "../".repeat(20), outside.path().trim_start_matches('/'))
}

/// The destination is looked at and then mounted on: between the two it becomes the host's.
fn cve_2021_30465_mounts() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("cat /proc/self/mountinfo");
    bundle.mount("/vol/a/target", "tmpfs", "tmpfs", &[]);
    bundle.mount("/check", "bind", outside.path(), &["rbind"]);
    race(&bundle, &outside, &climbing(&outside), |printed| {
        let mounts = parse_mounts(printed);
        let landed: Vec<_> = mounts.iter().filter(|mount| mount.at.starts_with("/check/")).map(|mount| &mount.line).collect();
        assert!(landed.is_empty(), "a mount landed on the host: {landed:?}");
    });
}

/// The same where the destination has to be made: a directory, and a file.
fn cve_2024_45310_directories_and_files() {
    let outside = Outside::new();
    let file = folder().join("file");
    fs::write(&file, "bound\n").unwrap();
    let mut bundle = Bundle::sh("echo ran");
    bundle.mount("/vol/a/made/deep", "tmpfs", "tmpfs", &[]);
    bundle.mount("/vol/a/made-too/file", "bind", file.to_str().unwrap(), &["bind"]);
    bundle.mount("/vol/a/target/made/here", "bind", file.to_str().unwrap(), &["bind"]);
    race(&bundle, &outside, outside.path(), |_| ());
}

/// /proc itself is exchanged with a link: what is there afterwards is a procfs, masked and read-only, or there is no container.
fn cve_2019_19921_proc() {
    let outside = Outside::new();
    let script = "cd -P /proc && stat -f -c %T . && cat sys/net/ipv4/ip_forward && cat self/mountinfo";
    let mut bundle = Bundle::sh(script);
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    bundle.set("/linux/maskedPaths", json!(["/proc/version", "/proc/kcore"]));
    let fake = bundle.inside("/fake");
    fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
    fs::write(fake.join("sys/net/ipv4/ip_forward"), "fake\n").unwrap();
    symlink("/fake", bundle.inside("/link")).unwrap();
    let swap = Swap::of(bundle.inside("/proc"), bundle.inside("/link"));
    let mut checked = 0;
    for _ in 0..TRIES {
        let output = attempt(&bundle);
        assert_eq!(fs::read_to_string(fake.join("sys/net/ipv4/ip_forward")).unwrap(), "fake\n", "a sysctl went to the image");
        outside.assert_untouched();
        if let Some(rest) = output.stdout.strip_prefix("proc\n") {
            assert!(rest.starts_with("1\n"), "the parameter was not set: {rest}");
            // Whichever name it has at this moment, what is in it is masked and read-only.
            let mounts = parse_mounts(rest);
            let covers = |end: &str| mounts.iter().find(|mount| mount.at.ends_with(end) && mount.at != "/sys");
            assert!(covers("/sys").is_some_and(|mount| mount.kind == "proc" && mount.has("ro")), "{rest}");
            assert!(covers("/version").is_some_and(|mount| mount.kind != "proc"), "{rest}");
            checked += 1;
        }
    }
    drop(swap);
    eprintln!("{checked} of {TRIES} containers ran with their /proc in its place");
}

fn cve_2025_31133_masked_and_read_only_paths() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("cat /check/secret; cat /proc/self/mountinfo");
    bundle.mount("/check", "bind", outside.path(), &["rbind"]);
    bundle.set("/linux/maskedPaths", json!(["/vol/a/secret", "/vol/a/target"]));
    bundle.set("/linux/readonlyPaths", json!(["/vol/a/null", "/vol/a/target/deep"]));
    race(&bundle, &outside, &climbing(&outside), |printed| {
        assert!(printed.starts_with("of the host\n"), "the host's file is hidden: {printed}");
        assert!(!parse_mounts(printed).iter().any(|mount| mount.at.starts_with("/check/")), "{printed}");
    });
}

/// Device nodes and links in a directory that is exchanged.
fn cve_2026_47766_devices() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("echo ran");
    without_mounts(&mut bundle, "/dev");
    symlink("/vol/a", bundle.inside("/devices")).unwrap();
    let node = |path: &str| json!({ "path": path, "type": "c", "major": 1, "minor": 7, "uid": 7, "gid": 7, "fileMode": 0o600 });
    bundle.set("/linux/devices", json!([node("/vol/a/made"), node("/devices/too"), node("/vol/a/target/third")]));
    race(&bundle, &outside, &climbing(&outside), |_| ());
}

/// A working directory that is missing is made, and then entered.
fn working_directory() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("pwd -P; ls -A; stat -c %i / ../../../../../..");
    bundle.set("/process/cwd", json!("/vol/a/made/here"));
    race(&bundle, &outside, outside.path(), |printed| {
        assert!(!printed.contains("witness"), "it works in a directory of the host: {printed}");
        let numbers: Vec<&str> = printed.lines().rev().take(2).collect();
        assert_eq!(numbers[0], numbers[1], "its directory is not below its root: {printed}");
    });
}

/// What a tmpfs covers is copied into it: of the image, and never of the host.
fn tmpcopyup() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("cat /vol/a/secret /vol/a/target/*");
    bundle.mount("/vol/a", "tmpfs", "tmpfs", &["tmpcopyup"]);
    race(&bundle, &outside, &climbing(&outside), |printed| {
        assert!(!printed.contains("of the host"), "a file of the host was copied into the container: {printed}");
    });
}
