//! Loads what a group depends on: from the cache where it may, from the database where it must.

use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashSet, HashSetExt};

use super::cache::Cacheable;
use super::contention::ContentionLevel;
use super::queue::Pending;
use super::roots::Roots;
use super::shared::Shared;
use crate::domain::aggregate::{Aggregate, for_each_aggregate};
use crate::domain::id::{Name, NamespaceId};
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::namespace::Namespace;
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::operation::overlay::{AggregateTable, AggregateTables, ClusterView, Key, Keyed, Loaded, match_key};
use crate::store::aggregate::Stored;
use crate::store::connection::{Client, DbResult, Run, Transaction};
use crate::store::lexemes::LexemeCache;
use crate::store::load;

/// What a group may look at.
pub struct Wanted<'a> {
    /// All keys that its operations name, and those that earlier decisions needed too.
    pub keys: HashSet<&'a Key>,
    /// Those of them under which its operations expect nothing.
    pub presumed_absent: HashSet<Key>,
}

impl<'a> Wanted<'a> {
    pub fn by(group: &'a [Pending]) -> Self {
        let most = group.iter().map(|pending| pending.keys().count()).sum();
        let mut wanted = Self { keys: HashSet::with_capacity(most), presumed_absent: HashSet::default() };
        for pending in group {
            wanted.keys.extend(pending.keys());
            wanted.presumed_absent.extend(pending.operation.presumed_absent());
        }
        wanted
    }
}

/// The state of a group, how current it is, and when it is decided.
pub struct Basis {
    pub tables: AggregateTables,
    pub loaded: Loaded,
    /// Keys that were read from the database for this group, not taken from the cache.
    pub fresh: HashSet<Key>,
    pub now: Timestamp,
    pub cluster: ClusterView,
    /// Lexemes from which vectors of segments are made.
    pub lexemes: Arc<LexemeCache>,
}

/// Where the state of an aggregate comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LookUp {
    /// From the cache. If it is not there, it is absent.
    Absent,
    /// From the cache, or else from the database.
    Trust,
    /// From the database.
    Read,
}

/// Whether the root of what is presumed absent has been in use on this server. The first append to a session looks its segments up: they may have
/// been appended through another server, or before this one started.
fn is_root_known(shared: &Shared, key: &Key, is_trusted: impl Fn(&Key) -> bool) -> bool {
    let Key::Segment(segment) = key else { return true };
    let session = Key::Session(segment.session);
    is_trusted(&session) && shared.cache.contains(&session)
}

/// Aggregates of one kind that have to be read.
struct Missing<A: Aggregate> {
    keys: Vec<A::Key>,
    /// What the cache has of them, perhaps stale.
    known: HashMap<A::Key, Arc<A>>,
}

/// What else has to be read.
#[derive(Default)]
struct MissingOthers {
    leases: Vec<LeaseKey>,
    requests: Vec<RequestKey>,
    namespaces: Vec<NamespaceId>,
    names: Vec<Name>,
}

/// Loads what is `wanted`. With `trust` the cache is used except for `stale` keys, new requests are taken to be new, and
/// what is presumed absent to be so: the commit checks it. Keys that other servers write too are read, which saves a round
/// that would be lost. Without, all is read, as it is under a lock.
pub async fn load(
    shared: &Shared,
    client: &impl Run,
    wanted: &Wanted<'_>,
    stale: &HashSet<Key>,
    trust: bool,
) -> DbResult<Basis> {
    let (mut tables, mut loaded) = (AggregateTables::default(), Loaded::default());
    tables.records.reserve(wanted.keys.iter().filter(|key| matches!(key, Key::Record(_))).count());
    let (mut aggregates, mut others) = (MissingAggregates::default(), MissingOthers::default());
    let any_foreign = shared.contention.has_any(ContentionLevel::Foreign);
    let is_foreign = |key: &Key| any_foreign && shared.contention.is_at(ContentionLevel::Foreign, [key]);
    let is_trusted = |key: &Key| trust && !stale.contains(key) && !is_foreign(key);
    for &key in &wanted.keys {
        let trust = is_trusted(key);
        match_key!(key, A, id => {
                let is_absent = trust && wanted.presumed_absent.contains(key) && is_root_known(shared, key, is_trusted);
                let how = if is_absent { LookUp::Absent } else if trust { LookUp::Trust } else { LookUp::Read };
                A::missing(&mut aggregates).look_up(shared, (key, id), how, A::table_mut(&mut tables));
            },
            key => others.look_up(shared, key, trust, &mut loaded),
        );
    }
    let clock = async {
        match shared.clock.fresh() {
            Some(now) if trust => Ok(now),
            Some(_) | None => {
                let asked = Instant::now();
                load::clock(client).await.map(|time| shared.clock.observe_answer(time, asked))
            }
        }
    };
    // Pipelined: one round trip.
    let (now, found, leases, requests, namespaces) = futures::try_join!(
        clock,
        aggregates.load(client),
        others.leases(client),
        others.requests(client),
        others.namespaces(client),
    )?;
    let mut fresh = HashSet::default();
    aggregates.install(found, shared, &mut tables, &mut fresh);
    loaded.leases = leases;
    others.install(&requests, &namespaces, shared, &mut loaded, &mut fresh);
    let (cluster, lexemes) = (shared.permits.cluster(shared.grace.spared()), shared.store.lexemes.clone());
    Ok(Basis { tables, loaded, fresh, now, cluster, lexemes })
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

impl<A: Aggregate> Default for Missing<A> {
    fn default() -> Self {
        Self { keys: Vec::new(), known: HashMap::default() }
    }
}

impl<A: Keyed + Stored + Cacheable> Missing<A> {
    /// Takes an aggregate from the cache, or notes that it has to be read.
    fn look_up(&mut self, shared: &Shared, (key, id): (&Key, &A::Key), how: LookUp, table: &mut AggregateTable<A>) {
        if how == LookUp::Absent && !shared.cache.contains(key) {
            return table.load(id.clone(), None);
        }
        let cached = shared.cache.get::<A>(key);
        if how != LookUp::Read && cached.is_some() {
            return table.load(id.clone(), cached);
        }
        if let Some(cached) = cached {
            self.known.insert(id.clone(), cached);
        }
        self.keys.push(id.clone());
    }

    async fn load(&self, client: &impl Run) -> DbResult<HashMap<A::Key, Arc<A>>> {
        if self.keys.is_empty() { Ok(HashMap::default()) } else { A::load(client, &self.keys, &self.known).await }
    }

    fn install(
        self,
        mut found: HashMap<A::Key, Arc<A>>,
        shared: &Shared,
        table: &mut AggregateTable<A>,
        fresh: &mut HashSet<Key>,
    ) {
        for id in self.keys {
            let (key, found) = (A::to_key(id.clone()), found.remove(&id));
            match &found {
                Some(found) => shared.cache.put(key.clone(), found.clone()),
                None => shared.cache.remove(&key),
            }
            table.load(id, found);
            fresh.insert(key);
        }
    }
}

macro_rules! define_missing {
    ($($table:ident: $variant:ident, $aggregate:ty;)*) => {
        /// Aggregates that have to be read.
        #[derive(Default)]
        struct MissingAggregates {
            $($table: Missing<$aggregate>,)*
        }

        /// Aggregates that were read; there is no entry for one that does not exist.
        struct FoundAggregates {
            $($table: HashMap<<$aggregate as Aggregate>::Key, Arc<$aggregate>>,)*
        }

        impl MissingAggregates {
            async fn load(&self, client: &impl Run) -> DbResult<FoundAggregates> {
                let ($($table,)*) = futures::try_join!($(self.$table.load(client),)*)?;
                Ok(FoundAggregates { $($table,)* })
            }

            fn install(
                self,
                found: FoundAggregates,
                shared: &Shared,
                tables: &mut AggregateTables,
                fresh: &mut HashSet<Key>,
            ) {
                $(self.$table.install(found.$table, shared, &mut tables.$table, fresh);)*
            }
        }

        /// An aggregate with its place among those that have to be read.
        trait Loadable: Keyed {
            fn missing(missing: &mut MissingAggregates) -> &mut Missing<Self>;
        }

        $(
            impl Loadable for $aggregate {
                fn missing(missing: &mut MissingAggregates) -> &mut Missing<Self> {
                    &mut missing.$table
                }
            }
        )*
    };
}
for_each_aggregate!([define_missing]);

impl MissingOthers {
    fn look_up(&mut self, shared: &Shared, key: &Key, trust: bool, loaded: &mut Loaded) {
        match key {
            // Never cached: another server may have renewed it.
            Key::Lease(lease) => self.leases.push(*lease),
            // What is remembered never changes, so the cache is current.
            Key::Request(request) => match shared.cache.get::<RequestRecord>(key) {
                Some(record) => drop(loaded.requests.insert(*request, Some(record))),
                None if trust => drop(loaded.requests.insert(*request, None)),
                None => self.requests.push(*request),
            },
            Key::Namespace(id) => match shared.cache.get::<Namespace>(key).filter(|_| trust) {
                Some(namespace) => drop(loaded.namespaces.insert(*id, Some(namespace))),
                None => self.namespaces.push(*id),
            },
            Key::NamespaceName(name) => self.names.push(name.clone()),
            // There is nothing to read.
            Key::AuditLog => {}
            root => debug_assert!(!root.is_root(), "aggregates are looked up by their type"),
        }
    }

    fn install(
        self,
        requests: &HashMap<RequestKey, Arc<RequestRecord>>,
        namespaces: &[Arc<Namespace>],
        shared: &Shared,
        loaded: &mut Loaded,
        fresh: &mut HashSet<Key>,
    ) {
        for key in self.requests {
            loaded.requests.insert(key, requests.get(&key).cloned());
            fresh.insert(Key::Request(key));
        }
        for id in self.namespaces {
            let found = namespaces.iter().find(|namespace| namespace.id == id).cloned();
            if let Some(namespace) = &found {
                shared.cache.put(Key::Namespace(id), namespace.clone());
            }
            loaded.namespaces.insert(id, found);
            fresh.insert(Key::Namespace(id));
        }
        for name in self.names {
            let found = namespaces.iter().find(|namespace| namespace.name == name).cloned();
            loaded.names.insert(name.clone(), found);
            fresh.insert(Key::NamespaceName(name));
        }
    }

    async fn leases(&self, client: &impl Run) -> DbResult<HashMap<LeaseKey, StoredLease>> {
        if self.leases.is_empty() { Ok(HashMap::default()) } else { load::leases(client, &self.leases).await }
    }

    async fn requests(&self, client: &impl Run) -> DbResult<HashMap<RequestKey, Arc<RequestRecord>>> {
        if self.requests.is_empty() { Ok(HashMap::default()) } else { load::requests(client, &self.requests).await }
    }

    async fn namespaces(&self, client: &impl Run) -> DbResult<Vec<Arc<Namespace>>> {
        if self.namespaces.is_empty() && self.names.is_empty() {
            return Ok(Vec::new());
        }
        load::namespaces(client, &self.namespaces, &self.names).await
    }
}
