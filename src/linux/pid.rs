// SPDX-License-Identifier: Apache-2.0
//! Other processes: handles on them (pidfd_open(2)), signals, waiting, polling. Used by `process` and `container`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::call::{self, Call, CallError, Result, retry, syscall};
use super::fd;
use super::once::Once;
use super::types::Errno;

pub use nix::poll::{PollFd, PollFlags};

/// pidfd_open(2), Linux 5.3. The number may have been reused before this: compare what identifies the process (its start time) *after*
/// opening, then act on the handle.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointer.
    let fd = unsafe { syscall!(libc::SYS_pidfd_open, pid, 0) }.call(|| format!("pidfd_open({pid}, 0)"))?;
    // SAFETY: the kernel just gave us this new descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A process of this number, if there is one: none also where it is the number of a thread (EINVAL, in later kernels ENOENT).
pub fn pidfd_open_if(pid: i32) -> Result<Option<OwnedFd>> {
    match pidfd_open(pid) {
        Err(error) if matches!(error.errno, Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether a pidfd refers to an inode of its own. The kernel is the same for as long as we live.
static OWN_INODES: OnceLock<bool> = OnceLock::new();

/// What a pidfd refers to is an inode of its own (pidfs, Linux 6.9), whose number no other process gets before the machine is started
/// again; `None` where all pidfds of the kernel share one.
pub fn inode(pidfd: impl AsFd) -> Result<Option<u64>> {
    let own = match OWN_INODES.get() {
        Some(own) => *own,
        None => {
            let pidfs = fd::statfs(&pidfd)?.magic == fd::magic::PIDFS;
            // In 32 bits the number would not be whole.
            *OWN_INODES.get_or_init(|| pidfs && usize::BITS == 64)
        }
    };
    if own { fd::stat(pidfd).map(|stat| Some(stat.ino)) } else { Ok(None) }
}

/// The kernel gives the initial user namespace this inode on every machine (PROC_USER_INIT_INO, since Linux 3.8).
pub const INITIAL_USER_NAMESPACE: u64 = 0xeffffffd;

/// This process: its number, and as [`inode`] says it.
pub fn own() -> Result<(i32, Option<u64>)> {
    by_own_handle(|pid, handle| Ok((pid, inode(handle)?)))
}

/// The inode of this process's user namespace (nsfs); `None` before Linux 6.11. The initial one has [`INITIAL_USER_NAMESPACE`].
pub fn own_user_namespace() -> Result<Option<u64>> {
    by_own_handle(|_, handle| match user_namespace(handle) {
        Ok(namespace) => {
            // Who knows that knows pidfs.
            let _ = OWN_INODES.set(usize::BITS == 64);
            Ok(Some(fd::stat(namespace)?.ino))
        }
        Err(_) => Ok(None),
    })
}

/// Looks at this process by its own pidfd, which is quicker than any file of /proc. That stays open to its end, which is soon.
fn by_own_handle<T>(look: impl FnOnce(i32, BorrowedFd<'_>) -> Result<T>) -> Result<T> {
    static OWN: Once<(i32, OwnedFd)> = Once::unknown();
    if let Some((pid, handle)) = OWN.get() {
        return look(*pid, handle.as_fd());
    }
    let pid = getpid();
    match OWN.keep((pid, pidfd_open(pid)?)) {
        Ok((_, kept)) => look(pid, kept.as_fd()),
        Err((_, held)) => look(pid, held.as_fd()),
    }
}

/// PIDFD_GET_USER_NAMESPACE of ioctl_pidfd(2), Linux 6.11; an error before.
fn user_namespace(pidfd: impl AsFd) -> std::result::Result<OwnedFd, Errno> {
    const PIDFD_GET_USER_NAMESPACE: libc::c_ulong = 0xff09;
    // SAFETY: this ioctl takes no argument.
    let new = unsafe { syscall!(libc::SYS_ioctl, pidfd.as_fd().as_raw_fd(), PIDFD_GET_USER_NAMESPACE, 0) }?;
    // SAFETY: the kernel just gave us this new descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(new as RawFd) })
}

/// Whether the process has ended, with all its threads; it may still be there to be waited for.
pub fn has_ended(pidfd: impl AsFd) -> Result<bool> {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // Not [`poll`], which looks at the clock.
    let ready = retry(|| nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO)).call(|| "poll([1 fds], 0)".into())?;
    Ok(ready > 0)
}

/// pidfd_send_signal(2), Linux 5.1; signal 0 only asks whether it could be sent. ESRCH where the process has been waited for.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo means that of kill(2).
    unsafe { syscall!(libc::SYS_pidfd_send_signal, fd, signal, 0, 0) }
        .call(|| format!("pidfd_send_signal({}, {signal}, NULL, 0)", call::raw_fd(fd)))?;
    Ok(())
}

/// pidfd_getfd(2), Linux 5.6: a copy of that process's descriptor.
pub fn pidfd_getfd(pidfd: impl AsFd, target: RawFd) -> Result<OwnedFd> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no pointer.
    let copy = unsafe { syscall!(libc::SYS_pidfd_getfd, fd, target, 0) }
        .call(|| format!("pidfd_getfd({}, {target}, 0)", call::raw_fd(fd)))?;
    // SAFETY: the kernel just gave us this new descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// kill(2): `pid` below 0 is the process group -pid. Prefer [`send_signal`]; a number may be somebody else's by now.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no pointer.
    Errno::result(unsafe { libc::kill(pid, signal) }).call(|| format!("kill({pid}, {signal})"))?;
    Ok(())
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2), with this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The status as a shell gives it: the code, or 128 and the signal.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Waits for the end of a child by its pidfd (Linux 5.4), and takes its status.
pub fn wait(pidfd: impl AsFd) -> Result<Exit> {
    let fd = pidfd.as_fd().as_raw_fd();
    match waitid(libc::P_PIDFD, fd as libc::id_t, 0)? {
        Some((_, exit)) => Ok(exit),
        None => Err(CallError::new(format!("waitid(P_PIDFD, {fd}, WEXITED)"), Errno::EAGAIN)),
    }
}

/// As [`wait`], but `None` where the child has not ended.
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<Exit>> {
    let found = waitid(libc::P_PIDFD, pidfd.as_fd().as_raw_fd() as libc::id_t, libc::WNOHANG)?;
    Ok(found.map(|(_, exit)| exit))
}

/// Waits for the end of the child of this number.
pub fn wait_pid(pid: i32) -> Result<Exit> {
    match waitid(libc::P_PID, pid as libc::id_t, 0)? {
        Some((_, exit)) => Ok(exit),
        None => Err(CallError::new(format!("waitid(P_PID, {pid}, WEXITED)"), Errno::EAGAIN)),
    }
}

/// Takes the status of any child that has ended, after waiting for one if `block`. `None` where none has; ECHILD where there is none.
pub fn wait_any(block: bool) -> Result<Option<(i32, Exit)>> {
    waitid(libc::P_ALL, 0, if block { 0 } else { libc::WNOHANG })
}

/// The child that has ended and that [`wait_any`] would take next, left for another to wait for.
pub fn peek_ended() -> Result<Option<i32>> {
    Ok(waitid(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT)?.map(|(pid, _)| pid))
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> Result<Option<(i32, Exit)>> {
    // SAFETY: all zeroes is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // __WALL: also children that send no SIGCHLD. SAFETY: `info` lives until the call returns.
    retry(|| Errno::result(unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | libc::__WALL | flags) })).call(
        || {
            let kind = match kind {
                libc::P_ALL => "P_ALL",
                libc::P_PID => "P_PID",
                _ => "P_PIDFD",
            };
            format!("waitid({kind}, {id}, WEXITED|__WALL{})", if flags & libc::WNOHANG != 0 { "|WNOHANG" } else { "" })
        },
    )?;
    // SAFETY: waitid fills the fields of a child's end; untouched they are 0.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    Ok(Some((pid, exit)))
}

/// poll(2): how many of `fds` are ready; 0 after `timeout` (`None`: no limit). Signals do not end or lengthen it.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<usize> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        // Rounded up: waking a little late is better than spinning in the last millisecond.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000));
        let milliseconds = left.map_or(-1, |left| i32::try_from(left).unwrap_or(i32::MAX));
        let count = fds.len();
        let timeout = nix::poll::PollTimeout::try_from(milliseconds).unwrap_or(nix::poll::PollTimeout::NONE);
        match nix::poll::poll(fds, timeout) {
            Err(Errno::EINTR) => {}
            other => return other.map(|ready| ready as usize).call(|| format!("poll([{count} fds], {milliseconds})")),
        }
    }
}

/// Whether `fd` becomes readable, or its other end hangs up, before the time is over.
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> Result<bool> {
    Ok(poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout)? > 0)
}

/// Waits until the process has ended (it may still be there to be waited for by its parent); false when the time is over first.
pub fn wait_exited(pidfd: impl AsFd, timeout: Option<Duration>) -> Result<bool> {
    wait_readable(pidfd, timeout)
}

/// getpid(2)
pub fn getpid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// getppid(2): 0 where the parent is outside of our pid namespace.
pub fn getppid() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// gettid(2)
pub fn gettid() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// pause(2): sleeps until a signal has been handled.
pub fn pause() {
    nix::unistd::pause();
}

/// prctl(2) with up to two arguments; `name` is how it is told.
pub(super) fn prctl(option: libc::c_int, first: u64, second: u64, name: &str) -> Result<i32> {
    // SAFETY: the options used on this floor take numbers, or the address of memory that their caller keeps alive.
    let value = unsafe { syscall!(libc::SYS_prctl, option, first, second, 0, 0) }
        .call(|| format!("prctl({name}, {first:#x}, {second:#x})"))?;
    Ok(value as i32)
}

/// PR_SET_CHILD_SUBREAPER: orphans among our descendants become our children (or no longer do).
pub fn set_child_subreaper(on: bool) -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, u64::from(on), 0, "PR_SET_CHILD_SUBREAPER").map(drop)
}

/// PR_SET_PDEATHSIG: the signal we get when our parent's thread ends; 0 for none. Check [`getppid`] afterwards: it may have ended before.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0, "PR_SET_PDEATHSIG").map(drop)
}

/// PR_SET_NAME: what ps(1) shows for this process, cut at 15 bytes.
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as u64, 0, "PR_SET_NAME").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
    use crate::linux::test_child::in_child;

    #[test]
    fn waits_for_children() {
        in_child(|| {
            assert_eq!(wait_any(false).unwrap_err().errno, Errno::ECHILD);
            let (reader, writer) = fd::pipe().unwrap();
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
                drop(writer);
                let _ = fd::read_bounded(&reader, 1);
                exit_now(3)
            };
            assert_eq!(try_wait(&pidfd).unwrap(), None);
            assert_eq!(wait_any(false).unwrap(), None);
            assert!(!wait_exited(&pidfd, Some(Duration::from_millis(20))).unwrap());
            drop(writer);
            assert!(wait_exited(&pidfd, Some(Duration::from_secs(10))).unwrap());
            assert_eq!(try_wait(&pidfd).unwrap(), Some(Exit::Code(3)));
            assert_eq!(wait(&pidfd).unwrap_err().errno, Errno::ECHILD);
            assert_eq!(send_signal(&pidfd, 0).unwrap_err().errno, Errno::ESRCH);
            assert_eq!(
                wait_pid(pid).unwrap_err().to_string(),
                format!("waitid(P_PID, {pid}, WEXITED|__WALL) = ECHILD (no child processes)")
            );
        });
    }

    #[test]
    fn handles_by_number() {
        in_child(|| {
            let Cloned::Parent { pid, .. } = clone3(&CloneArgs::default()).unwrap() else {
                loop {
                    pause()
                }
            };
            let pidfd = pidfd_open(pid).unwrap();
            let theirs = pidfd_getfd(&pidfd, 2).unwrap();
            assert!(fd::stat(&theirs).unwrap().same_file(&fd::stat(std::io::stderr()).unwrap()));
            kill(pid, libc::SIGTERM).unwrap();
            let exit = wait_pid(pid).unwrap();
            assert_eq!((exit, exit.status()), (Exit::Signal(15), 143));
        });
        assert_eq!(pidfd_open(i32::MAX).unwrap_err().errno, Errno::ESRCH);
    }

    #[test]
    fn a_process_has_an_inode_of_its_own() {
        in_child(|| {
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else { exit_now(0) };
            let (one, other) = (inode(&pidfd).unwrap(), inode(pidfd_open(getpid()).unwrap()).unwrap());
            assert!(one.is_none() == other.is_none() && (one.is_none() || one != other));
            assert_eq!(inode(pidfd_open(pid).unwrap()).unwrap(), one, "a second handle on it");
            assert!(wait_exited(&pidfd, Some(Duration::from_secs(10))).unwrap());
            assert!(has_ended(&pidfd).unwrap() && !has_ended(pidfd_open(getpid()).unwrap()).unwrap());
            assert_eq!(inode(pidfd_open_if(pid).unwrap().unwrap()).unwrap(), one, "it waits to be waited for");
            wait(&pidfd).unwrap();
            assert!(pidfd_open_if(pid).unwrap().is_none());
        });
    }

    #[test]
    fn a_thread_is_no_process() {
        let (number, told) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            number.send(gettid()).unwrap();
            wait.recv().unwrap_err();
        });
        assert!(pidfd_open_if(told.recv().unwrap()).unwrap().is_none());
        drop(end);
        thread.join().unwrap();
    }

    /// /proc/PID/stat calls it a zombie as soon as its first thread has ended.
    #[test]
    fn a_process_lives_as_long_as_any_of_its_threads() {
        extern "C" fn wait_on(_: *mut libc::c_void) -> libc::c_int {
            loop {
                pause();
            }
        }
        in_child(|| {
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
                let mut stack = vec![0_u128; 4096];
                let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
                // SAFETY: the stack is not given back before the process ends, and the thread does nothing but wait.
                unsafe {
                    libc::clone(wait_on, stack.as_mut_ptr().add(stack.len()).cast(), flags, std::ptr::null_mut());
                    libc::syscall(libc::SYS_exit, 0);
                }
                unreachable!()
            };
            let begun = Instant::now();
            while crate::linux::proc::pid_stat(pid).unwrap().is_none_or(|stat| stat.state != 'Z') {
                assert!(begun.elapsed() < Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(1));
            }
            let stat = || crate::linux::proc::pid_stat(pid).unwrap().unwrap();
            assert!(!has_ended(&pidfd).unwrap() && !stat().ended());
            send_signal(&pidfd, libc::SIGKILL).unwrap();
            assert!(wait_exited(&pidfd, Some(Duration::from_secs(10))).unwrap() && has_ended(&pidfd).unwrap());
            assert!(stat().ended());
            assert_eq!(wait(&pidfd).unwrap(), Exit::Signal(libc::SIGKILL));
        });
    }

    #[test]
    fn orphans_come_to_the_subreaper() {
        in_child(|| {
            set_child_subreaper(true).unwrap();
            let Cloned::Parent { pidfd, .. } = clone3(&CloneArgs::default()).unwrap() else {
                match clone3(&CloneArgs::default()) {
                    Ok(Cloned::Child) => {
                        std::thread::sleep(Duration::from_millis(50));
                        exit_now(9)
                    }
                    _ => exit_now(0),
                }
            };
            wait(&pidfd).unwrap();
            assert_eq!(wait_any(true).unwrap().map(|(_, exit)| exit), Some(Exit::Code(9)));
        });
    }

    #[test]
    fn dies_with_its_parent() {
        in_child(|| {
            set_child_subreaper(true).unwrap();
            let (reader, writer) = fd::pipe().unwrap();
            let Cloned::Parent { pidfd, .. } = clone3(&CloneArgs::default()).unwrap() else {
                if let Ok(Cloned::Child) = clone3(&CloneArgs::default()) {
                    set_parent_death_signal(libc::SIGKILL).unwrap();
                    fd::write_all(&writer, b"x").unwrap();
                    loop {
                        pause()
                    }
                }
                let _ = nix::unistd::read(&reader, &mut [0]);
                exit_now(0)
            };
            wait(&pidfd).unwrap();
            assert_eq!(wait_any(true).unwrap().map(|(_, exit)| exit), Some(Exit::Signal(libc::SIGKILL)));
        });
    }

    #[test]
    fn polls_until_the_deadline() {
        let (reader, writer) = fd::pipe().unwrap();
        let begun = Instant::now();
        assert!(!wait_readable(&reader, Some(Duration::from_millis(30))).unwrap());
        assert!(begun.elapsed() >= Duration::from_millis(30));
        drop(writer);
        assert!(wait_readable(&reader, None).unwrap());
    }
}
