// SPDX-License-Identifier: Apache-2.0
//! What CRIU is told: how a container is dumped to an image and brought back from one (criu(8), its RPC's `criu_opts`). Called by
//! `container::checkpoint` and `container::restore`; `criu` carries it to the program.
//!
//! CRIU knows processes and what belongs to them. What lies outside of a container has to be named when it is dumped and given again when
//! it is restored: trees of the host that are mounted in it, namespaces that others own, descriptors that lead out. The names are made
//! here from the container's own plan, the same way both times, so an image does not choose what of a host it is given.

use super::mounts::{self, is_below};
use super::step::{Mount, Source, Tree};
use super::{Join, Op, ParentOp, Plan, Shape};
use crate::linux::types::Namespaces;
use crate::spec::Problem;

/// How CRIU deals with cgroups (`--manage-cgroups-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// Not at all: what is restored is in the cgroup of CRIU itself.
    Ignore,
    /// Restore the cgroups and their properties that do not exist.
    Soft,
    /// Restore all of it.
    Full,
    /// Restore all of it, and fail where something exists.
    Strict,
}

impl CgroupMode {
    /// The mode of this name.
    pub fn parse(word: &str) -> Option<CgroupMode> {
        match word {
            "ignore" => Some(CgroupMode::Ignore),
            "soft" | "" => Some(CgroupMode::Soft),
            "full" => Some(CgroupMode::Full),
            "strict" => Some(CgroupMode::Strict),
            _ => None,
        }
    }

    /// `criu_cg_mode` of CRIU's rpc.proto.
    pub fn number(self) -> u64 {
        match self {
            CgroupMode::Ignore => 0,
            CgroupMode::Soft => 3,
            CgroupMode::Full => 4,
            CgroupMode::Strict => 5,
        }
    }
}

/// How CRIU keeps packets of dumped connections away (`--network-lock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkLock {
    /// By iptables(8).
    Iptables,
    /// By nftables.
    Nftables,
    /// Not at all.
    Skip,
}

impl NetworkLock {
    /// The method of this name.
    pub fn parse(word: &str) -> Option<NetworkLock> {
        match word {
            "iptables" => Some(NetworkLock::Iptables),
            "nftables" => Some(NetworkLock::Nftables),
            "skip" => Some(NetworkLock::Skip),
            _ => None,
        }
    }

    /// `criu_network_lock_method` of CRIU's rpc.proto.
    pub fn number(self) -> u64 {
        match self {
            NetworkLock::Iptables => 1,
            NetworkLock::Nftables => 2,
            NetworkLock::Skip => 3,
        }
    }
}

/// What is asked for in the same words of a checkpoint and of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// `--image-path`, absolute.
    pub image_path: String,
    /// `--work-path`, absolute: CRIU's logs.
    pub work_path: Option<String>,
    /// `--parent-path`, relative to the image path.
    pub parent_path: Option<String>,
    /// `--tcp-established`
    pub tcp_established: bool,
    /// `--tcp-close`
    pub tcp_close: bool,
    /// `--ext-unix-sk`
    pub ext_unix_sk: bool,
    /// `--shell-job`
    pub shell_job: bool,
    /// `--file-locks`
    pub file_locks: bool,
    /// `--auto-dedup`
    pub auto_dedup: bool,
    /// `--lazy-pages`
    pub lazy_pages: bool,
    /// `--link-remap`
    pub link_remap: bool,
    /// `--manage-cgroups-mode`
    pub cgroups: Option<CgroupMode>,
    /// `--empty-ns network`: a network namespace is made anew, without what was in it.
    pub empty_network: bool,
    /// `--network-lock`
    pub network_lock: Option<NetworkLock>,
    /// `--criu`: the program; without it, that of the PATH.
    pub criu: Option<String>,
    /// `org.criu.config`, or a file that is there by default: options for CRIU.
    pub config_file: Option<String>,
}

/// A request to dump a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// What restore knows too.
    pub common: Common,
    /// `--leave-running`
    pub leave_running: bool,
    /// `--pre-dump`: only memory, and the container runs on.
    pub pre_dump: bool,
    /// `--tcp-skip-in-flight`
    pub tcp_skip_in_flight: bool,
    /// `--page-server ADDRESS:PORT`
    pub page_server: Option<(String, u16)>,
    /// `--status-fd`: where CRIU says that lazy pages can be asked for.
    pub status_fd: Option<i32>,
}

/// A request to restore a container, beside the [`super::Request`] that makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRequest {
    /// What checkpoint knows too.
    pub common: Common,
    /// `--lsm-profile TYPE:NAME`
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`
    pub lsm_mount_context: Option<String>,
}

/// `--page-server ADDRESS:PORT`; an IPv6 address may stand in brackets.
pub fn page_server(text: &str) -> Option<(String, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!address.is_empty()).then(|| (address.to_string(), port))
}

/// A tree of the host that is mounted in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideMount {
    /// Where, as the configuration says; also its name in the image.
    pub destination: String,
    /// Do not follow a symbolic link at the end of the destination.
    pub nofollow: bool,
    /// Path on the host.
    pub source: String,
    /// With the mounts below it.
    pub recursive: bool,
}

/// What of a container lies outside of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Trees of the host.
    pub mounts: Vec<OutsideMount>,
    /// Paths that are hidden: files of them by a mount of the host's /dev/null.
    pub masked: Vec<String>,
    /// Namespaces that it has joined.
    pub joins: Vec<Join>,
    /// Places of mounts that have to be in the root filesystem before anything is mounted; those that hold a directory of their own, or
    /// are a tree of the host (index into `mounts`).
    pub places: Vec<(String, Option<usize>)>,
}

/// Finds what lies outside. A mount that CRIU could not make again as it was is a problem.
pub fn outside(plan: &Plan) -> Result<Outside, Vec<Problem>> {
    let mut found = Outside::default();
    let mut problems = Vec::new();
    let mut covered: Vec<String> = Vec::new();
    for step in &plan.child {
        match &step.op {
            Op::Mount(mount) => {
                let outside = match outside_mount(plan, mount) {
                    Ok(outside) => outside,
                    Err(rule) => {
                        problems.push(Problem::new(&step.at, rule));
                        continue;
                    }
                };
                let index = outside.map(|one| {
                    found.mounts.push(one);
                    found.mounts.len() - 1
                });
                let place = mounts::clean(&mount.destination);
                if !covered.iter().any(|above| is_below(&place, above)) {
                    found.places.push((mount.destination.clone(), index));
                }
                covered.push(place);
            }
            Op::Node(node) if node.bind => {
                let path = node.path.clone();
                found.mounts.push(OutsideMount { destination: path.clone(), nofollow: true, source: path, recursive: false });
            }
            Op::MaskPaths { paths, .. } => found.masked.extend(paths.iter().map(|path| mounts::clean(path))),
            _ => {}
        }
    }
    found.joins = joins(plan);
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// The namespaces that the container has joined.
fn joins(plan: &Plan) -> Vec<Join> {
    let mut all: Vec<Join> = Vec::new();
    for step in &plan.parent {
        if let ParentOp::OpenNamespaces(joins) = &step.op {
            all.extend(joins.iter().cloned());
        }
    }
    if let Shape::TwoClones(first) = &plan.spawn.shape {
        all.extend(first.iter().filter(|join| !join.path.is_empty()).cloned());
    }
    all.sort_by_key(|join| join.kind.bits());
    all.dedup_by_key(|join| join.kind);
    all
}

fn outside_mount(plan: &Plan, mount: &Mount) -> Result<Option<OutsideMount>, &'static str> {
    let (source, recursive) = match &mount.source {
        Source::New { .. } | Source::Remount { .. } => return Ok(None),
        Source::CgroupSubtree { path } => (path.clone(), false),
        Source::Bind { tree: Tree::Path(path), recursive, .. } => (path.clone(), *recursive),
        Source::Bind { tree: Tree::FromRuntime(slot), recursive, .. } => (opened(plan, *slot)?, *recursive),
    };
    let nofollow = mount.destination_nofollow;
    Ok(Some(OutsideMount { destination: mounts::clean(&mount.destination), nofollow, source, recursive }))
}

/// The host's path of a tree that the runtime opens.
fn opened(plan: &Plan, wanted: usize) -> Result<String, &'static str> {
    let found = plan.parent.iter().find_map(|step| match &step.op {
        ParentOp::OpenTree { slot, path, id_map, .. } if *slot == wanted => Some((path, id_map)),
        _ => None,
    });
    match found {
        Some((path, None)) => Ok(path.clone()),
        Some((_, Some(_))) => Err("CRIU cannot make an id-mapped mount again: a container with one cannot be checkpointed"),
        None => Err("its tree is not in the plan"),
    }
}

/// A mount of the container as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Where, from the container's root.
    pub place: String,
    /// Which directory or file of its filesystem it shows.
    pub root: String,
}

/// Names of mounts, for CRIU: where it is in the container, and what it is called in the image.
///
/// `seen` tells for each of [`Outside::mounts`] where it really is, which symbolic links of the image decide.
pub fn name_mounts(outside: &Outside, seen: &[Option<String>], shown: &[Shown]) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for mount in shown.iter().filter(|mount| mount.place != "/") {
        // The last that is mounted over a place is the one that is there.
        let at = |(index, place): &(usize, &Option<String>)| place.as_ref().map(|place| (*index, place.clone()));
        let exact = seen.iter().enumerate().filter_map(|one| at(&one)).rfind(|(_, place)| *place == mount.place);
        let above = || {
            let over = |(index, place): &(usize, String)| outside.mounts[*index].recursive && is_below(&mount.place, place);
            seen.iter().enumerate().filter_map(|one| at(&one)).filter(over).max_by_key(|(_, place)| place.len())
        };
        if let Some((index, place)) = exact.or_else(above) {
            let rest = &mount.place[place.trim_end_matches('/').len()..];
            names.push((mount.place.clone(), format!("{}{rest}", outside.mounts[index].destination)));
        } else if outside.masked.contains(&mount.place) && mount.root.ends_with("/null") {
            names.push((mount.place.clone(), mount.place.clone()));
        }
    }
    names
}

/// What each name of an image stands for on this host. `below` are the host's mounts, for trees that are mounted with what is below.
pub fn find_mounts(outside: &Outside, below: &[String]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = outside.masked.iter().map(|path| (path.clone(), "/dev/null".to_string())).collect();
    for mount in &outside.mounts {
        all.push((mount.destination.clone(), mount.source.clone()));
        let source = mounts::clean(&mount.source);
        for place in below.iter().filter(|place| mount.recursive && **place != source && is_below(place, &source)) {
            let rest = &place[source.trim_end_matches('/').len()..];
            all.push((format!("{}{rest}", mount.destination), place.clone()));
        }
    }
    all
}

/// The name under which CRIU keeps a namespace that is not the container's own, and which are such.
pub fn external_namespace(kind: Namespaces) -> Option<(&'static str, &'static str)> {
    match kind {
        Namespaces::NET => Some(("net", "extRootNetNS")),
        Namespaces::PID => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside_of(mounts: &[(&str, &str, bool)], masked: &[&str]) -> Outside {
        let mount = |(destination, source, recursive): &(&str, &str, bool)| OutsideMount {
            destination: destination.to_string(),
            nofollow: false,
            source: source.to_string(),
            recursive: *recursive,
        };
        Outside {
            mounts: mounts.iter().map(mount).collect(),
            masked: masked.iter().map(|path| path.to_string()).collect(),
            ..Outside::default()
        }
    }
    fn shown(list: &[(&str, &str)]) -> Vec<Shown> {
        list.iter().map(|(place, root)| Shown { place: place.to_string(), root: root.to_string() }).collect()
    }
    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn what_is_outside_has_the_name_of_its_destination() {
        let outside =
            outside_of(&[("/data", "/srv", true), ("/var/run/x", "/tmp/x", false)], &["/proc/kcore", "/proc/acpi", "/none"]);
        // /var/run is a link to /run in this image.
        let seen = [Some("/data".to_string()), Some("/run/x".to_string())];
        let shown = shown(&[
            ("/", "/"),
            ("/proc", "/"),
            ("/data", "/srv"),
            ("/data/disk", "/"),
            ("/data2", "/"),
            ("/run/x", "/x"),
            ("/proc/kcore", "/null"),
            ("/proc/acpi", "/"),
        ]);
        let want = [("/data", "/data"), ("/data/disk", "/data/disk"), ("/run/x", "/var/run/x"), ("/proc/kcore", "/proc/kcore")];
        assert_eq!(name_mounts(&outside, &seen, &shown), pairs(&want));
    }

    #[test]
    fn names_lead_to_this_hosts_files() {
        let outside = outside_of(&[("/data", "/srv/", true), ("/x", "/tmp/x", false)], &["/proc/kcore"]);
        let below = ["/srv/disk", "/srv", "/srv2", "/tmp/x/y"].map(String::from);
        let want = [("/proc/kcore", "/dev/null"), ("/data", "/srv/"), ("/data/disk", "/srv/disk"), ("/x", "/tmp/x")];
        assert_eq!(find_mounts(&outside, &below), pairs(&want));
    }

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(page_server("10.0.0.1:27"), Some(("10.0.0.1".to_string(), 27)));
        assert_eq!(page_server("[::1]:27"), Some(("::1".to_string(), 27)));
        for bad in ["", ":1", "x", "x:", "x:0", "x:65536", "x:-1"] {
            assert_eq!(page_server(bad), None, "{bad}");
        }
        assert_eq!(CgroupMode::parse("strict").map(CgroupMode::number), Some(5));
        assert_eq!((CgroupMode::parse("none"), NetworkLock::parse("none")), (None, None));
    }
}
