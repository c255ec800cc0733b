// SPDX-License-Identifier: Apache-2.0
//! Calls of the runtime: its arguments, environment and descriptors, a deadline, what it printed and how it ended.
//!
//! A call is over when the process has ended AND nobody holds its stdout and stderr any more, as its real callers wait.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bundle;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// How much longer everything may take than on a quick machine: BERTH_TEST_PATIENCE, for emulated ones.
pub fn patience() -> u32 {
    std::env::var("BERTH_TEST_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}
/// How long its stdout may stay open after its end.
const GRACE: Duration = Duration::from_secs(3);

/// The binary that is tested.
pub fn runtime() -> PathBuf {
    let named = std::env::var_os("RUNTIME").map_or(PathBuf::from(env!("CARGO_BIN_EXE_berth")), PathBuf::from);
    if named.is_absolute() { named } else { std::env::current_dir().unwrap().join(named) }
}

/// The first word that it prints when asked for its version.
pub fn runtime_name() -> Option<String> {
    let output = Command::new(runtime()).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split_whitespace().next().map(str::to_owned)
}

/// Other runtimes dump no container whose output is a file of the host: to learn how they are otherwise, theirs goes there by a pipe.
pub fn through_pipes() -> bool {
    let test = bundle::folder().file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint"));
    test && runtime_name().is_some_and(|name| name != env!("CARGO_PKG_NAME"))
}

/// A pipe, and a process that copies what comes out of it.
fn copied_to(file: File) -> std::io::PipeWriter {
    let (read, write) = std::io::pipe().unwrap();
    drop(Command::new("cat").stdin(read).stdout(file).spawn().unwrap());
    write
}

/// How a call ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The exit status; a death by signal is a failure of the test.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("the runtime died of signal {:?}: {self:?}", self.status.signal()))
    }

    /// Asserts success; returns what was printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "unexpected failure: {}: stdout {:?} stderr {:?}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts a failure by exit status, with a message; returns stderr.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(self.code() != 0, "unexpected success: stdout {:?} stderr {:?}", self.stdout, self.stderr);
        assert!(!self.stderr.trim().is_empty(), "a failure without a message: stdout {:?}", self.stdout);
        plain(&self.stderr)
    }
}

/// The messages of a text in which lines may be records (`time="…" level=error msg="…"`), as runtimes write them to a pipe.
fn plain(text: &str) -> String {
    let message = |line: &str| -> Option<String> {
        let quoted = line.strip_prefix("time=\"")?.split_once(" msg=")?.1;
        // Go's quoting is that of JSON but for bytes in hexadecimal.
        let mut values = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
        values.next()?.ok()
    };
    text.lines().map(|line| message(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// A call that is being prepared. Its environment is PATH alone, its stdin /dev/null.
pub struct Call {
    command: Command,
    deadline: Duration,
}

impl Call {
    /// `RUNTIME --root ROOT ARGUMENTS…` with the test's own state root.
    pub fn new(arguments: &[&str]) -> Call {
        Call::through(&[], arguments)
    }

    /// The same, started by the program and arguments of `prefix`, for example `env --ignore-signal=TERM`.
    pub fn through(prefix: &[&str], arguments: &[&str]) -> Call {
        let root = bundle::state_root();
        let mut words: Vec<&str> = prefix.to_vec();
        let runtime = runtime();
        words.extend([runtime.to_str().unwrap(), "--root", root.to_str().unwrap()]);
        words.extend(arguments);
        Call::program(&words)
    }

    /// `RUNTIME ARGUMENTS…`, nothing added.
    pub fn bare(arguments: &[&str]) -> Call {
        let runtime = runtime();
        Call::program(&[&[runtime.to_str().unwrap()], arguments].concat())
    }

    /// Any program.
    pub fn program(words: &[&str]) -> Call {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        Call { command, deadline: DEADLINE * patience() }
    }

    pub fn env(mut self, name: &str, value: &str) -> Call {
        self.command.env(name, value);
        self
    }

    /// No environment at all.
    pub fn no_env(mut self) -> Call {
        self.command.env_clear();
        self
    }

    pub fn dir(mut self, dir: &Path) -> Call {
        self.command.current_dir(dir);
        self
    }

    pub fn stdin(mut self, file: impl Into<Stdio>) -> Call {
        self.command.stdin(file);
        self
    }

    /// Runs as this user, without supplementary groups.
    pub fn user(mut self, uid: u32, gid: u32) -> Call {
        self.command.uid(uid).gid(gid);
        self
    }

    /// It, and all that it starts, gets EPERM of this system call where its first argument is this one.
    pub fn refused(mut self, number: i64, first: u32) -> Call {
        let statement = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        let (load, answer) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_RET | libc::BPF_K);
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        // struct seccomp_data: the number lies at 0, the lower half of the first argument at 16 (of a little-endian machine).
        let filter = [
            statement(load, 0, 0),
            statement(equal, 3, number as u32),
            statement(load, 0, 16),
            statement(equal, 1, first),
            statement(answer, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            statement(answer, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let load = move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: both live until the call returns; nothing here allocates, as is asked of who runs between fork and exec.
            match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: see above.
        unsafe { self.command.pre_exec(load) };
        self
    }

    /// Starts it with stdout and stderr appended to two files, which the container may hold for ever.
    pub fn spawn_to(mut self, stdout: &Path, stderr: &Path) -> Child {
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        if through_pipes() {
            self.command.stdout(copied_to(append(stdout))).stderr(copied_to(append(stderr)));
        } else {
            self.command.stdout(append(stdout)).stderr(append(stderr));
        }
        self.start()
    }

    /// Starts it with these as its stdout and stderr.
    pub fn spawn_with(mut self, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Child {
        self.command.stdout(stdout).stderr(stderr);
        self.start()
    }

    /// Starts it with two pipes.
    pub fn spawn(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let deadline = self.deadline;
        let mut child = self.start();
        let stdout = Pipe::new(child.stdout.take().unwrap().into());
        let stderr = Pipe::new(child.stderr.take().unwrap().into());
        Running { child, stdout, stderr, deadline }
    }

    /// Runs it to its end, and its pipes to theirs.
    #[track_caller]
    pub fn output(self) -> Output {
        self.spawn().finish()
    }

    fn start(mut self) -> Child {
        let shown =
            |word: &OsStr| if word == runtime().as_os_str() { "RUNTIME".into() } else { word.to_string_lossy().into_owned() };
        let words: Vec<_> = std::iter::once(self.command.get_program()).chain(self.command.get_args()).map(shown).collect();
        eprintln!("$ {}", words.join(" "));
        self.command.spawn().unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.command))
    }
}

/// Waits for a child that was started by `spawn_to` or `spawn_with`.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            eprintln!("  {status}");
            return status;
        }
        if start.elapsed() > DEADLINE * patience() {
            let _ = child.kill();
            panic!("the runtime did not end within {} s", (DEADLINE * patience()).as_secs());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One end of a pipe and what has come through it; the end is None at its end of file.
struct Pipe {
    end: Option<File>,
    text: Vec<u8>,
}

impl Pipe {
    fn new(end: std::os::fd::OwnedFd) -> Pipe {
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Pipe { end: Some(end.into()), text: Vec::new() }
    }

    fn read(&mut self) {
        let Some(end) = &mut self.end else { return };
        match end.read_to_end(&mut self.text) {
            Ok(_) => self.end = None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("read: {error}"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// A call that runs.
pub struct Running {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
    deadline: Duration,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until its stdout has had this text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.stdout.text().contains(text) {
            let end = self.child.try_wait().unwrap();
            self.read(Duration::from_millis(5));
            let late = start.elapsed() > self.deadline || (end.is_some() && !self.stdout.text().contains(text));
            assert!(!late, "no {text:?} in stdout {:?}, stderr {:?}, {end:?}", self.stdout.text(), self.stderr.text());
        }
    }

    fn read(&mut self, at_most: Duration) {
        let ends = [&self.stdout.end, &self.stderr.end];
        let mut fds: Vec<_> = ends.iter().filter_map(|end| Some(PollFd::new(end.as_ref()?.as_fd(), PollFlags::POLLIN))).collect();
        if fds.is_empty() {
            std::thread::sleep(Duration::from_micros(200));
        } else {
            let _ = poll(&mut fds, u16::try_from(at_most.as_millis()).unwrap());
        }
        self.stdout.read();
        self.stderr.read();
    }

    /// Waits for its end, and for the end of its pipes.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let start = Instant::now();
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            self.read(Duration::from_millis(2));
            if ended.is_none() {
                ended = self.child.try_wait().unwrap().map(|status| (status, Instant::now()));
            }
            match ended {
                Some((status, _)) if self.stdout.end.is_none() && self.stderr.end.is_none() => {
                    let output = Output { status, stdout: self.stdout.text(), stderr: self.stderr.text() };
                    eprintln!("  {status}\n  stdout: {:?}\n  stderr: {:?}", output.stdout, output.stderr);
                    return output;
                }
                Some((status, at)) if at.elapsed() > GRACE * patience() => {
                    panic!("someone holds stdout or stderr after the command ended with {status}: {:?}", self.stderr.text())
                }
                None if start.elapsed() > self.deadline => {
                    let _ = self.child.kill();
                    let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
                    panic!("did not end within {} s: stdout {stdout:?} stderr {stderr:?}", self.deadline.as_secs());
                }
                _ => {}
            }
        }
    }
}
