//! Leases picked stages to workers through the engine.

use std::sync::Arc;

use foldhash::HashMap;
use uuid::Uuid;

use super::waiting::WaitingPoll;
use super::{Dispatcher, Leased, PollEnd};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::LeaseRequest;
use crate::domain::ready::ReadyStage;
use crate::domain::request::RequestIdentity;
use crate::engine::shared::Shared;
use crate::error::{Error, Result};
use crate::operation::Reply;
use crate::operation::lease_stages::LeaseStages;

/// Stages of one job to lease, and the request keys under which the leases are remembered. No keys: the poll has no `request_id`.
type OfJob = (JobKey, Vec<(StageNo, LeaseRequest)>, Vec<RequestIdentity>);

/// Result of leasing the stages that were picked for a poll.
#[derive(Default)]
struct Outcome {
    items: Vec<Leased>,
    /// Whether stages were blocked or lost to a concurrent write, so that a further look may find others.
    looks_again: bool,
    /// Whether another call with the same `request_id` was granted leases.
    replayed: bool,
}

/// Picked stages whose lease is not decided yet. When this is dropped, they return to their heads.
pub struct InHand {
    shared: Arc<Shared>,
    stages: Vec<ReadyStage>,
}

impl InHand {
    /// Wraps stages that the heads count as in hand.
    pub fn new(shared: Arc<Shared>, stages: Vec<ReadyStage>) -> Self {
        Self { shared, stages }
    }

    /// Removes the stages of a job and returns them.
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
    /// Leases picked stages to the worker and answers its poll. If none could be leased, the poll waits again; a poll with a wait of 0 does so only
    /// if a further look may find others.
    pub(super) async fn serve(self: Arc<Self>, id: u64, waiter: WaitingPoll, mut stages: InHand) {
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

    /// Ends a repeat of this call that arrived while this one was served: the repeat has to load what was granted.
    fn end_repeats(&self, served: &WaitingPoll) {
        let Some(request) = served.poll.request else { return };
        let repeat = self.waiting.lock().take_request(request.identity.key);
        if let Some(repeat) = repeat {
            let leases = self.leases(&repeat, Vec::new());
            let _gone = repeat.answer.send(Ok(PollEnd::GrantedBefore(leases)));
        }
    }

    /// Records the time for which a stage was ready before it was leased.
    fn note_wait(&self, stage: &ReadyStage) {
        let queue = self.engine.shared().jobs.queues.of(stage.key.namespace, &stage.queue);
        queue.ready_waits.took(stage.ready_at.until(self.engine.now()));
    }

    /// Reads further stages of the group of the first picked one and takes them in hand.
    pub(super) async fn add_group(&self, waiter: &WaitingPoll, stages: &mut Vec<ReadyStage>) {
        let more = waiter.poll.max_stages.saturating_sub(stages.len());
        let Some(head) = stages.first().filter(|head| head.group_key.is_some() && !head.alone && more > 0).cloned()
        else {
            return;
        };
        let shared = self.engine.shared();
        // The limit includes the stages already in hand, because the read returns them too.
        match shared.store.ready_group(&head, waiter.poll.max_stages + more).await {
            Ok(found) => stages.extend(shared.heads.lock().pick_found(found, more)),
            // The poll is served with the stages it has.
            Err(error) => tracing::debug!(%error, "the rest of a group was not read"),
        }
    }

    /// Leases the picked stages, with one operation per job. Fails only if no stage was leased.
    async fn lease_all(&self, waiter: &WaitingPoll, picked: &mut InHand) -> Result<Outcome> {
        // Jobs in the order in which their stages were picked.
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

    /// Adds the reply for the picked stages of one job to `outcome`. Stages that are neither leased nor blocked were lost to a concurrent write.
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
        // Blocked stages need no note here: the heads noted them with the commit.
        let lost = others.len() > reply.blocked.len();
        if !others.is_empty() {
            shared.heads.give_back(others, lost);
        }
        outcome.looks_again |= lost || !reply.blocked.is_empty();
        let job = reply.jobs.first();
        outcome.items.extend(reply.stages.iter().filter_map(|&stage_no| Some(Leased { job: job?.clone(), stage_no })));
    }
}
