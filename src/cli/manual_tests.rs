// SPDX-License-Identifier: Apache-2.0
//! Man pages and completions: every command and flag of the table is in them, man(1) takes them without a warning, bash completes.
//!
//! `hack/manual.rs` writes them; it is compiled into this test, not into the program.

use std::fs;
use std::process::Command;

use super::manual;
use super::table::{GLOBAL, verbs};
use crate::linux::fd::tests::Scratch;

fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').any(|dir| std::path::Path::new(dir).join(program).exists());
    if !found {
        eprintln!("skipped: no {program} here");
    }
    found
}

#[test]
fn every_flag_has_its_place_on_its_page() {
    let scratch = Scratch::new();
    manual::write(scratch.path()).unwrap();
    let page =
        |name: &str| fs::read_to_string(scratch.path().join("man").join(name)).unwrap().replace("\\*(Aq", "'").replace('\\', "");
    let whole = page("berth.8");
    for flag in GLOBAL.iter().filter(|flag| !flag.hidden) {
        assert!(whole.contains(&format!("--{}", flag.name)), "berth.8: --{}", flag.name);
    }
    for verb in verbs() {
        let own = page(&format!("berth-{}.8", verb.name));
        assert!(whole.contains(verb.name) && own.contains(verb.help.split(',').next().unwrap()), "{}", verb.name);
        for flag in verb.flags.iter() {
            assert_eq!(own.contains(&format!("--{}", flag.name)), !flag.hidden, "berth-{}.8: --{}", verb.name, flag.name);
        }
    }
}

#[test]
fn man_takes_every_page_without_a_warning() {
    if !has("groff") {
        return;
    }
    let scratch = Scratch::new();
    manual::write(scratch.path()).unwrap();
    let pages = fs::read_dir(scratch.path().join("man")).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for page in pages {
        let output =
            Command::new("groff").args(["-man", "-ww", "-Kutf8", "-Tutf8", "-P-cbu", "-rLL=100n"]).arg(&page).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Lines that cannot be filled are no mistake of the page.
        let wrong: Vec<&str> =
            said.lines().filter(|line| !line.contains("cannot adjust line") && !line.contains("can't break line")).collect();
        assert!(output.status.success() && wrong.is_empty(), "{}: {wrong:?}", page.display());
        assert!(String::from_utf8_lossy(&output.stdout).contains("SYNOPSIS"), "{}", page.display());
        count += 1;
    }
    assert_eq!(count, verbs().count() + 1);
}

/// What bash offers for the words typed so far, the last of which is completed.
fn completed(script: &str, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let text = format!(
        "source '{script}'; COMP_WORDS=({}); COMP_CWORD={last}; _berth berth '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
        words[last],
        words[last - 1]
    );
    let output = Command::new("bash").args(["--norc", "-c", &text]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect()
}

#[test]
fn shells_complete_commands_and_flags() {
    let scratch = Scratch::new();
    manual::write(scratch.path()).unwrap();
    let dir = scratch.path().join("completions");
    if has("bash") {
        let script = dir.join("berth.bash");
        let script = script.to_str().unwrap();
        assert_eq!(completed(script, &["berth", "exe"]), ["exec"]);
        assert_eq!(completed(script, &["berth", "create", "--pid-"]), ["--pid-file"]);
        assert!(completed(script, &["berth", "--cgroup"]).contains(&"--cgroup-manager".to_string()));
        for verb in verbs() {
            let all = completed(script, &["berth", verb.name, "--"]);
            for flag in verb.flags.iter() {
                assert_eq!(all.contains(&format!("--{}", flag.name)), !flag.hidden, "{} --{}", verb.name, flag.name);
            }
        }
    }
    for (shell, file) in [("zsh", "_berth"), ("fish", "berth.fish")] {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        assert!(verbs().all(|verb| text.contains(verb.name)), "{file}");
        if has(shell) {
            let output = Command::new(shell).arg("-n").arg(dir.join(file)).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let says = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).env("HOME", scratch.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    if has("fish") {
        let offers = |line: &str| {
            let text =
                says("fish", &["--no-config", "-c", &format!("source {}/berth.fish; complete -C '{line}'", dir.display())]);
            text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(offers("berth exe"), ["exec"]);
        assert_eq!(offers("berth create --pid-"), ["--pid-file"]);
        assert!(offers("berth --cgroup").iter().any(|word| word.starts_with("--cgroup-manager")));
    }
    if has("zsh") {
        let text = format!("autoload -U compinit; compinit -D -u; source {}/_berth; print $_comps[berth]", dir.display());
        assert_eq!(says("zsh", &["-f", "-c", &text]).trim(), "_berth");
    }
}
