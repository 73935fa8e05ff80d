//! Comparisons in a filter of records, and their order.

use super::lexer::{FilterError, Token};
use super::{Clauses, Parser, parse};
use crate::domain::query::{Comparison, Test};
use crate::domain::record_query::{RecordClause, RecordOrder, RecordOrderField, RecordTime, Scalar};
use crate::domain::refusal::Refusal;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::time::parse_rfc3339;
use crate::rpc::limits::FIELD_NAME_BYTES;

const FIELDS: &str = "fields.NAME, record_id, create_time or update_time";

/// Reads the `filter` of a ListRecords.
pub fn records(text: &str) -> Result<Vec<RecordClause>, Refusal> {
    parse(text)
}

/// Reads the `order_by` of a ListRecords.
pub fn record_order(text: &str) -> Result<RecordOrder, Refusal> {
    let mut words = text.split_ascii_whitespace();
    let field = match words.next() {
        None | Some("record_id") => Some(RecordOrderField::RecordId),
        Some("create_time") => Some(RecordOrderField::CreateTime),
        Some("update_time") => Some(RecordOrderField::UpdateTime),
        Some(_) => None,
    };
    let descending = match (words.next(), words.next()) {
        (None, _) | (Some("asc"), None) => Some(false),
        (Some("desc"), None) => Some(true),
        _ => None,
    };
    match (field, descending) {
        (Some(field), Some(descending)) => Ok(RecordOrder { field, descending }),
        _ => Err(Path::Root
            .field("order_by")
            .refuse("must be record_id, create_time or update_time, followed by desc for descending order")),
    }
}

enum Subject {
    Field(String),
    RecordId,
    Time(RecordTime),
}

impl Clauses for RecordClause {
    fn comparison(parser: &mut Parser) -> Result<Self, FilterError> {
        let subject = subject(parser)?;
        let operator_at = parser.at;
        let Token::Operator(comparison) = parser.next else {
            return parser.fault("expected an operator: = != < <= > >=");
        };
        parser.take()?;
        let (at, value) = parser.take()?;
        match (subject, value) {
            (Subject::Field(name), Token::Word(value)) => field(name, comparison, operator_at, bare(value)),
            (Subject::Field(name), Token::Quoted(value)) => field(name, comparison, operator_at, Scalar::Text(value)),
            (Subject::RecordId, Token::Word(value) | Token::Quoted(value)) => {
                Ok(Self::RecordId(vec![Test { comparison, value }]))
            }
            (Subject::Time(field), Token::Word(value) | Token::Quoted(value)) => match parse_rfc3339(&value) {
                Some(value) => Ok(Self::Time { field, any_of: vec![Test { comparison, value }] }),
                None => Err(FilterError { at, why: "times are RFC 3339, such as \"2026-01-31T08:00:00Z\"".to_owned() }),
            },
            (_, Token::Operator(_) | Token::Open | Token::Close | Token::End) => {
                Err(FilterError { at, why: "expected a value".to_owned() })
            }
        }
    }

    fn either(one: Self, other: Self) -> Option<Self> {
        match (one, other) {
            (Self::RecordId(one), Self::RecordId(other)) => Some(Self::RecordId([one, other].concat())),
            (Self::Time { field, any_of }, Self::Time { field: same, any_of: more }) if field == same => {
                Some(Self::Time { field, any_of: [any_of, more].concat() })
            }
            (Self::Field { name, any_of }, Self::Field { name: same, any_of: more }) if name == same => {
                Some(Self::Field { name, any_of: [any_of, more].concat() })
            }
            (Self::RecordId(_) | Self::Time { .. } | Self::Field { .. }, _) => None,
        }
    }
}

fn subject(parser: &mut Parser) -> Result<Subject, FilterError> {
    let (at, token) = parser.take()?;
    let refuse = |why: String| Err(FilterError { at, why });
    let Token::Word(word) = token else { return refuse(format!("expected a field: {FIELDS}")) };
    if let Some(name) = word.strip_prefix("fields.") {
        let name = match (name, &parser.next) {
            ("", Token::Quoted(name)) => {
                let name = name.clone();
                parser.take()?;
                name
            }
            (name, _) => name.to_owned(),
        };
        if name.is_empty() || name.len() > FIELD_NAME_BYTES {
            return refuse(format!("the name of a field has 1 to {FIELD_NAME_BYTES} bytes"));
        }
        return Ok(Subject::Field(name));
    }
    match word.as_str() {
        "record_id" => Ok(Subject::RecordId),
        "create_time" => Ok(Subject::Time(RecordTime::Create)),
        "update_time" => Ok(Subject::Time(RecordTime::Update)),
        "NOT" => refuse("NOT is not supported; use !=".to_owned()),
        _ => refuse(format!("is not a field: {FIELDS}")),
    }
}

fn field(name: String, comparison: Comparison, at: usize, value: Scalar) -> Result<RecordClause, FilterError> {
    let has_order = matches!(value, Scalar::Number(_) | Scalar::Text(_));
    if !has_order && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
        return Err(FilterError { at, why: "null and bools are compared by = and != only".to_owned() });
    }
    Ok(RecordClause::Field { name, any_of: vec![Test { comparison, value }] })
}

/// What a word without quotes stands for.
fn bare(word: String) -> Scalar {
    match word.as_str() {
        "null" => Scalar::Null,
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        _ => {
            // Not what only Rust takes for a number, such as `inf` and `nan`.
            let digits = word.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
            let number = word.parse::<f64>().ok().filter(|number| digits && number.is_finite());
            number.map_or(Scalar::Text(word), Scalar::Number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Scalar {
        match records(text).expect(text).pop() {
            Some(RecordClause::Field { mut any_of, .. }) => any_of.remove(0).value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_have_the_type_they_are_written_with() {
        for (text, expected) in [
            ("fields.a = 3", Scalar::Number(3.0)),
            ("fields.a = -2.5e3", Scalar::Number(-2_500.0)),
            ("fields.a = \"3\"", Scalar::Text("3".into())),
            ("fields.a = inf", Scalar::Text("inf".into())),
            ("fields.a = done", Scalar::Text("done".into())),
            ("fields.a != true", Scalar::Bool(true)),
            ("fields.a = null", Scalar::Null),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
    }

    #[test]
    fn names_of_any_kind_can_be_asked_for() {
        let name = |text: &str| match records(text).expect(text).pop() {
            Some(RecordClause::Field { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name("fields.\"Voice URL\" = 1"), "Voice URL");
        assert_eq!(name("fields.a_b-c = 1"), "a_b-c");
        for bad in ["fields. = 1", "fields.a < null", "fields.a", "state = 1", "fields.a = 1 OR fields.b = 1", "fields"]
        {
            assert!(records(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_are_few() {
        assert_eq!(record_order("").map(|order| order.descending), Ok(false));
        assert_eq!(
            record_order("update_time desc"),
            Ok(RecordOrder { field: RecordOrderField::UpdateTime, descending: true })
        );
        assert!(record_order("fields.a").is_err() && record_order("record_id down").is_err());
    }
}
