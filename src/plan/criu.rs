// SPDX-License-Identifier: Apache-2.0
//! The options of one dump or restore, as CRIU's RPC has them (`criu_opts` of its rpc.proto). Made here from the request and from what was
//! found; written to the wire by `criu::message`.

use super::checkpoint::{CgroupMode, CheckpointRequest, Common, NetworkLock, Outside, RestoreRequest, external_namespace};
use crate::linux::types::Namespaces;

/// Names of CRIU's log files in the work directory, which engines look for.
pub const DUMP_LOG: &str = "dump.log";
/// See [`DUMP_LOG`].
pub const RESTORE_LOG: &str = "restore.log";

/// A version of CRIU as its RPC counts it: 4.2.1 is 40201.
pub type Version = u32;

/// The oldest CRIU that is used: it can keep a pid namespace that others own.
pub const OLDEST: Version = 31500;

/// What CRIU is told. Every field is one of `criu_opts`; what is off, empty or none is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The process to dump.
    pub pid: Option<i32>,
    /// The container's root filesystem, on this host.
    pub root: String,
    /// Name of the log file.
    pub log_file: String,
    /// `--leave-running`
    pub leave_running: bool,
    /// `--tcp-established`
    pub tcp_established: bool,
    /// `--tcp-skip-in-flight`
    pub tcp_skip_in_flight: bool,
    /// `--tcp-close`
    pub tcp_close: bool,
    /// `--ext-unix-sk`
    pub ext_unix_sk: bool,
    /// `--shell-job`
    pub shell_job: bool,
    /// `--file-locks`
    pub file_locks: bool,
    /// `--link-remap`
    pub link_remap: bool,
    /// `--auto-dedup`
    pub auto_dedup: bool,
    /// `--lazy-pages`
    pub lazy_pages: bool,
    /// Keep track of which memory changes, for a dump that builds on this one.
    pub track_mem: bool,
    /// Directory of the dump that this one builds on, relative to the images.
    pub parent_img: Option<String>,
    /// The restored process is our child, not CRIU's.
    pub rst_sibling: bool,
    /// A device may be another than at the dump, where its name is the same.
    pub evasive_devices: bool,
    /// Tell of terminals whose other end was outside.
    pub orphan_pts_master: bool,
    /// Mounts that get what happens to them outside of the container stay so.
    pub ext_masters: bool,
    /// Mounts of the host: for a dump place and name, for a restore name and path.
    pub ext_mnt: Vec<(String, String)>,
    /// Things outside: `net[4026532008]:extRootNetNS`, `file[1f:2a]`.
    pub external: Vec<String>,
    /// Namespaces to be joined: kind and path.
    pub join_ns: Vec<(&'static str, String)>,
    /// Namespaces that are made anew and empty, as `CLONE_NEW*` bits.
    pub empty_ns: Namespaces,
    /// How to deal with cgroups.
    pub cgroups: Option<CgroupMode>,
    /// The cgroup that takes the place of the dumped one.
    pub cg_root: Option<String>,
    /// Freeze this cgroup while its processes are seized.
    pub freeze_cgroup: Option<String>,
    /// `--network-lock`
    pub network_lock: Option<NetworkLock>,
    /// Send the memory there.
    pub page_server: Option<(String, u16)>,
    /// Where CRIU says that lazy pages can be asked for.
    pub status_fd: Option<i32>,
    /// Options of the user for CRIU.
    pub config_file: Option<String>,
    /// `--lsm-profile`
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`
    pub lsm_mount_context: Option<String>,
}

/// What was found of a container that is to be dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its first process.
    pub pid: i32,
    /// Its root filesystem on this host.
    pub rootfs: String,
    /// Its cgroup2 directory on this host.
    pub cgroup: Option<String>,
    /// Mounts of the host in it: place and name ([`super::checkpoint::name_mounts`]).
    pub mounts: Vec<(String, String)>,
    /// Inodes of namespaces that others own.
    pub namespaces: Vec<(Namespaces, u64)>,
    /// Its standard streams: [`Stream`].
    pub streams: Vec<Stream>,
}

/// A standard stream of the container's first process, as the image remembers it (runc's `descriptors.json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What it leads to: `pipe:[123]`, `file[1f:2a]` for a file of the host, `tty[8801:1b]` for a terminal of the host, or the path.
    pub leads_to: String,
}

impl Stream {
    /// Whether CRIU cannot make it again itself, so that the restored process gets the caller's stream instead.
    pub fn is_given(&self) -> bool {
        self.is_of_host() || bracketed(&self.leads_to, "pipe:[").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Whether it is a file or a terminal of the host, which CRIU has to be told of by this name.
    pub fn is_of_host(&self) -> bool {
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let inner = bracketed(&self.leads_to, "file[").or_else(|| bracketed(&self.leads_to, "tty["));
        inner.and_then(|rest| rest.split_once(':')).is_some_and(|(one, other)| hex(one) && hex(other))
    }
}

fn bracketed<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_suffix(']').filter(|rest| !rest.is_empty() && rest.len() < 64)
}

/// What a request may ask for that a CRIU of this version does not know, and would pass over in silence.
pub fn too_old(version: Version, common: &Common, lsm_mount_context: bool) -> Option<(&'static str, Version)> {
    let rules = [
        ("checkpoint and restore", OLDEST, true),
        ("--lsm-mount-context", 31600, lsm_mount_context),
        ("--network-lock", 31700, common.network_lock.is_some()),
    ];
    rules.into_iter().find(|(_, least, asked)| *asked && version < *least).map(|(what, least, _)| (what, least))
}

/// As it is written: 4.2, or 4.2.1.
pub fn version_text(version: Version) -> String {
    match version % 100 {
        0 => format!("{}.{}", version / 10000, version / 100 % 100),
        patch => format!("{}.{}.{patch}", version / 10000, version / 100 % 100),
    }
}

fn common(request: &Common) -> Options {
    Options {
        tcp_established: request.tcp_established,
        tcp_close: request.tcp_close,
        ext_unix_sk: request.ext_unix_sk,
        shell_job: request.shell_job,
        file_locks: request.file_locks,
        link_remap: request.link_remap,
        auto_dedup: request.auto_dedup,
        lazy_pages: request.lazy_pages,
        empty_ns: if request.empty_network { Namespaces::NET } else { Namespaces::empty() },
        cgroups: Some(request.cgroups.unwrap_or(CgroupMode::Soft)),
        network_lock: request.network_lock,
        config_file: request.config_file.clone(),
        orphan_pts_master: true,
        ext_masters: true,
        ..Options::default()
    }
}

/// The options of a dump, or of a dump of memory only.
pub fn dump(request: &CheckpointRequest, found: &Found) -> Options {
    let external =
        |(kind, inode): &(Namespaces, u64)| external_namespace(*kind).map(|(name, key)| format!("{name}[{inode}]:{key}"));
    let files = found.streams.iter().filter(|stream| stream.is_of_host()).map(|stream| stream.leads_to.clone());
    Options {
        pid: Some(found.pid),
        root: found.rootfs.clone(),
        log_file: DUMP_LOG.to_string(),
        leave_running: request.leave_running,
        tcp_skip_in_flight: request.tcp_skip_in_flight,
        track_mem: request.pre_dump || request.common.parent_path.is_some(),
        parent_img: request.common.parent_path.clone(),
        ext_mnt: found.mounts.clone(),
        external: found.namespaces.iter().filter_map(external).chain(files).collect(),
        freeze_cgroup: found.cgroup.clone(),
        page_server: request.page_server.clone(),
        status_fd: request.status_fd,
        ..common(&request.common)
    }
}

/// The options of a restore into `root`. `mounts` are names and paths; `cgroup` is the new container's path in the cgroup2 tree.
pub fn restore(
    request: &RestoreRequest,
    outside: &Outside,
    root: &str,
    mounts: Vec<(String, String)>,
    cgroup: Option<String>,
) -> Options {
    let joined = outside.joins.iter().filter(|join| external_namespace(join.kind).is_none());
    Options {
        root: root.to_string(),
        log_file: RESTORE_LOG.to_string(),
        rst_sibling: true,
        evasive_devices: true,
        parent_img: request.common.parent_path.clone(),
        ext_mnt: mounts,
        join_ns: joined.map(|join| (super::namespaces::name(join.kind), join.path.clone())).collect(),
        cg_root: cgroup,
        lsm_profile: request.lsm_profile.clone(),
        lsm_mount_context: request.lsm_mount_context.clone(),
        ..common(&request.common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Join;

    fn stream(text: &str) -> Stream {
        Stream { leads_to: text.to_string() }
    }

    #[test]
    fn a_stream_that_leads_out_is_given() {
        for given in ["pipe:[123]", "file[1f:2a]", "tty[8801:1b]"] {
            assert!(stream(given).is_given(), "{given}");
        }
        for other in ["/dev/null", "pipe:[]", "pipe:[1]x", "pipe:[-1]", "file[1]", "file[1:g]", "socket:[7]", ""] {
            assert!(!stream(other).is_given(), "{other}");
        }
    }

    #[test]
    fn a_dump_names_what_is_outside() {
        let mut request = CheckpointRequest { leave_running: true, ..CheckpointRequest::default() };
        request.common.parent_path = Some("../one".into());
        let found = Found {
            pid: 7,
            namespaces: vec![(Namespaces::NET, 42), (Namespaces::IPC, 43)],
            streams: vec![stream("pipe:[1]"), stream("file[1f:2a]")],
            ..Found::default()
        };
        let options = dump(&request, &found);
        assert_eq!(options.external, ["net[42]:extRootNetNS", "file[1f:2a]"]);
        assert!(options.leave_running && options.track_mem && !options.rst_sibling);
        assert_eq!((options.pid, options.cgroups), (Some(7), Some(CgroupMode::Soft)));
    }

    #[test]
    fn a_restore_joins_what_criu_cannot_inherit() {
        let join = |kind, path: &str| Join { kind, path: path.into(), at: String::new() };
        let outside = Outside { joins: vec![join(Namespaces::NET, "/n"), join(Namespaces::IPC, "/i")], ..Outside::default() };
        let options = restore(&RestoreRequest::default(), &outside, "/root", Vec::new(), Some("/c".into()));
        assert_eq!(options.join_ns, [("ipc", "/i".to_string())]);
        assert!(options.rst_sibling && options.external.is_empty() && options.pid.is_none());
    }

    #[test]
    fn what_an_old_criu_does_not_know_is_found() {
        let mut asked = Common::default();
        assert_eq!(too_old(31100, &asked, false), Some(("checkpoint and restore", OLDEST)));
        assert_eq!(too_old(31500, &asked, false), None);
        assert_eq!(too_old(31500, &asked, true), Some(("--lsm-mount-context", 31600)));
        asked.network_lock = Some(NetworkLock::Skip);
        assert_eq!(too_old(31600, &asked, true), Some(("--network-lock", 31700)));
        assert_eq!((version_text(31701), version_text(40200)), ("3.17.1".into(), "4.2".into()));
    }
}
