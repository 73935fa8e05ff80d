//! The line of waiting polls, first come, first served.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use foldhash::HashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use super::heads::HeadTable;
use super::share::Share;
use super::window::LEFT_FOR;
use super::{Poll, PollEnd};
use crate::domain::id::NamespaceId;
use crate::domain::ready::{ReadyPosition, ReadyStage};
use crate::domain::request::RequestKey;
use crate::error::Result;
use crate::feed::QueueKey;

/// A poll in the line.
pub struct Waiter {
    pub poll: Poll,
    /// It goes away after the first look, with or without stages.
    pub once: bool,
    /// When it came, or was put back after it had lost a race.
    pub since: Instant,
    pub answer: oneshot::Sender<Result<PollEnd>>,
    /// The span of its call. None: it is not traced.
    pub span: Option<Span>,
}

/// A poll that has left the line, its place there, and what it gets.
pub type Served = (u64, Waiter, Vec<ReadyStage>);

/// Those who wait for one queue.
#[derive(Debug, Default)]
pub struct Line {
    ids: BTreeSet<u64>,
    /// Stages that they take at most, together.
    pub stages: usize,
    /// How many of them go away after the first look.
    pub once: usize,
    /// When the newest of them came.
    pub newest: Option<Instant>,
}

impl Line {
    /// Polls in it.
    pub fn polls(&self) -> usize {
        self.ids.len()
    }
}

/// The line, in the order of arrival.
#[derive(Default)]
pub struct Waiting {
    waiters: BTreeMap<u64, Waiter>,
    next: u64,
    /// The newest poll of each `request_id` that waits; one at most.
    by_request: HashMap<RequestKey, u64>,
    by_queue: HashMap<QueueKey, Line>,
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
        for queue in super::queues(&waiter.poll) {
            let line = self.by_queue.entry(queue).or_default();
            line.ids.insert(id);
            line.stages += wanted(&waiter.poll);
            line.once += usize::from(waiter.once);
            line.newest = line.newest.max(Some(waiter.since));
        }
        self.waiters.insert(id, waiter);
    }

    pub fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        if let Some(key) = request(&waiter) {
            self.by_request.remove(&key);
        }
        for queue in super::queues(&waiter.poll) {
            let Some(line) = self.by_queue.get_mut(&queue) else { continue };
            line.ids.remove(&id);
            line.stages -= wanted(&waiter.poll);
            line.once -= usize::from(waiter.once);
            if line.ids.is_empty() {
                self.by_queue.remove(&queue);
            }
        }
        Some(waiter)
    }

    /// Takes out the poll of a `request_id`.
    pub fn take_request(&mut self, key: RequestKey) -> Option<Waiter> {
        let id = self.by_request.get(&key).copied()?;
        self.remove(id)
    }

    pub fn wants(&self, namespace: NamespaceId, queue: &str) -> bool {
        self.by_queue.contains_key(&(namespace, queue.into()))
    }

    /// The newest arrival, up to which the next look serves the line.
    pub fn last(&self) -> u64 {
        self.next
    }

    /// Those who wait for a queue, if somebody does.
    pub fn line(&self, queue: &QueueKey) -> Option<&Line> {
        self.by_queue.get(queue)
    }

    /// The queues that somebody waits for.
    pub fn queues(&self) -> impl Iterator<Item = &QueueKey> {
        self.by_queue.keys()
    }

    /// Gives the first stages of some queues to the line, the first come first; whoever gets one leaves it. A poll gets the stages of its queues in
    /// the order of all of them together. Where the next stage of one of them is not known, it gets none, or with `partial` those before
    /// it; these queues are returned.
    pub fn assign(
        &mut self,
        heads: &mut HeadTable,
        queues: &[QueueKey],
        share: Option<&Share>,
        partial: bool,
    ) -> (Vec<Served>, Vec<QueueKey>) {
        let (mut served, mut unknown) = (Vec::new(), Vec::new());
        let first = |waiting: &Self, at: usize| waiting.by_queue.get(&queues[at])?.ids.first().copied();
        let mut firsts: BinaryHeap<Reverse<(u64, usize)>> =
            (0..queues.len()).filter_map(|at| Some(Reverse((first(self, at)?, at)))).collect();
        while let Some(Reverse((id, at))) = firsts.pop() {
            match first(self, at) {
                Some(now) if now == id => {}
                now => {
                    firsts.extend(now.map(|now| Reverse((now, at))));
                    continue;
                }
            }
            let Some(waiter) = self.waiters.get(&id) else { continue };
            let (stages, cut) = take(waiter, heads, share);
            let is_cut = !cut.is_empty();
            unknown.extend(cut);
            if stages.is_empty() || is_cut && !partial {
                if stages.is_empty() && share.is_some() {
                    // There may be some that are left to other servers for a while.
                    heads.look_later(queues[at].clone(), LEFT_FOR);
                }
                heads.put_back(stages);
                continue;
            }
            served.extend(self.remove(id).map(|waiter| (id, waiter, stages)));
            firsts.extend(first(self, at).map(|next| Reverse((next, at))));
        }
        unknown.sort_unstable();
        unknown.dedup();
        (served, unknown)
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
        self.by_queue.clear();
        std::mem::take(&mut self.waiters).into_values().collect()
    }
}

/// The first stages for a poll, and the queues whose next stage is not known. A stage that is leased alone comes first or not at all, and
/// with no other; of those with a group key, a poll that wants one group gets all that are known of the first one's group.
fn take(waiter: &Waiter, heads: &mut HeadTable, share: Option<&Share>) -> (Vec<ReadyStage>, Vec<QueueKey>) {
    let poll = &waiter.poll;
    let queues = super::queues(poll);
    let most = wanted(poll).min(heads.room());
    let (mut stages, mut cut) = (Vec::new(), Vec::new());
    let mut next: BinaryHeap<Reverse<(ReadyPosition, usize, bool)>> = BinaryHeap::with_capacity(queues.len());
    let any = waiter.once;
    for (at, queue) in queues.iter().enumerate() {
        for alone in [true, false] {
            next.extend(look(heads, (queue, at, alone), (share, any), &mut cut));
        }
    }
    while stages.len() < most
        && cut.is_empty()
        && let Some(Reverse((place, at, alone))) = next.pop()
    {
        if alone && !stages.is_empty() {
            continue;
        }
        stages.extend(heads.pick(&queues[at], alone, place));
        if alone && !stages.is_empty() {
            break;
        }
        if stages.len() < most {
            // One that does not wait is not told that there is nothing, but has no right to be full.
            let any = false;
            next.extend(look(heads, (&queues[at], at, alone), (share, any), &mut cut));
        }
    }
    if poll.same_group
        && let Some(head) = stages.first().filter(|head| head.group_key.is_some() && !head.alone).cloned()
    {
        let more = (poll.max_stages - 1).min(heads.room());
        stages.extend(heads.pick_group(&head, more));
    }
    (stages, cut)
}

/// The next stage of a window. Where it is not known the queue is noted as `cut`.
fn look(
    heads: &mut HeadTable,
    (queue, at, alone): (&QueueKey, usize, bool),
    (share, any): (Option<&Share>, bool),
    cut: &mut Vec<QueueKey>,
) -> Option<Reverse<(ReadyPosition, usize, bool)>> {
    let window = heads.known(queue)?.window(alone);
    let next = window.next(share, any);
    if next.is_none() && window.first().is_none() && window.is_cut() {
        cut.push(queue.clone());
    }
    next.map(|place| Reverse((place, at, alone)))
}

/// Stages that a poll takes at most. One that takes a whole group takes its first stage first.
fn wanted(poll: &Poll) -> usize {
    if poll.same_group { 1 } else { poll.max_stages }
}

fn request(waiter: &Waiter) -> Option<RequestKey> {
    Some(waiter.poll.request?.identity.key)
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
