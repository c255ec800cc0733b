// SPDX-License-Identifier: Apache-2.0
//! Floor 3: the program criu(8), which dumps processes to an image and brings them back. Called by `container::checkpoint` and
//! `container::restore`.
//!
//! It is started for one task as `criu swrk FD`, with one end of a socket pair, and told over it what to do (criu.org, "RPC"). While it
//! works it tells of events, each of which waits for our answer. When we die it takes the task back by itself, so it is not killed with us:
//! killed in the middle, it would leave the container's processes half-way.
//!
//! | file         | what it is                                         |
//! |--------------|----------------------------------------------------|
//! | [`wire`]     | the encoding of messages                           |
//! | [`message`]  | the messages                                       |
//! | `log`        | what CRIU's log says of a failure                  |
//! | [`patience`] | how long is waited for it, and what ends that      |

mod log;
pub mod message;
pub mod patience;
pub mod wire;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::{Error, Kind, Result, Told};
use crate::linux::call::{self, CallError};
use crate::linux::clone::{self, CloneArgs, Cloned, clone3, execve, exit_now};
use crate::linux::mount::{self, OpenTree};
use crate::linux::types::{Errno, Namespaces, Propagation};
use crate::linux::{fd, pid, probe, signal, socket};
use crate::plan::criu::{Options, Version, version_text};
use crate::process::auxiliary::own_environment;
use crate::trace::{self, Span};
use message::{Descriptors, Response};
use patience::{Ended, Patience};

/// The largest message that is read: CRIU's own limit is far below.
const MESSAGE_MAX: usize = 64 << 10;
/// What our own process writes before it is criu.
const NOT_STARTED: u8 = 0;
const STARTED: u8 = 1;

/// Where the restored container's root comes from, in a mount namespace that only CRIU sees: nothing of it is left when CRIU ends.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The root filesystem.
    pub rootfs: &'a str,
    /// An empty directory, where a copy of its mount is attached: CRIU wants the root of a mount.
    pub place: &'a str,
}

/// Where CRIU works. It opens these in its own mount namespace: what it mounts, it mounts from there.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The directory of the images.
    pub images: &'a str,
    /// A mount that shows that directory's files, where CRIU finds them instead.
    pub shown: Option<BorrowedFd<'a>>,
    /// The directory of the logs, where it is another.
    pub work: Option<&'a str>,
    /// For a restore.
    pub stage: Option<Stage<'a>>,
    /// A cgroup namespace of its own, for what it restores: rooted where it is at [`Criu::proceed`].
    pub cgroup_namespace: bool,
}

/// A running criu.
#[derive(Debug)]
pub struct Criu {
    pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    program: String,
    /// The socket on which our own process waits for [`Criu::proceed`].
    gate: Option<OwnedFd>,
    /// Its descriptors of [`Places`].
    images: RawFd,
    work: Option<RawFd>,
    /// A file in memory, where its standard error goes: what it says there beside its log is worth a look only where it fails.
    said: OwnedFd,
}

/// What CRIU is to do.
pub struct Task<'a> {
    /// Dump or restore.
    pub kind: message::Kind,
    /// How.
    pub options: &'a Options,
    /// What the restored process gets in place of something outside: its name in the image, and our descriptor.
    pub inherit: Vec<(String, RawFd)>,
    /// The directory of the log, and its path.
    pub work: (&'a OwnedFd, &'a str),
    /// How long it is waited for.
    pub patience: Patience<'a>,
}

/// Something that CRIU tells of in the middle of its task.
#[derive(Debug)]
pub struct Event {
    /// `post-restore`, `orphan-pts-master`, …
    pub name: String,
    /// The process that it is about.
    pub pid: i32,
    /// What came with it.
    pub fds: Vec<OwnedFd>,
}

/// A program of the host: the first in PATH, or where administrators' programs usually are.
pub fn program(name: &str, path: Option<&str>) -> Option<String> {
    let executable = |path: &String| fd::exists(path);
    let dirs = path.unwrap_or_default().split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| format!("{}/{name}", dir.trim_end_matches('/'))).find(executable).or_else(|| probe::program(name))
}

/// CRIU: the one that was named, or the first `criu` in PATH or where administrators' programs usually are.
pub fn find(named: Option<&str>, path: Option<&str>) -> Result<String> {
    if let Some(named) = named {
        return Ok(named.to_string());
    }
    let found = self::program("criu", path);
    found.ok_or_else(|| {
        Error::new(Kind::Unsupported, "CRIU is not installed: checkpoint and restore are its work")
            .hint("install the package criu, or name the program with --criu; see docs/checkpoint.md")
    })
}

impl Criu {
    /// Makes its process, which waits for [`Criu::proceed`] before it is criu. It inherits the standard streams where `streams` says so, and `inherit` under the same numbers.
    pub fn start(program: &str, places: &Places<'_>, streams: bool, inherit: &[BorrowedFd<'_>]) -> Result<Criu> {
        let told = || format!("cannot start \"{program}\"");
        let (ours, theirs) = socket::pair(socket::Kind::SeqPacket).told(told)?;
        let said = fd::memfd(c"criu's standard error", false).told(told)?;
        let namespaces = if places.stage.is_some() { Namespaces::MOUNT } else { Namespaces::empty() };
        match clone3(&CloneArgs { namespaces, clear_handlers: true, ..CloneArgs::default() }).told(told)? {
            Cloned::Child => {
                // Else it would never see that the runtime is gone, and would hold what that held for ever: the container's lock.
                drop(ours);
                let error = become_criu(program, places, streams, (&said, inherit), &theirs);
                let mut words = vec![NOT_STARTED];
                words.extend((error.errno as i32).to_le_bytes());
                words.extend(error.call.as_bytes());
                // Where nobody hears it, the end of the socket says as much.
                let _ = socket::send(&theirs, &words, &[]);
                exit_now(127)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let program = program.to_string();
                let mut criu = Criu { pid, pidfd, socket: ours, program, gate: None, images: -1, work: None, said };
                match criu.meet() {
                    Ok(()) => Ok(criu),
                    Err(error) => {
                        criu.abort();
                        Err(error)
                    }
                }
            }
        }
    }

    /// The socket of the RPC, and the numbers of the directories.
    fn meet(&mut self) -> Result<()> {
        let mut buffer = vec![0; MESSAGE_MAX];
        let received = socket::receive(&self.socket, &mut buffer).told(|| "cannot hear from CRIU".into())?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(-1, i32::from_le_bytes);
        match (&buffer[..received.length], received.fds.into_iter().next()) {
            ([STARTED, numbers @ ..], Some(socket)) if numbers.len() == 8 => {
                (self.images, self.work) = (number(&numbers[..4]), Some(number(&numbers[4..])).filter(|work| *work >= 0));
                self.gate = Some(std::mem::replace(&mut self.socket, socket));
                Ok(())
            }
            ([NOT_STARTED, words @ ..], _) => Err(self.not_started(words)),
            _ => Err(self.gone()),
        }
    }

    /// Lets it become criu, now that it is in the cgroup where it shall be.
    pub fn proceed(&mut self) -> Result<()> {
        let told = || "cannot start CRIU".to_string();
        let Some(gate) = self.gate.take() else { return Ok(()) };
        socket::send(&gate, &[STARTED], &[]).told(told)?;
        // Our own process keeps it open until it is criu.
        let mut buffer = vec![0; MESSAGE_MAX];
        match socket::receive(&gate, &mut buffer).told(told)?.length {
            0 => Ok(()),
            length => Err(self.not_started(&buffer[1..length])),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its version.
    pub fn version(&self) -> Result<Version> {
        self.send(message::request(message::Kind::Version, true).bytes())?;
        let unknown = || {
            Error::new(Kind::Unsupported, format!("\"{}\" does not say its version: it is too old", self.program))
                .hint(format!("CRIU {} or newer is needed", version_text(crate::plan::criu::OLDEST)))
        };
        let (response, _) = self.receive()?;
        response.version.filter(|_| response.success).ok_or_else(unknown)
    }

    /// Dumps or restores. `heard` is called for each event; an error of it makes CRIU take all back.
    pub fn run(self, task: Task<'_>, heard: &mut dyn FnMut(Event) -> Result<()>) -> Result<Response> {
        let Task { kind, options, inherit, work, mut patience } = task;
        let descriptors = Descriptors { images: self.images, work: self.work, inherit };
        self.send(message::task(kind, options, &descriptors).bytes())?;
        let (mut refused, mut broken, mut since) = (None, None, trace::stamp());
        let outcome = loop {
            match patience.wait(&self.socket) {
                Ok(ended) => broken = ended,
                Err(error) => break Err(error),
            }
            if broken.is_some() {
                // It may have ended by itself.
                let _ = pid::send_signal(&self.pidfd, libc::SIGKILL);
                break Err(self.gone());
            }
            let (response, fds) = match self.receive() {
                Ok(received) => received,
                Err(error) => break Err(error),
            };
            let event = response.event.clone().filter(|_| response.kind == message::Kind::Notify as u64);
            trace_until(event.as_ref().map_or("its answer", |(name, _)| name), since);
            let Some((name, pid)) = event else { break Ok(response) };
            patience.first_process(pid);
            if name == "post-restore" {
                patience.restored();
            }
            let answer = heard(Event { name, pid, fds });
            since = trace::stamp();
            let sent = self.send(message::answer(answer.is_ok()).bytes());
            refused = refused.or(answer.err());
            if let Err(error) = sent {
                break Err(error);
            }
        };
        let said = self.said();
        let Criu { pidfd, socket, program, .. } = self;
        drop(socket);
        let exit = pid::wait(&pidfd).told(|| "cannot wait for CRIU".into())?;
        if let Some(error) = refused {
            return Err(error);
        }
        let failed = |response: Option<&Response>| log::explain(response, kind, options, work, &said);
        match (broken, outcome.map_err(|error| error.doing(format!("\"{program}\" broke off ({exit})")))) {
            (Some(Ended::Interrupted), _) => Err(Error::new(Kind::Peer, "interrupted by a signal before CRIU was done")),
            (Some(Ended::Stuck), _) => {
                let error = failed(None);
                let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("{hint}; "));
                Err(error.hint(format!("{hint}{}", patience::STUCK)))
            }
            (None, Ok(response)) if response.success => Ok(response),
            (None, Ok(response)) => Err(failed(Some(&response))),
            (None, Err(error)) if error.kind == Kind::Peer => Err(failed(None).hint(error.what)),
            (None, Err(error)) => Err(error),
        }
    }

    /// What it has said on its standard error, shortened; not to be relied on.
    fn said(&self) -> String {
        let start = nix::unistd::lseek(&self.said, 0, nix::unistd::Whence::SeekSet);
        let bytes = start.ok().and_then(|_| fd::read_bounded(&self.said, MESSAGE_MAX).ok()).unwrap_or_default();
        log::shortened(&String::from_utf8_lossy(&bytes))
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        match socket::send(&self.socket, bytes, &[]) {
            // Its last words, if it had any, are still to be read.
            Err(error) if error.errno == Errno::EPIPE => self.receive().map(drop).and(Err(self.gone())),
            other => other.told(|| "cannot speak to CRIU".into()),
        }
    }

    fn gone(&self) -> Error {
        let error = Error::new(Kind::Peer, format!("\"{}\" has ended without an answer", self.program));
        match self.said() {
            said if said.is_empty() => error,
            said => error.hint(format!("it said: {said}")),
        }
    }

    fn receive(&self) -> Result<(Response, Vec<OwnedFd>)> {
        let mut buffer = vec![0; MESSAGE_MAX];
        let received = match socket::receive(&self.socket, &mut buffer) {
            Err(error) if error.errno == Errno::ECONNRESET => return Err(self.gone()),
            other => other.told(|| "cannot hear from CRIU".into())?,
        };
        match &buffer[..received.length] {
            [] => Err(self.gone()),
            bytes => match message::response(bytes) {
                Some(response) => Ok((response, received.fds)),
                None => Err(Error::new(Kind::Peer, format!("\"{}\" sent something that is no message of CRIU's", self.program))),
            },
        }
    }

    fn not_started(&self, words: &[u8]) -> Error {
        let (errno, call) = words.split_at(words.len().min(4));
        let errno = errno.try_into().map_or(Errno::UnknownErrno, |raw| Errno::from_raw(i32::from_le_bytes(raw)));
        Error::new(Kind::Unsupported, format!("cannot start \"{}\"", self.program))
            .call(String::from_utf8_lossy(call), errno)
            .hint("checkpoint and restore need the program criu; see docs/checkpoint.md")
    }

    /// Ends it, whatever it is doing; for a restore that has not begun.
    pub fn abort(self) {
        // It may have ended by itself.
        let _ = pid::send_signal(&self.pidfd, libc::SIGKILL);
        let _ = pid::wait(&self.pidfd);
    }
}

/// For the trace: what CRIU has done since `begin`, when it was last answered.
fn trace_until(what: &str, begin: u64) {
    if begin > 0 {
        trace::add(0, Span { name: format!("criu until {what}"), begin, end: trace::now(), ..Span::default() });
    }
}

/// In the new process: returns only when it cannot execute the program.
///
/// CRIU takes the numbers of its directories for those of whoever made the socket, and opens them through its /proc. So the socket is made
/// here: then they are its own, in its own mount namespace.
fn become_criu(
    program: &str,
    places: &Places<'_>,
    streams: bool,
    (said, inherit): (&OwnedFd, &[BorrowedFd<'_>]),
    parent: &OwnedFd,
) -> CallError {
    let done = || {
        signal::reset()?;
        if let Some(stage) = places.stage {
            set_stage(stage)?;
        }
        if !streams {
            let null = fd::open("/dev/null", fd::OFlag::O_RDWR)?;
            fd::dup_onto(&null, 0)?;
            fd::dup_onto(&null, 1)?;
        }
        fd::dup_onto(said, 2)?;
        let (theirs, ours) = socket::pair(socket::Kind::SeqPacket)?;
        let images = match places.shown {
            Some(mount) => fd::open(format!("/proc/self/fd/{}", mount.as_raw_fd()), fd::OFlag::O_DIRECTORY)?,
            None => fd::open_dir(places.images)?,
        };
        let work = places.work.map(fd::open_dir).transpose()?;
        let mut words = vec![STARTED];
        words.extend(images.as_raw_fd().to_le_bytes());
        words.extend(work.as_ref().map_or(-1, AsRawFd::as_raw_fd).to_le_bytes());
        socket::send(parent, &words, &[theirs.as_fd()])?;
        drop(theirs);
        if socket::receive(parent, &mut [0; 8])?.length == 0 {
            // The runtime is gone, or wants no more.
            exit_now(0)
        }
        if places.cgroup_namespace {
            clone::unshare(Namespaces::CGROUP)?;
        }
        fd::close_range(3, true)?;
        let own = [images.as_fd(), ours.as_fd()].into_iter().chain(work.as_ref().map(AsFd::as_fd));
        for passed in inherit.iter().copied().chain(own) {
            fd::set_cloexec(passed, false)?;
        }
        let string = |text: &str| {
            CString::new(text).map_err(|_| CallError::new(format!("execve({text:?}): it has a NUL byte"), Errno::EINVAL))
        };
        let args = [string("criu")?, string("swrk")?, string(&ours.as_raw_fd().to_string())?];
        execve(&string(program)?, &args, &own_environment())
    };
    match done() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// The root filesystem as a mount of its own. What the host mounts later still appears, what is mounted here does not there.
fn set_stage(stage: Stage<'_>) -> call::Result<()> {
    mount::set_propagation("/", Propagation::Slave, true)?;
    let tree = mount::open_tree_path(stage.rootfs, OpenTree::CLONE | OpenTree::RECURSIVE)?;
    let place = fd::open_dir_path(stage.place)?;
    mount::move_mount(&tree, &place)
}
