//! The claimer: looks for ready stages when it is worth it, and leases what it finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::waiting::Waiter;
use super::{Dispatcher, Leased, Leases, PollEnd};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::Grant;
use crate::domain::request::RequestIdentity;
use crate::error::{Error, Result};
use crate::operation::lease_stages::LeaseStages;
use crate::store::due::Reserved;

/// How often the claimer looks without a reason, for what became ready through other servers.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where the leases of some stages are remembered; empty without a `request_id`.
type Slots = Vec<RequestIdentity>;

/// What became of stages that were reserved for a poll.
struct Served {
    /// Those that were leased.
    items: Vec<Leased>,
    /// Whether some have to wait for a permit.
    blocked: bool,
    /// Whether another call of the same `request_id` was granted leases.
    replayed: bool,
}

impl Dispatcher {
    /// Serves the line until `shutdown`, then answers everybody in it.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let hub = self.engine.shared().hub.clone();
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.arrived.notified() => {}
                _ready = hub.ready() => {}
                () = tokio::time::sleep_until(next_look) => {}
            }
            next_look = Instant::now() + LOOK_EVERY;
            while self.look().await {}
        }
        let everybody = {
            let mut waiting = self.waiting();
            self.is_closed.store(true, Ordering::Release);
            waiting.take_all()
        };
        for waiter in everybody {
            self.answer(waiter, Ok(Vec::new()));
        }
    }

    /// Looks once. Whether it is worth looking again at once: something was found and somebody still waits.
    async fn look(self: &Arc<Self>) -> bool {
        let (demand, last) = {
            let waiting = self.waiting();
            (waiting.demand(), waiting.last())
        };
        if demand.is_empty() {
            return false;
        }
        let store = &self.engine.shared().store;
        let found = match store.reserve(self.server, &demand).await {
            Ok(found) => found,
            Err(error) => {
                for waiter in self.waiting().take_impatient(last) {
                    self.answer(waiter, Err(error.clone()));
                }
                return false;
            }
        };
        let any = !found.is_empty();
        let (mut served, left) = self.waiting().assign(found);
        // Before the next look, which would find the rest of a group for another worker.
        let groups = served.iter_mut().filter(|(_, waiter, _)| waiter.poll.same_group && !waiter.answer.is_closed());
        join_all(groups.map(|(_, waiter, stages)| self.add_group(waiter, stages))).await;
        for (id, waiter, stages) in served {
            let span = waiter.span.clone().unwrap_or_else(Span::none);
            tokio::spawn(self.clone().serve(id, waiter, stages).instrument(span));
        }
        for waiter in self.waiting().take_impatient(last) {
            self.answer(waiter, Ok(Vec::new()));
        }
        if !left.is_empty()
            && let Err(error) = store.unreserve(self.server, &left).await
        {
            // The reservations end by themselves.
            tracing::debug!(%error, "reservations were not given back");
        }
        any && left.is_empty() && self.waiting().len() > 0
    }

    fn answer(&self, waiter: Waiter, leased: Result<Vec<Leased>>) {
        let end = leased.map(|items| PollEnd::Leased(self.leases(&waiter, items)));
        // Who has gone drops the leases, which releases them.
        let _gone = waiter.answer.send(end);
    }

    fn leases(&self, waiter: &Waiter, items: Vec<Leased>) -> Leases {
        match waiter.poll.request {
            Some(_) => Leases::repeatable(&self.engine, items),
            None => Leases::on_the_way(&self.engine, items),
        }
    }

    /// Leases reserved stages to a worker and tells it; one that got none because all were gone by then waits on.
    async fn serve(self: Arc<Self>, id: u64, waiter: Waiter, stages: Vec<Reserved>) {
        if waiter.answer.is_closed() {
            self.give_back(&stages).await;
            return;
        }
        match self.lease_all(&waiter, &stages).await {
            Ok(Served { items, replayed: true, .. }) => {
                self.give_back(&stages).await;
                let leases = self.leases(&waiter, items);
                let _gone = waiter.answer.send(Ok(PollEnd::GrantedBefore(leases)));
            }
            // Stages that have to wait for a permit are out of the way now: there may be others.
            Ok(Served { items, blocked, .. }) if items.is_empty() && (!waiter.once || blocked) => {
                self.wait_on(id, waiter)
            }
            served => {
                self.end_repeats(&waiter);
                self.answer(waiter, served.map(|served| served.items));
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
    fn note_wait(&self, stage: &Reserved) {
        let queue = self.engine.shared().jobs.queues.of(stage.key.namespace, &stage.queue);
        queue.ready_waits.took(stage.ready_at.until(self.engine.now()));
    }

    fn wait_on(&self, id: u64, waiter: Waiter) {
        {
            let mut waiting = self.waiting();
            if !self.is_closed.load(Ordering::Acquire) {
                let superseded = waiting.put_back(id, waiter);
                drop(waiting);
                if let Some(waiter) = superseded {
                    let _gone = waiter.answer.send(Ok(PollEnd::Superseded));
                }
                self.arrived.notify_one();
                return;
            }
        }
        self.answer(waiter, Err(Error::Draining));
    }

    async fn give_back(&self, stages: &[Reserved]) {
        if let Err(error) = self.engine.shared().store.unreserve(self.server, stages).await {
            tracing::debug!(%error, "reservations were not given back");
        }
        self.arrived.notify_one();
    }

    async fn add_group(&self, waiter: &Waiter, stages: &mut Vec<Reserved>) {
        let more = waiter.poll.max_stages.saturating_sub(stages.len());
        let Some(head) = stages.first().filter(|head| head.group_key.is_some() && !head.alone && more > 0).cloned()
        else {
            return;
        };
        match self.engine.shared().store.reserve_group(self.server, &head, more).await {
            Ok(group) => stages.extend(group),
            // The first one alone is better than none.
            Err(error) => tracing::debug!(%error, "the rest of a group was not reserved"),
        }
    }

    /// Leases what can be leased.
    async fn lease_all(&self, waiter: &Waiter, stages: &[Reserved]) -> Result<Served> {
        let mut by_job: BTreeMap<JobKey, (Vec<(StageNo, Grant)>, Slots)> = BTreeMap::new();
        for (index, stage) in (0..).zip(stages) {
            let grant = Grant {
                worker_id: waiter.poll.worker_id.clone(),
                secret: Uuid::new_v4(),
                duration: waiter.poll.lease_duration,
                queue: Some(stage.queue.clone()),
            };
            let slot = waiter.poll.request.map(|request| RequestIdentity {
                key: request.identity.key.slot(request.round, index),
                ..request.identity
            });
            let (stages, slots) = by_job.entry(stage.key).or_default();
            stages.push((stage.stage_no, grant));
            slots.extend(slot);
        }
        let ready: BTreeMap<(JobKey, StageNo), &Reserved> =
            stages.iter().map(|stage| ((stage.key, stage.stage_no), stage)).collect();
        let is_group = waiter.poll.same_group && stages.first().is_some_and(|head| head.group_key.is_some());
        let group = is_group.then(Uuid::new_v4);
        let lease = |(key, (stages, slots))| self.engine.execute(LeaseStages { key, stages, group, slots }, None);
        let leases = by_job.into_iter().map(lease);
        let mut served = Served { items: Vec::with_capacity(stages.len()), blocked: false, replayed: false };
        let mut failed = None;
        for reply in join_all(leases).await {
            match reply {
                Ok(reply) => {
                    let job = reply.jobs.first();
                    let leased_now = reply.stages.iter().filter_map(|no| ready.get(&(job?.key, *no)));
                    leased_now.filter(|_| reply.replayed.is_none()).for_each(|stage| self.note_wait(stage));
                    served.blocked |= !reply.blocked.is_empty();
                    served.replayed |= reply.replayed.is_some();
                    for (resource, reason) in &reply.blocked {
                        self.engine.shared().permits.denied(*resource, *reason);
                    }
                    served.items.extend(
                        reply.stages.iter().filter_map(|&stage_no| Some(Leased { job: job?.clone(), stage_no })),
                    );
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if served.items.is_empty() => Err(error),
            Some(_) | None => Ok(served),
        }
    }
}
