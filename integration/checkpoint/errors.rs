// SPDX-License-Identifier: Apache-2.0
//! What is refused, with which words, and that nothing is left then.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::harness::{Test, look};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(missing_criu).differs(&[("runc", "says only that it is not there"), ("crun", "loads a library instead")]),
    test!(old_criu).differs(&[("runc", "speaks another version of the RPC"), ("crun", "loads a library instead")]),
    test!(criu_that_ends_at_once).differs(&[("runc", "prints an end of file"), ("crun", "loads a library instead")]),
    test!(what_criu_says_beside_its_log).differs(&[("runc", "lets it speak to the caller"), ("crun", "loads a library instead")]),
    test!(no_image).needs(NEEDS).differs(&[("runc", "says it in other words"), ("crun", "says it in other words")]),
    test!(damaged_image).needs(NEEDS).seconds(120).differs(&[("crun", "quotes other lines of CRIU's log")]),
    test!(hostile_descriptors).needs(NEEDS).seconds(120).differs(&[
        ("runc", "waits for ever for a FIFO in place of the file"),
        ("crun", "leaves the cgroup of a restore that failed"),
    ]),
    test!(parent_path_is_relative).differs(&[("crun", "accepts it")]),
    test!(help_and_probe_of_engines).differs(&[("crun", "says that the option requires an argument")]),
];

fn missing_criu() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let words = ["--criu", "/no/such/criu", "checkpoint", "--image-path", &image("one"), &container.id];
    let error = Call::new(&words).output().fails();
    assert!(error.contains("cannot start \"/no/such/criu\"") && error.contains("no such file or directory"), "{error}");
    assert!(error.contains("need the program criu"), "{error}");
    counts_on(&container);
}

fn old_criu() {
    // A response: success, version with major 3 and minor 11. A newline in it would make printf write it in two pieces.
    let program = fake_criu(r"printf '\020\001\122\004\010\003\020\013' >&$2; sleep 1");
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let error = Call::new(&["--criu", &program, "checkpoint", "--image-path", &image("one"), &container.id]).output().fails();
    assert!(error.contains("CRIU 3.11 is too old") && error.contains("CRIU 3.15 or newer"), "{error}");
    counts_on(&container);
}

fn criu_that_ends_at_once() {
    let program = fake_criu("exit 0");
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let error = Call::new(&["--criu", &program, "checkpoint", "--image-path", &image("one"), &container.id]).output().fails();
    assert!(error.contains("has ended without an answer"), "{error}");
    counts_on(&container);
    fs::create_dir_all(image("two")).unwrap();
    fs::write(Path::new(&image("two")).join("inventory.img"), "").unwrap();
    let other = Bundle::sh(COUNT);
    other.save();
    let words = ["--criu", &program, "restore", "-d", "--bundle", other.path(), "--image-path", &image("two"), &other.id];
    let error = Call::new(&words).output().fails();
    assert!(error.contains("has ended without an answer"), "{error}");
    other.container().call(&["state"]).output().fails();
    eventually("its cgroup is gone", || look::cgroups_named(&other.id).is_empty());
}

/// What CRIU says on its standard error is quoted where it fails, and nobody's to read where it does not.
fn what_criu_says_beside_its_log() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let dump_with = |script: &str| {
        let program = fake_criu(script);
        Call::new(&["--criu", &program, "checkpoint", "--leave-running", "--image-path", &image("one"), &container.id]).output()
    };
    let output = dump_with("echo no such library >&2; exit 127");
    let error = output.fails();
    assert!(error.contains("has ended without an answer") && error.contains("it said: no such library"), "{error}");
    let version = r"dd bs=65536 count=1 <&$2 >/dev/null 2>&1; printf '\020\001\122\004\010\004\020\002' >&$2";
    let output = dump_with(&format!("{version}; dd bs=65536 count=1 <&$2 >/dev/null 2>&1; echo no log >&2; exit 1"));
    let error = output.fails();
    assert!(error.contains("criu failed: type DUMP") && error.contains(": no log (log file: "), "{error}");
    let done = r"dd bs=65536 count=1 <&$2 >/dev/null 2>&1; echo noise >&2; printf '\010\001\020\001' >&$2";
    let output = dump_with(&format!("{version}; {done}"));
    assert_eq!(output.stderr, "");
    output.ok();
    counts_on(&container);
}

fn no_image() {
    let bundle = Bundle::sh(COUNT);
    bundle.save();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("image directory") && error.contains("no such file or directory"), "{error}");
    fs::create_dir(image("one")).unwrap();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("there is no checkpoint in") && error.contains("inventory.img"), "{error}");
    bundle.container().call(&["state"]).output().fails();
}

fn damaged_image() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    fs::write(Path::new(&image("one")).join("pstree.img"), "nothing that CRIU knows").unwrap();
    let error = bundle_output(&bundle, &["--detach"]).fails();
    assert!(error.contains("criu failed: type RESTORE") && error.contains("Error ("), "the log is quoted: {error}");
    assert!(error.contains("restore.log"), "{error}");
    container.call(&["state"]).output().fails();
    eventually("its cgroup is gone", || look::cgroups_named(&bundle.id).is_empty());
}

/// An image can ask for no descriptor but the caller's streams, and for no file in its place.
fn hostile_descriptors() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    let file = Path::new(&image("one")).join("descriptors.json");
    for bad in ["{\"a\":1}", "not JSON", &format!("[{}]", "\"x\",".repeat(100_000))] {
        fs::write(&file, bad).unwrap();
        bundle_output(&bundle, &["--detach"]).fails();
        container.call(&["state"]).output().fails();
    }
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle_output(&bundle, &["--detach"]).fails();
    container.call(&["state"]).output().fails();
    assert_eq!(fs::symlink_metadata(&file).unwrap().size(), 0);
}

fn parent_path_is_relative() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    for path in [image("parent"), "../none".to_owned()] {
        dump(&container, &image("one"), &["--parent-path", &path]).fails();
    }
    counts_on(&container);
}

fn help_and_probe_of_engines() {
    for verb in ["checkpoint", "restore"] {
        assert!(Call::bare(&[verb, "--help"]).output().ok().contains("--image-path"));
    }
    let error = Call::bare(&["restore", "--lsm-mount-context"]).output().fails();
    assert!(error.contains("flag needs an argument"), "{error}");
}
