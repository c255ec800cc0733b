// SPDX-License-Identifier: Apache-2.0
//! The program's memory: one place after the other, from a piece of the program's own zeroed memory and then from larger ones of the
//! kernel's. `main.rs` makes it the global allocator.
//!
//! A command lives for milliseconds and needs some ten kilobytes: the C library's allocator would ask the kernel for more than that, in
//! many calls, and touch more pages than it hands out; each page touched is a fault here, and one more in the process that is cloned.
//! The few commands that live longer (a foreground run, events) free as much as they take: what is freed is handed out again, by size
//! class, so their memory does not grow. Nothing goes back to the kernel before the end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{null_mut, write_bytes};

/// The first piece, in bytes. Pages of it that are never touched cost nothing.
const FIRST: usize = 256 << 10;
/// Each further piece.
const PIECE: usize = 1 << 20;
/// Sizes are rounded up to a multiple of this, which every place is aligned to.
const STEP: usize = 16;
/// The largest size that the arena hands out; larger ones are the C library's, which maps each by itself.
const LARGEST: usize = 128 << 10;
/// Sizes up to here have a class for each multiple of [`STEP`]; larger ones a class for each power of two.
const FINE: usize = 512;
const CLASSES: usize = FINE / STEP + (LARGEST / FINE).ilog2() as usize;

/// The allocator.
pub struct Arena {
    first: UnsafeCell<Piece>,
    inner: UnsafeCell<Inner>,
}

#[repr(C, align(4096))]
struct Piece([u8; FIRST]);

struct Inner {
    /// From here on nothing has been handed out.
    next: usize,
    end: usize,
    /// From here on nothing has ever been handed out: it is zero.
    untouched: usize,
    /// Freed places of each class: the address of the first, which holds that of the second.
    free: [usize; CLASSES],
}

impl Inner {
    /// Hands out everything up to here.
    fn reach(&mut self, next: usize) {
        self.next = next;
        self.untouched = self.untouched.max(next);
    }
}

// SAFETY: the runtime has one thread (clippy.toml lets nothing make another), and no handler of a signal allocates. To ask each time who
// holds the arena would cost two locked instructions for each of thousands of places.
unsafe impl Sync for Arena {}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

/// The class of a size and how large its places are.
fn class(size: usize) -> (usize, usize) {
    if size <= FINE {
        let steps = size.div_ceil(STEP).max(1);
        return (steps - 1, steps * STEP);
    }
    let room = size.next_power_of_two();
    (FINE / STEP + (room / FINE).ilog2() as usize - 1, room)
}

impl Arena {
    /// Memory that nothing has been taken of. Zeroes, so that it takes no room in the program's file.
    pub const fn new() -> Arena {
        Arena {
            first: UnsafeCell::new(Piece([0; FIRST])),
            inner: UnsafeCell::new(Inner { next: 0, end: 0, untouched: 0, free: [0; CLASSES] }),
        }
    }

    /// Lets `work` have the arena.
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        // SAFETY: there is one thread, and `work` does not allocate.
        work(unsafe { &mut *self.inner.get() })
    }

    /// A place of this class, and whether it is all zeroes; null where the kernel has no more memory.
    fn take(&self, inner: &mut Inner, class: usize, room: usize) -> (*mut u8, bool) {
        let freed = inner.free[class];
        if freed != 0 {
            // SAFETY: a freed place of this class, whose first word is where the next one is.
            inner.free[class] = unsafe { *(freed as *const usize) };
            return (freed as *mut u8, false);
        }
        if inner.end - inner.next < room && !self.more(inner, room) {
            return (null_mut(), false);
        }
        let place = inner.next;
        let zero = place >= inner.untouched;
        inner.reach(place + room);
        (place as *mut u8, zero)
    }

    /// Begins a new piece; what is left of the old one stays unused.
    fn more(&self, inner: &mut Inner, room: usize) -> bool {
        if inner.end == 0 {
            inner.next = self.first.get() as usize;
            inner.end = inner.next + FIRST;
            inner.untouched = inner.next;
            return room <= FIRST;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, anywhere.
        let piece = unsafe { libc::mmap(null_mut(), PIECE, protection, flags, -1, 0) };
        if piece == libc::MAP_FAILED {
            return false;
        }
        inner.next = piece as usize;
        inner.end = inner.next + PIECE;
        inner.untouched = inner.next;
        true
    }
}

fn is_ours(layout: Layout) -> bool {
    layout.size() <= LARGEST && layout.align() <= STEP
}

// Never inlined: at each of the thousands of places that allocate, it would be a third of the program.
//
// SAFETY: a place is handed out to one owner at a time, as large as its class and aligned to STEP; what is too large or aligned further is
// the system allocator's, always by the same test of the same layout.
unsafe impl GlobalAlloc for Arena {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_ours(layout) {
            // SAFETY: the caller's promises are those that it asks for.
            return unsafe { System.alloc(layout) };
        }
        let (class, room) = class(layout.size());
        self.with(|inner| self.take(inner, class, room)).0
    }

    #[inline(never)]
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if !is_ours(layout) {
            // SAFETY: it has come from there.
            return unsafe { System.dealloc(place, layout) };
        }
        let (class, room) = class(layout.size());
        self.with(|inner| {
            if place as usize + room == inner.next {
                inner.next = place as usize;
                return;
            }
            // SAFETY: the place is nobody's now, and holds at least STEP bytes, aligned to STEP.
            unsafe { *place.cast::<usize>() = inner.free[class] };
            inner.free[class] = place as usize;
        });
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !is_ours(layout) {
            // SAFETY: the caller's promises are those that it asks for.
            return unsafe { System.alloc_zeroed(layout) };
        }
        let (class, room) = class(layout.size());
        let (place, zero) = self.with(|inner| self.take(inner, class, room));
        if !place.is_null() && !zero {
            // SAFETY: the place is nobody else's, and at least as large.
            unsafe { write_bytes(place, 0, layout.size()) };
        }
        place
    }

    #[inline(never)]
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that this size, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if is_ours(layout) && is_ours(wanted) {
            let ((_, room), (_, needed)) = (class(layout.size()), class(size));
            if room == needed {
                return place;
            }
            // The last place grows where it is.
            let grown = self.with(|inner| {
                let last = place as usize + room == inner.next && place as usize + needed <= inner.end;
                if last {
                    inner.reach(place as usize + needed);
                }
                last
            });
            if grown {
                return place;
            }
        } else if !is_ours(layout) && !is_ours(wanted) {
            // SAFETY: it has come from there, and stays there.
            return unsafe { System.realloc(place, layout, size) };
        }
        // SAFETY: the new place is another one, both hold what is copied, and the old one is given back by the layout it came with.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(place, new, layout.size().min(size));
                self.dealloc(place, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn every_size_has_a_class_of_its_own_room() {
        let mut seen = [0; CLASSES];
        for size in 0..=LARGEST {
            let (class, room) = class(size);
            assert!(room >= size.max(1) && room % STEP == 0);
            assert!(seen[class] == 0 || seen[class] == room, "{size}");
            seen[class] = room;
        }
        assert!(seen.iter().all(|room| *room != 0));
    }

    #[test]
    fn what_is_freed_is_handed_out_again() {
        let arena = Box::leak(Box::new(Arena::new()));
        // SAFETY: each place is given back once, by the layout it came with.
        unsafe {
            let mut reached = 0;
            // As a loop of events does: many thousand times what is there to begin with.
            for round in 0..20_000usize {
                let (text, list) = (layout(100 + round % 300, 1), layout(2000 + round % 100, 8));
                let (one, two) = (arena.alloc(text), arena.alloc(list));
                let two = arena.realloc(two, list, 5000);
                arena.dealloc(one, text);
                arena.dealloc(two, layout(5000, 8));
                reached = reached.max(arena.with(|inner| inner.next - arena.first.get() as usize));
            }
            assert!(reached < FIRST, "{reached} bytes in use");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Places do not overlap, keep what is in them, and are aligned.
        #[test]
        fn places_are_apart(steps in prop::collection::vec((0usize..3, 0usize..200_000, 0usize..8), 1..120)) {
            let arena = Box::leak(Box::new(Arena::new()));
            let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (number, (kind, size, which)) in steps.into_iter().enumerate() {
                let size = if which < 6 { size % 3000 } else { size }.max(1);
                let mark = number as u8;
                // SAFETY: each place is used only while it is live, by the layout it came with.
                unsafe {
                    match kind {
                        0 if !live.is_empty() => {
                            let (place, old, _) = live.swap_remove(which % live.len());
                            arena.dealloc(place, old);
                        }
                        1 if !live.is_empty() => {
                            let at = which % live.len();
                            let (place, old, was) = live[at];
                            let new = arena.realloc(place, old, size);
                            prop_assert!((0..old.size().min(size)).all(|byte| *new.add(byte) == was));
                            let new_layout = layout(size, old.align());
                            write_bytes(new, mark, size);
                            live[at] = (new, new_layout, mark);
                        }
                        _ => {
                            let wanted = layout(size, 1 << (which % 7));
                            let place = arena.alloc_zeroed(wanted);
                            prop_assert_eq!(place as usize % wanted.align(), 0);
                            prop_assert!((0..size).all(|byte| *place.add(byte) == 0));
                            write_bytes(place, mark, size);
                            live.push((place, wanted, mark));
                        }
                    }
                    for (place, layout, mark) in &live {
                        prop_assert!((0..layout.size()).all(|byte| *place.add(byte) == *mark));
                    }
                }
            }
        }
    }
}
