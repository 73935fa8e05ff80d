//! Submits one job or many, all or nothing.

use super::{Operation, Reply, Weight};
use crate::domain::job::NewJob;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

#[derive(Debug)]
pub struct SubmitJobs {
    /// Each with the field of the request that holds its stages, for errors.
    pub jobs: Vec<(NewJob, String)>,
    pub request: Option<RequestIdentity>,
}

impl Operation for SubmitJobs {
    fn name(&self) -> &'static str {
        "submit_jobs"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::with_capacity(self.jobs.len() + 1);
        for (job, _) in &self.jobs {
            keys.push(Key::Job(job.key));
        }
        if let Some((job, _)) = self.jobs.first() {
            keys.push(Key::Namespace(job.key.namespace));
        }
        keys
    }

    fn presumed_absent(&self) -> Vec<Key> {
        self.jobs.iter().filter(|(job, _)| job.is_generated).map(|(job, _)| Key::Job(job.key)).collect()
    }

    fn weight(&self) -> Weight {
        let input = |stage: &crate::domain::stage::NewStage| stage.input.as_ref().map_or(0, |input| input.len());
        let one = |job: &NewJob| Weight {
            rows: 4 + 4 * job.stages.len(),
            bytes: 512
                + job.payload.as_ref().map_or(0, |payload| payload.len())
                + job.stages.iter().map(|stage| 256 + input(stage)).sum::<usize>(),
        };
        self.jobs.iter().map(|(job, _)| one(job)).fold(Weight { rows: 0, bytes: 0 }, Weight::plus)
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let mut reply = Reply { applied: true, ..Reply::default() };
        for (new, path) in &self.jobs {
            if overlay.job(new.key).is_some() {
                return Err(Refusal::JobAlreadyExists { job_id: new.meta.job_id.to_string() });
            }
            if !overlay.has_namespace(new.key.namespace) {
                return Err(Refusal::NamespaceNotFound { name: String::new() });
            }
            // An id that the server generated was never used before. Any other may have been that of a deleted job, whose tokens must stay stale.
            let floor = match new.is_generated {
                true => 0,
                false => overlay.namespace(new.key.namespace).map_or(0, |namespace| namespace.fencing_floor),
            };
            let (job, changes) = new.submit(overlay.now(), floor, path)?;
            overlay.insert_job(job.clone(), changes, new.is_generated);
            reply.jobs.push(job);
        }
        Ok(reply)
    }
}
