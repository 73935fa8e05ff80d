//! Ready stages by queue, as far as bounded reads can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Code;

use super::client::ApiClient;
use super::failure::Failed;
use super::text::count;
use crate::proto::{self, StageState};

/// Pages of jobs that are read, each of at most 2,000 jobs that have not ended, the oldest first.
const PAGES: usize = 3;
/// Jobs per page.
const PAGE: i32 = 1_000;
/// Calls made at once.
const LOOKS: usize = 8;
/// Stages listed of a job.
const STAGES: i32 = 1_000;
/// Queues that a hint names.
const NAMED: usize = 5;

/// Ready stages of a namespace.
#[derive(Debug, Default)]
pub struct PendingStages {
    /// The queues that have ready stages. Without those of jobs whose stages were not listed.
    pub queues: BTreeMap<String, ReadyCount>,
    /// Ready stages of jobs whose stages were not listed.
    pub unlisted: usize,
    /// Whether there are more jobs than were read.
    pub has_more: bool,
}

/// The ready stages of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadyCount {
    /// Ready stages.
    pub stages: usize,
    /// Jobs that they are of.
    pub jobs: usize,
    /// Creation of the oldest of these jobs.
    pub oldest: Option<Timestamp>,
}

impl PendingStages {
    /// Reads the oldest jobs that have not ended, and the ready stages of at most `limit` of them. `bound` is the deadline of a call.
    ///
    /// # Errors
    /// The first call that fails.
    pub async fn read(client: &ApiClient, limit: usize, bound: Duration) -> Result<Self, Failed> {
        let mut pending = Self::default();
        let jobs = pending.jobs(client, bound).await?;
        let (listed, others) = jobs.split_at(limit.min(jobs.len()));
        pending.unlisted = others.iter().map(ready).sum();
        for some in listed.chunks(LOOKS) {
            let stages = join_all(some.iter().map(|job| stages(client, job, bound))).await;
            for (job, stages) in some.iter().zip(stages) {
                pending.add(job, &stages?);
            }
        }
        Ok(pending)
    }

    /// The jobs with ready stages.
    async fn jobs(&mut self, client: &ApiClient, bound: Duration) -> Result<Vec<proto::Job>, Failed> {
        let (mut jobs, mut page_token) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let request = proto::ListJobsRequest {
                filter: "state = PENDING OR state = RUNNING".to_owned(),
                // Jobs without an end by creation, so that a server need not read those that have ended.
                order_by: "end_time".to_owned(),
                page_size: PAGE,
                page_token,
                ..Default::default()
            };
            let page = client.jobs().list_jobs(client.ask_within(bound, request)).await;
            let page = page.map_err(|status| Failed::call(&client.server, &status))?.into_inner();
            jobs.extend(page.jobs.into_iter().filter(|job| ready(job) > 0));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        self.has_more = !page_token.is_empty();
        Ok(jobs)
    }

    fn add(&mut self, job: &proto::Job, stages: &[proto::Stage]) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        // Nobody leases a direct stage.
        stages.iter().filter(|stage| !stage.direct).for_each(|stage| *counts.entry(&stage.queue).or_default() += 1);
        for (queue, stages) in counts {
            let entry = self.queues.entry(queue.to_owned()).or_default();
            entry.stages += stages;
            entry.jobs += 1;
            let moment = |time: Timestamp| (time.seconds, time.nanos);
            entry.oldest = [entry.oldest, job.create_time].into_iter().flatten().min_by_key(|time| moment(*time));
        }
    }

    /// Where ready stages wait, if none waits in one of `queues`. None: one does, or none waits anywhere.
    pub fn elsewhere(&self, queues: &[String]) -> Option<String> {
        if queues.iter().any(|queue| self.queues.contains_key(queue)) || self.queues.is_empty() {
            return None;
        }
        let named = self.queues.iter().take(NAMED).map(|(queue, ready)| format!("{queue:?} ({})", ready.stages));
        let named = named.collect::<Vec<_>>().join(", ");
        let others = if self.queues.len() > NAMED { " and others" } else { "" };
        let queue = if queues.len() == 1 { "queue" } else { "queues" };
        let missed: Vec<_> = queues.iter().map(|name| format!("{name:?}")).collect();
        Some(format!("no stage is ready in {queue} {}; stages are ready in {named}{others}", missed.join(", ")))
    }

    /// All of it as JSON.
    pub fn document(&self) -> Value {
        let queue = |(queue, ready): (&String, &ReadyCount)| {
            let oldest = ready.oldest.map(|time| time.to_string());
            json!({ "queue": queue, "stages": ready.stages, "jobs": ready.jobs, "oldestJobCreateTime": oldest })
        };
        let queues: Vec<_> = self.queues.iter().map(queue).collect();
        json!({ "queues": queues, "unlistedStages": self.unlisted, "hasMoreJobs": self.has_more })
    }

    /// What was not looked at, in one line. None: everything was.
    pub fn rest(&self) -> Option<String> {
        let unlisted =
            (self.unlisted > 0).then(|| format!("{} of newer jobs", count(self.unlisted, "more ready stage")));
        let more = self.has_more.then(|| "not all jobs were read".to_owned());
        let parts: Vec<_> = unlisted.into_iter().chain(more).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

fn ready(job: &proto::Job) -> usize {
    job.stage_counts.and_then(|counts| usize::try_from(counts.ready).ok()).unwrap_or_default()
}

async fn stages(client: &ApiClient, job: &proto::Job, bound: Duration) -> Result<Vec<proto::Stage>, Failed> {
    let request = proto::ListStagesRequest {
        job_id: job.job_id.clone(),
        states: vec![StageState::Ready.into()],
        page_size: STAGES,
        ..Default::default()
    };
    match client.jobs().list_stages(client.ask_within(bound, request)).await {
        Ok(answer) => Ok(answer.into_inner().stages),
        // Deleted meanwhile.
        Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(Failed::call(&client.server, &status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(seconds: i64) -> proto::Job {
        proto::Job { create_time: Some(Timestamp { seconds, nanos: 0 }), ..Default::default() }
    }

    fn stage(queue: &str) -> proto::Stage {
        proto::Stage { queue: queue.to_owned(), ..Default::default() }
    }

    #[test]
    fn ready_stages_are_counted_by_queue() {
        let mut pending = PendingStages::default();
        pending.add(&job(20), &[stage("gpu"), stage("gpu"), stage("default")]);
        pending.add(&job(10), &[stage("gpu"), proto::Stage { direct: true, ..stage("own") }]);
        let oldest = Some(Timestamp { seconds: 10, nanos: 0 });
        assert_eq!(pending.queues["gpu"], ReadyCount { stages: 3, jobs: 2, oldest });
        assert_eq!(pending.queues.keys().collect::<Vec<_>>(), ["default", "gpu"]);
    }

    #[test]
    fn a_misspelt_queue_is_told_from_an_empty_one() {
        let mut pending = PendingStages::default();
        let queues = ["gpus".to_owned()];
        assert_eq!(pending.elsewhere(&queues), None, "nothing is ready anywhere");
        pending.add(&job(0), &[stage("gpu"), stage("gpu")]);
        let hint = pending.elsewhere(&queues).expect("a hint");
        assert_eq!(hint, r#"no stage is ready in queue "gpus"; stages are ready in "gpu" (2)"#);
        pending.add(&job(0), &[stage("gpus")]);
        assert_eq!(pending.elsewhere(&queues), None);
    }

    #[test]
    fn the_rest_is_counted() {
        assert_eq!(PendingStages::default().rest(), None);
        let pending = PendingStages { unlisted: 7, has_more: true, ..Default::default() };
        assert_eq!(pending.rest().as_deref(), Some("7 more ready stages of newer jobs; not all jobs were read"));
    }
}
