// SPDX-License-Identifier: Apache-2.0
//! `checkpoint` and `restore`: what goes on afterwards where it was, what keeps its place, and what is refused.
//!
//! They need criu(8) in PATH, or in the folder BERTH_TEST_CRIU (`hack/criu` fetches it), and a kernel that CRIU can work with: user-mode
//! Linux is none (no kcmp(2)), most others are. No network locking is asked for where nothing outside could send anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::bundle::folder;
use crate::harness::call::through_pipes;
use crate::harness::look::eventually;
use crate::harness::run::Group;
use crate::harness::{Bundle, Call, Container, Need, Output};

mod confined;
mod errors;
mod flags;
mod life;
mod network;
mod outside;
mod pages;

/// The tests, by what they are about.
pub const GROUPS: &[Group] = &[
    Group { name: "checkpoint", tests: life::TESTS },
    Group { name: "checkpoint_outside", tests: outside::TESTS },
    Group { name: "checkpoint_confined", tests: confined::TESTS },
    Group { name: "checkpoint_flags", tests: flags::TESTS },
    Group { name: "checkpoint_network", tests: network::TESTS },
    Group { name: "checkpoint_pages", tests: pages::TESTS },
    Group { name: "checkpoint_errors", tests: errors::TESTS },
];

const NEEDS: &[Need] = &[Need::Criu];

/// Why crun 1.28 restores no container that is like others.
const CRUN: (&str, &str) = ("crun", "does not tell CRIU at the restore what covers masked paths");

/// A program that prints one number after the other.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

fn image(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

/// With CRIU in PATH. Other runtimes have no word for `--network-lock skip`: CRIU's own configuration says it.
fn with_criu(call: Call) -> Call {
    let call = if through_pipes() {
        let file = folder().join("criu.conf");
        fs::write(&file, "network-lock skip\n").unwrap();
        call.env("CRIU_CONFIG_FILE", file.to_str().unwrap())
    } else {
        call
    };
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var("BERTH_TEST_CRIU") {
        Ok(dir) => call.env("PATH", &format!("{dir}:{usual}")),
        Err(_) => call,
    }
}

/// Other runtimes let CRIU make cgroups in every hierarchy of the host, and walk through all that are there.
fn cgroups_left_alone() -> &'static [&'static str] {
    if through_pipes() { &["--manage-cgroups-mode", "ignore"] } else { &[] }
}

fn dump(container: &Container, image: &str, flags: &[&str]) -> Output {
    with_criu(container.call(&[&["checkpoint", "--image-path", image], cgroups_left_alone(), flags].concat())).output()
}

fn restore_call(bundle: &Bundle, image: &str, flags: &[&str]) -> Call {
    bundle.save();
    let words =
        [&["restore", "--bundle", bundle.path(), "--image-path", image], cgroups_left_alone(), flags, &[bundle.id.as_str()]]
            .concat();
    with_criu(Call::new(&words))
}

/// Restores in the background, which must succeed.
#[track_caller]
fn restore(bundle: &Bundle, image: &str, flags: &[&str]) -> Container {
    let container = bundle.container();
    bundle.output_of(restore_call(bundle, image, &[&["--detach"], flags].concat())).ok();
    container
}

fn numbers(container: &Container) -> Vec<u32> {
    container.stdout().lines().filter_map(|line| line.parse().ok()).collect()
}

/// Waits until it has counted further, and that it began nowhere anew and left nothing out.
#[track_caller]
fn counts_on(container: &Container) {
    let before = numbers(container).len();
    eventually("it counts on", || numbers(container).len() >= before + 3);
    let all = numbers(container);
    let want: Vec<u32> = (1..).take(all.len()).collect();
    assert_eq!(all, want, "it goes on where it was");
}

/// Runs it, dumps it, with which it is gone, and restores it.
#[track_caller]
fn there_and_back(bundle: &Bundle, ready: &str, flags: &[&str]) -> Container {
    let container = bundle.run_detached();
    container.wait_stdout(ready);
    dump(&container, &image("one"), flags).ok();
    drop(container);
    restore(bundle, &image("one"), flags)
}

fn inside(container: &Container, script: &str) -> String {
    Call::new(&["exec", &container.id, "sh", "-c", script]).output().ok()
}

fn bundle_output(bundle: &Bundle, flags: &[&str]) -> Output {
    bundle.output_of(restore_call(bundle, &image("one"), flags))
}

fn fake_criu(script: &str) -> String {
    let path = folder().join("criu");
    fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}
