//! `interlock job list` and `interlock job get`.

use clap::Args;

use super::details;
use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::{Output, print};
use crate::cli::pages::Limit;
use crate::cli::text::{self, job_state, percent, stage_state, table, time, width};
use crate::proto;

/// The job to show.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
}

/// Filter, order and limit of the list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Filter, such as `state = RUNNING AND labels.customer = "acme"` [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Order: `create_time`, `end_time` or `priority`, followed by ` desc` for descending [default: create_time desc].
    #[arg(long, default_value = "", hide_default_value = true)]
    order_by: String,
    #[command(flatten)]
    limit: Limit,
}

impl List {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let (filter, order_by) = (self.filter.clone(), self.order_by.clone());
            let request = proto::ListJobsRequest { filter, order_by, page_size, page_token, ..Default::default() };
            client.answer(client.jobs().list_jobs(client.ask(request))).await
        };
        let found = self.limit.pages(page).await?;
        let head = ["JOB", "KIND", "STATE", "DONE", "STAGES", "PRIORITY", "CREATED", "LABELS"];
        self.limit.print(output, found, |found| table(&head, found.jobs.iter().map(row), width()))
    }
}

fn row(job: &proto::Job) -> Vec<String> {
    let counts = job.stage_counts.unwrap_or_default();
    let labels: Vec<_> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        job.job_id.clone(),
        job.kind.clone(),
        job_state(job.state()).to_owned(),
        percent(job.progress),
        format!("{}/{}", counts.succeeded, counts.total),
        job.priority.to_string(),
        time(job.create_time),
        labels.join(" "),
    ]
}

impl Named {
    pub(super) async fn get(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::GetJobRequest { job_id: self.job_id, ..Default::default() };
        let answer = client.answer(client.jobs().get_job(client.ask(request))).await?;
        print(output, &answer, |answer| answer.job.as_ref().map(shown).unwrap_or_default())
    }
}

fn shown(job: &proto::Job) -> Vec<String> {
    let mut lines = text::facts(facts(job));
    lines.push(String::new());
    let head = ["STAGE", "STATE", "DONE", "ATTEMPT", "QUEUE", "WORKER", "AFTER", "MESSAGE"];
    lines.extend(table(&head, job.stages.iter().map(stage_row), width()));
    if job.stages_truncated {
        let total = job.stage_counts.unwrap_or_default().total;
        lines.push(format!("… {} of {total} stages fit into one answer", job.stages.len()));
    }
    lines.extend(details::lines(job));
    lines
}

fn facts(job: &proto::Job) -> Vec<(&'static str, String)> {
    let labels: Vec<_> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let shown = json::value(job).unwrap_or_default();
    let document = |name| shown.get(name).map(ToString::to_string).unwrap_or_default();
    vec![
        ("job", job.job_id.clone()),
        ("kind", job.kind.clone()),
        ("state", format!("{} {}", job_state(job.state()), percent(job.progress))),
        ("failure", job.failure.as_ref().map(failure_text).unwrap_or_default()),
        ("cancelled", job.cancel_reason.clone()),
        ("version", format!("{}, run {}", job.version, job.run)),
        ("priority", if job.priority == 0 { String::new() } else { job.priority.to_string() }),
        ("labels", labels.join(" ")),
        ("payload", document("payload")),
        ("result", document("result")),
        ("created", time(job.create_time)),
        ("started", time(job.start_time)),
        ("ended", time(job.end_time)),
        ("kept until", time(job.expire_time)),
    ]
}

/// A failure in one line: stage, class, code, message, and the budget of attempts if it is used up.
pub(super) fn failure_text(failure: &proto::Failure) -> String {
    let class = failure.failure_class().as_str_name();
    let class = class.strip_prefix("FAILURE_CLASS_").unwrap_or(class);
    let stage = if failure.stage_name.is_empty() { String::new() } else { format!("{}: ", failure.stage_name) };
    let code = if failure.code.is_empty() { String::new() } else { format!(" {}", failure.code) };
    let said = format!("{stage}{class}{code} {}", failure.message);
    let (used, max) = (failure.budget_used, failure.budget_max);
    if max == 0 || used < max {
        return said.trim_end().to_owned();
    }
    let of_class = if failure.budget_class == 0 { String::new() } else { format!(" for {class}") };
    format!("{} ({used} of {max} attempts{of_class} used)", said.trim_end())
}

fn stage_row(stage: &proto::Stage) -> Vec<String> {
    let message = match &stage.failure {
        Some(failure) if stage.message.is_empty() => failure_text(failure),
        _ => stage.message.clone(),
    };
    vec![
        stage.name.clone(),
        stage_state(stage.state()).to_owned(),
        percent(stage.progress),
        format!("{}/{}", stage.attempt, stage.max_attempts),
        stage.queue.clone(),
        stage.lease.as_ref().map(|lease| lease.worker_id.clone()).unwrap_or_default(),
        stage.depends_on.join(" "),
        message,
    ]
}
