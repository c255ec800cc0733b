// SPDX-License-Identifier: Apache-2.0
//! Descriptors of the host: none is inside, and no working directory or program leads through one.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Outside, attempt, exec};
use crate::harness::{Bundle, Call, Container, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2024_21626_working_directory_by_a_descriptor),
    test!(cve_2024_21626_exec_in_a_directory_by_a_descriptor),
    test!(cve_2024_21626_program_by_a_descriptor),
    test!(descriptors_of_a_program_that_is_not_looking),
    test!(callers_descriptors_reach_neither_hooks_nor_exec).differs(&[("runc", "does this in another way")]),
    test!(cve_2017_5226_no_terminal_of_the_caller).needs(&[Need::Program("script")]),
];

/// What stands at the root, and far above the working directory.
const WHERE: &str = "stat -c %d:%i / . .. ../../../../../../../../.. 2>/dev/null | sort -u | wc -l; ls -a ../../../../../../..";

/// A process whose directory has no way up out of its root sees nothing else up there.
#[track_caller]
fn assert_inside(printed: &str, how: &str) {
    assert!(printed.contains("busybox-mark"), "{how}: what is above is not the container's root: {printed}");
}

fn cve_2024_21626_working_directory_by_a_descriptor() {
    let outside = Outside::new();
    for number in 3..24 {
        for path in
            [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/..{}", outside.path()), "/link".to_owned()]
        {
            let mut bundle = Bundle::sh(WHERE);
            fs::write(bundle.inside("/busybox-mark"), "").unwrap();
            symlink(format!("/proc/self/fd/{number}"), bundle.inside("/link")).unwrap();
            bundle.set("/process/cwd", json!(path));
            let output = attempt(&bundle);
            outside.assert_untouched();
            if output.status.success() {
                assert_inside(&output.stdout, &path);
            }
            if path == "/link" && number > 8 {
                break;
            }
        }
    }
}

fn sleeper() -> (Bundle, Container) {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    fs::write(bundle.inside("/busybox-mark"), "").unwrap();
    for number in 3..24 {
        symlink(format!("/proc/self/fd/{number}"), bundle.inside(&format!("/link{number}"))).unwrap();
    }
    let container = bundle.run_detached();
    (bundle, container)
}

fn cve_2024_21626_exec_in_a_directory_by_a_descriptor() {
    let (_bundle, container) = sleeper();
    for number in 3..24 {
        for path in [format!("/proc/self/fd/{number}"), format!("/link{number}"), format!("/proc/self/fd/{number}/../../..")] {
            let output = exec(&container, &["--cwd", &path], &["/bin/sh", "-c", WHERE]);
            if output.status.success() {
                assert_inside(&output.stdout, &path);
            }
        }
    }
}

/// The program, its interpreter, or a directory of PATH.
fn cve_2024_21626_program_by_a_descriptor() {
    let (_bundle, container) = sleeper();
    for number in 3..24 {
        for up in ["", "/..", "/../../../.."] {
            let program = format!("/proc/self/fd/{number}{up}/bin/sh");
            let output = exec(&container, &[], &[&program, "-c", "ls -a /"]);
            assert!(!output.status.success() || output.stdout.contains("busybox-mark"), "{program}: {output:?}");
        }
        let path = format!("PATH=/proc/self/fd/{number}/usr/bin");
        let output = exec(&container, &["--env", &path], &["bash", "--version"]);
        assert!(!output.status.success(), "a program of the host was found by {path}: {output:?}");
    }
    let mut bundle = Bundle::new();
    for number in 3..12 {
        bundle.set("/process/args", json!([format!("/proc/self/fd/{number}/bin/bash"), "--version"]));
        assert!(!attempt(&bundle).status.success());
    }
}

/// Every descriptor that is open when the program begins, and what it is.
fn descriptors_of_a_program_that_is_not_looking() {
    let list = "for fd in /proc/self/fd/*; do echo ${fd##*/} $(readlink $fd); done";
    let others = |printed: &str| -> Vec<String> {
        // The shell's own listing has one more, which leads to /proc.
        printed.lines().filter(|line| !["0 ", "1 ", "2 "].iter().any(|std| line.starts_with(std))).map(str::to_owned).collect()
    };
    let bundle = Bundle::sh(list);
    let printed = bundle.print();
    assert!(others(&printed).iter().all(|line| line.contains("/proc/") || !line.contains(' ')), "{printed}");
    let container = Bundle::args(&["/bin/sleep", "1000"]).run_detached();
    // As the host sees it, so that no listing is in the way.
    let pid = container.pid();
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(open.len(), 3, "{open:?}");
    let printed = exec(&container, &[], &["/bin/sh", "-c", list]).ok();
    assert!(others(&printed).iter().all(|line| line.contains("/proc/") || !line.contains(' ')), "{printed}");
}

/// What the caller has open by mistake, and what it passes on purpose to the program alone.
fn callers_descriptors_reach_neither_hooks_nor_exec() {
    let seen = crate::harness::bundle::folder().join("seen");
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let script = format!("ls /proc/self/fd >>{}", seen.display());
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    bundle.set("/hooks", json!({ "prestart": hook, "createRuntime": hook, "poststart": hook, "poststop": hook }));
    bundle.save();
    let container = bundle.container();
    let redirect = "exec 3</ 4</etc/passwd 7</proc 20</; exec \"$@\"";
    let words = ["run", "--detach", "--preserve-fds", "1", "--bundle", bundle.path(), bundle.id.as_str()];
    bundle.output_of(Call::through(&["bash", "-c", redirect, "bash"], &words)).ok();
    let pid = container.pid();
    let mut open: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2", "3"], "the one that was to be passed on, and no other");
    let words = ["exec", container.id.as_str(), "/bin/sh", "-c", "ls /proc/self/fd | wc -l"];
    assert_eq!(Call::through(&["bash", "-c", redirect, "bash"], &words).output().ok(), "4\n");
    drop(container);
    // ls itself has one.
    for line in fs::read_to_string(&seen).unwrap().lines() {
        assert!(["0", "1", "2", "3"].contains(&line), "a hook had descriptor {line}");
    }
}

/// CVE-2017-5226, CVE-2016-10124: TIOCSTI types into the caller's terminal. The program is in a session of its own, so that the caller's
/// terminal is not its controlling one.
fn cve_2017_5226_no_terminal_of_the_caller() {
    let bundle = Bundle::sh("cat /proc/self/stat; (exec 5</dev/tty) 2>/dev/null && echo has a terminal; exit 0");
    bundle.save();
    let runtime = crate::harness::call::runtime();
    let root = crate::harness::bundle::state_root();
    let command = format!("{} --root {} run --bundle {} {}", runtime.display(), root.display(), bundle.path(), bundle.id);
    let output = Call::program(&["script", "-qec", &command, "/dev/null"]).output().ok();
    assert!(!output.contains("has a terminal"), "{output}");
    // Field 7: the controlling terminal.
    let field = output.rsplit_once(')').unwrap().1.split_whitespace().nth(4).unwrap().to_owned();
    assert_eq!(field, "0", "{output}");
}
