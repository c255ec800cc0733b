// SPDX-License-Identifier: Apache-2.0
//! Mounts that nobody needs any more once they are there: mount(2) makes one in a call or two, where fsopen(2) takes up to ten. Used by
//! `mount`, which goes the long way wherever this does not do the same, or fails: fsopen(2) says why.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use super::RootFs;
use super::mount::{New, copies_up};
use super::target::{self, Make};
use crate::linux::mount as sys;
use crate::linux::types::MountAttr;
use crate::plan::step::{AttrChange, Mount, ProcRule, Source};

/// What mount(2) is told.
pub(super) struct Leaf<'a> {
    fstype: &'a str,
    source: &'a str,
    flags: u64,
    data: String,
}

impl<'a> Leaf<'a> {
    /// None where mount(2) does not do the same.
    pub(super) fn of(new: &New<'a>, mount: &Mount) -> Option<Leaf<'a>> {
        let mut same = MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
        // A filesystem that is new would become read-only itself, and not only this mount of it.
        same.set(MountAttr::RDONLY, matches!(mount.source, Source::New { mounted: true, .. }));
        let plain = |text: &str| !text.contains([',', '"', '\\']);
        let parameters = &new.parameters[1..];
        let alike = mount.attr.attr_set() & !same.bits() == 0
            && mount.attr_recursive.is_empty()
            && mount.propagation.is_empty()
            && mount.proc != ProcRule::IsProc
            && !mount.readonly_last
            && !copies_up(mount)
            && parameters.iter().all(|(key, value)| plain(key) && superblock_flag(key).is_none() && value.is_none_or(plain));
        let word = |(key, value): &(&str, Option<&str>)| value.map_or(key.to_string(), |value| format!("{key}={value}"));
        let data = || parameters.iter().map(word).collect::<Vec<_>>().join(",");
        alike.then(|| Leaf { fstype: new.fstype, source: new.source, flags: classic_flags(mount.attr), data: data() })
    }

    /// An empty tmpfs without room.
    pub(super) fn empty(attr: MountAttr) -> Leaf<'static> {
        let mut wanted = AttrChange::default();
        wanted.set(attr);
        Leaf { fstype: "tmpfs", source: "tmpfs", flags: classic_flags(wanted), data: "nr_blocks=1,nr_inodes=1".to_string() }
    }

    /// Mounts it at `place`, which is `.` or a name in the working directory; whether it is done.
    pub(super) fn mount_at(&self, place: &str) -> bool {
        sys::mount_here(self.source, place, self.fstype, self.flags, &self.data).is_ok()
    }
}

impl RootFs {
    /// On a directory that is certain. Whether it is done.
    pub(super) fn mount_leaf(&mut self, leaf: &Leaf<'_>, place: &OwnedFd) -> bool {
        self.known.leave();
        sys::fchdir(place).is_ok() && leaf.mount_at(".")
    }

    /// In a directory that is made for it, in a filesystem that nobody else sees: its name leads there, and to nothing else. Whether it is
    /// done.
    pub(super) fn mount_in_fresh(&mut self, leaf: &Leaf<'_>, mount: &Mount) -> bool {
        let Some((dir, name)) = self.known.fresh_above(&mount.destination) else { return false };
        // What is there already may be something else.
        let made = target::make_one(self.known.root(dir), OsStr::new(name), Make::Directory);
        if !matches!(made, Ok(true)) || self.known.enter(dir).is_err() || !leaf.mount_at(name) {
            return false;
        }
        let covered = self.known.cover(&mount.destination);
        covered.into_iter().for_each(|fd| self.spend(fd));
        true
    }
}

/// `MS_*` of mount(2) for mount attributes.
pub(super) fn classic_flags(attr: AttrChange) -> u64 {
    const NAMES: [(u64, u64); 8] = [
        (0x1, libc::MS_RDONLY),
        (0x2, libc::MS_NOSUID),
        (0x4, libc::MS_NODEV),
        (0x8, libc::MS_NOEXEC),
        (0x10, libc::MS_NOATIME),
        (0x20, libc::MS_STRICTATIME),
        (0x80, libc::MS_NODIRATIME),
        (0x0020_0000, 256), // MS_NOSYMFOLLOW
    ];
    let set = attr.attr_set();
    NAMES.iter().filter(|(bit, _)| set & bit != 0).fold(0, |flags, (_, flag)| flags | flag)
}

/// `MS_*` of mount(2) for the flags that fsconfig(2) takes by name.
pub(super) fn superblock_flag(name: &str) -> Option<u64> {
    Some(match name {
        "ro" => libc::MS_RDONLY,
        "sync" => libc::MS_SYNCHRONOUS,
        "dirsync" => libc::MS_DIRSYNC,
        "mand" => libc::MS_MANDLOCK,
        "lazytime" => libc::MS_LAZYTIME,
        _ => return None,
    })
}
