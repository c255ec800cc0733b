// SPDX-License-Identifier: Apache-2.0
//! `events`: the counts in runc's schema, lack of memory, and the end.

use serde_json::{Value, json};

use crate::harness::{Bundle, Call, Need, Test};
use crate::test;

/// crun has no events at all.
const NOT_CRUN: &[(&str, &str)] = &[("crun", "has no events")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(stats_once).needs(&[Need::Cgroup2]).differs(NOT_CRUN),
    test!(stats_count_memory_and_tasks)
        .needs(&[Need::Controller("memory"), Need::Controller("pids")])
        .differs(&[("crun", "has no events"), ("runc", "waits for the start with several threads")]),
    test!(stats_again_and_again_until_the_end)
        .needs(&[Need::Cgroup2])
        .differs(&[("crun", "has no events"), ("runc", "needs the memory controller for it")]),
    test!(lack_of_memory_is_told).needs(&[Need::Controller("memory")]).differs(NOT_CRUN),
    test!(pressure_is_told)
        .needs(&[Need::File("/proc/pressure/cpu")])
        .differs(&[("crun", "has no events"), ("runc", "has no --pressure")]),
    test!(members_in_runcs_order).needs(&[Need::Cgroup2]).differs(NOT_CRUN),
    test!(stopped_and_unknown_containers).differs(NOT_CRUN),
    test!(wrong_intervals),
];

fn stats_once() {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    let output = container.call(&["events", "--stats"]).output();
    assert_eq!(output.stderr, "");
    let text = output.ok();
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id)));
    let data = event["data"].as_object().unwrap();
    for part in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
        assert!(data.contains_key(part), "no {part} in {text}");
    }
    // The total may be left out: where the kernel counts by its clock's ticks, so little is nothing.
    assert!(data["cpu"]["usage"]["user"].is_u64(), "{text}");
    assert!(data["memory"]["usage"]["limit"].is_u64(), "{text}");
}

fn stats_count_memory_and_tasks() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/linux/resources", json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } }));
    let container = bundle.create();
    let event: Value = serde_json::from_str(&container.call(&["events", "--stats"]).output().ok()).unwrap();
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert_eq!(event["data"]["pids"], json!({ "current": 1, "limit": 20 }));
}

fn stats_again_and_again_until_the_end() {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    container.start();
    let mut events = Call::new(&["events", "--interval=100ms", &container.id]).spawn();
    events.wait_for("\n");
    container.kill("KILL");
    let output = events.finish();
    assert!(output.status.success(), "{output:?}");
    for line in output.stdout.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["type"], "stats");
    }
}

fn lack_of_memory_is_told() {
    let mut bundle = Bundle::sh("while [ ! -e /tmp/go ]; do sleep 0.05; done; (tail /dev/zero); sleep 1000");
    bundle.set("/linux/resources", json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 } }));
    let container = bundle.create();
    container.start();
    let mut events = Call::new(&["events", "--interval", "1h", &container.id]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    std::fs::write(bundle.inside("/tmp/go"), "").unwrap();
    events.wait_for("\"oom\"");
    container.kill("KILL");
    let stdout = events.finish().stdout;
    let event: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("oom"), &json!(container.id)));
    // runc has no more than that; here the limit and the peak are where the counts have them.
    let usage = &event["data"]["memory"]["usage"];
    if !usage.is_null() {
        assert_eq!(usage["limit"], 24 << 20);
        assert!(usage["max"].is_u64() && usage["failcnt"].as_u64().unwrap() > 0, "{usage}");
    }
}

/// Three that want the one CPU: somebody waits all the time. The interval is far longer than the test: nothing goes by the clock.
fn pressure_is_told() {
    let spin = "while :; do :; done";
    let bundle = Bundle::sh(&format!("({spin}) & ({spin}) & {spin}"));
    let container = bundle.create();
    container.start();
    let mut events = Call::new(&["events", "--interval", "1h", "--pressure", "5", &container.id]).spawn();
    events.wait_for("\"pressure\"");
    container.kill("KILL");
    let output = events.finish();
    assert!(output.status.success(), "{output:?}");
    let event: Value = serde_json::from_str(output.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("pressure"), &json!(container.id)));
    assert!(["cpu", "memory", "io"].contains(&event["data"]["resource"].as_str().unwrap()), "{event}");
    assert!(event["data"]["psi"]["some"]["total"].as_u64().unwrap() > 0, "{event}");
    let said = Call::new(&["events", "--pressure", "101", &container.id]).output().fails();
    assert!(said.contains("--pressure"), "{said}");
}

/// Those who read it as text.
fn members_in_runcs_order() {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    let text = container.call(&["events", "--stats"]).output().ok();
    let places = ["{\"type\":\"stats\",\"id\":", ",\"data\":{\"cpu\":", "\"cpuset\":", "\"memory\":", "\"pids\":", "\"blkio\":"]
        .map(|part| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}")));
    assert!(places.is_sorted(), "{text}");
}

fn stopped_and_unknown_containers() {
    let container = Bundle::args(&["/bin/true"]).create();
    container.start();
    container.wait_status("stopped");
    let said = container.call(&["events", "--stats"]).output().fails();
    assert!(said.contains("not running"), "{said}");
    assert!(Call::new(&["events", "--stats", "unknown"]).output().fails().contains("does not exist"));
}

fn wrong_intervals() {
    let container = Bundle::new().create();
    for interval in ["0s", "5 parsecs", "-1s"] {
        container.call(&["events", &format!("--interval={interval}")]).output().fails();
    }
}
