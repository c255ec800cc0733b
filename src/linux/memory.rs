// SPDX-License-Identifier: Apache-2.0
//! The memory of a process that waits: what it can have back from its file, and what is left below its stack, is given up. Called at the
//! start gate, where a created container may wait for hours, one process for each.

mod past;

use std::os::fd::{AsFd, AsRawFd};

use super::types::Errno;

pub use past::{Kept, announce_stack, leave_behind};

/// Pages of the program's file that nothing ever writes to: at most this many pieces (a program has three or four).
const PIECES: usize = 8;
/// How far below its frame the stack is given up, in bytes. Less than the gap that the kernel keeps free below every stack.
const BELOW: usize = 256 << 10;
/// What is left below the frame for the calls to come, and for what the compiler keeps below the stack pointer.
const KEPT: usize = PAGE;
/// More than what is run while it waits, in bytes.
const WAITING: usize = 256;
const PAGE: usize = 4096;

/// The first byte of a piece and its length.
type Piece = (usize, usize);

#[derive(Default)]
struct Pieces {
    list: [Piece; PIECES],
    count: usize,
}

impl Pieces {
    /// What goes on where the last piece ends, but for the rest of its page, becomes a part of it: that is a system call less.
    fn add(&mut self, start: usize, end: usize) {
        if let Some((from, length)) = self.list[..self.count].last_mut()
            && (*from + *length).next_multiple_of(PAGE) == start
            && start < end
        {
            *length = end - *from;
            return;
        }
        if let Some(place) = self.list.get_mut(self.count).filter(|_| start < end) {
            *place = (start, end - start);
            self.count += 1;
        }
    }
}

/// read(2) of one byte that may be long in coming: 0 at the end of file. Meanwhile the process holds as little memory as it can: the
/// kernel reads the program's pages again as they are needed.
pub fn read_byte_in_small_room(fd: impl AsFd, byte: &mut u8) -> nix::Result<usize> {
    let mut pieces = Pieces::default();
    // SAFETY: the callback gets `pieces` back, which lives until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(note_pieces), (&raw mut pieces).cast()) };
    let frame = (&raw const pieces) as usize & !(PAGE - 1);
    // It is never needed: what it answers does not matter.
    // SAFETY: nothing is kept below the stack pointer of the only thread, but for what KEPT leaves.
    unsafe { call(libc::SYS_madvise, frame - BELOW, BELOW - KEPT, libc::MADV_DONTNEED as usize) };
    wait(fd.as_fd().as_raw_fd(), byte, &pieces)
}

/// Gives up the pages of the file, and waits. The calls are made here and by no function of a library: whatever else ran, the kernel would
/// map it and what lies around it again, 64 KiB for each place. The pages of this very function are not given up, for the same reason.
#[inline(never)]
fn wait(fd: i32, byte: &mut u8, pieces: &Pieces) -> nix::Result<usize> {
    for (start, length) in &pieces.list[..pieces.count] {
        // SAFETY: mapped from the program's file, and never written to.
        unsafe { call(libc::SYS_madvise, *start, *length, libc::MADV_DONTNEED as usize) };
    }
    // SAFETY: one byte, which lives until the call returns.
    let count = unsafe { call(libc::SYS_read, fd as usize, (byte as *mut u8) as usize, 1) };
    if count < 0 { Err(Errno::from_raw(-count as i32)) } else { Ok(count as usize) }
}

/// A system call; below 0 is the error's number.
///
/// # Safety
/// As this call wants it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    let answer;
    // SAFETY: as the caller promises; the kernel leaves all other registers.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// A system call; below 0 is the error's number.
///
/// # Safety
/// As this call wants it.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    // SAFETY: as the caller promises.
    match Errno::result(unsafe { libc::syscall(number, a, b, c) }) {
        Ok(answer) => answer as isize,
        Err(errno) => -(errno as i32) as isize,
    }
}

/// The program headers of what is loaded.
///
/// # Safety
/// `info` is what dl_iterate_phdr(3) tells of: the table has as many headers as it says.
unsafe fn headers(info: &libc::dl_phdr_info) -> &[libc::Elf64_Phdr] {
    match info.dlpi_phdr.is_null() {
        true => &[],
        // SAFETY: as the caller promises.
        false => unsafe { std::slice::from_raw_parts(info.dlpi_phdr.cast(), usize::from(info.dlpi_phnum)) },
    }
}

/// Notes what is loaded of a program's file and not writable; dl_iterate_phdr(3). Static programs have one part, the first.
unsafe extern "C" fn note_pieces(info: *mut libc::dl_phdr_info, _size: usize, pieces: *mut libc::c_void) -> libc::c_int {
    // SAFETY: both pointers are good until the callback returns; the table has as many headers as it says.
    let (info, pieces) = unsafe { (&*info, &mut *pieces.cast::<Pieces>()) };
    // SAFETY: as above.
    let headers = unsafe { headers(info) };
    let waits = wait as fn(i32, &mut u8, &Pieces) -> nix::Result<usize> as usize;
    let (first, after) = (waits & !(PAGE - 1), (waits + WAITING).next_multiple_of(PAGE));
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let (start, end) = (start & !(PAGE - 1), start.wrapping_add(header.p_memsz as usize));
        pieces.add(start, if (start..end).contains(&first) { first } else { end });
        if (start..end).contains(&after) {
            pieces.add(after, end);
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now};
    use crate::linux::test_child::in_child;
    use crate::linux::{fd, pid};

    /// Kilobytes of files that a process has in memory; proc_pid_status(5). What else it has is of the tests that ran in this process before.
    fn of_files(pid: i32) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Has all pages of the program's file that are never written to.
    fn touch_all() {
        let mut pieces = Pieces::default();
        // SAFETY: the callback gets `pieces` back, which lives until the call returns.
        unsafe { libc::dl_iterate_phdr(Some(note_pieces), (&raw mut pieces).cast()) };
        for (start, length) in &pieces.list[..pieces.count] {
            for at in (*start..start + length).step_by(PAGE) {
                // SAFETY: mapped, and readable as all of a program's file is.
                let _ = unsafe { (at as *const u8).read_volatile() };
            }
        }
    }

    #[test]
    fn a_process_that_waits_is_small_and_goes_on() {
        in_child(|| {
            let (reader, writer) = fd::pipe().unwrap();
            let (large, its) = fd::pipe().unwrap();
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else {
                drop((writer, large));
                touch_all();
                fd::write_all(&its, &of_files(pid::getpid()).to_ne_bytes()).unwrap();
                drop(its);
                let mut byte = 0;
                let one = read_byte_in_small_room(&reader, &mut byte) == Ok(1) && byte == b'1';
                let end = read_byte_in_small_room(&reader, &mut byte) == Ok(0);
                exit_now(if one && end { 7 } else { 1 })
            };
            drop(its);
            let before = u64::from_ne_bytes(fd::read_bounded(&large, 8).unwrap().try_into().unwrap());
            let began = std::time::Instant::now();
            while of_files(pid) * 2 > before {
                assert!(began.elapsed().as_secs() < 60, "{} of {before}", of_files(pid));
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            fd::write_all(&writer, b"1").unwrap();
            drop(writer);
            assert_eq!(pid::wait(&pidfd).unwrap(), pid::Exit::Code(7));
        });
    }
}
