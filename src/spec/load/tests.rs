// SPDX-License-Identifier: Apache-2.0
//! Tests of the reader: fixtures, the oracles oci-spec and serde_path_to_error, and files that are wrong in every way.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::spec::{fixtures, validate};

fn problem(text: impl AsRef<[u8]>) -> (String, String) {
    let mut problems = parse_config(text.as_ref()).expect_err("this was taken for a config.json");
    assert_eq!(problems.len(), 1);
    let Problem { at, rule, .. } = problems.remove(0);
    (at, rule)
}

#[test]
fn fixtures_are_read() {
    for (name, text) in fixtures::ALL {
        if let Err(problems) = parse_config(text.as_bytes()) {
            panic!("{name}: {problems:?}");
        }
    }
}

/// oci-spec's reader is the oracle: both must understand the same of every fixture.
#[test]
fn agrees_with_oci_spec() {
    for (name, text) in fixtures::ALL {
        // oci-spec 0.10 misspells two of these flags and refuses the right names.
        let text =
            text.replace("SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM").replace("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM");
        let ours = parse_config(text.as_bytes()).unwrap();
        let theirs: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
        let mut ours = serde_json::to_value(&ours).unwrap();
        let mut theirs = serde_json::to_value(&theirs).unwrap();
        for platform in ["vm", "windows"] {
            theirs.as_object_mut().unwrap().remove(platform);
        }
        drop_empty(&mut ours);
        drop_empty(&mut theirs);
        let mut differences = Vec::new();
        compare("", &ours, &theirs, &mut differences);
        assert_eq!(differences, Vec::<String>::new(), "{name}");
    }
}

/// The paths at which two documents differ. Capabilities are sets: oci-spec forgets their order.
fn compare(path: &str, ours: &Value, theirs: &Value, differences: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare(&field(path, name), &of(ours), &of(theirs), differences);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if path.starts_with("process.capabilities.") => {
            let set = |list: &[Value]| list.iter().map(Value::to_string).collect::<std::collections::BTreeSet<_>>();
            if set(ours) != set(theirs) {
                differences.push(path.to_string());
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                compare(&index(path, at), ours, theirs, differences);
            }
        }
        // oci-spec reads an absent limit as 0: a container that may not fork.
        _ if path == "linux.resources.pids" && ours.is_null() => assert_eq!(theirs.to_string(), r#"{"limit":0}"#),
        // One side has no number where the other has 0, in fields where both mean 0.
        (Value::Null, zero) | (zero, Value::Null)
            if *zero == 0 && [".major", ".minor", ".nanosecs"].iter().any(|end| path.ends_with(end)) => {}
        _ if ours != theirs => differences.push(format!("{path}: {ours} is not {theirs}")),
        _ => {}
    }
}

/// Absent, null, false and empty say the same.
fn drop_empty(value: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    match value {
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|_, value| !empty(value));
        }
        _ => {}
    }
}

#[test]
fn says_which_value_is_wrong() {
    let cases = [
        (
            r#"{"process":{"user":{"uid":"abc"}}}"#,
            "process.user.uid",
            r#"expected a whole number from 0 to 4294967295, found the string "abc" (line 1 column 27)"#,
        ),
        (
            "{\n  \"process\": {\n    \"user\": {\"uid\": -1}}}",
            "process.user.uid",
            "expected a whole number from 0 to 4294967295, found `-1` (line 3 column 21)",
        ),
        (
            r#"{"process":{"user":{"gid":4294967296}}}"#,
            "process.user.gid",
            "expected a whole number from 0 to 4294967295, found `4294967296` (line 1 column 27)",
        ),
        (
            r#"{"process":{"user":{"gid":1.5}}}"#,
            "process.user.gid",
            "expected a whole number from 0 to 4294967295, found `1.5` (line 1 column 27)",
        ),
        (
            r#"{"process":{"rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":18446744073709551616}]}}"#,
            "process.rlimits[0].hard",
            "expected a whole number from 0 to 18446744073709551615, found `18446744073709551616` (line 1 column 62)",
        ),
        (
            r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":1,"size":1},{"containerID":0,"size":1}]}}"#,
            "linux.uidMappings[1].hostID",
            "is required (line 1 column 64)",
        ),
        (r#"{"process":{"args":["a",{"b":1}]}}"#, "process.args[1]", "expected a string, found an object (line 1 column 25)"),
        (r#"{"process":{"args":["a", null]}}"#, "process.args[1]", "expected a string, found `null` (line 1 column 26)"),
        (r#"{"process":{"args":"sh"}}"#, "process.args", r#"expected an array, found the string "sh" (line 1 column 20)"#),
        (r#"{"process":[]}"#, "process", "expected an object, found an array (line 1 column 12)"),
        (r#"{"root":{"path":"a","readonly":1}}"#, "root.readonly", "expected true or false, found `1` (line 1 column 32)"),
        (
            r#"{"linux":{"sysctl":{"net.core.somaxconn":256}}}"#,
            r#"linux.sysctl["net.core.somaxconn"]"#,
            "expected a string, found `256` (line 1 column 42)",
        ),
        (r#"{"hostname":"a", "mounts":[], "hostname":"b"}"#, "hostname", "is given twice (line 1 column 31)"),
        (r#"[]"#, "", "expected an object, found an array (line 1 column 1)"),
        (r#""config""#, "", r#"expected an object, found the string "config" (line 1 column 1)"#),
    ];
    for (text, at, rule) in cases {
        assert_eq!(problem(text), (at.to_string(), rule.to_string()), "{text}");
    }
}

#[test]
fn says_why_a_file_is_no_json() {
    let cases: [(&[u8], &str, &str); 15] = [
        (b"", "", "the file is empty"),
        (b" \n", "", "the file holds nothing but blanks"),
        (b"\xef\xbb\xbf{}", "", "the file begins with a byte order mark (EF BB BF), which JSON does not allow"),
        (b"\xff\xfe{\0}\0", "", "the file is UTF-16; it must be UTF-8"),
        (b"\0\0\0", "", "the file holds a NUL byte (line 1 column 1): was it cut short by a crash, or is it no text?"),
        (b"{}\n\0", "", "the file holds a NUL byte (line 2 column 1): was it cut short by a crash, or is it no text?"),
        (b"{\"hostname\":\"\xc3\x28\"}", "", "the file is not UTF-8: byte 0xc3 (line 1 column 14)"),
        (b"{} {}", "", "a second document follows the first (line 1 column 4)"),
        (b"{}\n# end", "", "`# end` follows the end of the document (line 2 column 1)"),
        (
            b"{\"process\":{\"args\":[\"sh\",",
            "process.args[1]",
            "the file ends here, in the middle of the document: is it cut off?",
        ),
        (b"{\"hostname\":\"a", "hostname", "the file ends here, in the middle of the document: is it cut off?"),
        (b"{\"process\":{\"args\":[\"sh\",]}}", "process.args", "not JSON: trailing comma (line 1 column 26)"),
        (b"{\"process\":{\"cwd\":\"/\" \"args\":[]}}", "process.cwd", "not JSON: expected `,` or `}` (line 1 column 23)"),
        (b"{\"hostname\": web}", "hostname", "not JSON: expected value (line 1 column 14)"),
        (b"#!/bin/sh", "", "not JSON: expected value (line 1 column 1)"),
    ];
    for (text, at, rule) in cases {
        assert_eq!(problem(text), (at.to_string(), rule.to_string()), "{}", text.escape_ascii());
    }
}

/// A text with a NUL in it is one text to the checks and a shorter one to the kernel.
#[test]
fn no_nul_anywhere() {
    let cases = [
        (r#"{"hostname":"a\u0000b"}"#, "hostname"),
        (r#"{"root":{"path":"\u0000"}}"#, "root.path"),
        (r#"{"process":{"args":["sh","a\u0000b"]}}"#, "process.args[1]"),
        (r#"{"mounts":[{"options":["ro\u0000"]}]}"#, "mounts[0].options[0]"),
        (r#"{"annotations":{"a":"\u0000"}}"#, "annotations.a"),
        (r#"{"annotations":{"a\u0000b":"c"}}"#, r#"annotations["a\0b"]"#),
        (r#"{"linux":{"sysctl":{"net.a":"1\u0000"}}}"#, r#"linux.sysctl["net.a"]"#),
        (r#"{"linux":{"timeOffsets":{"\u0000":{}}}}"#, r#"linux.timeOffsets["\0"]"#),
    ];
    for (text, at) in cases {
        let (found, rule) = problem(text);
        assert_eq!(found, at, "{text}");
        assert!(rule.starts_with("holds a NUL character (line 1 column"), "{text}: {rule}");
    }
    assert!(parse_config(br#"{"x-unknown":"\u0000","hostname":"a\\u0000"}"#).is_ok());
}

#[test]
fn depth_is_no_danger() {
    let deep = "[".repeat(1_000_000);
    assert!(parse_config(format!("{{\"x\":{deep}{}}}", "]".repeat(1_000_000)).as_bytes()).is_ok());
    let (at, rule) = problem(format!("{{\"x\":{deep}"));
    assert!(at.starts_with("x[0][0]") && at.ends_with('…'), "{at}");
    assert!(rule.contains("ends here"), "{rule}");
    problem(format!("{{\"process\":{deep}"));
}

#[test]
fn process_and_resources_stand_alone() {
    let process = parse_process(br#"{"args":["sh"],"cwd":"/"}"#).unwrap();
    assert_eq!((process.args.len(), process.cwd.as_str()), (1, "/"));
    assert_eq!(parse_process(br#"{"args":0}"#).unwrap_err()[0].at, "args");
    let resources = parse_resources(br#"{"memory":{"limit":-1}}"#).unwrap();
    assert_eq!(resources.memory.unwrap().limit, Some(-1));
    assert_eq!(parse_resources(br#"{"pids":{"limit":"1"}}"#).unwrap_err()[0].at, "pids.limit");
}

/// Puts a value of the wrong kind at a random place and gives the path that serde_path_to_error finds for it, if it is refused.
fn spoil(value: &mut Value, choices: &mut impl Iterator<Item = usize>) {
    let mut choose = |among: usize| choices.next().unwrap_or(0) % among.max(1);
    match value {
        Value::Object(map) if !map.is_empty() && choose(8) != 0 => {
            let at = choose(map.len());
            let Some(inner) = map.values_mut().nth(at) else { return };
            spoil(inner, choices);
        }
        Value::Array(list) if !list.is_empty() && choose(8) != 0 => {
            let at = choose(list.len());
            spoil(&mut list[at], choices);
        }
        other => {
            let wrong = [
                Value::Null,
                Value::Bool(true),
                Value::from(-7),
                Value::from(1.5),
                Value::from(u64::MAX),
                Value::from("text \"quoted\""),
                serde_json::json!([]),
                serde_json::json!({"a": 1}),
                serde_json::json!([[1]]),
            ];
            *other = wrong[choose(wrong.len())].clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn finds_the_field_that_serde_path_to_error_finds(which in 0..fixtures::ALL.len(), choices in prop::collection::vec(0usize..1000, 24), pretty: bool) {
        let mut value: Value = serde_json::from_str(fixtures::ALL[which].1).unwrap();
        spoil(&mut value, &mut choices.into_iter());
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let found = parse_config(text.as_bytes());
        let oracle: Result<Spec, _> = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text));
        match oracle {
            Ok(spec) => {
                validate::config(&spec);
                prop_assert_eq!(found, Ok(spec));
            }
            Err(error) => {
                let plain = |path: &str| path.replace("[\"", ".").replace("\"]", "");
                let found = found.unwrap_err().remove(0);
                let oracle = if error.path().to_string() == "." { String::new() } else { error.path().to_string() };
                if found.rule.starts_with("is required") {
                    prop_assert!(plain(&found.at).starts_with(&oracle), "{} {}", found.at, oracle);
                } else {
                    prop_assert_eq!(plain(&found.at), oracle);
                }
            }
        }
    }

    #[test]
    fn never_panics(which in 0..fixtures::ALL.len(), cut in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), truncate: bool) {
        let mut bytes = fixtures::ALL[which].1.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        let problems = match parse_config(&bytes) {
            Ok(spec) => validate::config(&spec).problems,
            Err(problems) => problems,
        };
        for problem in problems {
            prop_assert!(!problem.rule.is_empty() && !problem.rule.contains('\n'), "{:?}", problem);
        }
        let _ = parse_process(&bytes);
        let _ = parse_resources(&bytes);
    }
}
