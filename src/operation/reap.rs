//! Takes a stage from a holder whose lease has expired.

use uuid::Uuid;

use super::{Operation, Reply};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase;
use crate::engine::world::{Key, World};

/// Reaps one lease; the commit proves that it has expired and that nobody renewed it.
#[derive(Debug)]
pub struct Reap {
    /// Which job.
    pub key: JobKey,
    /// Which stage.
    pub stage_no: StageNo,
    /// Whose lease.
    pub token_secret: Uuid,
}

impl Operation for Reap {
    fn name(&self) -> &'static str {
        "reap"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = world.job(self.key).ok_or(Refusal::LeaseLost)?;
        let held = job
            .stages
            .get(self.stage_no)
            .is_some_and(|stage| stage.phase() == StagePhase::Running && stage.token_secret == Some(self.token_secret));
        if !held {
            return Err(Refusal::LeaseLost);
        }
        world.require_expired(self.key, self.stage_no, self.token_secret);
        let mut edit = world.edit(&job);
        edit.reap(self.stage_no);
        Ok(Reply::about_stage(self.stage_no, world.keep(&job, edit)))
    }
}
