//! What the benches of timelines append: texts with the word frequencies of a language, segments and sets of them.

use prost::Message;

use crate::proto::{self, SegmentKind};

/// Path of the rpc that appends.
pub const APPEND: &str = "/interlock.v1.TimelineService/AppendSegments";
/// Milliseconds of a sentence, and from one to the next.
pub const SENTENCE_MS: u64 = 2_000;

/// Words of sentences: a few of them frequent, most rare, as in any language.
#[derive(Clone)]
pub struct SampleTexts {
    words: Vec<String>,
}

impl SampleTexts {
    /// Some 1,700 words of three syllables, in the order of their frequency.
    pub fn new() -> Self {
        const SYLLABLES: [&str; 12] = ["ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te"];
        let word = |n: usize| [n / 144 % 12, n / 12 % 12, n % 12].map(|place| SYLLABLES[place]).concat();
        Self { words: (0..1_728).map(word).collect() }
    }

    /// The word of a number, by its frequency: each is half as frequent as the one of half its rank.
    fn word(&self, n: u64) -> &str {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
        let part = mixed as f64 / (1u64 << 53) as f64;
        let rank = (self.words.len() as f64).powf(part) as usize;
        &self.words[rank.min(self.words.len() - 1)]
    }

    /// A sentence of twelve words.
    pub fn sentence(&self, n: u64) -> String {
        (0..12).map(|i| self.word(n * 12 + i)).collect::<Vec<_>>().join(" ")
    }

    /// A query of two words that occur together.
    pub fn query(&self, n: u64) -> String {
        let sentence = n * 7_919;
        format!("{} {}", self.word(sentence * 12), self.word(sentence * 12 + 5))
    }
}

/// The fields that are read of the response to an append.
#[derive(Clone, PartialEq, Message)]
pub struct Appended {
    #[prost(int64, tag = "4")]
    pub applied_version: i64,
}

/// Where a page begins: somewhere in the first 1,000 s of its session.
pub fn page_start_ms(n: u64) -> u64 {
    n * 7_919 % 1_000 * 1_000
}

/// A sentence, or its sound: the one of number `n`.
pub fn segment(n: u64, part: &str, kind: SegmentKind, texts: &SampleTexts) -> proto::Segment {
    let ms = n * SENTENCE_MS;
    let at =
        |ms: u64| prost_types::Duration { seconds: (ms / 1_000).cast_signed(), nanos: (ms % 1_000 * 1_000_000) as i32 };
    proto::Segment {
        key: format!("{n}{part}"),
        kind: kind.into(),
        start: Some(at(ms)),
        end: Some(at(ms + SENTENCE_MS)),
        speaker: format!("speaker {}", n % 10),
        language: "en".to_owned(),
        text: if kind == SegmentKind::Audio { String::new() } else { texts.sentence(n) },
        ..Default::default()
    }
}

/// A set of a session: the one of number `n`.
pub fn set(session_id: String, n: u64, texts: &SampleTexts) -> proto::AppendSegmentsRequest {
    let sound = segment(n, "a", SegmentKind::Audio, texts);
    let below = |part, kind, parent: &proto::Segment| proto::Segment {
        parent_key: Some(parent.key.clone()),
        ..segment(n, part, kind, texts)
    };
    let said = below("t", SegmentKind::Transcript, &sound);
    let translations = ["x", "y", "z"].map(|part| below(part, SegmentKind::Translation, &said));
    let segments = [sound, said].into_iter().chain(translations).collect();
    proto::AppendSegmentsRequest { session_id, segments, allow_missing: true, ..Default::default() }
}
