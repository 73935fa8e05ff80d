//! Operations: one write per file, with the keys it needs and a pure decision.
//!
//! A decision reads the overlay, the clock and the request, and either refuses or writes to the overlay. It may run several times, each time on
//! newer state, so it is deterministic and keeps nothing: secrets and jitter are part of the operation. `overlay` is what decisions see, with the
//! keys of everything that can be read and written.

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
use crate::domain::session::Session;
use crate::domain::session::segment::Segment;
use crate::operation::overlay::{Key, Overlay};
use permits::PermitReply;
use timeline::SegmentOutcome;

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
pub mod overlay;
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
pub mod timeline;
pub mod update_progress;
pub mod update_records;
pub mod wake;

/// Most rows of a group, about. An operation that writes more is committed alone.
pub const MAX_GROUP_ROWS: usize = 2_000 * 4;

/// Size of an operation, which queues and groups bound.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// About how many rows it writes.
    pub rows: usize,
    /// Bytes of user objects in it.
    pub bytes: usize,
}

impl Weight {
    /// An operation that writes a handful of rows.
    pub const SMALL: Self = Self { rows: 6, bytes: 512 };

    pub fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }
}

pub trait Operation: Send + Sync + 'static {
    /// Name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Keys that it may read or write, so that they are loaded. If it turns out to need more, it is decided again with them.
    fn keys(&self) -> Vec<Key>;

    /// Keys under which there is most likely nothing yet: jobs under ids that the server generated, and appended segments. They need not be
    /// looked up: the commit checks that they are absent.
    fn presumed_absent(&self) -> Vec<Key> {
        Vec::new()
    }

    fn weight(&self) -> Weight {
        Weight::SMALL
    }

    /// Whether accepted work depends on it, as on a heartbeat or the end of an attempt. Then it goes first and may use the last tenth of the queue.
    fn is_urgent(&self) -> bool {
        false
    }

    /// Whether it needs only leases, not their jobs. Such operations have a lane of their own: in one statement with an operation that grants or ends
    /// the lease they would write its row twice.
    fn only_leases(&self) -> bool {
        false
    }

    /// Whether it ends an attempt. If it then changes nothing, it is a repeat.
    fn ends_attempt(&self) -> bool {
        false
    }

    /// Whether it is the probe of health, which is committed although it changes nothing. Figures and fail points leave it out.
    fn is_probe(&self) -> bool {
        false
    }

    /// The caller's `request_id` with a digest of the request. None: the caller gave none.
    fn request(&self) -> Option<RequestIdentity> {
        None
    }

    /// Ids of what it creates or changes beside jobs, which are remembered with the request so that a repeat finds them.
    fn remembered_ids(&self) -> Vec<Uuid> {
        Vec::new()
    }

    /// Entry of the audit log once it is applied. None: it needs neither the role operate nor admin.
    fn audit(&self) -> Option<AuditEntry> {
        None
    }

    /// Reads the overlay, and either refuses or writes to it.
    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal>;
}

/// Outcome of one update of a record.
#[derive(Clone, Debug)]
pub struct RecordOutcome {
    /// The record after the update; if it was deleted, before it.
    pub record: Arc<Record>,
    /// Whether the update changed anything.
    pub applied: bool,
}

impl RecordOutcome {
    /// The version after the update; 0 if it changed nothing.
    pub fn applied_version(&self) -> i64 {
        if self.applied { self.record.version } else { 0 }
    }
}

/// The result of an operation that was not refused. A list is in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// Jobs after the operation; empty for a repeat.
    pub jobs: Vec<Arc<Job>>,
    /// Stages that it changed or was asked to change.
    pub stages: Vec<StageNo>,
    /// Outcomes of updates of records.
    pub records: Vec<RecordOutcome>,
    /// The session after the operation. None: there is none, or it was about none.
    pub session: Option<Arc<Session>>,
    /// The segment after it was corrected. None: it was about none.
    pub segment: Option<Arc<Segment>>,
    /// Outcomes of segments that were appended.
    pub segments: Vec<SegmentOutcome>,
    /// Leases of a heartbeat as they are stored. None: the lease is not held.
    pub leases: Vec<Option<StoredLease>>,
    /// Outcome of a request for a permit.
    pub permit: Option<PermitReply>,
    /// The resource after the operation. None: there is none, or it was about none.
    pub resource: Option<Arc<Resource>>,
    /// The credential after the operation.
    pub key: Option<Arc<ApiKey>>,
    /// For each ready stage that was blocked, the resource and why its permit was not granted.
    pub blocked: Vec<(ResourceKey, BlockReason)>,
    /// Replies to the operations of a commit; the lists above are empty then.
    pub parts: Vec<Reply>,
    /// Whether the operation changed anything.
    pub applied: bool,
    /// For a repeated `request_id`, what is remembered of the first request. Nothing is changed then.
    pub replayed: Option<Arc<RequestRecord>>,
}

impl Reply {
    pub fn about((job, applied): (Arc<Job>, bool)) -> Self {
        Self { jobs: vec![job], applied, ..Self::default() }
    }

    pub fn about_stage(no: StageNo, (job, applied): (Arc<Job>, bool)) -> Self {
        Self { jobs: vec![job], stages: vec![no], applied, ..Self::default() }
    }

    pub fn about_key(key: Arc<ApiKey>, applied: bool) -> Self {
        Self { key: Some(key), applied, ..Self::default() }
    }

    /// The revision of the first job, or else the version of the first record, or else of the resource or the session. 0: there are none.
    pub fn revision(&self) -> i64 {
        let job = self.jobs.first().map(|job| job.revision);
        let record = || self.records.first().map(|outcome| outcome.record.version);
        let resource = || self.resource.as_ref().map(|resource| resource.version);
        let session = || self.session.as_ref().map(|session| session.version);
        job.or_else(record).or_else(resource).or_else(session).unwrap_or(0)
    }

    /// Whether it is remembered for repeats of the request. A denied permit is not: a repeat may be granted one.
    fn is_final(&self) -> bool {
        !matches!(self.permit, Some(PermitReply::Denied(_)))
    }

    /// The value of [`RequestRecord::versions`]. Empty if there is one version, which is the revision.
    fn versions(&self) -> Vec<i64> {
        if !self.segments.is_empty() {
            return self.segments.iter().map(SegmentOutcome::applied_version).collect();
        }
        match &*self.records {
            [] => self.parts.iter().map(|part| if part.applied { part.revision() } else { 0 }).collect(),
            [_] => Vec::new(),
            records => records.iter().map(RecordOutcome::applied_version).collect(),
        }
    }

    fn to_request_record(&self, identity: RequestIdentity) -> RequestRecord {
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

/// All keys that an operation may read or write, its `request_id` and the audit log included.
pub fn keys(operation: &dyn Operation) -> Vec<Key> {
    let mut keys = operation.keys();
    keys.extend(operation.request().map(|identity| Key::Request(identity.key)));
    keys.extend(operation.audit().map(|_| Key::AuditLog));
    keys
}

/// Decides an operation, or replays the response if its `request_id` was applied before.
pub fn decide(operation: &dyn Operation, overlay: &mut Overlay) -> Result<Reply, Refusal> {
    let Some(identity) = operation.request() else {
        return decide_audited(operation, overlay);
    };
    if let Some(record) = overlay.request(identity.key) {
        if record.digest != identity.digest {
            return Err(Refusal::RequestIdReused);
        }
        return Ok(Reply { applied: record.applied, replayed: Some(record), ..Reply::default() });
    }
    let reply = decide_audited(operation, overlay)?;
    if reply.is_final() {
        let mut record = reply.to_request_record(identity);
        record.jobs.extend(operation.remembered_ids());
        overlay.remember(identity.key, record);
    }
    Ok(reply)
}

/// Decides an operation, and adds its entry of the audit log if it was applied.
fn decide_audited(operation: &dyn Operation, overlay: &mut Overlay) -> Result<Reply, Refusal> {
    let reply = operation.decide(overlay)?;
    if reply.applied
        && let Some(entry) = operation.audit()
    {
        overlay.audit(entry);
    }
    Ok(reply)
}

/// Reads a job, or refuses with the job's id as the caller gave it.
fn existing(overlay: &mut Overlay, key: JobKey, job_id: &str) -> Result<Arc<Job>, Refusal> {
    overlay.job(key).ok_or_else(|| Refusal::JobNotFound { job_id: job_id.to_owned() })
}

/// Writes a changed job, and releases the permits of the attempts that ended. Returns the job, and whether it has a new revision.
fn commit_job(overlay: &mut Overlay, before: &Arc<Job>, edit: JobTx) -> (Arc<Job>, bool) {
    let released = permits::stages::released(&edit);
    let kept = overlay.write_job(before, edit);
    if !released.is_empty() {
        permits::stages::release_all(overlay, before.key.namespace, released);
    }
    kept
}
