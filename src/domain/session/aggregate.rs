//! Sessions and segments as aggregates. A segment is one of its own, so that an operation loads, caches and checks those that it names; it is
//! written only together with its session, whose lock keeps all other writers of the segment away.

use super::Session;
use super::key::SessionKey;
use super::segment::{Segment, SegmentKey};
use crate::domain::aggregate::Aggregate;
use crate::domain::id::NamespaceId;
use crate::domain::time::Timestamp;

impl Aggregate for Session {
    type Key = SessionKey;
    type Effects = ();

    fn namespace(key: &SessionKey) -> Option<NamespaceId> {
        Some(key.namespace)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn create_time(&self) -> Timestamp {
        self.create_time
    }

    fn weight_bytes(&self) -> usize {
        Session::weight_bytes(self)
    }
}

impl Aggregate for Segment {
    type Key = SegmentKey;
    type Effects = ();

    fn namespace(key: &SegmentKey) -> Option<NamespaceId> {
        Some(key.session.namespace)
    }

    /// The version of the session at the segment's last change, which grows with each change of the segment.
    fn version(&self) -> i64 {
        self.version
    }

    fn create_time(&self) -> Timestamp {
        self.create_time
    }

    fn weight_bytes(&self) -> usize {
        Segment::weight_bytes(self)
    }
}
