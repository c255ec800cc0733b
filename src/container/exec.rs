// SPDX-License-Identifier: Apache-2.0
//! `exec`: one more process in a container that exists. The specification has no such operation; runc's is what engines use.
//!
//! 1. The state is read once, and everything else that is read (process file, saved configuration) before anything is made.
//! 2. A container that is stopped, or paused without `--ignore-paused`, gets an error.
//! 3. The process is cloned into the container's cgroup, put into its resctrl group, enters its namespaces by the pidfd of its first process, and executes.
//! 4. Detached, the command ends there; in the foreground it ends as the program does.

use std::os::fd::OwnedFd;

use super::store::{Entry, Store};
use super::{bundle, create, exec_config, foreground, host, init_process, state::State};
use crate::cgroup::Cgroup;
use crate::cgroup::exec::Place;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{fd, proc, sched, socket};
use crate::plan::exec::{Entered, ExecPlan, ExecRequest, Filter};
use crate::plan::exec_process::{self, Words};
use crate::plan::{self, Id};
use crate::process;
use crate::process::forward::Signals;
use crate::process::init::InitContext;
use crate::process::sources::Sources;
use crate::process::spawn::Spawned;
use crate::rdt;
use crate::spec::types::Process;
use crate::spec::{Problem, load, validate};
use crate::trace;

/// Where the process is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `--process FILE`
    File(String),
    /// The words of the command line.
    Words(Words),
}

/// Runs one more process. Returns the exit status of the command, and hands on what the user should know. `debug`, where there is one, is
/// told what each step took.
pub fn exec(
    store: &Store,
    id: &Id,
    request: &ExecRequest,
    wanted: &Wanted,
    warn: &dyn Fn(&[String]),
    debug: Option<create::Warn<'_>>,
) -> Result<u8> {
    let entry = store.get(id)?;
    let state = entry.load()?;
    let first = match init_process::open(&state)? {
        Some(first) if !state.creating => first,
        _ if state.creating => return Err(Error::new(Kind::Status, "cannot exec in a container that is not made yet")),
        _ => return Err(Error::new(Kind::Status, "cannot exec in a stopped container")),
    };
    let cgroup = Cgroup::reopen(&state.cgroup)?;
    if !request.ignore_paused && cgroup.is_frozen()? {
        return Err(Error::new(Kind::Status, "cannot exec in a paused container (use --ignore-paused to override)"));
    }
    let place = cgroup.exec_place(state.init_process_pid, &request.cgroups)?;
    let plan = make_plan(&entry, &state, &place, request, wanted)?;
    warn(&plan.warnings);
    let context = InitContext {
        console_socket: request.console_socket.as_ref().map(|path| create::connect(path, "console socket")).transpose()?,
        listener: plan.listener.as_ref().map(|path| create::connect(path, "seccomp listener's socket")).transpose()?,
        timed: debug.is_some() || trace::on(),
        ..InitContext::default()
    };
    let pidfd_socket = request.pidfd_socket.as_ref().map(|path| create::connect(path, "pidfd socket")).transpose()?;
    let signals = if request.detach { None } else { Some(Signals::take()?) };
    drop(entry);
    let inherited = Inherited::lend(&plan)?;
    let span = trace::span(|| "make the process".into());
    let spawned = process::exec::join(&plan, first, context, &state.for_hooks(super::state::Status::Running), place.clone_into());
    drop(inherited);
    let mut spawned = spawned?;
    drop(span);
    let begun = until_program(&mut spawned, &plan, place, &state);
    spawned.trace(&plan.child);
    begun?;
    if let Some(debug) = debug {
        create::tell_times(&plan.child, spawned.times(), debug);
    }
    if let Err(error) = announce(&spawned, request, pidfd_socket.as_ref()) {
        // Its caller does not know of it, and never will: nor would anybody reap it, and its container's first process could not end.
        spawned.kill();
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    // Its program may run for long.
    trace::write(None).unwrap_or_else(|error| warn(&[error.to_string()]));
    let ended = foreground::wait(spawned, &signals, None, None);
    // The command ends now, and with it all that it has open.
    std::mem::forget(signals);
    ended
}

/// Puts the process where it belongs, and waits until it runs its program.
fn until_program(spawned: &mut Spawned<'_>, plan: &ExecPlan, place: Place, state: &State) -> Result<()> {
    let _span = trace::span(|| "let the process go on, until the program runs".into());
    if plan.moved {
        place.enter(spawned.pid(), place.clone_into().is_some())?;
        state.resctrl.as_ref().map_or(Ok(()), |group| rdt::enter(group, spawned.pid()))?;
        spawned.proceed()?;
    }
    drop(place);
    if plan.tells_ready {
        spawned.await_ready(Sources::default())?;
        spawned.go_on()?;
    }
    spawned.await_exec()
}

fn announce(spawned: &Spawned<'_>, request: &ExecRequest, pidfd_socket: Option<&OwnedFd>) -> Result<()> {
    if let Some(socket) = pidfd_socket {
        socket::send(socket, b"setns", &[spawned.pidfd()]).told(|| "cannot send the pidfd".to_string())?;
    }
    request.pid_file.as_ref().map_or(Ok(()), |path| create::write_pid_file(path, spawned.pid()))
}

#[inline(never)] // What it has on the stack is some pages, which the new process would have a copy of.
fn make_plan(entry: &Entry, state: &State, place: &Place, request: &ExecRequest, wanted: &Wanted) -> Result<ExecPlan> {
    let saved = |problems| bundle::refused("saved config.json", problems);
    let (spec, filter) = match exec_config::load(entry) {
        Some(ready) => ready,
        None => (load::parse_config(&entry.config()?).map_err(saved)?, Filter::FromConfig),
    };
    let (process, source) = match wanted {
        Wanted::File(path) => (exec_process::from_file(read_process(path)?, &spec), path.as_str()),
        Wanted::Words(words) => (exec_process::from_words(words, &spec).map_err(saved)?, "process"),
    };
    let refused = |problems: Vec<Problem>| {
        let ids = matches!(wanted, Wanted::Words(_)) && problems.iter().any(|problem| problem.at.starts_with("user."));
        let error = bundle::refused(source, problems);
        if ids { error.hint("--user and --additional-gids take ids of the container's user namespace") } else { error }
    };
    let checked = validate::process_in(&process, &spec);
    if !checked.problems.is_empty() {
        return Err(refused(checked.problems));
    }
    let entered = Entered {
        id: state.id.clone(),
        namespaces: Namespaces::from_bits_truncate(state.namespaces),
        deny_setgroups: state.deny_setgroups,
        moved: place.moves() || state.resctrl.is_some(),
        filter,
    };
    let mut plan = plan::exec::exec(&spec, &process, request, &entered, &host::probe_for_exec(&process)).map_err(refused)?;
    let said = checked.warnings.iter().map(|warning| format!("{}: {}", warning.at, warning.rule));
    plan.warnings.splice(0..0, said);
    Ok(plan)
}

/// The process file, wholly: its writer removes it as soon as the command has ended.
fn read_process(path: &str) -> Result<Process> {
    let bytes = fd::open_given(path).and_then(|file| fd::read_given(file, bundle::CONFIG_MAX));
    let bytes = bytes.told(|| format!("cannot read the process file {path}"))?;
    load::parse_process(&bytes).map_err(|problems| bundle::refused(path, problems))
}

/// What the new process inherits, and the runtime has only for the moment of the clone.
struct Inherited {
    oom_score_adj: Option<String>,
    cpus: Option<Vec<u32>>,
}

impl Inherited {
    /// Takes on what the plan asks. It is done before the runtime hides itself, because a hidden process of an ordinary user may not
    /// write to its own files in /proc (proc(5)).
    fn lend(plan: &ExecPlan) -> Result<Inherited> {
        let mut before = Inherited { oom_score_adj: None, cpus: None };
        if let Some(adjust) = plan.oom_score_adj {
            let told = || format!("cannot set oom_score_adj to {adjust}");
            let now = fd::read_record_of(format!("/proc/{OOM_SCORE_ADJ}"), 64).told(told)?;
            let now = String::from_utf8_lossy(&now).trim().to_string();
            if now != adjust.to_string() {
                let own = proc::Procfs::host().told(told)?;
                own.write(OOM_SCORE_ADJ, adjust.to_string().as_bytes()).told(told).map_err(|error| match error.errno {
                    Some(Errno::EACCES) => {
                        error.at("process.oomScoreAdj").hint("less than the runtime's own value needs CAP_SYS_RESOURCE")
                    }
                    _ => error.at("process.oomScoreAdj"),
                })?;
                before.oom_score_adj = Some(now);
            }
        }
        if let Some(cpus) = &plan.initial_cpus {
            let told = || "cannot set the CPU affinity".to_string();
            before.cpus = Some(sched::affinity(0).told(told)?);
            sched::set_affinity(0, cpus).told(told).map_err(|error| error.at("process.execCPUAffinity.initial"))?;
        }
        Ok(before)
    }
}

/// In a procfs.
const OOM_SCORE_ADJ: &str = "self/oom_score_adj";

impl Drop for Inherited {
    /// The runtime as it was. It ends soon, so what it may not take back is not worth a failure.
    fn drop(&mut self) {
        if let Some(value) = &self.oom_score_adj {
            let _ = proc::Procfs::host().and_then(|own| own.write(OOM_SCORE_ADJ, value.as_bytes()));
        }
        if let Some(cpus) = &self.cpus {
            let _ = sched::set_affinity(0, cpus);
        }
    }
}
