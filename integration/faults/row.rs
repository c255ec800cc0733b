// SPDX-License-Identifier: Apache-2.0
//! One row of the table: one command, one strike, all points. A process of its own, to which everything is left whose parent dies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use super::crowd::{KEPT, PROGRAMS, crowd};
use super::left::{cgroups, children, reap, shown, walk};
use super::operations::{CROWD_RUN, OPERATIONS, Operation, REFUSED, SOURCE, told_whole};
use super::{HANG, Strike, bundle};

/// What a row found.
#[derive(Default)]
pub struct Counts {
    pub points: usize,
    pub run: usize,
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    left: usize,
    hang: usize,
    crash: usize,
    other: usize,
}

impl Counts {
    pub const HEAD: &str = "command       strike   points     run    left    hang   crash   other     s";

    pub fn add(&mut self, text: &str) {
        let mut numbers = text.split(' ').filter_map(|word| word.parse::<usize>().ok());
        let mut next = || numbers.next().unwrap();
        (self.passed, self.failed, self.skipped) = (self.passed + next(), self.failed + next(), self.skipped + next());
    }
}

/// What the tracer saw.
#[derive(Default)]
struct Seen {
    hit: Option<String>,
    /// `exit N` or `signal N`; none: it did not end in time.
    end: Option<String>,
    /// Processes that ended by a signal or a panic.
    died: Vec<String>,
    points: Vec<usize>,
    stdout: String,
    stderr: String,
}

struct Row {
    operation: &'static Operation,
    strike: Strike,
    dir: PathBuf,
    id: String,
    /// What a clean life leaves.
    clean: BTreeSet<String>,
}

/// `faults row OPERATION STRIKE SAMPLE`
pub fn run(words: &[String]) {
    let operation = OPERATIONS.iter().find(|operation| operation.name == words[0]).unwrap();
    let strike = Strike::parse(&words[1]).unwrap();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let id = format!("faults-{}", std::process::id());
    let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let mut row = Row { operation, strike, dir: Path::new(place).join(&id), id, clean: BTreeSet::new() };
    row.make_bundle();
    if operation.before == "crowd" {
        crowd();
    }
    let started = Instant::now();
    let counts = row.all_points(words[2].parse().unwrap());
    fs::remove_dir_all(&row.dir).unwrap();
    let Counts { points, run, passed, failed, skipped, left, hang, crash, other } = counts;
    let seconds = started.elapsed().as_secs();
    let name = strike.name();
    println!(
        "{:<13} {name:<8} {points:>6}  {run:>6}  {left:>6}  {hang:>6}  {crash:>6}  {other:>6}  {seconds:>4}",
        operation.name
    );
    println!("counts {passed} {failed} {skipped}");
}

impl Row {
    fn make_bundle(&self) {
        let rootfs = self.dir.join("bundle/rootfs");
        bundle::make_rootfs(&rootfs, &["sleep", "true"]);
        fs::create_dir_all(self.dir.join("pid")).unwrap();
        let mut config = bundle::config(&["/bin/sleep", "1000"], 1000);
        let hook = json!([{ "path": rootfs.join("bin/true"), "args": ["true"], "timeout": 5 }]);
        config["hooks"] = json!({ "createRuntime": hook, "poststop": hook });
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 256, "hard": 256 }]);
        config["mounts"].as_array_mut().unwrap().push(bundle::mount("/tmp", "bind", "/tmp", &["rbind", "ro"]));
        config["linux"]["cgroupsPath"] = json!(format!("/{}", self.id));
        config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_X86_64"]);
        fs::write(self.dir.join("bundle/config.json"), config.to_string()).unwrap();
        config["root"]["path"] = json!(rootfs);
        let another = |name: &str, config: &serde_json::Value| {
            fs::create_dir(self.dir.join(name)).unwrap();
            fs::write(self.dir.join(name).join("config.json"), config.to_string()).unwrap();
        };
        let mut ending = config.clone();
        ending["process"]["args"] = json!(["/bin/true"]);
        another("ending", &ending);
        // CRIU reads the limits of its processes, for which those of another user need CAP_SYS_RESOURCE.
        let mut root = config.clone();
        root["process"]["user"] = json!({ "uid": 0, "gid": 0 });
        another("root", &root);
        config["hooks"].take();
        config["mounts"].as_array_mut().unwrap().push(bundle::mount("/etc", "bind", SOURCE, &["rbind", "ro"]));
        another("plain", &config);
    }

    fn all_points(&mut self, sample: usize) -> Counts {
        let mut counts = Counts::default();
        if let Err(why) = self.clean_life() {
            let _ = self.delete_by_force();
            println!("skip {}/{}: {why}", self.operation.name, self.strike.name());
            return Counts { skipped: 1, ..counts };
        }
        let count = if self.strike.is_kill() { Strike::CountKills } else { Strike::CountFailures };
        let mut most: Vec<usize> = Vec::new();
        for _ in 0..3 {
            // Twice the same is not certain: waiting takes more turns at one time than at another.
            let seen = self.prepare().map(|()| self.trace(count, (0, 0)));
            let _ = self.delete_by_force();
            for (index, points) in seen.unwrap_or_default().points.into_iter().enumerate() {
                most.resize(most.len().max(index + 1), 0);
                most[index] = most[index].max(points);
            }
        }
        let points: Vec<_> =
            most.iter().enumerate().flat_map(|(process, calls)| (0..*calls).map(move |call| (process, call))).collect();
        counts.points = points.len();
        let every = (points.len() / sample.max(1)).max(1);
        for at in points.into_iter().step_by(every) {
            // How often a process waits differs from run to run: the last of its calls are not there each time.
            let found = (0..3).find_map(|_| self.point(at, &mut counts));
            match found {
                None => counts.skipped += 1,
                Some(wrong) if wrong.is_empty() => counts.passed += 1,
                Some(wrong) => {
                    counts.failed += 1;
                    println!("FAIL {}/{} at {}.{}: {}", self.operation.name, self.strike.name(), at.0, at.1, wrong.join("; "));
                }
            }
        }
        if counts.skipped > 0 {
            let row = format!("{}/{}", self.operation.name, self.strike.name());
            println!("skip {row}: {} points that some runs have were not met in three tries", counts.skipped);
        }
        counts
    }

    /// One life without a fault: shows that the command works here, and what is left that is no leftover.
    fn clean_life(&mut self) -> Result<(), String> {
        self.prepare()?;
        let seen = self.trace(Strike::CountKills, (usize::MAX, 0));
        let works = self.works(&seen);
        self.delete_by_force()?;
        self.clean = self.files();
        self.clean.insert("pid/pid".into());
        works
    }

    fn point(&self, at: (usize, usize), counts: &mut Counts) -> Option<Vec<String>> {
        let mut wrong = Vec::new();
        if let Err(why) = self.prepare() {
            counts.other += 1;
            let _ = self.delete_by_force();
            self.clear();
            return Some(vec![format!("the id is not usable: {why}")]);
        }
        let seen = self.trace(self.strike, at);
        if let Some(call) = &seen.hit {
            counts.run += 1;
            self.judge(&seen, call, counts, &mut wrong);
        } else if ["", "image", "crowd"].contains(&self.operation.before) && seen.end.as_deref() != Some("exit 0") {
            counts.other += 1;
            wrong.push(format!("the id is not usable: {:?} {}", seen.end, seen.stderr.trim()));
        }
        match self.delete_by_force() {
            Ok(()) => {}
            Err(why) if why == "hang" => {
                counts.hang += 1;
                wrong.push("delete --force hangs".into());
            }
            Err(why) => {
                counts.other += 1;
                wrong.push(format!("delete --force: {why}"));
            }
        }
        let left = self.left();
        if !left.is_empty() {
            counts.left += 1;
            wrong.push(format!("left after delete --force: {}", left.join(", ")));
            self.clear();
        }
        if let (Some(call), false) = (&seen.hit, wrong.is_empty()) {
            wrong.insert(0, call.clone());
        }
        (seen.hit.is_some() || !wrong.is_empty()).then_some(wrong)
    }

    /// Holds what the command did against what is promised.
    fn judge(&self, seen: &Seen, call: &str, counts: &mut Counts, wrong: &mut Vec<String>) {
        let Some(end) = &seen.end else {
            counts.hang += 1;
            return wrong.push(format!("{call}: it hangs; stderr {:?}", seen.stderr));
        };
        let killed_main = self.strike.is_kill() && *end == "signal 9";
        if !seen.died.is_empty() || (end.starts_with("signal") && !killed_main) || seen.stderr.contains("panicked at") {
            counts.crash += 1;
            wrong.push(format!("{end}, died: {:?}, stderr {:?}", seen.died, seen.stderr));
        }
        if self.strike.is_kill() {
            return;
        }
        if (end == "exit 0" || self.operation.name == REFUSED)
            && let Err(why) = self.works(seen)
        {
            counts.other += 1;
            wrong.push(format!("{end}, but {why}"));
        }
        if end == "exit 0" {
            return;
        }
        // CRIU writes to the caller's standard error, which the restored program will have, and a warning is no message of the failure.
        let beside = |line: &&str| line.starts_with("Error (criu/") || line.contains("level=warning");
        let lines = seen.stderr.lines().filter(|line| !beside(line)).count();
        // Of a command that fails by itself, it may be the message that cannot be written.
        let unsaid = self.operation.name == REFUSED && call == "write" && lines == 0;
        if lines != 1 && !unsaid {
            counts.other += 1;
            wrong.push(format!("{lines} lines on stderr: {:?}", seen.stderr));
        }
        let left = if ["", "image", "crowd"].contains(&self.operation.before) { self.left() } else { Vec::new() };
        if !left.is_empty() {
            counts.left += 1;
            wrong.push(format!("left by the failed command ({:?}): {}", seen.stderr.trim(), left.join(", ")));
        }
    }

    /// Whether the command, which ended with 0, did what it is for.
    fn works(&self, seen: &Seen) -> Result<(), String> {
        let wanted = if self.operation.name == REFUSED { "exit 1" } else { "exit 0" };
        if seen.end.as_deref() != Some(wanted) {
            return Err(format!("it ended with {:?}: {}", seen.end, seen.stderr.trim()));
        }
        let name = self.operation.name;
        let tells = ["state", "list", "ps", "events"].iter().any(|command| name.starts_with(command));
        if tells && !told_whole(&seen.stdout, self.operation.after) {
            return Err(format!("it printed {:?}", seen.stdout));
        }
        let started = Instant::now();
        loop {
            let output = self.call("state ID").output().unwrap();
            let status = match serde_json::from_slice::<serde_json::Value>(&output.stdout) {
                Ok(state) => state["status"].as_str().unwrap_or_default().to_string(),
                Err(_) => String::new(),
            };
            if status == self.operation.after {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(2) {
                return Err(format!("the container is {status:?}, not {:?}", self.operation.after));
            }
            // An orphan that has ended is a zombie until we look.
            reap();
            sleep(Duration::from_millis(2));
        }
    }

    /// Brings a container to where the command finds it.
    fn prepare(&self) -> Result<(), String> {
        let create = "create --bundle BUNDLE --pid-file PIDFILE ID";
        let run = "run --detach --bundle BUNDLE --pid-file PIDFILE ID";
        let root_run = "run --detach --bundle ROOT --pid-file PIDFILE ID";
        match self.operation.before {
            "created" => self.ok(create),
            "running" => self.ok(run),
            "root running" => self.ok(root_run),
            "paused" => self.ok(run).and_then(|()| self.ok("pause ID")),
            // One for all points.
            "image" if self.dir.join("images/made").exists() => Ok(()),
            "image" => {
                fs::create_dir_all(self.dir.join("images")).unwrap();
                self.ok(root_run)?;
                self.ok("checkpoint --image-path IMAGES/made ID")?;
                self.delete_by_force()
            }
            "stopped" => {
                self.ok(create)?;
                let pid = fs::read_to_string(self.dir.join("pid/pid")).map_err(|error| error.to_string())?;
                let pid = Pid::from_raw(pid.parse().map_err(|_| format!("pid file {pid:?}"))?);
                kill(pid, Signal::SIGKILL).map_err(|error| error.to_string())?;
                waitpid(pid, None).map(drop).map_err(|error| error.to_string())
            }
            "crowd" => {
                // Whatever the last point has left of what is kept: the next container is made, and the host keeps one again.
                self.ok(CROWD_RUN)?;
                self.delete_by_force()?;
                let kept = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!("{KEPT}/ns"));
                let _ = umount2(KEPT, MntFlags::MNT_DETACH);
                fs::remove_dir_all(Path::new(KEPT).parent().unwrap()).map_err(|error| error.to_string())?;
                // Nor are device programs kept yet; a mount that has been refused is tried anew.
                let _ = umount2(PROGRAMS, MntFlags::MNT_DETACH);
                let _ = fs::remove_dir(PROGRAMS).or_else(|_| fs::remove_file(PROGRAMS));
                if kept { Ok(()) } else { Err("the host keeps no mount namespace any more".into()) }
            }
            _ => Ok(()),
        }
    }

    fn words(&self, words: &str) -> Vec<String> {
        let path = |leaf: &str| self.dir.join(leaf).display().to_string();
        let word = |word: &str| match word {
            "BUNDLE" => path("bundle"),
            "ENDING" => path("ending"),
            "ROOT" => path("root"),
            "PLAIN" => path("plain"),
            "PIDFILE" => path("pid/pid"),
            images if images.starts_with("IMAGES/") => path(&images.replace("IMAGES", "images")),
            "ID" => self.id.clone(),
            other => other.to_string(),
        };
        ["--root".to_string(), path("state")].into_iter().chain(words.split(' ').map(word)).collect()
    }

    fn call(&self, words: &str) -> Command {
        let mut command = Command::new(std::env::var_os("RUNTIME").unwrap());
        command.args(self.words(words)).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs a command without a fault; an error is "hang" or what it said.
    fn ok(&self, words: &str) -> Result<(), String> {
        let file = self.dir.join("stderr-of-others");
        let mut command = self.call(words);
        let mut child = command.stdout(Stdio::null()).stderr(fs::File::create(&file).unwrap()).spawn().unwrap();
        let started = Instant::now();
        loop {
            match child.try_wait().unwrap() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{status}: {}", fs::read_to_string(&file).unwrap().trim())),
                None if started.elapsed() > HANG => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return Err("hang".into());
                }
                None => sleep(Duration::from_micros(500)),
            }
            // The first process of a pid namespace ends when all others there have been reaped: those left to us are ours to reap.
            if started.elapsed() > Duration::from_millis(20) {
                let orphans = children().into_iter().filter(|pid| *pid != child.id() as i32);
                orphans.for_each(|pid| _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)));
            }
        }
    }

    fn delete_by_force(&self) -> Result<(), String> {
        self.ok("delete --force ID")
    }

    fn trace(&self, strike: Strike, at: (usize, usize)) -> Seen {
        let stderr = self.dir.join("stderr");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["trace", &strike.name(), &at.0.to_string(), &at.1.to_string()]).arg(&stderr);
        command.arg(std::env::var_os("RUNTIME").unwrap()).args(self.words(self.operation.words));
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let mut seen = Seen { stderr: read(&stderr), stdout: read(&stderr.with_extension("out")), ..Seen::default() };
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (what, of) = line.split_once(' ').unwrap();
            match what {
                "hit" => seen.hit = Some(of.to_string()),
                "end" => seen.end = Some(of.to_string()),
                "died" => seen.died.push(of.to_string()),
                "points" => seen.points.push(of.parse().unwrap()),
                other => panic!("the tracer said {other}"),
            }
        }
        seen
    }

    /// What there is of the container: processes, cgroups, mounts, files. Processes that were killed may take a moment.
    fn left(&self) -> Vec<String> {
        let started = Instant::now();
        let mut left: Vec<String> = loop {
            let alive = reap();
            if alive.is_empty() || started.elapsed() > Duration::from_millis(500) {
                break alive.iter().map(|pid| format!("process {pid} {}", shown(*pid))).collect();
            }
            sleep(Duration::from_millis(1));
        };
        left.extend(cgroups(&self.id).iter().map(|path| format!("cgroup {}", path.display())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(&self.id)).map(|line| format!("mount {line}")));
        left.extend(self.files().difference(&self.clean).map(|path| format!("file {path}")));
        left
    }

    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        walk(&self.dir, &mut |path| {
            found.insert(path.strip_prefix(&self.dir).unwrap().display().to_string());
        });
        // What CRIU writes is the user's to remove.
        found.retain(|path| !path.starts_with("images"));
        found.remove("stderr");
        found.remove("stderr-of-others");
        found
    }

    /// Removes what was left, so that the next point does not fail for it.
    fn clear(&self) {
        let started = Instant::now();
        loop {
            let alive = reap();
            for pid in &alive {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            if alive.is_empty() || started.elapsed() > Duration::from_secs(2) {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        for path in cgroups(&self.id).iter().rev() {
            let _ = fs::write(path.join("cgroup.kill"), "1");
            let _ = fs::remove_dir(path);
        }
        for path in self.files().difference(&self.clean).collect::<Vec<_>>().into_iter().rev() {
            let path = self.dir.join(path);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
        let _ = fs::remove_file(self.dir.join("pid/pid"));
    }
}
