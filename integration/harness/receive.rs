// SPDX-License-Identifier: Apache-2.0
//! A unix socket on which a runtime hands over one descriptor: `--console-socket`, `--pidfd-socket`, seccomp listeners.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::bundle::folder;

/// A listening socket in the test's folder.
pub struct Receiver {
    path: PathBuf,
    listener: UnixListener,
}

impl Receiver {
    /// Listens on a path that is called `name`.
    pub fn new(name: &str) -> Receiver {
        let path = folder().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        Receiver { path, listener }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Takes what has been sent: at least one byte of data with exactly one descriptor, in one message, then the end.
    /// The sender must have been here already.
    #[track_caller]
    pub fn receive(&self) -> (String, OwnedFd) {
        self.listener.set_nonblocking(true).unwrap();
        let (stream, _) = self.listener.accept().unwrap_or_else(|error| panic!("nobody has connected to the socket: {error}"));
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let mut data = [0; 65536];
        let mut control = nix::cmsg_space!([RawFd; 4]);
        let (length, descriptors) = {
            let mut buffers = [IoSliceMut::new(&mut data)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut control), flags).unwrap();
            let mut descriptors = Vec::new();
            for part in message.cmsgs().unwrap() {
                match part {
                    ControlMessageOwned::ScmRights(list) => descriptors.extend(list),
                    other => panic!("an unexpected control message: {other:?}"),
                }
            }
            (message.bytes, descriptors)
        };
        assert_eq!(descriptors.len(), 1, "exactly one descriptor is sent");
        assert!((1..65536).contains(&length), "{length} bytes of data");
        // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
        let text = String::from_utf8_lossy(&data[..length]).into_owned();
        eprintln!("  received {text:?} with a descriptor");
        (text, descriptor)
    }
}
