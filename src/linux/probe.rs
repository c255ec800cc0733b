// SPDX-License-Identifier: Apache-2.0
//! Facts about this kernel and this process, each asked by itself so that nobody pays for one he does not need. Called by
//! `container::host`, and by commands that only want to know who they are.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use super::fd::OFlag;
use super::once::Once;
use super::types::{CapSet, CgroupMode, KernelVersion, Namespaces};
use super::{clone, cred, fd, pid, status};

/// Largest file of /proc or /sys that is read here.
const SMALL: usize = 1 << 16;

/// The running kernel; uname(2).
pub fn kernel() -> KernelVersion {
    let release = nix::sys::utsname::uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
    parse_release(&release)
}

fn parse_release(release: &str) -> KernelVersion {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    KernelVersion { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
}

/// Effective user id, which the kernel tells every program at its beginning (AT_EUID, getauxval(3)): the runtime keeps its own.
pub fn euid() -> u32 {
    at_beginning(libc::AT_EUID)
}

/// Effective group id, likewise.
pub fn egid() -> u32 {
    at_beginning(libc::AT_EGID)
}

fn at_beginning(what: libc::c_ulong) -> u32 {
    // SAFETY: it reads what the kernel has left above the stack.
    unsafe { libc::getauxval(what) as u32 }
}

/// Whether this is the initial user namespace (user_namespaces(7)). It is asked once: the runtime stays where it began.
pub fn in_initial_user_namespace() -> bool {
    static INITIAL: OnceLock<bool> = OnceLock::new();
    *INITIAL.get_or_init(|| match pid::own_user_namespace().ok().flatten() {
        Some(inode) => inode == pid::INITIAL_USER_NAMESPACE,
        None => maps_all_ids(),
    })
}

/// Whether all ids are mapped to themselves, as in the initial user namespace, and hardly in any other.
fn maps_all_ids() -> bool {
    let map = small("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether this mount namespace belongs to this user namespace: root may only mount here, and copy mounts, if it does
/// (mount_namespaces(7)). `unshare -Ur` without `-m` makes a root who may not.
pub fn owns_mount_namespace() -> bool {
    let identity = |namespace: super::call::Result<OwnedFd>| namespace.and_then(fd::stat).ok();
    let owner = identity(clone::own_namespace(Namespaces::MOUNT).and_then(clone::owning_user_namespace));
    match (owner, identity(clone::own_namespace(Namespaces::USER))) {
        (Some(owner), Some(ours)) => owner.same_file(&ours),
        _ => false,
    }
}

/// How many mounts this process sees, counted up to `most`; 0 where the kernel cannot tell without listing them all (before Linux 6.8).
pub fn mounts(most: usize) -> usize {
    super::mount::count(most).unwrap_or(0)
}

/// Whether the root directory is of a filesystem in memory: it may be what the kernel began with, which lies below all other mounts.
pub fn root_in_memory() -> bool {
    fd::statfs_path(c"/").is_ok_and(|fs| [fd::magic::TMPFS, fd::magic::RAMFS].contains(&fs.magic))
}

/// Whether this kernel has this kind of namespace (time since Linux 5.6; others may be left out of a build).
pub fn has_namespace(kind: Namespaces) -> bool {
    fd::stat_path(format!("/proc/self/ns/{}", clone::namespace_file(kind))).is_ok()
}

/// Whether setgroups(2) is denied in this user namespace; user_namespaces(7).
pub fn setgroups_denied() -> bool {
    small("/proc/self/setgroups").is_some_and(|text| text.trim() == "deny")
}

/// Effective capabilities.
pub fn capabilities() -> CapSet {
    let asked = || cred::capget().map(|sets| sets.effective).unwrap_or_default();
    status::own().map_or_else(asked, |status| status.effective)
}

/// Every kernel that berth runs on knows the capabilities up to this one, CAP_CHECKPOINT_RESTORE of Linux 5.9.
const KNOWN: u8 = 40;

/// The last capability that is known to the kernel or, where an outer container has cut the bounding set, that can be in ours: a later one
/// nobody here can hold, nor name.
pub fn last_capability() -> u8 {
    status::own().map_or(63, |status| KNOWN.max(63_u8.saturating_sub(status.bounding.0.leading_zeros() as u8)))
}

/// Where a cgroup2 tree is expected.
const CGROUPS: &CStr = c"/sys/fs/cgroup";
/// Where it is, beside those of v1.
const CGROUPS_UNIFIED: &CStr = c"/sys/fs/cgroup/unified";

/// The root of the cgroup2 tree, by the place of its mount, once it has been found. It stays open to the end: what a command
/// does to its container's cgroup begins there, and needs neither look again nor one more descriptor.
static CGROUP2: Once<(&CStr, OwnedFd)> = Once::unknown();

/// Where the cgroup trees are, by the types of what is mounted there.
pub fn cgroup_mode() -> CgroupMode {
    let top = mounted_at(CGROUPS);
    if top == Some(fd::magic::CGROUP2) {
        return CgroupMode::Unified;
    }
    if mounted_at(CGROUPS_UNIFIED) == Some(fd::magic::CGROUP2) {
        return CgroupMode::Hybrid;
    }
    // Any v1 hierarchy shows as a line with a controller's name.
    let v1 = small("/proc/self/cgroup").unwrap_or_default().lines().any(|line| !line.starts_with("0::"));
    if v1 && top.is_some() { CgroupMode::Legacy } else { CgroupMode::Absent }
}

/// The type of the file system there. Of a cgroup2 tree the root is kept, where it can be opened.
fn mounted_at(place: &'static CStr) -> Option<u64> {
    let look = |root: OwnedFd| fd::statfs(&root).map(|found| (found.magic, root));
    match fd::open_dir(OsStr::from_bytes(place.to_bytes())).and_then(look) {
        Ok((fd::magic::CGROUP2, root)) => {
            let _ = CGROUP2.keep((place, root));
            Some(fd::magic::CGROUP2)
        }
        Ok((other, _)) => Some(other),
        Err(_) => fd::statfs_path(place).map(|found| found.magic).ok(),
    }
}

/// Keeps the root of the cgroup2 tree that is mounted there, for whoever comes after; gives it back where it is not to be kept.
pub fn keep_cgroup2_root(mount: &str, root: OwnedFd) -> Result<BorrowedFd<'static>, OwnedFd> {
    match [CGROUPS, CGROUPS_UNIFIED].into_iter().find(|place| place.to_bytes() == mount.as_bytes()) {
        Some(place) => CGROUP2.keep((place, root)).map(|(_, root)| root.as_fd()).map_err(|(_, root)| root),
        None => Err(root),
    }
}

/// The root of the cgroup2 tree that is mounted there, open for reading, where this process has found it. What is done to the container of
/// a command is done in one tree, whatever is mounted meanwhile.
pub fn cgroup2_root(mount: &str) -> Option<BorrowedFd<'static>> {
    let (place, root) = CGROUP2.get()?;
    (place.to_bytes() == mount.as_bytes()).then(|| root.as_fd())
}

/// This process's cgroup in the cgroup2 tree.
pub fn own_cgroup() -> String {
    let all = small("/proc/self/cgroup").unwrap_or_default();
    all.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_string()
}

/// The controllers that the root of the cgroup2 tree offers.
pub fn v2_controllers() -> Vec<String> {
    const FILE: &str = "cgroup.controllers";
    let of_root = |root: &OwnedFd| fd::openat(root, FILE, OFlag::O_RDONLY, 0).and_then(|file| fd::read_record(file, SMALL));
    let text = match CGROUP2.get() {
        Some((_, root)) => of_root(root).ok().and_then(|bytes| String::from_utf8(bytes).ok()),
        None => [CGROUPS, CGROUPS_UNIFIED].iter().find_map(|place| small(&format!("{}/{FILE}", place.to_string_lossy()))),
    };
    text.unwrap_or_default().split_whitespace().map(String::from).collect()
}

/// Where a program is installed; a fixed list of directories, because callers may have no PATH.
pub fn program(name: &str) -> Option<String> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin"]
        .iter()
        .map(|dir| format!("{dir}/{name}"))
        .find(|path| nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::X_OK).is_ok())
}

/// What this host says of user namespaces; `None` where a kernel has no such parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserNamespaces {
    /// user.max_user_namespaces
    pub max: Option<u64>,
    /// kernel.unprivileged_userns_clone, Debian's.
    pub unprivileged: Option<bool>,
    /// kernel.apparmor_restrict_unprivileged_userns, Ubuntu's.
    pub apparmor_restricts: Option<bool>,
}

impl UserNamespaces {
    /// Why an ordinary user may make none, if so. A process that is root, or that an AppArmor profile permits it, may nonetheless.
    pub fn forbidden(self) -> Option<&'static str> {
        if self.max == Some(0) {
            return Some("user.max_user_namespaces is 0: sysctl -w user.max_user_namespaces=15000");
        }
        if self.unprivileged == Some(false) {
            return Some("kernel.unprivileged_userns_clone is 0: sysctl -w kernel.unprivileged_userns_clone=1");
        }
        if self.apparmor_restricts == Some(true) {
            return Some(
                "kernel.apparmor_restrict_unprivileged_userns is 1: an AppArmor profile for this program with `userns,` lifts it, \
                 or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            );
        }
        None
    }
}

/// What this host says of user namespaces.
pub fn user_namespaces() -> UserNamespaces {
    let number = |path: &str| small(path).and_then(|text| text.trim().parse::<u64>().ok());
    let switch = |path: &str| number(path).map(|value| value != 0);
    UserNamespaces {
        max: number("/proc/sys/user/max_user_namespaces"),
        unprivileged: switch("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restricts: switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    }
}

/// Whether AppArmor is enabled.
pub fn apparmor() -> bool {
    small("/sys/module/apparmor/parameters/enabled").is_some_and(|text| text.starts_with('Y'))
}

/// Whether SELinux is enabled: its file system is mounted.
pub fn selinux() -> bool {
    fd::statfs_path(c"/sys/fs/selinux").is_ok_and(|fs| fs.magic == fd::magic::SELINUX)
}

fn small(path: &str) -> Option<String> {
    fd::read_record_of(path, SMALL).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_two_numbers() {
        assert_eq!(parse_release("6.18.44-fc-v657"), KernelVersion { major: 6, minor: 18 });
        assert_eq!(parse_release("7.2"), KernelVersion { major: 7, minor: 2 });
        assert!(kernel() >= KernelVersion { major: 5, minor: 14 });
    }

    #[test]
    fn this_process_is_somebody() {
        assert_eq!((euid(), egid()), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        assert!(last_capability() >= 40);
        assert!(has_namespace(Namespaces::MOUNT) && has_namespace(Namespaces::TIME));
        assert_eq!(capabilities(), crate::linux::cred::capget().map(|sets| sets.effective).unwrap_or_default());
        assert!(own_cgroup().starts_with('/'));
        assert!(program("sh").is_some());
        assert_eq!(program("no-such-program-anywhere"), None);
    }

    #[test]
    fn the_initial_user_namespace_is_known_by_either_way() {
        if !crate::linux::test_child::is_root() {
            return;
        }
        crate::linux::test_child::in_child(|| {
            let (number, inode) = pid::own().unwrap();
            let initial = || pid::own_user_namespace().unwrap().map(|inode| inode == pid::INITIAL_USER_NAMESPACE);
            assert!(initial().is_none_or(|initial| initial == maps_all_ids()));
            clone::unshare(Namespaces::USER).unwrap();
            assert!(!maps_all_ids() && initial().is_none_or(|initial| !initial));
            assert_eq!(pid::own().unwrap(), (number, inode));
            crate::linux::test_child::in_child(move || {
                let child = pid::own().unwrap();
                assert!(child.0 != number && (child.1.is_none() || child.1 != inode), "{child:?}");
                assert!(!initial().unwrap_or_default());
            });
        });
    }

    #[test]
    fn what_stands_in_the_way_of_user_namespaces_is_named() {
        let free = UserNamespaces { max: Some(100), unprivileged: Some(true), apparmor_restricts: Some(false) };
        assert_eq!(free.forbidden(), None);
        assert_eq!(UserNamespaces::default().forbidden(), None);
        for (host, word) in [
            (UserNamespaces { max: Some(0), ..free }, "max_user_namespaces"),
            (UserNamespaces { unprivileged: Some(false), ..free }, "unprivileged_userns_clone"),
            (UserNamespaces { apparmor_restricts: Some(true), ..free }, "apparmor_restrict"),
        ] {
            assert!(host.forbidden().is_some_and(|why| why.contains(word)), "{word}");
        }
    }

    #[test]
    fn a_user_namespace_alone_has_no_mounts() {
        if !crate::linux::test_child::is_root() {
            return;
        }
        crate::linux::test_child::in_child(|| {
            assert!(owns_mount_namespace());
            clone::unshare(Namespaces::USER).unwrap();
            assert!(!owns_mount_namespace());
            clone::unshare(Namespaces::MOUNT).unwrap();
            assert!(owns_mount_namespace());
        });
    }
}
