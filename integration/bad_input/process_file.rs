// SPDX-License-Identifier: Apache-2.0
//! The file of `exec --process`: as strict as config.json, and what fails starts nothing in the container.

use serde_json::{Value, json};

use super::{Bench, OWN_WORDS, file};
use crate::harness::{Bundle, Call, Container, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[test!(texts).differs(OWN_WORDS), test!(fields).differs(OWN_WORDS)];

fn try_text(bench: &mut Bench, container: &Container, what: &str, text: &[u8], words: &[&str]) {
    let path = file("process.json", text);
    let call = Call::new(&["exec", "--process", &path, &container.id]);
    bench.judge(what, call, &[&["process.json"], words].concat());
}

/// Nothing but the container's first process is in it.
fn assert_untouched(container: &Container) {
    let text = Call::new(&["ps", "--format", "json", &container.id]).output().ok();
    assert_eq!(serde_json::from_str::<Vec<i32>>(&text).unwrap(), [container.pid()]);
}

fn texts() {
    let container = Bundle::new().run_detached();
    let mut bench = Bench::new();
    let cases: [(&str, &[u8], &[&str]); 10] = [
        ("nothing", b"", &["empty"]),
        ("an open brace", b"{", &["cut off"]),
        ("an array", b"[]", &["an array"]),
        ("null", b"null", &["null"]),
        ("two documents", b"{} {}", &[]),
        ("a NUL byte", b"{\"cwd\": \"/\"}\0", &["NUL"]),
        ("a byte order mark", b"\xef\xbb\xbf{}", &["byte order mark"]),
        ("no UTF-8", b"{\"cwd\": \"\xff\"}", &["UTF-8"]),
        ("arguments twice", b"{\"cwd\":\"/\",\"args\":[\"true\"],\"args\":[\"sh\"]}", &["args", "twice"]),
        ("a whole config.json", b"{\"ociVersion\":\"1.0.2\",\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]}}", &["args"]),
    ];
    for (what, text, words) in cases {
        try_text(&mut bench, &container, what, text, words);
    }
    try_text(&mut bench, &container, "deep nesting", "[".repeat(100_000).as_bytes(), &[]);
    try_text(&mut bench, &container, "33 MiB of blanks", &vec![b' '; 33 << 20], &[]);
    assert_untouched(&container);
    bench.finish(12);
}

fn fields() {
    let container = Bundle::new().run_detached();
    let mut bench = Bench::new();
    for (name, value, shown) in [
        ("args", json!([]), "required"),
        ("args", json!("true"), "\"true\""),
        ("args", json!([1]), "`1`"),
        ("args", json!(["/not/there"]), "/not/there"),
        ("args", json!(["a\0b"]), "args"),
        ("cwd", json!(""), "required"),
        ("cwd", json!("tmp"), "absolute"),
        ("cwd", json!(7), "`7`"),
        ("cwd", json!("/etc/passwd"), "/etc/passwd"),
        ("env", json!(["NOVALUE"]), "NOVALUE"),
        ("env", json!({}), "an object"),
        ("user", json!({ "uid": -1 }), "`-1`"),
        ("user", json!({ "uid": "1" }), "\"1\""),
        ("user", json!({ "gid": 4_294_967_295u64 }), "4294967295"),
        ("user", json!({ "umask": 1000 }), "1000"),
        ("user", json!([1000]), "an array"),
        ("capabilities", json!(["CAP_KILL"]), "an array"),
        ("capabilities", json!({ "effective": ["CAP_KILL"] }), "permitted"),
        ("noNewPrivileges", json!("true"), "\"true\""),
        ("rlimits", json!([{ "type": "RLIMIT_NONE", "soft": 1, "hard": 1 }]), "RLIMIT_NONE"),
        ("rlimits", json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]), "2"),
        ("oomScoreAdj", json!(2000), "2000"),
        ("scheduler", json!({ "policy": "SCHED_NONE" }), "SCHED_NONE"),
        ("ioPriority", json!({ "class": "NONE", "priority": 1 }), "NONE"),
        ("execCPUAffinity", json!({ "initial": "a-b" }), "a-b"),
        ("terminal", json!(1), "`1`"),
        ("apparmorProfile", json!("nothing"), "nothing"),
        ("selinuxLabel", json!("nothing"), "nothing"),
    ] {
        let mut process = json!({ "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"] });
        process.as_object_mut().unwrap().insert(name.to_owned(), value.clone());
        let text: Value = process;
        let path = file("process.json", text.to_string());
        let call = Call::new(&["exec", "--process", &path, &container.id]);
        bench.judge(&format!("{name} = {value}"), call, &[name, shown]);
    }
    assert_untouched(&container);
    bench.finish(28);
}
