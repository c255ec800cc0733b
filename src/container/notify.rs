// SPDX-License-Identifier: Apache-2.0
//! sd_notify(3) through the container's walls: where NOTIFY_SOCKET is set, the container gets a socket of its own under /run/notify, and
//! what it says of being ready is passed on in the name of its first process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};

use super::store::Entry;
use crate::error::{Result, Told};
use crate::linux::socket::{self, Kind};
use crate::linux::types::Errno;
use crate::linux::{call, fd, pid};

/// The directory, under the container's, that is bound to /run/notify.
pub const DIRECTORY: &str = "notify";
/// How long the service manager may take to have seen what we said.
const BARRIER: Duration = Duration::from_secs(30);

/// Makes the directory that the container will see; anybody in it may reach the socket.
pub fn make_directory(entry: &Entry) -> Result<()> {
    let told = || format!("cannot make the notify directory of {}", entry.id());
    fd::mkdirat(entry, DIRECTORY, 0o755).told(told)
}

/// The container's socket, bound before the program starts.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    host: String,
}

impl NotifySocket {
    /// Binds the container's socket; `host` is the service manager's (NOTIFY_SOCKET).
    pub fn bind(state_directory: &str, host: &str) -> Result<NotifySocket> {
        let path = format!("{state_directory}/{DIRECTORY}/notify.sock");
        // A start that was killed before it opened the gate has left its own.
        let directory = format!("{state_directory}/{DIRECTORY}");
        match fd::open_dir_path(&directory).and_then(|dir| fd::unlinkat(&dir, "notify.sock")) {
            Err(error) if error.errno != Errno::ENOENT => return Err(error).told(|| format!("cannot remove the old {path}")),
            _ => {}
        }
        let socket = socket::bind(Kind::Datagram, &path).told(|| format!("cannot make the notify socket {path}"))?;
        let node = fd::open(&path, OFlag::O_PATH | OFlag::O_NOFOLLOW).told(|| format!("cannot open the notify socket {path}"))?;
        fd::fchmod(&node, 0o777).told(|| format!("cannot open the notify socket {path} to the container"))?;
        Ok(NotifySocket { socket, host: host.to_string() })
    }

    /// What becomes readable when the container says something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until the container says that it is ready, or ends, and passes it on.
    pub fn forward(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd, PollFlags::POLLIN)];
            pid::poll(&mut fds, None).told(|| "cannot wait for the container to be ready".to_string())?;
            let said = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
            if !said || self.listen(pid)? {
                return Ok(());
            }
        }
    }

    /// Reads what the container says: whether it was that it is ready, which is passed on.
    pub fn listen(&self, pid: i32) -> Result<bool> {
        let mut buffer = vec![0; 64 << 10];
        let got = socket::receive(&self.socket, &mut buffer).told(|| "cannot read the notify socket".to_string())?;
        let text = String::from_utf8_lossy(&buffer[..got.length]).into_owned();
        match text.lines().find(|line| line.starts_with("READY=")) {
            Some(ready) => self.pass_on(ready, pid).map(|()| true),
            None => Ok(false),
        }
    }

    fn pass_on(&self, ready: &str, pid: i32) -> Result<()> {
        match self.notify(ready, pid) {
            // A service manager that has gone needs no notice.
            Err(error) if [Errno::ENOENT, Errno::ECONNREFUSED, Errno::ECONNRESET].contains(&error.errno) => Ok(()),
            other => other.told(|| format!("cannot notify {}", self.host)),
        }
    }

    fn notify(&self, ready: &str, pid: i32) -> call::Result<()> {
        let host = socket::connect(Kind::Datagram, &self.host)?;
        for text in [format!("{ready}\n"), format!("MAINPID={pid}\n")] {
            socket::send(&host, text.as_bytes(), &[])?;
        }
        let (read, write) = fd::pipe()?;
        socket::send(&host, b"BARRIER=1", &[write.as_fd()])?;
        drop(write);
        // The other end is closed when the message has been handled.
        pid::wait_readable(&read, Some(BARRIER)).map(drop)
    }
}
