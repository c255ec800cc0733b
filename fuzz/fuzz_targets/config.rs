// SPDX-License-Identifier: Apache-2.0
//! Any bytes as config.json, process.json and a resources file: read and judged, or refused with the place of what is wrong. Begin with
//! the files of `src/spec/fixtures` as the corpus.
#![no_main]

use berth::spec::{load, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match load::parse_config(bytes) {
        Ok(spec) => drop(validate::config(&spec)),
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
    }
    if let Ok(process) = load::parse_process(bytes) {
        drop(validate::process(&process));
    }
    if let Ok(resources) = load::parse_resources(bytes) {
        drop(validate::resources(&resources));
    }
});
