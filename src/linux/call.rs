// SPDX-License-Identifier: Apache-2.0
//! How a system call that failed is told: the call as strace(1) prints it, and the kernel's answer. Used by every module of this floor.
//!
//! Text is made only when a call fails; a call that succeeds pays nothing for it.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::errno::{errno_name, errno_words};
use super::types::Errno;

/// A system call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The call as strace(1) prints it, without its result: `openat2(5</rootfs>, "proc", O_PATH, RESOLVE_IN_ROOT)`.
    pub call: String,
    /// What the kernel answered.
    pub errno: Errno,
}

/// What every call of this floor returns.
pub type Result<T> = std::result::Result<T, CallError>;

impl CallError {
    /// A failure of `call`.
    #[cold]
    pub fn new(call: impl Into<String>, errno: Errno) -> CallError {
        CallError { call: call.into(), errno }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.call, errno_name(self.errno), errno_text(self.errno))
    }
}

impl std::error::Error for CallError {}

/// The errno in words, lower case as clients of runtimes match them: `no such process`.
pub fn errno_text(errno: Errno) -> String {
    let text = errno_words(errno);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with("I/O") && !text.starts_with("RPC") => first.to_lowercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}

/// Turns an errno into a [`CallError`].
pub trait Call<T> {
    /// Names the call that was made; `call` runs only when it failed.
    fn call(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Call<T> for std::result::Result<T, Errno> {
    #[inline]
    fn call(self, call: impl FnOnce() -> String) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(errno) => Err(failed(errno, call)),
        }
    }
}

/// Apart from where calls are made: what is said of a failure is more code than the call, and would lie on the pages of what mostly runs.
#[cold]
#[inline(never)]
fn failed(errno: Errno, call: impl FnOnce() -> String) -> CallError {
    CallError { call: call(), errno }
}

/// Repeats a call for as long as a signal interrupts it. Never for close(2), nor where a partial effect would happen twice.
pub fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            other => return other,
        }
    }
}

/// syscall(2) by number, for calls that nix does not have: `Ok` with what the kernel returned, or its errno. Arguments are cast to
/// `long`, which holds an integer as well as an address.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::linux::types::Errno::result(libc::syscall($number $(, $argument as libc::c_long)*))
    };
}
pub(super) use syscall;

/// A path for the kernel; a NUL byte inside it is EINVAL, as `name` says.
pub(super) fn c_path(path: &OsStr, name: &str) -> Result<CString> {
    CString::new(path.as_bytes()).map_err(|_| CallError::new(format!("{name}({})", text(path)), Errno::EINVAL))
}

/// A string as strace(1) shows it: quoted, escaped, and cut when it is long.
pub(super) fn text(s: &OsStr) -> String {
    const SHOWN: usize = 256;
    let bytes = s.as_bytes();
    if bytes.len() <= SHOWN {
        return format!("{:?}", String::from_utf8_lossy(bytes));
    }
    format!("{:?}...", String::from_utf8_lossy(&bytes[..SHOWN]))
}

/// A descriptor as `strace -y` shows it: `5</rootfs>`.
pub(super) fn fd(fd: impl AsFd) -> String {
    raw_fd(fd.as_fd().as_raw_fd())
}

/// As [`fd`], for a number.
pub(super) fn raw_fd(fd: RawFd) -> String {
    if fd == libc::AT_FDCWD {
        return "AT_FDCWD".into();
    }
    // What /proc says here is for a reader's eye only: in a container it is the container's word.
    match nix::fcntl::readlink(format!("/proc/self/fd/{fd}").as_str()) {
        Ok(path) => format!("{fd}<{}>", String::from_utf8_lossy(path.as_bytes()).escape_debug()),
        Err(_) => fd.to_string(),
    }
}

/// Bit flags with a prefix on each name, or `0x1000` for bits without a name.
pub(super) fn flags(bits: u64, names: &[(u64, &str)]) -> String {
    let mut left = bits;
    let mut out: Vec<String> = Vec::new();
    for (bit, name) in names {
        if *bit != 0 && left & bit == *bit {
            left &= !bit;
            out.push((*name).to_string());
        }
    }
    if left != 0 || out.is_empty() {
        out.push(if left == 0 { "0".into() } else { format!("{left:#x}") });
    }
    out.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_strace_prints() {
        let error = CallError::new("mkdirat(5, \"x\", 0755)", Errno::ENOENT);
        assert_eq!(error.to_string(), "mkdirat(5, \"x\", 0755) = ENOENT (no such file or directory)");
    }

    #[test]
    fn errno_in_lower_case_as_clients_match_it() {
        assert_eq!(errno_text(Errno::ESRCH), "no such process");
        assert_eq!(errno_text(Errno::EACCES), "permission denied");
        assert_eq!(errno_text(Errno::EIO), "I/O error");
    }

    #[test]
    fn renders_only_on_failure() {
        assert_eq!(Ok::<u8, Errno>(1).call(|| unreachable!()), Ok(1));
        let failed: Result<u8> = Err(Errno::EPERM).call(|| "f()".into());
        assert_eq!(failed.unwrap_err().to_string(), "f() = EPERM (operation not permitted)");
    }

    #[test]
    fn retries_interrupted_calls_only() {
        let mut left = 3;
        let answer = retry(|| {
            left -= 1;
            if left > 0 { Err(Errno::EINTR) } else { Err(Errno::EAGAIN) }
        });
        assert_eq!((answer, left), (Err::<(), _>(Errno::EAGAIN), 0));
    }

    #[test]
    fn shows_descriptors_strings_and_flags() {
        let dir = std::fs::File::open("/").unwrap();
        assert_eq!(fd(&dir), format!("{}</>", dir.as_raw_fd()));
        assert_eq!(raw_fd(libc::AT_FDCWD), "AT_FDCWD");
        assert_eq!(text(OsStr::new("a\nb")), "\"a\\nb\"");
        assert_eq!(text(OsStr::new(&"x".repeat(1000))).len(), 256 + 5);
        assert_eq!(flags(0x103, &[(1, "A"), (2, "B")]), "A|B|0x100");
        assert_eq!(flags(0, &[(1, "A")]), "0");
        assert!(c_path(OsStr::from_bytes(b"a\0b"), "open").is_err());
    }
}
