// SPDX-License-Identifier: Apache-2.0
//! The test that keeps the floors of `lib.rs`: an arrow may only go down, `unsafe` stands under `src/linux/` only, and every file says
//! what it is.

use std::fs;
use std::path::{Path, PathBuf};

/// What each part of the tree may name with `crate::`. `error` and `texts` are every floor's.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("linux", &["linux"]),
    ("spec", &["spec"]),
    ("plan", &["plan", "spec", "linux::types"]),
    ("hands", &["hands", "plan", "spec", "linux"]),
    ("container", &["container", "hands", "plan", "spec", "linux"]),
    ("cli", &["cli", "container", "hands", "plan", "spec", "linux"]),
    ("top", &["cli", "container", "hands", "plan", "spec", "linux"]),
];
/// Floor 3: modules at the root of the crate that touch the kernel.
const HANDS: [&str; 9] = ["cgroup", "rootfs", "process", "hooks", "lsm", "netdev", "rdt", "criu", "trace"];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn part(module: &str) -> &str {
    match module {
        "linux" | "spec" | "plan" | "container" | "cli" => module,
        module if HANDS.contains(&module) => "hands",
        _ => "top",
    }
}

/// The first two names of each `crate::…` path of a line.
fn named(line: &str) -> Vec<(String, String)> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let after = |(at, _): (usize, &str)| {
        let rest = &line[at + "crate::".len()..];
        let first = name(rest);
        let second = rest[first.len()..].strip_prefix("::").map(name).unwrap_or_default();
        (first, second)
    };
    line.match_indices("crate::").map(after).filter(|(first, _)| !first.is_empty()).collect()
}

fn check(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let module = file.split(['/', '.']).next().unwrap_or_default();
    let own = part(module);
    let allowed = MAY_USE.iter().find(|(name, _)| *name == own).map_or(&[][..], |(_, allowed)| allowed);
    if !text.starts_with("// SPDX-License-Identifier: Apache-2.0\n//!") && own != "top" {
        wrong.push(format!("{file}: does not begin with its licence and with what it is"));
    }
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for (first, second) in named(line) {
            let target = part(&first);
            let fine = ["error", "texts"].contains(&first.as_str())
                || allowed.contains(&target)
                || allowed.contains(&format!("{first}::{second}").as_str());
            if !fine {
                wrong.push(format!("{file}:{}: {own} may not use crate::{first}::{second}", index + 1));
            }
        }
        let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe("];
        if own != "linux" && words.iter().any(|word| line.contains(word)) && !file.starts_with("floors") {
            wrong.push(format!("{file}:{}: unsafe outside src/linux", index + 1));
        }
    }
    wrong
}

#[test]
fn an_arrow_may_only_go_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "found only {} source files", files.len());
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|file| check(&file.strip_prefix(&root).unwrap().to_string_lossy(), &fs::read_to_string(file).unwrap()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_finds_what_it_is_for() {
    let head = "// SPDX-License-Identifier: Apache-2.0\n//! x\n";
    assert_eq!(check("plan/x.rs", &format!("{head}use crate::linux::fd;\n")).len(), 1);
    assert_eq!(check("plan/x.rs", &format!("{head}use crate::linux::types::Errno;\n")).len(), 0);
    assert_eq!(check("linux/x.rs", &format!("{head}use crate::plan::Plan;\n")).len(), 1);
    assert_eq!(check("rootfs/x.rs", &format!("{head}use crate::container::State;\n")).len(), 1);
    assert_eq!(check("rootfs/x.rs", &format!("{head}use crate::plan::Plan;\nunsafe {{ f() }}\n")).len(), 1);
    assert_eq!(check("cgroup/x.rs", "use crate::plan::Plan;\n").len(), 1);
}
