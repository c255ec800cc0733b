// SPDX-License-Identifier: Apache-2.0
//! Tables for every conversion: resources as config.json has them, and what is written where.

use super::*;
use crate::plan::Id;

/// A host with both trees: cgroup2 has hugetlb alone, cgroup v1 the rest.
fn hybrid() -> Host {
    let hierarchy = |name: &str, own: &str| V1Hierarchy {
        controllers: name.split(',').map(String::from).collect(),
        mount: format!("/sys/fs/cgroup/{}", name.trim_start_matches("name=")),
        own: own.to_string(),
    };
    let mut host = Host::example();
    host.cgroup = CgroupMode::Hybrid;
    host.own_cgroup = "/a/b".to_string();
    host.v2_controllers = vec!["hugetlb".to_string()];
    host.v1_hierarchies = vec![
        hierarchy("cpu,cpuacct", "/"),
        hierarchy("cpuset", "/"),
        hierarchy("memory", "/process/1"),
        hierarchy("devices", "/"),
        hierarchy("blkio", "/"),
        hierarchy("pids", "/"),
        hierarchy("net_cls,net_prio", "/"),
        hierarchy("name=systemd", "/"),
    ];
    host
}

fn legacy() -> Host {
    Host { cgroup: CgroupMode::Legacy, v2_controllers: Vec::new(), ..hybrid() }
}

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Each write as `file=value`, with `?` where a missing file is harmless; or each problem as `at: rule`.
fn ask(json: &str, host: &Host) -> Result<Vec<String>, Vec<String>> {
    let show = |write: &CgroupWrite| {
        let absent = match &write.absent {
            Absent::Error => String::new(),
            Absent::Harmless => "?".to_string(),
            Absent::Instead { file, value } => format!(" or {file}={value}"),
        };
        format!("{}={}{absent}", write.file, write.value)
    };
    match limits(&resources(json), "", host) {
        Ok(limits) => Ok(limits.writes.iter().map(show).collect()),
        Err(problems) => Err(problems.into_iter().map(|problem| format!("{}: {}", problem.at, problem.rule)).collect()),
    }
}

#[track_caller]
fn writes(json: &str, host: &Host, want: &[&str]) {
    assert_eq!(ask(json, host).unwrap_or_else(|problems| panic!("{json}: {problems:?}")), want, "{json}");
}

/// One problem, at this field, with these words in it.
#[track_caller]
fn refuses(json: &str, host: &Host, at: &str, words: &str) {
    let problems = ask(json, host).expect_err(json);
    assert_eq!(problems.len(), 1, "{json}: {problems:?}");
    assert!(problems[0].starts_with(&format!("{at}: ")) && problems[0].contains(words), "{json}: {problems:?}");
}

#[test]
fn nothing_asked_is_nothing_written() {
    for json in [
        "{}",
        // What Docker sends when nothing was asked.
        r#"{"memory":{},"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""},"pids":{},"blockIO":{"weight":0,"weightDevice":[],
            "throttleReadBpsDevice":null},"hugepageLimits":[],"network":{"classID":0,"priorities":[]},"rdma":{},"unified":{}}"#,
        r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":0,"disableOOMKiller":false}}"#,
    ] {
        for host in [Host::example(), hybrid(), legacy()] {
            writes(json, &host, &[]);
        }
        let bare = Host { v2_controllers: Vec::new(), ..Host::example() };
        writes(json, &bare, &[]);
    }
}

#[test]
fn memory_in_v2() {
    let host = Host::example();
    writes(r#"{"memory":{"limit":1048576}}"#, &host, &["memory.max=1048576"]);
    writes(r#"{"memory":{"limit":-1}}"#, &host, &["memory.swap.max=max?", "memory.max=max?"]);
    writes(r#"{"memory":{"limit":100,"swap":300}}"#, &host, &["memory.swap.max=200", "memory.max=100"]);
    writes(r#"{"memory":{"limit":100,"swap":100}}"#, &host, &["memory.swap.max=0?", "memory.max=100"]);
    writes(r#"{"memory":{"limit":100,"swap":-1}}"#, &host, &["memory.swap.max=max?", "memory.max=100"]);
    writes(r#"{"memory":{"swap":-1}}"#, &host, &["memory.swap.max=max?"]);
    writes(r#"{"memory":{"reservation":50}}"#, &host, &["memory.low=50"]);
    writes(r#"{"memory":{"reservation":-1}}"#, &host, &["memory.low=max"]);
    refuses(r#"{"memory":{"swap":300}}"#, &host, "memory.swap", "unable to set swap limit without memory limit");
    refuses(r#"{"memory":{"limit":-1,"swap":300}}"#, &host, "memory.swap", "without memory limit");
    refuses(r#"{"memory":{"limit":400,"swap":300}}"#, &host, "memory.swap", "should be >= memory limit 400");
    refuses(r#"{"memory":{"limit":-2}}"#, &host, "memory.limit", "-2 is neither");
    refuses(r#"{"memory":{"reservation":-5}}"#, &host, "memory.reservation", "-5 is neither");
}

#[test]
fn memory_is_checked_before_it_is_lowered() {
    for (host, limit_file) in [(Host::example(), "memory.max"), (hybrid(), "memory.limit_in_bytes")] {
        let asked = limits(&resources(r#"{"memory":{"limit":100,"swap":300,"checkBeforeUpdate":true}}"#), "", &host).unwrap();
        let checks: Vec<(&str, Option<u64>)> =
            asked.writes.iter().map(|write| (write.file.as_str(), write.unless_used)).collect();
        assert!(checks.contains(&(limit_file, Some(100))), "{checks:?}");
        assert!(checks.iter().any(|(file, used)| file.contains("sw") && *used == Some(300)), "{checks:?}");
        let asked = limits(&resources(r#"{"memory":{"limit":100}}"#), "", &host).unwrap();
        assert_eq!(asked.writes[0].unless_used, None);
    }
}

#[test]
fn memory_of_v1_only_is_refused_or_said() {
    let host = Host::example();
    refuses(r#"{"memory":{"swappiness":60}}"#, &host, "memory.swappiness", "v2");
    refuses(r#"{"memory":{"disableOOMKiller":true}}"#, &host, "memory.disableOOMKiller", "v2");
    writes(r#"{"memory":{"swappiness":18446744073709551615,"disableOOMKiller":false}}"#, &host, &[]);
    let json = r#"{"memory":{"kernel":5,"kernelTCP":6,"useHierarchy":false}}"#;
    let asked = limits(&resources(json), RESOURCES, &Host::example()).unwrap();
    assert_eq!(asked.writes, []);
    let fields: Vec<&str> = asked.warnings.iter().map(|warning| warning.split(' ').next().unwrap()).collect();
    assert_eq!(
        fields,
        ["linux.resources.memory.useHierarchy", "linux.resources.memory.kernel", "linux.resources.memory.kernelTCP",]
    );
}

#[test]
fn shares_become_weights_as_the_peers_have_it() {
    // The three fixed points, then values between and outside.
    for (shares, weight) in [
        (2, 1),
        (1024, 100),
        (262_144, 10_000),
        (0, 1),
        (1, 1),
        (u64::MAX, 10_000),
        (512, 59),
        (2048, 174),
        (4096, 303),
        (256, 35),
        (100, 17),
        (10, 4),
        (3, 2),
        (204, 29),
        (262_143, 10_000),
    ] {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
    let mut last = 0;
    for shares in 0..300_000 {
        let weight = v2::weight_of_shares(shares);
        assert!(weight >= last && (1..=10_000).contains(&weight), "{shares} became {weight} after {last}");
        last = weight;
    }
}

#[test]
fn cpu_in_v2() {
    let host = Host::example();
    writes(r#"{"cpu":{"shares":1024}}"#, &host, &["cpu.weight=100"]);
    writes(r#"{"cpu":{"quota":50000,"period":100000}}"#, &host, &["cpu.max=50000 100000"]);
    writes(r#"{"cpu":{"quota":50000}}"#, &host, &["cpu.max=50000"]);
    writes(r#"{"cpu":{"quota":-1}}"#, &host, &["cpu.max=max?"]);
    writes(r#"{"cpu":{"quota":-1,"period":50000}}"#, &host, &["cpu.max=max 50000?"]);
    writes(r#"{"cpu":{"period":50000}}"#, &host, &["cpu.max=max 50000?"]);
    writes(r#"{"cpu":{"quota":50000,"burst":10000}}"#, &host, &["cpu.max=50000", "cpu.max.burst=10000"]);
    writes(r#"{"cpu":{"burst":0}}"#, &host, &["cpu.max.burst=0?"]);
    writes(r#"{"cpu":{"shares":2,"idle":1}}"#, &host, &["cpu.idle=1"]);
    writes(r#"{"cpu":{"shares":2,"idle":0}}"#, &host, &["cpu.weight=1", "cpu.idle=0?"]);
    writes(r#"{"cpu":{"idle":0}}"#, &host, &["cpu.idle=0?"]);
    writes(r#"{"cpu":{"cpus":"0-3,7","mems":"0"}}"#, &host, &["cpuset.cpus=0-3,7", "cpuset.mems=0"]);
    refuses(r#"{"cpu":{"idle":2}}"#, &host, "cpu.idle", "2 is neither 0");
    refuses(r#"{"cpu":{"realtimeRuntime":1000}}"#, &host, "cpu.realtimeRuntime", "real-time");
    refuses(r#"{"cpu":{"realtimePeriod":1000}}"#, &host, "cpu.realtimePeriod", "real-time");
    writes(r#"{"cpu":{"realtimeRuntime":0,"realtimePeriod":0}}"#, &host, &[]);
}

#[test]
fn pids_in_either_version() {
    for host in [Host::example(), hybrid()] {
        writes(r#"{"pids":{"limit":100}}"#, &host, &["pids.max=100"]);
        writes(r#"{"pids":{"limit":0}}"#, &host, &["pids.max=1"]);
        writes(r#"{"pids":{"limit":-1}}"#, &host, &["pids.max=max?"]);
        writes(r#"{"pids":{"limit":-7}}"#, &host, &["pids.max=max?"]);
    }
}

#[test]
fn block_io_in_v2() {
    let host = Host::example();
    for (weight, io) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
        let json = format!(r#"{{"blockIO":{{"weight":{weight}}}}}"#);
        writes(&json, &host, &[&format!("io.bfq.weight={weight} or io.weight={io}")]);
    }
    writes(
        r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":500},{"major":8,"minor":16,"weight":0}]}}"#,
        &host,
        &["io.bfq.weight=8:0 500 or io.weight=8:0 4950"],
    );
    writes(
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":16,"rate":2}],
            "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":3}],
            "throttleReadIOPSDevice":[{"major":8,"minor":16,"rate":4}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0},{"major":9,"minor":0,"rate":0}]}}"#,
        &host,
        &["io.max=8:0 rbps=1 wbps=3 wiops=max", "io.max=8:16 rbps=2 riops=4", "io.max=9:0 wiops=max?"],
    );
    refuses(r#"{"blockIO":{"weight":9}}"#, &host, "blockIO.weight", "9 is not between");
    refuses(r#"{"blockIO":{"weight":1001}}"#, &host, "blockIO.weight", "1001 is not between");
    refuses(
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
        &host,
        "blockIO.throttleReadBpsDevice[0].major",
        "-1 is no major",
    );
    let leaf =
        limits(&resources(r#"{"blockIO":{"leafWeight":100,"weightDevice":[{"major":8,"minor":0,"leafWeight":9}]}}"#), "", &host)
            .unwrap();
    assert_eq!((leaf.writes.len(), leaf.warnings.len()), (0, 2));
}

#[test]
fn huge_pages_and_rdma() {
    let host = Host::example();
    writes(
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304},{"pageSize":"1GB","limit":0}]}"#,
        &host,
        &["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304", "hugetlb.1GB.max=0", "hugetlb.1GB.rsvd.max=0"],
    );
    writes(
        r#"{"hugepageLimits":[{"pageSize":"64KB","limit":1}]}"#,
        &legacy_with("hugetlb"),
        &["hugetlb.64KB.limit_in_bytes=1", "hugetlb.64KB.rsvd.limit_in_bytes=1"],
    );
    for size in ["", "2", "MB", "2mb", "02MB", "2MBMB", "../2MB", "2TB", "2 MB"] {
        refuses(
            &format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}"#),
            &host,
            "hugepageLimits[0].pageSize",
            "page size",
        );
    }
    writes(
        r#"{"rdma":{"mlx5_0":{"hcaHandles":2,"hcaObjects":10},"mlx5_1":{"hcaHandles":0},"mlx5_2":{}}}"#,
        &host,
        &["rdma.max=mlx5_0 hca_handle=2 hca_object=10", "rdma.max=mlx5_1 hca_handle=0"],
    );
    refuses(r#"{"rdma":{"a b":{"hcaHandles":2}}}"#, &host, r#"rdma["a b"]"#, "no name");
}

fn legacy_with(controller: &str) -> Host {
    let mut host = legacy();
    host.v1_hierarchies.push(V1Hierarchy { controllers: vec![controller.into()], mount: "/m".into(), own: "/".into() });
    host
}

#[test]
fn unified_files() {
    let host = Host::example();
    writes(
        r#"{"memory":{"limit":5},"unified":{"memory.high":"4","io.max":"8:0 rbps=1\n8:16 rbps=2\n"}}"#,
        &host,
        &["memory.max=5", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=4"],
    );
    writes(
        r#"{"unified":{"cgroup.max.descendants":"3","misc.max":"res_a 1"}}"#,
        &host,
        &["cgroup.max.descendants=3", "misc.max=res_a 1"],
    );
    refuses(r#"{"unified":{"memory/../x.y":"1"}}"#, &host, r#"unified["memory/../x.y"]"#, "must be a file name (no slashes)");
    for key in ["memory", "", ".max", "memory"] {
        refuses(
            &format!(r#"{{"unified":{{"{key}":"1"}}}}"#),
            &host,
            &format!("unified[{key:?}]"),
            "must be in the form CONTROLLER.PARAMETER",
        );
    }
    refuses(r#"{"unified":{"foo.bar":"1"}}"#, &host, r#"unified["foo.bar"]"#, r#"can't be set: controller "foo" not available"#);
    refuses(r#"{"unified":{"memory.high":" \n"}}"#, &host, r#"unified["memory.high"]"#, "has no value");
    for key in ["cgroup.procs", "cgroup.kill", "cgroup.freeze", "cgroup.subtree_control", "cgroup.type", "cgroup.threads"] {
        refuses(&format!(r#"{{"unified":{{"{key}":"1"}}}}"#), &host, &format!("unified[{key:?}]"), "runtime's own");
    }
    refuses(r#"{"unified":{"memory.high":"1"}}"#, &hybrid(), r#"unified["memory.high"]"#, "mounts cgroup v1 too");
    writes(r#"{"unified":{"hugetlb.2MB.max":"1"}}"#, &hybrid(), &["hugetlb.2MB.max=1"]);
    refuses(r#"{"unified":{"memory.high":"1"}}"#, &legacy(), r#"unified["memory.high"]"#, "cannot use unified on cgroup v1");
}

#[test]
fn limits_in_v1() {
    let host = hybrid();
    writes(
        r#"{"memory":{"limit":100,"swap":300,"reservation":50,"swappiness":10,"disableOOMKiller":true}}"#,
        &host,
        &[
            "memory.limit_in_bytes=100",
            "memory.memsw.limit_in_bytes=300",
            "memory.soft_limit_in_bytes=50",
            "memory.swappiness=10",
            "memory.oom_control=1",
        ],
    );
    writes(r#"{"memory":{"limit":-1}}"#, &host, &["memory.limit_in_bytes=-1?", "memory.memsw.limit_in_bytes=-1?"]);
    refuses(r#"{"memory":{"limit":300,"swap":200}}"#, &host, "memory.swap", "should be >= memory limit 300");
    refuses(r#"{"memory":{"swappiness":101}}"#, &host, "memory.swappiness", "101 is not between");
    refuses(r#"{"cpu":{"shares":1}}"#, &host, "cpu.shares", "the minimum allowed cpu-shares is 2");
    refuses(r#"{"cpu":{"shares":262145}}"#, &host, "cpu.shares", "the maximum allowed cpu-shares is 262144");
    writes(r#"{"cpu":{"shares":0}}"#, &host, &[]);
    writes(r#"{"memory":{"swappiness":18446744073709551615}}"#, &host, &[]);
    writes(
        r#"{"cpu":{"shares":512,"quota":5000,"period":10000,"burst":7,"idle":0,"realtimeRuntime":8,"realtimePeriod":9,"cpus":"0","mems":"0"}}"#,
        &host,
        &[
            "cpuset.cpus=0",
            "cpuset.mems=0",
            "cpu.shares=512",
            "cpu.idle=0?",
            "cpu.rt_period_us=9",
            "cpu.rt_runtime_us=8",
            "cpu.cfs_period_us=10000",
            "cpu.cfs_quota_us=5000",
            "cpu.cfs_burst_us=7",
        ],
    );
    writes(
        r#"{"blockIO":{"weight":500,"leafWeight":100,"weightDevice":[{"major":8,"minor":0,"weight":20,"leafWeight":30}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
        &host,
        &[
            "blkio.weight=500 or blkio.bfq.weight=500",
            "blkio.leaf_weight=100",
            "blkio.weight_device=8:0 20 or blkio.bfq.weight_device=8:0 20",
            "blkio.leaf_weight_device=8:0 30",
            "blkio.throttle.read_bps_device=8:0 1",
            "blkio.throttle.write_iops_device=8:0 0?",
        ],
    );
    writes(
        r#"{"network":{"classID":7,"priorities":[{"name":"eth0","priority":3}]}}"#,
        &host,
        &["net_cls.classid=7", "net_prio.ifpriomap=eth0 3"],
    );
    refuses(r#"{"network":{"priorities":[{"name":"a b","priority":3}]}}"#, &host, "network.priorities[0].name", "no name");
}

#[test]
fn a_controller_that_is_nowhere() {
    let mut host = hybrid();
    host.v1_hierarchies.retain(|hierarchy| hierarchy.controllers != ["memory"]);
    refuses(
        r#"{"memory":{"limit":100,"reservation":50}}"#,
        &host,
        "memory.limit",
        "the cgroup controller \"memory\" is not available: neither",
    );
    writes(r#"{"memory":{"limit":-1,"swap":-1}}"#, &host, &[]);
    let mut host = Host::example();
    host.v2_controllers = vec!["cpu".to_string()];
    refuses(
        r#"{"pids":{"limit":5}}"#,
        &host,
        "pids.limit",
        "the cgroup controller \"pids\" is not available: it is not in /sys/fs/cgroup",
    );
    let several = ask(r#"{"pids":{"limit":5},"memory":{"limit":-9},"cpu":{"cpus":"0"}}"#, &host).unwrap_err();
    assert_eq!(several.len(), 3, "{several:?}");
}

fn spec(json: &str) -> Spec {
    serde_json::from_str(json).unwrap()
}

fn request(manager: CgroupManager) -> Request {
    Request { cgroup_manager: manager, ..Request::create(Id::parse("box").unwrap(), "/bundle", "/run/berth") }
}

#[test]
fn directories_of_each_mode() {
    let show = |saved: &SavedCgroup| {
        let dirs: Vec<String> = saved.v2.iter().chain(&saved.v1).map(|dir| format!("{} {}", dir.mount, dir.path)).collect();
        dirs.join("; ")
    };
    let request = request(CgroupManager::Cgroupfs);
    let bare = spec("{}");
    assert_eq!(show(&plan(&bare, &request, &Host::example()).unwrap().saved), "/sys/fs/cgroup /system.slice/box");
    let named = spec(r#"{"linux":{"cgroupsPath":"/kube/c1"}}"#);
    let saved = plan(&named, &request, &hybrid()).unwrap().saved;
    assert!(
        show(&saved).starts_with("/sys/fs/cgroup/unified /kube/c1; /sys/fs/cgroup/cpu,cpuacct /kube/c1; "),
        "{}",
        show(&saved)
    );
    assert_eq!(saved.v1.len(), 8);
    let saved = plan(&bare, &request, &hybrid()).unwrap().saved;
    assert_eq!(saved.v2.unwrap().path, "/a/box");
    assert_eq!(saved.v1.iter().find(|dir| dir.controllers == ["memory"]).unwrap().path, "/process/1/box");
    assert_eq!(plan(&bare, &request, &legacy()).unwrap().saved.v2, None);
}

#[test]
fn systemd_units_of_each_manager() {
    let spec = spec(r#"{"linux":{"cgroupsPath":"a-b.slice:p:n"}}"#);
    let mut host = Host::example();
    let planned = plan(&spec, &request(CgroupManager::Systemd), &host).unwrap();
    let (saved, properties) = (planned.saved, planned.unit.unwrap());
    assert!(properties.iter().any(|property| property.name == "Slice"));
    assert_eq!(saved.unit, Some(SavedUnit { name: "p-n.scope".into(), runtime_dir: None }));
    assert_eq!(saved.v2.unwrap().path, "/a.slice/a-b.slice/p-n.scope");
    host.euid = 1000;
    let problems = plan(&spec, &request(CgroupManager::Systemd), &host).unwrap_err();
    assert!(problems[0].rule.contains("user's systemd cannot be reached"), "{problems:?}");
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    host.user_manager = Some(UserManager { runtime_dir: "/run/user/1000".into(), cgroup: manager.into() });
    let saved = plan(&spec, &request(CgroupManager::Systemd), &host).unwrap().saved;
    assert_eq!(saved.unit, Some(SavedUnit { name: "p-n.scope".into(), runtime_dir: Some("/run/user/1000".into()) }));
    assert_eq!(saved.v2.unwrap().path, "/user.slice/user-1000.slice/user@1000.service/a.slice/a-b.slice/p-n.scope");
    let problems = plan(&spec, &request(CgroupManager::Systemd), &hybrid()).unwrap_err();
    assert!(problems[0].rule.contains("needs a host with cgroup v2 only"));
}

#[test]
fn every_problem_is_told_at_once() {
    let spec = spec(
        r#"{"linux":{"cgroupsPath":"/","resources":{"devices":[{"allow":true,"type":"x"}],"memory":{"limit":-2},"cpu":{"realtimeRuntime":1}}}}"#,
    );
    let problems = plan(&spec, &request(CgroupManager::Cgroupfs), &Host::example()).unwrap_err();
    let at: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
    assert_eq!(
        at,
        [
            "linux.cgroupsPath",
            "linux.resources.cpu.realtimeRuntime",
            "linux.resources.memory.limit",
            "linux.resources.devices[0].type"
        ]
    );
}

#[test]
fn what_a_refused_cgroup_means() {
    let mut host = Host::example();
    let mut request = request(CgroupManager::Cgroupfs);
    let denied = |json: &str, request: &Request, host: &Host| plan(&spec(json), request, host).unwrap().denied;
    assert_eq!(denied("{}", &request, &host), Denied::Error);
    request.rootless = Rootless::True;
    assert_eq!(denied("{}", &request, &host), Denied::NoCgroup);
    host.euid = 1000;
    request.rootless = Rootless::Unsaid;
    assert_eq!(denied("{}", &request, &host), Denied::NoCgroup);
    assert_eq!(denied(r#"{"linux":{"resources":{"pids":{"limit":-1}}}}"#, &request, &host), Denied::NoCgroup);
    assert_eq!(denied(r#"{"linux":{"resources":{"pids":{"limit":5}}}}"#, &request, &host), Denied::RootlessError);
    assert_eq!(denied(r#"{"linux":{"cgroupsPath":"/a"}}"#, &request, &host), Denied::RootlessError);
    for said in [Rootless::Auto, Rootless::True] {
        request.rootless = said;
        assert_eq!(
            denied(r#"{"linux":{"cgroupsPath":"/a","resources":{"pids":{"limit":5}}}}"#, &request, &host),
            Denied::NoCgroup
        );
    }
    request.rootless = Rootless::False;
    assert_eq!(denied("{}", &request, &host), Denied::Error);
}

#[test]
fn without_any_cgroup() {
    let limited = spec(r#"{"linux":{"cgroupsPath":"/a","resources":{"memory":{"limit":5},"pids":{"limit":-1}}}}"#);
    let plan_of = |manager, host: &Host| plan(&limited, &request(manager), host);
    let disabled = plan_of(CgroupManager::Disabled, &Host::example()).unwrap();
    assert_eq!((disabled.saved, disabled.writes.len(), disabled.devices), (SavedCgroup::default(), 0, None));
    assert_eq!(disabled.warnings, ["cgroups are disabled: not applied are linux.resources.memory.limit"]);
    let absent = Host { cgroup: CgroupMode::Absent, ..Host::example() };
    assert_eq!(plan_of(CgroupManager::Cgroupfs, &absent).unwrap_err()[0].at, "linux.resources.memory.limit");
    assert_eq!(plan(&spec("{}"), &request(CgroupManager::Cgroupfs), &absent).unwrap().warnings.len(), 1);
}

#[test]
fn who_owns_the_cgroup() {
    let owner = |mount: &str, namespaces: &str, uid: u32, maps: &str| {
        let json = format!(
            r#"{{"mounts":[{{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","{mount}"]}}],
                "process":{{"user":{{"uid":{uid},"gid":0}}}},"linux":{{"namespaces":[{namespaces}],"uidMappings":[{maps}]}}}}"#
        );
        plan(&spec(&json), &request(CgroupManager::Cgroupfs), &Host::example()).unwrap().owner
    };
    let (own, user) = (r#"{"type":"cgroup"}"#, r#"{"type":"cgroup"},{"type":"user"}"#);
    let map = r#"{"containerID":0,"hostID":100000,"size":65536}"#;
    assert_eq!(owner("rw", user, 0, map), Some(100_000));
    assert_eq!(owner("rw", user, 1000, map), Some(101_000));
    assert_eq!(owner("rw", user, 70_000, map), None);
    assert_eq!(owner("ro", user, 0, map), None);
    assert_eq!(owner("rw", r#"{"type":"user"}"#, 0, map), None);
    assert_eq!(owner("rw", own, 1000, ""), Some(1000));
    assert_eq!(owner("rw", own, 0, ""), None);
}

#[test]
fn a_cgroup_given_over() {
    let of = |name: &str, host: &Host| {
        let spec = spec(&format!(
            r#"{{"annotations":{{"run.oci.delegate-cgroup":"{name}"}},"process":{{"user":{{"uid":7,"gid":0}}}}}}"#
        ));
        plan(&spec, &request(CgroupManager::Cgroupfs), host).map(|plan| plan.delegate)
    };
    assert_eq!(of("inner", &Host::example()), Ok(Some(Delegate { name: "inner".into(), owner: Some(7) })));
    for bad in ["", ".", "..", "../x", "a/b", ".x", "a b", "cgroup\\n"] {
        assert_eq!(of(bad, &Host::example()).unwrap_err()[0].at, "annotations[\"run.oci.delegate-cgroup\"]", "{bad}");
    }
    assert!(of("inner", &hybrid()).unwrap_err()[0].rule.contains("cgroup v2 alone"));
    assert_eq!(plan(&spec("{}"), &request(CgroupManager::Cgroupfs), &Host::example()).unwrap().delegate, None);
}

#[test]
fn a_leaf_for_whoever_may_write_to_his_cgroups() {
    let of = |options: &str, more: &str, host: &Host| {
        let spec = spec(&format!(
            r#"{{"mounts":[{{"destination":"/sys/fs/cgroup","type":"cgroup","options":["{options}"]}}],
            "linux":{{"namespaces":[{{"type":"cgroup"}}{more}]}}}}"#
        ));
        let plan = plan(&spec, &request(CgroupManager::Cgroupfs), host).unwrap();
        assert_eq!(plan.saved.leaf, plan.delegate.as_ref().map(|delegate| delegate.name.clone()));
        plan.delegate
    };
    let mapped = r#",{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":100000,"size":65536}],"gidMappings":[{"containerID":0,"hostID":100000,"size":65536}"#;
    assert_eq!(of("rw", mapped, &Host::example()), Some(Delegate { name: "init".into(), owner: Some(100_000) }));
    assert_eq!(of("ro", mapped, &Host::example()), None);
    assert_eq!(of("rw", mapped, &hybrid()), None);
    assert_eq!(of("rw", "", &Host::example()), None, "the host's root");
}

#[test]
fn device_rules_in_v1_alone() {
    let lines = |json: &str| {
        let plan = plan(&spec(json), &request(CgroupManager::Cgroupfs), &legacy()).unwrap();
        assert_eq!(plan.devices, None);
        plan.writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect::<Vec<String>>()
    };
    let usual = lines(r#"{"linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}"#);
    assert_eq!(usual[0], "devices.deny=a");
    for line in ["devices.allow=c 1:3 rwm", "devices.allow=c 136:* rwm", "devices.allow=c *:* m", "devices.allow=b *:* m"] {
        assert!(usual.iter().any(|written| written == line), "{line} of {usual:?}");
    }
    assert_eq!(lines(r#"{"linux":{"resources":{"devices":[{"allow":true}]}}}"#), ["devices.allow=a"]);
    // A running container would be without any device for a moment.
    assert_eq!(device_filter(&resources("{}"), "", &legacy(), false).unwrap_err()[0].at, "devices");
    assert!(device_filter(&resources("{}"), "", &hybrid(), false).is_ok());
    let spec = spec(r#"{"linux":{"resources":{"devices":[{"allow":true},{"allow":false,"type":"c","major":1,"minor":1}]}}}"#);
    let problems = plan(&spec, &request(CgroupManager::Cgroupfs), &legacy()).unwrap_err();
    assert!(problems[0].rule.contains("cannot deny c 1:1"), "{problems:?}");
}

#[test]
fn programs_are_kept_by_the_machines_root_alone() {
    let of = |host: &Host| {
        let filter = device_filter(&resources("{}"), "", host, false).unwrap();
        (filter.keep, filter.optional)
    };
    let host = Host::example();
    assert_eq!(of(&host), (true, false));
    assert_eq!(of(&Host { initial_user_namespace: false, ..host.clone() }), (false, true));
    assert_eq!(of(&Host { euid: 1000, ..host }), (false, true));
}

#[test]
fn the_saved_form_is_small_and_comes_back() {
    let saved = plan(&spec("{}"), &request(CgroupManager::Cgroupfs), &Host::example()).unwrap().saved;
    let json = serde_json::to_string(&saved).unwrap();
    assert_eq!(json, r#"{"v2":{"mount":"/sys/fs/cgroup","path":"/system.slice/box"}}"#);
    assert_eq!(serde_json::from_str::<SavedCgroup>(&json).unwrap(), saved);
    assert_eq!(serde_json::from_str::<SavedCgroup>("{}").unwrap(), SavedCgroup::default());
}
