// SPDX-License-Identifier: Apache-2.0
//! Keeps containers from writing to the runtime's own binary. Called once, first thing, by the commands that put a process into a
//! container (create, run, exec, restore).
//!
//! Whoever can look at a process through a procfs can open its `/proc/PID/exe`, and once nobody runs that file any more, open it again for
//! writing. A container's root that catches the runtime while it is inside so gets at the host's binary, and the next command runs what
//! the container wrote: CVE-2019-5736. So this program must run from something that cannot be opened for writing *through that link*:
//!
//! 1. A read-only mount. The link leads to the file as seen through the mount it was run from, and a mount that is read-only answers EROFS
//!    to every writer. Where the binary does not lie on such a mount already, a detached copy of its mount is made read-only and run.
//!    Nothing is copied, and the mount is gone with the process.
//! 2. Where mounts may not be made (no CAP_SYS_ADMIN): a sealed copy in memory, which nobody can ever write or grow.
//!
//! The page cache is shared with the host's file in the first case: a kernel bug that writes into it (CVE-2022-0847) reaches the file.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::fcntl::{FcntlArg, OFlag, SealFlag};

use super::call::{self, Call, CallError, Result, retry};
use super::types::Errno;
use super::{clone, fd, mount, pid};

/// Says to the program that runs again that it did: it must not try for ever.
const MARK: &str = "_BERTH_UNWRITABLE_EXE";
/// Larger than any build of this program.
const MOST: u64 = 256 << 20;

/// The view's mount, which [`super::start`] has left open. -1: none.
static MOUNT: AtomicI32 = AtomicI32::new(-1);

/// The view's mount, where it is open still: the program runs on through it without that. At its end the kernel waits for all processors
/// to have seen that it is gone (an RCU grace period): so that is for a moment in which something else is waited for anyway.
pub fn take_mount() -> Option<OwnedFd> {
    let mount = MOUNT.swap(-1, Ordering::Relaxed);
    // SAFETY: it was opened before anything else, and nobody else knows of it.
    (mount >= 0).then(|| unsafe { fd::adopt_unseen(mount) })
}

/// Returns where this program runs from an unwritable file ([`super::start`] has mostly seen to that); else runs it again from one, with
/// the arguments `argv`, the same environment, working directory and descriptors, and does not return. An error means that neither way
/// works here.
pub fn ensure_unwritable(argv: &[OsString]) -> Result<()> {
    let again = std::env::var_os(MARK).is_some();
    if again {
        // SAFETY: this is the first thing a program of one thread does; nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(MARK) };
    }
    if let Some((mount, file)) = super::start::take_view() {
        MOUNT.store(mount, Ordering::Relaxed);
        // SAFETY: it was opened before anything else, to be closed here.
        let file = unsafe { fd::adopt_unseen(file) };
        if fd::statfs(&file)?.read_only() {
            return Ok(());
        }
    }
    let descriptor = super::start::descriptor();
    if again || descriptor.is_some() {
        // execveat(2) names the process after the descriptor's number.
        let called = argv.first().map(OsString::as_os_str).unwrap_or_default();
        let name = std::path::Path::new(called).file_name().unwrap_or_default().as_bytes().to_vec();
        if let Ok(name) = CString::new(name) {
            pid::set_name(&name)?;
        }
    }
    if descriptor.is_some_and(ran_from_read_only) {
        return Ok(());
    }
    let own = fd::open("/proc/self/exe", OFlag::O_RDONLY)?;
    if is_unwritable(&own)? {
        return Ok(());
    }
    if again {
        return Err(CallError::new(format!("fstatfs({}): still writable after running it again", call::fd(&own)), Errno::EROFS));
    }
    let envp: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    match run_unwritable(&own, argv, &envp)? {}
}

/// Whether this descriptor, which the program was run by, is still there and leads to its file through a read-only mount: then this is the
/// run that [`super::start`] began, and the descriptor is closed. It is the one that execveat(2) was given: nothing has been opened since.
fn ran_from_read_only(number: RawFd) -> bool {
    const STANDARD_STREAMS: RawFd = 2;
    if number <= STANDARD_STREAMS {
        return false;
    }
    // SAFETY: the program that ran this one opened it for this, and nobody here owns it. Where it is not open, it is given up again.
    let view = unsafe { fd::adopt_unseen(number) };
    let read_only = fd::statfs(&view).map(|fs| fs.read_only());
    if read_only.as_ref().is_err_and(|error| error.errno == Errno::EBADF) {
        let _ = view.into_raw_fd();
    }
    read_only.unwrap_or_default()
}

fn run_unwritable(own: &OwnedFd, argv: &[OsString], envp: &[(OsString, OsString)]) -> Result<Infallible> {
    // What keeps the first way from working (EPERM, EINVAL in a chroot, a kernel without it) leaves the second.
    match read_only_view(own).and_then(|view| run(&view, argv, envp)) {
        Ok(never) => Ok(never),
        Err(_) => sealed_copy(own).and_then(|copy| run(&copy, argv, envp)),
    }
}

/// Whether nobody can write to the file through this descriptor's mount, or at all.
fn is_unwritable(file: &OwnedFd) -> Result<bool> {
    if fd::statfs(file)?.read_only() {
        return Ok(true);
    }
    // EINVAL where the file cannot have seals.
    let seals = nix::fcntl::fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_retain);
    Ok(seals.contains(SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))
}

/// The same file through a detached read-only mount.
fn read_only_view(file: &OwnedFd) -> Result<OwnedFd> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let view = mount::clone_tree(file, false)?;
    let change = mount::Change { set: MOUNT_ATTR_RDONLY, ..mount::Change::default() };
    mount::mount_setattr(&view, false, &change)?;
    Ok(view)
}

/// A copy in memory that can never change.
fn sealed_copy(file: &OwnedFd) -> Result<OwnedFd> {
    let size = fd::stat(file)?.size;
    if size > MOST {
        return Err(CallError::new(format!("sendfile({}): {size} bytes", call::fd(file)), Errno::EFBIG));
    }
    let copy = fd::memfd(c"berth", true)?;
    let mut offset: libc::off_t = 0;
    while (offset as u64) < size {
        let left = (size - offset as u64) as usize;
        // SAFETY: `offset` lives until the call returns.
        let count = retry(|| Errno::result(unsafe { libc::sendfile(copy.as_raw_fd(), file.as_raw_fd(), &raw mut offset, left) }))
            .call(|| format!("sendfile({}, {}, {left})", call::fd(&copy), call::fd(file)))?;
        if count == 0 {
            return Err(CallError::new(format!("sendfile({}, {}): cut short", call::fd(&copy), call::fd(file)), Errno::EIO));
        }
    }
    fd::seal(&copy)?;
    Ok(copy)
}

/// execveat(2) of `file` with these arguments and this environment, marked.
fn run(file: &OwnedFd, argv: &[OsString], envp: &[(OsString, OsString)]) -> Result<Infallible> {
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| CallError::new("execveat()", Errno::EINVAL));
    let args = argv.iter().map(|arg| c_string(arg.clone().into_vec())).collect::<Result<Vec<_>>>()?;
    let mut environment = vec![c_string(format!("{MARK}=1").into_bytes())?];
    for (name, value) in envp {
        environment.push(c_string([name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    clone::execveat(file, &args, &environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
    use crate::linux::cred;
    use crate::linux::fd::tests::Scratch;
    use crate::linux::test_child::{in_child, is_root};

    /// Runs sleep(1) from `file` and tries to open its /proc/PID/exe for writing after it has ended.
    fn written_through_link(file: &OwnedFd) -> Errno {
        let argv = [c"sleep".to_owned(), c"100".to_owned()];
        let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
            let _ = clone::execveat(file, &argv, &[]);
            exit_now(1)
        };
        let link = format!("/proc/{pid}/exe");
        let own = fd::stat_path("/proc/self/exe").unwrap();
        while fd::stat_path(link.as_str()).unwrap().same_file(&own) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let held = fd::open(link.as_str(), OFlag::O_PATH).unwrap();
        pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
        pid::wait(&pidfd).unwrap();
        let opened = fd::open(format!("/proc/self/fd/{}", held.as_raw_fd()), OFlag::O_WRONLY);
        opened.and_then(|file| fd::write_all(&file, b"#!/bin/evil")).unwrap_err().errno
    }

    fn program(scratch: &Scratch) -> OwnedFd {
        std::fs::copy(std::fs::canonicalize("/bin/sleep").unwrap(), scratch.path().join("program")).unwrap();
        fd::open(scratch.path().join("program"), OFlag::O_RDONLY).unwrap()
    }

    #[test]
    fn a_read_only_view_cannot_be_written_through() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new();
        in_child(|| {
            let file = program(&scratch);
            assert!(!is_unwritable(&file).unwrap());
            let view = read_only_view(&file).unwrap();
            assert_eq!(written_through_link(&view), Errno::EROFS);
            let opened = fd::open(format!("/proc/self/fd/{}", view.as_raw_fd()), OFlag::O_RDONLY).unwrap();
            assert!(is_unwritable(&opened).unwrap());
            assert!(fd::open(scratch.path().join("program"), OFlag::O_WRONLY).is_ok());
        });
    }

    /// Runs this test program again, as far as [`second_life`], and returns what that wrote.
    fn second_life_says(prepare: impl FnOnce()) -> String {
        let (reader, writer) = fd::pipe().unwrap();
        in_child(|| {
            fd::dup_onto(fd::open("/dev/null", OFlag::O_WRONLY).unwrap(), 1).unwrap();
            fd::set_cloexec(&writer, false).unwrap();
            let number = writer.as_raw_fd().to_string();
            let argv = ["second", "--exact", "linux::exe::tests::second_life", "--test-threads=1"].map(OsString::from);
            let own = fd::open("/proc/self/exe", OFlag::O_RDONLY).unwrap();
            prepare();
            let Err(error) = run_unwritable(&own, &argv, &[("BERTH_TEST_SECOND_LIFE".into(), number.into())]);
            panic!("{error}");
        });
        drop(writer);
        String::from_utf8(fd::read_bounded(&reader, 4096).unwrap()).unwrap()
    }

    #[test]
    fn second_life() {
        let Ok(number) = std::env::var("BERTH_TEST_SECOND_LIFE") else {
            // This is the first life: its binary is a plain file, which `run_unwritable` below shall not be.
            return assert!(!is_unwritable(&fd::open(std::env::current_exe().unwrap(), OFlag::O_RDONLY).unwrap()).unwrap());
        };
        // SAFETY: the first life left this descriptor open for us.
        let writer = unsafe { fd::adopt(number.parse().unwrap()) }.unwrap();
        ensure_unwritable(&std::env::args_os().collect::<Vec<_>>()).unwrap();
        assert_eq!(std::env::var_os(MARK), None);
        let link = fd::readlink("/proc/self/exe").unwrap();
        fd::write_all(&writer, if link.as_bytes().starts_with(b"/memfd:") { b"copy" } else { b"view" }).unwrap();
    }

    #[test]
    fn runs_again_from_what_nobody_can_write() {
        if !is_root() {
            return;
        }
        assert_eq!(second_life_says(|| ()), "view");
        assert_eq!(second_life_says(|| crate::linux::cred::setresuid(65534).unwrap()), "copy");
    }

    #[test]
    fn a_sealed_copy_can_be_made_by_anybody() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new();
        in_child(|| {
            let file = program(&scratch);
            in_child(|| {
                cred::setresuid(65534).unwrap();
                assert_eq!(read_only_view(&file).unwrap_err().errno, Errno::EPERM);
                assert!(is_unwritable(&sealed_copy(&file).unwrap()).unwrap());
            });
            let copy = sealed_copy(&file).unwrap();
            assert!(is_unwritable(&copy).unwrap());
            assert_eq!(fd::stat(&copy).unwrap().size, fd::stat(&file).unwrap().size);
            assert_eq!(written_through_link(&copy), Errno::EPERM);
        });
    }
}
