//! Messages that a stream sends without a request: leases while the worker has free capacity, and changed statuses of held leases.

use std::time::Duration;

use foldhash::HashSet;
use futures::future::join_all;
use tokio::time::Instant;

use super::{Gone, POLL_PAUSE, Phase, Polled, Seen, WorkSession, work_status};
use crate::domain::id::JobKey;
use crate::engine::dispatcher::{Poll, PollEnd};
use crate::error::Error;
use crate::proto;
use crate::rpc::convert::lease as convert;
use crate::rpc::leases;
use crate::rpc::limits::STAGES_PER_LEASE_CALL;

/// Wait of one poll of the dispatcher.
const POLL_WAIT: Duration = Duration::from_secs(30);
/// Leases are polled for when 1/4 of the capacity is free, or no lease is held.
const FREE_SHARE: usize = 4;
/// Delay between a notice that other servers wrote jobs and the read of them, so that many writes cost one read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl WorkSession {
    /// Starts a poll for leases if enough capacity is free and no poll is in flight.
    pub(super) fn poll_for_leases(&mut self) {
        let free = self.capacity.saturating_sub(self.held.len());
        let is_enough = free > 0 && (free * FREE_SHARE >= self.capacity || self.held.len() == 0);
        let is_open = matches!(self.phase, Phase::Open);
        if !is_open || !is_enough || self.held.is_alone() || self.polling.is_some() || self.rests_until.is_some() {
            return;
        }
        let poll = Poll {
            namespace: self.caller.namespace,
            worker_id: self.begin.worker_id.clone(),
            queues: self.begin.queues.clone(),
            max_stages: free.min(STAGES_PER_LEASE_CALL as usize),
            wait: POLL_WAIT,
            lease_duration: self.begin.lease_duration,
            same_group: false,
            deadline: None,
            request: None,
        };
        let caller = self.caller.clone();
        self.polling = Some(Box::pin(async move {
            let leases = match caller.services.dispatcher.lease(poll).await? {
                PollEnd::Leased(leases) => leases,
                PollEnd::GrantedBefore(_) | PollEnd::Superseded => {
                    return Err(Error::bug("a repeat without a request_id"));
                }
            };
            let loaded = leases::load_leases(&caller, leases.items()).await?;
            Ok((leases, loaded))
        }));
    }

    pub(super) async fn deliver(&mut self, polled: Polled) -> std::result::Result<(), Gone> {
        let (leases, loaded) = match polled {
            Ok(polled) => polled,
            Err(error @ (Error::Refused(_) | Error::Bug { .. })) => {
                self.finish(Some(error.into()));
                return Ok(());
            }
            Err(_) => {
                self.rests_until = Some(Instant::now() + POLL_PAUSE);
                return Ok(());
            }
        };
        if loaded.is_empty() {
            return Ok(());
        }
        let mut changed = HashSet::default();
        for (leased, lease) in leases.hand_over(loaded.len()).into_iter().zip(&loaded) {
            let key = leased.job.key;
            if self.held.send(leased, lease.isolated) {
                changed.insert(key);
            }
        }
        self.held.inbox().add(changed);
        self.send(proto::WorkResponse { leases: loaded, ..Default::default() }).await
    }

    /// Starts to read jobs of held leases that may have changed, unless a read is in flight.
    pub(super) fn look_at_jobs(&mut self) {
        if self.looking.is_some() {
            return;
        }
        let mut jobs = self.held.inbox().take_changed();
        match self.looks_at {
            Some(at) if at <= Instant::now() => {
                self.looks_at = None;
                jobs.extend(self.held.inbox().take_written());
            }
            None if self.held.inbox().has_written() => self.looks_at = Some(Instant::now() + LOOK_EVERY),
            Some(_) | None => {}
        }
        if jobs.is_empty() {
            return;
        }
        let tokens = self.held.of_jobs(&jobs);
        let jobs: HashSet<JobKey> = tokens.iter().map(|token| self.caller.key(token.job_uid)).collect();
        if !jobs.is_empty() {
            let caller = self.caller.clone();
            let find = move |key| {
                let caller = caller.clone();
                async move { (key, caller.find(key).await) }
            };
            self.looking = Some(Box::pin(join_all(jobs.into_iter().map(find))));
        }
    }

    /// Sends the statuses of the held leases of these jobs whose directive has changed.
    pub(super) async fn send_statuses(&mut self, seen: Seen) -> std::result::Result<(), Gone> {
        let now = self.caller.services.engine.now();
        let mut statuses = Vec::new();
        for (key, job) in seen {
            // If the read failed, the response to the next heartbeat has the status.
            let Ok(job) = job else { continue };
            for token in self.held.of_jobs(&HashSet::from_iter([key])) {
                let status = job.as_ref().map_or_else(convert::lost, |job| convert::status_in(job, &token, now));
                if self.held.note(&token, status.directive()) {
                    statuses.push(work_status(&token, status));
                }
            }
        }
        match statuses.is_empty() {
            true => Ok(()),
            false => self.send(proto::WorkResponse { statuses, ..Default::default() }).await,
        }
    }
}
