//! `interlock stage get`.

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::{Output, print};
use crate::cli::text::{bare, facts, percent, stage_state, time};
use crate::proto::{GetStageRequest, Stage};

/// The stage to show.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Id of the job.
    #[arg(value_name = "JOB")]
    job_id: String,
    /// Name of the stage within the job.
    #[arg(value_name = "STAGE")]
    stage_name: String,
}

impl Get {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = GetStageRequest { job_id: self.job_id, stage_name: self.stage_name };
        let answer = client.answer(client.jobs().get_stage(client.ask(request))).await?;
        print(output, &answer, |answer| answer.stage.as_ref().map(lines).unwrap_or_default())
    }
}

fn lines(stage: &Stage) -> Vec<String> {
    let shown = json::value(stage).unwrap_or_default();
    let document = |name| shown.get(name).map(ToString::to_string).unwrap_or_default();
    let failure = stage.failure.as_ref().map(|failure| {
        let class = bare(failure.failure_class().as_str_name(), "FAILURE_CLASS_");
        format!("{class} {} {}", failure.code, failure.message)
    });
    facts([
        ("stage", stage.name.clone()),
        ("queue", stage.queue.clone()),
        ("state", format!("{} {}", stage_state(stage.state()), percent(stage.progress))),
        ("message", stage.message.clone()),
        ("attempt", format!("{} of {}", stage.attempt, stage.max_attempts)),
        ("worker", stage.lease.as_ref().map(|lease| lease.worker_id.clone()).unwrap_or_default()),
        ("failure", failure.unwrap_or_default()),
        ("after", stage.depends_on.join(" ")),
        ("input", document("input")),
        ("artifacts", document("artifacts")),
        ("version", stage.version.to_string()),
        ("next attempt", time(stage.next_attempt_time)),
        ("started", time(stage.start_time)),
        ("ended", time(stage.end_time)),
    ])
}
