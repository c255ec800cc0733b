// SPDX-License-Identifier: Apache-2.0
//! Plain values of the kernel's interface: the only part of this floor that the plan may name. Nothing here makes a system call.

use bitflags::bitflags;

pub use super::errno::errno_name;
pub use nix::errno::Errno;

bitflags! {
    /// Namespaces, as the `CLONE_NEW*` bits of clone3(2), unshare(2) and setns(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Namespaces: u64 {
        /// time_namespaces(7). In clone(2) this bit belongs to the exit signal, so only clone3(2) and unshare(2) take it.
        const TIME = 0x0000_0080;
        /// mount_namespaces(7)
        const MOUNT = 0x0002_0000;
        /// cgroup_namespaces(7)
        const CGROUP = 0x0200_0000;
        /// uts_namespaces(7)
        const UTS = 0x0400_0000;
        /// ipc_namespaces(7)
        const IPC = 0x0800_0000;
        /// user_namespaces(7)
        const USER = 0x1000_0000;
        /// pid_namespaces(7)
        const PID = 0x2000_0000;
        /// network_namespaces(7)
        const NET = 0x4000_0000;
    }
}

bitflags! {
    /// `MOUNT_ATTR_*` of fsmount(2) and mount_setattr(2), without the access-time field, which is [`Atime`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MountAttr: u64 {
        /// Read-only.
        const RDONLY = 0x1;
        /// Ignore set-user-ID and set-group-ID bits and file capabilities.
        const NOSUID = 0x2;
        /// No access to device special files.
        const NODEV = 0x4;
        /// No program execution.
        const NOEXEC = 0x8;
        /// Do not update access times of directories.
        const NODIRATIME = 0x80;
        /// Do not follow symbolic links.
        const NOSYMFOLLOW = 0x0020_0000;
    }
}

/// The access-time field of `MOUNT_ATTR__ATIME`: one of three values, not independent bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atime {
    /// Update when older than the modification time (the kernel's default).
    Relatime,
    /// Never update.
    Noatime,
    /// Always update.
    Strictatime,
}

impl Atime {
    /// The bits under `MOUNT_ATTR__ATIME` (0x70).
    pub fn bits(self) -> u64 {
        match self {
            Atime::Relatime => 0,
            Atime::Noatime => 0x10,
            Atime::Strictatime => 0x20,
        }
    }
    /// `MOUNT_ATTR__ATIME`, to be cleared before a value is set.
    pub const MASK: u64 = 0x70;
}

/// Mount propagation, mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Events travel both ways.
    Shared,
    /// Events travel from the master to here only.
    Slave,
    /// No events travel.
    Private,
    /// Private, and cannot be bind mounted.
    Unbindable,
}

impl Propagation {
    /// Its name in mount(8).
    pub const fn name(self) -> &'static str {
        match self {
            Propagation::Shared => "shared",
            Propagation::Slave => "slave",
            Propagation::Private => "private",
            Propagation::Unbindable => "unbindable",
        }
    }

    /// The `MS_*` bit, as `mount_attr.propagation` takes it.
    pub fn bits(self) -> u64 {
        match self {
            Propagation::Unbindable => 1 << 17,
            Propagation::Private => 1 << 18,
            Propagation::Slave => 1 << 19,
            Propagation::Shared => 1 << 20,
        }
    }
}

/// One row of uid_map or gid_map, user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many ids, at least 1.
    pub count: u32,
}

/// A set of capabilities, capabilities(7): bit N is capability number N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// `CAP_SYS_ADMIN`
    pub const SYS_ADMIN: CapSet = CapSet(1 << 21);

    /// Whether every capability of `other` is here.
    pub fn contains(self, other: CapSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// The capability of this name (`CAP_CHOWN` or `chown`, case ignored), where this build knows it.
    pub fn from_name(name: &str) -> Option<CapSet> {
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        full.parse::<caps::Capability>().ok().map(|cap| CapSet(1 << cap.index()))
    }

    /// The names in this set, in the order of their numbers.
    pub fn names(self) -> Vec<String> {
        let mut all: Vec<caps::Capability> = caps::all().into_iter().filter(|cap| self.0 >> cap.index() & 1 == 1).collect();
        all.sort_by_key(|cap| cap.index());
        all.iter().map(|cap| cap.to_string()).collect()
    }
}

impl std::ops::BitOr for CapSet {
    type Output = CapSet;
    fn bitor(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }
}

impl std::ops::BitAnd for CapSet {
    type Output = CapSet;
    fn bitand(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }
}

/// The kind of a device node, mknod(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// `S_IFCHR`
    Character,
    /// `S_IFBLK`
    Block,
    /// `S_IFIFO`
    Fifo,
}

/// A device number, in its two halves; makedev(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of the driver's devices.
    pub minor: u32,
}

/// One classic BPF instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// One extended BPF instruction, `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfInsn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub regs: u8,
    /// Signed jump or memory offset.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

/// Where the cgroup trees of this host are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// cgroup2 alone, on /sys/fs/cgroup.
    Unified,
    /// v1 controllers under /sys/fs/cgroup and a cgroup2 tree on /sys/fs/cgroup/unified.
    Hybrid,
    /// v1 controllers only.
    Legacy,
    /// No cgroup file system is mounted.
    Absent,
}

/// A kernel release as far as it is compared: `6.18.44-x` is 6.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
}
