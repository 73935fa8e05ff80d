//! The rows of changed sessions and segments.

use crate::domain::session::segment::{Segment, SegmentKey};
use crate::domain::session::{Session, SessionKey};
use crate::domain::timeline::search_language::SearchLanguage;
use crate::domain::timeline::search_text::stored_search_text;
use crate::store::commit::columns::*;
use crate::store::commit::plan::Plan;
use crate::store::lexemes::LexemeCache;
use crate::store::pg::types::JsonText;
use crate::store::session::load::{StoredContent, StoredWord};

impl Plan {
    /// Writes a session that is new (`base` is `None`), changed or gone (`after` is `None`).
    pub fn write_session(&mut self, c: i32, key: SessionKey, base: Option<&Session>, after: Option<&Session>) {
        match (base, after) {
            (None, None) => self.check_absent_sessions.push(session_id(c, key)),
            (None, Some(after)) => {
                self.check_absent_sessions.push(session_id(c, key));
                self.insert_sessions.push(new_session(c, after));
            }
            (Some(base), Some(after)) => {
                self.lock_sessions.push(session_version(c, base));
                self.update_sessions.push(changed_session(c, base, after));
            }
            (Some(base), None) => {
                self.lock_sessions.push(session_version(c, base));
                self.delete_sessions.push(session_id(c, key));
            }
        }
    }

    /// Checks that a session has the version that was read, or still does not exist.
    pub fn check_session(&mut self, c: i32, key: SessionKey, base: Option<&Session>) {
        match base {
            Some(base) => self.check_version_sessions.push(session_version(c, base)),
            None => self.check_absent_sessions.push(session_id(c, key)),
        }
    }

    /// Checks the same, and keeps an existing session from changing until the group is committed.
    pub fn share_lock_session(&mut self, c: i32, key: SessionKey, base: Option<&Session>) {
        match base {
            Some(base) => self.share_lock_sessions.push(session_version(c, base)),
            None => self.check_absent_sessions.push(session_id(c, key)),
        }
    }

    /// Writes a segment that is new (`base` is `None`) or changed. Its session is written with it, which locks the segment.
    pub fn write_segment(&mut self, c: i32, key: &SegmentKey, base: Option<&Segment>, after: Option<&Segment>) {
        self.check_segment(c, key, base);
        match (base, after) {
            (None, Some(after)) => self.insert_segments.push(segment_row(c, after, &self.lexemes)),
            (Some(_), Some(after)) => self.update_segments.push(segment_row(c, after, &self.lexemes)),
            // Its row goes with its session.
            (_, None) => debug_assert!(false, "a deleted segment keeps its key"),
        }
    }

    /// Checks that a segment has the version that was read, or that there still never was one.
    pub fn check_segment(&mut self, c: i32, key: &SegmentKey, base: Option<&Segment>) {
        let (namespace_id, session_uid, key) = (key.session.namespace.0, key.session.uid, key.key.clone());
        match base {
            Some(base) => {
                let (version, create_time) = (base.version, base.create_time);
                let row = SegmentVersion { c, namespace_id, session_uid, key, version, create_time };
                self.check_version_segments.push(row);
            }
            None => self.check_absent_segments.push(SegmentId { c, namespace_id, session_uid, key }),
        }
    }
}

fn session_id(c: i32, key: SessionKey) -> RootId {
    RootId { c, namespace_id: key.namespace.0, root_uid: key.uid }
}

fn session_version(c: i32, base: &Session) -> RootVersion {
    let (namespace_id, root_uid) = (base.key.namespace.0, base.key.uid);
    RootVersion { c, namespace_id, root_uid, version: base.version, create_time: base.create_time }
}

fn retention_us(session: &Session) -> i64 {
    i64::try_from(session.meta.retention.as_micros()).expect("at most 3,650 days")
}

fn new_session(c: i32, session: &Session) -> SessionRow {
    SessionRow {
        c,
        namespace_id: session.key.namespace.0,
        session_uid: session.key.uid,
        session_id: session.session_id.to_string(),
        title: session.meta.title.as_ref().map(ToString::to_string),
        labels: (!session.meta.labels.is_empty()).then(|| JsonText::of(&*session.meta.labels)),
        state: session.state as i16,
        version: session.version,
        segment_count: session.segment_count,
        arrivals: session.arrivals,
        retention_us: retention_us(session),
        create_time: session.create_time,
        update_time: session.update_time,
        end_time: session.end_time,
        expire_time: session.expire_time,
    }
}

fn changed_session(c: i32, base: &Session, after: &Session) -> ChangedSession {
    let (before, meta) = (&base.meta, &after.meta);
    ChangedSession {
        c,
        namespace_id: after.key.namespace.0,
        session_uid: after.key.uid,
        version: after.version,
        segment_count: after.segment_count,
        arrivals: after.arrivals,
        update_time: after.update_time,
        state: (base.state != after.state).then_some(after.state as i16),
        title: (before.title != meta.title).then(|| meta.title.as_deref().unwrap_or_default().to_owned()),
        labels: (before.labels != meta.labels).then(|| JsonText::of(&*meta.labels)),
        retention_us: (before.retention != meta.retention).then(|| retention_us(after)),
        end_time: after.end_time.filter(|_| base.end_time != after.end_time),
        expire_time: after.expire_time.filter(|_| base.expire_time != after.expire_time),
    }
}

fn segment_row(c: i32, segment: &Segment, lexemes: &LexemeCache) -> SegmentRow {
    let body = &segment.body;
    let text = body.text.as_deref();
    let searched = text.filter(|_| segment.is_searchable());
    let search_language = SearchLanguage::of_tag(body.language.as_deref().unwrap_or_default());
    let search_text = searched.and_then(stored_search_text);
    let words = |words: &[_]| JsonText::of(&words.iter().map(StoredWord::of).collect::<Vec<_>>());
    SegmentRow {
        c,
        namespace_id: segment.key.session.namespace.0,
        session_uid: segment.key.session.uid,
        key: segment.key.key.clone(),
        arrival: segment.arrival,
        version: segment.version,
        kind: segment.kind as i16,
        status: segment.status as i16,
        sequence: segment.sequence,
        parent_key: body.parent_key.clone(),
        start_ns: body.start_ns,
        end_ns: body.end_ns,
        speaker: body.speaker.clone(),
        language: body.language.clone(),
        text: text.map(str::to_owned),
        words: body.words.as_deref().map(words),
        confidence: body.confidence,
        content: body.content.as_ref().map(|content| JsonText::of(&StoredContent::of(content))),
        inline_data: body.content.as_ref().and_then(|content| content.inline_data.as_deref()).map(<[u8]>::to_vec),
        metadata: body.metadata.as_ref().map(|metadata| JsonText(metadata.as_str().into())),
        create_time: segment.create_time,
        update_time: segment.update_time,
        delete_time: segment.delete_time,
        search_config: searched.map(|_| search_language.name().to_owned()),
        search_vector: searched
            .and_then(|text| lexemes.vector(search_language, search_text.as_deref().unwrap_or(text))),
        search_text,
    }
}
