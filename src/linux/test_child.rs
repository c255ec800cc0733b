// SPDX-License-Identifier: Apache-2.0
//! For tests of this floor only: code that changes the process it runs in (namespaces, ids, signals) runs in a child of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{fd, once};

/// Whether a test that needs root can run; says so where it cannot.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let thread = std::thread::current();
        let line = format!("skipped: {}: needs root\n", thread.name().unwrap_or("a test"));
        let _ = fd::write_all(std::io::stderr(), line.as_bytes());
    }
    root
}

/// Runs `test` in a forked child, which has one thread, and fails when it panics, dies, or takes two minutes. fork(2) of the C library is
/// used here because the test harness has many threads: it leaves the child's allocator usable.
pub(crate) fn in_child(test: impl FnOnce()) {
    show_panics_of_children();
    // SAFETY: the child runs on one thread with a usable allocator, and leaves by _exit only.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        IN_CHILD.store(true, Ordering::Relaxed);
        once::begin_clone();
        // SAFETY: no pointer.
        unsafe { libc::alarm(120) };
        let code = if catch_unwind(AssertUnwindSafe(test)).is_ok() { 0 } else { 101 };
        super::clone::exit_now(code);
    }
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "the test's child failed");
}

/// This process is a child made by [`in_child`].
static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// The test harness keeps what its threads print, and a child's part of that would be lost: panics of children go to standard error. The
/// hook is set before any fork: a child that set one itself could wait for ever for its lock, held by a thread that it does not have.
fn show_panics_of_children() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IN_CHILD.load(Ordering::Relaxed) {
                return others(panic);
            }
            let _ = fd::write_all(std::io::stderr(), format!("in a child: {panic}\n").as_bytes());
        }));
    });
}
