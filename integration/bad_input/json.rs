// SPDX-License-Identifier: Apache-2.0
//! config.json that is no JSON, or not one object, or too much of it.

use serde_json::json;

use super::{Bench, OWN_WORDS};
use crate::harness::Test;
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(not_json).differs(OWN_WORDS),
    test!(names_given_twice).differs(OWN_WORDS),
    test!(too_much).differs(OWN_WORDS),
    test!(characters_that_no_kernel_takes).differs(OWN_WORDS),
];

fn not_json() {
    let mut bench = Bench::new();
    let good = serde_json::to_vec(&bench.bundle.config).unwrap();
    let cases: [(&str, &[u8], &[&str]); 24] = [
        ("nothing", b"", &["config.json", "empty"]),
        ("blanks", b" \n\t\n", &["nothing but blanks"]),
        ("an open brace", b"{", &["cut off"]),
        ("an open string", b"{\"ociVersion", &["cut off"]),
        ("cut off in the middle", &good[..good.len() / 2], &["cut off"]),
        ("cut off before the last brace", &good[..good.len() - 1], &["cut off"]),
        ("an array", b"[]", &["an object", "an array"]),
        ("null", b"null", &["an object", "null"]),
        ("a number", b"7", &["an object", "7"]),
        ("a string", b"\"config\"", &["an object", "config"]),
        ("a missing colon", b"{\"ociVersion\" \"1.0.2\"}", &["not JSON", "line 1"]),
        ("a missing comma", b"{\"ociVersion\": \"1.0.2\" \"root\": {}}", &["not JSON", "line 1"]),
        ("a comma too many", b"{\"ociVersion\": \"1.0.2\",}", &["not JSON", "line 1"]),
        ("single quotes", b"{'ociVersion': '1.0.2'}", &["not JSON", "line 1"]),
        ("a comment", b"{\n// here\n\"ociVersion\": \"1.0.2\"}", &["not JSON", "line 2"]),
        ("a bare word", b"{\"ociVersion\": latest}", &["not JSON", "line 1"]),
        ("an unknown escape", b"{\"ociVersion\": \"\\x\"}", &["not JSON", "line 1"]),
        ("half a surrogate pair", b"{\"ociVersion\": \"\\ud800\"}", &["not JSON", "line 1"]),
        ("not a number", b"{\"process\": {\"oomScoreAdj\": NaN}}", &["not JSON", "line 1"]),
        ("a newline in a string", b"{\"ociVersion\": \"1\n.0.2\"}", &["not JSON", "line"]),
        ("a NUL byte", b"{\"ociVersion\": \"1.0.2\"}\0", &["NUL byte"]),
        ("a byte order mark", b"\xef\xbb\xbf{\"ociVersion\": \"1.0.2\"}", &["byte order mark"]),
        ("UTF-16", b"\xff\xfe{\0\"\0", &["UTF-16"]),
        ("Latin 1", b"{\"hostname\": \"M\xfcnchen\"}", &["not UTF-8", "0xfc"]),
    ];
    for (what, text, words) in cases {
        bench.refuses_text(what, text, words);
    }
    for (what, more) in [("garbage at the end", &b"x"[..]), ("a second brace at the end", b"}"), ("a second document", b"\n{}")] {
        bench.refuses_text(what, &[&good, more].concat(), &["config.json", "line"]);
    }
    bench.finish(27);
}

/// Two readers of one file could disagree about what it says.
fn names_given_twice() {
    let mut bench = Bench::new();
    for (what, from, to, path) in [
        ("the whole process", "\"process\":", "\"process\":{},\"process\":", "process"),
        ("the root", "\"root\":", "\"root\":{\"path\":\"/\"},\"root\":", "root"),
        ("the arguments", "\"args\":", "\"args\":[\"/bin/true\"],\"args\":", "process.args"),
        ("the user", "\"uid\":", "\"uid\":1000,\"uid\":", "process.user.uid"),
        ("the namespaces", "\"namespaces\":", "\"namespaces\":[],\"namespaces\":", "linux.namespaces"),
        ("a capability set", "\"bounding\":", "\"bounding\":[],\"bounding\":", "process.capabilities.bounding"),
        ("an escaped name", "\"noNewPrivileges\":", "\"noNewPrivilege\\u0073\":false,\"noNewPrivileges\":", "noNewPrivileges"),
    ] {
        let text = serde_json::to_string(&bench.bundle.config).unwrap().replacen(from, to, 1);
        bench.refuses_text(what, text.as_bytes(), &[path, "twice"]);
    }
    for (pointer, name) in [("/annotations", "annotations"), ("/linux/sysctl", "linux.sysctl")] {
        let saved = bench.bundle.config.clone();
        bench.bundle.set(pointer, json!({ "KEY": "1" }));
        let text = serde_json::to_string(&bench.bundle.config).unwrap().replace("\"KEY\":", "\"net.a\":\"0\",\"net.a\":");
        bench.refuses_text(name, text.as_bytes(), &[name, "twice"]);
        bench.bundle.config = saved;
    }
    bench.finish(9);
}

fn too_much() {
    let mut bench = Bench::new();
    bench.refuses_text("100,000 open brackets", "[".repeat(100_000).as_bytes(), &["config.json"]);
    let nested = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    bench.refuses_text("100,000 brackets in a field that nobody knows", nested.as_bytes(), &["config.json"]);
    let objects = format!("{{\"annotations\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    bench.refuses_text("100,000 objects in each other", objects.as_bytes(), &["config.json"]);
    let long = "x".repeat(64 << 20);
    bench.refuses_text("a string of 64 MiB", format!("{{\"ociVersion\":\"{long}\"}}").as_bytes(), &["config.json"]);
    drop(long);
    let megabytes = "y".repeat(4 << 20);
    bench.refuses("an argument of 4 MiB", &["process.args[1]", "argument list too long"], |bundle| {
        bundle.set("/process/args", json!(["/bin/true", megabytes]));
    });
    bench.refuses("a variable of 4 MiB", &["process.env[0]", "argument list too long"], |bundle| {
        bundle.set("/process/env", json!([format!("A={megabytes}")]));
    });
    bench.refuses("a host name of 4 MiB", &["hostname", "longer than 64"], |bundle| {
        bundle.set("/hostname", json!(megabytes));
    });
    bench.refuses("a working directory of 4 MiB", &["process.cwd"], |bundle| {
        bundle.set("/process/cwd", json!(format!("/{megabytes}")));
    });
    bench.refuses("a cgroup path of 4 MiB", &["linux.cgroupsPath"], |bundle| {
        bundle.set("/linux/cgroupsPath", json!(format!("/{megabytes}")));
    });
    bench.refuses("20,000 environment variables", &["argument list too long"], |bundle| {
        let many: Vec<String> = (0..20_000).map(|n| format!("V{n}={}", "x".repeat(200))).collect();
        bundle.set("/process/env", json!(many));
    });
    bench.refuses("20,000 id mappings", &["linux.uidMappings", "340"], |bundle| {
        let maps: Vec<_> = (0..20_000).map(|n| (n, 100_000 + n, 1)).collect();
        bundle.user_namespace(&maps);
    });
    bench.finish(11);
}

/// C strings end at a NUL: what comes after it would be a lie to whoever reads the configuration.
fn characters_that_no_kernel_takes() {
    let mut bench = Bench::new();
    for pointer in [
        "/hostname",
        "/domainname",
        "/root/path",
        "/process/cwd",
        "/process/args/0",
        "/process/args/-",
        "/process/env/-",
        "/mounts/0/destination",
        "/mounts/0/source",
        "/mounts/0/type",
        "/mounts/0/options/-",
        "/linux/maskedPaths/-",
        "/linux/readonlyPaths/-",
        "/linux/namespaces/0/path",
        "/linux/cgroupsPath",
    ] {
        bench.refuses_value(pointer, json!("/a=b\0c"), &[]);
    }
    bench.refuses_value("/linux/sysctl/net.ipv4.ip_forward", json!("1\0"), &[]);
    bench.refuses_value("/linux/sysctl/net.ipv4.ip_forward", json!("1\n2"), &[]);
    bench.refuses_value("/linux/resources/unified/memory.high", json!("1\0"), &[]);
    bench.refuses_value("/hooks/createRuntime/-", json!({ "path": "/bin/true\0" }), &[]);
    bench.refuses_value("/hooks/poststop/-", json!({ "path": "/bin/true", "args": ["a\0b"] }), &[]);
    bench.refuses_value("/hooks/poststop/-", json!({ "path": "/bin/true", "env": ["A=a\0b"] }), &[]);
    bench.refuses_value("/linux/devices/-", json!({ "path": "/dev/x\0y", "type": "p" }), &[]);
    bench.refuses_value("/process/apparmorProfile", json!("a\nb"), &[]);
    bench.refuses_value("/process/selinuxLabel", json!("a\nb"), &[]);
    bench.finish(24);
}
