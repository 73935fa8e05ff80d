//! Corrects and deletes single segments, in sessions of any state.

use super::{NamedSession, about};
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::domain::session::edit::ParentFacts;
use crate::domain::session::segment::{SegmentBody, SegmentKey, SegmentKind, SegmentStatus};
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply, Weight};

/// A field of a segment that can be corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of the body")]
pub enum BodyField {
    ParentKey,
    Start,
    End,
    Speaker,
    Language,
    Text,
    Words,
    Confidence,
    Content,
    Metadata,
}

/// A correction of a segment.
#[derive(Clone, Debug)]
pub struct SegmentPatch {
    /// The new status. None: it stays.
    pub status: Option<SegmentStatus>,
    /// The fields that change.
    pub fields: Vec<BodyField>,
    /// Their new values.
    pub body: SegmentBody,
}

impl SegmentPatch {
    /// The body with the new values.
    fn apply(&self, body: &SegmentBody) -> SegmentBody {
        let (mut after, new) = (body.clone(), &self.body);
        for field in &self.fields {
            match field {
                BodyField::ParentKey => after.parent_key.clone_from(&new.parent_key),
                BodyField::Start => after.start_ns = new.start_ns,
                BodyField::End => after.end_ns = new.end_ns,
                BodyField::Speaker => after.speaker.clone_from(&new.speaker),
                BodyField::Language => after.language.clone_from(&new.language),
                BodyField::Text => after.text.clone_from(&new.text),
                BodyField::Words => after.words.clone_from(&new.words),
                BodyField::Confidence => after.confidence = new.confidence,
                BodyField::Content => after.content.clone_from(&new.content),
                BodyField::Metadata => after.metadata.clone_from(&new.metadata),
            }
        }
        after
    }
}

#[derive(Debug)]
pub struct CorrectSegment {
    pub session: NamedSession,
    pub key: SegmentKey,
    /// The kind that the caller takes it to have. None: any.
    pub kind: Option<SegmentKind>,
    pub patch: SegmentPatch,
    /// The version the segment must have.
    pub expected_version: i64,
    pub request: Option<RequestIdentity>,
}

impl CorrectSegment {
    fn parent(&self) -> Option<SegmentKey> {
        let key = self.patch.body.parent_key.clone()?;
        Some(SegmentKey { session: self.session.key, key })
    }
}

impl Operation for CorrectSegment {
    fn name(&self) -> &'static str {
        "update_segment"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = vec![Key::Session(self.session.key), Key::Segment(self.key.clone())];
        keys.extend(self.parent().map(Key::Segment));
        keys
    }

    fn weight(&self) -> Weight {
        Weight { rows: 2, bytes: 256 + self.patch.body.bytes() }
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let session = self.session.existing(overlay)?;
        let stored = self.session.segment(overlay, &self.key)?;
        expect_version(stored.version, Some(self.expected_version))?;
        let within = |refusal: Refusal| refusal.at(0, "segment");
        if self.kind.is_some_and(|kind| kind != stored.kind) {
            let why = format!("must be {}, the kind of the stored segment", stored.kind.name());
            return Err(within(Refusal::field("kind", why)));
        }
        let body = self.patch.apply(&stored.body);
        if let (Some(start), Some(end)) = (body.start_ns, body.end_ns)
            && end < start
        {
            return Err(within(Refusal::field("end", "must not be before the start that the segment then has")));
        }
        let mut edit = overlay.begin_session(&session);
        let parent = || overlay.segment(&self.parent()?).and_then(|parent| ParentFacts::of(&parent));
        edit.correct(&stored, self.patch.status.unwrap_or(stored.status), body, parent).map_err(within)?;
        let after = overlay.write_session(edit);
        Ok(Reply { segment: overlay.segment(&self.key), ..about(&session, after) })
    }
}

#[derive(Debug)]
pub struct DeleteSegment {
    pub session: NamedSession,
    pub key: SegmentKey,
    /// The version the segment must have. None: any.
    pub expected_version: Option<i64>,
    pub request: Option<RequestIdentity>,
}

impl Operation for DeleteSegment {
    fn name(&self) -> &'static str {
        "delete_segment"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Session(self.session.key), Key::Segment(self.key.clone())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let session = self.session.existing(overlay)?;
        let stored = self.session.segment(overlay, &self.key)?;
        expect_version(stored.version, self.expected_version)?;
        let mut edit = overlay.begin_session(&session);
        edit.delete_segment(&stored);
        Ok(about(&session, overlay.write_session(edit)))
    }
}
