//! The users' own objects: `google.protobuf.Struct` on the wire, JSON text inside.
//!
//! **Invariants.** The text is compact JSON with sorted keys; a whole number is written as one, without exponent, as long
//! as doubles are exact there (±2⁵³). Numbers survive the way there and back bit by bit.

use std::fmt::{self, Write as _};

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::path::{Path, write_key};
use crate::domain::field_op::write_number;
use crate::domain::json::{Document, Json};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::rpc::limits::DOCUMENT_DEPTH;

/// The document of an object, at most `limit` bytes long as JSON.
pub fn document(object: &Struct, limit: usize, path: &Path) -> std::result::Result<Document, Refusal> {
    let mut writer = Writer { text: String::new(), limit, before: 0, depth: 0 };
    match writer.object(object) {
        Ok(()) => Ok(Document::from_checked(writer.text)),
        Err(fault) => Err(fault.at(path)),
    }
}

/// As [`document`], where there may be none.
pub fn optional(object: Option<&Struct>, limit: usize, path: &Path) -> std::result::Result<Option<Document>, Refusal> {
    object.map(|object| document(object, limit, path)).transpose()
}

/// One value of any type, at most `limit` bytes long as JSON.
pub fn value(value: &Value, limit: usize, path: &Path) -> std::result::Result<Json, Refusal> {
    let mut writer = Writer { text: String::new(), limit, before: 0, depth: 0 };
    match writer.value(value) {
        Ok(()) => Ok(Json::from_checked(writer.text)),
        Err(fault) => Err(fault.at(path)),
    }
}

/// The elements of a list, at most `limit` bytes long together as JSON; the list counts as a level.
pub fn values(list: &ListValue, limit: usize, path: &Path) -> std::result::Result<Vec<Json>, Refusal> {
    let mut before = 0;
    let mut values = Vec::with_capacity(list.values.len());
    for (i, value) in list.values.iter().enumerate() {
        let mut writer = Writer { text: String::new(), limit, before, depth: 1 };
        writer.value(value).map_err(|fault| fault.within(Step::Index(i)).at(path))?;
        before += writer.text.len() + 1;
        values.push(Json::from_checked(writer.text));
    }
    Ok(values)
}

/// The value of a stored text; one that is no JSON cannot have passed the edge and is a fault of ours.
pub fn value_to_proto(value: &Json) -> Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(value.as_str());
    let kind = ValueSeed.deserialize(&mut deserializer);
    let kind = kind.map_err(|error| Error::bug(format_args!("a stored value is not readable: {error}")))?;
    Ok(Value { kind: Some(kind) })
}

/// The object of a document. A text that is no JSON object cannot have passed the edge and is a fault of ours.
pub fn object(document: &Document) -> Result<Struct> {
    parse(document.as_str()).map_err(|error| Error::bug(format_args!("a stored document is not readable: {error}")))
}

/// As [`object`], where there may be none.
pub fn optional_object(document: Option<&Document>) -> Result<Option<Struct>> {
    document.map(object).transpose()
}

/// The object of a JSON text that is not wrapped as a document, such as the details of a stored failure.
pub fn parse(text: &str) -> serde_json::Result<Struct> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let object = ObjectSeed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

/// What is wrong inside an object, and the way to it from the inside out; built only on the way back.
struct Fault<'a> {
    why: String,
    way: Vec<Step<'a>>,
    /// Whether the object is at fault, and not a part of it.
    is_of_whole: bool,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Fault<'a> {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), way: Vec::new(), is_of_whole: false }
    }

    fn within(mut self, step: Step<'a>) -> Self {
        if !self.is_of_whole {
            self.way.push(step);
        }
        self
    }

    fn at(self, path: &Path) -> Refusal {
        let mut text = path.to_string();
        for step in self.way.iter().rev() {
            let written = match step {
                Step::Key(key) => write_key(&mut text, key),
                Step::Index(index) => write!(text, "[{index}]"),
            };
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        }
        Refusal::field(text, self.why)
    }
}

/// Writes compact JSON and stops as soon as it grows beyond the limit.
struct Writer {
    text: String,
    limit: usize,
    /// What was written elsewhere and counts too.
    before: usize,
    depth: usize,
}

impl Writer {
    fn object<'a>(&mut self, object: &'a Struct) -> std::result::Result<(), Fault<'a>> {
        self.enter()?;
        self.text.push('{');
        for (i, (key, value)) in object.fields.iter().enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            self.string(key).and_then(|()| self.colon_and(value)).map_err(|fault| fault.within(Step::Key(key)))?;
        }
        self.leave('}')
    }

    fn colon_and<'a>(&mut self, value: &'a Value) -> std::result::Result<(), Fault<'a>> {
        self.text.push(':');
        self.value(value)
    }

    fn list<'a>(&mut self, list: &'a ListValue) -> std::result::Result<(), Fault<'a>> {
        self.enter()?;
        self.text.push('[');
        for (i, value) in list.values.iter().enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            self.value(value).map_err(|fault| fault.within(Step::Index(i)))?;
        }
        self.leave(']')
    }

    fn value<'a>(&mut self, value: &'a Value) -> std::result::Result<(), Fault<'a>> {
        match &value.kind {
            None => return Err(Fault::new("the value has no kind; null is written as null_value")),
            Some(Kind::NullValue(_)) => self.text.push_str("null"),
            Some(Kind::BoolValue(value)) => self.text.push_str(if *value { "true" } else { "false" }),
            Some(Kind::NumberValue(number)) => self.number(*number)?,
            Some(Kind::StringValue(text)) => self.string(text)?,
            Some(Kind::StructValue(object)) => self.object(object)?,
            Some(Kind::ListValue(list)) => self.list(list)?,
        }
        self.fits()
    }

    fn number<'a>(&mut self, number: f64) -> std::result::Result<(), Fault<'a>> {
        if !number.is_finite() {
            return Err(Fault::new("NaN and infinities are not JSON"));
        }
        write_number(&mut self.text, number);
        Ok(())
    }

    fn string<'a>(&mut self, text: &str) -> std::result::Result<(), Fault<'a>> {
        if text.len() > self.limit {
            return Err(self.too_large_alone());
        }
        let start = self.text.len();
        self.text.push('"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
            self.text.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                0 => return Err(Fault::new("a NUL character is not allowed")),
                b'"' => self.text.push_str("\\\""),
                b'\\' => self.text.push_str("\\\\"),
                b'\n' => self.text.push_str("\\n"),
                b'\r' => self.text.push_str("\\r"),
                b'\t' => self.text.push_str("\\t"),
                control => write!(self.text, "\\u{control:04x}").map_err(|_| Fault::new("cannot be written"))?,
            }
            rest = &rest[at + 1..];
        }
        self.text.push_str(rest);
        self.text.push('"');
        if self.text.len() - start > self.limit { Err(self.too_large_alone()) } else { self.fits() }
    }

    fn enter<'a>(&mut self) -> std::result::Result<(), Fault<'a>> {
        self.depth += 1;
        if self.depth > DOCUMENT_DEPTH {
            return Err(Fault::new(format!("objects and lists may be nested {DOCUMENT_DEPTH} levels deep at most")));
        }
        Ok(())
    }

    fn leave<'a>(&mut self, close: char) -> std::result::Result<(), Fault<'a>> {
        self.depth -= 1;
        self.text.push(close);
        self.fits()
    }

    fn fits<'a>(&self) -> std::result::Result<(), Fault<'a>> {
        if self.before + self.text.len() > self.limit { Err(self.too_large()) } else { Ok(()) }
    }

    /// No smaller neighbour would let this string in, so it is the one to name.
    fn too_large_alone<'a>(&self) -> Fault<'a> {
        Fault::new(format!("it has more than {} bytes as JSON", self.limit))
    }

    fn too_large<'a>(&self) -> Fault<'a> {
        let why = format!("as a whole it has more than {} bytes as JSON", self.limit);
        Fault { is_of_whole: true, ..Fault::new(why) }
    }
}

/// Reads JSON straight into messages, without a tree in between.
struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Kind, E> {
        Ok(Kind::NullValue(0))
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Kind, E> {
        Ok(Kind::BoolValue(value))
    }

    // JSON has doubles only, and so has Struct.
    fn visit_i64<E>(self, value: i64) -> std::result::Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Kind, E> {
        Ok(Kind::NumberValue(value))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Kind, E> {
        Ok(Kind::StringValue(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Kind, E> {
        Ok(Kind::StringValue(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Kind, A::Error> {
        let mut values = Vec::new();
        while let Some(kind) = items.next_element_seed(ValueSeed)? {
            values.push(Value { kind: Some(kind) });
        }
        Ok(Kind::ListValue(ListValue { values }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Kind, A::Error> {
        let mut object = Struct::default();
        while let Some(key) = entries.next_key::<String>()? {
            object.fields.insert(key, Value { kind: Some(entries.next_value_seed(ValueSeed)?) });
        }
        Ok(Kind::StructValue(object))
    }
}

struct ObjectSeed;

impl<'de> DeserializeSeed<'de> for ObjectSeed {
    type Value = Struct;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Struct, D::Error> {
        match ValueSeed.deserialize(deserializer)? {
            Kind::StructValue(object) => Ok(object),
            _ => Err(D::Error::custom("not an object")),
        }
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
