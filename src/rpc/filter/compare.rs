//! One comparison of a filter: its field, its operator and a value of the field's type.

use super::Parser;
use super::lexer::{FilterError, Token};
use crate::domain::job::JobPhase;
use crate::domain::query::{Clause, Comparison, Test, TimeField};
use crate::rpc::convert::text::is_label_key;
use crate::rpc::convert::time::parse_rfc3339;

enum Field {
    State,
    Kind,
    Label(String),
    Time(TimeField),
}

/// Parses one comparison, such as `state = RUNNING`.
pub(super) fn comparison(parser: &mut Parser) -> Result<Clause, FilterError> {
    let field = field(parser)?;
    let operator_at = parser.at;
    let Token::Operator(comparison) = parser.next else {
        return parser.fault("expected an operator: = != < <= > >=");
    };
    parser.take()?;
    let (at, value) = match parser.take()? {
        (at, Token::Word(value) | Token::Quoted(value)) => (at, value),
        (at, _) => return Err(FilterError { at, why: "expected a value".to_owned() }),
    };
    match field {
        Field::State => states(comparison, operator_at, &value, at),
        Field::Kind => Ok(Clause::Kind(vec![Test { comparison, value }])),
        Field::Label(key) => Ok(Clause::Label { key, any_of: vec![Test { comparison, value }] }),
        Field::Time(field) => match parse_rfc3339(&value) {
            Some(value) => Ok(Clause::Time { field, any_of: vec![Test { comparison, value }] }),
            None => Err(FilterError { at, why: "times are RFC 3339, such as \"2026-01-31T08:00:00Z\"".to_owned() }),
        },
    }
}

fn field(parser: &mut Parser) -> Result<Field, FilterError> {
    const FIELDS: &str = "state, kind, labels.KEY, create_time, start_time or end_time";
    let (at, token) = parser.take()?;
    let refuse = |why: String| Err(FilterError { at, why });
    let Token::Word(name) = token else { return refuse(format!("expected a field: {FIELDS}")) };
    if let Some(key) = name.strip_prefix("labels.") {
        if is_label_key(key) {
            return Ok(Field::Label(key.to_owned()));
        }
        return refuse("the key of a label matches [A-Za-z0-9._/-]{1,63}".to_owned());
    }
    match name.as_str() {
        "state" => Ok(Field::State),
        "kind" => Ok(Field::Kind),
        "create_time" => Ok(Field::Time(TimeField::Create)),
        "start_time" => Ok(Field::Time(TimeField::Start)),
        "end_time" => Ok(Field::Time(TimeField::End)),
        "NOT" => refuse("NOT is not supported; use !=".to_owned()),
        _ => refuse(format!("is not a field: {FIELDS}")),
    }
}

/// States have no order, so a comparison is the set of those it lets through.
fn states(comparison: Comparison, operator_at: usize, value: &str, at: usize) -> Result<Clause, FilterError> {
    let Some(state) = JobPhase::ALL.into_iter().find(|phase| phase.name() == value) else {
        let names = JobPhase::ALL.map(JobPhase::name).join(", ");
        return Err(FilterError { at, why: format!("is not a state: {names}") });
    };
    match comparison {
        Comparison::Equal => Ok(Clause::State(vec![state])),
        Comparison::NotEqual => Ok(Clause::State(JobPhase::ALL.into_iter().filter(|phase| *phase != state).collect())),
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
            Err(FilterError { at: operator_at, why: "states are compared by = and != only".to_owned() })
        }
    }
}

/// One of two clauses has to hold; `None` unless both are of one field.
pub(super) fn either(one: Clause, other: Clause) -> Option<Clause> {
    match (one, other) {
        (Clause::State(one), Clause::State(other)) => {
            let either = |phase: &JobPhase| one.contains(phase) || other.contains(phase);
            Some(Clause::State(JobPhase::ALL.into_iter().filter(either).collect()))
        }
        (Clause::Kind(one), Clause::Kind(other)) => Some(Clause::Kind([one, other].concat())),
        (Clause::Label { key, any_of }, Clause::Label { key: same, any_of: more }) if key == same => {
            Some(Clause::Label { key, any_of: [any_of, more].concat() })
        }
        (Clause::Time { field, any_of }, Clause::Time { field: same, any_of: more }) if field == same => {
            Some(Clause::Time { field, any_of: [any_of, more].concat() })
        }
        (Clause::State(_) | Clause::Kind(_) | Clause::Label { .. } | Clause::Time { .. }, _) => None,
    }
}
