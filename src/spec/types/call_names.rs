// SPDX-License-Identifier: Apache-2.0
//! The names of a rule of a seccomp profile, one behind the other in one text.
//!
//! A profile has hundreds of names, which are looked up once. As a list of texts each would be a piece of memory of its own: of a run with
//! Docker's profile that was a fifth of all instructions that read config.json, and six pages.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::object::{Field, Item, Strict, as_written, checked};

/// No text of a configuration holds it.
const END: char = '\0';

/// Names of system calls, in the order of the profile.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CallNames {
    /// Each with [`END`] behind it.
    text: String,
}

impl CallNames {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// At most how many there are: an empty one takes a byte, others more.
    pub fn most(&self) -> usize {
        self.text.len()
    }

    /// Adds one. Nothing is kept of what follows a NUL character, which no name has.
    pub fn push(&mut self, name: &str) {
        self.text.push_str(name.split(END).next().unwrap_or_default());
        self.text.push(END);
    }

    /// One after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.text }
    }

    /// Whether this is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|one| one == name)
    }
}

/// What [`CallNames::iter`] gives.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let end = self.rest.bytes().position(|byte| byte == END as u8)?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = &rest[END.len_utf8()..];
        Some(name)
    }
}

impl<'a> IntoIterator for &'a CallNames {
    type Item = &'a str;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<T: AsRef<str>> FromIterator<T> for CallNames {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> CallNames {
        let mut list = CallNames::default();
        names.into_iter().for_each(|name| list.push(name.as_ref()));
        list
    }
}

impl fmt::Debug for CallNames {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_list().entries(self).finish()
    }
}

impl Serialize for CallNames {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(None)?;
        for name in self {
            list.serialize_element(name)?;
        }
        list.end()
    }
}

impl Item for CallNames {
    fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<CallNames, D::Error> {
        from.deserialize_seq(Names)
    }
}

impl Field for CallNames {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<CallNames, D::Error> {
        Ok(<Option<Strict<CallNames>> as serde::Deserialize>::deserialize(from)?.map(|Strict(names)| names).unwrap_or_default())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = CallNames;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<CallNames, A::Error> {
        let mut names = CallNames::default();
        while from.next_element_seed(Next(&mut names.text))?.is_some() {}
        Ok(names)
    }
}

/// Reads one name to the end of this text.
struct Next<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Next<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        self.0.push_str(checked(name)?);
        self.0.push(END);
        Ok(())
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<(), E> {
        self.0.push_str(as_written(name));
        self.0.push(END);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::SeccompSyscall;

    fn read(names: &str) -> Result<CallNames, String> {
        let rule = format!("{{\"names\":{names}}}");
        serde_json::from_str::<SeccompSyscall>(&rule).map(|rule| rule.names).map_err(|error| error.to_string())
    }

    #[test]
    fn names_come_back_as_they_were() {
        for list in [&[][..], &["read"], &["", "é", "", "a b", "write"], &["read", "read"]] {
            let names: CallNames = list.iter().collect();
            assert!(names.iter().eq(list.iter().copied()) && names.is_empty() == list.is_empty() && names.most() >= list.len());
            assert!(list.iter().all(|name| names.contains(name)) && !names.contains("wr"));
            let text = serde_json::to_string(&names).unwrap();
            assert_eq!((text.clone(), read(&text)), (serde_json::to_string(list).unwrap(), Ok(names)));
        }
        assert_eq!(read("null"), Ok(CallNames::default()));
        assert_eq!(read(r#"["\u0061\n"]"#), Ok(["a\n"].iter().collect()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(read(r#"["a\u0000b"]"#).unwrap_err().starts_with("holds a NUL character"));
        assert!(read("[1]").unwrap_err().contains("expected a string"));
        assert!(read(r#""read""#).unwrap_err().contains("expected an array"));
        assert!(["a\0b"].iter().collect::<CallNames>().iter().eq(["a"]));
    }
}
