//! Turns decided operations into components, and components into what the store is asked to prove and write.
//!
//! Operations that share a key that one of them writes share its final row, so they stand or fall together: a component.
//! Others are none of its business.

use foldhash::{HashMap, HashMapExt, HashSet};

use super::queue::Pending;
use super::world::{Key, Loaded, NamespaceEffect, Trace, World};
use crate::domain::audit::Actor;
use crate::domain::refusal::Refusal;
use crate::operation::Reply;
use crate::store::commit::columns::{Floor, NamespaceName, NamespaceRow, NamespaceVersion, ProbeRow, RequestId};
use crate::store::commit::{CommitMode, Plan};

/// Operations in a group at most.
pub const MAX_GROUP_OPERATIONS: usize = 1_024;
/// Rows in a group at most, about.
pub const MAX_GROUP_ROWS: usize = 2_000 * 4;
/// Bytes of user objects in a group at most.
pub const MAX_GROUP_BYTES: usize = 1 << 20;

/// An operation with the answer it gets if its component holds.
pub struct Decided {
    pub pending: Pending,
    pub outcome: Result<Reply, Refusal>,
    pub trace: Trace,
}

/// The components of a group and what they ask of the store.
#[derive(Default)]
pub struct Components {
    /// The component of each decided operation.
    pub of_operation: Vec<i32>,
    /// The component of each key that matters, in the order of keys, in which rows are locked.
    pub of_key: Vec<(Key, i32)>,
    /// Whether anything is written.
    pub writes: bool,
    /// What is proved and written.
    pub plan: Plan,
}

impl Components {
    /// Finds the components and fills the plan. Keys in `fresh` were loaded for this very group and need no further proof
    /// where they were only read.
    pub fn of(decided: &[Decided], world: &World, fresh: &HashSet<Key>, mode: CommitMode) -> Self {
        let most = decided.iter().map(|one| one.trace.written.len()).sum();
        let mut union = Union { nodes: HashMap::with_capacity(most), ..Union::default() };
        let nodes = union.nodes_of(decided);
        let mut this = Self { writes: most > 0, ..Self::default() };
        this.of_operation = nodes.iter().map(|node| union.root(*node)).collect();
        this.plan.mode = mode;
        this.plan_operations(decided, world, &union);
        this.of_key = union.into_roots();
        this.plan_keys(world, &world.loaded, fresh);
        this
    }

    /// In key order, which is the order in which rows are locked.
    fn plan_keys(&mut self, world: &World, loaded: &Loaded, fresh: &HashSet<Key>) {
        let mut populated = HashSet::default();
        for &(ref key, c) in &self.of_key {
            match key {
                Key::Job(job) => {
                    let base = loaded.jobs.get(job).and_then(Option::as_ref);
                    match (base, world.drafts.get(job)) {
                        (base, Some(draft)) => match (base, &draft.job) {
                            (base, Some(after)) => {
                                if base.is_none() && populated.insert((c, job.namespace)) {
                                    self.plan.share_namespaces.push(NamespaceRow { c, namespace_id: job.namespace.0 });
                                }
                                if base.is_none() && !draft.has_own_id {
                                    self.plan.prove_absent(c, *job);
                                }
                                let base = base.map(|base| &**base);
                                self.plan.write_job(c, base, after, &draft.changes, world.now());
                            }
                            (Some(base), None) => self.plan.delete_job(c, base),
                            (None, None) => self.plan.prove_absent(c, *job),
                        },
                        (_, None) if fresh.contains(key) => {}
                        (base, None) => self.plan.prove_job(c, *job, base.map(|base| &**base)),
                    }
                }
                Key::Lease(lease) => {
                    if let Some(renewed) = world.leases.get(lease) {
                        self.plan.renew_lease(c, *lease, renewed.secret, renewed.expires_at);
                    }
                }
                Key::Record(record) => {
                    let base = loaded.records.get(record).and_then(Option::as_deref);
                    match world.records.get(record) {
                        Some(after) => {
                            let is_new = base.is_none() && after.is_some();
                            if is_new && populated.insert((c, record.namespace)) {
                                self.plan.share_namespaces.push(NamespaceRow { c, namespace_id: record.namespace.0 });
                            }
                            self.plan.write_record(c, record, base, after.as_deref());
                        }
                        None if fresh.contains(key) => {}
                        None => self.plan.prove_record(c, record, base),
                    }
                }
                Key::Resource(resource) => {
                    let base = loaded.resources.get(resource).and_then(Option::as_deref);
                    match world.resources.get(resource) {
                        Some(after) => {
                            let is_new = base.is_none() && after.is_some();
                            if is_new && populated.insert((c, resource.namespace)) {
                                self.plan.share_namespaces.push(NamespaceRow { c, namespace_id: resource.namespace.0 });
                            }
                            self.plan.write_resource(c, *resource, base, after.as_deref(), world.now());
                        }
                        None if fresh.contains(key) => {}
                        None => self.plan.prove_resource(c, *resource, base),
                    }
                }
                Key::Request(request) => {
                    if let Some(record) = world.remembered.get(request) {
                        self.plan.remember(c, *request, record, world.now());
                    } else if loaded.requests.get(request).is_some_and(Option::is_none) && !fresh.contains(key) {
                        let (namespace_id, request_id) = (request.namespace.0, request.request_id);
                        self.plan.free_requests.push(RequestId { c, namespace_id, request_id });
                    }
                }
                Key::Namespace(id) => {
                    let base = loaded.namespaces.get(id).and_then(Option::as_ref);
                    let version = base.map_or(0, |base| base.version);
                    let row = NamespaceVersion { c, namespace_id: id.0, version };
                    match world.namespaces.get(id) {
                        Some(NamespaceEffect::Raise(fencing_floor)) => {
                            self.plan.lock_namespaces.push(row);
                            self.plan.raise_floors.push(Floor { c, namespace_id: id.0, fencing_floor: *fencing_floor });
                        }
                        Some(NamespaceEffect::Delete) => {
                            self.plan.empty_namespaces.push(row);
                            self.plan.delete_namespaces.push(NamespaceRow { c, namespace_id: id.0 });
                        }
                        None => {}
                    }
                }
                Key::NamespaceName(name) => {
                    if world.created.contains(name) {
                        self.plan.free_namespaces.push(NamespaceName { c, name: name.to_string() });
                        self.plan.insert_namespaces.push(NamespaceName { c, name: name.to_string() });
                    }
                }
                Key::AuditLog => {}
                Key::KeyRing => {
                    let base = loaded.key_ring.as_deref();
                    match &world.key_ring {
                        Some(after) => self.plan.write_key_ring(c, base, after),
                        None if fresh.contains(key) => {}
                        None => self.plan.prove_key_ring(c, base),
                    }
                }
            }
        }
    }

    /// What single operations stand on beside the keys that bind them together.
    fn plan_operations(&mut self, decided: &[Decided], world: &World, union: &Union<'_>) {
        let (loaded, mut seen) = (&world.loaded, HashSet::default());
        for (one, &c) in decided.iter().zip(&self.of_operation) {
            for (key, no, secret) in &one.trace.expired {
                self.plan.prove_expired(c, *key, *no, *secret);
            }
            for (key, permit) in &one.trace.expired_permits {
                self.plan.prove_permit_expired(c, *key, *permit);
            }
            for entry in one.trace.audit.iter().filter(|entry| entry.is_noted_of(&one.pending.actor)) {
                debug_assert!(!matches!(one.pending.actor, Actor::Server), "{} names who asked for it", entry.method);
                let namespace = entry.namespace.and_then(|id| world.namespace_name(id));
                self.plan.audit(c, entry, &one.pending.actor, namespace, world.now());
            }
            if one.pending.operation.is_probe() {
                self.plan.note_probes.push(ProbeRow { c });
            }
            if one.trace.written.is_empty() {
                continue;
            }
            // That others read the key too, and prove it for themselves, keeps it as it is for nobody; nor does a renewal, which is no version.
            let beside = |key: &Key| one.trace.written.iter().any(|written| written != key);
            let stands = |key: &Key| !union.writes(key) || beside(key) && is_at_its_version(world, key);
            for key in one.trace.read.iter().filter(|key| stands(key)) {
                if !seen.insert((c, key)) {
                    continue;
                }
                match key {
                    Key::Namespace(id) => {
                        let version = loaded.namespaces.get(id).and_then(Option::as_ref).map_or(0, |base| base.version);
                        let row = NamespaceVersion { c, namespace_id: id.0, version };
                        self.plan.floor_namespaces.push(row);
                    }
                    Key::Job(job) => {
                        self.plan.fence_job(c, *job, loaded.jobs.get(job).and_then(Option::as_deref));
                    }
                    Key::Record(record) => {
                        self.plan.fence_record(c, record, loaded.records.get(record).and_then(Option::as_deref));
                    }
                    Key::Resource(resource) => {
                        self.plan.fence_resource(
                            c,
                            *resource,
                            loaded.resources.get(resource).and_then(Option::as_deref),
                        );
                    }
                    Key::KeyRing => self.plan.lock_key_ring(c, loaded.key_ring.as_deref()),
                    Key::Lease(_) | Key::Request(_) | Key::NamespaceName(_) | Key::AuditLog => {}
                }
            }
        }
    }
}

/// Whether all that is written of a root is no part of its version: how long something below it lasts, or what a stage waits for.
fn is_at_its_version(world: &World, key: &Key) -> bool {
    match key {
        Key::Job(job) => {
            let after = world.drafts.get(job).and_then(|draft| draft.job.as_ref());
            let base = world.loaded.jobs.get(job).and_then(Option::as_ref);
            after.zip(base).is_some_and(|(after, base)| after.is_at_revision_of(base))
        }
        Key::Resource(resource) => {
            let after = world.resources.get(resource).and_then(Option::as_ref);
            let base = world.loaded.resources.get(resource).and_then(Option::as_ref);
            after.zip(base).is_some_and(|(after, base)| after.is_at_version_of(base))
        }
        Key::Lease(_)
        | Key::Record(_)
        | Key::Request(_)
        | Key::Namespace(_)
        | Key::NamespaceName(_)
        | Key::KeyRing
        | Key::AuditLog => false,
    }
}

/// Union-find over the keys that tie operations together.
#[derive(Default)]
struct Union<'a> {
    parents: Vec<i32>,
    nodes: HashMap<&'a Key, i32>,
    /// Nodes below this one are of what is written.
    written: i32,
}

impl<'a> Union<'a> {
    /// A member of the set of each operation. What ties it to others is all it wrote, what it read of what others write, and if
    /// it wrote nothing, all it read.
    fn nodes_of(&mut self, decided: &'a [Decided]) -> Vec<i32> {
        let mut sets: Vec<Option<i32>> = decided.iter().map(|one| self.join(None, &one.trace.written)).collect();
        self.written = self.next();
        for (one, set) in decided.iter().zip(&mut sets) {
            let only_reads = one.trace.written.is_empty();
            let ties: Vec<&Key> = one.trace.read.iter().filter(|key| only_reads || self.writes(key)).collect();
            *set = self.join(*set, ties);
        }
        sets.into_iter().map(|set| set.unwrap_or_else(|| self.add())).collect()
    }

    /// Whether any operation writes a key.
    fn writes(&self, key: &Key) -> bool {
        self.nodes.get(key).is_some_and(|node| *node < self.written)
    }

    /// Joins keys into a set, if there is one yet. Returns a member.
    fn join(&mut self, mut set: Option<i32>, keys: impl IntoIterator<Item = &'a Key>) -> Option<i32> {
        for key in keys {
            let next = self.next();
            let node = *self.nodes.entry(key).or_insert(next);
            if node == next {
                self.add();
            }
            if let Some(set) = set {
                let (a, b) = (self.root(set), self.root(node));
                self.parents[place(a)] = b;
            }
            set = Some(node);
        }
        set
    }

    /// The node that is added next.
    fn next(&self) -> i32 {
        i32::try_from(self.parents.len()).expect("a group has few operations")
    }

    fn add(&mut self) -> i32 {
        let node = self.next();
        self.parents.push(node);
        node
    }

    fn root(&mut self, mut node: i32) -> i32 {
        while self.parents[place(node)] != node {
            self.parents[place(node)] = self.parents[place(self.parents[place(node)])];
            node = self.parents[place(node)];
        }
        node
    }

    /// The set of each key, in the order of keys.
    fn into_roots(mut self) -> Vec<(Key, i32)> {
        let mut nodes: Vec<(&Key, i32)> = std::mem::take(&mut self.nodes).into_iter().collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(key, node)| (key.clone(), self.root(node))).collect()
    }
}

/// Where a node stands among the parents.
#[allow(clippy::cast_sign_loss)] // They are counted from 0.
fn place(node: i32) -> usize {
    node as usize
}
