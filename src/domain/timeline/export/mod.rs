//! Files of a timeline: WebVTT, SubRip, plain text and JSON lines, written segment by segment.
//!
//! What is written can be taken at any time, and what waits is bounded, so the length of a session does not matter.

mod escape;
mod open_ends;

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use self::escape::{lines, one_line, srt_line, vtt_line};
use self::open_ends::OpenEnds;

/// Format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineFormat {
    /// WebVTT subtitles. Speakers are voices.
    WebVtt,
    /// SubRip subtitles. The speaker comes before the text.
    Srt,
    /// A line for each segment: speaker and text.
    Text,
    /// A JSON object for each segment, one a line.
    JsonLines,
}

/// What an export shows of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedSegment {
    /// Key of the segment.
    pub key: String,
    /// Kind of the segment as the protos name it.
    pub kind: &'static str,
    /// Time of its start from that of the session. None: not known.
    pub start: Option<Duration>,
    /// Time of its end, not before the start. None: not known.
    pub end: Option<Duration>,
    /// Empty: not known.
    pub speaker: String,
    /// Tag of the language. Empty: not known.
    pub language: String,
    /// Empty: none.
    pub text: String,
}

/// A line of a subtitle's file: from when to when, in milliseconds, and its text.
struct Cue<'a> {
    start_ms: u128,
    end_ms: u128,
    segment: &'a ExportedSegment,
}

/// Writes segments in the order of the timeline.
#[derive(Debug)]
pub struct ExportWriter {
    format: TimelineFormat,
    open_ends: OpenEnds,
    written: String,
    /// Subtitles that were written.
    cues: u64,
}

impl ExportWriter {
    /// A writer that has written the beginning of the file.
    pub fn new(format: TimelineFormat) -> Self {
        let written = if format == TimelineFormat::WebVtt { "WEBVTT\n\n".to_owned() } else { String::new() };
        Self { format, open_ends: OpenEnds::default(), written, cues: 0 }
    }

    /// Writes the next segment. Subtitles leave out segments without a start or without text, and wait until the end is known.
    pub fn write(&mut self, segment: ExportedSegment) {
        match self.format {
            TimelineFormat::Text => self.text(&segment),
            TimelineFormat::JsonLines => self.json(&segment),
            TimelineFormat::WebVtt | TimelineFormat::Srt if one_line(&segment.text).is_empty() => {}
            TimelineFormat::WebVtt | TimelineFormat::Srt => {
                let closed = self.open_ends.push(segment);
                self.subtitles(closed);
            }
        }
    }

    /// Writes what waits for the end of a segment.
    pub fn finish(&mut self) {
        let closed = self.open_ends.finish();
        self.subtitles(closed);
    }

    /// Number of bytes that were written and not taken.
    pub fn len(&self) -> usize {
        self.written.len()
    }

    /// Whether all that was written has been taken.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Takes what was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written).into_bytes()
    }

    fn subtitles(&mut self, closed: VecDeque<(ExportedSegment, Duration, Duration)>) {
        for (segment, start, end) in closed {
            let start_ms = start.as_millis();
            // Players ignore subtitles of no length.
            let cue = Cue { start_ms, end_ms: end.as_millis().max(start_ms + 1), segment: &segment };
            self.cues += 1;
            match self.format {
                TimelineFormat::WebVtt => self.vtt(&cue),
                TimelineFormat::Srt => self.srt(&cue),
                TimelineFormat::Text | TimelineFormat::JsonLines => {}
            }
        }
    }

    fn vtt(&mut self, cue: &Cue<'_>) {
        self.written += &format!("{} --> {}\n", clock(cue.start_ms, '.'), clock(cue.end_ms, '.'));
        let speaker = one_line(&cue.segment.speaker);
        if !speaker.is_empty() {
            // Two hyphens and the end of the tag would be an arrow; players strip the space.
            let space = if speaker.ends_with("--") { " " } else { "" };
            self.written += &format!("<v {}{space}>", vtt_line(&speaker));
        }
        for line in lines(&cue.segment.text) {
            self.written += &vtt_line(line);
            self.written.push('\n');
        }
        self.written.push('\n');
    }

    fn srt(&mut self, cue: &Cue<'_>) {
        self.written += &format!("{}\n{} --> {}\n", self.cues, clock(cue.start_ms, ','), clock(cue.end_ms, ','));
        let speaker = one_line(&cue.segment.speaker);
        if !speaker.is_empty() {
            self.written += &format!("{}: ", srt_line(&speaker));
        }
        for line in lines(&cue.segment.text) {
            self.written += &srt_line(line);
            self.written.push('\n');
        }
        self.written.push('\n');
    }

    fn text(&mut self, segment: &ExportedSegment) {
        let (speaker, text) = (one_line(&segment.speaker), one_line(&segment.text));
        match (speaker.as_str(), text.as_str()) {
            (_, "") => {}
            ("", text) => self.written += &format!("{text}\n"),
            (speaker, text) => self.written += &format!("{speaker}: {text}\n"),
        }
    }

    fn json(&mut self, segment: &ExportedSegment) {
        /// A line; names and values as in the JSON form of the messages.
        #[derive(Serialize)]
        struct Line<'a> {
            key: &'a str,
            kind: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            start: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            end: Option<String>,
            #[serde(skip_serializing_if = "str::is_empty")]
            speaker: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            language: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            text: &'a str,
        }
        let line = Line {
            key: &segment.key,
            kind: segment.kind,
            start: segment.start.map(seconds),
            end: segment.end.map(seconds),
            speaker: &segment.speaker,
            language: &segment.language,
            text: &segment.text,
        };
        // Neither maps nor numbers are in it, so nothing can fail.
        if let Ok(line) = serde_json::to_string(&line) {
            self.written += &line;
            self.written.push('\n');
        }
    }
}

/// A time of a subtitle: hours (two digits or more), minutes, seconds and milliseconds.
fn clock(ms: u128, point: char) -> String {
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}{point}{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A duration as JSON of the protos writes it, such as `1.500s`: no, three, six or nine digits behind the point.
fn seconds(time: Duration) -> String {
    let (whole, nanos) = (time.as_secs(), time.subsec_nanos());
    match nanos {
        0 => format!("{whole}s"),
        _ if nanos % 1_000_000 == 0 => format!("{whole}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => format!("{whole}.{:06}s", nanos / 1_000),
        _ => format!("{whole}.{nanos:09}s"),
    }
}

#[cfg(test)]
mod tests;
