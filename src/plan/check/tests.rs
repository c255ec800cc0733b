// SPDX-License-Identifier: Apache-2.0
//! Hosts as values: what `check` says of each.

use super::*;
use crate::linux::types::KernelVersion;
use crate::plan::resources::V1Hierarchy;
use crate::plan::{self, Id, Request};
use crate::spec::types::Spec;
use crate::spec::{example, fixtures};

/// A present-day machine, asked by root.
fn survey() -> Survey {
    Survey {
        host: Host::example(),
        namespaces: Namespaces::all(),
        no_user_namespace: None,
        proc_masked_at: Vec::new(),
        sys_masked_at: Vec::new(),
        seccomp: true,
        filesystems: ["proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"].map(String::from).into(),
        hard_limits: vec![1 << 20; 16],
        oom_score_adj: 0,
        granted_uids: Vec::new(),
        granted_gids: Vec::new(),
        state_root: ("/run/berth".into(), None),
        criu: Some("/usr/sbin/criu".into()),
        cgroup: Some(CgroupPlace {
            path: "/sys/fs/cgroup/system.slice".into(),
            controllers: Host::example().v2_controllers,
            passes_on: vec!["memory".into(), "pids".into()],
            writable: true,
            busy: false,
        }),
        bundle: None,
    }
}

/// An ordinary user of it, in a session of systemd, with newuidmap and granted ids.
fn user() -> Survey {
    let cgroup = CgroupPlace {
        path: "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service".into(),
        controllers: vec!["memory".into(), "pids".into()],
        ..survey().cgroup.unwrap()
    };
    Survey {
        host: Host { euid: 1000, egid: 1000, capabilities: CapSet::default(), ..Host::example() },
        granted_uids: vec![(100_000, 65_536)],
        granted_gids: vec![(100_000, 65_536)],
        state_root: ("/run/user/1000/berth".into(), None),
        cgroup: Some(cgroup),
        ..survey()
    }
}

fn usual(survey: &Survey) -> Spec {
    let mut spec = match survey.host.euid {
        0 => example::example(),
        uid => example::rootless_example(uid, survey.host.egid),
    };
    spec.process.as_deref_mut().unwrap().terminal = false;
    spec
}

fn of(survey: &Survey, spec: &Spec) -> Vec<Finding> {
    let request = Request::create(Id::parse("check").unwrap(), "/bundle", "/run/berth");
    let plan = plan::create(spec, &request, &survey.host);
    check(survey, plan.as_ref().map_err(Vec::as_slice))
}

/// What is not as it should be, with its verdict, its code and its field.
fn wrong(found: &[Finding]) -> Vec<(Verdict, &str, &str)> {
    let bad = found.iter().filter(|finding| finding.verdict != Verdict::Works);
    bad.map(|finding| (finding.verdict, finding.code.map_or("", Code::name), finding.at.as_str())).collect()
}

#[track_caller]
fn only(survey: &Survey, spec: &Spec, expected: &[(Verdict, &str, &str)]) -> Vec<Finding> {
    let found = of(survey, spec);
    assert_eq!(wrong(&found), expected, "{found:#?}");
    assert_eq!(worst(&found), expected.iter().map(|(verdict, ..)| *verdict).max().unwrap_or(Verdict::Works));
    for finding in found.iter().filter(|finding| finding.verdict == Verdict::Fails) {
        assert!(!finding.why.is_empty() && !finding.remedy.is_empty() && finding.code.is_some(), "{finding:?}");
    }
    found
}

use Verdict::{Degrades, Fails};

#[test]
fn on_a_present_day_machine_all_works_for_root() {
    let found = only(&survey(), &usual(&survey()), &[]);
    for what in ["kernel", "namespaces", "user namespaces", "cgroups", "controllers", "seccomp", "state root", "device filter"] {
        assert!(found.iter().any(|finding| finding.what == what), "nothing of {what}: {found:#?}");
    }
}

#[test]
fn on_an_old_kernel_nothing_works_and_that_is_told_once() {
    let mut old = survey();
    old.host.kernel = KernelVersion { major: 5, minor: 10 };
    let found = only(&old, &usual(&old), &[(Fails, "E-KERNEL-TOO-OLD", "")]);
    assert!(found[0].why.contains("5.10") && found[0].why.contains("5.14"), "{:?}", found[0]);
}

#[test]
fn in_a_container_with_a_masked_proc_a_user_namespace_gets_no_new_one() {
    let mut inner = survey();
    inner.host.initial_user_namespace = false;
    inner.proc_masked_at = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/scsi"].map(String::from).into();
    let found = of(&inner, &usual(&inner));
    assert!(wrong(&found).contains(&(Fails, "E-PROC-MASKED", "mounts[0]")), "{found:#?}");
    let proc = found.iter().find(|finding| finding.what == "proc").unwrap();
    assert!(proc.why.contains("/proc/kcore") && proc.why.contains("1 more"), "{proc:?}");
    // Root of the machine may, whatever is mounted there.
    let outer = Survey { proc_masked_at: inner.proc_masked_at, ..survey() };
    only(&outer, &usual(&outer), &[]);
}

#[test]
fn an_ordinary_user_without_newuidmap_has_one_id() {
    only(&user(), &usual(&user()), &[(Degrades, "", "")]);
    let mut bare = user();
    (bare.host.newuidmap, bare.host.newgidmap) = (None, None);
    let found = of(&bare, &usual(&bare));
    assert!(wrong(&found).contains(&(Degrades, "E-NEWUIDMAP", "")), "{found:#?}");
    assert_eq!(worst(&found), Degrades, "{found:#?}");
}

#[test]
fn mappings_that_nobody_granted_fail() {
    let mut spec = usual(&user());
    let linux = spec.linux.as_deref_mut().unwrap();
    linux.uid_mappings[0].size = 1;
    linux.uid_mappings.push(crate::spec::types::IdMapping { container_id: 1, host_id: 100_000, size: 65_536 });
    linux.gid_mappings.push(crate::spec::types::IdMapping { container_id: 1, host_id: 100_000, size: 65_536 });
    let found = of(&user(), &spec);
    assert_ne!(worst(&found), Fails, "{found:#?}");
    let poor = Survey { granted_gids: vec![(100_000, 1000)], ..user() };
    let found = of(&poor, &spec);
    assert!(wrong(&found).contains(&(Fails, "E-SUBIDS", "linux.gidMappings")), "{found:#?}");
}

#[test]
fn a_host_that_forbids_user_namespaces_is_named() {
    let mut ubuntu = user();
    ubuntu.no_user_namespace = Some("kernel.apparmor_restrict_unprivileged_userns is 1".into());
    let found = of(&ubuntu, &usual(&ubuntu));
    assert!(wrong(&found).contains(&(Fails, "E-USER-NAMESPACE", "")), "{found:#?}");
    // Root needs none.
    let root = Survey { no_user_namespace: ubuntu.no_user_namespace, ..survey() };
    only(&root, &usual(&root), &[(Degrades, "E-USER-NAMESPACE", "")]);
}

#[test]
fn a_hybrid_host_degrades_and_a_limit_without_a_controller_fails() {
    let mut hybrid = survey();
    hybrid.host.cgroup = CgroupMode::Hybrid;
    hybrid.host.v2_controllers.clear();
    let hierarchy =
        |name: &str| V1Hierarchy { controllers: vec![name.into()], mount: format!("/sys/fs/cgroup/{name}"), own: "/".into() };
    hybrid.host.v1_hierarchies = ["cpu", "cpuset", "blkio", "pids"].map(hierarchy).into();
    hybrid.cgroup.as_mut().unwrap().controllers.clear();
    let mut spec = usual(&hybrid);
    only(&hybrid, &spec, &[(Degrades, "", ""), (Degrades, "E-CONTROLLER", "")]);
    let resources = spec.linux.as_deref_mut().unwrap().resources.as_mut().unwrap();
    resources.memory = Some(crate::spec::types::Memory { limit: Some(1 << 28), ..Default::default() });
    let found = of(&hybrid, &spec);
    assert!(wrong(&found).contains(&(Fails, "E-CONTROLLER", "linux.resources.memory.limit")), "{found:#?}");
}

#[test]
fn a_user_without_delegation_goes_without_a_cgroup_unless_something_is_asked() {
    let mut plain = user();
    let place = plain.cgroup.as_mut().unwrap();
    (place.path, place.writable) = ("/sys/fs/cgroup/user.slice".into(), false);
    let mut spec = usual(&plain);
    let found = of(&plain, &spec);
    assert!(wrong(&found).contains(&(Degrades, "E-DELEGATION", "linux.cgroupsPath")), "{found:#?}");
    let pids = crate::spec::types::Pids { limit: Some(10) };
    spec.linux.as_deref_mut().unwrap().resources = Some(crate::spec::types::Resources { pids: Some(pids), ..Default::default() });
    let found = of(&plain, &spec);
    assert!(wrong(&found).contains(&(Fails, "E-DELEGATION", "linux.cgroupsPath")), "{found:#?}");
}

#[test]
fn a_cgroup_with_processes_passes_no_controllers_on() {
    let mut spec = usual(&survey());
    let resources = spec.linux.as_deref_mut().unwrap().resources.as_mut().unwrap();
    resources.cpu = Some(crate::spec::types::Cpu { shares: Some(2048), ..Default::default() });
    let mut busy = survey();
    busy.cgroup.as_mut().unwrap().busy = true;
    only(&busy, &spec, &[(Fails, "E-CGROUP-BUSY", "linux.resources.cpu.shares")]);
    busy.cgroup.as_mut().unwrap().passes_on.push("cpu".into());
    only(&busy, &spec, &[]);
}

#[test]
fn a_machine_without_cgroups_seccomp_or_a_namespace() {
    let mut bare = survey();
    bare.host.cgroup = CgroupMode::Absent;
    bare.host.v2_controllers.clear();
    (bare.cgroup, bare.seccomp) = (None, false);
    bare.namespaces.remove(Namespaces::TIME | Namespaces::UTS);
    let found = of(&bare, &usual(&bare));
    let all = wrong(&found);
    for expected in [(Degrades, "E-NO-CGROUP", ""), (Degrades, "E-SECCOMP", ""), (Degrades, "E-NAMESPACE-KIND", "")] {
        assert!(all.contains(&expected), "{expected:?}: {found:#?}");
    }
    // The container has a UTS namespace of its own.
    assert!(all.contains(&(Fails, "E-NAMESPACE-KIND", "")), "{found:#?}");
}

#[test]
fn limits_that_only_a_mightier_runtime_could_set() {
    let mut small = survey();
    small.host.capabilities = CapSet(small.host.capabilities.0 & !SYS_RESOURCE.0);
    small.hard_limits = vec![512; 16];
    let mut spec = usual(&small);
    spec.process.as_deref_mut().unwrap().oom_score_adj = Some(-500);
    only(&small, &spec, &[(Fails, "E-RLIMIT", "process.rlimits[0]"), (Fails, "E-OOM-SCORE", "process.oomScoreAdj")]);
    small.host.capabilities = Host::example().capabilities;
    only(&small, &spec, &[]);
}

#[test]
fn modules_that_are_missing_on_this_host() {
    let spec = Spec {
        process: {
            let mut process = usual(&survey()).process;
            process.as_deref_mut().unwrap().apparmor_profile = "x".into();
            process
        },
        ..usual(&survey())
    };
    only(&survey(), &spec, &[(Fails, "E-LSM-MISSING", "process.apparmorProfile")]);
    let mut with = survey();
    with.host.apparmor = true;
    only(&with, &spec, &[]);
    let mut without = survey();
    without.filesystems.retain(|name| name != "mqueue");
    only(&without, &usual(&without), &[(Degrades, "E-MOUNT-TYPE", "mounts[4]")]);
}

#[test]
fn what_a_bundle_lacks_is_named_with_its_field() {
    let mut with = survey();
    let named = |name: &str, at: &str| vec![(name.to_string(), at.to_string())];
    with.bundle = Some(BundleFacts {
        program: Program::NoInterpreter { path: "/bin/app".into(), interpreter: "/lib64/ld-linux-x86-64.so.2".into() },
        missing_sources: named("/srv/data", "mounts[7]"),
        missing_hooks: named("/usr/bin/hook", "hooks.createRuntime[0]"),
        missing_sysctls: named("net.none", "linux.sysctl[\"net.none\"]"),
        ..BundleFacts::default()
    });
    let expected = [
        (Fails, "E-INTERPRETER", "process.args[0]"),
        (Fails, "E-MOUNT-SOURCE", "mounts[7]"),
        (Fails, "E-HOOK", "hooks.createRuntime[0]"),
        (Fails, "E-SYSCTL", "linux.sysctl[\"net.none\"]"),
    ];
    only(&with, &usual(&with), &expected);
    with.bundle = Some(BundleFacts { rootfs: Some("is missing".into()), ..BundleFacts::default() });
    only(&with, &usual(&with), &[(Fails, "E-ROOTFS", "root.path")]);
    let foreign = Program::Foreign { path: "/bin/app".into(), machine: "aarch64".into() };
    with.bundle = Some(BundleFacts { program: foreign, noexec: true, ..BundleFacts::default() });
    let expected = [(Degrades, "E-ARCHITECTURE", "process.args[0]"), (Fails, "E-NOEXEC", "root.path")];
    only(&with, &usual(&with), &expected);
}

/// Whatever the fixtures ask for, on whichever host: every finding is complete.
#[test]
fn every_finding_of_every_fixture_is_complete() {
    for (name, text) in fixtures::ALL {
        let spec = crate::spec::load::parse_config(text.as_bytes()).unwrap();
        for survey in [survey(), user()] {
            for finding in of(&survey, &spec) {
                assert!(!finding.what.is_empty() && !finding.why.is_empty(), "{name}: {finding:?}");
                assert!(finding.verdict != Fails || !finding.remedy.is_empty(), "{name}: {finding:?}");
            }
        }
    }
}
