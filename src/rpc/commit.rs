//! Commit: the requests of other rpcs as the operations of one transaction.

use foldhash::HashMap;
use std::sync::Arc;

use super::caller::Caller;
use super::convert::digest::{self, Repeatable, identity};
use super::convert::path::Path;
use super::convert::{job, permit, record, stage, steer, submit, worker};
use super::limits;
use super::page::Budget;
use super::record_writes::fitting;
use super::timeline::appends;
use super::{job_writes, permit_writes, stage_writes};
use crate::admission::{Access, RoleDenial};
use crate::domain::documents::JobDocuments;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::{Job, StageCredential};
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::Refusal;
use crate::error::{Result, after_commit};
use crate::operation::commit::{Commit, Part};
use crate::operation::control_job::Control;
use crate::operation::delete_record::DeleteRecord;
use crate::operation::overlay::Key;
use crate::operation::return_current::{ReturnCurrent, Shown};
use crate::operation::submit_jobs::SubmitJobs;
use crate::operation::update_records::UpdateRecords;
use crate::operation::{Operation, Reply};
use crate::proto;
use crate::proto::commit_operation::Operation as Asked;

/// The resource that an operation changes, of which its result is made.
enum Subject {
    Job,
    Permit,
    Stage(StageCredential),
    Record {
        key: RecordKey,
        omit_fields: bool,
    },
    /// The keys of segments.
    Segments(Vec<String>),
}

type Read = std::result::Result<(Box<dyn Operation>, Subject), Refusal>;

pub async fn commit(caller: Caller, mut request: proto::CommitRequest) -> Result<proto::CommitResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let root = Path::Root;
    let path = root.field("lease_fence");
    let lease_fence =
        request.lease_fence.map(|given| worker::lease_fence(caller.namespace, &given, &path)).transpose()?;
    let path = root.field("permit_fence");
    let permit_fence = request.permit_fence.map(|given| permit::token(&given, &path)).transpose()?;
    permitted(&caller, &request.operations)?;
    let (parts, subjects) = parts(caller.namespace, request.operations)?;
    let reply = caller
        .execute(Commit { parts, lease_fence, permit_fence, namespace: caller.namespace, request: identity })
        .await?;
    let results = match &reply.replayed {
        Some(_) => replayed_results(&caller, &subjects, &reply).await?,
        None => results(&subjects, &reply)?,
    };
    Ok(proto::CommitResponse { results, replayed: reply.replayed.is_some() })
}

/// Checks that the caller has the role that each operation's own rpc needs.
fn permitted(caller: &Caller, operations: &[proto::CommitOperation]) -> std::result::Result<(), Refusal> {
    let Some(principal) = caller.principal() else { return Ok(()) };
    let asked = operations.iter().enumerate().filter_map(|(index, given)| Some((index, given.operation.as_ref()?)));
    for (index, asked) in asked.take(limits::OPERATIONS_PER_COMMIT) {
        Access::of(method(asked)).check(principal).map_err(|denial| {
            let path = Path::Root.field("operations").index(index).field(name(asked)).to_string();
            let RoleDenial { principal, roles, message: why, .. } = *denial;
            Refusal::RoleDenied { principal, roles, why }.at(index, path)
        })?;
    }
    Ok(())
}

/// The operation's own rpc.
fn method(asked: &Asked) -> &'static str {
    match asked {
        Asked::SubmitJob(_) => "/interlock.v1.JobService/SubmitJob",
        Asked::CompleteStage(_) => "/interlock.v1.WorkerService/CompleteStage",
        Asked::FailStage(_) => "/interlock.v1.WorkerService/FailStage",
        Asked::UpdateRecord(_) => "/interlock.v1.RecordService/UpdateRecord",
        Asked::DeleteRecord(_) => "/interlock.v1.RecordService/DeleteRecord",
        Asked::UpdateStageProgress(_) => "/interlock.v1.WorkerService/UpdateStageProgress",
        Asked::AddStages(_) => "/interlock.v1.WorkerService/AddStages",
        Asked::ReleaseStage(_) => "/interlock.v1.WorkerService/ReleaseStage",
        Asked::UpdateJob(_) => "/interlock.v1.JobService/UpdateJob",
        Asked::CancelJob(_) => "/interlock.v1.JobService/CancelJob",
        Asked::PauseJob(_) => "/interlock.v1.JobService/PauseJob",
        Asked::ResumeJob(_) => "/interlock.v1.JobService/ResumeJob",
        Asked::RetryJob(_) => "/interlock.v1.JobService/RetryJob",
        Asked::ReleasePermit(_) => "/interlock.v1.PermitService/ReleasePermit",
        Asked::AppendSegments(_) => "/interlock.v1.TimelineService/AppendSegments",
    }
}

fn parts(namespace: NamespaceId, given: Vec<proto::CommitOperation>) -> Result<(Vec<Part>, Vec<Subject>)> {
    let root = Path::Root;
    let list = root.field("operations");
    record::bounded(given.len(), limits::OPERATIONS_PER_COMMIT, "operations", &list)?;
    let changes: usize = given.iter().map(field_operations).sum();
    if changes > limits::OPERATIONS_PER_CALL {
        let most = limits::OPERATIONS_PER_CALL;
        return Err(list.refuse(format!("has {changes} field operations in all, {most} are allowed")).into());
    }
    let (mut parts, mut subjects) = (Vec::with_capacity(given.len()), Vec::with_capacity(given.len()));
    for (index, given) in given.into_iter().enumerate() {
        let path = list.index(index);
        let Some(asked) = given.operation else { return Err(path.field("operation").missing().into()) };
        let path = path.field(name(&asked)).to_string();
        let return_current = returns_current(&asked);
        let (operation, subject) = operation(namespace, asked).map_err(|refusal| refusal.at(index, path.clone()))?;
        let operation = if return_current { showing(operation, &subject) } else { operation };
        parts.push(Part { operation, path });
        subjects.push(subject);
    }
    Ok((parts, subjects))
}

/// Whether a refusal by version is to show the current state.
fn returns_current(asked: &Asked) -> bool {
    match asked {
        Asked::UpdateRecord(request) => request.return_current,
        Asked::DeleteRecord(request) => request.return_current,
        Asked::CompleteStage(request) => request.return_current,
        Asked::FailStage(request) => request.return_current,
        Asked::ReleaseStage(request) => request.return_current,
        Asked::UpdateStageProgress(request) => request.return_current,
        Asked::UpdateJob(request) => request.return_current,
        Asked::CancelJob(request) => request.return_current,
        Asked::PauseJob(request) => request.return_current,
        Asked::ResumeJob(request) => request.return_current,
        Asked::RetryJob(request) => request.return_current,
        Asked::SubmitJob(_) | Asked::AddStages(_) | Asked::ReleasePermit(_) | Asked::AppendSegments(_) => false,
    }
}

/// The operation with what it is about as what its refusal shows.
fn showing(operation: Box<dyn Operation>, subject: &Subject) -> Box<dyn Operation> {
    let job = operation.keys().into_iter().find_map(|key| match key {
        Key::Job(key) => Some(key),
        _ => None,
    });
    let shown = match subject {
        Subject::Job => job.map(Shown::Job),
        Subject::Stage(hold) => job.map(|job| Shown::Stage(job, hold.clone())),
        Subject::Record { key, .. } => Some(Shown::Record(key.clone())),
        Subject::Permit | Subject::Segments(_) => None,
    };
    Box::new(ReturnCurrent::of_one(operation, shown))
}

fn field_operations(given: &proto::CommitOperation) -> usize {
    match &given.operation {
        Some(Asked::UpdateRecord(update)) => update.operations.len(),
        Some(Asked::UpdateJob(update)) => update.context_operations.len(),
        _ => 0,
    }
}

/// The name of the field that an operation stands in.
fn name(asked: &Asked) -> &'static str {
    match asked {
        Asked::SubmitJob(_) => "submit_job",
        Asked::CompleteStage(_) => "complete_stage",
        Asked::FailStage(_) => "fail_stage",
        Asked::UpdateRecord(_) => "update_record",
        Asked::DeleteRecord(_) => "delete_record",
        Asked::UpdateStageProgress(_) => "update_stage_progress",
        Asked::AddStages(_) => "add_stages",
        Asked::ReleaseStage(_) => "release_stage",
        Asked::UpdateJob(_) => "update_job",
        Asked::CancelJob(_) => "cancel_job",
        Asked::PauseJob(_) => "pause_job",
        Asked::ResumeJob(_) => "resume_job",
        Asked::RetryJob(_) => "retry_job",
        Asked::ReleasePermit(_) => "release_permit",
        Asked::AppendSegments(_) => "append_segments",
    }
}

fn operation(namespace: NamespaceId, asked: Asked) -> Read {
    let root = Path::Root;
    match asked {
        Asked::SubmitJob(request) => {
            let request = without_request_id(request)?;
            if request.validate_only {
                return Err(root.field("validate_only").refuse("must be unset in a commit"));
            }
            let new = submit::job(namespace, request, &root)?;
            about_job(SubmitJobs { jobs: vec![(new, "stages".to_owned())], request: None })
        }
        Asked::UpdateRecord(request) => {
            let request = without_request_id(request)?;
            let update = record::update(namespace, &request, &root)?;
            let subject = Subject::Record { key: update.key.clone(), omit_fields: request.omit_fields };
            Ok((Box::new(UpdateRecords { updates: vec![update], list: None, request: None }), subject))
        }
        Asked::DeleteRecord(request) => {
            let request = without_request_id(request)?;
            let key = record::key(namespace, &request.collection, &request.record_id, &root)?;
            let subject = Subject::Record { key: key.clone(), omit_fields: true };
            Ok((Box::new(DeleteRecord { key, expected_version: request.expected_version, request: None }), subject))
        }
        Asked::CompleteStage(request) => {
            let mut request = without_request_id(request)?;
            let digest = digest::content(&mut request);
            about_stage(stage_writes::completion(namespace, &request, digest)?, |end| &end.target.credential)
        }
        Asked::FailStage(request) => {
            let mut request = without_request_id(request)?;
            let digest = digest::content(&mut request);
            about_stage(stage_writes::failure(namespace, &request, digest)?, |end| &end.target.credential)
        }
        Asked::ReleaseStage(request) => {
            let mut request = without_request_id(request)?;
            let digest = digest::content(&mut request);
            about_stage(stage_writes::release(namespace, &request, digest)?, |end| &end.target.credential)
        }
        Asked::UpdateStageProgress(request) => {
            about_stage(stage_writes::progress(namespace, &without_request_id(request)?)?, |progress| {
                &progress.target.credential
            })
        }
        Asked::ReleasePermit(request) => {
            Ok((Box::new(permit_writes::release(namespace, &without_request_id(request)?)?), Subject::Permit))
        }
        Asked::AppendSegments(request) => {
            let request = without_request_id(request)?;
            let operation = appends::append(namespace, &request)?;
            let keys = request.segments.into_iter().map(|segment| segment.key).collect();
            Ok((Box::new(operation), Subject::Segments(keys)))
        }
        Asked::AddStages(request) => about_job(stage_writes::addition(namespace, &without_request_id(request)?)?),
        Asked::UpdateJob(_) | Asked::CancelJob(_) | Asked::PauseJob(_) | Asked::ResumeJob(_) | Asked::RetryJob(_) => {
            steering(namespace, asked)
        }
    }
}

fn steering(namespace: NamespaceId, asked: Asked) -> Read {
    let (job_id, expected, control) = match asked {
        Asked::UpdateJob(request) => {
            let request = without_request_id(request)?;
            (request.job_id.clone(), request.expected_version, job_writes::update(request)?)
        }
        Asked::CancelJob(request) => {
            let request = without_request_id(request)?;
            let control = job_writes::cancellation(&request)?;
            (request.job_id, request.expected_version, control)
        }
        Asked::PauseJob(request) => {
            let request = without_request_id(request)?;
            (request.job_id, request.expected_version, Control::Pause)
        }
        Asked::ResumeJob(request) => {
            let request = without_request_id(request)?;
            (request.job_id, request.expected_version, Control::Resume)
        }
        Asked::RetryJob(request) => {
            let request = without_request_id(request)?;
            let control = job_writes::another_run(&request)?;
            (request.job_id, request.expected_version, control)
        }
        _ => return Err(Path::Root.refuse("is no operation on a job")),
    };
    about_job(job_writes::steering(steer::named_job(namespace, &job_id)?, control, expected, None))
}

/// Refuses a `request_id` in an operation: that of the commit makes all of it safe to repeat.
fn without_request_id<R: Repeatable>(mut request: R) -> std::result::Result<R, Refusal> {
    if request.request_id().is_none() {
        return Ok(request);
    }
    Err(Path::Root.field("request_id").refuse("must be unset in a commit, which has one of its own"))
}

fn about_job(operation: impl Operation) -> Read {
    Ok((Box::new(operation), Subject::Job))
}

fn about_stage<O: Operation>(operation: O, hold: impl Fn(&O) -> &StageCredential) -> Read {
    let subject = Subject::Stage(hold(&operation).clone());
    Ok((Box::new(operation), subject))
}

/// Tells what was just done.
fn results(subjects: &[Subject], reply: &Reply) -> Result<Vec<proto::CommitResult>> {
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let mut results = Vec::with_capacity(subjects.len());
    for (subject, part) in subjects.iter().zip(&reply.parts) {
        let job = part.jobs.first();
        let record = part.records.first().map(|outcome| outcome.record.as_ref());
        let applied_version = if part.applied { part.revision() } else { 0 };
        let mut result = result(subject, job.map(|job| &**job), record, applied_version, &mut budget)?;
        if let Subject::Segments(keys) = subject {
            result.segments = appends::results(keys.iter().cloned(), &part.segments);
        }
        results.push(result);
    }
    Ok(results)
}

/// Tells what a remembered commit did, and what has become of it since.
async fn replayed_results(caller: &Caller, subjects: &[Subject], reply: &Reply) -> Result<Vec<proto::CommitResult>> {
    let Some(remembered) = &reply.replayed else { return Ok(Vec::new()) };
    let keys: Vec<JobKey> = remembered.jobs.iter().map(|uid| caller.key(*uid)).collect();
    let jobs: HashMap<JobKey, Arc<Job>> = caller.services.store.jobs(&keys).await.map_err(after_commit)?;
    let named = subjects.iter().filter_map(|subject| match subject {
        Subject::Record { key, .. } => Some(key.clone()),
        Subject::Job | Subject::Permit | Subject::Stage(_) | Subject::Segments(_) => None,
    });
    let records: Vec<RecordKey> = named.collect();
    let records = caller.services.store.records(&records).await.map_err(after_commit)?;
    let mut keys = keys.iter();
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let mut results = Vec::with_capacity(subjects.len());
    for (i, subject) in subjects.iter().enumerate() {
        let (job, record) = match subject {
            Subject::Job | Subject::Stage(_) => (keys.next().and_then(|key| jobs.get(key)), None),
            Subject::Permit | Subject::Segments(_) => (None, None),
            Subject::Record { key, .. } => (None, records.get(key)),
        };
        let applied_version = remembered.versions.get(i).copied().unwrap_or(0);
        results.push(result(subject, job.map(|job| &**job), record.map(|r| &**r), applied_version, &mut budget)?);
    }
    Ok(results)
}

fn result(
    subject: &Subject,
    job: Option<&Job>,
    record: Option<&Record>,
    applied_version: i64,
    budget: &mut Budget,
) -> Result<proto::CommitResult> {
    let applied = applied_version > 0;
    let mut result = proto::CommitResult { applied, applied_version, ..Default::default() };
    match (subject, job, record) {
        (Subject::Job, Some(job), _) => {
            let summary = job::summary(job, &JobDocuments::default())?;
            result.job = budget.takes(&summary).then_some(summary);
        }
        (Subject::Stage(hold), Some(job), _) => {
            if let Some(stage) = job.stage_of(hold) {
                let message = stage::stage(job, stage, None, None)?;
                result.stage = budget.takes(&message).then_some(message);
            }
        }
        (Subject::Record { omit_fields: true, .. }, _, Some(record)) => {
            result.record = Some(record::without_fields(record));
        }
        (Subject::Record { omit_fields: false, .. }, _, Some(record)) => result.record = Some(fitting(record, budget)?),
        (_, _, _) => {}
    }
    Ok(result)
}
