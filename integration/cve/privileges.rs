// SPDX-License-Identifier: Apache-2.0
//! Capabilities, ids and hooks: what the configuration says, and nothing besides.

use std::fs;

use serde_json::{Value, json};

use super::exec;
use crate::harness::bundle::folder;
use crate::harness::look::status_field;
use crate::harness::{Bundle, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2022_29162_inheritable_capabilities).differs(&[("crun", "does this in another way")]),
    test!(cve_2022_24769_a_file_with_inheritable_capabilities),
    test!(identity_at_each_step).differs(&[("runc", "does this in another way"), ("crun", "does this in another way")]),
    test!(cve_2025_23266_environment_of_hooks).differs(&[("crun", "does this in another way")]),
    test!(cve_2021_43784_much_to_be_told).differs(&[("crun", "does this in another way")]),
];

fn sets(status: &str) -> Vec<String> {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|set| status_field(status, set).trim_start_matches('0').to_owned())
        .to_vec()
}

/// CVE-2022-29162, CVE-2022-24769, CVE-2022-27650, CVE-2025-27612: what is inheritable comes back with a file that says so.
fn cve_2022_29162_inheritable_capabilities() {
    let mut bundle = Bundle::sh("cat /proc/self/status; exec sleep 1000");
    let caps = json!(["CAP_CHOWN", "CAP_KILL"]);
    bundle.set("/process/capabilities", json!({ "bounding": caps, "effective": caps, "permitted": caps }));
    let container = bundle.run_detached();
    let expected = ["", "21", "21", "21", ""];
    assert_eq!(sets(&container.wait_stdout("voluntary_ctxt")), expected);
    assert_eq!(sets(&exec(&container, &[], &["/bin/cat", "/proc/self/status"]).ok()), expected);
    let more = exec(&container, &["--cap", "CAP_SETUID"], &["/bin/cat", "/proc/self/status"]).ok();
    assert_eq!(sets(&more), ["", "a1", "a1", "a1", ""]);
    // As an ordinary user nothing is left of them.
    let user = exec(&container, &["--user", "1000"], &["/bin/cat", "/proc/self/status"]).ok();
    assert_eq!(&sets(&user)[..3], ["", "", ""]);
}

/// What an engine asks for by mistake is given as asked, and not to another set as well.
fn cve_2022_24769_a_file_with_inheritable_capabilities() {
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/status"]);
    let (some, none): (Value, Value) = (json!(["CAP_KILL"]), json!([]));
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": some, "effective": none, "permitted": none, "inheritable": some, "ambient": none }),
    );
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(sets(&bundle.print()), ["20", "", "", "20", ""]);
}

/// The order in which a container's first process becomes what it is to be, seen from outside and from inside at every step that lets
/// somebody look: hooks, the start gate, the program.
fn identity_at_each_step() {
    let place = folder();
    let mut bundle = Bundle::sh("cat /proc/self/status >/steps/program; exec sleep 1000");
    let caps = json!(["CAP_KILL"]);
    bundle.set("/process/capabilities", json!({ "bounding": caps, "effective": caps, "permitted": caps }));
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [7] }));
    let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
    bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    let steps = place.join("steps");
    fs::create_dir(&steps).unwrap();
    fs::set_permissions(&steps, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    bundle.mount("/steps", "bind", steps.to_str().unwrap(), &["bind"]);
    // The state on stdin names the process.
    let outside = |name: &str| {
        let script =
            format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); cat /proc/$pid/status >{}", steps.join(name).display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
    };
    let inside =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", "cat /proc/1/status >/steps/start-container"], "env": ["PATH=/bin"] }]);
    bundle.set("/hooks", json!({ "createRuntime": outside("create-runtime"), "startContainer": inside }));
    let container = bundle.create();
    let gate = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    container.start();
    crate::harness::look::eventually("the program runs", || {
        fs::read_to_string(steps.join("program")).is_ok_and(|text| text.contains("nonvoluntary_ctxt"))
    });
    let read = |name: &str| fs::read_to_string(steps.join(name)).unwrap();
    let row = |status: &str| ["Uid", "Groups", "CapBnd", "NoNewPrivs", "Seccomp"].map(|name| status_field(status, name));
    // While the root filesystem is made it is user 0, with all that this takes.
    let [uid, _, bounding, no_new, filter] = row(&read("create-runtime"));
    assert_eq!((uid.as_str(), no_new.as_str(), filter.as_str()), ("0 0 0 0", "0", "0"));
    assert_ne!(bounding, "0000000000000020");
    // From the gate on it is whom the configuration names, with nothing more to lose but the filter, which comes last.
    let kept = ["1000 1000 1000 1000", "7", "0000000000000020", "1"];
    for (when, status) in [("at the gate", gate), ("in startContainer", read("start-container"))] {
        let now = row(&status);
        assert_eq!(&now[..4], kept, "{when}");
        assert_eq!(now[4], "0", "{when}: the filter is there already");
    }
    let program = row(&read("program"));
    assert_eq!((&program[..4], program[4].as_str()), (&kept.map(str::to_owned)[..], "2"));
}

/// The image's environment, which chooses libraries, is not that of hooks, which run with the runtime's rights.
fn cve_2025_23266_environment_of_hooks() {
    let seen = folder().join("seen");
    let mut bundle = Bundle::sh("exit 0");
    bundle.set("/process/env", json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "BASH_ENV=/evil", "IMAGE=1"]));
    let hook = |env: &Value| {
        let script = format!("env >>{}; echo >>{}", seen.display(), seen.display());
        let mut hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        if !env.is_null() {
            hook["env"] = env.clone();
        }
        json!([hook])
    };
    for env in [json!(["PATH=/usr/bin:/bin", "OWN=1"]), Value::Null] {
        let hook = hook(&env);
        bundle.set(
            "/hooks",
            json!({ "prestart": hook, "createRuntime": hook, "createContainer": hook, "poststart": hook, "poststop": hook }),
        );
        bundle.run().ok();
    }
    let text = fs::read_to_string(&seen).unwrap();
    assert_eq!(text.matches("OWN=1").count(), 5, "{text}");
    for word in ["evil", "IMAGE", "LD_", "BASH_ENV", "_BERTH", "_LIBCONTAINER"] {
        assert!(!text.contains(word), "{word} is in the environment of a hook: {text}");
    }
}

/// Lengths that do not fit into 16 bits, in everything that one process of the runtime tells another.
fn cve_2021_43784_much_to_be_told() {
    let mut bundle = Bundle::sh("wc -l </proc/self/uid_map; echo ran");
    let maps: Vec<(u32, u32, u32)> = (0..280).map(|n| (n, 100_000 + n * 2, 1)).collect();
    bundle.user_namespace(&maps);
    let annotations: serde_json::Map<String, Value> = (0..2000).map(|n| (format!("key{n}"), json!("x".repeat(100)))).collect();
    bundle.set("/annotations", json!(annotations));
    let variables: Vec<String> =
        ["PATH=/bin".to_owned()].into_iter().chain((0..700).map(|n| format!("V{n}={}", "x".repeat(100)))).collect();
    bundle.set("/process/env", json!(variables));
    for place in 0..300 {
        bundle.set("/linux/maskedPaths/-", json!(format!("/not/there/{place}/{}", "x".repeat(200))));
    }
    assert_eq!(bundle.print(), "280\nran\n");
    // And in what is told of a failure.
    let mut bundle = Bundle::sh("echo ran");
    let long = format!("/{}", "x/".repeat(2000));
    bundle.set("/process/args", json!([long]));
    let message = bundle.create_fails();
    assert!(message.contains("too long") || message.contains("no such file"), "{message}");
}
