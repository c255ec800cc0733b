// SPDX-License-Identifier: Apache-2.0
//! Device programs that the host keeps: to load one is the dearest system call of a container, and nearly all containers of a host have
//! the same. A program is kept when it has been loaded, in a filesystem that is made when the first one is; what is missing, damaged or
//! somebody else's is made anew or done without, and never an error.
//!
//! ```text
//! /run/berth.bpf        directory of root's, 0700, and on it a bpffs of its own; its lock is held while that is mounted
//! /run/berth.bpf/a7     a program: one of at most 256, by a hash of its instructions; a later one takes the place of an earlier
//! ```
//! Nothing there is believed: a program is used when the kernel's own copy of it is, in every instruction, the one that is wanted.
//!
//! Each mount namespace that berth is called in has its own, unless the mounts of another propagate there. Who wants to be rid of it says
//! `umount /run/berth.bpf; rmdir /run/berth.bpf`, and who wants none `touch /run/berth.bpf`: a file in its place, which is also what is
//! left where the kernel has refused the mount. It is not /sys/fs/bpf, which hosts give to some of their containers: the kernel follows the
//! links that those can put there (BPF_OBJ_GET), to wherever one waits for ever.

use std::os::fd::OwnedFd;

use crate::linux::bpf;
use crate::linux::call::Result;
use crate::linux::fd::{self, OFlag};
use crate::linux::mount as sys;
use crate::linux::types::{BpfInsn, Errno, MountAttr};

/// The directory, by its parent's path and its own name, which is also what mountinfo shows as the source.
const DIRECTORY: &str = "/run/berth.bpf";
const PARENT: &str = "/run";
const NAME: &str = "berth.bpf";

/// The program that the host keeps, where it does; else a new one, which is kept from then on as far as that is possible.
pub fn program(name: &str, instructions: &[BpfInsn]) -> Result<OwnedFd> {
    let place = place(instructions);
    let found = bpf::pinned(&place);
    // Whatever else the kernel answers, it would answer the next time.
    let room = matches!(found, Ok(_) | Err(Errno::ENOENT));
    if let Some(kept) = found.ok().filter(|kept| bpf::is_device_program(kept, name, instructions)) {
        return Ok(kept);
    }
    let new = bpf::load_device_program(name, instructions)?;
    if room && bpf::is_device_program(&new, name, instructions) {
        let _ = keep(&new, &place);
    }
    Ok(new)
}

/// Where a program is kept. Any hash will do that spreads them.
fn place(instructions: &[BpfInsn]) -> String {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |one: &BpfInsn| {
        u64::from(one.code)
            | u64::from(one.regs) << 8
            | u64::from(one.off.cast_unsigned()) << 16
            | u64::from(one.imm.cast_unsigned()) << 32
    };
    let hash = instructions.iter().fold(0u64, |hash, one| {
        let mixed = (hash ^ word(one)).wrapping_mul(ODD);
        mixed ^ mixed >> 32
    });
    format!("{DIRECTORY}/{:02x}", hash.wrapping_mul(ODD) >> 56)
}

/// Keeps a program, in place of what is kept there.
#[inline(never)] // Rare.
fn keep(program: &OwnedFd, place: &str) -> Result<()> {
    if !mounted()? {
        return Ok(());
    }
    match bpf::pin(program, place) {
        Err(error) if error.errno == Errno::EEXIST => fd::unlink(place).and_then(|()| bpf::pin(program, place)),
        done => done,
    }
}

/// Whether there is a bpffs of root's alone, mounted here if need be; not when somebody else is just doing that.
fn mounted() -> Result<bool> {
    let dir = match directory() {
        Err(error) if error.errno == Errno::ENOENT => fd::mkdir(DIRECTORY, 0o700).and_then(|()| directory())?,
        other => other?,
    };
    if !alone(&dir)? {
        return Ok(false);
    }
    if is_bpffs(&dir)? {
        return Ok(true);
    }
    if !fd::flock(&dir, true, false)? {
        return Ok(false);
    }
    let now = directory()?;
    if is_bpffs(&now)? {
        return alone(&now);
    }
    let made = mount(&now);
    // Anything else may be otherwise the next time.
    if made
        .as_ref()
        .is_err_and(|error| [Errno::EPERM, Errno::EACCES, Errno::ENODEV, Errno::ENOSYS, Errno::EINVAL].contains(&error.errno))
    {
        give_up()?;
    }
    made.map(|()| true)
}

/// From now on BPF_OBJ_GET says ENOTDIR, and nothing more is tried.
fn give_up() -> Result<()> {
    let parent = fd::open_dir(PARENT)?;
    fd::rmdirat(&parent, NAME)?;
    fd::create_file_at(&parent, NAME, b"")
}

fn directory() -> Result<OwnedFd> {
    fd::open(DIRECTORY, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)
}

fn is_bpffs(dir: &OwnedFd) -> Result<bool> {
    Ok(fd::statfs(dir)?.magic == fd::magic::BPF)
}

/// Whether it is root's alone.
fn alone(dir: &OwnedFd) -> Result<bool> {
    let stat = fd::stat(dir)?;
    Ok(stat.uid == 0 && stat.mode & 0o077 == 0)
}

fn mount(dir: &OwnedFd) -> Result<()> {
    const ATTR: MountAttr = MountAttr::NOSUID.union(MountAttr::NODEV).union(MountAttr::NOEXEC);
    let made = sys::new_mount("bpf", [("source", Some(NAME)), ("mode", Some("700"))], ATTR.bits())?;
    sys::move_mount(made, dir)
}

#[cfg(test)]
mod tests;
