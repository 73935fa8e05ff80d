//! A running stage adds stages to its job.

use super::target::StageTarget;
use super::{Operation, Reply, Weight, commit_job};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::domain::stage::NewStage;
use crate::operation::overlay::{Key, Overlay};

#[derive(Debug)]
pub struct AddStages {
    /// The running stage that adds them.
    pub target: StageTarget,
    pub stages: Vec<NewStage>,
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
        // A running attempt waits for it.
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = self.target.job(overlay)?;
        let by = job.running_stage(&self.target.credential)?.no;
        let mut edit = overlay.begin_job(&job);
        let stages = edit.add_stages(by, &self.stages, "stages")?;
        let (job, applied) = commit_job(overlay, &job, edit);
        Ok(Reply { jobs: vec![job], stages, applied, ..Reply::default() })
    }
}
