//! Steps of a watched job for the wire, encoded once for all who get them.

use bytes::Bytes;
use prost::Message as _;

use super::failure::{self, count};
use super::{event, job, stage, time};
use crate::domain::event::{JobEvent, StageChange};
use crate::domain::job::Job;
use crate::domain::stage::StagePhase;
use crate::error::Result;
use crate::feed::job::reads::JobSnapshot;
use crate::feed::job::step::JobStep;
use crate::proto;
use crate::rpc::limits::REPLY_BYTES;
use crate::rpc::page::Budget;

/// The step as the bytes of a [`proto::JobChange`].
pub fn change(step: &JobStep) -> Result<Bytes> {
    step.encoded.get(|| Ok(message(step)?.encode_to_vec().into()))
}

/// The snapshot as the bytes of a [`proto::Job`].
pub fn snapshot(snapshot: &JobSnapshot) -> Result<Bytes> {
    snapshot.encoded.get(|| Ok(job::job(&snapshot.job, &snapshot.documents)?.encode_to_vec().into()))
}

fn message(step: &JobStep) -> Result<proto::JobChange> {
    let (job, event) = (&*step.job, step.event.as_deref());
    let mut change = proto::JobChange {
        job_id: job.meta.job_id.to_string(),
        version: step.revision,
        previous_version: step.previous,
        state: step.phase() as i32,
        event_type: event.map_or(0, |event| event::event_type(event.kind) as i32),
        change_time: Some(time::timestamp(step.time)),
        ..Default::default()
    };
    let mut budget = Budget::new(REPLY_BYTES);
    let mut add = |stage: proto::Stage| {
        let fits = budget.takes(&stage);
        if fits {
            change.stages.push(stage);
        }
        change.stages_truncated |= !fits;
        fits
    };
    match (&step.stages, event) {
        (Some(changed), _) => {
            for stage in changed.iter().filter_map(|no| job.stages.get(*no)) {
                if !add(stage::stage(job, stage, None, None)?) {
                    break;
                }
            }
            change.progress = job.progress;
            change.run = job.run;
            change.failure = failure::optional(job.failure.as_deref())?;
            change.stage_counts = Some(job::stage_counts(job));
        }
        (None, Some(event)) => {
            for changed in &event.stages {
                if !add(of_history(job, event, changed)?) {
                    break;
                }
            }
            change.progress = event.progress.unwrap_or_default();
            change.run = event.run;
            // What the job says of its failure later, it said from then on.
            let has_failed = job.failure.as_ref().filter(|failure| failure.failure_time <= event.event_time);
            change.failure = failure::optional(has_failed.map(|failure| &**failure).filter(|_| job.run == event.run))?;
        }
        (None, None) => {}
    }
    Ok(change)
}

/// A stage as it was at an event, as far as history keeps it; what never changes of it is taken from the job.
fn of_history(job: &Job, event: &JobEvent, changed: &StageChange) -> Result<proto::Stage> {
    let mut message = match job.stages.get(changed.stage_no) {
        Some(stage) => stage::stage(job, stage, None, None)?,
        None => proto::Stage { name: changed.stage_name.to_string(), ..Default::default() },
    };
    let lease = changed.fencing_token.zip(changed.worker_id.as_ref());
    message.state = changed.phase as i32;
    message.attempt = count(changed.attempt);
    // It may be of an earlier run, in which other classes failed.
    message.max_attempts = message.max_attempts.max(message.attempt);
    message.version = changed.version;
    message.progress = changed.progress;
    message.message = changed.message.as_deref().unwrap_or_default().to_owned();
    message.failure = failure::optional(changed.failure.as_deref())?;
    message.next_attempt_time = changed.until.map(time::timestamp);
    message.start_time = (changed.phase == StagePhase::Running).then(|| time::timestamp(event.event_time));
    message.end_time = changed.phase.is_terminal().then(|| time::timestamp(event.event_time));
    message.lease = lease.map(|(fencing_token, worker_id)| proto::StageLease {
        worker_id: worker_id.to_string(),
        expire_time: None,
        fencing_token,
    });
    Ok(message)
}
