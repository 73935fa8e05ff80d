//! New jobs and new stages.
//!
//! What needs the job itself, such as unknown dependencies, cycles and taken names, is checked by the decision; here is
//! everything that a request shows alone.

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::path::Path;
use super::{document, permit, retry, text, time};
use crate::domain::graph::MAX_STAGES;
use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::{DEFAULT_RETENTION, JobMeta, NewJob};
use crate::domain::refusal::Refusal;
use crate::domain::retry::RetryPolicy;
use crate::domain::stage::{DEFAULT_QUEUE, DependsWhen, NewStage, OnFailure, StageSpec};
use crate::domain::time::Timestamp;
use crate::proto;
use crate::rpc::limits;

/// The name of the stage of a job that has none of its own.
pub const MAIN_STAGE: &str = "main";

/// The job of a request. Without an id it gets a new one, which is a UUID of version 7.
pub fn job(namespace: NamespaceId, request: proto::SubmitJobRequest, path: &Path) -> Result<NewJob, Refusal> {
    let id_path = path.field("job_id");
    let job_id: Name = match request.job_id.as_deref() {
        None => Uuid::now_v7().to_string().into(),
        Some("") => return Err(id_path.empty()),
        Some(given) => text::job_id(given, &id_path)?,
    };
    let usual = Arc::new(match &request.retry_policy {
        Some(policy) => retry::policy(policy, &path.field("retry_policy"))?,
        None => RetryPolicy::default(),
    });
    let meta = JobMeta {
        kind: text::kind(&request.kind, &path.field("kind"))?,
        // The submission sets it, by the database's clock.
        create_time: Timestamp(0),
        delayed_until: optional_timestamp(request.start_time.as_ref(), &path.field("start_time"))?,
        timeout: time::parse_optional_duration(request.timeout.as_ref(), time::JOB_TIMEOUT, &path.field("timeout"))?,
        retention: time::parse_optional_duration(
            request.retention.as_ref(),
            time::RETENTION,
            &path.field("retention"),
        )?
        .unwrap_or(DEFAULT_RETENTION),
        job_id,
        retry: usual.clone(),
    };
    Ok(NewJob {
        key: JobKey::of(namespace, &meta.job_id),
        is_generated: request.job_id.is_none(),
        meta,
        labels: text::labels(request.labels, &path.field("labels"))?,
        priority: priority(request.priority, &path.field("priority"))?,
        payload: document::optional(request.payload.as_ref(), limits::PAYLOAD_BYTES, &path.field("payload"))?,
        stages: stages_or_main(&request.stages, &usual, &path.field("stages"))?,
    })
}

/// The jobs of a batch: their own `request_id` and `validate_only` are unset, and no id is there twice.
pub fn jobs(namespace: NamespaceId, requests: Vec<proto::SubmitJobRequest>) -> Result<Vec<NewJob>, Refusal> {
    let root = Path::Root;
    let list = root.field("jobs");
    if requests.is_empty() || requests.len() > limits::JOBS_PER_BATCH {
        return Err(list.refuse(format!("has {} jobs, 1 to {} are allowed", requests.len(), limits::JOBS_PER_BATCH)));
    }
    let mut seen = HashSet::with_capacity(requests.len());
    let mut jobs = Vec::with_capacity(requests.len());
    for (i, request) in requests.into_iter().enumerate() {
        let path = list.index(i);
        if request.request_id.is_some() {
            return Err(path.field("request_id").refuse("must be unset in a batch, which has one of its own"));
        }
        if request.validate_only {
            return Err(path.field("validate_only").refuse("must be unset in a batch"));
        }
        let job = job(namespace, request, &path)?;
        if !seen.insert(job.key) {
            return Err(path.field("job_id").refuse("another job of the batch has the same id"));
        }
        jobs.push(job);
    }
    Ok(jobs)
}

fn stages_or_main(specs: &[proto::StageSpec], usual: &Arc<RetryPolicy>, path: &Path) -> Result<Vec<NewStage>, Refusal> {
    if specs.is_empty() {
        let main = proto::StageSpec { name: MAIN_STAGE.to_owned(), ..Default::default() };
        return stages(&[main], usual, path);
    }
    stages(specs, usual, path)
}

/// The stages of a request; `usual` is the policy of those without one of their own. There may be none.
pub fn stages(specs: &[proto::StageSpec], usual: &Arc<RetryPolicy>, path: &Path) -> Result<Vec<NewStage>, Refusal> {
    if specs.len() > MAX_STAGES {
        return Err(path.refuse(format!("has {} stages, a job has at most {MAX_STAGES}", specs.len())));
    }
    // Most stages share a queue, so its text is kept once as long as it does not change.
    let mut queue: Name = DEFAULT_QUEUE.into();
    let mut stages = Vec::with_capacity(specs.len());
    for (i, spec) in specs.iter().enumerate() {
        let stage = stage(spec, &queue, usual, &path.index(i))?;
        queue = stage.spec.queue.clone();
        stages.push(stage);
    }
    Ok(stages)
}

fn stage(
    given: &proto::StageSpec,
    last_queue: &Name,
    usual: &Arc<RetryPolicy>,
    path: &Path,
) -> Result<NewStage, Refusal> {
    let spec = StageSpec {
        name: text::name(&given.name, &path.field("name"))?,
        queue: queue(&given.queue, last_queue, path)?,
        depends_when: depends_when(given.depends_when, &path.field("depends_when"))?,
        on_failure: on_failure(given.on_failure, &path.field("on_failure"))?,
        weight: weight(given.weight, &path.field("weight"))?,
        retry: match &given.retry_policy {
            Some(policy) => Arc::new(retry::policy(policy, &path.field("retry_policy"))?),
            None => usual.clone(),
        },
        lease_duration: time::parse_optional_duration(
            given.lease_duration.as_ref(),
            time::LEASE_DURATION,
            &path.field("lease_duration"),
        )?,
        timeout: time::parse_optional_duration(given.timeout.as_ref(), time::STAGE_TIMEOUT, &path.field("timeout"))?,
        group_key: group_key(&given.group_key, &path.field("group_key"))?,
        direct: given.direct,
        permits: permit::claims(&given.permits, &path.field("permits"))?,
    };
    Ok(NewStage {
        inherits_retry: given.retry_policy.is_none(),
        spec: Arc::new(spec),
        depends_on: names(&given.depends_on, &path.field("depends_on"))?,
        required_by: names(&given.required_by, &path.field("required_by"))?,
        input: document::optional(given.input.as_ref(), limits::INPUT_BYTES, &path.field("input"))?,
    })
}

fn queue(given: &str, last: &Name, path: &Path) -> Result<Name, Refusal> {
    let given = if given.is_empty() { DEFAULT_QUEUE } else { given };
    if given == &**last { Ok(last.clone()) } else { text::name(given, &path.field("queue")) }
}

fn names(given: &[String], path: &Path) -> Result<Vec<Name>, Refusal> {
    given.iter().enumerate().map(|(i, name)| text::name(name, &path.index(i))).collect()
}

fn group_key(given: &str, path: &Path) -> Result<Option<Name>, Refusal> {
    if given.is_empty() {
        return Ok(None);
    }
    text::line(given, limits::GROUP_KEY_BYTES, path).map(Some)
}

fn depends_when(number: i32, path: &Path) -> Result<DependsWhen, Refusal> {
    match proto::StageDependsWhen::try_from(number) {
        Ok(proto::StageDependsWhen::Unspecified | proto::StageDependsWhen::AllSucceeded) => {
            Ok(DependsWhen::AllSucceeded)
        }
        Ok(proto::StageDependsWhen::AllFinished) => Ok(DependsWhen::AllFinished),
        Err(_) => Err(path.unknown(number)),
    }
}

fn on_failure(number: i32, path: &Path) -> Result<OnFailure, Refusal> {
    match proto::StageOnFailure::try_from(number) {
        Ok(proto::StageOnFailure::Unspecified | proto::StageOnFailure::FailJob) => Ok(OnFailure::FailJob),
        Ok(proto::StageOnFailure::Continue) => Ok(OnFailure::Continue),
        Err(_) => Err(path.unknown(number)),
    }
}

fn weight(given: Option<f64>, path: &Path) -> Result<f64, Refusal> {
    let weight = given.unwrap_or(1.0);
    // NaN is in no range.
    if !(0.0..=limits::WEIGHT).contains(&weight) {
        return Err(path.outside("0 to 1,000,000", weight));
    }
    Ok(weight)
}

/// The priority of a job.
pub fn priority(given: i32, path: &Path) -> Result<i32, Refusal> {
    if given.unsigned_abs() > limits::PRIORITY.unsigned_abs() {
        return Err(path.outside("-1,000 to 1,000", given));
    }
    Ok(given)
}

fn optional_timestamp(given: Option<&prost_types::Timestamp>, path: &Path) -> Result<Option<Timestamp>, Refusal> {
    given.map(|given| time::parse_timestamp(given, path)).transpose()
}

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
