//! ExplainJob: why a job is not moving, or what it is doing.

use foldhash::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::caller::Caller;
use super::convert::{steer, time};
use super::job_reads::existing;
use crate::domain::id::Name;
use crate::domain::job::{Job, JobState};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::stage::{Stage, StagePhase, StageState};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::operation::overlay::Spared;
use crate::proto::{self, StageWaitReason};

/// A queue that no worker has polled for this long has no workers.
const NO_WORKER_AFTER: Duration = Duration::from_secs(60);
/// Nor has one that no worker has polled since the server started, if that is this long ago: a worker that has a free place polls at once.
const NEVER_POLLED_AFTER: Duration = Duration::from_secs(5);
/// Resources that are looked at.
const RESOURCES: usize = 1_000;
/// The most stages in a response.
const MAX_STAGES: usize = 100;

pub async fn explain_job(caller: Caller, request: proto::ExplainJobRequest) -> Result<proto::ExplainJobResponse> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let job = existing(&caller, &named).await?;
    let services = &caller.services;
    let now = services.now().await?;
    let (uptime, servers) = (services.uptime(), services.engine.shared().permits.cluster(Spared::None).servers.len());
    let is_abandoned = |queue: &str| match services.dispatcher.last_poll(caller.namespace, queue) {
        Some(ago) => ago >= NO_WORKER_AFTER,
        None => uptime >= NEVER_POLLED_AFTER,
    };
    let claims = job.stages.iter().filter(|stage| stage.phase() == StagePhase::Ready);
    let mut keys: Vec<ResourceKey> = claims.flat_map(|stage| wanted(&job, stage)).collect();
    keys.sort_unstable();
    keys.dedup();
    // Of very many stages, the permits of a part are looked up.
    keys.truncate(RESOURCES);
    let resources = if keys.is_empty() { HashMap::default() } else { services.store.resources(&keys).await? };
    let polls = PollsHere { is_abandoned: &is_abandoned, uptime, other_servers: servers.saturating_sub(1) };
    Ok(explain(&job, &polls, &resources, now))
}

fn wanted<'a>(job: &'a Job, stage: &'a Stage) -> impl Iterator<Item = ResourceKey> + 'a {
    stage.spec.permits.iter().map(|claim| ResourceKey::of(job.key.namespace, &claim.resource))
}

/// The resource that a ready stage waits for, and until when, if that is known.
fn blocked<'a>(
    job: &'a Job,
    stage: &'a Stage,
    resources: &HashMap<ResourceKey, Arc<Resource>>,
    now: Timestamp,
) -> Option<(&'a str, Option<Timestamp>)> {
    let mut claims = stage.spec.permits.iter().zip(wanted(job, stage));
    claims.find_map(|(claim, key)| {
        let resource = resources.get(&key)?;
        if resource.why_impossible(claim).is_some() {
            return Some((&*claim.resource, None));
        }
        resource.fits(claim, now).err().map(|block| (&*claim.resource, block.until))
    })
}

/// What a server knows of polls. It does not know of those at other servers.
#[derive(Clone, Copy)]
pub struct PollsHere<'a> {
    /// Whether a queue has no workers.
    pub is_abandoned: &'a dyn Fn(&str) -> bool,
    /// Time since the server started.
    pub uptime: Duration,
    /// Other servers that are alive.
    pub other_servers: usize,
}

/// Why a stage has not ended.
#[derive(Clone, Debug, PartialEq)]
struct Wait<'a> {
    stage_name: &'a str,
    reason: StageWaitReason,
    blocker: &'a str,
    until: Option<Timestamp>,
}

/// The explanation of a job at a moment.
pub fn explain(
    job: &Job,
    polls: &PollsHere,
    resources: &HashMap<ResourceKey, Arc<Resource>>,
    now: Timestamp,
) -> proto::ExplainJobResponse {
    let blocked = |stage| blocked(job, stage, resources, now);
    // Jobs have many stages and few queues.
    let mut abandoned: HashMap<&Name, bool> = HashMap::default();
    let mut waits = Vec::new();
    for stage in job.stages.iter() {
        let queue = &stage.spec.queue;
        let has_no_worker = || *abandoned.entry(queue).or_insert_with(|| (polls.is_abandoned)(queue));
        waits.extend(wait(job, stage, has_no_worker, &blocked));
    }
    proto::ExplainJobResponse {
        headline: headline(job, &waits, polls, now),
        stages: waits.iter().take(MAX_STAGES).map(to_proto).collect(),
        job_version: job.revision,
    }
}

fn to_proto(wait: &Wait) -> proto::StageExplanation {
    proto::StageExplanation {
        stage_name: wait.stage_name.to_owned(),
        reason: wait.reason as i32,
        blocker: wait.blocker.to_owned(),
        until_time: wait.until.map(time::timestamp),
    }
}

/// What a stage waits for; `None` if it has ended.
fn wait<'a>(
    job: &'a Job,
    stage: &'a Stage,
    is_abandoned: impl FnOnce() -> bool,
    blocked: &dyn Fn(&'a Stage) -> Option<(&'a str, Option<Timestamp>)>,
) -> Option<Wait<'a>> {
    let (reason, blocker, until) = match &stage.state {
        StageState::Blocked => match open_dependency(job, stage) {
            Some(blocker) => (StageWaitReason::Dependency, blocker, None),
            None => (StageWaitReason::StartTime, "", job.opens_at),
        },
        StageState::Ready if matches!(job.state, JobState::Paused { .. }) => (StageWaitReason::Paused, "", None),
        StageState::Ready if let Some((blocker, until)) = blocked(stage) => (StageWaitReason::Permit, blocker, until),
        StageState::Ready if stage.spec.direct => (StageWaitReason::Queued, "", None),
        StageState::Ready if is_abandoned() => (StageWaitReason::NoWorker, &*stage.spec.queue, None),
        StageState::Ready => (StageWaitReason::Queued, &*stage.spec.queue, None),
        StageState::Running(attempt) => {
            let lease = attempt.lease.as_ref();
            let worker = lease.map_or("", |lease| &*lease.worker_id);
            (StageWaitReason::Running, worker, lease.map(|lease| job.lease_end(lease)))
        }
        StageState::Backoff { until } => (StageWaitReason::Backoff, "", Some(*until)),
        StageState::Succeeded | StageState::Failed | StageState::Cancelled | StageState::Skipped => return None,
    };
    Some(Wait { stage_name: &stage.spec.name, reason, blocker, until })
}

fn open_dependency<'a>(job: &'a Job, stage: &Stage) -> Option<&'a str> {
    let dependencies = stage.depends_on.iter().filter_map(|no| job.stages.get(*no));
    let open = dependencies.into_iter().find(|dependency| !dependency.phase().is_terminal());
    // What runs again may not have named it yet.
    let parent = || stage.parent.filter(|_| stage.is_unplanned()).and_then(|parent| job.stages.get(parent.no));
    Some(&*open.or_else(parent)?.spec.name)
}

/// How much a reason says: what a person has to do something about comes first, what follows from other stages last.
const BY_IMPORTANCE: [StageWaitReason; 8] = [
    StageWaitReason::NoWorker,
    StageWaitReason::Paused,
    StageWaitReason::Running,
    StageWaitReason::Permit,
    StageWaitReason::Queued,
    StageWaitReason::Backoff,
    StageWaitReason::StartTime,
    StageWaitReason::Dependency,
];

fn headline(job: &Job, waits: &[Wait], polls: &PollsHere, now: Timestamp) -> String {
    let running = waits.iter().filter(|wait| wait.reason == StageWaitReason::Running).count();
    let stages = stages(running);
    match job.state {
        JobState::Succeeded => return "The job has succeeded.".to_owned(),
        JobState::Cancelled => return "The job was cancelled.".to_owned(),
        JobState::Failed => return format!("The job has failed{}.", because(job)),
        JobState::Failing { deadline } => {
            let (because, left) = (because(job), left(now, deadline));
            return format!("The job is failing{because}; {stages} may still run, {left} at most.");
        }
        JobState::Cancelling { deadline } => {
            let left = left(now, deadline);
            return format!("The job is being cancelled; {stages} may still run, {left} at most.");
        }
        JobState::Paused { timeout_left } => {
            let stands_still =
                timeout_left.map(|left| format!(" Its timeout stands still, with {} left.", lasting(left)));
            let stands_still = stands_still.unwrap_or_default();
            if running > 0 {
                return format!("The job is paused; {stages} may still finish.{stands_still}");
            }
            return format!("The job is paused until it is resumed.{stands_still}");
        }
        JobState::Pending | JobState::Running => {}
    }
    let of = |reason: &StageWaitReason| waits.iter().find(|wait| wait.reason == *reason);
    BY_IMPORTANCE
        .iter()
        .find_map(of)
        .map_or_else(|| "No stage is left.".to_owned(), |wait| sentence(wait, running, polls, now))
}

fn sentence(wait: &Wait, running: usize, polls: &PollsHere, now: Timestamp) -> String {
    let Wait { stage_name, reason, blocker, until } = wait;
    let left = until.map(|until| left(now, until)).unwrap_or_default();
    match reason {
        StageWaitReason::NoWorker => {
            let seen = seen_here(polls);
            format!("Stage {stage_name:?} is ready, but no worker has polled queue {blocker:?} at this server {seen}.")
        }
        StageWaitReason::Running if running > 1 => format!("{running} stages are running."),
        StageWaitReason::Running if blocker.is_empty() => format!("Stage {stage_name:?} is running."),
        StageWaitReason::Running => format!("Stage {stage_name:?} is running on worker {blocker:?}."),
        StageWaitReason::Queued if blocker.is_empty() => {
            format!("Stage {stage_name:?} is ready and waits to be started by name.")
        }
        StageWaitReason::Queued => {
            format!("Stage {stage_name:?} is ready and waits for a worker of queue {blocker:?}.")
        }
        StageWaitReason::Permit if until.is_some() => {
            format!("Stage {stage_name:?} is ready and waits for a permit of {blocker:?}, for {left}.")
        }
        StageWaitReason::Permit => format!("Stage {stage_name:?} is ready and waits for a permit of {blocker:?}."),
        StageWaitReason::Backoff => format!("Stage {stage_name:?} has failed and is tried again in {left}."),
        StageWaitReason::StartTime => format!("The job starts in {left}."),
        StageWaitReason::Dependency => format!("Stage {stage_name:?} waits for stage {blocker:?}."),
        StageWaitReason::Paused | StageWaitReason::Unspecified => "The job is paused until it is resumed.".to_owned(),
    }
}

/// For how long a queue was not polled here, and how many other servers it may be polled at.
fn seen_here(polls: &PollsHere) -> String {
    let time = match polls.uptime {
        uptime if uptime < NO_WORKER_AFTER => format!("since it started {} ago", lasting(uptime)),
        _ => format!("for {}", lasting(NO_WORKER_AFTER)),
    };
    match polls.other_servers {
        0 => time,
        1 => format!("{time}; polls at the other server are not known here"),
        count => format!("{time}; polls at the {count} other servers are not known here"),
    }
}

fn because(job: &Job) -> String {
    let Some(failure) = &job.failure else { return String::new() };
    if failure.stage_name.is_empty() {
        return format!(": {}", failure.report.message);
    }
    format!(" by stage {:?}", failure.stage_name)
}

fn stages(count: usize) -> String {
    if count == 1 { "1 stage".to_owned() } else { format!("{count} stages") }
}

/// The time until a moment.
fn left(now: Timestamp, until: Timestamp) -> String {
    lasting(now.until(until))
}

/// A duration in the unit that people would use.
fn lasting(duration: Duration) -> String {
    match duration.as_millis().div_ceil(1_000) {
        seconds @ 0..=120 => format!("{seconds} s"),
        seconds @ 121..=7_200 => format!("{} min", seconds.div_ceil(60)),
        seconds @ 7_201..=172_800 => format!("{} h", seconds.div_ceil(3_600)),
        seconds => format!("{} days", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
