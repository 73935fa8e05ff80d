//! Scalar values of JSON, written with their keys.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key};
use prost_reflect::Kind;
use serde::de::Error;

use super::writer::Writer;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A number as JSON has it.
pub(super) enum Number {
    Integer(i128),
    Fraction(f64),
}

/// Writes a number of any kind with its key.
pub(super) fn number_in<E: Error>(writer: &mut Writer<'_>, field: u32, kind: &Kind, number: &Number) -> Result<(), E> {
    let fraction = match number {
        Number::Integer(integer) => *integer as f64,
        Number::Fraction(fraction) => *fraction,
    };
    match kind {
        Kind::Double => writer.double(field, fraction),
        Kind::Float => {
            encode_key(field, WireType::ThirtyTwoBit, writer.out);
            writer.out.extend_from_slice(&(fraction as f32).to_le_bytes());
        }
        Kind::Int32 | Kind::Enum(_) => {
            let value = i32::try_from(integer(number)?).map_err(|_| E::custom("the number is out of range"))?;
            writer.varint(field, i64::from(value) as u64);
        }
        Kind::Uint32 => {
            let value = u32::try_from(integer(number)?).map_err(|_| E::custom("the number is out of range"))?;
            writer.varint(field, value.into());
        }
        Kind::Int64 => {
            let value = i64::try_from(integer(number)?).map_err(|_| E::custom("the number is out of range"))?;
            writer.varint(field, value as u64);
        }
        Kind::Uint64 => {
            let value = u64::try_from(integer(number)?).map_err(|_| E::custom("the number is out of range"))?;
            writer.varint(field, value);
        }
        Kind::String | Kind::Bytes => return Err(E::custom("invalid type: number, expected a string")),
        Kind::Bool => return Err(E::custom("invalid type: number, expected true or false")),
        _ => return Err(E::custom("fields of this kind are not read from JSON")),
    }
    Ok(())
}

fn integer<E: Error>(number: &Number) -> Result<i128, E> {
    match number {
        Number::Integer(integer) => Ok(*integer),
        // Beyond 2⁶⁴ the conversion saturates or the range is checked afterwards.
        Number::Fraction(fraction) if fraction.fract() == 0.0 => Ok(*fraction as i128),
        Number::Fraction(_) => Err(E::custom("a whole number is expected")),
    }
}

/// Writes a string, or what a string stands for, with its key.
pub(super) fn text_in<E: Error>(writer: &mut Writer<'_>, field: u32, kind: &Kind, text: &str) -> Result<(), E> {
    match kind {
        Kind::String => writer.bytes(field, text.as_bytes()),
        Kind::Bytes => {
            let standard = text.replace('-', "+").replace('_', "/");
            let bytes = BASE64.decode(standard).map_err(|_| E::custom("the string is not base64"))?;
            writer.bytes(field, &bytes);
        }
        Kind::Enum(values) => {
            let value = values.get_value_by_name(text);
            let value = value.ok_or_else(|| E::custom(format_args!("{} has no value of this name", values.name())))?;
            writer.varint(field, i64::from(value.number()) as u64);
        }
        Kind::Bool => match text {
            "true" => writer.varint(field, 1),
            "false" => writer.varint(field, 0),
            _ => return Err(E::custom("true or false is expected")),
        },
        kind => {
            let number = match text {
                "NaN" => Number::Fraction(f64::NAN),
                "Infinity" => Number::Fraction(f64::INFINITY),
                "-Infinity" => Number::Fraction(f64::NEG_INFINITY),
                text => match text.parse() {
                    Ok(integer) => Number::Integer(integer),
                    Err(_) => Number::Fraction(text.parse().map_err(|_| E::custom("a number is expected"))?),
                },
            };
            return number_in(writer, field, kind, &number);
        }
    }
    Ok(())
}
