//! Reads of timelines for the rpcs, for watches and for the clean-up.

use std::sync::Arc;

use foldhash::HashMap;
use tokio_postgres::Row;

use super::load::{columns, segment, session};
use crate::domain::id::NamespaceId;
use crate::domain::session::segment::{Segment, SegmentKey};
use crate::domain::session::{Session, SessionKey, SessionState};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::load::StateRead;
use crate::store::pg::connection::{Run, unavailable};
use crate::store::{Store, load};

/// Segments of one read for a watch, at most.
const SEGMENTS_PER_READ: i64 = 500;
/// Size from which on such a read ends, in bytes: all of it is in memory until the client of the watch has taken it.
const BYTES_PER_READ: i64 = 256 << 10;

/// Segments of a session that changed after a version.
pub struct ChangedSegments {
    /// The session. Its version is not newer than the segments.
    pub session: Session,
    /// The segments in the order of their changes, deleted ones too.
    pub segments: Vec<Segment>,
    /// Whether there are no more.
    pub is_complete: bool,
}

impl Store {
    /// A session. None: there is none, or it is being deleted.
    pub async fn session(&self, key: SessionKey) -> Result<Option<Arc<Session>>> {
        let client = self.reads.get().await?;
        let found = load::sessions(&client, &[key], &HashMap::default()).await.map_err(|error| unavailable(&error))?;
        Ok(found.get(&key).filter(|session| session.is_visible()).cloned())
    }

    /// A segment. None: there is none, or it is deleted.
    pub async fn segment(&self, key: &SegmentKey) -> Result<Option<Arc<Segment>>> {
        let client = self.reads.get().await?;
        let found = load::segments(&client, std::slice::from_ref(key)).await.map_err(|error| unavailable(&error))?;
        Ok(found.get(key).filter(|segment| !segment.is_deleted()).cloned())
    }

    /// Compares sessions with known versions and creation times, in the order of the keys.
    pub async fn look_at_sessions(
        &self,
        keys: &[SessionKey],
        at: &[(i64, Timestamp)],
    ) -> Result<Vec<StateRead<Session>>> {
        let client = self.reads.get().await?;
        let (namespaces, uids) = columns(keys);
        let sql = include_str!("../sql/session/load_sessions.sql");
        let rows = client.rows(sql, &[&namespaces, &uids]).await.map_err(|error| unavailable(&error))?;
        let mut found: HashMap<SessionKey, Session> =
            rows.iter().map(session).map(|session| (session.key, session)).collect();
        let look = |(key, at): (&SessionKey, &(i64, Timestamp))| match found.remove(key) {
            Some(session) if !session.is_visible() => StateRead::Missing,
            Some(session) if (session.version, session.create_time) == *at => StateRead::Unchanged,
            Some(session) => StateRead::Changed(Arc::new(session)),
            None => StateRead::Missing,
        };
        Ok(keys.iter().zip(at).map(look).collect())
    }

    /// Segments that changed after a version; of those at the version after it, only such that arrived after `arrival`. None: there is no session.
    ///
    /// The session is read first, so whatever changed up to its version is among the segments, if they are complete.
    pub async fn segments_after(&self, key: SessionKey, version: i64, arrival: i64) -> Result<Option<ChangedSegments>> {
        let client = self.reads.get().await?;
        let (namespaces, uids) = columns(&[key]);
        let sessions = client.rows(include_str!("../sql/session/load_sessions.sql"), &[&namespaces, &uids]).await;
        let sessions = sessions.map_err(|error| unavailable(&error))?;
        let Some(session) = sessions.first().map(session).filter(Session::is_visible) else { return Ok(None) };
        let sql = include_str!("../sql/session/segments_after.sql");
        let (namespace, uid) = (key.namespace.0, key.uid);
        let params: [&(dyn postgres_types::ToSql + Sync); 6] =
            [&namespace, &uid, &version, &arrival, &SEGMENTS_PER_READ, &BYTES_PER_READ];
        let rows = client.rows(sql, &params).await.map_err(|error| unavailable(&error))?;
        let found = rows.first().map_or(0, |row| row.get::<_, i64>("found"));
        let segments: Vec<Segment> = rows.iter().map(segment).collect();
        let is_complete = segments.len() as i64 == found && found < SEGMENTS_PER_READ;
        Ok(Some(ChangedSegments { session, segments, is_complete }))
    }

    /// Deletes segments of a session that is deleted; returns how many, at most `limit`.
    pub async fn delete_segments(&self, key: SessionKey, limit: i64) -> Result<usize> {
        let sql = include_str!("../sql/session/delete_segments.sql");
        self.background(sql, &[&key.namespace.0, &key.uid, &limit]).await.map(|rows| rows.len())
    }

    /// Sessions whose retention is over, or whose deletion is not finished, at most `limit`.
    pub async fn expired_sessions(&self, limit: i64) -> Result<Vec<(SessionKey, SessionState)>> {
        let rows = self.background(include_str!("../sql/session/expired_sessions.sql"), &[&limit]).await?;
        let of_row = |row: &Row| {
            let key = SessionKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) };
            (key, SessionState::from_number(row.get(2)).expect("a check of the table"))
        };
        Ok(rows.iter().map(of_row).collect())
    }
}
