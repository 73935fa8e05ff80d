//! `interlock job list`, `interlock job get` and `interlock job explain`.

use clap::Args;

use super::details;
use crate::cli::client::ApiClient;
use crate::cli::text::{job_state, percent, plain, say, stage_state, table, time, width};
use crate::cli::{Output, json};
use crate::proto;

/// Page size of the list.
const PAGE: u32 = 1_000;

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
    /// Maximum number of jobs.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl List {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let found = self.jobs(client).await?;
        if output == Output::Json {
            return Ok(say(json::text(&found)?)?);
        }
        let head = ["JOB", "KIND", "STATE", "DONE", "STAGES", "PRIORITY", "CREATED", "LABELS"];
        for line in table(&head, found.jobs.iter().map(row), width()) {
            say(line)?;
        }
        if !found.next_page_token.is_empty() {
            eprintln!("more jobs match: --limit is {}", self.limit);
        }
        Ok(())
    }

    /// Reads pages until the limit. The page token of the last one is kept if there are more jobs.
    async fn jobs(&self, client: &ApiClient) -> anyhow::Result<proto::ListJobsResponse> {
        let mut found = proto::ListJobsResponse::default();
        loop {
            let left = self.limit - u32::try_from(found.jobs.len()).unwrap_or(self.limit);
            let request = proto::ListJobsRequest {
                filter: self.filter.clone(),
                order_by: self.order_by.clone(),
                page_size: i32::try_from(left.min(PAGE)).unwrap_or_default(),
                page_token: found.next_page_token,
            };
            let page = client.message(client.jobs().list_jobs(client.ask(request)).await)?;
            found.jobs.extend(page.jobs);
            found.next_page_token = page.next_page_token;
            if found.next_page_token.is_empty() || found.jobs.len() >= self.limit as usize {
                return Ok(found);
            }
        }
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
        let request = proto::GetJobRequest { job_id: self.job_id };
        let answer = client.message(client.jobs().get_job(client.ask(request)).await)?;
        match (output, &answer.job) {
            (Output::Json, _) => say(json::text(&answer)?)?,
            (Output::Table, Some(job)) => show(job)?,
            (Output::Table, None) => {}
        }
        Ok(())
    }

    pub(super) async fn explain(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::ExplainJobRequest { job_id: self.job_id };
        let answer = client.message(client.jobs().explain_job(client.ask(request)).await)?;
        if output == Output::Json {
            return Ok(say(json::text(&answer)?)?);
        }
        say(plain(&answer.headline))?;
        if answer.stages.is_empty() {
            return Ok(());
        }
        let row = |stage: &proto::StageExplanation| {
            let reason = stage.reason().as_str_name();
            let reason = reason.strip_prefix("STAGE_WAIT_REASON_").unwrap_or(reason);
            vec![stage.stage_name.clone(), reason.to_owned(), stage.blocker.clone(), time(stage.until_time)]
        };
        say("")?;
        for line in table(&["STAGE", "REASON", "BLOCKED BY", "UNTIL"], answer.stages.iter().map(row), width()) {
            say(line)?;
        }
        Ok(())
    }
}

fn show(job: &proto::Job) -> anyhow::Result<()> {
    for (name, value) in facts(job).into_iter().filter(|(_, value)| !value.is_empty()) {
        say(format!("{name:<11}{}", plain(&value)))?;
    }
    say("")?;
    let head = ["STAGE", "STATE", "DONE", "ATTEMPT", "QUEUE", "WORKER", "AFTER", "MESSAGE"];
    for line in table(&head, job.stages.iter().map(stage_row), width()) {
        say(line)?;
    }
    if job.stages_truncated {
        let total = job.stage_counts.unwrap_or_default().total;
        say(format!("… {} of {total} stages fit into one answer", job.stages.len()))?;
    }
    details::lines(job).iter().try_for_each(say)?;
    Ok(())
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
