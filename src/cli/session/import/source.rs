//! The segments of a file of JSON lines, in messages.

use std::io::{BufRead, BufReader, Read};

use prost::Message as _;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::cli::document::message;
use crate::cli::failure::Failed;
use crate::cli::text::note;
use crate::proto::{ImportSegmentsRequest, Segment};

/// Segments in a message; no server takes more.
const SEGMENTS: usize = 500;
/// Size of a message in bytes from which no more segments are added.
const MESSAGE_BYTES: usize = 1 << 20;
/// Maximum size of a line in bytes.
const LINE_BYTES: u64 = 16 << 20;
/// Byte order mark, with which some editors begin a file.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Invalid lines that are reported; the others are counted.
const REPORTED: usize = 1_000;

/// A file of JSON lines.
pub struct SegmentSource {
    name: String,
    reader: Box<dyn BufRead + Send>,
    session_id: String,
    allow_missing: bool,
}

/// What was read of a file.
#[derive(Debug, Default)]
pub struct SourceEnd {
    /// The lines of the segments that were sent.
    pub lines: LineNumbers,
    /// Lines that are no segments.
    pub invalid: usize,
    /// Why reading stopped before the end of the file. None: it did not.
    pub broken: Option<Failed>,
}

/// The line numbers of segments by their index. Only where a line does not follow the one before, both are kept.
#[derive(Debug, Default)]
pub struct LineNumbers {
    segments: usize,
    /// Index and line.
    jumps: Vec<(usize, usize)>,
}

impl SegmentSource {
    /// Opens a file; `-` is the standard input.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &str, session_id: String, allow_missing: bool) -> Result<Self, Failed> {
        let reader: Box<dyn BufRead + Send> = if path == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = std::fs::File::open(path);
            Box::new(BufReader::new(file.map_err(|error| Failed::usage(format!("cannot read {path:?}: {error}")))?))
        };
        Ok(Self { name: path.to_owned(), reader, session_id, allow_missing })
    }

    /// Sends all segments, and reports lines that are none on the standard error. Ends early if the receiver has gone.
    pub fn send(mut self, sender: &Sender<ImportSegmentsRequest>) -> SourceEnd {
        let mut end = SourceEnd::default();
        let (mut segments, mut bytes) = (Vec::new(), 0);
        for line in 1.. {
            let text = match self.line(line) {
                Ok(Some(text)) => text,
                Ok(None) => break,
                Err(failed) => {
                    end.broken = Some(failed);
                    break;
                }
            };
            let text: &[u8] = if line == 1 { text.strip_prefix(BOM).unwrap_or(&text) } else { &text };
            match segment(line, text) {
                Ok(None) => {}
                Ok(Some(segment)) => {
                    end.lines.add(line);
                    bytes += segment.encoded_len();
                    segments.push(segment);
                }
                Err(failed) => {
                    end.invalid += 1;
                    if end.invalid <= REPORTED {
                        note(failed.to_string());
                    }
                }
            }
            if segments.len() == SEGMENTS || bytes >= MESSAGE_BYTES {
                bytes = 0;
                if sender.blocking_send(self.request(std::mem::take(&mut segments))).is_err() {
                    return end;
                }
            }
        }
        if !segments.is_empty() {
            // Without a receiver the call has failed, which is reported by it.
            drop(sender.blocking_send(self.request(segments)));
        }
        end
    }

    /// The next line. None: there are no more.
    fn line(&mut self, line: usize) -> Result<Option<Vec<u8>>, Failed> {
        let mut text = Vec::new();
        let read = self.reader.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut text);
        let read = read.map_err(|error| Failed::usage(format!("cannot read {:?}: {error}", self.name)))?;
        if read as u64 > LINE_BYTES {
            return Err(Failed::usage(format!("line {line}: has more than {} MiB", LINE_BYTES >> 20)));
        }
        Ok((read > 0).then_some(text))
    }

    fn request(&self, segments: Vec<Segment>) -> ImportSegmentsRequest {
        ImportSegmentsRequest { session_id: self.session_id.clone(), segments, allow_missing: self.allow_missing }
    }
}

/// The segment of a line. None: the line is empty.
fn segment(line: usize, text: &[u8]) -> Result<Option<Segment>, Failed> {
    let place = format!("line {line}");
    let text = str::from_utf8(text).map_err(|_| Failed::usage(format!("{place}: is not UTF-8")))?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let json: Value = serde_json::from_str(text).map_err(|error| {
        // Its line is always 1.
        let error = error.to_string().replace(" at line 1 column ", " at column ");
        Failed::usage(format!("{place}: is not JSON: {error}"))
    })?;
    message(&place, json).map(Some)
}

impl LineNumbers {
    /// Adds the line of the next segment.
    fn add(&mut self, line: usize) {
        if self.line_of(self.segments) != Some(line) {
            self.jumps.push((self.segments, line));
        }
        self.segments += 1;
    }

    /// The line of a segment. None: no line was added.
    pub fn line_of(&self, index: usize) -> Option<usize> {
        let behind = self.jumps.partition_point(|(first, _)| *first <= index);
        let (first, line) = self.jumps[..behind].last()?;
        Some(line + index - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn source(text: &str) -> SegmentSource {
        SegmentSource {
            name: "segments".to_owned(),
            reader: Box::new(BufReader::new(std::io::Cursor::new(text.to_owned()))),
            session_id: "standup".to_owned(),
            allow_missing: true,
        }
    }

    #[test]
    fn segments_know_their_lines() {
        let (sender, mut receiver) = mpsc::channel(1);
        let text = "{\"key\":\"a\"}\n\n{\"key\":\"b\"}\r\nnothing\n{\"kee\":\"c\"}\n{\"key\":\"d\"}";
        let end = source(text).send(&sender);
        let request = receiver.try_recv().expect("a message");
        let keys: Vec<_> = request.segments.iter().map(|segment| &*segment.key).collect();
        assert_eq!((keys, end.invalid), (vec!["a", "b", "d"], 2));
        assert_eq!([0, 1, 2].map(|index| end.lines.line_of(index)), [Some(1), Some(3), Some(6)]);
    }

    #[test]
    fn a_byte_order_mark_begins_a_file_and_no_other_line() {
        let (sender, mut receiver) = mpsc::channel(1);
        let end = source("\u{feff}{\"key\":\"a\"}\n\u{feff}{\"key\":\"b\"}\n").send(&sender);
        let keys: Vec<_> = receiver.try_recv().expect("a message").segments.into_iter().map(|it| it.key).collect();
        assert_eq!((keys, end.invalid), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn a_message_is_bounded_in_segments_and_bytes() {
        let long = format!("{{\"text\":\"{}\"}}\n", "x".repeat(60_000));
        for (line, most) in [("{}\n", SEGMENTS), (&*long, MESSAGE_BYTES / 60_000 + 1)] {
            let (sender, mut receiver) = mpsc::channel(9);
            let end = source(&line.repeat(most + 1)).send(&sender);
            assert_eq!(end.lines.segments, most + 1);
            let sizes = [(); 2].map(|()| receiver.try_recv().expect("a message").segments.len());
            assert_eq!(sizes, [most, 1]);
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let error = |text: &[u8]| segment(7, text).expect_err("a mistake").to_string();
        assert!(error(b"{\"start\":\"soon\"}").starts_with("line 7: start: "), "{}", error(b"{\"start\":\"soon\"}"));
        assert_eq!(error(b"nothing"), "line 7: is not JSON: expected ident at column 2");
        assert_eq!(error(b"\xff"), "line 7: is not UTF-8");
    }
}
