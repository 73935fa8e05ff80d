//! `interlock explain` and `interlock job explain`.

use std::process::ExitCode;

use clap::Args;

use super::read::failure_text;
use crate::cli::client::{ApiClient, Connection};
use crate::cli::failure::{EXIT_CODES, Failed};
use crate::cli::output::{Output, print};
use crate::cli::text::{bare, plain, stage_state, table, time, width};
use crate::proto;

/// Explain what a job or one of its stages waits for, or what it does.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Explain {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    target: ExplainTarget,
}

/// The job to explain, or one stage of it.
#[derive(Debug, Args)]
pub(super) struct ExplainTarget {
    /// Id of the job.
    #[arg(value_name = "JOB")]
    job_id: String,
    /// Name of a stage [default: all that have not ended, at most 100].
    #[arg(value_name = "STAGE")]
    stage_name: Option<String>,
}

impl Explain {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        self.target.run(&client, self.connection.output).await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ExplainTarget {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::ExplainJobRequest { job_id: self.job_id.clone() };
        let mut answer = client.answer(client.jobs().explain_job(client.ask(request))).await?;
        if let Some(stage_name) = self.stage_name {
            answer.stages.retain(|stage| stage.stage_name == stage_name);
            if answer.stages.is_empty() {
                return ended(client, self.job_id, stage_name, output).await;
            }
        }
        print(output, &answer, lines)
    }
}

/// Prints a stage that is not among those that wait: it has ended, or more than 100 wait before it.
async fn ended(client: &ApiClient, job_id: String, stage_name: String, output: Output) -> anyhow::Result<()> {
    let request = proto::GetStageRequest { job_id, stage_name };
    let answer = client.answer(client.jobs().get_stage(client.ask(request))).await?;
    let Some(stage) = &answer.stage else { return Err(Failed::refused("the server sent no stage").into()) };
    let failure = stage.failure.as_ref().map(failure_text).unwrap_or_default();
    let line = format!("Stage {:?} is {}. {failure}", stage.name, stage_state(stage.state()));
    print(output, &answer, |_| vec![plain(line.trim_end())])
}

fn lines(answer: &proto::ExplainJobResponse) -> Vec<String> {
    let mut lines = vec![plain(&answer.headline)];
    let row = |stage: &proto::StageExplanation| {
        let reason = bare(stage.reason().as_str_name(), "STAGE_WAIT_REASON_").to_owned();
        vec![stage.stage_name.clone(), reason, stage.blocker.clone(), time(stage.until_time)]
    };
    if !answer.stages.is_empty() {
        lines.push(String::new());
        lines.extend(table(&["STAGE", "REASON", "BLOCKED BY", "UNTIL"], answer.stages.iter().map(row), width()));
    }
    lines
}
