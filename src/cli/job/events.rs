//! `interlock job events`: the history of a job.

use clap::Args;

use super::read::failure_text;
use crate::cli::client::ApiClient;
use crate::cli::output::Output;
use crate::cli::pages::Limit;
use crate::cli::text::{bare, job_state, stage_state, table, time, width};
use crate::proto;

/// Stages named in a line.
const NAMED: usize = 5;

/// The job, and the part of its history.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
    /// Only events after this version of the job [default: from the beginning].
    #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
    from_version: i64,
    #[command(flatten)]
    limit: Limit,
}

impl Events {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let (job_id, from_version) = (self.job_id.clone(), self.from_version);
            let request = proto::ListJobEventsRequest { job_id, from_version, page_size, page_token };
            client.answer(client.jobs().list_job_events(client.ask(request))).await
        };
        let found = self.limit.pages(page).await?;
        let head = ["VERSION", "TIME", "RUN", "EVENT", "JOB", "ACTOR", "STAGES"];
        self.limit.print(output, found, |found| table(&head, found.events.iter().map(row), width()))
    }
}

fn row(event: &proto::JobEvent) -> Vec<String> {
    let mut stages: Vec<_> = event.stage_changes.iter().take(NAMED).map(change).collect();
    if event.stage_changes.len() > NAMED {
        stages.push(format!("and {} more", event.stage_changes.len() - NAMED));
    }
    vec![
        event.version.to_string(),
        time(event.event_time),
        event.run.to_string(),
        bare(event.event_type().as_str_name(), "JOB_EVENT_TYPE_").to_owned(),
        job_state(event.job_state()).to_owned(),
        event.actor.clone(),
        stages.join("; "),
    ]
}

fn change(change: &proto::StageChange) -> String {
    let failure = change.failure.clone().map(|failure| {
        // The line names the stage already.
        format!(" ({})", failure_text(&proto::Failure { stage_name: String::new(), ..failure }))
    });
    let failure = failure.unwrap_or_default();
    format!("{} {}{failure}", change.stage_name, stage_state(change.state()))
}
