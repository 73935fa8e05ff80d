//! What a person does to a job: update, cancel, pause, resume, run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Operation, Reply, existing};
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Edit;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::engine::world::{Key, World};

/// What shall happen.
#[derive(Debug)]
pub enum Control {
    /// Sets labels and priority, those that are given.
    Update {
        /// All labels anew.
        labels: Option<Arc<BTreeMap<String, String>>>,
        /// −1,000 to 1,000.
        priority: Option<i32>,
    },
    /// Asks everybody to stop.
    Cancel {
        /// How long holders may go on.
        grace: Duration,
        /// What the caller said.
        reason: Option<Name>,
    },
    /// Hands out nothing.
    Pause,
    /// Hands out again.
    Resume,
    /// Runs what did not succeed again.
    Retry {
        /// This stage and what follows it too.
        from_stage: Option<Name>,
    },
}

/// One of them, for one job.
#[derive(Debug)]
pub struct ControlJob {
    /// Which job.
    pub key: JobKey,
    /// As the caller named it.
    pub job_id: Name,
    /// What shall happen.
    pub control: Control,
    /// The job's revision that the caller knows.
    pub expected_revision: Option<i64>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Control {
    fn apply(&self, edit: &mut Edit) -> Result<(), Refusal> {
        match self {
            Self::Update { labels, priority } => {
                edit.update(labels.clone(), *priority);
                Ok(())
            }
            Self::Cancel { grace, reason } => edit.cancel(*grace, reason.clone()),
            Self::Pause => edit.pause(),
            Self::Resume => edit.resume(),
            Self::Retry { from_stage } => edit.retry(from_stage.as_ref()),
        }
    }
}

impl Operation for ControlJob {
    fn name(&self) -> &'static str {
        match self.control {
            Control::Update { .. } => "update_job",
            Control::Cancel { .. } => "cancel_job",
            Control::Pause => "pause_job",
            Control::Resume => "resume_job",
            Control::Retry { .. } => "retry_job",
        }
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = existing(world, self.key, &self.job_id)?;
        job.expect_revision(self.expected_revision)?;
        let mut edit = world.edit(&job);
        self.control.apply(&mut edit)?;
        Ok(Reply::about(world.keep(&job, edit)))
    }
}
