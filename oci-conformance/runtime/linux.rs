// SPDX-License-Identifier: Apache-2.0
//! runtime-linux.md.
use crate::entry::Level::Must;
use crate::entry::{Outcome, Section, check, tested};
use crate::standin::{Break, undo};
use crate::suite::Suite;

pub const SYMLINKS: Section = Section {
    name: "runtime-linux.md#dev-symbolic-links",
    entries: &[tested(
        "1",
        Must,
        "runtimes MUST create the following symlinks",
        links,
        Break::Config(|config| undo(config, "unlink:/dev/stderr")),
    )],
};

fn links(suite: &Suite) -> Outcome {
    let links = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ];
    let actions = links.map(|(link, _)| format!("stat:{link}"));
    let seen = suite.see(&actions.each_ref().map(String::as_str), |_| {})?;
    for (link, target) in links {
        let found = &seen.of(&format!("stat:{link}"))?["target"];
        check!(*found == target, "{link} is a link to {found}, not to {target}");
    }
    Ok(())
}
