// SPDX-License-Identifier: Apache-2.0
//! The environment that this program was given, which others can read in its /proc/PID/environ; environ(7), proc_pid_environ(5). Used by
//! `process`.

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    /// Null, or a list of strings that ends with null.
    static mut environ: *mut *mut c_char;
}

/// Overwrites the environment where execve(2) has put it, which is what /proc/PID/environ shows. With `keep` it is moved: what asks for it
/// later finds it, elsewhere; else it is gone. The process has one thread.
pub fn hide(keep: bool) {
    // SAFETY: this is the list of the C library, in a process whose only thread is here: nobody reads or changes it meanwhile. Its strings
    // end with NUL and lie in memory that may be written to, whoever put them there; none of them is borrowed from Rust, which copies
    // what it reads. What is kept is given away for good.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            let length = CStr::from_ptr(text).count_bytes();
            *entry = if keep { CStr::from_ptr(text).to_owned().into_raw() } else { std::ptr::null_mut() };
            std::ptr::write_bytes(text, 0, length);
            entry = entry.add(1);
        }
    }
}

/// Copies what is left of the environment to memory that is taken now.
pub fn move_on() {
    // SAFETY: as in `hide`. What was there before is nobody's, and stays.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            *entry = CStr::from_ptr(*entry).to_owned().into_raw();
            entry = entry.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{hide, move_on};
    use crate::linux::test_child::in_child;

    fn shown() -> Vec<u8> {
        std::fs::read("/proc/self/environ").unwrap()
    }

    #[test]
    fn what_is_kept_is_not_shown() {
        in_child(|| {
            let path = std::env::var_os("PATH").unwrap();
            assert!(shown().iter().any(|byte| *byte != 0));
            let before: Vec<_> = std::env::vars_os().collect();
            hide(true);
            assert!(shown().iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(&shown()));
            assert_eq!((std::env::var_os("PATH"), std::env::vars_os().collect()), (Some(path.clone()), before.clone()));
            move_on();
            assert_eq!((std::env::var_os("PATH"), std::env::vars_os().collect()), (Some(path), before));
        });
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        in_child(|| {
            hide(false);
            hide(false);
            move_on();
            assert!(shown().iter().all(|byte| *byte == 0), "{}", String::from_utf8_lossy(&shown()));
            assert_eq!(std::env::vars_os().count(), 0);
        });
    }
}
