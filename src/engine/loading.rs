//! Brings together what a group stands on: from the cache where it may, from the database where it must.

use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashSet};

use super::cache::Cached;
use super::contention::ContentionLevel;
use super::roots::Roots;
use super::round::Wanted;
use super::shared::Shared;
use super::world::{Key, Loaded, Surroundings};
use crate::domain::credential::KeyRing;
use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::Job;
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::record::{Record, RecordKey};
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::store::connection::{Client, DbResult, Run, Transaction};
use crate::store::credentials::changed_keys;
use crate::store::load;

/// The state of a group, how current it is, and when it is decided.
pub struct Basis {
    pub loaded: Loaded,
    /// What was read for this group and not taken from memory.
    pub fresh: HashSet<Key>,
    pub now: Timestamp,
    pub surroundings: Surroundings,
}

/// What has to be asked.
#[derive(Default)]
struct Missing {
    jobs: Vec<JobKey>,
    leases: Vec<LeaseKey>,
    known: HashMap<JobKey, Arc<Job>>,
    records: Vec<RecordKey>,
    known_records: HashMap<RecordKey, Arc<Record>>,
    resources: Vec<ResourceKey>,
    requests: Vec<RequestKey>,
    namespaces: Vec<NamespaceId>,
    names: Vec<Name>,
    key_ring: bool,
    known_key_ring: Option<Arc<KeyRing>>,
}

/// Loads what is `wanted`. With `trust` the cache is believed except about `stale` keys, new requests are taken to be new and
/// ids of ours to be unused: the commit proves it. Keys that other servers write too are read, which saves a round that
/// would be in vain. Without, all is read, as one does below a lock.
pub async fn load(
    shared: &Shared,
    client: &impl Run,
    wanted: &Wanted<'_>,
    stale: &HashSet<Key>,
    trust: bool,
) -> DbResult<Basis> {
    let mut loaded = Loaded::default();
    loaded.records.reserve(wanted.keys.iter().filter(|key| matches!(key, Key::Record(_))).count());
    let mut missing = Missing::default();
    let any_foreign = shared.contention.has_any(ContentionLevel::Foreign);
    for &key in &wanted.keys {
        let is_foreign = || any_foreign && shared.contention.is_at(ContentionLevel::Foreign, [key]);
        let trust = trust && !stale.contains(key) && !is_foreign();
        match key {
            Key::Job(job) if trust && wanted.created.contains(key) => drop(loaded.jobs.insert(*job, None)),
            // Never remembered: another server may have renewed it.
            Key::Lease(lease) => missing.leases.push(*lease),
            key => missing.look_up(shared, key, trust, &mut loaded),
        }
    }
    let clock = async {
        match shared.clock.fresh() {
            Some(now) if trust => Ok(now),
            Some(_) | None => {
                let asked = Instant::now();
                load::clock(client).await.map(|told| shared.clock.observe_answer(told, asked))
            }
        }
    };
    // Sent one behind the other without waiting: one round trip.
    let (now, jobs, leases, records, resources, requests, namespaces, key_ring) = futures::try_join!(
        clock,
        missing.jobs(client),
        missing.leases(client),
        missing.records(client),
        missing.resources(client),
        missing.requests(client),
        missing.namespaces(client),
        missing.key_ring(client)
    )?;
    for key in &missing.jobs {
        let job = jobs.get(key).cloned();
        match &job {
            Some(job) => shared.cache.put(Key::Job(*key), Cached::Job(job.clone())),
            None => shared.cache.remove(&Key::Job(*key)),
        }
        loaded.jobs.insert(*key, job);
    }
    loaded.leases = leases;
    for key in &missing.records {
        let record = records.get(key).cloned();
        match &record {
            Some(record) => shared.cache.put(Key::Record(key.clone()), Cached::Record(record.clone())),
            None => shared.cache.remove(&Key::Record(key.clone())),
        }
        loaded.records.insert(key.clone(), record);
    }
    for key in &missing.resources {
        let resource = resources.get(key).cloned();
        match &resource {
            Some(resource) => shared.cache.put(Key::Resource(*key), Cached::Resource(resource.clone())),
            None => shared.cache.remove(&Key::Resource(*key)),
        }
        loaded.resources.insert(*key, resource);
    }
    for key in &missing.requests {
        loaded.requests.insert(*key, requests.get(key).cloned());
    }
    for id in &missing.namespaces {
        let found = namespaces.iter().find(|namespace| namespace.id == *id).cloned();
        if let Some(namespace) = &found {
            shared.cache.put(Key::Namespace(*id), Cached::Namespace(namespace.clone()));
        }
        loaded.namespaces.insert(*id, found);
    }
    if let Some(ring) = key_ring {
        shared.cache.put(Key::KeyRing, Cached::KeyRing(ring.clone()));
        loaded.key_ring = Some(ring);
    }
    for name in &missing.names {
        let found = namespaces.iter().find(|namespace| namespace.name == *name).cloned();
        loaded.names.insert(name.clone(), found);
    }
    Ok(Basis { loaded, fresh: missing.asked(), now, surroundings: shared.permits.surroundings(shared.grace.spared()) })
}

/// Takes the locks of contended roots in a transaction, then loads what is below them: a statement of its own, which sees
/// what the wait for the locks was for.
pub async fn begin<'a>(
    shared: &Shared,
    client: &'a mut Client,
    roots: &Roots,
    wait: bool,
    wanted: &Wanted<'_>,
) -> DbResult<(Transaction<'a>, Basis)> {
    let transaction = client.transaction().await?;
    roots.lock(&transaction, wait).await?;
    failpoint::hit("after_lock");
    let basis = load(shared, &transaction, wanted, &HashSet::default(), false).await?;
    failpoint::hit("after_load");
    Ok((transaction, basis))
}

impl Missing {
    fn look_up(&mut self, shared: &Shared, key: &Key, trust: bool, loaded: &mut Loaded) {
        match (key, shared.cache.get(key)) {
            (Key::Job(key), Some(Cached::Job(job))) if trust => {
                loaded.jobs.insert(*key, Some(job));
            }
            (Key::Job(key), cached) => {
                if let Some(Cached::Job(job)) = cached {
                    self.known.insert(*key, job);
                }
                self.jobs.push(*key);
            }
            (Key::Record(key), Some(Cached::Record(record))) if trust => {
                loaded.records.insert(key.clone(), Some(record));
            }
            (Key::Record(key), cached) => {
                if let Some(Cached::Record(record)) = cached {
                    self.known_records.insert(key.clone(), record);
                }
                self.records.push(key.clone());
            }
            (Key::Resource(key), Some(Cached::Resource(resource))) if trust => {
                loaded.resources.insert(*key, Some(resource));
            }
            (Key::Resource(key), _) => self.resources.push(*key),
            // What is remembered never changes, so the cache may be believed here.
            (Key::Request(key), Some(Cached::Request(record))) => {
                loaded.requests.insert(*key, Some(record));
            }
            (Key::Request(key), _) if trust => {
                loaded.requests.insert(*key, None);
            }
            (Key::Request(key), _) => self.requests.push(*key),
            (Key::Namespace(id), Some(Cached::Namespace(namespace))) if trust => {
                loaded.namespaces.insert(*id, Some(namespace));
            }
            (Key::Namespace(id), _) => self.namespaces.push(*id),
            (Key::NamespaceName(name), _) => self.names.push(name.clone()),
            (Key::KeyRing, Some(Cached::KeyRing(ring))) if trust => loaded.key_ring = Some(ring),
            // There is nothing to read, or it is read anyway.
            (Key::AuditLog | Key::Lease(_), _) => {}
            (Key::KeyRing, cached) => {
                if let Some(Cached::KeyRing(ring)) = cached {
                    self.known_key_ring = Some(ring);
                }
                self.key_ring = true;
            }
        }
    }

    async fn jobs(&self, client: &impl Run) -> DbResult<HashMap<JobKey, Arc<Job>>> {
        if self.jobs.is_empty() { Ok(HashMap::default()) } else { load::jobs(client, &self.jobs, &self.known).await }
    }

    async fn leases(&self, client: &impl Run) -> DbResult<HashMap<LeaseKey, StoredLease>> {
        if self.leases.is_empty() { Ok(HashMap::default()) } else { load::leases(client, &self.leases).await }
    }

    async fn records(&self, client: &impl Run) -> DbResult<HashMap<RecordKey, Arc<Record>>> {
        if self.records.is_empty() {
            return Ok(HashMap::default());
        }
        load::records(client, &self.records, &self.known_records).await
    }

    async fn resources(&self, client: &impl Run) -> DbResult<HashMap<ResourceKey, Arc<Resource>>> {
        if self.resources.is_empty() { Ok(HashMap::default()) } else { load::resources(client, &self.resources).await }
    }

    async fn requests(&self, client: &impl Run) -> DbResult<HashMap<RequestKey, Arc<RequestRecord>>> {
        if self.requests.is_empty() { Ok(HashMap::default()) } else { load::requests(client, &self.requests).await }
    }

    async fn namespaces(&self, client: &impl Run) -> DbResult<Vec<Arc<crate::domain::namespace::Namespace>>> {
        if self.namespaces.is_empty() && self.names.is_empty() {
            return Ok(Vec::new());
        }
        load::namespaces(client, &self.namespaces, &self.names).await
    }

    /// The credentials, if they were asked for. Of those that are known only the changes are read.
    async fn key_ring(&self, client: &impl Run) -> DbResult<Option<Arc<KeyRing>>> {
        if !self.key_ring {
            return Ok(None);
        }
        let mut ring = self.known_key_ring.clone().unwrap_or_default();
        let changes = changed_keys(client, ring.version).await?;
        if changes.is_whole || changes.version != ring.version {
            Arc::make_mut(&mut ring).apply(changes);
        }
        Ok(Some(ring))
    }

    fn asked(self) -> HashSet<Key> {
        let jobs = self.jobs.into_iter().map(Key::Job);
        let records = self.records.into_iter().map(Key::Record);
        let resources = self.resources.into_iter().map(Key::Resource);
        let requests = self.requests.into_iter().map(Key::Request);
        let namespaces = self.namespaces.into_iter().map(Key::Namespace);
        jobs.chain(records)
            .chain(resources)
            .chain(requests)
            .chain(namespaces)
            .chain(self.names.into_iter().map(Key::NamespaceName))
            .chain(self.key_ring.then_some(Key::KeyRing))
            .collect()
    }
}
