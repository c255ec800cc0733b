// SPDX-License-Identifier: Apache-2.0
//! Values of systemd's unit properties, and their text form in annotations (GVariant text format, docs.gtk.org/glib).
//!
//! Called by [`super::systemd`]; `crate::cgroup::dbus` sends the values. The text comes from whoever wrote the pod: anything that is not
//! plainly one of these values is refused.

/// A value with a type of D-Bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    U32s(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `a(st)`: a device and a number.
    Rates(Vec<(String, u64)>),
    /// `a(ss)`: devices and what may be done with them.
    Pairs(Vec<(String, String)>),
}

impl Value {
    /// The type's signature.
    pub fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::F64(_) => "d",
            Value::Text(_) => "s",
            Value::Bytes(_) => "ay",
            Value::U32s(_) => "au",
            Value::Texts(_) => "as",
            Value::Rates(_) => "a(st)",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// Reads a value from text: `true`, `'text'`, `uint64 5`, `-3`, `1.5`, `['a', 'b']`, `@as []`, `[byte 1, 2]`. What is wrong with it, if
/// it is none.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { left: text };
    let value = reader.value()?;
    reader.skip();
    if reader.left.is_empty() { Ok(value) } else { Err(format!("has more after its value: {:?}", reader.left)) }
}

struct Reader<'a> {
    left: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.left = self.left.trim_start_matches([' ', '\t', '\n']);
    }

    /// Takes `token` if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip();
        match self.left.strip_prefix(token) {
            Some(rest) => {
                self.left = rest;
                true
            }
            None => false,
        }
    }

    /// Takes letters, digits and what numbers are made of.
    fn word(&mut self) -> &'a str {
        self.skip();
        let end = self
            .left
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.' | '_'))
            .unwrap_or(self.left.len());
        let (word, rest) = self.left.split_at(end);
        self.left = rest;
        word
    }

    fn value(&mut self) -> Result<Value, String> {
        self.skip();
        if self.take("@") {
            return self.annotated();
        }
        match self.left.chars().next() {
            Some('\'' | '"') => Ok(Value::Text(self.quoted()?)),
            Some('[') => self.array(),
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') => self.plain(),
            _ => Err(format!("is no value: {:?}", self.left)),
        }
    }

    /// `@TYPE value`
    fn annotated(&mut self) -> Result<Value, String> {
        let kind = self.word();
        if kind == "as" && self.take("[") {
            return if self.take("]") { Ok(Value::Texts(Vec::new())) } else { self.items().and_then(texts) };
        }
        let names = [
            ("b", ""),
            ("y", "byte"),
            ("n", "int16"),
            ("q", "uint16"),
            ("i", "int32"),
            ("u", "uint32"),
            ("x", "int64"),
            ("t", "uint64"),
            ("d", "double"),
            ("s", "string"),
        ];
        let name = names.iter().find(|(letter, _)| *letter == kind).map(|(_, name)| *name);
        let value = match name {
            Some("") => self.value()?,
            Some("string") => Value::Text(self.quoted()?),
            Some(name) => {
                let word = self.word();
                number(name, word)?
            }
            None => return Err(format!("has a type that is not understood: {kind:?}")),
        };
        if value.signature() == kind { Ok(value) } else { Err(format!("is not of the type {kind:?}")) }
    }

    /// A bool, a number, or the name of a type and a number of it.
    fn plain(&mut self) -> Result<Value, String> {
        match self.word() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "boolean" => match self.word() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                other => Err(format!("is no boolean: {other:?}")),
            },
            "string" => {
                self.skip();
                Ok(Value::Text(self.quoted()?))
            }
            name @ ("byte" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "uint64" | "double") => {
                let word = self.word();
                number(name, word)
            }
            word if word.contains('.') => number("double", word),
            word => number("int32", word),
        }
    }

    /// Text in single or double quotes.
    fn quoted(&mut self) -> Result<String, String> {
        self.skip();
        let mut chars = self.left.chars();
        let quote = chars.next().filter(|c| matches!(c, '\'' | '"')).ok_or_else(|| format!("is no text: {:?}", self.left))?;
        let mut text = String::new();
        loop {
            match chars.next() {
                None | Some('\0') => return Err("is text without an end".to_string()),
                Some(c) if c == quote => break,
                Some('\\') => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                    other => return Err(format!("has an escape that is not understood: {other:?}")),
                },
                Some(c) => text.push(c),
            }
        }
        self.left = chars.as_str();
        Ok(text)
    }

    /// `[…]`: all of one type.
    fn array(&mut self) -> Result<Value, String> {
        self.take("[");
        if self.take("]") {
            return Err("is an array of no type: write @as []".to_string());
        }
        let items = self.items()?;
        match items.first() {
            Some(Value::Text(_)) => texts(items),
            // After the first byte, plain numbers are bytes too.
            Some(Value::Byte(_)) => {
                let bytes = items.into_iter().map(|item| match item {
                    Value::Byte(byte) => Ok(byte),
                    Value::I32(number) => u8::try_from(number).map_err(|_| format!("has {number} among bytes")),
                    other => Err(format!("has {other:?} among bytes")),
                });
                bytes.collect::<Result<Vec<u8>, String>>().map(Value::Bytes)
            }
            Some(Value::U32(_)) => {
                let numbers = items.into_iter().map(|item| match item {
                    Value::U32(number) => Ok(number),
                    Value::I32(number) => u32::try_from(number).map_err(|_| format!("has {number} among uint32")),
                    other => Err(format!("has {other:?} among uint32")),
                });
                numbers.collect::<Result<Vec<u32>, String>>().map(Value::U32s)
            }
            other => Err(format!("is an array of values that no property takes: {other:?}")),
        }
    }

    /// What stands between the brackets, until the closing one.
    fn items(&mut self) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.left.starts_with(['[', '@']) {
                return Err("is an array of arrays".to_string());
            }
            items.push(self.value()?);
            if self.take("]") {
                return Ok(items);
            }
            if !self.take(",") {
                return Err("is an array without an end".to_string());
            }
        }
    }
}

fn texts(items: Vec<Value>) -> Result<Value, String> {
    let texts = items.into_iter().map(|item| match item {
        Value::Text(text) => Ok(text),
        other => Err(format!("has {other:?} among texts")),
    });
    texts.collect::<Result<Vec<String>, String>>().map(Value::Texts)
}

/// A number of a type, decimal, or hexadecimal with 0x.
fn number(kind: &str, word: &str) -> Result<Value, String> {
    let bad = || format!("is no {kind}: {word:?}");
    if kind == "double" {
        return word.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::F64).ok_or_else(bad);
    }
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return Err(bad());
    }
    let size = i128::from_str_radix(digits, radix).map_err(|_| bad())?;
    let size = if negative { -size } else { size };
    let value = match kind {
        "byte" => u8::try_from(size).ok().map(Value::Byte),
        "int16" => i16::try_from(size).ok().map(Value::I16),
        "uint16" => u16::try_from(size).ok().map(Value::U16),
        "int32" => i32::try_from(size).ok().map(Value::I32),
        "uint32" => u32::try_from(size).ok().map(Value::U32),
        "int64" => i64::try_from(size).ok().map(Value::I64),
        "uint64" => u64::try_from(size).ok().map(Value::U64),
        _ => None,
    };
    value.ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_as_text() {
        let text = |text: &str| Value::Text(text.into());
        for (from, want) in [
            ("true", Value::Bool(true)),
            (" false ", Value::Bool(false)),
            ("boolean true", Value::Bool(true)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            ("\"it's\"", text("it's")),
            (r"'a\'b\\c\n'", text("a'b\\c\n")),
            ("5", Value::I32(5)),
            ("-7", Value::I32(-7)),
            ("1.5", Value::F64(1.5)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("uint64 0xff", Value::U64(255)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("@t 5", Value::U64(5)),
            ("@as []", Value::Texts(vec![])),
            ("@as ['a']", Value::Texts(vec!["a".into()])),
            ("['a', 'b.service']", Value::Texts(vec!["a".into(), "b.service".into()])),
            ("[byte 1, 2, 0x03]", Value::Bytes(vec![1, 2, 3])),
            ("[uint32 1, 2]", Value::U32s(vec![1, 2])),
            ("int16 -3", Value::I16(-3)),
            ("double 2", Value::F64(2.0)),
        ] {
            assert_eq!(parse(from).unwrap(), want, "{from}");
        }
    }

    #[test]
    fn what_is_no_value() {
        for bad in [
            "",
            "tru",
            "'a",
            "'a' 'b'",
            "uint64 -1",
            "byte 256",
            "int32 1 2",
            "[]",
            "[['a']]",
            "['a'",
            "['a' 'b']",
            "['a', 1]",
            "@zz 5",
            "@t 'x'",
            "(1, 2)",
            "{'a': 1}",
            "<5>",
            "uint64",
            "1e400",
            "nan",
            "inf",
            "5;",
            "--5",
            "-+5",
            r"'\x'",
            "'a\0b'",
            "[byte 1, 300]",
            "objectpath '/a'",
            "@as [1]",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was taken as {:?}", parse(bad));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+a-z0-9@\\[\\]'\", .\\\\x]{0,40}") {
            let _ = parse(&text);
        }
    }
}
