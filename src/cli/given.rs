// SPDX-License-Identifier: Apache-2.0
//! What a command line gives, by flag; and the short way from its words to that, by the one table of flags ([`super::table`]).
//!
//! Engines call the runtime several times for each container, always in the same few spellings. [`Given::read`] reads those; at anything
//! else (help, a mistake, joined short flags) it gives up, and clap reads the line and says what is wrong ([`super::args`]). Where both
//! give an answer it is the same one, which a test holds them to. Building clap's command for one line costs more than most commands do
//! (docs/performance.md).

use clap::ArgMatches;

use super::table::{Flags, Positional};

/// Flags and words as they were given; each flag under its long name, the words as `id` and `rest`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    values: Vec<(&'static str, Vec<String>)>,
}

impl Given {
    /// The value of a flag; its last, where it was given more than once.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// Whether a switch is on.
    pub fn on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Every value of a flag or of the words, in order.
    pub fn all(&self, name: &str) -> &[String] {
        self.values.iter().find(|(known, _)| *known == name).map_or(&[], |(_, values)| values)
    }

    /// Reads words in the spellings that need no explanation; none where clap has to look.
    pub fn read(words: &[String], flags: Flags, positional: &Positional) -> Option<Given> {
        let mut given = Given::default();
        let mut left = words.iter();
        while let Some(word) = left.next() {
            if !word.starts_with('-') {
                if !given.word(word, positional)? {
                    continue;
                }
                given.take("rest", left.as_slice(), true);
                return Some(given);
            }
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let flag = match name.strip_prefix("--") {
                Some(name) => flags.long(name)?,
                // One letter by itself.
                None if joined.is_none() => {
                    let mut letters = name[1..].chars();
                    flags.short(letters.next()?).filter(|_| letters.next().is_none())?
                }
                None => return None,
            };
            let value = match (flag.value, joined) {
                (Some(_), Some(value)) => value,
                (Some(_), None) => left.next()?,
                (None, None | Some("true")) => "true",
                (None, Some("false")) => "false",
                (None, Some(_)) => return None,
            };
            if value.is_empty() {
                return None;
            }
            given.take(flag.name, &[value.to_string()], flag.repeats);
        }
        Some(given)
    }

    /// Takes a word that is no flag; true where all after it is to be taken as it is, none where it is one too many.
    fn word(&mut self, word: &str, positional: &Positional) -> Option<bool> {
        let first = self.all("id").is_empty();
        let name = match positional {
            Positional::None => return None,
            Positional::Id | Positional::Word(_) | Positional::File(..) if !first => return None,
            _ if first => "id",
            _ => "rest",
        };
        if word.is_empty() {
            return None;
        }
        self.take(name, &[word.to_string()], true);
        Some(name == "rest" && matches!(positional, Positional::IdAndCommand(_)))
    }

    /// Adds values; where the flag does not repeat, in place of those that are there.
    pub(super) fn take(&mut self, name: &'static str, more: &[String], repeats: bool) {
        if more.is_empty() {
            return;
        }
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) if repeats => values.extend_from_slice(more),
            Some((_, values)) => *values = more.to_vec(),
            None => self.values.push((name, more.to_vec())),
        }
    }

    /// What clap has read.
    pub fn from_clap(matches: &ArgMatches, flags: Flags, positional: &Positional) -> Given {
        let words: &[&'static str] = match positional {
            Positional::None => &[],
            Positional::Id | Positional::Word(_) | Positional::File(..) => &["id"],
            Positional::IdAnd(_) | Positional::ActionAnd(..) | Positional::ActionAndCommand(..) | Positional::IdAndCommand(_) => {
                &["id", "rest"]
            }
        };
        let mut given = Given::default();
        for name in flags.iter().map(|flag| flag.name).chain(words.iter().copied()) {
            let values: Vec<String> = matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
            given.take(name, &values, true);
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{command, normalise, verbatim_from};
    use crate::cli::table::{Flag, Verb, verbs};
    use proptest::prelude::*;

    /// Both readings of one line: ours, where we have one, and clap's, where it has one.
    fn both(verb: &Verb, words: &[String]) -> (Option<Given>, Option<Given>) {
        let words = normalise(words, verb.flags, verbatim_from(verb, words));
        let clap = command("berth", verb).try_get_matches_from(&words).ok();
        let sorted = |mut given: Given| {
            given.values.sort();
            given
        };
        let clap = clap.map(|matches| sorted(Given::from_clap(&matches, verb.flags, &verb.positional)));
        (Given::read(&words[1..], verb.flags, &verb.positional).map(sorted), clap)
    }

    #[test]
    fn what_engines_send_needs_no_clap() {
        for line in [
            "create --bundle /b --pid-file /p --console-socket /s x",
            "create --bundle=/b --no-pivot x",
            "run -d -b /b x --keep=false",
            "start x",
            "state x",
            "kill x 9",
            "kill --all x SIGKILL",
            "delete --force x",
            "exec --process /p --detach --pid-file /f x",
            "exec -e A=1 -e B=2 -t x sh -c true --force",
            "update --resources - x",
            "list -f json",
            "ps x -ef",
        ] {
            let words: Vec<String> = line.split(' ').map(String::from).collect();
            let verb = verbs().find(|verb| verb.name == words[0]).unwrap();
            let (ours, clap) = both(&verb, &words[1..]);
            assert!(line == "ps x -ef" || ours.is_some(), "{line}");
            assert!(ours.is_none() || ours == clap, "{line}: {ours:?} {clap:?}");
        }
    }

    proptest! {
        #[test]
        fn where_both_read_a_line_they_agree(which in 0..verbs().count(), picks in prop::collection::vec((0usize..24, 0usize..40), 0..8)) {
            let verb = &verbs().nth(which).unwrap();
            let plain = ["x", "y", "9", "-9", "TERM", "--", "-", "", "=", "a=b", "--help", "-h", "--nonsense", "-zz", "true", "-t", "-ft"];
            let words: Vec<String> = picks.iter().map(|(kind, at)| {
                let flag = verb.flags.iter().nth(at % verb.flags.iter().count().max(1));
                match (kind, flag) {
                    (0..8, Some(flag)) => format!("--{}", flag.name),
                    (8..10, Some(flag)) => format!("-{}", flag.name),
                    (10..13, Some(flag)) => format!("--{}=v", flag.name),
                    (13..14, Some(flag)) => format!("--{}=false", flag.name),
                    (14..16, Some(Flag { short: Some(short), .. })) => format!("-{short}"),
                    (16, Some(Flag { short: Some(short), .. })) => format!("-{short}v"),
                    _ => plain[at % plain.len()].to_string(),
                }
            }).collect();
            let (ours, clap) = both(verb, &words);
            prop_assert!(ours.is_none() || ours == clap, "{} {words:?}: {ours:?} {clap:?}", verb.name);
        }
    }
}
