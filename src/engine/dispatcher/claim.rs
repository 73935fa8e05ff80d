//! The claimer: looks for ready stages when it is worth it, and leases what it finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::waiting::Waiter;
use super::{Dispatcher, Leased, Leases};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::Grant;
use crate::error::{Error, Result};
use crate::operation::lease_stages::LeaseStages;
use crate::store::due::Reserved;

/// How often the claimer looks without a reason, for what became ready through other servers.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
            tokio::spawn(self.clone().serve(id, waiter, stages));
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
        let leases = leased.map(|items| Leases { items, engine: self.engine.clone() });
        // Who has gone drops the leases, which releases them.
        let _gone = waiter.answer.send(leases);
    }

    /// Leases reserved stages to a worker and tells it; one that got none because all were gone by then waits on.
    async fn serve(self: Arc<Self>, id: u64, waiter: Waiter, stages: Vec<Reserved>) {
        if waiter.answer.is_closed() {
            self.give_back(&stages).await;
            return;
        }
        match self.lease_all(&waiter, &stages).await {
            // Stages that have to wait for a permit are out of the way now: there may be others.
            Ok((items, blocked)) if items.is_empty() && (!waiter.once || blocked) => self.wait_on(id, waiter),
            leased => self.answer(waiter, leased.map(|(items, _)| items)),
        }
    }

    fn wait_on(&self, id: u64, waiter: Waiter) {
        {
            let mut waiting = self.waiting();
            if !self.is_closed.load(Ordering::Acquire) {
                waiting.put_back(id, waiter);
                drop(waiting);
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

    /// Leases what can be leased, and says whether some stages have to wait for a permit.
    async fn lease_all(&self, waiter: &Waiter, stages: &[Reserved]) -> Result<(Vec<Leased>, bool)> {
        let mut by_job: BTreeMap<JobKey, Vec<(StageNo, Grant)>> = BTreeMap::new();
        for stage in stages {
            let grant = Grant {
                worker_id: waiter.poll.worker_id.clone(),
                secret: Uuid::new_v4(),
                duration: waiter.poll.lease_duration,
                queue: Some(stage.queue.clone()),
            };
            by_job.entry(stage.key).or_default().push((stage.stage_no, grant));
        }
        let is_group = waiter.poll.same_group && stages.first().is_some_and(|head| head.group_key.is_some());
        let group = is_group.then(Uuid::new_v4);
        let lease = |(key, stages)| self.engine.execute(LeaseStages { key, stages, group }, None);
        let leases = by_job.into_iter().map(lease);
        let mut leased = Vec::with_capacity(stages.len());
        let (mut failed, mut blocked) = (None, false);
        for reply in join_all(leases).await {
            match reply {
                Ok(reply) => {
                    let job = reply.jobs.first();
                    blocked |= !reply.blocked.is_empty();
                    for (resource, reason) in &reply.blocked {
                        self.engine.shared().permits.denied(*resource, *reason);
                    }
                    leased.extend(
                        reply.stages.iter().filter_map(|&stage_no| Some(Leased { job: job?.clone(), stage_no })),
                    );
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if leased.is_empty() => Err(error),
            Some(_) | None => Ok((leased, blocked)),
        }
    }
}
