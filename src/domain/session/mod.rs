//! Timelines: sessions, and the segments below them.
//!
//! **Invariants.** Each committed change of a session or its segments raises the version of the session by one, and a changed segment gets that
//! version. Arrival numbers of a session are given once and in order. The kind and the arrival number of a segment never change, and a parent has
//! a lower kind than its children, or the same kind and a lower arrival number: so there are no cycles, and no chain of parents has to be read.
//! A deleted segment keeps its key.
//!
//! Layout: `segment` is a segment and what an append does to a stored one; `edit` is the change of a session and of some of its segments;
//! `recent` remembers the last changes for watches; `parents` orders the segments of one call; `query` are the queries of lists.
//! `domain::timeline` has what only reads need, and the words of the search.

mod aggregate;
pub mod edit;
mod key;
mod parents;
pub mod query;
pub mod recent;
pub mod segment;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::id::Name;
use super::refusal::Refusal;
use super::time::Timestamp;
pub use key::SessionKey;
pub use parents::parents_first;
use recent::RecentChanges;

/// How long a session is kept after its end if it says nothing else.
pub const DEFAULT_SESSION_RETENTION: Duration = Duration::from_secs(365 * 24 * 3600);
/// Maximum number of segments that a session ever has, deleted ones included.
pub const MAX_SEGMENTS: i64 = 1_000_000;

/// State of a session. The discriminants are those in the database and on the wire; the last one is not on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Segments can be appended.
    Open = 1,
    /// No segments can be appended.
    Ended = 2,
    /// The session is deleted, and its segments are being deleted. For callers it does not exist.
    Deleted = 3,
}

impl SessionState {
    /// States that callers can see.
    pub const VISIBLE: [Self; 2] = [Self::Open, Self::Ended];

    /// Name of the state on the wire, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Ended => "ENDED",
            Self::Deleted => "DELETED",
        }
    }

    /// The state with this number. None: there is none.
    pub fn from_number(number: i16) -> Option<Self> {
        [Self::Open, Self::Ended, Self::Deleted].into_iter().find(|state| *state as i16 == number)
    }
}

/// What callers set of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionMeta {
    /// Title, for people. None: it has none.
    pub title: Option<Name>,
    /// Labels by key.
    pub labels: Arc<BTreeMap<String, String>>,
    /// How long the session is kept after its end.
    pub retention: Duration,
}

/// The root of a timeline.
#[derive(Clone, Debug)]
pub struct Session {
    /// Key of the session.
    pub key: SessionKey,
    /// Id of the session.
    pub session_id: Name,
    /// What callers set.
    pub meta: SessionMeta,
    /// Whether segments can be appended.
    pub state: SessionState,
    /// Version; grows by exactly one per committed change.
    pub version: i64,
    /// Number of segments that are not deleted.
    pub segment_count: i64,
    /// Number of segments that ever arrived; the last arrival number.
    pub arrivals: i64,
    /// Time of the creation.
    pub create_time: Timestamp,
    /// Time of the last change of the session or a segment.
    pub update_time: Timestamp,
    /// Time of the end. None: it has not ended.
    pub end_time: Option<Timestamp>,
    /// Time at which the clean-up deletes it. None: it has not ended.
    pub expire_time: Option<Timestamp>,
    /// The last changes of its segments, as far as this server has seen them. Not stored.
    pub recent: RecentChanges,
}

impl SessionMeta {
    /// A session without title and labels, with the default retention.
    pub fn unnamed() -> Self {
        Self { retention: DEFAULT_SESSION_RETENTION, ..Self::default() }
    }
}

impl Session {
    /// Makes a session at version 0, which is not stored.
    pub fn new(key: SessionKey, session_id: Name, meta: SessionMeta, now: Timestamp) -> Self {
        Self {
            key,
            session_id,
            meta,
            state: SessionState::Open,
            version: 0,
            segment_count: 0,
            arrivals: 0,
            create_time: now,
            update_time: now,
            end_time: None,
            expire_time: None,
            recent: RecentChanges::since(0),
        }
    }

    /// Whether the session exists for callers.
    pub fn is_visible(&self) -> bool {
        self.state != SessionState::Deleted
    }

    /// Whether two versions differ in what callers see of the session itself: segments and counts of them aside.
    pub fn differs_beside_segments(&self, other: &Self) -> bool {
        (self.create_time, self.state, &self.meta, self.end_time)
            != (other.create_time, other.state, &other.meta, other.end_time)
    }

    /// Refuses an append to a session that is not OPEN.
    pub fn expect_open(&self) -> Result<(), Refusal> {
        match self.state {
            SessionState::Open => Ok(()),
            SessionState::Ended => Err(self.refusal("takes no more segments")),
            SessionState::Deleted => Err(self.refusal("its segments are still being deleted; try again")),
        }
    }

    fn refusal(&self, why: &'static str) -> Refusal {
        Refusal::InvalidTransition { what: format!("session {:?}", self.session_id), state: self.state.name(), why }
    }

    /// Approximate memory in bytes, for the bound of the cache.
    pub fn weight_bytes(&self) -> usize {
        let labels: usize = self.meta.labels.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        500 + self.session_id.len()
            + self.meta.title.as_ref().map_or(0, |title| title.len())
            + labels
            + self.recent.bytes()
    }
}
