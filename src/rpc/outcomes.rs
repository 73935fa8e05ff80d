//! CompleteStages: the ends of many attempts in one call, each on its own or all or none.

use std::sync::Arc;

use foldhash::HashMap;
use futures::future::join_all;
use tonic::{Code, Status};
use tonic_types::pb;

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::path::Path;
use super::convert::record::bounded;
use super::limits;
use super::page::Budget;
use super::record_writes::in_a_message;
use super::stage_writes::{self, StageWrite};
use crate::domain::id::JobKey;
use crate::domain::job::{Job, StageCredential};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestRecord;
use crate::error::{Result, after_commit};
use crate::operation::commit::{Commit, Part};
use crate::proto;
use crate::proto::stage_outcome::Outcome;

pub async fn complete_stages(
    caller: Caller,
    request: proto::CompleteStagesRequest,
) -> Result<proto::CompleteStagesResponse> {
    if request.all_or_none {
        return all_or_none(&caller, request).await;
    }
    if request.request_id.is_some() {
        let why = "must be unset without all_or_none: set it in each outcome";
        return Err(Path::Root.field("request_id").refuse(why).into());
    }
    check_count(&request)?;
    let written = each(&caller, request.outcomes).await;
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let stages = request.return_stages.then_some(&mut budget);
    Ok(proto::CompleteStagesResponse { results: results(written, stages)?, replayed: false })
}

fn check_count(request: &proto::CompleteStagesRequest) -> std::result::Result<(), Refusal> {
    bounded(request.outcomes.len(), limits::OUTCOMES_PER_CALL, "outcomes", &Path::Root.field("outcomes"))
}

/// Applies outcomes, each on its own, in one or a few groups. Returns what became of each, in their order.
pub(super) async fn each(caller: &Caller, outcomes: Vec<proto::StageOutcome>) -> Vec<Result<StageWrite>> {
    join_all(outcomes.into_iter().map(|outcome| one(caller, outcome))).await
}

async fn one(caller: &Caller, outcome: proto::StageOutcome) -> Result<StageWrite> {
    let asked = outcome.outcome.ok_or_else(|| Path::Root.field("outcome").missing())?;
    let end = stage_writes::outcome(caller.namespace, asked)?;
    stage_writes::end(caller, end, None).await
}

/// The results of outcomes that were applied each on its own; with stages as long as they fit into a budget.
pub(super) fn results(
    written: Vec<Result<StageWrite>>,
    mut stages: Option<&mut Budget>,
) -> Result<Vec<proto::StageOutcomeResult>> {
    let result = |written| match written {
        Ok(written) => ok(&written, stages.as_deref_mut()),
        Err(error) => {
            let status = Some(in_a_message(&Status::from(error)));
            Ok(proto::StageOutcomeResult { status, ..Default::default() })
        }
    };
    written.into_iter().map(result).collect()
}

fn ok(written: &StageWrite, stages: Option<&mut Budget>) -> Result<proto::StageOutcomeResult> {
    let mut stage = None;
    if let Some(budget) = stages {
        stage = written.bare_stage()?.filter(|stage| budget.takes(stage));
    }
    Ok(proto::StageOutcomeResult {
        status: Some(pb::Status { code: Code::Ok as i32, ..Default::default() }),
        job_version: written.job_version(),
        applied: written.applied,
        replayed: written.replayed,
        applied_job_version: written.applied_job_version,
        stage,
    })
}

/// Applies the outcomes in order, all or none.
async fn all_or_none(
    caller: &Caller,
    mut request: proto::CompleteStagesRequest,
) -> Result<proto::CompleteStagesResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    check_count(&request)?;
    let namespace = caller.namespace;
    let (mut parts, mut ends) = (Vec::new(), Vec::new());
    for (index, outcome) in request.outcomes.into_iter().enumerate() {
        let (part, at) = part(caller, index, outcome)?;
        parts.push(part);
        ends.push(at);
    }
    let commit = Commit { parts, lease_fence: None, permit_fence: None, namespace, request: identity };
    let reply = caller.execute(commit).await?;
    let written = match &reply.replayed {
        Some(record) => applied_before(caller, &ends, record).await?,
        None => reply.parts.iter().map(StageWrite::decided).collect::<Result<_>>()?,
    };
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let stages = request.return_stages.then_some(&mut budget);
    let results = results(written.into_iter().map(Ok).collect(), stages)?;
    Ok(proto::CompleteStagesResponse { results, replayed: reply.replayed.is_some() })
}

/// An outcome as a part of a commit, and its stage.
fn part(
    caller: &Caller,
    index: usize,
    outcome: proto::StageOutcome,
) -> std::result::Result<(Part, StageCredential), Refusal> {
    let root = Path::Root;
    let list = root.field("outcomes");
    let at = list.index(index);
    let asked = outcome.outcome.ok_or_else(|| at.field("outcome").missing())?;
    let path = at.field(name(&asked));
    if has_request_id(&asked) {
        let why = "must be unset with all_or_none: set that of the call";
        return Err(path.field("request_id").refuse(why));
    }
    let path = path.to_string();
    let end = stage_writes::outcome(caller.namespace, asked).map_err(|refusal| refusal.at(index, path.clone()))?;
    let hold = end.target.credential.clone();
    Ok((Part { operation: Box::new(end), path }, hold))
}

/// The name of the field that an outcome stands in.
fn name(asked: &Outcome) -> &'static str {
    match asked {
        Outcome::CompleteStage(_) => "complete_stage",
        Outcome::FailStage(_) => "fail_stage",
        Outcome::ReleaseStage(_) => "release_stage",
    }
}

fn has_request_id(asked: &Outcome) -> bool {
    match asked {
        Outcome::CompleteStage(request) => request.request_id.is_some(),
        Outcome::FailStage(request) => request.request_id.is_some(),
        Outcome::ReleaseStage(request) => request.request_id.is_some(),
    }
}

/// The results of a repeated call, by the stages as they are now.
async fn applied_before(
    caller: &Caller,
    stages: &[StageCredential],
    record: &RequestRecord,
) -> Result<Vec<StageWrite>> {
    let keys: Vec<JobKey> = record.jobs.iter().map(|uid| caller.key(*uid)).collect();
    let jobs: HashMap<JobKey, Arc<Job>> = caller.services.store.jobs(&keys).await.map_err(after_commit)?;
    let written = stages.iter().zip(&keys).enumerate().map(|(index, (hold, key))| {
        let job = jobs.get(key);
        let applied_job_version = record.versions.get(index).copied().unwrap_or(record.revision);
        StageWrite::applied_before(job, hold, applied_job_version)
    });
    Ok(written.collect())
}
