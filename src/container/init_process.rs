// SPDX-License-Identifier: Apache-2.0
//! A hold on a container's first process that no reuse of its pid can move to another.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::state::State;
use crate::error::Result;
use crate::linux::fd::magic::PIPEFS;
use crate::linux::fd::{self, Stat};
use crate::process::init::stdio::Streams;

/// A pidfd of the container's process, if it lives.
pub fn open(state: &State) -> Result<Option<OwnedFd>> {
    match state.init_process().open()? {
        Some(process) if !state.is_of_another_boot()? => Ok(Some(process)),
        _ => Ok(None),
    }
}

/// What the standard streams of a process lead to, as links in /proc name it; empty where that cannot be seen, as runc has it.
pub fn streams_of(pid: i32) -> Vec<String> {
    (0..3).map(|number| link(&format!("/proc/{pid}/fd/{number}"))).collect()
}

/// What this process's standard streams are; none where that cannot be seen.
pub fn look_at_streams() -> Option<Streams> {
    let [input, output, errors] = fd::standard_streams().map(|stream| fd::stat(stream).ok());
    Some([input?, output?, errors?])
}

/// The same as [`streams_of`] of this process: whoever has got its streams from it has the same. Of what has no name in the file system the
/// link's text is known without the link, which costs a hundred times as much.
pub fn own_streams(seen: &Streams) -> Vec<String> {
    let streams = fd::standard_streams().into_iter().zip(seen);
    streams.map(|(fd, stat)| name(fd, stat).unwrap_or_else(|| link(&format!("/proc/self/fd/{}", fd.as_raw_fd())))).collect()
}

fn link(path: &str) -> String {
    fd::readlink(path).map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the link of a descriptor says, where that can be told without it.
fn name(stream: BorrowedFd<'_>, stat: &Stat) -> Option<String> {
    if stat.is_char_device(1, 3) {
        // Wherever it may be.
        Some("/dev/null".into())
    } else if stat.is_socket() {
        Some(format!("socket:[{}]", stat.ino))
    } else if stat.is_fifo() && fd::statfs(stream).ok()?.magic == PIPEFS {
        // And not one that mkfifo(3) has made.
        Some(format!("pipe:[{}]", stat.ino))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::linux::fd::tests::Scratch;
    use crate::linux::{fd as files, socket};

    #[test]
    fn a_name_is_that_of_the_link() {
        let scratch = Scratch::new();
        let dir = scratch.dir();
        files::mkfifoat(&dir, "fifo", 0o600).unwrap();
        let (reader, writer) = files::pipe().unwrap();
        let (one, _other) = socket::pair(socket::Kind::Stream).unwrap();
        let null = files::open("/dev/null", files::OFlag::O_RDWR).unwrap();
        let named = |fd: &OwnedFd| name(fd.as_fd(), &files::stat(fd).unwrap());
        for known in [&reader, &writer, &one, &null] {
            assert_eq!(named(known), Some(link(&format!("/proc/self/fd/{}", known.as_raw_fd()))));
        }
        let fifo = files::openat(&dir, "fifo", files::OFlag::O_RDWR, 0).unwrap();
        let zero = files::open("/dev/zero", files::OFlag::O_RDWR).unwrap();
        for unknown in [&dir, &fifo, &zero] {
            assert_eq!(named(unknown), None);
        }
        assert_eq!(own_streams(&look_at_streams().unwrap()), streams_of(std::process::id() as i32));
    }
}
