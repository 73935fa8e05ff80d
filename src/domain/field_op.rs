//! Operations on a field of a record. The proto documents the rules for missing fields and fields of another type.
//!
//! Values are stored as JSON text. The type follows from the first character, an append adds to the text, and a comparison walks along two
//! texts. Only a merge parses the value.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::equality::{elements, equal};
use super::json::Json;
use super::refusal::Refusal;
use super::short::Short;

/// 2^53: every whole number up to it is exact as a double.
pub const EXACT: f64 = 9_007_199_254_740_992.0;

/// One operation on one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldOp {
    /// Name of the field.
    pub field: Short,
    /// Change of the field.
    pub change: FieldChange,
    /// Version of the field that the caller expects. 0: the field is expected to be missing. `None`: any.
    pub expected_version: Option<i64>,
}

/// Change of a field. Numbers are finite.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldChange {
    /// Sets the field to this value.
    Set(Json),
    /// Removes the field from the record.
    Unset,
    /// Adds this number, at most ±[`EXACT`]. The result is exact or refused, except for the rounding of fractions.
    Increment(f64),
    /// Appends these elements to a list.
    Append(Vec<Json>),
    /// Appends those of these elements that the list does not contain.
    AddToSet(Vec<Json>),
    /// Removes all elements that are equal to one of these.
    Remove(Vec<Json>),
    /// Raises the number to at least this.
    Maximum(f64),
    /// Lowers the number to at most this.
    Minimum(f64),
    /// Merges this object into the field, by RFC 7396 (JSON Merge Patch).
    Merge(Json),
}

/// Reason that an operation cannot be applied to a field.
#[derive(Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The field has another type than the operation needs.
    WrongType {
        /// Type that the operation needs.
        needs: &'static str,
        /// Type of the stored value.
        is: &'static str,
    },
    /// The result would exceed a limit; the text says which.
    Limit(String),
}

impl FieldError {
    /// The refusal of the operation at this path of the request.
    pub(super) fn refusal(self, path: &str, operation: &FieldOp) -> Refusal {
        match self {
            Self::WrongType { needs, is } => {
                Refusal::WrongType { path: path.to_owned(), field: operation.field.to_string(), needs, is }
            }
            Self::Limit(why) => Refusal::LimitExceeded { path: path.to_owned(), why },
        }
    }
}

impl FieldChange {
    /// Bytes of the caller's values in this change.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Set(value) | Self::Merge(value) => value.len(),
            Self::Append(values) | Self::AddToSet(values) | Self::Remove(values) => {
                values.iter().map(|value| value.len() + 1).sum()
            }
            Self::Unset | Self::Increment(_) | Self::Maximum(_) | Self::Minimum(_) => 8,
        }
    }

    /// Computes the new value of the field. `None`: the field is absent.
    pub fn apply(&self, before: Option<&Json>) -> Result<Option<Json>, FieldError> {
        match self {
            Self::Set(value) => Ok(Some(value.clone())),
            Self::Unset => Ok(None),
            Self::Increment(by) => add(before.map(as_number).transpose()?.unwrap_or(0.0), *by).map(number).map(Some),
            Self::Maximum(bound) => bounded(before, *bound, |now| now < *bound),
            Self::Minimum(bound) => bounded(before, *bound, |now| now > *bound),
            Self::Append(values) => append(before, values).map(Some),
            Self::AddToSet(values) => add_to_set(before, values).map(Some),
            Self::Remove(values) => remove(before, values),
            Self::Merge(patch) => merge(before, patch).map(Some),
        }
    }
}

/// Name of a value's type, with its article.
fn type_of(value: &Json) -> &'static str {
    match value.as_str().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a bool",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

fn expect(value: &Json, needs: &'static str) -> Result<(), FieldError> {
    let is = type_of(value);
    if is == needs { Ok(()) } else { Err(FieldError::WrongType { needs, is }) }
}

fn as_number(value: &Json) -> Result<f64, FieldError> {
    expect(value, "a number")?;
    Ok(value.as_str().parse().expect("a checked value that begins like a number is one"))
}

/// Writes a finite number as JSON: whole numbers up to ±[`EXACT`] without point and exponent.
pub fn write_number(text: &mut String, number: f64) {
    let whole = number.fract() == 0.0 && number.abs() <= EXACT && !(number == 0.0 && number.is_sign_negative());
    let written = if whole {
        // Whole and at most 2^53, so the cast is exact.
        let number = number as i64;
        write!(text, "{number}")
    } else {
        // The shortest text that parses to the same double.
        write!(text, "{number:?}")
    };
    debug_assert!(written.is_ok(), "writing to a String does not fail");
}

fn number(number: f64) -> Json {
    Json::from_checked(digits(number))
}

fn digits(number: f64) -> String {
    let mut text = String::new();
    write_number(&mut text, number);
    text
}

/// Adds two finite numbers. Refused: a sum beyond ±[`EXACT`], and an increment too small to change the number. A sum with a fraction is
/// rounded to the nearest double (IEEE 754).
fn add(number: f64, by: f64) -> Result<f64, FieldError> {
    let limit = |why: String| Err(FieldError::Limit(why));
    let sum = number + by;
    // A sum beyond the bound may be rounded to it, which the rounding error shows.
    let lost = rounded_away(number, by, sum);
    if sum.abs() > EXACT || (sum.abs() == EXACT && lost != 0.0 && (lost > 0.0) == (sum > 0.0)) {
        return limit(format!("the sum of {} and {} is beyond ±2^53", digits(number), digits(by)));
    }
    if by != 0.0 && sum == number {
        return limit(format!("{} is too small to change {}: a double has 53 bits", digits(by), digits(number)));
    }
    debug_assert!(lost == 0.0 || number.fract() != 0.0 || by.fract() != 0.0, "whole numbers up to 2^53 add exactly");
    Ok(sum)
}

/// The exact sum minus `sum`, its nearest double (TwoSum: Knuth, TAOCP 4.2.2).
fn rounded_away(a: f64, b: f64, sum: f64) -> f64 {
    let b_in_sum = sum - a;
    let a_in_sum = sum - b_in_sum;
    (a - a_in_sum) + (b - b_in_sum)
}

fn bounded(before: Option<&Json>, bound: f64, is_beyond: impl Fn(f64) -> bool) -> Result<Option<Json>, FieldError> {
    match before {
        Some(before) if !is_beyond(as_number(before)?) => Ok(Some(before.clone())),
        Some(_) | None => Ok(Some(number(bound))),
    }
}

fn append(before: Option<&Json>, values: &[Json]) -> Result<Json, FieldError> {
    let before = match before {
        Some(before) => {
            expect(before, "a list")?;
            before.as_str()
        }
        None => "[]",
    };
    let mut text = String::with_capacity(before.len() + values.iter().map(|value| value.len() + 1).sum::<usize>());
    // The text is compact, so its last byte is the bracket.
    text.push_str(&before[..before.len() - 1]);
    for value in values {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(value.as_str());
    }
    text.push(']');
    Ok(Json::from_checked(text))
}

fn add_to_set(before: Option<&Json>, values: &[Json]) -> Result<Json, FieldError> {
    let there = before.map(as_list).transpose()?.unwrap_or_default();
    let mut new: Vec<Json> = Vec::new();
    for value in values {
        let is_new = |other: &str| !equal(other, value.as_str());
        if there.iter().all(|other| is_new(other)) && new.iter().all(|other| is_new(other.as_str())) {
            new.push(value.clone());
        }
    }
    append(before, &new)
}

fn remove(before: Option<&Json>, values: &[Json]) -> Result<Option<Json>, FieldError> {
    let Some(before) = before else { return Ok(None) };
    let there = as_list(before)?;
    let stays = |element: &&&str| !values.iter().any(|gone| equal(element, gone.as_str()));
    let left: Vec<&str> = there.iter().filter(stays).copied().collect();
    let unchanged = left.len() == there.len();
    Ok(Some(if unchanged { before.clone() } else { Json::from_checked(format!("[{}]", left.join(","))) }))
}

fn merge(before: Option<&Json>, patch: &Json) -> Result<Json, FieldError> {
    let mut merged = match before {
        Some(before) => {
            expect(before, "an object")?;
            parsed(before)
        }
        None => Value::Object(Map::new()),
    };
    patch_into(&mut merged, parsed(patch));
    let merged = written(&merged);
    Ok(match before {
        Some(before) if equal(before.as_str(), merged.as_str()) => before.clone(),
        Some(_) | None => merged,
    })
}

/// Applies a JSON Merge Patch: the pseudocode of RFC 7396, section 2. The depth of the recursion is bounded by that of the patch, which is
/// checked when the request is read.
fn patch_into(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            patch_into(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn as_list(value: &Json) -> Result<Vec<&str>, FieldError> {
    expect(value, "a list")?;
    Ok(elements(value.as_str()))
}

fn parsed(value: &Json) -> Value {
    serde_json::from_str(value.as_str()).expect("a checked value is JSON")
}

fn written(value: &impl serde::Serialize) -> Json {
    Json::from_checked(serde_json::to_string(value).expect("JSON values can be written"))
}
