// SPDX-License-Identifier: Apache-2.0
//! Every command and every flag, as one table: the source of parsing ([`super::args`]), of the help texts, and of the man pages and
//! completions that `hack/man` writes.

use crate::texts::{Texts, texts};

/// One flag.
#[derive(Clone, Copy)]
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

/// A flag as the tables below have it: its names, the long and the short one, the name of its value, what [`repeated`] and [`hidden`]
/// say, and what help says. As texts it takes no relocation ([`crate::texts`]).
type FlagRow = [&'static str; 5];

const fn switch(name: &'static str, short: &'static str, help: &'static str) -> FlagRow {
    [name, short, "", "", help]
}
const fn value(name: &'static str, short: &'static str, value: &'static str, help: &'static str) -> FlagRow {
    [name, short, value, "", help]
}
const fn repeated([name, short, value, _, help]: FlagRow) -> FlagRow {
    [name, short, value, "repeated", help]
}
const fn hidden([name, short, value, _, help]: FlagRow) -> FlagRow {
    [name, short, value, "hidden", help]
}

/// Flags, in order.
#[derive(Clone, Copy)]
pub struct Flags(Texts);

macro_rules! flags {
    ($($flag:expr),* $(,)?) => {{
        const ROWS: &[FlagRow] = &[$($flag),*];
        Flags(texts!(in ROWS.as_flattened()))
    }};
}

impl Flags {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || {
            let name = texts.next()?;
            let (short, value, how, help) = (texts.next()?, texts.next()?, texts.next()?, texts.next()?);
            let value = Some(value).filter(|value| !value.is_empty());
            Some(Flag { name, short: short.chars().next(), value, repeats: how == "repeated", hidden: how == "hidden", help })
        })
    }

    /// The flag of this long name.
    pub fn long(self, name: &str) -> Option<Flag> {
        self.iter().find(|flag| flag.name == name)
    }

    /// The flag of this letter.
    pub fn short(self, letter: char) -> Option<Flag> {
        self.iter().find(|flag| flag.short == Some(letter))
    }
}

/// How a command takes what is not a flag.
#[derive(Clone, Copy)]
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

impl Positional {
    /// As the table of commands has it: which, and its words.
    const fn row(&self) -> [&'static str; 3] {
        match *self {
            Positional::None => ["", "", ""],
            Positional::Id => ["id", "", ""],
            Positional::Word(word) => ["word", word, ""],
            Positional::File(word, help) => ["file", word, help],
            Positional::IdAnd(rest) => ["id and", rest, ""],
            Positional::ActionAnd(actions, rest) => ["action and", actions, rest],
            Positional::ActionAndCommand(actions, rest) => ["action and command", actions, rest],
            Positional::IdAndCommand(rest) => ["id and command", rest, ""],
        }
    }

    fn of([which, first, second]: [&'static str; 3]) -> Positional {
        match which {
            "id" => Positional::Id,
            "word" => Positional::Word(first),
            "file" => Positional::File(first, second),
            "id and" => Positional::IdAnd(first),
            "action and" => Positional::ActionAnd(first, second),
            "action and command" => Positional::ActionAndCommand(first, second),
            "id and command" => Positional::IdAndCommand(first),
            _ => Positional::None,
        }
    }
}

/// One command.
#[derive(Clone, Copy)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What help says.
    pub help: &'static str,
    /// What is not a flag.
    pub positional: Positional,
    /// Its flags.
    pub flags: Flags,
}

impl Verb {
    /// As the table of commands has it: texts alone.
    const fn row(&self) -> [&'static str; 6] {
        let [which, first, second] = self.positional.row();
        [self.name, self.help, which, first, second, self.flags.0.packed()]
    }
}

/// Every command, in order.
pub fn verbs() -> impl Iterator<Item = Verb> {
    let mut texts = VERBS.iter();
    std::iter::from_fn(move || {
        let (name, help) = (texts.next()?, texts.next()?);
        let positional = Positional::of([texts.next()?, texts.next()?, texts.next()?]);
        Some(Verb { name, help, positional, flags: Flags(Texts::within(texts.next()?)) })
    })
}

macro_rules! verbs {
    ($($verb:expr),* $(,)?) => {{
        const ROWS: &[[&str; 6]] = &[$($verb.row()),*];
        texts!(in ROWS.as_flattened())
    }};
}

/// The flags before the command.
pub const GLOBAL: Flags = flags![
    value(
        "root",
        "",
        "DIR",
        "where the state of containers is kept [default: /run/berth, or $XDG_RUNTIME_DIR/berth when rootless]",
    ),
    value(
        "log",
        "",
        "FILE",
        "append messages to this file, or send them to journald:NAME or syslog:NAME; without it they go to stderr",
    ),
    value("log-format", "", "FORMAT", "text or json [default: text]"),
    value("log-level", "", "LEVEL", "error, warning or debug [default: warning, with --log error]"),
    switch("debug", "", "the same as --log-level debug"),
    switch("systemd-cgroup", "", "use systemd for cgroups; cgroupsPath is then slice:prefix:name"),
    value("cgroup-manager", "", "MANAGER", "cgroupfs, systemd or disabled [default: cgroupfs]"),
    value("rootless", "", "BOOL", "pass over cgroup failures as an ordinary user must: true, false or auto [default: auto]"),
    value("trace", "", "FILE", "add to this file, as Chrome trace events for Perfetto, what the command did from when to when"),
    value("criu", "", "PATH", "the program criu, for checkpoint and restore [default: that of the PATH]"),
];

const BUNDLE: FlagRow = value("bundle", "b", "DIR", "the bundle's directory [default: .]");
const CONFIG: FlagRow =
    value("config", "f", "FILE", "read the configuration from this file [default: config.json in the bundle]");
const REGEX: FlagRow =
    switch("regex", "r", "CONTAINER-ID is an extended regular expression: every container whose id it matches");
const CONSOLE_SOCKET: FlagRow = value("console-socket", "", "SOCKET", "send the terminal's master to this unix socket");
const PIDFD_SOCKET: FlagRow = value("pidfd-socket", "", "SOCKET", "send a pidfd of the process to this unix socket");
const PID_FILE: FlagRow = value("pid-file", "", "FILE", "write the process id to this file");
const NO_PIVOT: FlagRow = switch("no-pivot", "", "do not use pivot_root(2), for a root filesystem on a ramdisk");
const NO_NEW_KEYRING: FlagRow = switch("no-new-keyring", "", "do not make a session keyring for the container");
const PRESERVE_FDS: FlagRow = value("preserve-fds", "", "N", "pass N more descriptors after the standard streams");

const IMAGE_PATH: FlagRow = value("image-path", "", "DIR", "the directory of the image [default: ./checkpoint]");
const WORK_PATH: FlagRow = value("work-path", "", "DIR", "where CRIU writes its logs [default: the image's directory]");
const TCP_ESTABLISHED: FlagRow = switch("tcp-established", "", "allow open TCP connections");
const EXT_UNIX_SK: FlagRow = switch("ext-unix-sk", "", "allow unix sockets that lead out of the container");
const SHELL_JOB: FlagRow = switch("shell-job", "", "allow a terminal that the container shares with its caller");
const FILE_LOCKS: FlagRow = switch("file-locks", "", "allow file locks");
const LINK_REMAP: FlagRow = switch("link-remap", "", "allow files that have been deleted, by links to them in their directories");
const AUTO_DEDUP: FlagRow = switch("auto-dedup", "", "drop from an image what a later one has anew");
const CGROUPS_MODE: FlagRow =
    value("manage-cgroups-mode", "", "MODE", "cgroups below the container's: soft, full, strict or ignore [default: soft]");
const EMPTY_NS: FlagRow = repeated(value("empty-ns", "", "KIND", "a namespace that is restored without what was in it: network"));
const TCP_CLOSE: FlagRow = switch("tcp-close", "", "close TCP connections instead of keeping them");
const NETWORK_LOCK: FlagRow =
    value("network-lock", "", "METHOD", "how packets are held back: iptables, nftables or skip [default: CRIU's]");

/// Every command; read by [`verbs`].
const VERBS: Texts = verbs![
    Verb {
        name: "create",
        help: "create a container from a bundle; its program waits for start",
        positional: Positional::Id,
        flags: flags![
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            hidden(switch("no-subreaper", "", "accepted and ignored")),
        ],
    },
    Verb {
        name: "run",
        help: "create a container and start it",
        positional: Positional::Id,
        flags: flags![
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            switch("detach", "d", "do not wait for the container to end"),
            switch("keep", "", "do not delete the container when it has ended"),
            switch("no-subreaper", "", "do not become the reaper of the container's orphans"),
        ],
    },
    Verb { name: "start", help: "start the program of a created container", positional: Positional::Id, flags: flags![] },
    Verb { name: "state", help: "print the state of a container as JSON", positional: Positional::Id, flags: flags![] },
    Verb {
        name: "exec",
        help: "run one more program in a container",
        positional: Positional::IdAndCommand("COMMAND"),
        flags: flags![
            value("process", "p", "FILE", "the process to run: the object process of a config.json by itself"),
            value("cwd", "", "DIR", "the working directory, absolute"),
            repeated(value("env", "e", "NAME=VALUE", "one more variable of the environment; repeatable")),
            value("user", "u", "UID[:GID]", "the user and the group, by number"),
            repeated(value("additional-gids", "g", "GID", "one more group; repeatable")),
            switch("tty", "t", "give it a terminal"),
            switch("detach", "d", "do not wait for it to end"),
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            repeated(value("cap", "c", "CAPABILITY", "one more capability; repeatable")),
            switch("no-new-privs", "", "it can gain no privileges by executing programs"),
            value("apparmor", "", "PROFILE", "its AppArmor profile"),
            value("process-label", "", "LABEL", "its SELinux label"),
            PRESERVE_FDS,
            repeated(value(
                "cgroup",
                "",
                "[CONTROLLER,...:]PATH",
                "start it in this cgroup below the container's own; repeatable where cgroup v1 is mounted",
            )),
            switch("ignore-paused", "", "start it in a paused container too; it runs when that is resumed"),
            hidden(switch("no-subreaper", "", "accepted and ignored")),
        ],
    },
    Verb {
        name: "update",
        help: "change the limits of a container",
        positional: Positional::Id,
        flags: flags![
            value("resources", "r", "FILE", "read them from this file, or from stdin (-): the object linux.resources by itself",),
            value("blkio-weight", "", "WEIGHT", "share of block I/O: 10 to 1000"),
            value("cpu-period", "", "MICROSECONDS", "the period of the CPU quota"),
            value("cpu-quota", "", "MICROSECONDS", "CPU time in each period; -1 for no limit"),
            value("cpu-burst", "", "MICROSECONDS", "CPU time that may be saved up beyond the quota"),
            value("cpu-share", "", "SHARES", "share of CPU time relative to others: 2 to 262144"),
            value("cpu-rt-period", "", "MICROSECONDS", "the period of real-time running; cgroup v1 only"),
            value("cpu-rt-runtime", "", "MICROSECONDS", "real-time running in each period; cgroup v1 only"),
            value("cpuset-cpus", "", "LIST", "the CPUs to run on: 0-3,7"),
            value("cpuset-mems", "", "LIST", "the memory nodes to use: 0-3,7"),
            value("cpu-idle", "", "0|1", "1: run only when nothing else wants to (SCHED_IDLE)"),
            hidden(value("kernel-memory", "", "BYTES", "accepted and ignored")),
            hidden(value("kernel-memory-tcp", "", "BYTES", "accepted and ignored")),
            value("memory", "", "BYTES", "the limit of memory: 512m, 2g; -1 for none"),
            value("memory-reservation", "", "BYTES", "the soft limit of memory"),
            value("memory-swap", "", "BYTES", "the limit of memory and swap together; -1 for none"),
            value("memory-high", "", "BYTES", "the size above which it is slowed down instead of killed; cgroup v2 only"),
            value("memory-low", "", "BYTES", "the size that is spared as long as others have any; cgroup v2 only"),
            value("memory-min", "", "BYTES", "the size that is never taken away; cgroup v2 only"),
            value("memory-oom-group", "", "0|1", "1: lack of memory kills the whole container; cgroup v2 only"),
            value("pids-limit", "", "NUMBER", "the most tasks there may be; -1 for no limit"),
            repeated(value("unified", "", "FILE=VALUE", "any file of cgroup v2: io.max=\"8:0 rbps=1048576\"")),
            repeated(value("device", "", "PATH", "plug a device in: PATH[:PATH-INSIDE][:ACCESS], its node is made inside")),
            value("l3-cache-schema", "", "SCHEMA", "Intel RDT: the L3 cache schema"),
            value("mem-bw-schema", "", "SCHEMA", "Intel RDT: the memory bandwidth schema"),
            repeated(value(
                "rdt-schemata",
                "",
                "LINE",
                "Intel RDT: one more line for the schemata file, such as L2:0=f; repeatable",
            )),
        ],
    },
    Verb {
        name: "events",
        help: "print what a container uses, and tell of lack of memory, until it ends",
        positional: Positional::Id,
        flags: flags![
            value("format", "", "FORMAT", "json, or prometheus: one count of CONTAINER-ID, or of all containers [default: json]",),
            value("interval", "", "DURATION", "time between two counts: 5s, 100ms [default: 5s]"),
            switch("stats", "", "print one count and end"),
            value(
                "pressure",
                "",
                "PERCENT",
                "tell too when tasks stall for so much of 2 s for want of CPU time, memory or block devices",
            ),
        ],
    },
    Verb {
        name: "top",
        help: "show what all containers use, again and again on a terminal, otherwise once",
        positional: Positional::None,
        flags: flags![
            value(
                "interval",
                "",
                "DURATION",
                "time between two looks, and over which rates are: 5s, 100ms [default: 2s; once: 500ms]",
            ),
            switch("once", "1", "show it once and end"),
        ],
    },
    Verb {
        name: "mounts",
        help: "mount in a container that runs, take mounts away, or list them",
        positional: Positional::ActionAnd("add|remove|list", "CONTAINER-ID [FILE]"),
        flags: flags![],
    },
    Verb {
        name: "kill",
        help: "send a signal to a container's first process [default: SIGTERM]",
        positional: Positional::IdAnd("SIGNAL"),
        flags: flags![switch("all", "a", "send it to every process of the container"), REGEX],
    },
    Verb {
        name: "delete",
        help: "delete what a container holds",
        positional: Positional::Id,
        flags: flags![switch("force", "f", "kill it first if it runs; no error if there is none"), REGEX],
    },
    Verb {
        name: "list",
        help: "list the containers",
        positional: Positional::None,
        flags: flags![value("format", "f", "FORMAT", "table or json [default: table]"), switch("quiet", "q", "ids only")],
    },
    Verb { name: "pause", help: "freeze every process of a container", positional: Positional::Id, flags: flags![] },
    Verb { name: "resume", help: "let a paused container go on", positional: Positional::Id, flags: flags![] },
    Verb {
        name: "ps",
        help: "list the processes of a container",
        positional: Positional::IdAndCommand("PS-OPTION"),
        flags: flags![value("format", "f", "FORMAT", "table or json [default: table]")],
    },
    Verb {
        name: "checkpoint",
        help: "dump a running container to an image, with CRIU",
        positional: Positional::Id,
        flags: flags![
            IMAGE_PATH,
            WORK_PATH,
            value("parent-path", "", "DIR", "the image that this one builds on, seen from --image-path"),
            switch("pre-dump", "", "dump the memory only, and let the container run on"),
            switch("leave-running", "", "let the container run on"),
            TCP_ESTABLISHED,
            TCP_CLOSE,
            switch("tcp-skip-in-flight", "", "leave out connections that are being made"),
            EXT_UNIX_SK,
            SHELL_JOB,
            FILE_LOCKS,
            LINK_REMAP,
            AUTO_DEDUP,
            switch("lazy-pages", "", "serve the memory afterwards, to a restore that asks for it (--page-server says where)"),
            value("status-fd", "", "FD", "where a zero byte is written when lazy pages can be asked for"),
            value("page-server", "", "ADDRESS:PORT", "send the memory to this page server"),
            CGROUPS_MODE,
            EMPTY_NS,
            NETWORK_LOCK,
        ],
    },
    Verb {
        name: "restore",
        help: "bring a container back from an image, with CRIU",
        positional: Positional::Id,
        flags: flags![
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            hidden(PRESERVE_FDS),
            IMAGE_PATH,
            WORK_PATH,
            value("parent-path", "", "DIR", "the image that this one builds on, seen from --image-path"),
            switch("detach", "d", "do not wait for the container to end"),
            switch("keep", "", "do not delete the container when it has ended"),
            switch("no-subreaper", "", "do not become the reaper of the container's orphans"),
            TCP_ESTABLISHED,
            TCP_CLOSE,
            EXT_UNIX_SK,
            SHELL_JOB,
            FILE_LOCKS,
            LINK_REMAP,
            AUTO_DEDUP,
            switch("lazy-pages", "", "fetch the memory when it is needed, from a criu lazy-pages daemon in --work-path"),
            CGROUPS_MODE,
            EMPTY_NS,
            NETWORK_LOCK,
            value("lsm-profile", "", "TYPE:NAME", "confine the processes by this profile or label instead of the dumped one"),
            value("lsm-mount-context", "", "CONTEXT", "the SELinux context of mounts instead of the dumped one"),
        ],
    },
    Verb { name: "features", help: "print what this program can do, as JSON", positional: Positional::None, flags: flags![] },
    Verb {
        name: "spec",
        help: "write a config.json to begin with",
        positional: Positional::None,
        flags: flags![
            value("bundle", "b", "DIR", "where to write it [default: .]"),
            value("file", "f", "FILE", "its name, seen from there [default: config.json]"),
            switch("rootless", "", "for an ordinary user"),
        ],
    },
    Verb {
        name: "plan",
        help: "print, in order, what creating a container would do",
        positional: Positional::None,
        flags: flags![
            BUNDLE,
            CONFIG,
            value("console-socket", "", "SOCKET", "as for create"),
            switch("no-pivot", "", "as for create"),
            switch("no-new-keyring", "", "as for create"),
            value("preserve-fds", "", "N", "as for create"),
            value("format", "", "FORMAT", "text or json [default: text]"),
            value(
                "diff",
                "",
                "CONTAINER-ID",
                "compare what was asked of a running container with what the kernel has now; exits with 1 where they differ",
            ),
            switch("all", "a", "with --diff, also what is as it was asked"),
        ],
    },
    Verb {
        name: "check",
        help: "tell what works (exit status 0), degrades (3) or fails (1) on this host, for this user and bundle",
        positional: Positional::None,
        flags: flags![
            value("bundle", "b", "DIR", "also check what this bundle asks for [default: a usual container]"),
            CONFIG,
            switch("no-pivot", "", "as for create"),
            value("format", "", "FORMAT", "text or json [default: text]"),
            switch("quiet", "q", "leave out what works"),
        ],
    },
    Verb {
        name: "seccomp",
        help: "explain what a profile says to a system call, or record the smallest profile that a run needs",
        positional: Positional::ActionAndCommand(
            "explain|record",
            "PROFILE SYSCALL [ARG...] | [CONTAINER-ID] [-- PROGRAM [ARG...]]",
        ),
        flags: flags![
            value("arch", "", "NAME", "explain: the architecture of the call: x86_64, aarch64, … [default: this machine's]"),
            repeated(value(
                "cap",
                "",
                "CAPABILITY",
                "explain: a capability of the container, for profiles of Docker's; repeatable [default: those that Docker gives]",
            )),
            value("format", "", "FORMAT", "explain: text or json [default: text]"),
            value("bundle", "b", "DIR", "record: the bundle that is run, once, in the foreground [default: .]"),
            value("config", "f", "FILE", "record: read the configuration from this file"),
            value("output", "o", "FILE", "record: where the profile goes; - for stdout [default: seccomp.json]"),
            switch("add", "", "record: keep what the file allows already, for what one run does not show"),
        ],
    },
    Verb {
        name: "trace",
        help: "draw what --trace has recorded",
        positional: Positional::File("FILE", "what --trace has written, or another file of Chrome trace events"),
        flags: flags![],
    },
    Verb {
        name: "explain",
        help: "tell what the code of an error means, how to check it and how to mend it",
        positional: Positional::Word("CODE"),
        flags: flags![value("format", "", "FORMAT", "text or json [default: text]")],
    },
];
