// SPDX-License-Identifier: Apache-2.0
//! What a process finds out once. Used by `pid`, `status` and `probe`.
//!
//! A clone of the process is another one, of another number, perhaps in other namespaces and without the descriptors: what its parent has
//! found out does not hold there, and it looks for itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many clones lie between the program's first process and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Said by each clone of itself, before anything else.
pub(super) fn begin_clone() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// A value that is found out once, by the process that asks first. Its clones do not have it, and keep none of their own there.
pub struct Once<T>(OnceLock<(u32, T)>);

impl<T> Once<T> {
    /// Nothing is known yet.
    pub const fn unknown() -> Once<T> {
        Once(OnceLock::new())
    }

    /// What this process has found out.
    pub fn get(&self) -> Option<&T> {
        let (generation, value) = self.0.get()?;
        (*generation == GENERATION.load(Ordering::Relaxed)).then_some(value)
    }

    /// Keeps a value, which this process has found out first; gives back one that somebody had found out before.
    pub fn keep(&self, value: T) -> Result<&T, T> {
        match (self.0.set((GENERATION.load(Ordering::Relaxed), value)), self.0.get()) {
            (Err((_, value)), _) => Err(value),
            (Ok(()), Some((_, kept))) => Ok(kept),
            (Ok(()), None) => unreachable!("it has just been set"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::in_child;

    #[test]
    fn each_process_finds_out_for_itself() {
        static FIRST: Once<u32> = Once::unknown();
        static SECOND: Once<u32> = Once::unknown();
        assert_eq!((FIRST.get(), FIRST.keep(1), FIRST.keep(2)), (None, Ok(&1), Err(2)));
        in_child(|| {
            assert_eq!((FIRST.get(), FIRST.keep(3)), (None, Err(3)));
            assert_eq!((SECOND.keep(4), SECOND.get()), (Ok(&4), Some(&4)));
            in_child(|| assert_eq!(SECOND.get(), None));
        });
        assert_eq!((FIRST.get(), SECOND.get()), (Some(&1), None));
    }
}
