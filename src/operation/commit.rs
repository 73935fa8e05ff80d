//! Several operations as one, all or nothing, and optionally only while a lease or a permit is held.
//!
//! Each operation is decided by its own rules on what the ones before it have left, behind one savepoint of the overlay. So all keys they use are
//! one component, which is committed as a whole or not at all. The job or resource of a fence is read; if nothing of it is written, the commit
//! locks it at the version at which the lease or permit was seen.

use super::permits::expect_permit;
use super::{Operation, Reply, Weight, decide_audited};
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::{Job, StageCredential};
use crate::domain::permit::PermitToken;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

pub struct Part {
    /// Has no `request_id` of its own.
    pub operation: Box<dyn Operation>,
    /// The field of the request that holds it, such as `operations[2]`.
    pub path: String,
}

pub struct Commit {
    pub parts: Vec<Part>,
    /// The lease that must be held. None: no lease is needed.
    pub lease_fence: Option<(JobKey, StageCredential)>,
    /// The permit that must be held. None: no permit is needed.
    pub permit_fence: Option<PermitToken>,
    pub namespace: NamespaceId,
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

    fn presumed_absent(&self) -> Vec<Key> {
        self.parts.iter().flat_map(|part| part.operation.presumed_absent()).collect()
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

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        if let Some((job, hold)) = &self.lease_fence {
            overlay.job(*job).ok_or(Refusal::LeaseLost)?.running_stage(hold)?;
        }
        if let Some(token) = self.permit_fence {
            expect_permit(overlay, self.namespace, token)?;
        }
        let mut reply = Reply::default();
        for (index, part) in self.parts.iter().enumerate() {
            let done = decide_audited(&*part.operation, overlay).and_then(|done| only_once(&*part.operation, done));
            let done = done.map_err(|refusal| refusal.at(index, part.path.clone()))?;
            reply.applied |= done.applied;
            reply.parts.push(done);
        }
        Ok(reply)
    }
}

/// Refuses an end of an attempt that was recorded before. Outside of a commit it gets the same response again; here the other operations were
/// committed with it, and would be applied a second time.
fn only_once(operation: &dyn Operation, reply: Reply) -> Result<Reply, Refusal> {
    if reply.applied || !operation.ends_attempt() {
        return Ok(reply);
    }
    let ended =
        |job: &Job, no: u32| job.stages[no].refusal("already ended with this outcome, so this commit may be a repeat");
    match (reply.jobs.first(), reply.stages.first()) {
        (Some(job), Some(no)) => Err(ended(job, *no)),
        // An operation without stages released a permit.
        (_, _) => Err(Refusal::PermitLost),
    }
}
