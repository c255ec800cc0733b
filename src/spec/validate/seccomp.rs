// SPDX-License-Identifier: Apache-2.0
//! Rules for `linux.seccomp` (config-linux.md, "Seccomp"). Names of system calls are for the compiler of the filter to know.

use super::{Rows, Verdict};
use crate::spec::{At, Seccomp, Spec, names};

/// config-linux.md, "Seccomp".
pub(super) const SECCOMP: Rows<Seccomp> = rows![
    ("defaultAction", |seccomp, at, verdict| {
        verdict.one_of(at, &seccomp.default_action, names::SECCOMP_ACTIONS);
        if seccomp.default_action == "SCMP_ACT_NOTIFY" {
            verdict.problem(at, "\"SCMP_ACT_NOTIFY\" cannot be the default: nothing could run before the listener answers");
        }
    }),
    ("defaultErrnoRet", |seccomp, at, verdict| errno(at, seccomp.default_errno_ret, &seccomp.default_action, verdict)),
    ("architectures", |seccomp, at, verdict| verdict.all_of(at, &seccomp.architectures, names::SECCOMP_ARCHITECTURES)),
    ("flags", |seccomp, at, verdict| verdict.all_of(at, &seccomp.flags, names::SECCOMP_FLAGS)),
    ("listenerMetadata", |seccomp, at, verdict| {
        if !seccomp.listener_metadata.is_empty() && seccomp.listener_path.is_empty() {
            verdict.problem(at, "must not be set without listenerPath");
        }
    }),
    ("syscalls", |seccomp, at, verdict| {
        for (which, rule) in seccomp.syscalls.iter().enumerate() {
            let at = &at.index(which);
            if rule.names.is_empty() {
                verdict.problem(&at.name("names"), "must hold at least one name");
            }
            verdict.one_of(&at.name("action"), &rule.action, names::SECCOMP_ACTIONS);
            errno(&at.name("errnoRet"), rule.errno_ret, &rule.action, verdict);
            for (which, arg) in rule.args.iter().enumerate() {
                let at = at.name("args");
                let at = at.index(which);
                verdict.within(&at.name("index"), arg.index, 0, 5);
                verdict.one_of(&at.name("op"), &arg.op, names::SECCOMP_OPERATORS);
            }
        }
    }),
];

/// "When the action doesn't support an errno, the runtime MUST print an error and fail."
fn errno(at: &At, errno: Option<u32>, action: &str, verdict: &mut Verdict) {
    /// MAX_ERRNO of the kernel.
    const LARGEST: u32 = 4095;
    match (errno, action) {
        (None, _) => {}
        (Some(errno), "SCMP_ACT_ERRNO") => verdict.within(at, errno, 0, LARGEST),
        (Some(message), "SCMP_ACT_TRACE") => verdict.within(at, message, 0, u32::from(u16::MAX)),
        (Some(errno), _) => {
            verdict.problem(at, format!("{errno}: {action:?} takes no errno; only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do"))
        }
    }
}

/// A call that waits for a listener which nobody will be would fail with ENOSYS.
pub(super) fn listener(spec: &Spec, at: &At, verdict: &mut Verdict) {
    let Some(seccomp) = spec.linux.as_deref().and_then(|linux| linux.seccomp.as_ref()) else { return };
    let by_annotation = spec.annotations.contains_key("run.oci.seccomp.receiver");
    if seccomp.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY") && seccomp.listener_path.is_empty() && !by_annotation
    {
        verdict.problem(&at.name("listenerPath"), "is required with the action SCMP_ACT_NOTIFY");
    }
}
