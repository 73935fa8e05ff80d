//! The rpcs that make jobs.

use foldhash::HashMap;
use std::sync::Arc;

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{digest, document, job as convert, submit};
use super::limits;
use super::page::Budget;
use crate::domain::documents::JobDocuments;
use crate::domain::id::JobKey;
use crate::domain::job::{Job, NewJob};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestRecord;
use crate::error::{Result, after_commit};
use crate::operation::submit_jobs::SubmitJobs;
use crate::proto;

/// SubmitJob. The answer is made of what was submitted; only a replay reads anything.
pub async fn submit_job(caller: Caller, mut request: proto::SubmitJobRequest) -> Result<proto::SubmitJobResponse> {
    let root = Path::Root;
    let identity = digest::identity(caller.namespace, &mut request)?;
    let validate_only = request.validate_only;
    // Goes into the answer as it came, so that it is not read back from its JSON.
    let payload = request.payload.take();
    let mut new = submit::job(caller.namespace, request, &root)?;
    new.payload = document::optional(payload.as_ref(), limits::PAYLOAD_BYTES, &root.field("payload"))?;
    if validate_only {
        let job = proto::Job { payload, ..as_it_would_be(&caller, &new).await? };
        return Ok(proto::SubmitJobResponse { job: Some(job), replayed: false, applied_version: 0 });
    }
    let reply = caller.execute(SubmitJobs { jobs: vec![(new, "stages".to_owned())], request: identity }).await?;
    if let Some(record) = &reply.replayed {
        return replayed(&caller, record).await.map_err(after_commit);
    }
    let job = reply.jobs.first().ok_or_else(|| crate::error::Error::bug("a submission without a job"))?;
    let message = proto::Job { payload, ..convert::job(job, &JobDocuments::default())? };
    Ok(proto::SubmitJobResponse { job: Some(message), replayed: false, applied_version: job.revision })
}

/// The job that a request would create: without a version, and without an id that the server would choose.
async fn as_it_would_be(caller: &Caller, new: &NewJob) -> Result<proto::Job> {
    let now = caller.services.now().await?;
    let (job, _) = new.submit(now, 0, "stages")?;
    let mut message = proto::Job { version: 0, ..convert::job(&job, &JobDocuments::default())? };
    if new.is_generated {
        message.job_id.clear();
    } else if caller.find(new.key).await?.is_some() {
        return Err(Refusal::JobAlreadyExists { job_id: message.job_id }.into());
    }
    Ok(message)
}

async fn replayed(caller: &Caller, record: &RequestRecord) -> Result<proto::SubmitJobResponse> {
    let found = match record.jobs.first() {
        Some(uid) => caller.services.store.job(caller.key(*uid)).await?,
        None => None,
    };
    let job = found.map(|(job, documents)| convert::job(&job, &documents)).transpose()?;
    Ok(proto::SubmitJobResponse { job, replayed: true, applied_version: record.revision })
}

pub async fn batch_submit_jobs(
    caller: Caller,
    mut request: proto::BatchSubmitJobsRequest,
) -> Result<proto::BatchSubmitJobsResponse> {
    let identity = digest::identity(caller.namespace, &mut request)?;
    let ids: Vec<Option<String>> = request.jobs.iter().map(|job| job.job_id.clone()).collect();
    let news = submit::jobs(caller.namespace, request.jobs)?;
    let with_path = |(i, new)| (new, format!("jobs[{i}].stages"));
    let jobs = news.into_iter().enumerate().map(with_path).collect();
    let reply = caller.execute(SubmitJobs { jobs, request: identity }).await?;
    let Some(record) = &reply.replayed else {
        let jobs = summaries(reply.jobs.iter().map(|job| Ok(job.as_ref())))?;
        return Ok(proto::BatchSubmitJobsResponse { jobs, replayed: false });
    };
    let keys: Vec<JobKey> = record.jobs.iter().map(|uid| caller.key(*uid)).collect();
    let found: HashMap<JobKey, Arc<Job>> = caller.services.store.jobs(&keys).await.map_err(after_commit)?;
    let jobs = keys.iter().zip(ids).map(|(key, id)| {
        // The uid of a job without a chosen id is its id.
        found.get(key).map(Arc::as_ref).ok_or_else(|| id.unwrap_or_else(|| key.uid.to_string()))
    });
    Ok(proto::BatchSubmitJobsResponse { jobs: summaries(jobs)?, replayed: true })
}

/// Summaries of the jobs of a batch, in order; a job that was deleted has only its id. Labels beyond the size of a response are
/// left out: the client sent them itself.
fn summaries<'a>(jobs: impl Iterator<Item = std::result::Result<&'a Job, String>>) -> Result<Vec<proto::Job>> {
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let summaries = jobs.map(|job| {
        let mut message = match job {
            Ok(job) => convert::summary(job, &JobDocuments::default())?,
            Err(job_id) => proto::Job { job_id, ..Default::default() },
        };
        if !budget.takes(&message) {
            message.labels.clear();
        }
        Ok(message)
    });
    summaries.collect()
}
