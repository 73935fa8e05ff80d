//! The stage that an operation writes, as its caller names it.

use std::sync::Arc;

use crate::domain::id::{JobKey, Name};
use crate::domain::job::{Job, StageCredential};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::Overlay;

/// A stage, named by its lease token or by job and stage name.
#[derive(Clone, Debug)]
pub struct StageTarget {
    /// Key of the job.
    pub key: JobKey,
    /// Id of the job as the caller wrote it, for errors. Empty: the caller sent a lease token.
    pub job_id: Name,
    /// Names the stage and proves that the caller may write it.
    pub credential: StageCredential,
}

impl StageTarget {
    /// Loads the job of the stage. If the job does not exist: `LeaseLost` for a token, `JobNotFound` for a name.
    pub(super) fn job(&self, overlay: &mut Overlay) -> Result<Arc<Job>, Refusal> {
        overlay.job(self.key).ok_or_else(|| match self.credential {
            StageCredential::Token(_) => Refusal::LeaseLost,
            StageCredential::Name(_) => Refusal::JobNotFound { job_id: self.job_id.to_string() },
        })
    }
}
