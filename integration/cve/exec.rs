// SPDX-License-Identifier: Apache-2.0
//! Joining a container that is hostile: what it can see of the process that comes in, and what that process is.

use std::fs;

use serde_json::{Value, json};

use super::exec;
use crate::harness::look::eventually;
use crate::harness::{Bundle, Call, Container, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2016_9962_nothing_is_seen_while_joining).seconds(120),
    test!(cve_2016_9962_nothing_is_seen_with_ptrace)
        .seconds(120)
        .differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(cve_2016_3697_user_is_a_number),
    test!(cve_2026_30892_exec_user_is_that_user).differs(&[("crun", "does this in another way")]),
    test!(exec_is_no_more_than_its_container).differs(&[("crun", "does this in another way")]),
    test!(cve_2022_31030_endless_output_is_not_kept),
];

/// A program in the container that looks at every process again and again, as fast as a shell can, and says what it saw that is not the
/// container's: an executable that is no busybox, a descriptor that leads to a directory or a file of the host.
const SPY: &str = r#"
own=$(stat -c %d:%i /)
passwd=$(stat -c %d:%i /etc/passwd)
exec 2>/dev/null
echo ready
while [ ! -e /stop ]; do
    for p in /proc/[0-9]*; do
        case $p in /proc/1|/proc/$$) continue;; esac
        exe=$(readlink $p/exe) || continue
        case $exe in */busybox|'') ;; *) echo "saw exe $exe";; esac
        for fd in $p/fd/*; do
            to=$(readlink $fd) || continue
            case $to in
                pipe:*|socket:*|/dev/null|/dev/pts/*|/dev/console|/proc/*|anon_inode:*) ;;
                /bin/*|/stop|/dev/*) ;;
                # The image's own file, which the home directory is looked up in; it is looked at as well.
                /etc/passwd) at=$(stat -Lc %d:%i $fd) || continue; [ "$at" = "$passwd" ] || echo "saw fd $to of another root";;
                # The container's own root; what it is a directory of is looked at, not its name.
                /) at=$(stat -c %d:%i $fd/.) || continue; [ "$at" = "$own" ] || echo "saw fd / of another root";;
                *) echo "saw fd $to";;
            esac
        done
        cwd=$(stat -c %d:%i $p/cwd/.) || continue
        case $cwd in $own) ;; *) echo "saw cwd $cwd";; esac
        root=$(stat -c %d:%i $p/root/.) || continue
        case $root in $own) ;; *) echo "saw root $root";; esac
    done
done
echo end
"#;

fn spied_on(capabilities: &Value) -> (Bundle, String) {
    let mut bundle = Bundle::sh(SPY);
    bundle
        .set("/process/capabilities", json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities }));
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    // From pipes, so that what the programs inherit is not a file of the host.
    for _ in 0..40 {
        exec(&container, &[], &["/bin/true"]).ok();
    }
    fs::write(bundle.inside("/stop"), "").unwrap();
    let seen = container.wait_stdout("end\n");
    drop(container);
    (bundle, seen)
}

/// The process is undumpable before it is in a namespace of the container's.
fn cve_2016_9962_nothing_is_seen_while_joining() {
    let (_bundle, seen) = spied_on(&json!(["CAP_KILL"]));
    assert!(!seen.contains("saw"), "{seen}");
}

/// With CAP_SYS_PTRACE the container sees an undumpable process too: there must be nothing to be had from it. Its executable is the one
/// that it cannot write to, which `binary` is about.
fn cve_2016_9962_nothing_is_seen_with_ptrace() {
    let (_bundle, seen) = spied_on(&json!(["CAP_KILL", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]));
    let had: Vec<&str> = seen.lines().filter(|line| line.starts_with("saw") && !line.starts_with("saw exe")).collect();
    assert!(had.is_empty(), "{had:?}");
}

fn id_of(container: &Container, user: &str) -> String {
    exec(container, &["--user", user], &["/bin/sh", "-c", "id -u; id -g; id -G"]).ok().replace('\n', " ")
}

/// A name that looks like a number, in the image's own files.
fn cve_2016_3697_user_is_a_number() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let passwd = "1000:x:0:0::/evil:/bin/sh\n+1000:x:0:0::/:\nroot:x:0:0::/root:\nuser:x:1000:1000::/home:\n";
    fs::write(bundle.inside("/etc/passwd"), passwd).unwrap();
    fs::write(bundle.inside("/etc/group"), "1000:x:0:1000\nroot:x:0:1000,user\nwheel:x:10:1000,user\n").unwrap();
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let container = bundle.run_detached();
    let pid = container.pid();
    assert_eq!(crate::harness::look::status(pid, "Uid").unwrap(), "1000 1000 1000 1000");
    assert_eq!(crate::harness::look::status(pid, "Groups").unwrap(), "");
    assert_eq!(id_of(&container, "1000:1000"), "1000 1000 1000 ");
    let output = exec(&container, &["--user", "1000"], &["/bin/sh", "-c", "id -u; echo $HOME"]).ok();
    assert!(output.starts_with("1000\n") && !output.contains("evil"), "{output}");
}

fn cve_2026_30892_exec_user_is_that_user() {
    let container = Bundle::args(&["/bin/sleep", "1000"]).run_detached();
    for (user, uid) in
        [("1", "1"), ("1:1", "1"), ("1:0", "1"), ("1000", "1000"), ("65534:65534", "65534"), ("4294967294:5", "4294967294")]
    {
        let ids = id_of(&container, user);
        assert!(ids.starts_with(&format!("{uid} ")), "--user {user}: {ids}");
        let status = exec(&container, &["--user", user], &["/bin/cat", "/proc/self/status"]).ok();
        let field = |name| crate::harness::look::status_field(&status, name);
        assert_eq!(field("Uid"), [uid; 4].join(" "), "--user {user}");
        assert_eq!(
            (field("CapEff").as_str(), field("CapPrm").as_str()),
            ("0000000000000000", "0000000000000000"),
            "--user {user}"
        );
    }
}

/// CVE-2025-27612 and others: one more process has the rights of the first, and no more: capabilities, no_new_privs, seccomp, groups,
/// umask, namespaces, cgroup.
fn exec_is_no_more_than_its_container() {
    let mut bundle = Bundle::sh("umask; cat /proc/self/status; exec sleep 1000");
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1001, "umask": 0o77, "additionalGids": [5, 6] }));
    bundle.set("/process/noNewPrivileges", json!(true));
    let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
    bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    let container = bundle.run_detached();
    let first = container.wait_stdout("Seccomp_filters");
    let more = exec(&container, &[], &["/bin/sh", "-c", "umask; cat /proc/self/status"]).ok();
    let fields = |text: &str| {
        let names = [
            "Uid",
            "Gid",
            "Groups",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Seccomp_filters",
        ];
        let umask = text.lines().find(|line| line.starts_with('0')).unwrap_or_default().to_owned();
        let all: Vec<String> =
            names.iter().map(|name| format!("{name} {}", crate::harness::look::status_field(text, name))).collect();
        (umask, all)
    };
    assert_eq!(fields(&first), fields(&more));
    assert_eq!(crate::harness::look::status_field(&more, "Seccomp"), "2");
    let absent = {
        let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
        bundle.unset("/process", "capabilities");
        bundle.run_detached()
    };
    let status = exec(&absent, &[], &["/bin/cat", "/proc/self/status"]).ok();
    if crate::harness::call::runtime_name().as_deref() == Some("berth") {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(crate::harness::look::status_field(&status, set), "0000000000000000", "{set} without capabilities");
        }
    }
}

/// CVE-2022-31030, CVE-2022-1708: what an exec prints is the caller's to read; the runtime keeps none of it.
fn cve_2022_31030_endless_output_is_not_kept() {
    let container = Bundle::args(&["/bin/sleep", "1000"]).run_detached();
    let null = || fs::File::options().write(true).open("/dev/null").unwrap();
    let call = Call::new(&["exec", &container.id, "/bin/sh", "-c", "yes | head -c 20000000"]);
    let mut child = call.spawn_with(null(), null());
    let pid = i32::try_from(child.id()).unwrap();
    let mut most = 0;
    eventually("the exec ends", || {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let size = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse::<u64>().ok());
        most = most.max(size.unwrap_or(0));
        child.try_wait().unwrap().is_some()
    });
    assert!(most < 64 << 10, "the runtime had {most} KiB");
}
