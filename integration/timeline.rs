// SPDX-License-Identifier: Apache-2.0
//! `--trace FILE`: the file is read back by a JSON parser, and what it says is compared with what was done: the steps of both processes
//! and the hooks, in the processes that ran them, one within the other. Other runtimes have no such flag.

use std::collections::HashMap;
use std::fs;

use serde_json::{Value, json};

use crate::harness::bundle::{folder, new_id};
use crate::harness::{Bundle, Call, Test};
use crate::test;

const OWN: &[(&str, &str)] = &[("runc", "has no --trace"), ("crun", "has no --trace")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(trace_of_a_run).differs(OWN),
    test!(trace_of_a_life_in_several_commands).differs(OWN),
    test!(trace_of_a_failure).differs(OWN),
    test!(trace_in_a_time_namespace).differs(OWN),
    test!(a_filter_that_kills_meets_no_call_of_ours).differs(OWN),
    test!(other_files_are_refused).differs(OWN),
    test!(trace_is_drawn).differs(OWN),
];

/// A complete event.
#[derive(Debug)]
struct Span {
    pid: i64,
    name: String,
    begin: u64,
    end: u64,
    args: Value,
}

/// Where a test's trace goes.
fn file() -> String {
    folder().join(format!("trace-{}", new_id())).to_str().unwrap().to_owned()
}

/// Reads a trace, and checks what must be so in each: times that do not run backwards, and events of one process that lie within each
/// other or apart.
#[track_caller]
fn read(path: &str) -> (Vec<Span>, HashMap<i64, String>) {
    let events: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (mut spans, mut names) = (Vec::new(), HashMap::new());
    for event in events {
        let pid = event["pid"].as_i64().unwrap();
        assert_eq!(event["tid"], pid, "{event}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        match event["ph"].as_str().unwrap() {
            "M" => drop(names.insert(pid, text(&event["args"]["name"]))),
            "X" => {
                let begin = event["ts"].as_u64().unwrap();
                let end = begin + event["dur"].as_u64().unwrap();
                spans.push(Span { pid, name: text(&event["name"]), begin, end, args: event["args"].clone() });
            }
            other => panic!("{other}"),
        }
    }
    for (index, one) in spans.iter().enumerate() {
        assert!(names.contains_key(&one.pid), "{one:?} is of a process without a name: {names:?}");
        for other in spans[index + 1..].iter().filter(|other| other.pid == one.pid) {
            let apart = one.end <= other.begin || other.end <= one.begin;
            let within = (one.begin <= other.begin && other.end <= one.end) || (other.begin <= one.begin && one.end <= other.end);
            assert!(apart || within, "{one:?} and {other:?}");
        }
    }
    (spans, names)
}

#[track_caller]
fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans
        .iter()
        .find(|span| span.name.starts_with(name))
        .unwrap_or_else(|| panic!("no \"{name}\" in {:#?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>()))
}

#[track_caller]
fn within(inner: &Span, outer: &Span) {
    assert!(inner.pid == outer.pid && outer.begin <= inner.begin && inner.end <= outer.end, "{inner:?} in {outer:?}");
}

/// A hook that takes its time.
fn slow() -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", "sleep 0.1"] }])
}

fn trace_of_a_run() {
    let path = file();
    let mut bundle = Bundle::sh("sleep 0.2");
    bundle.set(
        "/hooks",
        json!({ "createRuntime": slow(), "createContainer": slow(), "startContainer": slow(), "poststop": slow() }),
    );
    bundle.save();
    bundle.output_of(Call::new(&["--trace", &path, "run", "--bundle", bundle.path(), &bundle.id])).ok();
    let (spans, names) = read(&path);
    let first = find(&spans, &format!("run {}", bundle.id));
    let runtime = first.pid;
    let process = find(&spans, "pivot").pid;
    assert_ne!(runtime, process);
    assert_eq!((names[&runtime].as_str(), names[&process].as_str()), ("berth", "container's process"));
    // Of both sides, each step of the plan is there once: the first part is over when the program runs.
    let plan: Value =
        serde_json::from_str(&Call::new(&["plan", "--bundle", bundle.path(), "--format", "json"]).output().ok()).unwrap();
    let steps = plan["process"].as_array().unwrap();
    let told: Vec<&Span> = spans.iter().filter(|span| span.pid == process && !span.name.contains(" hook #")).collect();
    // A run does not wait at the gate.
    assert!(told.len().abs_diff(steps.len()) <= 1, "{} of {}: {told:#?}", told.len(), steps.len());
    for name in ["read the configuration", "look at this host", "make the plan", "createRuntime hook #0 /bin/sh"] {
        within(find(&spans, name), first);
    }
    for (hook, step) in
        [("createContainer hook #0", "run the createContainer"), ("startContainer hook #0", "run the startContainer")]
    {
        within(find(&spans, hook), find(&spans, step));
        assert_eq!(find(&spans, hook).pid, process);
    }
    for hook in ["createRuntime", "createContainer", "startContainer", "poststop"] {
        let span = find(&spans, &format!("{hook} hook #0"));
        assert!((100_000..10_000_000).contains(&(span.end - span.begin)), "{span:?}");
    }
    assert!(spans.iter().any(|span| span.args["config"].as_str().is_some_and(|at| at.starts_with("mounts["))), "{spans:?}");
    // The second part begins when the program has ended, 0.2 s later.
    let last = find(&spans, "poststop");
    let second = spans.iter().rfind(|span| span.name == first.name).unwrap();
    within(last, second);
    assert!(second.begin >= first.end + 150_000, "{first:?} {second:?}");
}

fn trace_of_a_life_in_several_commands() {
    let path = file();
    let mut bundle = Bundle::new();
    bundle.set("/hooks", json!({ "startContainer": slow(), "poststart": slow() }));
    let container = bundle.create_with(&[]);
    // The container's process was made without; start alone is asked.
    let traced = |words: &[&str]| Call::new(&[&["--trace", &path], words].concat()).output().ok();
    traced(&["start", &bundle.id]);
    let pid = i64::from(container.pid());
    traced(&["exec", &bundle.id, "/bin/true"]);
    traced(&["kill", &bundle.id, "KILL"]);
    container.wait_status("stopped");
    traced(&["delete", &bundle.id]);
    let (spans, names) = read(&path);
    for verb in ["start", "exec", "kill", "delete"] {
        assert_eq!(names[&find(&spans, &format!("{verb} {}", bundle.id)).pid], "berth");
    }
    assert_eq!(names[&pid], "container's process");
    let hook = find(&spans, "startContainer hook #0");
    within(hook, find(&spans, "run the startContainer"));
    assert_eq!(hook.pid, pid);
    assert!(hook.end - hook.begin >= 100_000, "{hook:?}");
    within(find(&spans, "poststart hook #0"), find(&spans, "start "));
    let gate = find(&spans, "open the start gate");
    assert!(gate.begin <= hook.begin && hook.end <= gate.end, "{gate:?} {hook:?}");
    within(find(&spans, "remove the state directory"), find(&spans, "delete "));
    // exec's process is another one.
    let others = spans.iter().filter(|span| span.pid != pid && names[&span.pid] == "container's process");
    assert!(others.count() > 3, "{spans:#?}");
}

fn trace_of_a_failure() {
    let path = file();
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["size=lots"]);
    bundle.save();
    bundle.output_of(Call::new(&["--trace", &path, "create", "--bundle", bundle.path(), &bundle.id])).fails();
    let (spans, names) = read(&path);
    let whole = find(&spans, "create ");
    assert_eq!(whole.args["code"], "E-MOUNT-OPTION", "{whole:?}");
    assert!(whole.args["error"].as_str().unwrap().contains("lots"), "{whole:?}");
    within(find(&spans, "undo"), whole);
    // The process's last step is the one that failed.
    let last =
        spans.iter().filter(|span| names[&span.pid] == "container's process").max_by_key(|span| (span.end, span.begin)).unwrap();
    assert!(last.args["config"].as_str().unwrap().starts_with("mounts["), "{last:?}");
    // One that fails before anything is made.
    let path = file();
    bundle.set("/ociVersion", json!("9.0.0"));
    bundle.save();
    bundle.output_of(Call::new(&["--trace", &path, "create", "--bundle", bundle.path(), &bundle.id])).fails();
    assert!(find(&read(&path).0, "create ").args["error"].is_string());
}

/// The process's other clocks jump when it enters it; the trace's does not.
fn trace_in_a_time_namespace() {
    let path = file();
    let mut bundle = Bundle::args(&["/bin/true"]);
    bundle.namespace("time", None);
    bundle.set("/linux/timeOffsets", json!({ "monotonic": { "secs": 1_000_000, "nanosecs": 0 } }));
    bundle.save();
    bundle.output_of(Call::new(&["--trace", &path, "run", "--bundle", bundle.path(), &bundle.id])).ok();
    let (spans, _) = read(&path);
    let whole = find(&spans, "run ");
    let outside = spans.iter().find(|span| span.pid != whole.pid && (span.begin < whole.begin || span.end > whole.end));
    assert!(outside.is_none(), "{outside:?} of {whole:?}");
}

/// Telling the times is a system call too, which a filter need not allow.
fn a_filter_that_kills_meets_no_call_of_ours() {
    let mut bundle = Bundle::args(&["/bin/true"]);
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["sendmsg", "sendto", "write", "writev"], "action": "SCMP_ACT_KILL_PROCESS" }],
        }),
    );
    bundle.set("/process/noNewPrivileges", json!(true));
    bundle.save();
    for option in ["--debug".to_owned(), format!("--trace={}", file())] {
        assert_eq!(bundle.output_of(Call::new(&[&option, "run", "--bundle", bundle.path(), &bundle.id])).code(), 0, "{option}");
    }
    let path = file();
    let container = bundle.create();
    Call::new(&["--trace", &path, "start", &bundle.id]).output().ok();
    container.wait_status("stopped");
    find(&read(&path).0, "load");
}

fn other_files_are_refused() {
    let bundle = Bundle::new();
    bundle.save();
    let path = file();
    fs::write(&path, "precious\n").unwrap();
    for place in [path.as_str(), "/dev/null", "/no/such/directory/x"] {
        let said = bundle.output_of(Call::new(&["--trace", place, "create", "--bundle", bundle.path(), &bundle.id])).fails();
        assert!(said.contains("--trace: cannot write"), "{said}");
        assert!(Call::new(&["state", &bundle.id]).output().code() != 0, "nothing was made");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious\n");
}

fn trace_is_drawn() {
    let path = file();
    let bundle = Bundle::args(&["/bin/true"]);
    bundle.save();
    bundle.output_of(Call::new(&["--trace", &path, "run", "--bundle", bundle.path(), &bundle.id])).ok();
    let text = Call::new(&["trace", &path]).output().ok();
    let (spans, _) = read(&path);
    let bars = text.lines().filter(|line| line.ends_with('#') && line.contains(" ms  ")).count();
    assert_eq!(bars, spans.len(), "{text}");
    assert!(text.contains("  container's process ") && text.contains("    run "), "{text}");
    assert!(Call::new(&["trace", bundle.path()]).output().fails().contains("cannot read the trace"));
}
