// SPDX-License-Identifier: Apache-2.0
//! `restore`: bring a container back from an image that `checkpoint` has made. Not in the specification; runc's command.
//!
//! 1. The configuration is checked and planned as for `create`, and `plan::restore` says which steps there are. The journal is saved first,
//!    then the cgroup is made, with its limits.
//! 2. CRIU is started in that cgroup, in a mount namespace of its own where the container's root filesystem is a mount, and restores.
//! 3. When the namespaces are there the prestart and createRuntime hooks run; when the processes are, they are saved, and go on.
//! 4. When a step fails, or a signal asks for an end before the container is there, everything made so far is undone, and the poststop
//!    hooks run.
//!
//! Who the processes are, what they may and how they are confined comes from the image, which is as powerful as root: see
//! docs/checkpoint.md. What of this host the container gets (mounts, namespaces, cgroup, streams) comes from its configuration.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bundle::Bundle;
use super::create::{self, UsualUmask, Warn};
use super::identity::Identity;
use super::state::{State, Status};
use super::store::{Entry, Store};
use super::{checkpoint as shared, delete, init_process, journal, restore_given as given};
use crate::cgroup::{self, Cgroup};
use crate::criu::patience::Patience;
use crate::criu::{self, Criu, Event, Places, Stage, Task, message};
use crate::error::{Error, Kind, Result, Told};
use crate::hooks;
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{fd, pid, socket};
use crate::plan::checkpoint::{self as plan, CgroupMode, Outside, RestoreRequest};
use crate::plan::criu as options;
use crate::plan::restore::{self, RestoreOp};
use crate::plan::{Host, ParentOp, Plan, Request};
use crate::process::forward::{self, Signals};
use crate::rdt;
use crate::trace::{self, Times};

/// In the container's state directory, while it is restored: where its root is mounted for CRIU.
const STAGE: &str = "root";

/// Restores a container. Returns the exit status of the command. `path` is the PATH to find CRIU in; `debug`, where there is one, is told
/// what each step took.
pub fn restore(
    request: &Request,
    wanted: &RestoreRequest,
    host: &Host,
    (bundle, plan): (&Bundle, &Plan),
    path: Option<&str>,
    (warn, debug): (Warn<'_>, Option<Warn<'_>>),
) -> Result<u8> {
    shared::refuse_rootless(host)?;
    let program = criu::find(wanted.common.criu.as_deref(), path)?;
    let mut wanted = wanted.clone();
    wanted.common.cgroups = shared::cgroup_mode(&wanted.common)?;
    let wanted = &wanted;
    let outside = plan::outside(plan).map_err(|problems| super::bundle::refused("config.json", problems))?;
    given::refuse_namespaces(&outside)?;
    let images = given::open_images(&wanted.common.image_path)?;
    shared::refuse_bad_parent(&wanted.common)?;
    let _umask = UsualUmask::begin();
    // In the background too: what asks for an end is heeded until the container is there.
    let signals = Signals::take()?;
    if !request.detach && !request.no_subreaper {
        pid::set_child_subreaper(true).told(|| "cannot become a subreaper".to_string())?;
    }
    let store = Store::create(&request.root)?;
    let maker = create::maker(&store)?;
    let entry = store.take(&request.id)?;
    if let Err(error) = cgroup::check(&plan.cgroup) {
        store.remove(&entry)?;
        return Err(error.at("linux.cgroupsPath"));
    }
    let state = create::first_state(request, host, bundle, plan, maker);
    let stage = format!("{}/{}/{STAGE}", request.root, request.id);
    let given = Given { images, shown: None, work: None, inherited: Vec::new() };
    let mut restoring = Restoring {
        request,
        wanted,
        plan,
        bundle,
        program: (program, path),
        outside,
        entry,
        state,
        signals: &signals,
        stage,
        given,
        cgroup: None,
        criu: None,
        master: None,
        pidfd: None,
        pid_file_written: false,
        warn,
    };
    if let Err(error) = restoring.carry_out_all(debug).and_then(|()| restoring.entry.unlock()) {
        return Err(restoring.undo(&store, error));
    }
    let Restoring { state, entry, master, pidfd, .. } = restoring;
    let Some(pidfd) = pidfd.filter(|_| !request.detach) else { return Ok(0) };
    // Its processes may run for long.
    trace::write(None).unwrap_or_else(|error| warn(&error.to_string()));
    let ended = forward::until_exit(pidfd.as_fd(), state.init_process_pid, &signals, master);
    // A restore that fails leaves no container, kept or not.
    if ended.is_err() || !request.keep {
        delete::finish(&store, &entry, (&state, &plan.hooks.poststop), ended.is_ok(), ())?
            .iter()
            .for_each(|warning| warn(warning));
    }
    ended
}

/// What is open of this host for the restored processes and for CRIU.
struct Given {
    /// The directory of the image.
    images: OwnedFd,
    /// A mount that shows its files where they can be reached in a user namespace.
    shown: Option<OwnedFd>,
    /// The directory of the log, where it is another.
    work: Option<OwnedFd>,
    /// Namespaces and streams, under the names that the image has for them.
    inherited: Vec<(String, OwnedFd)>,
}

/// A container that is being restored, and what has been made of it.
struct Restoring<'a> {
    request: &'a Request,
    wanted: &'a RestoreRequest,
    plan: &'a Plan,
    bundle: &'a Bundle,
    /// CRIU, and where other programs are found.
    program: (String, Option<&'a str>),
    outside: Outside,
    entry: Entry,
    state: State,
    signals: &'a Signals,
    /// Where its root is mounted for CRIU.
    stage: String,
    given: Given,
    cgroup: Option<Cgroup>,
    criu: Option<Criu>,
    /// The terminal's other end, in the foreground.
    master: Option<OwnedFd>,
    /// The first process, when it is there again.
    pidfd: Option<OwnedFd>,
    pid_file_written: bool,
    warn: Warn<'a>,
}

impl Restoring<'_> {
    /// Every step, in the plan's order.
    fn carry_out_all(&mut self, debug: Option<Warn<'_>>) -> Result<()> {
        let steps = restore::steps(self.request, self.plan);
        let (total, timed) = (steps.len() as u32, debug.is_some() || trace::on());
        let mut marks = Times::default();
        let mut done = Ok(());
        for (number, step) in (1..).zip(&steps) {
            marks.marks.extend(timed.then(trace::now));
            done = self.carry_out(&step.op).map_err(|error| error.of_step(number, total, &step.at));
            if let (Some(debug), Some(begun)) = (debug, marks.marks.last()) {
                debug(&format!("runtime step {number} of {total}: {}: {} µs", step.op, trace::now().saturating_sub(*begun)));
            }
            if done.is_err() {
                break;
            }
        }
        trace::add_process(0, "", &marks, 0, &|index| {
            steps.get(index).map_or_else(Default::default, |step| (step.op.to_string(), step.at.clone()))
        });
        done
    }

    fn carry_out(&mut self, op: &RestoreOp) -> Result<()> {
        match op {
            RestoreOp::SaveCreating => journal::create(&self.entry, &[], &self.state, &self.bundle.bytes),
            RestoreOp::MakeCgroup => {
                let made = Cgroup::create(&self.plan.cgroup);
                let (cgroup, warning) = made.inspect_err(|_| self.state.cgroup = Default::default())?;
                warning.iter().for_each(|warning| (self.warn)(warning));
                self.cgroup = Some(cgroup);
                Ok(())
            }
            RestoreOp::MakePlaces => given::make_places(&self.bundle.rootfs, &self.outside),
            RestoreOp::OpenGiven => self.open_given(),
            RestoreOp::StartCriu => self.start_criu(),
            RestoreOp::EnterCgroup => self.enter_cgroup(),
            RestoreOp::AskVersion => {
                let criu = self.criu()?;
                criu.proceed()?;
                let version = criu.version()?;
                shared::refuse_old(version, &self.wanted.common, self.wanted.lsm_mount_context.is_some())
            }
            RestoreOp::Restore => self.have_restored(),
            RestoreOp::PidFile(path) => {
                self.pid_file_written = true;
                create::write_pid_file(path, self.state.init_process_pid)
            }
            RestoreOp::SendPidfd(path) => {
                let socket = create::connect(path, "pidfd socket")?;
                let pidfd = self.pidfd.as_ref().ok_or_else(|| Error::new(Kind::Peer, "there is no process yet"))?;
                socket::send(&socket, b"standard", &[pidfd.as_fd()]).told(|| format!("cannot send the pidfd to {path}"))
            }
        }
    }

    fn criu(&mut self) -> Result<&mut Criu> {
        self.criu.as_mut().ok_or_else(|| Error::new(Kind::Peer, "CRIU has not been started"))
    }

    fn open_given(&mut self) -> Result<()> {
        if let Some(path) = &self.wanted.common.work_path {
            self.given.work = Some(shared::make_directory(path, "work")?);
        }
        self.given.inherited = given::open_namespaces(&self.outside)?;
        self.given.inherited.extend(given::read_streams(&self.given.images)?);
        fd::mkdirat(&self.entry, STAGE, 0o700).told(|| format!("cannot make {}", self.stage))?;
        self.given.shown = given::searchable_images(self.plan, &self.entry, &self.given.images)?;
        Ok(())
    }

    fn start_criu(&mut self) -> Result<()> {
        let common = &self.wanted.common;
        let shown = self.given.shown.as_ref();
        let places = Places {
            images: &common.image_path,
            shown: shown.map(AsFd::as_fd),
            // Nothing can be written there.
            work: common.work_path.as_deref().or(shown.is_some().then_some(&common.image_path)),
            stage: Some(Stage { rootfs: &self.bundle.rootfs, place: &self.stage }),
            // Where CRIU does not restore the cgroup namespace, the processes inherit it.
            cgroup_namespace: common.cgroups == Some(CgroupMode::Ignore) && self.plan.namespaces.contains(Namespaces::CGROUP),
        };
        let inherited: Vec<BorrowedFd<'_>> = self.given.inherited.iter().map(|(_, fd)| fd.as_fd()).collect();
        self.criu = Some(Criu::start(&self.program.0, &places, true, &inherited)?);
        Ok(())
    }

    fn enter_cgroup(&mut self) -> Result<()> {
        let plan = &self.plan.cgroup;
        let pid = self.criu()?.pid();
        let cgroup = match self.cgroup.take() {
            Some(cgroup) => {
                cgroup.enter(pid, false)?;
                cgroup
            }
            None => Cgroup::create_unit(plan, pid)?,
        };
        if *cgroup.saved() != self.state.cgroup {
            self.state.cgroup = cgroup.saved().clone();
            self.entry.save(&self.state)?;
        }
        cgroup.apply(&plan.writes)?;
        if let Some(filter) = &plan.devices {
            cgroup.filter_devices(filter)?.iter().for_each(|warning| (self.warn)(warning));
        }
        Ok(())
    }

    fn have_restored(&mut self) -> Result<()> {
        let Some(criu) = self.criu.take() else { return Err(Error::new(Kind::Peer, "CRIU has not been started")) };
        let common = &self.wanted.common;
        let mounts = given::find_mounts(self.request, &self.entry, &self.outside)?;
        let mut options = options::restore(self.wanted, &self.outside, &self.stage, mounts, self.cgroup_path());
        options.network_lock = shared::network_lock(common, self.program.1);
        let inherit = self.given.inherited.iter().map(|(key, fd)| (key.clone(), fd.as_raw_fd())).collect();
        let (work, signals, warn) = (self.given.work.take(), self.signals, self.warn);
        let images = self.given.images.try_clone().map_err(|error| Error::new(Kind::Kernel, format!("dup(): {error}")))?;
        let work_path = common.work_path.as_ref().unwrap_or(&common.image_path).as_str();
        let long = || {
            warn(&format!("CRIU waits for memory from `criu lazy-pages`, at {work_path}/lazy-pages.socket: its log says more"))
        };
        let long: Option<&dyn Fn()> = if common.lazy_pages { Some(&long) } else { None };
        let task = Task {
            kind: message::Kind::Restore,
            options: &options,
            inherit,
            work: (work.as_ref().unwrap_or(&images), work_path),
            patience: Patience::until(Some(signals.ending()?), long),
        };
        let response = criu.run(task, &mut |event| self.heard(event))?;
        self.see_restored(response.restored)
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
                let (hooks, interrupt) = (&self.plan.hooks, Some(self.signals.ending()?));
                let state = State { init_process_pid: event.pid, ..self.state.clone() }.for_hooks(Status::Creating);
                hooks::run_all_unless(&hooks.prestart, &state, Some(&self.request.bundle), interrupt)?;
                hooks::run_all_unless(&hooks.create_runtime, &state, Some(&self.request.bundle), interrupt)
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
        let pidfd = pid::pidfd_open(init).told(|| format!("cannot open the restored process {init}"))?;
        self.state.set_init_process(Identity::of(init, &pidfd, None)?);
        self.pidfd = Some(pidfd);
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
        self.state.external_descriptors = init_process::streams_of(init);
        self.state.set_creator(None);
        self.entry.save(&self.state)
    }

    fn see_restored(&mut self, restored: Option<i32>) -> Result<()> {
        let init = self.state.init_process_pid;
        if init <= 0 || restored.is_some_and(|pid| pid != init) {
            return Err(Error::new(
                Kind::Peer,
                format!("CRIU says that it restored process {restored:?}, and first said {init}"),
            ));
        }
        for directory in [STAGE, given::SEARCHABLE] {
            match fd::rmdirat(&self.entry, directory) {
                Err(error) if error.errno != Errno::ENOENT => {
                    return Err(error).told(|| "cannot remove the stage of the restore".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Undoes what was made; `error` stays what is told.
    fn undo(mut self, store: &Store, error: Error) -> Error {
        let _span = trace::span(|| "undo what was made".into());
        // It has not begun.
        if let Some(criu) = self.criu.take() {
            criu.abort();
        }
        // CRIU has killed what it restored, or never began; the cgroup knows what is left.
        self.state.init_process_pid = 0;
        let undone = delete::destroy(&self.state).and_then(|()| store.remove(&self.entry));
        if let (Some(path), true) = (&self.request.pid_file, self.pid_file_written) {
            // Whether it is there or not.
            let _ = fd::unlink(path);
        }
        delete::run_poststop(&self.plan.hooks.poststop, &self.state).iter().for_each(|warning| (self.warn)(warning));
        match undone {
            Ok(()) => error,
            Err(also) => error.hint(format!("and what was made could not be removed: {also}")),
        }
    }
}
