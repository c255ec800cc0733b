// SPDX-License-Identifier: Apache-2.0
//! Writes to /proc that go to something which is not the kernel's file.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Outside, attempt, exec, replace_by_link, without_mounts};
use crate::harness::{Bundle, Call, Need, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2025_52881_sysctl_with_a_proc_of_the_image)
        .needs(&[Need::Program("nsenter")])
        .differs(&[("crun", "does this in another way"), ("runc", "does this in another way")]),
    test!(cve_2025_62596_sysctl_files_that_are_links),
    test!(cve_2025_52881_exec_with_a_proc_of_the_container).differs(&[("runc", "does this in another way")]),
    test!(cve_2014_8989_groups_cannot_be_dropped_by_ordinary_users)
        .differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(kernel_files_stay_masked_and_read_only),
];

/// CVE-2025-52881, CVE-2025-62596, CVE-2019-16884, LXC's CVE-2015-1334: the image has a /proc of plain files, and nothing is mounted on
/// it. The parameter is set in the kernel all the same, and not in the image.
fn cve_2025_52881_sysctl_with_a_proc_of_the_image() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    without_mounts(&mut bundle, "/proc");
    bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    let fakes = ["proc/sys/net/ipv4/ip_forward", "proc/self/attr/exec", "proc/self/oom_score_adj", "proc/thread-self/attr/exec"];
    for fake in fakes {
        fs::create_dir_all(bundle.inside(fake).parent().unwrap()).unwrap();
        fs::write(bundle.inside(fake), "fake\n").unwrap();
    }
    bundle.set("/process/oomScoreAdj", json!(77));
    let container = bundle.run_detached();
    let pid = container.pid().to_string();
    let value = Call::program(&["nsenter", "-t", &pid, "-n", "cat", "/proc/sys/net/ipv4/ip_forward"]).output().ok();
    assert_eq!(value, "1\n", "the kernel's parameter was not set");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "77\n");
    for fake in fakes {
        assert_eq!(fs::read_to_string(bundle.inside(fake)).unwrap(), "fake\n", "{fake} was written to");
    }
}

/// The same with links in the image's /proc that lead to files of the kernel, or of the host.
fn cve_2025_62596_sysctl_files_that_are_links() {
    let outside = Outside::new();
    let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = pattern();
    for link in
        outside.links().into_iter().map(|link| format!("{link}/secret")).chain(["/proc/sys/kernel/core_pattern".to_owned()])
    {
        for mounted in [true, false] {
            let mut bundle = Bundle::sh("echo ran");
            bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
            if !mounted {
                without_mounts(&mut bundle, "/proc");
                bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
            }
            fs::create_dir_all(bundle.inside("/proc/sys/net/ipv4")).unwrap();
            symlink(&link, bundle.inside("/proc/sys/net/ipv4/ip_forward")).unwrap();
            attempt(&bundle);
            outside.assert_untouched();
            assert_eq!(pattern(), before);
        }
    }
}

/// A container that mounts over its own /proc gets an exec no further than its own files: what exec sets is set on the process.
fn cve_2025_52881_exec_with_a_proc_of_the_container() {
    let mut bundle = Bundle::sh(
        "mkdir -p /fake/self/attr /fake/self/fd && echo fake >/fake/self/oom_score_adj && echo fake >/fake/self/attr/exec && \
         mount --bind /fake /proc && echo ready; exec sleep 1000",
    );
    let caps = json!(["CAP_SYS_ADMIN", "CAP_KILL"]);
    bundle.set("/process/capabilities", json!({ "bounding": caps, "effective": caps, "permitted": caps }));
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    let process = json!({ "args": ["/bin/sh", "-c", "cat /proc/self/oom_score_adj; echo $$"], "cwd": "/", "env": ["PATH=/bin"],
        "oomScoreAdj": 123, "noNewPrivileges": true });
    let file = crate::harness::bundle::folder().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let output = exec(&container, &["--process", file.to_str().unwrap()], &[]).ok();
    assert!(output.starts_with("fake\n"), "something of the exec was written into the container's file: {output}");
    assert_eq!(fs::read_to_string(bundle.inside("/fake/self/attr/exec")).unwrap(), "fake\n");
}

/// An ordinary user who maps his own id alone: setgroups(2) is denied, or he could leave a group that shuts him out.
fn cve_2014_8989_groups_cannot_be_dropped_by_ordinary_users() {
    let mut bundle = Bundle::sh("cat /proc/self/setgroups; cat /proc/self/gid_map");
    bundle.unset("/linux", "cgroupsPath");
    for dir in ["", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp"] {
        std::os::unix::fs::chown(bundle.inside(dir), Some(super::inherited::USER), Some(super::inherited::USER)).unwrap();
    }
    bundle.user_namespace(&[(0, super::inherited::USER, 1)]);
    bundle.save();
    let output = super::inherited::as_user(&["run", "--bundle", bundle.path(), &bundle.id]).output().ok();
    assert!(output.starts_with("deny\n"), "{output}");
}

/// What links of the image in /proc cannot change, because the procfs lies over it.
fn kernel_files_stay_masked_and_read_only() {
    let outside = Outside::new();
    let mut bundle = Bundle::sh("stat -c %t:%T /proc/version; echo 1 >/proc/sys/kernel/panic; exit 0");
    bundle.set("/linux/maskedPaths", json!(["/proc/version"]));
    symlink(outside.path(), bundle.inside("/proc/version")).unwrap();
    replace_by_link(&bundle, "/proc/sys", outside.path());
    let output = attempt(&bundle);
    assert_eq!(output.stdout, "1:3\n");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    outside.assert_untouched();
}
