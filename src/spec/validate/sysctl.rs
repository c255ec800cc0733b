// SPDX-License-Identifier: Apache-2.0
//! Rules for `linux.sysctl` (config-linux.md, "Sysctl"): only kernel parameters that a namespace of the container has for itself.

use super::Verdict;
use crate::spec::{At, Linux};
use crate::texts::{Texts, texts};

/// Parameters of the IPC namespace (ipc/ipc_sysctl.c); those of POSIX queues are below fs.mqueue (ipc/mq_sysctl.c).
const IPC: Texts = texts![
    "auto_msgmni",
    "msg_next_id",
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "sem_next_id",
    "shm_next_id",
    "shm_rmid_forced",
    "shmall",
    "shmmax",
    "shmmni",
];

/// The file below /proc/sys of a parameter: `net.ipv4.ip_forward` and `net/ipv4/ip_forward` are `net/ipv4/ip_forward`.
///
/// As sysctl(8) has it, the first separator decides: behind a "." first, "." and "/" change places, so that
/// `net.ipv4.conf.eth0/100.forwarding` is `net/ipv4/conf/eth0.100/forwarding`. None when the result is no plain path downwards.
pub fn sysctl_path(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'.' => {
            let swap = |letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_string(),
    };
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (plain && !path.contains(|letter: char| letter.is_control() || letter == ' ')).then_some(path)
}

/// Each parameter must belong to a namespace that the container has for itself.
pub(super) fn sysctls(linux: &Linux, at: &At, verdict: &mut Verdict) {
    for (name, value) in &linux.sysctl {
        let at = &at.key(name);
        if value.contains('\n') {
            verdict.problem(at, format!("the value {value:?} is not one line"));
        }
        let Some(path) = sysctl_path(name) else {
            verdict.problem(at, format!("{name:?} is no name for a kernel parameter"));
            continue;
        };
        let (top, rest) = path.split_once('/').unwrap_or((&path, ""));
        let namespace = match top {
            "net" => "network",
            "user" => "user",
            "fs" if rest.starts_with("mqueue/") => "ipc",
            "kernel" if IPC.contains(rest) => "ipc",
            "kernel" if rest == "domainname" => "uts",
            "kernel" if rest == "hostname" => {
                verdict.problem(at, "conflicts with the field hostname; set that");
                continue;
            }
            _ => {
                verdict.problem(at, format!("{name:?} is not separate for each container: it would change the host"));
                continue;
            }
        };
        if !linux.has_namespace(namespace) {
            verdict.problem(at, format!("{name:?} would change the host: the container has no {namespace} namespace of its own"));
        }
    }
}
