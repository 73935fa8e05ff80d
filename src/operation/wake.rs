//! Timers of jobs and stages: delayed starts, backoffs, timeouts, the end of grace and of retention.

use super::delete_job::{delete, keys};
use super::{Operation, Reply, commit_job};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};

/// Handles what is due of a job, or of one of its stages. If nothing is due, nothing changes.
#[derive(Debug)]
pub struct Wake {
    pub key: JobKey,
    /// The stage. None: the job itself.
    pub stage_no: Option<StageNo>,
    /// Uniform random number in [0, 1) for the backoff after a timeout, drawn by the caller so that `decide` is deterministic.
    pub jitter: f64,
}

impl Operation for Wake {
    fn name(&self) -> &'static str {
        "wake"
    }

    fn keys(&self) -> Vec<Key> {
        match self.stage_no {
            Some(_) => vec![Key::Job(self.key)],
            // The job may be deleted.
            None => keys(self.key),
        }
    }

    fn is_urgent(&self) -> bool {
        // A stage's backoff or timeout is urgent. Jobs that start late, time out or are deleted can wait.
        self.stage_no.is_some()
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let Some(job) = overlay.job(self.key) else {
            return Ok(Reply::default());
        };
        if self.stage_no.is_none() && job.expire_time.is_some_and(|at| at <= overlay.now()) {
            delete(overlay, &job);
            return Ok(Reply::about((job, true)));
        }
        let mut edit = overlay.begin_job(&job);
        match self.stage_no {
            Some(no) => {
                edit.step_back_stage(no);
                edit.wake_stage(no, self.jitter);
            }
            None => {
                edit.step_back();
                edit.wake_job();
            }
        }
        Ok(Reply::about(commit_job(overlay, &job, edit)))
    }
}
