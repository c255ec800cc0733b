// SPDX-License-Identifier: Apache-2.0
//! `journal`: what create writes before it makes anything, in one write: from then on there is a container, and whatever becomes of its
//! maker, a delete finds what there may be.
//!
//! | part                                                                                         | read by                           |
//! |----------------------------------------------------------------------------------------------|-----------------------------------|
//! | a line: `journal`, the version of this shape, and the sizes of the three other parts in bytes | all                               |
//! | what exec needs of the configuration, made ready ([`super::exec_config`]); none where there is no such | exec, which reads no further |
//! | the first [`State`], as JSON: it counts as long as there is no state.json                      | whoever comes while it is being made, or finds it half made |
//! | config.json as it was: what the bundle says later has no effect (runtime.md)                   | whoever else needs it             |
//!
//! A part is there where the file is as long as the line says.

use std::ops::Range;

use super::bundle::CONFIG_MAX;
use super::state::State;
use super::store::Entry;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd::{self, OFlag};
use crate::linux::types::Errno;
use crate::spec::write::to_line;

/// The file's name.
pub const FILE: &str = "journal";

/// The version of the file's shape: others are not read.
const VERSION: usize = 1;
/// No part ends behind this: what exec needs is less than twice the configuration that it is of.
const MOST: usize = 4 * CONFIG_MAX;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What exec needs.
    Exec,
    /// The first state.
    State,
    /// The configuration.
    Config,
}

/// What most first states take.
const ROOM: usize = 512;

/// Writes it.
pub fn create(entry: &Entry, exec: &[u8], state: &State, config: &[u8]) -> Result<()> {
    let state = to_line(state, ROOM).map_err(|error| Error::new(Kind::State, format!("cannot write the state: {error}")))?;
    let line = format!("{FILE} {VERSION} {} {} {}\n", exec.len(), state.len(), config.len());
    fd::create_file_of(entry, FILE, &[line.as_bytes(), exec, &state, config])
        .told(|| format!("cannot save the {FILE} of {}", entry.id()))
}

/// Reads a part; none where it is not there, or not yet.
pub fn read(entry: &Entry, part: Part) -> Result<Option<Vec<u8>>> {
    let told = || format!("cannot read the {FILE} of {}", entry.id());
    let file = match fd::openat(entry, FILE, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(None),
        other => other.told(told)?,
    };
    let mut bytes = Vec::new();
    // Of most containers that is enough.
    let first = if part == Part::Exec { 8 << 10 } else { 64 << 10 };
    if fd::read_more(&file, &mut bytes, first).told(told)? == 0 {
        return Ok(None);
    }
    let Some(place) = place(&bytes, part) else {
        return Err(Error::new(Kind::State, format!("the {FILE} of {} is damaged: it does not begin as one", entry.id()))
            .hint(format!("`delete --force {}` removes what is left of the container", entry.id())));
    };
    while bytes.len() < place.end && fd::read_more(&file, &mut bytes, place.end).told(told)? > 0 {}
    if bytes.len() < place.end {
        return Ok(None);
    }
    bytes.truncate(place.end);
    bytes.drain(..place.start);
    Ok(Some(bytes))
}

/// Where a part is, by the line at the beginning.
fn place(bytes: &[u8], part: Part) -> Option<Range<usize>> {
    const LINE: usize = 128;
    let end = bytes.iter().take(LINE).position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut numbers = line.strip_prefix(FILE)?.strip_prefix(' ')?.split(' ').map(|number| number.parse::<usize>().ok());
    if numbers.next()?? != VERSION {
        return None;
    }
    let mut begin = end + 1;
    for one in [Part::Exec, Part::State, Part::Config] {
        let end = numbers.next()??.checked_add(begin).filter(|end| *end <= MOST)?;
        if one == part {
            return Some(begin..end);
        }
        begin = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_or_the_line_is_wrong() {
        let at = |text: &str, part| place(text.as_bytes(), part);
        let line = "journal 1 10 20 0\n";
        assert_eq!(at(line, Part::Exec), Some(18..28));
        assert_eq!(at(line, Part::State), Some(28..48));
        assert_eq!(at(line, Part::Config), Some(48..48));
        let huge = format!("journal 1 1 {} 1\n", usize::MAX);
        let long = format!("journal 1 1 1 1{}\n", " ".repeat(200));
        for wrong in [
            "",
            "\n",
            "journal",
            "journal 1 1 1 1",
            "journal 2 1 1 1\n",
            "journal 1 1 1\n",
            "journal 1 1 -1 1\n",
            "[]\n",
            &huge,
            &long,
        ] {
            assert_eq!(at(wrong, Part::Config), None, "{wrong}");
        }
    }
}
