//! Turns the components of a group into the plan of its commit: what is checked and what is written.

use foldhash::HashSet;

use super::group::Decided;
use crate::domain::aggregate::Aggregate;
use crate::domain::audit::Actor;
use crate::domain::id::NamespaceId;
use crate::operation::overlay::{Key, Keyed, NamespaceChange, Overlay, match_key};
use crate::store::aggregate::Stored;
use crate::store::commit::Plan;
use crate::store::commit::columns::{FencingFloor, NamespaceName, NamespaceRow, NamespaceVersion, ProbeRow, RequestId};

/// A plan in the making.
pub struct Planner<'a> {
    pub plan: Plan,
    overlay: &'a Overlay,
    /// Keys that were read from the database for this group.
    fresh: &'a HashSet<Key>,
    /// Namespaces whose existence a component checks already, because it creates something in them.
    populated: HashSet<(i32, NamespaceId)>,
}

impl<'a> Planner<'a> {
    /// Begins to fill an empty plan with what was decided on an overlay.
    pub fn new(overlay: &'a Overlay, fresh: &'a HashSet<Key>, plan: Plan) -> Self {
        Self { plan, overlay, fresh, populated: HashSet::default() }
    }

    /// Plans the checks and writes of keys, in their order. Each comes with its component.
    pub fn plan_keys(&mut self, keys: &[(Key, i32)]) {
        for (key, c) in keys {
            match_key!(key, A, id => self.plan_root::<A>(*c, (key, id)), other => self.plan_other(*c, other));
        }
    }

    /// Plans the writes of an aggregate, or the check that it has not changed.
    fn plan_root<A: Keyed + Stored>(&mut self, c: i32, (key, id): (&Key, &A::Key)) {
        let overlay = self.overlay;
        let table = A::table(&overlay.tables);
        let base = table.base(id).map(|base| &**base);
        match table.change(id) {
            Some(change) => {
                let is_new = base.is_none() && change.after.is_some();
                if is_new
                    && let Some(namespace) = A::namespace(id)
                    && self.populated.insert((c, namespace))
                {
                    self.plan.key_share_namespaces.push(NamespaceRow { c, namespace_id: namespace.0 });
                }
                let states = (base, change.after.as_deref());
                A::write(&mut self.plan, c, id, states, &change.effects, overlay.now());
            }
            None if self.fresh.contains(key) => {}
            None => A::check_version(&mut self.plan, c, id, base),
        }
    }

    /// Plans what a group does to a key that is of no aggregate.
    fn plan_other(&mut self, c: i32, key: &Key) {
        let overlay = self.overlay;
        match key {
            Key::Lease(lease) => {
                if let Some(renewed) = overlay.leases.get(lease) {
                    self.plan.renew_lease(c, *lease, renewed.secret, renewed.expires_at);
                }
            }
            Key::Request(request) => {
                if let Some(record) = overlay.remembered.get(request) {
                    self.plan.remember_request(c, *request, record, overlay.now());
                } else if overlay.loaded.requests.get(request).is_some_and(Option::is_none) && !self.fresh.contains(key)
                {
                    let (namespace_id, request_id) = (request.namespace.0, request.request_id);
                    self.plan.check_absent_requests.push(RequestId { c, namespace_id, request_id });
                }
            }
            Key::Namespace(id) => match overlay.namespaces.get(id) {
                Some(NamespaceChange::RaiseFloor(fencing_floor)) => {
                    self.plan.lock_namespaces.push(namespace_version(c, *id, overlay));
                    self.plan.raise_floors.push(FencingFloor { c, namespace_id: id.0, fencing_floor: *fencing_floor });
                }
                Some(NamespaceChange::Delete) => {
                    self.plan.check_empty_namespaces.push(namespace_version(c, *id, overlay));
                    self.plan.delete_namespaces.push(NamespaceRow { c, namespace_id: id.0 });
                }
                None => {}
            },
            Key::NamespaceName(name) => {
                if overlay.created.contains(name) {
                    self.plan.check_absent_namespaces.push(NamespaceName { c, name: name.to_string() });
                    self.plan.insert_namespaces.push(NamespaceName { c, name: name.to_string() });
                }
            }
            Key::AuditLog => {}
            root => debug_assert!(!root.is_root(), "aggregates are planned by their type"),
        }
    }

    /// Plans what each operation needs beside the keys that are planned once for all. Each comes with its component; `is_written` says
    /// whether any operation writes a key.
    pub fn plan_operations<'d>(
        &mut self,
        decided: &'d [Decided],
        components: &[i32],
        is_written: impl Fn(&'d Key) -> bool,
    ) {
        let (overlay, mut seen) = (self.overlay, HashSet::default());
        for (one, &c) in decided.iter().zip(components) {
            for (key, no, secret) in &one.access.expired {
                self.plan.check_lease_expired(c, *key, *no, *secret);
            }
            for (key, permit) in &one.access.expired_permits {
                self.plan.check_permit_expired(c, *key, *permit);
            }
            for entry in one.access.audit.iter().filter(|entry| entry.is_noted_of(&one.pending.actor)) {
                debug_assert!(!matches!(one.pending.actor, Actor::Server), "{} names who asked for it", entry.method);
                let namespace = entry.namespace.and_then(|id| overlay.namespace_name(id));
                self.plan.audit(c, entry, &one.pending.actor, namespace, overlay.now());
            }
            if one.pending.operation.is_probe() {
                self.plan.note_probes.push(ProbeRow { c });
            }
            if one.access.written.is_empty() {
                continue;
            }
            // A key that is only read may change until the commit unless it is locked; so may one whose write leaves the version as it is, if
            // this operation writes something else that depends on it.
            let writes_others = |key: &Key| one.access.written.iter().any(|written| written != key);
            let needs_lock = |key: &'d Key| !is_written(key) || writes_others(key) && keeps_version(key, overlay);
            for key in one.access.read.iter().filter(|key| needs_lock(key)) {
                if !seen.insert((c, key)) {
                    continue;
                }
                match_key!(key, A, id => {
                        let base = A::table(&overlay.tables).base(id).map(|base| &**base);
                        A::share_lock(&mut self.plan, c, id, base);
                    },
                    Key::Namespace(id) => self.plan.share_lock_namespaces.push(namespace_version(c, *id, overlay)),
                    Key::Lease(_) | Key::Request(_) | Key::NamespaceName(_) | Key::AuditLog => {}
                );
            }
        }
    }
}

/// The version at which a namespace was loaded.
fn namespace_version(c: i32, id: NamespaceId, overlay: &Overlay) -> NamespaceVersion {
    let base = overlay.loaded.namespaces.get(&id).and_then(Option::as_ref);
    NamespaceVersion { c, namespace_id: id.0, version: base.map_or(0, |base| base.version) }
}

/// Whether the group changes nothing of an aggregate but unversioned rows, so that its version stays.
fn keeps_version(key: &Key, overlay: &Overlay) -> bool {
    match_key!(key, A, id => {
            let table = A::table(&overlay.tables);
            let after = table.change(id).and_then(|change| change.after.as_ref());
            A::HAS_UNVERSIONED_ROWS
                && after.zip(table.base(id)).is_some_and(|(after, base)| Aggregate::is_at_version_of(&**after, base))
        },
        Key::Lease(_) | Key::Request(_) | Key::Namespace(_) | Key::NamespaceName(_) | Key::AuditLog => false,
    )
}
