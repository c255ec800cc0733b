// SPDX-License-Identifier: Apache-2.0
//! The names of system calls that a seccomp profile may hold, as one word of 16 bits each. Their numbers are the plan's
//! (`plan::seccomp`).

use super::syscall_names::{self, ENDS, NAMES};

/// How many there are.
pub const COUNT: usize = syscall_names::COUNT;

/// A system call whose name is known; its number depends on the architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(u16);

/// Looks up one name after the other. Profiles mostly have them sorted, as the table has: then the next name is near the last one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    /// Behind the name that was found last.
    next: usize,
}

impl Lookup {
    /// As [`Syscall::from_name`].
    pub fn find(&mut self, name: &str) -> Option<Syscall> {
        /// How many names that a profile leaves out are gone past one by one.
        const NEAR: usize = 4;
        let mut near = self.next..(self.next + NEAR).min(COUNT);
        let known = near.find(|i| nth_bytes(*i) == name.as_bytes()).map(|i| Syscall(i as u16));
        let found = known.or_else(|| Syscall::from_name(name))?;
        self.next = usize::from(found.0) + 1;
        Some(found)
    }
}

impl Syscall {
    /// The system call of that name; `None` if no architecture has one.
    pub fn from_name(name: &str) -> Option<Syscall> {
        let (mut low, mut high) = (0, COUNT);
        while low < high {
            let middle = (low + high) / 2;
            match nth_bytes(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(Syscall(middle as u16)),
            }
        }
        None
    }

    /// Every system call, in the order of their names.
    pub fn all() -> impl Iterator<Item = Syscall> {
        (0..COUNT as u16).map(Syscall)
    }

    /// Its place among all, from 0 on, by its name.
    #[inline(always)]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }

    /// The one at that place, if there is one.
    #[inline(always)]
    pub fn at(place: u16) -> Option<Syscall> {
        (usize::from(place) < COUNT).then_some(Syscall(place))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let end = usize::from(ENDS[self.place()]);
        &NAMES[end - nth_bytes(self.place()).len()..end]
    }
}

/// The names one behind the other: what bytes are compared with, which needs no look at where characters begin.
#[inline(always)]
fn nth_bytes(i: usize) -> &'static [u8] {
    let start = if i == 0 { 0 } else { ENDS[i - 1] };
    &NAMES.as_bytes()[usize::from(start)..usize::from(ENDS[i])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_nothing_else() {
        for s in Syscall::all() {
            assert_eq!(Syscall::from_name(s.name()), Some(s), "{}", s.name());
            assert_eq!(Syscall::at(s.place() as u16), Some(s));
        }
        assert_eq!(Syscall::at(COUNT as u16), None);
        for name in ["", "rea", "readx", "zzz", "__NR_read", "Read", "é"] {
            assert_eq!(Syscall::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_found_in_any_order() {
        let all: Vec<Syscall> = Syscall::all().collect();
        for step in [1, 3, 7, 250] {
            let mut lookup = Lookup::default();
            for s in all.iter().cycle().step_by(step).take(all.len()) {
                assert_eq!(lookup.find(s.name()), Some(*s), "{}", s.name());
                assert_eq!(lookup.find("zzz"), None);
            }
        }
    }
}
