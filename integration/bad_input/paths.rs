// SPDX-License-Identifier: Apache-2.0
//! Paths that lead nowhere, round in circles, or are too long: refused with the field and the path, and nothing is made on the way.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Bench, OWN_WORDS};
use crate::harness::Test;
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(relative_and_empty).differs(OWN_WORDS),
    test!(too_long).differs(OWN_WORDS),
    test!(in_circles).differs(OWN_WORDS),
    test!(roots).differs(OWN_WORDS),
];

fn relative_and_empty() {
    let mut bench = Bench::new();
    for (pointer, value) in [
        ("/process/cwd", "tmp"),
        ("/process/cwd", "./"),
        ("/process/cwd", "../tmp"),
        ("/linux/maskedPaths/-", "proc/kcore"),
        ("/linux/readonlyPaths/-", "./proc/sys"),
        ("/linux/devices/-/path", "dev/null"),
        ("/hooks/prestart/-/path", "true"),
        ("/hooks/poststop/-/path", "./true"),
    ] {
        bench.refuses_value(pointer, json!(value), &[value, "absolute"]);
    }
    for pointer in ["/process/cwd", "/root/path", "/mounts/0/destination", "/linux/maskedPaths/-", "/hooks/prestart/-/path"] {
        bench.refuses_value(pointer, json!(""), &["required"]);
    }
    bench.finish(13);
}

fn too_long() {
    let mut bench = Bench::new();
    let long = format!("/{}", "x/".repeat(3000));
    let name = format!("/{}", "n".repeat(300));
    for path in [long, name] {
        for pointer in ["/root/path", "/process/cwd", "/process/args/0"] {
            bench.refuses_value(pointer, json!(path), &["too long"]);
        }
        bench.refuses_value("/linux/cgroupsPath", json!(path), &[]);
        bench.refuses("a long masked path", &["linux.maskedPaths", "too long"], |bundle| {
            bundle.set("/linux/maskedPaths/-", json!(path));
        });
        for options in [&["bind"][..], &["rbind", "ro"]] {
            bench.refuses("a long mount source", &["mounts[5]", "too long"], |bundle| {
                bundle.mount("/mnt", "bind", &path, options);
            });
        }
        bench.refuses("a long mount destination", &["mounts[5]", "too long"], |bundle| {
            bundle.mount(&path, "tmpfs", "tmpfs", &[]);
        });
        bench.refuses("a long device path", &["linux.devices[0]", "too long"], |bundle| {
            bundle.set("/linux/devices/-", json!({ "path": path, "type": "p" }));
        });
        bench.refuses("a long namespace path", &["linux.namespaces", "too long"], |bundle| {
            bundle.namespace("ipc", Some(&path));
        });
    }
    bench.finish(20);
}

/// Symbolic links that lead to each other.
fn in_circles() {
    let mut bench = Bench::new();
    symlink("two", bench.bundle.inside("/one")).unwrap();
    symlink("one", bench.bundle.inside("/two")).unwrap();
    symlink("/self/self", bench.bundle.inside("/self")).unwrap();
    symlink("around", bench.bundle.dir.join("around")).unwrap();
    for path in ["/one", "/one/x", "/self"] {
        bench.refuses(&format!("a mount at {path}"), &["mounts[5]", path, "symbolic links"], |bundle| {
            bundle.mount(path, "tmpfs", "tmpfs", &[]);
        });
        bench.refuses(&format!("a file at {path}"), &["mounts[5]", path, "symbolic links"], |bundle| {
            bundle.mount(path, "bind", "/etc/hostname", &["bind"]);
        });
        bench.refuses(&format!("a masked {path}"), &["linux.maskedPaths", path, "symbolic links"], |bundle| {
            bundle.set("/linux/maskedPaths", json!([path]));
        });
        bench.refuses(&format!("a read-only {path}"), &["linux.readonlyPaths[0]", path, "symbolic links"], |bundle| {
            bundle.set("/linux/readonlyPaths", json!([path]));
        });
        bench.refuses(&format!("a working directory {path}"), &["process.cwd", path, "symbolic links"], |bundle| {
            bundle.set("/process/cwd", json!(path));
        });
        bench.refuses(&format!("a program {path}"), &["process.args", path, "symbolic links"], |bundle| {
            bundle.set("/process/args", json!([path]));
        });
    }
    bench.refuses("a root in circles", &["around", "symbolic links"], |bundle| {
        bundle.set("/root/path", json!("around"));
    });
    bench.finish(19);
}

fn roots() {
    let mut bench = Bench::new();
    fs::write(bench.bundle.dir.join("file"), "").unwrap();
    symlink("nowhere", bench.bundle.dir.join("dangling")).unwrap();
    nix::unistd::mkfifo(&bench.bundle.dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in ["file", "dangling", "fifo", "missing", "file/below", "/dev/null", "/not/there", "/proc/self/fd/0"] {
        bench.refuses_value("/root/path", json!(path), &[path.rsplit('/').next().unwrap()]);
    }
    bench.finish(8);
}
