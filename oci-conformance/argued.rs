// SPDX-License-Identifier: Apache-2.0
//! The sentences that berth knowingly does not keep, each with the argument for it.
//!
//! They stay failed in every table; but a run in which nothing else fails succeeds, and its last line counts them as
//! skipped. A SHOULD leaves room for an argument; for a MUST it takes callers that would break.

/// Sentence, and why berth does otherwise.
const BERTH: &[(&str, &str)] = &[
    (
        "runtime.md#delete.2",
        "a created container is deleted, as runc does: containerd so deletes tasks that were never started; a running one is refused",
    ),
    (
        "config-linux.md#default-filesystems.1",
        "a container has the mounts that its configuration lists, and nothing that it did not ask for; `berth spec` lists them",
    ),
];

/// The argument of the runtime of this name for not keeping this sentence.
pub fn argument(runtime: &str, id: &str) -> Option<&'static str> {
    if runtime != "berth" {
        return None;
    }
    BERTH.iter().find(|(argued, _)| *argued == id).map(|(_, argument)| *argument)
}
