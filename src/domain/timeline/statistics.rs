//! Figures of a session, counted while its segments pass in the order of the timeline.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use super::spoken_time::SpokenTime;

/// Speakers, and languages, that are told apart. Segments of others are counted together.
pub const MAX_COUNTED_NAMES: usize = 1_000;

/// What counts of a segment.
#[derive(Clone, Debug)]
pub struct CountedSegment {
    /// Number of its kind, as the database stores it.
    pub kind: i16,
    /// Whether it was said, in the language of the speaker.
    pub is_transcript: bool,
    /// Whether it is expected to change.
    pub is_interim: bool,
    /// Time of its start from that of the session. None: not known.
    pub start: Option<Duration>,
    /// Time of its end, not before the start. None: not known.
    pub end: Option<Duration>,
    /// Empty: not known.
    pub speaker: String,
    /// Tag of the language. Empty: not known.
    pub language: String,
    /// Words of its text.
    pub words: i64,
    /// Whether it has a text.
    pub has_text: bool,
}

/// Figures of the transcripts of a speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeakerCount {
    /// Number of segments.
    pub segments: i64,
    /// Words of their texts.
    pub words: i64,
    /// Union of the ranges of those with start and end.
    pub spoken: SpokenTime,
    /// Number of segments whose start or end is not known.
    pub untimed: i64,
}

/// Figures of the texts of a language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LanguageCount {
    /// Number of segments with a text.
    pub segments: i64,
    /// Words of their texts.
    pub words: i64,
}

/// Figures of the segments of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCount {
    /// Number of segments.
    pub segments: i64,
    /// How many of them are expected to change.
    pub interim: i64,
}

/// Figures of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// By speaker; the empty name is of segments without one. At most [`MAX_COUNTED_NAMES`]: those that come first.
    pub speakers: BTreeMap<String, SpeakerCount>,
    /// Number of transcripts of speakers that are not in `speakers`.
    pub other_speakers: i64,
    /// By tag of the language; the empty tag is of segments without one. At most [`MAX_COUNTED_NAMES`]: those that come first.
    pub languages: BTreeMap<String, LanguageCount>,
    /// Number of segments of languages that are not in `languages`.
    pub other_languages: i64,
    /// By number of the kind.
    pub kinds: BTreeMap<i16, KindCount>,
}

impl SessionCounts {
    /// Counts the next segment.
    pub fn add(&mut self, segment: CountedSegment) {
        let kind = self.kinds.entry(segment.kind).or_default();
        kind.segments += 1;
        kind.interim += i64::from(segment.is_interim);
        if segment.has_text {
            match entry(&mut self.languages, segment.language) {
                Some(language) => {
                    language.segments += 1;
                    language.words += segment.words;
                }
                None => self.other_languages += 1,
            }
        }
        if !segment.is_transcript {
            return;
        }
        let Some(speaker) = entry(&mut self.speakers, segment.speaker) else {
            self.other_speakers += 1;
            return;
        };
        speaker.segments += 1;
        speaker.words += segment.words;
        match (segment.start, segment.end) {
            (Some(start), Some(end)) => speaker.spoken.add(start, end),
            _ => speaker.untimed += 1,
        }
    }
}

/// The figures of a name. None: there are too many names.
fn entry<T: Default>(counts: &mut BTreeMap<String, T>, name: String) -> Option<&mut T> {
    let is_full = counts.len() >= MAX_COUNTED_NAMES;
    match counts.entry(name) {
        Entry::Occupied(counted) => Some(counted.into_mut()),
        Entry::Vacant(_) if is_full => None,
        Entry::Vacant(new) => Some(new.insert(T::default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(times: (Option<u64>, Option<u64>), speaker: &str, words: i64) -> CountedSegment {
        CountedSegment {
            kind: 2,
            is_transcript: true,
            is_interim: false,
            start: times.0.map(Duration::from_secs),
            end: times.1.map(Duration::from_secs),
            speaker: speaker.to_owned(),
            language: "en".to_owned(),
            words,
            has_text: words > 0,
        }
    }

    #[test]
    fn speakers_have_transcripts_alone_and_overlaps_count_once() {
        let mut counts = SessionCounts::default();
        counts.add(transcript((Some(0), Some(10)), "Ann", 20));
        counts.add(CountedSegment { kind: 3, is_transcript: false, ..transcript((Some(0), Some(10)), "Ann", 25) });
        counts.add(transcript((Some(5), Some(12)), "Ann", 5));
        counts.add(CountedSegment { is_interim: true, ..transcript((Some(6), None), "", 0) });
        let ann = counts.speakers["Ann"];
        assert_eq!((ann.segments, ann.words, ann.spoken.total().as_secs(), ann.untimed), (2, 25, 12, 0));
        assert_eq!((counts.speakers[""].segments, counts.speakers[""].untimed), (1, 1));
        assert_eq!(counts.languages["en"], LanguageCount { segments: 3, words: 50 });
        assert_eq!(counts.kinds[&2], KindCount { segments: 3, interim: 1 });
        assert_eq!(counts.kinds[&3], KindCount { segments: 1, interim: 0 });
    }

    #[test]
    fn names_are_bounded() {
        let mut counts = SessionCounts::default();
        for i in 0..1_500 {
            let name = format!("{i}");
            counts.add(CountedSegment { language: name.clone(), ..transcript((None, None), &name, 1) });
        }
        counts.add(transcript((None, None), "7", 1));
        assert_eq!((counts.speakers.len(), counts.other_speakers, counts.speakers["7"].segments), (1_000, 500, 2));
        assert_eq!((counts.languages.len(), counts.other_languages), (1_000, 501));
    }
}
