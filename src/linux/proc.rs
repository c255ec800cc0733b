// SPDX-License-Identifier: Apache-2.0
//! Procfs: a handle whose files are certainly the kernel's, and parsers of what they say; proc(5). Used by `process` (labels, sysctls,
//! id maps) and `container` (is it alive?).
//!
//! A write that was meant for /proc but lands elsewhere, or in another file of /proc, has been an escape more than once: CVE-2019-16884,
//! CVE-2025-52881. So the handle is a procfs that nobody else can mount over, or the host's after a check, and each file below it is
//! opened without leaving that one mount (openat2(2), RESOLVE_NO_XDEV).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use nix::fcntl::{OFlag, ResolveFlag};

use super::call::{self, CallError, Result};
use super::types::Errno;
use super::{fd, mount};

/// Most bytes of any file read here; mountinfo of 100,000 mounts fits.
const MOST: usize = 64 << 20;
/// The inode number of a procfs root.
const ROOT_INODE: u64 = 1;

/// The root of a procfs.
#[derive(Debug)]
pub struct Procfs<Root: AsFd = OwnedFd> {
    root: Root,
}

impl<Root: AsFd> AsFd for Procfs<Root> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Procfs {
    /// A new procfs of this process's pid namespace, mounted nowhere; with `only_processes` without /proc/sys and the like
    /// (`subset=pid`, Linux 5.8). EPERM without CAP_SYS_ADMIN, or where /proc of an outer container is masked.
    pub fn detached(only_processes: bool) -> Result<Procfs> {
        let subset = only_processes.then_some(("subset", Some("pid")));
        Procfs::checked(mount::new_mount("proc", subset, 0x2 | 0x4 | 0x8)?) // nosuid, nodev, noexec
    }

    /// The procfs on /proc, after making sure that it is one, whole.
    pub fn host() -> Result<Procfs> {
        Procfs::checked(fd::open_dir_path("/proc")?)
    }

    /// A new detached one, or where that is not permitted the one on /proc.
    pub fn open(only_processes: bool) -> Result<Procfs> {
        match Procfs::detached(only_processes) {
            Err(error) if matches!(error.errno, Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EINVAL) => Procfs::host(),
            other => other,
        }
    }

    fn checked(root: OwnedFd) -> Result<Procfs> {
        let stat = fd::stat(&root)?;
        if fd::statfs(&root)?.magic != fd::magic::PROC || stat.ino != ROOT_INODE {
            return Err(CallError::new(format!("fstatfs({}): not the root of a procfs", call::fd(&root)), Errno::EXDEV));
        }
        Ok(Procfs { root })
    }
}

/// Writes `bytes` to a file of the process's directory in the procfs on /proc (`oom_score_adj`) with one write(2), after making sure that it
/// is a procfs's. EXDEV where it is not, ELOOP where a link is on the way.
pub fn write_of(pid: i32, name: &str, bytes: &[u8]) -> Result<()> {
    let no_links = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let file = fd::openat2(nix::fcntl::AT_FDCWD, &format!("/proc/{pid}/{name}"), OFlag::O_WRONLY | OFlag::O_NOCTTY, 0, no_links)?;
    if fd::statfs(&file)?.magic != fd::magic::PROC {
        return Err(CallError::new(format!("fstatfs({}): not a file of a procfs", call::fd(&file)), Errno::EXDEV));
    }
    fd::write_once(file, bytes)
}

impl<'a> Procfs<BorrowedFd<'a>> {
    /// A procfs that this process has mounted itself, whole, by the descriptor that the mount was made as.
    pub fn just_made(root: BorrowedFd<'a>) -> Self {
        Procfs { root }
    }
}

impl<Root: AsFd> Procfs<Root> {
    /// Opens `path` (`self/attr/exec`, `sys/net/ipv4/ip_forward`), which must be a file of this procfs itself: a mount over it is EXDEV, a
    /// magic link ELOOP. Plain links (`self`, `thread-self`, `net`) are followed.
    pub fn open_file(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        // The root is a procfs's, which has been verified; what the kernel finds from there without leaving that mount is its file.
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        fd::openat2(&self.root, path, flags | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY, 0, resolve)
    }

    /// Writes `bytes` to a file with one write(2).
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.written(path, bytes).map(drop)
    }

    /// As [`Procfs::write`], with the file, which is of no more use: for who closes many descriptors at once.
    pub fn written(&self, path: &str, bytes: &[u8]) -> Result<OwnedFd> {
        let file = self.open_file(path, OFlag::O_WRONLY)?;
        fd::write_once(&file, bytes).map(|()| file)
    }

    /// Reads a file that the kernel makes up as one record ([`fd::read_record`]).
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        fd::read_record(self.open_file(path, OFlag::O_RDONLY)?, MOST)
    }
}

/// What /proc/PID/stat says of a process, as far as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidStat {
    /// `R`, `S`, `D`, `T`, `Z`, `X`, ...
    pub state: char,
    /// Its parent.
    pub ppid: i32,
    /// When it started, in clock ticks after boot: with the number (and the boot) it identifies a process.
    pub start_time: u64,
    /// It is on its way out: killed or at its end, whatever it may still wait for.
    pub exiting: bool,
    /// How many threads it has, the first of them among them even when that has ended.
    pub threads: u32,
}

impl PidStat {
    /// It has ended, with all its threads, and is only there to be waited for.
    pub fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

/// /proc/PID/stat of the host; `None` where there is no such process.
pub fn pid_stat(pid: i32) -> Result<Option<PidStat>> {
    let path = format!("/proc/{pid}/stat");
    match fd::read_record_of(path.as_str(), MOST) {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => match parse_stat(&bytes) {
            Some(stat) => Ok(Some(stat)),
            None => {
                Err(CallError::new(format!("read({path:?}): {}", String::from_utf8_lossy(&bytes).escape_debug()), Errno::EBADMSG))
            }
        },
    }
}

/// A bit of field 9 (include/linux/sched.h).
const PF_EXITING: u32 = 4;

/// Field 2 is the program's name in parentheses, and may hold anything but NUL: the fields go on after the last `)`.
fn parse_stat(bytes: &[u8]) -> Option<PidStat> {
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace(); // From field 3 on.
    let state = fields.next().filter(|state| state.len() == 1)?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(9 - 5)?.parse().ok()?;
    let threads = fields.nth(20 - 10)?.parse().ok()?;
    let start_time = fields.nth(22 - 21)?.parse().ok()?;
    Some(PidStat { state, ppid, start_time, exiting: flags & PF_EXITING != 0, threads })
}

/// One line of /proc/PID/cgroup, cgroups(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupLine {
    /// The v1 controllers of this hierarchy (`cpu`, `cpuacct`, `name=systemd`); empty for cgroup2.
    pub controllers: Vec<String>,
    /// The process's cgroup in it, from the root of its cgroup namespace: `/` at the front.
    pub path: String,
}

/// The cgroups of a process (0: this one).
pub fn cgroups(pid: i32) -> Result<Vec<CgroupLine>> {
    let path = if pid == 0 { "/proc/self/cgroup".into() } else { format!("/proc/{pid}/cgroup") };
    let bytes = fd::read_record_of(path, MOST)?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse_cgroup).collect())
}

/// `HIERARCHY:CONTROLLERS:PATH`; the path may hold colons.
fn parse_cgroup(line: &str) -> Option<CgroupLine> {
    let mut parts = line.splitn(3, ':').skip(1);
    let controllers = parts.next()?.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
    let path = parts.next()?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.starts_with('/').then(|| CgroupLine { controllers, path: path.into() })
}

/// The length of a UUID in text.
const ID_SIZE: usize = 36;

/// The kernel's random name for this boot. It is asked once.
pub fn boot_id() -> Result<&'static str> {
    // The text itself and no address: `linux::memory` asks that of what lives as long as the program.
    static ID: OnceLock<[u8; ID_SIZE]> = OnceLock::new();
    let path = "/proc/sys/kernel/random/boot_id";
    let known = match ID.get() {
        Some(known) => known,
        None => {
            let bytes = fd::read_record_of(path, 128)?;
            let found = bytes.first_chunk().ok_or_else(|| CallError::new(format!("read({path:?})"), Errno::EBADMSG))?;
            ID.get_or_init(|| *found)
        }
    };
    std::str::from_utf8(known).map_err(|_| CallError::new(format!("read({path:?})"), Errno::EBADMSG))
}

/// One line of /proc/PID/mountinfo, proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// The mount's number.
    pub id: u64,
    /// The number of the mount it is on.
    pub parent: u64,
    /// Which directory of the filesystem is its root.
    pub root: String,
    /// Where it is, from this process's root.
    pub mount_point: String,
    /// Options of the mount: `rw,nosuid`.
    pub options: String,
    /// How it propagates: `shared:1`, `master:2`; empty where private.
    pub propagation: Vec<String>,
    /// The filesystem's type.
    pub fstype: String,
    /// What was mounted.
    pub source: String,
    /// Options of the filesystem.
    pub super_options: String,
}

/// The mounts that this process sees.
pub fn mountinfo() -> Result<Vec<MountInfo>> {
    mountinfo_at("/proc/self/mountinfo")
}

/// The mounts that a process sees, their places as that process names them.
pub fn mountinfo_of(pid: i32) -> Result<Vec<MountInfo>> {
    mountinfo_at(&format!("/proc/{pid}/mountinfo"))
}

fn mountinfo_at(path: &str) -> Result<Vec<MountInfo>> {
    let bytes = fd::read_file_bounded(path, MOST)?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse_mountinfo).collect())
}

/// Directories of procfs and sysfs that the kernel keeps empty for mounts: what is mounted there hides nothing (is_empty_dir_inode()).
const MADE_FOR_MOUNTS: [&str; 14] = [
    "/proc/sys/fs/binfmt_misc",
    "/proc/fs/nfsd",
    "/sys/fs/cgroup",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/fs/selinux",
    "/sys/fs/smackfs",
    "/sys/fs/resctrl",
    "/sys/fs/fuse/connections",
    "/sys/firmware/efi/efivars",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/kernel/config",
];

/// Where mounts hide a part of the procfs or sysfs at `directory`: then a user namespace gets no new one (mount_too_revealing()).
pub fn masked_below(directory: &str) -> Result<Vec<String>> {
    Ok(masking(&mountinfo()?, directory))
}

fn masking(mounts: &[MountInfo], directory: &str) -> Vec<String> {
    let within = |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let places = mounts.iter().map(|mount| mount.mount_point.as_str());
    let hides = |place: &&str| {
        *place != directory && within(place, directory) && !MADE_FOR_MOUNTS.iter().any(|known| within(place, known))
    };
    let mut found: Vec<String> = places.filter(hides).map(String::from).collect();
    found.dedup();
    found
}

fn parse_mountinfo(line: &str) -> Option<MountInfo> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (_device, root, mount_point, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let propagation: Vec<String> = fields.by_ref().take_while(|field| *field != "-").map(String::from).collect();
    let (fstype, source) = (fields.next()?, fields.next()?);
    Some(MountInfo {
        id,
        parent,
        root: unescape(root),
        mount_point: unescape(mount_point),
        options: options.into(),
        propagation,
        fstype: unescape(fstype),
        source: unescape(source),
        super_options: fields.next().unwrap_or("").into(),
    })
}

/// Space, tab, newline and backslash stand as `\040` and the like.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let value = octal.map(|digits| digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0')));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_covers_files_masks_them() {
        let lines = "20 1 0:19 / /proc rw - proc proc rw\n21 20 0:5 /null /proc/kcore rw - devtmpfs udev rw\n\
                     22 20 0:30 / /proc/sys/fs/binfmt_misc rw - binfmt_misc x rw\n23 1 0:20 / /sys rw - sysfs sysfs rw\n\
                     24 23 0:31 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n25 24 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                     26 23 0:33 / /sys/firmware ro - tmpfs tmpfs ro\n27 1 0:34 / /process rw - tmpfs tmpfs rw";
        let mounts: Vec<MountInfo> = lines.lines().filter_map(parse_mountinfo).collect();
        assert_eq!(mounts.len(), 8);
        assert_eq!(masking(&mounts, "/proc"), ["/proc/kcore"]);
        assert_eq!(masking(&mounts, "/sys"), ["/sys/firmware"]);
    }
    use crate::linux::clone::{CloneArgs, Cloned, clone3, exit_now, unshare};
    use crate::linux::fd::tests::Scratch;
    use crate::linux::mount::{move_mount, new_mount, set_propagation};
    use crate::linux::pid;
    use crate::linux::test_child::{in_child, is_root};
    use crate::linux::types::{Namespaces, Propagation};

    #[test]
    fn the_kernels_own_files() {
        if !is_root() {
            return;
        }
        for procfs in [Procfs::detached(false).unwrap(), Procfs::host().unwrap(), Procfs::open(true).unwrap()] {
            assert!(String::from_utf8(procfs.read("self/status").unwrap()).unwrap().starts_with("Name:"));
            assert_eq!(procfs.open_file("self/root/etc/passwd", OFlag::O_RDONLY).unwrap_err().errno, Errno::ELOOP);
            assert_eq!(procfs.open_file("self/exe", OFlag::O_RDONLY).unwrap_err().errno, Errno::ELOOP);
            assert_eq!(procfs.open_file("../etc/passwd", OFlag::O_RDONLY).unwrap_err().errno, Errno::EXDEV);
            assert_eq!(procfs.open_file("/etc/passwd", OFlag::O_RDONLY).unwrap_err().errno, Errno::EXDEV);
        }
        let processes = Procfs::detached(true).unwrap();
        assert_eq!(processes.open_file("sys/kernel/ostype", OFlag::O_RDONLY).unwrap_err().errno, Errno::ENOENT);
    }

    #[test]
    fn writes() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let procfs = Procfs::detached(false).unwrap();
            unshare(Namespaces::UTS).unwrap();
            procfs.write("sys/kernel/hostname", b"berth-sysctl").unwrap();
            assert_eq!(nix::unistd::gethostname().unwrap(), "berth-sysctl");
            procfs.write("self/comm", b"renamed").unwrap();
            assert_eq!(procfs.read("thread-self/comm").unwrap(), b"renamed\n");
            assert_eq!(procfs.write("sys/kernel/no-such", b"1").unwrap_err().errno, Errno::ENOENT);
            assert_eq!(procfs.write("self/oom_score_adj", b"x").unwrap_err().errno, Errno::EINVAL);
        });
    }

    #[test]
    fn mounts_over_proc_are_noticed() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new();
        in_child(|| {
            unshare(Namespaces::MOUNT).unwrap();
            set_propagation("/", Propagation::Private, true).unwrap();
            let host = Procfs::host().unwrap();
            let inside = fd::open_dir_path("/proc/sys").unwrap();
            move_mount(new_mount("tmpfs", [], 0).unwrap(), &inside).unwrap();
            assert_eq!(host.open_file("sys/kernel/hostname", OFlag::O_WRONLY).unwrap_err().errno, Errno::EXDEV);
            // One file of procfs over another.
            let other = crate::linux::mount::clone_tree(fd::open("/proc/version", OFlag::O_PATH).unwrap(), false).unwrap();
            move_mount(&other, fd::open("/proc/uptime", OFlag::O_PATH).unwrap()).unwrap();
            assert_eq!(host.read("uptime").unwrap_err().errno, Errno::EXDEV);
            assert_eq!(Procfs::detached(false).unwrap().read("uptime").map(|_| ()), Ok(()));
            let own = crate::linux::pid::getpid();
            assert_eq!(write_of(own, "comm", b"renamed"), Ok(()));
            assert_eq!(write_of(own, "exe", b"").unwrap_err().errno, Errno::ELOOP);
            let tmpfs = fd::openat(fd::open_dir("/proc/sys").unwrap(), "comm", OFlag::O_CREAT | OFlag::O_WRONLY, 0o600).unwrap();
            move_mount(
                crate::linux::mount::clone_tree(&tmpfs, false).unwrap(),
                fd::open("/proc/self/comm", OFlag::O_PATH).unwrap(),
            )
            .unwrap();
            assert_eq!(write_of(own, "comm", b"elsewhere").unwrap_err().errno, Errno::EXDEV);
            move_mount(new_mount("tmpfs", [], 0).unwrap(), fd::open_dir_path("/proc").unwrap()).unwrap();
            assert_eq!(Procfs::host().unwrap_err().errno, Errno::EXDEV);
            // A directory of procfs in place of its root.
            let part = crate::linux::mount::clone_tree(&inside, false).unwrap();
            move_mount(&part, scratch.dir()).unwrap();
            assert_eq!(Procfs::checked(part).unwrap_err().errno, Errno::EXDEV);
        });
    }

    #[test]
    fn process_state() {
        in_child(|| {
            let own = pid_stat(pid::getpid()).unwrap().unwrap();
            assert_eq!((own.state, own.ppid, own.ended()), ('R', pid::getppid(), false));
            let Cloned::Parent { pid, pidfd } = clone3(&CloneArgs::default()).unwrap() else { exit_now(0) };
            pid::wait_exited(&pidfd, None).unwrap();
            let child = pid_stat(pid).unwrap().unwrap();
            assert!(
                child.ended()
                    && child.exiting
                    && !own.exiting
                    && child.start_time >= own.start_time
                    && child.ppid == pid::getpid()
            );
            pid::wait(&pidfd).unwrap();
            assert_eq!(pid_stat(pid).unwrap(), None);
        });
        let line = b"77 (a) b) S 1 (x)) R 12 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 987654 9 10 11\n";
        assert_eq!(parse_stat(line), Some(PidStat { state: 'R', ppid: 12, start_time: 987_654, exiting: false, threads: 3 }));
        let line = b"77 (a) S 12 77 77 0 -1 4194564 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 10 11\n";
        assert!(parse_stat(line).unwrap().exiting);
        for bad in [
            &b""[..],
            b"1 (x",
            b"1 (x) R",
            b"1 (x) R 1 2 3",
            b"1 (x) RR 12 77 77 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 9",
            b"1 (x) R 1 \xff",
        ] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn cgroup_lines() {
        let line = |controllers: &[&str], path: &str| {
            Some(CgroupLine { controllers: controllers.iter().map(|name| name.to_string()).collect(), path: path.into() })
        };
        assert_eq!(parse_cgroup("0::/user.slice/a:b"), line(&[], "/user.slice/a:b"));
        assert_eq!(parse_cgroup("4:cpu,cpuacct:/x (deleted)"), line(&["cpu", "cpuacct"], "/x"));
        assert_eq!(parse_cgroup("1:name=systemd:/"), line(&["name=systemd"], "/"));
        assert_eq!((parse_cgroup("x"), parse_cgroup("1:cpu:rel")), (None, None));
        assert_eq!(cgroups(0).unwrap(), cgroups(std::process::id() as i32).unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn mountinfo_lines() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue";
        let parsed = parse_mountinfo(line).unwrap();
        assert_eq!((parsed.id, parsed.parent, parsed.root.as_str(), parsed.mount_point.as_str()), (36, 35, "/mnt1", "/mnt 2\\"));
        assert_eq!((parsed.propagation, parsed.fstype.as_str()), (vec!["master:1".into(), "shared:7".into()], "ext3"));
        assert_eq!(
            (parsed.source.as_str(), parsed.options.as_str(), parsed.super_options.as_str()),
            ("/dev/root", "rw,noatime", "rw,errors=continue")
        );
        assert!(parse_mountinfo("36 35 98:0 / /mnt rw - tmpfs tmpfs rw").unwrap().propagation.is_empty());
        assert_eq!(parse_mountinfo("36 35 98:0 / /mnt"), None);
        assert_eq!(unescape("\\777\\04"), "\\777\\04");
        let own = mountinfo().unwrap();
        assert!(own.iter().any(|mount| mount.mount_point == "/proc" && mount.fstype == "proc"));
        let raw = fd::read_file_bounded("/proc/self/mountinfo", MOST).unwrap();
        assert!(own.len() <= raw.iter().filter(|byte| **byte == b'\n').count() + 1 && !own.is_empty());
    }
}
