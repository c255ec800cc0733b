// SPDX-License-Identifier: Apache-2.0
//! Before the C library begins, two things. First, commands that put a process into a container go on through a read-only view of the
//! program's file ([`super::view`]). Second, the pages that a command is going to write to are taken at once.
//!
//! `hack/build` makes `berth_entry` the entry point; without that flag of the linker everything works as well, later and slower.
//!
//! Nothing here and in [`super::view`] may use what the C library has not set up yet: no thread-local storage, no pointer that is in memory
//! (it is not relocated), and no function of any library, in an unoptimised build not even of `core`. What is left is arithmetic on
//! addresses.

use core::arch::{asm, global_asm};

use super::view::run_through_view;

// The stack pointer leads to what execve(2) laid out. `_start` is the C library's; rdx is what atexit(3) shall call, which is
// nothing in a static program. Room is made here for what system calls fill: zeroing it would be a call of memset(3).
global_asm!(
    ".globl berth_entry",
    ".type berth_entry,@function",
    "berth_entry:",
    "xor %ebp, %ebp",
    "mov %rsp, %rbx",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "sub ${room}, %rsp",
    "mov %rsp, %rsi",
    "lea __ehdr_start(%rip), %rdx",
    "call {view}",
    // What comes back is the kind of command.
    "mov %eax, %esi",
    "mov %rbx, %rdi",
    "lea __ehdr_start(%rip), %rdx",
    "call {touch}",
    "mov %rbx, %rsp",
    "xor %edx, %edx",
    "jmp _start",
    room = const ROOM,
    view = sym run_through_view,
    touch = sym touch,
    options(att_syntax)
);

// What musl calls before `main`, in place of the `_init` of crti.o, which does nothing either, but lies behind all other code: a page fault,
// and 64 KiB that are resident, of every command (hack/link-hot).
#[cfg(target_env = "musl")]
global_asm!(".globl __wrap__init", ".type __wrap__init,@function", "__wrap__init:", "ret", options(att_syntax));

unsafe extern "C" {
    /// The entry point.
    pub fn berth_entry();
    /// Nothing.
    #[cfg(target_env = "musl")]
    fn __wrap__init();
}

/// Bytes for what system calls fill.
pub const ROOM: usize = 1024;
/// The size of an address.
pub const WORD: usize = 8;
/// The size of a page.
pub const PAGE: usize = 4096;

/// A command that puts no process into a container.
pub const OTHER: u32 = 0;
/// One that puts one into a container that exists.
pub const EXEC: u32 = 1;
/// One that makes a container for it.
pub const CREATE: u32 = 2;

/// One system call; what it needs lives on.
pub unsafe fn call(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    // SAFETY: as the caller says.
    unsafe { call_six(number, a, b, c, d, e, 0) }
}

/// One system call of six arguments; what it needs lives on.
pub unsafe fn call_six(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize {
    let answer;
    // SAFETY: as the caller says of this call; the kernel leaves all other registers.
    unsafe {
        asm!("syscall", inlateout("rax") number as usize => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// The address or number at this address.
pub unsafe fn word(at: usize) -> usize {
    // SAFETY: the caller has seen that the list goes on up to here.
    unsafe { *(at as *const usize) }
}

/// Whether the string at this address begins with `with`; with a NUL at its end, whether it is that.
pub unsafe fn begins(text: usize, with: &[u8]) -> bool {
    let mut at = 0;
    while at < with.len() {
        // SAFETY: all bytes before this one were equal, and none of them NUL: the string has this one.
        if unsafe { *((text + at) as *const u8) } != with[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Where the first program header is (elf(5)); `program` is where the file's first byte is in memory.
pub unsafe fn first_header(program: usize) -> usize {
    // SAFETY: an ELF header.
    unsafe { program + word(program + 32) }
}

/// Where the program headers end.
pub unsafe fn headers_end(program: usize) -> usize {
    // SAFETY: an ELF header.
    unsafe { first_header(program) + (word(program + 56) & 0xffff) * HEADER }
}

/// The size of a program header, and where in it there is what of a loadable piece (PT_LOAD): its place in the file, that in memory, how
/// much of it the file has, and how large it is in memory, where the rest is zero.
pub const HEADER: usize = 56;
pub const OFFSET: usize = 8;
pub const ADDRESS: usize = 16;
pub const IN_FILE: usize = 32;
pub const IN_MEMORY: usize = 40;

/// PF_R, PF_W and PF_X of a loadable piece; 0 where the header is something else's.
pub unsafe fn loaded(header: usize) -> u32 {
    // SAFETY: a program header.
    let kind = unsafe { word(header) };
    if kind as u32 == libc::PT_LOAD { (kind >> 32) as u32 } else { 0 }
}

/// Takes at once the pages that every command is going to write to, which otherwise is a fault for each: what is relocated, what else
/// has a value to begin with, the beginning of what has none (the arena), and the stack. `stack` is where that is, `program` where the
/// file's first byte is in memory.
unsafe extern "C" fn touch(stack: usize, kind: u32, program: usize) {
    /// Linux 5.14. Where it fails, there are faults.
    const MADV_POPULATE_WRITE: usize = 23;
    // Of the beginning of the arena, and of the stack: what is written to in any case, as page faults show it. Each page too many
    // costs more than a fault too many.
    let (heap, deep) = match kind {
        OTHER => (2 * PAGE, 4 * PAGE),
        EXEC => (8 * PAGE, 4 * PAGE),
        _ => (22 * PAGE, 5 * PAGE),
    };
    // SAFETY: this is our own memory, and nothing of it changes.
    unsafe {
        let (mut from, mut to, mut end) = (0, 0, 0);
        let (mut header, headers_end) = (first_header(program), headers_end(program));
        while header < headers_end {
            if loaded(header) & libc::PF_W != 0 {
                let address = program + word(header + ADDRESS);
                if from == 0 {
                    from = address & !(PAGE - 1);
                }
                to = address + word(header + IN_FILE);
                end = address + word(header + IN_MEMORY);
            }
            header += HEADER;
        }
        let to = if to + heap < end { to + heap } else { end };
        call(libc::SYS_madvise, from, to - from, MADV_POPULATE_WRITE, 0, 0);
        let bottom = (stack - deep) & !(PAGE - 1);
        call(libc::SYS_madvise, bottom, stack - bottom, MADV_POPULATE_WRITE, 0, 0);
    }
}

/// Keeps the entry point in the program, whoever links it.
#[used]
static ENTRY: unsafe extern "C" fn() = berth_entry;
#[cfg(target_env = "musl")]
#[used]
static INIT: unsafe extern "C" fn() = __wrap__init;
