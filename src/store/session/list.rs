//! ListSessions: the filter as SQL.

use std::sync::Arc;

use super::load::session;
use crate::domain::id::NamespaceId;
use crate::domain::session::query::{
    SessionClause, SessionCursor, SessionOrder, SessionPage, SessionQuery, SessionTime,
};
use crate::domain::session::{Session, SessionState};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::page::{ColumnBounds, MAX_LOOKED_AT, PageParts, PageQuery, Values, WALK_SETUP, any_of, behind};
use crate::store::pg::snapshot::Snapshot;

/// A part of an order of sessions that one index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum SessionSection {
    /// All sessions, by creation.
    All,
    /// Sessions that have ended, by their end.
    Ended,
    /// Sessions that have not ended, by creation.
    Open,
}

impl Store {
    /// A page of sessions in order, of one snapshot.
    pub async fn list_sessions(&self, namespace: NamespaceId, query: &SessionQuery) -> Result<SessionPage> {
        let client = self.reads.get().await?;
        walk(&Snapshot::under(&client, WALK_SETUP), namespace, query).await
    }
}

/// Walks through the sections of the order from the end of the page before.
async fn walk(snapshot: &Snapshot<'_>, namespace: NamespaceId, query: &SessionQuery) -> Result<SessionPage> {
    let limit = query.limit as usize;
    let sections = SessionSection::of_order(query.order);
    let first = query.after.as_ref().map_or(0, |after| {
        let section = SessionSection::of_cursor(query.order, after);
        sections.iter().position(|one| *one == section).unwrap_or(0)
    });
    let (mut sessions, mut after) = (Vec::new(), query.after.as_ref());
    for section in &sections[first..] {
        let walk = section_walk(namespace, query, *section, after.take(), limit - sessions.len());
        for row in &walk.rows(snapshot).await? {
            let session = session(row);
            let (matches, is_last): (bool, bool) = (row.get("matches"), row.get("is_last"));
            if matches && sessions.len() == limit {
                let next = sessions.last().map(|last: &Arc<Session>| query.order.cursor(last));
                return Ok(SessionPage { sessions, next });
            }
            let next = is_last.then(|| section.cursor(&session));
            if matches {
                sessions.push(Arc::new(session));
            }
            if next.is_some() {
                return Ok(SessionPage { sessions, next });
            }
        }
    }
    Ok(SessionPage { sessions, next: None })
}

impl SessionSection {
    pub(in crate::store) fn of_order(order: SessionOrder) -> &'static [Self] {
        match order.field {
            SessionTime::Create => &[Self::All],
            SessionTime::End => &[Self::Ended, Self::Open],
        }
    }

    pub(in crate::store) fn of_cursor(order: SessionOrder, cursor: &SessionCursor) -> Self {
        match (order.field, cursor.end) {
            (SessionTime::Create, _) => Self::All,
            (SessionTime::End, Some(_)) => Self::Ended,
            (SessionTime::End, None) => Self::Open,
        }
    }

    /// The position of the walk at a session, which need not be of this section.
    fn cursor(self, session: &Session) -> SessionCursor {
        let end = session.end_time.filter(|_| self == Self::Ended).map(|end| end.0);
        SessionCursor { end, created: session.create_time.0, session_id: session.session_id.to_string() }
    }

    /// The condition on the namespace with which the index begins, and the condition of a partial index.
    fn range(self) -> &'static str {
        match self {
            Self::All | Self::Open => "s.namespace_id + 0 = $1",
            Self::Ended => "s.namespace_id + 0 = $1 AND s.end_time IS NOT NULL",
        }
    }

    /// The columns of the index, behind the namespace.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::All | Self::Open => &["s.create_time", "s.session_id"],
            Self::Ended => &["s.end_time", "s.session_id"],
        }
    }

    /// The time by which the index is ordered.
    fn time(self) -> SessionTime {
        match self {
            Self::All | Self::Open => SessionTime::Create,
            Self::Ended => SessionTime::End,
        }
    }

    /// The range of the index that has the sessions that match the clauses. A session is created, then ends.
    fn bounds(self, clauses: &[SessionClause]) -> ColumnBounds<Timestamp> {
        let own = self.time();
        let of_clause = |clause: &SessionClause| {
            let SessionClause::Time { field, any_of } = clause else { return ColumnBounds::default() };
            let ColumnBounds { low, high } = ColumnBounds::of(any_of);
            ColumnBounds { low: low.filter(|_| *field <= own), high: high.filter(|_| *field >= own) }
        };
        clauses.iter().map(of_clause).fold(ColumnBounds::default(), ColumnBounds::and)
    }
}

/// The walk over a section.
pub(in crate::store) fn section_walk(
    namespace: NamespaceId,
    query: &SessionQuery,
    section: SessionSection,
    after: Option<&SessionCursor>,
    limit: usize,
) -> PageQuery {
    let mut values = Values::default();
    values.bind(namespace.0);
    let mut filter: Vec<String> = query.clauses.iter().map(|clause| condition(clause, &mut values)).collect();
    filter.push(format!("s.state <> {}", SessionState::Deleted as i16));
    if section == SessionSection::Open {
        filter.push("s.end_time IS NULL".to_owned());
    }
    let mut range = section.range().to_owned();
    range += &section.bounds(&query.clauses).condition(column(section.time()), "timestamptz", &mut values);
    let (order, descending) = (section.columns(), query.order.descending);
    if let Some(after) = after {
        let places: Vec<String> = order.iter().map(|column| value_at(after, column, &mut values)).collect();
        range += &format!(" AND {}", behind(order, &places, descending));
    }
    let parts =
        PageParts { range, filter, order, descending, most: MAX_LOOKED_AT, limit, is_plain: query.clauses.is_empty() };
    PageQuery::of(include_str!("../sql/session/pages/list_sessions.sql"), parts, values)
}

/// The condition of one clause on a session `s`.
pub(in crate::store) fn condition(clause: &SessionClause, values: &mut Values) -> String {
    let condition = match clause {
        SessionClause::State(states) => {
            let states: Vec<i16> = states.iter().map(|state| *state as i16).collect();
            format!("s.state = ANY({}::int2[])", values.bind(states))
        }
        SessionClause::SessionId(tests) => any_of("s.session_id", tests, "text", values),
        SessionClause::Label { key, any_of: tests } => {
            let label = format!("(s.labels ->> {}::text) COLLATE \"C\"", values.bind(key.clone()));
            any_of(&label, tests, "text", values)
        }
        SessionClause::Time { field, any_of: tests } => any_of(column(*field), tests, "timestamptz", values),
    };
    format!("({condition})")
}

/// Binds the value that the last session of the page before has in a column of the order.
fn value_at(cursor: &SessionCursor, column: &str, values: &mut Values) -> String {
    match column {
        "s.session_id" => values.bind(cursor.session_id.clone()),
        "s.end_time" => values.bind(Timestamp(cursor.end.unwrap_or_default())),
        _ => values.bind(Timestamp(cursor.created)),
    }
}

fn column(field: SessionTime) -> &'static str {
    match field {
        SessionTime::Create => "s.create_time",
        SessionTime::End => "s.end_time",
    }
}
