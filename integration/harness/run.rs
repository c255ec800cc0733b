// SPDX-License-Identifier: Apache-2.0
//! Chooses the tests, runs each in a process of its own, prints a line for each and counts. Called by `main` only.

use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use super::{Need, bundle, call, need, warden};

/// One test: a function, what it needs of the host, and where other runtimes differ.
#[derive(Clone, Copy)]
pub struct Test {
    name: &'static str,
    body: fn(),
    needs: &'static [Need],
    differs: &'static [(&'static str, &'static str)],
    seconds: u64,
}

impl Test {
    /// Use the macro `test!`.
    pub const fn new(name: &'static str, body: fn()) -> Test {
        Test { name, body, needs: &[], differs: &[], seconds: 60 }
    }

    /// The name of its function.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it as a part of another test, in the surroundings that this one has made; passes over what the host lacks.
    pub fn run_here(&self) {
        match self.needs.iter().find_map(Need::missing) {
            Some(reason) => eprintln!("passed over {}: {reason}", self.name),
            None => {
                eprintln!("here: {}", self.name);
                (self.body)();
            }
        }
    }

    /// Skips the test on a host that lacks one of these.
    pub const fn needs(mut self, needs: &'static [Need]) -> Test {
        self.needs = needs;
        self
    }

    /// Runtimes that fail this test, each with the sentence that says why theirs is not what we want. Their failure
    /// counts as a skip; their success as a success.
    pub const fn differs(mut self, differs: &'static [(&'static str, &'static str)]) -> Test {
        self.differs = differs;
        self
    }

    /// The longest time it may take, if that is not 60 seconds.
    pub const fn seconds(mut self, seconds: u64) -> Test {
        self.seconds = seconds;
        self
    }
}

/// The tests of one file.
pub struct Group {
    /// What stands before the dot in the names of its tests.
    pub name: &'static str,
    /// The file's `TESTS`.
    pub tests: &'static [Test],
}

impl Group {
    /// The full names of its tests: `group.test`.
    pub fn names(&self) -> Vec<String> {
        self.tests.iter().map(|test| format!("{}.{}", self.name, test.name)).collect()
    }
}

/// Exit statuses of a test's processes.
pub const PASSED: i32 = 0;
/// The message is the first line of the output.
pub const FAILED: i32 = 1;
/// The reason is the first line of the output.
pub const SKIPPED: i32 = 77;

struct Skip(String);

/// Ends the test here, as skipped for this reason.
pub fn skip(reason: &str) -> ! {
    panic::resume_unwind(Box::new(Skip(reason.to_owned())))
}

/// The whole program.
pub fn main_with(groups: &[&'static [Group]]) {
    let groups = groups.iter().flat_map(|some| some.iter());
    let all: Vec<(String, Test)> =
        groups.flat_map(|group| group.tests.iter().map(|test| (format!("{}.{}", group.name, test.name), *test))).collect();
    let mut words = Vec::new();
    let mut jobs = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut list = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let find = |name: &str| *all.iter().find(|(full, _)| full == name).map(|(_, test)| test).unwrap();
        match argument.as_str() {
            "--list" => list = true,
            "--jobs" => jobs = arguments.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| usage()),
            "--one" => {
                let name = arguments.next().unwrap_or_else(|| usage());
                warden::watch(&name, Duration::from_secs(find(&name).seconds) * call::patience())
            }
            "--body" => body(&find(&arguments.next().unwrap_or_else(|| usage()))),
            flag if flag.starts_with('-') => usage(),
            word => words.push(word.to_owned()),
        }
    }
    let chosen: Vec<_> =
        all.into_iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word))).collect();
    if list {
        chosen.iter().for_each(|(name, _)| println!("{name}"));
        return;
    }
    exit(if run_all(chosen, jobs) { 0 } else { 1 });
}

fn usage() -> ! {
    eprintln!("usage: integration [--list] [--jobs N] [WORD…]");
    exit(2)
}

/// Runs a test's own function and exits with what came of it. Runs in a process that its warden started, which reads
/// the message or reason from a file.
fn body(test: &Test) -> ! {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let message = warden::beside(&bundle::folder(), "message");
    let place = message.clone();
    panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text =
            payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied()).unwrap_or("panic");
        let at = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        // A second panic is a consequence of the first.
        if !place.exists() {
            let _ = std::fs::write(&place, format!("{text}{at}"));
        }
    }));
    exit(match panic::catch_unwind(test.body) {
        Ok(()) => PASSED,
        Err(cause) => match cause.downcast_ref::<Skip>() {
            Some(Skip(reason)) => {
                std::fs::write(&message, reason).unwrap();
                SKIPPED
            }
            None => FAILED,
        },
    })
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// So many failures may be a loaded machine's; more are not, and get no second try.
const SECOND_TRIES: usize = 3;

/// Runs the tests, `jobs` at a time; true when none failed.
fn run_all(tests: Vec<(String, Test)>, jobs: usize) -> bool {
    let runtime = call::runtime();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("integration: needs root");
        return false;
    }
    let peer = call::runtime_name();
    println!("runtime: {} ({})", runtime.display(), peer.as_deref().unwrap_or("does not answer to --version"));
    let place = Place::make();
    let queue = Mutex::new(tests.into_iter());
    let counts = Mutex::new(Counts::default());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let Some((name, test)) = queue.lock().unwrap().next() else { break };
                    let (line, count) = run_one(&name, &test, peer.as_deref(), &place.dir);
                    let mut counts = counts.lock().unwrap();
                    print!("{line}");
                    count(&mut counts);
                    if line.starts_with("FAIL ") {
                        failures.lock().unwrap().push((name, test, line));
                    }
                }
            });
        }
    });
    let mut counts = counts.into_inner().unwrap();
    let failures = failures.into_inner().unwrap();
    if failures.len() <= SECOND_TRIES {
        failures.iter().for_each(|(name, test, line)| try_again(name, test, line, &place.dir, &mut counts));
    }
    drop(place);
    let Counts { passed, failed, skipped } = counts;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}

/// A test that fails beside others and passes alone counts as passed, and is told of: on a loaded machine every deadline may be missed
/// once, but a test of which one reads here again and again has to be mended.
fn try_again(name: &str, test: &Test, failure: &str, place: &Path, counts: &mut Counts) {
    let (line, _) = run_one(name, test, None, place);
    if line.starts_with("ok ") {
        let first = failure.lines().next().unwrap_or_default().trim_start_matches("FAIL ");
        println!("unsteady {first}; passed alone");
        counts.failed -= 1;
        counts.passed += 1;
    } else {
        print!("{}", line.replacen("FAIL ", "again: ", 1));
    }
}

/// What to print of a test, and how to count it.
type Outcome = (String, fn(&mut Counts));

/// Runs one test.
fn run_one(name: &str, test: &Test, peer: Option<&str>, place: &Path) -> Outcome {
    let skipped: fn(&mut Counts) = |counts| counts.skipped += 1;
    if peer == Some("crun") && need::hybrid() {
        return (format!("skip {name}: crun differs: refuses hosts whose cgroup2 has controllers beside cgroup v1\n"), skipped);
    }
    if let Some(reason) = test.needs.iter().find_map(Need::missing) {
        return (format!("skip {name}: {reason}\n"), skipped);
    }
    let started = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--one", name])
        .env("BERTH_TEST_PLACE", place)
        .env("RUNTIME", call::runtime())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    match output.status.code() {
        Some(PASSED) => (format!("ok {name} ({} ms)\n", started.elapsed().as_millis()), |counts| counts.passed += 1),
        Some(SKIPPED) => (format!("skip {name}: {first}\n"), skipped),
        code => {
            if let Some((runtime, reason)) = test.differs.iter().find(|(runtime, _)| Some(*runtime) == peer) {
                return (format!("skip {name}: {runtime} differs: {reason}\n"), skipped);
            }
            let first = match code {
                Some(FAILED) => first.to_owned(),
                _ => format!("its warden ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
            };
            let rest: String = rest.lines().map(|line| format!("    {line}\n")).collect();
            (format!("FAIL {name}: {first}\n{rest}"), |counts| counts.failed += 1)
        }
    }
}

/// A tmpfs in a mount namespace of our own, where all tests have their folders. It vanishes with its last process.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn make() -> Place {
        umask(Mode::from_bits_truncate(0o022));
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = PathBuf::from(format!("/run/berth-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        mount(Some("berth-test"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        bundle::make_template(&dir);
        Place { dir }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.dir);
    }
}
