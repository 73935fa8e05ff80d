//! Comparisons in a filter of sessions, and their order.

use super::lexer::{FilterError, Token};
use super::{Clauses, Parser, parse};
use crate::domain::query::{Comparison, Test};
use crate::domain::refusal::Refusal;
use crate::domain::session::SessionState;
use crate::domain::session::query::{SessionClause, SessionOrder, SessionTime};
use crate::rpc::convert::path::Path;
use crate::rpc::convert::text::is_label_key;
use crate::rpc::convert::time::parse_rfc3339;

const FIELDS: &str = "state, session_id, labels.KEY, create_time or end_time";

/// Reads the `filter` of a ListSessions.
pub fn sessions(text: &str) -> Result<Vec<SessionClause>, Refusal> {
    parse(text)
}

/// Reads the `order_by` of a ListSessions.
pub fn session_order(text: &str) -> Result<SessionOrder, Refusal> {
    let mut words = text.split_ascii_whitespace();
    let Some(field) = words.next() else { return Ok(SessionOrder::default()) };
    let field = match field {
        "create_time" => Some(SessionTime::Create),
        "end_time" => Some(SessionTime::End),
        _ => None,
    };
    let descending = match (words.next(), words.next()) {
        (None, _) | (Some("asc"), None) => Some(false),
        (Some("desc"), None) => Some(true),
        _ => None,
    };
    match (field, descending) {
        (Some(field), Some(descending)) => Ok(SessionOrder { field, descending }),
        _ => Err(Path::Root
            .field("order_by")
            .refuse("must be create_time or end_time, followed by desc for descending order")),
    }
}

enum Compared {
    State,
    SessionId,
    Label(String),
    Time(SessionTime),
}

impl Clauses for SessionClause {
    fn comparison(parser: &mut Parser) -> Result<Self, FilterError> {
        let field = compared(parser)?;
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
            Compared::State => states(comparison, operator_at, &value, at),
            Compared::SessionId => Ok(Self::SessionId(vec![Test { comparison, value }])),
            Compared::Label(key) => Ok(Self::Label { key, any_of: vec![Test { comparison, value }] }),
            Compared::Time(field) => match parse_rfc3339(&value) {
                Some(value) => Ok(Self::Time { field, any_of: vec![Test { comparison, value }] }),
                None => Err(FilterError { at, why: "times are RFC 3339, such as \"2026-01-31T08:00:00Z\"".to_owned() }),
            },
        }
    }

    fn either(one: Self, other: Self) -> Option<Self> {
        match (one, other) {
            (Self::State(one), Self::State(other)) => {
                let either = |state: &SessionState| one.contains(state) || other.contains(state);
                Some(Self::State(SessionState::VISIBLE.into_iter().filter(either).collect()))
            }
            (Self::SessionId(one), Self::SessionId(other)) => Some(Self::SessionId([one, other].concat())),
            (Self::Label { key, any_of }, Self::Label { key: same, any_of: more }) if key == same => {
                Some(Self::Label { key, any_of: [any_of, more].concat() })
            }
            (Self::Time { field, any_of }, Self::Time { field: same, any_of: more }) if field == same => {
                Some(Self::Time { field, any_of: [any_of, more].concat() })
            }
            (Self::State(_) | Self::SessionId(_) | Self::Label { .. } | Self::Time { .. }, _) => None,
        }
    }
}

fn compared(parser: &mut Parser) -> Result<Compared, FilterError> {
    let (at, token) = parser.take()?;
    let refuse = |why: String| Err(FilterError { at, why });
    let Token::Word(name) = token else { return refuse(format!("expected a field: {FIELDS}")) };
    if let Some(key) = name.strip_prefix("labels.") {
        if is_label_key(key) {
            return Ok(Compared::Label(key.to_owned()));
        }
        return refuse("the key of a label matches [A-Za-z0-9._/-]{1,63}".to_owned());
    }
    match name.as_str() {
        "state" => Ok(Compared::State),
        "session_id" => Ok(Compared::SessionId),
        "create_time" => Ok(Compared::Time(SessionTime::Create)),
        "end_time" => Ok(Compared::Time(SessionTime::End)),
        "NOT" => refuse("NOT is not supported; use !=".to_owned()),
        _ => refuse(format!("is not a field: {FIELDS}")),
    }
}

/// States have no order, so a comparison is the set of those it lets through.
fn states(comparison: Comparison, operator_at: usize, value: &str, at: usize) -> Result<SessionClause, FilterError> {
    let Some(state) = SessionState::VISIBLE.into_iter().find(|state| state.name() == value) else {
        let names = SessionState::VISIBLE.map(SessionState::name).join(", ");
        return Err(FilterError { at, why: format!("is not a state: {names}") });
    };
    let chosen = match comparison {
        Comparison::Equal => vec![state],
        Comparison::NotEqual => SessionState::VISIBLE.into_iter().filter(|other| *other != state).collect(),
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
            return Err(FilterError { at: operator_at, why: "states are compared by = and != only".to_owned() });
        }
    };
    Ok(SessionClause::State(chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_sessions_has_its_own_fields() {
        let clauses = sessions("state = ENDED AND (session_id = a OR session_id = b) AND labels.team != acme");
        let clauses = clauses.expect("valid");
        assert_eq!(clauses[0], SessionClause::State(vec![SessionState::Ended]));
        assert!(matches!(&clauses[1], SessionClause::SessionId(tests) if tests.len() == 2));
        for bad in
            ["state = DELETED", "state < OPEN", "kind = a", "create_time > yesterday", "state = OPEN OR session_id = a"]
        {
            assert!(sessions(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_are_two() {
        let order = |field, descending| Ok(SessionOrder { field, descending });
        assert_eq!(session_order(""), order(SessionTime::Create, true));
        assert_eq!(session_order("end_time"), order(SessionTime::End, false));
        assert!(session_order("title").is_err() && session_order("end_time up").is_err());
    }
}
