// SPDX-License-Identifier: Apache-2.0
//! New processes and their namespaces: clone3(2), unshare(2), setns(2), execve(2). Used by `process`.
//!
//! The runtime has one thread. A clone3 without CLONE_VM is then what fork(2) is: the child has a copy of everything, nobody else can
//! hold a lock that it needs, and it may allocate. The call is raw: the C library's fork handlers do not run, and the C library goes on
//! believing the parent's thread id, so nothing here may use pthread_kill(3), robust or recursive mutexes, or posix_spawn(3).

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::arena;
use super::call::{self, Call, CallError, Result, syscall};
use super::fd::{self, OFlag};
use super::once;
use super::types::{Errno, Namespaces};

/// struct clone_args of linux/sched.h, CLONE_ARGS_SIZE_VER2.
#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// What the new process shall be.
#[derive(Default)]
pub struct CloneArgs<'a> {
    /// New namespaces that it starts in. A new [`Namespaces::TIME`] here would have no offsets (they are fixed once a process is in it):
    /// unshare it instead. A new [`Namespaces::CGROUP`] here is rooted at the *parent's* cgroup: unshare it in the child instead.
    pub namespaces: Namespaces,
    /// The cgroup2 directory that it starts in (Linux 5.7): without a move, which waits for all CPUs.
    pub into_cgroup: Option<BorrowedFd<'a>>,
    /// Signal handlers become SIG_DFL in the child (Linux 5.5); ignored signals stay ignored, see [`super::signal::reset`].
    pub clear_handlers: bool,
    /// Its parent is our parent, which is told of its end; ours to wait for is nothing (CLONE_PARENT).
    pub sibling: bool,
}

/// The two ends of a clone.
#[derive(Debug)]
pub enum Cloned {
    /// We are the one who called.
    Parent {
        /// The new process, in our pid namespace.
        pid: i32,
        /// A handle on it that no reuse of the number can mislead.
        pidfd: OwnedFd,
    },
    /// We are the new process. Never return from here into what the parent was doing: end in execve(2) or [`exit_now`].
    Child,
}

/// clone3(2), Linux 5.3: a copy of this process in new namespaces, which sends SIGCHLD when it ends.
pub fn clone3(args: &CloneArgs<'_>) -> Result<Cloned> {
    debug_assert!(cfg!(test) || threads().is_none_or(|threads| threads == 1), "clone3 in a process of several threads");
    let mut pidfd: RawFd = -1;
    let mut raw = RawCloneArgs {
        flags: CLONE_PIDFD | args.namespaces.bits(),
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.into_cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    if args.clear_handlers {
        raw.flags |= CLONE_CLEAR_SIGHAND;
    }
    if args.sibling {
        raw.flags |= CLONE_PARENT;
        raw.exit_signal = 0; // The kernel takes our own exit signal.
    }
    // SAFETY: `raw` and what it points to live until the call returns. Without CLONE_VM the child has memory of its own, as after
    // fork(2); this process has one thread, so no lock is held by anybody else.
    let pid = unsafe { syscall!(libc::SYS_clone3, &raw mut raw, size_of::<RawCloneArgs>()) }.call(|| render_clone(&raw, args))?;
    arena::share();
    if pid == 0 {
        once::begin_clone();
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel stored a new descriptor, close-on-exec, that nobody else owns.
    Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

fn render_clone(raw: &RawCloneArgs, args: &CloneArgs<'_>) -> String {
    let mut names = vec![
        (CLONE_PIDFD, "CLONE_PIDFD"),
        (CLONE_PARENT, "CLONE_PARENT"),
        (CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"),
        (CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"),
    ];
    names.extend(NAMES.map(|(kind, name, _)| (kind.bits(), name)));
    let cgroup = args.into_cgroup.map(|cgroup| format!(", cgroup={}", call::fd(cgroup))).unwrap_or_default();
    format!("clone3({{flags={}, exit_signal={}{cgroup}}})", call::flags(raw.flags, &names), raw.exit_signal)
}

/// How many threads this process has, from /proc/self/task, where that can be read.
fn threads() -> Option<usize> {
    let names: std::io::Result<Vec<_>> = std::fs::read_dir("/proc/self/task").ok()?.collect();
    names.ok().map(|names| names.len())
}

/// Each kind of namespace, its flag's name, and its file under /proc/PID/ns.
const NAMES: [(Namespaces, &str, &str); 8] = [
    (Namespaces::TIME, "CLONE_NEWTIME", "time"),
    (Namespaces::MOUNT, "CLONE_NEWNS", "mnt"),
    (Namespaces::CGROUP, "CLONE_NEWCGROUP", "cgroup"),
    (Namespaces::UTS, "CLONE_NEWUTS", "uts"),
    (Namespaces::IPC, "CLONE_NEWIPC", "ipc"),
    (Namespaces::USER, "CLONE_NEWUSER", "user"),
    (Namespaces::PID, "CLONE_NEWPID", "pid"),
    (Namespaces::NET, "CLONE_NEWNET", "net"),
];

fn render_namespaces(kinds: Namespaces) -> String {
    call::flags(kinds.bits(), &NAMES.map(|(kind, name, _)| (kind.bits(), name)))
}

/// The flag of one kind: `CLONE_NEWPID`; the first where `kind` holds several, "" where none.
pub fn namespace_flag(kind: Namespaces) -> &'static str {
    NAMES.iter().find(|(one, ..)| kind.contains(*one)).map_or("", |(_, flag, _)| flag)
}

/// The name of one kind's file under /proc/PID/ns; the first where `kind` holds several, "" where none.
pub fn namespace_file(kind: Namespaces) -> &'static str {
    NAMES.iter().find(|(one, ..)| kind.contains(*one)).map_or("", |(.., file)| file)
}

/// unshare(2): new namespaces for this process ([`Namespaces::PID`] and [`Namespaces::TIME`]: for its children).
pub fn unshare(kinds: Namespaces) -> Result<()> {
    // SAFETY: no pointer; CLONE_NEW* flags change nothing of this process's memory.
    unsafe { syscall!(libc::SYS_unshare, kinds.bits()) }.call(|| format!("unshare({})", render_namespaces(kinds)))?;
    Ok(())
}

/// setns(2): enters the namespace that `fd` is, or, when it is a pidfd (Linux 5.8), all these namespaces of that process at once.
pub fn setns(fd: impl AsFd, kinds: Namespaces) -> Result<()> {
    // SAFETY: no pointer; changing namespaces changes nothing of this process's memory.
    unsafe { syscall!(libc::SYS_setns, fd.as_fd().as_raw_fd(), kinds.bits()) }
        .call(|| format!("setns({}, {})", call::fd(fd.as_fd()), render_namespaces(kinds)))?;
    Ok(())
}

/// This process's own namespace of one kind (for [`Namespaces::PID`]: its own, not its children's).
pub fn own_namespace(kind: Namespaces) -> Result<OwnedFd> {
    fd::open(format!("/proc/self/ns/{}", namespace_file(kind)), OFlag::O_RDONLY)
}

/// Opens a namespace file by its path on the host and checks that it is one: EINVAL for any other file, which is not waited for.
pub fn open_namespace(path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    let path = path.as_ref();
    let file = fd::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    if fd::statfs(&file)?.magic == fd::magic::NSFS {
        return Ok(file);
    }
    Err(CallError::new(format!("fstatfs({}): not a namespace", call::fd(&file)), Errno::EINVAL))
}

/// Which kind of namespace a descriptor is; ioctl_ns(2) NS_GET_NSTYPE.
pub fn namespace_kind(fd: impl AsFd) -> Result<Namespaces> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this ioctl takes no argument.
    let bits = unsafe { syscall!(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), NS_GET_NSTYPE) }
        .call(|| format!("ioctl({}, NS_GET_NSTYPE)", call::fd(fd.as_fd())))?;
    Ok(Namespaces::from_bits_truncate(bits as u64))
}

/// The user namespace that owns a namespace; ioctl_ns(2) NS_GET_USERNS. EPERM where that is outside of ours.
pub fn owning_user_namespace(fd: impl AsFd) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: this ioctl takes no argument.
    let new = unsafe { syscall!(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), NS_GET_USERNS) }
        .call(|| format!("ioctl({}, NS_GET_USERNS)", call::fd(fd.as_fd())))?;
    // SAFETY: the kernel just gave us this new descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(new as RawFd) })
}

/// A NULL-terminated vector of pointers into `strings`, which must outlive it.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// execve(2): returns only when it fails.
pub fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> Result<Infallible> {
    let (args, environment) = (pointers(argv), pointers(envp));
    // SAFETY: `path` ends with NUL; both vectors are NULL-terminated, and the strings they point to live until the call returns.
    match unsafe { syscall!(libc::SYS_execve, path.as_ptr(), args.as_ptr(), environment.as_ptr()) } {
        Err(errno) => Err(CallError::new(format!("execve({path:?}, {}, {} vars)", render_argv(argv), envp.len()), errno)),
        Ok(_) => Err(CallError::new("execve()", Errno::ENOEXEC)), // It does not return on success.
    }
}

/// execveat(2) with AT_EMPTY_PATH: runs what `fd` refers to; returns only when it fails. A script needs `fd` to stay open (not
/// close-on-exec), or the kernel says ENOENT.
pub fn execveat(fd: impl AsFd, argv: &[CString], envp: &[CString]) -> Result<Infallible> {
    let (args, environment) = (pointers(argv), pointers(envp));
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: as in `execve`; the path is a NUL-terminated constant.
    match unsafe { syscall!(libc::SYS_execveat, raw, c"".as_ptr(), args.as_ptr(), environment.as_ptr(), libc::AT_EMPTY_PATH) } {
        Err(errno) => {
            Err(CallError::new(format!("execveat({}, \"\", {}, AT_EMPTY_PATH)", call::raw_fd(raw), render_argv(argv)), errno))
        }
        Ok(_) => Err(CallError::new("execveat()", Errno::ENOEXEC)),
    }
}

fn render_argv(argv: &[CString]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = argv.iter().take(SHOWN).map(|arg| format!("{arg:?}")).collect();
    if argv.len() > SHOWN {
        shown.push("...".into());
    }
    format!("[{}]", shown.join(", "))
}

/// _exit(2): ends at once, without the C library's exit handlers or any destructor.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::pid;
    use crate::linux::test_child::{in_child, is_root};

    fn cstrings(strings: &[&str]) -> Vec<CString> {
        strings.iter().map(|s| CString::new(*s).unwrap()).collect()
    }

    #[test]
    fn child_in_new_namespaces() {
        if !is_root() {
            return;
        }
        in_child(|| {
            assert_eq!(threads(), Some(1));
            let own = fd::stat(own_namespace(Namespaces::NET).unwrap()).unwrap();
            let args = CloneArgs { namespaces: Namespaces::PID | Namespaces::NET | Namespaces::MOUNT, ..CloneArgs::default() };
            match clone3(&args).unwrap() {
                Cloned::Child => {
                    let net = fd::stat(own_namespace(Namespaces::NET).unwrap()).unwrap();
                    exit_now(if std::process::id() == 1 && !net.same_file(&own) { 42 } else { 1 })
                }
                Cloned::Parent { pid, pidfd } => {
                    assert!(pid > 1);
                    assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Code(42));
                }
            }
        });
    }

    #[test]
    fn sibling_belongs_to_our_parent() {
        in_child(|| {
            let outer = pid::getpid();
            let (reader, writer) = fd::pipe().unwrap();
            let middle = clone3(&CloneArgs::default()).unwrap();
            match middle {
                Cloned::Child => {
                    match clone3(&CloneArgs { sibling: true, ..CloneArgs::default() }).unwrap() {
                        Cloned::Child => exit_now(if pid::getppid() == outer { 7 } else { 1 }),
                        Cloned::Parent { pid, .. } => fd::write_all(&writer, &pid.to_ne_bytes()).unwrap(),
                    }
                    exit_now(0)
                }
                Cloned::Parent { pidfd, .. } => {
                    drop(writer);
                    assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Code(0));
                    let bytes = fd::read_bounded(&reader, 4).unwrap();
                    let sibling = i32::from_ne_bytes(bytes.try_into().unwrap());
                    assert_eq!(pid::wait_any(true).unwrap(), Some((sibling, pid::Exit::Code(7))));
                }
            }
        });
    }

    #[test]
    fn clears_handlers() {
        in_child(|| {
            extern "C" fn handler(_: libc::c_int) {}
            // SAFETY: the handler does nothing.
            unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
            match clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() }).unwrap() {
                Cloned::Child => {
                    pid::kill(pid::getpid(), libc::SIGUSR1).unwrap();
                    exit_now(0)
                }
                Cloned::Parent { pidfd, .. } => assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Signal(libc::SIGUSR1)),
            }
        });
    }

    #[test]
    fn failure_reads_as_strace_prints() {
        if !is_root() {
            return;
        }
        let file = std::fs::File::open("/").unwrap();
        let args = CloneArgs { namespaces: Namespaces::UTS, into_cgroup: Some(file.as_fd()), ..CloneArgs::default() };
        let error = clone3(&args).unwrap_err();
        assert_eq!(error.errno, Errno::EBADF);
        assert_eq!(
            error.call,
            format!(
                "clone3({{flags=CLONE_PIDFD|CLONE_INTO_CGROUP|CLONE_NEWUTS, exit_signal=17, cgroup={}</>}})",
                file.as_raw_fd()
            )
        );
    }

    #[test]
    fn enters_namespaces_by_pidfd() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let before = own_namespace(Namespaces::UTS).unwrap();
            unshare(Namespaces::UTS | Namespaces::IPC).unwrap();
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
                loop {
                    pid::pause()
                }
            };
            setns(&before, Namespaces::UTS).unwrap();
            assert_eq!(setns(&before, Namespaces::NET).unwrap_err().errno, Errno::EINVAL);
            setns(&pidfd, Namespaces::UTS | Namespaces::IPC).unwrap();
            let theirs = open_namespace(format!("/proc/{pid}/ns/uts")).unwrap();
            assert!(fd::stat(&theirs).unwrap().same_file(&fd::stat(own_namespace(Namespaces::UTS).unwrap()).unwrap()));
            assert!(!fd::stat(&theirs).unwrap().same_file(&fd::stat(&before).unwrap()));
            assert_eq!(namespace_kind(&theirs).unwrap(), Namespaces::UTS);
            let owner = owning_user_namespace(&theirs).unwrap();
            assert!(fd::stat(&owner).unwrap().same_file(&fd::stat(own_namespace(Namespaces::USER).unwrap()).unwrap()));
            pid::send_signal(&pidfd, libc::SIGKILL).unwrap();
            assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Signal(libc::SIGKILL));
        });
    }

    #[test]
    fn other_files_are_no_namespaces() {
        assert_eq!(open_namespace("/etc/passwd").unwrap_err().errno, Errno::EINVAL);
        assert_eq!(open_namespace("/nowhere").unwrap_err().errno, Errno::ENOENT);
        for (kind, _, file) in NAMES {
            assert_eq!(namespace_file(kind), file);
            assert_eq!(namespace_kind(own_namespace(kind).unwrap()).unwrap(), kind);
        }
    }

    #[test]
    fn executes() {
        in_child(|| {
            let run = |by_fd: bool| match clone3(&CloneArgs::default()).unwrap() {
                Cloned::Child => {
                    let (argv, env) = (cstrings(&["sh", "-c", "exit $CODE"]), cstrings(&["CODE=23"]));
                    let _ = if by_fd {
                        execveat(fd::open("/bin/sh", OFlag::O_PATH).unwrap(), &argv, &env)
                    } else {
                        execve(c"/bin/sh", &argv, &env)
                    };
                    exit_now(1)
                }
                Cloned::Parent { pidfd, .. } => pid::wait(&pidfd).unwrap(),
            };
            assert_eq!(run(false), pid::Exit::Code(23));
            assert_eq!(run(true), pid::Exit::Code(23));
        });
        let error = execve(c"/nowhere", &cstrings(&["a", "b"]), &[]).unwrap_err();
        assert_eq!(error.to_string(), "execve(\"/nowhere\", [\"a\", \"b\"], 0 vars) = ENOENT (no such file or directory)");
    }
}
