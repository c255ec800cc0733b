// SPDX-License-Identifier: Apache-2.0
//! What the tests stand on: running them apart from each other, bundles, the runtime's calls, looking at the kernel.
//!
//! Three processes for each test: the runner (`run`), which chooses and counts; a warden of its own (`warden`), which
//! waits with a deadline and then looks for what was left behind; and the test's body, whose panic is its failure.

pub mod bundle;
pub mod call;
pub mod disk;
pub mod elf;
pub mod look;
pub mod need;
pub mod receive;
pub mod run;
pub mod warden;

pub use bundle::{Bundle, Container};
pub use call::{Call, Output};
pub use need::Need;
pub use run::{Test, skip};

/// `test!(name)` makes the table entry of the function `name`.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::harness::Test::new(stringify!($function), $function)
    };
}
