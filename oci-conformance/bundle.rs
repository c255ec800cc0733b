// SPDX-License-Identifier: Apache-2.0
//! A bundle and the container made of it, from its configuration to its end.
use crate::entry::{Outcome, Stop, check, fail};
use crate::seen::Seen;
use crate::suite::{Ran, Suite};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the suite waits for what a container should soon do.
const SOON: Duration = Duration::from_secs(15);

/// Not on every runtime's host, but in nobody's way: a container needs some, and more may not be had here.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_SYS_CHROOT",
    "CAP_AUDIT_WRITE",
];

/// A bundle in the suite's folder. Dropped, it takes its container and its cgroup with it.
pub struct Bundle<'a> {
    pub suite: &'a Suite,
    pub id: String,
    pub dir: PathBuf,
    /// What the next `create` writes as config.json.
    pub config: Value,
    /// A program with arguments that runs the runtime's commands for this container, such as `taskset -c 1`.
    prefix: Vec<String>,
}

impl<'a> Bundle<'a> {
    /// A rootfs with nothing but the probe in it, and a configuration to run it.
    pub fn new(suite: &'a Suite, id: String) -> Outcome<Bundle<'a>> {
        let dir = suite.dir.join("bundles").join(&id);
        for folder in ["rootfs/proc", "rootfs/dev", "rootfs/sys/fs/cgroup", "rootfs/tmp", "rootfs/m", "rootfs/out"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::copy(&suite.probe, dir.join("rootfs/probe"))?;
        let config = plain_configuration(&id);
        Ok(Bundle { suite, id, dir, config, prefix: Vec::new() })
    }

    /// Makes the probe do this in the container.
    pub fn actions(&mut self, actions: &[&str]) {
        let mut words = vec!["/probe"];
        words.extend(actions);
        self.config["process"]["args"] = json!(words);
    }

    /// Has the runtime's commands for this container run by this program.
    pub fn under(&mut self, prefix: &[&str]) {
        self.prefix = prefix.iter().map(|word| word.to_string()).collect();
    }

    /// A path in the rootfs, on the host.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path)
    }

    /// A new folder in the bundle, beside the rootfs, holding a file `name`; its path.
    pub fn folder_with(&self, folder: &str, name: &str) -> Outcome<String> {
        let path = self.dir.join(folder);
        fs::create_dir_all(&path)?;
        fs::write(path.join(name), folder)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// The container's cgroup, as configured.
    pub fn cgroup(&self) -> PathBuf {
        let path = self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default();
        self.suite.cgroup2.join(path.trim_start_matches('/'))
    }

    /// Writes config.json anew.
    pub fn write(&self) -> Outcome {
        Ok(fs::write(self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config)?)?)
    }

    fn verb(&self, arguments: &[&str], base: &str) -> Outcome<Ran> {
        let prefix: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        self.suite.run(self.suite.command(&prefix, arguments), &self.dir.join(base))
    }

    /// `create` with these options more: what it came to.
    pub fn create_with(&self, options: &[&str]) -> Outcome<Ran> {
        self.write()?;
        let bundle = self.dir.to_string_lossy().into_owned();
        let pid_file = self.dir.join("pid").to_string_lossy().into_owned();
        let mut words = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        words.extend(options);
        words.push(&self.id);
        self.verb(&words, "out")
    }

    pub fn create(&self) -> Outcome<Ran> {
        self.create_with(&[])
    }

    /// `create`, which must succeed.
    pub fn created(&self) -> Outcome {
        let ran = self.create()?;
        check!(ran.ok(), "create failed: {}", ran.complaint());
        Ok(())
    }

    pub fn start(&self) -> Outcome<Ran> {
        self.verb(&["start", &self.id], "verbs")
    }

    /// `start`, which must succeed.
    pub fn started(&self) -> Outcome {
        let ran = self.start()?;
        check!(ran.ok(), "start failed: {}", ran.complaint());
        Ok(())
    }

    pub fn kill(&self, signal: &str) -> Outcome<Ran> {
        self.verb(&["kill", &self.id, signal], "verbs")
    }

    pub fn delete(&self) -> Outcome<Ran> {
        self.verb(&["delete", &self.id], "verbs")
    }

    /// `delete`, which must succeed.
    pub fn deleted(&self) -> Outcome {
        let ran = self.delete()?;
        check!(ran.ok(), "delete failed: {}", ran.complaint());
        Ok(())
    }

    /// The container's state, which must be had.
    pub fn state(&self) -> Outcome<Value> {
        let ran = self.verb(&["state", &self.id], "verbs")?;
        check!(ran.ok(), "state failed: {}", ran.complaint());
        Ok(serde_json::from_str(&ran.stdout)?)
    }

    /// Its status, or nothing if there is no such container.
    pub fn status(&self) -> Outcome<Option<String>> {
        let ran = self.verb(&["state", &self.id], "verbs")?;
        if !ran.ok() {
            return Ok(None);
        }
        let state: Value = serde_json::from_str(&ran.stdout)?;
        Ok(Some(state["status"].as_str().unwrap_or_default().to_string()))
    }

    /// The container process, by the pid file.
    pub fn pid(&self) -> Outcome<Pid> {
        let text = fs::read_to_string(self.dir.join("pid")).unwrap_or_default();
        match text.trim().parse() {
            Ok(pid) if pid > 1 => Ok(Pid::from_raw(pid)),
            _ => Err(Stop::Failed("create wrote no pid into the file of --pid-file".to_string())),
        }
    }

    /// A file of the container process in the host's /proc.
    pub fn proc(&self, name: &str) -> Outcome<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/{name}", self.pid()?)))
    }

    /// Waits for the container process to end: how it did, unless it is no child of ours.
    pub fn wait(&self) -> Outcome<Option<WaitStatus>> {
        let pid = self.pid()?;
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(status) => return Ok(Some(status)),
                Err(Errno::ECHILD) if !fs::exists(format!("/proc/{pid}/exe"))? => return Ok(None),
                Err(Errno::ECHILD) => {}
                Err(errno) => return Err(errno.into()),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        fail!("the container process {pid} did not end in {} s", SOON.as_secs())
    }

    /// What the probe has said so far.
    pub fn seen(&self) -> Outcome<Seen> {
        Seen::parse(&fs::read_to_string(self.dir.join("out")).unwrap_or_default())
    }

    /// Whether the program in the container has said anything yet.
    pub fn has_run(&self) -> Outcome<bool> {
        Ok(!self.seen()?.lines.is_empty())
    }

    /// Waits until the probe has done this.
    pub fn wait_for(&self, action: &str) -> Outcome {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            // A line may be half written: then it is not JSON yet.
            if self.seen().is_ok_and(|seen| seen.of(action).is_ok()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        fail!("the program in the container did not come to {action:?} in {} s", SOON.as_secs())
    }

    /// A whole life: create, start, the program's end, delete. What the probe saw.
    pub fn see(&self) -> Outcome<Seen> {
        self.created()?;
        self.started()?;
        self.wait()?;
        self.deleted()?;
        self.seen()
    }

    /// Passes if the configuration is refused by `create`, or by `start` before the program runs.
    pub fn is_refused(&self) -> Outcome {
        if !self.create()?.ok() {
            return Ok(());
        }
        let start = self.start()?;
        check!(!start.ok(), "no error: the container was created and started");
        check!(!self.has_run()?, "start failed, but the program ran: {}", start.complaint());
        Ok(())
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        let _ = self.verb(&["delete", "--force", &self.id], "verbs");
        if let Ok(pid) = self.pid()
            && waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
        {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
        // Whatever else a runtime left to its subreaper.
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        let _ = fs::remove_dir(self.cgroup());
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A configuration without anything unusual: namespaces of its own, the default file systems, a cgroup at the top.
fn plain_configuration(id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/",
            "args": ["/probe", "report"],
            "env": ["PATH=/bin"],
            "user": { "uid": 0, "gid": 0 },
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
        },
        "root": { "path": "rootfs" },
        "hostname": "conformance",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
        },
    })
}
