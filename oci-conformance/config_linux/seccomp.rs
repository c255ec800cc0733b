// SPDX-License-Identifier: Apache-2.0
//! config-linux.md: errors in Seccomp, Masked Paths and Readonly Paths.
use crate::entry::Level::{Must, MustNot};
use crate::entry::{Outcome, Section, tested};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::json;

pub const SECCOMP: Section = Section {
    name: "config-linux.md#seccomp",
    entries: &[
        tested(
            "1",
            Must,
            "When the action doesn't support an errno",
            default_errno,
            Break::Config(|config| config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" })),
        ),
        tested(
            "6",
            MustNot,
            "This field MUST NOT be set if listenerPath is not set",
            metadata_alone,
            Break::Config(|config| {
                drop(config["linux"]["seccomp"].as_object_mut().map(|seccomp| seccomp.remove("listenerMetadata")))
            }),
        ),
        tested(
            "7",
            Must,
            "names MUST contain at least one entry",
            no_names,
            Break::Config(|config| config["linux"]["seccomp"]["syscalls"] = json!([])),
        ),
        tested(
            "8",
            Must,
            "When the action doesn't support an errno",
            errno,
            Break::Config(|config| config["linux"]["seccomp"]["syscalls"] = json!([])),
        ),
    ],
};

pub const MASKED_PATHS: Section = Section {
    name: "config-linux.md#masked-paths",
    entries: &[tested(
        "1",
        Must,
        "The values MUST be absolute paths",
        |suite| suite.refuses(|config| config["linux"]["maskedPaths"] = json!(["proc/kcore"])),
        Break::Config(|config| config["linux"]["maskedPaths"] = json!(["/proc/kcore"])),
    )],
};

pub const READONLY_PATHS: Section = Section {
    name: "config-linux.md#readonly-paths",
    entries: &[tested(
        "1",
        Must,
        "The values MUST be absolute paths",
        |suite| suite.refuses(|config| config["linux"]["readonlyPaths"] = json!(["proc/sys"])),
        Break::Config(|config| config["linux"]["readonlyPaths"] = json!(["/proc/sys"])),
    )],
};

fn default_errno(suite: &Suite) -> Outcome {
    suite.refuses(|config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 7 });
    })
}

fn errno(suite: &Suite) -> Outcome {
    suite.refuses(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS", "errnoRet": 7 }],
        });
    })
}

fn metadata_alone(suite: &Suite) -> Outcome {
    suite.refuses(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerMetadata": "conformance",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
        });
    })
}

fn no_names(suite: &Suite) -> Outcome {
    suite.refuses(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": [], "action": "SCMP_ACT_ERRNO" }],
        });
    })
}
