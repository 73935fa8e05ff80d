//! What a worker prints of an attempt that has ended.

use serde_json::{Value, json};
use tonic::Status;

use super::outcome::AttemptOutcome;
use super::worker::Worker;
use crate::cli::failure::error_line;
use crate::cli::json;
use crate::cli::output::Output;
use crate::cli::text::{bare, plain, say, seconds_of, stage_state};
use crate::proto::{Lease, Stage, StageState};

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct AttemptReport<'a> {
    pub lease: &'a Lease,
    /// The outcome. None: there is none, because the lease is lost.
    pub outcome: Option<&'a AttemptOutcome>,
    /// The answer of the server, with the stage as it is then. None: no outcome was sent.
    pub sent: Option<Result<Option<Stage>, Status>>,
    /// Duration of the attempt in seconds.
    pub seconds: f64,
}

/// Prints an attempt in one line: text or JSON.
pub(super) fn show(worker: &Worker, report: &AttemptReport<'_>) {
    let line = match worker.options.output {
        Output::Text => text(&worker.client.server, report),
        Output::Json => document(&worker.client.server, report).to_string(),
    };
    if tokio::task::block_in_place(|| say(line)).is_err() {
        // No one reads the output any more.
        worker.drain.cancel();
    }
}

/// The state of the stage, or what became of the outcome where that is not known.
fn state(report: &AttemptReport<'_>) -> &'static str {
    match (&report.sent, report.outcome) {
        (Some(Ok(Some(stage))), Some(AttemptOutcome::Released)) if stage.state() == StageState::Ready => "RELEASED",
        (Some(Ok(Some(stage))), _) => stage_state(stage.state()),
        (Some(Ok(None)), _) => "DELETED",
        (Some(Err(_)), _) => "NOT STORED",
        (None, _) => "LOST",
    }
}

fn text(server: &str, report: &AttemptReport<'_>) -> String {
    let lease = report.lease;
    let mut line = format!("{}/{}  attempt {}  {}", lease.job_id, lease.stage_name, lease.attempt, state(report));
    line += &format!(" after {:.1} s", report.seconds);
    if let Some(AttemptOutcome::Failed(failure)) = report.outcome {
        let class = bare(failure.failure_class().as_str_name(), "FAILURE_CLASS_");
        line += &format!(": {class} {} {}", failure.code, failure.message);
    }
    if let Some(Ok(Some(stage))) = &report.sent {
        let wait = stage.failure.as_ref().and_then(|failure| failure.retry_wait);
        let wait = wait.filter(|_| stage.state() == StageState::Backoff);
        line += &wait.map(|wait| format!("; again in {:.1} s", seconds_of(wait))).unwrap_or_default();
    }
    if let Some(Err(status)) = &report.sent {
        line += &format!(": {}", error_line(server, status));
    }
    plain(&line)
}

fn document(server: &str, report: &AttemptReport<'_>) -> Value {
    let lease = report.lease;
    let mut document = json!({
        "jobId": lease.job_id,
        "stageName": lease.stage_name,
        "attempt": lease.attempt,
        "state": state(report).replace(' ', "_"),
        "seconds": report.seconds,
    });
    if let Some(AttemptOutcome::Failed(failure)) = report.outcome {
        document["failure"] = json::value(&**failure).unwrap_or_default();
    }
    if let Some(Err(status)) = &report.sent {
        document["error"] = error_line(server, status).into();
    }
    document
}
