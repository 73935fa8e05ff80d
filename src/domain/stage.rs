//! A stage of a job: its spec and its state.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::{Failure, FailureClass};
use super::id::{LeaseToken, Name, StageNo};
use super::json::Document;
use super::permit::step_back::SLACK;
use super::permit::{HeldPermit, PermitClaim};
use super::retry::{FailureCounts, RetryPolicy};
use super::time::Timestamp;

pub use super::stage_phase::StagePhase;

/// Duration of a lease when neither stage nor request gives one.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(90);
/// Longest time between two heartbeats of a lease.
pub const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Name of the queue when the stage gives none.
pub const DEFAULT_QUEUE: &str = "default";

/// Condition on the dependencies of a stage for it to become ready. Numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DependsWhen {
    /// All dependencies succeeded; otherwise the stage is skipped.
    #[default]
    AllSucceeded = 1,
    /// All dependencies ended, in any terminal state.
    AllFinished = 2,
}

/// Effect of a failed stage on its job. Numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OnFailure {
    /// The job fails too.
    #[default]
    FailJob = 1,
    /// The job continues without the stage.
    Continue = 2,
}

/// Immutable part of a stage, as it was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Name, unique in the job.
    pub name: Name,
    /// Queue from which workers lease it.
    pub queue: Name,
    /// Condition on its dependencies.
    #[serde(default)]
    pub depends_when: DependsWhen,
    /// Effect of its failure on the job.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Weight in the job's progress, 0 or more.
    pub weight: f64,
    /// Retry policy. The default policy is not stored, since most stages have it.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub retry: Arc<RetryPolicy>,
    /// Duration of a lease, which takes precedence over what the worker asks for. `None`: the worker's, or [`DEFAULT_LEASE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_duration: Option<Duration>,
    /// Longest duration of one attempt, with heartbeats or without. `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Stages with the same group key can be leased together. `None`: the stage is leased by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_key: Option<Name>,
    /// Whether its orchestrator runs it by name; such a stage is never leased to workers.
    #[serde(default)]
    pub direct: bool,
    /// Permits that each attempt needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permits: Vec<PermitClaim>,
}

fn is_usual(retry: &RetryPolicy) -> bool {
    *retry == RetryPolicy::default()
}

/// A stage of a request, with dependencies by name.
#[derive(Clone, Debug)]
pub struct NewStage {
    /// Immutable part of the stage.
    pub spec: Arc<StageSpec>,
    /// Whether the request gave no retry policy, so that the job's is used.
    pub inherits_retry: bool,
    /// Names of the stages that it waits for.
    pub depends_on: Vec<Name>,
    /// Names of blocked stages that wait for it from now on.
    pub required_by: Vec<Name>,
    /// Input for the worker. `None`: none.
    pub input: Option<Document>,
}

/// Lease of one worker on one attempt, as last read.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Worker that holds it, as the worker names itself.
    pub worker_id: Name,
    /// Duration from a heartbeat to the expiry.
    pub duration: Duration,
    /// Lower bound of the stored expiry: another server may have renewed the lease since.
    pub expires_at: Timestamp,
}

impl Lease {
    /// Interval of heartbeats that the holder is asked for.
    pub fn heartbeat_interval(&self) -> Duration {
        (self.duration / 3).min(MAX_HEARTBEAT_INTERVAL)
    }

    /// Whether the expiry lies further ahead than the duration allows, because the clock stepped back after a renewal.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        ends_too_far_ahead(self.expires_at, self.duration, now)
    }
}

/// Whether a lease expires later than one that is renewed at `now`, by more than the clocks of servers may differ.
pub(super) fn ends_too_far_ahead(expires_at: Timestamp, duration: Duration, now: Timestamp) -> bool {
    expires_at > now.after(duration).after(SLACK)
}

/// An attempt that is running.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Lease of the worker. `None`: an orchestrator runs the stage itself, without a lease.
    pub lease: Option<Lease>,
    /// Time at which the attempt fails with TIMEOUT, with heartbeats or without. `None`: the stage has no timeout.
    pub deadline: Option<Timestamp>,
    /// Permits that it holds and releases when it ends.
    pub permits: Arc<[HeldPermit]>,
}

/// State of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum StageState {
    /// It waits for dependencies or for the job's start time.
    Blocked,
    /// It can be leased.
    Ready,
    /// An attempt is running.
    Running(Attempt),
    /// It waits for its next attempt.
    Backoff {
        /// Time at which it becomes ready.
        until: Timestamp,
    },
    /// Its last attempt was completed.
    Succeeded,
    /// Its last attempt failed and is not retried.
    Failed,
    /// A cancellation ended it.
    Cancelled,
    /// It never started, because a dependency did not succeed or the job ended.
    Skipped,
}

impl StageState {
    /// State without its data.
    pub fn phase(&self) -> StagePhase {
        match self {
            Self::Blocked => StagePhase::Blocked,
            Self::Ready => StagePhase::Ready,
            Self::Running(_) => StagePhase::Running,
            Self::Backoff { .. } => StagePhase::Backoff,
            Self::Succeeded => StagePhase::Succeeded,
            Self::Failed => StagePhase::Failed,
            Self::Cancelled => StagePhase::Cancelled,
            Self::Skipped => StagePhase::Skipped,
        }
    }
}

/// The stage that added another stage to the job, and may add it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Number of the stage that added it.
    pub no: StageNo,
    /// Fencing token of the parent's attempt that last named the stage. 0: the parent's plan does not contain the stage, or not
    /// yet in this run.
    pub fencing_token: i64,
}

/// A stage with its state.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Number of the stage in the job.
    pub no: StageNo,
    /// Immutable part; replaced only when the parent adds the stage again.
    pub spec: Arc<StageSpec>,
    /// Stage that added it. `None`: it was submitted with the job.
    pub parent: Option<Parent>,
    /// For a stage with a parent: stages that wait for it because its `required_by` named them.
    pub required_by: Arc<[StageNo]>,
    /// For a stage with a parent: digest of what it was added as, to detect that the same is added again.
    pub plan_digest: Option<Uuid>,
    /// Stages that it waits for.
    pub depends_on: Arc<[StageNo]>,
    /// Number of dependencies that have not ended, plus one if the parent's plan does not contain the stage. Derived.
    pub pending: u32,
    /// State of the stage.
    pub state: StageState,
    /// Version; grows by one with each revision of the job that changes the stage.
    pub version: i64,
    /// Revision of the job at the last change of the stage.
    pub changed_revision: i64,
    /// Attempts started in this run; a released attempt is not counted.
    pub attempt: u32,
    /// Failed attempts of this run, by class.
    pub failures: FailureCounts,
    /// Newest fencing token over all runs.
    pub fencing_token: i64,
    /// Secret of the newest lease token. `None`: no token is valid any more.
    pub token_secret: Option<Uuid>,
    /// Digest of the request that completed or finally failed the stage, to detect its repeat.
    pub outcome_digest: Option<Uuid>,
    /// Progress, 0 to 1; never decreases within an attempt.
    pub progress: f64,
    /// Last message of the worker.
    pub message: Option<Name>,
    /// Last failure of an attempt.
    pub failure: Option<Arc<Failure>>,
    /// Start of the last attempt.
    pub start_time: Option<Timestamp>,
    /// Time at which the stage ended.
    pub end_time: Option<Timestamp>,
}

impl Stage {
    /// Makes a blocked stage; its fencing tokens start above `fencing_floor`.
    pub fn new(no: StageNo, spec: Arc<StageSpec>, depends_on: Arc<[StageNo]>, fencing_floor: i64) -> Self {
        Self {
            no,
            spec,
            parent: None,
            required_by: Arc::default(),
            plan_digest: None,
            depends_on,
            pending: 0,
            state: StageState::Blocked,
            version: 0,
            changed_revision: 0,
            attempt: 0,
            failures: FailureCounts::default(),
            fencing_token: fencing_floor,
            token_secret: None,
            outcome_digest: None,
            progress: 0.0,
            message: None,
            failure: None,
            start_time: None,
            end_time: None,
        }
    }

    /// State without its data.
    pub fn phase(&self) -> StagePhase {
        self.state.phase()
    }

    /// Whether the parent's plan does not contain it: the parent ended without naming it, or runs again and has not named it yet.
    pub fn is_unplanned(&self) -> bool {
        self.parent.is_some_and(|parent| parent.fencing_token == 0)
    }

    /// Whether its parent withdrew it before it started: it is SKIPPED, and its dependents ignore it.
    pub fn is_withdrawn(&self) -> bool {
        self.phase() == StagePhase::Skipped && self.is_unplanned()
    }

    /// Whether it failed, was cancelled or was skipped. False for a withdrawn stage.
    pub fn ended_unsuccessfully(&self) -> bool {
        let badly = matches!(self.phase(), StagePhase::Failed | StagePhase::Cancelled | StagePhase::Skipped);
        badly && !self.is_withdrawn()
    }

    /// Whether it has not ended and no attempt of it was started in this run.
    pub fn is_unstarted(&self) -> bool {
        self.attempt == 0 && matches!(self.phase(), StagePhase::Blocked | StagePhase::Ready)
    }

    /// Resets it to the state before its first attempt. Version, fencing token and plan are kept, since they count over all runs.
    pub fn start_over(&mut self) {
        self.state = StageState::Blocked;
        self.attempt = 0;
        self.failures = FailureCounts::default();
        self.token_secret = None;
        self.outcome_digest = None;
        self.progress = 0.0;
        self.message = None;
        self.failure = None;
        self.start_time = None;
        self.end_time = None;
    }

    /// Lease of the running attempt. `None`: there is no attempt, or it has no lease.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            StageState::Running(attempt) => attempt.lease.as_ref(),
            StageState::Blocked
            | StageState::Ready
            | StageState::Backoff { .. }
            | StageState::Succeeded
            | StageState::Failed
            | StageState::Cancelled
            | StageState::Skipped => None,
        }
    }

    /// Permits of the running attempt.
    pub fn permits(&self) -> &[HeldPermit] {
        match &self.state {
            StageState::Running(attempt) => &attempt.permits,
            StageState::Blocked
            | StageState::Ready
            | StageState::Backoff { .. }
            | StageState::Succeeded
            | StageState::Failed
            | StageState::Cancelled
            | StageState::Skipped => &[],
        }
    }

    /// Next timer of the stage: the end of its backoff or the deadline of its attempt.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        match &self.state {
            StageState::Running(attempt) => attempt.deadline,
            StageState::Backoff { until } => Some(*until),
            StageState::Blocked
            | StageState::Ready
            | StageState::Succeeded
            | StageState::Failed
            | StageState::Cancelled
            | StageState::Skipped => None,
        }
    }

    /// Attempts that the policy allows in this run, at least as many as were started.
    pub fn max_attempts(&self) -> u32 {
        self.spec.retry.max_attempts(&self.failures).max(self.attempt)
    }

    /// Whether its last attempt lost its lease. Such a stage is leased alone, since it may be what crashed the worker.
    pub fn is_suspect(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.report.class == FailureClass::LeaseExpired)
    }

    /// Progress that counts for the job, 0 to 1: 1 for a stage that ended.
    pub fn share(&self) -> f64 {
        if self.phase().is_terminal() { 1.0 } else { self.progress }
    }

    /// Whether the token is the newest that was granted and is still valid.
    pub fn is_newest(&self, token: &LeaseToken) -> bool {
        self.fencing_token == token.fencing_token && self.token_secret == Some(token.secret)
    }

    /// Lease token of the newest attempt. `None`: no token is valid.
    pub fn token(&self, job_uid: Uuid) -> Option<LeaseToken> {
        let secret = self.token_secret?;
        Some(LeaseToken { job_uid, stage_no: self.no, fencing_token: self.fencing_token, secret })
    }
}
