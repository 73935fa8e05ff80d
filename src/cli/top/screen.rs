//! What `interlock top` shows: queues, workers, jobs.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::Timestamp;

use super::figures::StatisticsLine;
use super::running::{Running, RunningJob};
use crate::cli::client::ApiClient;
use crate::cli::pending::{PendingStages, ReadyCount};
use crate::cli::text::{count, percent, plain, seconds, table};
use crate::proto::Stage;

/// Maximum rows of a table; the rest is counted.
const ROWS: usize = 100;
/// Maximum rows in a terminal, so that all tables fit.
const TERMINAL_ROWS: usize = 12;

/// What is shown.
pub struct View<'a> {
    pub running: &'a Running,
    /// Maximum number of jobs.
    pub limit: usize,
    pub pending: &'a PendingStages,
    pub figures: &'a StatisticsLine,
    /// Why the watch broke off. None: it has not.
    pub trouble: Option<&'a str>,
}

/// All lines, each truncated to `width`. None: not truncated.
pub fn lines(view: &View<'_>, client: &ApiClient, width: Option<usize>) -> Vec<String> {
    let &View { running, limit, pending, figures, trouble } = view;
    let jobs: Vec<_> = running.first(limit).collect();
    let mut stages: Vec<_> =
        jobs.iter().flat_map(|running| running.stages.values().map(|stage| (*running, stage))).collect();
    // Stable: a worker's jobs and stages stay in their order.
    stages.sort_by_key(|(_, stage)| worker(stage));
    let workers: BTreeSet<_> =
        stages.iter().map(|(_, stage)| worker(stage)).filter(|worker| !worker.is_empty()).collect();
    let of = if running.count() > jobs.len() { format!(" of the {} longest", jobs.len()) } else { String::new() };
    let mut lines = vec![
        format!(
            "{} running at {}, namespace {}: {}{of} on {}",
            count(running.count(), "job"),
            client.server,
            client.namespace,
            count(stages.len(), "stage"),
            count(workers.len(), "worker"),
        ),
        figures.line.clone(),
    ];
    lines.extend(trouble.map(plain));
    let room = if width.is_some() { TERMINAL_ROWS } else { ROWS };
    let mut add = |head: &[&str], mut rows: Vec<Vec<String>>| {
        let left = rows.len().saturating_sub(room);
        rows.truncate(room);
        if rows.is_empty() {
            return;
        }
        lines.push(String::new());
        lines.extend(table(head, rows, None));
        lines.extend((left > 0).then(|| format!("… and {left} more")));
    };
    add(&["READY IN QUEUE", "STAGES", "JOBS", "OLDEST JOB"], ready(pending, figures.time));
    add(&["QUEUE", "STAGES", "WORKERS", "JOBS"], queues(&stages));
    add(
        &["WORKER", "QUEUE", "JOB", "STAGE", "ATTEMPT", "DONE", "FOR", "MESSAGE"],
        stages.iter().map(|(running, stage)| at_work(running, stage, figures.time)).collect(),
    );
    add(
        &["JOB", "KIND", "DONE", "STAGES", "READY", "BACKOFF", "FOR"],
        jobs.iter().map(|running| job(running, figures.time)).collect(),
    );
    lines.extend(pending.rest());
    let cut = |line: String| width.map_or(line.clone(), |width| console::truncate_str(&line, width, "…").into_owned());
    lines.into_iter().map(cut).collect()
}

fn worker(stage: &Stage) -> &str {
    stage.lease.as_ref().map_or("", |lease| &lease.worker_id)
}

/// Ready stages by queue, and the age of the oldest job that they are of.
fn ready(pending: &PendingStages, now: Option<Timestamp>) -> Vec<Vec<String>> {
    let row = |(queue, ready): (&String, &ReadyCount)| {
        vec![queue.clone(), ready.stages.to_string(), ready.jobs.to_string(), since(ready.oldest, now)]
    };
    pending.queues.iter().map(row).collect()
}

fn queues(stages: &[(&RunningJob, &Stage)]) -> Vec<Vec<String>> {
    let mut queues: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (running, stage) in stages {
        queues.entry(&stage.queue).or_default().push((worker(stage), &running.job.job_id));
    }
    let row = |(queue, stages): (&str, Vec<(&str, &str)>)| {
        let workers: BTreeSet<_> =
            stages.iter().map(|(worker, _)| worker).filter(|worker| !worker.is_empty()).collect();
        let jobs: BTreeSet<_> = stages.iter().map(|(_, job)| job).collect();
        vec![queue.to_owned(), stages.len().to_string(), workers.len().to_string(), jobs.len().to_string()]
    };
    queues.into_iter().map(row).collect()
}

fn at_work(running: &RunningJob, stage: &Stage, now: Option<Timestamp>) -> Vec<String> {
    // A stage that is run by name has no lease.
    let worker = if worker(stage).is_empty() { "–" } else { worker(stage) };
    vec![
        worker.to_owned(),
        stage.queue.clone(),
        running.job.job_id.clone(),
        stage.name.clone(),
        format!("{}/{}", stage.attempt, stage.max_attempts),
        percent(stage.progress),
        since(stage.start_time, now),
        stage.message.clone(),
    ]
}

fn job(running: &RunningJob, now: Option<Timestamp>) -> Vec<String> {
    let (job, counts) = (&running.job, running.job.stage_counts.unwrap_or_default());
    vec![
        job.job_id.clone(),
        job.kind.clone(),
        percent(job.progress),
        format!("{}/{}", counts.succeeded, counts.total),
        counts.ready.to_string(),
        counts.backoff.to_string(),
        since(job.start_time, now),
    ]
}

/// Time since `start` by the server's clock.
fn since(start: Option<Timestamp>, now: Option<Timestamp>) -> String {
    start.zip(now).map(|(start, now)| seconds(now.seconds - start.seconds)).unwrap_or_default()
}
