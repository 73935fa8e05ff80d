//! The rows of a changed resource: the difference between the resource as it was loaded and as it was decided, one net effect per row.

use std::sync::Arc;

use crate::domain::id::StageNo;
use crate::domain::job::Job;
use crate::domain::permit::resource::Resource;
use crate::domain::permit::wait_queue::Waiter;
use crate::domain::permit::{Permit, PermitClaim, PermitMode, ResourceKey};
use crate::domain::time::Timestamp;
use crate::store::commit::columns::*;
use crate::store::commit::plan::Plan;
use crate::store::pg::types::JsonText;
use crate::store::values::{owned, stage_no};

/// The stored time of a resource's next timer is rounded up to a multiple of this, in microseconds. It only matters where no server has the timer in
/// memory, and an indexed column should seldom change.
const COARSE: i64 = 1_000_000;

impl Plan {
    /// Writes a resource that is new (`base` is `None`), changed or deleted (`after` is `None`).
    pub fn write_resource(
        &mut self,
        c: i32,
        key: ResourceKey,
        base: Option<&Resource>,
        after: Option<&Resource>,
        now: Timestamp,
    ) {
        match (base, after) {
            (None, None) => self.check_absent_resources.push(id(c, key)),
            (None, Some(after)) => {
                self.check_absent_resources.push(id(c, key));
                self.insert_resources.push(row(c, after, now));
            }
            // Only permits were extended.
            (Some(base), Some(after)) if after.is_at_version_of(base) => {
                self.check_version_resources.push(root(c, base));
            }
            (Some(base), Some(after)) => {
                self.lock_resources.push(root(c, base));
                self.update_resources.push(row(c, after, now));
            }
            (Some(base), None) => {
                self.lock_resources.push(root(c, base));
                self.delete_resources.push(id(c, key));
            }
        }
        self.write_permits(c, key, base, after);
        self.write_line(c, key, base, after);
    }

    fn write_permits(&mut self, c: i32, key: ResourceKey, base: Option<&Resource>, after: Option<&Resource>) {
        let before = |id| base.and_then(|base| base.permits.get(id));
        for permit in after.into_iter().flat_map(|after| after.permits.values()) {
            match before(&permit.id) {
                None => self.insert_permits.push(permit_row(c, key, permit)),
                Some(before) if Arc::ptr_eq(before, permit) => {}
                Some(before) => self.write_permit(c, key, before, permit),
            }
        }
        let is_left = |id| after.is_some_and(|after| after.permits.contains_key(id));
        for permit in base.into_iter().flat_map(|base| base.permits.keys()).filter(|id| !is_left(*id)) {
            self.delete_permits.push(permit_id(c, key, *permit));
        }
    }

    /// Writes a permit in one part only, since a statement may write a row once. An extension alone changes no version.
    fn write_permit(&mut self, c: i32, key: ResourceKey, before: &Permit, permit: &Permit) {
        let (namespace_id, resource_uid) = ids(key);
        let (permit_id, expires_at) = (permit.id, permit.expires_at);
        // Only after the clock stepped back does a permit end earlier than before.
        let shortens = before.expires_at.zip(expires_at).is_some_and(|(before, now)| now < before);
        let is_extended = *permit == Permit { expires_at, ..before.clone() } && !shortens;
        match expires_at.filter(|_| is_extended) {
            Some(expires_at) => {
                self.renew_permits.push(PermitRenewal { c, namespace_id, resource_uid, permit_id, expires_at });
            }
            None => {
                let permit = JsonText::of(permit);
                self.update_permits.push(ChangedPermit {
                    c,
                    namespace_id,
                    resource_uid,
                    permit_id,
                    expires_at,
                    permit,
                    shortens,
                });
            }
        }
    }

    fn write_line(&mut self, c: i32, key: ResourceKey, base: Option<&Resource>, after: Option<&Resource>) {
        let (namespace_id, resource_uid) = ids(key);
        let waited = |place| base.is_some_and(|base| base.wait_queue.contains_key(place));
        let line = after.into_iter().flat_map(|after| &after.wait_queue);
        for (_, waiter) in line.filter(|(place, _)| !waited(*place)) {
            let Waiter { id: permit_id, .. } = **waiter;
            let waiter = JsonText::of(&**waiter);
            self.insert_waiters.push(WaiterRow { c, namespace_id, resource_uid, permit_id, waiter });
        }
        let waits = |place| after.is_some_and(|after| after.wait_queue.contains_key(place));
        for (_, waiter) in base.into_iter().flat_map(|base| &base.wait_queue).filter(|(place, _)| !waits(*place)) {
            self.delete_waiters.push(permit_id(c, key, waiter.id));
        }
    }

    /// Checks that a resource has the version that was read, or still does not exist.
    pub fn check_resource(&mut self, c: i32, key: ResourceKey, base: Option<&Resource>) {
        match base {
            Some(base) => self.check_version_resources.push(root(c, base)),
            None => self.check_absent_resources.push(id(c, key)),
        }
    }

    /// Checks the same, and keeps an existing resource from changing until the group is committed.
    pub fn share_lock_resource(&mut self, c: i32, key: ResourceKey, base: Option<&Resource>) {
        match base {
            Some(base) => self.share_lock_resources.push(root(c, base)),
            None => self.check_absent_resources.push(id(c, key)),
        }
    }

    /// Checks that a permit has expired and was not renewed.
    pub fn check_permit_expired(&mut self, c: i32, key: ResourceKey, permit: uuid::Uuid) {
        self.check_expired_permits.push(permit_id(c, key, permit));
    }

    /// Makes a ready stage wait for a permit of a resource.
    pub(in crate::store) fn block_stage(&mut self, c: i32, job: &Job, no: StageNo, resource: ResourceKey) {
        let claims = &job.stages[no].spec.permits;
        let claim = claims.iter().find(|claim| ResourceKey::uid_of(&claim.resource) == resource.uid);
        self.block_stages.push(BlockedStage {
            c,
            namespace_id: job.key.namespace.0,
            job_uid: job.key.uid,
            stage_no: stage_no(no),
            resource_uid: resource.uid,
            amount: claim.and_then(stored_amount),
        });
    }
}

/// The amount of a claim as a ready stage has it. None: 1, or the whole resource.
pub(in crate::store) fn stored_amount(claim: &PermitClaim) -> Option<i64> {
    (claim.amount > 1 && claim.mode != Some(PermitMode::Exclusive)).then_some(claim.amount)
}

fn ids(key: ResourceKey) -> (i32, uuid::Uuid) {
    (key.namespace.0, key.uid)
}

fn id(c: i32, key: ResourceKey) -> RootId {
    RootId { c, namespace_id: key.namespace.0, root_uid: key.uid }
}

fn root(c: i32, base: &Resource) -> RootVersion {
    let (namespace_id, root_uid) = ids(base.key);
    RootVersion { c, namespace_id, root_uid, version: base.version, create_time: base.create_time }
}

fn row(c: i32, resource: &Resource, now: Timestamp) -> ResourceRow {
    let (namespace_id, resource_uid) = ids(resource.key);
    let coarse = |at: Timestamp| Timestamp(at.0.saturating_add(COARSE - 1) / COARSE * COARSE);
    ResourceRow {
        c,
        namespace_id,
        resource_uid,
        name: owned(&resource.name),
        version: resource.version,
        policy: resource.policy.as_ref().map(|policy| JsonText::of(&**policy)),
        state: JsonText::of(&resource.state),
        fencing_token: resource.fencing_token,
        wakes_at: resource.wakes_at(now).map(coarse),
        create_time: resource.create_time,
        update_time: resource.update_time,
    }
}

fn permit_row(c: i32, key: ResourceKey, permit: &Permit) -> PermitRow {
    let (namespace_id, resource_uid) = ids(key);
    let (permit_id, expires_at) = (permit.id, permit.expires_at);
    PermitRow { c, namespace_id, resource_uid, permit_id, expires_at, permit: JsonText::of(permit) }
}

fn permit_id(c: i32, key: ResourceKey, permit_id: uuid::Uuid) -> PermitId {
    let (namespace_id, resource_uid) = ids(key);
    PermitId { c, namespace_id, resource_uid, permit_id }
}
