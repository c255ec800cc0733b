// SPDX-License-Identifier: Apache-2.0
//! What the specification asks of a configuration, as far as that can be told without a kernel: all problems at once.
//!
//! Called before planning by `create`, `run`, `exec` (process.json) and `update` (a resources file). Each part of a config.json has a
//! table here: a row is a field and its rule, in the order of config.md and config-linux.md. A rule that needs the host (does this
//! directory exist, is this controller there) belongs to the plan or to the hand that finds out.
//!
//! A problem refuses the configuration. A warning is for what the specification wants said but not refused (unknown capabilities), and
//! for what will be done in another way than it is written.

use super::{At, Hook, Mount, Problem, Process, Resources, Spec, names, number_list};
use crate::texts::{Texts, texts};

/// [`Rows`], each written as a pair.
macro_rules! rows {
    [$(($name:literal, $rule:expr)),* $(,)?] => {
        $crate::spec::validate::Rows { names: $crate::texts::texts![$($name),*], rules: &[$($rule),*] }
    };
}

mod linux;
mod process;
#[cfg(test)]
mod properties;
mod resources;
mod seccomp;
mod sysctl;
#[cfg(test)]
mod tests;

pub use sysctl::sysctl_path;

/// What validation found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What refuses the configuration.
    pub problems: Vec<Problem>,
    /// What is worth saying.
    pub warnings: Vec<Problem>,
}

/// Judges a config.json.
pub fn config(spec: &Spec) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.judge(CONFIG, spec, &At::DOCUMENT);
    verdict
}

/// Judges a process.json (`exec --process`).
pub fn process(process: &Process) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.judge(process::PROCESS, process, &At::DOCUMENT);
    verdict
}

/// As [`process`], of a process that is to join this container.
pub fn process_in(process: &Process, container: &Spec) -> Verdict {
    let mut verdict = self::process(process);
    linux::ids_are_mapped(process, container, &At::DOCUMENT.name("user"), &mut verdict);
    verdict
}

/// Judges a resources file (`update --resources`).
pub fn resources(resources: &Resources) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.judge(resources::RESOURCES, resources, &At::DOCUMENT);
    verdict
}

/// Fields and their rules, in the same order. A rule is given the object, the field's path and the verdict to add to.
struct Rows<T: 'static> {
    names: Texts,
    rules: &'static [fn(&T, &At, &mut Verdict)],
}

/// config.md.
const CONFIG: Rows<Spec> = rows![
    ("ociVersion", oci_version),
    ("root", |spec, at, verdict| match &spec.root {
        None => verdict.problem(at, "is required"),
        Some(root) => verdict.required(&at.name("path"), &root.path),
    }),
    ("mounts", |spec, at, verdict| {
        for (which, mount) in spec.mounts.iter().enumerate() {
            judge_mount(spec, mount, &at.index(which), verdict);
        }
    }),
    // Required when start is called, not before (config.md, Process).
    ("process", |spec, at, verdict| {
        if let Some(process) = &spec.process {
            verdict.judge(process::PROCESS, process, at);
        }
    }),
    ("process.user", linux::user_is_mapped),
    ("hostname", |spec, at, verdict| uts_name(spec, &spec.hostname, at, verdict)),
    ("domainname", |spec, at, verdict| uts_name(spec, &spec.domainname, at, verdict)),
    ("hooks", judge_hooks),
    ("annotations", |spec, at, verdict| {
        if spec.annotations.contains_key("") {
            verdict.problem(at, "has an empty name");
        }
    }),
    ("linux.namespaces", linux::mount_namespace),
    ("linux.seccomp", seccomp::listener),
    ("linux", |spec, at, verdict| {
        if let Some(linux) = &spec.linux {
            verdict.judge(linux::LINUX, linux, at);
        }
    }),
];

/// config.md, "Specification version": SemVer 2.0.0, and this runtime follows 1.x.
fn oci_version(spec: &Spec, at: &At, verdict: &mut Verdict) {
    let version = &spec.oci_version;
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if version.is_empty() {
        verdict.problem(at, "is required");
    } else if !numbers.iter().all(is_number) || !(2..=3).contains(&numbers.len()) {
        verdict.problem(at, format!("{version:?} is not a semantic version such as 1.3.0"));
    } else if numbers[0] != "1" {
        verdict.problem(at, format!("{version:?} is not supported; this runtime follows version 1 of the specification"));
    } else if numbers.len() == 2 {
        verdict.warning(at, format!("{version:?} is not a semantic version: it has no patch number"));
    }
}

/// A host or domain name (sethostname(2)): needs a UTS namespace that is not the host's.
fn uts_name(spec: &Spec, name: &str, at: &At, verdict: &mut Verdict) {
    const LONGEST: usize = 64;
    if name.is_empty() {
        return;
    }
    if name.len() > LONGEST {
        verdict.problem(at, format!("{name:?} is longer than {LONGEST} bytes"));
    }
    if !spec.has_namespace("uts") {
        verdict.problem(at, format!("cannot be set to {name:?} without a private UTS namespace in linux.namespaces"));
    }
}

/// config.md, "Mounts". Options are read by the plan.
fn judge_mount(spec: &Spec, mount: &Mount, at: &At, verdict: &mut Verdict) {
    let destination = &at.name("destination");
    verdict.required(destination, &mount.destination);
    if !mount.destination.is_empty() && !mount.destination.starts_with('/') {
        verdict.warning(
            destination,
            format!("{:?} is not an absolute path; it is taken from the container's root", mount.destination),
        );
    }
    let has = |names: Texts| mount.words().any(|word| names.contains(word));
    if mount.is_bind() {
        verdict.required(&at.name("source"), &mount.source);
    } else if mount.kind.is_empty() && !has(texts!["remount"]) && !has(names::ROOTFS_PROPAGATIONS) {
        verdict.problem(&at.name("type"), "is required for what is not a bind mount");
    }
    linux::id_mappings(&mount.uid_mappings, &at.name("uidMappings"), verdict);
    linux::id_mappings(&mount.gid_mappings, &at.name("gidMappings"), verdict);
    match (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty()) {
        (false, true) => verdict.problem(&at.name("gidMappings"), "is required with uidMappings"),
        (true, false) => verdict.problem(&at.name("uidMappings"), "is required with gidMappings"),
        (true, true) if has(texts!["idmap", "ridmap"]) && !spec.has_namespace("user") => {
            let rule = "asks for id mappings, but there are neither uidMappings here nor a user namespace to take them from";
            verdict.problem(&at.name("options"), rule);
        }
        _ => {}
    }
}

/// config.md, "POSIX-platform Hooks".
fn judge_hooks(spec: &Spec, at: &At, verdict: &mut Verdict) {
    let Some(hooks) = &spec.hooks else { return };
    let kinds: [&[Hook]; 6] = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ];
    for (name, hooks) in names::HOOKS.iter().zip(kinds) {
        let at = at.name(name);
        for (which, hook) in hooks.iter().enumerate() {
            let at = at.index(which);
            verdict.absolute(&at.name("path"), &hook.path);
            if let Some(timeout) = hook.timeout.filter(|timeout| *timeout <= 0) {
                verdict.problem(&at.name("timeout"), format!("{timeout} seconds: must be more than 0"));
            }
        }
    }
}

impl Verdict {
    /// True when nothing refuses the configuration.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds what refuses the configuration.
    fn problem(&mut self, at: &At, rule: impl Into<String>) {
        self.problems.push(Problem::new(at.to_string(), rule));
    }

    /// Adds what is worth saying.
    fn warning(&mut self, at: &At, rule: impl Into<String>) {
        self.warnings.push(Problem::new(at.to_string(), rule));
    }

    /// Goes through the rows of a table for the object at `at`.
    fn judge<T>(&mut self, rows: Rows<T>, object: &T, at: &At) {
        for (name, rule) in rows.names.iter().zip(rows.rules) {
            rule(object, &at.name(name), self);
        }
    }

    /// A text that must be there.
    fn required(&mut self, at: &At, text: &str) {
        if text.is_empty() {
            self.problem(at, "is required and must not be empty");
        }
    }

    /// A path that must be there and be absolute.
    fn absolute(&mut self, at: &At, path: &str) {
        self.required(at, path);
        if !path.is_empty() && !path.starts_with('/') {
            self.problem(at, format!("{path:?} must be an absolute path"));
        }
    }

    /// A value of an enumeration.
    fn one_of(&mut self, at: &At, value: &str, known: Texts) {
        if value.is_empty() {
            self.problem(at, "is required and must not be empty");
        } else if !known.contains(value) {
            self.problem(at, format!("{value:?} is unknown; known are {}", known.join(", ")));
        }
    }

    /// Values of an enumeration.
    fn all_of(&mut self, at: &At, values: &[String], known: Texts) {
        for (which, value) in values.iter().enumerate() {
            self.one_of(&at.index(which), value, known);
        }
    }

    /// A number within bounds.
    fn within<N: PartialOrd + std::fmt::Display>(&mut self, at: &At, value: N, least: N, most: N) {
        if value < least || value > most {
            self.problem(at, format!("{value} is not from {least} to {most}"));
        }
    }

    /// A list of CPUs or memory nodes.
    fn number_list(&mut self, at: &At, list: &str) {
        if let Err(rule) = number_list::parse(list) {
            self.problem(at, rule);
        }
    }
}

/// What an interface may be called (dev_valid_name of the kernel).
fn interface_name(at: &At, name: &str, verdict: &mut Verdict) {
    const SIZE: usize = 16;
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0x0b;
    if name.is_empty() || name.len() >= SIZE || name == "." || name == ".." || name.bytes().any(bad) {
        verdict.problem(at, format!("{name:?} is no name for a network device: 1 to 15 bytes without /, : and blanks"));
    }
}
