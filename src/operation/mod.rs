//! One write per file: which keys it concerns, and a pure decision over them.
//!
//! A decision looks at the world, the clock and the request, and refuses or changes the world. It may be taken several
//! times, each time on newer state, so it draws nothing and remembers nothing: secrets and jitter are part of the operation.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::audit::AuditEntry;
use crate::domain::credential::ApiKey;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::{Job, JobTx};
use crate::domain::lease::StoredLease;
use crate::domain::permit::resource::Resource;
use crate::domain::permit::{BlockReason, ResourceKey};
use crate::domain::record::Record;
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::engine::world::{Key, World};
use permits::PermitReply;

pub mod commit;
pub mod control_job;
pub mod credential;
pub mod delete_job;
pub mod delete_record;
pub mod end_stage;
pub mod grow_job;
pub mod heartbeat;
pub mod lease_stages;
pub mod namespace;
pub mod permits;
pub mod probe;
pub mod reap;
pub mod redeliver_leases;
pub mod return_current;
pub mod start_stage;
pub mod submit_jobs;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub mod update_progress;
pub mod update_records;
pub mod wake;

/// How much an operation is: what queues and groups are bounded by.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// Rows it will write, about.
    pub rows: usize,
    /// Bytes of the user's objects that it carries.
    pub bytes: usize,
}

impl Weight {
    /// Of an operation that touches a handful of rows.
    pub const SMALL: Self = Self { rows: 6, bytes: 512 };

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

/// A write.
pub trait Operation: Send + Sync + 'static {
    /// What it is called in logs and metrics.
    fn name(&self) -> &'static str;

    /// Everything it may look at, so that it is loaded.
    fn keys(&self) -> Vec<Key>;

    /// Whether it makes this job under an id that nobody can have used, so that nothing need be looked up.
    fn creates(&self, _key: &JobKey) -> bool {
        false
    }

    /// How much it is.
    fn weight(&self) -> Weight {
        Weight::SMALL
    }

    /// Whether it keeps work alive (a heartbeat, the end of an attempt) and may use the queue's last tenth.
    fn is_urgent(&self) -> bool {
        false
    }

    /// Whether it looks at leases alone, not at their jobs. Such operations have a lane of their own, since in one statement with what grants or
    /// ends a lease they would write its row twice.
    fn only_leases(&self) -> bool {
        false
    }

    /// Whether it ends an attempt; one that then changes nothing was told before.
    fn ends_attempt(&self) -> bool {
        false
    }

    /// Whether it is committed although it changes nothing, to show that writes are done. Tests count without it.
    fn is_probe(&self) -> bool {
        false
    }

    /// The caller's `request_id`, if it gave one.
    fn request(&self) -> Option<RequestIdentity> {
        None
    }

    /// Things that it makes or changes beside jobs, which a repeat has to find.
    fn names(&self) -> Vec<Uuid> {
        Vec::new()
    }

    /// What the audit log notes of it once it was applied. None: it needs neither the role operate nor admin.
    fn audit(&self) -> Option<AuditEntry> {
        None
    }

    /// Looks at the world and refuses, or changes it.
    fn decide(&self, world: &mut World) -> Result<Reply, Refusal>;
}

/// What became of one update of a record.
#[derive(Clone, Debug)]
pub struct RecordOutcome {
    /// The record as the update left it; as it was, where it was deleted.
    pub record: Arc<Record>,
    /// Whether it changed anything.
    pub applied: bool,
}

impl RecordOutcome {
    /// The version that the update made; 0 if it changed nothing.
    pub fn applied_version(&self) -> i64 {
        if self.applied { self.record.version } else { 0 }
    }
}

/// The answer to an applied operation.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The jobs as the operation left them, in the order of the request; empty for a repeat.
    pub jobs: Vec<Arc<Job>>,
    /// The stages it was about.
    pub stages: Vec<StageNo>,
    /// What became of each update of a record, in the order of the request.
    pub records: Vec<RecordOutcome>,
    /// For a heartbeat: each lease as it is stored, in the order of the request. None: it is not held.
    pub leases: Vec<Option<StoredLease>>,
    /// What became of a wish for a permit.
    pub permit: Option<PermitReply>,
    /// The resource it was about, after it.
    pub resource: Option<Arc<Resource>>,
    /// The credential it was about, after it.
    pub key: Option<Arc<ApiKey>>,
    /// What ready stages wait for that could not be had without a permit, one for each.
    pub blocked: Vec<(ResourceKey, BlockReason)>,
    /// For a commit of several operations: the reply of each, in order; the lists above are empty then.
    pub parts: Vec<Reply>,
    /// Whether anything changed.
    pub applied: bool,
    /// For a repeated `request_id`: what the first one did. Nothing was changed now.
    pub replayed: Option<Arc<RequestRecord>>,
}

impl Reply {
    /// About one job.
    pub fn about((job, applied): (Arc<Job>, bool)) -> Self {
        Self { jobs: vec![job], applied, ..Self::default() }
    }

    /// About one stage of a job.
    pub fn about_stage(no: StageNo, (job, applied): (Arc<Job>, bool)) -> Self {
        Self { jobs: vec![job], stages: vec![no], applied, ..Self::default() }
    }

    /// About one credential.
    pub fn about_key(key: Arc<ApiKey>, applied: bool) -> Self {
        Self { key: Some(key), applied, ..Self::default() }
    }

    /// The revision of the first job, or the version of the first record or of the resource, after it.
    pub fn revision(&self) -> i64 {
        let job = self.jobs.first().map(|job| job.revision);
        let record = || self.records.first().map(|outcome| outcome.record.version);
        let resource = || self.resource.as_ref().map(|resource| resource.version);
        job.or_else(record).or_else(resource).unwrap_or(0)
    }

    /// Whether a repeat of the request shall get this. A denial of a permit it shall not: by then there may be one.
    fn is_final(&self) -> bool {
        !matches!(self.permit, Some(PermitReply::Denied(_)))
    }

    /// For a reply about several things, what [`RequestRecord::versions`] says. A single version is the revision.
    fn versions(&self) -> Vec<i64> {
        match &*self.records {
            [] => self.parts.iter().map(|part| if part.applied { part.revision() } else { 0 }).collect(),
            [_] => Vec::new(),
            records => records.iter().map(RecordOutcome::applied_version).collect(),
        }
    }

    fn record(&self, identity: RequestIdentity) -> RequestRecord {
        RequestRecord {
            digest: identity.digest,
            jobs: self
                .jobs
                .iter()
                .chain(self.parts.iter().flat_map(|part| &part.jobs))
                .map(|job| job.key.uid)
                .collect(),
            stage_no: self.stages.first().copied(),
            revision: self.revision(),
            versions: self.versions(),
            applied: self.applied,
        }
    }
}

/// Everything an operation may look at, its `request_id` included, and the audit log if it may add to it.
pub fn keys(operation: &dyn Operation) -> Vec<Key> {
    let mut keys = operation.keys();
    keys.extend(operation.request().map(|identity| Key::Request(identity.key)));
    keys.extend(operation.audit().map(|_| Key::AuditLog));
    keys
}

/// Decides an operation, or answers it from memory where its `request_id` was applied before.
pub fn decide(operation: &dyn Operation, world: &mut World) -> Result<Reply, Refusal> {
    let Some(identity) = operation.request() else {
        return decide_audited(operation, world);
    };
    if let Some(record) = world.request(identity.key) {
        if record.digest != identity.digest {
            return Err(Refusal::RequestIdReused);
        }
        return Ok(Reply { applied: record.applied, replayed: Some(record), ..Reply::default() });
    }
    let reply = decide_audited(operation, world)?;
    if reply.is_final() {
        let mut record = reply.record(identity);
        record.jobs.extend(operation.names());
        world.remember(identity.key, record);
    }
    Ok(reply)
}

/// Decides an operation, and notes what the audit log shall know of it if it was applied.
fn decide_audited(operation: &dyn Operation, world: &mut World) -> Result<Reply, Refusal> {
    let reply = operation.decide(world)?;
    if reply.applied
        && let Some(entry) = operation.audit()
    {
        world.audit(entry);
    }
    Ok(reply)
}

/// The job of a key, or the refusal that names it as the caller did.
fn existing(world: &mut World, key: JobKey, job_id: &str) -> Result<Arc<Job>, Refusal> {
    world.job(key).ok_or_else(|| Refusal::JobNotFound { job_id: job_id.to_owned() })
}

/// Keeps an edit of a job, and gives back the permits of the attempts that it ended. Returns the job after it, and whether anything
/// changed.
fn keep(world: &mut World, before: &Arc<Job>, edit: JobTx) -> (Arc<Job>, bool) {
    let released = permits::stages::released(&edit);
    let kept = world.keep(before, edit);
    if !released.is_empty() {
        permits::stages::release_all(world, before.key.namespace, released);
    }
    kept
}
