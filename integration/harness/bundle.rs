// SPDX-License-Identifier: Apache-2.0
//! Bundles and containers of a test.
//!
//! A bundle is a folder on a tmpfs with a config.json, which the test edits as a JSON value, and a busybox rootfs, whose
//! programs are hard links to one template. A container is deleted by force when the test lets go of it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{LinkatFlags, Pid, linkat};
use serde_json::{Value, json};

use super::call::{self, Call, Output};
use super::look::eventually;

/// The programs in every rootfs.
const APPLETS: &str = "[ awk basename cat chmod chown chroot cp cut date dd df dirname echo env expr false find grep head hexdump \
    hostname id ionice ip kill ln ls mkdir mkfifo mknod mount mv nc nproc od pidof printf ps pwd readlink realpath rm rmdir sed seq \
    setsid sh sleep sort stat stty sync tail tee test timeout touch tr true truncate tty ulimit umount uname unshare usleep wc \
    whoami xargs yes";

/// The folder of the test that runs, where it may put what it likes.
pub fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("BERTH_TEST_DIR").unwrap())
}

/// The `--root` of all its calls.
pub fn state_root() -> PathBuf {
    folder().join("state")
}

/// A container id that no other test has.
pub fn new_id() -> String {
    thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
    let number = COUNT.replace(COUNT.get() + 1);
    format!("{}{number}", std::env::var("BERTH_TEST_ID").unwrap())
}

fn template(place: &Path) -> PathBuf {
    place.join("template")
}

/// Makes the rootfs that all others link to. Called once, by the runner.
pub fn make_template(place: &Path) {
    let busybox = Path::new("/bin/busybox");
    assert!(busybox.exists(), "no /bin/busybox: install the package busybox-static");
    let bin = template(place).join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(busybox, bin.join("busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
}

/// A bundle. `run` and `create` write its config first.
pub struct Bundle {
    pub dir: PathBuf,
    /// The id its container gets.
    pub id: String,
    pub config: Value,
}

impl Bundle {
    /// A rootfs, and the configuration of `default_config` with a cgroup of its own.
    pub fn new() -> Bundle {
        let id = new_id();
        let dir = folder().join(format!("bundle-{id}"));
        make_rootfs(&dir.join("rootfs"));
        let mut config = default_config();
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        Bundle { dir, id, config }
    }

    /// A bundle whose program is `/bin/sh -c SCRIPT`.
    pub fn sh(script: &str) -> Bundle {
        Bundle::args(&["/bin/sh", "-c", script])
    }

    /// A bundle whose program is `/bin/sh -c SCRIPT`, with these `linux.resources`.
    pub fn limited(script: &str, resources: Value) -> Bundle {
        let mut bundle = Bundle::sh(script);
        bundle.set("/linux/resources", resources);
        bundle
    }

    /// A bundle whose program has these arguments.
    pub fn args(args: &[&str]) -> Bundle {
        let mut bundle = Bundle::new();
        bundle.config["process"]["args"] = json!(args);
        bundle
    }

    /// Sets the value at a JSON pointer, making objects on the way; the last word `-` appends to a list.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let mut at = &mut self.config;
        for word in pointer.split('/').skip(1) {
            if word == "-" {
                if at.is_null() {
                    *at = json!([]);
                }
                let list = at.as_array_mut().unwrap();
                list.push(Value::Null);
                at = list.last_mut().unwrap();
            } else if let (Ok(index), true) = (word.parse::<usize>(), at.is_array()) {
                at = &mut at[index];
            } else {
                at = &mut at[word];
            }
        }
        *at = value;
        self
    }

    /// Removes a member, given by the pointer to its object and its name.
    pub fn unset(&mut self, object: &str, name: &str) -> &mut Bundle {
        self.config.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(name);
        self
    }

    /// Replaces the namespace of this type: by a new one, by the one at `path`, or by none (`Some("")`: inherited).
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Bundle {
        let list = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|entry| entry["type"] != kind);
        match path {
            None => list.push(json!({ "type": kind })),
            Some("") => {}
            Some(path) => list.push(json!({ "type": kind, "path": path })),
        }
        self
    }

    /// Maps ids into a new user namespace; the rootfs, made by root, is given to the first.
    pub fn user_namespace(&mut self, maps: &[(u32, u32, u32)]) -> &mut Bundle {
        let list: Vec<Value> = maps.iter().map(|(c, h, n)| json!({ "containerID": c, "hostID": h, "size": n })).collect();
        self.namespace("user", None).set("/linux/uidMappings", json!(list)).set("/linux/gidMappings", json!(list))
    }

    /// Adds a mount at the end.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Bundle {
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.set("/mounts/-", mount)
    }

    /// A path inside the rootfs.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    pub fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Writes config.json.
    pub fn save(&self) {
        let text = serde_json::to_string_pretty(&self.config).unwrap();
        fs::write(self.dir.join("config.json"), text).unwrap();
    }

    /// `run OPTIONS… ID`, not yet started.
    pub fn run_call(&self, options: &[&str]) -> Call {
        self.run_through(&[], options)
    }

    /// The same, started by the program and arguments of `prefix`.
    pub fn run_through(&self, prefix: &[&str], options: &[&str]) -> Call {
        self.save();
        Call::through(prefix, &[&["run", "--bundle", self.path()], options, &[self.id.as_str()]].concat())
    }

    /// Runs it in the foreground to its end.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.run_call(&[]).output()
    }

    /// Runs it, asserts that it ended with 0 and returns what it printed.
    #[track_caller]
    pub fn print(&self) -> String {
        self.run().ok()
    }

    /// `create OPTIONS… ID`, not yet started.
    pub fn create_call(&self, options: &[&str]) -> Call {
        self.save();
        Call::new(&[&["create", "--bundle", self.path()], options, &[self.id.as_str()]].concat())
    }

    /// Where the output of a container goes that was made by `create`.
    pub fn stdout_file(&self) -> PathBuf {
        self.dir.join("stdout")
    }

    pub fn stderr_file(&self) -> PathBuf {
        self.dir.join("stderr")
    }

    /// Runs a call whose container inherits stdout and stderr, which are files: returns what it added to them.
    #[track_caller]
    pub fn output_of(&self, call: Call) -> Output {
        let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (stdout, stderr) = (read(self.stdout_file()).len(), read(self.stderr_file()).len());
        let mut child: Child = call.spawn_to(&self.stdout_file(), &self.stderr_file());
        let status = call::wait(&mut child);
        if call::through_pipes() {
            // The container may hold the pipe for ever: there is no end to wait for.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let added = |path: PathBuf, before: usize| read(path)[before..].to_owned();
        let output = Output { status, stdout: added(self.stdout_file(), stdout), stderr: added(self.stderr_file(), stderr) };
        eprintln!("  stdout: {:?}\n  stderr: {:?}", output.stdout, output.stderr);
        output
    }

    /// Creates its container, which must succeed.
    #[track_caller]
    pub fn create(&self) -> Container {
        self.create_with(&[])
    }

    /// Creates its container with options, which must succeed.
    #[track_caller]
    pub fn create_with(&self, options: &[&str]) -> Container {
        let guard = self.container();
        self.output_of(self.create_call(options)).ok();
        guard
    }

    /// Tries to create its container, which must fail and leave nothing; returns the message.
    #[track_caller]
    pub fn create_fails(&self) -> String {
        self.output_of(self.create_call(&[])).fails()
    }

    /// `run --detach`, which must succeed.
    #[track_caller]
    pub fn run_detached(&self) -> Container {
        let guard = self.container();
        self.output_of(self.run_call(&["--detach"])).ok();
        guard
    }

    /// The guard of its container, which may not exist yet.
    pub fn container(&self) -> Container {
        Container { id: self.id.clone(), stdout: self.stdout_file(), stderr: self.stderr_file() }
    }
}

/// A container, deleted by force when dropped.
pub struct Container {
    pub id: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Container {
    /// A call with the id as its last word.
    pub fn call(&self, words: &[&str]) -> Call {
        Call::new(&[words, &[self.id.as_str()]].concat())
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        let text = self.call(&["state"]).output().ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("state is not JSON ({error}): {text:?}"))
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// The pid of its first process, in our pid namespace.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let state = self.state();
        state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_else(|| panic!("no pid in {state}"))
    }

    #[track_caller]
    pub fn start(&self) {
        self.call(&["start"]).output().ok();
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) {
        Call::new(&["kill", &self.id, signal]).output().ok();
    }

    #[track_caller]
    pub fn delete(&self) {
        self.call(&["delete"]).output().ok();
    }

    #[track_caller]
    pub fn wait_status(&self, status: &str) {
        eventually(&format!("the container is {status}"), || self.status() == status);
    }

    /// What it has written to stdout.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it, and the runtime that made it, have written to stderr.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until its output contains a text; returns the output.
    #[track_caller]
    pub fn wait_stdout(&self, text: &str) -> String {
        eventually(&format!("{text:?} is in stdout {:?}, stderr {:?}", self.stdout(), self.stderr()), || {
            self.stdout().contains(text)
        });
        self.stdout()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let output = self.call(&["delete", "--force"]).output();
        if !std::thread::panicking() {
            assert!(output.status.success(), "delete --force: {output:?}");
        }
    }
}

/// Ends a process that was left to us, by its pid file, and takes it away: as long as it lies there dead, the pid namespace that it was
/// executed in does not end, and neither does that namespace's first process.
#[track_caller]
pub fn end_orphan(pid_file: &Path) {
    let pid: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_orphan(pid);
}

/// Waits for a process that was left to us (we are a child subreaper); returns how it ended.
#[track_caller]
pub fn wait_orphan(pid: i32) -> WaitStatus {
    waitpid(Pid::from_raw(pid), None)
        .unwrap_or_else(|error| panic!("process {pid} was not left to its caller's subreaper: {error}"))
}

fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    let place = PathBuf::from(std::env::var_os("BERTH_TEST_PLACE").unwrap());
    for entry in fs::read_dir(template(&place).join("bin")).unwrap().flatten() {
        let to = rootfs.join("bin").join(entry.file_name());
        linkat(nix::fcntl::AT_FDCWD, &entry.path(), nix::fcntl::AT_FDCWD, &to, LinkatFlags::empty()).unwrap();
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n").unwrap();
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}

/// A configuration as any engine would write it: private namespaces, the usual mounts, few capabilities.
fn default_config() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sleep", "1000"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
