//! Transaction of an operation on resources: working copies of the resources that it changes. When it finishes, every waiter that can be
//! served is served, in the same commit.
//!
//! **Order of service.** Each queue is ordered by priority, then by arrival. A waiter that the resource itself blocks also blocks all
//! behind it, so that small claims do not starve a large one. A waiter that only another resource blocks is overtaken, for a limited time.
//! Ready stages share one entry in the queue: when it is at the head, `stage_queue` wakes some of them and reserves headroom for them for a
//! short time, since a worker has to lease them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::StageCredential;
use crate::domain::permit::resource::{PermitTerms, Resource};
use crate::domain::permit::step_back::SLACK;
use crate::domain::permit::wait_queue::{QueuePosition, StageWaiters, Waiter};
use crate::domain::permit::{Block, Blocker, Granted, HeldPermit, PermitClaim, ResourceKey};
use crate::domain::time::Timestamp;
use crate::operation::overlay::Overlay;

/// Time to live of a permit that was granted to a waiter of another server, until that server confirms that the caller is connected.
pub const CLAIM_FOR: Duration = Duration::from_secs(5);
/// Time after which a new server is known to all others.
const NEW_FOR: Duration = Duration::from_secs(3);

/// Working copies of resources in one namespace.
pub struct ResourceTx<'w> {
    pub overlay: &'w mut Overlay,
    pub now: Timestamp,
    namespace: NamespaceId,
    pub(super) open: BTreeMap<ResourceKey, OpenResource>,
}

/// Working copy of a resource.
pub(super) struct OpenResource {
    pub(super) resource: Resource,
    pub(super) is_changed: bool,
    /// Whether its wait queue has to be served.
    is_due: bool,
}

/// Blocks of a request, with the keys of their resources.
pub type BlockedClaims = Vec<(ResourceKey, Blocker)>;

impl<'w> ResourceTx<'w> {
    pub fn new(overlay: &'w mut Overlay, namespace: NamespaceId) -> Self {
        let now = overlay.now();
        Self { overlay, now, namespace, open: BTreeMap::new() }
    }

    /// Working copy of a stored resource. `None`: it does not exist, or is not loaded.
    pub fn get(&mut self, key: ResourceKey) -> Option<&mut Resource> {
        if !self.open.contains_key(&key) {
            let mut resource = Resource::clone(&*self.overlay.resource(key)?);
            let is_ahead = resource.is_ahead(self.now);
            if is_ahead {
                resource.step_back(self.now);
            }
            self.open.insert(key, OpenResource { resource, is_changed: is_ahead, is_due: is_ahead });
        }
        self.open.get_mut(&key).map(|open| &mut open.resource)
    }

    /// Working copy of a resource, created as a lock if it does not exist.
    pub fn get_or_new(&mut self, name: &Name) -> &mut Resource {
        let key = ResourceKey::of(self.namespace, name);
        if self.get(key).is_none() {
            let floor = self.overlay.namespace(self.namespace).map_or(0, |namespace| namespace.fencing_floor);
            let resource = Resource::new(key, name.clone(), floor, self.now);
            self.open.insert(key, OpenResource { resource, is_changed: false, is_due: false });
        }
        &mut self.open.get_mut(&key).expect("it was just put there").resource
    }

    /// Marks a resource as changed, and its wait queue as due.
    pub fn mark_changed(&mut self, key: ResourceKey) {
        if let Some(open) = self.open.get_mut(&key) {
            open.is_changed = true;
            open.is_due = true;
        }
    }

    /// Ends expired permits: all if `is_needed`, else only those that a late holder cannot renew any more, see [`Resource::expired`]. The
    /// commit checks the stored expiries. Returns whether there were any.
    pub fn expire(&mut self, key: ResourceKey, is_needed: bool) -> bool {
        let (now, spared) = (self.now, self.overlay.cluster().spared);
        let Some(resource) = self.get(key) else { return false };
        let is_spared = |id: &Uuid| spared.spares(resource.permits[id].held_since());
        let expired: Vec<Uuid> = resource.expired(now, is_needed).into_iter().filter(|id| !is_spared(id)).collect();
        for id in &expired {
            resource.expire_permit(id, now);
        }
        for id in &expired {
            self.overlay.require_permit_expired(key, *id);
        }
        if !expired.is_empty() {
            self.mark_changed(key);
        }
        !expired.is_empty()
    }

    /// Returns the claims that cannot be granted now, with reasons. `position` is the caller's position in each wait queue; stages use the
    /// shared position of stages, if there is one. Expired permits that block a claim are ended first.
    pub fn find_blocks(&mut self, claims: &[PermitClaim], position: QueuePosition, is_stage: bool) -> BlockedClaims {
        let now = self.now;
        let mut blocked = Vec::new();
        for claim in claims {
            let resource = self.get_or_new(&claim.resource);
            let (key, learns) = (resource.key, resource.learns());
            if learns {
                self.expire(key, true);
            }
            let mut outcome = self.check(claim, position, is_stage);
            let is_by_others = |block| self.get(key).is_some_and(|resource| resource.is_by_others(block, now));
            if outcome.is_err_and(is_by_others) && self.expire(key, true) {
                outcome = self.check(claim, position, is_stage);
            }
            if let Err(block) = outcome {
                blocked.push((key, Blocker { resource: claim.resource.clone(), block }));
            }
        }
        blocked
    }

    fn check(&mut self, claim: &PermitClaim, position: QueuePosition, is_stage: bool) -> Result<(), Block> {
        let now = self.now;
        let resource = self.get_or_new(&claim.resource);
        let stages = resource.state.stages.filter(|_| is_stage);
        let position = stages.map_or(position, |stages| stages.position());
        resource.allows(claim, position, is_stage, now)
    }

    /// Grants claims; the caller has checked that they are available.
    pub fn grant(&mut self, claims: &[PermitClaim], terms: &PermitTerms) -> Vec<Granted> {
        let now = self.now;
        let mut granted = Vec::with_capacity(claims.len());
        for claim in claims {
            let resource = self.get_or_new(&claim.resource);
            let fencing_token = resource.grant(claim, terms.clone(), now);
            let (key, expires_at) = (resource.key, terms.expires_at);
            granted.push(Granted { key, resource: claim.resource.clone(), fencing_token, expires_at });
            self.mark_changed(key);
        }
        granted
    }

    /// Uids of the resources of claims, as a permit stores them. Empty for a single claim.
    pub fn permit_uids(&self, claims: &[PermitClaim]) -> Vec<Uuid> {
        let uid = |claim: &PermitClaim| ResourceKey::of(self.namespace, &claim.resource).uid;
        if claims.len() > 1 { claims.iter().map(uid).collect() } else { Vec::new() }
    }

    /// Removes a waiter from all wait queues. Returns whether it was in one.
    pub fn dequeue(&mut self, waiter: &Waiter) -> bool {
        let mut was_there = false;
        for claim in &waiter.claims {
            let key = ResourceKey::of(self.namespace, &claim.resource);
            if self.get(key).is_some_and(|resource| resource.wait_queue.remove(&waiter.position()).is_some()) {
                self.mark_changed(key);
                was_there = true;
            }
        }
        was_there
    }

    /// Removes waiters of a queue that have stopped waiting, or that were connected to a server that is gone.
    pub fn dequeue_departed(&mut self, key: ResourceKey) {
        let waiters: Vec<Arc<Waiter>> =
            self.get(key).map_or_else(Vec::new, |resource| resource.wait_queue.values().cloned().collect());
        for waiter in waiters {
            if self.has_departed(&waiter) {
                self.dequeue(&waiter);
            }
        }
    }

    fn has_departed(&self, waiter: &Waiter) -> bool {
        waiter.until <= self.now || self.is_orphan(waiter)
    }

    /// Adds a waiter to the queue of a resource.
    pub fn enqueue(&mut self, key: ResourceKey, waiter: &Arc<Waiter>) {
        if let Some(open) = self.open.get_mut(&key)
            && !open.resource.wait_queue.contains_key(&waiter.position())
        {
            open.resource.enqueue(waiter);
            // Time may have passed since the queue was served. A commit that writes a queue leaves no waiter in it that can be served.
            self.mark_changed(key);
        }
    }

    /// Marks the queue of a resource as due, whether the resource was changed or not.
    pub fn mark_due(&mut self, key: ResourceKey) {
        self.get(key);
        if let Some(open) = self.open.get_mut(&key) {
            open.is_due = true;
        }
    }

    /// Serves all queues that are due.
    pub fn grant_waiters(&mut self) {
        while let Some(key) = self.open.iter().find(|(_, open)| open.is_due).map(|(key, _)| *key) {
            if let Some(open) = self.open.get_mut(&key) {
                open.is_due = false;
            }
            self.serve_queue(key);
            if self.overlay.needs_more_keys() {
                return;
            }
        }
    }

    /// Serves the queues and writes the changed resources. Returns whether there were any.
    pub fn finish(mut self) -> bool {
        self.grant_waiters();
        let (now, mut any) = (self.now, false);
        for OpenResource { mut resource, is_changed, .. } in self.open.into_values() {
            if is_changed {
                debug_assert!(resource.is_consistent(), "counts follow from the permits: {resource:?}");
                resource.version += 1;
                resource.update_time = resource.update_time.max(now);
                self.overlay.put_resource(resource);
                any = true;
            }
        }
        any
    }

    /// Serves one queue from its head until a waiter blocks it.
    fn serve_queue(&mut self, key: ResourceKey) {
        let is_awaited = self.get(key).is_some_and(|resource| resource.is_awaited());
        self.expire(key, is_awaited);
        let mut served: Option<QueuePosition> = None;
        while let Some(next) = self.next_in_queue(key, served) {
            match next {
                NextInQueue::Stages(stages) => {
                    served = Some(stages.position());
                    if !self.serve_stages(key, stages) {
                        return;
                    }
                }
                NextInQueue::Waiter(waiter) => {
                    served = Some(waiter.position());
                    let is_held_up = !self.serve_waiter(&waiter)
                        && self.open.get(&key).is_some_and(|open| open.resource.blocks_queue(&waiter, self.now));
                    if is_held_up || self.overlay.needs_more_keys() {
                        return;
                    }
                }
            }
        }
    }

    fn next_in_queue(&mut self, key: ResourceKey, served: Option<QueuePosition>) -> Option<NextInQueue> {
        let resource = self.get(key)?;
        let is_next = |position: &QueuePosition| served.is_none_or(|served| served < *position);
        let stages = resource.state.stages.filter(|stages| is_next(&stages.position()));
        let from = served.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let waiter =
            resource.wait_queue.range((from, std::ops::Bound::Unbounded)).next().map(|(_, waiter)| waiter.clone());
        match (stages, waiter) {
            (Some(stages), Some(waiter)) if waiter.position() < stages.position() => Some(NextInQueue::Waiter(waiter)),
            (Some(stages), _) => Some(NextInQueue::Stages(stages)),
            (None, waiter) => waiter.map(NextInQueue::Waiter),
        }
    }

    /// Grants a waiter its permit if it is available, else adds the waiter to the queues of all resources that block it. Returns whether
    /// the waiter has left the queue.
    fn serve_waiter(&mut self, waiter: &Arc<Waiter>) -> bool {
        if self.has_departed(waiter) || !self.has_lease(waiter) {
            return self.dequeue(waiter);
        }
        let blocked = self.find_blocks(&waiter.claims, waiter.position(), false);
        if !blocked.is_empty() || self.overlay.needs_more_keys() {
            for (key, _) in blocked {
                self.enqueue(key, waiter);
            }
            return false;
        }
        self.dequeue(waiter);
        let is_ours = waiter.server == self.overlay.cluster().server;
        let lasts = if is_ours { waiter.ttl } else { waiter.ttl.min(CLAIM_FOR) };
        let terms = PermitTerms {
            id: waiter.id,
            all: self.permit_uids(&waiter.claims),
            holder: waiter.holder.clone(),
            ttl: waiter.ttl,
            expires_at: Some(self.now.after(lasts)),
            lease: waiter.lease,
        };
        let granted = self.grant(&waiter.claims, &terms);
        self.bind(waiter, &granted);
        true
    }

    /// Whether the waiter's server is gone. A server that started less than [`NEW_FOR`] ago may not be known yet.
    fn is_orphan(&self, waiter: &Waiter) -> bool {
        let around = self.overlay.cluster();
        // An arrival in the future was before the clock stepped back; the list of servers is newer.
        let is_ahead = waiter.arrival > self.now.after(SLACK);
        let is_recent = |as_of: Timestamp| as_of.after(SLACK) > self.now && as_of <= self.now.after(SLACK);
        let is_old = |as_of: Timestamp| waiter.arrival.after(NEW_FOR) < as_of || is_ahead && is_recent(as_of);
        let is_known = around.as_of.is_some_and(is_old);
        is_known && !around.servers.contains(&waiter.server)
    }

    fn has_lease(&mut self, waiter: &Waiter) -> bool {
        let Some(token) = waiter.lease_token() else { return true };
        let job = self.overlay.job(JobKey { namespace: self.namespace, uid: token.job_uid });
        self.overlay.needs_more_keys()
            || job.is_some_and(|job| job.running_stage(&StageCredential::Token(token)).is_ok())
    }

    fn bind(&mut self, waiter: &Waiter, granted: &[Granted]) {
        let Some(token) = waiter.lease_token() else { return };
        let key = JobKey { namespace: self.namespace, uid: token.job_uid };
        let Some(job) = self.overlay.job(key) else { return };
        let mut tx = self.overlay.begin_job(&job);
        tx.bind(token.stage_no, held_permits(waiter.id, granted));
        // A binding ends no attempt, so there are no permits to release.
        self.overlay.write_job(&job, tx);
    }
}

/// Converts granted permits to those that an attempt stores.
pub fn held_permits(id: Uuid, granted: &[Granted]) -> Vec<HeldPermit> {
    let one = |granted: &Granted| HeldPermit { resource: granted.key.uid, id, fencing_token: granted.fencing_token };
    granted.iter().map(one).collect()
}

/// Removes the keys from blocks.
pub fn blockers(blocked: BlockedClaims) -> Vec<Blocker> {
    blocked.into_iter().map(|(_, blocker)| blocker).collect()
}

/// The block that a stage waits for: a lock before a limit, since a waiter for a limit can be overtaken.
pub fn strictest_block(blocked: BlockedClaims) -> Option<(ResourceKey, Blocker)> {
    blocked.into_iter().min_by_key(|(_, blocker)| blocker.block.reason)
}

enum NextInQueue {
    Stages(StageWaiters),
    Waiter(Arc<Waiter>),
}
