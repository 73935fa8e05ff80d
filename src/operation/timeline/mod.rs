//! Operations on timelines. Each loads the session and the segments that it names, however many the session has.

pub mod append;
pub mod control;
pub mod correct;

use std::sync::Arc;

use super::Reply;
use crate::domain::id::Name;
use crate::domain::refusal::Refusal;
use crate::domain::session::segment::{Segment, SegmentKey, SkipReason};
use crate::domain::session::{Session, SessionKey};
use crate::operation::overlay::Overlay;

/// A session as a caller named it.
#[derive(Clone, Debug)]
pub struct NamedSession {
    /// Its key.
    pub key: SessionKey,
    /// Its id, for errors and for a new session.
    pub session_id: Name,
}

/// Outcome of one segment that was appended.
#[derive(Clone, Debug)]
pub enum SegmentOutcome {
    /// It was stored. The version is that of the session.
    Stored(i64),
    /// The stored segment stays as it is, at its version.
    Skipped(SkipReason, i64),
    /// It was refused, and others of the call were not.
    Refused(Refusal),
}

impl SegmentOutcome {
    /// The version of the session that stored it; 0 if it was not stored.
    pub fn applied_version(&self) -> i64 {
        match self {
            Self::Stored(version) => *version,
            Self::Skipped(..) | Self::Refused(_) => 0,
        }
    }
}

impl NamedSession {
    /// The session, or the refusal that it does not exist.
    fn existing(&self, overlay: &mut Overlay) -> Result<Arc<Session>, Refusal> {
        overlay.session(self.key).filter(|session| session.is_visible()).ok_or_else(|| self.not_found())
    }

    /// The refusal that the session does not exist.
    pub fn not_found(&self) -> Refusal {
        Refusal::SessionNotFound { session_id: self.session_id.to_string() }
    }

    /// A segment that is not deleted, or the refusal that it does not exist.
    fn segment(&self, overlay: &mut Overlay, key: &SegmentKey) -> Result<Arc<Segment>, Refusal> {
        let found = overlay.segment(key).filter(|segment| !segment.is_deleted());
        found.ok_or_else(|| Refusal::SegmentNotFound {
            session_id: self.session_id.to_string(),
            key: key.key.to_string(),
        })
    }
}

/// The reply about a session that an operation may have changed. None: it did not.
fn about(before: &Arc<Session>, after: Option<Arc<Session>>) -> Reply {
    let applied = after.is_some();
    Reply { session: Some(after.unwrap_or_else(|| before.clone())), applied, ..Reply::default() }
}
