// SPDX-License-Identifier: Apache-2.0
//! Any bytes as config.json: what can be read is planned, for root and for an ordinary user. Planning never panics, and what validation
//! lets through ends in a program that has an identity. Begin with the files of `src/spec/fixtures` as the corpus.
#![no_main]

use berth::linux::types::CapSet;
use berth::plan::{self, Host, Id, Op, Request};
use berth::spec::{load, validate};
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
            Ok(plan) if allowed && spec.process.is_some() => {
                assert!(plan.child.iter().any(|step| matches!(step.op, Op::Identity(_))), "the program would run as root");
                assert!(!plan.to_string().is_empty());
            }
            Ok(_) => {}
            Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
        }
    }
});
