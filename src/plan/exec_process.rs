// SPDX-License-Identifier: Apache-2.0
//! Which process `exec` runs: the one of a process file, or the container's own with another program and what the flags say. PURE.
//!
//! What such a process leaves unsaid is the container's: its capabilities, limits, scheduling, labels (as runc does, and for umask and
//! oomScoreAdj as the specification says, which runc takes from the container in any case).

use super::process;
use crate::spec::Problem;
use crate::spec::types::{Capabilities, Process, Spec};

/// What the flags of `exec` say of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<String>,
    /// `--env`
    pub env: Vec<String>,
    /// `--user`: uid, and gid where it is given.
    pub user: Option<(u32, Option<u32>)>,
    /// `--additional-gids`
    pub additional_gids: Vec<u32>,
    /// `--tty`
    pub tty: bool,
    /// `--cap`
    pub capabilities: Vec<String>,
    /// `--no-new-privs`, where it is given.
    pub no_new_privileges: Option<bool>,
    /// `--apparmor`
    pub apparmor_profile: Option<String>,
    /// `--process-label`
    pub selinux_label: Option<String>,
}

/// The process of a process file in this container.
pub fn from_file(mut given: Process, spec: &Spec) -> Process {
    let Some(own) = &spec.process else { return given };
    if given.rlimits.is_empty() {
        given.rlimits.clone_from(&own.rlimits);
    }
    let or_own = |text: &mut String, own: &String| {
        if text.is_empty() {
            text.clone_from(own);
        }
    };
    or_own(&mut given.apparmor_profile, &own.apparmor_profile);
    or_own(&mut given.selinux_label, &own.selinux_label);
    given.capabilities = given.capabilities.or_else(|| own.capabilities.clone());
    given.oom_score_adj = given.oom_score_adj.or(own.oom_score_adj);
    given.scheduler = given.scheduler.or_else(|| own.scheduler.clone());
    given.io_priority = given.io_priority.or_else(|| own.io_priority.clone());
    given.exec_cpu_affinity = given.exec_cpu_affinity.or_else(|| own.exec_cpu_affinity.clone());
    given.user.umask = given.user.umask.or(own.user.umask);
    given
}

/// The container's own process, with another program and what the flags say.
pub fn from_words(words: &Words, spec: &Spec) -> Result<Process, Vec<Problem>> {
    let Some(own) = &spec.process else {
        let rule = "the container has no process of its own to take user, environment and rights from: use --process";
        return Err(vec![Problem::new("process", rule)]);
    };
    let mut process = Process::clone(own);
    process.args.clone_from(&words.args);
    process.terminal = words.tty;
    process.console_size = process.console_size.filter(|_| words.tty);
    if let Some(cwd) = &words.cwd {
        process.cwd.clone_from(cwd);
    }
    process.env.extend(words.env.iter().cloned());
    process.env = process::last_of_each_name(process.env);
    if let Some((uid, gid)) = words.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&words.additional_gids);
    process.no_new_privileges = words.no_new_privileges.unwrap_or(process.no_new_privileges);
    if let Some(profile) = &words.apparmor_profile {
        process.apparmor_profile.clone_from(profile);
    }
    if let Some(label) = &words.selinux_label {
        process.selinux_label.clone_from(label);
    }
    if !words.capabilities.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &words.capabilities);
    }
    Ok(process)
}

/// Bounding, permitted and effective. Never inheritable, which would give them to every program with file capabilities
/// (CVE-2022-29162); and so ambient only where the container's own process has them inheritable (capabilities(7)).
fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    for name in names {
        // `--cap sys_admin` means the same as `--cap CAP_SYS_ADMIN`.
        let upper = name.to_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if sets.inheritable.contains(&name) {
            sets.ambient.push(name.clone());
        }
        for set in [&mut sets.bounding, &mut sets.permitted, &mut sets.effective] {
            set.push(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixtures;

    #[test]
    fn words_change_the_containers_own_process() {
        let mut spec = fixtures::spec("docker");
        let own = spec.process.as_deref_mut().unwrap();
        own.env = vec!["A=1".into(), "B=2".into()];
        own.terminal = true;
        let words = Words {
            args: vec!["id".into()],
            env: vec!["A=3".into()],
            user: Some((7, None)),
            additional_gids: vec![9],
            capabilities: vec!["sys_time".into()],
            ..Words::default()
        };
        let got = from_words(&words, &spec).unwrap();
        assert_eq!((got.args, got.env, got.terminal), (vec!["id".to_string()], vec!["B=2".to_string(), "A=3".into()], false));
        assert_eq!((got.user.uid, got.user.gid), (7, spec.process.as_deref().unwrap().user.gid));
        assert!(got.user.additional_gids.ends_with(&[9]));
        let sets = got.capabilities.unwrap();
        let has = |set: &[String]| set.iter().any(|name| name == "CAP_SYS_TIME");
        assert!(has(&sets.bounding) && has(&sets.effective) && has(&sets.permitted));
        assert!(!has(&sets.inheritable) && !has(&sets.ambient));
        assert!(from_words(&words, &Spec::default()).is_err());
    }

    #[test]
    fn a_file_is_taken_as_it_is_but_for_what_it_leaves_unsaid() {
        let mut spec = fixtures::spec("docker");
        let own = spec.process.as_deref_mut().unwrap();
        own.oom_score_adj = Some(5);
        own.user.umask = Some(0o77);
        let got = from_file(Process { no_new_privileges: false, ..Process::default() }, &spec);
        assert_eq!((got.oom_score_adj, got.user.umask, got.no_new_privileges), (Some(5), Some(0o77), false));
        assert_eq!(got.capabilities, spec.process.as_deref().unwrap().capabilities);
        let said = Process { oom_score_adj: Some(0), capabilities: Some(Capabilities::default()), ..Process::default() };
        let got = from_file(said.clone(), &spec);
        assert_eq!((got.oom_score_adj, got.capabilities), (Some(0), said.capabilities));
    }
}
