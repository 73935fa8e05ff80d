//! Jobs and stages in few words.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::failure::{FailureClass, FailureReport};
use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::{DEFAULT_RETENTION, Job, JobMeta, NewJob};
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::retry::{RetryPolicy, RetryRule};
use crate::domain::stage::{DEFAULT_QUEUE, DependsWhen, NewStage, OnFailure, StageSpec};
use crate::domain::time::Timestamp;

pub const NAMESPACE: NamespaceId = NamespaceId(1);
pub const JOB_ID: &str = "film";

pub fn key() -> JobKey {
    JobKey::of(NAMESPACE, JOB_ID)
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A stage with all defaults.
pub fn stage(name: &str) -> NewStage {
    let spec = StageSpec {
        name: name.into(),
        queue: DEFAULT_QUEUE.into(),
        depends_when: DependsWhen::default(),
        on_failure: OnFailure::default(),
        weight: 1.0,
        retry: Arc::default(),
        lease_duration: None,
        timeout: None,
        group_key: None,
        direct: false,
        permits: Vec::new(),
    };
    NewStage { spec: Arc::new(spec), inherits_retry: true, depends_on: vec![], required_by: vec![], input: None }
}

/// What a stage may be besides.
pub trait BuildStage: Sized {
    fn spec(self, change: impl FnOnce(&mut StageSpec)) -> Self;
    fn after(self, names: &[&str]) -> Self;
    fn before(self, names: &[&str]) -> Self;
    fn policy(self, policy: RetryPolicy) -> Self;

    fn when_finished(self) -> Self {
        self.spec(|spec| spec.depends_when = DependsWhen::AllFinished)
    }

    fn or_continue(self) -> Self {
        self.spec(|spec| spec.on_failure = OnFailure::Continue)
    }

    fn weighs(self, weight: f64) -> Self {
        self.spec(|spec| spec.weight = weight)
    }

    fn attempts(self, max_attempts: u32) -> Self {
        self.policy(RetryPolicy { max_attempts, ..RetryPolicy::default() })
    }

    fn direct(self) -> Self {
        self.spec(|spec| spec.direct = true)
    }
}

impl BuildStage for NewStage {
    fn spec(mut self, change: impl FnOnce(&mut StageSpec)) -> Self {
        change(Arc::make_mut(&mut self.spec));
        self
    }

    fn after(mut self, names: &[&str]) -> Self {
        self.depends_on.extend(names.iter().map(|name| Name::from(*name)));
        self
    }

    fn before(mut self, names: &[&str]) -> Self {
        self.required_by.extend(names.iter().map(|name| Name::from(*name)));
        self
    }

    fn policy(mut self, policy: RetryPolicy) -> Self {
        self.inherits_retry = false;
        self.spec(|spec| spec.retry = Arc::new(policy))
    }
}

/// The job `film` of some stages, all else default.
pub fn job(stages: Vec<NewStage>) -> NewJob {
    let meta = JobMeta {
        job_id: JOB_ID.into(),
        kind: "test".into(),
        create_time: Timestamp(0),
        delayed_until: None,
        timeout: None,
        retention: DEFAULT_RETENTION,
        retry: Arc::default(),
    };
    NewJob { key: key(), is_generated: false, meta, labels: Arc::default(), priority: 0, payload: None, stages }
}

pub fn rule(class: FailureClass) -> RetryRule {
    RetryRule {
        class,
        retryable: None,
        max_attempts: None,
        initial_backoff: None,
        multiplier: None,
        max_backoff: None,
        jitter: None,
    }
}

pub fn report(class: FailureClass) -> FailureReport {
    FailureReport { class, code: "E1".into(), message: "it broke".into(), retry_after: None, details: None }
}

/// The leases of a job as they are stored.
pub fn leases(job: &Job) -> impl Iterator<Item = (LeaseKey, StoredLease)> {
    job.stages.iter().filter_map(|stage| {
        let lease = stage.lease()?;
        let stored = StoredLease {
            secret: stage.token_secret?,
            fencing_token: Some(stage.fencing_token),
            duration: lease.duration,
            expires_at: lease.expires_at,
            job_state: job.state,
            job_revision: job.revision,
        };
        Some((LeaseKey { job: job.key, stage_no: stage.no }, stored))
    })
}
