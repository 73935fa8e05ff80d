//! Rows of jobs, with the stages and documents of a job that is stored in one row.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::domain::failure::Failure;
use crate::domain::id::StageNo;
use crate::domain::job::{Job, JobChanges, JobPhase, JobState};
use crate::domain::json::Document;
use crate::domain::retry::RetryPolicy;
use crate::domain::time::Timestamp;
use crate::store::commit::columns::*;
use crate::store::job::in_row;
use crate::store::pg::types::JsonText;
use crate::store::values::{FAILING, micros, owned, text};

pub(in crate::store) fn failure(failure: Option<&Arc<Failure>>) -> Option<JsonText> {
    failure.map(|failure| JsonText::of(&**failure))
}

fn state(job: &Job) -> (i16, Option<Timestamp>) {
    match job.state {
        JobState::Pending => (JobPhase::Pending as i16, None),
        JobState::Running => (JobPhase::Running as i16, None),
        JobState::Paused { .. } => (JobPhase::Paused as i16, None),
        JobState::Failing { deadline } => (FAILING, Some(deadline)),
        JobState::Cancelling { deadline } => (JobPhase::Cancelling as i16, Some(deadline)),
        JobState::Succeeded => (JobPhase::Succeeded as i16, None),
        JobState::Failed => (JobPhase::Failed as i16, None),
        JobState::Cancelled => (JobPhase::Cancelled as i16, None),
    }
}

pub(in crate::store) fn timeout_left_us(job: &Job) -> Option<i64> {
    match job.state {
        JobState::Paused { timeout_left } => timeout_left.map(micros),
        _ => None,
    }
}

/// The value that removes a document.
const NONE: &str = "";

/// A document that is set, or the value that removes it.
pub(in crate::store) fn set_or_gone(document: Option<&Document>) -> JsonText {
    document.map_or_else(|| JsonText(NONE.into()), text)
}

/// Documents of stages as a JSON object of stage number → document. Null removes the document. None: no document changes.
fn by_stage(documents: &BTreeMap<StageNo, Option<Document>>) -> Option<JsonText> {
    if documents.is_empty() {
        return None;
    }
    let mut json = String::from("{");
    for (no, document) in documents {
        let comma = if json.len() > 1 { "," } else { "" };
        let _ = write!(json, "{comma}\"{no}\":{}", document.as_ref().map_or("null", Document::as_str));
    }
    json.push('}');
    Some(JsonText(json.into()))
}

fn labels(job: &Job) -> JsonText {
    JsonText::of(&*job.labels)
}

pub(in crate::store) fn new_job(c: i32, job: &Job, changes: &JobChanges) -> NewJobRow {
    let (state, grace_until) = state(job);
    // Columns of a job that is stored in one row; other jobs have rows for their stages and documents.
    let own = in_row::is_in_row(job).then_some((job, changes));
    NewJobRow {
        c,
        namespace_id: job.key.namespace.0,
        job_uid: job.key.uid,
        job_id: owned(&job.meta.job_id),
        kind: owned(&job.meta.kind),
        revision: job.revision,
        run: job.run,
        state,
        priority: job.priority,
        progress: job.progress,
        labels: (!job.labels.is_empty()).then(|| labels(job)),
        failure: failure(job.failure.as_ref()),
        cancel_reason: job.cancel_reason.as_ref().map(owned),
        grace_until,
        opens_at: job.opens_at,
        times_out_at: job.times_out_at,
        wakes_at: in_row::wakes_at(job),
        create_time: job.meta.create_time,
        delayed_until: job.meta.delayed_until,
        start_time: job.start_time,
        end_time: job.end_time,
        expire_time: job.expire_time,
        timeout_us: job.meta.timeout.map(micros),
        retention_us: micros(job.meta.retention),
        retry: (*job.meta.retry != RetryPolicy::default()).then(|| JsonText::of(&job.meta.retry)),
        timeout_left_us: timeout_left_us(job),
        specs: own.map(|(job, _)| in_row::specs(job)),
        stages: own.map(|(job, _)| in_row::stages(job)),
        payload: own.and_then(|(_, changes)| changes.payload.as_ref()).map(text),
        result: own.and_then(|(_, changes)| changes.result.as_ref()?.as_ref()).map(text),
        inputs: own.and_then(|(_, changes)| by_stage(&changes.inputs)),
        artifacts: own.and_then(|(_, changes)| by_stage(&changes.artifacts)),
    }
}

pub(in crate::store) fn changed_job(c: i32, base: &Job, job: &Job, changes: &JobChanges) -> ChangedJob {
    let (state, grace_until) = state(job);
    let own = in_row::is_in_row(job).then_some((job, changes));
    let is_respecified =
        base.stages.len() != job.stages.len() || !changes.rewired.is_empty() || !changes.renewed_specs.is_empty();
    ChangedJob {
        c,
        namespace_id: job.key.namespace.0,
        job_uid: job.key.uid,
        revision: job.revision,
        run: job.run,
        state,
        priority: job.priority,
        progress: job.progress,
        labels: (base.labels != job.labels).then(|| labels(job)),
        failure: failure(job.failure.as_ref()),
        cancel_reason: job.cancel_reason.as_ref().map(owned),
        grace_until,
        opens_at: job.opens_at,
        times_out_at: job.times_out_at,
        wakes_at: in_row::wakes_at(job),
        start_time: job.start_time,
        end_time: job.end_time,
        expire_time: job.expire_time,
        timeout_left_us: timeout_left_us(job),
        stages: own.map(|(job, _)| in_row::stages(job)),
        specs: own.filter(|_| is_respecified).map(|(job, _)| in_row::specs(job)),
        result: own.and_then(|(_, changes)| changes.result.as_ref()).map(|result| set_or_gone(result.as_ref())),
        inputs: own.and_then(|(_, changes)| by_stage(&changes.inputs)),
        artifacts: own.and_then(|(_, changes)| by_stage(&changes.artifacts)),
    }
}
