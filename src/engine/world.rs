//! What a decision sees: the state its group stands on, with what earlier operations of the group have changed.
//!
//! An operation works on a layer of its own; only when it is decided does the layer become part of the world. Records, of which a batch
//! has many, are changed in the world at once; the layer keeps what stood there. A refused operation leaves nothing behind but the keys
//! it read, on whose versions its refusal rests.

mod keys;
mod leases;
mod namespaces;

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use uuid::Uuid;

use super::grace::Spared;
use crate::domain::audit::AuditEntry;
use crate::domain::credential::KeyRing;
use crate::domain::id::{JobKey, Name, NamespaceId, StageNo};
use crate::domain::job::{Job, JobChanges, JobTx};
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::namespace::Namespace;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::record::{Record, RecordKey};
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;

/// The root of something with a version of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A job with its stages and leases.
    Job(JobKey),
    /// A lease alone: how long it lasts, which is no part of the job's revision.
    Lease(LeaseKey),
    /// A record with its fields.
    Record(RecordKey),
    /// A resource with its permits and those who wait for one.
    Resource(ResourceKey),
    /// A remembered request.
    Request(RequestKey),
    /// A namespace by number.
    Namespace(NamespaceId),
    /// A namespace by name, to create one.
    NamespaceName(Name),
    /// The key ring: the root of all credentials.
    KeyRing,
    /// The audit log, which is only added to.
    AuditLog,
}

impl Key {
    /// The namespace that it is in. None: it is of the server as a whole, or a namespace by its name, which may not exist.
    pub fn namespace(&self) -> Option<NamespaceId> {
        match self {
            Self::Job(key) => Some(key.namespace),
            Self::Lease(key) => Some(key.job.namespace),
            Self::Record(key) => Some(key.namespace),
            Self::Resource(key) => Some(key.namespace),
            Self::Request(key) => Some(key.namespace),
            Self::Namespace(id) => Some(*id),
            Self::NamespaceName(_) | Self::KeyRing | Self::AuditLog => None,
        }
    }
}

/// The state that a group stands on. What is looked up must be here: present, or known to be absent.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Jobs; `None` where there is no such job, or none is expected.
    pub jobs: HashMap<JobKey, Option<Arc<Job>>>,
    /// Leases, which are always read; absent where there is none.
    pub leases: HashMap<LeaseKey, StoredLease>,
    /// Records; `None` where there is no such record.
    pub records: HashMap<RecordKey, Option<Arc<Record>>>,
    /// Resources; `None` where there is no such resource.
    pub resources: HashMap<ResourceKey, Option<Arc<Resource>>>,
    /// Remembered requests; `None` where the request is taken to be new.
    pub requests: HashMap<RequestKey, Option<Arc<RequestRecord>>>,
    /// Namespaces by number.
    pub namespaces: HashMap<NamespaceId, Option<Arc<Namespace>>>,
    /// Namespaces by name.
    pub names: HashMap<Name, Option<Arc<Namespace>>>,
    /// The credentials. None: they were not asked for.
    pub key_ring: Option<Arc<KeyRing>>,
}

/// A job as the group will leave it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The job; `None` if it is deleted.
    pub job: Option<Arc<Job>>,
    /// What is written beside it.
    pub changes: JobChanges,
    /// It is new under an id that nobody can have used.
    pub has_own_id: bool,
}

/// What becomes of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceEffect {
    /// Its fencing floor rises to this.
    Raise(i64),
    /// It goes.
    Delete,
}

/// What is known around a decision that it does not stand on: liveness, never safety, rests on it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// This server.
    pub server: Uuid,
    /// The servers that are there, this one included.
    pub servers: Arc<HashSet<Uuid>>,
    /// When that was known: about who came later nothing is.
    pub as_of: Option<Timestamp>,
    /// Whether a server may be there that knows no jobs in one row (see `store/in_row.rs`). New jobs get rows for their stages then.
    pub has_older_servers: bool,
    /// Permits that do not expire yet: the database was away, and their holders renew first.
    pub spared: Spared,
}

/// What an operation read and changed.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// What it looked at.
    pub read: Vec<Key>,
    /// What it changed.
    pub written: Vec<Key>,
    /// Leases it needs to have expired.
    pub expired: Vec<(JobKey, StageNo, Uuid)>,
    /// Permits it needs to have expired.
    pub expired_permits: Vec<(ResourceKey, Uuid)>,
    /// What it needs to look at beside its keys; as long as that is not here, its outcome means nothing.
    pub missing: Vec<Key>,
    /// It cannot be in one group with an earlier operation.
    pub must_wait: bool,
    /// What it tells the audit log.
    pub audit: Vec<AuditEntry>,
}

#[derive(Debug, Default)]
struct Layer {
    trace: Trace,
    jobs: Vec<(JobKey, Draft)>,
    leases: Vec<(LeaseKey, StoredLease)>,
    /// Records are changed in the world at once, since a batch has many. What stood there before, to be put back.
    records: Vec<(RecordKey, Option<Option<Arc<Record>>>)>,
    resources: HashMap<ResourceKey, Option<Arc<Resource>>>,
    requests: Vec<(RequestKey, RequestRecord)>,
    namespaces: Vec<(NamespaceId, NamespaceEffect)>,
    names: Vec<Name>,
    key_ring: Option<Arc<KeyRing>>,
}

/// The state of a group while it is being decided.
#[derive(Debug)]
pub struct World {
    /// What it all stands on.
    pub loaded: Loaded,
    now: Timestamp,
    /// Jobs that changed.
    pub drafts: HashMap<JobKey, Draft>,
    /// Leases that are renewed, as the group will leave them.
    pub leases: HashMap<LeaseKey, StoredLease>,
    /// Records that changed, as the group will leave them; `None` where one is deleted.
    pub records: HashMap<RecordKey, Option<Arc<Record>>>,
    /// Resources that changed, as the group will leave them; `None` where one is deleted.
    pub resources: HashMap<ResourceKey, Option<Arc<Resource>>>,
    /// Requests to remember.
    pub remembered: HashMap<RequestKey, Arc<RequestRecord>>,
    /// Namespaces that change.
    pub namespaces: HashMap<NamespaceId, NamespaceEffect>,
    /// Namespaces to create.
    pub created: Vec<Name>,
    /// The credentials as the group will leave them. None: they stay as they are.
    pub key_ring: Option<Arc<KeyRing>>,
    surroundings: Surroundings,
    layer: Layer,
}

impl World {
    /// The world as loaded, at a moment of the database's clock.
    pub fn new(loaded: Loaded, now: Timestamp, surroundings: Surroundings) -> Self {
        Self {
            loaded,
            now,
            drafts: HashMap::default(),
            leases: HashMap::default(),
            records: HashMap::default(),
            resources: HashMap::default(),
            remembered: HashMap::default(),
            namespaces: HashMap::default(),
            created: Vec::new(),
            key_ring: None,
            surroundings,
            layer: Layer::default(),
        }
    }

    /// The moment of the decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What is known around the decision.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// A job as it is now, with what the group has done so far.
    pub fn job(&mut self, key: JobKey) -> Option<Arc<Job>> {
        self.layer.trace.read.push(Key::Job(key));
        if let Some((_, draft)) = self.layer.jobs.iter().rev().find(|(written, _)| *written == key) {
            return draft.job.clone();
        }
        if let Some(draft) = self.drafts.get(&key) {
            return draft.job.clone();
        }
        if !self.loaded.jobs.contains_key(&key) {
            self.layer.trace.missing.push(Key::Job(key));
        }
        self.loaded.jobs.get(&key).cloned().flatten()
    }

    /// Begins to change a job.
    pub fn edit(&self, job: &Arc<Job>) -> JobTx {
        JobTx::begin(job.clone(), self.now)
    }

    /// Keeps an edit. Returns the job after it, and whether anything changed.
    pub fn keep(&mut self, before: &Arc<Job>, edit: JobTx) -> (Arc<Job>, bool) {
        match edit.finish() {
            None => (before.clone(), false),
            Some((job, changes)) => {
                let applied = job.revision != before.revision;
                self.put(job.key, Draft { job: Some(job.clone()), changes, ..Draft::default() });
                (job, applied)
            }
        }
    }

    /// Puts a new job into the world; `has_own_id` if nobody can have used its id.
    pub fn create(&mut self, mut job: Arc<Job>, changes: JobChanges, has_own_id: bool) {
        if self.surroundings.has_older_servers {
            Arc::make_mut(&mut job).has_stage_rows = true;
        }
        // One statement cannot delete and insert the same row: who creates anew what this group deletes comes after it. That
        // goes for a job which this group made itself, too: what was kept of its changes is not that of the new one.
        let was_there = self.loaded.jobs.get(&job.key).is_some_and(Option::is_some);
        self.layer.trace.must_wait |= was_there || self.drafts.contains_key(&job.key);
        self.put(job.key, Draft { job: Some(job), changes, has_own_id });
    }

    /// Removes a job from the world.
    pub fn delete(&mut self, key: JobKey) {
        self.put(key, Draft::default());
    }

    fn put(&mut self, key: JobKey, draft: Draft) {
        self.layer.trace.written.push(Key::Job(key));
        self.layer.jobs.push((key, draft));
    }

    /// A record as it is now, with what the group has done so far.
    pub fn record(&mut self, key: &RecordKey) -> Option<Arc<Record>> {
        self.layer.trace.read.push(Key::Record(key.clone()));
        self.records.get(key).or_else(|| self.loaded.records.get(key)).cloned().flatten()
    }

    /// Puts a new or changed record into the world. Its row is written as it is in the end, so unlike a job it may even be
    /// deleted and created again within a group.
    pub fn put_record(&mut self, record: Arc<Record>) {
        let key = record.key.clone();
        self.set_record(key, Some(record));
    }

    /// Removes a record from the world.
    pub fn delete_record(&mut self, key: &RecordKey) {
        self.set_record(key.clone(), None);
    }

    fn set_record(&mut self, key: RecordKey, after: Option<Arc<Record>>) {
        let trace = &mut self.layer.trace;
        // What is written needs no proof of having been read: mostly it was read just now, and nothing asks for it twice.
        let read = trace.read.pop_if(|read| matches!(read, Key::Record(read) if *read == key));
        trace.written.push(read.unwrap_or_else(|| Key::Record(key.clone())));
        let before = self.records.insert(key.clone(), after);
        self.layer.records.push((key, before));
    }

    /// A resource as it is now, with what the group has done so far. One that is not here, though it may exist, is asked for, and the
    /// operation decided again.
    pub fn resource(&mut self, key: ResourceKey) -> Option<Arc<Resource>> {
        self.layer.trace.read.push(Key::Resource(key));
        if let Some(changed) = self.layer.resources.get(&key).or_else(|| self.resources.get(&key)) {
            return changed.clone();
        }
        if !self.loaded.resources.contains_key(&key) {
            self.layer.trace.missing.push(Key::Resource(key));
        }
        self.loaded.resources.get(&key).cloned().flatten()
    }

    /// Puts a new or changed resource into the world; written as it is in the end, like a record.
    pub fn put_resource(&mut self, resource: Resource) {
        // Who makes anew what this group deletes comes after it: its numbers go on above a floor that is only raised now.
        let is_deleted = |changed: &HashMap<ResourceKey, Option<Arc<Resource>>>| {
            changed.get(&resource.key).is_some_and(Option::is_none)
        };
        self.layer.trace.must_wait |= is_deleted(&self.resources) || is_deleted(&self.layer.resources);
        self.layer.trace.written.push(Key::Resource(resource.key));
        self.layer.resources.insert(resource.key, Some(Arc::new(resource)));
    }

    /// Removes a resource from the world.
    pub fn delete_resource(&mut self, key: ResourceKey) {
        self.layer.trace.written.push(Key::Resource(key));
        self.layer.resources.insert(key, None);
    }

    /// Makes the operation depend on the permit's having expired when it commits, unrenewed.
    pub fn require_permit_expired(&mut self, key: ResourceKey, permit: Uuid) {
        self.layer.trace.expired_permits.push((key, permit));
    }

    /// Whether something that the operation looked at is not here, so that it will be decided again.
    pub fn is_blind(&self) -> bool {
        !self.layer.trace.missing.is_empty()
    }

    /// Makes the operation depend on the lease's having expired when it commits, unrenewed.
    pub fn require_expired(&mut self, key: JobKey, no: StageNo, token_secret: Uuid) {
        self.layer.trace.expired.push((key, no, token_secret));
    }

    /// What is remembered of a request.
    pub fn request(&mut self, key: RequestKey) -> Option<Arc<RequestRecord>> {
        self.layer.trace.read.push(Key::Request(key));
        let remembered = self.remembered.get(&key).cloned();
        remembered.or_else(|| self.loaded.requests.get(&key).cloned().flatten())
    }

    /// Remembers a request with this operation.
    pub fn remember(&mut self, key: RequestKey, record: RequestRecord) {
        self.layer.trace.written.push(Key::Request(key));
        self.layer.requests.push((key, record));
    }

    /// Ends an operation: its changes become part of the world if it was `applied`, else only what it read is kept.
    pub fn end_operation(&mut self, applied: bool) -> Trace {
        let mut layer = std::mem::take(&mut self.layer);
        let is_undecided = layer.trace.must_wait || !layer.trace.missing.is_empty();
        if is_undecided || !applied {
            for (key, before) in layer.records.into_iter().rev() {
                match before {
                    Some(before) => self.records.insert(key.clone(), before),
                    None => self.records.remove(&key),
                };
                layer.trace.read.push(Key::Record(key));
            }
            return if is_undecided { layer.trace } else { Trace { read: layer.trace.read, ..Trace::default() } };
        }
        for (key, draft) in layer.jobs {
            let whole = self.drafts.entry(key).or_default();
            whole.job = draft.job;
            whole.changes.merge(draft.changes);
            whole.has_own_id |= draft.has_own_id;
        }
        self.leases.extend(layer.leases);
        self.resources.extend(layer.resources);
        self.remembered.extend(layer.requests.into_iter().map(|(key, record)| (key, Arc::new(record))));
        for (id, effect) in layer.namespaces {
            let whole = self.namespaces.entry(id).or_insert_with(|| effect.clone());
            match (&mut *whole, effect) {
                (NamespaceEffect::Raise(floor), NamespaceEffect::Raise(higher)) => *floor = (*floor).max(higher),
                (whole, effect) => *whole = effect,
            }
        }
        self.created.extend(layer.names);
        self.key_ring = layer.key_ring.or(self.key_ring.take());
        layer.trace
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
