//! Notes progress and a message of a running stage.

use super::target::StageTarget;
use super::{Operation, Reply, keep};
use crate::domain::id::Name;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::engine::world::{Key, World};

/// Progress from 0 to 1 and a message; lower progress than known is no change.
#[derive(Debug)]
pub struct UpdateProgress {
    /// Whose.
    pub target: StageTarget,
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

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = self.target.job(world)?;
        expect_version(job.verified_stage(&self.target.credential)?.version, self.expected_version)?;
        let mut edit = world.edit(&job);
        let no = edit.progress(&self.target.credential, self.progress, self.message.clone())?;
        Ok(Reply::about_stage(no, keep(world, &job, edit)))
    }
}
