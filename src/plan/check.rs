// SPDX-License-Identifier: Apache-2.0
//! `berth check`, the deciding half: what works, what degrades and what fails on a host, for a user and a bundle. A pure function of what
//! was found on the host ([`Survey`]) and of the plan; `container::check` does the looking, `cli::check` the showing.

use super::host::Host;
use super::namespaces::name;
use super::step::{Op, ParentOp};
use super::{Plan, Shape};
use crate::error::Code;
use crate::linux::types::{CapSet, CgroupMode, IdRange, Namespaces};
use crate::spec::Problem;

mod bundle;
mod cgroup;
mod user;

/// Everything that is looked at besides [`Host`], as plain values: `container::check` fills it in, tests by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// What plans are made from.
    pub host: Host,
    /// The kinds of namespaces that this kernel has.
    pub namespaces: Namespaces,
    /// Why this user may make no user namespace, if so.
    pub no_user_namespace: Option<String>,
    /// Where something is mounted over a part of /proc.
    pub proc_masked_at: Vec<String>,
    /// Where something is mounted over a part of /sys.
    pub sys_masked_at: Vec<String>,
    /// The kernel can filter system calls.
    pub seccomp: bool,
    /// File systems that the kernel knows by now, without loading modules.
    pub filesystems: Vec<String>,
    /// The hard limits of the runtime, by the numbers of setrlimit(2).
    pub hard_limits: Vec<u64>,
    /// The runtime's own oom_score_adj.
    pub oom_score_adj: i32,
    /// User ids that newuidmap(1) grants to this user: first and count.
    pub granted_uids: Vec<(u32, u32)>,
    /// Group ids that newgidmap(1) grants to this user.
    pub granted_gids: Vec<(u32, u32)>,
    /// The state root, and why it cannot be used, if so.
    pub state_root: (String, Option<String>),
    /// criu(8), for checkpoint and restore.
    pub criu: Option<String>,
    /// Where the container's cgroup would be made.
    pub cgroup: Option<CgroupPlace>,
    /// What was found of the bundle; none where there is none.
    pub bundle: Option<BundleFacts>,
}

/// The nearest cgroup above the container's that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupPlace {
    /// Its directory.
    pub path: String,
    /// The controllers that it could pass on.
    pub controllers: Vec<String>,
    /// The controllers that it passes on already.
    pub passes_on: Vec<String>,
    /// This user may make cgroups in it.
    pub writable: bool,
    /// Processes are in it, and it is not the root.
    pub busy: bool,
}

/// What was found of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleFacts {
    /// Why the root filesystem cannot be used, if so.
    pub rootfs: Option<String>,
    /// It is on a mount with the option noexec.
    pub noexec: bool,
    /// What was found of the program.
    pub program: Program,
    /// Paths that are to be bound and are not there, each with its field.
    pub missing_sources: Vec<(String, String)>,
    /// Hooks that are not there or may not be executed, each with its field.
    pub missing_hooks: Vec<(String, String)>,
    /// Kernel parameters that this kernel does not have, each with its field.
    pub missing_sysctls: Vec<(String, String)>,
    /// Network devices that are not there, each with its field.
    pub missing_devices: Vec<(String, String)>,
    /// Sockets that nobody listens on, each with its field.
    pub missing_sockets: Vec<(String, String)>,
}

/// What was found of the container's program in its root filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// A mount may cover where it is, or there is none to look for.
    #[default]
    Unseen,
    /// It is there, and of this machine.
    Found(String),
    /// It is not there, or may not be executed.
    Missing(String),
    /// Its interpreter is missing.
    NoInterpreter {
        /// The program.
        path: String,
        /// What it needs.
        interpreter: String,
    },
    /// It is for another machine.
    Foreign {
        /// The program.
        path: String,
        /// `aarch64`
        machine: String,
    },
}

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should.
    Works,
    /// A container can be made, but something that it might expect is missing.
    Degrades,
    /// A container that needs this cannot be made.
    Fails,
}

impl Verdict {
    /// `works`, `degrades` or `fails`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Works => "works",
            Verdict::Degrades => "degrades",
            Verdict::Fails => "fails",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How well it works.
    pub verdict: Verdict,
    /// What this is about: `kernel`, `user namespaces`, `memory controller`.
    pub what: String,
    /// Why that is so.
    pub why: String,
    /// What to do about it; empty where nothing is.
    pub remedy: String,
    /// The code of the error that a failure would have.
    pub code: Option<Code>,
    /// The field of the configuration that needs it; empty where none does.
    pub at: String,
}

impl Finding {
    fn new(verdict: Verdict, what: &str, why: impl Into<String>) -> Finding {
        Finding { verdict, what: what.into(), why: why.into(), remedy: String::new(), code: None, at: String::new() }
    }
    fn works(what: &str, why: impl Into<String>) -> Finding {
        Finding::new(Verdict::Works, what, why)
    }
    fn degrades(what: &str, why: impl Into<String>) -> Finding {
        Finding::new(Verdict::Degrades, what, why)
    }
    fn fails(what: &str, why: impl Into<String>) -> Finding {
        Finding::new(Verdict::Fails, what, why)
    }
    fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }
    fn code(mut self, code: Code) -> Finding {
        self.code = Some(code);
        if self.remedy.is_empty() {
            self.remedy = code.entry().mend.to_string();
        }
        self
    }
    fn at(mut self, at: impl Into<String>) -> Finding {
        self.at = at.into();
        self
    }
}

/// What works, degrades and fails, in the order in which a container would meet it. `plan` is what was planned for this host, or why
/// nothing could be.
pub fn check(survey: &Survey, plan: Result<&Plan, &[Problem]>) -> Vec<Finding> {
    let mut found = vec![kernel(&survey.host)];
    let plan = match plan {
        Ok(plan) => {
            found.extend(plan.warnings.iter().map(|warning| Finding::degrades("configuration", warning)));
            Some(plan)
        }
        Err(problems) => {
            // The kernel's age has been told.
            let told = |problem: &&Problem| problem.cause != Some(Code::KernelTooOld);
            found.extend(problems.iter().filter(told).map(refused));
            None
        }
    };
    found.extend(namespaces(survey, plan));
    found.push(Finding::works("mount namespace", super::route::explain(&survey.host)));
    found.extend(user::namespace(survey, plan));
    found.extend(user::mappings(survey, plan));
    found.extend(procfs(survey, plan));
    found.extend(cgroup::check(survey, plan));
    found.extend(security(survey, plan));
    found.extend(process(survey, plan));
    found.extend(filesystems(survey, plan));
    found.extend(bundle::check(survey, plan));
    found.extend(around(survey));
    found
}

/// The worst of them.
pub fn worst(found: &[Finding]) -> Verdict {
    found.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Works)
}

fn kernel(host: &Host) -> Finding {
    let oldest = super::create::OLDEST_KERNEL;
    let this = format!("Linux {}.{}", host.kernel.major, host.kernel.minor);
    if host.kernel >= oldest {
        return Finding::works("kernel", this);
    }
    Finding::fails("kernel", format!("{this}, and containers need {}.{}", oldest.major, oldest.minor)).code(Code::KernelTooOld)
}

fn refused(problem: &Problem) -> Finding {
    let finding = Finding::fails("configuration", &problem.rule).at(&problem.at);
    match problem.cause {
        Some(cause) => finding.code(cause),
        None => finding.code(Code::Config).remedy(if problem.at.is_empty() {
            "correct the configuration".to_string()
        } else {
            format!("correct {}", problem.at)
        }),
    }
}

/// The kinds that are to be made, those that a first or later step makes too.
fn wanted(plan: &Plan) -> Namespaces {
    let joined = match &plan.spawn.shape {
        Shape::TwoClones(joins) => joins.iter().fold(Namespaces::empty(), |all, join| all | join.kind),
        Shape::OneClone => Namespaces::empty(),
    };
    (plan.namespaces | plan.spawn.create) - joined
}

fn namespaces(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let missing = Namespaces::all() - survey.namespaces;
    if missing.is_empty() {
        return vec![Finding::works("namespaces", "the kernel has all eight kinds")];
    }
    let needed = plan.map_or(Namespaces::empty(), wanted);
    let one = |kind: Namespaces| {
        let why = format!("this kernel has no {} namespaces", name(kind));
        let finding =
            if needed.contains(kind) { Finding::fails("namespaces", why) } else { Finding::degrades("namespaces", why) };
        finding.code(Code::NamespaceKind)
    };
    missing.iter().map(one).collect()
}

/// A new proc or sysfs in a user namespace needs a whole one outside (mount_too_revealing()).
fn procfs(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let Some(plan) = plan else { return Vec::new() };
    let inside = !survey.host.initial_user_namespace || wanted(plan).contains(Namespaces::USER);
    let mut found = Vec::new();
    for (fstype, place, masked) in [("proc", "/proc", &survey.proc_masked_at), ("sysfs", "/sys", &survey.sys_masked_at)] {
        let Some((at, fallback)) = new_mount(plan, fstype) else { continue };
        if !inside || masked.is_empty() {
            found.push(Finding::works(fstype, format!("the {place} outside is seen whole, or that does not matter here")).at(at));
            continue;
        }
        let hidden = masked.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
        let more = if masked.len() > 4 { format!(" and {} more places", masked.len() - 4) } else { String::new() };
        let why = format!("the {place} outside is masked at {hidden}{more}, so a user namespace may not mount a new {fstype}");
        let finding = match fallback {
            true => Finding::degrades(fstype, format!("{why}; the outer one is bound instead")),
            false => Finding::fails(fstype, why),
        };
        found.push(finding.code(Code::ProcMasked).at(at));
    }
    found
}

/// Where the plan makes a new file system of this type, and whether something else would do.
fn new_mount<'a>(plan: &'a Plan, wanted: &str) -> Option<(&'a str, bool)> {
    plan.child.iter().find_map(|step| match &step.op {
        Op::Mount(mount) => match &mount.source {
            super::step::Source::New { fstype, fallback, .. } if fstype == wanted => Some((step.at.as_str(), fallback.is_some())),
            _ => None,
        },
        _ => None,
    })
}

fn security(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let uses = |wanted: &dyn Fn(&Op) -> bool| plan.and_then(|plan| plan.child.iter().find(|step| wanted(&step.op)));
    let mut found = vec![match (survey.seccomp, uses(&|op| matches!(op, Op::Seccomp(_)))) {
        (true, _) => Finding::works("seccomp", "the kernel filters system calls"),
        (false, Some(step)) => {
            Finding::fails("seccomp", "the kernel cannot filter system calls").code(Code::Seccomp).at(&step.at)
        }
        (false, None) => Finding::degrades("seccomp", "the kernel cannot filter system calls").code(Code::Seccomp),
    }];
    // What is asked for and missing is a problem of the plan already.
    if uses(&|op| matches!(op, Op::ApparmorProfile(_))).is_some() {
        found.push(Finding::works("AppArmor", "it is enabled").at("process.apparmorProfile"));
    }
    if uses(&|op| matches!(op, Op::SelinuxLabel(_))).is_some() {
        found.push(Finding::works("SELinux", "it is enabled").at("process.selinuxLabel"));
    }
    found
}

const SYS_RESOURCE: CapSet = CapSet(1 << 24);

fn process(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let Some(plan) = plan else { return Vec::new() };
    let may = survey.host.initial_user_namespace && survey.host.capabilities.contains(SYS_RESOURCE);
    let mut found = Vec::new();
    for step in &plan.child {
        let Op::Rlimit { name, resource, hard, .. } = &step.op else { continue };
        let own = survey.hard_limits.get(*resource as usize).copied().unwrap_or(u64::MAX);
        let why = format!("{name} of {hard} is above the runtime's own {own}, which takes CAP_SYS_RESOURCE");
        found.extend((*hard > own && !may).then(|| Finding::fails("limits", why).code(Code::Rlimit).at(&step.at)));
    }
    for step in &plan.parent {
        let ParentOp::OomScoreAdj(wanted) = step.op else { continue };
        let why =
            format!("oom_score_adj {wanted} is below the runtime's own {}, which takes CAP_SYS_RESOURCE", survey.oom_score_adj);
        found.extend(
            (wanted < survey.oom_score_adj && !may).then(|| Finding::fails("OOM score", why).code(Code::OomScore).at(&step.at)),
        );
    }
    found
}

fn filesystems(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for step in plan.iter().flat_map(|plan| &plan.child) {
        let Op::Mount(mount) = &step.op else { continue };
        let super::step::Source::New { fstype, .. } = &mount.source else { continue };
        let what = format!("file system {fstype}");
        if survey.filesystems.iter().any(|known| known == fstype) || found.iter().any(|finding| finding.what == what) {
            continue;
        }
        let why = "the kernel does not have it yet: mounting it works only where its module is loaded then";
        found.push(Finding::degrades(&what, why).code(Code::MountType).remedy(format!("modprobe {fstype}")).at(&step.at));
    }
    found
}

/// What is around containers rather than in them.
fn around(survey: &Survey) -> Vec<Finding> {
    let (root, why) = &survey.state_root;
    let state = match why {
        None => Finding::works("state root", format!("{root} can be written")),
        Some(why) => Finding::fails("state root", format!("{root}: {why}")).code(Code::StateRoot),
    };
    let criu = match &survey.criu {
        Some(path) => Finding::works("checkpoint and restore", path.clone()),
        None => {
            Finding::degrades("checkpoint and restore", "criu is not installed").code(Code::Checkpoint).remedy("install criu")
        }
    };
    vec![state, criu]
}

/// Whether all ids of a range are within one that is granted, or the user's own.
fn granted(range: &IdRange, granted: &[(u32, u32)], own: u32) -> bool {
    let (first, count) = (u64::from(range.outside), u64::from(range.count));
    let within = |start: u32, length: u32| first >= u64::from(start) && first + count <= u64::from(start) + u64::from(length);
    (range.count == 1 && range.outside == own) || granted.iter().any(|(start, length)| within(*start, *length))
}

/// Whether the host counts as one with cgroups at all.
fn has_cgroups(host: &Host) -> bool {
    host.cgroup != CgroupMode::Absent
}

#[cfg(test)]
mod tests;
