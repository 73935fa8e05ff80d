//! AcquirePermit: grants a permit, or adds the caller to wait queues.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::resource_tx::{ResourceTx, blockers, held_permits};
use super::{PermitReply, keys};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::StageCredential;
use crate::domain::permit::resource::PermitTerms;
use crate::domain::permit::wait_queue::Waiter;
use crate::domain::permit::{Granted, LeaseBinding, MAX_HOLDERS, MAX_OF_ATTEMPT, PermitClaim, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply, Weight, commit_job};

/// Acquires a permit of one or several resources.
#[derive(Debug)]
pub struct AcquirePermit {
    /// Namespace of the call.
    pub namespace: NamespaceId,
    /// Id of the permit, which is the secret part of its token.
    pub id: Uuid,
    /// Claims, each for another resource.
    pub claims: Vec<PermitClaim>,
    /// Time to live of the permit.
    pub ttl: Duration,
    /// Time that the caller waits. Zero: the request is denied if the permit is not available.
    pub wait: Duration,
    /// Holder, as it names itself. Empty: the worker of `lease`.
    pub holder: Name,
    /// Priority in the wait queues; higher is served first.
    pub priority: i32,
    /// Lease that the permit is bound to. `None`: it is not bound.
    pub lease: Option<LeaseToken>,
    /// Identity of the request. `None`: the caller gave no `request_id`.
    pub request: Option<RequestIdentity>,
}

impl AcquirePermit {
    fn job(&self) -> Option<JobKey> {
        self.lease.map(|token| JobKey { namespace: self.namespace, uid: token.job_uid })
    }

    /// Holder of the permit. Refused if the lease is lost.
    fn holder(&self, overlay: &mut Overlay) -> Result<Name, Refusal> {
        let Some((key, token)) = self.job().zip(self.lease) else { return Ok(self.holder.clone()) };
        let job = overlay.job(key).ok_or(Refusal::LeaseLost)?;
        let stage = job.running_stage(&StageCredential::Token(token))?;
        if stage.permits().len() + self.claims.len() > MAX_OF_ATTEMPT {
            let why = format!("an attempt of a stage can hold at most {MAX_OF_ATTEMPT} permits");
            return Err(Refusal::LimitExceeded { path: "lease_token".to_owned(), why });
        }
        let worker = stage.lease().map(|lease| lease.worker_id.clone());
        Ok(if self.holder.is_empty() { worker.unwrap_or_default() } else { self.holder.clone() })
    }

    /// Adds the permit to the attempt that it is bound to. Reads the job again: other waiters that were served may be attempts
    /// of the same job.
    fn bind(&self, overlay: &mut Overlay, granted: &[Granted]) {
        let Some((key, token)) = self.job().zip(self.lease) else { return };
        let Some(job) = overlay.job(key) else { return };
        let mut tx = overlay.begin_job(&job);
        tx.bind(token.stage_no, held_permits(self.id, granted));
        commit_job(overlay, &job, tx);
    }
}

impl Operation for AcquirePermit {
    fn name(&self) -> &'static str {
        "acquire_permit"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = keys(self.namespace, self.claims.iter().map(|claim| &*claim.resource));
        keys.push(Key::Namespace(self.namespace));
        keys.extend(self.job().map(Key::Job));
        keys
    }

    fn weight(&self) -> Weight {
        Weight { rows: 3 * self.claims.len(), bytes: 512 * self.claims.len() }
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn remembered_ids(&self) -> Vec<Uuid> {
        vec![self.id]
    }

    fn is_urgent(&self) -> bool {
        // A running attempt needs it to continue.
        self.lease.is_some()
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        if !overlay.has_namespace(self.namespace) {
            return Err(Refusal::NamespaceNotFound { name: String::new() });
        }
        let holder = self.holder(overlay)?;
        let mut tx = ResourceTx::new(overlay, self.namespace);
        let now = tx.now;
        let mut arrival = now;
        for (i, claim) in self.claims.iter().enumerate() {
            // Serves earlier waiters first: what they wait for may have become available by the passing of time.
            let key = ResourceKey::of(self.namespace, &claim.resource);
            tx.mark_due(key);
            tx.grant_waiters();
            let resource = tx.get_or_new(&claim.resource);
            if let Some(why) = resource.why_impossible(claim) {
                return Err(Refusal::field(format!("claims[{i}].amount"), why));
            }
            arrival = arrival.max(resource.next_arrival(now));
        }
        let lease = self.lease.map(LeaseBinding::from);
        let blocked = tx.find_blocks(&self.claims, (Reverse(self.priority), arrival, self.id), false);
        let reply = if blocked.is_empty() {
            let all = tx.permit_uids(&self.claims);
            let expires_at = Some(now.after(self.ttl));
            let terms = PermitTerms { id: self.id, all, holder, ttl: self.ttl, expires_at, lease };
            let granted = tx.grant(&self.claims, &terms);
            tx.finish();
            self.bind(overlay, &granted);
            PermitReply::Granted(granted)
        } else if self.wait.is_zero() {
            tx.finish();
            return Ok(Reply { permit: Some(PermitReply::Denied(blockers(blocked))), ..Reply::default() });
        } else {
            let waiter = Arc::new(Waiter {
                id: self.id,
                server: tx.overlay.cluster().server,
                claims: self.claims.clone(),
                priority: self.priority,
                arrival,
                until: now.after(self.wait),
                holder,
                ttl: self.ttl,
                lease,
            });
            for (key, blocker) in blocked {
                if tx.get(key).is_some_and(|resource| resource.wait_queue.len() >= MAX_HOLDERS) {
                    let why = format!(
                        "the wait queue of {:?} is full, it holds at most {MAX_HOLDERS} callers",
                        blocker.resource
                    );
                    return Err(Refusal::LimitExceeded { path: "claims".to_owned(), why });
                }
                tx.enqueue(key, &waiter);
            }
            tx.finish();
            PermitReply::Waiting
        };
        Ok(Reply { permit: Some(reply), applied: true, ..Reply::default() })
    }
}
