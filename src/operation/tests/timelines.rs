//! Timelines: what an append, a correction and a deletion do, sentence by sentence.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;

use super::build::NAMESPACE;
use crate::domain::namespace::Namespace;
use crate::domain::refusal::Refusal;
use crate::domain::session::segment::{
    NewSegment, Segment, SegmentBody, SegmentKey, SegmentKind, SegmentStatus, SkipReason,
};
use crate::domain::session::{MAX_SEGMENTS, Session, SessionKey, SessionMeta, SessionState};
use crate::domain::time::Timestamp;
use crate::operation::overlay::{AggregateTables, ClusterView, Key, Loaded, Overlay};
use crate::operation::timeline::append::{AppendMode, AppendSegments};
use crate::operation::timeline::control::{
    ControlSession, CreateSession, ExpireSession, RemoveSession, SessionControl, SessionPatch,
};
use crate::operation::timeline::correct::{BodyField, CorrectSegment, DeleteSegment, SegmentPatch};
use crate::operation::timeline::{NamedSession, SegmentOutcome};
use crate::operation::{Operation, Reply, decide, keys};

/// What is committed of one session. Only the keys of an operation are loaded for it.
#[derive(Default)]
pub(super) struct Timeline {
    session: Option<Arc<Session>>,
    segments: HashMap<SegmentKey, Arc<Segment>>,
    now: i64,
}

fn session() -> NamedSession {
    NamedSession { key: SessionKey::of(NAMESPACE, "standup"), session_id: "standup".into() }
}

fn key(name: &str) -> SegmentKey {
    SegmentKey { session: session().key, key: name.into() }
}

pub(super) fn segment(name: &str, kind: SegmentKind, status: SegmentStatus, sequence: i64) -> NewSegment {
    let body = SegmentBody { text: Some(format!("{name} {sequence}").into()), ..SegmentBody::default() };
    NewSegment { key: key(name), kind, status, sequence, body }
}

fn done(name: &str, kind: SegmentKind) -> NewSegment {
    segment(name, kind, SegmentStatus::Final, 0)
}

fn interim(name: &str, sequence: i64) -> NewSegment {
    segment(name, SegmentKind::Transcript, SegmentStatus::Interim, sequence)
}

trait Below: Sized {
    fn below(self, parent: &str) -> Self;
}

impl Below for NewSegment {
    fn below(mut self, parent: &str) -> Self {
        self.body.parent_key = Some(parent.into());
        self
    }
}

fn append(segments: Vec<NewSegment>, mode: AppendMode) -> AppendSegments {
    AppendSegments { session: session(), segments, allow_missing: true, mode, request: None }
}

fn control(control: SessionControl) -> ControlSession {
    ControlSession { session: session(), control, expected_version: None, request: None }
}

impl Timeline {
    fn run(&mut self, operation: &dyn Operation) -> Result<Reply, Refusal> {
        self.now += 1_000_000;
        let mut tables = AggregateTables::default();
        let mut loaded = Loaded::default();
        for wanted in keys(operation) {
            match wanted {
                Key::Session(key) => tables.sessions.load(key, self.session.clone()),
                Key::Segment(key) => tables.segments.load(key.clone(), self.segments.get(&key).cloned()),
                Key::Namespace(id) => {
                    let namespace = Namespace {
                        id,
                        name: "default".into(),
                        version: 1,
                        fencing_floor: 0,
                        holds_anything: true,
                        create_time: Timestamp(0),
                    };
                    loaded.namespaces.insert(id, Some(Arc::new(namespace)));
                }
                Key::AuditLog => {}
                other => panic!("{other:?} is of no timeline"),
            }
        }
        let mut overlay = Overlay::new(tables, loaded, Timestamp(self.now), ClusterView::default());
        let outcome = decide(operation, &mut overlay);
        let access = overlay.end_operation(outcome.is_ok());
        assert!(access.unloaded.is_empty(), "it reads what it names: {access:?}");
        let before = self.session.as_ref().map_or(0, |session| session.version);
        for (_, change) in overlay.tables.sessions.changes() {
            self.session.clone_from(&change.after);
        }
        for (key, change) in overlay.tables.segments.changes() {
            let after = change.after.clone().expect("a segment keeps its key");
            assert_eq!(Some(after.version), self.session.as_ref().map(|session| session.version));
            self.segments.insert(key.clone(), after);
        }
        if let Some(session) = &self.session {
            let applied = outcome.as_ref().is_ok_and(|reply| reply.applied);
            assert_eq!(session.version, before + i64::from(applied), "one version for each change");
            self.check(session);
        }
        outcome
    }

    /// What holds after each operation.
    fn check(&self, session: &Session) {
        let live = self.segments.values().filter(|segment| !segment.is_deleted()).count();
        assert_eq!((session.segment_count, session.arrivals), (live as i64, self.segments.len() as i64));
        let mut arrivals: Vec<i64> = self.segments.values().map(|segment| segment.arrival).collect();
        arrivals.sort_unstable();
        assert_eq!(arrivals, (1..=session.arrivals).collect::<Vec<_>>());
        for segment in self.segments.values() {
            let Some(parent) = &segment.body.parent_key else { continue };
            let parent = &self.segments[&key(parent)];
            assert!((parent.kind, parent.arrival) < (segment.kind, segment.arrival), "no cycles");
        }
        if let Some(recent) = session.recent.after(0) {
            let of_recent: BTreeMap<_, _> =
                recent.iter().map(|segment| (segment.key.clone(), segment.clone())).collect();
            let all: BTreeMap<_, _> = self.segments.clone().into_iter().collect();
            assert_eq!(of_recent, all, "the last changes are all of them");
        }
    }

    pub(super) fn append(&mut self, segments: Vec<NewSegment>) -> Result<Vec<SegmentOutcome>, Refusal> {
        self.run(&append(segments, AppendMode::AllOrNone)).map(|reply| reply.segments)
    }

    pub(super) fn get(&self, name: &str) -> &Segment {
        &self.segments[&key(name)]
    }

    fn version(&self) -> i64 {
        self.session.as_ref().map_or(0, |session| session.version)
    }
}

/// The path of a refusal, with that of the segment.
fn path(refusal: Refusal) -> String {
    match refusal {
        Refusal::At { path, refusal, .. } => format!("{path}.{}", self::path(*refusal)),
        Refusal::InvalidField { path, .. } => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_append_creates_the_session_only_if_it_may() {
    let mut timeline = Timeline::default();
    let closed = AppendSegments { allow_missing: false, ..append(vec![interim("a", 1)], AppendMode::AllOrNone) };
    let refused = timeline.run(&closed).expect_err("there is none");
    assert_eq!(refused, Refusal::SessionNotFound { session_id: "standup".into() });
    timeline.append(vec![interim("a", 1), interim("b", 1)]).expect("made");
    let session = timeline.session.as_ref().expect("a session");
    assert_eq!((session.version, session.segment_count, session.state), (1, 2, SessionState::Open));
}

#[test]
fn only_a_higher_sequence_replaces_an_interim_segment() {
    let mut timeline = Timeline::default();
    timeline.append(vec![interim("a", 5)]).expect("stored");
    for late in [5, 4, 0] {
        let outcomes = timeline.append(vec![interim("a", late)]).expect("no error");
        assert!(matches!(outcomes[..], [SegmentOutcome::Skipped(SkipReason::Sequence, 1)]), "{outcomes:?}");
    }
    assert_eq!((timeline.version(), timeline.get("a").sequence), (1, 5));
    timeline.append(vec![segment("a", SegmentKind::Transcript, SegmentStatus::Final, 6)]).expect("stored");
    let outcomes = timeline.append(vec![interim("a", 7)]).expect("no error");
    assert!(matches!(outcomes[..], [SegmentOutcome::Skipped(SkipReason::Final, 2)]), "{outcomes:?}");
    let a = timeline.get("a");
    assert_eq!((a.sequence, a.version, a.arrival, a.body.text.as_deref()), (6, 2, 1, Some("a 6")));
}

#[test]
fn an_append_is_stored_whole_or_not_at_all() {
    let mut timeline = Timeline::default();
    timeline.append(vec![interim("a", 1)]).expect("stored");
    let refused = timeline.append(vec![interim("b", 1), interim("a", 2), interim("c", 1).below("nowhere")]);
    assert_eq!(path(refused.expect_err("no such parent")), "segments[2].parent_key");
    assert_eq!((timeline.version(), timeline.segments.len(), timeline.get("a").sequence), (1, 1, 1));
}

#[test]
fn written_each_for_itself_one_that_is_refused_sinks_no_other() {
    let mut timeline = Timeline::default();
    let segments = vec![interim("a", 1), interim("b", 1).below("nowhere"), interim("c", 1).below("b"), interim("d", 1)];
    let reply = timeline.run(&append(segments, AppendMode::EachForItself)).expect("no error");
    assert!(matches!(
        reply.segments[..],
        [SegmentOutcome::Stored(1), SegmentOutcome::Refused(_), SegmentOutcome::Refused(_), SegmentOutcome::Stored(1)]
    ));
    // A session is not made for nothing.
    let mut empty = Timeline::default();
    let reply = empty.run(&append(vec![interim("b", 1).below("nowhere")], AppendMode::EachForItself));
    assert!(!reply.expect("no error").applied && empty.session.is_none());
}

#[test]
fn parents_may_come_in_any_order_of_one_call_and_form_no_cycle() {
    use SegmentKind::*;
    let mut timeline = Timeline::default();
    let set = vec![
        done("de", Translation).below("en"),
        done("en", Transcript).below("sound"),
        done("sound", Audio),
        done("fr", Translation).below("de"),
    ];
    timeline.append(set).expect("stored");
    let arrivals = ["sound", "en", "de", "fr"].map(|name| timeline.get(name).arrival);
    assert_eq!(arrivals, [1, 2, 3, 4]);
    for (segments, at) in [
        (vec![done("x", Note).below("x")], "segments[0].parent_key"),
        (vec![done("x", Note).below("y"), done("y", Note).below("x")], "segments[0].parent_key"),
        // An earlier kind has no later one as its parent.
        (vec![done("x", Audio).below("en")], "segments[0].parent_key"),
        (vec![done("x", Note), done("y", Note).below("z")], "segments[1].parent_key"),
    ] {
        assert_eq!(path(timeline.append(segments.clone()).expect_err("no parent")), at, "{segments:?}");
    }
    // A correction cannot make one either.
    timeline.append(vec![done("first", Note), done("second", Note).below("first")]).expect("stored");
    let body = SegmentBody { parent_key: Some("second".into()), ..SegmentBody::default() };
    let correction = correction("first", SegmentPatch { status: None, fields: vec![BodyField::ParentKey], body }, 2);
    assert_eq!(path(timeline.run(&correction).expect_err("a cycle")), "segment.parent_key");
}

#[test]
fn a_segment_keeps_its_kind() {
    let mut timeline = Timeline::default();
    timeline.append(vec![interim("a", 1)]).expect("stored");
    let other = segment("a", SegmentKind::Note, SegmentStatus::Interim, 2);
    assert_eq!(path(timeline.append(vec![other]).expect_err("another kind")), "segments[0].kind");
}

fn correction(name: &str, patch: SegmentPatch, expected_version: i64) -> CorrectSegment {
    CorrectSegment { session: session(), key: key(name), kind: None, patch, expected_version, request: None }
}

fn text(text: &str) -> SegmentPatch {
    let body = SegmentBody { text: Some(text.into()), ..SegmentBody::default() };
    SegmentPatch { status: None, fields: vec![BodyField::Text], body }
}

#[test]
fn a_final_segment_is_corrected_at_its_version_alone() {
    let mut timeline = Timeline::default();
    timeline.append(vec![done("a", SegmentKind::Transcript), interim("b", 1)]).expect("stored");
    timeline.append(vec![interim("b", 2)]).expect("stored");
    let stale = timeline.run(&correction("a", text("x"), 2));
    assert_eq!(stale.expect_err("it is at 1"), Refusal::VersionMismatch { expected: 2, actual: 1 });
    timeline.run(&correction("a", text("corrected"), 1)).expect("corrected");
    assert_eq!((timeline.get("a").version, timeline.get("a").body.text.as_deref()), (3, Some("corrected")));
    let same = timeline.run(&correction("a", text("corrected"), 3)).expect("no error");
    assert!(!same.applied);
    let back = SegmentPatch { status: Some(SegmentStatus::Interim), ..text("x") };
    assert!(matches!(timeline.run(&correction("a", back, 3)), Err(Refusal::At { .. })));
    let body = SegmentBody { start_ns: Some(5), ..SegmentBody::default() };
    timeline
        .run(&correction("a", SegmentPatch { status: None, fields: vec![BodyField::Start], body }, 3))
        .expect("set");
    let body = SegmentBody { end_ns: Some(4), ..SegmentBody::default() };
    let early = SegmentPatch { status: None, fields: vec![BodyField::End], body };
    assert_eq!(path(timeline.run(&correction("a", early, 4)).expect_err("before its start")), "segment.end");
}

#[test]
fn a_deleted_segment_does_not_come_back() {
    let mut timeline = Timeline::default();
    timeline.append(vec![interim("a", 1), interim("b", 1).below("a")]).expect("stored");
    let delete =
        |expected_version| DeleteSegment { session: session(), key: key("a"), expected_version, request: None };
    assert!(timeline.run(&delete(Some(7))).is_err());
    timeline.run(&delete(Some(1))).expect("deleted");
    assert!(matches!(timeline.run(&delete(None)), Err(Refusal::SegmentNotFound { .. })));
    let outcomes = timeline.append(vec![interim("a", 9)]).expect("no error");
    assert!(matches!(outcomes[..], [SegmentOutcome::Skipped(SkipReason::Deleted, 2)]));
    assert!(matches!(timeline.run(&correction("a", text("x"), 2)), Err(Refusal::SegmentNotFound { .. })));
    // What was made from it stays, and can change; nothing new is made from it.
    timeline.append(vec![interim("b", 2).below("a")]).expect("its parent is as it was");
    assert_eq!(path(timeline.append(vec![interim("c", 1).below("a")]).expect_err("gone")), "segments[0].parent_key");
    assert_eq!((timeline.get("a").body.clone(), timeline.get("a").arrival), (SegmentBody::default(), 1));
}

#[test]
fn an_ended_session_takes_corrections_but_no_appends() {
    let mut timeline = Timeline::default();
    timeline.append(vec![done("a", SegmentKind::Note)]).expect("stored");
    assert!(timeline.run(&control(SessionControl::End)).expect("ended").applied);
    assert!(!timeline.run(&control(SessionControl::End)).expect("no error").applied);
    let refused = timeline.append(vec![done("b", SegmentKind::Note)]).expect_err("ended");
    assert!(matches!(refused, Refusal::InvalidTransition { state: "ENDED", .. }), "{refused:?}");
    timeline.run(&correction("a", text("x"), 1)).expect("corrected");
    let patch = SessionPatch { retention: Some(std::time::Duration::from_secs(2)), ..SessionPatch::default() };
    timeline.run(&control(SessionControl::Update(patch))).expect("updated");
    let session = timeline.session.clone().expect("a session");
    assert_eq!(session.expire_time, session.end_time.map(|end| Timestamp(end.0 + 2_000_000)));
}

#[test]
fn a_session_is_deleted_in_steps_and_its_id_is_free_after_the_last() {
    let mut timeline = Timeline::default();
    let create = || CreateSession { session: session(), meta: SessionMeta::unnamed(), request: None };
    timeline.run(&create()).expect("made");
    assert!(matches!(timeline.run(&create()), Err(Refusal::SessionAlreadyExists { is_deleted: false, .. })));
    timeline.append(vec![interim("a", 1)]).expect("stored");
    assert!(!timeline.run(&RemoveSession { key: session().key }).expect("no error").applied, "it is not deleted");
    timeline.run(&control(SessionControl::Delete)).expect("deleted");
    assert!(matches!(timeline.run(&control(SessionControl::Delete)), Err(Refusal::SessionNotFound { .. })));
    assert!(matches!(timeline.run(&create()), Err(Refusal::SessionAlreadyExists { is_deleted: true, .. })));
    assert!(matches!(timeline.append(vec![interim("b", 1)]), Err(Refusal::InvalidTransition { .. })));
    assert!(matches!(timeline.run(&correction("a", text("x"), 2)), Err(Refusal::SessionNotFound { .. })));
    // The clean-up has deleted the segments by now.
    timeline.segments.clear();
    timeline.run(&RemoveSession { key: session().key }).expect("removed");
    assert!(timeline.session.is_none());
    timeline.run(&create()).expect("made again");
}

#[test]
fn retention_deletes_only_what_has_ended_long_enough() {
    let mut timeline = Timeline::default();
    timeline.append(vec![interim("a", 1)]).expect("stored");
    let expire = ExpireSession { key: session().key };
    assert!(!timeline.run(&expire).expect("no error").applied, "it is open");
    let patch = SessionPatch { retention: Some(std::time::Duration::from_secs(10)), ..SessionPatch::default() };
    timeline.run(&control(SessionControl::Update(patch))).expect("updated");
    timeline.run(&control(SessionControl::End)).expect("ended");
    assert!(!timeline.run(&expire).expect("no error").applied, "too early");
    timeline.now += 10_000_000;
    assert!(timeline.run(&expire).expect("no error").applied);
    assert_eq!(timeline.session.as_ref().map(|session| session.state), Some(SessionState::Deleted));
}

#[test]
fn a_session_has_a_maximum_of_segments() {
    let mut full = Session::new(session().key, "standup".into(), SessionMeta::unnamed(), Timestamp(0));
    (full.version, full.arrivals) = (1, MAX_SEGMENTS - 1);
    let mut edit = crate::domain::session::edit::SessionEdit::begin(&full, Timestamp(1));
    edit.append(&interim("a", 1), None, || None).expect("the last one");
    let refused = edit.append(&interim("b", 1), None, || None).expect_err("one too many");
    assert!(matches!(refused, Refusal::LimitExceeded { .. }));
}
