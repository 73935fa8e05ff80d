//! Sends the outcome of an attempt, past outages of the server.

use std::time::Duration;

use prost_types::Struct;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use super::worker::Worker;
use crate::cli::failure::error_line;
use crate::cli::retry::RetrySchedule;
use crate::cli::text::note;
use crate::proto::{self, CompleteStageRequest, FailStageRequest, Failure, FailureClass, Stage, StageTarget};

/// How long an outcome that cannot be sent is sent again.
const OUTAGE: Duration = Duration::from_secs(300);
/// The same once the worker was asked to stop at once.
const STOPPING: Duration = Duration::from_secs(5);
/// Deadline of one call.
const CALL: Duration = Duration::from_secs(15);

/// How an attempt ended, for the server.
#[derive(Clone, Debug)]
pub(super) enum AttemptOutcome {
    /// It succeeded, with these artifacts and a last message.
    Completed(Option<Struct>, Option<String>),
    /// It failed.
    Failed(Box<Failure>),
    /// It ended without an outcome.
    Released,
}

/// Sends an outcome until the server has answered. Returns the stage after it; None: the job was deleted meanwhile.
///
/// # Errors
/// The refusal, or the last error of an outage that lasted too long.
pub(super) async fn send(
    worker: &Worker,
    lease_token: &str,
    outcome: &AttemptOutcome,
) -> Result<Option<Stage>, Status> {
    match repeat(worker, lease_token, outcome).await {
        // What it has produced cannot be stored, and never will be.
        Err(status) if status.code() == Code::InvalidArgument && matches!(outcome, AttemptOutcome::Completed(..)) => {
            let failure = Failure {
                failure_class: FailureClass::ClientError.into(),
                code: "artifacts".to_owned(),
                message: status.message().to_owned(),
                ..Default::default()
            };
            repeat(worker, lease_token, &AttemptOutcome::Failed(Box::new(failure))).await
        }
        answer => answer,
    }
}

/// Gives a stage back that was not started.
pub(super) async fn release(worker: &Worker, lease_token: &str) {
    if let Err(status) = send(worker, lease_token, &AttemptOutcome::Released).await {
        note(format!("warning: a stage was not given back: {}", error_line(&worker.client.server, &status)));
    }
}

async fn repeat(worker: &Worker, lease_token: &str, outcome: &AttemptOutcome) -> Result<Option<Stage>, Status> {
    let request_id = Uuid::new_v4().to_string();
    let mut is_stopping = worker.stop_now.is_cancelled();
    let mut retry = RetrySchedule::within(if is_stopping { STOPPING } else { OUTAGE });
    let mut is_warned = false;
    loop {
        let status = match call(worker, lease_token, outcome, &request_id).await {
            Ok(stage) => return Ok(stage),
            Err(status) => status,
        };
        let Some(wait) = retry.after(&status) else { return Err(status) };
        if !std::mem::replace(&mut is_warned, true) {
            note(format!("{}; the outcome is sent again", error_line(&worker.client.server, &status)));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = worker.stop_now.cancelled(), if !is_stopping => {
                (is_stopping, retry) = (true, RetrySchedule::within(STOPPING));
            }
        }
    }
}

async fn call(
    worker: &Worker,
    lease_token: &str,
    outcome: &AttemptOutcome,
    request_id: &str,
) -> Result<Option<Stage>, Status> {
    let (client, mut workers) = (&worker.client, worker.client.workers());
    let (target, request_id) = (Some(StageTarget::leased(lease_token)), Some(request_id.to_owned()));
    match outcome.clone() {
        AttemptOutcome::Completed(artifacts, message) => {
            let request = CompleteStageRequest { target, artifacts, message, request_id, ..Default::default() };
            let answer = workers.complete_stage(client.ask_within(CALL, request)).await;
            answer.map(Response::into_inner).map(|answer| answer.stage)
        }
        AttemptOutcome::Failed(failure) => {
            let request = FailStageRequest { target, failure: Some(*failure), request_id, ..Default::default() };
            let answer = workers.fail_stage(client.ask_within(CALL, request)).await;
            answer.map(Response::into_inner).map(|answer| answer.stage)
        }
        AttemptOutcome::Released => {
            let request = proto::ReleaseStageRequest { target, request_id, ..Default::default() };
            let answer = workers.release_stage(client.ask_within(CALL, request)).await;
            answer.map(Response::into_inner).map(|answer| answer.stage)
        }
    }
}
