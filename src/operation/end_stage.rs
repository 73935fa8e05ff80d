//! Ends an attempt: completes, fails or gives back a stage.

use uuid::Uuid;

use super::target::StageTarget;
use super::{Operation, Reply, Weight, keep};
use crate::domain::failure::FailureReport;
use crate::domain::id::Name;
use crate::domain::job::{Job, StageCredential};
use crate::domain::json::Document;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::domain::stage::NewStage;
use crate::engine::world::{Key, World};

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// Well.
    Complete {
        /// What it made.
        artifacts: Option<Document>,
        /// The job's result, if this stage knows it.
        job_result: Option<Document>,
        /// A last word.
        message: Option<Name>,
        /// Stages that it adds with its own end.
        add_stages: Vec<NewStage>,
    },
    /// Badly.
    Fail {
        /// What went wrong.
        report: FailureReport,
        /// A random number in `[0, 1)` for the wait.
        jitter: f64,
    },
    /// Not at all: the attempt is given back.
    Release,
}

/// The end of one attempt.
#[derive(Debug)]
pub struct EndStage {
    /// Whose.
    pub target: StageTarget,
    /// How.
    pub end: End,
    /// A digest of what was said, to recognise a repeat.
    pub digest: Uuid,
    /// The stage's version that the caller knows.
    pub expected_version: Option<i64>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl EndStage {
    /// Whether this is what already ended the stage, said again with the same token.
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

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = self.target.job(world)?;
        let credential = &self.target.credential;
        let stage = job.verified_stage(credential)?;
        if self.is_repeat(&job) {
            return Ok(Reply::about_stage(stage.no, (job.clone(), false)));
        }
        expect_version(stage.version, self.expected_version)?;
        let mut edit = world.edit(&job);
        let no = match &self.end {
            End::Complete { artifacts, job_result, message, add_stages } => {
                let (artifacts, job_result) = (artifacts.clone(), job_result.clone());
                edit.complete_adding(credential, add_stages, artifacts, job_result, message.clone(), self.digest)?
            }
            End::Fail { report, jitter } => edit.fail(credential, report.clone(), *jitter, self.digest)?,
            End::Release => edit.release(credential)?,
        };
        Ok(Reply::about_stage(no, keep(world, &job, edit)))
    }
}
