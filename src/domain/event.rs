//! What history keeps of each revision in which a state changed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::id::{Name, StageNo};
use super::job::JobPhase;
use super::stage::StagePhase;
use super::time::Timestamp;

/// What happened. The numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents each.
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

/// A stage that entered a state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageChange {
    /// Which stage.
    pub stage_no: StageNo,
    /// Its name.
    pub stage_name: Name,
    /// The state it entered.
    pub phase: StagePhase,
    /// Its attempt.
    pub attempt: u32,
    /// Its version; 0 in history that was written before it was kept.
    #[serde(default)]
    pub version: i64,
    /// Its progress, 0 to 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub progress: f64,
    /// The last message about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Name>,
    /// The end of its backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Its fencing token, where somebody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<i64>,
    /// Who got its lease, or had it before, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<Name>,
    /// Why, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Arc<Failure>>,
}

fn is_zero(progress: &f64) -> bool {
    *progress == 0.0
}

/// One revision of history.
#[derive(Clone, Debug)]
pub struct JobEvent {
    /// The job's revision after it.
    pub revision: i64,
    /// The job's run.
    pub run: i32,
    /// When, by the database's clock.
    pub event_time: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The job's state after it.
    pub job_phase: JobPhase,
    /// The job's progress after it, 0 to 1; unknown in history that was written before it was kept.
    pub progress: Option<f64>,
    /// The worker who caused it, where one did.
    pub worker_id: Option<Name>,
    /// The stages whose state changed; not listed for a submission, where all are new.
    pub stages: Vec<StageChange>,
}
