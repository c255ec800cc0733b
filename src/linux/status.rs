// SPDX-License-Identifier: Apache-2.0
//! What /proc/self/status says of this process; proc_pid_status(5). It is read once: the runtime changes nothing of it before it has made
//! the container's process, but for its umask, whose former value is what is asked for.

use super::fd;
use super::once::Once;
use super::signal::Set;
use super::types::CapSet;

/// Larger than it ever is.
const MOST: usize = 1 << 16;

/// What is read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The umask.
    pub umask: u32,
    /// The signals that are ignored.
    pub ignored: Set,
    /// The effective capabilities.
    pub effective: CapSet,
    /// The bounding set.
    pub bounding: CapSet,
}

static READ: Once<Status> = Once::unknown();

/// This process's; none where it cannot be read, or lacks one of these.
pub fn own() -> Option<Status> {
    match READ.get() {
        Some(read) => Some(*read),
        None => {
            let read = parse(&fd::read_record_of("/proc/self/status", MOST).ok()?)?;
            let _ = READ.keep(read);
            Some(read)
        }
    }
}

/// The lines stand in this order.
fn parse(bytes: &[u8]) -> Option<Status> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut number = |name: &[u8], radix| {
        let text = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))?;
        u64::from_str_radix(std::str::from_utf8(text).ok()?.trim(), radix).ok()
    };
    Some(Status {
        umask: u32::try_from(number(b"Umask", 8)?).ok()?,
        ignored: Set(number(b"SigIgn", 16)?),
        effective: CapSet(number(b"CapEff", 16)?),
        bounding: CapSet(number(b"CapBnd", 16)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::in_child;
    use crate::linux::{cred, signal};

    #[test]
    fn it_is_what_the_kernel_says() {
        in_child(|| {
            cred::umask(0o27);
            signal::ignore(libc::SIGUSR2).unwrap();
            let sets = cred::capget().unwrap();
            let read = own().unwrap();
            assert_eq!((read.umask, read.effective, read.bounding), (0o27, sets.effective, cred::bounding().unwrap()));
            assert!(read.ignored.contains(libc::SIGUSR2) && !read.ignored.contains(libc::SIGUSR1));
            // A clone of one that has read its own does not keep it.
            let kept = READ.get() == Some(&read);
            cred::umask(0o22);
            assert_eq!(own() == Some(read), kept, "it is read once");
        });
    }

    #[test]
    fn a_file_that_lacks_a_line_says_nothing() {
        let lines = [
            "Name:\tUmask:",
            "Umask:\t0077",
            "SigBlk:\t01",
            "SigIgn:\t0000000000001000",
            "CapInh:\t02",
            "CapEff:\t05",
            "CapBnd:\t1ff",
        ];
        let read = parse(lines.join("\n").as_bytes());
        let want = Status { umask: 0o77, ignored: Set(0x1000), effective: CapSet(5), bounding: CapSet(0x1ff) };
        assert_eq!(read, Some(want));
        for needed in [1, 3, 5, 6] {
            let mut fewer = lines.to_vec();
            fewer.remove(needed);
            assert_eq!(parse(fewer.join("\n").as_bytes()), None, "without {}", lines[needed]);
            fewer.insert(needed, "CapBnd:\tx");
            assert_eq!(parse(fewer.join("\n").as_bytes()), None);
        }
    }
}
