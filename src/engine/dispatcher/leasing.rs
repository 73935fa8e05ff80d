//! Leases picked stages to a worker, through the engine.

use std::sync::Arc;

use foldhash::HashMap;
use uuid::Uuid;

use super::waiting::Waiter;
use super::{Dispatcher, Leased, PollEnd};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::LeaseRequest;
use crate::domain::ready::ReadyStage;
use crate::domain::request::RequestIdentity;
use crate::engine::Shared;
use crate::error::{Error, Result};
use crate::operation::Reply;
use crate::operation::lease_stages::LeaseStages;

/// Stages of one job that are to be leased, and where their leases are remembered; nowhere without a `request_id`.
type OfJob = (JobKey, Vec<(StageNo, LeaseRequest)>, Vec<RequestIdentity>);

/// What became of stages that were picked for a poll.
#[derive(Default)]
struct Outcome {
    /// Those that were leased.
    items: Vec<Leased>,
    /// Whether some have to wait for a permit, or were lost to somebody else: there may be others.
    looks_again: bool,
    /// Whether another call of the same `request_id` was granted leases.
    replayed: bool,
}

/// Picked stages whose lease is not decided yet. Dropped, they are given back.
pub struct InHand {
    shared: Arc<Shared>,
    stages: Vec<ReadyStage>,
}

impl InHand {
    /// Of stages that the heads count as in hand.
    pub fn new(shared: Arc<Shared>, stages: Vec<ReadyStage>) -> Self {
        Self { shared, stages }
    }

    /// Takes out the stages of a job.
    fn take(&mut self, key: JobKey) -> Vec<ReadyStage> {
        self.stages.extract_if(.., |stage| stage.key == key).collect()
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if !self.stages.is_empty() {
            self.shared.heads.give_back(self.stages.drain(..), false);
        }
    }
}

impl Dispatcher {
    /// Leases picked stages to a worker and tells it; one that got none because all were gone by then waits on.
    pub(super) async fn serve(self: Arc<Self>, id: u64, waiter: Waiter, mut stages: InHand) {
        if waiter.answer.is_closed() {
            return;
        }
        match self.lease_all(&waiter, &mut stages).await {
            Ok(Outcome { items, replayed: true, .. }) => {
                let leases = self.leases(&waiter, items);
                let _gone = waiter.answer.send(Ok(PollEnd::GrantedBefore(leases)));
            }
            Ok(Outcome { items, looks_again, .. }) if items.is_empty() && (!waiter.once || looks_again) => {
                self.wait_on(id, waiter);
            }
            outcome => {
                self.end_repeats(&waiter);
                self.answer(waiter, outcome.map(|outcome| outcome.items));
            }
        }
    }

    /// A call that repeats this one and came while it was served is to look at what was granted.
    fn end_repeats(&self, served: &Waiter) {
        let Some(request) = served.poll.request else { return };
        let repeat = self.waiting().take_request(request.identity.key);
        if let Some(repeat) = repeat {
            let leases = self.leases(&repeat, Vec::new());
            let _gone = repeat.answer.send(Ok(PollEnd::GrantedBefore(leases)));
        }
    }

    /// Counts how long a stage was ready before it was leased.
    fn note_wait(&self, stage: &ReadyStage) {
        let queue = self.engine.shared().jobs.queues.of(stage.key.namespace, &stage.queue);
        queue.ready_waits.took(stage.ready_at.until(self.engine.now()));
    }

    /// Takes more stages of the group of the first one in hand.
    pub(super) async fn add_group(&self, waiter: &Waiter, stages: &mut Vec<ReadyStage>) {
        let more = waiter.poll.max_stages.saturating_sub(stages.len());
        let Some(head) = stages.first().filter(|head| head.group_key.is_some() && !head.alone && more > 0).cloned()
        else {
            return;
        };
        let shared = self.engine.shared();
        // Those in hand come along in what is read.
        match shared.store.ready_group(&head, waiter.poll.max_stages + more).await {
            Ok(found) => stages.extend(shared.heads.lock().pick_found(found, more)),
            // The first one alone is better than none.
            Err(error) => tracing::debug!(%error, "the rest of a group was not read"),
        }
    }

    /// Leases what can be leased.
    async fn lease_all(&self, waiter: &Waiter, picked: &mut InHand) -> Result<Outcome> {
        // In the order in which they were picked.
        let mut by_job: Vec<OfJob> = Vec::with_capacity(picked.stages.len());
        let mut places: HashMap<JobKey, usize> = HashMap::default();
        for (index, stage) in (0..).zip(&picked.stages) {
            let grant = LeaseRequest {
                worker_id: waiter.poll.worker_id.clone(),
                secret: Uuid::new_v4(),
                duration: waiter.poll.lease_duration,
                queue: Some(stage.queue.clone()),
            };
            let slot = waiter.poll.request.map(|request| RequestIdentity {
                key: request.identity.key.slot(request.round, index),
                ..request.identity
            });
            let place = *places.entry(stage.key).or_insert(by_job.len());
            if place == by_job.len() {
                by_job.push((stage.key, Vec::new(), Vec::new()));
            }
            let (_, stages, slots) = &mut by_job[place];
            stages.push((stage.stage_no, grant));
            slots.extend(slot);
        }
        let is_group = waiter.poll.same_group && picked.stages.first().is_some_and(|head| head.group_key.is_some());
        let group = is_group.then(Uuid::new_v4);
        let keys: Vec<JobKey> = by_job.iter().map(|(key, ..)| *key).collect();
        let leases = by_job.into_iter().map(|(key, stages, slots)| LeaseStages { key, stages, group, slots });
        let replies = self.engine.execute_all(leases).await;
        let mut outcome = Outcome { items: Vec::with_capacity(picked.stages.len()), ..Outcome::default() };
        let mut failed = None;
        for (key, reply) in keys.into_iter().zip(replies) {
            match reply {
                Ok(reply) if reply.replayed.is_some() => outcome.replayed = true,
                Ok(reply) => self.settle(picked.take(key), &reply, &mut outcome),
                Err(Error::Conflict) => {
                    self.engine.shared().heads.give_back(picked.take(key), true);
                    outcome.looks_again = true;
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if outcome.items.is_empty() => Err(error),
            Some(_) | None => Ok(outcome),
        }
    }

    /// Notes what became of picked stages of one job. Those that are neither leased nor wait for a permit are somebody else's.
    fn settle(&self, stages: Vec<ReadyStage>, reply: &Reply, outcome: &mut Outcome) {
        let shared = self.engine.shared();
        let (leased, others): (Vec<_>, Vec<_>) =
            stages.into_iter().partition(|stage| reply.stages.contains(&stage.stage_no));
        leased.iter().for_each(|stage| self.note_wait(stage));
        if !leased.is_empty() {
            shared.heads.leased(&leased);
        }
        for (resource, reason) in &reply.blocked {
            shared.permits.denied(*resource, *reason);
            shared.permits.note_blocked_stage(*resource);
        }
        // Those that wait for a permit are known to: their commit has noted it.
        let lost = others.len() > reply.blocked.len();
        if !others.is_empty() {
            shared.heads.give_back(others, lost);
        }
        outcome.looks_again |= lost || !reply.blocked.is_empty();
        let job = reply.jobs.first();
        outcome.items.extend(reply.stages.iter().filter_map(|&stage_no| Some(Leased { job: job?.clone(), stage_no })));
    }
}
