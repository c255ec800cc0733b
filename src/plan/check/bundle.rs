// SPDX-License-Identifier: Apache-2.0
//! What a bundle brings along: its root filesystem, its program, what it binds. Called by [`super::check`].

use super::{Finding, Program, Survey};
use crate::error::Code;
use crate::plan::Plan;

pub(super) fn check(survey: &Survey, plan: Option<&Plan>) -> Vec<Finding> {
    let Some(facts) = &survey.bundle else { return Vec::new() };
    let mut found = Vec::new();
    match &facts.rootfs {
        Some(why) => found.push(Finding::fails("root filesystem", why).code(Code::Rootfs).at("root.path")),
        None => {
            found.push(Finding::works("root filesystem", "it is there").at("root.path"));
            found.extend(program(facts, plan));
        }
    }
    for (list, what, why, code) in [
        (&facts.missing_sources, "mounts", "is not there, to be bound", Code::MountSource),
        (&facts.missing_hooks, "hooks", "is not there, or may not be executed", Code::Hook),
        (&facts.missing_sysctls, "kernel parameters", "is not known to this kernel", Code::Sysctl),
        (&facts.missing_devices, "network devices", "is not there", Code::NetDevice),
        (&facts.missing_sockets, "sockets", "is not there: nobody listens", Code::ConsoleSocket),
    ] {
        found.extend(list.iter().map(|(name, at)| Finding::fails(what, format!("{name} {why}")).code(code).at(at)));
    }
    found
}

fn program(facts: &super::BundleFacts, plan: Option<&Plan>) -> Vec<Finding> {
    const WHAT: &str = "program";
    const AT: &str = "process.args[0]";
    let name = plan.and_then(|plan| plan.exec.args.first()).map_or("it", String::as_str);
    let mut found = Vec::new();
    match &facts.program {
        Program::Unseen => {}
        Program::Found(path) => found.push(Finding::works(WHAT, format!("{path} is there")).at(AT)),
        Program::Missing(why) => {
            found.push(Finding::fails(WHAT, format!("{name}: {why}")).code(Code::ProgramNotFound).at(AT));
        }
        Program::NoInterpreter { path, interpreter } => {
            let why = format!("{path} needs {interpreter}, which is missing in the root filesystem");
            found.push(Finding::fails(WHAT, why).code(Code::Interpreter).at(AT));
        }
        Program::Foreign { path, machine } => {
            let why = format!("{path} is for {machine}: it runs only where an emulator is registered for that");
            found.push(Finding::degrades(WHAT, why).code(Code::Architecture).at(AT));
        }
    }
    if facts.noexec {
        let why = "the root filesystem is on a mount with the option noexec: nothing in it can be executed";
        found.push(Finding::fails(WHAT, why).code(Code::NoExec).at("root.path"));
    }
    found
}
