// SPDX-License-Identifier: Apache-2.0
//! The commands that are struck, what each finds, and what it promises.

/// A command that is struck.
pub struct Operation {
    /// Of the row.
    pub name: &'static str,
    /// What it finds: nothing, an `image` of a container, or a container that is `created`, `running`, `paused` or `stopped`;
    /// `root running` is root's; a `crowd` is a host with many mounts, which keeps neither a mount namespace for them nor a device
    /// program yet, and a mount namespace of somebody else's in a directory that is bound.
    pub before: &'static str,
    /// Its words; BUNDLE, PIDFILE, IMAGES and ID stand for what they say, ENDING for a bundle whose program ends at
    /// once, ROOT for one whose program is root's, PLAIN for one without hooks.
    pub words: &'static str,
    /// The status of the container when it has succeeded; empty: gone.
    pub after: &'static str,
}

/// It must fail, and change nothing.
pub const REFUSED: &str = "delete-running";
/// Of a crowd: the directory that is bound.
pub const SOURCE: &str = "/run/source";
/// Makes a container on such a host.
pub const CROWD_RUN: &str = "run --detach --bundle PLAIN --pid-file PIDFILE ID";

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "create", before: "", words: "create --bundle BUNDLE --pid-file PIDFILE ID", after: "created" },
    Operation { name: "run", before: "", words: "run --detach --bundle BUNDLE --pid-file PIDFILE ID", after: "running" },
    Operation { name: "foreground-run", before: "", words: "run --bundle ENDING --pid-file PIDFILE ID", after: "" },
    Operation { name: "crowd-run", before: "crowd", words: CROWD_RUN, after: "running" },
    Operation { name: "start", before: "created", words: "start ID", after: "running" },
    Operation { name: "exec", before: "running", words: "exec ID /bin/true", after: "running" },
    Operation { name: "state", before: "running", words: "state ID", after: "running" },
    Operation { name: "state-created", before: "created", words: "state ID", after: "created" },
    Operation { name: "state-paused", before: "paused", words: "state ID", after: "paused" },
    Operation { name: "list", before: "running", words: "list --format json", after: "running" },
    Operation { name: "list-created", before: "created", words: "list --format json", after: "created" },
    Operation { name: "list-paused", before: "paused", words: "list --format json", after: "paused" },
    Operation { name: REFUSED, before: "running", words: "delete ID", after: "running" },
    Operation { name: "ps", before: "running", words: "ps --format json ID", after: "running" },
    Operation { name: "events", before: "running", words: "events --stats ID", after: "running" },
    Operation { name: "update", before: "running", words: "update --pids-limit 100 ID", after: "running" },
    Operation { name: "pause", before: "running", words: "pause ID", after: "paused" },
    Operation { name: "resume", before: "paused", words: "resume ID", after: "running" },
    Operation { name: "kill", before: "running", words: "kill ID KILL", after: "stopped" },
    Operation { name: "delete", before: "stopped", words: "delete ID", after: "" },
    Operation { name: "delete-force", before: "running", words: "delete --force ID", after: "" },
    Operation { name: "checkpoint", before: "root running", words: "checkpoint --image-path IMAGES/of-the-row ID", after: "" },
    Operation {
        name: "restore",
        before: "image",
        words: "restore --detach --bundle ROOT --image-path IMAGES/made --pid-file PIDFILE ID",
        after: "running",
    },
];

/// Whether this is what a command prints of a container in this status: JSON, with everything in it.
pub fn told_whole(stdout: &str, status: &str) -> bool {
    let Ok(printed) = serde_json::from_str::<serde_json::Value>(stdout) else { return false };
    match &printed {
        // `list` has containers, `ps` pids.
        serde_json::Value::Array(list) => list.len() == 1 && (list[0]["status"] == status || list[0].is_u64()),
        _ => printed["status"] == status || printed["data"].is_object(),
    }
}
