// SPDX-License-Identifier: Apache-2.0
//! Programs run on the side and waited for: hooks (`crate::hooks`), newuidmap(1) and newgidmap(1) ([`crate::process::idmap`]).
//!
//! Each gets a process group of its own, standard streams that are pipes to us, and nothing else that is open here. Its input is written
//! and its output taken while it runs; of the output only the end is kept. One that leaves a daemon behind is waited for only to its own
//! end. Neither std::process nor posix_spawn(3) is used: this runs in the container's process too, which the C library does not know to
//! be a new one (see [`crate::linux::clone`]).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Told};
use crate::linux::call::{self, CallError};
use crate::linux::clone::{CloneArgs, Cloned, clone3, execve, exit_now};
use crate::linux::pid::{self, Exit, PollFd, PollFlags};
use crate::linux::types::Errno;
use crate::linux::{cred, fd, mount, signal};

/// How much of each output stream is kept: the last bytes.
const KEPT: usize = 4096;
/// How long an output that has no end is listened to after the program's own end.
const READS_PER_TURN: usize = 64;

/// A program to run.
pub struct Program<'a> {
    /// Its file, absolute.
    pub path: &'a str,
    /// argv
    pub args: &'a [String],
    /// The whole environment; none means ours.
    pub env: Option<&'a [String]>,
    /// Where it runs; none means here.
    pub directory: Option<&'a str>,
    /// What it can read.
    pub input: &'a [u8],
    /// Where its output and its errors go instead of to us.
    pub outputs: [Option<BorrowedFd<'a>>; 2],
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// It is killed when this becomes readable.
    pub interrupt: Option<BorrowedFd<'a>>,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended by itself, or was killed by somebody.
    Exited(Exit),
    /// Its time was over, and it was killed with its group.
    TimedOut,
    /// It was to be interrupted, and was killed with its group.
    Interrupted,
    /// It could not be executed.
    NotStarted(Errno),
}

/// What a program left.
#[derive(Debug)]
pub struct Left {
    /// How it went.
    pub end: End,
    /// The end of its standard output, on one line.
    pub stdout: String,
    /// The end of its standard error, on one line.
    pub stderr: String,
}

impl Program<'_> {
    /// Runs the program to its end. An error means that it could not be watched; then it has been killed.
    pub fn run(&self) -> Result<Left> {
        let mut running = self.start().map_err(|error| Error::from(error).doing(format!("cannot run \"{}\"", self.path)))?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let watched = running.watch(self.input, deadline, self.interrupt);
        if !matches!(watched, Ok(Watched::Ended)) {
            // Nobody has waited for it, so its number, and with it that of its group, is still its own. It may be gone already.
            let _ = pid::kill(-running.pid, libc::SIGKILL);
            let _ = pid::send_signal(&running.pidfd, libc::SIGKILL);
        }
        let told = || format!("cannot watch \"{}\"", self.path);
        let exit = pid::wait(&running.pidfd).told(told)?;
        let watched = watched.told(told)?;
        let end = match (running.failure()?, watched) {
            (Some(errno), _) => End::NotStarted(errno),
            (None, Watched::Ended) => End::Exited(exit),
            (None, Watched::TimedOut) => End::TimedOut,
            (None, Watched::Interrupted) => End::Interrupted,
        };
        Ok(Left { end, stdout: running.stdout.text(), stderr: running.stderr.text() })
    }

    fn start(&self) -> call::Result<Running> {
        let string = |text: &str| {
            CString::new(text)
                .map_err(|_| CallError::new(format!("execve({:?}): {text:?} has a NUL byte", self.path), Errno::EINVAL))
        };
        let strings = |list: &[String]| list.iter().map(|text| string(text)).collect::<call::Result<Vec<_>>>();
        let (path, args) = (string(self.path)?, strings(self.args)?);
        let env = self.env.map_or_else(|| Ok(own_environment()), strings)?;
        let ((input, feed), (stdout, output), (stderr, errors)) = (fd::pipe()?, fd::pipe()?, fd::pipe()?);
        let (report, reporter) = fd::pipe()?;
        // Before there is a process: whatever fails here leaves none behind.
        for pipe in [&feed, &stdout, &stderr] {
            fd::set_nonblocking(pipe, true)?;
        }
        let parent = pid::getpid();
        match clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() })? {
            Cloned::Child => {
                let [own_output, own_errors] = self.outputs;
                let streams = [input.as_fd(), own_output.unwrap_or(output.as_fd()), own_errors.unwrap_or(errors.as_fd())];
                let errno = become_program(parent, streams, self.directory, &path, &args, &env).errno;
                // The pipe is empty and nobody else writes to it: this cannot block; where it fails, our status tells that we failed.
                let _ = fd::write_all(&reporter, &(errno as i32).to_le_bytes());
                exit_now(127)
            }
            Cloned::Parent { pid, pidfd } => {
                let (stdout, stderr) = (Tail::new(stdout), Tail::new(stderr));
                Ok(Running { pid, pidfd, feed: Some(feed), stdout, stderr, report })
            }
        }
    }
}

/// In the new process: never returns when it can execute the program.
///
/// It dies with us, whose work it does: nobody else knows of it, neither to wait for it nor to end it. What it leaves running lives on.
fn become_program(
    parent: i32,
    streams: [BorrowedFd<'_>; 3],
    directory: Option<&str>,
    path: &CString,
    args: &[CString],
    env: &[CString],
) -> CallError {
    let done = || {
        pid::set_parent_death_signal(libc::SIGKILL)?;
        if pid::getppid() != parent {
            return Err(CallError::new("getppid(): the runtime has been killed", Errno::ESRCH));
        }
        cred::new_process_group()?;
        // Whoever runs it may be killed, and nobody would wait for it, or know of it, any more.
        pid::set_parent_death_signal(libc::SIGKILL)?;
        signal::reset()?;
        for (number, stream) in streams.into_iter().enumerate() {
            fd::dup_onto(stream, number as i32)?;
        }
        // What our caller means for the container's program (--preserve-fds) is open here too.
        fd::close_range(3, true)?;
        if let Some(directory) = directory {
            // The bundle, on the host: an operator's path.
            mount::chdir(directory)?;
        }
        execve(path, args, env)
    };
    match done() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// Our own environment, as it was given to us.
pub fn own_environment() -> Vec<CString> {
    use std::os::unix::ffi::OsStringExt;
    let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut bytes = name.into_vec();
        bytes.push(b'=');
        bytes.extend(value.into_vec());
        CString::new(bytes).ok()
    };
    std::env::vars_os().filter_map(entry).collect()
}

/// Why the watch over a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Ended,
    TimedOut,
    Interrupted,
}

/// A program that runs.
struct Running {
    pid: i32,
    pidfd: OwnedFd,
    feed: Option<OwnedFd>,
    stdout: Tail,
    stderr: Tail,
    report: OwnedFd,
}

impl Running {
    /// Feeds the program and takes its output until it ends, its time is over, or somebody interrupts.
    fn watch(&mut self, input: &[u8], deadline: Option<Instant>, interrupt: Option<BorrowedFd<'_>>) -> call::Result<Watched> {
        let mut left = input;
        loop {
            let wait = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let mut fds = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            fds.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            fds.extend(self.feed.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
            let outputs = [&self.stdout, &self.stderr].into_iter().filter_map(|tail| tail.pipe.as_ref());
            fds.extend(outputs.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            let ready = pid::poll(&mut fds, wait)?;
            let ended = fds[0].any() == Some(true);
            let interrupted = interrupt.is_some() && fds[1].any() == Some(true);
            self.feed = self.feed.take().filter(|pipe| go_on_writing(pipe, &mut left));
            self.stdout.take();
            self.stderr.take();
            match (ended, interrupted, ready) {
                (true, ..) => return Ok(Watched::Ended),
                (_, true, _) => return Ok(Watched::Interrupted),
                (.., 0) => return Ok(Watched::TimedOut),
                _ => {}
            }
        }
    }

    /// Why it could not be executed, if so: read after its end, when nobody can write any more.
    fn failure(&self) -> Result<Option<Errno>> {
        let bytes = fd::read_bounded(&self.report, 4).told(|| "cannot learn how a program began".into())?;
        Ok(bytes.try_into().ok().map(|raw| Errno::from_raw(i32::from_le_bytes(raw))))
    }
}

/// Writes what fits; whether there is more. A program may close its input unread: EPIPE is no error.
fn go_on_writing(pipe: &OwnedFd, left: &mut &[u8]) -> bool {
    while !left.is_empty() {
        match nix::unistd::write(pipe, left) {
            Ok(written) => *left = &left[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// The last bytes of an output stream.
#[derive(Debug)]
struct Tail {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Tail {
    fn new(pipe: OwnedFd) -> Tail {
        Tail { pipe: Some(pipe), kept: Vec::new() }
    }

    /// Reads what is there, within bounds: a program that prints for ever cannot keep us from its timeout.
    fn take(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0; KEPT];
        for _ in 0..READS_PER_TURN {
            match nix::unistd::read(pipe, &mut buffer) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => {
                    self.pipe = None;
                    return;
                }
                Ok(count) => {
                    self.kept.extend(&buffer[..count]);
                    let excess = self.kept.len().saturating_sub(KEPT);
                    self.kept.drain(..excess);
                }
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).trim_end().replace('\n', "\\n")
    }
}
