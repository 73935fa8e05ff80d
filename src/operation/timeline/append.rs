//! Appends segments to a session.

use std::sync::Arc;

use foldhash::HashMap;

use super::{NamedSession, SegmentOutcome};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::domain::session::edit::{ParentFacts, SessionEdit};
use crate::domain::session::segment::{NewSegment, SegmentKey};
use crate::domain::session::{Session, SessionMeta, parents_first};
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply, Weight};

/// What a segment at fault means for the others of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendMode {
    /// None is stored.
    AllOrNone,
    /// The others are stored.
    EachForItself,
}

/// Appends segments to one session. If a key comes several times, its segments are appended in their order, and the last state is stored.
#[derive(Debug)]
pub struct AppendSegments {
    pub session: NamedSession,
    pub segments: Vec<NewSegment>,
    /// Whether the session is created if it does not exist.
    pub allow_missing: bool,
    pub mode: AppendMode,
    pub request: Option<RequestIdentity>,
}

impl AppendSegments {
    fn parent(&self, segment: &NewSegment) -> Option<SegmentKey> {
        let key = segment.body.parent_key.clone()?;
        Some(SegmentKey { session: self.session.key, key })
    }

    /// The session to append to, which may be a new one.
    fn session(&self, overlay: &mut Overlay) -> Result<Arc<Session>, Refusal> {
        let key = self.session.key;
        let session = match overlay.session(key) {
            Some(session) if session.is_visible() || self.allow_missing => session,
            Some(_) => return Err(self.session.not_found()),
            None if !self.allow_missing => return Err(self.session.not_found()),
            None if !overlay.has_namespace(key.namespace) => {
                return Err(Refusal::NamespaceNotFound { name: String::new() });
            }
            None => {
                let session_id = self.session.session_id.clone();
                Arc::new(Session::new(key, session_id, SessionMeta::unnamed(), overlay.now()))
            }
        };
        session.expect_open()?;
        Ok(session)
    }

    /// Decides the segments, parents first. The outcomes are in the order of the call.
    fn append_all(&self, overlay: &mut Overlay, edit: &mut SessionEdit) -> Result<Vec<SegmentOutcome>, Refusal> {
        let names = self.segments.iter().map(|segment| (&*segment.key.key, segment.body.parent_key.as_deref()));
        let (order, cyclic) = parents_first(&names.collect::<Vec<_>>());
        let mut outcomes: Vec<Option<SegmentOutcome>> = vec![None; self.segments.len()];
        let cycle = || Refusal::field("parent_key", "is part of a cycle of parents in this call, or comes from one");
        let mut faults = cyclic.into_iter().map(|place| (place, cycle())).collect::<Vec<_>>();
        // What this call has stored; the overlay does not have it yet.
        let mut stored: HashMap<&SegmentKey, ParentFacts> = HashMap::default();
        for place in order {
            let new = &self.segments[place];
            let again = stored.contains_key(&new.key).then(|| edit.changed(&new.key)).flatten();
            let before = again.or_else(|| overlay.segment(&new.key));
            let parent = || {
                let key = self.parent(new)?;
                let known = stored.get(&key).copied();
                known.or_else(|| overlay.segment(&key).and_then(|parent| ParentFacts::of(&parent)))
            };
            match edit.append(new, before.as_deref(), parent) {
                Ok(None) => {
                    outcomes[place] = Some(SegmentOutcome::Stored(edit.version()));
                    let arrival = before.map_or_else(|| edit.arrivals(), |before| before.arrival);
                    stored.insert(&new.key, ParentFacts { kind: new.kind, arrival });
                }
                Ok(Some(reason)) => {
                    let version = before.map_or(0, |before| before.version);
                    outcomes[place] = Some(SegmentOutcome::Skipped(reason, version));
                }
                Err(refusal) => faults.push((place, refusal)),
            }
        }
        faults.sort_unstable_by_key(|(place, _)| *place);
        for (place, refusal) in faults {
            match self.mode {
                AppendMode::AllOrNone => return Err(refusal.at(place, format!("segments[{place}]"))),
                AppendMode::EachForItself => outcomes[place] = Some(SegmentOutcome::Refused(refusal)),
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.expect("each segment is ordered or part of a cycle")).collect())
    }
}

impl Operation for AppendSegments {
    fn name(&self) -> &'static str {
        "append_segments"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = vec![Key::Session(self.session.key)];
        keys.extend(self.allow_missing.then_some(Key::Namespace(self.session.key.namespace)));
        keys.extend(self.segments.iter().map(|segment| Key::Segment(segment.key.clone())));
        keys.extend(self.segments.iter().filter_map(|segment| self.parent(segment)).map(Key::Segment));
        keys
    }

    fn presumed_absent(&self) -> Vec<Key> {
        self.segments.iter().map(|segment| Key::Segment(segment.key.clone())).collect()
    }

    fn weight(&self) -> Weight {
        let bytes = |segment: &NewSegment| 256 + segment.body.bytes();
        // With its words for the search a segment takes as long as a few rows.
        Weight { rows: 4 * self.segments.len(), bytes: self.segments.iter().map(bytes).sum() }
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let session = self.session(overlay)?;
        let mut edit = overlay.begin_session(&session);
        let outcomes = self.append_all(overlay, &mut edit)?;
        // A session is not created for segments that are all refused.
        let any = outcomes.iter().any(|outcome| matches!(outcome, SegmentOutcome::Stored(_)));
        let after = if any { overlay.write_session(edit) } else { None };
        Ok(Reply { segments: outcomes, ..super::about(&session, after) })
    }
}
