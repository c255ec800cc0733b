// SPDX-License-Identifier: Apache-2.0
//! How the program begins and ends: [`entry!`] gives it a `main` of its own in place of the standard library's. Called by `main.rs`.
//!
//! The standard library prepares every program for threads: it reads /proc/self/maps to find its stack's guard, makes an alternate
//! stack for the handler of overflows, and undoes all of it at the end: twenty system calls of a program that makes some hundred. Kept of
//! it is what a container's safety rests on: the standard streams are open, and writing to a pipe without a reader is an error (EPIPE)
//! and no signal.
//!
//! `early` and `view` run even before the C library has begun.

#[cfg(all(target_arch = "x86_64", not(test)))]
mod early;
#[cfg(all(target_arch = "x86_64", not(test)))]
mod view;

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

/// Defines the program's `main`, which calls `$main` with the words of the command line and ends with the status it returns.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(count: std::ffi::c_int, words: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: the C library calls this once, with what execve(2) was given.
            unsafe { $crate::linux::start::run(count, words, $main) }
        }
    };
}

/// Prepares the process, calls `main`, and ends.
///
/// # Safety
/// `words` points to `count` strings that end with NUL, and lives as long as the process.
pub unsafe fn run(count: c_int, words: *const *const c_char, main: fn(Vec<OsString>) -> u8) -> ! {
    super::memory::announce_stack(words as usize);
    open_standard_streams();
    // SAFETY: SIG_IGN is no function of ours. It fails for no signal that exists.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let word = |at: usize| {
        // SAFETY: the caller promises `count` strings.
        let text = unsafe { CStr::from_ptr(*words.add(at)) };
        OsString::from_vec(text.to_bytes().to_vec())
    };
    let status = main((0..usize::try_from(count).unwrap_or(0)).map(word).collect());
    // Nothing is buffered, and there is nothing else to be undone that the kernel does not undo.
    super::clone::exit_now(i32::from(status))
}

/// The descriptors of the read-only view that this program has gone on through, each to be closed by whoever asks: its mount, and the
/// file seen through it. None where there is none, or it was asked for before.
pub fn take_view() -> Option<(RawFd, RawFd)> {
    #[cfg(all(target_arch = "x86_64", not(test)))]
    return view::take();
    #[cfg(not(all(target_arch = "x86_64", not(test))))]
    None
}

/// The number of the descriptor that this program was run by, where it was not run by a path; execveat(2).
pub fn descriptor() -> Option<RawFd> {
    // SAFETY: no pointer is taken. What comes back is 0 or the address of a string that lives as long as the process.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const c_char;
    if name.is_null() {
        return None;
    }
    // SAFETY: see above.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().ok()?.strip_prefix("/dev/fd/")?.parse().ok()
}

/// A standard stream that the caller left closed becomes /dev/null: else the next file opened would be taken for it.
fn open_standard_streams() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three structures, which live until the call returns.
    let polled = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    let closed = |stream: &libc::pollfd| stream.revents & libc::POLLNVAL != 0;
    // Where poll(2) itself fails (a filter, no memory), nothing is known, and a null device too many does no harm.
    if polled >= 0 && !streams.iter().any(closed) {
        return;
    }
    for stream in &streams {
        // SAFETY: the path ends with NUL; F_GETFD takes no pointer. The lowest free number is the one that is closed.
        let opened =
            unsafe { libc::fcntl(stream.fd, libc::F_GETFD) >= 0 || libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == stream.fd };
        if !opened {
            std::process::abort();
        }
    }
}
