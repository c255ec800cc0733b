// SPDX-License-Identifier: Apache-2.0
//! The stage on which every test plays: the runtime under test, and a folder in memory for bundles and state.
use crate::bundle::Bundle;
use crate::entry::{Outcome, Stop, fail};
use crate::seen::Seen;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// After this long a command of the runtime is taken to hang. In the virtual machine everything is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the tests of one runtime share.
pub struct Suite {
    /// The command line that runs it, before its own arguments.
    runtime: Vec<String>,
    /// A tmpfs of the suite's own: devices, id-mapped mounts and propagation work on it, whatever /tmp is.
    pub dir: PathBuf,
    /// The static program that containers and hooks run (probe.rs).
    pub probe: PathBuf,
    /// Where the cgroup2 tree is mounted.
    pub cgroup2: PathBuf,
    count: Cell<u32>,
}

/// What a command of the runtime came to.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// Its complaint in one line, for messages.
    pub fn complaint(&self) -> String {
        let text = self.stderr.trim().lines().last().unwrap_or("nothing on stderr");
        // Of a line of fields the one that says what is wrong: time="…" level=error msg="…".
        let text = text.split_once("msg=").map_or(text, |(_, message)| message.trim_matches('"'));
        format!("{} ({})", self.status, text.replace("\\\"", "\""))
    }
}

impl Suite {
    /// Sets the stage for the runtime that this command line runs.
    pub fn new(runtime: Vec<String>, probe: PathBuf) -> Outcome<Suite> {
        let dir = PathBuf::from(format!("/tmp/conformance-{}", std::process::id()));
        fs::create_dir(&dir)?;
        mount(Some("conformance"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        // Whatever the host's default: a test that needs propagation makes a mount of its own for it.
        mount(None::<&str>, &dir, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
        for folder in ["state", "bundles"] {
            fs::create_dir(dir.join(folder))?;
        }
        let unified = Path::new("/sys/fs/cgroup/unified");
        let cgroup2 = if unified.join("cgroup.procs").exists() { unified } else { Path::new("/sys/fs/cgroup") };
        // Containers outlive the command that creates them; so they become children of this program, which reaps them
        // and learns by which signal each died.
        nix::sys::prctl::set_child_subreaper(true)?;
        Ok(Suite { runtime, dir, probe, cgroup2: cgroup2.to_path_buf(), count: Cell::new(0) })
    }

    /// A new bundle with a configuration that every runtime should accept.
    pub fn bundle(&self) -> Outcome<Bundle<'_>> {
        self.count.set(self.count.get() + 1);
        Bundle::new(self, format!("conformance-{}-{}", std::process::id(), self.count.get()))
    }

    /// The command line of the runtime with these arguments, after `prefix` (a program that runs its arguments).
    pub fn command(&self, prefix: &[&str], arguments: &[&str]) -> Command {
        let root = self.dir.join("state").to_string_lossy().into_owned();
        let mut words: Vec<&str> = prefix.to_vec();
        words.extend(self.runtime.iter().map(String::as_str));
        words.extend(["--root", &root]);
        words.extend(arguments);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Runs the runtime with these arguments and takes what it prints.
    pub fn runtime(&self, arguments: &[&str]) -> Outcome<Ran> {
        self.run(self.command(&[], arguments), &self.dir.join("printed"))
    }

    /// Runs a command with stdout and stderr in files `base` and `base.err`, appending; kills it if it hangs.
    ///
    /// Files, not pipes: a container keeps them open after the command has ended.
    pub fn run(&self, mut command: Command, base: &Path) -> Outcome<Ran> {
        let error_file = base.with_extension("err");
        let append = |path: &Path| File::options().append(true).create(true).open(path);
        let before = (length(base), length(&error_file));
        command.stdin(Stdio::null()).stdout(append(base)?).stderr(append(&error_file)?);
        let mut child =
            command.spawn().map_err(|error| Stop::Failed(format!("cannot run {:?}: {error}", command.get_program())))?;
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                fail!("hung: {command:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |path: &Path, from: usize| {
            let bytes = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes[from.min(bytes.len())..]).into_owned()
        };
        Ok(Ran { status, stdout: text(base, before.0), stderr: text(&error_file, before.1) })
    }

    /// Runs one container to its end, its configuration changed by `change`, and says what its probe saw.
    pub fn see(&self, actions: &[&str], change: impl FnOnce(&mut Value)) -> Outcome<Seen> {
        let mut bundle = self.bundle()?;
        bundle.actions(actions);
        change(&mut bundle.config);
        bundle.see()
    }

    /// Passes if a container with this configuration is refused: by `create` or, at the latest, by `start`.
    pub fn refuses(&self, change: impl FnOnce(&mut Value)) -> Outcome {
        let mut bundle = self.bundle()?;
        change(&mut bundle.config);
        bundle.is_refused()
    }

    /// Runs a program of the host's and takes its output; a failure of it is the suite's.
    pub fn tool(&self, program: &str, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        let ran = self.run(command, &self.dir.join("tools"))?;
        if !ran.ok() {
            fail!("the suite itself failed: {program} {arguments:?}: {}", ran.complaint());
        }
        Ok(ran.stdout)
    }

    /// Skips the test unless the cgroup2 tree has this controller for containers.
    pub fn needs_controller(&self, name: &str) -> Outcome {
        let here = fs::read_to_string(self.cgroup2.join("cgroup.subtree_control")).unwrap_or_default();
        if here.split_whitespace().any(|controller| controller == name) {
            return Ok(());
        }
        Err(Stop::Skipped(format!("the cgroup2 tree here has no {name} controller")))
    }

    /// The features structure; skips if the runtime prints none (features.md: it MAY).
    pub fn features(&self) -> Outcome<Value> {
        let ran = self.runtime(&["features"])?;
        match serde_json::from_str(&ran.stdout) {
            Ok(features) if ran.ok() => Ok(features),
            _ => Err(Stop::Skipped("the runtime prints no features structure, which it only MAY".to_string())),
        }
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.dir);
    }
}

fn length(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |found| found.len() as usize)
}
