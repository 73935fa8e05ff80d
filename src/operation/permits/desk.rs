//! The workbench of an operation on resources: working copies of those it touches. When it closes, everybody in line who can be
//! served is served, in the same commit.
//!
//! **Who is served.** In each line the higher priority is first, then who came first. One whom the resource itself holds up holds
//! up all behind it, so a big wish is not starved by small ones; one whom only another resource holds up is passed, for a while.
//! Ready stages share one place in the line: when they are the next, `stage_line` wakes some of them and leaves the room for them for a
//! moment, since a worker has to take them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::Hold;
use crate::domain::permit::line::{Place, StagePlace, Waiter};
use crate::domain::permit::resource::{Resource, Terms};
use crate::domain::permit::step_back::SLACK;
use crate::domain::permit::{Block, Blocker, Claim, Granted, HeldPermit, ResourceKey};
use crate::domain::time::Timestamp;
use crate::operation::commit_job;
use crate::operation::overlay::Overlay;

/// How long a permit lasts that was granted to a waiter of another server, until that server has said that somebody is there.
pub const CLAIM_FOR: Duration = Duration::from_secs(5);
/// How long a server may be there before all others know.
const NEW_FOR: Duration = Duration::from_secs(3);

/// The workbench.
pub struct Desk<'w> {
    pub overlay: &'w mut Overlay,
    pub now: Timestamp,
    namespace: NamespaceId,
    pub(super) open: BTreeMap<ResourceKey, Open>,
}

/// A working copy.
pub(super) struct Open {
    pub(super) resource: Resource,
    pub(super) is_changed: bool,
    /// Its line may be served.
    is_due: bool,
}

/// What is in the way of a wish, with the resource's key.
pub type Blocked = Vec<(ResourceKey, Blocker)>;

impl<'w> Desk<'w> {
    pub fn new(overlay: &'w mut Overlay, namespace: NamespaceId) -> Self {
        let now = overlay.now();
        Self { overlay, now, namespace, open: BTreeMap::new() }
    }

    /// A resource that is there.
    pub fn get(&mut self, key: ResourceKey) -> Option<&mut Resource> {
        if !self.open.contains_key(&key) {
            let mut resource = Resource::clone(&*self.overlay.resource(key)?);
            let is_ahead = resource.is_ahead(self.now);
            if is_ahead {
                resource.step_back(self.now);
            }
            self.open.insert(key, Open { resource, is_changed: is_ahead, is_due: is_ahead });
        }
        self.open.get_mut(&key).map(|open| &mut open.resource)
    }

    /// A resource, made if it is not there yet.
    pub fn get_or_new(&mut self, name: &Name) -> &mut Resource {
        let key = ResourceKey::of(self.namespace, name);
        if self.get(key).is_none() {
            let floor = self.overlay.namespace(self.namespace).map_or(0, |namespace| namespace.fencing_floor);
            let resource = Resource::new(key, name.clone(), floor, self.now);
            self.open.insert(key, Open { resource, is_changed: false, is_due: false });
        }
        &mut self.open.get_mut(&key).expect("it was just put there").resource
    }

    /// Notes that a resource was changed, and that its line may be served.
    pub fn changed(&mut self, key: ResourceKey) {
        if let Some(open) = self.open.get_mut(&key) {
            open.is_changed = true;
            open.is_due = true;
        }
    }

    /// Takes permits from those whose time is up: all, if somebody needs the room, else those that are of no use even to a holder
    /// who is late. The commit proves that their time is up. True if there were any.
    pub fn expire(&mut self, key: ResourceKey, is_needed: bool) -> bool {
        let (now, spared) = (self.now, self.overlay.cluster().spared);
        let Some(resource) = self.get(key) else { return false };
        let is_spared = |id: &Uuid| spared.spares(resource.permits[id].held_since());
        let expired: Vec<Uuid> = resource.expired(now, is_needed).into_iter().filter(|id| !is_spared(id)).collect();
        for id in &expired {
            resource.lose(id, now);
        }
        for id in &expired {
            self.overlay.require_permit_expired(key, *id);
        }
        if !expired.is_empty() {
            self.changed(key);
        }
        !expired.is_empty()
    }

    /// What is in the way of claims that stand at a place; those of a stage stand at the place that stages share, if there is one.
    /// Permits whose time is up are in nobody's way.
    pub fn blocked(&mut self, claims: &[Claim], place: Place, is_stage: bool) -> Blocked {
        let now = self.now;
        let mut blocked = Vec::new();
        for claim in claims {
            let resource = self.get_or_new(&claim.resource);
            let (key, learns) = (resource.key, resource.learns());
            if learns {
                self.expire(key, true);
            }
            let mut outcome = self.allows(claim, place, is_stage);
            let is_by_others = |block| self.get(key).is_some_and(|resource| resource.is_by_others(block, now));
            if outcome.is_err_and(is_by_others) && self.expire(key, true) {
                outcome = self.allows(claim, place, is_stage);
            }
            if let Err(block) = outcome {
                blocked.push((key, Blocker { resource: claim.resource.clone(), block }));
            }
        }
        blocked
    }

    fn allows(&mut self, claim: &Claim, place: Place, is_stage: bool) -> Result<(), Block> {
        let now = self.now;
        let resource = self.get_or_new(&claim.resource);
        let stages = resource.state.stages.filter(|_| is_stage);
        let place = stages.map_or(place, |stages| stages.place());
        resource.allows(claim, place, is_stage, now)
    }

    /// Grants claims, which are known to fit.
    pub fn grant(&mut self, claims: &[Claim], terms: &Terms) -> Vec<Granted> {
        let now = self.now;
        let mut granted = Vec::with_capacity(claims.len());
        for claim in claims {
            let resource = self.get_or_new(&claim.resource);
            let fencing_token = resource.grant(claim, terms.clone(), now);
            let (key, expires_at) = (resource.key, terms.expires_at);
            granted.push(Granted { key, resource: claim.resource.clone(), fencing_token, expires_at });
            self.changed(key);
        }
        granted
    }

    /// The keys of claims as a permit remembers them: nothing for a single one.
    pub fn all(&self, claims: &[Claim]) -> Vec<Uuid> {
        let uid = |claim: &Claim| ResourceKey::of(self.namespace, &claim.resource).uid;
        if claims.len() > 1 { claims.iter().map(uid).collect() } else { Vec::new() }
    }

    /// Takes somebody out of all lines. True if it was in one.
    pub fn leave(&mut self, waiter: &Waiter) -> bool {
        let mut was_there = false;
        for claim in &waiter.claims {
            let key = ResourceKey::of(self.namespace, &claim.resource);
            if self.get(key).is_some_and(|resource| resource.line.remove(&waiter.place()).is_some()) {
                self.changed(key);
                was_there = true;
            }
        }
        was_there
    }

    /// Takes all out of a line who have given up, or whose server is gone, wherever they stand.
    pub fn drop_gone(&mut self, key: ResourceKey) {
        let line: Vec<Arc<Waiter>> =
            self.get(key).map_or_else(Vec::new, |resource| resource.line.values().cloned().collect());
        for waiter in line {
            if self.is_gone(&waiter) {
                self.leave(&waiter);
            }
        }
    }

    fn is_gone(&self, waiter: &Waiter) -> bool {
        waiter.until <= self.now || self.is_orphan(waiter)
    }

    /// Puts somebody into the line of a resource.
    pub fn join_line(&mut self, key: ResourceKey, waiter: &Arc<Waiter>) {
        if let Some(open) = self.open.get_mut(&key)
            && !open.resource.line.contains_key(&waiter.place())
        {
            open.resource.join_line(waiter);
            // Time may have passed since it was served: whoever writes a line leaves nobody in it who could be served.
            self.changed(key);
        }
    }

    /// Lets the line of a resource be served, whether it was changed or not.
    pub fn look(&mut self, key: ResourceKey) {
        self.get(key);
        if let Some(open) = self.open.get_mut(&key) {
            open.is_due = true;
        }
    }

    /// Serves the lines that may be served.
    pub fn settle(&mut self) {
        while let Some(key) = self.open.iter().find(|(_, open)| open.is_due).map(|(key, _)| *key) {
            if let Some(open) = self.open.get_mut(&key) {
                open.is_due = false;
            }
            self.serve(key);
            if self.overlay.needs_more_keys() {
                return;
            }
        }
    }

    /// Serves the lines and puts what changed into the overlay. Whether anything did.
    pub fn close(mut self) -> bool {
        self.settle();
        let (now, mut any) = (self.now, false);
        for Open { mut resource, is_changed, .. } in self.open.into_values() {
            if is_changed {
                resource.version += 1;
                resource.update_time = resource.update_time.max(now);
                self.overlay.put_resource(resource);
                any = true;
            }
        }
        any
    }

    /// Serves one line from its beginning, as far as it gets.
    fn serve(&mut self, key: ResourceKey) {
        let is_awaited = self.get(key).is_some_and(|resource| resource.is_awaited());
        self.expire(key, is_awaited);
        let mut served: Option<Place> = None;
        while let Some(next) = self.next_in_line(key, served) {
            match next {
                Next::Stages(stages) => {
                    served = Some(stages.place());
                    if !self.serve_stages(key, stages) {
                        return;
                    }
                }
                Next::Waiter(waiter) => {
                    served = Some(waiter.place());
                    let is_held_up = !self.serve_waiter(&waiter)
                        && self.open.get(&key).is_some_and(|open| open.resource.holds_up(&waiter, self.now));
                    if is_held_up || self.overlay.needs_more_keys() {
                        return;
                    }
                }
            }
        }
    }

    fn next_in_line(&mut self, key: ResourceKey, served: Option<Place>) -> Option<Next> {
        let resource = self.get(key)?;
        let is_next = |place: &Place| served.is_none_or(|served| served < *place);
        let stages = resource.state.stages.filter(|stages| is_next(&stages.place()));
        let from = served.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let waiter = resource.line.range((from, std::ops::Bound::Unbounded)).next().map(|(_, waiter)| waiter.clone());
        match (stages, waiter) {
            (Some(stages), Some(waiter)) if waiter.place() < stages.place() => Some(Next::Waiter(waiter)),
            (Some(stages), _) => Some(Next::Stages(stages)),
            (None, waiter) => waiter.map(Next::Waiter),
        }
    }

    /// Gives a waiter what it waits for, if it can be had; lets it stand in the line of all that is in its way. True if it has left
    /// the line.
    fn serve_waiter(&mut self, waiter: &Arc<Waiter>) -> bool {
        if self.is_gone(waiter) || !self.has_lease(waiter) {
            return self.leave(waiter);
        }
        let blocked = self.blocked(&waiter.claims, waiter.place(), false);
        if !blocked.is_empty() || self.overlay.needs_more_keys() {
            for (key, _) in blocked {
                self.join_line(key, waiter);
            }
            return false;
        }
        self.leave(waiter);
        let is_ours = waiter.server == self.overlay.cluster().server;
        let lasts = if is_ours { waiter.ttl } else { waiter.ttl.min(CLAIM_FOR) };
        let terms = Terms {
            id: waiter.id,
            all: self.all(&waiter.claims),
            holder: waiter.holder.clone(),
            ttl: waiter.ttl,
            expires_at: Some(self.now.after(lasts)),
            lease: waiter.lease,
        };
        let granted = self.grant(&waiter.claims, &terms);
        self.bind(waiter, &granted);
        true
    }

    /// Whether a waiter's server is not there any more. Of one that started a short time ago this server may not know yet.
    fn is_orphan(&self, waiter: &Waiter) -> bool {
        let around = self.overlay.cluster();
        // One that came later than it is came before the clock stepped back; who is there is known since then.
        let is_ahead = waiter.arrival > self.now.after(SLACK);
        let is_recent = |as_of: Timestamp| as_of.after(SLACK) > self.now && as_of <= self.now.after(SLACK);
        let is_old = |as_of: Timestamp| waiter.arrival.after(NEW_FOR) < as_of || is_ahead && is_recent(as_of);
        let is_known = around.as_of.is_some_and(is_old);
        is_known && !around.servers.contains(&waiter.server)
    }

    fn has_lease(&mut self, waiter: &Waiter) -> bool {
        let Some(token) = waiter.lease_token() else { return true };
        let job = self.overlay.job(JobKey { namespace: self.namespace, uid: token.job_uid });
        self.overlay.needs_more_keys() || job.is_some_and(|job| job.running(&Hold::Token(token)).is_ok())
    }

    fn bind(&mut self, waiter: &Waiter, granted: &[Granted]) {
        let Some(token) = waiter.lease_token() else { return };
        let key = JobKey { namespace: self.namespace, uid: token.job_uid };
        let Some(job) = self.overlay.job(key) else { return };
        let mut edit = self.overlay.begin_job(&job);
        edit.bind(token.stage_no, held(waiter.id, granted));
        commit_job(self.overlay, &job, edit);
    }
}

/// Permits as an attempt keeps them.
pub fn held(id: Uuid, granted: &[Granted]) -> Vec<HeldPermit> {
    let one = |granted: &Granted| HeldPermit { resource: granted.key.uid, id, fencing_token: granted.fencing_token };
    granted.iter().map(one).collect()
}

/// What is told of blockers.
pub fn told(blocked: Blocked) -> Vec<Blocker> {
    blocked.into_iter().map(|(_, blocker)| blocker).collect()
}

/// The block that a stage waits for: a lock rather than a limit, for whoever waits for a limit may be passed.
pub fn worst(blocked: Blocked) -> Option<(ResourceKey, Blocker)> {
    blocked.into_iter().min_by_key(|(_, blocker)| blocker.block.reason)
}

enum Next {
    Stages(StagePlace),
    Waiter(Arc<Waiter>),
}
