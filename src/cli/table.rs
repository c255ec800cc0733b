// SPDX-License-Identifier: Apache-2.0
//! Every command and every flag, as one table: the source of parsing ([`super::args`]), of the help texts, and of the man pages and
//! completions that `hack/man` writes.

/// One flag.
pub struct Flag {
    /// Long name.
    pub name: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Name of its value; none for a switch.
    pub value: Option<&'static str>,
    /// Each use counts, instead of the last.
    pub repeats: bool,
    /// Accepted for the sake of clients, not shown.
    pub hidden: bool,
    /// What help says.
    pub help: &'static str,
}

const fn switch(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, value: None, repeats: false, hidden: false, help }
}
const fn value(name: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { name, short, value: Some(value), repeats: false, hidden: false, help }
}
const fn repeated(flag: Flag) -> Flag {
    Flag { name: flag.name, short: flag.short, value: flag.value, repeats: true, hidden: flag.hidden, help: flag.help }
}
const fn hidden(flag: Flag) -> Flag {
    Flag { name: flag.name, short: flag.short, value: flag.value, repeats: flag.repeats, hidden: true, help: flag.help }
}

/// How a command takes what is not a flag.
pub enum Positional {
    /// Nothing.
    None,
    /// `CONTAINER-ID`
    Id,
    /// One optional word of this name.
    Word(&'static str),
    /// A file, by this name and with this help.
    File(&'static str, &'static str),
    /// `CONTAINER-ID`, then optional words of this name.
    IdAnd(&'static str),
    /// One of these words, then words of this name.
    ActionAnd(&'static str, &'static str),
    /// One of these words, then words of this name; after `--` everything verbatim.
    ActionAndCommand(&'static str, &'static str),
    /// `CONTAINER-ID`, then everything verbatim, flags too.
    IdAndCommand(&'static str),
}

/// One command.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What help says.
    pub help: &'static str,
    /// What is not a flag.
    pub positional: Positional,
    /// Its flags.
    pub flags: &'static [Flag],
}

/// The flags before the command.
pub const GLOBAL: &[Flag] = &[
    value(
        "root",
        None,
        "DIR",
        "where the state of containers is kept [default: /run/berth, or $XDG_RUNTIME_DIR/berth when rootless]",
    ),
    value(
        "log",
        None,
        "FILE",
        "append messages to this file, or send them to journald:NAME or syslog:NAME; without it they go to stderr",
    ),
    value("log-format", None, "FORMAT", "text or json [default: text]"),
    value("log-level", None, "LEVEL", "error, warning or debug [default: warning, with --log error]"),
    switch("debug", None, "the same as --log-level debug"),
    switch("systemd-cgroup", None, "use systemd for cgroups; cgroupsPath is then slice:prefix:name"),
    value("cgroup-manager", None, "MANAGER", "cgroupfs, systemd or disabled [default: cgroupfs]"),
    value("rootless", None, "BOOL", "pass over cgroup failures as an ordinary user must: true, false or auto [default: auto]"),
    value("trace", None, "FILE", "add to this file, as Chrome trace events for Perfetto, what the command did from when to when"),
    value("criu", None, "PATH", "the program criu, for checkpoint and restore [default: that of the PATH]"),
];

const BUNDLE: Flag = value("bundle", Some('b'), "DIR", "the bundle's directory [default: .]");
const CONFIG: Flag =
    value("config", Some('f'), "FILE", "read the configuration from this file [default: config.json in the bundle]");
const REGEX: Flag =
    switch("regex", Some('r'), "CONTAINER-ID is an extended regular expression: every container whose id it matches");
const CONSOLE_SOCKET: Flag = value("console-socket", None, "SOCKET", "send the terminal's master to this unix socket");
const PIDFD_SOCKET: Flag = value("pidfd-socket", None, "SOCKET", "send a pidfd of the process to this unix socket");
const PID_FILE: Flag = value("pid-file", None, "FILE", "write the process id to this file");
const NO_PIVOT: Flag = switch("no-pivot", None, "do not use pivot_root(2), for a root filesystem on a ramdisk");
const NO_NEW_KEYRING: Flag = switch("no-new-keyring", None, "do not make a session keyring for the container");
const PRESERVE_FDS: Flag = value("preserve-fds", None, "N", "pass N more descriptors after the standard streams");

const IMAGE_PATH: Flag = value("image-path", None, "DIR", "the directory of the image [default: ./checkpoint]");
const WORK_PATH: Flag = value("work-path", None, "DIR", "where CRIU writes its logs [default: the image's directory]");
const TCP_ESTABLISHED: Flag = switch("tcp-established", None, "allow open TCP connections");
const EXT_UNIX_SK: Flag = switch("ext-unix-sk", None, "allow unix sockets that lead out of the container");
const SHELL_JOB: Flag = switch("shell-job", None, "allow a terminal that the container shares with its caller");
const FILE_LOCKS: Flag = switch("file-locks", None, "allow file locks");
const LINK_REMAP: Flag = switch("link-remap", None, "allow files that have been deleted, by links to them in their directories");
const AUTO_DEDUP: Flag = switch("auto-dedup", None, "drop from an image what a later one has anew");
const CGROUPS_MODE: Flag =
    value("manage-cgroups-mode", None, "MODE", "cgroups below the container's: soft, full, strict or ignore [default: soft]");
const EMPTY_NS: Flag = repeated(value("empty-ns", None, "KIND", "a namespace that is restored without what was in it: network"));
const TCP_CLOSE: Flag = switch("tcp-close", None, "close TCP connections instead of keeping them");
const NETWORK_LOCK: Flag =
    value("network-lock", None, "METHOD", "how packets are held back: iptables, nftables or skip [default: CRIU's]");

/// Every command.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        help: "create a container from a bundle; its program waits for start",
        positional: Positional::Id,
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            hidden(switch("no-subreaper", None, "accepted and ignored")),
        ],
    },
    Verb {
        name: "run",
        help: "create a container and start it",
        positional: Positional::Id,
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            switch("detach", Some('d'), "do not wait for the container to end"),
            switch("keep", None, "do not delete the container when it has ended"),
            switch("no-subreaper", None, "do not become the reaper of the container's orphans"),
        ],
    },
    Verb { name: "start", help: "start the program of a created container", positional: Positional::Id, flags: &[] },
    Verb { name: "state", help: "print the state of a container as JSON", positional: Positional::Id, flags: &[] },
    Verb {
        name: "exec",
        help: "run one more program in a container",
        positional: Positional::IdAndCommand("COMMAND"),
        flags: &[
            value("process", Some('p'), "FILE", "the process to run: the object process of a config.json by itself"),
            value("cwd", None, "DIR", "the working directory, absolute"),
            repeated(value("env", Some('e'), "NAME=VALUE", "one more variable of the environment; repeatable")),
            value("user", Some('u'), "UID[:GID]", "the user and the group, by number"),
            repeated(value("additional-gids", Some('g'), "GID", "one more group; repeatable")),
            switch("tty", Some('t'), "give it a terminal"),
            switch("detach", Some('d'), "do not wait for it to end"),
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            repeated(value("cap", Some('c'), "CAPABILITY", "one more capability; repeatable")),
            switch("no-new-privs", None, "it can gain no privileges by executing programs"),
            value("apparmor", None, "PROFILE", "its AppArmor profile"),
            value("process-label", None, "LABEL", "its SELinux label"),
            PRESERVE_FDS,
            repeated(value(
                "cgroup",
                None,
                "[CONTROLLER,...:]PATH",
                "start it in this cgroup below the container's own; repeatable where cgroup v1 is mounted",
            )),
            switch("ignore-paused", None, "start it in a paused container too; it runs when that is resumed"),
            hidden(switch("no-subreaper", None, "accepted and ignored")),
        ],
    },
    Verb {
        name: "update",
        help: "change the limits of a container",
        positional: Positional::Id,
        flags: &[
            value(
                "resources",
                Some('r'),
                "FILE",
                "read them from this file, or from stdin (-): the object linux.resources by itself",
            ),
            value("blkio-weight", None, "WEIGHT", "share of block I/O: 10 to 1000"),
            value("cpu-period", None, "MICROSECONDS", "the period of the CPU quota"),
            value("cpu-quota", None, "MICROSECONDS", "CPU time in each period; -1 for no limit"),
            value("cpu-burst", None, "MICROSECONDS", "CPU time that may be saved up beyond the quota"),
            value("cpu-share", None, "SHARES", "share of CPU time relative to others: 2 to 262144"),
            value("cpu-rt-period", None, "MICROSECONDS", "the period of real-time running; cgroup v1 only"),
            value("cpu-rt-runtime", None, "MICROSECONDS", "real-time running in each period; cgroup v1 only"),
            value("cpuset-cpus", None, "LIST", "the CPUs to run on: 0-3,7"),
            value("cpuset-mems", None, "LIST", "the memory nodes to use: 0-3,7"),
            value("cpu-idle", None, "0|1", "1: run only when nothing else wants to (SCHED_IDLE)"),
            hidden(value("kernel-memory", None, "BYTES", "accepted and ignored")),
            hidden(value("kernel-memory-tcp", None, "BYTES", "accepted and ignored")),
            value("memory", None, "BYTES", "the limit of memory: 512m, 2g; -1 for none"),
            value("memory-reservation", None, "BYTES", "the soft limit of memory"),
            value("memory-swap", None, "BYTES", "the limit of memory and swap together; -1 for none"),
            value("memory-high", None, "BYTES", "the size above which it is slowed down instead of killed; cgroup v2 only"),
            value("memory-low", None, "BYTES", "the size that is spared as long as others have any; cgroup v2 only"),
            value("memory-min", None, "BYTES", "the size that is never taken away; cgroup v2 only"),
            value("memory-oom-group", None, "0|1", "1: lack of memory kills the whole container; cgroup v2 only"),
            value("pids-limit", None, "NUMBER", "the most tasks there may be; -1 for no limit"),
            repeated(value("unified", None, "FILE=VALUE", "any file of cgroup v2: io.max=\"8:0 rbps=1048576\"")),
            repeated(value("device", None, "PATH", "plug a device in: PATH[:PATH-INSIDE][:ACCESS], its node is made inside")),
            value("l3-cache-schema", None, "SCHEMA", "Intel RDT: the L3 cache schema"),
            value("mem-bw-schema", None, "SCHEMA", "Intel RDT: the memory bandwidth schema"),
            repeated(value(
                "rdt-schemata",
                None,
                "LINE",
                "Intel RDT: one more line for the schemata file, such as L2:0=f; repeatable",
            )),
        ],
    },
    Verb {
        name: "events",
        help: "print what a container uses, and tell of lack of memory, until it ends",
        positional: Positional::Id,
        flags: &[
            value(
                "format",
                None,
                "FORMAT",
                "json, or prometheus: one count of CONTAINER-ID, or of all containers [default: json]",
            ),
            value("interval", None, "DURATION", "time between two counts: 5s, 100ms [default: 5s]"),
            switch("stats", None, "print one count and end"),
            value(
                "pressure",
                None,
                "PERCENT",
                "tell too when tasks stall for so much of 2 s for want of CPU time, memory or block devices",
            ),
        ],
    },
    Verb {
        name: "top",
        help: "show what all containers use, again and again on a terminal, otherwise once",
        positional: Positional::None,
        flags: &[
            value(
                "interval",
                None,
                "DURATION",
                "time between two looks, and over which rates are: 5s, 100ms [default: 2s; once: 500ms]",
            ),
            switch("once", Some('1'), "show it once and end"),
        ],
    },
    Verb {
        name: "mounts",
        help: "mount in a container that runs, take mounts away, or list them",
        positional: Positional::ActionAnd("add|remove|list", "CONTAINER-ID [FILE]"),
        flags: &[],
    },
    Verb {
        name: "kill",
        help: "send a signal to a container's first process [default: SIGTERM]",
        positional: Positional::IdAnd("SIGNAL"),
        flags: &[switch("all", Some('a'), "send it to every process of the container"), REGEX],
    },
    Verb {
        name: "delete",
        help: "delete what a container holds",
        positional: Positional::Id,
        flags: &[switch("force", Some('f'), "kill it first if it runs; no error if there is none"), REGEX],
    },
    Verb {
        name: "list",
        help: "list the containers",
        positional: Positional::None,
        flags: &[value("format", Some('f'), "FORMAT", "table or json [default: table]"), switch("quiet", Some('q'), "ids only")],
    },
    Verb { name: "pause", help: "freeze every process of a container", positional: Positional::Id, flags: &[] },
    Verb { name: "resume", help: "let a paused container go on", positional: Positional::Id, flags: &[] },
    Verb {
        name: "ps",
        help: "list the processes of a container",
        positional: Positional::IdAndCommand("PS-OPTION"),
        flags: &[value("format", Some('f'), "FORMAT", "table or json [default: table]")],
    },
    Verb {
        name: "checkpoint",
        help: "dump a running container to an image, with CRIU",
        positional: Positional::Id,
        flags: &[
            IMAGE_PATH,
            WORK_PATH,
            value("parent-path", None, "DIR", "the image that this one builds on, seen from --image-path"),
            switch("pre-dump", None, "dump the memory only, and let the container run on"),
            switch("leave-running", None, "let the container run on"),
            TCP_ESTABLISHED,
            TCP_CLOSE,
            switch("tcp-skip-in-flight", None, "leave out connections that are being made"),
            EXT_UNIX_SK,
            SHELL_JOB,
            FILE_LOCKS,
            LINK_REMAP,
            AUTO_DEDUP,
            switch("lazy-pages", None, "serve the memory afterwards, to a restore that asks for it (--page-server says where)"),
            value("status-fd", None, "FD", "where a zero byte is written when lazy pages can be asked for"),
            value("page-server", None, "ADDRESS:PORT", "send the memory to this page server"),
            CGROUPS_MODE,
            EMPTY_NS,
            NETWORK_LOCK,
        ],
    },
    Verb {
        name: "restore",
        help: "bring a container back from an image, with CRIU",
        positional: Positional::Id,
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            hidden(PRESERVE_FDS),
            IMAGE_PATH,
            WORK_PATH,
            value("parent-path", None, "DIR", "the image that this one builds on, seen from --image-path"),
            switch("detach", Some('d'), "do not wait for the container to end"),
            switch("keep", None, "do not delete the container when it has ended"),
            switch("no-subreaper", None, "do not become the reaper of the container's orphans"),
            TCP_ESTABLISHED,
            TCP_CLOSE,
            EXT_UNIX_SK,
            SHELL_JOB,
            FILE_LOCKS,
            LINK_REMAP,
            AUTO_DEDUP,
            switch("lazy-pages", None, "fetch the memory when it is needed, from a criu lazy-pages daemon in --work-path"),
            CGROUPS_MODE,
            EMPTY_NS,
            NETWORK_LOCK,
            value("lsm-profile", None, "TYPE:NAME", "confine the processes by this profile or label instead of the dumped one"),
            value("lsm-mount-context", None, "CONTEXT", "the SELinux context of mounts instead of the dumped one"),
        ],
    },
    Verb { name: "features", help: "print what this program can do, as JSON", positional: Positional::None, flags: &[] },
    Verb {
        name: "spec",
        help: "write a config.json to begin with",
        positional: Positional::None,
        flags: &[
            value("bundle", Some('b'), "DIR", "where to write it [default: .]"),
            value("file", Some('f'), "FILE", "its name, seen from there [default: config.json]"),
            switch("rootless", None, "for an ordinary user"),
        ],
    },
    Verb {
        name: "plan",
        help: "print, in order, what creating a container would do",
        positional: Positional::None,
        flags: &[
            BUNDLE,
            CONFIG,
            value("console-socket", None, "SOCKET", "as for create"),
            switch("no-pivot", None, "as for create"),
            switch("no-new-keyring", None, "as for create"),
            value("preserve-fds", None, "N", "as for create"),
            value("format", None, "FORMAT", "text or json [default: text]"),
            value(
                "diff",
                None,
                "CONTAINER-ID",
                "compare what was asked of a running container with what the kernel has now; exits with 1 where they differ",
            ),
            switch("all", Some('a'), "with --diff, also what is as it was asked"),
        ],
    },
    Verb {
        name: "check",
        help: "tell what works (exit status 0), degrades (3) or fails (1) on this host, for this user and bundle",
        positional: Positional::None,
        flags: &[
            value("bundle", Some('b'), "DIR", "also check what this bundle asks for [default: a usual container]"),
            CONFIG,
            switch("no-pivot", None, "as for create"),
            value("format", None, "FORMAT", "text or json [default: text]"),
            switch("quiet", Some('q'), "leave out what works"),
        ],
    },
    Verb {
        name: "seccomp",
        help: "explain what a profile says to a system call, or record the smallest profile that a run needs",
        positional: Positional::ActionAndCommand(
            "explain|record",
            "PROFILE SYSCALL [ARG...] | [CONTAINER-ID] [-- PROGRAM [ARG...]]",
        ),
        flags: &[
            value("arch", None, "NAME", "explain: the architecture of the call: x86_64, aarch64, … [default: this machine's]"),
            repeated(value(
                "cap",
                None,
                "CAPABILITY",
                "explain: a capability of the container, for profiles of Docker's; repeatable [default: those that Docker gives]",
            )),
            value("format", None, "FORMAT", "explain: text or json [default: text]"),
            value("bundle", Some('b'), "DIR", "record: the bundle that is run, once, in the foreground [default: .]"),
            value("config", Some('f'), "FILE", "record: read the configuration from this file"),
            value("output", Some('o'), "FILE", "record: where the profile goes; - for stdout [default: seccomp.json]"),
            switch("add", None, "record: keep what the file allows already, for what one run does not show"),
        ],
    },
    Verb {
        name: "trace",
        help: "draw what --trace has recorded",
        positional: Positional::File("FILE", "what --trace has written, or another file of Chrome trace events"),
        flags: &[],
    },
    Verb {
        name: "explain",
        help: "tell what the code of an error means, how to check it and how to mend it",
        positional: Positional::Word("CODE"),
        flags: &[value("format", None, "FORMAT", "text or json [default: text]")],
    },
];
