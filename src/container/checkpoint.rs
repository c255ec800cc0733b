// SPDX-License-Identifier: Apache-2.0
//! `checkpoint`: dump a container's processes to an image with CRIU. Not in the specification; runc's command.
//!
//! 1. A container that neither runs nor is paused gets an error, and nothing happens to it.
//! 2. What of it lies outside is found: mounts of the host, namespaces of others, streams that lead out.
//! 3. CRIU dumps. Then the container is stopped and removed, and the poststop hooks run, unless it was to be left running or only its memory
//!    was dumped.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{bundle, delete, host, init_process, mounts};
use crate::criu::patience::Patience;
use crate::criu::{self, Criu, Places, Task, message};
use crate::error::{Error, Kind, Result, Told};
use crate::linux::types::{DeviceNumber, Errno, Namespaces};
use crate::linux::{clone, fd, proc};
use crate::plan::checkpoint::{self as plan, CgroupMode, CheckpointRequest, Common, NetworkLock, Outside, OutsideMount, Shown};
use crate::plan::criu::{Found, Stream, Version, too_old, version_text};
use crate::plan::{self as plans, CgroupManager, Host, Id, Request};
use crate::spec::load;
use crate::trace;

/// In the image, what the standard streams of the first process led to: runc's file and form.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// The largest that is read of it.
pub(super) const DESCRIPTORS_MAX: usize = 64 << 10;
/// CRIU's inventory: where it is, there is an image.
pub(super) const INVENTORY: &str = "inventory.img";
/// The annotation that names a file of options for CRIU; empty for none.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Used where the annotation is not there, the first that exists.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/berth.conf", "/etc/criu/runc.conf"];

/// Dumps a container. Returns what the user should know although that is done.
pub fn checkpoint(store: &Store, id: &Id, request: &CheckpointRequest, path: Option<&str>) -> Result<Vec<String>> {
    let entry = store.get(id)?;
    entry.lock()?;
    let state = entry.load()?;
    match entry.status(&state)? {
        Status::Running | Status::Paused => {}
        other => return Err(Error::new(Kind::Status, format!("cannot checkpoint a container in the {} state", other.name()))),
    }
    let host = host::probe();
    refuse_rootless(&host)?;
    let Some(_pidfd) = init_process::open(&state)? else {
        return Err(Error::new(Kind::Status, "cannot checkpoint a container in the stopped state"));
    };
    let program = criu::find(request.common.criu.as_deref(), path)?;
    let mut request = request.clone();
    request.common.config_file = config_file(&state.annotations);
    let images = make_directory(&request.common.image_path, "image")?;
    let work = match &request.common.work_path {
        Some(path) => Some(make_directory(path, "work")?),
        None => None,
    };
    refuse_bad_parent(&request.common)?;
    request.common.cgroups = cgroup_mode(&request.common)?;
    let found = look(&entry, &state, &host, (store.path(), request.common.shell_job))?;
    let places = Places {
        images: &request.common.image_path,
        shown: None,
        work: request.common.work_path.as_deref(),
        stage: None,
        cgroup_namespace: false,
    };
    let status = request.status_fd.map(open_status).transpose()?;
    request.status_fd = status.as_ref().map(AsRawFd::as_raw_fd);
    let inherited: Vec<BorrowedFd<'_>> = status.iter().map(AsFd::as_fd).collect();
    let started = trace::span(|| "start CRIU, and ask for its version".into());
    let mut criu = Criu::start(&program, &places, false, &inherited)?;
    criu.proceed()?;
    refuse_old(criu.version()?, &request.common, false)?;
    drop(started);
    request.common.network_lock = network_lock(&request.common, path);
    if !request.pre_dump {
        let list: Vec<&str> = found.streams.iter().map(|stream| stream.leads_to.as_str()).collect();
        let json = serde_json::to_vec(&list).unwrap_or_default();
        fd::write_file_atomic(&images, DESCRIPTORS, &json, 0o600).told(|| format!("cannot write {DESCRIPTORS} to the image"))?;
    }
    let options = plans::criu::dump(&request, &found);
    let log = request.common.work_path.as_ref().unwrap_or(&request.common.image_path).as_str();
    let task = Task {
        kind: if request.pre_dump { message::Kind::PreDump } else { message::Kind::Dump },
        options: &options,
        inherit: Vec::new(),
        work: (work.as_ref().unwrap_or(&images), log),
        patience: Patience::endless(),
    };
    let dumping = trace::span(|| "have CRIU dump".into());
    criu.run(task, &mut |_| Ok(()))?;
    drop(dumping);
    let removed = !request.leave_running && !request.pre_dump;
    Ok(if removed { delete::after_dump(store, &entry, &state) } else { Vec::new() })
}

/// The caller's descriptor, opened anew: CRIU is given that one, under its own number.
fn open_status(number: RawFd) -> Result<OwnedFd> {
    if !fd::is_inherited(number) {
        return Err(Error::new(Kind::Usage, format!("--status-fd: {number} is no descriptor that the caller has passed")));
    }
    fd::open(format!("/proc/self/fd/{number}"), fd::OFlag::O_WRONLY)
        .told(|| format!("--status-fd: descriptor {number} cannot be written to"))
}

/// CRIU needs the machine's root, whoever's the container is.
pub(super) fn refuse_rootless(host: &Host) -> Result<()> {
    match host.privileged() {
        true => Ok(()),
        false => Err(Error::new(Kind::Unsupported, "checkpoint and restore need root over the machine, as CRIU does")),
    }
}

/// Before CRIU passes over in silence what it does not know.
pub(super) fn refuse_old(version: Version, request: &Common, lsm_mount_context: bool) -> Result<()> {
    match too_old(version, request, lsm_mount_context) {
        None => Ok(()),
        Some((what, least)) => Err(Error::new(
            Kind::Unsupported,
            format!("CRIU {} is too old: {what} needs CRIU {} or newer", version_text(version), version_text(least)),
        )
        .hint("install a newer criu, or name one with --criu")),
    }
}

/// How CRIU deals with cgroups. It would look after every hierarchy that there is, and berth looks after its own: where some are of
/// cgroup v1, what is restored stays where CRIU is put, and nothing is made elsewhere.
pub(super) fn cgroup_mode(request: &Common) -> Result<Option<CgroupMode>> {
    let lines = proc::cgroups(0).told(|| "cannot read the runtime's own cgroups".into())?;
    let v1 = lines.iter().any(|line| !line.controllers.is_empty());
    Ok(request.cgroups.or(v1.then_some(CgroupMode::Ignore)))
}

/// How packets are held back. CRIU's own way needs a program of the host, also where there is no connection that could lose any.
pub(super) fn network_lock(request: &Common, path: Option<&str>) -> Option<NetworkLock> {
    let needless = !request.tcp_established && criu::program("iptables-restore", path).is_none();
    request.network_lock.or(needless.then_some(NetworkLock::Skip))
}

/// The user's options for CRIU: the file of the annotation, none where that is empty, or the one that is there by default.
pub fn config_file(annotations: &std::collections::BTreeMap<String, String>) -> Option<String> {
    match annotations.get(CONFIG_ANNOTATION) {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => CONFIG_FILES.into_iter().find(|path| fd::exists(path)).map(String::from),
    }
}

pub(super) fn make_directory(path: &str, what: &str) -> Result<OwnedFd> {
    let told = || format!("cannot make the {what} directory {path}");
    // A directory that is there, with all above it, needs no more; what is missing is made from the top.
    for end in path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]) {
        match fd::mkdir(&path[..end], 0o700) {
            Err(error) if ![Errno::EEXIST, Errno::EROFS, Errno::EACCES].contains(&error.errno) => return Err(error).told(told),
            _ => {}
        }
    }
    fd::open_dir(path).told(told)
}

/// An image is moved with the one that it builds on, so it names it from where it is itself.
pub(super) fn refuse_bad_parent(request: &Common) -> Result<()> {
    let Some(parent) = &request.parent_path else { return Ok(()) };
    let wrong = |why: &str| Err(Error::new(Kind::Usage, format!("--parent-path: \"{parent}\" {why}")));
    if parent.starts_with('/') {
        return wrong("is absolute: it is seen from --image-path");
    }
    if fd::open_dir_path(format!("{}/{parent}", request.image_path)).is_err() {
        return wrong(&format!("is no directory, seen from {}", request.image_path));
    }
    Ok(())
}

/// Finds what CRIU has to be told of the container.
fn look(entry: &Entry, state: &State, host: &Host, (root, shell_job): (&str, bool)) -> Result<Found> {
    let _span = trace::span(|| "find what of it lies outside".into());
    let told = || format!("cannot look at the mounts of {}", state.id);
    let outside = saved_outside(entry, state, host, root)?;
    let pid = state.init_process_pid;
    let there = proc::mountinfo_of(pid).told(told)?;
    let inside = fd::Root::open(format!("/proc/{pid}/root")).told(told)?;
    let seen: Vec<Option<String>> = outside.mounts.iter().map(|mount| place_of(&inside, mount)).collect();
    let shown: Vec<Shown> =
        there.iter().map(|mount| Shown { place: mount.mount_point.clone(), root: mount.root.clone() }).collect();
    let namespaces = outside.joins.iter().filter(|join| plan::external_namespace(join.kind).is_some());
    let inode = |kind: Namespaces| {
        let path = format!("/proc/{pid}/ns/{}", clone::namespace_file(kind));
        fd::open(&path, fd::OFlag::O_RDONLY).and_then(|file| fd::stat(&file)).map(|stat| (kind, stat.ino)).told(told)
    };
    let own: Vec<u64> = there.iter().map(|mount| mount.id).collect();
    Ok(Found {
        pid,
        rootfs: state.rootfs.clone(),
        cgroup: state.cgroup.v2.as_ref().map(|dir| format!("{}{}", dir.mount, dir.path)),
        mounts: plan::name_mounts(&outside, &seen, &shown),
        namespaces: namespaces.map(|join| inode(join.kind)).collect::<Result<_>>()?,
        streams: (0..3).map(|number| stream(pid, number, &own, shell_job)).collect(),
    })
}

/// What lies outside, by the configuration that the container was made with, and the mounts that it has by now.
fn saved_outside(entry: &Entry, state: &State, host: &Host, root: &str) -> Result<Outside> {
    let refused = |problems| bundle::refused("saved config.json", problems);
    let mut spec = load::parse_config(&entry.config()?).map_err(refused)?;
    // As `mounts add` and `remove` have changed them.
    spec.mounts = mounts::current(entry)?;
    let terminal = spec.process.as_deref().is_some_and(|process| process.terminal);
    let mut request = Request::create(entry.id().clone(), &state.bundle, root);
    request.notify_socket = state.notify_socket.clone();
    request.console_socket = terminal.then(String::new);
    request.cgroup_manager = if state.cgroup.unit.is_some() { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
    let made = plans::create(&spec, &request, host).map_err(refused)?;
    plan::outside(&made).map_err(refused)
}

/// Where a mount really is, which symbolic links of the image decide; none where there is nothing any more.
fn place_of(inside: &fd::Root, mount: &OutsideMount) -> Option<String> {
    let found = inside.find(&mount.destination, !mount.nofollow).ok()??;
    let path = fd::readlink(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    path.into_string().ok()
}

/// What a standard stream leads to. A file that no mount of the container shows is one of the host; so is a terminal, which is kept only
/// where the caller knows of it.
fn stream(pid: i32, number: i32, own: &[u64], shell_job: bool) -> Stream {
    let path = format!("/proc/{pid}/fd/{number}");
    let leads_to = fd::readlink(&path).map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
    let of_host = || {
        let stat = fd::stat(fd::open(&path, fd::OFlag::O_PATH).ok()?).ok()?;
        let mount = stat.mount_id.filter(|mount| !own.contains(mount))?;
        let device = |number: DeviceNumber| nix::sys::stat::makedev(u64::from(number.major), u64::from(number.minor));
        match stat.rdev.major {
            UNIX98_PTY_SLAVE if shell_job => Some(format!("tty[{:x}:{:x}]", device(stat.rdev), device(stat.dev))),
            MEMORY => Some(format!("file[{mount:x}:{:x}]", stat.ino)),
            _ => stat.is_regular().then(|| format!("file[{mount:x}:{:x}]", stat.ino)),
        }
    };
    let leads_to = if leads_to.starts_with('/') { of_host().unwrap_or(leads_to) } else { leads_to };
    Stream { leads_to }
}

/// Major numbers of devices (Documentation/admin-guide/devices.txt): /dev/null and its like, and terminals of a devpts.
const MEMORY: u32 = 1;
const UNIX98_PTY_SLAVE: u32 = 136;
