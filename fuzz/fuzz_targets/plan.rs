// SPDX-License-Identifier: Apache-2.0
//! Any bytes as config.json: what can be read is planned, for root and for an ordinary user. Planning never panics, and of what validation
//! lets through the plan keeps the promises that safety rests on, which are looked for here in other words than the rules'.
#![no_main]

use std::collections::BTreeSet;

use berth::linux::types::CapSet;
use berth::plan::step::{ProcRule, Source};
use berth::plan::{self, Host, Id, Op, Plan, Request};
use berth::spec::{Spec, load, validate};
use libfuzzer_sys::fuzz_target;

fn host(euid: u32) -> Host {
    Host { euid, egid: euid, capabilities: CapSet(if euid == 0 { (1 << 41) - 1 } else { 0 }), ..Host::example() }
}

fuzz_target!(|bytes: &[u8]| {
    let (Ok(spec), Ok(id)) = (load::parse_config(bytes), Id::parse("fuzz")) else { return };
    let request = Request::create(id, "/bundle", "/run/berth");
    let allowed = validate::config(&spec).problems.is_empty();
    for euid in [0, 1000] {
        match plan::create(&spec, &request, &host(euid)) {
            Ok(plan) if allowed => judge(&spec, &plan),
            Ok(_) => {}
            Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
        }
    }
});

/// What nobody may get past validation and planning.
fn judge(spec: &Spec, plan: &Plan) {
    assert!(!plan.to_string().is_empty());
    let place = |found: fn(&Op) -> bool| plan.child.iter().position(|step| found(&step.op));
    let identity = place(|op| matches!(op, Op::Identity(_)));
    assert!(identity.is_some() || spec.process.is_none(), "the program would run as root");
    assert_eq!(plan.child.last().map(|step| &step.op), Some(&Op::Exec), "something follows the program");
    let kinds: Vec<&str> =
        spec.linux.iter().flat_map(|linux| &linux.namespaces).map(|namespace| namespace.kind.as_str()).collect();
    assert!(kinds.contains(&"mount"), "mounts on the host's own tree");
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "a namespace twice");
    for (index, step) in plan.child.iter().enumerate() {
        match &step.op {
            Op::Mount(mount) => {
                assert!(mount.destination.starts_with('/'), "{}", mount.destination);
                let on_proc = plan::mounts::clean(&mount.destination) == "/proc";
                assert!(!on_proc || (mount.proc == ProcRule::IsProc && mount.destination_nofollow), "{mount:?}");
                if let (true, Source::New { fstype, .. }) = (on_proc, &mount.source) {
                    assert_eq!(fstype, "proc");
                }
            }
            Op::Sysctl { key: name, .. } => {
                let owner = match name.split(['.', '/']).next() {
                    Some("net") => "network",
                    Some("user") => "user",
                    Some("kernel") if name.ends_with("domainname") => "uts",
                    Some("kernel" | "fs") => "ipc",
                    _ => panic!("{name} is the host's"),
                };
                assert!(kinds.contains(&owner), "{name} is the host's without a namespace: {owner}");
            }
            Op::Hostname(_) | Op::Domainname(_) => assert!(kinds.contains(&"uts"), "the host's name would change"),
            Op::Node(_) | Op::MaskPaths { .. } | Op::ReadonlyPath { .. } => {
                assert!(identity.is_none_or(|identity| index < identity), "after the identity");
            }
            Op::Identity(identity) => {
                assert!(identity.uid != u32::MAX && identity.gid != u32::MAX, "-1 is not a user");
                assert_eq!(identity.effective & identity.permitted, identity.effective, "effective beyond permitted");
            }
            _ => {}
        }
    }
    if let Some(map) = &plan.spawn.id_map {
        for ranges in [&map.uids, &map.gids] {
            let ends = |first: u32, count: u32| (u64::from(first), u64::from(first) + u64::from(count));
            for (index, range) in ranges.iter().enumerate() {
                assert!(range.count > 0);
                for other in &ranges[..index] {
                    let ((a, b), (c, d)) = (ends(range.inside, range.count), ends(other.inside, other.count));
                    assert!(b <= c || d <= a, "an id inside is mapped twice");
                }
            }
        }
    }
}
