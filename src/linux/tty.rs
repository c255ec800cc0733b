// SPDX-License-Identifier: Apache-2.0
//! Terminals: a new one of a given devpts, its size, its modes; pty(7), ioctl_tty(2). Used by `process`.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::call::{self, Call, CallError, Result, retry, syscall};
use super::fd::{self, OFlag};
use super::types::Errno;

const TIOCSCTTY: u32 = 0x540e;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGPTPEER: u32 = 0x5441;

/// A terminal's two ends.
#[derive(Debug)]
pub struct Terminal {
    /// The end of whoever shows it; what `--console-socket` is sent.
    pub master: OwnedFd,
    /// The end of the programs in it.
    pub peer: OwnedFd,
    /// Its number: the peer is `pts/N`.
    pub number: u32,
}

/// A new terminal of the devpts instance whose root is `devpts`. Its `ptmx` is checked to be that (device 5:2 on a devpts), and the peer
/// comes from the master itself (TIOCGPTPEER, Linux 4.13), never from a path that a container could have replaced: CVE-2025-52565.
pub fn open_terminal(devpts: impl AsFd) -> Result<Terminal> {
    let master = fd::openat(devpts.as_fd(), "ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY, 0)?;
    let not = |what: &str| CallError::new(format!("openat({}, \"ptmx\"): {what}", call::fd(devpts.as_fd())), Errno::ENOTTY);
    if !fd::stat(&master)?.is_char_device(5, 2) {
        return Err(not("not the device 5:2"));
    }
    if fd::statfs(&master)?.magic != fd::magic::DEVPTS {
        return Err(not("not on a devpts"));
    }
    let raw = master.as_raw_fd();
    let unlocked: libc::c_int = 0;
    // SAFETY: the value lives until the call returns.
    unsafe { syscall!(libc::SYS_ioctl, raw, TIOCSPTLCK, &raw const unlocked) }
        .call(|| format!("ioctl({raw}, TIOCSPTLCK, [0])"))?;
    let mut number: libc::c_uint = 0;
    // SAFETY: the value lives until the call returns.
    unsafe { syscall!(libc::SYS_ioctl, raw, TIOCGPTN, &raw mut number) }.call(|| format!("ioctl({raw}, TIOCGPTN)"))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is a number.
    let peer = unsafe { syscall!(libc::SYS_ioctl, raw, TIOCGPTPEER, flags) }
        .call(|| format!("ioctl({raw}, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)"))?;
    // SAFETY: the kernel just gave us this new descriptor.
    let peer = unsafe { OwnedFd::from_raw_fd(peer as RawFd) };
    Ok(Terminal { master, peer, number })
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    size(fd).is_ok()
}

/// Columns and rows; TIOCGWINSZ. ENOTTY where it is no terminal.
pub fn size(fd: impl AsFd) -> Result<(u16, u16)> {
    let mut words = [0u16; 4];
    // SAFETY: `words` is a struct winsize that lives until the call returns.
    unsafe { syscall!(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), TIOCGWINSZ, words.as_mut_ptr()) }
        .call(|| format!("ioctl({}, TIOCGWINSZ)", call::fd(fd.as_fd())))?;
    Ok((words[1], words[0]))
}

/// Sets columns and rows; TIOCSWINSZ. The foreground processes get SIGWINCH where they change.
pub fn set_size(fd: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    let words = [rows, columns, 0, 0];
    // SAFETY: `words` is a struct winsize that lives until the call returns.
    unsafe { syscall!(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), TIOCSWINSZ, words.as_ptr()) }
        .call(|| format!("ioctl({}, TIOCSWINSZ, {{ws_row={rows}, ws_col={columns}}})", call::fd(fd.as_fd())))?;
    Ok(())
}

/// Makes it the controlling terminal of this session, which has none yet; TIOCSCTTY.
pub fn set_controlling(fd: impl AsFd) -> Result<()> {
    // SAFETY: the argument is a number.
    unsafe { syscall!(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), TIOCSCTTY, 0) }
        .call(|| format!("ioctl({}, TIOCSCTTY, 0)", call::fd(fd.as_fd())))?;
    Ok(())
}

/// A terminal's modes, to be given back by [`restore`].
#[derive(Clone, Debug)]
pub struct Modes(Termios);

/// Passes every byte through as it comes (cfmakeraw(3)), and returns the modes that were.
pub fn set_raw(fd: impl AsFd) -> Result<Modes> {
    let old = tcgetattr(fd.as_fd()).call(|| format!("ioctl({}, TCGETS)", call::fd(fd.as_fd())))?;
    let mut new = old.clone();
    cfmakeraw(&mut new);
    set(fd, &new)?;
    Ok(Modes(old))
}

/// Gives a terminal its modes back. Do not call it from a background process group without ignoring SIGTTOU.
pub fn restore(fd: impl AsFd, modes: &Modes) -> Result<()> {
    set(fd, &modes.0)
}

/// Turns off the translation of newlines on output (ONLCR), as terminals of containers are handed over.
pub fn clear_newline_translation(fd: impl AsFd) -> Result<()> {
    let mut modes = tcgetattr(fd.as_fd()).call(|| format!("ioctl({}, TCGETS)", call::fd(fd.as_fd())))?;
    modes.output_flags.remove(nix::sys::termios::OutputFlags::ONLCR);
    set(fd, &modes)
}

fn set(fd: impl AsFd, modes: &Termios) -> Result<()> {
    retry(|| tcsetattr(fd.as_fd(), SetArg::TCSANOW, modes)).call(|| format!("ioctl({}, TCSETS)", call::fd(fd.as_fd())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::{in_child, is_root};
    use crate::linux::{cred, mount};
    use nix::sys::termios::{LocalFlags, OutputFlags};

    fn devpts() -> OwnedFd {
        mount::new_mount("devpts", [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))], 0).unwrap()
    }

    #[test]
    fn a_terminal_of_a_new_instance() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let terminal = open_terminal(devpts()).unwrap();
            assert_eq!(terminal.number, 0);
            assert_eq!(fd::stat(&terminal.peer).unwrap().rdev, crate::linux::types::DeviceNumber { major: 136, minor: 0 });
            assert!(is_terminal(&terminal.peer) && !is_terminal(std::fs::File::open("/dev/null").unwrap()));
            set_size(&terminal.master, 132, 43).unwrap();
            assert_eq!(size(&terminal.peer).unwrap(), (132, 43));
            fd::write_all(&terminal.peer, b"a\n").unwrap();
            let mut buffer = [0; 16];
            let length = nix::unistd::read(&terminal.master, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"a\r\n");
            clear_newline_translation(&terminal.peer).unwrap();
            fd::write_all(&terminal.peer, b"a\n").unwrap();
            let length = nix::unistd::read(&terminal.master, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"a\n");
        });
    }

    #[test]
    fn raw_and_back() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let terminal = open_terminal(devpts()).unwrap();
            let modes = |fd: &OwnedFd| {
                let modes = tcgetattr(fd).unwrap();
                (modes.local_flags.contains(LocalFlags::ECHO), modes.output_flags.contains(OutputFlags::OPOST))
            };
            let old = set_raw(&terminal.peer).unwrap();
            assert_eq!(modes(&terminal.peer), (false, false));
            restore(&terminal.peer, &old).unwrap();
            assert_eq!(modes(&terminal.peer), (true, true));
        });
    }

    #[test]
    fn becomes_the_controlling_terminal() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let terminal = open_terminal(devpts()).unwrap();
            // The terminal's end is told to its session's leader: this test.
            crate::linux::signal::ignore(libc::SIGHUP).unwrap();
            cred::setsid().unwrap();
            assert_eq!(fd::open("/dev/tty", OFlag::O_RDWR).unwrap_err().errno, Errno::ENXIO);
            set_controlling(&terminal.peer).unwrap();
            fd::open("/dev/tty", OFlag::O_RDWR).unwrap();
        });
    }

    #[test]
    fn refuses_what_is_not_ptmx() {
        if !is_root() {
            return;
        }
        let scratch = crate::linux::fd::tests::Scratch::new();
        std::fs::write(scratch.path().join("ptmx"), "").unwrap();
        let error = open_terminal(scratch.dir()).unwrap_err();
        assert!(error.errno == Errno::ENOTTY && error.call.contains("not the device 5:2"), "{error}");
        std::fs::remove_file(scratch.path().join("ptmx")).unwrap();
        std::os::unix::fs::symlink("/dev/pts/ptmx", scratch.path().join("ptmx")).unwrap();
        assert_eq!(open_terminal(scratch.dir()).unwrap_err().errno, Errno::ELOOP);
        // A device node of the right number, but on a file system of somebody else.
        std::fs::remove_file(scratch.path().join("ptmx")).unwrap();
        let number = crate::linux::types::DeviceNumber { major: 5, minor: 2 };
        fd::mknodat(scratch.dir(), "ptmx", crate::linux::types::NodeKind::Character, number, 0o666).unwrap();
        assert!(open_terminal(scratch.dir()).is_err());
    }
}
