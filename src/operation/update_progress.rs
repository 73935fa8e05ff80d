//! Sets progress and message of a running stage.

use super::start_stage::expect_version;
use super::{Operation, Reply, commit_job};
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Hold;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

/// A running stage, as the caller identifies it.
#[derive(Clone, Debug)]
pub struct Target {
    pub key: JobKey,
    /// The id as the caller gave it, for errors; empty with a token.
    pub job_id: Name,
    /// Token of the lease, or name of the stage.
    pub hold: Hold,
}

impl Target {
    /// Reads the job. If there is none, a token is a lost lease, and a name a job that was not found.
    pub(super) fn job(&self, overlay: &mut Overlay) -> Result<std::sync::Arc<crate::domain::job::Job>, Refusal> {
        overlay.job(self.key).ok_or_else(|| match self.hold {
            Hold::Token(_) => Refusal::LeaseLost,
            Hold::Name(_) => Refusal::JobNotFound { job_id: self.job_id.to_string() },
        })
    }
}

#[derive(Debug)]
pub struct UpdateProgress {
    pub target: Target,
    /// From 0 to 1; lower than the stored one changes nothing. None: unchanged.
    pub progress: Option<f64>,
    /// At most 1 KiB. None: unchanged.
    pub message: Option<Name>,
    /// The version the stage must have. None: any.
    pub expected_version: Option<i64>,
    pub request: Option<RequestIdentity>,
}

impl Operation for UpdateProgress {
    fn name(&self) -> &'static str {
        "update_progress"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.target.key)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = self.target.job(overlay)?;
        expect_version(job.held(&self.target.hold)?, self.expected_version)?;
        let mut edit = overlay.begin_job(&job);
        let no = edit.progress(&self.target.hold, self.progress, self.message.clone())?;
        Ok(Reply::about_stage(no, commit_job(overlay, &job, edit)))
    }
}
