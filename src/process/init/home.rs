// SPDX-License-Identifier: Apache-2.0
//! HOME of a user of the container, from the image's /etc/passwd (passwd(5)). Called by `init` where the configuration sets none.
//!
//! The file is the image's word and nothing more: only a regular file is read, without waiting, and only so much of it; users are found
//! by number, never by name (CVE-2016-3697); what is unreadable or absurd means `/`, as it does for a user who is not in it.

use crate::linux::fd::{Root, read_bounded};

/// Most bytes of the file that are read; a longer one is as good as none.
const PASSWD_MAX: usize = 1 << 20;

/// The home directory of `uid` in the root filesystem, `/` where it has none.
pub fn of_user(root: &Root, uid: u32) -> String {
    // Where there is none, no error needs to be put into words.
    let there = root.find("/etc/passwd", true).is_ok_and(|found| found.is_some());
    let read = there.then(|| root.open_file("/etc/passwd").and_then(|file| read_bounded(&file, PASSWD_MAX)).ok());
    read.flatten().and_then(|bytes| find(&bytes, uid)).unwrap_or_else(|| "/".into())
}

/// The home directory of the first line of this user id; none where that is not an absolute path.
fn find(passwd: &[u8], uid: u32) -> Option<String> {
    for line in passwd.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let (Some(number), Some(home)) = (fields.get(2), fields.get(5)) else { continue };
        if number_of(number) != Some(uid) {
            continue;
        }
        let home = std::str::from_utf8(home).ok()?;
        return (home.starts_with('/') && !home.contains('\0')).then(|| home.to_string());
    }
    None
}

/// Decimal digits only: no sign, no space, nothing that does not fit.
fn number_of(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\n#c\n1000:x:0:0::/evil:\nbad:x:+7:7::/no:\nu:x:7:7::/home/u:/bin/sh\nr:x:8:8::relative:\nshort:x:9\nlast:x:10:10::/l:";

    #[test]
    fn finds_by_number_only() {
        assert_eq!(find(PASSWD, 0).as_deref(), Some("/root"));
        assert_eq!(find(PASSWD, 7).as_deref(), Some("/home/u"));
        assert_eq!(find(PASSWD, 10).as_deref(), Some("/l"));
        for absent in [8, 9, 1000, 77] {
            assert_eq!(find(PASSWD, absent), None, "{absent}");
        }
        assert_eq!(find(b"x:x:7:7::/a\0b:", 7), None);
        assert_eq!(find(b"x:x:7:7::/\xff:", 7), None);
        assert_eq!(find(b"x:x:4294967303:7::/overflow:", 7), None);
    }

    #[test]
    fn never_waits_and_never_reads_without_end() {
        let scratch = Scratch::new();
        let etc = scratch.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let passwd = etc.join("passwd");
        assert_eq!(of_user(&root, 0), "/", "no file");
        std::fs::write(&passwd, PASSWD).unwrap();
        assert_eq!(of_user(&root, 0), "/root");
        std::fs::File::options().append(true).open(&passwd).unwrap().set_len(PASSWD_MAX as u64 + 1).unwrap();
        assert_eq!(of_user(&root, 0), "/", "too large");
        std::fs::remove_file(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(of_user(&root, 0), "/", "a FIFO");
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/etc/other", &passwd).unwrap();
        std::fs::write(etc.join("other"), "x:x:0:0::/linked:").unwrap();
        assert_eq!(of_user(&root, 0), "/linked", "a link stays inside");
    }
}
