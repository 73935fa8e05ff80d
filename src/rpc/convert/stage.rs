//! Stages for the wire.

use super::failure::{self, count};
use super::time;
use super::{document, permit};
use crate::domain::id::StageNo;
use crate::domain::job::Job;
use crate::domain::json::Document;
use crate::domain::stage::{Stage, StageState};
use crate::error::Result;
use crate::proto;

/// One stage of a job; artifacts and input as far as they were loaded and are wanted.
pub fn stage(job: &Job, stage: &Stage, artifacts: Option<&Document>, input: Option<&Document>) -> Result<proto::Stage> {
    let spec = &stage.spec;
    Ok(proto::Stage {
        name: spec.name.to_string(),
        queue: spec.queue.to_string(),
        state: stage.phase() as i32,
        version: stage.version,
        attempt: count(stage.attempt),
        max_attempts: count(stage.max_attempts()),
        progress: stage.progress,
        message: stage.message.as_deref().unwrap_or_default().to_owned(),
        lease: lease(job, stage),
        artifacts: document::optional_object(artifacts)?,
        depends_on: stage.depends_on.iter().map(|&no| name(job, no)).collect(),
        failure: failure::optional(stage.failure.as_deref())?,
        next_attempt_time: next_attempt_time(job, stage),
        start_time: stage.start_time.map(time::timestamp),
        end_time: stage.end_time.map(time::timestamp),
        weight: spec.weight,
        group_key: spec.group_key.as_deref().unwrap_or_default().to_owned(),
        direct: spec.direct,
        permits: permit::claims_to_proto(&spec.permits),
        on_failure: spec.on_failure as i32,
        depends_when: spec.depends_when as i32,
        input: document::optional_object(input)?,
        added_by: stage.parent.map(|parent| name(job, parent.no)).unwrap_or_default(),
    })
}

fn name(job: &Job, no: StageNo) -> String {
    job.stages[no].spec.name.to_string()
}

fn lease(job: &Job, stage: &Stage) -> Option<proto::StageLease> {
    stage.lease().map(|lease| proto::StageLease {
        worker_id: lease.worker_id.to_string(),
        expire_time: Some(time::timestamp(job.lease_end(lease))),
        fencing_token: stage.fencing_token,
    })
}

fn next_attempt_time(job: &Job, stage: &Stage) -> Option<prost_types::Timestamp> {
    let at = match stage.state {
        StageState::Backoff { until } => Some(until),
        // What still waits for other stages waits for no time.
        StageState::Blocked if stage.pending == 0 => job.opens_at,
        StageState::Blocked
        | StageState::Ready
        | StageState::Running(_)
        | StageState::Succeeded
        | StageState::Failed
        | StageState::Cancelled
        | StageState::Skipped => None,
    };
    at.map(time::timestamp)
}
