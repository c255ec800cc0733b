// SPDX-License-Identifier: Apache-2.0
//! Where mounts land: symbolic links at destinations, at /proc, /sys and /dev, at masked and read-only paths, at device nodes.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Outside, attempt, replace_by_link, without_mounts};
use crate::harness::bundle::folder;
use crate::harness::look::parse_mounts;
use crate::harness::{Bundle, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2019_19921_proc_is_a_link),
    test!(cve_2021_30465_links_at_destinations),
    test!(cve_2026_87766_parents_that_are_links),
    test!(cve_2019_18837_links_of_a_crafted_image),
    test!(cve_2019_16884_volume_over_proc).differs(&[("crun", "does this in another way")]),
    test!(links_at_masked_and_read_only_paths),
    test!(links_at_device_nodes),
    test!(cve_2024_0132_source_inside_the_image_is_the_hosts_path),
];

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: the image chooses where the kernel's own files appear, and what is
/// written to /proc or masked in it goes elsewhere.
fn cve_2019_19921_proc_is_a_link() {
    let outside = Outside::new();
    for place in ["/proc", "/sys"] {
        let targets = [outside.path().to_owned(), format!("../../../../../../../..{}", outside.path()), "/elsewhere".to_owned()];
        for target in targets {
            let bundle = Bundle::sh("echo ran");
            fs::create_dir_all(bundle.inside("/elsewhere")).unwrap();
            replace_by_link(&bundle, place, &target);
            let output = attempt(&bundle);
            assert_ne!(output.stdout, "ran\n", "{place} -> {target}: it runs with its {place} somewhere else");
            outside.assert_untouched();
        }
    }
}

fn cve_2021_30465_links_at_destinations() {
    let outside = Outside::new();
    let file = folder().join("file");
    fs::write(&file, "bound\n").unwrap();
    for link in outside.links() {
        let mut bundle = Bundle::sh("cat /proc/self/mountinfo");
        symlink(&link, bundle.inside("/link")).unwrap();
        symlink(format!("{link}/null"), bundle.inside("/file")).unwrap();
        bundle.mount("/link", "tmpfs", "tmpfs", &[]).mount("/link/target", "tmpfs", "tmpfs", &[]);
        bundle.mount("/link/made/deep", "tmpfs", "tmpfs", &[]);
        bundle.mount("/file", "bind", file.to_str().unwrap(), &["bind"]);
        // What a mount of before would cover, if it had landed on the host's.
        bundle.mount("/check", "bind", outside.path(), &["rbind"]);
        let output = attempt(&bundle);
        outside.assert_untouched();
        let mounts = parse_mounts(&output.stdout);
        let in_check: Vec<_> = mounts.iter().filter(|mount| mount.at.starts_with("/check/")).map(|mount| &mount.line).collect();
        assert!(in_check.is_empty(), "{link}: a mount landed on the host: {in_check:?}");
    }
}

/// The old root is still there while the new one is furnished: no link leads to it.
fn cve_2026_87766_parents_that_are_links() {
    let outside = Outside::new();
    for parent in
        ["/proc/self/root", "/proc/1/root", "/proc/self/cwd", "/proc/self/fd/3", "/proc/self/fd/5", "/proc/thread-self/root"]
    {
        for kind in ["tmpfs", "bind"] {
            let mut bundle = Bundle::sh("echo ran");
            symlink(parent, bundle.inside("/parent")).unwrap();
            let place = format!("/parent{}/made", outside.path());
            let source = if kind == "tmpfs" { "tmpfs" } else { outside.path() };
            bundle.mount(&place, kind, source, if kind == "bind" { &["bind"] } else { &[] });
            attempt(&bundle);
            outside.assert_untouched();
        }
    }
}

/// Many links, through each other, up and down: where they end is inside, or an error.
fn cve_2019_18837_links_of_a_crafted_image() {
    let outside = Outside::new();
    let climb = format!("/../..//.././../../../../../..{}", outside.path());
    for (links, last) in [(38, climb.as_str()), (39, "/tmp/../../../.."), (60, "/tmp"), (10, "link0")] {
        let mut bundle = Bundle::sh("echo ran");
        for number in 0..links {
            let next = if number + 1 == links { last.to_owned() } else { format!("/tmp/../link{}", number + 1) };
            symlink(next, bundle.inside(&format!("/link{number}"))).unwrap();
        }
        bundle.mount("/link0/target", "tmpfs", "tmpfs", &[]);
        bundle.set("/process/cwd", json!("/link0"));
        attempt(&bundle);
        outside.assert_untouched();
    }
}

/// A volume over /proc, or a tmpfs over the files that labels are written to: what is written there would reach nobody.
fn cve_2019_16884_volume_over_proc() {
    let outside = Outside::new();
    let tries = [
        ("/proc", "bind"),
        ("/proc", "tmpfs"),
        ("/proc/self/attr", "tmpfs"),
        ("/proc/self", "bind"),
        ("/proc/sys", "tmpfs"),
        ("//proc/./self/attr", "tmpfs"),
        ("/tmp/../proc/self/attr", "tmpfs"),
        ("/link/self/attr", "tmpfs"),
        ("/deep/attr", "bind"),
    ];
    for (place, kind) in tries {
        let mut bundle = Bundle::sh("echo ran");
        symlink("/proc", bundle.inside("/link")).unwrap();
        symlink("link/self", bundle.inside("/deep")).unwrap();
        bundle.mount(
            place,
            kind,
            if kind == "bind" { outside.path() } else { "tmpfs" },
            if kind == "bind" { &["bind"] } else { &[] },
        );
        let output = attempt(&bundle);
        assert_ne!(output.stdout, "ran\n", "{kind} over {place} was taken");
        outside.assert_untouched();
    }
}

fn links_at_masked_and_read_only_paths() {
    let outside = Outside::new();
    for link in outside.links() {
        let mut bundle = Bundle::sh("cat /real; cat /proc/self/mountinfo");
        fs::write(bundle.inside("/real"), "seen\n").unwrap();
        symlink(&link, bundle.inside("/link")).unwrap();
        bundle.set("/linux/maskedPaths", json!(["/link", "/link/secret", "/link/target"]));
        bundle.set("/linux/readonlyPaths", json!(["/link", "/link/secret", "/link/target"]));
        let output = attempt(&bundle);
        outside.assert_untouched();
        assert!(output.stdout.is_empty() || output.stdout.starts_with("seen\n"), "{link}: {output:?}");
        fs::write(outside.dir.join("secret"), "of the host\n").unwrap();
    }
}

fn links_at_device_nodes() {
    let outside = Outside::new();
    for link in outside.links() {
        let mut bundle = Bundle::sh("echo ran");
        without_mounts(&mut bundle, "/dev");
        symlink(&link, bundle.inside("/link")).unwrap();
        symlink(format!("{link}/made"), bundle.inside("/node")).unwrap();
        let node = |path: &str| json!({ "path": path, "type": "p", "fileMode": 0o622 });
        bundle.set("/linux/devices", json!([node("/link/pipe"), node("/link/target/pipe"), node("/node"), node("/link/secret")]));
        attempt(&bundle);
        outside.assert_untouched();
    }
}

/// CVE-2024-0132, CVE-2024-1753, CVE-2024-9407: a source that an engine takes from the image. Here a relative source is the bundle's,
/// which is the operator's; a link in it is followed on the host, as the operator's own, and `src-nofollow` takes the link itself.
fn cve_2024_0132_source_inside_the_image_is_the_hosts_path() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("cat /mnt/secret 2>/dev/null; ls -A /mnt");
    fs::create_dir_all(bundle.inside("/volume")).unwrap();
    bundle.mount("/mnt", "bind", "rootfs/volume", &["bind", "ro"]);
    assert_eq!(bundle.print(), "");
    // The image's absolute link counts from the image's root nowhere: a source is no path of the container.
    symlink(outside.path(), bundle.inside("/absolute")).unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.set("/linux/maskedPaths/-", json!("/absolute/secret"));
    attempt(&bundle);
    outside.assert_untouched();
}
