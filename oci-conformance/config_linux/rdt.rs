// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, IntelRdt.
use crate::entry::Level::{Must, MustNot, Should};
use crate::entry::{AUTHOR, Outcome, Section, skip, tested, untestable};
use crate::standin::Break;
use crate::suite::Suite;
use serde_json::json;
use std::fs;

/// A runtime finds resctrl by the type of the mount, so that nothing else can stand in for it.
const HARDWARE: &str =
    "it needs a CPU with Resource Director Technology and a kernel with resctrl, which no machine that the suite runs on has";

pub const INTEL_RDT: Section = Section {
    name: "config-linux.md#intelrdt",
    entries: &[
        untestable("1", Must, "MUST write the container process ID to the tasks file", HARDWARE),
        tested(
            "2",
            Must,
            "If no mounted resctrl pseudo-filesystem is available",
            without_resctrl,
            Break::Config(|config| drop(config["linux"].as_object_mut().map(|linux| linux.remove("intelRdt")))),
        ),
        untestable("3", MustNot, "the runtime MUST NOT manipulate any resctrl", HARDWARE),
        untestable("4", Must, "the container MUST be assigned to the default CLOS", HARDWARE),
        untestable("5", Should, "The value SHOULD start with L3: and SHOULD NOT contain newlines", AUTHOR),
        untestable("6", Must, "The value MUST start with MB: and MUST NOT contain newlines", HARDWARE),
        untestable("7", MustNot, "The value MUST NOT contain newlines", HARDWARE),
        untestable(
            "8",
            Must,
            "The following rules on parameters MUST be applied",
            "it introduces a list: each rule has an entry of its own",
        ),
        untestable("9", Must, "If both l3CacheSchema and memBwSchema are set", HARDWARE),
        untestable("10", Must, "MUST write l3CacheSchema first and memBwSchema last", HARDWARE),
        untestable("11", Must, "If either l3CacheSchema or memBwSchema is set", HARDWARE),
        untestable("12", Must, "If schemata field is set", HARDWARE),
        untestable("13", MustNot, "runtimes MUST NOT write to schemata files", HARDWARE),
        untestable("14", Must, "If closID is not set, runtimes MUST use the container ID", HARDWARE),
        untestable("15", Must, "doesn't exist, the runtimes MUST create it", HARDWARE),
        untestable("16", Must, "runtimes MUST compare l3CacheSchema and/or memBwSchema value", HARDWARE),
        untestable("17", Must, "runtime MUST check if corresponding pre-configured directory", HARDWARE),
        untestable("18", Must, "runtime MUST assign container to this closID", HARDWARE),
        untestable("19", Must, "the runtime MUST remove the sub-directory", HARDWARE),
        untestable("20", MustNot, "the runtime MUST NOT remove the sub-directory", HARDWARE),
        untestable("21", Must, "MUST create a dedicated MON group", HARDWARE),
        untestable("22", Must, "as the name of the MON group", HARDWARE),
        untestable("23", Must, "MUST delete the MON group", HARDWARE),
        untestable("24", Must, "If creation of the MON group fails", HARDWARE),
    ],
};

fn without_resctrl(suite: &Suite) -> Outcome {
    let mounts = crate::seen::mounts(&fs::read_to_string("/proc/self/mountinfo")?);
    if mounts.iter().any(|mount| mount.kind == "resctrl") {
        skip!("resctrl is mounted here");
    }
    suite.refuses(|config| config["linux"]["intelRdt"] = json!({ "closID": "conformance", "memBwSchema": "MB:0=50" }))
}
