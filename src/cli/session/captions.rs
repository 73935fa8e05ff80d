//! Segments as captions: lines where the output is no terminal, else captions of which interim ones are dimmed until their final one comes.

use std::collections::BTreeMap;

use console::{Term, measure_text_width, style};

use super::list::state;
use super::offset::offset_text;
use super::segment::said;
use crate::cli::text::plain;
use crate::proto::watch_session_response::Update;
use crate::proto::{Segment, SegmentChanges, SegmentStatus, Session};

/// Width of the column of starts.
const START: usize = 9;
/// Width of the column of keys where the output is no terminal.
const KEY: usize = 12;

/// Captions on a terminal: final ones scroll up, interim ones stay below them until they are replaced.
pub struct Captions {
    term: Term,
    interim: InterimCaptions,
    /// Lines of interim captions on the terminal.
    drawn: usize,
}

/// The interim captions by key, each with its place in the order of time.
#[derive(Debug, Default)]
struct InterimCaptions(BTreeMap<String, (CaptionOrder, String)>);

/// The order of captions: by start, those without one last, then by arrival.
type CaptionOrder = (bool, i64, i32, i64);

impl Captions {
    /// Captions on the standard output.
    pub fn new() -> Self {
        Self { term: Term::buffered_stdout(), interim: InterimCaptions::default(), drawn: 0 }
    }

    /// Prints the final captions of a message and the lines about the session, and draws the interim captions again.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn show(&mut self, update: &Update, session: Option<String>) -> anyhow::Result<()> {
        let mut lines: Vec<_> = session.into_iter().collect();
        match update {
            Update::Changes(changes) => lines.extend(self.interim.change(changes)),
            Update::Removal(_) | Update::Reset(_) => self.interim.0.clear(),
            Update::Session(_) | Update::Keepalive(_) => {}
        }
        self.draw(&lines)
    }

    /// Prints why the watch broke off.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn trouble(&mut self, why: &str) -> anyhow::Result<()> {
        self.draw(&[style(plain(why)).yellow().to_string()])
    }

    fn draw(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let (height, width) = self.term.size();
        self.term.clear_last_lines(self.drawn)?;
        for line in lines {
            self.term.write_line(line)?;
        }
        let captions = self.interim.lines(usize::from(height).saturating_sub(2).max(1), usize::from(width));
        for line in &captions {
            self.term.write_line(&style(line).dim().to_string())?;
        }
        self.drawn = captions.len();
        Ok(self.term.flush()?)
    }
}

impl InterimCaptions {
    /// Applies changes, and returns the captions that are final now.
    fn change(&mut self, changes: &SegmentChanges) -> Vec<String> {
        let mut finals = Vec::new();
        for segment in &changes.segments {
            if segment.status() == SegmentStatus::Interim {
                self.0.insert(segment.key.clone(), (order(segment), caption(segment)));
            } else {
                self.0.remove(&segment.key);
                finals.push(caption(segment));
            }
        }
        for key in &changes.deleted_keys {
            if self.0.remove(key).is_none() {
                finals.push(format!("{:>START$}  {} was deleted", "", plain(key)));
            }
        }
        finals
    }

    /// The last `rows` captions in order of time. Of a caption that is wider than `width` the end is shown, where words are added.
    fn lines(&self, rows: usize, width: usize) -> Vec<String> {
        let mut captions: Vec<_> = self.0.values().collect();
        captions.sort_unstable_by_key(|(order, _)| order);
        let first = captions.len().saturating_sub(rows);
        // A line as wide as the terminal could wrap.
        captions[first..].iter().map(|(_, caption)| cut(caption, width.saturating_sub(1))).collect()
    }
}

fn order(segment: &Segment) -> CaptionOrder {
    let start = segment.start.unwrap_or_default();
    (segment.start.is_none(), start.seconds, start.nanos, segment.arrival)
}

/// A caption that fits into `width`: its start, and of the rest the end.
fn cut(caption: &str, width: usize) -> String {
    if measure_text_width(caption) <= width {
        return caption.to_owned();
    }
    let head = caption.char_indices().nth(START + 2).map_or(caption.len(), |(index, _)| index);
    let (head, text) = caption.split_at(head);
    let mut left = width.saturating_sub(START + 3);
    let mut begin = text.len();
    for (index, letter) in text.char_indices().rev() {
        let taken = measure_text_width(letter.encode_utf8(&mut [0; 4]));
        let Some(rest) = left.checked_sub(taken) else { break };
        (left, begin) = (rest, index);
    }
    format!("{head}…{}", &text[begin..])
}

/// A caption on a terminal.
fn caption(segment: &Segment) -> String {
    format!("{:>START$}  {}", offset_text(segment.start), said(segment))
}

/// The line about a session.
pub fn session_line(session: &Session) -> String {
    let line = format!("{}  {}  {}", session.session_id, state(session), session.title);
    plain(line.trim_end())
}

/// The lines of changes where the output is no terminal: start, key, `interim` if it is, speaker and text.
pub fn change_lines(changes: &SegmentChanges) -> Vec<String> {
    let line = |segment: &Segment| {
        let status = if segment.status() == SegmentStatus::Interim { "interim  " } else { "" };
        let line = format!("{:>START$}  {:<KEY$}  {status}{}", offset_text(segment.start), segment.key, said(segment));
        plain(line.trim_end())
    };
    let deleted = |key: &String| plain(&format!("{:>START$}  {key:<KEY$}  deleted", ""));
    changes.segments.iter().map(line).chain(changes.deleted_keys.iter().map(deleted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(key: &str, start: Option<i64>, status: SegmentStatus, text: &str) -> Segment {
        Segment {
            key: key.into(),
            start: start.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            status: status.into(),
            speaker: "Ada".into(),
            text: text.into(),
            ..Default::default()
        }
    }

    fn changes(segments: Vec<Segment>, deleted: &[&str]) -> SegmentChanges {
        let deleted_keys = deleted.iter().map(|key| (*key).to_owned()).collect();
        SegmentChanges { segments, deleted_keys, ..Default::default() }
    }

    #[test]
    fn a_final_caption_replaces_the_interim_one_of_its_key() {
        let mut interim = InterimCaptions::default();
        let first = changes(
            vec![
                segment("b", Some(2), SegmentStatus::Interim, "b"),
                segment("a", Some(1), SegmentStatus::Interim, "Good"),
            ],
            &[],
        );
        assert_eq!(interim.change(&first), [""; 0]);
        assert_eq!(interim.lines(9, 80), ["       1s  Ada: Good", "       2s  Ada: b"]);
        interim.change(&changes(vec![segment("a", Some(1), SegmentStatus::Interim, "Good morn")], &[]));
        assert_eq!(interim.lines(1, 80), ["       2s  Ada: b"]);
        assert_eq!(interim.lines(9, 80)[0], "       1s  Ada: Good morn");
        let last = changes(vec![segment("a", Some(1), SegmentStatus::Final, "Good morning")], &["b", "c"]);
        assert_eq!(interim.change(&last), ["       1s  Ada: Good morning", "           c was deleted"]);
        assert_eq!(interim.lines(9, 80), [""; 0]);
    }

    #[test]
    fn an_interim_caption_is_one_line_that_shows_its_end() {
        let mut interim = InterimCaptions::default();
        let text = format!("{}the newest words", "words\n".repeat(100));
        interim.change(&changes(vec![segment("a", None, SegmentStatus::Interim, &text)], &[]));
        let lines = interim.lines(9, 40);
        assert!(lines[0].ends_with("the newest words") && lines[0].contains('…'), "{lines:?}");
        assert_eq!((lines.len(), measure_text_width(&lines[0])), (1, 39));
        assert_eq!(cut("       1s  日本語", 15), "       1s  …語");
    }

    #[test]
    fn a_line_names_what_changed() {
        let changed =
            [segment("a", Some(61), SegmentStatus::Interim, "Good"), segment("b", None, SegmentStatus::Final, "x\ny")];
        let lines = change_lines(&changes(changed.to_vec(), &["c"]));
        let expected = [
            "     1m1s  a             interim  Ada: Good",
            "           b             Ada: x y",
            "           c             deleted",
        ];
        assert_eq!(lines, expected);
    }
}
