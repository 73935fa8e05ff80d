//! What a program writes: progress and artifacts on its standard output, messages on its standard error.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::watch;

use super::renewal::AttemptProgress;
use crate::cli::program::{BoundedLines, Tail};
use crate::cli::text::{note, plain};

/// Longest line that is read from the standard output, in bytes. Artifacts have at most 64 KiB as compact JSON.
const LINE_BYTES: usize = 256 << 10;
/// Longest line that is read from the standard error, and that is copied to it, in bytes.
const ERROR_LINE_BYTES: usize = 4 << 10;
/// How much of the end of the standard error is kept, in bytes. As JSON it has at most six times as many.
const TAIL_BYTES: usize = 8 << 10;
/// Longest message of progress, in bytes; the server takes no longer one.
const MESSAGE_BYTES: usize = 1_024;

/// What a program has reported so far.
#[derive(Debug)]
pub(super) struct Reported {
    /// The last line that is a JSON object. None: there was none.
    pub artifacts: Option<Value>,
    /// Whether the last line that begins like a JSON object was too long to be read.
    pub is_too_long: bool,
    /// The wait before the next attempt that it asked for.
    pub retry_after: Option<Duration>,
    /// The end of its standard error.
    pub errors: Tail,
}

/// A line of the standard output.
#[derive(Debug, PartialEq)]
enum OutputLine<'a> {
    /// `::progress 0.5 TEXT` or `::message TEXT`.
    Progress(AttemptProgress),
    /// `::retry-after 30s`.
    RetryAfter(Duration),
    /// A JSON object.
    Artifacts(Value),
    /// Anything else, for people.
    Text(&'a str),
}

/// The report of a program, shared by the readers of its pipes.
pub(super) type SharedReport = Arc<Mutex<Reported>>;

/// A report without anything in it.
pub(super) fn nothing_reported() -> SharedReport {
    let errors = Tail::new(TAIL_BYTES);
    Arc::new(Mutex::new(Reported { artifacts: None, is_too_long: false, retry_after: None, errors }))
}

/// Reads the standard output to its end. Lines for people go to the standard error of this process, after `prefix`.
pub(super) async fn read_output(
    pipe: impl AsyncRead + Unpin,
    prefix: String,
    report: SharedReport,
    progress: watch::Sender<AttemptProgress>,
) {
    let mut lines = BoundedLines::new(BufReader::new(pipe), LINE_BYTES);
    while let Ok(Some(line)) = lines.next().await {
        if line.is_cut && line.text.trim_start().starts_with('{') {
            report.lock().is_too_long = true;
            continue;
        }
        match parse(&line.text) {
            OutputLine::Progress(news) => progress.send_modify(|latest| {
                latest.progress = news.progress.or(latest.progress);
                latest.message = news.message.or_else(|| latest.message.take());
            }),
            OutputLine::RetryAfter(wait) => report.lock().retry_after = Some(wait),
            OutputLine::Artifacts(value) => {
                let mut report = report.lock();
                (report.artifacts, report.is_too_long) = (Some(value), false);
            }
            OutputLine::Text(text) => note(format!("{prefix}{}", beginning(&plain(text), ERROR_LINE_BYTES))),
        }
    }
}

/// Reads the standard error to its end, keeps its last lines, and copies all of them to that of this process, after `prefix`.
pub(super) async fn read_errors(pipe: impl AsyncRead + Unpin, prefix: String, report: SharedReport) {
    let mut lines = BoundedLines::new(BufReader::new(pipe), ERROR_LINE_BYTES);
    while let Ok(Some(line)) = lines.next().await {
        note(format!("{prefix}{}", plain(&line.text)));
        // A document holds no NUL.
        report.lock().errors.push(line.text.replace('\0', "\u{fffd}"));
    }
}

fn parse(line: &str) -> OutputLine<'_> {
    let text = line.trim();
    if text.starts_with('{') {
        let value = serde_json::from_str(text).ok().filter(Value::is_object);
        return value.map_or(OutputLine::Text(line), OutputLine::Artifacts);
    }
    let Some(command) = text.strip_prefix("::") else { return OutputLine::Text(line) };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let read = match name {
        "progress" => progress(rest.trim()).map(OutputLine::Progress),
        "message" => Some(OutputLine::Progress(AttemptProgress { progress: None, message: Some(message(rest)) })),
        "retry-after" => humantime::parse_duration(rest.trim()).ok().map(OutputLine::RetryAfter),
        _ => None,
    };
    read.unwrap_or(OutputLine::Text(line))
}

/// Reads `0.5 TEXT`. None: it does not begin with a number from 0 to 1.
fn progress(text: &str) -> Option<AttemptProgress> {
    let (number, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let progress = number.parse().ok().filter(|progress| (0.0..=1.0).contains(progress))?;
    let message = (!rest.trim().is_empty()).then(|| message(rest));
    Some(AttemptProgress { progress: Some(progress), message })
}

fn message(text: &str) -> String {
    beginning(&plain(text.trim()), MESSAGE_BYTES).to_owned()
}

/// At most the first `bytes` of a text.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(progress: Option<f64>, message: Option<&str>) -> OutputLine<'static> {
        OutputLine::Progress(AttemptProgress { progress, message: message.map(str::to_owned) })
    }

    #[test]
    fn lines_are_progress_artifacts_or_text() {
        assert_eq!(parse("::progress 0.5 half way"), step(Some(0.5), Some("half way")));
        assert_eq!(parse("::progress 1"), step(Some(1.0), None));
        assert_eq!(parse("::message  at it "), step(None, Some("at it")));
        assert_eq!(parse("::retry-after 1m 30s"), OutputLine::RetryAfter(Duration::from_secs(90)));
        assert_eq!(parse(r#" {"url": "a"} "#), OutputLine::Artifacts(json!({ "url": "a" })));
        for text in ["::progress", "::progress 2", "::progress NaN x", "::other", "{broken", "[1]", "7", ""] {
            assert_eq!(parse(text), OutputLine::Text(text));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_object_counts_and_a_long_one_is_noticed() {
        let read = async |output: String| {
            let report = nothing_reported();
            let (sender, latest) = watch::channel(AttemptProgress::default());
            read_output(output.as_bytes(), String::new(), report.clone(), sender).await;
            let report = report.lock();
            (report.artifacts.clone(), report.is_too_long, latest.borrow().clone())
        };
        let (artifacts, is_too_long, latest) =
            read("{\"a\":1}\n::progress 0.1 x\n{\"a\":2}\nend\n::progress 0.2\n".to_owned()).await;
        assert_eq!((artifacts, is_too_long), (Some(json!({ "a": 2 })), false));
        assert_eq!(latest, AttemptProgress { progress: Some(0.2), message: Some("x".to_owned()) });
        let (_, is_too_long, _) = read(format!("{{\"a\":\"{}\"}}\n", "x".repeat(LINE_BYTES))).await;
        assert!(is_too_long);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_standard_error_is_bounded() {
        let report = nothing_reported();
        let long = format!("first\n{}\nlast \0 words\n\n", "e".repeat(1 << 20));
        read_errors(long.as_bytes(), String::new(), report.clone()).await;
        let report = report.lock();
        assert_eq!(report.errors.last(), Some("last \u{fffd} words"));
        assert!(report.errors.text().len() <= TAIL_BYTES + 4);
    }

    #[test]
    fn a_message_is_cut_between_letters() {
        assert_eq!(message(&"é".repeat(600)).len(), MESSAGE_BYTES);
        assert_eq!(message("\x1b[2Ja"), " [2Ja");
    }
}
