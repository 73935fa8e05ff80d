//! The state between operations, and operations in few words.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::build::{JOB_ID, NAMESPACE, key};
use super::checks;
use super::committed::Committed;
use crate::domain::event::JobEvent;
use crate::domain::failure::{FailureClass, FailureReport};
use crate::domain::id::{LeaseToken, Name, StageNo};
use crate::domain::job::{Job, JobState, LeaseRequest, NewJob, StageCredential};
use crate::domain::namespace::Namespace;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{NewStage, Stage, StagePhase};
use crate::domain::time::Timestamp;
use crate::operation::control_job::{Control, ControlJob};
use crate::operation::delete_job::DeleteJob;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::grow_job::AddStages;
use crate::operation::heartbeat::RenewLeases;
use crate::operation::lease_stages::LeaseStages;
use crate::operation::overlay::{Change, Key, NamespaceChange, Overlay};
use crate::operation::reap::Reap;
use crate::operation::start_stage::StartStage;
use crate::operation::submit_jobs::SubmitJobs;
use crate::operation::target::StageTarget;
use crate::operation::update_progress::UpdateProgress;
use crate::operation::wake::Wake;
use crate::operation::{Operation, Reply, decide};
use crate::store::commit::Plan;
use crate::store::job::tables::JobTables;

pub type Outcome = Result<Reply, Refusal>;

/// What is committed, and the clock.
pub struct Bench {
    pub now: Timestamp,
    pub committed: Committed,
    /// All events so far.
    pub events: Vec<JobEvent>,
    /// The rows of the job, as plans have written them.
    tables: JobTables,
    secrets: u128,
}

impl Bench {
    /// Another bench with the same state, to try something else on.
    pub fn fork(&self) -> Self {
        let (events, tables) = (self.events.clone(), self.tables.clone());
        Self { now: self.now, committed: self.committed.clone(), events, tables, secrets: self.secrets }
    }

    pub fn empty() -> Self {
        let now = Timestamp(1_700_000_000_000_000);
        let namespace = Namespace {
            id: NAMESPACE,
            name: "default".into(),
            version: 1,
            fencing_floor: 0,
            holds_anything: false,
            create_time: now,
        };
        let mut committed = Committed::default();
        committed.namespaces.insert(NAMESPACE, Some(Arc::new(namespace)));
        Self { now, committed, events: Vec::new(), tables: JobTables::default(), secrets: 0 }
    }

    /// With the job `film` of these stages.
    pub fn with(stages: Vec<NewStage>) -> Self {
        Self::of(super::build::job(stages))
    }

    pub fn of(job: NewJob) -> Self {
        let mut bench = Self::empty();
        bench.submit(job).expect("a sound job");
        bench
    }

    /// One operation, alone in its group.
    pub fn run(&mut self, operation: &dyn Operation) -> Outcome {
        self.group(&[operation]).pop().expect("one answer for one operation")
    }

    /// Operations in one group; those that cannot be in it follow in the next, as in the engine.
    pub fn group(&mut self, operations: &[&dyn Operation]) -> Vec<Outcome> {
        let mut answers: Vec<Option<Outcome>> = operations.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let mut overlay = self.overlay();
            let before = answers.iter().flatten().count();
            for (operation, answer) in operations.iter().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
                *answer = self.decide(*operation, &mut overlay);
            }
            assert!(answers.iter().flatten().count() > before, "somebody must go first");
            self.install(overlay);
        }
        answers.into_iter().flatten().collect()
    }

    fn decide(&mut self, operation: &dyn Operation, overlay: &mut Overlay) -> Option<Outcome> {
        let (job, drafted) = (overlay.job(key()), overlay.tables.jobs.changes().len());
        overlay.end_operation(false);
        let (outcome, access) = loop {
            let outcome = decide(operation, overlay);
            let access = overlay.end_operation(outcome.is_ok());
            if access.unloaded.is_empty() {
                break (outcome, access);
            }
            // All that is there was loaded.
            for missing in access.unloaded {
                match missing {
                    Key::Resource(key) => overlay.tables.resources.load(key, None),
                    Key::Record(key) => overlay.tables.records.load(key, None),
                    other => panic!("{other:?} was not loaded"),
                };
            }
        };
        if access.needs_next_group {
            return None;
        }
        for (key, no, secret) in &access.expired {
            let lease = self.committed.jobs[key].as_ref().and_then(|job| job.stages[*no].lease().cloned());
            let expired = lease.is_some_and(|lease| lease.expires_at <= self.now);
            assert!(expired, "lease {secret} of stage {no} is taken although it is known to last");
        }
        let after = overlay.job(key());
        overlay.end_operation(false);
        if outcome.is_err() {
            assert!(
                access.written.is_empty() && overlay.tables.jobs.changes().len() == drafted,
                "a refusal leaves no access"
            );
        }
        let change = overlay.tables.jobs.change(&key());
        let events = change.map_or(&[][..], |change| &change.effects.changes.events);
        checks::step(operation.name(), job.as_deref(), after.as_deref(), &outcome, events, self.now);
        Some(outcome)
    }

    /// What a group begins with: the committed state.
    pub fn overlay(&self) -> Overlay {
        self.committed.overlay(self.now)
    }

    fn install(&mut self, overlay: Overlay) {
        for (key, change) in overlay.tables.jobs.changes() {
            self.events.extend(change.effects.changes.events.iter().cloned());
            self.write(overlay.tables.jobs.base(key), change);
            self.committed.jobs.insert(*key, change.after.clone());
        }
        for (key, renewed) in overlay.leases {
            let job = self.committed.jobs.get_mut(&key.job).and_then(Option::as_mut).expect("what is renewed is there");
            Job::renew_lease(job, key.stage_no, renewed.secret, renewed.expires_at);
            self.tables.renew(key, renewed.secret, renewed.expires_at);
        }
        let resources = overlay.tables.resources.changes();
        self.committed.resources.extend(resources.map(|(key, change)| (*key, change.after.clone())));
        if let Some(change) = overlay.tables.key_ring.change(&()) {
            self.committed.key_ring = change.after.clone();
        }
        for (key, record) in overlay.remembered {
            self.committed.requests.insert(key, Some(record));
        }
        for (id, effect) in overlay.namespaces {
            let namespace = self.committed.namespaces.get_mut(&id).expect("it was loaded");
            match effect {
                NamespaceChange::Delete => *namespace = None,
                NamespaceChange::RaiseFloor(floor) => {
                    let raised = Arc::make_mut(namespace.as_mut().expect("it is there"));
                    raised.fencing_floor = raised.fencing_floor.max(floor);
                    raised.version += 1;
                }
            }
        }
    }

    /// What the store would write, and whether it is the job again.
    fn write(&mut self, base: Option<&Arc<Job>>, change: &Change<Job>) {
        let Some(job) = &change.after else {
            self.tables = JobTables::default();
            return;
        };
        let mut plan = Plan::default();
        plan.write_job(0, base.map(|base| &**base), job, &change.effects.changes, self.now);
        self.tables.apply(&plan);
        self.tables.check(job);
    }

    pub fn pass(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
    }

    pub fn find(&self) -> Option<Arc<Job>> {
        self.committed.jobs.get(&key()).cloned().flatten()
    }

    pub fn resource(&self, key: ResourceKey) -> Option<Arc<Resource>> {
        self.committed.resources.get(&key).cloned().flatten()
    }

    pub fn job(&self) -> Arc<Job> {
        self.find().expect("the job is there")
    }

    pub fn state(&self) -> JobState {
        self.job().state
    }

    pub fn stage(&self, name: &str) -> Arc<Stage> {
        self.job().stage_named(name).expect("the stage is there").clone()
    }

    pub fn phase(&self, name: &str) -> StagePhase {
        self.stage(name).phase()
    }

    /// The states of all stages, in order.
    pub fn phases(&self) -> Vec<StagePhase> {
        self.job().stages.iter().map(|stage| stage.phase()).collect()
    }

    /// Whether a result is stored.
    pub fn has_result(&self) -> bool {
        self.tables.has_result
    }

    pub fn grant(&mut self, duration: Option<Duration>) -> LeaseRequest {
        self.secrets += 1;
        LeaseRequest { worker_id: "worker".into(), secret: Uuid::from_u128(self.secrets), duration, queue: None }
    }

    pub fn submit(&mut self, job: NewJob) -> Outcome {
        self.run(&SubmitJobs { jobs: vec![(job, "stages".into())], request: None })
    }

    /// What a poll of a worker comes to: a token, if the stage can be leased.
    pub fn poll(&mut self, no: StageNo, duration: Option<Duration>) -> Option<LeaseToken> {
        let grant = self.grant(duration);
        let reply = self
            .run(&LeaseStages { key: key(), stages: vec![(no, grant)], group: None, slots: Vec::new() })
            .expect("never refused");
        reply.stages.first().map(|no| reply.jobs[0].stages[*no].token(key().uid).expect("a lease has a token"))
    }

    pub fn lease(&mut self, name: &str) -> LeaseToken {
        let no = self.stage(name).no;
        self.poll(no, None).expect("the stage can be leased")
    }

    pub fn start(&mut self, name: &str, grant: Option<LeaseRequest>) -> Outcome {
        let (job_id, stage_name) = (JOB_ID.into(), name.into());
        self.run(&StartStage {
            key: key(),
            job_id,
            stage_name,
            grant,
            permit_id: uuid::Uuid::nil(),
            expected_version: None,
            request: None,
        })
    }

    pub fn end(&mut self, credential: impl Into<StageCredential>, end: End, digest: u128) -> Outcome {
        let digest = Uuid::from_u128(digest);
        self.run(&EndStage { target: target(credential), end, digest, expected_version: None, request: None })
    }

    pub fn complete(&mut self, credential: impl Into<StageCredential>) -> Outcome {
        self.end(credential, complete(Vec::new()), 1)
    }

    pub fn complete_adding(&mut self, credential: impl Into<StageCredential>, add_stages: Vec<NewStage>) -> Outcome {
        self.end(credential, complete(add_stages), 1)
    }

    pub fn fail(&mut self, credential: impl Into<StageCredential>, class: FailureClass) -> Outcome {
        self.report(credential, super::build::report(class), 0.0)
    }

    pub fn report(&mut self, credential: impl Into<StageCredential>, report: FailureReport, jitter: f64) -> Outcome {
        self.end(credential, End::Fail { report, jitter }, 2)
    }

    pub fn release(&mut self, credential: impl Into<StageCredential>) -> Outcome {
        self.end(credential, End::Release, 3)
    }

    pub fn add(&mut self, credential: impl Into<StageCredential>, stages: Vec<NewStage>) -> Outcome {
        self.run(&AddStages { target: target(credential), stages, request: None })
    }

    pub fn progress(
        &mut self,
        credential: impl Into<StageCredential>,
        progress: Option<f64>,
        message: Option<&str>,
    ) -> Outcome {
        let message = message.map(Name::from);
        let target = target(credential);
        self.run(&UpdateProgress { target, progress, message, expected_version: None, request: None })
    }

    pub fn heartbeat(&mut self, token: LeaseToken) -> Outcome {
        self.run(&RenewLeases { namespace: NAMESPACE, tokens: vec![token] })
    }

    /// The reaper at the lease that a stage has now.
    pub fn reap(&mut self, name: &str) -> Outcome {
        let stage = self.stage(name);
        let token_secret = stage.token_secret.unwrap_or_default();
        self.run(&Reap { key: key(), stage_no: stage.no, token_secret, jitter: 0.0 })
    }

    /// The scheduler at the job, or at one of its stages.
    pub fn wake(&mut self, name: Option<&str>) -> bool {
        let stage_no = name.map(|name| self.stage(name).no);
        self.run(&Wake { key: key(), stage_no, jitter: 0.0 }).expect("never refused").applied
    }

    /// The scheduler at a job that is gone.
    pub fn wake_absent(&mut self) -> bool {
        self.run(&Wake { key: key(), stage_no: None, jitter: 0.0 }).expect("never refused").applied
    }

    pub fn control(&mut self, control: Control) -> Outcome {
        self.run(&ControlJob { key: key(), job_id: JOB_ID.into(), control, expected_revision: None, request: None })
    }

    pub fn cancel(&mut self, grace: Duration) -> Outcome {
        self.control(Control::Cancel { grace, reason: Some("enough".into()) })
    }

    pub fn pause(&mut self) -> Outcome {
        self.control(Control::Pause)
    }

    pub fn resume(&mut self) -> Outcome {
        self.control(Control::Resume)
    }

    pub fn retry(&mut self, from_stage: Option<&str>) -> Outcome {
        self.control(Control::Retry { from_stage: from_stage.map(Name::from) })
    }

    pub fn delete(&mut self) -> Outcome {
        self.run(&DeleteJob { key: key(), job_id: JOB_ID.into(), expected_revision: None, request: None })
    }

    /// Leases and completes a stage.
    pub fn finish(&mut self, name: &str) {
        let token = self.lease(name);
        self.complete(token).expect("completed");
    }

    /// Leases a stage and fails it for good.
    pub fn spoil(&mut self, name: &str) {
        let token = self.lease(name);
        self.fail(token, FailureClass::ClientError).expect("recorded");
    }
}

impl From<LeaseToken> for StageCredential {
    fn from(token: LeaseToken) -> Self {
        Self::Token(token)
    }
}

impl From<&str> for StageCredential {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

pub fn target(credential: impl Into<StageCredential>) -> StageTarget {
    StageTarget { key: key(), job_id: JOB_ID.into(), credential: credential.into() }
}

pub fn complete(add_stages: Vec<NewStage>) -> End {
    End::Complete { artifacts: None, job_result: None, message: None, add_stages }
}

/// Whether an outcome is the refusal that a state gives.
pub fn is_transition(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Refusal::InvalidTransition { .. }))
}
