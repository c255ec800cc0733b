// SPDX-License-Identifier: Apache-2.0
//! What published advisories of container runtimes were about, tried on this one. docs/runc-cve.md tells each story and names its test.
//!
//! The attacker is either inside the container, or a neighbour that shares a volume with it: a thread here, which exchanges a directory
//! of the root filesystem with a symbolic link to the host again and again while containers are made ([`Swap`]). A race is tried a
//! bounded number of times; whoever wins it leaves a trace outside the root filesystem, which is looked for ([`Outside`]).

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::harness::bundle::folder;
use crate::harness::run::Group;
use crate::harness::{Bundle, Call, Container, Output, Test};
use crate::test;

mod binary;
mod cgroups;
mod dev;
mod exec;
mod fds;
mod inherited;
mod mounts;
mod privileges;
mod proc;
mod races;

/// The groups of this folder.
pub const GROUPS: &[Group] = &[
    Group { name: "cve", tests: TESTS },
    Group { name: "cve_mounts", tests: mounts::TESTS },
    Group { name: "cve_races", tests: races::TESTS },
    Group { name: "cve_dev", tests: dev::TESTS },
    Group { name: "cve_proc", tests: proc::TESTS },
    Group { name: "cve_cgroups", tests: cgroups::TESTS },
    Group { name: "cve_exec", tests: exec::TESTS },
    Group { name: "cve_binary", tests: binary::TESTS },
    Group { name: "cve_fds", tests: fds::TESTS },
    Group { name: "cve_privileges", tests: privileges::TESTS },
    Group { name: "cve_inherited", tests: inherited::TESTS },
];

const TESTS: &[Test] = &[test!(documents_name_tests_that_exist)];

/// The pages of docs/ that say what shows a thing name tests of this program, which are there.
fn documents_name_tests_that_exist() {
    let listed = Call::program(&[std::env::current_exe().unwrap().to_str().unwrap(), "--list"]).output().ok();
    let known: Vec<&str> = listed.lines().collect();
    let pages = [
        include_str!("../../docs/runc-cve.md"),
        include_str!("../../docs/security.md"),
        include_str!("../../docs/reliability.md"),
    ];
    let mut named = 0;
    for word in pages.iter().flat_map(|page| page.split('`').skip(1).step_by(2)) {
        let is_name = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.*".contains(&byte));
        let Some((group, test)) = word.split_once('.').filter(|_| is_name) else { continue };
        if !known.iter().any(|name| name.starts_with(&format!("{group}."))) {
            // A file name, or another word with a dot in it.
            assert!(!group.starts_with("cve") && !group.starts_with("bad_"), "{word} is no test");
            continue;
        }
        let fits = |name: &&str| match test.strip_suffix('*') {
            Some(beginning) => name.starts_with(&format!("{group}.{beginning}")),
            None => *name == word,
        };
        // A field of config.json.
        if word == "process.capabilities" {
            continue;
        }
        assert!(known.iter().any(fits), "{word} is no test");
        named += 1;
    }
    assert!(named > 60, "only {named} tests are named");
}

/// A folder of the host that no container here has anything to do with.
struct Outside {
    dir: PathBuf,
    before: Vec<String>,
}

impl Outside {
    /// With a file, and directories of the names that containers use.
    fn new() -> Outside {
        let dir = folder().join("outside");
        for name in ["target", "target/deep", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        for name in ["secret", "null", "ptmx", "console", "target/witness"] {
            fs::write(dir.join(name), "of the host\n").unwrap();
        }
        let before = list(&dir);
        Outside { dir, before }
    }

    fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// The ways in which a link can try to lead there from inside a root filesystem.
    fn links(&self) -> Vec<String> {
        let climb = "../".repeat(20);
        vec![
            self.path().to_owned(),
            format!("{climb}{}", self.path().trim_start_matches('/')),
            format!("/proc/self/root{}", self.path()),
            format!("/proc/1/root{}", self.path()),
            format!("/proc/self/cwd/{climb}{}", self.path().trim_start_matches('/')),
        ]
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(list(&self.dir), self.before, "something of the container was made on the host");
    }
}

/// Everything below a directory: names, kinds, owners, sizes, contents.
fn list(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let stat = fs::symlink_metadata(&path).unwrap();
        let text = if stat.is_file() { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        all.push(format!("{} {:o} {}:{} {text:?}", path.display(), stat.mode(), stat.uid(), stat.gid()));
        if stat.is_dir() {
            all.extend(list(&path));
        }
    }
    all
}

/// Exchanges two names as fast as the kernel can, until it is dropped.
struct Swap {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swap {
    fn of(one: PathBuf, other: PathBuf) -> Swap {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                // Long enough to be found by a look, short enough to be gone by the use.
                std::thread::yield_now();
            }
        });
        Swap { stop, count, thread: Some(thread) }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
            assert!(self.count.load(Ordering::Relaxed) > 10, "nothing was exchanged: there was no race");
        }
    }
}

/// A volume in the root filesystem, `/vol`: the directory `a`, and `b`, a link to `link`.
fn volume(bundle: &Bundle, link: &str) -> (PathBuf, PathBuf) {
    let (a, b) = (bundle.inside("/vol/a"), bundle.inside("/vol/b"));
    fs::create_dir_all(a.join("target/deep")).unwrap();
    fs::write(a.join("secret"), "of the image\n").unwrap();
    fs::write(a.join("null"), "of the image\n").unwrap();
    symlink(link, &b).unwrap();
    (a, b)
}

/// Runs the bundle under its own id, to its end; failing is allowed. What it made is deleted.
fn attempt(bundle: &Bundle) -> Output {
    let output = bundle.output_of(bundle.run_call(&[]));
    if output.status.code() != Some(0) {
        Call::new(&["delete", "--force", &bundle.id]).output();
    }
    output
}

/// `exec OPTIONS… ID WORDS…`
fn exec(container: &Container, options: &[&str], words: &[&str]) -> Output {
    Call::new(&[&["exec"], options, &[container.id.as_str()], words].concat()).output()
}

/// Replaces a directory of the root filesystem by a link.
fn replace_by_link(bundle: &Bundle, inside: &str, target: &str) {
    let path = bundle.inside(inside);
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&path).unwrap(),
        Ok(_) => fs::remove_file(&path).unwrap(),
        Err(_) => {}
    }
    symlink(target, &path).unwrap();
}

/// Takes the mounts at and below a place out of the configuration.
fn without_mounts(bundle: &mut Bundle, place: &str) {
    let below = format!("{place}/");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| {
        let at = mount["destination"].as_str().unwrap();
        at != place && !at.starts_with(&below)
    });
}
