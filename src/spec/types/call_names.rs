// SPDX-License-Identifier: Apache-2.0
//! The names of a rule of a seccomp profile, looked up when they are read.
//!
//! A profile has hundreds of names. As a list of texts each would be a piece of memory of its own: of a run with Docker's profile that was
//! a fifth of all instructions that read config.json, and six pages.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::object::{Field, Item, Strict, as_written, checked};
use crate::spec::syscall::{Lookup, Syscall};

/// In the place of a name that no architecture knows.
const UNKNOWN: u16 = u16::MAX;

/// Names of system calls, in the order of the profile.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CallNames {
    /// [`Syscall::place`], or [`UNKNOWN`].
    calls: Vec<u16>,
    /// The names that no architecture knows, in their order.
    unknown: Vec<String>,
}

impl CallNames {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds one.
    pub fn push(&mut self, name: &str) {
        self.find_and_push(name, &mut Lookup::default());
    }

    fn find_and_push(&mut self, name: &str, lookup: &mut Lookup) {
        match lookup.find(name) {
            Some(syscall) => self.calls.push(syscall.place() as u16),
            None => {
                self.calls.push(UNKNOWN);
                self.unknown.push(name.to_string());
            }
        }
    }

    /// One after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter { calls: self.calls.iter(), unknown: self.unknown.iter() }
    }

    /// The calls that some architecture has.
    pub fn known(&self) -> impl Iterator<Item = Syscall> {
        self.calls.iter().filter_map(|place| Syscall::at(*place))
    }

    /// The names that none has.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }

    /// Whether this is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match Syscall::from_name(name) {
            Some(syscall) => self.known().any(|one| one == syscall),
            None => self.unknown().any(|one| one == name),
        }
    }
}

/// What [`CallNames::iter`] gives.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    calls: std::slice::Iter<'a, u16>,
    unknown: std::slice::Iter<'a, String>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match Syscall::at(*self.calls.next()?) {
            Some(syscall) => Some(syscall.name()),
            None => self.unknown.next().map(String::as_str),
        }
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
        let (mut list, mut lookup) = (CallNames::default(), Lookup::default());
        names.into_iter().for_each(|name| list.find_and_push(name.as_ref(), &mut lookup));
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
        let (mut names, mut lookup) = (CallNames::default(), Lookup::default());
        while from.next_element_seed(Next(&mut names, &mut lookup))?.is_some() {}
        Ok(names)
    }
}

/// Reads one name to the end of this list.
struct Next<'a>(&'a mut CallNames, &'a mut Lookup);

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
        self.0.find_and_push(checked(name)?, self.1);
        Ok(())
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<(), E> {
        self.0.find_and_push(as_written(name), self.1);
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
            assert!(names.iter().eq(list.iter().copied()) && names.is_empty() == list.is_empty());
            assert!(list.iter().all(|name| names.contains(name)) && !names.contains("wr") && !names.contains("openat"));
            assert_eq!(names.known().count() + names.unknown().count(), list.len());
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
    }
}
