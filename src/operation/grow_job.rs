//! A running stage adds stages to its job.

use super::target::StageTarget;
use super::{Operation, Reply, Weight, keep};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::domain::stage::NewStage;
use crate::engine::world::{Key, World};

/// Fans out.
#[derive(Debug)]
pub struct AddStages {
    /// The running stage that asks.
    pub target: StageTarget,
    /// What is added.
    pub stages: Vec<NewStage>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Operation for AddStages {
    fn name(&self) -> &'static str {
        "add_stages"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.target.key)]
    }

    fn weight(&self) -> Weight {
        let inputs =
            self.stages.iter().filter_map(|stage| stage.input.as_ref()).map(|input| input.len()).sum::<usize>();
        Weight { rows: 4 + 4 * self.stages.len(), bytes: 512 + 256 * self.stages.len() + inputs }
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn is_urgent(&self) -> bool {
        // The attempt that adds them is under way.
        true
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = self.target.job(world)?;
        let by = job.running_stage(&self.target.credential)?.no;
        let mut edit = world.edit(&job);
        let stages = edit.add_stages(by, &self.stages, "stages")?;
        let (job, applied) = keep(world, &job, edit);
        Ok(Reply { jobs: vec![job], stages, applied, ..Reply::default() })
    }
}
