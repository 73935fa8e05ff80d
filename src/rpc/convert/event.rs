//! The history of a job for the wire.

use super::failure::{self, count};
use super::time;
use crate::domain::event::{EventKind, JobEvent, StageChange};
use crate::error::Result;
use crate::proto::{self, JobEventType};

/// An entry of the history as a message.
pub fn event(event: &JobEvent) -> Result<proto::JobEvent> {
    Ok(proto::JobEvent {
        version: event.revision,
        run: event.run,
        event_time: Some(time::timestamp(event.event_time)),
        event_type: event_type(event.kind) as i32,
        job_state: event.job_phase as i32,
        stage_changes: event.stages.iter().map(stage_change).collect::<Result<_>>()?,
        actor: actor(event),
    })
}

fn stage_change(change: &StageChange) -> Result<proto::StageChange> {
    Ok(proto::StageChange {
        stage_name: change.stage_name.to_string(),
        state: change.phase as i32,
        attempt: count(change.attempt),
        worker_id: change.worker_id.as_deref().unwrap_or_default().to_owned(),
        failure: failure::optional(change.failure.as_deref())?,
    })
}

/// What an event is called.
pub fn event_type(kind: EventKind) -> JobEventType {
    match kind {
        EventKind::JobSubmitted => JobEventType::Submitted,
        EventKind::JobUpdated => JobEventType::Updated,
        EventKind::JobPaused => JobEventType::Paused,
        EventKind::JobResumed => JobEventType::Resumed,
        EventKind::JobCancelRequested => JobEventType::CancelRequested,
        EventKind::JobRetried => JobEventType::Retried,
        EventKind::JobTimedOut => JobEventType::TimedOut,
        EventKind::GraceEnded => JobEventType::GracePeriodEnded,
        // A start time that came and a backoff that is over look the same from outside.
        EventKind::JobStarted | EventKind::BackoffEnded => JobEventType::StagesReady,
        EventKind::StageStarted => JobEventType::StageStarted,
        EventKind::StageCompleted => JobEventType::StageCompleted,
        // The failure in the stage's change says which of the two it was.
        EventKind::StageFailed | EventKind::StageTimedOut => JobEventType::StageFailed,
        EventKind::StageReleased => JobEventType::StageReleased,
        EventKind::StagesAdded => JobEventType::StagesAdded,
        EventKind::LeaseExpired => JobEventType::LeaseExpired,
    }
}

/// Who did it. What the server does by itself names a worker too, which is then the one it was done to.
fn actor(event: &JobEvent) -> String {
    match (event.kind, event.worker_id.as_deref()) {
        (
            EventKind::JobStarted
            | EventKind::JobTimedOut
            | EventKind::GraceEnded
            | EventKind::LeaseExpired
            | EventKind::StageTimedOut
            | EventKind::BackoffEnded,
            _,
        ) => "server".to_owned(),
        (
            EventKind::JobSubmitted
            | EventKind::JobUpdated
            | EventKind::JobPaused
            | EventKind::JobResumed
            | EventKind::JobCancelRequested
            | EventKind::JobRetried
            | EventKind::StageStarted
            | EventKind::StageCompleted
            | EventKind::StageFailed
            | EventKind::StageReleased
            | EventKind::StagesAdded,
            worker_id,
        ) => worker_id.map_or_else(|| "client".to_owned(), |worker_id| format!("worker:{worker_id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::JobPhase;
    use crate::domain::stage::StagePhase;
    use crate::domain::time::Timestamp;

    fn of(kind: EventKind, worker_id: Option<&str>) -> proto::JobEvent {
        let change = StageChange {
            stage_no: 0,
            stage_name: "tts".into(),
            phase: StagePhase::Running,
            attempt: 1,
            version: 2,
            progress: 0.0,
            message: None,
            until: None,
            fencing_token: None,
            worker_id: None,
            failure: None,
        };
        let worker_id = worker_id.map(Into::into);
        let (revision, run, event_time, job_phase, progress) = (2, 1, Timestamp(0), JobPhase::Running, Some(0.0));
        event(&JobEvent { revision, run, event_time, kind, job_phase, progress, worker_id, stages: vec![change] })
            .expect("valid")
    }

    #[test]
    fn every_kind_has_a_type() {
        for kind in EventKind::ALL {
            assert_ne!(of(kind, None).event_type, JobEventType::Unspecified as i32, "{kind:?}");
        }
    }

    #[test]
    fn the_actor_is_said_where_it_is_known() {
        assert_eq!(of(EventKind::StageStarted, Some("w-1")).actor, "worker:w-1");
        assert_eq!(of(EventKind::StageStarted, None).actor, "client");
        assert_eq!(of(EventKind::LeaseExpired, Some("w-1")).actor, "server");
    }
}
