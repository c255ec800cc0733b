// SPDX-License-Identifier: Apache-2.0
//! What was asked and what the kernel has, side by side.

use super::*;
use crate::plan::{Host, Id, Request, create};
use crate::spec::{example, fixtures};

fn file(file: &str, asked: &str, now: &str) -> bool {
    let subject = Subject::CgroupFile { tree: Tree::V2, controller: String::new(), file: file.into() };
    agrees(&one(subject, asked, ""), now)
}

#[test]
fn values_are_compared_as_the_kernel_writes_them() {
    for (name, asked, now) in [
        ("memory.max", "536870912", "536870912"),
        ("memory.max", "10000", "8192"),
        ("memory.max", "-1", "max"),
        ("memory.limit_in_bytes", "-1", "9223372036854771712"),
        ("cpu.max", "50000 100000", "50000 100000"),
        ("cpu.max", "50000", "50000 100000"),
        ("cpuset.cpus", "0,1,2,3,7", "0-3,7"),
        ("io.max", "8:0 rbps=1048576", "8:16 rbps=1 wbps=max\n8:0 rbps=1048576 wbps=max riops=max wiops=max"),
        ("io.weight", "100", "default 100"),
        ("pids.max", "max", "max"),
    ] {
        assert!(file(name, asked, now), "{name}: {asked} and {now}");
    }
    for (name, asked, now) in [
        ("memory.max", "536870912", "268435456"),
        ("memory.max", "536870912", "max"),
        ("memory.max", "max", "4096"),
        ("pids.max", "100", "96"),
        ("cpu.max", "50000 100000", "max 100000"),
        ("cpuset.cpus", "0-3", "0-2"),
        ("io.max", "8:0 rbps=1", "8:16 rbps=1"),
        ("io.max", "8:0 rbps=1", ""),
    ] {
        assert!(!file(name, asked, now), "{name}: {asked} and {now}");
    }
}

#[test]
fn mounts_may_have_more_options_but_not_other_ones() {
    let agree = |asked: &str, now: &str| agrees(&one(Subject::Mount("/x".into()), asked, ""), now);
    assert!(agree("tmpfs nosuid,nodev", "tmpfs rw,nosuid,nodev,noexec,relatime"));
    assert!(agree("tmpfs nosuid,!noexec", "tmpfs rw,nosuid"));
    assert!(agree("proc", "proc rw") && agree("ro", "ext4 ro,relatime") && agree("a mount", "ext4 rw"));
    assert!(!agree("tmpfs nosuid", "tmpfs rw") && !agree("tmpfs", "ext4 rw") && !agree("!noexec", "ext4 rw,noexec"));
    assert!(!agree("a mount", "nothing"));
}

#[test]
fn everything_asked_has_a_place_and_words() {
    for (name, text) in fixtures::ALL {
        let spec = crate::spec::load::parse_config(text.as_bytes()).unwrap();
        let mut request = Request::create(Id::parse("example").unwrap(), "/bundle", "/run/berth");
        request.console_socket = spec.process.as_deref().and_then(|process| process.terminal.then(|| "/s".to_string()));
        let host = Host { apparmor: true, selinux: true, ..Host::example() };
        let Ok(plan) = create(&spec, &request, &host) else { continue };
        let all = expected(&plan);
        assert!(all.len() > 20, "{name}: only {}", all.len());
        for one in &all {
            assert!(!one.subject.name().is_empty() && !one.asked.contains('\n'), "{name}: {one:?}");
            assert!(agrees(one, one.asked.trim()), "{name}: {one:?}");
        }
    }
}

#[test]
fn the_example_asks_for_what_it_says() {
    let mut spec = example::example();
    spec.process.as_deref_mut().unwrap().terminal = false;
    let request = Request::create(Id::parse("x").unwrap(), "/bundle", "/run/berth");
    let plan = create(&spec, &request, &Host::example()).unwrap();
    let all = expected(&plan);
    let asked = |subject: Subject| all.iter().find(|one| one.subject == subject).map(|one| (one.asked.as_str(), one.at.as_str()));
    assert_eq!(asked(Subject::Namespace(Namespaces::PID)), Some((OWN, "linux.namespaces")));
    assert_eq!(asked(Subject::Namespace(Namespaces::USER)), Some((HOSTS, "linux.namespaces")));
    assert_eq!(asked(Subject::Status("CapEff")), Some(("0000000020000420", "process.capabilities.effective")));
    assert_eq!(asked(Subject::Status("Uid")), Some(("0 0 0 0", "process.user.uid")));
    assert_eq!(asked(Subject::Sysctl("kernel.hostname".into())), Some(("berth", "hostname")));
    assert_eq!(asked(Subject::ReadOnly("/".into())).map(|(asked, _)| asked), Some(READ_ONLY));
    assert_eq!(asked(Subject::Mount("/proc".into())), Some(("proc", "mounts[0]")));
    let limit = Subject::Rlimit { name: "RLIMIT_NOFILE".into(), resource: 7 };
    assert_eq!(asked(limit), Some(("1024 1024", "process.rlimits[0]")));
}

#[test]
fn policies_and_propagation_are_as_the_kernel_writes_them() {
    assert_eq!(memory_policy(2, &[0, 1, 3]), "bind:0-1,3");
    assert_eq!((memory_policy(3 | 1 << 15, &[0]), memory_policy(0, &[])), ("interleave=static:0".into(), "default".into()));
    let agree = |asked: &str, now: &str| agrees(&one(Subject::Propagation("/".into()), asked, ""), now);
    assert!(agree("slave", "shared,slave") && agree("private", "private") && agree("slave", "private"));
    assert!(!agree("private", "shared") && !agree("slave", "shared") && !agree("shared", "private"));
    let agree = |asked: &str, now: &str| agrees(&one(Subject::Schemata, asked, ""), now);
    assert!(agree("L3:0=f", "MB:0=100, L3:0=f;1=ff") && !agree("L3:0=f", "L3:0=ff"));
}

#[test]
fn ids_are_those_of_the_host() {
    let spec = example::rootless_example(1000, 100);
    let host = Host { euid: 1000, egid: 100, capabilities: CapSet::default(), ..Host::example() };
    let mut request = Request::create(Id::parse("x").unwrap(), "/bundle", "/run/berth");
    request.console_socket = Some("/s".into());
    let all = expected(&create(&spec, &request, &host).unwrap());
    let asked = |subject: Subject| all.iter().find(|one| one.subject == subject).map(|one| one.asked.as_str());
    assert_eq!(asked(Subject::Status("Uid")), Some("1000 1000 1000 1000"));
    assert_eq!(asked(Subject::Status("Gid")), Some("100 100 100 100"));
    assert_eq!(asked(Subject::IdMap("uid_map")), Some("0 1000 1"));
    assert_eq!(list(&[7, 0, 1, 2, 3, 3]), "0-3,7");
}
