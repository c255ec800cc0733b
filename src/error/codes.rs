// SPDX-License-Identifier: Apache-2.0
//! The table of codes: what each failure is called for good, what causes it, how to check that, and how to mend it.
//!
//! Source of `berth explain`, of docs/errors.md, and of the hint of an error that has none of its own. Looked at only when something has
//! failed, or by those who ask. A code that was in a release is never taken back nor given another meaning: scripts rely on it.

/// What is known of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub code: Code,
    /// As it is printed: `E-NOEXEC`.
    pub name: &'static str,
    /// What has happened, in one sentence.
    pub title: &'static str,
    /// One line for the error itself, where its maker knew nothing better; may be empty.
    pub hint: &'static str,
    /// What leads to it.
    pub cause: &'static str,
    /// How to find out whether that is so.
    pub check: &'static str,
    /// What to do then.
    pub mend: &'static str,
}

macro_rules! codes {
    ($($code:ident $name:literal { title: $title:literal, hint: $hint:literal, cause: $cause:literal, check: $check:literal, mend: $mend:literal })*) => {
        /// A stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $code,)*
        }

        /// Every code, in the order in which they are listed.
        pub static CODES: &[Code] = &[$(Code::$code,)*];

        /// What is known of them, in the same order, [`FIELDS`] texts of each with NUL behind each text. As one text it has one address:
        /// as texts of their own they would have hundreds, and every start of the program would relocate them, two pages in all.
        static TEXTS: &str = concat!($($name, "\0", $title, "\0", $hint, "\0", $cause, "\0", $check, "\0", $mend, "\0",)*);
    };
}

/// How many texts an entry has.
const FIELDS: usize = 6;

impl Code {
    /// What is known of it.
    pub fn entry(self) -> Entry {
        // The table is made from the same list as the type, in its order.
        let mut texts = TEXTS.split('\0').skip(self as usize * FIELDS);
        let mut next = || texts.next().unwrap_or_default();
        let (name, title, hint, cause, check, mend) = (next(), next(), next(), next(), next(), next());
        Entry { code: self, name, title, hint, cause, check, mend }
    }

    /// As it is printed: `E-NOEXEC`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The code of this name, in any case and with or without `E-`.
    pub fn parse(text: &str) -> Option<Code> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("E-").unwrap_or(&upper);
        CODES.iter().copied().find(|code| code.name().strip_prefix("E-") == Some(bare))
    }

    /// Its place in the table, for messages between processes of this program.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code at a place in the table.
    pub fn from_number(number: u8) -> Option<Code> {
        CODES.get(usize::from(number)).copied()
    }
}

codes! {
    // What is asked.
    Config "E-CONFIG" { title: "The configuration (config.json, process.json or a resources file) is not acceptable.", hint: "",
        cause: "A field is missing, has a wrong type, contradicts another one, or asks for something that the runtime specification forbids. Nothing has been made.",
        check: "The message names each field by its path (`mounts[3].options[1]`) and the rule that it breaks. `berth plan --bundle DIR` reads the same file and makes nothing.",
        mend: "Correct the fields that are named; where an engine writes the file, change what the engine was asked for. `berth spec` writes a file to compare with."
    }
    Usage "E-USAGE" { title: "The command line is not acceptable.", hint: "",
        cause: "A flag or a word is unknown, missing, or has a value that cannot be read.",
        check: "`berth COMMAND --help` lists the flags of a command.",
        mend: "Correct the command line. An engine that sends a flag unknown here is newer than this runtime, or meant for another one."
    }
    Unsupported "E-UNSUPPORTED" { title: "This host or this build cannot do what is asked.", hint: "`berth check --bundle DIR` tells what this host can do for a bundle",
        cause: "Something that the configuration asks for does not exist on this host: a file system, a device, a service, or a part of the kernel.",
        check: "`berth check --bundle DIR` lists what works, what degrades and what fails on this host, and `berth features` what this build knows.",
        mend: "Provide what is missing, or take the field that asks for it out of the configuration."
    }
    KernelTooOld "E-KERNEL-TOO-OLD" { title: "The kernel is older than what is asked for needs.", hint: "",
        cause: "berth needs Linux 5.14; some mount options, namespaces and file systems need newer kernels, which the message names.",
        check: "`uname -r` prints the running kernel.",
        mend: "Boot a newer kernel, or leave out what needs it."
    }

    // Containers and their state.
    NotFound "E-NOTFOUND" { title: "There is no container of this id.", hint: "`berth list` shows those there are",
        cause: "The container was deleted, was never made, or is kept under another state root: another user, another `--root`, another engine's namespace.",
        check: "`berth list`, with the same `--root` as the one that made it. containerd keeps containers under /run/containerd/runc/NAMESPACE.",
        mend: "Use the right id and the right `--root`."
    }
    Exists "E-EXISTS" { title: "Something of this name exists already.", hint: "",
        cause: "Ids are unique below a state root, and an earlier container of this id was not deleted. Units of systemd and groups of resctrl are unique too.",
        check: "`berth state ID` shows the container that has the id.",
        mend: "`berth delete ID` (or `delete --force ID`), or choose another id."
    }
    Status "E-STATUS" { title: "The container's status does not allow the operation.", hint: "`berth state ID` shows its status",
        cause: "A stopped container cannot be started, signalled or entered; only a created one can be started, only a running one paused, only a stopped one deleted without `--force`.",
        check: "`berth state ID` prints the status: created, running, paused or stopped.",
        mend: "Bring the container into the status that is needed, or make a new one."
    }
    State "E-STATE" { title: "The container's saved state is missing or damaged.", hint: "",
        cause: "The state directory was changed or removed by somebody else, another command holds it, or the machine lost power while a file system without a journal held it.",
        check: "Look at the files in STATE-ROOT/ID (by default /run/berth/ID): state.json and journal must be there and whole.",
        mend: "`berth delete --force ID` removes whatever can be found of the container. Keep the state root on a tmpfs, which /run is."
    }
    StateRoot "E-STATE-ROOT" { title: "The state root cannot be made or written.", hint: "--root names a directory that this user may write",
        cause: "The directory (by default /run/berth, or $XDG_RUNTIME_DIR/berth for an ordinary user) lies in one that this user may not write, or on a read-only file system.",
        check: "`ls -ld` the directory that the message names, and `findmnt -T` it.",
        mend: "Set XDG_RUNTIME_DIR to a directory of this user, or give `--root DIR`."
    }
    Peer "E-PEER" { title: "Another process broke the protocol or died.", hint: "",
        cause: "The container's process, systemd, or a helper ended or answered something unexpected while it was needed: killed by somebody, or by the kernel.",
        check: "The kernel's log (`dmesg`), the journal, and memory.events of the cgroup tell of killed processes. `--debug` shows the plan and how far it came.",
        mend: "Find what killed it. If nothing did, it is a fault of berth: please report it with the output of `--debug`."
    }
    Oom "E-OOM" { title: "The container ran out of memory before its program ran.", hint: "raise linux.resources.memory.limit: see memory.events of the cgroup",
        cause: "The kernel's OOM killer ended the container's process, because the cgroup's limit of memory leaves no room for starting it, or because the host itself has no memory left.",
        check: "memory.events of the container's cgroup (`oom_kill`), or `dmesg | grep -i oom`. Compare linux.resources.memory.limit with what the hooks and the program need at their start.",
        mend: "Raise linux.resources.memory.limit, or that of the cgroup above; put large files for a tmpfs (tmpcopyup) elsewhere, since they count too."
    }

    // What the kernel answers, where nothing better is known.
    Kernel "E-KERNEL" { title: "The kernel refused an operation.", hint: "",
        cause: "The system call that the message shows failed with the errno behind it.",
        check: "The manual page of the system call lists what each errno means; `strace -f berth …` shows the call among its neighbours.",
        mend: "It depends on the call: see the manual page, and the field of the configuration that the message names."
    }
    Permission "E-PERMISSION" { title: "The kernel does not permit an operation to this user.", hint: "`berth check` tells what this user may do here",
        cause: "The runtime lacks a capability, a security module or an outer container's seccomp filter forbids the call, or a file belongs to somebody else.",
        check: "`grep Cap /proc/self/status`, `id`, the audit log (`dmesg | grep -i -e apparmor -e avc`), and inside a container the outer one's profile.",
        mend: "Run as a user who may, or give the outer container the capability or profile that is missing."
    }
    MissingPath "E-MISSING-PATH" { title: "A path is not there.", hint: "",
        cause: "A file or directory that the configuration or the command line names is missing, or a part of its path is no directory.",
        check: "`ls -ld` the path that the message shows. Paths in mounts[].source are the host's, destinations are inside the root filesystem.",
        mend: "Make it, or correct the path."
    }
    NoSpace "E-NO-SPACE" { title: "There is no space left.", hint: "df and df -i show which file system is full; a quota or a kernel limit says the same",
        cause: "A file system (the state root's, the root filesystem's) is full, has no inodes left, or the user's quota is used up. For namespaces, keys and cgroups the kernel uses the same errno for its limits.",
        check: "`df` and `df -i` of the path in the message; `quota`; /proc/sys/user/max_*_namespaces.",
        mend: "Free space, or raise the quota or limit. `berth list` may show containers that nobody needs any more."
    }
    ReadOnly "E-READ-ONLY" { title: "A file system is read-only.", hint: "findmnt -T PATH shows the mount and its options",
        cause: "The state root, the root filesystem or a mount point that has to be made lies on a file system that is mounted read-only, or that the kernel made so after an error of the disk.",
        check: "`findmnt -T PATH` of the path in the message; `dmesg` tells of errors of the disk.",
        mend: "Mount it writable, choose another `--root`, or make the mount points in the image beforehand."
    }
    OpenFiles "E-OPEN-FILES" { title: "Too many files are open.", hint: "raise the limit of open files of whoever calls the runtime (ulimit -n, LimitNOFILE=)",
        cause: "The limit of descriptors of the runtime's process (RLIMIT_NOFILE, inherited from its caller) or of the whole host (fs.file-max) is reached.",
        check: "`ulimit -n` where the runtime is called; /proc/sys/fs/file-nr; `ls /proc/PID/fd | wc -l` of the engine, which may leak descriptors.",
        mend: "Raise LimitNOFILE= of the engine's unit or fs.file-max, and pass fewer descriptors with --preserve-fds."
    }
    NoMemory "E-NO-MEMORY" { title: "The kernel has no memory for an operation.", hint: "see free memory, and the memory limit of the cgroup that the runtime is in",
        cause: "The host, or the cgroup that the runtime itself runs in, is out of memory; or RLIMIT_MEMLOCK is too low for a BPF program on old kernels.",
        check: "`free`, memory.max and memory.events of the engine's cgroup, `dmesg`.",
        mend: "Free memory or raise the limit."
    }
    Busy "E-BUSY" { title: "Something is in use.", hint: "",
        cause: "A mount, a cgroup or a device is still used by a process.",
        check: "`fuser -vm PATH` for mounts, cgroup.procs for cgroups.",
        mend: "End what uses it, and try again."
    }
    NoSyscall "E-NO-SYSCALL" { title: "The kernel does not know a system call.", hint: "a kernel without this call, or an outer container's seccomp filter that hides it",
        cause: "The kernel is older than 5.14 or built without the feature, or an outer container's seccomp filter answers ENOSYS for calls that it does not know.",
        check: "`uname -r`; `grep Seccomp /proc/self/status` (2 means that a filter is on).",
        mend: "Update the kernel, or the seccomp profile (and libseccomp) of the outer container."
    }

    // The program.
    Program "E-PROGRAM" { title: "The program cannot be started.", hint: "",
        cause: "process.args[0], its interpreter or its working directory does not allow it.",
        check: "The message says what the kernel answered.",
        mend: "Correct process.args, or the image."
    }
    ProgramNotFound "E-PROGRAM-NOT-FOUND" { title: "The program is not in the container.", hint: "process.args[0] is looked up inside the root filesystem, by PATH of process.env",
        cause: "A name without a slash is looked for in the directories of PATH in process.env (not the host's PATH); a path is looked for inside the root filesystem. A mount may cover where it lies.",
        check: "`ls ROOTFS/PATH`, and PATH in process.env. `berth plan` shows the mounts in their order.",
        mend: "Correct process.args[0] or PATH, or put the program into the image. Each argument is an element of args of its own: [\"sh\", \"-c\", \"…\"]."
    }
    ProgramPermission "E-PROGRAM-PERMISSION" { title: "The program may not be executed.", hint: "the file has no execute permission for the user of the process, or a directory above it is closed",
        cause: "The file has no x bit for process.user, a directory on the way cannot be entered by that user, it is a directory itself, or a security module forbids it.",
        check: "`ls -l ROOTFS/PATH` and the directories above; process.user in config.json; `dmesg | grep -i -e apparmor -e avc`.",
        mend: "`chmod +x` in the image, or run as another user."
    }
    NoExec "E-NOEXEC" { title: "The program lies on a mount with the option noexec.", hint: "",
        cause: "The mount that the program is on, inside the container or below the root filesystem on the host, was made with noexec.",
        check: "`findmnt -T ROOTFS` on the host, and the options of mounts[] in config.json.",
        mend: "Take noexec from the options (`exec` in mounts[].options), or put the program elsewhere."
    }
    Interpreter "E-INTERPRETER" { title: "The program's interpreter is missing or cannot be executed.", hint: "",
        cause: "A script's first line (`#!/bin/bash`) or a dynamic program's header (/lib64/ld-linux-x86-64.so.2, /lib/ld-musl-x86_64.so.1) names a file that is not in the container. The kernel then says that there is no such file although the program is there. Common: a program built for glibc in an Alpine image, and a script with Windows line ends.",
        check: "`head -c 100 PROGRAM`, `readelf -l PROGRAM | grep interpreter`, `file PROGRAM`.",
        mend: "Put the interpreter into the image, build the program statically or for the image's C library, or correct the first line."
    }
    Architecture "E-ARCHITECTURE" { title: "The program is built for another processor.", hint: "",
        cause: "The image is of another architecture than the host, and no emulator is registered for it.",
        check: "`file PROGRAM` and `uname -m`; /proc/sys/fs/binfmt_misc lists registered emulators.",
        mend: "Use the image for this architecture (`--platform`), or register qemu-user with binfmt_misc."
    }
    ExecFormat "E-EXEC-FORMAT" { title: "The file is no program.", hint: "",
        cause: "It is empty, or a script without a `#!` line, or damaged. A shell would run such a script; the kernel does not.",
        check: "`file PROGRAM`, `head -c 4 PROGRAM`.",
        mend: "Begin the script with `#!/bin/sh`, or run the shell: args [\"sh\", \"SCRIPT\"]."
    }
    ArgumentsTooLong "E-ARGUMENTS-TOO-LONG" { title: "The arguments and the environment are too long.", hint: "",
        cause: "The kernel takes 128 KiB in one string and a quarter of the stack's limit in all (execve(2), \"Limits on size of arguments and environment\").",
        check: "The message names the string, or the sum.",
        mend: "Pass long values in a file, or raise RLIMIT_STACK of the runtime's caller."
    }
    WorkingDirectory "E-WORKING-DIRECTORY" { title: "The working directory cannot be entered.", hint: "",
        cause: "process.cwd is a file, is closed to the user of the process, or cannot be made in a read-only root filesystem.",
        check: "`ls -ld ROOTFS/CWD`; process.user.",
        mend: "Correct process.cwd, or its owner and mode in the image."
    }
    Escape "E-ESCAPE" { title: "The working directory is outside of the container: a possible escape.", hint: "",
        cause: "process.cwd leads, through something like /proc/self/fd/7, to a directory of the host (CVE-2024-21626). Nothing has been run.",
        check: "process.cwd, symbolic links in the image, and descriptors that the caller has left open.",
        mend: "Treat the image or the configuration as hostile until it is understood."
    }
    StandardStreams "E-INHERITED-FDS" { title: "A descriptor that is to be passed on is not open.", hint: "",
        cause: "--preserve-fds and LISTEN_FDS count descriptors from 3 on; one of them is closed in the runtime.",
        check: "`ls -l /proc/self/fd` in the caller.",
        mend: "Open them without gaps, or lower the count."
    }

    // Root filesystem and mounts.
    Rootfs "E-ROOTFS" { title: "The root filesystem cannot be used.", hint: "",
        cause: "root.path is missing, is no directory, is the host's own root, or lies where it cannot be mounted.",
        check: "`ls -ld` the path in the message; relative ones are seen from the bundle. `findmnt -T` it.",
        mend: "Correct root.path, or unpack the image there."
    }
    Pivot "E-PIVOT" { title: "The root filesystem cannot be made the root.", hint: "",
        cause: "pivot_root(2) works only where the host's root is a mount: not in an initramfs, nor in a chroot.",
        check: "`findmnt /` shows `rootfs`, or nothing.",
        mend: "`--no-pivot`, or DOCKER_RAMDISK=true for engines. It is weaker: use it only where it is needed."
    }
    ProcMasked "E-PROC-MASKED" { title: "A new proc or sysfs is refused because the outer one is not seen whole.", hint: "",
        cause: "In a user namespace the kernel allows a new proc only where a complete one is mounted already, and that one has masked or covered paths: typical for a container in a container. proc also needs a pid namespace of its own, sysfs a network namespace. The kernel's rule is mount_too_revealing().",
        check: "`findmnt -R /proc` and `findmnt -R /sys` where the runtime runs: anything mounted below hides a part. `berth check` says so too.",
        mend: "Give the outer container an unmasked /proc (Docker, Podman: `--security-opt systempaths=unconfined` or `unmask=ALL`; Kubernetes: `procMount: Unmasked`), or bind the outer /proc (`mounts[]` with type bind) and share its pid namespace."
    }
    ProcPlace "E-PROC-PLACE" { title: "A mount on /proc, or into it, would not be a procfs.", hint: "",
        cause: "Labels and kernel parameters are written to /proc: a counterfeit there would swallow them (CVE-2019-16884), so berth takes only a procfs, and the files in it that lxcfs covers.",
        check: "mounts[].destination, and symbolic links of the image on the way there.",
        mend: "Mount type proc on /proc, and put other things elsewhere."
    }
    MountType "E-MOUNT-TYPE" { title: "The kernel has no file system of this type.", hint: "",
        cause: "mounts[].type is misspelt, or its module is not loaded or not built. For a bind mount the options must say bind or rbind.",
        check: "/proc/filesystems; `modprobe TYPE`.",
        mend: "Load the module on the host, or correct type and options."
    }
    MountSource "E-MOUNT-SOURCE" { title: "What is to be bind mounted is not there.", hint: "a bind mount's source is a path of the host; relative ones are seen from the bundle",
        cause: "mounts[].source names a path that is missing on the host, or that the runtime's user cannot reach.",
        check: "`ls -ld SOURCE` as the user who runs the runtime.",
        mend: "Make the directory (engines do it for volumes, not for bind mounts), or correct the path."
    }
    MountTarget "E-MOUNT-TARGET" { title: "A mount's destination cannot be used.", hint: "",
        cause: "A directory can only be mounted on a directory and a file on a file; a mount point that is missing is made, for which the root filesystem must be writable; a symbolic link of the image may lead somewhere else.",
        check: "`ls -ld ROOTFS/DESTINATION`, and the directories above it.",
        mend: "Make the mount point in the image as what the source is: a directory or a file."
    }
    MountOption "E-MOUNT-OPTION" { title: "The file system refuses an option of a mount.", hint: "the kernel's log says which option, and why",
        cause: "mounts[].options has a parameter that this file system, or this version of the kernel, does not know or does not permit here.",
        check: "`dmesg | tail`; the manual page of the file system (tmpfs(5), overlayfs in the kernel's documentation).",
        mend: "Correct the option that the message names."
    }
    MountLocked "E-MOUNT-LOCKED" { title: "A mount is locked together with what it came with.", hint: "",
        cause: "In a user namespace mounts of the outer one are locked: what they cover may not be uncovered (bind without the mounts below), and their options may not be lifted.",
        check: "`findmnt -R SOURCE` shows what is mounted below; `findmnt -no OPTIONS SOURCE` its options.",
        mend: "Use rbind, and keep the options (ro, nosuid, nodev, noexec) that the mount has outside."
    }
    IdMappedMount "E-IDMAPPED-MOUNT" { title: "A mount cannot be id-mapped.", hint: "",
        cause: "The file system does not support it on this kernel (ext4, xfs: 5.12; btrfs: 5.15; overlayfs: 5.19; tmpfs: 6.3; most network file systems not at all), it is id-mapped already, or it belongs to another user namespace.",
        check: "`findmnt -T SOURCE` for the type, `uname -r`.",
        mend: "Use another file system or a newer kernel, or leave the mappings of the mount out and change the owner of the files."
    }
    DeviceNode "E-DEVICE-NODE" { title: "A device node cannot be made.", hint: "a user namespace cannot make device nodes: they are bound from the host's",
        cause: "mknod(2) is refused in user namespaces and on nodev mounts, and the image may have something else of that name.",
        check: "`ls -l ROOTFS/dev`, linux.devices in config.json, `ls -l /dev` on the host.",
        mend: "Mount a tmpfs on /dev, remove the file from the image, or take the device from linux.devices."
    }
    Terminal "E-TERMINAL" { title: "The container's terminal cannot be opened.", hint: "process.terminal needs a devpts on /dev/pts (mounts[])",
        cause: "process.terminal needs a devpts mounted on /dev/pts, and room for one more terminal (kernel.pty.max).",
        check: "mounts[] in config.json; /proc/sys/kernel/pty/nr and max.",
        mend: "Mount devpts with newinstance and ptmxmode=0666, as `berth spec` writes it."
    }
    ConsoleSocket "E-SOCKET" { title: "A socket of the caller cannot be connected to.", hint: "the caller listens on it before it calls the runtime",
        cause: "--console-socket, --pidfd-socket or linux.seccomp.listenerPath names a socket that nobody listens on, or that is gone.",
        check: "`ls -l` the path; `ss -xl | grep PATH`.",
        mend: "Start the listener first. By hand: `socat UNIX-LISTEN:PATH …` or a recvtty program."
    }

    // User namespaces.
    UserNamespaces "E-USER-NAMESPACE" { title: "This user may not make a user namespace.", hint: "",
        cause: "The host forbids it to ordinary users: kernel.unprivileged_userns_clone=0 (Debian), kernel.apparmor_restrict_unprivileged_userns=1 (Ubuntu), user.max_user_namespaces=0 (RHEL), or an outer container's seccomp filter.",
        check: "`sysctl user.max_user_namespaces kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns`; `unshare -Ur true`.",
        mend: "Set the parameter that stands in the way, or install an AppArmor profile with `userns,` for the path of berth."
    }
    NamespaceLimit "E-NAMESPACE-LIMIT" { title: "A limit on namespaces is reached.", hint: "",
        cause: "The user has as many namespaces of a kind as /proc/sys/user/max_*_namespaces allows here or in an outer user namespace, or they are nested more than 32 deep.",
        check: "`grep . /proc/sys/user/max_*_namespaces`; `lsns` counts those there are.",
        mend: "Raise the limit, or end containers that nobody needs."
    }
    NamespaceKind "E-NAMESPACE-KIND" { title: "The kernel has no namespaces of a kind, or the path is another kind.", hint: "",
        cause: "The kernel was built without CONFIG_*_NS, or linux.namespaces[].path names a file that is no namespace of that type.",
        check: "`ls -l /proc/self/ns`; `readlink PATH`, or `lsns`.",
        mend: "Correct type and path, or leave the namespace out."
    }
    NamespacePath "E-NAMESPACE-PATH" { title: "A namespace cannot be joined.", hint: "",
        cause: "linux.namespaces[].path is gone (the process it belonged to has ended), or the runtime has no rights in the user namespace that owns it.",
        check: "`ls -lL PATH`; in Kubernetes: is the pod's sandbox still running?",
        mend: "Make the sandbox again; join the user namespace that owns it as well."
    }
    NoUidMapPrograms "E-NEWUIDMAP" { title: "newuidmap and newgidmap are not installed.", hint: "install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora, RHEL)",
        cause: "An ordinary user may map only its own id; more takes the set-user-ID programs newuidmap and newgidmap.",
        check: "`command -v newuidmap newgidmap`.",
        mend: "Install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora, RHEL)."
    }
    SubIds "E-SUBIDS" { title: "newuidmap or newgidmap refuses the mappings.", hint: "",
        cause: "The ranges of linux.uidMappings or gidMappings are not granted to this user in /etc/subuid and /etc/subgid, or the programs have lost their set-user-ID bit or file capabilities (a nosuid mount, a copied image).",
        check: "`grep \"^$USER:\" /etc/subuid /etc/subgid`; `ls -l $(command -v newuidmap)`, `getcap` of it; `findmnt -no OPTIONS -T /usr/bin`.",
        mend: "`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`, and the same ranges in the configuration."
    }
    IdMap "E-IDMAP" { title: "The id mappings cannot be written.", hint: "",
        cause: "Ids outside of the runtime's own need CAP_SETUID and CAP_SETGID in the outer user namespace, must be mapped there, and ranges may neither overlap nor be more than 340.",
        check: "linux.uidMappings and gidMappings; `cat /proc/self/uid_map` where the runtime runs.",
        mend: "Use ids that the outer namespace has."
    }
    SetGroups "E-SETGROUPS" { title: "Supplementary groups cannot be set.", hint: "",
        cause: "setgroups(2) is denied where only the runtime's own ids are mapped (user_namespaces(7)).",
        check: "`cat /proc/PID/setgroups` of a process in the namespace.",
        mend: "Install newuidmap and newgidmap, or leave process.user.additionalGids out."
    }

    // Cgroups.
    CgroupAbsent "E-NO-CGROUP" { title: "No cgroup file system is mounted.", hint: "",
        cause: "/sys/fs/cgroup is empty, or something else is mounted there: an outer container without cgroups.",
        check: "`findmnt /sys/fs/cgroup`.",
        mend: "`mount -t cgroup2 none /sys/fs/cgroup`, or `--cgroup-manager=disabled` and no limits."
    }
    Controller "E-CONTROLLER" { title: "A cgroup controller is not available.", hint: "",
        cause: "A limit needs a controller that the kernel does not have, that a cgroup above does not pass on, or that a cgroup v1 hierarchy holds on a hybrid host. For ordinary users: systemd delegates only memory and pids unless told otherwise.",
        check: "`cat /sys/fs/cgroup/cgroup.controllers`, and cgroup.subtree_control of each cgroup above the container's. `berth check` lists them.",
        mend: "For an ordinary user: `Delegate=cpu cpuset io memory pids` for user@.service. Inside a container: a cgroup namespace and write access. Otherwise take the limit out."
    }
    Delegation "E-DELEGATION" { title: "The cgroup is not delegated to this user.", hint: "systemd's Delegate= gives a unit its own part of the cgroup tree",
        cause: "The cgroup that the container's would be made in belongs to somebody else, or is mounted read-only.",
        check: "`cat /proc/self/cgroup`, then `ls -ld` that directory below /sys/fs/cgroup; `findmnt /sys/fs/cgroup`.",
        mend: "`systemd-run --user --scope -p Delegate=yes …`, the systemd driver (`--systemd-cgroup`) with a user session, or a cgroupsPath in a part of the tree that belongs to this user."
    }
    CgroupNotEmpty "E-CGROUP-NOT-EMPTY" { title: "The container's cgroup has processes of somebody else.", hint: "",
        cause: "linux.cgroupsPath names a cgroup that another container, or a service, runs in. berth would limit, freeze and kill them.",
        check: "`cat /sys/fs/cgroup/PATH/cgroup.procs`, and of those below.",
        mend: "Choose another cgroupsPath; remove what an earlier runtime left."
    }
    CgroupFrozen "E-CGROUP-FROZEN" { title: "The container's cgroup is frozen.", hint: "",
        cause: "The cgroup, or one above it, is frozen: nothing in it would run.",
        check: "cgroup.freeze of the cgroup and of those above it; cgroup.events says `frozen`.",
        mend: "`echo 0 > cgroup.freeze`, or resume the container that the cgroup belongs to."
    }
    CgroupBusy "E-CGROUP-BUSY" { title: "A cgroup with processes cannot pass controllers on, nor the other way round.", hint: "",
        cause: "In cgroup v2 only the root may have both processes and children with controllers (\"no internal processes\"). The cgroup that the container's would be made in has processes, often those of the engine or the shell.",
        check: "cgroup.procs and cgroup.subtree_control of the cgroup that the message names.",
        mend: "Choose a cgroupsPath beside it, or move the processes into a child of their own first (`DelegateSubgroup=` in systemd)."
    }
    CgroupThreaded "E-CGROUP-THREADED" { title: "A cgroup above the container's is threaded.", hint: "",
        cause: "Below a threaded cgroup nothing can hold whole processes.",
        check: "cgroup.type of the cgroups above.",
        mend: "Choose another cgroupsPath."
    }
    CgroupLimit "E-LIMIT" { title: "The kernel refuses a limit.", hint: "",
        cause: "The value is out of the file's range, above what the cgroup above has, below what is in use, or for a device that is not there.",
        check: "The message has the file, the value and the field; compare with the same file of the cgroup above.",
        mend: "Correct the field of linux.resources that is named."
    }
    CgroupStuck "E-STUCK" { title: "Processes of the container do not end.", hint: "a process in state D waits for the kernel: see /proc/PID/stack",
        cause: "They wait in the kernel (state D): a network file system that is gone, a disk with errors, a fault of a driver. Not even SIGKILL ends them before that is over.",
        check: "The message names pids, states and where they wait; /proc/PID/stack, `dmesg`.",
        mend: "Mend what they wait for; `umount -f` of the file system; at last, boot again."
    }
    DeviceFilter "E-DEVICE-FILTER" { title: "The filter of devices cannot be loaded.", hint: "",
        cause: "Cgroup v2 filters devices by a BPF program, which takes CAP_SYS_ADMIN or CAP_BPF with CAP_NET_ADMIN, and a kernel with CONFIG_CGROUP_BPF; an outer runtime may forbid bpf(2).",
        check: "`zgrep CGROUP_BPF /proc/config.gz`; `grep CapEff /proc/self/status`; the outer container's seccomp profile.",
        mend: "Give the outer container these capabilities and bpf(2), or run the container in a user namespace."
    }
    Systemd "E-SYSTEMD" { title: "systemd did not do what it was asked.", hint: "",
        cause: "The unit of the container could not be started, stopped or changed: D-Bus or systemd cannot be reached, the unit exists, a property is unknown to this version, or the job failed.",
        check: "`systemctl status UNIT`, `journalctl -u UNIT`; for users: `systemctl --user status`, XDG_RUNTIME_DIR.",
        mend: "`systemctl reset-failed UNIT`; log in through PAM so that there is a user manager (`loginctl enable-linger USER`); or the cgroupfs driver."
    }
    Resctrl "E-RESCTRL" { title: "The resctrl group cannot be made or set.", hint: "see info/last_cmd_status in /sys/fs/resctrl",
        cause: "The processor has no resource control, no class of service is left, or the schema does not fit it.",
        check: "`findmnt -t resctrl`; /sys/fs/resctrl/info.",
        mend: "`mount -t resctrl none /sys/fs/resctrl`, remove groups that nobody needs, correct linux.intelRdt."
    }

    // What the process is.
    ProcessLimit "E-PROCESS-LIMIT" { title: "No more processes can be made.", hint: "",
        cause: "RLIMIT_NPROC of the user, pids.max of the cgroup or one above it, or kernel.pid_max is reached.",
        check: "`ulimit -u`; pids.current and pids.max of the cgroups; /proc/sys/kernel/pid_max and threads-max.",
        mend: "Raise the limit, or end processes."
    }
    Rlimit "E-RLIMIT" { title: "A resource limit cannot be raised.", hint: "raising a hard limit needs CAP_SYS_RESOURCE, which the runtime does not have here",
        cause: "process.rlimits asks for a hard limit above the runtime's own, which takes CAP_SYS_RESOURCE in the initial user namespace; or RLIMIT_NOFILE above fs.nr_open.",
        check: "`ulimit -Ha` where the runtime runs, `grep CapEff /proc/self/status`, `sysctl fs.nr_open`.",
        mend: "Ask for no more than the runtime has, or raise the caller's (LimitNOFILE= of the engine's unit)."
    }
    OomScore "E-OOM-SCORE" { title: "The OOM score cannot be lowered.", hint: "less than the runtime's own value needs CAP_SYS_RESOURCE",
        cause: "process.oomScoreAdj is below the runtime's own value, which takes CAP_SYS_RESOURCE.",
        check: "`cat /proc/self/oom_score_adj` where the runtime runs.",
        mend: "Ask for a value that is not lower, or lower that of the engine (OOMScoreAdjust=)."
    }
    Scheduling "E-SCHEDULING" { title: "The scheduling, I/O priority or CPU affinity cannot be set.", hint: "real-time classes and lower nice values need CAP_SYS_NICE",
        cause: "Real-time and deadline policies, nice values below the runtime's own and the real-time I/O class take CAP_SYS_NICE; real-time also needs time in the cgroup (cgroup v1), deadline all CPUs; affinity only what the cpuset has.",
        check: "`grep CapEff /proc/self/status`, cpuset.cpus.effective of the cgroup, `ulimit -r`.",
        mend: "Give the runtime CAP_SYS_NICE, or leave process.scheduler, ioPriority or execCPUAffinity out."
    }
    Capabilities "E-IDENTITY" { title: "The process cannot become the user that is asked for.", hint: "the id must be mapped in the container's user namespace",
        cause: "process.user names an id that is not mapped in the user namespace, or the runtime lacks CAP_SETUID, CAP_SETGID or CAP_SETPCAP.",
        check: "linux.uidMappings and gidMappings; `grep Cap /proc/self/status`.",
        mend: "Map the id, or choose one that is mapped."
    }
    Sysctl "E-SYSCTL" { title: "A kernel parameter cannot be set.", hint: "only parameters of the container's own namespaces can be set, and the kernel must have them",
        cause: "linux.sysctl names a parameter that this kernel does not have (a module is not loaded), that belongs to no namespace of the container, or a value that it does not take.",
        check: "`sysctl NAME` on the host.",
        mend: "Load the module, correct the name or value, or give the container its own network, IPC or UTS namespace."
    }
    Keyring "E-KEYRING" { title: "The session keyring cannot be made.", hint: "",
        cause: "The user has as many keys as kernel.keys.maxkeys allows: each container has a keyring of its own.",
        check: "/proc/key-users; /proc/sys/kernel/keys/maxkeys and root_maxkeys.",
        mend: "Raise the limit, or `--no-new-keyring`."
    }
    Seccomp "E-SECCOMP" { title: "The seccomp filter cannot be loaded.", hint: "",
        cause: "The kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), lacks a flag or action that is asked for, the profile cannot be made into a filter, or there is a listener already.",
        check: "`cat /proc/sys/kernel/seccomp/actions_avail`; `grep Seccomp /proc/self/status`.",
        mend: "Leave out the flag that the message names, or linux.seccomp."
    }
    LsmMissing "E-LSM-MISSING" { title: "AppArmor or SELinux is asked for and not enabled on this host.", hint: "",
        cause: "process.apparmorProfile or process.selinuxLabel cannot be applied; to run without would be less safe than what was asked.",
        check: "`cat /sys/kernel/security/lsm`, `aa-status`, `getenforce`.",
        mend: "Enable the module (kernel parameter `lsm=`), or take the field out: engines have a switch for it."
    }
    LsmProfile "E-LSM-PROFILE" { title: "The AppArmor profile or SELinux label cannot be entered.", hint: "is the profile loaded? see aa-status",
        cause: "The profile is not loaded, or the policy does not allow the runtime to change to it.",
        check: "`aa-status | grep PROFILE`; `ausearch -m avc -ts recent`.",
        mend: "`apparmor_parser -r FILE`; engines load their own profiles when they start: restart them."
    }

    // Hooks and devices.
    Hook "E-HOOK" { title: "A hook failed.", hint: "the hook's own output is in the message; run it by hand with the state on its standard input",
        cause: "A program of hooks in config.json ended with another status than 0, was killed, or could not be started. The message has its last output.",
        check: "`hooks` in config.json; run it by hand: `berth state ID | HOOK ARGS…`. A hook gets only the environment that its `env` has: no PATH unless it is there.",
        mend: "Mend the hook or what it needs; hooks come from the engine's configuration, CDI files or /usr/share/containers/oci/hooks.d."
    }
    HookTimeout "E-HOOK-TIMEOUT" { title: "A hook ran longer than its timeout.", hint: "hooks[].timeout is in seconds; the hook and what it started were killed",
        cause: "The hook waits for something that does not come, or its timeout is too short for a busy machine.",
        check: "The last output in the message; run it by hand and take its time.",
        mend: "Raise `timeout` of the hook, or mend what it waits for."
    }
    NetDevice "E-NET-DEVICE" { title: "A network device cannot be moved into the container.", hint: "",
        cause: "There is no device of that name in the runtime's network namespace, one of the new name exists, the device cannot change namespaces, or CAP_NET_ADMIN is missing.",
        check: "`ip -details link show NAME`.",
        mend: "Correct linux.netDevices."
    }
    Checkpoint "E-CHECKPOINT" { title: "The container cannot be checkpointed or restored.", hint: "",
        cause: "CRIU is missing, refuses something that the container uses, or the images do not fit this host.",
        check: "`criu check`, and the log that the message names (dump.log, restore.log).",
        mend: "Install CRIU; see the last lines of its log."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_type_and_its_names_are_unique() {
        let mut names = std::collections::HashSet::new();
        assert_eq!(TEXTS.matches('\0').count(), CODES.len() * FIELDS);
        for (index, entry) in CODES.iter().map(|code| code.entry()).enumerate() {
            assert_eq!(entry.code as usize, index);
            assert_eq!(Code::from_number(entry.code.number()), Some(entry.code));
            assert_eq!(Code::parse(entry.name), Some(entry.code));
            assert_eq!(Code::parse(&entry.name.to_lowercase()[2..]), Some(entry.code));
            assert!(names.insert(entry.name), "{} twice", entry.name);
            let plain = |c: char| c.is_ascii_uppercase() || c == '-';
            assert!(entry.name.starts_with("E-") && entry.name.chars().all(plain), "{}", entry.name);
        }
        assert!(CODES.len() < 256 && CODES.len() > 50);
        assert_eq!(Code::from_number(255), None);
        assert_eq!(Code::parse("E-NOTHING"), None);
    }

    #[test]
    fn every_code_says_all_there_is_to_say() {
        for entry in CODES.iter().map(|code| code.entry()) {
            for (what, text) in [("title", entry.title), ("cause", entry.cause), ("check", entry.check), ("mend", entry.mend)] {
                assert!(text.len() > 10 && text.ends_with(['.', ')', '?']), "{}: {what}: {text:?}", entry.name);
                assert!(!text.contains('\n'), "{}: {what}", entry.name);
            }
            assert!(!entry.hint.ends_with('.'), "{}: a hint is no sentence", entry.name);
        }
    }

    /// Clients look for these words anywhere in a message, and take them for the failure itself.
    #[test]
    fn no_hint_says_what_clients_look_for() {
        let words = [
            "does not exist",
            "not running",
            "already finished",
            "no such process",
            "invalid process",
            "permission denied",
            "operation not permitted",
            "is a directory",
            "not a directory",
            "not found",
            "no such file",
            "executable path",
            "open executable",
            "already exists",
        ];
        for entry in CODES.iter().map(|code| code.entry()) {
            let hint = entry.hint.to_lowercase();
            assert!(!words.iter().any(|word| hint.contains(word)), "{}: {hint}", entry.name);
        }
    }
}
