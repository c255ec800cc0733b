// SPDX-License-Identifier: Apache-2.0
//! `events --format prometheus`, read back by Prometheus's own parser for Python, and `top`. Other runtimes have neither.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Bundle, Call, Need, Test, skip};
use crate::test;

const OWN: &[(&str, &str)] = &[("runc", "has no such output"), ("crun", "has no such output")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(prometheus_reads_it).needs(&[Need::Cgroup2]).differs(OWN),
    test!(prometheus_of_all_and_of_none).differs(OWN),
    test!(prometheus_has_limits_and_pressure)
        .needs(&[Need::Controller("memory"), Need::Controller("pids"), Need::File("/proc/pressure/cpu")])
        .differs(OWN),
    test!(top_once).needs(&[Need::Cgroup2]).differs(OWN),
    test!(top_makes_no_state_root).differs(OWN),
    test!(top_on_a_terminal_shows_what_comes_and_goes_at_once).differs(OWN),
];

/// Prints what Prometheus's parser makes of its standard input, as JSON: [[family, type, help, [[name, labels, value], …]], …]
const PARSER: &str = "
import json, sys
from prometheus_client.parser import text_fd_to_metric_families
families = text_fd_to_metric_families(sys.stdin)
print(json.dumps([[f.name, f.type, f.documentation, [[s.name, s.labels, s.value] for s in f.samples]] for f in families]))
";

/// What Prometheus's parser reads: name, type, labels, value.
type Sample = (String, String, Value, f64);

/// What Prometheus's parser reads in a text.
fn parse(text: &str) -> Vec<Sample> {
    let python = |program: &str| {
        Command::new("/usr/bin/python3")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    };
    let can = python("import prometheus_client.parser").and_then(|mut child| child.wait()).is_ok_and(|status| status.success());
    if !can {
        skip("the parser is not there: the package python3-prometheus-client");
    }
    let mut child = python(PARSER).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "Prometheus's parser refuses:\n{text}");
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut samples = Vec::new();
    for family in families {
        let (kind, help) = (family[1].as_str().unwrap().to_owned(), family[2].as_str().unwrap());
        assert!(["counter", "gauge"].contains(&kind.as_str()) && !help.is_empty(), "{kind} {help}: {text}");
        let sample = |sample: &Value| {
            (sample[0].as_str().unwrap().to_owned(), kind.clone(), sample[1].clone(), sample[2].as_f64().unwrap())
        };
        samples.extend(family[3].as_array().unwrap().iter().map(sample));
    }
    samples
}

fn scrape(words: &[&str]) -> Vec<Sample> {
    parse(&Call::new(&[&["events", "--format", "prometheus"], words].concat()).output().ok())
}

#[track_caller]
fn value(samples: &[Sample], name: &str, labels: &Value) -> f64 {
    let found =
        samples.iter().find(|(known, _, known_labels, _)| known == &format!("berth_container_{name}") && known_labels == labels);
    found.unwrap_or_else(|| panic!("no {name} {labels} in {samples:#?}")).3
}

fn prometheus_reads_it() {
    // Its bundle's name is one of the hard ones.
    let mut bundle = Bundle::sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000");
    let hard = bundle.dir.with_file_name(format!("{} \"hard\\n\\", bundle.id));
    fs::rename(&bundle.dir, &hard).unwrap();
    bundle.dir = hard.clone();
    let container = bundle.create();
    container.start();
    container.wait_stdout("done");
    let samples = scrape(&[&bundle.id]);
    let id = json!({ "id": bundle.id });
    let info = json!({ "id": bundle.id, "status": "running", "bundle": hard.to_str().unwrap() });
    assert_eq!(value(&samples, "info", &info), 1.0);
    let used = value(&samples, "cpu_usage_seconds_total", &id);
    // In seconds, as the kernel has it in microseconds.
    let group = fs::read_to_string(crate::harness::look::cgroup2_root().join(&bundle.id).join("cpu.stat")).unwrap();
    let kernel: f64 = group.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap();
    assert!(used > 0.0 && used <= kernel / 1e6 && used > kernel / 1e6 - 5.0, "{used} s, {kernel} µs");
    for (name, kind, labels, _) in &samples {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert_eq!(labels["id"], bundle.id);
    }
}

fn prometheus_of_all_and_of_none() {
    assert_eq!(Call::new(&["events", "--format", "prometheus"]).output().ok(), "");
    let (one, other) = (Bundle::new().create(), Bundle::new().create());
    let samples = scrape(&[]);
    for container in [&one, &other] {
        let found = samples.iter().filter(|(name, _, labels, _)| name == "berth_container_info" && labels["id"] == container.id);
        assert_eq!(found.count(), 1, "{samples:?}");
    }
    let said = Call::new(&["events", "--format", "prometheus", "unknown"]).output().fails();
    assert!(said.contains("does not exist"), "{said}");
    assert!(Call::new(&["events", "--format", "xml", &one.id]).output().fails().contains("xml"));
}

fn prometheus_has_limits_and_pressure() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/resources", json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } }));
    let container = bundle.create();
    let samples = scrape(&[&container.id]);
    let id = json!({ "id": container.id });
    assert_eq!(value(&samples, "memory_limit_bytes", &id), f64::from(64 << 20));
    assert_eq!((value(&samples, "pids", &id), value(&samples, "pids_limit", &id)), (1.0, 20.0));
    assert!(value(&samples, "memory_usage_bytes", &id) > 0.0);
    assert_eq!(value(&samples, "oom_kills_total", &id), 0.0);
    for resource in ["cpu", "memory", "io"] {
        let labels = json!({ "id": container.id, "resource": resource });
        assert!(value(&samples, "pressure_waiting_seconds_total", &labels) >= 0.0);
    }
}

fn top_once() {
    let busy = Bundle::sh("while :; do :; done");
    let container = busy.create();
    container.start();
    let idle = Bundle::new().create();
    let text = Call::new(&["top"]).output().ok();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert_eq!(rows[0][..4], ["ID", "PID", "STATUS", "CPU"]);
    let row = |id: &str| rows.iter().find(|row| row[0] == id).unwrap_or_else(|| panic!("no {id} in {text}"));
    assert_eq!(row(&busy.id)[1..3], [container.pid().to_string().as_str(), "running"]);
    let share: f64 = row(&busy.id)[3].strip_suffix('%').unwrap().parse().unwrap();
    assert!(share > 1.0 && share < 110.0, "{text}");
    assert_eq!(row(&idle.id)[2..4], ["created", "0.0%"], "{text}");
    assert_eq!(rows[1][0], busy.id, "the busy one comes first: {text}");
    // Again, the other way to say it.
    assert_eq!(Call::new(&["top", "--once", "--interval", "100ms"]).output().ok().lines().count(), 3);
    assert!(Call::new(&["top", "--interval", "0s"]).output().fails().contains("interval"));
}

/// It only looks: what is not there yet is waited for on a terminal, and empty or, where it was named, an error otherwise.
fn top_makes_no_state_root() {
    let root = crate::harness::bundle::state_root().join("none");
    let top =
        |arguments: &[&str]| Call::program(&[&[crate::harness::call::runtime().to_str().unwrap()], arguments].concat()).output();
    let text = top(&["--root", root.to_str().unwrap(), "top", "--once"]).fails();
    assert!(text.contains("--root: there is no directory"), "{text}");
    assert!(!root.exists());
}

/// The interval is far longer than the test: nothing goes by the clock. script(1) of util-linux gives it a terminal.
fn top_on_a_terminal_shows_what_comes_and_goes_at_once() {
    if !std::path::Path::new("/usr/bin/script").exists() {
        skip("needs script(1), of bsdutils");
    }
    let root = crate::harness::bundle::state_root();
    let command = format!("{} --root {} top --interval 1h", crate::harness::call::runtime().display(), root.display());
    let mut top = Call::program(&["script", "-qefc", &command, "/dev/null"]).env("TERM", "dumb").spawn();
    top.wait_for("STALLS");
    let bundle = Bundle::new();
    let container = bundle.create();
    top.wait_for(&format!("{}   ", bundle.id));
    top.wait_for("created");
    container.start();
    top.wait_for("running");
    container.kill("KILL");
    top.wait_for("stopped");
    container.delete();
    top.signal(nix::sys::signal::Signal::SIGTERM);
    let output = top.finish();
    assert!(output.stdout.contains("\u{1b}[H"), "{output:?}");
}
