// SPDX-License-Identifier: Apache-2.0
//! The steps of a plan: small typed operations, one list for the runtime and one for the container's process.
//!
//! A step says everything its hand needs; a hand may look at an errno, never at the configuration. `plan::show` prints steps,
//! `container::create` carries out [`ParentOp`]s, `process::init` carries out [`Op`]s.

use crate::linux::types::{Atime, CapSet, DeviceNumber, IdRange, MountAttr, Namespaces, NodeKind, Propagation};

/// One step of the container's process, and the field of config.json that asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// JSON path of the field that asked for it; empty where none did.
    pub at: String,
}

/// One step of the runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentStep {
    /// What to do.
    pub op: ParentOp,
    /// JSON path of the field that asked for it; empty where none did.
    pub at: String,
}

/// What the container's process does, in order, from clone3(2) to execve(2).
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Wait until the runtime has done what must come first (id maps, net devices).
    AwaitRuntime,
    /// Take on user and group 0 of the user namespace just entered.
    BecomeNamespaceRoot,
    /// Enter existing namespaces, in this order, by the descriptors opened at [`ParentOp::OpenNamespaces`].
    Join(Vec<Join>),
    /// A new session, without a controlling terminal; setsid(2).
    NewSession,
    /// A new session keyring of this name, which the process may search; keyctl(2).
    NewKeyring(String),
    /// A new cgroup namespace, rooted at the cgroup that the process is in by now (clone3(2) would take the runtime's).
    NewCgroupNamespace,
    /// A new time namespace with these offsets, entered at once; time_namespaces(7).
    NewTimeNamespace(Vec<TimeOffset>),
    /// Bring up `lo`.
    LoopbackUp,
    /// Open the host's /proc, verified, for the labels and sysctls of later steps.
    OpenProc,
    /// Set how mounts of this new mount namespace propagate, from `/` on.
    Propagation(PropagationChange),
    /// Make the root filesystem a mount of its own, over its own path, and open it.
    AttachRoot {
        /// What it is a copy of.
        source: Tree,
        /// Path of the root filesystem on the host, where the copy is attached.
        path: String,
        /// How the copy propagates until [`Op::RootPropagation`]: never shared, which pivot_root(2) refuses. None: as what it is a copy of
        /// does already.
        propagation: Option<PropagationChange>,
        /// The mount that the path lies in is shared with the host's and must stop being so, or the host would see the copy.
        private_parent: bool,
    },
    /// Take copies of the host's trees that the steps after this one mount, then enter a mount namespace that holds the root filesystem
    /// and nothing of the host, with the root filesystem as its root. It stands for [`Op::Propagation`], [`Op::AttachRoot`] and
    /// [`Op::Pivot`] where nobody needs the host's files in the container's mount namespace ([`super::route`]).
    EnterRoot {
        /// Path of the root filesystem on the host.
        path: String,
        /// Where that mount namespace comes from.
        route: Route,
        /// How the root filesystem's mounts propagate until [`Op::RootPropagation`].
        root: Propagation,
        /// How the copies propagate before each mount's own changes; none: as the host's.
        trees: Option<Propagation>,
    },
    /// Mount inside the root filesystem.
    Mount(Box<Mount>),
    /// Make a device node or FIFO inside the root filesystem.
    Node(Node),
    /// Make a symbolic link inside the root filesystem, where nothing is yet.
    Link {
        /// Where, inside the root filesystem.
        path: String,
        /// What it says.
        target: String,
        /// Only where the target exists inside the root filesystem.
        only_existing: bool,
    },
    /// Make a directory inside the root filesystem, and those above it, where nothing is yet.
    Directory(String),
    /// Let the runtime run the hooks that come before pivot_root(2), in its own namespaces, and wait for it.
    AskForRuntimeHooks,
    /// Run the createContainer hooks here: the container's namespaces, the runtime's files.
    CreateContainerHooks,
    /// Make the root filesystem the root of the mount namespace; pivot_root(2).
    Pivot {
        /// Mounts of the old root may be shared with the host's by now, and must stop being so: they are unmounted, and stay mounted there.
        shared: bool,
    },
    /// `--no-pivot`: move the root filesystem's mount over `/` and chroot(2) into it.
    MoveRoot,
    /// Set how the container's own root mount propagates.
    RootPropagation(PropagationChange),
    /// Open a terminal of the container's devpts, make it the standard streams and send its master.
    Console {
        /// Columns and rows, where the configuration says.
        size: Option<(u16, u16)>,
        /// It is bound to /dev/console.
        bound: bool,
    },
    /// sethostname(2)
    Hostname(String),
    /// setdomainname(2)
    Domainname(String),
    /// Write a kernel parameter of the container's namespaces.
    Sysctl {
        /// `net.ipv4.ip_forward`
        key: String,
        /// What to write.
        value: String,
    },
    /// Make a subtree read-only; passed over where the path does not exist.
    ReadonlyPath {
        /// Absolute, inside the container.
        path: String,
        /// Files of /proc below it that the configuration mounts something on: what is there is as its own mount says.
        but: Vec<String>,
    },
    /// Hide these paths: files under /dev/null, directories under one empty read-only tmpfs; missing ones are passed over.
    MaskPaths {
        /// Absolute, inside the container.
        paths: Vec<String>,
        /// SELinux context of the empty directories (`mountLabel`).
        label: Option<String>,
    },
    /// Make the mounts of [`Mount::readonly_last`] read-only, now that everything in them is made.
    ReadonlyMounts,
    /// Make the root mount itself read-only.
    ReadonlyRoot,
    /// setrlimit(2)
    Rlimit {
        /// `RLIMIT_NOFILE`
        name: String,
        /// The resource's number.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// sched_setattr(2)
    Scheduler(Scheduler),
    /// ioprio_set(2): class and level, as one word.
    IoPriority {
        /// Class (1 real time, 2 best effort, 3 idle).
        class: u8,
        /// Level in the class, 0 to 7.
        level: u8,
    },
    /// set_mempolicy(2)
    MemoryPolicy {
        /// `MPOL_*` with its flags.
        mode: u32,
        /// NUMA nodes.
        nodes: Vec<u32>,
    },
    /// sched_setaffinity(2)
    Affinity(Vec<u32>),
    /// personality(2)
    Personality(u32),
    /// The AppArmor profile that execve(2) will enter.
    ApparmorProfile(String),
    /// The SELinux label that execve(2) will enter.
    SelinuxLabel(String),
    /// Give the standard streams, a terminal among them, to the process's user; fchown(2). A /dev/null becomes the container's own.
    OwnStdio {
        /// The process's user.
        uid: u32,
    },
    /// umask(2)
    Umask(u32),
    /// Everything that makes up who the process is: bounding set, groups, ids, capabilities.
    Identity(Identity),
    /// Change into the working directory, and prove that it is inside the container. Where that is not permitted before
    /// [`Op::Identity`], it is tried again after it.
    WorkingDirectory {
        /// Absolute, inside the container.
        path: String,
        /// It is made where it is missing.
        made: bool,
    },
    /// PR_SET_NO_NEW_PRIVS
    NoNewPrivileges,
    /// Find the program in the container, so that "not found" is an error of create.
    FindProgram,
    /// Close every descriptor that the program shall not have, but those of the steps still to come.
    CloseDescriptors {
        /// How many after the standard streams stay open: LISTEN_FDS and --preserve-fds.
        keep: u32,
    },
    /// Tell the runtime that all is ready, and wait until it has saved the state.
    Ready,
    /// Wait for `start`.
    AwaitStart,
    /// Run the startContainer hooks here.
    StartContainerHooks,
    /// Load the seccomp filter, then drop the capabilities kept for loading it.
    Seccomp(SeccompLoad),
    /// Take away what is mounted at this place of a container that runs.
    Unmount(String),
    /// The process has done what it was made for, and ends.
    End,
    /// execve(2)
    Exec,
}

/// What the runtime does, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum ParentOp {
    /// Save the journal: the id, the creator and everything that is going to be made, before any of it is.
    SaveCreating,
    /// Make the cgroup, and set its limits and device filter before anything runs in it.
    MakeCgroup,
    /// Open the namespaces to be joined.
    OpenNamespaces(Vec<Join>),
    /// Take a detached copy of a host tree, while the runtime's own rights and mount namespace still apply. It is a slave of the host's.
    OpenTree {
        /// Position among the trees handed to the child ([`Tree::FromRuntime`]).
        slot: usize,
        /// Path on the host.
        path: String,
        /// With the mounts below it.
        recursive: bool,
        /// A symbolic link at the end of the path is itself what is copied.
        nofollow: bool,
        /// Id-mapped with these mappings (users, groups).
        id_map: Option<IdMap>,
        /// Whether the whole tree is id-mapped (`ridmap`).
        id_map_recursive: bool,
    },
    /// Connect to the console socket.
    ConnectConsole(String),
    /// Connect to the socket that gets the seccomp listener.
    ConnectListener(String),
    /// Open the files that hooks print to, made where they are missing: what the container's process runs could not open them.
    OpenHookOutput(super::HookOutput),
    /// Make the start gate, `exec.fifo`.
    MakeStartGate,
    /// Make the directory of the notify socket's proxy.
    MakeNotifySocket,
    /// Open the small mount namespace that is kept for containers, made where it is missing ([`Route::Pinned`]).
    OpenPinnedNamespace,
    /// Make the container's process; clone3(2).
    Clone,
    /// Adjust how ready the kernel is to kill it; proc(5).
    OomScoreAdj(i32),
    /// Write uid_map and gid_map, or have newuidmap(1) and newgidmap(1) do it.
    WriteIdMaps,
    /// Move a network device into the container's network namespace.
    MoveNetDevice {
        /// Its name here.
        name: String,
        /// Its name there.
        new_name: String,
    },
    /// Put the process into its resctrl group.
    EnterResctrl(super::resctrl::Resctrl),
    /// Let the child go on from [`Op::AwaitRuntime`].
    ReleaseChild,
    /// Wait for [`Op::AskForRuntimeHooks`], run the prestart and createRuntime hooks, answer.
    RuntimeHooks,
    /// Wait for [`Op::Ready`].
    AwaitReady,
    /// Save the state: the container exists from here on.
    SaveCreated,
    /// Write the pid file.
    PidFile(String),
    /// Send a pidfd of the process over this socket.
    SendPidfd(String),
    /// Let the child go on from [`Op::Ready`].
    ReleaseReady,
    /// `run`: wait until the program runs, or why it does not.
    AwaitExec,
    /// Run the poststart hooks.
    PoststartHooks,
}

/// Entering one existing namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Which kind.
    pub kind: Namespaces,
    /// File of the namespace: `/proc/42/ns/net`.
    pub path: String,
    /// JSON path of the field that names it.
    pub at: String,
}

/// Where a tree of mounts comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A path on the host, opened by the child in its own copy of the mount namespace before it leaves the host's root.
    Path(String),
    /// A detached tree that the runtime opened before the clone, in this slot ([`ParentOp::OpenTree`]).
    FromRuntime(usize),
}

/// Where a mount namespace comes from that is no copy of the host's. Where it cannot be had, a copy is made after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// open_tree(2) with OPEN_TREE_NAMESPACE makes one around the root filesystem.
    OpenTree,
    /// It is a copy of a small one that is kept on the host.
    Pinned,
}

/// How mounts propagate, and whether those below change as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropagationChange {
    /// The new propagation.
    pub kind: Propagation,
    /// The mounts below change too.
    pub recursive: bool,
}

/// Mount attributes to set and to clear: disjoint, by [`AttrChange::set`] and [`AttrChange::clear`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    set: MountAttr,
    clear: MountAttr,
    atime: Option<Atime>,
}

impl AttrChange {
    /// Sets these attributes; the last word on an attribute wins.
    pub fn set(&mut self, attr: MountAttr) {
        self.set |= attr;
        self.clear &= !attr;
    }
    /// Clears these attributes; the last word on an attribute wins.
    pub fn clear(&mut self, attr: MountAttr) {
        self.clear |= attr;
        self.set &= !attr;
    }
    /// Adds what is said later: it wins where both say something.
    pub fn then(&mut self, later: AttrChange) {
        self.clear(later.clear);
        self.set(later.set);
        self.atime = later.atime.or(self.atime);
    }
    /// Chooses the access-time rule; the last word wins.
    pub fn atime(&mut self, atime: Atime) {
        self.atime = Some(atime);
    }
    /// Clears the restrictions that are not set, but these: whatever a bind has from its source. The access-time rule stays where nothing
    /// is said of it.
    pub fn clear_the_rest(&mut self, but: MountAttr) {
        let mut all = MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
        if self.atime.is_some() {
            all |= MountAttr::NODIRATIME;
        }
        self.clear |= all & !self.set & !but;
    }
    /// `mount_attr.attr_set`
    pub fn attr_set(self) -> u64 {
        self.set.bits() | self.atime.map_or(0, Atime::bits)
    }
    /// `mount_attr.attr_clr`
    pub fn attr_clear(self) -> u64 {
        self.clear.bits() | self.atime.map_or(0, |_| Atime::MASK)
    }
    /// Says nothing of these attributes any more.
    pub fn forget(&mut self, attr: MountAttr) {
        self.set &= !attr;
        self.clear &= !attr;
    }
    /// Whether all of these attributes will be cleared.
    pub fn clears(self, attr: MountAttr) -> bool {
        self.clear.contains(attr)
    }
    /// The attributes that will be set.
    pub fn flags(self) -> MountAttr {
        self.set
    }
    /// Nothing to change.
    pub fn is_empty(self) -> bool {
        self == AttrChange::default()
    }
}

/// A mount inside the root filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where: an absolute path that is resolved inside the root filesystem.
    pub destination: String,
    /// Do not follow a symbolic link at the end of the destination (`dest-nofollow`).
    pub destination_nofollow: bool,
    /// What is mounted.
    pub source: Source,
    /// Attributes of this mount.
    pub attr: AttrChange,
    /// Attributes of this mount and all below it.
    pub attr_recursive: AttrChange,
    /// Propagation changes, in order.
    pub propagation: Vec<PropagationChange>,
    /// Becomes read-only at [`Op::ReadonlyMounts`]: until then nodes, mount points and /dev/console are made in it.
    pub readonly_last: bool,
    /// What it has to do with /proc.
    pub proc: ProcRule,
}

impl Mount {
    /// A mount at `destination` with nothing else said.
    pub fn new(destination: &str, source: Source) -> Mount {
        Mount {
            destination: destination.to_string(),
            destination_nofollow: false,
            source,
            attr: AttrChange::default(),
            attr_recursive: AttrChange::default(),
            propagation: Vec::new(),
            readonly_last: false,
            proc: ProcRule::Outside,
        }
    }
}

/// What a mount may have to do with procfs. Labels and sysctls are written there, so a counterfeit would swallow them (CVE-2019-16884).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcRule {
    /// Refused where the destination turns out to be inside a procfs.
    Outside,
    /// One of the files of /proc that may be covered (lxcfs).
    CoversFile,
    /// It is mounted on /proc, so it must be a procfs.
    IsProc,
}

/// What a mount brings in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A new instance of a filesystem; fsopen(2).
    New {
        /// `tmpfs`, `proc`, …
        fstype: String,
        /// What mountinfo will show as the source.
        source: String,
        /// Parameters for fsconfig(2), in order: `mode` = `755`, `newinstance`.
        parameters: Vec<(String, Option<String>)>,
        /// The directory it is mounted on gives it its permission bits (a tmpfs without `mode`).
        mode_of_destination: bool,
        /// Copy what the root filesystem has at the destination into the new tmpfs (`tmpcopyup`).
        copy_up: bool,
        /// It is the one that the host has mounted: what this mount of it is told does not change it.
        mounted: bool,
        /// Bind this host tree instead, read-only, where the kernel refuses the type to this user namespace.
        fallback: Option<String>,
    },
    /// A copy of a host tree.
    Bind {
        /// Which.
        tree: Tree,
        /// As the configuration writes it, for messages.
        source: String,
        /// With the mounts below it (`rbind`).
        recursive: bool,
        /// Do not follow a symbolic link at the end of the source (`src-nofollow`, `copy-symlink`).
        source_nofollow: bool,
        /// Copy a symbolic link as a link instead of mounting (`copy-symlink`).
        copy_symlink: bool,
    },
    /// Change the mount that is there already (`remount`).
    Remount {
        /// Parameters for the filesystem's superblock, where it is not a bind.
        parameters: Option<Vec<(String, Option<String>)>>,
    },
    /// The host's cgroup2 tree, or the container's own part of it, bound because its cgroup namespace is not its own.
    CgroupSubtree {
        /// Path on the host.
        path: String,
    },
}

/// Id mappings of a mount or of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

/// A device node or FIFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where, inside the root filesystem.
    pub path: String,
    /// What kind.
    pub kind: NodeKind,
    /// Which device; none for a FIFO.
    pub number: DeviceNumber,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bind the host's node of the same path instead of making one: mknod(2) is refused in a user namespace.
    pub bind: bool,
}

/// A clock's offset in a time namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
}

/// sched_setattr(2), in the kernel's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For OTHER and BATCH.
    pub nice: i32,
    /// For FIFO and RR.
    pub priority: u32,
    /// Nanoseconds, for DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for DEADLINE.
    pub period: u64,
}

/// Who the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; none where setgroups(2) is denied to this user namespace, and where the caller's are to stay.
    pub groups: Option<Vec<u32>>,
    /// Bounding set.
    pub bounding: CapSet,
    /// No later capability can be in the bounding set that it has before: the runtime's, or in another user namespace all there are.
    pub last_bounding: u8,
    /// Effective set, as the program will have it.
    pub effective: CapSet,
    /// Permitted set, as the program will have it.
    pub permitted: CapSet,
    /// Inheritable set.
    pub inheritable: CapSet,
    /// Ambient set.
    pub ambient: CapSet,
    /// Kept until the seccomp filter is loaded, then dropped (CAP_SYS_ADMIN where no_new_privs is not asked for; seccomp(2)).
    pub keep_for_seccomp: CapSet,
}

/// The seccomp filter to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompLoad {
    /// The program.
    pub filter: Vec<crate::linux::types::SockFilter>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub flags: u64,
    /// Where the listener goes (`listenerPath`), with what (`listenerMetadata`).
    pub listener: Option<(String, String)>,
}
