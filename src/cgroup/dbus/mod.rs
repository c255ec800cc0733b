// SPDX-License-Identifier: Apache-2.0
//! A connection to systemd's manager over D-Bus, with a deadline on everything. Called by [`super::systemd`].
//!
//! systemd listens on a socket of its own, for root or the user's own processes, and is reached there without the bus in between; the
//! bus is for when that one is not there. Authentication is EXTERNAL: the kernel says who we are.

pub mod wire;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call::{self, Call, CallError};
use crate::linux::pid::{self, PollFd, PollFlags};
use crate::linux::socket;
use crate::linux::types::Errno;
use wire::{Message, Writer, kind};

/// systemd's name on the bus.
const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The bus itself.
const BUS: &str = "org.freedesktop.DBus";
/// The patience of every connection but those of tests.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a call may go without any answer before the other side is nudged.
const NUDGE: Duration = Duration::from_millis(200);

/// Why a call has no answer.
#[derive(Debug)]
pub enum Failure {
    /// It was answered: no.
    Refused {
        /// The name of the error: `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// What it says.
        text: String,
    },
    /// The connection failed.
    Broken(Error),
}

impl Failure {
    /// As an error that says what was being done.
    pub fn doing(self, what: impl Into<String>) -> Error {
        match self {
            Failure::Refused { name, text } => {
                Error::new(Kind::Peer, format!("{}: systemd says: {text} ({name})", what.into())).cause(Code::Systemd)
            }
            Failure::Broken(error) => {
                let cause = error.to_string();
                Error { what: format!("{}: {cause}", what.into()), call: None, errno: error.errno, ..error }
            }
        }
    }

    /// Whether it was refused with an error whose name ends so.
    pub fn is(&self, end: &str) -> bool {
        matches!(self, Failure::Refused { name, .. } if name.ends_with(end))
    }
}

/// A connection to one of systemd's managers.
pub struct Connection {
    socket: OwnedFd,
    /// A bus is in between.
    on_bus: bool,
    serial: u32,
    received: Vec<u8>,
    signals: VecDeque<Message>,
    /// How long one call, or the job that it starts, may take.
    patience: Duration,
}

impl Connection {
    /// Connects to the system's manager, or to that of the user whose runtime directory this is.
    pub fn open(runtime_dir: Option<&str>) -> Result<Connection> {
        let (own, bus) = match runtime_dir {
            None => ("/run/systemd/private".to_string(), "/run/dbus/system_bus_socket".to_string()),
            Some(dir) => (format!("{dir}/systemd/private"), format!("{dir}/bus")),
        };
        match Connection::open_at(&own, false, PATIENCE) {
            Ok(connection) => Ok(connection),
            // Not there, or not for us.
            Err(_) => Connection::open_at(&bus, true, PATIENCE),
        }
    }

    fn open_at(path: &str, on_bus: bool, patience: Duration) -> Result<Connection> {
        let what = || format!("cannot reach systemd at {path}");
        let hint = "is systemd running here? without it, use the cgroupfs driver";
        let socket = socket::connect_within(socket::Kind::Stream, path, patience)
            .told(what)
            .map_err(|error| error.cause(Code::Systemd).hint(hint))?;
        let mut connection = Connection { socket, on_bus, serial: 0, received: Vec::new(), signals: VecDeque::new(), patience };
        connection.authenticate().map_err(|error| error.doing(what()))?;
        if on_bus {
            connection.call_bus("Hello", "", Vec::new()).map_err(|failure| failure.doing(what()))?;
        }
        Ok(connection)
    }

    /// EXTERNAL without a name: whoever the kernel says this is. So it also works where ids are mapped (user_namespaces(7)).
    fn authenticate(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        // All at once, and nothing more until it is answered: systemd may lose sight of a call that follows BEGIN too closely.
        socket::send(&self.socket, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", &[])?;
        loop {
            let line = loop {
                match self.received.windows(2).position(|pair| pair == b"\r\n") {
                    Some(end) => {
                        break String::from_utf8_lossy(&self.received.drain(..end + 2).collect::<Vec<u8>>()).into_owned();
                    }
                    None if self.received.len() > 4096 => return Err(Error::new(Kind::Peer, "it does not speak D-Bus")),
                    None => self.receive(deadline)?,
                }
            };
            match line.split_whitespace().next() {
                Some("DATA") => {}
                Some("OK") => break,
                _ => return Err(Error::new(Kind::Peer, format!("it refused us: {}", line.trim().escape_debug()))),
            }
        }
        Ok(())
    }

    /// Waits for more bytes.
    fn receive(&mut self, deadline: Instant) -> call::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if left.is_zero() || pid::poll(&mut polled, Some(left))? == 0 {
            return Err(CallError::new(format!("recv(systemd): no answer within {:?}", self.patience), Errno::ETIMEDOUT));
        }
        let mut buffer = [0; 4096];
        use std::os::fd::AsRawFd;
        let received = call::retry(|| nix::sys::socket::recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT));
        match received {
            Ok(0) => Err(CallError::new("recv(systemd): it has closed the connection", Errno::ECONNRESET)),
            Err(Errno::EAGAIN) => Ok(()),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(errno) => Err(errno).call(|| "recv(systemd)".to_string()),
        }
    }

    /// The next message.
    fn message(&mut self, deadline: Instant) -> Result<Message> {
        let broken = |how: &str| Error::new(Kind::Peer, format!("a message of systemd {how}"));
        loop {
            match wire::length(&self.received).map_err(broken)? {
                Some(length) if length <= self.received.len() => {
                    let bytes: Vec<u8> = self.received.drain(..length).collect();
                    return wire::parse(&bytes).map_err(broken);
                }
                _ => self.receive(deadline)?,
            }
        }
    }

    /// Calls a method of the manager and waits for its answer.
    pub fn call(&mut self, member: &str, signature: &str, body: Writer) -> std::result::Result<Message, Failure> {
        self.call_object("org.freedesktop.systemd1.Manager", member, signature, body)
    }

    fn call_object(
        &mut self,
        interface: &str,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> std::result::Result<Message, Failure> {
        let call = wire::Call {
            destination: self.on_bus.then_some(SYSTEMD),
            path: "/org/freedesktop/systemd1",
            interface,
            member,
            signature,
            body: body.bytes,
        };
        self.exchange(&call)
    }

    fn call_bus(&mut self, member: &str, signature: &str, body: Vec<u8>) -> std::result::Result<Message, Failure> {
        let call = wire::Call { destination: Some(BUS), path: "/org/freedesktop/DBus", interface: BUS, member, signature, body };
        self.exchange(&call)
    }

    fn exchange(&mut self, call: &wire::Call<'_>) -> std::result::Result<Message, Failure> {
        let deadline = Instant::now() + self.patience;
        let broken = |error: CallError| Failure::Broken(error.into());
        self.serial += 1;
        let serial = self.serial;
        socket::send(&self.socket, &call.bytes(serial), &[]).map_err(broken)?;
        if !pid::wait_readable(&self.socket, Some(NUDGE)).map_err(broken)? {
            // A systemd that has read a call together with the end of the authentication looks at it when more comes.
            self.serial += 1;
            let ping =
                wire::Call { interface: "org.freedesktop.DBus.Peer", member: "Ping", signature: "", body: Vec::new(), ..*call };
            socket::send(&self.socket, &ping.bytes(self.serial), &[]).map_err(broken)?;
        }
        loop {
            let message = self.message(deadline).map_err(Failure::Broken)?;
            match message.kind {
                kind::RETURN if message.reply_to == serial => return Ok(message),
                kind::ERROR if message.reply_to == serial => {
                    let text = message.arguments().text().unwrap_or_default();
                    return Err(Failure::Refused { name: message.error, text });
                }
                kind::SIGNAL => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// A text property of the manager.
    pub fn manager_property(&mut self, name: &str) -> std::result::Result<String, Failure> {
        let mut body = Writer::default();
        body.text("org.freedesktop.systemd1.Manager");
        body.text(name);
        let answer = self.call_object("org.freedesktop.DBus.Properties", "Get", "ss", body)?;
        let text = answer.arguments().text_variant();
        text.ok_or_else(|| Failure::Broken(Error::new(Kind::Peer, format!("systemd's property {name} is not text"))))
    }

    /// Asks to be told when jobs end. To be called before the job is started; on its own socket systemd tells everybody anyway.
    pub fn subscribe(&mut self) -> std::result::Result<(), Failure> {
        if self.on_bus {
            let mut rule = Writer::default();
            rule.text("type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
            self.call_bus("AddMatch", "s", rule.bytes)?;
            self.call("Subscribe", "", Writer::default())?;
        }
        Ok(())
    }

    /// Waits until a job has ended: its result, `done` where it went well.
    pub fn job_result(&mut self, job: &str) -> Result<String> {
        let deadline = Instant::now() + self.patience;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.message(deadline)?,
            };
            if message.kind != kind::SIGNAL
                || message.signal != "org.freedesktop.systemd1.Manager.JobRemoved"
                || message.signature != "uoss"
            {
                continue;
            }
            let mut arguments = message.arguments();
            let parts = (arguments.u32(), arguments.text(), arguments.text(), arguments.text());
            if let (Some(_id), Some(path), Some(_unit), Some(result)) = parts
                && path == job
            {
                return Ok(result);
            }
        }
    }
}

#[cfg(test)]
mod tests;
