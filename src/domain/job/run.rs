//! Attempts: lease or start by name, progress, complete, fail, release, lease expiry.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::tx::JobTx;
use super::{Job, JobState};
use crate::domain::event::EventKind;
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::{LeaseToken, Name, StageNo};
use crate::domain::json::Document;
use crate::domain::permit::{HeldPermit, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::domain::retry::RetryDecision;
use crate::domain::stage::{Attempt, DEFAULT_LEASE, Lease, NewStage, Stage, StagePhase, StageState};

/// Request of a worker for a lease.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Worker that asks, as it names itself.
    pub worker_id: Name,
    /// Secret for the lease token: 122 random bits.
    pub secret: Uuid,
    /// Duration that the worker asks for. The stage's own duration takes precedence. `None`: [`DEFAULT_LEASE`].
    pub duration: Option<Duration>,
    /// Queue in which the stage was found. `None`: the stage was requested by name.
    pub queue: Option<Name>,
}

/// Names a stage and proves that the caller may write it.
#[derive(Clone, Debug)]
pub enum StageCredential {
    /// The lease token of the attempt.
    Token(LeaseToken),
    /// The name of a stage that its orchestrator runs itself. Not valid while a worker holds a lease on it.
    Name(Name),
}

impl Job {
    /// The stage that a credential names, whether the credential is valid or not.
    pub fn stage_of(&self, credential: &StageCredential) -> Option<&Arc<Stage>> {
        match credential {
            StageCredential::Token(token) => self.stages.get(token.stage_no),
            StageCredential::Name(name) => self.stage_named(name),
        }
    }

    /// The stage with a lease that was granted with this token.
    pub fn leased_stage(&self, token: &LeaseToken) -> Option<&Arc<Stage>> {
        self.stages.get(token.stage_no).filter(|stage| stage.is_newest(token) && stage.lease().is_some())
    }

    /// The stage that a credential names, if the credential is valid. A token that is not the newest is refused with `LeaseLost`.
    pub fn verified_stage(&self, credential: &StageCredential) -> Result<&Arc<Stage>, Refusal> {
        match credential {
            StageCredential::Token(token) => {
                let stage = self.stages.get(token.stage_no).ok_or(Refusal::LeaseLost)?;
                if stage.is_newest(token) { Ok(stage) } else { Err(Refusal::LeaseLost) }
            }
            StageCredential::Name(name) => {
                let stage = self.stage_named(name).ok_or_else(|| Refusal::StageNotFound {
                    job_id: self.meta.job_id.to_string(),
                    stage_name: name.to_string(),
                })?;
                if stage.lease().is_some() {
                    return Err(stage.refusal("a worker holds its lease"));
                }
                Ok(stage)
            }
        }
    }

    /// The stage that a credential names, if the caller runs it now. Only the holder of an attempt reports progress and failures.
    pub fn running_stage(&self, credential: &StageCredential) -> Result<&Arc<Stage>, Refusal> {
        let stage = self.verified_stage(credential)?;
        match (stage.phase(), credential) {
            (StagePhase::Running, _) => Ok(stage),
            // After the lease expired the token is still the newest, but valid for a completion only.
            (StagePhase::Ready | StagePhase::Backoff | StagePhase::Blocked, StageCredential::Token(_)) => {
                Err(Refusal::LeaseLost)
            }
            (_, _) => Err(stage.refusal("is not being run")),
        }
    }
}

impl Stage {
    /// Makes the refusal that names this stage and its state.
    pub fn refusal(&self, why: &'static str) -> Refusal {
        Refusal::InvalidTransition { what: format!("stage {:?}", self.spec.name), state: self.phase().name(), why }
    }
}

impl JobTx {
    /// Leases a ready stage to a worker, with the permits that were granted for it.
    pub fn lease(&mut self, no: StageNo, request: &LeaseRequest, permits: Vec<HeldPermit>) -> Result<(), Refusal> {
        let stage = self.job.stages.get(no).ok_or(Refusal::LeaseLost)?;
        if !self.job.is_leasable(stage) {
            return Err(stage.refusal("cannot be leased now"));
        }
        self.start(no, Some(request), permits);
        Ok(())
    }

    /// Records that a ready stage waits for a resource.
    pub fn block(&mut self, no: StageNo, resource: ResourceKey) {
        self.changes().blocked.insert(no, resource);
    }

    /// Starts an attempt by name, with the permits that were granted for it. `None`: without a lease.
    pub fn start_by_name(
        &mut self,
        name: &Name,
        request: Option<&LeaseRequest>,
        permits: Vec<HeldPermit>,
    ) -> Result<StageNo, Refusal> {
        let stage = self.job.verified_stage(&StageCredential::Name(name.clone()))?;
        let no = stage.no;
        if stage.phase() != StagePhase::Ready || !self.job.state.allows_leases() {
            let paused = matches!(self.job.state, JobState::Paused { .. });
            return Err(stage.refusal(if paused { "its job is paused" } else { "only a ready stage can be started" }));
        }
        self.start(no, request, permits);
        Ok(no)
    }

    /// Binds a permit to a running attempt.
    pub fn bind(&mut self, no: StageNo, permits: impl IntoIterator<Item = HeldPermit>) {
        let permits: Vec<HeldPermit> = self.job.stages[no].permits().iter().copied().chain(permits).collect();
        self.set_permits(no, permits);
    }

    /// Removes a permit from a running attempt.
    pub fn unbind(&mut self, no: StageNo, id: &Uuid) {
        let held = self.job.stages[no].permits();
        if held.iter().any(|permit| permit.id == *id) {
            let left = held.iter().filter(|permit| permit.id != *id).copied().collect();
            self.set_permits(no, left);
        }
    }

    fn set_permits(&mut self, no: StageNo, permits: Vec<HeldPermit>) {
        self.update_stage(no, |stage| {
            if let StageState::Running(attempt) = &mut stage.state {
                attempt.permits = permits.into();
            }
        });
    }

    fn start(&mut self, no: StageNo, request: Option<&LeaseRequest>, permits: Vec<HeldPermit>) {
        let (now, clock) = (self.now, self.clock);
        self.record_event(EventKind::StageStarted);
        self.update_stage(no, |stage| {
            stage.attempt += 1;
            stage.fencing_token += 1;
            stage.token_secret = request.map(|request| request.secret);
            stage.progress = 0.0;
            stage.message = None;
            stage.start_time = Some(now);
            stage.state = StageState::Running(Attempt {
                deadline: stage.spec.timeout.map(|timeout| clock.after(timeout)),
                permits: permits.into(),
                lease: request.map(|request| {
                    let duration = stage.spec.lease_duration.or(request.duration).unwrap_or(DEFAULT_LEASE);
                    Lease { worker_id: request.worker_id.clone(), duration, expires_at: clock.after(duration) }
                }),
            });
        });
        self.record_worker(no);
        if self.job.state == JobState::Pending {
            self.job.state = JobState::Running;
            self.job.start_time = Some(now);
        }
    }

    /// Starts a ready stage that is written by name.
    fn start_if_named(&mut self, credential: &StageCredential) -> Result<(), Refusal> {
        if let StageCredential::Name(name) = credential
            && self.job.verified_stage(credential)?.phase() == StagePhase::Ready
        {
            let stage = self.job.verified_stage(credential)?;
            if !stage.spec.permits.is_empty() {
                return Err(stage.refusal("needs permits: start it by StartStage or LeaseStages"));
            }
            self.start_by_name(name, None, Vec::new())?;
        }
        Ok(())
    }

    /// Records progress and a message. Lower progress than stored, and the same message, change nothing.
    pub fn progress(
        &mut self,
        credential: &StageCredential,
        progress: Option<f64>,
        message: Option<Name>,
    ) -> Result<StageNo, Refusal> {
        self.start_if_named(credential)?;
        let stage = self.job.running_stage(credential)?;
        let no = stage.no;
        let higher = progress.filter(|progress| *progress > stage.progress);
        let newer = message.filter(|message| stage.message.as_ref() != Some(message));
        if higher.is_some() || newer.is_some() {
            self.update_stage(no, |stage| {
                stage.progress = higher.unwrap_or(stage.progress);
                stage.message = newer.or(stage.message.take());
            });
        }
        Ok(no)
    }

    /// Extends a held lease by its duration from now on, at most to the end of the grace period.
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

    /// Renews a held lease and increments the version of its stage, which distinguishes this delivery from the first.
    pub fn redeliver(&mut self, no: StageNo) {
        self.update_stage(no, |_| {});
        self.renew(no);
    }

    /// Completes a stage: by its holder, by its orchestrator, or by a late holder after its lease expired, if no other
    /// worker has the stage.
    pub fn complete(
        &mut self,
        credential: &StageCredential,
        artifacts: Option<Document>,
        job_result: Option<Document>,
        message: Option<Name>,
        digest: Uuid,
    ) -> Result<StageNo, Refusal> {
        self.complete_adding(credential, &[], artifacts, job_result, message, digest)
    }

    /// As [`JobTx::complete`], and adds stages first, because stages that the completion makes ready may depend on them.
    pub fn complete_adding(
        &mut self,
        credential: &StageCredential,
        add_stages: &[NewStage],
        artifacts: Option<Document>,
        job_result: Option<Document>,
        message: Option<Name>,
        digest: Uuid,
    ) -> Result<StageNo, Refusal> {
        self.start_if_named(credential)?;
        let stage = self.job.verified_stage(credential)?;
        let no = stage.no;
        match stage.phase() {
            StagePhase::Running => {}
            StagePhase::Ready | StagePhase::Backoff if matches!(credential, StageCredential::Token(_)) => {}
            _ => return Err(stage.refusal("cannot be completed")),
        }
        self.record_worker(no);
        self.record_event(EventKind::StageCompleted);
        if !add_stages.is_empty() {
            self.add_stages(no, add_stages, "add_stages")?;
        }
        self.update_stage(no, |stage| {
            stage.progress = 1.0;
            stage.message = message.or(stage.message.take());
            stage.failure = None;
            stage.outcome_digest = Some(digest);
        });
        self.set_stage_state(no, StageState::Succeeded);
        if let Some(artifacts) = artifacts {
            self.changes().artifacts.insert(no, Some(artifacts));
        }
        if let Some(result) = job_result {
            self.changes().result = Some(Some(result));
        }
        self.propagate_ends([no]);
        Ok(no)
    }

    /// Records a failed attempt and applies the retry policy.
    pub fn fail(
        &mut self,
        credential: &StageCredential,
        report: FailureReport,
        jitter: f64,
        digest: Uuid,
    ) -> Result<StageNo, Refusal> {
        self.start_if_named(credential)?;
        let no = self.job.running_stage(credential)?.no;
        self.record_worker(no);
        self.record_event(EventKind::StageFailed);
        self.end_attempt(no, report, jitter);
        if self.job.stages[no].phase().is_terminal() {
            self.update_stage(no, |stage| stage.outcome_digest = Some(digest));
        } else {
            // The worker that reported the failure cannot write this attempt any more.
            self.update_stage(no, |stage| stage.token_secret = None);
        }
        Ok(no)
    }

    /// Ends an attempt with an expired lease; the commit checks the expiry. The token stays valid for a completion until the stage is
    /// leased again. `jitter` is in `[0, 1)`.
    pub fn reap(&mut self, no: StageNo, jitter: f64) {
        self.record_event(EventKind::LeaseExpired);
        let report = server_report(FailureClass::LeaseExpired, "the lease expired without a heartbeat");
        let had_permits = !self.job.stages[no].permits().is_empty();
        self.end_attempt(no, report, jitter);
        if had_permits {
            // Another holder may have its permits by now, so not even its completion is accepted.
            self.update_stage(no, |stage| stage.token_secret = None);
        }
    }

    /// Ends an attempt that reached its deadline.
    pub(super) fn time_out(&mut self, no: StageNo, jitter: f64) {
        self.record_event(EventKind::StageTimedOut);
        self.end_attempt(
            no,
            server_report(FailureClass::Timeout, "the attempt took longer than the stage's timeout"),
            jitter,
        );
        self.update_stage(no, |stage| stage.token_secret = None);
    }

    fn end_attempt(&mut self, no: StageNo, report: FailureReport, jitter: f64) {
        let stage = &self.job.stages[no];
        let (policy, mut failures) = (&stage.spec.retry, stage.failures.clone());
        failures.add(report.class);
        let budget = policy.budget(report.class, stage.attempt, &failures);
        let verdict = match self.job.state {
            JobState::Cancelling { .. } | JobState::Failing { .. } => RetryDecision::GiveUp,
            _ => policy.verdict(&budget, &failures, &report, jitter),
        };
        let failure = Arc::new(Failure {
            stage_name: stage.spec.name.to_string(),
            attempt: stage.attempt,
            max_attempts: policy.max_attempts(&failures).max(stage.attempt),
            budget: Some(budget),
            retry_wait: match verdict {
                RetryDecision::Retry(wait) => Some(wait),
                RetryDecision::GiveUp => None,
            },
            failure_time: self.now,
            report,
        });
        self.update_stage(no, |stage| {
            stage.failures = failures;
            stage.failure = Some(failure);
        });
        let cancelling = matches!(self.job.state, JobState::Cancelling { .. });
        self.set_stage_state(
            no,
            match verdict {
                RetryDecision::Retry(Duration::ZERO) => StageState::Ready,
                RetryDecision::Retry(wait) => StageState::Backoff { until: self.clock.after(wait) },
                RetryDecision::GiveUp if cancelling => StageState::Cancelled,
                RetryDecision::GiveUp => StageState::Failed,
            },
        );
        if verdict == RetryDecision::GiveUp {
            self.propagate_ends([no]);
        }
    }

    /// Releases a held stage; the attempt is not counted.
    pub fn release(&mut self, credential: &StageCredential) -> Result<StageNo, Refusal> {
        let no = self.job.running_stage(credential)?.no;
        self.record_worker(no);
        self.record_event(EventKind::StageReleased);
        let active = self.job.state.is_active();
        self.update_stage(no, |stage| {
            stage.attempt -= u32::from(active);
            stage.token_secret = None;
            stage.progress = 0.0;
            stage.message = None;
        });
        if active {
            self.set_stage_state(no, StageState::Ready);
        } else {
            self.set_stage_state(no, StageState::Cancelled);
            self.propagate_ends([no]);
        }
        Ok(no)
    }
}

fn server_report(class: FailureClass, message: &str) -> FailureReport {
    FailureReport { class, code: String::new(), message: message.to_owned(), retry_after: None, details: None }
}
