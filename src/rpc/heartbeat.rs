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
use crate::engine::cache::Cached;
use crate::engine::world::Key;
use crate::error::{Error, Result};
use crate::operation::heartbeat::{Note, NoteProgress, RenewLeases};
use crate::proto;

/// The places of beats in the request.
type Places = Vec<usize>;

/// Heartbeat.
pub async fn heartbeat(caller: Caller, request: proto::HeartbeatRequest) -> Result<proto::HeartbeatResponse> {
    let beats = worker::beats(caller.namespace, &request.beats)?;
    let statuses = renew(&caller, beats).await?;
    Ok(proto::HeartbeatResponse { statuses })
}

/// Renews leases and notes what their workers say; the statuses are in the order of the beats.
pub(super) async fn renew(caller: &Caller, beats: Vec<worker::Beat>) -> Result<Vec<proto::LeaseStatus>> {
    let renewal = RenewLeases { namespace: caller.namespace, tokens: beats.iter().map(|beat| beat.token).collect() };
    let mut news: BTreeMap<JobKey, Places> = BTreeMap::new();
    let mut known = Vec::new();
    for (place, beat) in beats.iter().enumerate().filter(|(_, beat)| beat.progress.is_some() || beat.message.is_some())
    {
        match known_at(caller, beat) {
            Some(revision) => known.push((place, revision)),
            None => news.entry(beat.key).or_default().push(place),
        }
    }
    let (leases, noted) = join(renewed(caller, renewal), note(caller, &beats, news)).await;
    let mut leases = leases?;
    settle(&mut leases, &beats, noted?);
    // What was known when the call came may have changed since.
    let mut news: BTreeMap<JobKey, Places> = BTreeMap::new();
    for (place, revision) in known {
        if leases[place].as_ref().is_some_and(|lease| lease.job_revision != revision) {
            news.entry(beats[place].key).or_default().push(place);
        }
    }
    let noted = note(caller, &beats, news).await?;
    settle(&mut leases, &beats, noted);
    let now = caller.services.engine.now();
    let statuses =
        leases.iter().map(|lease| lease.as_ref().map_or_else(convert::lost, |lease| convert::status(lease, now)));
    Ok(statuses.collect())
}

/// The revision at which, as far as is remembered, the job says already what a beat has to tell. None: it may be news.
fn known_at(caller: &Caller, beat: &worker::Beat) -> Option<i64> {
    let Some(Cached::Job(job)) = caller.services.engine.shared().cache.get(&Key::Job(beat.key)) else { return None };
    let stage = job.leased_stage(&beat.token)?;
    let has_progress = beat.progress.is_none_or(|progress| progress <= stage.progress);
    let has_message = beat.message.is_none() || beat.message == stage.message;
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

/// Notes what beats say, job by job. Returns each job as it is then; none where no lease of it is held.
async fn note(
    caller: &Caller,
    beats: &[worker::Beat],
    news: BTreeMap<JobKey, Places>,
) -> Result<Vec<(Places, Option<Arc<Job>>)>> {
    let one = async |(key, places): (JobKey, Places)| {
        let note = |place: &usize| {
            let beat = &beats[*place];
            Note { token: beat.token, progress: beat.progress, message: beat.message.clone() }
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
fn settle(leases: &mut [Option<StoredLease>], beats: &[worker::Beat], noted: Vec<(Places, Option<Arc<Job>>)>) {
    for (places, job) in noted {
        for place in places {
            let job = job.as_ref().filter(|job| job.leased_stage(&beats[place].token).is_some());
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
