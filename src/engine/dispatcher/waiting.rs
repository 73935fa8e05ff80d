//! Waiting polls, served in the order of arrival.

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
use crate::domain::ready::{QueueKey, ReadyPosition, ReadyStage};
use crate::domain::request::RequestKey;
use crate::error::Result;

/// A LeaseStages call, or the demand of a Work stream, while it waits for ready stages.
pub struct WaitingPoll {
    pub poll: Poll,
    /// Whether the poll ends after the first look, with or without stages.
    pub once: bool,
    /// Time at which the poll arrived, or was put back because no picked stage could be leased.
    pub since: Instant,
    /// Number of the arrival or return, counted by [`Waiting`].
    pub entry: u64,
    pub answer: oneshot::Sender<Result<PollEnd>>,
    /// Span of the call. None: the call is not traced.
    pub span: Option<Span>,
}

/// A poll that no longer waits: its id, which gives its place, the poll, and the stages picked for it.
pub type Served = (u64, WaitingPoll, Vec<ReadyStage>);

/// The polls that wait for one queue.
#[derive(Debug, Default)]
pub struct Line {
    ids: BTreeSet<u64>,
    /// Stages that all polls take together, at most.
    pub stages: usize,
    /// Stages that all polls are likely to take from this queue. At least 1 for each poll.
    pub likely: usize,
    /// Number of polls that end after the first look.
    pub once: usize,
    /// Time of the newest arrival or return of a poll.
    pub newest: Option<Instant>,
}

impl Line {
    pub fn polls(&self) -> usize {
        self.ids.len()
    }
}

/// All waiting polls, by id in the order of arrival.
#[derive(Default)]
pub struct Waiting {
    waiters: BTreeMap<u64, WaitingPoll>,
    next: u64,
    /// Arrivals and returns of polls until now.
    entries: u64,
    /// The waiting poll of each `request_id`. There is at most one: a newer poll replaces it.
    by_request: HashMap<RequestKey, u64>,
    by_queue: HashMap<QueueKey, Line>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    pub fn add(&mut self, waiter: WaitingPoll) -> u64 {
        self.next += 1;
        let id = self.next;
        self.insert(id, waiter);
        id
    }

    /// Puts a poll that got no lease back at its place. Returns the poll if another one with its `request_id` waits now.
    pub fn put_back(&mut self, id: u64, waiter: WaitingPoll) -> Option<WaitingPoll> {
        if request(&waiter).is_some_and(|key| self.by_request.contains_key(&key)) {
            return Some(waiter);
        }
        self.insert(id, waiter);
        None
    }

    fn insert(&mut self, id: u64, mut waiter: WaitingPoll) {
        self.entries += 1;
        waiter.entry = self.entries;
        self.by_request.extend(request(&waiter).map(|key| (key, id)));
        for queue in super::queues(&waiter.poll) {
            let line = self.by_queue.entry(queue).or_default();
            line.ids.insert(id);
            line.stages += wanted(&waiter.poll);
            line.likely += likely(&waiter.poll);
            line.once += usize::from(waiter.once);
            line.newest = line.newest.max(Some(waiter.since));
        }
        self.waiters.insert(id, waiter);
    }

    pub fn remove(&mut self, id: u64) -> Option<WaitingPoll> {
        let waiter = self.waiters.remove(&id)?;
        if let Some(key) = request(&waiter) {
            self.by_request.remove(&key);
        }
        for queue in super::queues(&waiter.poll) {
            let Some(line) = self.by_queue.get_mut(&queue) else { continue };
            line.ids.remove(&id);
            line.stages -= wanted(&waiter.poll);
            line.likely -= likely(&waiter.poll);
            line.once -= usize::from(waiter.once);
            if line.ids.is_empty() {
                self.by_queue.remove(&queue);
            }
        }
        Some(waiter)
    }

    /// Removes the poll with a `request_id` and returns it. None: none waits.
    pub fn take_request(&mut self, key: RequestKey) -> Option<WaitingPoll> {
        let id = self.by_request.get(&key).copied()?;
        self.remove(id)
    }

    pub fn wants(&self, namespace: NamespaceId, queue: &str) -> bool {
        self.by_queue.contains_key(&(namespace, queue.into()))
    }

    /// Number of the newest arrival or return, and the last that the next look covers.
    pub fn last_entry(&self) -> u64 {
        self.entries
    }

    /// The polls that wait for a queue. None: there are none.
    pub fn line(&self, queue: &QueueKey) -> Option<&Line> {
        self.by_queue.get(queue)
    }

    /// Queues that have waiting polls.
    pub fn queues(&self) -> impl Iterator<Item = &QueueKey> {
        self.by_queue.keys()
    }

    /// Assigns the first stages of `queues` to polls in the order of arrival, and removes the polls that get some. A poll takes the stages of all its
    /// queues in one order. If the next stage of one of them is not known, the poll gets none, or with `partial` the stages before it. Returns the
    /// served polls and the queues whose next stage is not known.
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
        // The last poll that got none, and whether it may get some later. It is tried once, however many queues it has: their entries come next.
        let mut unserved: Option<(u64, bool)> = None;
        while let Some(Reverse((id, at))) = firsts.pop() {
            if let Some((_, is_later)) = unserved.filter(|(unserved, _)| *unserved == id) {
                if is_later {
                    // Stages may be left that other servers prefer; after `LEFT_FOR` this server takes them.
                    heads.look_later(queues[at].clone(), LEFT_FOR);
                }
                continue;
            }
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
                unserved = Some((id, stages.is_empty() && share.is_some()));
                firsts.push(Reverse((id, at)));
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

    /// Removes the polls that end after one look and that a look up to the entry `last` covered, and returns them.
    pub fn take_impatient(&mut self, last: u64) -> Vec<WaitingPoll> {
        let impatient = |(id, waiter): (&u64, &WaitingPoll)| (waiter.entry <= last && waiter.once).then_some(*id);
        let ids: Vec<u64> = self.waiters.iter().filter_map(impatient).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes all polls and returns them.
    pub fn take_all(&mut self) -> Vec<WaitingPoll> {
        self.by_request.clear();
        self.by_queue.clear();
        std::mem::take(&mut self.waiters).into_values().collect()
    }
}

/// Picks the first stages for a poll. Returns them and the queues with an unknown next stage: all that the poll may need, so that one read
/// suffices. A stage that is leased alone is picked only as the first one, and then without others. With `same_group`, known stages of the first
/// one's group are added, if it has a group key.
fn take(waiter: &WaitingPoll, heads: &mut HeadTable, share: Option<&Share>) -> (Vec<ReadyStage>, Vec<QueueKey>) {
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
    // Number of stages that no unknown one can precede. Those after them are picked only to find out which queues the poll may need.
    let mut certain = 0;
    while stages.len() < most
        && let Some(Reverse((place, at, alone))) = next.pop()
    {
        if alone && !stages.is_empty() {
            continue;
        }
        stages.extend(heads.pick(&queues[at], alone, place));
        if cut.is_empty() {
            certain = stages.len();
        }
        if alone && !stages.is_empty() {
            break;
        }
        if stages.len() < most {
            // A poll with a wait of 0 may take the first stage of each window even if another server prefers it, so that it does not end
            // without any. Further stages are subject to the share.
            let any = false;
            next.extend(look(heads, (&queues[at], at, alone), (share, any), &mut cut));
        }
    }
    heads.put_back(stages.split_off(certain));
    if poll.same_group
        && let Some(head) = stages.first().filter(|head| head.group_key.is_some() && !head.alone).cloned()
    {
        let more = (poll.max_stages - 1).min(heads.room());
        stages.extend(heads.pick_group(&head, more));
    }
    (stages, cut)
}

/// Position of the next stage of a window. None: there is none that may be taken now. If it is not known, the queue is added to `cut`.
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

/// Stages that a poll takes before its group is added, at most. A poll with `same_group` takes the first stage of the group.
fn wanted(poll: &Poll) -> usize {
    if poll.same_group { 1 } else { poll.max_stages }
}

/// Stages that a poll is likely to take from each of its queues, at most: three times its share if it takes as many from each.
fn likely(poll: &Poll) -> usize {
    let wanted = wanted(poll);
    (3 * wanted).div_ceil(poll.queues.len().max(1)).min(wanted)
}

fn request(waiter: &WaitingPoll) -> Option<RequestKey> {
    Some(waiter.poll.request?.identity.key)
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
