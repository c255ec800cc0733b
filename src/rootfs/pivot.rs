// SPDX-License-Identifier: Apache-2.0
//! Into the new root, and away from the old one (pivot_root(2)); or, where the host's root is an initramfs that cannot be pivoted away
//! from, chroot(2) with everything else unmounted (`--no-pivot`).

use std::os::fd::OwnedFd;

use super::RootFs;
use super::mask::Cover;
use crate::error::{Code, Error, Result, Told};
use crate::linux::call;
use crate::linux::fd::{self, OFlag};
use crate::linux::mount::{self as sys, Change, OpenTree};
use crate::linux::types::{Errno, Propagation};

/// One mount of /proc/self/mountinfo; proc(5).
#[derive(Clone, Debug, PartialEq, Eq)]
struct MountInfo {
    id: u64,
    parent: u64,
    /// Where, seen from this process's root.
    point: String,
}

impl RootFs {
    /// Makes the root filesystem the root of this mount namespace, and takes the old root away: here, never on the host, with which its
    /// mounts may be `shared`. The working directory is the new root from then on.
    pub fn pivot(&mut self, shared: bool) -> Result<()> {
        let what = || "cannot make the root filesystem the root".to_string();
        let old = shared.then(|| fd::open_dir_path("/")).transpose().told(what)?;
        self.known.leave();
        sys::fchdir(&self.root).told(what)?;
        // With `.` twice the old root comes to lie on the new one, without a directory of its own for it.
        sys::pivot_root(".", ".").map_err(|error| {
            let errno = error.errno;
            let told = Error::from(error).doing(what());
            match errno {
                Errno::EINVAL => {
                    told.cause(Code::Pivot).hint("the host's root is no mount point (initramfs, chroot): try --no-pivot")
                }
                _ => told,
            }
        })?;
        let what = || "cannot take the host's mounts away".to_string();
        if let Some(old) = &old {
            let slave = Change { propagation: Some(Propagation::Slave), ..Change::default() };
            sys::mount_setattr(old, true, &slave).told(what)?;
        }
        // umount2(2) takes what lies uppermost on the working directory: the old root (pivot_root(2), NOTES).
        sys::umount(".", true).told(what)
    }

    /// `--no-pivot`: moves the root filesystem over `/`, unmounts or hides the host's mounts, and changes the root directory.
    #[inline(never)] // Rare.
    pub fn move_root(&self) -> Result<()> {
        let what = || "cannot move the root filesystem to /".to_string();
        // What is unmounted here stays mounted on the host.
        sys::set_propagation("/", Propagation::Slave, true).told(what)?;
        let own = fd::stat(&self.root).told(what)?.mount_id.unwrap_or_default();
        let host_root = fd::stat_path("/").told(what)?.mount_id.unwrap_or_default();
        let hide = Hide::prepare()?;
        sys::fchdir(&self.root).told(what)?;
        // A path that begins at our root directory is resolved below what lies over it, so the old paths stay valid until chroot(2).
        sys::move_mount_classic(".", "/").told(what)?;
        hide.host(own, host_root)?;
        sys::chroot(".").told(what)?;
        sys::chdir("/").told(what)
    }
}

/// What hiding the host's mounts needs of the host, opened while it is still there.
struct Hide {
    /// The list of mounts, to be read before anything is unmounted.
    before: OwnedFd,
    /// The same, to be read after.
    after: OwnedFd,
    /// For directories.
    empty: Cover,
    /// For anything else.
    null: Cover,
}

impl Hide {
    fn prepare() -> Result<Hide> {
        let what = || "cannot prepare to hide the host's mounts".to_string();
        let open = || fd::open("/proc/self/mountinfo", OFlag::O_RDONLY).told(what);
        let empty = Cover::new(super::mask::empty_directory(None).told(what)?.0);
        Ok(Hide { before: open()?, after: open()?, empty, null: Cover::new(super::host_null()?) })
    }

    /// Unmounts every mount but the container's and the root; what a user namespace may not unmount is covered.
    fn host(mut self, own: u64, host_root: u64) -> Result<()> {
        let what = || "cannot hide the host's mounts".to_string();
        for mount in foreign(&mounts(&self.before).told(what)?, own, host_root).iter().rev() {
            match sys::umount(&mount.point, true) {
                // Gone with the one it was on, or locked: see below.
                Err(error) if matches!(error.errno, Errno::EINVAL | Errno::ENOENT) => {}
                other => other.told(what)?,
            }
        }
        let left = foreign(&mounts(&self.after).told(what)?, own, host_root);
        for mount in left.iter().filter(|mount| mount.parent == host_root) {
            let point = sys::open_tree_path(&mount.point, OpenTree::empty()).told(what)?;
            let cover = if fd::stat(&point).told(what)?.is_dir() { &mut self.empty } else { &mut self.null };
            cover.put(&point).told(what)?;
        }
        Ok(())
    }
}

fn mounts(mountinfo: &OwnedFd) -> call::Result<Vec<MountInfo>> {
    const LARGEST: usize = 64 << 20;
    let text = fd::read_bounded(mountinfo, LARGEST)?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<MountInfo> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    Some(MountInfo { id, parent, point: unescape(fields.nth(2)?) })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// The mounts that are neither the root, nor the container's root, nor below that one; in the order they were made in.
fn foreign(mounts: &[MountInfo], own: u64, host_root: u64) -> Vec<MountInfo> {
    let parent_of = |id: u64| mounts.iter().find(|mount| mount.id == id).map(|mount| mount.parent);
    let is_ours = |mount: &MountInfo| {
        let mut id = mount.id;
        // A chain of parents cannot be longer than the list.
        for _ in 0..=mounts.len() {
            if id == own {
                return true;
            }
            match parent_of(id) {
                Some(parent) if parent != id => id = parent,
                _ => return false,
            }
        }
        false
    };
    mounts.iter().filter(|mount| mount.id != host_root && !is_ours(mount)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mountinfo() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parse(line), Some(MountInfo { id: 36, parent: 35, point: "/mnt 2\\x".into() }));
        assert_eq!(parse("36 35 98:0"), None);
        assert_eq!(unescape("a\\9b\\"), "a\\9b\\");
        assert!(mounts(&Hide::prepare().unwrap().before).unwrap().iter().any(|mount| mount.point == "/proc"));
    }

    #[test]
    fn tells_ours_from_the_hosts() {
        let mount = |id, parent| MountInfo { id, parent, point: format!("/{id}") };
        let all = [mount(1, 0), mount(2, 1), mount(3, 2), mount(10, 1), mount(11, 10), mount(12, 11), mount(4, 1)];
        let ids: Vec<u64> = foreign(&all, 10, 1).iter().map(|mount| mount.id).collect();
        assert_eq!(ids, [2, 3, 4]);
    }
}
