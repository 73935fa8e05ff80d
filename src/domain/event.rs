//! History of a job: one event for each revision in which a state changed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::id::{Name, StageNo};
use super::job::JobPhase;
use super::stage::StagePhase;
use super::time::Timestamp;

/// Kind of an event. Numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the proto documents each")]
pub enum EventKind {
    JobSubmitted = 1,
    JobUpdated = 2,
    JobPaused = 3,
    JobResumed = 4,
    JobCancelRequested = 5,
    JobRetried = 6,
    JobStarted = 7,
    JobTimedOut = 8,
    GraceEnded = 9,
    StageStarted = 10,
    StageCompleted = 11,
    StageFailed = 12,
    StageReleased = 13,
    StagesAdded = 14,
    LeaseExpired = 15,
    StageTimedOut = 16,
    BackoffEnded = 17,
}

impl EventKind {
    /// All, in the order of their numbers.
    pub const ALL: [EventKind; 17] = [
        Self::JobSubmitted,
        Self::JobUpdated,
        Self::JobPaused,
        Self::JobResumed,
        Self::JobCancelRequested,
        Self::JobRetried,
        Self::JobStarted,
        Self::JobTimedOut,
        Self::GraceEnded,
        Self::StageStarted,
        Self::StageCompleted,
        Self::StageFailed,
        Self::StageReleased,
        Self::StagesAdded,
        Self::LeaseExpired,
        Self::StageTimedOut,
        Self::BackoffEnded,
    ];

    /// The kind of a number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i32 == number)
    }
}

/// A stage that entered another state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageChange {
    /// Number of the stage in the job.
    pub stage_no: StageNo,
    /// Name of the stage.
    pub stage_name: Name,
    /// State that the stage entered.
    pub phase: StagePhase,
    /// Attempt of the stage, from 1.
    pub attempt: u32,
    /// Version of the stage; 0 in events of servers that did not store it yet.
    #[serde(default)]
    pub version: i64,
    /// Progress of the stage, 0 to 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub progress: f64,
    /// Last message of the worker. `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Name>,
    /// End of the backoff. `None`: the stage is not in backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Fencing token of the attempt. `None`: no worker holds the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<i64>,
    /// Worker that was granted the lease or lost it. `None`: there was no lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<Name>,
    /// Failure that this revision recorded. `None`: the stage did not fail in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Arc<Failure>>,
}

fn is_zero(progress: &f64) -> bool {
    *progress == 0.0
}

/// Event of one revision.
#[derive(Clone, Debug)]
pub struct JobEvent {
    /// Revision of the job after the event.
    pub revision: i64,
    /// Run of the job, from 1.
    pub run: i32,
    /// Time of the event by the database's clock.
    pub event_time: Timestamp,
    /// Kind of the event.
    pub kind: EventKind,
    /// State of the job after the event.
    pub job_phase: JobPhase,
    /// Progress of the job after the event, 0 to 1. `None`: a server wrote it that did not store progress yet.
    pub progress: Option<f64>,
    /// Worker that caused the event. `None`: no worker did.
    pub worker_id: Option<Name>,
    /// Stages that changed their state. Empty for a submission, in which all stages are new.
    pub stages: Vec<StageChange>,
}
