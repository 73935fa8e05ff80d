//! The output of a program, with bounds.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Lines of at most `limit` bytes each; what is longer is cut off.
#[derive(Debug)]
pub struct BoundedLines<R> {
    reader: R,
    limit: usize,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct BoundedLine {
    /// The text, with replacement characters for what is not UTF-8.
    pub text: String,
    /// Whether the line was longer than the limit.
    pub is_cut: bool,
}

impl<R: AsyncBufRead + Unpin> BoundedLines<R> {
    /// Reads lines of at most `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit }
    }

    /// The next line. None: the output has ended.
    ///
    /// # Errors
    /// If the output cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<BoundedLine>> {
        let (mut bytes, mut is_cut, mut has_begun) = (Vec::new(), false, false);
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() && !has_begun {
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            let room = self.limit.saturating_sub(bytes.len()).min(piece.len());
            bytes.extend_from_slice(&piece[..room]);
            is_cut |= room < piece.len();
            has_begun = true;
            let (is_last, taken) = (end.is_some() || chunk.is_empty(), piece.len() + usize::from(end.is_some()));
            self.reader.consume(taken);
            if is_last {
                let text = String::from_utf8_lossy(&bytes);
                return Ok(Some(BoundedLine { text: text.trim_end_matches('\r').to_owned(), is_cut }));
            }
        }
    }
}

/// The last lines of an output, at most `limit` bytes of them.
#[derive(Debug)]
pub struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    limit: usize,
    has_lost: bool,
}

impl Tail {
    /// An empty tail. `limit` is in bytes.
    pub fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, limit, has_lost: false }
    }

    /// Adds a line, and drops the first ones if there are too many. A line longer than the limit is dropped with them.
    pub fn push(&mut self, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > self.limit {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
            self.has_lost = true;
        }
    }

    /// The last line that is not blank. None: there is none.
    pub fn last(&self) -> Option<&str> {
        self.lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty())
    }

    /// All lines, after `…` if some were dropped.
    pub fn text(&self) -> String {
        let lost = self.has_lost.then_some("…").into_iter();
        lost.chain(self.lines.iter().map(String::as_str)).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8], limit: usize) -> Vec<(String, bool)> {
        let mut lines = BoundedLines::new(tokio::io::BufReader::with_capacity(3, text), limit);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.expect("memory") {
            found.push((line.text, line.is_cut));
        }
        found
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let line = |text: &str, is_cut| (text.to_owned(), is_cut);
        let found = read(b"abcdefgh\nij\r\n\nlast", 4).await;
        assert_eq!(found, [line("abcd", true), line("ij", false), line("", false), line("last", false)]);
        assert_eq!(read(b"", 4).await, []);
        assert_eq!(read(b"abcd\n", 4).await, [line("abcd", false)]);
    }

    #[test]
    fn a_tail_keeps_the_last_lines() {
        let mut tail = Tail::new(10);
        assert_eq!((tail.last(), &*tail.text()), (None, ""));
        for line in ["one", "two", "three", " "] {
            tail.push(line.to_owned());
        }
        assert_eq!((tail.last(), &*tail.text()), (Some("three"), "…\nthree\n "));
        tail.push("longer than all".to_owned());
        assert_eq!(tail.text(), "…");
    }
}
