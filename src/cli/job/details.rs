//! What workers reported beside the message of a failure: the traceback, and other details.

use serde_json::Value;

use super::read::failure_text;
use crate::cli::json;
use crate::cli::text::{count, plain};
use crate::proto::{self, StageState};

/// The key under which clients report where in their code a failure arose.
const TRACEBACK: &str = "traceback";
/// The end of a text that is shown, in bytes; `--output json` shows all of it.
const SHOWN_BYTES: usize = 4 * 1024;
/// Failures that are shown.
const SHOWN_FAILURES: usize = 10;

/// The failures of a job that have details, each with a head; nothing if there are none.
pub fn lines(job: &proto::Job) -> Vec<String> {
    let failures = failures(job);
    let mut lines: Vec<_> = failures.iter().take(SHOWN_FAILURES).flat_map(|failure| one(failure)).collect();
    if failures.len() > SHOWN_FAILURES {
        let more = count(failures.len() - SHOWN_FAILURES, "more failure");
        lines.extend([String::new(), format!("{more} with details: --output json shows them")]);
    }
    lines
}

/// Those of stages that have not succeeded since, and that of the job unless it is one of them.
fn failures(job: &proto::Job) -> Vec<&proto::Failure> {
    let open = job.stages.iter().filter(|stage| stage.state() != StageState::Succeeded);
    let mut failures: Vec<_> = open.filter_map(|stage| stage.failure.as_ref()).collect();
    let is_shown = |failure: &proto::Failure| failures.iter().any(|other| other.stage_name == failure.stage_name);
    if let Some(failure) = job.failure.as_ref().filter(|failure| !is_shown(failure)) {
        failures.insert(0, failure);
    }
    failures.retain(|failure| failure.details.as_ref().is_some_and(|details| !details.fields.is_empty()));
    failures
}

fn one(failure: &proto::Failure) -> Vec<String> {
    let shown = json::value(failure).unwrap_or_default();
    let Some(Value::Object(mut details)) = shown.get("details").cloned() else { return Vec::new() };
    let attempt = if failure.attempt > 0 {
        format!(" (attempt {} of {})", failure.attempt, failure.max_attempts)
    } else {
        String::new()
    };
    let mut lines = vec![String::new(), plain(&format!("{}{attempt}", failure_text(failure)))];
    let trace = details.get(TRACEBACK).and_then(Value::as_str).map(str::to_owned);
    if trace.is_some() {
        details.remove(TRACEBACK);
    }
    if !details.is_empty() {
        lines.push(format!("  details  {}", plain(beginning(&Value::Object(details).to_string()))));
    }
    lines.extend(
        trace.iter().flat_map(|trace| end(trace)).map(|line| format!("  {}", plain(line)).trim_end().to_owned()),
    );
    lines
}

/// At most the first [`SHOWN_BYTES`] of a text.
fn beginning(text: &str) -> &str {
    let end = (0..=SHOWN_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The lines in the last [`SHOWN_BYTES`] of a text.
fn end(text: &str) -> impl Iterator<Item = &str> {
    let start =
        (text.len().saturating_sub(SHOWN_BYTES)..).find(|start| text.is_char_boundary(*start)).unwrap_or_default();
    // The first line is only a part of one then.
    (start > 0).then_some("…").into_iter().chain(text[start..].lines().skip(usize::from(start > 0)))
}

#[cfg(test)]
mod tests {
    use prost_types::value::Kind;

    use super::*;
    use crate::proto::{Failure, FailureClass, Job, Stage};

    fn failed(stage_name: &str, details: &[(&str, &str)]) -> Failure {
        let value = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = details.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
        Failure {
            failure_class: FailureClass::Internal.into(),
            code: "KeyError".to_owned(),
            message: "KeyError: 'url'".to_owned(),
            stage_name: stage_name.to_owned(),
            details: Some(prost_types::Struct { fields }),
            attempt: 3,
            max_attempts: 3,
            ..Default::default()
        }
    }

    fn stage(failure: Failure, state: StageState) -> Stage {
        let name = failure.stage_name.clone();
        Stage { name, failure: Some(failure), state: state.into(), ..Default::default() }
    }

    #[test]
    fn a_traceback_is_shown_line_by_line_and_cannot_steer_the_terminal() {
        let failure = failed("voice", &[("traceback", "Traceback:\n  File \"a.py\"\n\x1b[2JKeyError"), ("limit", "3")]);
        let job = Job {
            failure: Some(failure.clone()),
            stages: vec![stage(failure, StageState::Failed)],
            ..Default::default()
        };
        let expected = [
            "",
            "voice: INTERNAL KeyError KeyError: 'url' (attempt 3 of 3)",
            r#"  details  {"limit":"3"}"#,
            "  Traceback:",
            "    File \"a.py\"",
            "   [2JKeyError",
        ];
        assert_eq!(lines(&job), expected);
    }

    #[test]
    fn a_failure_is_shown_that_no_stage_shows_and_none_that_is_over_or_says_nothing() {
        let trace = [("traceback", "here")];
        let over = stage(failed("over", &trace), StageState::Succeeded);
        let silent = stage(failed("silent", &[]), StageState::Failed);
        let job = Job { failure: Some(failed("cut", &trace)), stages: vec![over, silent], ..Default::default() };
        assert_eq!(lines(&job), ["", "cut: INTERNAL KeyError KeyError: 'url' (attempt 3 of 3)", "  here"]);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let long = format!("{}\nthe end", "é\n".repeat(10_000));
        let stages: Vec<_> = (0..12)
            .map(|i| stage(failed(&format!("s{i}"), &[("traceback", &long), ("note", &long)]), StageState::Backoff))
            .collect();
        let lines = lines(&Job { stages, ..Default::default() });
        assert_eq!(lines.last().map(String::as_str), Some("2 more failures with details: --output json shows them"));
        assert_eq!(lines.iter().filter(|line| *line == "  the end").count(), 10);
        assert!(lines.iter().map(String::len).sum::<usize>() < 200_000);
        assert_eq!(lines[3], "  …");
    }
}
