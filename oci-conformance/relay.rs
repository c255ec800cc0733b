// SPDX-License-Identifier: Apache-2.0
//! The socket of a seccomp agent (config-linux.md#seccomp, listenerPath): receiving a container process state from it,
//! and the relay by which a broken runtime's state arrives otherwise than it was sent.
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde_json::Value;
use std::fs;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What the relay does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    /// It sends the state twice on the one connection.
    Twice,
    /// It leaves the connection open for a while.
    LeavesOpen,
    /// It sends no descriptor.
    NoDescriptor,
    /// It sends the descriptor in a second message.
    LateDescriptor,
}

/// What came in by one connection.
#[derive(Default)]
pub struct Received {
    /// All bytes, up to the end or for as long as was waited.
    pub text: Vec<u8>,
    /// The descriptors of each message, in order: one vector a message. Closed when this is dropped.
    pub descriptors: Vec<Vec<RawFd>>,
    /// Whether the peer closed the connection.
    pub closed: bool,
}

impl Drop for Received {
    fn drop(&mut self) {
        for descriptor in self.descriptors.drain(..).flatten() {
            let _ = nix::unistd::close(descriptor);
        }
    }
}

/// Receives what the peer sends, until it closes or is silent for `patience`.
///
/// The first byte by itself: the kernel may join messages that are read together, but never gives a byte descriptors
/// that were sent with a later one.
pub fn receive(stream: &UnixStream, patience: Duration) -> Received {
    let mut received = Received::default();
    let _ = stream.set_read_timeout(Some(patience));
    loop {
        let mut buffer = [0; 65536];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let wanted = if received.text.is_empty() { 1 } else { buffer.len() };
        let mut slices = [IoSliceMut::new(&mut buffer[..wanted])];
        let Ok(message) = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) else {
            return received; // silent, as a read timeout shows
        };
        let mut descriptors = Vec::new();
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                descriptors.extend(numbers);
            }
        }
        let length = message.bytes;
        if length == 0 {
            received.closed = true;
            return received;
        }
        received.text.extend(&buffer[..length]);
        received.descriptors.push(descriptors);
    }
}

/// Runs `create` with a relay before the agent's socket; without one if the configuration names no socket.
pub fn run(mischief: Mischief, config: &Path, create: impl FnOnce(Option<&Path>) -> i32) -> i32 {
    let text = fs::read(config).unwrap_or_default();
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    let Some(agent) = value["linux"]["seccomp"]["listenerPath"].as_str() else { return create(None) };
    let relay = config.with_file_name("relay");
    let Ok(listener) = UnixListener::bind(&relay) else { return 1 };
    let agent = agent.to_string();
    let forwarding = std::thread::spawn(move || {
        let Ok((from, _)) = listener.accept() else { return };
        let received = receive(&from, Duration::from_secs(2));
        if !received.text.is_empty()
            && let Ok(to) = UnixStream::connect(agent)
        {
            forward(mischief, &received, to);
        }
    });
    let status = create(Some(&relay));
    // If nobody came, this lets the relay go.
    drop(UnixStream::connect(&relay));
    let _ = forwarding.join();
    status
}

fn forward(mischief: Mischief, received: &Received, mut to: UnixStream) {
    let descriptors: Vec<RawFd> = received.descriptors.iter().flatten().copied().collect();
    let with = |to: &UnixStream, text: &[u8]| {
        let slices = [IoSlice::new(text)];
        let _ = sendmsg::<()>(to.as_raw_fd(), &slices, &[ControlMessage::ScmRights(&descriptors)], MsgFlags::empty(), None);
    };
    match mischief {
        Mischief::Twice => {
            with(&to, &received.text);
            with(&to, &received.text);
        }
        Mischief::LeavesOpen => {
            with(&to, &received.text);
            // Somebody else holds it, for this process ends when `create` does.
            let _ = Command::new("sleep").arg("5").stdin(OwnedFd::from(to)).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        }
        Mischief::NoDescriptor => drop(to.write_all(&received.text)),
        Mischief::LateDescriptor => {
            let (first, rest) = received.text.split_at(received.text.len() / 2);
            let _ = to.write_all(first);
            with(&to, rest);
        }
    }
}
