// SPDX-License-Identifier: Apache-2.0
//! The work: what is done to the runtime, and what must come of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::figures::{Figures, HEAD};
use super::{Options, bundle};

/// How long a command may take, on a machine that is kept busy.
const HANG: Duration = Duration::from_secs(60);
/// How long the kernel may take to be done with what has been deleted.
const SETTLE: Duration = Duration::from_secs(60);

/// A command that runs.
struct Running {
    child: Child,
    words: String,
    stderr: PathBuf,
}

/// How a command ended, with what it printed.
struct Ended {
    code: i32,
    words: String,
    stdout: String,
    stderr: String,
}

struct Soak<'a> {
    options: &'a Options,
    dir: PathBuf,
    stop: AtomicBool,
    wrong: Mutex<Vec<String>>,
    commands: AtomicUsize,
    lives: AtomicUsize,
    bursts: AtomicUsize,
    execs: AtomicUsize,
    updates: AtomicUsize,
    races: AtomicUsize,
}

/// Returns whether all was well.
pub fn run(options: &Options) -> bool {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let dir = Path::new(place).join(format!("soak-{}", std::process::id()));
    let zero = || AtomicUsize::new(0);
    let soak = Soak {
        options,
        dir,
        stop: AtomicBool::new(false),
        wrong: Mutex::default(),
        commands: zero(),
        lives: zero(),
        bursts: zero(),
        execs: zero(),
        updates: zero(),
        races: zero(),
    };
    soak.make_bundle();
    soak.soak();
    fs::remove_dir_all(&soak.dir).unwrap();
    let wrong = soak.wrong.into_inner().unwrap();
    wrong.is_empty()
}

impl Soak<'_> {
    fn make_bundle(&self) {
        let place = self.dir.join("bundle");
        bundle::make_rootfs(&place.join("rootfs"), &["sleep", "true", "sh", "hostname"]);
        fs::create_dir(self.dir.join("state")).unwrap();
        fs::write(place.join("config.json"), bundle::config(&["/bin/sleep", "100000"], 0).to_string()).unwrap();
    }

    fn soak(&self) {
        // Once, so that what the kernel makes at first use is no leak.
        self.burst(0);
        let before = Figures::take(&self.state_root());
        println!("                                              {HEAD}");
        println!("before                                        {before}");
        let ids: Vec<String> = (0..self.options.alive).map(|number| format!("soak-{number}")).collect();
        let begun = Instant::now();
        for part in ids.chunks(self.options.burst) {
            self.all_ok(part.iter().map(|id| self.run_detached(id)).collect());
        }
        println!("{} containers made and started in {:.1} s", ids.len(), begun.elapsed().as_secs_f64());
        // A tenth of them is deleted and made anew under the hands of whoever uses it.
        let (churned, kept) = ids.split_at(ids.len() / 10);
        let begun = Instant::now();
        scope(|scope| {
            scope.spawn(|| self.until_stopped(|round| self.burst(round + 1)));
            scope.spawn(|| self.until_stopped(|round| self.exec(&kept[round * 7 % kept.len()])));
            scope.spawn(|| self.until_stopped(|round| self.exec(&kept[round * 11 % kept.len()])));
            scope.spawn(|| self.until_stopped(|round| self.race(&churned[round % churned.len()])));
            if self.options.updates {
                scope.spawn(|| self.until_stopped(|round| self.update(&kept[round * 13 % kept.len()], round)));
            }
            let mut minutes = 0;
            while begun.elapsed().as_secs_f64() < self.options.minutes * 60.0 {
                sleep(Duration::from_millis(500));
                self.look(kept);
                if begun.elapsed().as_secs() / 60 > minutes {
                    minutes += 1;
                    self.tell(&format!("after {minutes} min"));
                }
            }
            self.stop.store(true, Ordering::Relaxed);
        });
        self.tell("at the end");
        for part in ids.chunks(self.options.burst) {
            self.all_ok(part.iter().map(|id| self.start(&["delete", "--force", id])).collect());
        }
        self.settle(&before);
    }

    fn until_stopped(&self, mut work: impl FnMut(usize)) {
        let mut round = 0;
        while !self.stop.load(Ordering::Relaxed) {
            work(round);
            round += 1;
        }
    }

    /// So many containers made and started at once, used at once, and deleted at once: by force, or killed and then deleted.
    fn burst(&self, round: usize) {
        let ids: Vec<String> = (0..self.options.burst).map(|number| format!("burst-{round}-{number}")).collect();
        let each = |words: &dyn Fn(&str) -> Running| self.all_ok(ids.iter().map(|id| words(id)).collect());
        each(&|id| self.run_detached(id));
        if round.is_multiple_of(2) {
            each(&|id| self.start(&["exec", id, "/bin/true"]));
            each(&|id| self.start(&["delete", "--force", id]));
        } else {
            each(&|id| self.start(&["kill", id, "KILL"]));
            let started = Instant::now();
            let mut left: Vec<&String> = ids.iter().collect();
            while !left.is_empty() && started.elapsed() < HANG {
                let ended: Vec<Ended> = left
                    .iter()
                    .map(|id| self.start(&["delete", id]))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|running| self.end(running))
                    .collect();
                // The kernel may not be done with killing.
                let again = |ended: &Ended| ended.code != 0 && ended.stderr.contains("that is not stopped");
                ended.iter().filter(|ended| ended.code != 0 && !again(ended)).for_each(|ended| self.failed(ended));
                left = left.into_iter().zip(&ended).filter(|(_, ended)| again(ended)).map(|(id, _)| id).collect();
            }
            if !left.is_empty() {
                self.fail(format!("killed and never stopped: {left:?}"));
            }
        }
        self.bursts.fetch_add(1, Ordering::Relaxed);
    }

    /// What an exec prints is what it was asked to print.
    fn exec(&self, id: &str) {
        let ended = self.end(self.start(&["exec", id, "/bin/sh", "-c", &format!("echo {id} $(hostname)")]));
        if ended.code != 0 {
            self.failed(&ended);
        } else if ended.stdout.trim() != format!("{id} inside") {
            self.fail(format!("{}: it printed {:?}", ended.words, ended.stdout));
        }
        self.execs.fetch_add(1, Ordering::Relaxed);
    }

    fn update(&self, id: &str, round: usize) {
        self.all_ok(vec![self.start(&["update", "--pids-limit", &(50 + round % 50).to_string(), id])]);
        self.updates.fetch_add(1, Ordering::Relaxed);
    }

    /// Exec, update, state and two deletes of one container at once: the deletes succeed, the others end one way or the other; and the id
    /// can be used again.
    fn race(&self, id: &str) {
        let mut others = vec![self.start(&["exec", id, "/bin/true"]), self.start(&["state", id])];
        if self.options.updates {
            others.push(self.start(&["update", "--pids-limit", "77", id]));
        }
        let deletes = vec![self.start(&["delete", "--force", id]), self.start(&["delete", "--force", id])];
        others.push(self.start(&["exec", id, "/bin/true"]));
        self.all_ok(deletes);
        for ended in others.into_iter().map(|running| self.end(running)).collect::<Vec<_>>() {
            // The program of an exec may have been killed: that is its status then, and no error.
            let killed = ended.code == 137 && ended.words.starts_with("exec");
            if ended.code != 0 && !killed && ended.stderr.lines().count() != 1 {
                self.fail(format!("{}: {} and not one line: {:?}", ended.words, ended.code, ended.stderr));
            }
        }
        self.all_ok(vec![self.run_detached(id)]);
        self.races.fetch_add(1, Ordering::Relaxed);
    }

    /// All that live are listed.
    fn look(&self, kept: &[String]) {
        let ended = self.end(self.start(&["list", "--quiet"]));
        if ended.code != 0 {
            return self.failed(&ended);
        }
        let listed: std::collections::BTreeSet<&str> = ended.stdout.lines().collect();
        let missing: Vec<&String> = kept.iter().filter(|id| !listed.contains(id.as_str())).collect();
        if !missing.is_empty() {
            self.fail(format!("list does not show {missing:?}"));
        }
    }

    /// Waits until all is as it was, and says what is not.
    fn settle(&self, before: &Figures) {
        let (started, lives) = (Instant::now(), self.lives.load(Ordering::Relaxed));
        let (after, leaks) = loop {
            let after = Figures::take(&self.state_root());
            let leaks = after.leaks_since(before, lives);
            if leaks.is_empty() || started.elapsed() > SETTLE {
                break (after, leaks);
            }
            sleep(Duration::from_millis(500));
        };
        println!("after all were deleted, and {:>4.1} s             {after}", started.elapsed().as_secs_f64());
        leaks.into_iter().for_each(|leak| self.fail(format!("leak: {leak}")));
        let wrong = self.wrong.lock().unwrap().len();
        println!(
            "{lives} lives, {} commands, {} bursts of {}, {} execs, {} updates, {} races of execs, updates and deletes: {wrong} wrong",
            self.commands.load(Ordering::Relaxed),
            self.bursts.load(Ordering::Relaxed),
            self.options.burst,
            self.execs.load(Ordering::Relaxed),
            self.updates.load(Ordering::Relaxed),
            self.races.load(Ordering::Relaxed),
        );
    }

    fn tell(&self, when: &str) {
        let figures = Figures::take(&self.state_root());
        println!(
            "{when:<14} {:>7} lives {:>8} commands  {figures}",
            self.lives.load(Ordering::Relaxed),
            self.commands.load(Ordering::Relaxed)
        );
    }

    fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn run_detached(&self, id: &str) -> Running {
        self.lives.fetch_add(1, Ordering::Relaxed);
        self.start(&["run", "--detach", "--bundle", &self.dir.join("bundle").display().to_string(), id])
    }

    fn start(&self, words: &[&str]) -> Running {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let stderr = self.dir.join(format!("stderr-{number}"));
        // A container that goes on has the standard output of the command that made it.
        let stdout = if words[0] == "run" { Stdio::null() } else { Stdio::piped() };
        let mut command = Command::new(std::env::var_os("RUNTIME").unwrap());
        command.arg("--root").arg(self.state_root()).args(words).env_clear().env("PATH", "/usr/bin:/bin");
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(fs::File::create(&stderr).unwrap()).spawn().unwrap();
        Running { child, words: words.join(" "), stderr }
    }

    fn end(&self, mut running: Running) -> Ended {
        let started = Instant::now();
        let status = loop {
            match running.child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > HANG => {
                    self.fail(format!("{}: it hangs", running.words));
                    running.child.kill().unwrap();
                    break running.child.wait().unwrap();
                }
                None => sleep(Duration::from_millis(1)),
            }
        };
        let mut stdout = String::new();
        if let Some(mut pipe) = running.child.stdout.take() {
            let _ = std::io::Read::read_to_string(&mut pipe, &mut stdout);
        }
        let stderr = fs::read_to_string(&running.stderr).unwrap_or_default();
        fs::remove_file(&running.stderr).unwrap();
        let ended = Ended { code: status.code().unwrap_or(-1), words: running.words, stdout, stderr };
        if status.code().is_none() || ended.stderr.contains("panicked at") {
            self.fail(format!("{}: {status}: {}", ended.words, ended.stderr.trim()));
        }
        ended
    }

    /// All must succeed; they run at once.
    fn all_ok(&self, running: Vec<Running>) {
        for ended in running.into_iter().map(|running| self.end(running)) {
            if ended.code != 0 {
                self.failed(&ended);
            }
        }
    }

    fn failed(&self, ended: &Ended) {
        self.fail(format!("{}: {}: {}", ended.words, ended.code, ended.stderr.trim()));
    }

    fn fail(&self, what: String) {
        println!("FAIL {what}");
        self.wrong.lock().unwrap().push(what);
    }
}
