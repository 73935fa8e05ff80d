//! How a command names a stage: by the token of its lease, or by job and name.

use clap::Args;

use crate::cli::failure::Failed;
use crate::cli::text::{percent, plain, stage_state};
use crate::proto::{Stage, StageTarget};

/// The stage.
#[derive(Debug, Args)]
pub(super) struct TargetFlags {
    /// Id of the job, for a stage that is not leased [default: the stage of --token].
    #[arg(value_name = "JOB", requires = "stage_name")]
    job_id: Option<String>,
    /// Name of the stage within the job.
    #[arg(value_name = "STAGE")]
    stage_name: Option<String>,
    /// Token of the stage's lease.
    #[arg(long, value_name = "TOKEN", env = "INTERLOCK_LEASE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl TargetFlags {
    /// The stage, for a request. Job and name count before the token, which the environment may have set.
    ///
    /// # Errors
    /// If neither is given.
    pub(super) fn target(self) -> Result<Option<StageTarget>, Failed> {
        match (self.job_id, self.stage_name, self.token) {
            (Some(job_id), Some(stage_name), _) => Ok(Some(StageTarget::named(job_id, stage_name))),
            (_, _, Some(token)) => Ok(Some(StageTarget::leased(token))),
            _ => Err(Failed::usage("name the stage by --token (INTERLOCK_LEASE_TOKEN), or by JOB and STAGE")),
        }
    }
}

/// The line about a stage after a write. None: the write is a repeat, and the job was deleted after the first one.
pub(super) fn line(stage: Option<&Stage>, applied: bool) -> Vec<String> {
    let Some(stage) = stage else { return vec!["applied before, and deleted since".to_owned()] };
    let before = if applied { "" } else { ", as it was before" };
    let line = format!("{}  {} {}{before}", stage.name, stage_state(stage.state()), percent(stage.progress));
    vec![plain(&line)]
}
