// SPDX-License-Identifier: Apache-2.0
//! Signals: names and numbers, masks, dispositions, signalfd(2). Used by `process` and by the commands that name a signal.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::call::{self, Call, Result, retry, syscall};
use super::status;
use super::types::Errno;
use crate::texts::{Texts, texts};

/// Names of the standard signals on this architecture, from number 1 on.
#[rustfmt::skip]
const NAMES: Texts = texts![
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first and last real-time signal as programs mean them: C libraries keep 32 and 33 for themselves.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The highest signal number.
pub const MAX: i32 = 64;

/// The signal that a user named: `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`, `RTMAX-1`. Numbers are 0 to 64; 0 is none, which asks
/// whether there is somebody to send one to; kill(2).
pub fn parse(name: &str) -> Option<i32> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().ok().filter(|number| (0..=MAX).contains(number));
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |offset: &str, sign: char, base: i32| -> Option<i32> {
        if offset.is_empty() {
            return Some(base);
        }
        let digits = offset.strip_prefix(sign)?;
        let by: i32 = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        let number = if sign == '+' { base.checked_add(by)? } else { base.checked_sub(by)? };
        (RTMIN..=RTMAX).contains(&number).then_some(number)
    };
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        return real_time(offset, '+', RTMIN);
    }
    if let Some(offset) = bare.strip_prefix("RTMAX") {
        return real_time(offset, '-', RTMAX);
    }
    let standard = match bare {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    NAMES.iter().zip(1..).find(|(known, _)| *known == standard).map(|(_, number)| number)
}

/// `SIGTERM`, `SIGRTMIN+3`, or the bare number of one without a name.
pub fn name(signal: i32) -> String {
    match signal {
        1..=31 => format!("SIG{}", NAMES.get(signal as usize - 1).unwrap_or_default()),
        RTMIN => "SIGRTMIN".into(),
        35..=RTMAX => format!("SIGRTMIN+{}", signal - RTMIN),
        _ => signal.to_string(),
    }
}

/// A set of signals: bit N-1 is signal N, as the kernel keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// Every signal.
    pub const ALL: Set = Set(u64::MAX);
    /// No signal.
    pub const EMPTY: Set = Set(0);

    /// These signals; numbers outside 1 to 64 are passed over.
    pub fn of(signals: &[i32]) -> Set {
        Set(signals.iter().filter(|signal| (1..=MAX).contains(*signal)).fold(0, |set, signal| set | 1 << (signal - 1)))
    }
    /// All but these.
    pub fn without(self, signals: &[i32]) -> Set {
        Set(self.0 & !Set::of(signals).0)
    }
    /// Whether the signal is in it.
    pub fn contains(self, signal: i32) -> bool {
        Set::of(&[signal]).0 & self.0 != 0
    }
}

/// rt_sigprocmask(2) SIG_SETMASK: what is blocked from now on; returns what was.
pub fn set_mask(set: Set) -> Result<Set> {
    let mut old = 0u64;
    // SAFETY: both sets are the kernel's 8 bytes and live until the call returns.
    unsafe { syscall!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set.0, &raw mut old, 8) }
        .call(|| format!("rt_sigprocmask(SIG_SETMASK, {:#x})", set.0))?;
    Ok(Set(old))
}

/// struct kernel_sigaction, as large as any architecture's.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Action {
    words: [u64; 4],
}

/// Every signal's disposition back to SIG_DFL, and none blocked: what a program expects that is started afresh. Ignored signals (this
/// program's SIGPIPE, a caller's nohup) survive execve(2) otherwise, and no flag of clone3(2) resets those.
pub fn reset() -> Result<()> {
    reset_ignored(Set::ALL)
}

/// As [`reset`], where nothing but these has another disposition: they are [`ignored`], and handlers are gone since clone3(2).
pub fn reset_ignored(set: Set) -> Result<()> {
    let default = Action::default();
    let settable = set.without(&[libc::SIGKILL, libc::SIGSTOP]);
    for signal in (1..=MAX).filter(|signal| settable.contains(*signal)) {
        // SAFETY: all zeroes is SIG_DFL without flags, on every architecture; it lives until the call returns.
        unsafe { syscall!(libc::SYS_rt_sigaction, signal, &raw const default, 0, 8) }
            .call(|| format!("rt_sigaction({}, SIG_DFL)", name(signal)))?;
    }
    set_mask(Set::EMPTY)?;
    Ok(())
}

/// The signals that this process ignored when it first looked ([`status::own`]); all of them where that cannot be read.
pub fn ignored() -> Set {
    status::own().map_or(Set::ALL, |status| status.ignored)
}

/// rt_sigaction(2): the signal is ignored from now on.
pub fn ignore(signal: i32) -> Result<()> {
    // SAFETY: SIG_IGN is no function of ours.
    Errno::result(unsafe { libc::signal(signal, libc::SIG_IGN) as isize })
        .call(|| format!("rt_sigaction({}, SIG_IGN)", name(signal)))?;
    Ok(())
}

/// rt_sigaction(2): the signal has its default effect from now on.
pub fn set_default(signal: i32) -> Result<()> {
    // SAFETY: SIG_DFL is no function of ours.
    Errno::result(unsafe { libc::signal(signal, libc::SIG_DFL) as isize })
        .call(|| format!("rt_sigaction({}, SIG_DFL)", name(signal)))?;
    Ok(())
}

/// signalfd4(2): reports these signals, which must be blocked first.
pub fn signalfd(set: Set) -> Result<OwnedFd> {
    // SAFETY: the set is the kernel's 8 bytes and lives until the call returns.
    let fd = unsafe { syscall!(libc::SYS_signalfd4, -1, &raw const set.0, 8, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }
        .call(|| format!("signalfd4(-1, {:#x}, 8, SFD_CLOEXEC|SFD_NONBLOCK)", set.0))?;
    // SAFETY: the kernel just gave us this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its number.
    pub signal: i32,
    /// Who sent it; 0 where the kernel did, or a process outside of our pid namespace.
    pub pid: i32,
}

/// As many signals as one [`read_signals`] takes.
pub const AT_ONCE: usize = 8;

/// The next signals of a [`signalfd`], at most [`AT_ONCE`]: fewer are all that are waiting.
pub fn read_signals(fd: impl AsFd) -> Result<Vec<Info>> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; AT_ONCE * SIZE];
    let length = match retry(|| nix::unistd::read(fd.as_fd(), &mut buffer)) {
        Err(Errno::EAGAIN) => 0,
        other => other.call(|| format!("read({})", call::raw_fd(fd.as_fd().as_raw_fd())))?,
    };
    let info = |bytes: &[u8]| {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as i32;
        // struct signalfd_siginfo: ssi_signo at 0, ssi_pid at 12.
        Info { signal: word(0), pid: word(12) }
    };
    Ok(buffer[..length].chunks_exact(SIZE).map(info).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::pid;
    use crate::linux::test_child::in_child;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Hup", 1),
            ("CLD", 17),
            ("SIGIOT", 6),
            ("POLL", 29),
            ("SYS", 31),
            ("64", 64),
            ("0", 0),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("rtmax-14", 50),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in [
            "",
            "65",
            "-1",
            "+9",
            "9 ",
            "KILLED",
            "SIG",
            "SIGSIGKILL",
            "RTMIN+31",
            "RTMIN-1",
            "RTMIN++1",
            "RTMAX-31",
            "99999999999",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        for number in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(parse(&name(number)), Some(number));
        }
        assert_eq!((name(libc::SIGCHLD), name(libc::SIGSYS)), ("SIGCHLD".into(), "SIGSYS".into()));
        assert_eq!((name(32), name(37)), ("32".into(), "SIGRTMIN+3".into()));
    }

    fn status(field: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        u64::from_str_radix(text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn resets_everything() {
        in_child(|| {
            ignore(libc::SIGHUP).unwrap();
            ignore(libc::SIGPIPE).unwrap();
            ignore(RTMAX).unwrap();
            assert_eq!(set_mask(Set::of(&[libc::SIGTERM, RTMAX])).map(|_| ()), Ok(()));
            assert_eq!(status("SigBlk:"), 1 << 14 | 1 << 63);
            assert!(Set(status("SigIgn:")).contains(RTMAX));
            reset().unwrap();
            assert_eq!((status("SigBlk:"), status("SigIgn:"), status("SigCgt:")), (0, 0, 0));
        });
    }

    #[test]
    fn reads_signals() {
        in_child(|| {
            let set = Set::of(&[libc::SIGUSR1, 40]);
            assert_eq!(set_mask(set).unwrap(), Set::EMPTY);
            let fd = signalfd(set).unwrap();
            assert_eq!(read_signals(&fd).unwrap(), []);
            pid::kill(pid::getpid(), 40).unwrap();
            assert!(pid::wait_readable(&fd, None).unwrap());
            let sent = |signal| Info { signal, pid: pid::getpid() };
            assert_eq!(read_signals(&fd).unwrap(), [sent(40)]);
            // Those of real time are queued, each of them, behind the others.
            (0..AT_ONCE).for_each(|_| pid::kill(pid::getpid(), 40).unwrap());
            pid::kill(pid::getpid(), libc::SIGUSR1).unwrap();
            let first = read_signals(&fd).unwrap();
            assert_eq!((first.len(), first[0], first[AT_ONCE - 1]), (AT_ONCE, sent(libc::SIGUSR1), sent(40)));
            assert_eq!(read_signals(&fd).unwrap(), [sent(40)]);
            assert_eq!(set_mask(Set::ALL.without(&[1])).unwrap(), set);
        });
    }
}
