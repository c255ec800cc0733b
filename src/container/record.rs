// SPDX-License-Identifier: Apache-2.0
//! `seccomp record`: a foreground run, of which every system call is told by the kernel (seccomp_unotify(2)) and let pass, and noted.
//!
//! A process of its own, the recorder, gets the listener from the container's process and answers: that one's execve(2) already waits for
//! an answer, and so does the runtime for that. It ends with the last process that the filter is in force for, and only then tells what
//! it has seen. It lives on where the runtime is killed, so that the container does not lose its answers.
//!
//! The kernel tells of calls from the moment the filter is loaded: those that the container's process makes before its execve(2) are part
//! of the profile, because they are made under it as well, but for handing on the listener.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::bundle::Bundle;
use super::create::{self, Warn};
use crate::error::{Error, Kind, Result, Told};
use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::{cred, fd, seccomp, socket};
use crate::plan::seccomp_record::{self, Called};
use crate::plan::{Host, Request};

/// How long the recorder may take to end when the container has.
const PATIENCE: Duration = Duration::from_secs(10);
/// More bytes than it can have to tell.
const MOST: usize = 1 << 20;
/// Where the socket is put that the listener is handed on over: out of the way of what the program opens.
const OUT_OF_THE_WAY: i32 = 900;

/// Runs the container of a bundle to its end. Returns its exit status and the calls that it made.
pub fn record(request: &Request, host: &Host, bundle: &mut Bundle, warn: Warn<'_>) -> Result<(u8, Vec<Called>)> {
    let told = || "cannot record system calls".to_string();
    seccomp_record::prepare(&mut bundle.spec);
    let mut plan = super::bundle::plan(bundle, request, host)?;
    plan.warnings.iter().for_each(|warning| warn(warning));
    let (ours, theirs) = socket::pair(socket::Kind::SeqPacket).told(told)?;
    let theirs = fd::dup_from(&theirs, OUT_OF_THE_WAY).unwrap_or(theirs);
    // A call that waits for us is not to be begun again at each signal.
    let killable = seccomp::flag::WAIT_KILLABLE_RECV;
    seccomp_record::record(&mut plan, theirs.as_raw_fd(), if seccomp::has_flag(killable) { killable } else { 0 });
    let (reader, writer) = fd::pipe().told(told)?;
    let recorder = match clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() }).told(told)? {
        Cloned::Child => {
            drop((theirs, reader));
            // What ends the container from the terminal must not end this first.
            let _ = cred::setsid();
            let all = serve(ours);
            let lines: String = all.unwrap_or_default().iter().map(|call| format!("{} {}\n", call.arch, call.number)).collect();
            let _ = fd::write_all(&writer, lines.as_bytes());
            exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop((ours, writer));
    let ended = create::make_with(request, host, bundle, &plan, warn, None, Some(theirs));
    let heard = pid::wait_readable(&reader, Some(PATIENCE)).told(told)?;
    let bytes = if heard { fd::read_bounded(&reader, MOST).told(told)? } else { Vec::new() };
    // A foreground run may have reaped it: whatever ended is its child.
    let _ = pid::send_signal(&recorder, libc::SIGKILL).and_then(|()| pid::wait(&recorder).map(drop));
    let status = ended?;
    let calls = parse(&String::from_utf8_lossy(&bytes));
    if calls.is_empty() {
        return Err(Error::new(Kind::Peer, told()).hint(match heard {
            true => "the kernel told of none",
            false => "processes of the container are still there: it has no pid namespace of its own",
        }));
    }
    Ok((status, calls))
}

fn parse(text: &str) -> Vec<Called> {
    let call = |line: &str| {
        let (arch, number) = line.split_once(' ')?;
        Some(Called { arch: arch.parse().ok()?, number: number.parse().ok()? })
    };
    text.lines().filter_map(call).collect()
}

/// Answers for as long as there is somebody to be answered; each call once, in the order of their numbers.
fn serve(socket: OwnedFd) -> Result<Vec<Called>> {
    let told = || "cannot hear of system calls".to_string();
    let received = socket::receive(&socket, &mut [0; 4096]).told(told)?;
    drop(socket);
    // Without it the run has failed before.
    let Some(listener) = received.fds.into_iter().next() else { return Ok(Vec::new()) };
    let (mut seen, mut executes) = (std::collections::BTreeSet::new(), false);
    loop {
        let mut polled = [PollFd::new(std::os::fd::AsFd::as_fd(&listener), PollFlags::POLLIN)];
        pid::poll(&mut polled, None).told(told)?;
        if !polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
            return Ok(seen.into_iter().collect());
        }
        let Some(noted) = seccomp::receive(&listener).told(told)? else { continue };
        let call = Called { arch: noted.arch, number: noted.number };
        executes |= call.is(&["execve", "execveat"]);
        // Before its program it closes the listener's descriptors, which it has only here; a debug build looks first whether they are open.
        if executes || !call.is(&["close", "sendto", "fcntl"]) {
            seen.insert(call);
        }
        seccomp::let_pass(&listener, &noted).told(told)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recorder_tells_is_read_back() {
        let calls = parse("3221225534 0\n3221225534 59\nnonsense\n");
        assert_eq!(calls, [0, 59].map(|number| Called { arch: 0xc000_003e, number }));
    }
}
