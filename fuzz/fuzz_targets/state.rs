// SPDX-License-Identifier: Apache-2.0
//! Any bytes as state.json: read or refused, and what is read can be written, read again, and asked for a status.
#![no_main]

use berth::container::runc_fields::{self, WithRuncFields};
use berth::container::state::{Shown, Signs, State, status};
use berth::spec::load;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(state) = runc_fields::read(bytes) else { return };
    let text = serde_json::to_vec(&WithRuncFields::of(&state, &[])).expect("a state that was read cannot be written");
    for again in [load::json::<State>(&text), runc_fields::read(&text)] {
        assert_eq!(again.expect("a state that was written cannot be read"), state);
    }
    for bits in 0..16u8 {
        let bit = |number: u8| bits >> number & 1 == 1;
        let signs = Signs { alive: bit(0), creator_alive: bit(1), gate: bit(2), frozen: bit(3) };
        let status = status(&state, signs);
        // A dead process neither runs nor waits.
        assert!(signs.alive || ["stopped", "creating"].contains(&status.name()));
        let shown = Shown::of(state.clone(), status);
        assert!(status.name() != "stopped" || shown.pid == 0);
        assert!(!state.for_hooks(status).json().is_empty());
    }
});
