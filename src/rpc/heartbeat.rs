//! Heartbeat: the leases are renewed as one operation. Progress that is new is noted beside it, as one operation for each job.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{join, join_all};

use super::caller::Caller;
use super::convert::{lease as convert, worker};
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::domain::lease::StoredLease;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::operation::heartbeat::{Note, NoteProgress, RenewLeases};
use crate::operation::overlay::Key;
use crate::proto;

/// The places of renewals in the request.
type Places = Vec<usize>;

pub async fn heartbeat(caller: Caller, request: proto::HeartbeatRequest) -> Result<proto::HeartbeatResponse> {
    let renewals = worker::renewals(caller.namespace, &request.renewals)?;
    let statuses = renew(&caller, renewals).await?;
    Ok(proto::HeartbeatResponse { statuses })
}

/// Renews leases and notes what their workers say; the statuses are in the order of the renewals.
pub(super) async fn renew(caller: &Caller, renewals: Vec<worker::Renewal>) -> Result<Vec<proto::LeaseStatus>> {
    let renewal =
        RenewLeases { namespace: caller.namespace, tokens: renewals.iter().map(|renewal| renewal.token).collect() };
    let mut news: BTreeMap<JobKey, Places> = BTreeMap::new();
    let mut known = Vec::new();
    for (place, renewal) in
        renewals.iter().enumerate().filter(|(_, renewal)| renewal.progress.is_some() || renewal.message.is_some())
    {
        match known_at(caller, renewal) {
            Some(revision) => known.push((place, revision)),
            None => news.entry(renewal.key).or_default().push(place),
        }
    }
    let (leases, noted) = join(renewed(caller, renewal), note(caller, &renewals, news)).await;
    let mut leases = leases?;
    settle(&mut leases, &renewals, noted?);
    // What was known when the call came may have changed since.
    let mut news: BTreeMap<JobKey, Places> = BTreeMap::new();
    for (place, revision) in known {
        if leases[place].as_ref().is_some_and(|lease| lease.job_revision != revision) {
            news.entry(renewals[place].key).or_default().push(place);
        }
    }
    let noted = note(caller, &renewals, news).await?;
    settle(&mut leases, &renewals, noted);
    let now = caller.services.engine.now();
    let statuses =
        leases.iter().map(|lease| lease.as_ref().map_or_else(convert::lost, |lease| convert::status(lease, now)));
    Ok(statuses.collect())
}

/// The remembered revision at which the job already has the progress and message of a renewal. None: they may be new.
fn known_at(caller: &Caller, renewal: &worker::Renewal) -> Option<i64> {
    let job = caller.services.engine.shared().cache.get::<Job>(&Key::Job(renewal.key))?;
    let stage = job.leased_stage(&renewal.token)?;
    let has_progress = renewal.progress.is_none_or(|progress| progress <= stage.progress);
    let has_message = renewal.message.is_none() || renewal.message == stage.message;
    (has_progress && has_message).then_some(job.revision)
}

/// Renews leases; `None` for each that is not held.
async fn renewed(caller: &Caller, renewal: RenewLeases) -> Result<Vec<Option<StoredLease>>> {
    let count = renewal.tokens.len();
    match caller.execute(renewal).await {
        Ok(reply) => Ok(reply.leases),
        Err(Error::Refused(Refusal::LeaseLost)) => Ok(vec![None; count]),
        Err(error) => Err(error),
    }
}

/// Notes what renewals say, job by job. Returns each job as it is then; none where no lease of it is held.
async fn note(
    caller: &Caller,
    renewals: &[worker::Renewal],
    news: BTreeMap<JobKey, Places>,
) -> Result<Vec<(Places, Option<Arc<Job>>)>> {
    let one = async |(key, places): (JobKey, Places)| {
        let note = |place: &usize| {
            let renewal = &renewals[*place];
            Note { token: renewal.token, progress: renewal.progress, message: renewal.message.clone() }
        };
        let notes = places.iter().map(note).collect();
        match caller.execute(NoteProgress { key, notes }).await {
            Ok(reply) => Ok((places, reply.jobs.into_iter().next())),
            Err(Error::Refused(Refusal::LeaseLost)) => Ok((places, None)),
            Err(error) => Err(error),
        }
    };
    join_all(news.into_iter().map(one)).await.into_iter().collect()
}

/// Brings leases up to the state of jobs that was read or written after them.
fn settle(leases: &mut [Option<StoredLease>], renewals: &[worker::Renewal], noted: Vec<(Places, Option<Arc<Job>>)>) {
    for (places, job) in noted {
        for place in places {
            let job = job.as_ref().filter(|job| job.leased_stage(&renewals[place].token).is_some());
            match (job, &mut leases[place]) {
                (Some(job), Some(lease)) if job.revision > lease.job_revision => {
                    (lease.job_state, lease.job_revision) = (job.state, job.revision);
                }
                (Some(_), _) => {}
                (None, lease) => *lease = None,
            }
        }
    }
}
