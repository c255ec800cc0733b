// SPDX-License-Identifier: Apache-2.0
//! Every fuzz target over every input of its corpus, without libFuzzer: the targets keep compiling as berth changes, and what was found
//! once stays mended. Looking for new inputs is `hack/fuzz`.

// The targets ask libFuzzer's crate for one macro; here that crate is this one. `no_main` is for the programs that `hack/fuzz` makes.
#![allow(unused_attributes, reason = "no_main stands at the head of each target")]

use std::path::{Path, PathBuf};
use std::{fs, io};

extern crate self as libfuzzer_sys;

/// The targets, each with a test of its own.
macro_rules! targets {
    ($($name:ident)*) => {
        #[path = "fuzz_targets"]
        mod targets {
            $(pub mod $name;)*
        }
        const TARGETS: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() -> io::Result<()> {
            replay(stringify!($name), targets::$name::one_input)
        })*
    };
}

targets! {
    cgroup_path
    config
    devices
    options
    plan
    process
    readers
    resources
    seccomp
    state
}

/// As libFuzzer's: what one input is held to. Of bytes, text is what is valid at their beginning.
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:block) => {
        pub fn one_input($bytes: &[u8]) $body
    };
    (|$text:ident: &str| $body:block) => {
        pub fn one_input(bytes: &[u8]) {
            let $text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            $body
        }
    };
}
pub(crate) use fuzz_target;

/// What is in a folder of the repository.
fn files(folder: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// A target says what is wrong by a panic, behind the name of the input.
fn replay(target: &str, judge: fn(&[u8])) -> io::Result<()> {
    let mut inputs = files(&format!("fuzz/corpus/{target}"))?;
    assert!(!inputs.is_empty(), "no corpus");
    if ["config", "plan"].contains(&target) {
        inputs.extend(files("src/spec/fixtures")?);
    }
    for input in inputs.iter().filter(|path| path.is_file()) {
        eprintln!("{}", input.display());
        judge(&fs::read(input)?);
    }
    Ok(())
}

#[test]
fn no_target_is_left_out() -> io::Result<()> {
    let name = |path: &PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let mut found: Vec<_> = files("fuzz/fuzz_targets")?.iter().filter_map(name).collect();
    found.sort();
    assert_eq!(found, TARGETS);
    Ok(())
}
