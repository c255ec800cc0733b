// SPDX-License-Identifier: Apache-2.0
//! The file of `update --resources`, and its standard input: what is refused changes nothing.

use serde_json::json;

use super::{Bench, OWN_WORDS, file};
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[test!(texts).differs(OWN_WORDS), test!(fields).differs(OWN_WORDS)];

fn texts() {
    let container = Bundle::new().run_detached();
    let mut bench = Bench::new();
    let cases: [(&str, &[u8], &str); 8] = [
        ("nothing", b"", "empty"),
        ("an open brace", b"{", "cut off"),
        ("an array", b"[]", "an array"),
        ("null", b"null", "null"),
        ("two documents", b"{} {}", "line"),
        ("a NUL byte", b"{}\0", "NUL"),
        ("no UTF-8", b"{\"unified\": {\"\xff\": \"\"}}", "UTF-8"),
        ("a limit twice", b"{\"pids\": {\"limit\": 1, \"limit\": 2}}", "twice"),
    ];
    for (what, text, word) in cases {
        let path = file("resources.json", text);
        bench.judge(what, Call::new(&["update", "--resources", &path, &container.id]), &["resources.json", word]);
        let input = std::fs::File::open(&path).unwrap();
        let call = Call::new(&["update", "--resources=-", &container.id]).stdin(input);
        bench.judge(&format!("{what} on stdin"), call, &["stdin", word]);
    }
    let much = file("resources.json", vec![b' '; 33 << 20]);
    bench.judge("33 MiB", Call::new(&["update", "--resources", &much, &container.id]), &["resources.json"]);
    let input = std::fs::File::open(&much).unwrap();
    bench.judge("33 MiB on stdin", Call::new(&["update", "--resources", "-", &container.id]).stdin(input), &["stdin", "bytes"]);
    let zero = std::fs::File::open("/dev/zero").unwrap();
    bench.judge("/dev/zero on stdin", Call::new(&["update", "--resources", "-", &container.id]).stdin(zero), &["stdin", "bytes"]);
    bench.finish(19);
}

fn fields() {
    let container = Bundle::new().run_detached();
    let mut bench = Bench::new();
    for (value, words) in [
        (json!({ "pids": { "limit": "1" } }), vec!["pids.limit", "\"1\""]),
        (json!({ "pids": 7 }), vec!["pids", "`7`"]),
        (json!({ "memory": { "limit": -2 } }), vec!["memory.limit", "-2"]),
        (json!({ "memory": { "limit": 1.5 } }), vec!["memory.limit", "1.5"]),
        (json!({ "memory": { "limit": 2000, "swap": 1000 } }), vec!["memory.swap", "1000"]),
        (json!({ "memory": { "swappiness": 500 } }), vec!["memory.swappiness", "500"]),
        (json!({ "cpu": { "period": 1 } }), vec!["cpu.period", "1"]),
        (json!({ "cpu": { "cpus": "z" } }), vec!["cpu.cpus", "z"]),
        (json!({ "cpu": { "shares": -5 } }), vec!["cpu.shares", "-5"]),
        (json!({ "blockIO": { "weight": 5 } }), vec!["blockIO.weight", "5"]),
        (json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 8 }] } }), vec!["throttleReadBpsDevice[0]", "minor"]),
        (json!({ "unified": { "../x": "1" } }), vec!["unified", "../x"]),
        (json!({ "unified": { "cgroup.procs/x": "1" } }), vec!["unified", "cgroup.procs/x"]),
        (json!({ "devices": [{ "allow": true, "access": "q" }] }), vec!["devices[0].access", "q"]),
        (json!({ "hugepageLimits": [{ "pageSize": "x", "limit": 1 }] }), vec!["hugepageLimits[0].pageSize", "x"]),
        (json!({ "rdma": { "a/b": { "hcaHandles": 1 } } }), vec!["rdma", "a/b"]),
    ] {
        let path = file("resources.json", value.to_string());
        let call = Call::new(&["update", "--resources", &path, &container.id]);
        bench.judge(&value.to_string(), call, &words);
    }
    bench.finish(16);
}
