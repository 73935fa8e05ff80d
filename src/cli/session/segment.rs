//! What commands have in common that read or write segments: flags, names of kinds, and how a segment is shown.

use clap::{Args, ValueEnum};
use prost_types::Duration;

use super::offset::{offset_text, parse_offset};
use crate::cli::json;
use crate::cli::text::{bare, duration, facts, plain, time};
use crate::proto::segment_content::Source;
use crate::proto::{Segment, SegmentKind, SegmentStatus};

/// The kinds of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// A piece of recorded sound.
    Audio = 1,
    /// What was said, in the language of the speaker.
    Transcript = 2,
    /// What was said, in another language.
    Translation = 3,
    /// A remark about the session.
    Note = 4,
}

/// The status of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusName {
    /// Preliminary.
    Interim = 1,
    /// Complete.
    Final = 2,
}

/// Flag of reads of sessions that a read replica may answer.
#[derive(Clone, Copy, Debug, Args)]
pub struct StalenessFlag {
    /// Age that the answer may have, at most 60s: it can then come from a read replica [default: it is current].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_staleness: Option<Duration>,
}

/// Fields of one segment.
#[derive(Debug, Args)]
pub(super) struct SegmentFlags {
    /// Text of the segment.
    #[arg(long)]
    text: Option<String>,
    /// When it starts, relative to the start of the session, such as `1m30s` or `90.5` (seconds).
    #[arg(long, value_name = "TIME", value_parser = parse_offset)]
    start: Option<Duration>,
    /// When it ends, not before the start.
    #[arg(long, value_name = "TIME", value_parser = parse_offset)]
    end: Option<Duration>,
    /// Speaker.
    #[arg(long)]
    speaker: Option<String>,
    /// Language of the text, as a BCP 47 tag such as `en` or `pt-BR`.
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
    /// Key of the segment that this one was made from, such as the transcript of a translation.
    #[arg(long, value_name = "KEY")]
    parent: Option<String>,
}

impl SegmentFlags {
    /// The ids of these flags.
    pub(super) const IDS: [&'static str; 6] = ["text", "start", "end", "speaker", "language", "parent"];

    /// Sets the fields that were given, and returns their names.
    pub(super) fn set(self, segment: &mut Segment) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut put = |name: &'static str, field: &mut String, given: Option<String>| {
            if let Some(given) = given {
                *field = given;
                names.push(name);
            }
        };
        put("text", &mut segment.text, self.text);
        put("speaker", &mut segment.speaker, self.speaker);
        put("language", &mut segment.language, self.language);
        if self.start.is_some() {
            segment.start = self.start;
            names.push("start");
        }
        if self.end.is_some() {
            segment.end = self.end;
            names.push("end");
        }
        if self.parent.is_some() {
            segment.parent_key = self.parent;
            names.push("parent_key");
        }
        names
    }
}

/// The kind of a segment without the prefix of the enum.
pub fn kind_text(kind: SegmentKind) -> &'static str {
    bare(kind.as_str_name(), "SEGMENT_KIND_")
}

/// The status of a segment without the prefix of the enum.
pub fn status_text(status: SegmentStatus) -> &'static str {
    bare(status.as_str_name(), "SEGMENT_STATUS_")
}

/// A segment line by line.
pub fn lines(segment: &Segment) -> Vec<String> {
    let shown = json::value(segment).unwrap_or_default();
    let document = |name| shown.get(name).map(ToString::to_string).unwrap_or_default();
    let words = if segment.words.is_empty() { String::new() } else { segment.words.len().to_string() };
    let sequence = if segment.sequence == 0 { String::new() } else { format!(", sequence {}", segment.sequence) };
    facts([
        ("segment", segment.key.clone()),
        ("kind", kind_text(segment.kind()).to_owned()),
        ("status", format!("{}{sequence}", status_text(segment.status()))),
        ("parent", segment.parent_key.clone().unwrap_or_default()),
        ("start", offset_text(segment.start)),
        ("end", offset_text(segment.end)),
        ("duration", offset_text(segment.duration)),
        ("speaker", segment.speaker.clone()),
        ("language", segment.language.clone()),
        ("text", segment.text.clone()),
        ("words", words),
        ("confidence", segment.confidence.map(|confidence| confidence.to_string()).unwrap_or_default()),
        ("content", content(segment)),
        ("metadata", document("metadata")),
        ("version", segment.version.to_string()),
        ("created", time(segment.create_time)),
        ("updated", time(segment.update_time)),
    ])
}

/// Speaker, language of a translation, and text in one line.
pub fn said(segment: &Segment) -> String {
    let language = match segment.kind() {
        SegmentKind::Translation if !segment.language.is_empty() => format!("({})", segment.language),
        SegmentKind::Note => "(note)".to_owned(),
        _ => String::new(),
    };
    let by = [&*segment.speaker, &*language].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let text = if segment.text.is_empty() { content(segment) } else { segment.text.clone() };
    plain(&if by.is_empty() { text } else { format!("{by}: {text}") })
}

/// The file of a segment: where it is, or its size.
fn content(segment: &Segment) -> String {
    let Some(content) = &segment.content else { return String::new() };
    let place = match &content.source {
        Some(Source::Uri(uri)) => uri.clone(),
        Some(Source::InlineData(_)) => "inline".to_owned(),
        None => String::new(),
    };
    let size = content.size_bytes.map(|size| format!("{size} bytes")).unwrap_or_default();
    let parts = [place, content.media_type.clone(), size];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_and_statuses_are_those_of_the_contract() {
        for name in KindName::value_variants() {
            let kind = SegmentKind::try_from(*name as i32).expect("a kind");
            let possible = name.to_possible_value().expect("a name");
            assert_eq!(kind_text(kind).to_lowercase(), possible.get_name());
        }
        for name in StatusName::value_variants() {
            let status = SegmentStatus::try_from(*name as i32).expect("a status");
            let possible = name.to_possible_value().expect("a name");
            assert_eq!(status_text(status).to_lowercase(), possible.get_name());
        }
    }

    #[test]
    fn a_caption_is_one_line() {
        let segment = |kind: SegmentKind, speaker: &str, language: &str| Segment {
            kind: kind.into(),
            speaker: speaker.into(),
            language: language.into(),
            text: "a\nb".into(),
            ..Default::default()
        };
        assert_eq!(said(&segment(SegmentKind::Transcript, "Ada", "en")), "Ada: a b");
        assert_eq!(said(&segment(SegmentKind::Translation, "Ada", "de")), "Ada (de): a b");
        assert_eq!(said(&segment(SegmentKind::Note, "", "")), "(note): a b");
        assert_eq!(said(&segment(SegmentKind::Transcript, "", "en")), "a b");
    }
}
