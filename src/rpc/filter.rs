//! The filter language of lists: comparisons joined by AND, with OR between comparisons of one field.
//!
//! ```text
//! filter     = [ clause { "AND" clause } ]
//! clause     = part { "OR" part }                     OR binds tighter than AND, as in AIP-160
//! part       = comparison | "(" filter ")"
//! comparison = field operator value
//! field      = of jobs: "state" | "kind" | "labels." KEY | "create_time" | "start_time" | "end_time"
//!              of records: "fields." NAME | "record_id" | "create_time" | "update_time"
//!              of sessions: "state" | "session_id" | "labels." KEY | "create_time" | "end_time"
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">="
//! value      = word | "'" text "'" | '"' text '"'     a backslash takes the next character as it is
//! ```
//!
//! **Invariants.** A filter is read once from left to right; parentheses are nested at most eight deep, so that no
//! text of any form makes this recurse deeply or take long.

mod compare;
mod lexer;
mod record;
mod session;

use self::lexer::{FilterError, Lexer, Token};
pub use self::record::{record_order, records};
pub use self::session::{session_order, sessions};
use super::convert::path::Path;
use super::limits::FILTER_CHARACTERS;
use crate::domain::query::{Clause, JobFilter, JobOrder, OrderField};
use crate::domain::refusal::Refusal;

/// How deep parentheses may be nested; one level is all that is ever needed.
const DEPTH: usize = 8;

/// Reads the `filter` of a ListJobs.
pub fn filter(text: &str) -> Result<JobFilter, Refusal> {
    parse(text).map(|clauses| JobFilter { clauses })
}

/// What comparisons of one language become.
trait Clauses: Sized {
    /// Parses one comparison, such as `state = RUNNING`.
    fn comparison(parser: &mut Parser) -> Result<Self, FilterError>;

    /// One of two clauses has to hold; `None` unless both are of one field.
    fn either(one: Self, other: Self) -> Option<Self>;
}

impl Clauses for Clause {
    fn comparison(parser: &mut Parser) -> Result<Self, FilterError> {
        compare::comparison(parser)
    }

    fn either(one: Self, other: Self) -> Option<Self> {
        compare::either(one, other)
    }
}

/// Reads the `filter` of a list.
fn parse<C: Clauses>(text: &str) -> Result<Vec<C>, Refusal> {
    let refuse = |why: String| Path::Root.field("filter").refuse(why);
    // Bytes first, so that characters of 4 MiB are not counted.
    if text.len() > 4 * FILTER_CHARACTERS || text.chars().count() > FILTER_CHARACTERS {
        return Err(refuse(format!("has more than {FILTER_CHARACTERS} characters")));
    }
    let parsed = Parser::of(text).and_then(|mut parser| parser.whole());
    parsed.map_err(|fault| refuse(format!("at character {}: {}", fault.at + 1, fault.why)))
}

/// Reads the `order_by` of a ListJobs.
pub fn order(text: &str) -> Result<JobOrder, Refusal> {
    let mut words = text.split_ascii_whitespace();
    let Some(field) = words.next() else { return Ok(JobOrder::default()) };
    let field = match field {
        "create_time" => Some(OrderField::CreateTime),
        "end_time" => Some(OrderField::EndTime),
        "priority" => Some(OrderField::Priority),
        _ => None,
    };
    let descending = match (words.next(), words.next()) {
        (None, _) | (Some("asc"), None) => Some(false),
        (Some("desc"), None) => Some(true),
        _ => None,
    };
    match (field, descending) {
        (Some(field), Some(descending)) => Ok(JobOrder { field, descending }),
        _ => Err(Path::Root
            .field("order_by")
            .refuse("must be create_time, end_time or priority, followed by desc for descending order")),
    }
}

/// Reads tokens with one to look ahead at.
struct Parser<'t> {
    lexer: Lexer<'t>,
    next: Token,
    /// Where the next token begins, in characters.
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn of(text: &'t str) -> Result<Self, FilterError> {
        let mut lexer = Lexer::of(text);
        let (at, next) = lexer.token()?;
        Ok(Self { lexer, next, at, depth: 0 })
    }

    /// Takes the next token and where it begins.
    fn take(&mut self) -> Result<(usize, Token), FilterError> {
        let (at, token) = self.lexer.token()?;
        Ok((std::mem::replace(&mut self.at, at), std::mem::replace(&mut self.next, token)))
    }

    fn fault<T>(&self, why: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError { at: self.at, why: why.into() })
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.next, Token::Word(text) if text == word)
    }

    fn whole<C: Clauses>(&mut self) -> Result<Vec<C>, FilterError> {
        if self.next == Token::End {
            return Ok(Vec::new());
        }
        let clauses = self.all()?;
        match &self.next {
            Token::End => Ok(clauses),
            Token::Word(word) if word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or") => {
                self.fault("AND and OR are written in capital letters")
            }
            _ => self.fault("expected AND, OR or the end"),
        }
    }

    /// Clauses joined by AND.
    fn all<C: Clauses>(&mut self) -> Result<Vec<C>, FilterError> {
        let mut clauses = self.clause()?;
        while self.is_word("AND") {
            self.take()?;
            clauses.append(&mut self.clause()?);
        }
        Ok(clauses)
    }

    /// Parts joined by OR, which all have to be of one field; or one part, which may be several clauses in parentheses.
    fn clause<C: Clauses>(&mut self) -> Result<Vec<C>, FilterError> {
        let mut clauses = self.part()?;
        while self.is_word("OR") {
            self.take()?;
            let at = self.at;
            let more = self.part()?;
            let (Ok([one]), Ok([other])) = (<[C; 1]>::try_from(clauses), <[C; 1]>::try_from(more)) else {
                return Err(FilterError { at, why: "OR joins comparisons, not what AND has joined".to_owned() });
            };
            match C::either(one, other) {
                Some(both) => clauses = vec![both],
                None => return Err(FilterError { at, why: "OR joins only comparisons of one field".to_owned() }),
            }
        }
        Ok(clauses)
    }

    fn part<C: Clauses>(&mut self) -> Result<Vec<C>, FilterError> {
        if self.next != Token::Open {
            return Ok(vec![C::comparison(self)?]);
        }
        if self.depth == DEPTH {
            return self.fault(format!("parentheses may be nested {DEPTH} deep"));
        }
        self.take()?;
        self.depth += 1;
        let clauses = self.all()?;
        self.depth -= 1;
        if self.next != Token::Close {
            return self.fault("expected AND, OR or a closing parenthesis");
        }
        self.take()?;
        Ok(clauses)
    }
}

#[cfg(test)]
mod tests;
