//! Queries of sessions, as plain values that the store turns into SQL with bound parameters.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Session, SessionState};
use crate::domain::query::Test;
use crate::domain::time::Timestamp;

/// Time of a session that can be filtered and ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionTime {
    /// Time of the creation.
    Create,
    /// Time of the end.
    End,
}

/// Condition on one field of a session: one of the alternatives has to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionClause {
    /// The state is one of these, each listed once. Empty: no session matches.
    State(Vec<SessionState>),
    /// Comparisons of the id, by bytes.
    SessionId(Vec<Test<String>>),
    /// Comparisons of one label, by bytes.
    Label {
        /// Key of the label.
        key: String,
        /// Comparisons of which one has to hold.
        any_of: Vec<Test<String>>,
    },
    /// Comparisons of a time.
    Time {
        /// The time that is compared.
        field: SessionTime,
        /// Comparisons of which one has to hold.
        any_of: Vec<Test<Timestamp>>,
    },
}

/// Order of a list of sessions. Ties, and sessions without an end, are in the order of creation, then of id; all in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOrder {
    /// Time that is ordered by. Sessions that have not ended come last in either direction.
    pub field: SessionTime,
    /// Whether the latest comes first.
    pub descending: bool,
}

impl Default for SessionOrder {
    fn default() -> Self {
        Self { field: SessionTime::Create, descending: true }
    }
}

/// Position at which a page of sessions ended; the next page starts after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCursor {
    /// End of the last session, in microseconds since 1970, if the list is ordered by it. None: it has not ended, or another order.
    pub end: Option<i64>,
    /// Creation of the last session, in microseconds since 1970.
    pub created: i64,
    /// Id of the last session.
    pub session_id: String,
}

/// One page of a list of sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionQuery {
    /// Clauses that all have to hold.
    pub clauses: Vec<SessionClause>,
    /// Order of the list.
    pub order: SessionOrder,
    /// Position after which the page starts. None: the first page.
    pub after: Option<SessionCursor>,
    /// Maximum number of sessions of the page.
    pub limit: u32,
}

/// Page of sessions.
#[derive(Clone, Debug)]
pub struct SessionPage {
    /// Sessions in order. There can be fewer than the limit although more match.
    pub sessions: Vec<Arc<Session>>,
    /// Position after which the next page starts. None: this is the last page.
    pub next: Option<SessionCursor>,
}

impl SessionOrder {
    /// Cursor of a session in this order.
    pub fn cursor(self, session: &Session) -> SessionCursor {
        let end = session.end_time.filter(|_| self.field == SessionTime::End).map(|end| end.0);
        SessionCursor { end, created: session.create_time.0, session_id: session.session_id.to_string() }
    }
}
