// SPDX-License-Identifier: Apache-2.0
//! What the suite is made of: a section of the specification, its sentences, and what is done about each.
//!
//! The tables stand beside the tests, one per section (see `chapters` in main.rs). A sentence is named
//! `document#section.number`, the number counting those sentences of the section that hold a MUST, MUST NOT, SHOULD or
//! SHOULD NOT. A row of a table of the specification that holds one is named by what is in its first column, and a
//! sentence with two strengths of obligation has an entry for each: 6a and 6b.
use crate::standin::Break;
use crate::suite::Suite;

/// One section of a document: the sentences in it that oblige somebody.
pub struct Section {
    /// `document#section`, the section as in a link to it.
    pub name: &'static str,
    pub entries: &'static [Entry],
}

/// One sentence.
pub struct Entry {
    pub number: &'static str,
    pub level: Level,
    /// A few of its words, by which a reader finds it.
    pub quote: &'static str,
    pub check: Check,
}

/// How strong the obligation is (RFC 2119).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Must,
    MustNot,
    Should,
    ShouldNot,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Must => "MUST",
            Level::MustNot => "MUST NOT",
            Level::Should => "SHOULD",
            Level::ShouldNot => "SHOULD NOT",
        }
    }

    /// Whether a runtime that fails it does not conform.
    pub fn binding(self) -> bool {
        matches!(self, Level::Must | Level::MustNot)
    }
}

/// What is done about a sentence.
pub enum Check {
    /// `broken` is a runtime against which the test must fail: that is how it is proven able to.
    Test { run: fn(&Suite) -> Outcome, broken: Break },
    /// Nothing a runtime does could be seen to break it, for this reason.
    Untestable(&'static str),
    /// It speaks of another platform.
    Elsewhere(&'static str),
}

/// What a test comes to.
pub type Outcome<T = ()> = Result<T, Stop>;

/// Why a test does not pass.
#[derive(Debug)]
pub enum Stop {
    /// The runtime does not do what the sentence says.
    Failed(String),
    /// It cannot be found out here: what is missing.
    Skipped(String),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Failed(format!("the suite itself failed: {error}"))
    }
}

impl From<nix::errno::Errno> for Stop {
    fn from(errno: nix::errno::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        Stop::Failed(format!("not the JSON that was expected: {error}"))
    }
}

/// Ends the test: the runtime failed it, in these words.
macro_rules! fail {
    ($($words:tt)*) => { return Err($crate::entry::Stop::Failed(format!($($words)*))) };
}

/// Ends the test: it cannot be carried out here, in these words.
macro_rules! skip {
    ($($words:tt)*) => { return Err($crate::entry::Stop::Skipped(format!($($words)*))) };
}

/// Ends the test as failed unless the condition holds.
macro_rules! check {
    ($holds:expr, $($words:tt)*) => { if !$holds { $crate::entry::fail!($($words)*) } };
}

pub(crate) use {check, fail, skip};

/// A sentence with a test, and a broken runtime to prove it.
pub const fn tested(number: &'static str, level: Level, quote: &'static str, run: fn(&Suite) -> Outcome, broken: Break) -> Entry {
    Entry { number, level, quote, check: Check::Test { run, broken } }
}

/// A sentence that cannot be tested, and why.
pub const fn untestable(number: &'static str, level: Level, quote: &'static str, why: &'static str) -> Entry {
    Entry { number, level, quote, check: Check::Untestable(why) }
}

/// A sentence for another platform than Linux.
pub const fn elsewhere(number: &'static str, level: Level, quote: &'static str, platform: &'static str) -> Entry {
    Entry { number, level, quote, check: Check::Elsewhere(platform) }
}

/// The reason of every sentence that obliges only whoever writes a configuration.
pub const AUTHOR: &str = "it advises the author of the configuration; a runtime takes the value as it is";
