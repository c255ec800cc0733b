// SPDX-License-Identifier: Apache-2.0
//! inotify(7): to be woken when names in a directory come and go. Used by `container::usage`.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::call::{Call, Result, c_path, text};
use super::types::Errno;

/// A descriptor that becomes readable when a name in this directory of the host is made, removed or renamed.
pub fn watch_directory(path: &str) -> Result<OwnedFd> {
    // SAFETY: no pointer.
    let fd = Errno::result(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })
        .call(|| "inotify_init1(IN_CLOEXEC|IN_NONBLOCK)".to_string())?;
    // SAFETY: the kernel just gave us this new descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    watch_too(&fd, path)?;
    Ok(fd)
}

/// The same of one more directory; nothing changes where it is watched already.
pub fn watch_too(fd: &OwnedFd, path: &str) -> Result<()> {
    let path = OsStr::new(path);
    let c_path = c_path(path, "inotify_add_watch")?;
    let mask = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO | libc::IN_ONLYDIR;
    // SAFETY: the path lives until the call returns.
    Errno::result(unsafe { libc::inotify_add_watch(fd.as_raw_fd(), c_path.as_ptr(), mask) })
        .call(|| format!("inotify_add_watch({}, {}, {mask:#x})", fd.as_raw_fd(), text(path)))?;
    Ok(())
}

/// Takes what has been told, so that the descriptor is not readable until there is more.
pub fn drain(fd: &OwnedFd) {
    let mut buffer = [0; 4096];
    while nix::unistd::read(fd, &mut buffer).is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::linux::fd::tests::Scratch;
    use crate::linux::pid::wait_readable;

    #[test]
    fn names_that_come_and_go_wake() {
        let scratch = Scratch::new();
        let watched = watch_directory(scratch.path().to_str().unwrap()).unwrap();
        let told = || wait_readable(&watched, Some(Duration::ZERO)).unwrap();
        assert!(!told());
        std::fs::create_dir(scratch.path().join("a")).unwrap();
        assert!(told());
        drain(&watched);
        assert!(!told());
        std::fs::remove_dir(scratch.path().join("a")).unwrap();
        assert!(told());
        assert_eq!(watch_directory("/no/such").unwrap_err().errno, Errno::ENOENT);
    }
}
