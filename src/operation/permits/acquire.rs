//! Asks for a permit.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::desk::{Desk, held, told};
use super::{PermitReply, keys};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::Hold;
use crate::domain::permit::line::Waiter;
use crate::domain::permit::resource::Terms;
use crate::domain::permit::{Bound, Claim, Granted, MAX_HOLDERS, MAX_OF_ATTEMPT, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply, Weight, commit_job};

/// A wish for a permit of one or several resources.
#[derive(Debug)]
pub struct AcquirePermit {
    /// The caller's namespace.
    pub namespace: NamespaceId,
    /// The permit's secret, if it is granted.
    pub id: Uuid,
    /// What is asked for, each resource once.
    pub claims: Vec<Claim>,
    /// How long it lasts.
    pub ttl: Duration,
    /// How long its caller waits; zero: not at all.
    pub wait: Duration,
    /// Who, by its own word.
    pub holder: Name,
    /// Higher is first.
    pub priority: i32,
    /// The lease it is bound to.
    pub lease: Option<LeaseToken>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl AcquirePermit {
    fn job(&self) -> Option<JobKey> {
        self.lease.map(|token| JobKey { namespace: self.namespace, uid: token.job_uid })
    }

    /// Who will hold it; refused if the lease that it is bound to is lost.
    fn holder(&self, overlay: &mut Overlay) -> Result<Name, Refusal> {
        let Some((key, token)) = self.job().zip(self.lease) else { return Ok(self.holder.clone()) };
        let job = overlay.job(key).ok_or(Refusal::LeaseLost)?;
        let stage = job.running(&Hold::Token(token))?;
        if stage.permits().len() + self.claims.len() > MAX_OF_ATTEMPT {
            let why = format!("an attempt of a stage can hold {MAX_OF_ATTEMPT} permits");
            return Err(Refusal::LimitExceeded { path: "lease_token".to_owned(), why });
        }
        let worker = stage.lease().map(|lease| lease.worker_id.clone());
        Ok(if self.holder.is_empty() { worker.unwrap_or_default() } else { self.holder.clone() })
    }

    /// Notes with the attempt what it holds from now on. The job is looked at anew: whoever was served beside may be of it too.
    fn bind(&self, overlay: &mut Overlay, granted: &[Granted]) {
        let Some((key, token)) = self.job().zip(self.lease) else { return };
        let Some(job) = overlay.job(key) else { return };
        let mut edit = overlay.begin_job(&job);
        edit.bind(token.stage_no, held(self.id, granted));
        commit_job(overlay, &job, edit);
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
        // An attempt that is under way needs it to go on.
        self.lease.is_some()
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        if !overlay.has_namespace(self.namespace) {
            return Err(Refusal::NamespaceNotFound { name: String::new() });
        }
        let holder = self.holder(overlay)?;
        let mut desk = Desk::new(overlay, self.namespace);
        let now = desk.now;
        let mut arrival = now;
        for (i, claim) in self.claims.iter().enumerate() {
            // Who waits already is served first: time may have passed.
            let key = ResourceKey::of(self.namespace, &claim.resource);
            desk.look(key);
            desk.settle();
            let resource = desk.get_or_new(&claim.resource);
            if let Some(why) = resource.never(claim) {
                return Err(Refusal::field(format!("claims[{i}].amount"), why));
            }
            arrival = arrival.max(resource.next_arrival(now));
        }
        let lease = self.lease.map(Bound::from);
        let blocked = desk.blocked(&self.claims, (Reverse(self.priority), arrival, self.id), false);
        let reply = if blocked.is_empty() {
            let all = desk.all(&self.claims);
            let expires_at = Some(now.after(self.ttl));
            let terms = Terms { id: self.id, all, holder, ttl: self.ttl, expires_at, lease };
            let granted = desk.grant(&self.claims, &terms);
            desk.close();
            self.bind(overlay, &granted);
            PermitReply::Granted(granted)
        } else if self.wait.is_zero() {
            desk.close();
            return Ok(Reply { permit: Some(PermitReply::Denied(told(blocked))), ..Reply::default() });
        } else {
            let waiter = Arc::new(Waiter {
                id: self.id,
                server: desk.overlay.cluster().server,
                claims: self.claims.clone(),
                priority: self.priority,
                arrival,
                until: now.after(self.wait),
                holder,
                ttl: self.ttl,
                lease,
            });
            for (key, blocker) in blocked {
                if desk.get(key).is_some_and(|resource| resource.line.len() >= MAX_HOLDERS) {
                    let why = format!("{MAX_HOLDERS} wait for {:?} already", blocker.resource);
                    return Err(Refusal::LimitExceeded { path: "claims".to_owned(), why });
                }
                desk.join_line(key, &waiter);
            }
            desk.close();
            PermitReply::Waiting
        };
        Ok(Reply { permit: Some(reply), applied: true, ..Reply::default() })
    }
}
