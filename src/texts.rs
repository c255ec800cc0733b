// SPDX-License-Identifier: Apache-2.0
//! Tables of texts that take no relocation.
//!
//! A `&[&str]` is a table of addresses. The program lies at another address each time (static-pie), so every start of it writes all
//! addresses that are in tables anew, those too that only `--help` ever reads; each page of them costs every command about 2.5 µs and each
//! waiting container 4 KiB (docs/performance.md). [`Texts`] has the texts one behind the other instead, packed by the compiler.

/// Texts in order, made by [`texts!`].
#[derive(Clone, Copy)]
pub struct Texts(&'static str);

/// What stands before each text: its length as two characters of ASCII, the lower seven bits first.
const LENGTH: usize = 2;
const DIGIT: usize = 128;

impl Texts {
    /// How many bytes these texts take. For [`texts!`].
    pub const fn size(list: &[&str]) -> usize {
        let (mut size, mut at) = (0, 0);
        while at < list.len() {
            size += LENGTH + list[at].len();
            at += 1;
        }
        size
    }

    /// Puts texts one behind the other. For [`texts!`].
    pub const fn pack<const SIZE: usize>(list: &[&str]) -> [u8; SIZE] {
        let mut packed = [0; SIZE];
        let (mut to, mut at) = (0, 0);
        while at < list.len() {
            let text = list[at].as_bytes();
            assert!(text.len() < DIGIT * DIGIT, "a longer text than a table may hold");
            packed[to] = (text.len() % DIGIT) as u8;
            packed[to + 1] = (text.len() / DIGIT) as u8;
            to += LENGTH;
            let mut byte = 0;
            while byte < text.len() {
                packed[to] = text[byte];
                to += 1;
                byte += 1;
            }
            at += 1;
        }
        packed
    }

    /// What [`Texts::pack`] has made. For [`texts!`].
    pub const fn new(packed: &'static [u8]) -> Texts {
        match std::str::from_utf8(packed) {
            Ok(packed) => Texts(packed),
            Err(_) => panic!("texts behind each other are a text"),
        }
    }

    /// A table that is a text of another table: what [`Texts::packed`] gave.
    pub const fn within(packed: &'static str) -> Texts {
        Texts(packed)
    }

    /// The table as one text, to be a text of another table.
    pub const fn packed(self) -> &'static str {
        self.0
    }

    /// How many there are.
    pub const fn len(self) -> usize {
        let bytes = self.0.as_bytes();
        let (mut count, mut at) = (0, 0);
        while at < bytes.len() {
            at += LENGTH + bytes[at] as usize + DIGIT * bytes[at + 1] as usize;
            count += 1;
        }
        count
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(self) -> Iter {
        Iter(self.0)
    }

    /// The one at this place.
    pub fn get(self, place: usize) -> Option<&'static str> {
        self.iter().nth(place)
    }

    /// At which place this text is.
    pub fn position(self, text: &str) -> Option<usize> {
        self.find(text).map(|(place, _)| place)
    }

    /// At which place this text is, and the text itself. Only one that is as long is looked at: a run asks some hundred times.
    pub fn find(self, text: &str) -> Option<(usize, &'static str)> {
        let (bytes, wanted) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut place) = (0, 0);
        while let Some(&[low, high]) = bytes.get(at..).and_then(<[u8]>::first_chunk::<LENGTH>) {
            let (from, length) = (at + LENGTH, usize::from(low) + DIGIT * usize::from(high));
            if length == wanted.len() && bytes.get(from..from + length) == Some(wanted) {
                return Some((place, self.0.get(from..from + length)?));
            }
            (at, place) = (from + length, place + 1);
        }
        None
    }

    /// Whether this is one of them.
    pub fn contains(self, text: &str) -> bool {
        self.position(text).is_some()
    }

    /// All in one, with something between them.
    pub fn join(self, between: &str) -> String {
        self.iter().collect::<Vec<_>>().join(between)
    }
}

impl IntoIterator for Texts {
    type Item = &'static str;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}

/// What [`Texts::iter`] gives.
#[derive(Clone)]
pub struct Iter(&'static str);

impl Iterator for Iter {
    type Item = &'static str;

    #[inline]
    fn next(&mut self) -> Option<&'static str> {
        let &[low, high, ..] = self.0.as_bytes() else { return None };
        let length = usize::from(low) + DIGIT * usize::from(high);
        let (text, rest) = self.0.get(LENGTH..)?.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

/// [`Texts`] of these texts: `texts!["a", "b"]`, or `texts!(in LIST)` of a constant `&[&str]`.
macro_rules! texts {
    (in $list:expr) => {{
        const GIVEN: &[&str] = $list;
        const PACKED: [u8; $crate::texts::Texts::size(GIVEN)] = $crate::texts::Texts::pack(GIVEN);
        const TEXTS: $crate::texts::Texts = $crate::texts::Texts::new(&PACKED);
        TEXTS
    }};
    [$($text:expr),* $(,)?] => { $crate::texts::texts!(in &[$($text),*]) };
}
pub(crate) use texts;

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = include_str!("texts.rs");

    #[test]
    fn the_texts_come_out_as_they_were_put_in() {
        const SOME: Texts = texts!["one", "", "drei €", LONG, "\0", "last"];
        assert_eq!(SOME.iter().collect::<Vec<_>>(), ["one", "", "drei €", LONG, "\0", "last"]);
        assert!(LONG.len() > DIGIT && SOME.packed().len() == Texts::size(&["one", "", "drei €", LONG, "\0", "last"]));
        assert_eq!((SOME.len(), texts![].len(), texts![].is_empty()), (6, 0, true));
        assert_eq!((SOME.get(2), SOME.get(5), SOME.get(6)), (Some("drei €"), Some("last"), None));
        assert_eq!((SOME.position("last"), SOME.position("")), (Some(5), Some(1)));
        assert_eq!((SOME.find("drei €"), SOME.find(LONG), SOME.find("la")), (Some((2, "drei €")), Some((3, LONG)), None));
        assert!(SOME.contains("one") && !SOME.contains("on") && !SOME.contains("ast"));
        assert_eq!(texts!["a", "b"].join(", "), "a, b");
        assert_eq!(texts![].iter().count(), 0);
    }

    #[test]
    fn a_table_may_be_a_text_of_another() {
        const INNER: Texts = texts!["x", "y"];
        const OUTER: Texts = texts!["name", INNER.packed()];
        let inner = Texts::within(OUTER.get(1).unwrap());
        assert_eq!(inner.iter().collect::<Vec<_>>(), ["x", "y"]);
    }
}
