// SPDX-License-Identifier: Apache-2.0
//! How JSON objects become structs and back: one reader and one writer for all of them, and a table per struct.
//!
//! serde's derive would do, but it also takes an array for an object (field by position), refuses null where a caller's omission means
//! "nothing", and costs code for every struct and field. Here a struct gives its table of names ([`Object`], by the macro [`object!`])
//! and the rest is written once. Unknown names are passed over (config.md, "Extensibility"); a name given twice is refused, because two
//! readers of the same file could otherwise disagree about what it says.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use crate::texts::Texts;

/// A struct that is a JSON object.
pub trait Object: Default {
    /// The names of its fields; at most 32.
    const NAMES: Texts;
    /// Which of them must be there, as bits.
    const REQUIRED: u32;

    /// Reads the value of the field whose place in `NAMES` is `index`.
    fn read_field<'de, A: MapAccess<'de>>(&mut self, index: usize, from: &mut A) -> Result<(), A::Error>;

    /// Writes the fields that say something.
    fn write_fields<M: SerializeMap>(&self, to: &mut M) -> Result<(), M::Error>;
}

/// Reads an object: what `Deserialize` of every [`Object`] does.
pub fn read_object<'de, T: Object, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let mut object = T::default();
    read_object_into(&mut object, from).map(|()| object)
}

/// Reads an object where it is to be: a configuration is some kilobytes, which else would be moved from level to level.
pub fn read_object_into<'de, T: Object, D: Deserializer<'de>>(object: &mut T, from: D) -> Result<(), D::Error> {
    from.deserialize_map(Reader(object))
}

/// Writes an object: what `Serialize` of every [`Object`] does.
pub fn write_object<T: Object, S: Serializer>(object: &T, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    object.write_fields(&mut map)?;
    map.end()
}

/// Reads into an object that has nothing but defaults.
struct Reader<'a, T>(&'a mut T);

impl<'de, T: Object> Visitor<'de> for Reader<'_, T> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        const { assert!(T::NAMES.len() <= 32, "a bit for each field") };
        let mut seen = 0u32;
        while let Some(name) = from.next_key_seed(NameIn(T::NAMES))? {
            let Some(index) = name else {
                from.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & 1 << index != 0 {
                return Err(Error::duplicate_field(T::NAMES.get(index).unwrap_or_default()));
            }
            seen |= 1 << index;
            self.0.read_field(index, &mut from)?;
        }
        let missing = T::REQUIRED & !seen;
        if missing != 0 {
            return Err(Error::missing_field(T::NAMES.get(missing.trailing_zeros() as usize).unwrap_or_default()));
        }
        Ok(())
    }
}

/// Reads a name as its index in a table of names.
struct NameIn(Texts);

impl<'de> DeserializeSeed<'de> for NameIn {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIn {
    type Value = Option<usize>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.position(name))
    }
}

/// A value that may not be null: in an array, or in a field that is required.
pub trait Item: Sized {
    /// Reads the value.
    fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;

    /// Reads the value into an empty place.
    fn read_into_option<'de, D: Deserializer<'de>>(place: &mut Option<Self>, from: D) -> Result<(), D::Error> {
        *place = Some(Self::read_item(from)?);
        Ok(())
    }
}

/// A value that may stand in a field: how it is read when null, and when it need not be written.
pub trait Field: Sized {
    /// Reads the value; null reads as absent.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;

    /// Reads the value into a place that has the default.
    fn read_into<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        *self = Self::read(from)?;
        Ok(())
    }

    /// True when writing the field would say nothing.
    fn is_absent(&self) -> bool;
}

/// Something to be read as [`Item`] says.
pub struct Strict<T>(pub T);

impl<'de, T: Item> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::read_item(from).map(Strict)
    }
}

/// A place that something is to be read into as [`Field`] says.
pub struct Place<'a, T>(pub &'a mut T);

impl<'de, T: Field> DeserializeSeed<'de> for Place<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.read_into(from)
    }
}

/// Reads what may be null into an empty place.
struct OrNull<'a, T>(&'a mut Option<T>);

impl<'de, T: Item> Visitor<'de> for OrNull<'_, T> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        T::read_into_option(self.0, from)
    }
}

impl<T: Item> Field for Option<T> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut value = None;
        from.deserialize_option(OrNull(&mut value)).map(|()| value)
    }

    fn read_into<'de, D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(OrNull(self))
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// [`Field`] for types whose absence is their default value. Numbers and users are always written: 0 says something.
macro_rules! null_is_default {
    ($([$($of:tt)*] $type:ty, $absent:expr;)*) => {$(
        impl<$($of)*> Field for $type {
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Ok(Option::deserialize(from)?.map(|Strict(value)| value).unwrap_or_default())
            }

            fn is_absent(&self) -> bool {
                let absent: fn(&$type) -> bool = $absent;
                absent(self)
            }
        }
    )*};
}

null_is_default! {
    [T: Item] Vec<T>, |list| list.is_empty();
    [T: Item] BTreeMap<String, T>, |map| map.is_empty();
    [] String, |text| text.is_empty();
    [] bool, |on| !on;
    [] u32, |_| false;
    [] i32, |_| false;
    [] i64, |_| false;
    [] super::User, |_| false;
}

/// [`Item`] for what serde reads as it should be.
macro_rules! plain_items {
    ($($type:ty)*) => {$(
        impl Item for $type {
            fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <$type>::deserialize(from)
            }
        }
    )*};
}

plain_items! { bool u16 u32 u64 i32 i64 }

/// No text may hold a NUL character: the kernel would see less of it than was checked.
impl Item for String {
    fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text)
    }
}

/// The text, if it may stand in a configuration.
pub(super) fn checked<E: Error>(text: &str) -> Result<&str, E> {
    match text.as_bytes().contains(&0) {
        true => Err(E::custom("holds a NUL character")),
        false => Ok(text),
    }
}

/// A text that stands in the file as it is, without an escape: JSON has no character below a space in one, and serde_json refuses it.
pub(super) fn as_written(text: &str) -> &str {
    debug_assert!(!text.as_bytes().contains(&0), "{text:?}");
    text
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = String;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        checked(text).map(str::to_string)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<String, E> {
        Ok(as_written(text).to_string())
    }
}

impl<T: Item> Item for Vec<T> {
    fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(List(PhantomData))
    }
}

/// What is large lies apart: a configuration is handed from function to function.
impl<T: Object> Item for Box<T> {
    fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = Box::<T>::default();
        read_object_into(&mut *object, from).map(|()| object)
    }

    fn read_into_option<'de, D: Deserializer<'de>>(place: &mut Option<Self>, from: D) -> Result<(), D::Error> {
        read_object_into(&mut **place.insert(Box::default()), from)
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Item> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = from.next_element()? {
            list.push(value);
        }
        Ok(list)
    }
}

/// A map with names of the user's choice, each once.
impl<T: Item> Item for BTreeMap<String, T> {
    fn read_item<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Map(PhantomData))
    }
}

struct Map<T>(PhantomData<T>);

impl<'de, T: Item> Visitor<'de> for Map<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<BTreeMap<String, T>, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((Strict(name), Strict(value))) = from.next_entry::<Strict<String>, Strict<T>>()? {
            if map.contains_key(&name) {
                return Err(Error::custom(format_args!("duplicate field `{name}`")));
            }
            map.insert(name, value);
        }
        Ok(map)
    }
}

/// Structs that are JSON objects: `field: Type = "name",` may be absent or null, `field: Type = "name" required,` may not.
macro_rules! object {
    ($($(#[$about:meta])* pub struct $object:ident {
        $($(#[$field_about:meta])* $field:ident: $type:ty = $name:literal $($required:ident)?,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $object {
            $($(#[$field_about])* pub $field: $type,)*
        }

        const _: () = {
            /// The fields in order: a name's place in the table.
            #[allow(non_camel_case_types)]
            enum At { $($field,)* }

            impl $crate::spec::types::Object for $object {
                const NAMES: $crate::texts::Texts = $crate::texts::texts![$($name,)*];
                const REQUIRED: u32 = 0 $($(| 1 << At::$field as u32 & $crate::spec::types::object!(@mask $required))?)*;

                fn read_field<'de, A: serde::de::MapAccess<'de>>(&mut self, at: usize, from: &mut A) -> Result<(), A::Error> {
                    $(if at == At::$field as usize {
                        $crate::spec::types::object!(@read from, self.$field, $type $(, $required)?);
                    })*
                    Ok(())
                }

                fn write_fields<M: serde::ser::SerializeMap>(&self, to: &mut M) -> Result<(), M::Error> {
                    $($crate::spec::types::object!(@write self.$field, $name, to $(, $required)?);)*
                    Ok(())
                }
            }

            impl $crate::spec::types::Item for $object {
                fn read_item<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    $crate::spec::types::read_object(from)
                }

                fn read_into_option<'de, D: serde::Deserializer<'de>>(place: &mut Option<Self>, from: D) -> Result<(), D::Error> {
                    $crate::spec::types::read_object_into(place.insert(Self::default()), from)
                }
            }

            impl<'de> serde::Deserialize<'de> for $object {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    $crate::spec::types::read_object(from)
                }
            }

            impl serde::Serialize for $object {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    $crate::spec::types::write_object(self, to)
                }
            }
        };
    )*};
    (@mask required) => { u32::MAX };
    (@read $from:ident, $field:expr, $type:ty) => { $from.next_value_seed($crate::spec::types::Place(&mut $field))? };
    (@read $from:ident, $field:expr, $type:ty, required) => {
        $field = $from.next_value::<$crate::spec::types::Strict<$type>>()?.0
    };
    (@write $field:expr, $name:literal, $to:ident) => {
        if !$crate::spec::types::Field::is_absent(&$field) {
            $to.serialize_entry($name, &$field)?;
        }
    };
    (@write $field:expr, $name:literal, $to:ident, required) => { $to.serialize_entry($name, &$field)? };
}
pub(crate) use object;
