// SPDX-License-Identifier: Apache-2.0
//! The read-only view that commands go on through before they put a process into a container ([`crate::linux::exe`] says why, verifies it,
//! and does it in the cases that are left over here: no CAP_SYS_ADMIN, or a caller's seccomp filter).
//!
//! What a link `/proc/PID/exe` leads to is a file as seen through a mount, and the kernel keeps both for as long as the program runs. So
//! a detached copy of the file's mount is made, read-only; the program's pieces are mapped once more from there, over themselves, as long
//! as nothing of them has been changed; and prctl(2) PR_SET_MM_MAP makes the file, as seen through that mount, what the link leads to.
//! The kernel lets nobody do that who still has anything of the old file mapped. Where it cannot be done (a kernel
//! without CONFIG_CHECKPOINT_RESTORE), execveat(2) runs the program again through the view, which costs its start twice.

use core::arch::asm;

use super::early::{ADDRESS, HEADER, IN_FILE, OFFSET, PAGE, ROOM, WORD, call, call_six, first_header, headers_end, loaded, word};
use super::early::{CREATE, EXEC, OTHER, begins};

/// The detached read-only mount, while it is open.
static mut MOUNT: i32 = -1;
/// The program's file as seen through it, which the program runs from.
static mut FILE: i32 = -1;

/// The descriptors of the view that this program runs from, close-on-exec, to be closed by whoever asks: its mount, and the file seen
/// through it. None where there is none, or it was asked for before.
pub fn take() -> Option<(i32, i32)> {
    // SAFETY: there is one thread, and what is here was written before it was a program of Rust's.
    unsafe {
        let view = (MOUNT, FILE);
        (MOUNT, FILE) = (-1, -1);
        (view.1 >= 0).then_some(view)
    }
}

/// `stack`: argc, argv, null, envp, null, auxv, as execve(2) lays it out. `room`: [`ROOM`] bytes. `program`: where the file's first byte
/// is. Returns the kind of the command.
pub unsafe extern "C" fn run_through_view(stack: usize, room: usize, program: usize) -> u32 {
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
            make(path, stack, room, program);
        }
        kind
    }
}

/// Returns where the program runs from the view, where the file cannot be written to already, or the kernel says no. `path` is what
/// execve(2) was given: where another file has come to be there since, an upgrade, that one is run.
unsafe fn make(path: usize, stack: usize, room: usize, program: usize) {
    const ST_RDONLY: usize = 1;
    let empty = b"\0" as *const u8 as usize;
    // SAFETY: all strings end with NUL, the structure is as large as the kernel's, the lists end with null. What is opened here is closed
    // by the program proper, or below.
    unsafe {
        // struct statfs: f_flags is its eleventh word.
        if call(libc::SYS_statfs, path, room, 0, 0, 0) != 0 || word(room + 10 * WORD) & ST_RDONLY != 0 {
            return;
        }
        let directory = view_of_directory(path, room);
        if directory.0 >= 0 {
            let file = open_beneath(directory.0 as usize, directory.1);
            if file >= 0 && go_on(directory.0 as usize, file as usize, stack, room, program) {
                return;
            }
            call(libc::SYS_close, directory.0 as usize, 0, 0, 0, 0);
        }
        let mount = view(path);
        if mount < 0 {
            return;
        }
        let mount = mount as usize;
        let file = open_view(mount, room);
        if file >= 0 && go_on(mount, file as usize, stack, room, program) {
            return;
        }
        // The second run proves by it what it runs from, and closes it.
        call(libc::SYS_fcntl, mount, libc::F_SETFD as usize, 0, 0, 0);
        let argv = stack + WORD;
        call(libc::SYS_execveat, mount, empty, argv, argv + (word(stack) + 1) * WORD, libc::AT_EMPTY_PATH as usize);
        call(libc::SYS_close, mount, 0, 0, 0, 0);
    }
}

/// A detached read-only mount of what is at this path, close-on-exec; below 0, the kernel says no.
unsafe fn view(path: usize) -> isize {
    const OPEN_TREE_CLONE: usize = 1;
    const CLOEXEC: usize = libc::O_CLOEXEC as usize;
    const EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
    /// The standard streams: one that the caller left closed must not become the view.
    const STREAMS: isize = 2;
    /// Both by one call, since Linux 6.15.
    const OPEN_TREE_ATTR: i64 = 467;
    let empty = b"\0" as *const u8 as usize;
    // struct mount_attr: MOUNT_ATTR_RDONLY is set, and nothing else changed.
    let read_only = [1u64, 0, 0, 0];
    // SAFETY: the strings end with NUL, the structure is as large as the kernel's.
    unsafe {
        let (here, flags) = (libc::AT_FDCWD as usize, OPEN_TREE_CLONE | CLOEXEC);
        let at_once = call(OPEN_TREE_ATTR, here, path, flags, &raw const read_only as usize, 32);
        if at_once > STREAMS {
            return at_once;
        }
        let mount = if at_once < 0 { call(libc::SYS_open_tree, here, path, flags, 0, 0) } else { at_once };
        if mount < 0 {
            return mount;
        }
        let view = mount as usize;
        if mount > STREAMS && call(libc::SYS_mount_setattr, view, empty, EMPTY_PATH, &raw const read_only as usize, 32) == 0 {
            return mount;
        }
        call(libc::SYS_close, view, 0, 0, 0, 0);
        -1
    }
}

/// The [`view`] of the directory that the path leads to, and the name in there: a file can be opened in it, where that of a file alone is a
/// place and no file, which takes a look into /proc (20 of 25 us).
unsafe fn view_of_directory(path: usize, room: usize) -> (isize, usize) {
    // SAFETY: the path ends with NUL; `room` has [`ROOM`] bytes.
    unsafe {
        let (mut at, mut name) = (0, 0);
        while *((path + at) as *const u8) != 0 {
            if at + 2 > ROOM {
                return (-1, 0);
            }
            let byte = *((path + at) as *const u8);
            *((room + at) as *mut u8) = byte;
            at += 1;
            if byte == b'/' {
                name = at;
            }
        }
        // Without a slash it lies in the working directory, and `/` is kept.
        if name == 0 {
            *(room as *mut u8) = b'.';
            *((room + 1) as *mut u8) = 0;
        } else {
            *((room + name) as *mut u8) = 0;
        }
        (view(room), path + name)
    }
}

/// Opens a file in the view of its directory, for reading. A link that leads elsewhere is refused: the file would not be seen through the
/// view.
unsafe fn open_beneath(directory: usize, name: usize) -> isize {
    const RESOLVE_NO_XDEV: u64 = 1;
    const RESOLVE_NO_MAGICLINKS: u64 = 2;
    const RESOLVE_BENEATH: u64 = 8;
    // struct open_how: flags, mode, resolve.
    let how = [(libc::O_RDONLY | libc::O_CLOEXEC) as u64, 0, RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH];
    // SAFETY: the name ends with NUL, the structure is as large as the kernel's first.
    unsafe { call(libc::SYS_openat2, directory, name, &raw const how as usize, 24, 0) }
}

/// Opens the file that the mount is a view of, for reading.
unsafe fn open_view(mount: usize, room: usize) -> isize {
    // SAFETY: `room` is larger than the path and the digits of any number.
    unsafe {
        let path = b"/proc/self/fd/";
        let mut at = 0;
        while at < path.len() {
            *((room + at) as *mut u8) = path[at];
            at += 1;
        }
        number_to_text(mount, room + at);
        call(libc::SYS_openat, libc::AT_FDCWD as usize, room, (libc::O_RDONLY | libc::O_CLOEXEC) as usize, 0, 0)
    }
}

/// Whether this program, at the first of its instructions, runs from `file`, as seen through `mount`, from now on; else the file is closed.
unsafe fn go_on(mount: usize, file: usize, stack: usize, room: usize, program: usize) -> bool {
    // SAFETY: as the caller says. What is open is closed, or told.
    unsafe {
        if is_this_program(file, room, program) && map_again(file, program) && set_exe(file, stack, room, program) {
            // Only now: before, this memory was the old file's.
            (MOUNT, FILE) = (mount as i32, file as i32);
            return true;
        }
        call(libc::SYS_close, file, 0, 0, 0, 0);
        false
    }
}

/// Writes a number's digits, and NUL.
unsafe fn number_to_text(number: usize, at: usize) {
    let (mut digits, mut rest) = (1, number / 10);
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    // SAFETY: the caller has room for them.
    unsafe {
        *((at + digits) as *mut u8) = 0;
        rest = number;
        while digits > 0 {
            digits -= 1;
            *((at + digits) as *mut u8) = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// Whether the file is the one that is in memory: it has the same beginning, which holds the size of each piece and the build id, a hash of
/// the whole program.
unsafe fn is_this_program(file: usize, room: usize, program: usize) -> bool {
    // SAFETY: `room` is that large, and the program larger.
    unsafe {
        let mut same = call(libc::SYS_pread64, file, room, ROOM, 0, 0) == ROOM as isize;
        let mut at = 0;
        while same && at < ROOM {
            same = word(room + at) == word(program + at);
            at += WORD;
        }
        same
    }
}

/// Maps each piece once more from `file`, where it is, as execve(2) has done. Where that fails in between, the rest is as it was, which
/// is the same.
unsafe fn map_again(file: usize, program: usize) -> bool {
    const FIXED: usize = (libc::MAP_FIXED | libc::MAP_PRIVATE) as usize;
    // SAFETY: what is mapped has the same bytes as what was there, for nothing has been written to it yet.
    unsafe {
        let (mut header, headers_end) = (first_header(program), headers_end(program));
        while header < headers_end {
            let flags = loaded(header);
            if flags != 0 {
                let address = program + word(header + ADDRESS);
                let end = address + word(header + IN_FILE);
                let (from, to) = (address & !(PAGE - 1), (end + PAGE - 1) & !(PAGE - 1));
                let (mut protection, writable) = (libc::PROT_READ, flags & libc::PF_W != 0);
                if writable {
                    protection |= libc::PROT_WRITE;
                }
                if flags & libc::PF_X != 0 {
                    protection |= libc::PROT_EXEC;
                }
                let offset = word(header + OFFSET) & !(PAGE - 1);
                // What is going to be written to is taken at once, as `early::touch` does with the rest of it.
                let how = if writable { FIXED | libc::MAP_POPULATE as usize } else { FIXED };
                if call_six(libc::SYS_mmap, from, to - from, protection as usize, how, file, offset) != from as isize {
                    return false;
                }
                // The rest of the last page is something else's in the file, and zero in memory.
                if writable {
                    zero(end, to);
                }
            }
            header += HEADER;
        }
        true
    }
}

/// Zeroes up to the end of a page.
unsafe fn zero(from: usize, to: usize) {
    // SAFETY: as the caller says.
    unsafe { asm!("rep stosb", inout("rdi") from => _, inout("rcx") to - from => _, in("al") 0u8, options(nostack)) }
}

/// prctl(2) PR_SET_MM_MAP (Linux 3.18): `file` is what the program runs from; everything else stays as execve(2) has made it.
unsafe fn set_exe(file: usize, stack: usize, room: usize, program: usize) -> bool {
    const PR_SET_MM_MAP: usize = 14;
    const MAP: usize = 13;
    // SAFETY: struct prctl_mm_map of linux/prctl.h, thirteen words, fits into `room`.
    unsafe {
        let (mut code, mut code_end, mut data, mut data_end) = (0, 0, 0, 0);
        let (mut header, headers_end) = (first_header(program), headers_end(program));
        while header < headers_end {
            let flags = loaded(header);
            let address = program + word(header + ADDRESS);
            if flags & libc::PF_X != 0 {
                code = address;
                code_end = address + word(header + IN_FILE);
            } else if flags & libc::PF_W != 0 {
                if data == 0 {
                    data = address;
                }
                data_end = address + word(header + IN_FILE);
            }
            header += HEADER;
        }
        // A new process has nothing on its heap: it begins where it ends.
        let heap = call(libc::SYS_brk, 0, 0, 0, 0, 0) as usize;
        let argv = stack + WORD;
        // The arguments' text lies before that of the environment, without a gap.
        let arguments = word(argv);
        let (environment, environment_end) = (end_of_texts(argv, arguments), end_of_texts(argv + (word(stack) + 1) * WORD, 0));
        let environment_end = if environment_end == 0 { environment } else { environment_end };
        let map = room as *mut [usize; MAP];
        *map = [
            code,
            code_end,
            data,
            data_end,
            heap,
            heap,
            stack,
            arguments,
            environment,
            environment,
            environment_end,
            // No new auxiliary vector; its size is a half of the next word, and the descriptor the other.
            0,
            file << 32,
        ];
        call(libc::SYS_prctl, libc::PR_SET_MM as usize, PR_SET_MM_MAP, room, MAP * WORD, 0) == 0
    }
}

/// Where the last text of a list that ends with null ends, with its NUL; `otherwise` where it has none.
unsafe fn end_of_texts(list: usize, otherwise: usize) -> usize {
    let (mut at, mut last) = (list, 0);
    // SAFETY: the list ends with null, and each text with NUL.
    unsafe {
        while word(at) != 0 {
            last = word(at);
            at += WORD;
        }
        if last == 0 {
            return otherwise;
        }
        while *(last as *const u8) != 0 {
            last += 1;
        }
        last + 1
    }
}
