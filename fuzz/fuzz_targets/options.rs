// SPDX-License-Identifier: Apache-2.0
//! Any text as one mount: the first line says its type, the second its source, the third its destination, the others are its options.
//! What is planned keeps what the words say: the last word on an attribute wins, nothing is both set and cleared, and no option of the
//! runtime's reaches the file system. Plain words say the same in one option, with commas between them.
#![no_main]

use berth::linux::types::MountAttr;
use berth::plan::step::{AttrChange, Source};
use berth::plan::{self, Host, Id, Op, Request};
use berth::spec::types::Mount;
use berth::spec::{load, validate};
use libfuzzer_sys::fuzz_target;

const BASE: &[u8] =
    br#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"user":{"uid":0,"gid":0},"args":["true"],"cwd":"/"},
    "linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}"#;

fn check(change: &AttrChange, words: &[String]) {
    /// `MOUNT_ATTR__ATIME`: to set one of its values is to clear all of it.
    const ATIME: u64 = 0x70;
    assert_eq!(change.attr_set() & change.attr_clear() & !ATIME, 0, "{change:?}");
    let set = change.flags();
    // A word for the mounts below, too, comes after all others.
    let recursive = |word: &str| words.iter().any(|given| given.strip_prefix('r') == Some(word));
    for (on, off, attr) in
        [("nosuid", "suid", MountAttr::NOSUID), ("nodev", "dev", MountAttr::NODEV), ("noexec", "exec", MountAttr::NOEXEC)]
    {
        if recursive(on) || recursive(off) {
            continue;
        }
        match words.iter().rfind(|word| *word == on || *word == off) {
            Some(word) if word == on => assert!(set.contains(attr), "{word} is lost in {words:?}"),
            Some(word) => assert!(!set.contains(attr), "{word} is lost in {words:?}"),
            None => {}
        }
    }
}

/// Whether no comma parts it, and it parts none: not a part of a list of nodes (`bind:0,2`), nor a SELinux context.
fn plain(word: &str) -> bool {
    !word.is_empty()
        && !word.contains([',', '"', '\\'])
        && !word.starts_with(|first: char| first.is_ascii_digit())
        && !word.contains("context=")
}

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n').map(String::from);
    let mut next = || lines.next().unwrap_or_default();
    let (kind, source, destination) = (next(), next(), next());
    let options: Vec<String> = lines.collect();
    let mut spec = load::parse_config(BASE).expect("a configuration");
    spec.mounts = vec![Mount { destination, kind, source, options: options.clone(), ..Mount::default() }];
    let allowed = validate::config(&spec).problems.is_empty();
    let request = Request::create(Id::parse("fuzz").expect("an id"), "/bundle", "/run/berth");
    match plan::create(&spec, &request, &Host::example()) {
        Ok(plan) if allowed => {
            let all_plain = options.iter().all(|word| plain(word));
            if all_plain && !options.is_empty() {
                spec.mounts[0].options = vec![options.join(",")];
                // Warnings name the option that they are about.
                let other = plan::create(&spec, &request, &Host::example()).expect("the same options");
                assert_eq!((&other.parent, &other.child), (&plan.parent, &plan.child), "in one option");
            }
            for step in plan.child.iter().filter(|step| step.at.starts_with("mounts[0]")) {
                let Op::Mount(mount) = &step.op else { continue };
                if all_plain {
                    check(&mount.attr, &options);
                }
                if let Source::New { parameters, .. } = &mount.source {
                    let ours =
                        ["bind", "nosuid", "nodev", "noexec", "rshared", "private", "rro", "idmap", "tmpcopyup", "remount"];
                    let leaked = parameters.iter().find(|(key, value)| value.is_none() && ours.contains(&key.as_str()));
                    assert_eq!(leaked, None, "an option of the runtime's is a parameter of the file system");
                }
            }
        }
        Ok(_) => {}
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
    }
});
