// SPDX-License-Identifier: Apache-2.0
//! `check` and `plan` speak the truth: what `check` says will fail does, with the code that it names, and nothing else; what `plan --diff`
//! shows is what the kernel has. Other runtimes have neither.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id};
use crate::harness::{Bundle, Call, Need, Test, call, need, skip};
use crate::test;

const OWN: &[(&str, &str)] = &[("runc", "has no such commands"), ("crun", "has no such commands")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(this_host_without_a_bundle).differs(OWN),
    test!(a_bundle_that_works).differs(OWN),
    test!(bundles_that_fail_as_was_said).differs(OWN),
    test!(a_limit_fails_exactly_where_check_says_so).differs(OWN),
    test!(a_masked_proc_is_seen_beforehand).differs(OWN),
    test!(check_for_an_ordinary_user).differs(OWN),
    test!(plan_as_json).differs(OWN),
    test!(diff_of_what_is_as_it_was_asked).differs(OWN),
    test!(diff_shows_what_was_changed).differs(OWN),
    test!(diff_in_a_user_namespace).differs(OWN),
    test!(diff_of_groups_priorities_and_propagation).differs(OWN),
    test!(diff_of_a_memory_policy).needs(&[Need::File("/proc/self/numa_maps")]).differs(OWN),
    test!(diff_of_network_devices).needs(&[Need::Program("ip")]).differs(OWN),
    test!(diff_exits_as_diff_does).differs(OWN),
];

/// What `check` says as JSON, whose exit status must be that of its result.
#[track_caller]
fn check(words: &[&str]) -> Value {
    let output = Call::new(&[&["check", "--format", "json"], words].concat()).output();
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let status = match report["result"].as_str().unwrap() {
        "works" => 0,
        "fails" => 1,
        "degrades" => 3,
        other => panic!("{other}"),
    };
    assert_eq!(output.code(), status, "{report:#}");
    for finding in report["findings"].as_array().unwrap() {
        let text = |field: &str| finding[field].as_str().unwrap_or_default();
        assert!(["works", "degrades", "fails"].contains(&text("verdict")), "{finding}");
        assert!(!text("what").is_empty() && !text("why").is_empty(), "{finding}");
        assert!(text("verdict") != "fails" || !(text("remedy").is_empty() || text("code").is_empty()), "{finding}");
    }
    report
}

/// The codes of what fails.
fn failing(report: &Value) -> Vec<&str> {
    let all = report["findings"].as_array().unwrap().iter().filter(|finding| finding["verdict"] == "fails");
    all.map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// The code that making (and starting) its container fails with; none where it works.
fn outcome(bundle: &Bundle) -> Option<String> {
    let log = folder().join(format!("log-{}", new_id()));
    let options = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    let guard = bundle.container();
    for words in [&["create", "--bundle", bundle.path(), &bundle.id][..], &["start", &bundle.id]] {
        if bundle.output_of(Call::new(&[&options, words].concat())).code() != 0 {
            let record: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
            return Some(record["code"].as_str().unwrap().to_owned());
        }
    }
    drop(guard);
    None
}

fn this_host_without_a_bundle() {
    let report = check(&[]);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(release.starts_with(report["host"]["kernel"].as_str().unwrap()), "{report:#}");
    assert_eq!(report["host"]["cgroup"], if need::hybrid() { "hybrid" } else { "unified" }, "{report:#}");
    // Root of the tests' environments can make a usual container.
    assert_eq!(failing(&report), [""; 0], "{report:#}");
    let text = Call::new(&["check"]).output();
    let lines = text.stdout.lines().count();
    assert!(text.stdout.lines().last().unwrap().starts_with("result: "), "{}", text.stdout);
    let quiet = Call::new(&["check", "--quiet"]).output();
    assert!(quiet.stdout.lines().count() < lines && !quiet.stdout.contains("works  "), "{}", quiet.stdout);
    assert_eq!(quiet.code(), text.code());
}

fn a_bundle_that_works() {
    let bundle = Bundle::new();
    bundle.save();
    let report = check(&["--bundle", bundle.path()]);
    assert_eq!(failing(&report), [""; 0], "{report:#}");
    let program = report["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "program").unwrap();
    assert_eq!((&program["verdict"], &program["why"]), (&json!("works"), &json!("/bin/sleep is there")));
    assert_eq!(outcome(&bundle), None);
}

/// `check` names one failure, and the container fails with it.
#[track_caller]
fn predicted(code: &str, edit: impl FnOnce(&mut Bundle)) {
    let mut bundle = Bundle::new();
    edit(&mut bundle);
    bundle.save();
    let report = check(&["--bundle", bundle.path()]);
    assert_eq!(failing(&report), [code], "{report:#}");
    assert_eq!(outcome(&bundle).as_deref(), Some(code));
}

fn bundles_that_fail_as_was_said() {
    predicted("E-MOUNT-SOURCE", |bundle| {
        bundle.mount("/mnt", "bind", "/not/there", &["bind"]);
    });
    predicted("E-ROOTFS", |bundle| {
        bundle.set("/root/path", json!("not-there"));
    });
    predicted("E-PROGRAM-NOT-FOUND", |bundle| {
        bundle.set("/process/args", json!(["nothing-of-this-name"]));
    });
    predicted("E-SYSCTL", |bundle| {
        bundle.set("/linux/sysctl", json!({ "net.ipv4.no_such_thing": "1" }));
    });
    predicted("E-INTERPRETER", |bundle| {
        fs::write(bundle.inside("/app"), "#!/usr/bin/python9\n").unwrap();
        fs::set_permissions(bundle.inside("/app"), fs::Permissions::from_mode(0o755)).unwrap();
        bundle.set("/process/args", json!(["/app"]));
    });
    predicted("E-HOOK", |bundle| {
        bundle.set("/hooks", json!({ "createRuntime": [{ "path": "/not/there" }] }));
    });
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        predicted("E-LSM-MISSING", |bundle| {
            bundle.set("/process/selinuxLabel", json!("system_u:system_r:x_t:s0"));
        });
    }
}

/// Whatever controllers and capabilities there are here.
fn a_limit_fails_exactly_where_check_says_so() {
    let limits: [(&str, Value); 5] = [
        ("/linux/resources", json!({ "memory": { "limit": 256 << 20 } })),
        ("/linux/resources", json!({ "pids": { "limit": 50 } })),
        ("/linux/resources", json!({ "cpu": { "shares": 512 } })),
        ("/process/rlimits", json!([{ "type": "RLIMIT_NPROC", "soft": 10, "hard": 1u64 << 60 }])),
        ("/process/oomScoreAdj", json!(-900)),
    ];
    for (pointer, value) in limits {
        let mut bundle = Bundle::new();
        bundle.set(pointer, value.clone()).save();
        let report = check(&["--bundle", bundle.path()]);
        let fails = outcome(&bundle);
        assert_eq!(failing(&report), fails.iter().map(String::as_str).collect::<Vec<_>>(), "{pointer} {value}: {report:#}");
    }
}

fn a_masked_proc_is_seen_beforehand() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("/dev/null"), "/proc/timer_list", none, MsFlags::MS_BIND, none).unwrap();
    predicted("E-PROC-MASKED", |bundle| {
        bundle.user_namespace(&[(0, 0, 65536)]);
    });
}

fn check_for_an_ordinary_user() {
    let reach = Call::program(&["test", "-x", call::runtime().to_str().unwrap()]).user(65534, 65534).output();
    if !reach.status.success() {
        skip(&format!("user 65534 may not execute {}", call::runtime().display()));
    }
    let root = folder().join("user");
    let words = ["--root", root.to_str().unwrap(), "check", "--format", "json"];
    let output = Call::bare(&words).user(65534, 65534).output();
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(report["host"]["uid"], 65534);
    // It may not write there, and is told so.
    assert!(failing(&report).contains(&"E-STATE-ROOT"), "{report:#}");
    assert_eq!(output.code(), 1);
}

fn plan_as_json() {
    let mut bundle = Bundle::new();
    bundle.set("/process/env", json!(["PATH=/bin", "SECRET=hunter2"])).save();
    let output = Call::bare(&["plan", "--format", "json", "--bundle", bundle.path()]).output().ok();
    let plan: Value = serde_json::from_str(&output).unwrap();
    let text = Call::bare(&["plan", "--bundle", bundle.path()]).output().ok();
    for (list, heading) in [("runtime", "runtime"), ("process", "container's process")] {
        let steps = plan[list].as_array().unwrap();
        assert!(text.contains(&format!("{heading}, {} steps:", steps.len())), "{text}");
        for (number, step) in (1..).zip(steps) {
            assert_eq!(step["step"], number);
            assert!(text.contains(&format!("  {number:3}  {}", step["what"].as_str().unwrap())), "{step}");
        }
    }
    assert_eq!(plan["process"].as_array().unwrap().last().unwrap()["op"], "Exec");
    assert_eq!(plan["program"]["args"], json!(["/bin/sleep", "1000"]));
    assert!(!output.contains("hunter2"), "values of the environment are nobody's business");
}

/// `plan --diff ID`, with the exit status that its counts ask for.
#[track_caller]
fn diff(id: &str) -> Value {
    let output = Call::new(&["plan", "--format", "json", "--diff", id]).output();
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(output.code(), i32::from(report["different"] != 0), "{report:#}");
    report
}

fn rows<'a>(report: &'a Value, what: &str) -> Vec<&'a Value> {
    report["compared"].as_array().unwrap().iter().filter(|row| row["what"] == what).collect()
}

#[track_caller]
fn all_the_same(report: &Value) {
    let different: Vec<_> = report["compared"].as_array().unwrap().iter().filter(|row| row["same"] == false).collect();
    assert!(different.is_empty(), "{different:#?}");
}

fn diff_of_what_is_as_it_was_asked() {
    let mut bundle = Bundle::new();
    bundle.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]));
    bundle.set("/process/oomScoreAdj", json!(100)).set("/root/readonly", json!(true));
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" })).set("/process/user/umask", json!(0o27));
    bundle.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["acct"], "action": "SCMP_ACT_ERRNO" }] }),
    );
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "size=1m"]);
    let container = bundle.create();
    let created = diff(&container.id);
    all_the_same(&created);
    assert_eq!(rows(&created, "Seccomp").len(), 0, "no filter yet");
    container.start();
    container.wait_status("running");
    let report = diff(&container.id);
    all_the_same(&report);
    assert_eq!(report["unseen"], 0, "{report:#}");
    for (what, now, config) in [
        ("RLIMIT_NOFILE", "100 200", "process.rlimits[0]"),
        ("oom_score_adj", "100", "process.oomScoreAdj"),
        ("net.ipv4.ip_forward", "1", "linux.sysctl[\"net.ipv4.ip_forward\"]"),
        ("kernel.hostname", "inside", "hostname"),
        ("Seccomp", "2", "linux.seccomp"),
        ("NoNewPrivs", "1", "process.noNewPrivileges"),
        ("Umask", "0027", "process.user.umask"),
        ("pid namespace", "its own", "linux.namespaces"),
        ("user namespace", "the host's", "linux.namespaces"),
        ("/proc/timer_list", "masked", "linux.maskedPaths[2]"),
        ("/proc/sys", "read-only", "linux.readonlyPaths[3]"),
    ] {
        let row = rows(&report, what);
        assert_eq!(row.len(), 1, "{what}: {report:#}");
        assert_eq!((&row[0]["now"], &row[0]["config"]), (&json!(now), &json!(config)), "{what}");
    }
    assert!(rows(&report, "mount /tmp")[0]["now"].as_str().unwrap().starts_with("tmpfs rw,nosuid,nodev,noexec"));
    let text = Call::new(&["plan", "--diff", &container.id]).output().ok();
    assert!(text.starts_with("0 of ") && text.ends_with(" differ\n"), "{text}");
    let all = Call::new(&["plan", "--all", "--diff", &container.id]).output().ok();
    assert!(all.contains("kernel.hostname (hostname)\n  inside\n"), "{all}");
}

fn diff_shows_what_was_changed() {
    let mut bundle = Bundle::new();
    bundle.set("/process/oomScoreAdj", json!(100));
    let container = bundle.run_detached();
    container.wait_status("running");
    all_the_same(&diff(&container.id));
    fs::write(format!("/proc/{}/oom_score_adj", container.pid()), "300").unwrap();
    let report = diff(&container.id);
    assert_eq!(report["different"], 1, "{report:#}");
    let row = rows(&report, "oom_score_adj");
    assert_eq!((&row[0]["asked"], &row[0]["now"], &row[0]["same"]), (&json!("100"), &json!("300"), &json!(false)));
    let text = Call::new(&["plan", "--diff", &container.id]).output();
    assert_eq!(text.code(), 1);
    assert!(text.stdout.starts_with("oom_score_adj (process.oomScoreAdj)\n- 100\n+ 300\n1 of "), "{}", text.stdout);
    // Beside another bundle more is different.
    let mut other = Bundle::new();
    other.set("/hostname", json!("elsewhere")).save();
    let output = Call::new(&["plan", "--format", "json", "--bundle", other.path(), "--diff", &container.id]).output();
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.code(), &rows(&report, "kernel.hostname")[0]["now"]), (1, &json!("inside")), "{report:#}");
}

fn diff_in_a_user_namespace() {
    let mut bundle = Bundle::new();
    bundle.user_namespace(&[(0, 100_000, 65_536)]).set("/process/user", json!({ "uid": 7, "gid": 8 }));
    nix::unistd::chown(&bundle.inside("/"), Some(100_000.into()), Some(100_000.into())).unwrap();
    let container = bundle.run_detached();
    container.wait_status("running");
    let report = diff(&container.id);
    all_the_same(&report);
    assert_eq!(rows(&report, "uid_map")[0]["now"], "0 100000 65536");
    assert_eq!(rows(&report, "Uid")[0]["now"], "100007 100007 100007 100007");
    assert_eq!(rows(&report, "user namespace")[0]["now"], "its own");
    assert_eq!(rows(&report, "kernel.hostname")[0]["now"], "inside");
}

fn diff_of_groups_priorities_and_propagation() {
    let mut bundle = Bundle::new();
    bundle.set("/process/user/additionalGids", json!([7, 5])).set("/linux/rootfsPropagation", json!("shared"));
    bundle.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }));
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["rslave"]).mount("/tmp", "tmpfs", "tmpfs", &["private"]);
    let container = bundle.run_detached();
    let report = diff(&container.id);
    all_the_same(&report);
    for (what, now, config) in [
        ("Groups", "5 7", "process.user.additionalGids"),
        ("I/O priority", "2 6", "process.ioPriority"),
        ("propagation of /", "shared", "linux.rootfsPropagation"),
        ("propagation of /tmp", "private", "mounts[*]"),
    ] {
        let row = rows(&report, what);
        assert_eq!(row.len(), 1, "{what}: {report:#}");
        let at = row[0]["config"].as_str().unwrap();
        // A root that is shared is a slave of the host's besides.
        let found = row[0]["now"].as_str().unwrap().trim_end_matches(",slave");
        assert!(found == now && (at == config || config == "mounts[*]" && at.starts_with("mounts[")), "{what}: {row:#?}");
    }
    // Changed behind its back, by what anybody could do it with.
    let set = |words: &[&str]| assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
    let pid = container.pid().to_string();
    set(&["/bin/busybox", "ionice", "-c", "3", "-p", &pid]);
    set(&["/usr/bin/nsenter", "--mount", "--target", &pid, "/bin/busybox", "mount", "--make-private", "/"]);
    let report = diff(&container.id);
    assert_eq!(report["different"], 2, "{report:#}");
    let now = |what: &str| rows(&report, what)[0]["now"].as_str().unwrap().to_owned();
    assert!(now("I/O priority").starts_with("3 "), "{report:#}");
    assert_eq!(now("propagation of /"), "private");
}

fn diff_of_a_memory_policy() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0" }));
    let container = bundle.run_detached();
    let report = diff(&container.id);
    all_the_same(&report);
    assert_eq!((&rows(&report, "memory policy")[0]["now"], &report["unseen"]), (&json!("bind:0"), &json!(0)), "{report:#}");
    // Beside a bundle that asks for another.
    let mut other = Bundle::new();
    other.set("/linux/memoryPolicy", json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" })).save();
    let output = Call::new(&["plan", "--bundle", other.path(), "--diff", &container.id]).output();
    assert!(output.stdout.contains("memory policy (linux.memoryPolicy)\n- interleave:0\n+ bind:0\n"), "{output:?}");
}

fn diff_of_network_devices() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let ip = |words: &[&str]| Command::new("ip").args(words).status().is_ok_and(|status| status.success());
    if !ip(&["link", "add", "berthA", "type", "veth", "peer", "name", "berthB"]) {
        skip("this kernel makes no veth");
    }
    let mut bundle = Bundle::new();
    bundle.set("/linux/netDevices", json!({ "berthA": { "name": "net7" }, "berthB": { "name": "peer%d" } }));
    let container = bundle.run_detached();
    let report = diff(&container.id);
    all_the_same(&report);
    for name in ["net7", "peer%d"] {
        assert_eq!(rows(&report, &format!("network device {name}"))[0]["now"], "there", "{report:#}");
    }
    let mut other = Bundle::new();
    other.set("/linux/netDevices", json!({ "berthA": { "name": "other7" } })).save();
    let output = Call::new(&["plan", "--bundle", other.path(), "--diff", &container.id]).output();
    assert!(
        output.stdout.contains("network device other7 (") && output.stdout.contains("\n- there\n+ not there\n"),
        "{output:?}"
    );
}

fn diff_exits_as_diff_does() {
    let output = Call::new(&["plan", "--diff", "nobody"]).output();
    assert_eq!((output.code(), output.stdout.as_str()), (2, ""));
    assert!(output.stderr.contains("does not exist"), "{}", output.stderr);
    let bundle = Bundle::args(&["/bin/true"]);
    let container = bundle.run_detached();
    container.wait_status("stopped");
    let output = Call::new(&["plan", "--diff", &container.id]).output();
    assert_eq!(output.code(), 2);
    assert!(output.stderr.contains("container not running"), "{}", output.stderr);
}
