//! One change of a session and of segments below it: one version.

use std::sync::Arc;

use super::segment::{NewSegment, Segment, SegmentBody, SegmentKey, SegmentKind, SegmentStatus, SkipReason};
use super::{MAX_SEGMENTS, Session, SessionMeta, SessionState};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;

/// A session that is being changed.
#[derive(Debug)]
pub struct SessionEdit {
    session: Session,
    changed: Vec<Arc<Segment>>,
    now: Timestamp,
    is_changed: bool,
}

/// What a segment's parent must be compared with.
#[derive(Clone, Copy, Debug)]
pub struct ParentFacts {
    /// Kind of the parent.
    pub kind: SegmentKind,
    /// Arrival number of the parent.
    pub arrival: i64,
}

impl ParentFacts {
    /// The facts of a stored parent. None: it is deleted.
    pub fn of(parent: &Segment) -> Option<Self> {
        (!parent.is_deleted()).then_some(Self { kind: parent.kind, arrival: parent.arrival })
    }
}

impl SessionEdit {
    /// Begins to change a session. One at version 0 is new.
    pub fn begin(base: &Session, now: Timestamp) -> Self {
        let mut session = base.clone();
        session.version += 1;
        Self { session, changed: Vec::new(), now, is_changed: base.version == 0 }
    }

    /// Version that the change makes.
    pub fn version(&self) -> i64 {
        self.session.version
    }

    /// Arrival number of the last segment that arrived.
    pub fn arrivals(&self) -> i64 {
        self.session.arrivals
    }

    /// A segment as this change has it so far. None: it is not changed.
    pub fn changed(&self, key: &SegmentKey) -> Option<Arc<Segment>> {
        self.changed.iter().find(|changed| changed.key == *key).cloned()
    }

    /// Appends a segment to an open session, or replaces the stored one. `parent` looks up the segment that it names. Returns why the stored one
    /// stays as it is; None: the segment was stored.
    ///
    /// # Errors
    /// If the stored segment has another kind, the parent does not fit, or the session is full. Paths are relative to the segment.
    pub fn append(
        &mut self,
        new: &NewSegment,
        stored: Option<&Segment>,
        parent: impl FnOnce() -> Option<ParentFacts>,
    ) -> Result<Option<SkipReason>, Refusal> {
        if let Some(reason) = stored.and_then(|stored| stored.skip_reason(new.sequence)) {
            return Ok(Some(reason));
        }
        if let Some(stored) = stored.filter(|stored| stored.kind != new.kind) {
            let why = format!("must be {}, the kind of the stored segment", stored.kind.name());
            return Err(Refusal::field("kind", why));
        }
        if stored.is_none() && self.session.arrivals >= MAX_SEGMENTS {
            let why = format!("the session has had {MAX_SEGMENTS} segments, which is the maximum");
            return Err(Refusal::LimitExceeded { path: String::new(), why });
        }
        let arrival = stored.map_or(self.session.arrivals + 1, |stored| stored.arrival);
        let known_parent = stored.and_then(|stored| stored.body.parent_key.as_ref());
        check_parent((new.kind, arrival), known_parent, &new.body, parent)?;
        if stored.is_none() {
            self.session.arrivals += 1;
            self.session.segment_count += 1;
        }
        let is_again = stored.is_some_and(|stored| stored.version == self.session.version);
        if is_again {
            // Only its last state is stored.
            self.changed.retain(|changed| changed.key != new.key);
        }
        self.change(Segment {
            key: new.key.clone(),
            arrival,
            version: 0,
            kind: new.kind,
            status: new.status,
            sequence: new.sequence,
            body: new.body.clone(),
            create_time: stored.map_or(self.now, |stored| stored.create_time),
            update_time: self.now,
            delete_time: None,
        });
        Ok(None)
    }

    /// Corrects a segment, unless that leaves it as it is.
    ///
    /// # Errors
    /// If it would become interim again, or the parent does not fit. Paths are relative to the segment.
    pub fn correct(
        &mut self,
        stored: &Segment,
        status: SegmentStatus,
        body: SegmentBody,
        parent: impl FnOnce() -> Option<ParentFacts>,
    ) -> Result<(), Refusal> {
        if (stored.status, status) == (SegmentStatus::Final, SegmentStatus::Interim) {
            let what = format!("segment {:?}", &*stored.key.key);
            return Err(Refusal::InvalidTransition { what, state: "FINAL", why: "cannot become INTERIM again" });
        }
        check_parent((stored.kind, stored.arrival), stored.body.parent_key.as_ref(), &body, parent)?;
        if stored.status == status && stored.body == body {
            return Ok(());
        }
        self.change(Segment { status, body, update_time: self.now, ..stored.clone() });
        Ok(())
    }

    /// Deletes a segment. Its key stays used.
    pub fn delete_segment(&mut self, stored: &Segment) {
        self.session.segment_count -= 1;
        let body = SegmentBody::default();
        self.change(Segment { body, update_time: self.now, delete_time: Some(self.now), ..stored.clone() });
    }

    /// Replaces what callers set.
    pub fn update(&mut self, meta: SessionMeta) {
        self.is_changed |= self.session.meta != meta;
        self.session.meta = meta;
        if let Some(end) = self.session.end_time {
            self.session.expire_time = Some(end.after(self.session.meta.retention));
        }
    }

    /// Ends the session, if it is open.
    pub fn end(&mut self) {
        if self.session.state != SessionState::Open {
            return;
        }
        self.session.state = SessionState::Ended;
        self.session.end_time = Some(self.now);
        self.session.expire_time = Some(self.now.after(self.session.meta.retention));
        self.is_changed = true;
    }

    /// Hides the session until its segments are deleted.
    pub fn delete(&mut self) {
        self.session.state = SessionState::Deleted;
        self.session.expire_time = Some(self.now);
        self.is_changed = true;
    }

    fn change(&mut self, segment: Segment) {
        let version = self.session.version;
        // The clock of a server before this one may have been ahead.
        let update_time = segment.update_time.max(segment.create_time);
        self.changed.push(Arc::new(Segment { version, update_time, ..segment }));
        self.is_changed = true;
    }

    /// The session and the segments that changed. None: nothing changed.
    pub fn finish(self) -> Option<(Arc<Session>, Vec<Arc<Segment>>)> {
        let Self { mut session, changed, now, is_changed } = self;
        if !is_changed {
            return None;
        }
        session.update_time = now.max(session.update_time);
        session.recent.add(&changed);
        // Nothing can be asserted about the segments: the session may be of a moment before that of the segments, and the commit is refused then.
        Some((Arc::new(session), changed))
    }
}

/// Refuses a new parent that does not exist, or could be below the segment. A parent that the segment has already is not looked at again: it may
/// be deleted by now.
fn check_parent(
    (kind, arrival): (SegmentKind, i64),
    known: Option<&crate::domain::short::Short>,
    body: &SegmentBody,
    parent: impl FnOnce() -> Option<ParentFacts>,
) -> Result<(), Refusal> {
    let Some(key) = body.parent_key.as_ref().filter(|key| known != Some(key)) else { return Ok(()) };
    let Some(parent) = parent() else {
        let why = format!("the session has no segment {:?}", &**key);
        return Err(Refusal::field("parent_key", why));
    };
    if (parent.kind, parent.arrival) < (kind, arrival) {
        return Ok(());
    }
    let why = format!(
        "segment {:?} is {}: the parent of a {} is of an earlier kind, or of the same kind and arrived before it",
        &**key,
        parent.kind.name(),
        kind.name()
    );
    Err(Refusal::field("parent_key", why))
}
