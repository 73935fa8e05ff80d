//! The line of waiting polls, first come, first served.

use std::collections::BTreeMap;

use foldhash::HashMap;
use tokio::sync::oneshot;
use tracing::Span;

use super::{Poll, PollEnd};
use crate::domain::id::NamespaceId;
use crate::domain::request::RequestKey;
use crate::error::Result;
use crate::feed::QueueKey;
use crate::store::due::{Demand, Reserved};

/// Stages of one queue that are asked for at once.
const MAX_DEMAND: usize = 1_000;

/// A poll in the line.
pub struct Waiter {
    pub poll: Poll,
    /// It goes away after the first look, with or without stages.
    pub once: bool,
    pub answer: oneshot::Sender<Result<PollEnd>>,
    /// The span of its call. None: it is not traced.
    pub span: Option<Span>,
}

/// A poll that has left the line, its place there, and what it gets.
pub type Served = (u64, Waiter, Vec<Reserved>);

/// The line, in the order of arrival.
#[derive(Default)]
pub struct Waiting {
    waiters: BTreeMap<u64, Waiter>,
    next: u64,
    /// The newest poll of each `request_id` that waits; one at most.
    by_request: HashMap<RequestKey, u64>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    pub fn add(&mut self, waiter: Waiter) -> u64 {
        self.next += 1;
        let id = self.next;
        self.insert(id, waiter);
        id
    }

    /// Puts one back that found nothing, where it was; unless another poll of its `request_id` waits now.
    pub fn put_back(&mut self, id: u64, waiter: Waiter) -> Option<Waiter> {
        if request(&waiter).is_some_and(|key| self.by_request.contains_key(&key)) {
            return Some(waiter);
        }
        self.insert(id, waiter);
        None
    }

    fn insert(&mut self, id: u64, waiter: Waiter) {
        self.by_request.extend(request(&waiter).map(|key| (key, id)));
        self.waiters.insert(id, waiter);
    }

    pub fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        if let Some(key) = request(&waiter) {
            self.by_request.remove(&key);
        }
        Some(waiter)
    }

    /// Takes out the poll of a `request_id`.
    pub fn take_request(&mut self, key: RequestKey) -> Option<Waiter> {
        let id = self.by_request.get(&key).copied()?;
        self.remove(id)
    }

    pub fn wants(&self, namespace: NamespaceId, queue: &str) -> bool {
        self.waiters.values().any(|waiter| {
            waiter.poll.namespace == namespace && waiter.poll.queues.iter().any(|served| &**served == queue)
        })
    }

    /// The newest arrival, up to which the next look serves the line.
    pub fn last(&self) -> u64 {
        self.next
    }

    /// What the line wants. A worker of several queues counts in each; what is too much goes back.
    pub fn demand(&self) -> Vec<Demand> {
        let mut wanted: HashMap<QueueKey, (usize, usize)> = HashMap::default();
        for waiter in self.waiters.values() {
            // One who takes a whole group takes its first stage first.
            let stages = if waiter.poll.same_group { 1 } else { waiter.poll.max_stages };
            for queue in &waiter.poll.queues {
                let wanted = wanted.entry((waiter.poll.namespace, queue.clone())).or_default();
                *wanted = (wanted.0 + stages, wanted.1 + 1);
            }
        }
        let demand = |((namespace, queue), (stages, polls)): (QueueKey, (usize, usize))| Demand {
            namespace,
            queue,
            stages: stages.min(MAX_DEMAND),
            alone: polls.min(MAX_DEMAND),
        };
        wanted.into_iter().map(demand).collect()
    }

    /// Gives reserved stages to the line; whoever gets one leaves it. A stage that is leased alone goes to one who has none, and who
    /// then gets no other. Returns them with their stages, and the stages nobody in the line wants.
    pub fn assign(&mut self, mut stages: Vec<Reserved>) -> (Vec<Served>, Vec<Reserved>) {
        stages.sort_by(|a, b| {
            (b.priority, a.ready_at, a.key, a.stage_no).cmp(&(a.priority, b.ready_at, b.key, b.stage_no))
        });
        let mut served: BTreeMap<u64, Vec<Reserved>> = BTreeMap::new();
        let mut left = Vec::new();
        for stage in stages {
            // Stages of a group that were found together are not torn apart: only one worker can have what they need.
            let joins = |(id, group): &(&u64, &mut Vec<Reserved>)| {
                let Some((poll, head)) = self.waiters.get(id).map(|waiter| &waiter.poll).zip(group.first()) else {
                    return false;
                };
                poll.same_group && group.len() < poll.max_stages && are_of_one_group(head, &stage)
            };
            if let Some((_, group)) = served.iter_mut().find(joins) {
                group.push(stage);
                continue;
            }
            let fits = |(id, waiter): &(&u64, &Waiter)| {
                let has = served.get(id).map_or(&[][..], Vec::as_slice);
                let one = waiter.poll.same_group || stage.alone || has.first().is_some_and(|first| first.alone);
                let most = if one { 1 } else { waiter.poll.max_stages };
                has.len() < most
                    && waiter.poll.namespace == stage.key.namespace
                    && waiter.poll.queues.contains(&stage.queue)
            };
            match self.waiters.iter().find(fits).map(|(id, _)| *id) {
                Some(id) => served.entry(id).or_default().push(stage),
                None => left.push(stage),
            }
        }
        let served = served.into_iter().filter_map(|(id, stages)| Some((id, self.remove(id)?, stages))).collect();
        (served, left)
    }

    /// Those up to an arrival who wanted only one look.
    pub fn take_impatient(&mut self, last: u64) -> Vec<Waiter> {
        let impatient = |(id, waiter): (&u64, &Waiter)| (*id <= last && waiter.once).then_some(*id);
        let ids: Vec<u64> = self.waiters.iter().filter_map(impatient).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Everybody.
    pub fn take_all(&mut self) -> Vec<Waiter> {
        self.by_request.clear();
        std::mem::take(&mut self.waiters).into_values().collect()
    }
}

fn request(waiter: &Waiter) -> Option<RequestKey> {
    Some(waiter.poll.request?.identity.key)
}

fn are_of_one_group(one: &Reserved, other: &Reserved) -> bool {
    let group = |stage: &Reserved| (stage.key.namespace, stage.queue.clone(), stage.group_key.clone());
    one.group_key.is_some() && group(one) == group(other) && !one.alone && !other.alone
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
