//! The life of an attempt: leased or started by name, told about, completed, failed, given back or lost.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Edit, Job, JobState};
use crate::domain::event::EventKind;
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::{LeaseToken, Name, StageNo};
use crate::domain::json::Document;
use crate::domain::permit::{HeldPermit, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::domain::retry::Verdict;
use crate::domain::stage::{Attempt, DEFAULT_LEASE, Lease, NewStage, Stage, StagePhase, StageState};

/// A worker's wish for a lease.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who asks.
    pub worker_id: Name,
    /// 128 random bits for the token.
    pub secret: Uuid,
    /// How long it asks for; the stage's own wish comes first.
    pub duration: Option<Duration>,
    /// The queue in which the stage was found; `None`: it was asked for by name.
    pub queue: Option<Name>,
}

/// How the caller proves that it may write a stage.
#[derive(Clone, Debug)]
pub enum Hold {
    /// It was given this token.
    Token(LeaseToken),
    /// It runs the stage itself and names it; no worker may hold it.
    Name(Name),
}

impl Job {
    /// The stage that a token or name is about, whether or not it is the newest proof.
    pub fn stage_of(&self, hold: &Hold) -> Option<&Arc<Stage>> {
        match hold {
            Hold::Token(token) => self.stages.get(token.stage_no),
            Hold::Name(name) => self.stage_named(name),
        }
    }

    /// The stage that is leased with a token.
    pub fn leased(&self, token: &LeaseToken) -> Option<&Arc<Stage>> {
        self.stages.get(token.stage_no).filter(|stage| stage.is_newest(token) && stage.lease().is_some())
    }

    /// The stage that a caller means, if the proof fits it. A token that is not the newest is always a lost lease.
    pub fn held(&self, hold: &Hold) -> Result<&Arc<Stage>, Refusal> {
        match hold {
            Hold::Token(token) => {
                let stage = self.stages.get(token.stage_no).ok_or(Refusal::LeaseLost)?;
                if stage.is_newest(token) { Ok(stage) } else { Err(Refusal::LeaseLost) }
            }
            Hold::Name(name) => {
                let stage = self.stage_named(name).ok_or_else(|| Refusal::StageNotFound {
                    job_id: self.meta.job_id.to_string(),
                    stage_name: name.to_string(),
                })?;
                if stage.lease().is_some() {
                    return Err(stage.refuses("a worker holds its lease"));
                }
                Ok(stage)
            }
        }
    }

    /// The stage of a caller that must be running it now: progress and failure come from nobody else.
    pub fn running(&self, hold: &Hold) -> Result<&Arc<Stage>, Refusal> {
        let stage = self.held(hold)?;
        match (stage.phase(), hold) {
            (StagePhase::Running, _) => Ok(stage),
            // After a reap the token is the newest, but only a completion is still welcome.
            (StagePhase::Ready | StagePhase::Backoff | StagePhase::Blocked, Hold::Token(_)) => Err(Refusal::LeaseLost),
            (_, _) => Err(stage.refuses("is not being run")),
        }
    }
}

impl Stage {
    /// The refusal that names this stage and its state.
    pub fn refuses(&self, why: &'static str) -> Refusal {
        Refusal::InvalidTransition { what: format!("stage {:?}", self.spec.name), state: self.phase().name(), why }
    }
}

impl Edit {
    /// Gives a ready stage to a worker, with the permits that were granted for it.
    pub fn lease(&mut self, no: StageNo, grant: &Grant, permits: Vec<HeldPermit>) -> Result<(), Refusal> {
        let stage = self.job.stages.get(no).ok_or(Refusal::LeaseLost)?;
        if !self.job.is_leasable(stage) {
            return Err(stage.refuses("cannot be leased now"));
        }
        self.start(no, Some(grant), permits);
        Ok(())
    }

    /// Notes that a ready stage waits for a resource.
    pub fn block(&mut self, no: StageNo, resource: ResourceKey) {
        self.changes().blocked.insert(no, resource);
    }

    /// Begins an attempt by name, with a lease if the caller wants one, and with the permits that were granted for it.
    pub fn start_by_name(
        &mut self,
        name: &Name,
        grant: Option<&Grant>,
        permits: Vec<HeldPermit>,
    ) -> Result<StageNo, Refusal> {
        let stage = self.job.held(&Hold::Name(name.clone()))?;
        let no = stage.no;
        if stage.phase() != StagePhase::Ready || !self.job.state.hands_out() {
            let paused = matches!(self.job.state, JobState::Paused { .. });
            return Err(stage.refuses(if paused { "its job is paused" } else { "only a ready stage can be started" }));
        }
        self.start(no, grant, permits);
        Ok(no)
    }

    /// Binds a permit to a running attempt.
    pub fn bind(&mut self, no: StageNo, permits: impl IntoIterator<Item = HeldPermit>) {
        let permits: Vec<HeldPermit> = self.job.stages[no].permits().iter().copied().chain(permits).collect();
        self.set_permits(no, permits);
    }

    /// Notes that a running attempt no longer holds a permit.
    pub fn unbind(&mut self, no: StageNo, id: &Uuid) {
        let held = self.job.stages[no].permits();
        if held.iter().any(|permit| permit.id == *id) {
            let left = held.iter().filter(|permit| permit.id != *id).copied().collect();
            self.set_permits(no, left);
        }
    }

    fn set_permits(&mut self, no: StageNo, permits: Vec<HeldPermit>) {
        self.alter(no, |stage| {
            if let StageState::Running(attempt) = &mut stage.state {
                attempt.permits = permits.into();
            }
        });
    }

    fn start(&mut self, no: StageNo, grant: Option<&Grant>, permits: Vec<HeldPermit>) {
        let (now, clock) = (self.now, self.clock);
        self.record(EventKind::StageStarted);
        self.alter(no, |stage| {
            stage.attempt += 1;
            stage.fencing_token += 1;
            stage.token_secret = grant.map(|grant| grant.secret);
            stage.progress = 0.0;
            stage.message = None;
            stage.start_time = Some(now);
            stage.state = StageState::Running(Attempt {
                deadline: stage.spec.timeout.map(|timeout| clock.after(timeout)),
                permits: permits.into(),
                lease: grant.map(|grant| {
                    let duration = stage.spec.lease_duration.or(grant.duration).unwrap_or(DEFAULT_LEASE);
                    Lease { worker_id: grant.worker_id.clone(), duration, expires_at: clock.after(duration) }
                }),
            });
        });
        self.by_holder(no);
        if self.job.state == JobState::Pending {
            self.job.state = JobState::Running;
            self.job.start_time = Some(now);
        }
    }

    /// A write by name to a ready stage starts it.
    fn start_if_named(&mut self, hold: &Hold) -> Result<(), Refusal> {
        if let Hold::Name(name) = hold
            && self.job.held(hold)?.phase() == StagePhase::Ready
        {
            let stage = self.job.held(hold)?;
            if !stage.spec.permits.is_empty() {
                return Err(stage.refuses("needs permits, with which only StartStage or LeaseStages can start it"));
            }
            self.start_by_name(name, None, Vec::new())?;
        }
        Ok(())
    }

    /// Notes progress and a message. What is not new changes nothing.
    pub fn progress(&mut self, hold: &Hold, progress: Option<f64>, message: Option<Name>) -> Result<StageNo, Refusal> {
        self.start_if_named(hold)?;
        let stage = self.job.running(hold)?;
        let no = stage.no;
        let higher = progress.filter(|progress| *progress > stage.progress);
        let newer = message.filter(|message| stage.message.as_ref() != Some(message));
        if higher.is_some() || newer.is_some() {
            self.alter(no, |stage| {
                stage.progress = higher.unwrap_or(stage.progress);
                stage.message = newer.or(stage.message.take());
            });
        }
        Ok(no)
    }

    /// Extends a held lease to what its duration gives from now on, but never beyond a grace that ends.
    fn renew(&mut self, no: StageNo) {
        let Some(held) = self.job.stages[no].lease() else { return };
        let renewed = Lease { expires_at: self.clock.after(held.duration), ..held.clone() };
        let end = self.job.lease_end(&renewed);
        if end <= held.expires_at && !held.is_ahead(self.clock) {
            return;
        }
        let stage = self.job.stages.get_mut(no).expect("the number comes from this job");
        if let StageState::Running(Attempt { lease: Some(lease), .. }) = &mut stage.state {
            lease.expires_at = end;
            self.changes().renewed.insert(no);
        }
    }

    /// Renews a held lease and makes a new version of its stage, by which its first delivery and this one are told apart.
    pub fn redeliver(&mut self, no: StageNo) {
        self.alter(no, |_| {});
        self.renew(no);
    }

    /// Completes a stage: by its holder, by its orchestrator, or late by who lost it to nobody.
    pub fn complete(
        &mut self,
        hold: &Hold,
        artifacts: Option<Document>,
        job_result: Option<Document>,
        message: Option<Name>,
        digest: Uuid,
    ) -> Result<StageNo, Refusal> {
        self.complete_adding(hold, &[], artifacts, job_result, message, digest)
    }

    /// As [`Edit::complete`]; the stages that it adds come before its end takes effect, because what that makes ready may have to
    /// wait for them.
    pub fn complete_adding(
        &mut self,
        hold: &Hold,
        add_stages: &[NewStage],
        artifacts: Option<Document>,
        job_result: Option<Document>,
        message: Option<Name>,
        digest: Uuid,
    ) -> Result<StageNo, Refusal> {
        self.start_if_named(hold)?;
        let stage = self.job.held(hold)?;
        let no = stage.no;
        match stage.phase() {
            StagePhase::Running => {}
            StagePhase::Ready | StagePhase::Backoff if matches!(hold, Hold::Token(_)) => {}
            _ => return Err(stage.refuses("cannot be completed")),
        }
        self.by_holder(no);
        self.record(EventKind::StageCompleted);
        if !add_stages.is_empty() {
            self.add_stages(no, add_stages, "add_stages")?;
        }
        self.alter(no, |stage| {
            stage.progress = 1.0;
            stage.message = message.or(stage.message.take());
            stage.failure = None;
            stage.outcome_digest = Some(digest);
        });
        self.enter(no, StageState::Succeeded);
        if let Some(artifacts) = artifacts {
            self.changes().artifacts.insert(no, Some(artifacts));
        }
        if let Some(result) = job_result {
            self.changes().result = Some(Some(result));
        }
        self.settle([no]);
        Ok(no)
    }

    /// Records a failed attempt and what the policy makes of it.
    pub fn fail(&mut self, hold: &Hold, report: FailureReport, jitter: f64, digest: Uuid) -> Result<StageNo, Refusal> {
        self.start_if_named(hold)?;
        let no = self.job.running(hold)?.no;
        self.by_holder(no);
        self.record(EventKind::StageFailed);
        self.end_attempt(no, report, jitter);
        if self.job.stages[no].phase().is_terminal() {
            self.alter(no, |stage| stage.outcome_digest = Some(digest));
        } else {
            // Whoever said that it failed has nothing more to say about this attempt.
            self.alter(no, |stage| stage.token_secret = None);
        }
        Ok(no)
    }

    /// Ends the attempt of a silent holder, whose lease is proved to have expired. Its token stays the newest: if nobody
    /// else takes the stage, its completion is still welcome. `jitter` is in `[0, 1)`.
    pub fn reap(&mut self, no: StageNo, jitter: f64) {
        self.record(EventKind::LeaseExpired);
        let report = silent(FailureClass::LeaseExpired, "the lease expired without a heartbeat");
        let had_permits = !self.job.stages[no].permits().is_empty();
        self.end_attempt(no, report, jitter);
        if had_permits {
            // What it worked under may be somebody else's now, so not even its completion is welcome.
            self.alter(no, |stage| stage.token_secret = None);
        }
    }

    /// Ends an attempt whose time is up, whoever holds it.
    pub(super) fn time_out(&mut self, no: StageNo, jitter: f64) {
        self.record(EventKind::StageTimedOut);
        self.end_attempt(no, silent(FailureClass::Timeout, "the attempt took longer than the stage's timeout"), jitter);
        self.alter(no, |stage| stage.token_secret = None);
    }

    fn end_attempt(&mut self, no: StageNo, report: FailureReport, jitter: f64) {
        let stage = &self.job.stages[no];
        let (policy, mut failures) = (&stage.spec.retry, stage.failures.clone());
        failures.add(report.class);
        let budget = policy.budget(report.class, stage.attempt, &failures);
        let verdict = match self.job.state {
            JobState::Cancelling { .. } | JobState::Failing { .. } => Verdict::GiveUp,
            _ => policy.verdict(&budget, &failures, &report, jitter),
        };
        let failure = Arc::new(Failure {
            stage_name: stage.spec.name.to_string(),
            attempt: stage.attempt,
            max_attempts: policy.max_attempts(&failures).max(stage.attempt),
            budget: Some(budget),
            retry_wait: match verdict {
                Verdict::Retry(wait) => Some(wait),
                Verdict::GiveUp => None,
            },
            failure_time: self.now,
            report,
        });
        self.alter(no, |stage| {
            stage.failures = failures;
            stage.failure = Some(failure);
        });
        let cancelling = matches!(self.job.state, JobState::Cancelling { .. });
        self.enter(
            no,
            match verdict {
                Verdict::Retry(Duration::ZERO) => StageState::Ready,
                Verdict::Retry(wait) => StageState::Backoff { until: self.clock.after(wait) },
                Verdict::GiveUp if cancelling => StageState::Cancelled,
                Verdict::GiveUp => StageState::Failed,
            },
        );
        if verdict == Verdict::GiveUp {
            self.settle([no]);
        }
    }

    /// Gives a held stage back, as if the attempt had not been.
    pub fn release(&mut self, hold: &Hold) -> Result<StageNo, Refusal> {
        let no = self.job.running(hold)?.no;
        self.by_holder(no);
        self.record(EventKind::StageReleased);
        let active = self.job.state.is_active();
        self.alter(no, |stage| {
            stage.attempt -= u32::from(active);
            stage.token_secret = None;
            stage.progress = 0.0;
            stage.message = None;
        });
        if active {
            self.enter(no, StageState::Ready);
        } else {
            self.enter(no, StageState::Cancelled);
            self.settle([no]);
        }
        Ok(no)
    }
}

fn silent(class: FailureClass, message: &str) -> FailureReport {
    FailureReport { class, code: String::new(), message: message.to_owned(), retry_after: None, details: None }
}
