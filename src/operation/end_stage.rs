//! Ends an attempt: completes, fails or releases a stage.

use uuid::Uuid;

use super::target::StageTarget;
use super::{Operation, Reply, Weight, commit_job};
use crate::domain::failure::FailureReport;
use crate::domain::id::Name;
use crate::domain::job::{Job, StageCredential};
use crate::domain::json::Document;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::domain::stage::NewStage;
use crate::operation::overlay::{Key, Overlay};

/// How a worker ended its attempt.
#[derive(Debug)]
pub enum End {
    /// The attempt succeeded, and the stage with it.
    Complete {
        /// Output stored with the stage, at most 64 KiB of JSON. None: no output.
        artifacts: Option<Document>,
        /// Result of the job. None: the job's result stays as it is.
        job_result: Option<Document>,
        /// Message shown with the stage. None: the message stays as it is.
        message: Option<Name>,
        /// Stages added to the job in the same revision.
        add_stages: Vec<NewStage>,
    },
    /// The attempt failed; the stage's `RetryPolicy` decides whether it is retried.
    Fail {
        /// Class and details of the failure.
        report: FailureReport,
        /// Uniform random number in [0, 1) for the backoff, drawn by the caller so that `decide` is deterministic.
        jitter: f64,
    },
    /// The worker returned the stage; the attempt is not counted.
    Release,
}

/// The end of one attempt.
#[derive(Debug)]
pub struct EndStage {
    pub target: StageTarget,
    pub end: End,
    /// Digest of the request, by which a repeat is recognised.
    pub digest: Uuid,
    /// The version the stage must have. None: any.
    pub expected_version: Option<i64>,
    pub request: Option<RequestIdentity>,
}

impl EndStage {
    /// Whether this is a repeat of the request that ended the stage, with the same token.
    fn is_repeat(&self, job: &Job) -> bool {
        let StageCredential::Token(token) = self.target.credential else { return false };
        job.stages.get(token.stage_no).is_some_and(|stage| {
            stage.is_newest(&token) && stage.phase().is_terminal() && stage.outcome_digest == Some(self.digest)
        })
    }
}

impl Operation for EndStage {
    fn name(&self) -> &'static str {
        match self.end {
            End::Complete { .. } => "complete_stage",
            End::Fail { .. } => "fail_stage",
            End::Release => "release_stage",
        }
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.target.key)]
    }

    fn weight(&self) -> Weight {
        match &self.end {
            End::Complete { artifacts, job_result, add_stages, .. } => {
                let documents = [artifacts, job_result].into_iter().flatten().map(Document::len).sum::<usize>();
                let inputs =
                    add_stages.iter().filter_map(|stage| stage.input.as_ref()).map(Document::len).sum::<usize>();
                Weight { rows: 8 + 4 * add_stages.len(), bytes: 512 + documents + inputs + 256 * add_stages.len() }
            }
            End::Fail { report, .. } => Weight { rows: 8, bytes: 512 + report.details.as_ref().map_or(0, String::len) },
            End::Release => Weight::SMALL,
        }
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn ends_attempt(&self) -> bool {
        true
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = self.target.job(overlay)?;
        let credential = &self.target.credential;
        let stage = job.verified_stage(credential)?;
        if self.is_repeat(&job) {
            return Ok(Reply::about_stage(stage.no, (job.clone(), false)));
        }
        expect_version(stage.version, self.expected_version)?;
        let mut edit = overlay.begin_job(&job);
        let no = match &self.end {
            End::Complete { artifacts, job_result, message, add_stages } => {
                let (artifacts, job_result) = (artifacts.clone(), job_result.clone());
                edit.complete_adding(credential, add_stages, artifacts, job_result, message.clone(), self.digest)?
            }
            End::Fail { report, jitter } => edit.fail(credential, report.clone(), *jitter, self.digest)?,
            End::Release => edit.release(credential)?,
        };
        Ok(Reply::about_stage(no, commit_job(overlay, &job, edit)))
    }
}
