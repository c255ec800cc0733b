// SPDX-License-Identifier: Apache-2.0
//! Tests of descriptors, directories and files, and the scratch directory that tests of this floor use.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::linux::test_child::{in_child, is_root};
use crate::linux::types::NodeKind;

/// A new directory under the temporary one, removed when the test ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("berth-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
    pub(crate) fn dir(&self) -> OwnedFd {
        open_dir(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn stat_agrees_with_the_standard_library() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file");
    std::fs::write(&path, "12345").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4711)).unwrap();
    let theirs = std::fs::metadata(&path).unwrap();
    let ours = stat(open(&path, OFlag::O_PATH).unwrap()).unwrap();
    assert_eq!(
        (ours.mode, ours.ino, ours.uid, ours.gid, u64::from(ours.nlink), ours.size),
        (theirs.mode(), theirs.ino(), theirs.uid(), theirs.gid(), theirs.nlink(), 5)
    );
    assert_eq!(nix::sys::stat::makedev(ours.dev.major.into(), ours.dev.minor.into()), theirs.dev());
    assert!(ours.is_regular() && !ours.mount_root && ours.mount_id.is_some());
    assert_eq!(ours, statat(scratch.dir(), "file").unwrap());
    assert!(stat_path("/dev/null").unwrap().is_char_device(1, 3));
    assert!(stat_path("/proc").unwrap().mount_root);
    assert_eq!(stat_path("/nowhere").unwrap_err().errno, Errno::ENOENT);
}

#[test]
fn statfs_knows_proc() {
    let fs = statfs(open_dir_path("/proc").unwrap()).unwrap();
    assert_eq!(fs.magic, magic::PROC);
    assert!(!fs.read_only());
}

#[test]
fn one_component_only() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    for leaf in ["", ".", "..", "a/b", "/etc", "a/"] {
        assert_eq!(openat(&dir, leaf, OFlag::O_RDONLY, 0).unwrap_err().errno, Errno::EINVAL, "{leaf:?}");
        assert_eq!(mkdirat(&dir, leaf, 0o755).unwrap_err().errno, Errno::EINVAL, "{leaf:?}");
        assert_eq!(unlinkat(&dir, leaf).unwrap_err().errno, Errno::EINVAL, "{leaf:?}");
        assert_eq!(rmdirat(&dir, leaf).unwrap_err().errno, Errno::EINVAL, "{leaf:?}");
    }
    let error = openat(&dir, "none", OFlag::O_RDONLY, 0).unwrap_err();
    let shown = format!("openat({}<{}>, \"none\", O_CLOEXEC|O_NOFOLLOW, 00)", dir.as_raw_fd(), scratch.path().display());
    assert_eq!(error.call, shown);
    symlinkat("/etc/passwd", &dir, "link").unwrap();
    assert_eq!(openat(&dir, "link", OFlag::O_RDONLY, 0).unwrap_err().errno, Errno::ELOOP);
    assert_eq!(readlinkat(&dir, "link").unwrap(), "/etc/passwd");
}

#[test]
fn lists_and_removes() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    for number in 0..3000 {
        std::fs::write(scratch.path().join(format!("a-rather-long-name-{number}")), "").unwrap();
    }
    mkdirat(&dir, "sub", 0o700).unwrap();
    std::fs::write(scratch.path().join("sub/inner"), "x").unwrap();
    symlinkat("/", &dir, "link").unwrap();
    mkfifoat(&dir, "fifo", 0o600).unwrap();
    let listed = entries(&dir).unwrap();
    assert_eq!(listed.len(), 3003);
    assert_eq!(names(&dir).unwrap().len(), 3003); // The second time reads from the beginning again.
    assert!(listed.contains(&Entry { name: "sub".into(), kind: libc::DT_DIR }));
    assert!(listed.contains(&Entry { name: "link".into(), kind: libc::DT_LNK }));
    remove_contents(&dir).unwrap();
    assert_eq!(names(&dir).unwrap().len(), 0);
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn device_nodes_and_owners() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let dir = scratch.dir();
    mknodat(&dir, "null", NodeKind::Character, DeviceNumber { major: 1, minor: 3 }, 0o666).unwrap();
    let fd = openat(&dir, "null", OFlag::O_PATH, 0).unwrap();
    assert!(stat(&fd).unwrap().is_char_device(1, 3));
    fchown(&fd, 12, 34).unwrap();
    fchmod(&fd, 0o640).unwrap();
    let stat = stat(&fd).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode & 0o7777), (12, 34, 0o640));
}

#[test]
fn reads_within_bounds() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let content = vec![b'x'; 200_000];
    std::fs::write(scratch.path().join("big"), &content).unwrap();
    std::fs::write(scratch.path().join("empty"), "").unwrap();
    assert_eq!(read_at(&dir, "big", 200_000).unwrap(), content);
    assert_eq!(read_at(&dir, "big", 199_999).unwrap_err().errno, Errno::EFBIG);
    assert_eq!(read_at(&dir, "empty", 0).unwrap(), b"");
    assert_eq!(read_at(&dir, "big", 0).unwrap_err().errno, Errno::EFBIG);
    mkfifoat(&dir, "fifo", 0o600).unwrap();
    assert_eq!(read_file_bounded(scratch.path().join("fifo"), 10).unwrap_err().errno, Errno::EINVAL);
    assert_eq!(read_file_bounded("/dev/zero", 10).unwrap_err().errno, Errno::EINVAL);
    assert!(read_file_bounded("/proc/self/mountinfo", 1 << 20).unwrap().len() > 100);
    // A source that grows while it is read, larger than its stat size.
    let (reader, writer) = pipe().unwrap();
    write_all(&writer, &content[..60_000]).unwrap();
    drop(writer);
    assert_eq!(read_bounded(&reader, 100_000).unwrap().len(), 60_000);
}

#[test]
fn replaces_atomically() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let stale = format!(".state.json.{}", std::process::id());
    std::fs::write(scratch.path().join(&stale), "left by a killed process").unwrap();
    write_file_atomic(&dir, "state.json", b"one", 0o640).unwrap();
    write_file_atomic(&dir, "state.json", b"two", 0o600).unwrap();
    assert_eq!(read_at(&dir, "state.json", 100).unwrap(), b"two");
    assert_eq!(statat(&dir, "state.json").unwrap().mode & 0o7777, 0o600);
    assert_eq!(names(&dir).unwrap(), ["state.json"]);
    mkdirat(&dir, "sub", 0o700).unwrap();
    std::fs::write(scratch.path().join("sub/x"), "").unwrap();
    assert!(write_file_atomic(&dir, "sub", b"no", 0o600).is_err());
    assert_eq!(names(&dir).unwrap().len(), 2);
}

#[test]
fn publishes_a_file() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    publish_file(&dir, "pid", b"12", 0o644).unwrap();
    publish_file(&dir, "pid", b"3", 0o600).unwrap();
    assert_eq!(read_at(&dir, "pid", 100).unwrap(), b"3");
    assert_eq!(statat(&dir, "pid").unwrap().mode & 0o7777, 0o600);
    mkdirat(&dir, "sub", 0o700).unwrap();
    assert!(publish_file(&dir, "sub", b"no", 0o600).is_err());
    assert_eq!(names(&dir).unwrap().len(), 2);
}

#[test]
fn writes_once() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    std::fs::write(scratch.path().join("value"), "old").unwrap();
    write_at(&dir, "value", b"new").unwrap();
    assert_eq!(read_at(&dir, "value", 10).unwrap(), b"new");
    assert_eq!(write_at(&dir, "missing", b"new").unwrap_err().errno, Errno::ENOENT);
    let full = open("/dev/full", OFlag::O_WRONLY).unwrap();
    let error = write_once(&full, b"max 1\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("write({}</dev/full>, \"max 1\\n\", 6) = ENOSPC (no space left on device)", full.as_raw_fd())
    );
}

#[test]
fn locks() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.dir(), scratch.dir());
    assert_eq!(flock(&one, true, false), Ok(true));
    assert_eq!(flock(&two, false, false), Ok(false));
    assert_eq!(flock(&one, false, true), Ok(true));
    assert_eq!(flock(&two, false, false), Ok(true));
    drop(one);
    assert_eq!(flock(&two, true, false), Ok(true));
}

#[test]
fn duplicates_and_marks() {
    let (reader, writer) = pipe().unwrap();
    let copy = dup_from(&writer, 100).unwrap();
    assert!(copy.as_raw_fd() >= 100);
    let marked = |fd: RawFd| FdFlag::from_bits_retain(nix::fcntl::fcntl(unsafe_borrow(fd), FcntlArg::F_GETFD).unwrap());
    assert_eq!(marked(copy.as_raw_fd()), FdFlag::FD_CLOEXEC);
    set_cloexec(&copy, false).unwrap();
    assert_eq!(marked(copy.as_raw_fd()), FdFlag::empty());
    dup_onto(&reader, copy.as_raw_fd()).unwrap();
    assert_eq!(stat(&copy).unwrap().ino, stat(&reader).unwrap().ino);
    set_nonblocking(&reader, true).unwrap();
    assert_eq!(nix::unistd::read(&reader, &mut [0; 1]), Err(Errno::EAGAIN));
    let number = copy.as_raw_fd();
    assert!(is_open(number));
    drop(copy);
    assert!(!is_open(987_654));
}

/// The descriptor of this number, which the test keeps open.
fn unsafe_borrow(fd: RawFd) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: the test that asks holds the descriptor open meanwhile.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

#[test]
fn seals_memory() {
    let fd = memfd(c"berth", true).unwrap();
    write_all(&fd, b"content").unwrap();
    seal(&fd).unwrap();
    assert_eq!(write_all(&fd, b"more").unwrap_err().errno, Errno::EPERM);
    assert_eq!(seal(&fd).unwrap_err().errno, Errno::EPERM);
}

#[test]
fn closes_all_but_some() {
    crate::linux::test_child::in_child(|| {
        let null = open("/dev/null", OFlag::O_RDONLY).unwrap();
        for number in [100, 101, 102, 150, 200] {
            dup_onto(&null, number).unwrap();
            // SAFETY: no pointer.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        close_all_but(101, vec![200, 150, 5]).unwrap();
        let open: Vec<RawFd> = [100, 101, 102, 150, 200].into_iter().filter(|fd| is_open(*fd)).collect();
        assert_eq!(open, [100, 150, 200]);
        dup_onto(&null, 300).unwrap();
        assert!(is_inherited(300) && !is_inherited(200) && !is_inherited(301));
        close_all_but(100, vec![]).unwrap();
        assert!(!is_open(100) && !is_open(200) && is_open(0));
    });
}

#[test]
fn many_are_closed_at_once() {
    in_child(|| {
        let all: Vec<OwnedFd> = (0..12).map(|_| super::open("/dev/null", OFlag::O_RDONLY).unwrap()).collect();
        let numbers: Vec<RawFd> = all.iter().map(AsRawFd::as_raw_fd).collect();
        let (kept, spent): (Vec<OwnedFd>, Vec<OwnedFd>) = all.into_iter().partition(|fd| fd.as_raw_fd() == numbers[5]);
        super::close_all(spent);
        assert!(numbers.iter().all(|number| super::is_open(*number) == (*number == kept[0].as_raw_fd())));
    });
}

#[test]
fn a_file_of_parts() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let long = vec![b'x'; 100_000];
    create_file_of(&dir, "one", &[b"", b"a", b"", &long, b"z", b""]).unwrap();
    let whole = [b"a", &long[..], b"z"].concat();
    assert_eq!(read_at(&dir, "one", 1 << 20).unwrap(), whole);
    assert_eq!(create_file_of(&dir, "one", &[b"a"]).unwrap_err().errno, Errno::EEXIST);
    create_file_of(&dir, "none", &[b"", b""]).unwrap();
    assert_eq!(read_at(&dir, "none", 10).unwrap(), b"");
    let file = openat(&dir, "one", OFlag::O_RDONLY, 0).unwrap();
    let mut bytes = Vec::new();
    assert_eq!(read_more(&file, &mut bytes, 10).unwrap(), 10);
    assert_eq!(read_more(&file, &mut bytes, 10).unwrap(), 0, "there is no room");
    while read_more(&file, &mut bytes, whole.len() + 1).unwrap() > 0 {}
    assert_eq!(bytes, whole);
}
