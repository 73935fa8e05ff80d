//! One stage of a job: what it is, and where it stands.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::{Failure, FailureClass};
use super::id::{LeaseToken, Name, StageNo};
use super::json::Document;
use super::permit::step_back::SLACK;
use super::permit::{Claim, HeldPermit};
use super::retry::{FailureCounts, RetryPolicy};
use super::time::Timestamp;

pub use super::stage_phase::StagePhase;

/// The lease when neither stage nor request names one.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(90);
/// The longest time between two heartbeats of a lease.
pub const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// The name of the queue when none is given.
pub const DEFAULT_QUEUE: &str = "default";

/// What the end of dependencies must be like for a stage to become ready. Numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DependsWhen {
    /// All succeeded; otherwise the stage is skipped.
    #[default]
    AllSucceeded = 1,
    /// All ended, however.
    AllFinished = 2,
}

/// What the failure of a stage means for its job. Numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OnFailure {
    /// The job fails.
    #[default]
    FailJob = 1,
    /// The job goes on without it.
    Continue = 2,
}

/// What was submitted of a stage and does not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    /// Unique in the job.
    pub name: Name,
    /// Which workers it is for.
    pub queue: Name,
    /// What its dependencies must come to.
    #[serde(default)]
    pub depends_when: DependsWhen,
    /// What its failure comes to.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Its share of the job's progress, 0 or more.
    pub weight: f64,
    /// When it is tried again. The usual policy is not stored, as most stages have it.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub retry: Arc<RetryPolicy>,
    /// How long a lease lasts; beats what the worker asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_duration: Option<Duration>,
    /// How long one attempt may take in all, heartbeats or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Stages with one group key can be leased together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_key: Option<Name>,
    /// Run by its orchestrator by name, never leased to workers.
    #[serde(default)]
    pub direct: bool,
    /// What each of its attempts needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permits: Vec<Claim>,
}

fn is_usual(retry: &RetryPolicy) -> bool {
    *retry == RetryPolicy::default()
}

/// A stage as it arrives, with dependencies by name.
#[derive(Clone, Debug)]
pub struct NewStage {
    /// What does not change.
    pub spec: Arc<StageSpec>,
    /// Whether it came without a retry policy of its own and takes its job's.
    pub inherits_retry: bool,
    /// Names of stages it waits for.
    pub depends_on: Vec<Name>,
    /// Names of blocked stages that shall wait for it.
    pub required_by: Vec<Name>,
    /// The worker's input.
    pub input: Option<Document>,
}

/// The right of one worker to one attempt, as far as the cache knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Who has it, by its own word.
    pub worker_id: Name,
    /// How long a heartbeat extends it.
    pub duration: Duration,
    /// A lower bound of the stored expiry: another server may have renewed it since.
    pub expires_at: Timestamp,
}

impl Lease {
    /// How often its holder is asked to send a heartbeat.
    pub fn heartbeat_interval(&self) -> Duration {
        (self.duration / 3).min(MAX_HEARTBEAT_INTERVAL)
    }

    /// Whether it ends further ahead than it can: the clock stepped back since it was renewed.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        ends_too_far_ahead(self.expires_at, self.duration, now)
    }
}

/// Whether a lease ends further ahead than one that is renewed now, by more than clocks may differ.
pub(super) fn ends_too_far_ahead(expires_at: Timestamp, duration: Duration, now: Timestamp) -> bool {
    expires_at > now.after(duration).after(SLACK)
}

/// A running attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Present where a worker holds it; an orchestrator that runs its own stage may do without.
    pub lease: Option<Lease>,
    /// When it is revoked, heartbeats or not.
    pub deadline: Option<Timestamp>,
    /// What it holds, and gives back when it ends.
    pub permits: Arc<[HeldPermit]>,
}

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StageState {
    /// Waits for dependencies or for the job's start time.
    Blocked,
    /// Can be leased.
    Ready,
    /// An attempt is under way.
    Running(Attempt),
    /// Waits for its next attempt.
    Backoff {
        /// When it becomes ready.
        until: Timestamp,
    },
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
    /// Ended by a cancellation.
    Cancelled,
    /// Never started, because it no longer made sense.
    Skipped,
}

impl StageState {
    /// The state without what it carries.
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

/// The stage that added another one to the job, and may add it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The number of the stage that added it.
    pub no: StageNo,
    /// The parent's fencing token in the attempt that last named the stage; 0: its plan does not have the stage, or not yet in this run.
    pub fencing_token: i64,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its position in the job.
    pub no: StageNo,
    /// What was submitted; changes only where its parent adds the stage again.
    pub spec: Arc<StageSpec>,
    /// The stage that added it; `None`: it was submitted with the job.
    pub parent: Option<Parent>,
    /// Of a stage with a parent, those that wait for it because it said so.
    pub required_by: Arc<[StageNo]>,
    /// Of a stage with a parent, a digest of what it was added as, to recognise the same again.
    pub plan_digest: Option<Uuid>,
    /// The stages it waits for.
    pub depends_on: Arc<[StageNo]>,
    /// How many of those have not ended, and one more if its parent's plan does not have it; derived.
    pub pending: u32,
    /// Where it stands.
    pub state: StageState,
    /// Grows by one with each change.
    pub version: i64,
    /// The job's revision at its last change.
    pub changed_revision: i64,
    /// Attempts begun in this run; a released one is given back.
    pub attempt: u32,
    /// Attempts of this run that failed.
    pub failures: FailureCounts,
    /// The newest fencing token granted, over all runs.
    pub fencing_token: i64,
    /// The secret of the newest lease token, while its bearer may still say something.
    pub token_secret: Option<Uuid>,
    /// A digest of what completed or failed the stage for good, to recognise a repeat.
    pub outcome_digest: Option<Uuid>,
    /// 0 to 1; never decreases within an attempt.
    pub progress: f64,
    /// The worker's last word.
    pub message: Option<Name>,
    /// The last failure.
    pub failure: Option<Arc<Failure>>,
    /// When its last attempt began.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
}

impl Stage {
    /// A stage before anything happened.
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

    /// The state without what it carries.
    pub fn phase(&self) -> StagePhase {
        self.state.phase()
    }

    /// Whether its parent's plan does not have it: the parent has ended without naming it, or runs again and has not named it yet.
    pub fn is_unplanned(&self) -> bool {
        self.parent.is_some_and(|parent| parent.fencing_token == 0)
    }

    /// Whether its parent took it back before it started: it is SKIPPED, and to all others as if it were not there.
    pub fn is_withdrawn(&self) -> bool {
        self.phase() == StagePhase::Skipped && self.is_unplanned()
    }

    /// Whether it ended other than well.
    pub fn ended_badly(&self) -> bool {
        let badly = matches!(self.phase(), StagePhase::Failed | StagePhase::Cancelled | StagePhase::Skipped);
        badly && !self.is_withdrawn()
    }

    /// Whether it has not ended, and no attempt of it has begun in this run.
    pub fn is_unstarted(&self) -> bool {
        self.attempt == 0 && matches!(self.phase(), StagePhase::Blocked | StagePhase::Ready)
    }

    /// Makes it what it is before its first attempt. What is of the whole job's life stays: version, fencing token, plan.
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

    /// The lease of a running attempt.
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

    /// The permits of a running attempt.
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

    /// When something happens to it by itself: the end of a backoff or of an attempt's time.
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

    /// How many attempts its policy allows in this run, as things stand: at least as many as there were.
    pub fn max_attempts(&self) -> u32 {
        self.spec.retry.max_attempts(&self.failures).max(self.attempt)
    }

    /// Whether its last attempt ended with the lease: its worker may have died of it, and is to have nothing else beside it.
    pub fn is_suspect(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.report.class == FailureClass::LeaseExpired)
    }

    /// What it counts for in its job's progress: ended stages count as done.
    pub fn share(&self) -> f64 {
        if self.phase().is_terminal() { 1.0 } else { self.progress }
    }

    /// Whether the token is the newest that was granted and still has a say.
    pub fn is_newest(&self, token: &LeaseToken) -> bool {
        self.fencing_token == token.fencing_token && self.token_secret == Some(token.secret)
    }

    /// The token of its newest attempt.
    pub fn token(&self, job_uid: Uuid) -> Option<LeaseToken> {
        let secret = self.token_secret?;
        Some(LeaseToken { job_uid, stage_no: self.no, fencing_token: self.fencing_token, secret })
    }
}
