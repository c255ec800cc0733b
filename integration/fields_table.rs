// SPDX-License-Identifier: Apache-2.0
//! docs/config-fields.md says for each field of config.json which tests show what becomes of it: those tests must be here. That each
//! field has a row is held by a unit test beside the types of the fields.

use std::collections::BTreeSet;

use crate::harness::Test;
use crate::{GROUPS, test};

/// What this file tests.
pub const TESTS: &[Test] = &[test!(every_row_names_tests_that_exist)];

fn every_row_names_tests_that_exist() {
    let known: BTreeSet<String> = GROUPS.iter().chain(crate::checkpoint::GROUPS).flat_map(|group| group.names()).collect();
    let rows: Vec<&str> = include_str!("../docs/config-fields.md").lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 100, "{} rows", rows.len());
    for row in rows {
        let tests: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            assert!(known.contains(test), "there is no test {test:?}: {row}");
        }
    }
}
