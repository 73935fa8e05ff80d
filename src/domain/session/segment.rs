//! A segment, and what an append does to one that is stored.

use std::sync::Arc;

use super::key::SessionKey;
use crate::domain::json::Document;
use crate::domain::short::Short;
use crate::domain::time::Timestamp;

/// Maximum length of a text, and of the words of a segment together, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 10;
/// Maximum length of the data of a recording, in bytes.
pub const MAX_INLINE_BYTES: usize = 256 << 10;
/// Latest start or end of a segment or word, in nanoseconds: 7 days.
pub const MAX_TIME_NANOS: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// Key of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentKey {
    /// Session of the segment.
    pub session: SessionKey,
    /// The caller's key.
    pub key: Short,
}

/// Kind of a segment. The discriminants are those in the database and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentKind {
    /// A piece of recorded sound.
    Audio = 1,
    /// What was said, in the language of the speaker.
    Transcript = 2,
    /// What was said, in another language.
    Translation = 3,
    /// A remark.
    Note = 4,
}

impl SegmentKind {
    /// All kinds, from that of parents to that of children.
    pub const ALL: [Self; 4] = [Self::Audio, Self::Transcript, Self::Translation, Self::Note];

    /// Name of the kind on the wire, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "AUDIO",
            Self::Transcript => "TRANSCRIPT",
            Self::Translation => "TRANSLATION",
            Self::Note => "NOTE",
        }
    }

    /// The kind with this number. None: there is none.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i32 == number)
    }
}

/// Whether a segment is expected to change. The discriminants are those in the database and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentStatus {
    /// Appends replace it.
    Interim = 1,
    /// Only corrections change it.
    Final = 2,
}

/// A word of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The word.
    pub text: Short,
    /// Nanoseconds from the start of the session. None: not known.
    pub start_ns: Option<i64>,
    /// As `start_ns`, and not before it.
    pub end_ns: Option<i64>,
    /// How sure the recogniser is, 0 to 1. None: not known.
    pub confidence: Option<f64>,
}

/// A recording or another file of a segment. It has a `uri` or `inline_data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Where it is. None: it is in `inline_data`.
    pub uri: Option<Short>,
    /// Its bytes. None: it is at `uri`.
    pub inline_data: Option<Arc<[u8]>>,
    /// Its size. None: not known.
    pub size_bytes: Option<i64>,
    /// Its SHA-256 in lower-case hexadecimal digits. None: not known.
    pub sha256: Option<Short>,
    /// Its media type. None: not known.
    pub media_type: Option<Short>,
}

/// What callers set of a segment and can correct.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentBody {
    /// Key of the segment it was made from. None: there is none.
    pub parent_key: Option<Short>,
    /// Nanoseconds from the start of the session, 0 to [`MAX_TIME_NANOS`]. None: not known.
    pub start_ns: Option<i64>,
    /// As `start_ns`, and not before it.
    pub end_ns: Option<i64>,
    /// Name of the speaker. None: not known.
    pub speaker: Option<Short>,
    /// BCP 47 tag of the language. None: not known.
    pub language: Option<Short>,
    /// The text. None: there is none.
    pub text: Option<Arc<str>>,
    /// The words of the text. None: not known.
    pub words: Option<Arc<[Word]>>,
    /// How sure the recogniser is, 0 to 1. None: not known.
    pub confidence: Option<f64>,
    /// The recording. None: there is none.
    pub content: Option<Content>,
    /// The caller's own object. None: there is none.
    pub metadata: Option<Document>,
}

/// A segment as an append brings it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSegment {
    /// Key of the segment.
    pub key: SegmentKey,
    /// Kind of the segment.
    pub kind: SegmentKind,
    /// Whether it is expected to change.
    pub status: SegmentStatus,
    /// The caller's count of its states.
    pub sequence: i64,
    /// Everything else.
    pub body: SegmentBody,
}

/// A stored segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Key of the segment.
    pub key: SegmentKey,
    /// Number of its arrival in the session, from 1.
    pub arrival: i64,
    /// Version of the session at its last change.
    pub version: i64,
    /// Kind of the segment.
    pub kind: SegmentKind,
    /// Whether it is expected to change.
    pub status: SegmentStatus,
    /// The caller's count of its states.
    pub sequence: i64,
    /// What callers set. Empty for a deleted segment.
    pub body: SegmentBody,
    /// Time at which its first state was stored.
    pub create_time: Timestamp,
    /// Time at which its last state was stored.
    pub update_time: Timestamp,
    /// Time of its deletion. None: it is not deleted.
    pub delete_time: Option<Timestamp>,
}

/// Reason why an append leaves a stored segment as it is. The discriminants are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The sequence of the append is not higher: it is repeated or late.
    Sequence = 1,
    /// The stored segment is final.
    Final = 2,
    /// The segment was deleted.
    Deleted = 3,
}

impl Segment {
    /// Whether it is deleted.
    pub fn is_deleted(&self) -> bool {
        self.delete_time.is_some()
    }

    /// The reason why an append of a sequence leaves it as it is. None: the append replaces it.
    pub fn skip_reason(&self, sequence: i64) -> Option<SkipReason> {
        if self.is_deleted() {
            return Some(SkipReason::Deleted);
        }
        if sequence <= self.sequence {
            return Some(SkipReason::Sequence);
        }
        (self.status == SegmentStatus::Final).then_some(SkipReason::Final)
    }

    /// Whether the search finds it, if it has words.
    pub fn is_searchable(&self) -> bool {
        self.status == SegmentStatus::Final && !self.is_deleted() && self.body.text.is_some()
    }

    /// Approximate memory in bytes, for the bound of the cache.
    pub fn weight_bytes(&self) -> usize {
        500 + self.key.key.len() + self.body.bytes()
    }
}

impl SegmentBody {
    /// Approximate size of texts, words and data, in bytes.
    pub fn bytes(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| text.len());
        let words: usize = self.words.iter().flat_map(|words| words.iter()).map(|word| 80 + word.text.len()).sum();
        let data = self.content.as_ref().and_then(|content| content.inline_data.as_ref()).map_or(0, |data| data.len());
        text + words + data + self.metadata.as_ref().map_or(0, Document::len)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::id::NamespaceId;

    pub(in crate::domain::session) fn segment(key: &str) -> Segment {
        let session = SessionKey { namespace: NamespaceId(1), uid: Uuid::nil() };
        Segment {
            key: SegmentKey { session, key: key.into() },
            arrival: 1,
            version: 1,
            kind: SegmentKind::Transcript,
            status: SegmentStatus::Interim,
            sequence: 5,
            body: SegmentBody::default(),
            create_time: Timestamp(0),
            update_time: Timestamp(0),
            delete_time: None,
        }
    }

    #[test]
    fn only_a_higher_sequence_replaces_and_only_what_is_interim() {
        let interim = segment("a");
        assert_eq!(
            [4, 5, 6].map(|sequence| interim.skip_reason(sequence)),
            [Some(SkipReason::Sequence), Some(SkipReason::Sequence), None]
        );
        let done = Segment { status: SegmentStatus::Final, ..segment("a") };
        assert_eq!((done.skip_reason(5), done.skip_reason(6)), (Some(SkipReason::Sequence), Some(SkipReason::Final)));
        let deleted = Segment { delete_time: Some(Timestamp(1)), ..segment("a") };
        assert_eq!(deleted.skip_reason(6), Some(SkipReason::Deleted));
    }
}
