// SPDX-License-Identifier: Apache-2.0
//! Messages of D-Bus as bytes (D-Bus Specification, "Marshaling" and "Message Format"): written by [`super`], and read with a bound on
//! everything that the other side says.

use crate::plan::resources::gvariant::Value;

/// Largest message that is read; the specification allows 128 MiB, systemd sends a few hundred bytes.
pub const MESSAGE_MAX: usize = 4 << 20;

/// Kinds of messages.
pub mod kind {
    /// A call.
    pub const CALL: u8 = 1;
    /// Its answer.
    pub const RETURN: u8 = 2;
    /// Its refusal.
    pub const ERROR: u8 = 3;
    /// News.
    pub const SIGNAL: u8 = 4;
}

/// Header fields.
mod field {
    pub const PATH: u8 = 1;
    pub const INTERFACE: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const ERROR_NAME: u8 = 4;
    pub const REPLY_SERIAL: u8 = 5;
    pub const DESTINATION: u8 = 6;
    pub const SIGNATURE: u8 = 8;
}

/// Writes values in little-endian order, each at its alignment.
#[derive(Default)]
pub struct Writer {
    /// What is written so far.
    pub bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `y`
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend_from_slice(&bytes);
    }

    /// `u`
    pub fn u32(&mut self, value: u32) {
        self.number(value.to_le_bytes());
    }

    /// `b`
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// `s` or `o`
    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.byte(0);
    }

    /// `g`
    pub fn signature(&mut self, signature: &str) {
        self.byte(signature.len() as u8);
        self.bytes.extend_from_slice(signature.as_bytes());
        self.byte(0);
    }

    /// `a…`: its length, which does not count the padding before the first item, and what `items` writes.
    pub fn array(&mut self, alignment: usize, items: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        items(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `(…)`: structures begin at multiples of eight.
    pub fn structure(&mut self, members: impl FnOnce(&mut Writer)) {
        self.align(8);
        members(self);
    }

    /// `v`
    pub fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::Byte(value) => self.byte(*value),
            Value::I16(value) => self.number(value.to_le_bytes()),
            Value::U16(value) => self.number(value.to_le_bytes()),
            Value::I32(value) => self.number(value.to_le_bytes()),
            Value::U32(value) => self.u32(*value),
            Value::I64(value) => self.number(value.to_le_bytes()),
            Value::U64(value) => self.number(value.to_le_bytes()),
            Value::F64(value) => self.number(value.to_le_bytes()),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, |writer| writer.bytes.extend_from_slice(bytes)),
            Value::U32s(numbers) => self.array(4, |writer| numbers.iter().for_each(|number| writer.u32(*number))),
            Value::Texts(texts) => self.array(4, |writer| texts.iter().for_each(|text| writer.text(text))),
            Value::Rates(rates) => self.array(8, |writer| {
                for (device, rate) in rates {
                    writer.structure(|writer| {
                        writer.text(device);
                        writer.number(rate.to_le_bytes());
                    });
                }
            }),
            Value::Pairs(pairs) => self.array(8, |writer| {
                for (one, other) in pairs {
                    writer.structure(|writer| {
                        writer.text(one);
                        writer.text(other);
                    });
                }
            }),
        }
    }
}

/// A call to be written.
pub struct Call<'a> {
    /// Who is called; none on a connection that has no bus in between.
    pub destination: Option<&'a str>,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// The types of the arguments.
    pub signature: &'a str,
    /// The arguments.
    pub body: Vec<u8>,
}

impl Call<'_> {
    /// The whole message; `serial` is not 0.
    pub fn bytes(&self, serial: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bytes.extend_from_slice(&[b'l', kind::CALL, 0, 1]);
        writer.u32(self.body.len() as u32);
        writer.u32(serial);
        writer.array(8, |writer| {
            let mut field = |code: u8, signature: &str, value: &str| {
                writer.structure(|writer| {
                    writer.byte(code);
                    writer.signature(signature);
                    if signature == "g" { writer.signature(value) } else { writer.text(value) }
                });
            };
            field(field::PATH, "o", self.path);
            field(field::INTERFACE, "s", self.interface);
            field(field::MEMBER, "s", self.member);
            if let Some(destination) = self.destination {
                field(field::DESTINATION, "s", destination);
            }
            if !self.signature.is_empty() {
                field(field::SIGNATURE, "g", self.signature);
            }
        });
        writer.align(8);
        writer.bytes.extend_from_slice(&self.body);
        writer.bytes
    }
}

/// A message that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// One of [`kind`].
    pub kind: u8,
    /// The call that it answers.
    pub reply_to: u32,
    /// The signal's name, with its interface before it: `org.freedesktop.systemd1.Manager.JobRemoved`.
    pub signal: String,
    /// The error's name.
    pub error: String,
    /// The types of the arguments.
    pub signature: String,
    big_endian: bool,
    body: Vec<u8>,
}

impl Message {
    /// Reads the arguments.
    pub fn arguments(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big_endian: self.big_endian }
    }
}

/// The length of the message that begins here; none while too little of it has come. An error where it is none, or too long.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(start) = bytes.get(..16) else { return Ok(None) };
    let mut reader = Reader { bytes: start, at: 4, big_endian: endianness(start)? };
    let read = (reader.u32(), reader.u32(), reader.u32());
    let (Some(body), Some(_serial), Some(fields)) = read else { return Err("has no length") };
    let total = 16 + (fields as usize).next_multiple_of(8) + body as usize;
    if total > MESSAGE_MAX { Err("is too long") } else { Ok(Some(total)) }
}

fn endianness(bytes: &[u8]) -> Result<bool, &'static str> {
    match bytes.first() {
        Some(b'l') => Ok(false),
        Some(b'B') => Ok(true),
        _ => Err("has no byte order"),
    }
}

/// Reads a whole message.
pub fn parse(bytes: &[u8]) -> Result<Message, &'static str> {
    let big_endian = endianness(bytes)?;
    if length(bytes)? != Some(bytes.len()) {
        return Err("is not as long as it says");
    }
    let mut reader = Reader { bytes, at: 4, big_endian };
    let body_length = reader.u32().ok_or("has no length")? as usize;
    reader.u32().ok_or("has no serial")?;
    let fields_length = reader.u32().ok_or("has no header")? as usize;
    let end = 16 + fields_length;
    let mut message = Message { kind: bytes[1], big_endian, ..Message::default() };
    let mut interface = String::new();
    while reader.at < end {
        reader.align(8);
        let code = reader.byte().ok_or("has a header cut short")?;
        let value = reader.variant().ok_or("has a header field that is not understood")?;
        match (code, value) {
            (field::INTERFACE, Field::Text(text)) => interface = text,
            (field::MEMBER, Field::Text(text)) => message.signal = text,
            (field::ERROR_NAME, Field::Text(text)) => message.error = text,
            (field::REPLY_SERIAL, Field::Number(number)) => message.reply_to = number,
            (field::SIGNATURE, Field::Text(text)) => message.signature = text,
            _ => {}
        }
    }
    if reader.at != end {
        return Err("has a header longer than it says");
    }
    message.signal = format!("{interface}.{}", message.signal);
    message.body = bytes[bytes.len() - body_length..].to_vec();
    Ok(message)
}

enum Field {
    Text(String),
    Number(u32),
}

/// Reads values, each at its alignment; none where the bytes end before.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// `u`
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let big_endian = self.big_endian;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// `v` with text inside.
    pub fn text_variant(&mut self) -> Option<String> {
        match self.variant()? {
            Field::Text(text) => Some(text),
            Field::Number(_) => None,
        }
    }

    fn variant(&mut self) -> Option<Field> {
        match self.signature()?.as_str() {
            "s" | "o" => self.text().map(Field::Text),
            "g" => self.signature().map(Field::Text),
            "u" => self.u32().map(Field::Number),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(signature: &'static str, body: Vec<u8>) -> Call<'static> {
        Call { destination: Some("a.b"), path: "/x", interface: "c.d", member: "Hello", signature, body }
    }

    #[test]
    fn a_call_byte_by_byte() {
        let bytes = Call { destination: None, path: "/o", interface: "i.f", member: "M", signature: "", body: vec![] }.bytes(7);
        let want: &[&[u8]] = &[
            &[b'l', 1, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0, 42, 0, 0, 0],
            &[1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'o', 0, 0, 0, 0, 0, 0],
            &[2, 1, b's', 0, 3, 0, 0, 0, b'i', b'.', b'f', 0, 0, 0, 0, 0],
            &[3, 1, b's', 0, 1, 0, 0, 0, b'M', 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes, want.concat());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut body = Writer::default();
        body.text("unit");
        body.u32(5);
        let bytes = hello("su", body.bytes).bytes(3);
        assert_eq!(length(&bytes).unwrap(), Some(bytes.len()));
        assert_eq!(length(&bytes[..15]).unwrap(), None);
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.signal.as_str(), message.signature.as_str()), (kind::CALL, "c.d.Hello", "su"));
        let mut arguments = message.arguments();
        assert_eq!((arguments.text().as_deref(), arguments.u32(), arguments.u32()), (Some("unit"), Some(5), None));
    }

    #[test]
    fn an_answer_in_the_other_byte_order() {
        let mut bytes = vec![b'B', kind::RETURN, 1, 1, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 15];
        bytes.extend_from_slice(&[5, 1, b'u', 0, 0, 0, 0, 42, 8, 1, b'g', 0, 1, b's', 0, 0]);
        bytes.extend_from_slice(&[0, 0, 0, 2, b'o', b'k', 0, 0]);
        let message = parse(&bytes).unwrap();
        assert_eq!((message.reply_to, message.arguments().text().as_deref()), (42, Some("ok")));
    }

    #[test]
    fn values_of_properties() {
        let bytes = |value: Value| {
            let mut writer = Writer::default();
            writer.variant(&value);
            writer.bytes
        };
        assert_eq!(bytes(Value::Bool(true)), [1, b'b', 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes(Value::U64(258)), [1, b't', 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(Value::Bytes(vec![7, 8])), [2, b'a', b'y', 0, 2, 0, 0, 0, 7, 8]);
        assert_eq!(bytes(Value::U32s(vec![9])), [2, b'a', b'u', 0, 4, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(bytes(Value::Texts(vec!["a".into()])), [2, b'a', b's', 0, 6, 0, 0, 0, 1, 0, 0, 0, b'a', 0]);
        let rates = bytes(Value::Rates(vec![("/d".into(), 1)]));
        assert_eq!(rates[..8], [5, b'a', b'(', b's', b't', b')', 0, 0]);
        assert_eq!(rates[8..], [16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'/', b'd', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn lengths_are_bounded() {
        let mut bytes = hello("", vec![]).bytes(1);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(length(&bytes), Err("is too long"));
        bytes[0] = b'x';
        assert_eq!(length(&bytes), Err("has no byte order"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), little in any::<bool>()) {
            let _ = length(&bytes);
            let _ = parse(&bytes);
            // With a header that fits, so that the fields are reached.
            if bytes.len() >= 16 {
                bytes[0] = if little { b'l' } else { b'B' };
                let total = u32::try_from(bytes.len()).unwrap();
                let fields = (total - 16) / 8 * 8;
                let body = total - 16 - fields;
                let put = |number: u32| if little { number.to_le_bytes() } else { number.to_be_bytes() };
                bytes[4..8].copy_from_slice(&put(body));
                bytes[12..16].copy_from_slice(&put(fields));
                if let Ok(message) = parse(&bytes) {
                    let mut arguments = message.arguments();
                    let _ = (arguments.text(), arguments.u32(), arguments.text_variant());
                }
            }
        }
    }
}
