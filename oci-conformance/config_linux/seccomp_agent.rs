// SPDX-License-Identifier: Apache-2.0
//! config-linux.md: what a seccomp agent is sent (Seccomp, listenerPath; The Container Process State).
use crate::bundle::Bundle;
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, Stop, check, tested};
use crate::relay::{Mischief, Received, receive};
use crate::standin::Break;
use crate::suite::Suite;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

pub const SECCOMP: Section = Section {
    name: "config-linux.md#seccomp",
    entries: &[
        tested("2", Must, "MUST use AF_UNIX domain and SOCK_STREAM type", stream, NO_AGENT),
        tested(
            "3",
            Must,
            "MUST send exactly one container process state per connection",
            one_state,
            Break::Relay(Mischief::Twice),
        ),
        tested("4", Must, "it MUST be closed after sending a seccomp state", closed, Break::Relay(Mischief::LeavesOpen)),
        tested("5", Must, "If sending to this socket fails", nobody_listens, NO_AGENT),
    ],
};

pub const PROCESS_STATE: Section = Section {
    name: "config-linux.md#the-container-process-state",
    entries: &[
        tested("1", Must, "as regular payload serialized in JSON", payload, Break::Relay(Mischief::NoDescriptor)),
        tested(
            "2",
            Must,
            "the file descriptors MUST be sent only in the first call",
            first_call,
            Break::Relay(Mischief::LateDescriptor),
        ),
    ],
};

const NO_AGENT: Break = Break::Config(|config| {
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
    });
});

/// A bundle whose program would have to ask an agent before it makes a directory.
fn asking(suite: &Suite) -> Outcome<Bundle<'_>> {
    let mut bundle = suite.bundle()?;
    bundle.config["annotations"] = json!({ "com.example.key": "value" });
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": bundle.dir.join("agent"),
        "listenerMetadata": "the metadata",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    bundle.actions(&["say:up", "wait"]);
    Ok(bundle)
}

/// Starts a container and receives what comes by the first connection to its agent's socket.
fn received(suite: &Suite) -> Outcome<(Bundle<'_>, UnixListener, Received)> {
    let bundle = asking(suite)?;
    let listener = UnixListener::bind(bundle.dir.join("agent"))?;
    listener.set_nonblocking(true)?;
    bundle.created()?;
    bundle.started()?;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if let Ok((peer, _)) = listener.accept() {
            peer.set_nonblocking(false)?;
            let received = receive(&peer, Duration::from_secs(3));
            return Ok((bundle, listener, received));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Stop::Failed("nothing connected to the socket at listenerPath".to_string()))
}

/// A stream socket is connected to; a datagram socket at the same place is an error.
fn stream(suite: &Suite) -> Outcome {
    let (bundle, _, received) = received(suite)?;
    check!(!received.text.is_empty(), "nothing came by the connection");
    drop(bundle);
    let bundle = asking(suite)?;
    let datagram = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    bind(datagram.as_raw_fd(), &UnixAddr::new(&bundle.dir.join("agent"))?)?;
    bundle.is_refused()
}

fn one_state(suite: &Suite) -> Outcome {
    let (_bundle, listener, received) = received(suite)?;
    let documents = serde_json::Deserializer::from_slice(&received.text).into_iter::<Value>().count();
    check!(documents == 1, "{documents} states came by one connection");
    std::thread::sleep(Duration::from_millis(300));
    check!(listener.accept().is_err(), "a second connection was made");
    Ok(())
}

fn closed(suite: &Suite) -> Outcome {
    let (_bundle, _, received) = received(suite)?;
    check!(received.closed, "the connection is still open 3 s after the state was sent");
    Ok(())
}

fn nobody_listens(suite: &Suite) -> Outcome {
    asking(suite)?.is_refused()
}

/// Every property that the section requires, and the descriptor itself.
fn payload(suite: &Suite) -> Outcome {
    let (bundle, _, received) = received(suite)?;
    let state: Value = serde_json::from_slice(&received.text)?;
    check!(state["ociVersion"].is_string(), "no ociVersion in {state}");
    check!(state["fds"] == json!(["seccompFd"]), "fds is {}", state["fds"]);
    check!(state["pid"] == bundle.pid()?.as_raw(), "pid is {}, that of the container process {}", state["pid"], bundle.pid()?);
    check!(state["metadata"] == "the metadata", "metadata is {}", state["metadata"]);
    let inner = &state["state"];
    check!(inner["id"] == bundle.id.as_str(), "state.id is {}", inner["id"]);
    check!(inner["bundle"] == json!(bundle.dir), "state.bundle is {}", inner["bundle"]);
    check!(inner["status"].is_string(), "state.status is {}", inner["status"]);
    let descriptors: Vec<_> = received.descriptors.iter().flatten().collect();
    check!(descriptors.len() == 1, "{} descriptors came with SCM_RIGHTS", descriptors.len());
    let link = fs::read_link(format!("/proc/self/fd/{}", descriptors[0]))?;
    check!(link.to_string_lossy().contains("seccomp notify"), "the descriptor is {}", link.display());
    Ok(())
}

fn first_call(suite: &Suite) -> Outcome {
    let (_bundle, _, received) = received(suite)?;
    let counts: Vec<usize> = received.descriptors.iter().map(Vec::len).collect();
    check!(counts.first() == Some(&1), "the descriptors came with these messages: {counts:?}");
    check!(counts.iter().skip(1).all(|count| *count == 0), "the descriptors came with these messages: {counts:?}");
    Ok(())
}
