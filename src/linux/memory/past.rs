// SPDX-License-Identifier: Apache-2.0
//! The past of a process: most of what it has taken by the time at which it waits for hours was for what it has done by then. It goes on
//! with a copy of what it still needs, and gives the rest back.
//!
//! Nothing that is used from then on may lie in the past. What could, and why it does not:
//!
//! - **The frames of the stack** above: [`leave_behind`] does not return, and what it goes on with borrows nothing (`'static`).
//! - **A place that what it goes on with owns.** That is made by a function that can move nothing into it (`Fn`), and can only copy; copies
//!   share nothing with the original as long as there is no `Rc`, no `Arc` and no leaked reference in it. This is the caller's to know.
//! - **A variable of the program** or of a library, or the environment. The environment is copied as well. Variables of our own hold no
//!   address; those of the standard library (the buffers of its streams, the handle of its thread) are not used here. A debug build looks
//!   through all of them, one word after the other, for an address in the past, and ends where it finds one.
//!
//! A debug build overwrites the past instead of giving it back, so that whatever leads there by ways that nobody has thought of comes to
//! no good in the first test of a container that is created and started.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{PAGE, Pieces, call};
use crate::linux::arena::{self, Past};
use crate::linux::environment;

/// What is written over the past in debug builds.
const OVER: u8 = 0xA5;
/// The size of an address.
const WORD: usize = size_of::<usize>();

/// Where the words of the command line and the environment are listed, on the stack: 0 is unknown. Below it lie the program's frames.
static WORDS: AtomicUsize = AtomicUsize::new(0);

/// Says where execve(2) has put the list of words. Called once, before anything else.
pub fn announce_stack(words: usize) {
    WORDS.store(words, Ordering::Relaxed);
}

/// What is gone on with: a copy of what is needed, and descriptors.
pub type Kept<T, const N: usize> = (T, [Option<OwnedFd>; N]);

/// Goes on in `go_on` with what `copy` makes, and gives back all other memory that the program has taken from its arena or its stack.
/// What `copy` makes shares nothing with what was there before.
pub fn leave_behind<T: 'static, const N: usize>(
    fds: [Option<OwnedFd>; N],
    copy: impl Fn() -> T,
    go_on: fn(&'static mut Kept<T, N>) -> !,
) -> ! {
    let past = arena::begin_anew();
    environment::move_on();
    let kept = Box::leak(Box::new((copy(), fds)));
    let here = std::hint::black_box(0u8);
    leave(past, &raw const here as usize, kept, go_on)
}

/// The rest of it, in a frame of its own: below the caller's, in which `above` is an address.
#[inline(never)]
fn leave<T>(past: Option<Past>, above: usize, kept: &'static mut T, go_on: fn(&'static mut T) -> !) -> ! {
    if let Some(past) = past {
        if cfg!(debug_assertions) {
            let leads = leads_to(&past).map(|at| (at.wrapping_sub(past.arena().0) as isize, at));
            assert!(
                leads.is_none(),
                "a variable leads to what was to be left behind: {leads:#x?}, from the arena on and from 0 on"
            );
        }
        let words = WORDS.load(Ordering::Relaxed) & !(PAGE - 1);
        // SAFETY: nothing leads there, as said above. What lies above that address are frames that nobody returns to, up to the lists of
        // words; of the arena's pages none is handed out again.
        unsafe {
            past.each_piece(|start, end| give_back(start, end));
            give_back(above.next_multiple_of(PAGE), words);
        }
    }
    go_on(kept)
}

/// Gives whole pages back to the kernel. They are zero from then on.
///
/// # Safety
/// Anonymous memory of this process that may be written to, whose content nobody needs.
unsafe fn give_back(start: usize, end: usize) {
    if start >= end {
        return;
    }
    // SAFETY: as the caller promises.
    unsafe {
        if cfg!(debug_assertions) {
            std::ptr::write_bytes(start as *mut u8, OVER, end - start);
        } else {
            call(libc::SYS_madvise, start, end - start, libc::MADV_DONTNEED as usize);
        }
    }
}

/// The address of a variable that leads to the past, as far as can be seen. For debug builds.
fn leads_to(past: &Past) -> Option<usize> {
    let leads_there = |word: usize| {
        let mut found = false;
        past.each_piece(|start, end| found |= (start..end).contains(&word));
        found
    };
    let mut statics = Statics { arena: past.arena(), ..Statics::default() };
    // SAFETY: the callback gets `statics` back, which lives until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(note_statics), (&raw mut statics).cast()) };
    let words = WORDS.load(Ordering::Relaxed);
    if words != 0 {
        statics.pieces.add(words, words.next_multiple_of(PAGE));
    }
    // SAFETY: variables, which the program has loaded, or the rest of a page of its stack: all may be read, and no other thread writes.
    statics.pieces.list[..statics.pieces.count].iter().find_map(|(start, length)| unsafe { find(*start, *length, leads_there) })
}

/// The address of a word there that is such.
///
/// # Safety
/// All of it may be read.
unsafe fn find(start: usize, length: usize, is_such: impl Fn(usize) -> bool) -> Option<usize> {
    let mut words = (start.next_multiple_of(WORD)..start + length + 1 - WORD).step_by(WORD);
    // Volatile: some of it may have no value, which is as good as any.
    // SAFETY: as the caller promises.
    words.find(|at| is_such(unsafe { (*at as *const usize).read_volatile() }))
}

/// Memory of variables.
#[derive(Default)]
struct Statics {
    /// What is none: the arena.
    arena: (usize, usize),
    pieces: Pieces,
}

/// Notes what a loaded program or library may write to once it runs, without what it only relocates, and what it has of its thread;
/// dl_iterate_phdr(3).
unsafe extern "C" fn note_statics(info: *mut libc::dl_phdr_info, size: usize, statics: *mut libc::c_void) -> libc::c_int {
    // SAFETY: both pointers are good until the callback returns.
    let (info, statics) = unsafe { (&*info, &mut *statics.cast::<Statics>()) };
    // SAFETY: as above.
    let headers = unsafe { super::headers(info) };
    // What an object's addresses count from may lie below 0: that of a vDSO which is not where it was linked to be.
    let place = |header: &libc::Elf64_Phdr| {
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        (start, start.wrapping_add(header.p_memsz as usize))
    };
    let relocated = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO).map(place).unwrap_or_default();
    for header in headers {
        let (start, end) = place(header);
        match header.p_type {
            libc::PT_LOAD if header.p_flags & libc::PF_W != 0 => {
                let start = if (relocated.0..relocated.1).contains(&start) { relocated.1.min(end) } else { start };
                let (arena, after) = statics.arena;
                let holds = (start..end).contains(&arena);
                statics.pieces.add(start, if holds { arena } else { end });
                if holds {
                    statics.pieces.add(after, end);
                }
            }
            libc::PT_TLS if size >= size_of::<libc::dl_phdr_info>() && !info.dlpi_tls_data.is_null() => {
                let start = info.dlpi_tls_data as usize;
                statics.pieces.add(start, start + header.p_memsz as usize);
            }
            _ => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::arena::Arena;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
    use crate::linux::test_child::in_child;
    use crate::linux::{fd, pid};

    static LEADS: AtomicUsize = AtomicUsize::new(0);

    fn go_on((text, [writer]): &'static mut Kept<String, 1>) -> ! {
        let sent = writer.take().is_some_and(|writer| fd::write_all(writer, text.as_bytes()).is_ok());
        exit_now(if sent { 7 } else { 1 })
    }

    /// A process that goes on with a copy, after `before`; what it said, and how it ended.
    fn life(before: impl FnOnce()) -> (Vec<u8>, pid::Exit) {
        let (reader, writer) = fd::pipe().unwrap();
        let text = "kept".to_string();
        let Cloned::Parent { pidfd, .. } = clone3(&CloneArgs::default()).unwrap() else {
            before();
            leave_behind([Some(writer)], || text.clone(), go_on);
        };
        drop(writer);
        (fd::read_bounded(&reader, 100).unwrap(), pid::wait(&pidfd).unwrap())
    }

    /// An arena of the program, and a place in it.
    fn arena() -> usize {
        let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
        arena::announce(arena);
        let layout = std::alloc::Layout::from_size_align(20_000, 8).unwrap();
        // SAFETY: a place of its own, which is not used.
        unsafe { std::alloc::GlobalAlloc::alloc(arena, layout) as usize }
    }

    #[test]
    fn a_process_goes_on_with_a_copy() {
        in_child(|| {
            assert_eq!(life(|| {}), (b"kept".to_vec(), pid::Exit::Code(7)));
            // As if the program had begun in the midst of this: all frames below are overwritten, and nothing above, which is the thread's.
            let room = std::hint::black_box([0u8; 3 * PAGE]);
            let words = (room.as_ptr() as usize).next_multiple_of(PAGE) + PAGE;
            let before = || {
                arena();
                announce_stack(words);
            };
            assert_eq!(life(before), (b"kept".to_vec(), pid::Exit::Code(7)));
        });
    }

    #[test]
    fn a_variable_that_leads_to_the_past_is_seen() {
        in_child(|| {
            let place = arena();
            let past = arena::begin_anew().unwrap();
            assert_eq!(leads_to(&past), None);
            LEADS.store(place + 10_000, Ordering::Relaxed);
            assert_eq!(leads_to(&past), Some(LEADS.as_ptr() as usize));
        });
    }
}
