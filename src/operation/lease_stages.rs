//! Gives ready stages of one job to a worker.

use super::{Operation, Reply};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::Grant;
use crate::domain::refusal::Refusal;
use crate::engine::world::{Key, World};

/// Leases stages that the dispatcher has reserved. Those that can no longer be leased are left out.
#[derive(Debug)]
pub struct LeaseStages {
    /// Which job.
    pub key: JobKey,
    /// Which stages, each with its own secret.
    pub stages: Vec<(StageNo, Grant)>,
}

impl Operation for LeaseStages {
    fn name(&self) -> &'static str {
        "lease_stages"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let Some(job) = world.job(self.key) else {
            return Ok(Reply::default());
        };
        let mut edit = world.edit(&job);
        let mut leased = Vec::with_capacity(self.stages.len());
        for (no, grant) in &self.stages {
            if edit.lease(*no, grant).is_ok() {
                leased.push(*no);
            }
        }
        let (job, applied) = world.keep(&job, edit);
        Ok(Reply { jobs: vec![job], stages: leased, applied, ..Reply::default() })
    }
}
