//! Queries of segments, as plain values that the store turns into SQL with bound parameters.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::search_query::SearchQuery;
use crate::domain::id::NamespaceId;
use crate::domain::session::SessionKey;
use crate::domain::session::query::SessionClause;
use crate::domain::session::segment::Segment;
use crate::domain::time::Timestamp;

/// What a query of a timeline does with segments that have no start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntimedChoice {
    /// They match any range, and come after all others.
    Include,
    /// They do not match.
    Exclude,
    /// Only they match.
    Only,
}

/// Conditions on a segment that all have to hold. Each list that is empty allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentConditions {
    /// Numbers of kinds.
    pub kinds: Vec<i16>,
    /// Numbers of statuses.
    pub statuses: Vec<i16>,
    /// Language tags; compared without case, and `en` also stands for `en-GB`. An empty one stands for segments without a language.
    pub languages: Vec<String>,
    /// Speakers. An empty one stands for segments without a speaker.
    pub speakers: Vec<String>,
}

/// Position at which a page of a timeline ended; the next page starts after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineCursor {
    /// Start of the last segment in nanoseconds. None: it has none.
    pub start_ns: Option<i64>,
    /// Arrival number of the last segment.
    pub arrival: i64,
}

impl TimelineCursor {
    /// The position of a segment.
    pub fn of(segment: &Segment) -> Self {
        Self { start_ns: segment.body.start_ns, arrival: segment.arrival }
    }
}

/// One page of the segments of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineQuery {
    /// The session.
    pub session: SessionKey,
    /// Segments that end at this moment or before do not match, in nanoseconds. None: no bound.
    pub start_ns: Option<i64>,
    /// Segments that start at this moment or later do not match, in nanoseconds. None: no bound.
    pub end_ns: Option<i64>,
    /// What to do with segments that have no start.
    pub untimed: UntimedChoice,
    /// Conditions on a segment.
    pub conditions: SegmentConditions,
    /// Position after which the page starts. None: the first page.
    pub after: Option<TimelineCursor>,
    /// Maximum number of segments of the page.
    pub limit: u32,
}

/// Position at which a page of a search ended; the next page starts after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchCursor {
    /// Rank of the last result.
    pub rank: f32,
    /// Uid of its session.
    pub session_uid: Uuid,
    /// Its arrival number.
    pub arrival: i64,
    /// Whether segments were looked at one by one, which the next page has to do as well.
    pub one_by_one: bool,
}

/// One page of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentSearch {
    /// Namespace that is searched.
    pub namespace: NamespaceId,
    /// What has to occur in the text.
    pub query: SearchQuery,
    /// Conditions on the session, which all have to hold.
    pub sessions: Vec<SessionClause>,
    /// Conditions on a segment.
    pub conditions: SegmentConditions,
    /// Segments stored before this moment do not match. None: no bound.
    pub from: Option<Timestamp>,
    /// Segments stored at this moment or later do not match. None: no bound.
    pub until: Option<Timestamp>,
    /// Position after which the page starts. None: the first page.
    pub after: Option<SearchCursor>,
    /// Maximum number of results of the page.
    pub limit: u32,
}
