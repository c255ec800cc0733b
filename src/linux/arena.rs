// SPDX-License-Identifier: Apache-2.0
//! The program's memory: one place after the other, from a piece of the program's own zeroed memory and then from larger ones of the
//! kernel's. `main.rs` makes it the global allocator.
//!
//! A command lives for milliseconds and needs some ten kilobytes: the C library's allocator would ask the kernel for more than that, in
//! many calls, and touch more pages than it hands out; each page touched is a fault here, and one more in the process that is cloned.
//! The few commands that live longer (a foreground run, events) free as much as they take: what is freed is handed out again, by size
//! class, so their memory does not grow. Nothing goes back to the kernel before the end, but for the [`Past`] of a process that waits.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{null_mut, write_bytes};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

const PAGE: usize = 4096;
/// The first piece, in bytes. Pages of it that are never touched cost nothing.
const FIRST: usize = 256 << 10;
/// Each further piece.
const PIECE: usize = 1 << 20;
/// Sizes are rounded up to a multiple of this, which every place is aligned to.
const STEP: usize = 16;
/// The largest size that the arena hands out; larger ones are the C library's, which maps each by itself.
const LARGEST: usize = 128 << 10;
/// Sizes up to here have a class for each multiple of [`STEP`]; larger ones four classes from one power of two to the next.
const FINE: usize = 512;
const CLASSES: usize = FINE / STEP + 4 * (LARGEST / FINE).ilog2() as usize;

/// Whether another process has come to have a copy of this memory.
static SHARED: AtomicBool = AtomicBool::new(false);

/// Tells the arena that this process has been cloned, or is the clone. The kernel copies each page that either of them writes to from
/// now on: what is taken comes from new pages, and what was taken before is not given back. That holds for the first clone: a command
/// that lives long and clones often shall not grow.
pub fn share() {
    SHARED.store(true, Ordering::Relaxed);
}

/// The program's arena, where it has one.
static PROGRAMS: AtomicPtr<Arena> = AtomicPtr::new(null_mut());

/// Says which arena is the program's global allocator. `main.rs` calls it.
pub fn announce(arena: &'static Arena) {
    PROGRAMS.store((arena as *const Arena).cast_mut(), Ordering::Relaxed);
}

/// The allocator. What it knows of its memory lies before the memory: on the page that is written to anyway.
#[repr(C)]
pub struct Arena {
    inner: UnsafeCell<Inner>,
    first: UnsafeCell<Piece>,
}

#[repr(C, align(16))]
struct Piece([u8; FIRST]);

struct Inner {
    /// From here on nothing has been handed out.
    next: usize,
    end: usize,
    /// From here on nothing has ever been handed out: it is zero.
    untouched: usize,
    /// Places of the first piece below this one are shared with another process, or the past's, and not used again. 0: none is.
    own: usize,
    /// The last of the further pieces, which begins with the address of the one before it. 0: there is none.
    last: usize,
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
#[inline(always)]
fn class(size: usize) -> (usize, usize) {
    if size <= FINE {
        let steps = size.div_ceil(STEP).max(1);
        return (steps - 1, steps * STEP);
    }
    large_class(size)
}

#[inline(never)]
fn large_class(size: usize) -> (usize, usize) {
    let power = (size - 1).ilog2();
    let quarter = 1 << (power - 2);
    let steps = size.div_ceil(quarter); // 5 to 8
    (FINE / STEP + 4 * (power - FINE.ilog2()) as usize + steps - 5, steps * quarter)
}

impl Arena {
    /// Memory that nothing has been taken of. Zeroes, so that it takes no room in the program's file.
    pub const fn new() -> Arena {
        Arena {
            inner: UnsafeCell::new(Inner { next: 0, end: 0, untouched: 0, own: 0, last: 0, free: [0; CLASSES] }),
            first: UnsafeCell::new(Piece([0; FIRST])),
        }
    }

    /// Lets `work` have the arena.
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        // SAFETY: there is one thread, and `work` does not allocate.
        let inner = unsafe { &mut *self.inner.get() };
        if inner.own == 0 && SHARED.load(Ordering::Relaxed) {
            self.part(inner);
        }
        work(inner)
    }

    /// Goes on with a page that nobody has touched, where there is one in the first piece.
    fn part(&self, inner: &mut Inner) {
        let first = self.first.get() as usize;
        inner.own = first;
        let next = inner.next.max(inner.untouched).next_multiple_of(PAGE);
        if inner.next >= first && inner.end == first + FIRST && next < inner.end {
            (inner.next, inner.own) = (next, next);
            inner.free = [0; CLASSES];
        }
    }

    /// A place of this class, and how many of its bytes, from the first on, may be other than zero; null where the kernel has no more memory.
    fn take(&self, inner: &mut Inner, class: usize, room: usize) -> (*mut u8, usize) {
        let freed = inner.free[class];
        if freed != 0 {
            // SAFETY: a freed place of this class, whose first word is where the next one is.
            inner.free[class] = unsafe { *(freed as *const usize) };
            return (freed as *mut u8, room);
        }
        if inner.end - inner.next < room && !self.more(inner, room) {
            return (null_mut(), 0);
        }
        let place = inner.next;
        let used = inner.untouched.saturating_sub(place).min(room);
        inner.reach(place + room);
        (place as *mut u8, used)
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
        let piece = piece as usize;
        // SAFETY: the piece's first word, which is nobody else's.
        unsafe { *(piece as *mut usize) = inner.last };
        (inner.last, inner.next, inner.end) = (piece, piece + STEP, piece + PIECE);
        inner.untouched = inner.next;
        true
    }

    /// Goes on with pages that nothing has been taken of, and with no place that was freed before.
    fn begin_anew(&'static self) -> Option<Past> {
        self.with(|inner| {
            let next = inner.next.max(inner.untouched).next_multiple_of(PAGE);
            if next < inner.end {
                inner.reach(next);
            } else if inner.end == 0 || !self.more(inner, 0) {
                return None;
            }
            let first = self.first.get() as usize;
            inner.own = if inner.last == 0 { inner.next } else { first + FIRST };
            inner.free = [0; CLASSES];
            Some(Past { arena: self, next: inner.next, piece: inner.last })
        })
    }
}

/// What was taken from the program's arena up to a moment, and lies apart from what has been taken since.
#[derive(Clone, Copy)]
pub struct Past {
    arena: &'static Arena,
    /// Where it went on.
    next: usize,
    /// In which of the further pieces; 0: in the first one.
    piece: usize,
}

/// Ends the past of the program's arena: what is taken from now on lies on pages that nothing was taken of before. None where the program
/// has no arena, or the kernel no more memory.
pub fn begin_anew() -> Option<Past> {
    // SAFETY: null, or what `announce` was given, which lives as long as the program.
    let arena = unsafe { PROGRAMS.load(Ordering::Relaxed).as_ref() }?;
    arena.begin_anew()
}

impl Past {
    /// From where to where the arena itself is, with its first piece.
    pub fn arena(&self) -> (usize, usize) {
        let start = self.arena as *const Arena as usize;
        (start, start + size_of::<Arena>())
    }

    /// Calls `each` with the whole pages of the past, from where to where: one piece after the other, which `each` may overwrite.
    pub fn each_piece(&self, mut each: impl FnMut(usize, usize)) {
        let first = self.arena.first.get() as usize;
        each(first.next_multiple_of(PAGE), if self.piece == 0 { self.next } else { first + FIRST });
        let (mut piece, mut end) = (self.piece, self.next);
        while piece != 0 {
            // SAFETY: the first word of a further piece.
            let before = unsafe { *(piece as *const usize) };
            each(piece, end & !(PAGE - 1));
            (piece, end) = (before, before + PIECE);
        }
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
            if (self.first.get() as usize..inner.own).contains(&(place as usize)) {
                return;
            }
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
        let (place, used) = self.with(|inner| self.take(inner, class, room));
        if used > 0 {
            // SAFETY: the place is nobody else's, and at least as large.
            unsafe { write_bytes(place, 0, used.min(layout.size())) };
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

    #[test]
    fn a_clone_leaves_what_was_there_alone() {
        let arena = Box::leak(Box::new(Arena::new()));
        let (text, list) = (layout(100, 1), layout(2000, 8));
        // SAFETY: each place is given back once, by the layout it came with.
        unsafe {
            let (one, two, three) = (arena.alloc(text), arena.alloc(list), arena.alloc(text));
            arena.dealloc(one, text);
            write_bytes(two, 7, 2000);
            arena.with(|inner| arena.part(inner));
            let shared =
                |own: usize| std::slice::from_raw_parts(arena.first.get().cast::<u8>(), own - arena.first.get() as usize);
            let own = arena.with(|inner| inner.own);
            let before = shared(own).to_vec();
            let new = arena.alloc(text);
            assert!(new as usize >= three as usize + 100 && (new as usize).is_multiple_of(4096));
            let grown = arena.realloc(two, list, 3000);
            assert!((0..2000).all(|byte| *grown.add(byte) == 7));
            arena.dealloc(three, text);
            assert!(shared(own) == before);
            // What is taken from then on is handed out again.
            let one = arena.alloc(list);
            let last = arena.alloc(text);
            arena.dealloc(one, list);
            assert_eq!(arena.alloc(list), one);
            assert!(last > one);
        }
    }

    #[test]
    fn the_past_is_apart_from_what_comes_after() {
        let text = layout(1000, 1);
        // It ends in the first piece, at its very end, and in a further one.
        for taken in [10_000, FIRST - 3000, FIRST + 3 * PIECE / 2, FIRST + 2 * PIECE] {
            let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
            // SAFETY: each place is used as large as it was taken, and what is overwritten is not used again.
            unsafe {
                let old: Vec<usize> = (0..taken / 1024).map(|_| arena.alloc(text) as usize).collect();
                arena.dealloc(old[0] as *mut u8, text);
                let past = arena.begin_anew().unwrap();
                let new: Vec<usize> = (0..3000).map(|_| arena.alloc(text) as usize).collect();
                new.iter().for_each(|place| write_bytes(*place as *mut u8, 7, 1000));
                let mut pieces = Vec::new();
                past.each_piece(|start, end| pieces.push((start, end)));
                let is_past = |place: usize| pieces.iter().any(|(start, end)| place + 1000 > *start && place < *end);
                // The arena's own page may hold some, and the last page of a piece.
                assert!(old.iter().filter(|place| !is_past(**place)).count() <= PAGE / 1024, "{taken}");
                assert!(!new.iter().any(|place| is_past(*place)), "{taken}");
                past.each_piece(|start, end| write_bytes(start as *mut u8, 0xA5, end - start));
                assert!(new.iter().all(|place| (0..1000).all(|at| *((place + at) as *const u8) == 7)), "{taken}");
                new.iter().for_each(|place| arena.dealloc(*place as *mut u8, text));
                assert!((0..3000).all(|_| !is_past(arena.alloc(text) as usize)), "{taken}");
            }
        }
    }

    /// What was used below and was not used above: both are zero.
    #[test]
    fn what_begins_in_used_memory_is_zeroed_as_far_as_that_goes() {
        let arena = Box::leak(Box::new(Arena::new()));
        let (small, large) = (layout(3000, 1), layout(20_000, 1));
        // SAFETY: each place is given back once, by the layout it came with.
        unsafe {
            let place = arena.alloc(small);
            write_bytes(place, 7, 3000);
            arena.dealloc(place, small);
            let same = arena.alloc_zeroed(large);
            assert_eq!(place, same);
            assert!((0..20_000).all(|byte| *same.add(byte) == 0));
            write_bytes(same, 7, 20_000);
            arena.dealloc(same, large);
            let again = arena.alloc_zeroed(large);
            assert!((0..20_000).all(|byte| *again.add(byte) == 0));
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
