// SPDX-License-Identifier: Apache-2.0
//! What `exec` does: one more process in a container that exists. The hottest command of a node, so its plan is short: enter the
//! namespaces, become who the process shall be, execute.

use super::namespaces::NamespacePlan;
use super::resources::path::SubCgroup;
use super::step::{Op, SeccompLoad, Step};
use super::{Exec, Host, process, seccomp_profile};
use crate::linux::types::Namespaces;
use crate::spec::types::{Process, Spec};
use crate::spec::{Problem, number_list};

/// What the command line says of the process, beside the process itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// `--preserve-fds`, and those of LISTEN_FDS.
    pub inherited_fds: u32,
    /// LISTEN_FDS, where LISTEN_PID is this process.
    pub listen_fds: u32,
    /// `--console-socket`, absolute.
    pub console_socket: Option<String>,
    /// `--pidfd-socket`, absolute.
    pub pidfd_socket: Option<String>,
    /// `--pid-file`, absolute.
    pub pid_file: Option<String>,
    /// `--detach`
    pub detach: bool,
    /// `--ignore-paused`
    pub ignore_paused: bool,
    /// `--cgroup`
    pub cgroups: Vec<SubCgroup>,
}

/// The container that is entered, as far as the plan needs it: from its saved state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entered {
    /// Its id.
    pub id: String,
    /// Its namespaces that are not the runtime's.
    pub namespaces: Namespaces,
    /// setgroups(2) is denied in its user namespace.
    pub deny_setgroups: bool,
    /// clone3(2) cannot put the process into all groups of the container, or it has a resctrl group: the runtime moves it, and it waits
    /// for that.
    pub moved: bool,
    /// Its seccomp filter.
    pub filter: Filter,
}

/// The seccomp filter of a container that is entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// To be compiled from the configuration.
    #[default]
    FromConfig,
    /// As it was compiled for the container's first process.
    Saved(Option<SeccompLoad>),
}

/// One more process, decided.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecPlan {
    /// Entered by the runtime, for its children: the pid namespace, and the user namespace where only that gives the right to it.
    pub enter_before_clone: Namespaces,
    /// Entered by the new process.
    pub enter_after_clone: Namespaces,
    /// Inherited from the runtime, which takes it for the moment of the clone: how ready the kernel is to kill it.
    pub oom_score_adj: Option<i32>,
    /// Inherited in the same way: the CPUs it runs on until it is in the container's cgroup (execCPUAffinity.initial).
    pub initial_cpus: Option<Vec<u32>>,
    /// Somebody may look into it although it is undumpable. Then a first process enters all namespaces, out of his sight, with nothing
    /// open that leads to the host, and makes this one there.
    pub watched: bool,
    /// It waits for the runtime to move it into cgroups and a resctrl group, before anything else.
    pub moved: bool,
    /// It tells the runtime when it is ready, to learn its own pid: for what the seccomp listener is told.
    pub tells_ready: bool,
    /// Where its seccomp filter's listener goes.
    pub listener: Option<String>,
    /// What the new process does, in order, once it has entered.
    pub child: Vec<Step>,
    /// The program.
    pub exec: Exec,
    /// What the user should know although it is no error.
    pub warnings: Vec<String>,
}

/// Decides what one more process does. `spec` is the configuration as it was at create, `process` what shall run.
pub fn exec(
    spec: &Spec,
    process: &Process,
    request: &ExecRequest,
    entered: &Entered,
    host: &Host,
) -> Result<ExecPlan, Vec<Problem>> {
    terminal_rules(process, request).map_err(|problem| vec![problem])?;
    let mut warnings = Vec::new();
    let seccomp = match &entered.filter {
        Filter::Saved(filter) => filter.clone(),
        Filter::FromConfig => seccomp_profile::load(spec, &mut warnings)?,
    };
    let (initial_cpus, final_cpus) = affinity(process)?;
    let mut child: Vec<Step> = entered.moved.then(|| own(Op::AwaitRuntime, "")).into_iter().collect();
    child.push(own(Op::NewSession, ""));
    child.extend(final_cpus.map(|cpus| own(Op::Affinity(cpus), "process.execCPUAffinity.final")));
    if process.terminal {
        // The container's /dev/console is its first process's, and stays.
        let number = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
        let size = process.console_size.as_ref().map(|size| (number(size.width), number(size.height)));
        child.push(own(Op::Console { size, bound: false }, "process.terminal"));
    }
    child.extend(person(spec, process, entered, host, seccomp.as_ref(), &mut warnings)?);
    child.push(own(Op::CloseDescriptors { keep: request.inherited_fds }, ""));
    let listener = seccomp.as_ref().and_then(|load| load.listener.clone()).map(|(path, _)| path);
    if listener.is_some() {
        child.push(own(Op::Ready, ""));
    }
    if let Some(load) = seccomp {
        child.push(own(Op::Seccomp(load), "linux.seccomp"));
    }
    child.push(own(Op::Exec, "process.args"));
    let watched = is_watched(spec, Some(process), entered.namespaces);
    let before = match (watched, host.privileged()) {
        (true, _) => entered.namespaces,
        (false, true) => Namespaces::PID,
        (false, false) => Namespaces::PID | Namespaces::USER,
    };
    Ok(ExecPlan {
        watched,
        enter_before_clone: entered.namespaces & before,
        enter_after_clone: entered.namespaces & !(entered.namespaces & before),
        oom_score_adj: process.oom_score_adj,
        initial_cpus,
        moved: entered.moved,
        tells_ready: listener.is_some(),
        listener,
        child,
        exec: program(process, request),
        warnings,
    })
}

/// Whether the container's pid namespace holds processes that may trace one of the host's root: where it has CAP_SYS_PTRACE without a user
/// namespace of its own, or others live there too, of whom nothing is known (CVE-2016-9962).
pub(super) fn is_watched(spec: &Spec, process: Option<&Process>, entered: Namespaces) -> bool {
    let traces = |process: &Process| {
        let sets = process.capabilities.iter().flat_map(|sets| [&sets.bounding, &sets.permitted]);
        sets.flatten().any(|name| name == "CAP_SYS_PTRACE")
    };
    let namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let shared = namespaces.into_iter().any(|namespace| namespace.kind == "pid" && !namespace.path.is_empty());
    let somebody = shared || process.is_some_and(traces) || spec.process.as_deref().is_some_and(traces);
    somebody && entered.contains(Namespaces::PID) && !entered.contains(Namespaces::USER)
}

fn own(op: Op, at: &str) -> Step {
    Step { op, at: at.to_string() }
}

fn terminal_rules(process: &Process, request: &ExecRequest) -> Result<(), Problem> {
    let rule = match (&request.console_socket, process.terminal, request.detach) {
        (None, true, true) => "cannot allocate tty if runc will detach without setting console socket",
        (Some(_), false, _) | (Some(_), _, false) => "cannot use console socket if runc will not detach or allocate tty",
        _ => return Ok(()),
    };
    Err(Problem::new("process.terminal", rule))
}

/// Who the process becomes, as for the container's first process.
fn person(
    spec: &Spec,
    process: &Process,
    entered: &Entered,
    host: &Host,
    seccomp: Option<&SeccompLoad>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Step>, Vec<Problem>> {
    let mut steps: Vec<Step> = process::attributes(process, host)?.into_iter().map(|(op, at)| Step { op, at }).collect();
    steps.extend(process::kernel_attributes(spec)?);
    steps.push(own(Op::OwnStdio { uid: process.user.uid }, "process.user.uid"));
    steps.push(own(Op::Umask(process.user.umask.unwrap_or(0o022)), "process.user.umask"));
    let other_user_namespace = entered.namespaces.contains(Namespaces::USER);
    let sets = process::capabilities(process.capabilities.as_ref(), host, other_user_namespace, warnings);
    let mut namespaces = NamespacePlan::none();
    namespaces.spawn.deny_setgroups = entered.deny_setgroups;
    let keep_admin = seccomp.is_some() && !process.no_new_privileges;
    let last = process::last_bounding(host, other_user_namespace);
    let identity = process::identity(process, sets, last, &namespaces, keep_admin).map_err(|problem| vec![problem])?;
    // As user 0, who may enter what the program's user may not; where it may not, the step tries again after the next. What is missing
    // in a container that runs was written wrongly, and is not made.
    let path = process::working_directory(process);
    steps.push(own(Op::WorkingDirectory { path, made: false }, "process.cwd"));
    steps.push(own(Op::Identity(identity), "process.user"));
    steps.push(own(Op::FindProgram, "process.args[0]"));
    if process.no_new_privileges {
        steps.push(own(Op::NoNewPrivileges, "process.noNewPrivileges"));
    }
    Ok(steps)
}

fn program(process: &Process, request: &ExecRequest) -> Exec {
    let mut exec = process::environment(process, request.listen_fds, false);
    exec.inherited_fds = request.inherited_fds;
    exec
}

/// `execCPUAffinity`: the CPUs before and after the process is in the container's cgroup.
#[expect(clippy::type_complexity, reason = "two lists, each of which may be absent")]
fn affinity(process: &Process) -> Result<(Option<Vec<u32>>, Option<Vec<u32>>), Vec<Problem>> {
    let Some(wanted) = &process.exec_cpu_affinity else { return Ok((None, None)) };
    let read = |text: &str, name: &str| match number_list::parse(text) {
        Ok(cpus) => Ok((!cpus.is_empty()).then_some(cpus)),
        Err(rule) => Err(vec![Problem::new(format!("process.execCPUAffinity.{name}"), rule)]),
    };
    Ok((read(&wanted.initial, "initial")?, read(&wanted.final_cpus, "final")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixtures;

    fn entered(namespaces: Namespaces) -> Entered {
        Entered { id: "x".into(), namespaces, ..Entered::default() }
    }

    #[test]
    fn what_the_kernel_keeps_of_each_process_is_as_for_the_first() {
        let spec = fixtures::spec("everything");
        let process = Process { terminal: false, ..*spec.process.clone().unwrap() };
        let host = Host { apparmor: true, selinux: true, ..Host::example() };
        let got = exec(&spec, &process, &ExecRequest::default(), &entered(Namespaces::PID), &host).unwrap();
        let at = |at: &str| got.child.iter().find(|step| step.at == at).map(|step| &step.op);
        assert_eq!(at("linux.personality"), Some(&Op::Personality(8)));
        assert!(matches!(at("linux.memoryPolicy"), Some(Op::MemoryPolicy { .. })));
    }

    #[test]
    fn the_pid_namespace_is_entered_before_the_clone_and_the_rest_after() {
        let spec = fixtures::spec("docker");
        let process = Process { terminal: false, ..*spec.process.clone().unwrap() };
        let host = Host { apparmor: true, ..Host::example() };
        let all = Namespaces::PID | Namespaces::MOUNT | Namespaces::USER;
        let got = exec(&spec, &process, &ExecRequest::default(), &entered(all), &host).unwrap();
        assert_eq!(got.enter_before_clone, Namespaces::PID);
        assert_eq!(got.enter_after_clone, Namespaces::MOUNT | Namespaces::USER);
        let user = Host { euid: 1000, ..host };
        let got = exec(&spec, &process, &ExecRequest::default(), &entered(all), &user).unwrap();
        assert_eq!(got.enter_before_clone, Namespaces::PID | Namespaces::USER);
        assert!(matches!(got.child[got.child.len() - 2].op, Op::Seccomp(_)));
        assert_eq!(got.child.last().unwrap().op, Op::Exec);
    }

    /// What create makes is made before its program runs; a container that runs is left as it is.
    #[test]
    fn a_missing_working_directory_is_made_for_the_first_process_alone() {
        let spec = fixtures::spec("docker");
        let host = Host { apparmor: true, ..Host::example() };
        let found = |steps: &[Step]| steps.iter().find(|step| matches!(step.op, Op::WorkingDirectory { .. })).unwrap().op.clone();
        let mut process = Process { terminal: false, cwd: "/srv".into(), ..*spec.process.clone().unwrap() };
        let more = exec(&spec, &process, &ExecRequest::default(), &entered(Namespaces::MOUNT), &host).unwrap();
        assert_eq!(found(&more.child), Op::WorkingDirectory { path: "/srv".into(), made: false });
        for (cwd, made) in [("/srv", true), ("/", false)] {
            process.cwd = cwd.into();
            let spec = Spec { process: Some(Box::new(process.clone())), ..spec.clone() };
            let request = crate::plan::Request::create(crate::plan::Id::parse("x").unwrap(), "/bundle", "/run/berth");
            let first = crate::plan::create(&spec, &request, &host).unwrap();
            assert_eq!(found(&first.child), Op::WorkingDirectory { path: cwd.into(), made });
        }
    }

    #[test]
    fn who_may_be_traced_comes_out_of_sight() {
        let host = Host { apparmor: true, ..Host::example() };
        let plan = |name: &str, change: &dyn Fn(&mut Spec), namespaces: Namespaces, host: &Host| {
            let mut spec = fixtures::spec(name);
            change(&mut spec);
            let process = Process { terminal: false, ..*spec.process.clone().unwrap() };
            exec(&spec, &process, &ExecRequest::default(), &entered(namespaces), host).unwrap()
        };
        let all = Namespaces::PID | Namespaces::MOUNT;
        let trace = |spec: &mut Spec| {
            let sets = spec.process.as_deref_mut().and_then(|process| process.capabilities.as_mut()).unwrap();
            sets.bounding.push("CAP_SYS_PTRACE".into());
        };
        let share = |spec: &mut Spec| {
            for namespace in spec.linux.as_deref_mut().map(|linux| &mut linux.namespaces).unwrap().iter_mut() {
                namespace.path = "/proc/1/ns/pid".into();
            }
        };
        assert!(!plan("docker", &|_| (), all, &host).watched);
        let got = plan("docker", &trace, all, &host);
        assert!(got.watched && got.enter_before_clone == all && got.enter_after_clone.is_empty());
        assert!(plan("docker", &share, all, &host).watched);
        assert!(!plan("docker", &trace, all | Namespaces::USER, &host).watched, "its rights do not reach the host's processes");
    }

    #[test]
    fn dev_console_is_that_of_the_first_process() {
        let host = Host { apparmor: true, ..Host::example() };
        let spec = fixtures::spec("docker");
        let bound = |steps: &[Step]| {
            steps.iter().find_map(|step| if let Op::Console { bound, .. } = step.op { Some(bound) } else { None })
        };
        let mut request = crate::plan::Request::create(crate::plan::Id::parse("x").unwrap(), "/bundle", "/run/berth");
        request.console_socket = Some("/run/console".into());
        assert_eq!(bound(&crate::plan::create(&spec, &request, &host).unwrap().child), Some(true));
        let process = Process { terminal: true, ..*spec.process.clone().unwrap() };
        let more = exec(&spec, &process, &ExecRequest::default(), &entered(Namespaces::MOUNT), &host).unwrap();
        assert_eq!(bound(&more.child), Some(false));
    }

    #[test]
    fn a_terminal_needs_an_owner() {
        let process = Process { terminal: true, cwd: "/".into(), ..Process::default() };
        let request = ExecRequest { detach: true, ..ExecRequest::default() };
        let problems = exec(&Spec::default(), &process, &request, &entered(Namespaces::PID), &Host::example()).unwrap_err();
        assert!(problems[0].rule.contains("cannot allocate tty"));
    }
}
