//! Jobs for the wire.

use prost::Message as _;

use super::failure::{self, count};
use super::{document, record, stage, time};
use crate::domain::documents::JobDocuments;
use crate::domain::job::{Job, JobState};
use crate::domain::stage::StagePhase;
use crate::error::Result;
use crate::proto;
use crate::rpc::limits::REPLY_BYTES;
use crate::rpc::page::Budget;

/// A job with its stages, up to what a reply may hold; `stages_truncated` says whether some are missing.
pub fn job(job: &Job, documents: &JobDocuments) -> Result<proto::Job> {
    let mut message = summary(job, documents)?;
    let mut budget = Budget::new(REPLY_BYTES.saturating_sub(message.encoded_len()));
    message.stages_truncated = false;
    for stage in job.stages.iter() {
        let stage = stage::stage(job, stage, documents.artifacts.get(&stage.no), None)?;
        if !budget.takes(&stage) {
            message.stages_truncated = true;
            break;
        }
        message.stages.push(stage);
    }
    Ok(message)
}

/// A job without its stages, as in lists; by design, so `stages_truncated` is set.
pub fn summary(job: &Job, documents: &JobDocuments) -> Result<proto::Job> {
    let meta = &job.meta;
    Ok(proto::Job {
        job_id: meta.job_id.to_string(),
        kind: meta.kind.to_string(),
        state: job.state.phase() as i32,
        version: job.revision,
        run: job.run,
        progress: job.progress,
        stage_counts: Some(stage_counts(job)),
        stages: Vec::new(),
        stages_truncated: true,
        labels: job.labels.as_ref().clone(),
        priority: job.priority,
        payload: document::optional_object(documents.payload.as_ref())?,
        create_time: Some(time::timestamp(meta.create_time)),
        start_time: job.start_time.map(time::timestamp),
        end_time: job.end_time.map(time::timestamp),
        result: document::optional_object(documents.result.as_ref())?,
        failure: failure::optional(job.failure.as_deref())?,
        expire_time: job.expire_time.map(time::timestamp),
        timeout: meta.timeout.map(time::duration),
        cancel_deadline_time: deadline(job.state),
        cancel_reason: job.cancel_reason.as_deref().unwrap_or_default().to_owned(),
        context: documents.context.as_deref().map(record::fields).transpose()?,
        context_versions: documents.context.as_deref().map(record::versions).unwrap_or_default(),
    })
}

/// How many stages are in each state.
pub fn stage_counts(job: &Job) -> proto::StageCounts {
    let of = |phase| count(job.tally.count(phase));
    proto::StageCounts {
        // In lists the stages themselves are not at hand.
        total: count(job.tally.total()),
        blocked: of(StagePhase::Blocked),
        ready: of(StagePhase::Ready),
        running: of(StagePhase::Running),
        backoff: of(StagePhase::Backoff),
        succeeded: of(StagePhase::Succeeded),
        failed: of(StagePhase::Failed),
        cancelled: of(StagePhase::Cancelled),
        skipped: of(StagePhase::Skipped),
    }
}

fn deadline(state: JobState) -> Option<prost_types::Timestamp> {
    match state {
        JobState::Failing { deadline } | JobState::Cancelling { deadline } => Some(time::timestamp(deadline)),
        JobState::Pending
        | JobState::Running
        | JobState::Paused { .. }
        | JobState::Succeeded
        | JobState::Failed
        | JobState::Cancelled => None,
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
