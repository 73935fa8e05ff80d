//! The encoding of a message to JSON.
//!
//! Names are in camelCase, 64-bit numbers are strings, enums have their names, and defaults are absent. The items of a
//! repeated field must be next to each other, as encoders write them.

use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::DecodeError;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

use super::wire::{WirePart, WireParts, malformed, wire_type};
use super::{LIST, STRUCT, VALUE, is_text};

/// Maximum nesting that is written. What is sent was decoded before, with a lower limit.
const DEPTH: u32 = 400;

/// Appends the JSON of an encoded message to `out`.
///
/// # Errors
/// If the bytes are no message of this type.
pub(crate) fn write(message: &MessageDescriptor, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    any(message, encoded, out, DEPTH)
}

fn any(message: &MessageDescriptor, encoded: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or_else(|| malformed("nested too deeply"))?;
    match message.full_name() {
        STRUCT => between(out, b"{}", |out| members(encoded, out, depth)),
        VALUE => value(encoded, out, depth),
        LIST => between(out, b"[]", |out| values(encoded, out, depth)),
        _ if is_text(message) => {
            let message = DynamicMessage::decode(message.clone(), encoded)?;
            serde_json::to_writer(out, &message).map_err(|_| malformed("not a value of its type"))
        }
        _ => between(out, b"{}", |out| fields(message, encoded, out, depth)),
    }
}

fn between(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    out.push(brackets[0]);
    content(out)?;
    out.push(brackets[1]);
    Ok(())
}

/// Separates an item from the one before, if there is one.
fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[') | None) {
        out.push(b',');
    }
}

fn fields(message: &MessageDescriptor, encoded: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    // The repeated field whose items are being written.
    let mut open: Option<FieldDescriptor> = None;
    for part in WireParts(encoded) {
        let (number, part) = part?;
        let Some(field) = message.get_field(number) else { continue };
        begin_field(&mut open, &field, out);
        match (field.kind(), part) {
            (Kind::Message(entry), WirePart::Bytes(bytes)) if field.is_map() => entry_of(&entry, bytes, out, depth)?,
            (kind, WirePart::Bytes(bytes)) if field.is_list() && !is_delimited(&kind) => {
                let mut packed = WireParts(bytes);
                while !packed.0.is_empty() {
                    separate(out);
                    single(&kind, packed.part(wire_type(&kind))?, out, depth)?;
                }
            }
            (kind, part) => {
                if field.is_list() {
                    separate(out);
                }
                single(&kind, part, out, depth)?;
            }
        }
    }
    close(open.as_ref(), out);
    Ok(())
}

fn is_delimited(kind: &Kind) -> bool {
    matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

/// Writes the name of a field, unless it is that of the repeated field that is open already.
fn begin_field(open: &mut Option<FieldDescriptor>, field: &FieldDescriptor, out: &mut Vec<u8>) {
    if open.as_ref() == Some(field) {
        return;
    }
    close(open.take().as_ref(), out);
    separate(out);
    out.push(b'"');
    // Names of fields need no escapes.
    out.extend_from_slice(field.json_name().as_bytes());
    out.extend_from_slice(b"\":");
    if field.is_map() || field.is_list() {
        out.push(if field.is_map() { b'{' } else { b'[' });
        *open = Some(field.clone());
    }
}

fn close(open: Option<&FieldDescriptor>, out: &mut Vec<u8>) {
    if let Some(field) = open {
        out.push(if field.is_map() { b'}' } else { b']' });
    }
}

/// Writes an entry of a map.
fn entry_of(entry: &MessageDescriptor, encoded: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let (key, value) = key_and_value(encoded, WirePart::default_of(&key_kind), WirePart::default_of(&value_kind))?;
    separate(out);
    let at = out.len();
    single(&key_kind, key, out, depth)?;
    if out[at] != b'"' {
        out.insert(at, b'"');
        out.push(b'"');
    }
    out.push(b':');
    single(&value_kind, value, out, depth)
}

fn key_and_value<'a>(
    encoded: &'a [u8],
    mut key: WirePart<'a>,
    mut value: WirePart<'a>,
) -> Result<(WirePart<'a>, WirePart<'a>), DecodeError> {
    for part in WireParts(encoded) {
        match part? {
            (1, part) => key = part,
            (2, part) => value = part,
            _ => {}
        }
    }
    Ok((key, value))
}

fn members(encoded: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    for part in WireParts(encoded) {
        let (1, WirePart::Bytes(entry)) = part? else { continue };
        let (key, member) = key_and_value(entry, WirePart::Bytes(&[]), WirePart::Bytes(&[]))?;
        separate(out);
        single(&Kind::String, key, out, depth)?;
        out.push(b':');
        if let WirePart::Bytes(member) = member {
            value(member, out, depth)?;
        }
    }
    Ok(())
}

fn values(encoded: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    for part in WireParts(encoded) {
        if let (1, WirePart::Bytes(item)) = part? {
            separate(out);
            value(item, out, depth)?;
        }
    }
    Ok(())
}

/// Writes a Value. One without content is null.
fn value(encoded: &[u8], out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or_else(|| malformed("nested too deeply"))?;
    match WireParts(encoded).last().transpose()? {
        Some((2, part)) => single(&Kind::Double, part, out, depth),
        Some((3, part)) => single(&Kind::String, part, out, depth),
        Some((4, part)) => single(&Kind::Bool, part, out, depth),
        Some((5, WirePart::Bytes(bytes))) => between(out, b"{}", |out| members(bytes, out, depth)),
        Some((6, WirePart::Bytes(bytes))) => between(out, b"[]", |out| values(bytes, out, depth)),
        _ => {
            out.extend_from_slice(b"null");
            Ok(())
        }
    }
}

/// Writes one value.
fn single(kind: &Kind, part: WirePart<'_>, out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    let done = match (kind, part) {
        (Kind::Message(message), WirePart::Bytes(bytes)) => return any(message, bytes, out, depth),
        (Kind::String, WirePart::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))?;
            return serde_json::to_writer(out, text).map_err(|_| malformed("a string is not UTF-8"));
        }
        (Kind::Bytes, WirePart::Bytes(bytes)) => write!(out, "\"{}\"", STANDARD.encode(bytes)),
        (Kind::Bool, WirePart::Varint(bits)) => write!(out, "{}", bits != 0),
        (Kind::Int32, WirePart::Varint(bits)) => write!(out, "{}", bits as i32),
        (Kind::Uint32, WirePart::Varint(bits)) => write!(out, "{}", bits as u32),
        (Kind::Int64, WirePart::Varint(bits)) => write!(out, "\"{}\"", bits as i64),
        (Kind::Uint64, WirePart::Varint(bits)) => write!(out, "\"{bits}\""),
        (Kind::Enum(values), WirePart::Varint(bits)) => match values.get_value(bits as i32) {
            Some(value) => write!(out, "\"{}\"", value.name()),
            None => write!(out, "{}", bits as i32),
        },
        (Kind::Double, WirePart::Fixed64(bits)) => return number(f64::from_bits(bits), out),
        (Kind::Float, WirePart::Fixed32(bits)) => return number(f32::from_bits(bits).into(), out),
        _ => return Err(malformed("a field has another type")),
    };
    done.map_err(|_| malformed("out of memory"))
}

/// Writes a floating point number; those that JSON lacks are strings.
fn number(number: f64, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let name = match number {
        _ if number.is_nan() => "\"NaN\"",
        f64::INFINITY => "\"Infinity\"",
        f64::NEG_INFINITY => "\"-Infinity\"",
        _ => return serde_json::to_writer(out, &number).map_err(|_| malformed("out of memory")),
    };
    out.extend_from_slice(name.as_bytes());
    Ok(())
}
