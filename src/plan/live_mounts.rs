// SPDX-License-Identifier: Apache-2.0
//! `mounts add` and `mounts remove`: which mounts a container that exists gets or loses, decided. PURE.
//!
//! Every source is opened by the runtime, outside, where the names of the host mean what they say. A process that enters the container
//! then moves the copies to their places, by the same steps that `create` has for them.

use super::exec::{Entered, ExecPlan, is_watched};
use super::mounts::{self, Mounts, clean};
use super::step::{Op, ParentStep, Source, Step, Tree};
use super::{Exec, Host, ParentOp, Request, namespaces, rootfs};
use crate::linux::types::Namespaces;
use crate::spec::types::{Mount, Spec};
use crate::spec::{Problem, index};

/// What is done to the mounts of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveMounts {
    /// The trees of the host that the runtime opens first, by slot.
    pub trees: Vec<ParentStep>,
    /// The process that enters the container, does it and ends.
    pub process: ExecPlan,
    /// What the user should know although it is no error.
    pub warnings: Vec<String>,
}

/// The file of `mounts add`, and of `remove`: `mounts[]` of a config.json.
const FILE: &str = "mounts";

/// Decides how `wanted` is mounted in a container. `spec` is its configuration as it was at create.
pub fn add(
    spec: &Spec,
    wanted: &[Mount],
    request: &Request,
    entered: &Entered,
    cgroup: Option<&str>,
    host: &Host,
) -> Result<LiveMounts, Vec<Problem>> {
    let own = own_namespace(entered)?;
    let namespaces = namespaces::plan(spec, host)?;
    let spec = Spec { mounts: wanted.to_vec(), ..spec.clone() };
    let context = rootfs::Context { spec: &spec, request, host, namespaces: &namespaces, cgroup };
    let mut planned = Mounts::default();
    mounts::plan(&context, &mut planned);
    for (number, mount) in wanted.iter().enumerate() {
        if clean(&mount.destination) == "/" {
            planned.problems.push(Problem::new(index(FILE, number), "the root of a running container cannot be covered"));
        }
    }
    let mut steps = std::mem::take(&mut planned.steps);
    for step in &mut steps {
        if let Err(problem) = open_outside(step, &mut planned) {
            planned.problems.push(problem);
        }
    }
    if !planned.problems.is_empty() {
        return Err(planned.problems);
    }
    steps.push(Step { op: Op::ReadonlyMounts, at: String::new() });
    Ok(LiveMounts { trees: planned.trees, process: process(&spec, own, steps), warnings: planned.warnings })
}

/// Decides how what is mounted at these destinations is taken away, the last one first.
pub fn remove(spec: &Spec, wanted: &[Mount], entered: &Entered) -> Result<LiveMounts, Vec<Problem>> {
    let own = own_namespace(entered)?;
    let hidden = spec.linux.iter().flat_map(|linux| linux.masked_paths.iter().chain(&linux.readonly_paths));
    let hidden: Vec<String> = hidden.map(|path| clean(path)).collect();
    let mut steps = Vec::new();
    let mut problems = Vec::new();
    for (number, mount) in wanted.iter().enumerate().rev() {
        let (at, place) = (format!("{}.destination", index(FILE, number)), clean(&mount.destination));
        match place.as_str() {
            "/" => problems.push(Problem::new(at, "is the root of the container, which cannot be taken away")),
            "/proc" | "/sys" | "/dev" => problems.push(Problem::new(at, format!("\"{place}\" belongs to every container"))),
            _ if hidden.contains(&place) => {
                problems.push(Problem::new(
                    at,
                    format!("\"{place}\" is hidden from the container or read-only by its configuration"),
                ));
            }
            _ => steps.push(Step { op: Op::Unmount(place), at }),
        }
    }
    if problems.is_empty() {
        Ok(LiveMounts { trees: Vec::new(), process: process(spec, own, steps), warnings: Vec::new() })
    } else {
        Err(problems)
    }
}

fn own_namespace(entered: &Entered) -> Result<Namespaces, Vec<Problem>> {
    if entered.namespaces.contains(Namespaces::MOUNT) {
        return Ok(entered.namespaces);
    }
    Err(vec![Problem::new("linux.namespaces", "the container has no mount namespace of its own")])
}

/// What the container's process would open, the runtime opens.
fn open_outside(step: &mut Step, planned: &mut Mounts) -> Result<(), Problem> {
    let at = step.at.clone();
    let Op::Mount(mount) = &mut step.op else { return Ok(()) };
    match &mut mount.source {
        Source::Remount { .. } => {
            Err(Problem::new(at, "a mount that is there cannot be changed (remount), only added or removed"))
        }
        Source::CgroupSubtree { .. } => Err(Problem::new(at, "cgroups are mounted at create only")),
        Source::Bind { tree, recursive, source_nofollow, .. } => {
            if let Tree::Path(path) = tree {
                let (path, recursive, nofollow) = (path.clone(), *recursive, *source_nofollow);
                let open = |slot| ParentOp::OpenTree { slot, path, recursive, nofollow, id_map: None, id_map_recursive: false };
                *tree = planned.open_by_runtime(open, &at);
            }
            Ok(())
        }
        Source::New { .. } => Ok(()),
    }
}

/// A process that enters the container, carries out these steps and ends.
fn process(spec: &Spec, namespaces: Namespaces, mut steps: Vec<Step>) -> ExecPlan {
    steps.push(Step { op: Op::End, at: String::new() });
    let watched = is_watched(spec, None, namespaces);
    let before = if watched { namespaces } else { namespaces & Namespaces::PID };
    ExecPlan {
        watched,
        enter_before_clone: before,
        enter_after_clone: namespaces & !before,
        oom_score_adj: None,
        initial_cpus: None,
        moved: false,
        tells_ready: false,
        listener: None,
        child: steps,
        exec: Exec::default(),
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Id;
    use crate::spec::fixtures;

    fn entered() -> Entered {
        Entered { id: "x".into(), namespaces: Namespaces::PID | Namespaces::MOUNT, ..Entered::default() }
    }

    fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| option.to_string()).collect();
        Mount { destination: destination.into(), kind: kind.into(), source: source.into(), options, ..Mount::default() }
    }

    fn added(wanted: &[Mount]) -> Result<LiveMounts, Vec<Problem>> {
        let request = Request::create(Id::parse("x").unwrap(), "/bundle", "/run/berth");
        add(&fixtures::spec("docker"), wanted, &request, &entered(), None, &Host::example())
    }

    #[test]
    fn sources_are_opened_outside() {
        let wanted = [mount("/data", "", "data", &["rbind", "ro"]), mount("/scratch", "tmpfs", "tmpfs", &["size=1m"])];
        let plan = added(&wanted).unwrap();
        assert_eq!(plan.trees.len(), 1);
        let ParentOp::OpenTree { path, recursive: true, .. } = &plan.trees[0].op else { panic!("{:?}", plan.trees[0]) };
        assert_eq!(path, "/bundle/data");
        assert!(
            matches!(&plan.process.child[0].op, Op::Mount(mount) if matches!(mount.source, Source::Bind { tree: Tree::FromRuntime(0), .. }))
        );
        assert_eq!(plan.process.child.len(), 4);
        assert_eq!(plan.process.child[3].op, Op::End);
    }

    #[test]
    fn what_cannot_be_added_is_named() {
        for (wanted, place) in [
            (mount("/", "tmpfs", "tmpfs", &[]), "mounts[0]"),
            (mount("/proc/x", "tmpfs", "tmpfs", &[]), "mounts[0].destination"),
            (mount("/dev/shm", "tmpfs", "tmpfs", &["remount", "ro"]), "mounts[0]"),
        ] {
            assert_eq!(added(&[wanted]).unwrap_err()[0].at, place);
        }
        let none = Entered { namespaces: Namespaces::PID, ..entered() };
        assert!(remove(&Spec::default(), &[], &none).is_err());
    }

    #[test]
    fn what_hides_the_host_stays() {
        let spec = fixtures::spec("docker");
        let masked = spec.linux.as_deref().unwrap().masked_paths[0].clone();
        for place in [masked.as_str(), "/", "/proc/", "/../dev"] {
            assert!(remove(&spec, &[mount(place, "", "", &[])], &entered()).is_err(), "{place}");
        }
        let plan = remove(&spec, &[mount("/a", "", "", &[]), mount("b/../c", "", "", &[])], &entered()).unwrap();
        assert_eq!(plan.process.child[0].op, Op::Unmount("/c".into()));
        assert_eq!(plan.process.child[1].op, Op::Unmount("/a".into()));
    }
}
