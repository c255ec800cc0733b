// SPDX-License-Identifier: Apache-2.0
//! What [`Root`] follows and what it refuses.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::linux::fd::{stat, tests::Scratch};

/// A root filesystem with links that try to leave it, beside a directory that stands for the host.
fn image() -> (Scratch, PathBuf, Root) {
    let scratch = Scratch::new();
    let host = scratch.path().join("host");
    let rootfs = scratch.path().join("rootfs");
    for dir in ["etc", "a/b"] {
        std::fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    std::fs::create_dir_all(rootfs.join("host-looks-like-this/inner")).unwrap();
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("secret"), "host").unwrap();
    std::fs::write(rootfs.join("etc/passwd"), "inside").unwrap();
    symlink("/etc", rootfs.join("absolute")).unwrap();
    symlink("../../../../etc/passwd", rootfs.join("a/dots")).unwrap();
    symlink(host.join("secret"), rootfs.join("escape")).unwrap();
    symlink("nowhere", rootfs.join("dangling")).unwrap();
    symlink("loop2", rootfs.join("loop1")).unwrap();
    symlink("loop1", rootfs.join("loop2")).unwrap();
    symlink("../host", rootfs.join("up")).unwrap();
    let root = Root::open(&rootfs).unwrap();
    (scratch, rootfs, root)
}

#[test]
fn resolves_inside() {
    let (_scratch, rootfs, root) = image();
    let passwd = std::fs::metadata(rootfs.join("etc/passwd")).unwrap();
    for path in ["etc/passwd", "/etc/passwd", "absolute/passwd", "a/dots", "../../etc/passwd", "/a/b/../../../../etc/passwd"] {
        let fd = root.open_path(path).unwrap();
        assert_eq!(stat(&fd).unwrap().ino, std::os::unix::fs::MetadataExt::ino(&passwd), "{path}");
    }
    for path in ["", "/", "..", "a/b/../.."] {
        assert_eq!(stat(root.open_path(path).unwrap()).unwrap().ino, stat(&root).unwrap().ino, "{path:?}");
    }
    assert_eq!(root.read_file("absolute/passwd", 100).unwrap(), b"inside");
}

#[test]
fn does_not_lead_out() {
    let (_scratch, _rootfs, root) = image();
    assert_eq!(root.open_path("escape").unwrap_err().errno, Errno::ENOENT);
    assert_eq!(root.open_path("up").unwrap_err().errno, Errno::ENOENT);
    assert_eq!(root.open_path("up/secret").unwrap_err().errno, Errno::ENOENT);
    assert_eq!(root.open_path("loop1").unwrap_err().errno, Errno::ELOOP);
    assert!(stat(root.open_path_nofollow("escape").unwrap()).unwrap().is_symlink());
    let error = root.open_path("escape").unwrap_err();
    assert!(error.call.contains("\"escape\", O_CLOEXEC|O_PATH, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS"), "{error}");
}

#[test]
fn nothing_is_no_error() {
    let (_scratch, _rootfs, root) = image();
    for path in ["none", "none/below", "etc/passwd/below", "escape", "up/secret"] {
        assert!(root.find(path, true).unwrap().is_none(), "{path}");
    }
    assert!(stat(root.find("escape", false).unwrap().unwrap()).unwrap().is_symlink());
    assert!(stat(root.find("", true).unwrap().unwrap()).unwrap().is_dir());
    let error = root.find("loop1", true).unwrap_err();
    assert_eq!(error, root.open_path("loop1").unwrap_err());
}

#[test]
fn refuses_magic_links() {
    let proc = Root::open("/proc").unwrap();
    assert_eq!(proc.open_path("self/root/etc").unwrap_err().errno, Errno::ELOOP);
    assert_eq!(proc.open_path("self/exe").unwrap_err().errno, Errno::ELOOP);
    assert!(proc.open_path("self/status").is_ok());
}

#[test]
fn reads_only_regular_files_within_bounds() {
    let (_scratch, rootfs, root) = image();
    nix::unistd::mkfifo(&rootfs.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(root.open_file("fifo").unwrap_err().errno, Errno::EINVAL);
    assert_eq!(root.open_file("etc").unwrap_err().errno, Errno::EINVAL);
    assert_eq!(root.read_file("etc/passwd", 5).unwrap_err().errno, Errno::EFBIG);
    assert_eq!(root.read_file("etc/passwd", 6).unwrap(), b"inside");
    assert_eq!(root.open_with("new", OFlag::O_WRONLY | OFlag::O_CREAT).unwrap_err().errno, Errno::EINVAL);
}

#[test]
fn makes_directories_inside() {
    let (scratch, rootfs, root) = image();
    let made = root.mkdir_all("/absolute/x/y", 0o750).unwrap();
    let inside = std::fs::metadata(rootfs.join("etc/x/y")).unwrap();
    assert_eq!(stat(&made).unwrap().ino, std::os::unix::fs::MetadataExt::ino(&inside));
    assert_eq!(inside.permissions().mode() & 0o777, 0o750);
    // Existing directories, also through links, are simply opened.
    assert_eq!(stat(root.mkdir_all("absolute", 0o755).unwrap()).unwrap().ino, stat(root.open_path("etc").unwrap()).unwrap().ino);
    assert_eq!(stat(root.mkdir_all("/", 0o755).unwrap()).unwrap().ino, stat(&root).unwrap().ino);
    assert!(root.mkdir_all("new//one/./two/", 0o755).is_ok());
    assert!(rootfs.join("new/one/two").is_dir());
    for (path, errno) in [
        ("dangling", Errno::ENOTDIR),
        ("dangling/x", Errno::ENOTDIR),
        ("up/x", Errno::ENOTDIR),
        ("escape/x", Errno::ENOTDIR),
        ("loop1/x", Errno::ELOOP),
        ("etc/passwd", Errno::ENOTDIR),
        ("missing/../../x", Errno::ENOENT),
    ] {
        let error = root.mkdir_all(path, 0o755).unwrap_err();
        assert!(error.errno == errno || error.errno == Errno::ELOOP, "{path}: {error}");
    }
    assert_eq!(std::fs::read_dir(scratch.path().join("host")).unwrap().count(), 1);
    assert!(!rootfs.join("nowhere").exists() && !rootfs.join("missing").exists());
}

#[test]
fn makes_files_inside() {
    let (_scratch, rootfs, root) = image();
    root.create_file("deep/er/file", 0o640).unwrap();
    let meta = std::fs::metadata(rootfs.join("deep/er/file")).unwrap();
    assert!(meta.is_file() && meta.permissions().mode() & 0o777 == 0o640);
    // What exists is opened as it is, with its content.
    root.create_file("absolute/passwd", 0o600).unwrap();
    assert_eq!(std::fs::read(rootfs.join("etc/passwd")).unwrap(), b"inside");
    for path in ["dangling", "escape"] {
        assert_eq!(root.create_file(path, 0o644).unwrap_err().errno, Errno::ELOOP, "{path}");
    }
    assert_eq!(root.create_file("/", 0o644).map(|fd| stat(fd).unwrap().is_dir()), Ok(true));
}

#[test]
fn parent_and_leaf() {
    let (_scratch, rootfs, root) = image();
    let (parent, leaf) = root.parent_of("/absolute/passwd/").unwrap();
    assert_eq!((stat(&parent).unwrap().ino, leaf), (stat(root.open_path("etc").unwrap()).unwrap().ino, "passwd"));
    assert_eq!(root.parent_of("top").unwrap().1, "top");
    for path in ["", "/", ".", "a/..", "a/."] {
        assert_eq!(root.parent_of(path).unwrap_err().errno, Errno::EINVAL, "{path:?}");
    }
    root.symlink("/proc/self/fd", "dev-fd").unwrap();
    assert_eq!(std::fs::read_link(rootfs.join("dev-fd")).unwrap(), PathBuf::from("/proc/self/fd"));
    assert_eq!(root.readlink("dev-fd").unwrap(), "/proc/self/fd");
    assert_eq!(root.symlink("x", "dangling").unwrap_err().errno, Errno::EEXIST);
}

#[test]
fn swapping_a_directory_for_a_link_never_leads_out() {
    let (scratch, rootfs, root) = image();
    std::fs::create_dir(rootfs.join("swap")).unwrap();
    symlink(scratch.path().join("host"), rootfs.join("link")).unwrap();
    let (swap, link) = (rootfs.join("swap"), rootfs.join("link"));
    // SAFETY: the child only exchanges two names until it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            let _ = nix::fcntl::renameat2(
                nix::fcntl::AT_FDCWD,
                &swap,
                nix::fcntl::AT_FDCWD,
                &link,
                nix::fcntl::RenameFlags::RENAME_EXCHANGE,
            );
        }
    }
    for turn in 0..400 {
        let _ = root.mkdir_all(&format!("swap/d{turn}/e"), 0o755);
        let _ = root.create_file(&format!("swap/f{turn}"), 0o644);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
    assert_eq!(std::fs::read_dir(scratch.path().join("host")).unwrap().count(), 1);
}

/// A link's target or a path to open, made of few words so that they meet.
fn any_path() -> impl Strategy<Value = String> {
    let part =
        prop_oneof![Just("a"), Just("b"), Just("l0"), Just("l1"), Just("l2"), Just(".."), Just("."), Just("host"), Just("")];
    (any::<bool>(), prop::collection::vec(part, 1..8))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Links that lead anywhere, paths that climb: what is opened is inside, or nothing is.
    #[test]
    fn nothing_that_is_opened_lies_outside(links in prop::collection::vec(any_path(), 3), path in any_path()) {
        let scratch = Scratch::new();
        let rootfs = scratch.path().join("rootfs");
        for dir in ["a/b", "b/a"] {
            std::fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        for beside in ["host/a", "a", "b"] {
            std::fs::create_dir_all(scratch.path().join(beside)).unwrap();
        }
        for (number, target) in links.iter().enumerate() {
            let target = if target.is_empty() { "." } else { target };
            symlink(target, rootfs.join(format!("l{number}"))).unwrap();
            symlink(target, rootfs.join(format!("a/l{number}"))).unwrap();
        }
        let root = Root::open(&rootfs).unwrap();
        for found in [root.open_path(&path), root.open_path_nofollow(&path)].into_iter().flatten() {
            let is = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found))).unwrap();
            prop_assert!(is.starts_with(&rootfs), "{:?} with links {:?} is {:?}", path, links, is);
        }
    }
}
