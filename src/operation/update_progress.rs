//! Notes progress and a message of a running stage.

use super::start_stage::expect_version;
use super::{Operation, Reply, commit_job};
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Hold;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

/// Whose stage an operation is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// The job.
    pub key: JobKey,
    /// The job as the caller named it; empty where it showed a token.
    pub job_id: Name,
    /// The proof.
    pub hold: Hold,
}

impl Target {
    /// The job it is about. A token of a job that is gone is a lost lease; a name of one is simply not found.
    pub(super) fn job(&self, overlay: &mut Overlay) -> Result<std::sync::Arc<crate::domain::job::Job>, Refusal> {
        overlay.job(self.key).ok_or_else(|| match self.hold {
            Hold::Token(_) => Refusal::LeaseLost,
            Hold::Name(_) => Refusal::JobNotFound { job_id: self.job_id.to_string() },
        })
    }
}

/// Progress from 0 to 1 and a message; lower progress than known is no change.
#[derive(Debug)]
pub struct UpdateProgress {
    /// Whose.
    pub target: Target,
    /// 0 to 1.
    pub progress: Option<f64>,
    /// At most 1 KiB.
    pub message: Option<Name>,
    /// The stage's version that the caller knows.
    pub expected_version: Option<i64>,
    /// The caller's `request_id`.
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
