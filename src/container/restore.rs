// SPDX-License-Identifier: Apache-2.0
//! `restore`: bring a container back from an image that `checkpoint` has made. Not in the specification; runc's command.
//!
//! 1. The configuration is checked and planned as for `create`. The journal is saved first, then the cgroup is made, with its limits.
//! 2. CRIU is started in that cgroup, in a mount namespace of its own where the container's root filesystem is a mount, and restores.
//! 3. When the namespaces are there the prestart and createRuntime hooks run; when the processes are, they are saved, and go on.
//! 4. When a step fails, everything made so far is undone, and the poststop hooks run.
//!
//! Who the processes are, what they may and how they are confined comes from the image, which is as powerful as root: see
//! docs/checkpoint.md. What of this host the container gets (mounts, namespaces, cgroup, streams) comes from its configuration.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bundle::Bundle;
use super::checkpoint::{self as shared, DESCRIPTORS, DESCRIPTORS_MAX, INVENTORY};
use super::create::{self, Warn};
use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{delete, init_process, notify};
use crate::cgroup::{self, Cgroup};
use crate::criu::message::Kind as Task;
use crate::criu::{self, Criu, Event, Places, Stage};
use crate::error::{Error, Kind, Result, Told};
use crate::hooks;
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{clone, fd, mount, pid, proc, socket};
use crate::plan::checkpoint::{self as plan, CgroupMode, Outside, RestoreRequest};
use crate::plan::criu::{self as options, Stream};
use crate::plan::{Host, ParentOp, Plan, Request};
use crate::process::forward::{self, Signals};
use crate::rdt;
use crate::rootfs;

/// Beside it, the upper layer of what CRIU sees of the image in a user namespace.
const SEARCHABLE: &str = "image";
/// In an image, the link to the one that it builds on.
const PARENT: &str = "parent";
/// In the container's state directory, while it is restored: where its root is mounted for CRIU.
const STAGE: &str = "root";

/// Restores a container. Returns the exit status of the command. `path` is the PATH to find CRIU in.
pub fn restore(
    request: &Request,
    wanted: &RestoreRequest,
    host: &Host,
    (bundle, plan): (&Bundle, &Plan),
    path: Option<&str>,
    warn: Warn<'_>,
) -> Result<u8> {
    shared::refuse_rootless(host)?;
    let program = criu::find(wanted.common.criu.as_deref(), path)?;
    let mut wanted = wanted.clone();
    wanted.common.cgroups = shared::cgroup_mode(&wanted.common)?;
    let wanted = &wanted;
    let outside = plan::outside(plan).map_err(|problems| super::bundle::refused("config.json", problems))?;
    refuse_namespaces(&outside)?;
    let images = open_images(&wanted.common.image_path)?;
    shared::refuse_bad_parent(&wanted.common)?;
    let signals = if request.detach { None } else { Some(Signals::take()?) };
    if signals.is_some() && !request.no_subreaper {
        pid::set_child_subreaper(true).told(|| "cannot become a subreaper".to_string())?;
    }
    let store = Store::create(&request.root)?;
    let maker = create::maker()?;
    let entry = store.take(&request.id)?;
    if let Err(error) = cgroup::check(&plan.cgroup) {
        store.remove(&entry)?;
        return Err(error);
    }
    let state = create::first_state(request, host, bundle, plan, maker);
    let mut restoring =
        Restoring { request, wanted, plan, bundle, outside, entry, state, master: None, restored: None, pid_file_written: false };
    if let Err(error) = restoring.carry_out((&program, path), &images, warn) {
        return Err(restoring.undo(&store, error, warn));
    }
    let Restoring { state, entry, restored, .. } = restoring;
    drop(entry);
    let (Some(signals), Some(restored)) = (signals, restored) else { return Ok(0) };
    let status = forward::until_exit(restored.pidfd.as_fd(), state.init_process_pid, &signals, restored.master)?;
    if !request.keep {
        delete::finish(&store, &request.id, &state, &plan.hooks.poststop)?.iter().for_each(|warning| warn(warning));
    }
    Ok(status)
}

/// A container's first process that is there again.
struct Restored {
    pidfd: OwnedFd,
    /// The terminal's other end, in the foreground.
    master: Option<OwnedFd>,
}

/// A container that is being restored, and what has been made of it.
struct Restoring<'a> {
    request: &'a Request,
    wanted: &'a RestoreRequest,
    plan: &'a Plan,
    bundle: &'a Bundle,
    outside: Outside,
    entry: Entry,
    state: State,
    /// The terminal's other end, until the restore is done.
    master: Option<OwnedFd>,
    restored: Option<Restored>,
    pid_file_written: bool,
}

impl Restoring<'_> {
    fn carry_out(&mut self, (program, path): (&str, Option<&str>), images: &OwnedFd, warn: Warn<'_>) -> Result<()> {
        self.entry.write("config.json", &self.bundle.bytes)?;
        self.entry.save(&self.state)?;
        let mut cgroup = None;
        if self.plan.cgroup.unit.is_none() {
            let (made, warning) = Cgroup::create(&self.plan.cgroup).inspect_err(|_| self.state.cgroup = Default::default())?;
            warning.iter().for_each(|warning| warn(warning));
            cgroup = Some(made);
        }
        self.make_places()?;
        let work = match &self.wanted.common.work_path {
            Some(path) => Some(shared::make_directory(path, "work")?),
            None => None,
        };
        let namespaces = self.open_namespaces()?;
        let streams = read_streams(images)?;
        let stage = format!("{}/{}/{STAGE}", self.request.root, self.request.id);
        fd::mkdirat(&self.entry, STAGE, 0o700).told(|| format!("cannot make {stage}"))?;
        let given: Vec<(String, OwnedFd)> = namespaces.into_iter().chain(streams).collect();
        let inherited: Vec<BorrowedFd<'_>> = given.iter().map(|(_, fd)| fd.as_fd()).collect();
        let common = &self.wanted.common;
        let shown = self.searchable_images(images)?;
        let places = Places {
            images: &common.image_path,
            shown: shown.as_ref().map(AsFd::as_fd),
            // Nothing can be written there.
            work: common.work_path.as_deref().or(shown.is_some().then_some(&common.image_path)),
            stage: Some(Stage { rootfs: &self.bundle.rootfs, place: &stage }),
            // Where CRIU does not restore the cgroup namespace, the processes inherit it.
            cgroup_namespace: common.cgroups == Some(CgroupMode::Ignore) && self.plan.namespaces.contains(Namespaces::CGROUP),
        };
        let criu = Criu::start(program, &places, true, &inherited)?;
        let prepared = self.prepare(criu, cgroup, warn)?;
        let inherit = given.iter().map(|(key, fd)| (key.clone(), fd.as_raw_fd())).collect();
        let mut options = options::restore(self.wanted, &self.outside, &stage, self.find_mounts()?, self.cgroup_path());
        let log = (work.as_ref().unwrap_or(images), common.work_path.as_ref().unwrap_or(&common.image_path).as_str());
        options.network_lock = shared::network_lock(common, path);
        let response = prepared.run(Task::Restore, &options, inherit, log, &mut |event| self.heard(event))?;
        self.finish(response.restored)
    }

    /// In a user namespace CRIU reads the image first as nobody and then as the container's root, neither of whom may search its directory.
    /// So its files are shown below a directory that anybody may: to CRIU, and to nobody else. None where there is no user namespace of
    /// the container's own, or no overlay: then CRIU says what it could not read. An image that builds on another leads out of itself.
    fn searchable_images(&self, images: &OwnedFd) -> Result<Option<OwnedFd>> {
        if self.plan.spawn.id_map.is_none() || fd::statat(images, PARENT).is_ok() {
            return Ok(None);
        }
        let told = || format!("cannot make the directory {SEARCHABLE} of the container's state");
        fd::mkdirat(&self.entry, SEARCHABLE, 0o755).told(told)?;
        let above = fd::openat(&self.entry, SEARCHABLE, fd::OFlag::O_DIRECTORY, 0).told(told)?;
        fd::fchmod(&above, 0o755).told(told)?;
        let layers = format!("/proc/self/fd/{}:/proc/self/fd/{}", above.as_raw_fd(), images.as_raw_fd());
        Ok(mount::new_mount("overlay", [("lowerdir", Some(layers.as_str()))], 0).ok())
    }

    /// Puts CRIU into the container's cgroup, where what it restores will be, and sees that it is new enough.
    fn prepare(&mut self, mut criu: Criu, cgroup: Option<Cgroup>, warn: Warn<'_>) -> Result<Criu> {
        match self.place(&mut criu, cgroup, warn) {
            Ok(()) => Ok(criu),
            Err(error) => {
                criu.abort();
                Err(error)
            }
        }
    }

    fn place(&mut self, criu: &mut Criu, cgroup: Option<Cgroup>, warn: Warn<'_>) -> Result<()> {
        let plan = &self.plan.cgroup;
        let cgroup = match cgroup {
            Some(cgroup) => {
                cgroup.enter(criu.pid(), false)?;
                cgroup
            }
            None => Cgroup::create_unit(plan, criu.pid())?,
        };
        if *cgroup.saved() != self.state.cgroup {
            self.state.cgroup = cgroup.saved().clone();
            self.entry.save(&self.state)?;
        }
        cgroup.apply(&plan.writes)?;
        if let Some(filter) = &plan.devices {
            cgroup.filter_devices(filter)?.iter().for_each(|warning| warn(warning));
        }
        criu.proceed()?;
        shared::refuse_old(criu.version()?, &self.wanted.common, self.wanted.lsm_mount_context.is_some())
    }

    /// Places of mounts that an engine's new root filesystem may lack.
    fn make_places(&self) -> Result<()> {
        let told = || format!("cannot open the root filesystem {}", self.bundle.rootfs);
        let root = fd::Root::open(&self.bundle.rootfs).told(told)?;
        for (place, mount) in &self.outside.places {
            let directory = match mount.and_then(|index| self.outside.mounts.get(index)) {
                None => true,
                Some(mount) => fd::stat_path(&mount.source)
                    .told(|| format!("cannot look at \"{}\", which is mounted at \"{place}\"", mount.source))?
                    .is_dir(),
            };
            rootfs::make_place(&root, place, directory)?;
        }
        Ok(())
    }

    /// Namespaces of others that CRIU keeps by descriptor, under the names that the image has for them.
    fn open_namespaces(&self) -> Result<Vec<(String, OwnedFd)>> {
        let mut all = Vec::new();
        for join in &self.outside.joins {
            let Some((name, key)) = plan::external_namespace(join.kind) else { continue };
            let told = || format!("cannot open the {name} namespace {}", join.path);
            let file = clone::open_namespace(&join.path).told(told).map_err(|error| error.at(&join.at))?;
            all.push((key.to_string(), file));
        }
        Ok(all)
    }

    fn find_mounts(&self) -> Result<Vec<(String, String)>> {
        let below = match self.outside.mounts.iter().any(|mount| mount.recursive) {
            true => proc::mountinfo().told(|| "cannot read the host's mounts".into())?,
            false => Vec::new(),
        };
        let below: Vec<String> = below.into_iter().map(|mount| mount.mount_point).collect();
        let mut mounts = plan::find_mounts(&self.outside, &below);
        if self.request.notify_socket.is_none() {
            // A container that was to tell its service manager has the mount; it is nobody's now, and has to be there all the same.
            notify::make_directory(&self.entry)?;
            let path = format!("{}/{}/{}", self.request.root, self.request.id, notify::DIRECTORY);
            mounts.push(("/run/notify".to_string(), path));
        }
        Ok(mounts)
    }

    /// The container's path in the cgroup2 tree, which takes the place of the dumped one.
    fn cgroup_path(&self) -> Option<String> {
        let managed = self.wanted.common.cgroups != Some(CgroupMode::Ignore);
        self.state.cgroup.v2.as_ref().filter(|_| managed).map(|dir| dir.path.clone())
    }

    /// Something has happened in the middle of the restore.
    fn heard(&mut self, event: Event) -> Result<()> {
        match event.name.as_str() {
            "setup-namespaces" => {
                let hooks = &self.plan.hooks;
                let state = State { init_process_pid: event.pid, ..self.state.clone() }.for_hooks(Status::Creating);
                hooks::run_all(&hooks.prestart, &state, Some(&self.request.bundle))?;
                hooks::run_all(&hooks.create_runtime, &state, Some(&self.request.bundle))
            }
            "orphan-pts-master" => self.take_terminal(event.fds),
            "post-restore" => self.save_restored(event.pid),
            _ => Ok(()),
        }
    }

    /// The other end of the container's terminal, which somebody held who is not here any more.
    fn take_terminal(&mut self, fds: Vec<OwnedFd>) -> Result<()> {
        let Some(master) = fds.into_iter().next() else {
            return Err(Error::new(Kind::Peer, "CRIU told of a terminal and sent none"));
        };
        match &self.request.console_socket {
            Some(path) => {
                let console = create::connect(path, "console socket")?;
                socket::send(&console, b"/dev/ptmx", &[master.as_fd()])
                    .told(|| format!("cannot send the terminal to the console socket {path}"))
            }
            None if !self.request.detach => {
                self.master = Some(master);
                Ok(())
            }
            None => Err(Error::new(Kind::Usage, "the container has a terminal: --console-socket says who gets it")),
        }
    }

    /// The processes are there and wait for our answer: from here on the container exists, whatever becomes of the runtime.
    fn save_restored(&mut self, init: i32) -> Result<()> {
        self.state.init_process_pid = init;
        self.state.init_process_start = create::start_time(init)?;
        let group = self.plan.parent.iter().find_map(|step| match &step.op {
            ParentOp::EnterResctrl(resctrl) => Some(resctrl),
            _ => None,
        });
        if let Some(resctrl) = group {
            let saved = rdt::prepare(resctrl)?;
            self.state.resctrl = Some(saved.clone());
            self.entry.save(&self.state)?;
            rdt::make(resctrl, &saved, init)?;
        }
        self.state.external_descriptors = init_process::streams(init);
        self.state.creating = false;
        self.entry.save(&self.state)
    }

    fn finish(&mut self, restored: Option<i32>) -> Result<()> {
        let init = self.state.init_process_pid;
        if init <= 0 || restored.is_some_and(|pid| pid != init) {
            return Err(Error::new(
                Kind::Peer,
                format!("CRIU says that it restored process {restored:?}, and first said {init}"),
            ));
        }
        for directory in [STAGE, SEARCHABLE] {
            match fd::rmdirat(&self.entry, directory) {
                Err(error) if error.errno != Errno::ENOENT => {
                    return Err(error).told(|| "cannot remove the stage of the restore".into());
                }
                _ => {}
            }
        }
        let pidfd = pid::pidfd_open(init).told(|| format!("cannot open the restored process {init}"))?;
        if let Some(path) = &self.request.pid_file {
            self.pid_file_written = true;
            create::write_pid_file(path, init)?;
        }
        if let Some(path) = &self.request.pidfd_socket {
            let socket = create::connect(path, "pidfd socket")?;
            socket::send(&socket, b"standard", &[pidfd.as_fd()]).told(|| format!("cannot send the pidfd to {path}"))?;
        }
        self.restored = Some(Restored { pidfd, master: self.master.take() });
        Ok(())
    }

    /// Undoes what was made; `error` stays what is told.
    fn undo(mut self, store: &Store, error: Error, warn: Warn<'_>) -> Error {
        // CRIU has killed what it restored, or never began; the cgroup knows what is left.
        self.state.init_process_pid = 0;
        let undone = delete::destroy(&self.state).and_then(|()| store.remove(&self.entry));
        if let (Some(path), true) = (&self.request.pid_file, self.pid_file_written) {
            // Whether it is there or not.
            let _ = fd::unlink(path);
        }
        delete::run_poststop(&self.plan.hooks.poststop, &self.state).iter().for_each(|warning| warn(warning));
        match undone {
            Ok(()) => error,
            Err(also) => error.hint(format!("and what was made could not be removed: {also}")),
        }
    }
}

/// Namespaces that CRIU cannot put a restored container into.
fn refuse_namespaces(outside: &Outside) -> Result<()> {
    let wrong = outside.joins.iter().find(|join| [Namespaces::CGROUP, Namespaces::MOUNT].contains(&join.kind));
    match wrong {
        None => Ok(()),
        Some(join) => Err(Error::new(
            Kind::Unsupported,
            format!("CRIU cannot restore into a {} namespace that exists", crate::plan::namespaces::name(join.kind)),
        )
        .at(&join.at)),
    }
}

/// The directory of an image, which has to be one.
fn open_images(path: &str) -> Result<OwnedFd> {
    let images = fd::open_dir(path).told(|| format!("cannot open the image directory {path}"))?;
    match fd::statat(&images, INVENTORY) {
        Ok(_) => Ok(images),
        Err(error) => Err(Error::from(error)
            .doing(format!("there is no checkpoint in {path}"))
            .hint(format!("--image-path names a directory where `checkpoint` has left {INVENTORY} and more"))),
    }
}

/// Which of our standard streams the restored process gets, under the names that the image has for them. The image is not to be trusted:
/// it can ask for no other descriptor. They are copies: CRIU closes what it is given, and needs a terminal of its own for a shell job.
fn read_streams(images: &OwnedFd) -> Result<Vec<(String, OwnedFd)>> {
    let told = || format!("cannot read {DESCRIPTORS} of the image");
    let bytes = match fd::read_at(images, DESCRIPTORS, DESCRIPTORS_MAX) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(Vec::new()),
        other => other.told(told)?,
    };
    let list: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|error| Error::new(Kind::Peer, format!("{}: {error}", told())))?;
    let streams = list.into_iter().take(3).map(|leads_to| Stream { leads_to });
    let mut given: Vec<(Stream, usize)> = streams.zip(0..).filter(|(stream, _)| stream.is_given()).collect();
    // One terminal is mostly all three.
    given.dedup_by(|one, other| one.0 == other.0);
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let copy = |(stream, number): (Stream, usize)| fd::dup_from(own[number], 3).map(|copy| (stream.leads_to, copy));
    given.into_iter().map(copy).collect::<crate::linux::call::Result<_>>().told(|| "cannot copy the standard streams".into())
}
