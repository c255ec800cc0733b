// SPDX-License-Identifier: Apache-2.0
//! Any bytes as the process file of an exec: what can be read is planned in a container whose every namespace is its own, and of what
//! validation lets through the plan keeps the promises that safety rests on.
#![no_main]

use std::sync::LazyLock;

use berth::linux::types::Namespaces;
use berth::plan::exec::{Entered, ExecRequest, exec};
use berth::plan::exec_process::from_file;
use berth::plan::{Host, Op};
use berth::spec::{Spec, load, validate};
use libfuzzer_sys::fuzz_target;

static CONTAINER: LazyLock<Spec> =
    LazyLock::new(|| load::parse_config(include_bytes!("../../src/spec/fixtures/docker.json")).expect("a fixture"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(process) = load::parse_process(bytes) else { return };
    let allowed = validate::process(&process).problems.is_empty();
    let process = from_file(process, &CONTAINER);
    let request = ExecRequest::default();
    let namespaces = Namespaces::PID | Namespaces::MOUNT | Namespaces::NET;
    let entered = Entered { id: "fuzz".into(), namespaces, ..Entered::default() };
    match exec(&CONTAINER, &process, &request, &entered, &Host::example()) {
        Ok(plan) if allowed => {
            let place = |found: fn(&Op) -> bool| plan.child.iter().position(|step| found(&step.op));
            let identity = place(|op| matches!(op, Op::Identity(_))).expect("the program would run as root");
            let closed = place(|op| matches!(op, Op::CloseDescriptors { .. })).expect("descriptors stay open");
            let filter = place(|op| matches!(op, Op::Seccomp(_))).expect("the container's filter is not loaded");
            assert!(closed < filter && identity < filter, "{:?}", plan.child);
            assert_eq!(plan.child.last().map(|step| &step.op), Some(&Op::Exec), "something follows the program");
        }
        Ok(_) => {}
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
    }
});
