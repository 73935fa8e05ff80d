//! JSON to the encoding of a message.
//!
//! Names are accepted in camelCase and snake_case, 64-bit numbers as numbers and as strings, enums by name and by number,
//! and null as absent. Unknown names, names given twice and two members of a oneof are refused. The nesting of the JSON is
//! limited by its parser, to 128 levels.

use std::fmt;

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::scalars::{Number, number_in, text_in};
use super::writer::{Step, Writer};
use super::{LIST, STRUCT, VALUE, is_text};

/// The reason why JSON is no message of a type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JsonFault {
    /// Path of the value, such as `stages[0].name`. Empty: the whole.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) why: String,
}

/// Appends the encoding of a message to `out`, which gets at most `limit` bytes.
pub(crate) fn read(message: &MessageDescriptor, json: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), JsonFault> {
    let mut writer = Writer::new(out, limit);
    let mut json = serde_json::Deserializer::from_slice(json);
    let read =
        In { writer: &mut writer, form: Form::of_message(message) }.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| JsonFault { path: writer.path(), why: error.to_string() })
}

/// What a JSON value has to be.
#[derive(Clone)]
enum Form {
    /// A message with fields; written without key and length.
    Fields(MessageDescriptor),
    /// A message whose JSON is a string.
    Text(MessageDescriptor),
    Struct,
    Value,
    List,
    /// A value with its key, in a field or an entry of this number.
    Single(u32, Kind),
    Repeated(FieldDescriptor),
    Map(FieldDescriptor),
}

impl Form {
    fn of_message(message: &MessageDescriptor) -> Form {
        match message.full_name() {
            STRUCT => Form::Struct,
            VALUE => Form::Value,
            LIST => Form::List,
            _ if is_text(message) => Form::Text(message.clone()),
            _ => Form::Fields(message.clone()),
        }
    }

    fn of_field(field: &FieldDescriptor) -> Form {
        if field.is_map() {
            Form::Map(field.clone())
        } else if field.is_list() {
            Form::Repeated(field.clone())
        } else {
            Form::Single(field.number(), field.kind())
        }
    }

    /// True if null is a value and not the absence of one.
    fn takes_null(&self) -> bool {
        match self {
            Form::Value => true,
            Form::Single(_, Kind::Message(message)) => message.full_name() == VALUE,
            _ => false,
        }
    }
}

/// Reads a JSON value of a form into the writer.
struct In<'w, 'a> {
    writer: &'w mut Writer<'a>,
    form: Form,
}

impl<'de> DeserializeSeed<'de> for In<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.form {
            Form::Text(message) => {
                let message = DynamicMessage::deserialize(message, json)?;
                message.encode(self.writer.out).map_err(D::Error::custom)?;
                self.writer.check()
            }
            Form::Single(number, Kind::Message(message)) => {
                let form = Form::of_message(&message);
                self.writer.nested(number, |writer| In { writer, form }.deserialize(json))
            }
            Form::Fields(_) | Form::Struct | Form::Map(_) => json.deserialize_map(self),
            Form::List | Form::Repeated(_) => json.deserialize_seq(self),
            Form::Value | Form::Single(..) => json.deserialize_any(self),
        }
    }
}

/// A value that null leaves out.
struct Nullable<'w, 'a>(In<'w, 'a>);

impl<'de> DeserializeSeed<'de> for Nullable<'_, '_> {
    type Value = bool;

    /// False: it was null.
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Nullable<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        self.0.deserialize(json).map(|()| true)
    }
}

impl<'de> Visitor<'de> for In<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.form {
            Form::Fields(_) | Form::Struct | Form::Map(_) => "an object",
            Form::List | Form::Repeated(_) => "an array",
            Form::Text(_) | Form::Single(_, Kind::String | Kind::Bytes) => "a string",
            Form::Value => "any JSON",
            Form::Single(_, Kind::Bool) => "true or false",
            Form::Single(_, Kind::Enum(_)) => "the name of a value of the enum",
            Form::Single(..) => "a number",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match self.form {
            Form::Fields(message) => fields(self.writer, &message, map),
            Form::Map(field) => entries(self.writer, &field, map),
            Form::Value => self.writer.nested(5, |writer| members(writer, map)),
            _ => members(self.writer, map),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        match self.form {
            Form::Repeated(field) => items(self.writer, &Form::Single(field.number(), field.kind()), list),
            Form::Value => self.writer.nested(6, |writer| values(writer, list)),
            Form::List => values(self.writer, list),
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.form {
            Form::Value => self.writer.varint(1, 0),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Unit, &self)),
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.form {
            Form::Value => self.writer.varint(4, value.into()),
            Form::Single(number, Kind::Bool) => self.writer.varint(number, value.into()),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match &self.form {
            Form::Value => self.visit_f64(value as f64),
            Form::Single(number, kind) => number_in(self.writer, *number, kind, &Number::Integer(value.into())),
            _ => Err(E::invalid_type(serde::de::Unexpected::Signed(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match &self.form {
            Form::Value => self.visit_f64(value as f64),
            Form::Single(number, kind) => number_in(self.writer, *number, kind, &Number::Integer(value.into())),
            _ => Err(E::invalid_type(serde::de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match &self.form {
            Form::Value => self.writer.double(2, value),
            Form::Single(number, kind) => return number_in(self.writer, *number, kind, &Number::Fraction(value)),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Float(value), &self)),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match &self.form {
            Form::Value => self.writer.bytes(3, text.as_bytes()),
            Form::Single(number, kind) => text_in(self.writer, *number, kind, text)?,
            _ => return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
        self.writer.check()
    }
}

/// Reads the fields of a message.
fn fields<'de, A: MapAccess<'de>>(
    writer: &mut Writer<'_>,
    message: &MessageDescriptor,
    mut map: A,
) -> Result<(), A::Error> {
    let (mut seen, mut oneofs) = (Vec::new(), Vec::new());
    while let Some(name) = map.next_key::<String>()? {
        let field = message.get_field_by_json_name(&name).or_else(|| message.get_field_by_name(&name));
        let Some(field) = field else {
            writer.path.push(Step::Key(name));
            return Err(A::Error::custom(format_args!("{} has no field of this name", message.name())));
        };
        writer.path.push(Step::Field(field.clone()));
        if seen.contains(&field.number()) {
            return Err(A::Error::custom("the field is given twice"));
        }
        seen.push(field.number());
        let form = Form::of_field(&field);
        if form.takes_null() {
            map.next_value_seed(In { writer: &mut *writer, form })?;
        } else if !map.next_value_seed(Nullable(In { writer: &mut *writer, form }))? {
            writer.path.pop();
            continue;
        }
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            if oneofs.contains(&oneof) {
                return Err(A::Error::custom(format_args!("another member of `{}` is given too", oneof.name())));
            }
            oneofs.push(oneof);
        }
        writer.path.pop();
    }
    Ok(())
}

/// Reads the entries of a map.
fn entries<'de, A: MapAccess<'de>>(
    writer: &mut Writer<'_>,
    field: &FieldDescriptor,
    mut map: A,
) -> Result<(), A::Error> {
    let Kind::Message(entry) = field.kind() else { return Err(A::Error::custom("a map has entries")) };
    let (key_kind, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field());
    while let Some(key) = map.next_key::<String>()? {
        writer.path.push(Step::Key(key.clone()));
        let form = Form::Single(value.number(), value.kind());
        writer.nested(field.number(), |writer| {
            text_in(writer, 1, &key_kind, &key)?;
            map.next_value_seed(In { writer, form })
        })?;
        writer.path.pop();
    }
    Ok(())
}

/// Reads the members of a Struct.
fn members<'de, A: MapAccess<'de>>(writer: &mut Writer<'_>, mut map: A) -> Result<(), A::Error> {
    while let Some(key) = map.next_key::<String>()? {
        writer.path.push(Step::Key(key.clone()));
        writer.nested(1, |writer| {
            writer.bytes(1, key.as_bytes());
            writer.nested(2, |writer| map.next_value_seed(In { writer, form: Form::Value }))
        })?;
        writer.path.pop();
    }
    Ok(())
}

/// Reads the values of a ListValue.
fn values<'de, A: SeqAccess<'de>>(writer: &mut Writer<'_>, mut list: A) -> Result<(), A::Error> {
    for index in 0.. {
        writer.path.push(Step::Index(index));
        let at = writer.out.len();
        let mut is_there = false;
        writer.nested(1, |writer| {
            is_there = list.next_element_seed(In { writer, form: Form::Value })?.is_some();
            Ok(())
        })?;
        writer.path.pop();
        if !is_there {
            writer.out.truncate(at);
            break;
        }
    }
    Ok(())
}

/// Reads the items of a repeated field. They are written unpacked, which every decoder reads.
fn items<'de, A: SeqAccess<'de>>(writer: &mut Writer<'_>, form: &Form, mut list: A) -> Result<(), A::Error> {
    for index in 0.. {
        writer.path.push(Step::Index(index));
        let at = writer.out.len();
        let seed = In { writer: &mut *writer, form: form.clone() };
        let is_there = list.next_element_seed(seed)?.is_some();
        writer.path.pop();
        if !is_there {
            writer.out.truncate(at);
            break;
        }
    }
    Ok(())
}
