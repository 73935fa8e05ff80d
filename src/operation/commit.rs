//! Several operations as one, all or nothing, if wanted only for who holds a lease.
//!
//! Each operation is decided by its own rules on what the ones before it have left, in one layer of the world: so all they touch
//! is one component, and is committed as a whole or not at all. The fence is a root that is read; where nothing of its job is
//! written, the commit locks it at the revision at which the lease was seen.

use super::permits::expect_permit;
use super::{Operation, Reply, Weight, decide_audited};
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::{Job, StageCredential};
use crate::domain::permit::PermitToken;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::engine::world::{Key, World};

/// One of the operations.
pub struct Part {
    /// What it does; without a `request_id` of its own.
    pub operation: Box<dyn Operation>,
    /// Where it stands in the request.
    pub path: String,
}

/// All of them.
pub struct Commit {
    /// In order.
    pub parts: Vec<Part>,
    /// The lease without which nothing is done.
    pub lease_fence: Option<(JobKey, StageCredential)>,
    /// The permit without which nothing is done.
    pub permit_fence: Option<PermitToken>,
    /// The caller's namespace.
    pub namespace: NamespaceId,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Operation for Commit {
    fn name(&self) -> &'static str {
        "commit"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.lease_fence.iter().map(|(job, _)| Key::Job(*job)).collect();
        keys.extend(self.permit_fence.iter().map(|token| Key::Resource(token.key())));
        keys.extend(self.parts.iter().flat_map(|part| super::keys(&*part.operation)));
        keys
    }

    fn creates(&self, key: &JobKey) -> bool {
        self.parts.iter().any(|part| part.operation.creates(key))
    }

    fn weight(&self) -> Weight {
        self.parts.iter().map(|part| part.operation.weight()).fold(Weight::SMALL, Weight::plus)
    }

    fn is_urgent(&self) -> bool {
        self.parts.iter().any(|part| part.operation.is_urgent())
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        if let Some((job, hold)) = &self.lease_fence {
            world.job(*job).ok_or(Refusal::LeaseLost)?.running_stage(hold)?;
        }
        if let Some(token) = self.permit_fence {
            expect_permit(world, self.namespace, token)?;
        }
        let mut reply = Reply::default();
        for (index, part) in self.parts.iter().enumerate() {
            let done = decide_audited(&*part.operation, world).and_then(|done| only_once(&*part.operation, done));
            let done = done.map_err(|refusal| refusal.at(index, part.path.clone()))?;
            reply.applied |= done.applied;
            reply.parts.push(done);
        }
        Ok(reply)
    }
}

/// Alone, the end of an attempt that was told before is answered again. Here the rest was done with it, and would be done a second
/// time.
fn only_once(operation: &dyn Operation, reply: Reply) -> Result<Reply, Refusal> {
    if reply.applied || !operation.ends_attempt() {
        return Ok(reply);
    }
    let ended = |job: &Job, no: u32| job.stages[no].refusal("was told the same before, so this commit may be a repeat");
    match (reply.jobs.first(), reply.stages.first()) {
        (Some(job), Some(no)) => Err(ended(job, *no)),
        // Without a stage it was a permit.
        (_, _) => Err(Refusal::PermitLost),
    }
}
