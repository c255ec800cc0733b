// SPDX-License-Identifier: Apache-2.0
//! The program's standard streams: what the caller gave, or a terminal of the container's own (config.md, "Process": `terminal`).
//!
//! Called by `init`, inside the container's root. The terminal's two ends come from the container's devpts itself, by descriptor; the
//! place it is bound to is opened without following a link (CVE-2025-52565, CVE-2026-88264).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::fd::{self, OFlag, Root, Stat};
use crate::linux::types::Errno;
use crate::linux::{mount, socket, tty};
use crate::process::sync::ToParent;
use crate::rootfs::RootFs;

use super::Init;

/// What goes with the master over a console socket: at least one byte must; runc's word for it, which clients show.
const MASTER_NAME: &[u8] = b"/dev/ptmx";

/// What the standard streams are: each as statx(2) says it.
pub type Streams = [Stat; 3];

/// Gives the standard streams to the program's user, where they are not his already, as an engine expects that made them as root. A
/// /dev/null of the host is replaced by the container's own instead: through it the container could change the mode of the host's. The
/// runtime may have `seen` what they are, as this user namespace has it.
pub fn own(rootfs: &mut RootFs, uid: u32, seen: Option<&Streams>) -> Result<()> {
    // The container's, once it has been asked for.
    let mut null = None;
    for (number, stream) in fd::standard_streams().into_iter().enumerate() {
        own_stream(rootfs, number as RawFd, stream, seen.map(|seen| seen[number]), uid, &mut null)?;
    }
    null.flatten().into_iter().for_each(|null| rootfs.spend(null));
    Ok(())
}

fn own_stream(
    rootfs: &RootFs,
    number: RawFd,
    stream: BorrowedFd<'_>,
    seen: Option<Stat>,
    uid: u32,
    null: &mut Option<Option<OwnedFd>>,
) -> Result<()> {
    let told = || format!("cannot prepare standard stream {number}");
    let stat = seen.map_or_else(|| fd::stat(stream).told(told), Ok)?;
    if stat.is_char_device(1, 3) {
        let null = match null {
            Some(known) => known,
            None => null.insert(container_null(rootfs).map_err(|error| error.doing(told()))?),
        };
        return match null {
            Some(null) => fd::dup_onto(&*null, number).told(told),
            None => Ok(()),
        };
    }
    if stat.uid == uid {
        return Ok(());
    }
    const SAME: u32 = u32::MAX;
    match fd::fchown(stream, uid, SAME) {
        // Not ours to give, or on a read-only mount: the program's user must do with the rights he has. runc passes over the same two.
        Err(error) if [Errno::EPERM, Errno::EROFS].contains(&error.errno) => Ok(()),
        // It is the id, which the steps to come would stumble over as well: where the mappings are the configuration's own, validation has
        // said so; of a user namespace that was joined, the kernel knows first.
        Err(error) if error.errno == Errno::EINVAL => {
            let what = format!("user {uid} is not an id of the container: its user namespace does not map it");
            Err(Error::from(error).doing(what).cause(Code::Capabilities))
        }
        other => other.told(told),
    }
}

/// The container's /dev/null, if what is there is one: a regular file or another device of that name is the image's trick
/// (CVE-2026-88265), and the host's stays.
fn container_null(rootfs: &RootFs) -> Result<Option<OwnedFd>> {
    const OPEN: OFlag = OFlag::O_RDWR.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);
    if let Some(dev) = rootfs.fresh("/dev") {
        // Nothing is in it but what the configuration asks for.
        return match fd::openat(dev, "null", OPEN, 0) {
            Ok(found) => Ok(fd::stat(&found)?.is_char_device(1, 3).then_some(found)),
            Err(_) => Ok(None),
        };
    }
    let open = |flags: OFlag| match rootfs.root().open_with("/dev/null", flags | OFlag::O_NOFOLLOW) {
        Ok(found) => Ok(fd::stat(&found)?.is_char_device(1, 3).then_some(found)),
        Err(_) => Ok(None),
    };
    // Looked at first, and only then opened: opening a device may do something.
    match open(OFlag::O_PATH)? {
        Some(_) => open(OPEN),
        None => Ok(None),
    }
}

impl Init<'_> {
    /// Opens a terminal of the container's devpts, makes it the standard streams and the session's, and hands over its other end.
    #[inline(never)] // Rare.
    pub(super) fn open_console(&mut self, size: Option<(u16, u16)>, bound: bool) -> Result<()> {
        let told = || "cannot open a terminal of the container's /dev/pts".to_string();
        let foreground = self.console.is_none();
        let root = self.rootfs()?.root();
        let devpts = root.open_dir("/dev/pts").told(told).map_err(advise)?;
        let terminal = tty::open_terminal(&devpts).told(told).map_err(advise)?;
        // In the foreground it follows the caller's terminal, which is stdin still; the program may ask for the size at once.
        if let Some((columns, rows)) = size.or_else(|| tty::size(fd::standard_streams()[0]).ok().filter(|_| foreground)) {
            tty::set_size(&terminal.peer, columns, rows).told(|| "cannot set the size of the terminal".into())?;
        }
        if bound {
            bind_console(root, &terminal.peer)?;
        }
        tty::set_controlling(&terminal.peer).told(|| "cannot make the terminal that of the session".into())?;
        self.hand_over(&terminal.master)?;
        for number in 0..3 {
            fd::dup_onto(&terminal.peer, number).told(|| "cannot make the terminal the standard streams".into())?;
        }
        Ok(())
    }

    fn hand_over(&mut self, master: &OwnedFd) -> Result<()> {
        match self.console.take() {
            Some(socket) => socket::send(&socket, MASTER_NAME, &[master.as_fd()])
                .told(|| "cannot send the terminal over the console socket".into()),
            None => self.say(&ToParent::Console, Some(master)),
        }
    }
}

/// Binds the terminal to /dev/console, by descriptor.
fn bind_console(root: &Root, peer: &OwnedFd) -> Result<()> {
    let told = || "cannot bind the terminal to /dev/console".to_string();
    root.create_file("/dev/console", 0o600).told(told)?;
    // Opened again, so that also what was there before is not followed.
    let place = root.open_path_nofollow("/dev/console").told(told)?;
    if fd::stat(&place).told(told)?.is_symlink() {
        return Err(Error::new(Kind::Program, format!("{}: the image has a symbolic link there", told())));
    }
    let bind = mount::clone_tree(peer, false).told(told)?;
    mount::move_mount(&bind, &place).told(told)
}

fn advise(error: Error) -> Error {
    error.cause(Code::Terminal).hint("process.terminal needs a devpts on /dev/pts (mounts[])")
}
