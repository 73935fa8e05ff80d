//! What an operation sees and changes: the state that its group has loaded, with what earlier operations of the group have changed.
//!
//! This is optimistic concurrency control (Kung and Robinson, 1981). An operation reads and writes the overlay; [`ReadWriteSet`] notes the keys,
//! and the commit checks that the versions read are still the stored ones. Each operation begins at a savepoint. If it is refused, its writes are
//! taken back, and only its reads remain, because the refusal depends on their versions.

mod cluster;
mod jobs;
mod key;
mod key_ring;
mod leases;
mod namespaces;
mod records;
mod resources;
mod sessions;
mod table;

use std::sync::Arc;

use foldhash::HashMap;
use uuid::Uuid;

use crate::domain::audit::AuditEntry;
use crate::domain::id::{JobKey, Name, NamespaceId, StageNo};
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::namespace::Namespace;
use crate::domain::permit::ResourceKey;
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;
pub use cluster::{ClusterView, Spared};
pub use key::{AggregateTables, Key, Keyed};
pub(crate) use key::{match_aggregate_key, match_key};
pub use table::{AggregateTable, Change};

/// Loaded state that belongs to no aggregate.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Leases, which are read for each group; absent where there is none.
    pub leases: HashMap<LeaseKey, StoredLease>,
    /// Remembered requests; `None` where the request is taken to be new.
    pub requests: HashMap<RequestKey, Option<Arc<RequestRecord>>>,
    /// Namespaces by number; `None` where there is no such namespace.
    pub namespaces: HashMap<NamespaceId, Option<Arc<Namespace>>>,
    /// Namespaces by name; `None` where there is no such namespace.
    pub names: HashMap<Name, Option<Arc<Namespace>>>,
}

/// How a group changes a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceChange {
    /// Raises its fencing floor to this, if it is lower.
    RaiseFloor(i64),
    Delete,
}

/// What an operation read and wrote, and what else its commit has to check.
#[derive(Clone, Debug, Default)]
pub struct ReadWriteSet {
    pub read: Vec<Key>,
    pub written: Vec<Key>,
    /// Leases that must have expired when it is committed.
    pub expired: Vec<(JobKey, StageNo, Uuid)>,
    /// Permits that must have expired when it is committed.
    pub expired_permits: Vec<(ResourceKey, Uuid)>,
    /// Keys it read that were not loaded. Unless empty, its outcome is void: it is decided again with them.
    pub unloaded: Vec<Key>,
    /// Whether it cannot be in one group with an earlier operation.
    pub needs_next_group: bool,
    /// Entries for the audit log.
    pub audit: Vec<AuditEntry>,
}

/// What the operation that is being decided has read and written so far; writes of aggregates are in their tables.
#[derive(Debug, Default)]
struct Savepoint {
    access: ReadWriteSet,
    leases: Vec<(LeaseKey, StoredLease)>,
    requests: Vec<(RequestKey, RequestRecord)>,
    namespaces: Vec<(NamespaceId, NamespaceChange)>,
    names: Vec<Name>,
}

/// The state of a group while its operations are decided.
#[derive(Debug)]
pub struct Overlay {
    /// Aggregates as they were loaded and as the group changes them.
    pub tables: AggregateTables,
    /// What else was loaded.
    pub loaded: Loaded,
    now: Timestamp,
    /// Leases that are renewed, as the group leaves them.
    pub leases: HashMap<LeaseKey, StoredLease>,
    /// Requests that the group remembers.
    pub remembered: HashMap<RequestKey, Arc<RequestRecord>>,
    /// Changes of namespaces by the group.
    pub namespaces: HashMap<NamespaceId, NamespaceChange>,
    /// Names of namespaces that the group creates.
    pub created: Vec<Name>,
    cluster: ClusterView,
    savepoint: Savepoint,
}

impl Overlay {
    /// Begins with what was loaded, at a moment of the database's clock.
    pub fn new(tables: AggregateTables, loaded: Loaded, now: Timestamp, cluster: ClusterView) -> Self {
        Self {
            tables,
            loaded,
            now,
            leases: HashMap::default(),
            remembered: HashMap::default(),
            namespaces: HashMap::default(),
            created: Vec::new(),
            cluster,
            savepoint: Savepoint::default(),
        }
    }

    /// The time at which operations are decided, by the database's clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What the server knows of the cluster.
    pub fn cluster(&self) -> &ClusterView {
        &self.cluster
    }

    /// Whether the operation has read a key that was not loaded, so that it will be decided again.
    pub fn needs_more_keys(&self) -> bool {
        !self.savepoint.access.unloaded.is_empty()
    }

    /// Makes the operation depend on a permit's having expired, unrenewed, when it is committed.
    pub fn require_permit_expired(&mut self, key: ResourceKey, permit: Uuid) {
        self.savepoint.access.expired_permits.push((key, permit));
    }

    /// Makes the operation depend on a lease's having expired, unrenewed, when it is committed.
    pub fn require_lease_expired(&mut self, key: JobKey, no: StageNo, token_secret: Uuid) {
        self.savepoint.access.expired.push((key, no, token_secret));
    }

    /// The remembered response to a request. None: the request is new.
    pub fn request(&mut self, key: RequestKey) -> Option<Arc<RequestRecord>> {
        self.savepoint.access.read.push(Key::Request(key));
        let remembered = self.remembered.get(&key).cloned();
        remembered.or_else(|| self.loaded.requests.get(&key).cloned().flatten())
    }

    /// Remembers a request with this operation.
    pub fn remember(&mut self, key: RequestKey, record: RequestRecord) {
        self.savepoint.access.written.push(Key::Request(key));
        self.savepoint.requests.push((key, record));
    }

    /// Notes what the operation does for the audit log, if it is applied.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.savepoint.access.audit.push(entry);
    }

    /// An aggregate as it is now, with what the group has done so far. None: there is none, or it was not loaded (see
    /// [`Self::needs_more_keys`]).
    fn read<A: Keyed>(&mut self, key: &A::Key) -> Option<Arc<A>> {
        let access = &mut self.savepoint.access;
        access.read.push(A::to_key(key.clone()));
        match A::table(&self.tables).current(key) {
            Some(found) => found.cloned(),
            None => {
                access.unloaded.push(A::to_key(key.clone()));
                None
            }
        }
    }

    /// Writes an aggregate. None: deletes it.
    fn write<A: Keyed>(&mut self, key: A::Key, after: Option<Arc<A>>, effects: A::Effects) {
        let access = &mut self.savepoint.access;
        // A write checks the version that was read just before it, unless it may leave that version as it is.
        let read =
            if A::HAS_UNVERSIONED_ROWS { None } else { access.read.pop_if(|read| A::of_key(read) == Some(&key)) };
        access.written.push(read.unwrap_or_else(|| A::to_key(key.clone())));
        A::table_mut(&mut self.tables).put(key, after, effects);
    }

    /// Ends an operation: its writes become part of the group if it was `applied` and is not to be decided again, else they are taken back.
    /// A refusal leaves only its reads.
    pub fn end_operation(&mut self, applied: bool) -> ReadWriteSet {
        let Savepoint { mut access, leases, requests, namespaces, names } = std::mem::take(&mut self.savepoint);
        let is_undecided = access.needs_next_group || !access.unloaded.is_empty();
        if is_undecided || !applied {
            self.tables.roll_back(&mut access.read);
            debug_assert!(self.tables.are_settled(), "all writes are taken back");
            return if is_undecided { access } else { ReadWriteSet { read: access.read, ..ReadWriteSet::default() } };
        }
        self.tables.release();
        debug_assert!(self.tables.are_settled(), "all writes are the group's");
        self.leases.extend(leases);
        self.remembered.extend(requests.into_iter().map(|(key, record)| (key, Arc::new(record))));
        for (id, change) in namespaces {
            self.merge_namespace(id, change);
        }
        self.created.extend(names);
        access
    }
}

#[cfg(test)]
mod tests;
