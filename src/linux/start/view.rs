// SPDX-License-Identifier: Apache-2.0
//! Before the C library begins, two things. First, commands that put a process into a container run the program again through a read-only view of its file
//! ([`crate::linux::exe`] says why, and does it in the cases that are left over here: no CAP_SYS_ADMIN, or a caller's seccomp filter).
//!
//! Running the program twice costs its start twice: the C library asks the processor for its features (68 times, each a trip to the
//! hypervisor in a virtual machine), relocates the program, and so on. So the first of the two runs does nothing but that: four system
//! calls at the entry point, the last of them execveat(2). `hack/build` makes `berth_entry` the entry point; without that flag of the
//! linker everything works as well, later and slower.
//!
//! Second, the pages that a command is going to write to are taken at once.
//!
//! Nothing here may use what the C library has not set up yet: no thread-local storage, no pointer that is in memory (it is not relocated),
//! and no function of any library, in an unoptimised build not even of `core`. What is left is arithmetic on addresses.

#[cfg(all(target_arch = "x86_64", not(test)))]
mod early {
    use core::arch::{asm, global_asm};

    // The stack pointer leads to what execve(2) laid out. `_start` is the C library's; rdx is what atexit(3) shall call, which is
    // nothing in a static program. Room is made here for a struct statfs: zeroing it would be a call of memset(3).
    global_asm!(
        ".globl berth_entry",
        ".type berth_entry,@function",
        "berth_entry:",
        "xor %ebp, %ebp",
        "mov %rsp, %rbx",
        "mov %rsp, %rdi",
        "and $-16, %rsp",
        "sub $128, %rsp",
        "mov %rsp, %rsi",
        "call {view}",
        // What comes back is the kind of command.
        "mov %eax, %esi",
        "mov %rbx, %rdi",
        "lea __ehdr_start(%rip), %rdx",
        "call {touch}",
        "mov %rbx, %rsp",
        "xor %edx, %edx",
        "jmp _start",
        view = sym run_through_view,
        touch = sym touch,
        options(att_syntax)
    );

    unsafe extern "C" {
        /// The entry point.
        pub fn berth_entry();
    }

    /// The size of an address.
    const WORD: usize = 8;

    /// A command that puts no process into a container.
    const OTHER: u32 = 0;
    /// One that puts one into a container that exists.
    const EXEC: u32 = 1;
    /// One that makes a container for it.
    const CREATE: u32 = 2;

    /// One system call; what it needs lives on.
    unsafe fn call(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
        let answer;
        // SAFETY: as the caller says of this call; the kernel leaves all other registers.
        unsafe {
            asm!("syscall", inlateout("rax") number as usize => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
                in("r8") e, lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        answer
    }

    /// The address or number at this address.
    unsafe fn word(at: usize) -> usize {
        // SAFETY: the caller has seen that the list goes on up to here.
        unsafe { *(at as *const usize) }
    }

    /// Whether the string at this address begins with `with`; with a NUL at its end, whether it is that.
    unsafe fn begins(text: usize, with: &[u8]) -> bool {
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

    /// `stack`: argc, argv, null, envp, null, auxv, as execve(2) lays it out. `room`: 128 bytes. Returns where
    /// nothing needs to be done, or nothing can be: with which of the numbers below.
    unsafe extern "C" fn run_through_view(stack: usize, room: usize) -> u32 {
        const AT_EXECFN: usize = 31;
        // SAFETY: this is the layout of a new process's stack (System V ABI), and nothing has changed it yet; lists are left at their ends.
        unsafe {
            let argv = stack + WORD;
            let envp = argv + (word(stack) + 1) * WORD;
            let (mut kind, mut at) = (OTHER, argv + WORD);
            while at + WORD < envp {
                let given = word(at);
                // The commands that put a process into a container. Such a word elsewhere in the line does no harm.
                if begins(given, b"exec\0") {
                    kind |= EXEC;
                }
                if begins(given, b"create\0") || begins(given, b"run\0") || begins(given, b"restore\0") {
                    kind |= CREATE;
                }
                at += WORD;
            }
            if kind == OTHER {
                return kind;
            }
            at = envp;
            while word(at) != 0 {
                at += WORD;
            }
            at += WORD;
            while word(at) != AT_EXECFN {
                if word(at) == 0 {
                    return kind;
                }
                at += 2 * WORD;
            }
            let path = word(at + WORD);
            // How execveat(2) names a program without a path: this is the second run, or a caller's own way of doing the same.
            if !begins(path, b"/dev/fd/") {
                execute(path, argv, envp, room);
            }
            kind
        }
    }

    /// Takes at once the pages that every command is going to write to, which otherwise is a fault for each: what is relocated, what else
    /// has a value to begin with, the beginning of what has none (the arena), and the stack. `stack` is where that is, `program` where the
    /// file's first byte is in memory.
    unsafe extern "C" fn touch(stack: usize, kind: u32, program: usize) {
        const PAGE: usize = 4096;
        /// Linux 5.14. Where it fails, there are faults.
        const MADV_POPULATE_WRITE: usize = 23;
        // Of the beginning of the arena, and of the stack: what is written to in any case, as page faults show it. Each page too many
        // costs more than a fault too many.
        let (heap, deep) = match kind {
            OTHER => (2 * PAGE, 3 * PAGE),
            EXEC => (8 * PAGE, 11 * PAGE),
            _ => (26 * PAGE, 10 * PAGE),
        };
        // SAFETY: an ELF header, and the program headers that it tells of: offset, size and number (elf(5)).
        unsafe {
            let (mut header, count) = (program + word(program + 32), word(program + 56) & 0xffff);
            let (mut from, mut to, mut end) = (0, 0, 0);
            let mut at = 0;
            while at < count {
                let (address, in_file, in_memory) = (program + word(header + 16), word(header + 32), word(header + 40));
                let kind = word(header);
                if kind as u32 == libc::PT_LOAD && (kind >> 32) as u32 & libc::PF_W != 0 {
                    if from == 0 {
                        from = address & !(PAGE - 1);
                    }
                    to = address + in_file;
                    end = address + in_memory;
                }
                header += 56;
                at += 1;
            }
            let to = if to + heap < end { to + heap } else { end };
            call(libc::SYS_madvise, from, to - from, MADV_POPULATE_WRITE, 0, 0);
            let bottom = (stack - deep) & !(PAGE - 1);
            call(libc::SYS_madvise, bottom, stack - bottom, MADV_POPULATE_WRITE, 0, 0);
        }
    }

    /// Returns where the file cannot be written to already, or the kernel says no. `path` is what execve(2) was given: where another file
    /// has come to be there since, an upgrade, that one is run.
    ///
    /// The view's descriptor stays open in the second run, which proves by it what it runs from ([`crate::linux::exe`]), and closes it.
    unsafe fn execute(path: usize, argv: usize, envp: usize, statfs: usize) {
        const ST_RDONLY: usize = 1;
        const OPEN_TREE_CLONE: usize = 1;
        const EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
        /// The standard streams: one that the caller left closed must not become the view.
        const STREAMS: isize = 2;
        let empty = b"\0" as *const u8 as usize;
        // struct statfs: f_flags is its eleventh word. struct mount_attr: MOUNT_ATTR_RDONLY is set, and nothing else changed.
        let read_only = [1u64, 0, 0, 0];
        // SAFETY: all strings end with NUL, both structures are as large as the kernel's, the lists end with null. What is opened here is
        // closed by the second run, or below.
        unsafe {
            if call(libc::SYS_statfs, path, statfs, 0, 0, 0) != 0 || word(statfs + 10 * WORD) & ST_RDONLY != 0 {
                return;
            }
            let view = call(libc::SYS_open_tree, libc::AT_FDCWD as usize, path, OPEN_TREE_CLONE, 0, 0);
            if view < 0 {
                return;
            }
            if view > STREAMS
                && call(libc::SYS_mount_setattr, view as usize, empty, EMPTY_PATH, &raw const read_only as usize, 32) == 0
            {
                call(libc::SYS_execveat, view as usize, empty, argv, envp, EMPTY_PATH);
            }
            call(libc::SYS_close, view as usize, 0, 0, 0, 0);
        }
    }
}

/// Keeps the entry point in the program, whoever links it.
#[cfg(all(target_arch = "x86_64", not(test)))]
#[used]
static ENTRY: unsafe extern "C" fn() = early::berth_entry;
