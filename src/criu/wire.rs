// SPDX-License-Identifier: Apache-2.0
//! The little of protocol buffers that CRIU's RPC needs (protobuf.dev, "Encoding"): numbers, texts and messages within messages.
//!
//! Three message types of a dozen fields each are no reason for a code generator. What is read comes from the program that we started,
//! and is checked all the same: a length beyond the end, or a number of more than 64 bits, is an error.

/// A message that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number, a switch or a word of an enum. Negative ones are given in their 64-bit form.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// A switch, where it is on: off is what a field is that is not there.
    pub fn switch(&mut self, field: u32, on: bool) {
        if on {
            self.number(field, 1);
        }
    }

    /// A text.
    pub fn text(&mut self, field: u32, text: &str) {
        self.block(field, text.as_bytes());
    }

    /// A message within this one.
    pub fn message(&mut self, field: u32, inner: &Writer) {
        self.block(field, &inner.0);
    }

    fn block(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a switch or a word of an enum.
    Number(u64),
    /// A text or a message.
    Block(&'a [u8]),
    /// Four or eight bytes, which nothing here uses.
    Fixed,
}

/// All fields of a message, in their order; none where it is damaged.
pub fn read(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => fixed(&mut bytes, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Block(split(&mut bytes, length)?)
            }
            5 => fixed(&mut bytes, 4)?,
            _ => return None,
        };
        fields.push((field, value));
    }
    Some(fields)
}

fn fixed<'a>(bytes: &mut &'a [u8], length: usize) -> Option<Value<'a>> {
    split(bytes, length).map(|_| Value::Fixed)
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_encodings_description() {
        let mut message = Writer::default();
        message.number(1, 150);
        assert_eq!(message.bytes(), [0x08, 0x96, 0x01]);
        let mut message = Writer::default();
        message.text(2, "testing");
        assert_eq!(message.bytes(), [0x12, 7, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        let mut inner = Writer::default();
        inner.number(1, 150);
        let mut message = Writer::default();
        message.message(3, &inner);
        message.switch(4, false);
        assert_eq!(message.bytes(), [0x1a, 3, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        for bad in [&[0x08][..], &[0x08, 0x80], &[0x12, 7, 0x74], &[0x0b], &[0x09, 1], &[0xff; 11]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(read(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 1]), Some(vec![(1, Value::Fixed), (2, Value::Number(1))]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(field in 1u32..1 << 29, number: u64, text: String) {
            let mut message = Writer::default();
            message.number(field, number);
            message.text(field, &text);
            let want = vec![(field, Value::Number(number)), (field, Value::Block(text.as_bytes()))];
            prop_assert_eq!(read(message.bytes()), Some(want));
        }

        #[test]
        fn nothing_read_breaks_it(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
