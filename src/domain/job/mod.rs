//! A job: its stages and what they add up to. [`Edit`] holds the transitions.
//!
//! **Invariants.** A terminal job has only terminal stages. `tally` and `graph` follow from the stages. Within a run
//! `progress` never decreases and a terminal state is final. `revision` grows by one per edit, however much it changes.

mod aggregate;
mod control;
mod edit;
mod fanout;
mod replan;
mod run;
mod settle;
mod step_back;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub use aggregate::JobEffects;
pub use edit::{Changes, Edit};
pub use fanout::NewJob;
pub use run::{Grant, Hold};

use super::failure::Failure;
use super::graph::Graph;
use super::id::{JobKey, Name, StageNo};
use super::retry::RetryPolicy;
use super::stage::{Attempt, Lease, OnFailure, Stage, StagePhase, StageState};
use super::stage_table::StageTable;
use super::time::Timestamp;

/// How long holders of a failing or cancelled job may go on, unless the caller says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long a job is kept after its end, unless it says otherwise.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What was submitted of a job and does not change.
#[derive(Clone, Debug)]
pub struct JobMeta {
    /// The caller's or our id.
    pub job_id: Name,
    /// The caller's word for what sort of job it is.
    pub kind: Name,
    /// When it was submitted.
    pub create_time: Timestamp,
    /// The earliest start, if it was delayed.
    pub delayed_until: Option<Timestamp>,
    /// How long it may take from its earliest start on.
    pub timeout: Option<Duration>,
    /// How long it is kept after its end.
    pub retention: Duration,
    /// When its stages are tried again, unless they say otherwise.
    pub retry: Arc<RetryPolicy>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// No stage of this run has started.
    Pending,
    /// Under way.
    Running,
    /// Nothing is leased until it is resumed, and its timeout stands still.
    Paused {
        /// What is left of the timeout of a job that has one.
        timeout_left: Option<Duration>,
    },
    /// It has failed and waits for those who still hold a stage. On the wire this is RUNNING with a failure.
    Failing {
        /// When they lose their stages.
        deadline: Timestamp,
    },
    /// It was cancelled and waits for those who still hold a stage.
    Cancelling {
        /// When they lose their stages.
        deadline: Timestamp,
    },
    /// All is done.
    Succeeded,
    /// A stage that mattered failed.
    Failed,
    /// Cancelled.
    Cancelled,
}

/// The names of the states, numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // They are those of JobState.
pub enum JobPhase {
    Pending = 1,
    Running = 2,
    Paused = 3,
    Cancelling = 4,
    Succeeded = 5,
    Failed = 6,
    Cancelled = 7,
}

impl JobPhase {
    /// All, in the order of their numbers.
    pub const ALL: [JobPhase; 7] =
        [Self::Pending, Self::Running, Self::Paused, Self::Cancelling, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The phase of a number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| *phase as i32 == number)
    }

    /// The name on the wire without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Cancelling => "CANCELLING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether the run is over.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl JobState {
    /// The state as the wire names it.
    pub fn phase(self) -> JobPhase {
        match self {
            Self::Pending => JobPhase::Pending,
            Self::Running | Self::Failing { .. } => JobPhase::Running,
            Self::Paused { .. } => JobPhase::Paused,
            Self::Cancelling { .. } => JobPhase::Cancelling,
            Self::Succeeded => JobPhase::Succeeded,
            Self::Failed => JobPhase::Failed,
            Self::Cancelled => JobPhase::Cancelled,
        }
    }

    /// Whether ready stages may be handed out.
    pub fn hands_out(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    /// Whether the job still wants all its stages done.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Paused { .. })
    }

    /// Whether the run is over.
    pub fn is_terminal(self) -> bool {
        self.phase().is_terminal()
    }

    /// When a lease that expires at a moment ends: with the grace, if that is sooner.
    pub fn lease_end(self, expires_at: Timestamp) -> Timestamp {
        match self {
            Self::Failing { deadline } | Self::Cancelling { deadline } => expires_at.min(deadline),
            Self::Pending | Self::Running | Self::Paused { .. } | Self::Succeeded | Self::Failed | Self::Cancelled => {
                expires_at
            }
        }
    }
}

/// What the stages add up to; kept along with them so that no decision walks ten thousand stages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    counts: [u32; 8],
    weight: f64,
    done: f64,
    /// Ended other than well, where that fails the job.
    spoilt: u32,
}

impl Tally {
    /// The sums of stages that are not at hand: how many are in each state, in the order of the states' numbers.
    pub fn of_counts(counts: [u32; 8]) -> Self {
        Self { counts, ..Self::default() }
    }

    fn add(&mut self, stage: &Stage) {
        self.counts[stage.phase() as usize - 1] += 1;
        self.weight += stage.spec.weight;
        self.done += stage.spec.weight * stage.share();
        self.spoilt += u32::from(spoils(stage));
    }

    fn remove(&mut self, stage: &Stage) {
        self.counts[stage.phase() as usize - 1] -= 1;
        self.weight -= stage.spec.weight;
        self.done -= stage.spec.weight * stage.share();
        self.spoilt -= u32::from(spoils(stage));
    }

    /// How many stages there are.
    pub fn total(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// How many stages are in a state.
    pub fn count(&self, phase: StagePhase) -> u32 {
        self.counts[phase as usize - 1]
    }

    /// How many have not ended.
    pub fn open(&self) -> u32 {
        StagePhase::ALL.into_iter().filter(|phase| !phase.is_terminal()).map(|phase| self.count(phase)).sum()
    }

    /// The weighted mean of the stages' progress, 0 to 1.
    fn progress(&self) -> f64 {
        if self.weight > 0.0 { (self.done / self.weight).clamp(0.0, 1.0) } else { 0.0 }
    }
}

fn spoils(stage: &Stage) -> bool {
    stage.ended_badly() && stage.spec.on_failure == OnFailure::FailJob
}

/// One job with all its stages; payloads, inputs and artifacts stay in the database.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where it is stored.
    pub key: JobKey,
    /// What does not change.
    pub meta: Arc<JobMeta>,
    /// The caller's labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Higher is leased first, −1,000 to 1,000.
    pub priority: i32,
    /// Grows by exactly one per committed change.
    pub revision: i64,
    /// Counts the runs from 1.
    pub run: i32,
    /// Where it stands.
    pub state: JobState,
    /// The highest progress of this run, 0 to 1.
    pub progress: f64,
    /// Why it failed.
    pub failure: Option<Arc<Failure>>,
    /// What the caller said when cancelling it.
    pub cancel_reason: Option<Name>,
    /// Roots stay blocked until then; `None` once it has passed.
    pub opens_at: Option<Timestamp>,
    /// When the run has taken too long; `None` while it is paused.
    pub times_out_at: Option<Timestamp>,
    /// When the first stage of this run started.
    pub start_time: Option<Timestamp>,
    /// When the run ended.
    pub end_time: Option<Timestamp>,
    /// When it is deleted.
    pub expire_time: Option<Timestamp>,
    /// The store's own mark: its stages have rows of their own, however few they are. No decision looks at it.
    pub has_stage_rows: bool,
    /// The stages by number.
    pub stages: StageTable,
    /// Their names and arrows; derived.
    pub graph: Arc<Graph>,
    /// Their sums; derived.
    pub tally: Tally,
}

impl Job {
    /// Computes what follows from the stages, after they were loaded.
    pub fn derive(&mut self) {
        self.graph = Arc::new(Graph::of(&self.stages));
        self.recount_pending();
        self.tally = Tally::default();
        for stage in self.stages.iter() {
            self.tally.add(stage);
        }
    }

    fn recount_pending(&mut self) {
        let pending: Vec<(StageNo, u32)> = self.stages.iter().map(|stage| (stage.no, self.pending_of(stage))).collect();
        for (no, pending) in pending {
            if self.stages[no].pending != pending {
                self.stages.get_mut(no).expect("it was just listed").pending = pending;
            }
        }
    }

    fn pending_of(&self, stage: &Stage) -> u32 {
        let open = |no: &&StageNo| !self.stages[**no].phase().is_terminal();
        let open = stage.depends_on.iter().filter(open).count() + usize::from(stage.is_unplanned());
        u32::try_from(open).expect("a job has at most 10,000 stages")
    }

    /// The stage of a name.
    pub fn stage_named(&self, name: &str) -> Option<&Arc<Stage>> {
        self.stages.get(self.graph.find(name)?)
    }

    /// Whether it is at the revision of an earlier state, from which only how long leases last can differ then.
    pub fn is_at_revision_of(&self, base: &Self) -> bool {
        self.revision == base.revision
    }

    /// Whether a stage can be given to a worker now.
    pub fn is_leasable(&self, stage: &Stage) -> bool {
        stage.phase() == StagePhase::Ready && !stage.spec.direct && self.state.hands_out()
    }

    /// When a lease ends unless it is renewed: with the grace of a job that is cancelled or has failed, if that is sooner.
    pub fn lease_end(&self, lease: &Lease) -> Timestamp {
        self.state.lease_end(lease.expires_at)
    }

    /// Notes until when a lease lasts, if it still has this secret.
    pub fn renew_lease(job: &mut Arc<Self>, no: StageNo, secret: Uuid, expires_at: Timestamp) {
        let differs = job.stages.get(no).is_some_and(|stage| {
            stage.token_secret == Some(secret) && stage.lease().is_some_and(|lease| lease.expires_at != expires_at)
        });
        if differs
            && let Some(stage) = Arc::make_mut(job).stages.get_mut(no)
            && let StageState::Running(Attempt { lease: Some(lease), .. }) = &mut stage.state
        {
            lease.expires_at = expires_at;
        }
    }

    /// When leases end if holders are asked to stop now and have `grace` for it. A holder hears of it with its next heartbeat, so the end
    /// moves until half of the grace is left after the heartbeat of the slowest, with a quarter of its interval for the way there.
    pub(super) fn grace_end(&self, now: Timestamp, grace: Duration) -> Timestamp {
        let intervals = self.stages.iter().filter_map(|stage| stage.lease()).map(Lease::heartbeat_interval);
        let heard = intervals.max().map_or(Duration::ZERO, |interval| interval * 5 / 4 + grace / 2);
        now.after(grace.max(heard))
    }

    /// When something happens to the job itself by itself.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        let deadline = match self.state {
            JobState::Failing { deadline } | JobState::Cancelling { deadline } => Some(deadline),
            JobState::Pending | JobState::Running | JobState::Paused { .. } => {
                [self.opens_at, self.times_out_at].into_iter().flatten().min()
            }
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => None,
        };
        [deadline, self.expire_time].into_iter().flatten().min()
    }

    /// About how much memory it takes, in bytes, for the cache's bound.
    pub fn weight_bytes(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(k, v)| k.len() + v.len() + 64).sum();
        let per_stage = |stage: &Arc<Stage>| {
            600 + 3 * stage.spec.name.len()
                + 8 * (stage.depends_on.len() + stage.required_by.len())
                + stage.message.as_ref().map_or(0, |m| m.len())
                + stage.failure.as_ref().map_or(0, |f| 200 + f.report.details.as_ref().map_or(0, String::len))
        };
        1_000 + labels + self.stages.iter().map(per_stage).sum::<usize>()
    }
}
