//! Sets progress and message of a running stage.

use super::target::StageTarget;
use super::{Operation, Reply, commit_job};
use crate::domain::id::Name;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

/// Progress from 0 to 1 and a message; lower progress than known is no change.
#[derive(Debug)]
pub struct UpdateProgress {
    pub target: StageTarget,
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
        expect_version(job.verified_stage(&self.target.credential)?.version, self.expected_version)?;
        let mut edit = overlay.begin_job(&job);
        let no = edit.progress(&self.target.credential, self.progress, self.message.clone())?;
        Ok(Reply::about_stage(no, commit_job(overlay, &job, edit)))
    }
}
