//! The bounded wait before a lane, or before several that share it.
//!
//! While the group of one lane is being committed, the others decide and send theirs. Beside the first they take batches only, which
//! are worth it: many small operations are better off in one group. None takes an operation on a root that another has in hand, or that
//! waits before it for such a root; so they do not beat each other, and nobody is overtaken for ever. Nothing but speed rests on
//! that: what lanes write at once is proved by each commit, as between servers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foldhash::HashSet;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::group::{MAX_GROUP_BYTES, MAX_GROUP_OPERATIONS, MAX_GROUP_ROWS};
use super::world::Key;
use crate::error::{Error, Result};
use crate::operation::{self, Operation, Reply, Weight};

/// From so many rows on an operation is a batch.
const BATCH_ROWS: usize = 100;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const ABANDONED: u8 = 2;

/// Who has an operation: its caller may give up only before a lane takes it.
#[derive(Clone, Debug)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Takes the operation back; false if a lane has it.
    pub fn abandon(&self) -> bool {
        self.0.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// An operation on its way, with whom to tell.
pub struct Pending {
    pub operation: Box<dyn Operation>,
    pub weight: Weight,
    /// What it says itself that it may look at; asked by the caller's task, which saves the lane's time.
    keys: Vec<Key>,
    /// How often it was decided already.
    pub rounds: u32,
    /// What it was found to need beside its keys.
    pub more: Vec<Key>,
    /// It was decided without all that it needs, which is no round that was lost to others.
    pub was_blind: bool,
    /// Since when it waits for a row that a foreign session holds.
    pub held_since: Option<Instant>,
    answer: oneshot::Sender<Result<Reply>>,
    ticket: Ticket,
}

impl Pending {
    pub fn new(operation: Box<dyn Operation>) -> (Self, oneshot::Receiver<Result<Reply>>) {
        let (answer, receiver) = oneshot::channel();
        let (weight, keys) = (operation.weight(), operation::keys(&*operation));
        let ticket = Ticket(Arc::new(AtomicU8::new(WAITING)));
        let (more, was_blind) = (Vec::new(), false);
        (Self { operation, weight, keys, rounds: 0, more, was_blind, held_since: None, answer, ticket }, receiver)
    }

    /// Everything it may look at, as far as is known.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().chain(&self.more)
    }

    fn is_batch(&self) -> bool {
        self.weight.rows >= BATCH_ROWS
    }

    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// Tells the caller; one that has gone hears nothing.
    pub fn answer(self, answer: Result<Reply>) {
        let _gone = self.answer.send(answer);
    }
}

/// Lanes before which a queue may stand.
pub const SIDES: usize = 3;

/// Which of the lanes before which a queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that takes everything.
    First,
    /// One that takes batches, if there is one.
    Second,
    /// Another.
    Third,
}

/// First come, first served, with a last tenth that only urgent operations may use.
pub struct Queue {
    inner: Mutex<Inner>,
    /// For each side.
    arrived: [Notify; SIDES],
    max_operations: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Pending>,
    bytes: usize,
    /// How many batches wait.
    batches: usize,
    /// The roots that each side has in hand.
    in_hand: [HashSet<Key>; SIDES],
    /// Those that somebody waits for who is left waiting; only of use while a group is taken, but it keeps its room.
    ahead: HashSet<Key>,
    closed: bool,
}

impl Queue {
    pub fn new(max_operations: usize, max_bytes: usize) -> Self {
        Self { inner: Mutex::default(), arrived: std::array::from_fn(|_| Notify::new()), max_operations, max_bytes }
    }

    /// Lets an operation wait, or turns it away.
    pub fn push(&self, pending: Pending) -> Result<()> {
        let inner = self.lock();
        if inner.closed {
            return Err(Error::Draining);
        }
        let urgent = pending.operation.is_urgent();
        let share = |bound: usize| if urgent { bound } else { bound - bound / 10 };
        let full = inner.waiting.len() >= share(self.max_operations)
            || inner.bytes + pending.weight.bytes > share(self.max_bytes);
        if full {
            let retry_after = Duration::from_millis(500);
            return Err(Error::Overloaded { why: "too many writes are waiting", retry_after });
        }
        self.add(inner, pending);
        Ok(())
    }

    /// Passes on an operation that was accepted before; it is bounded by the queue it comes from.
    pub fn pass(&self, pending: Pending) {
        self.add(self.lock(), pending);
    }

    fn add(&self, mut inner: MutexGuard<'_, Inner>, pending: Pending) {
        let is_batch = pending.is_batch();
        inner.bytes += pending.weight.bytes;
        inner.batches += usize::from(is_batch);
        inner.waiting.push_back(pending);
        drop(inner);
        self.arrived[Side::First as usize].notify_one();
        if is_batch {
            self.arrived[1..].iter().for_each(Notify::notify_one);
        }
    }

    /// The next group, as many as are waiting and fit; `None` when the queue is closed and has nothing more for this side. Who asks
    /// has done with the group before.
    pub async fn take_group(&self, side: Side) -> Option<Vec<Pending>> {
        loop {
            let arrived = self.arrived[side as usize].notified();
            {
                let mut inner = self.lock();
                let had = !inner.in_hand[side as usize].is_empty();
                let group = inner.take_group(side);
                if had {
                    self.wake_others(&inner, side);
                }
                if !group.is_empty() {
                    return Some(group);
                }
                if inner.closed && (side != Side::First || inner.waiting.is_empty()) {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// What waited for a root that this side had in hand may be another's now.
    fn wake_others(&self, inner: &Inner, side: Side) {
        for (other, arrived) in self.arrived.iter().enumerate() {
            let waits = if other == Side::First as usize { inner.waiting.len() } else { inner.batches };
            if other != side as usize && waits > 0 {
                arrived.notify_one();
            }
        }
    }

    /// Lets nobody in any more; who waits is still served.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.iter().for_each(Notify::notify_one);
    }

    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// Takes what fits and touches no root that another side has in hand, or that somebody further ahead waits for.
    fn take_group(&mut self, side: Side) -> Vec<Pending> {
        self.in_hand[side as usize].clear();
        self.ahead.clear();
        let (mut group, mut rows, mut bytes, mut place) = (Vec::new(), 0, 0, 0);
        let mut batches_behind = self.batches;
        while let Some(next) = self.waiting.get(place) {
            if side != Side::First && batches_behind == 0 {
                break;
            }
            batches_behind -= usize::from(next.is_batch());
            let is_barred = || {
                let others = || self.in_hand.iter().filter(|keys| !keys.is_empty()).chain([&self.ahead]);
                roots(&next.keys).any(|key| others().any(|keys| keys.contains(key)))
            };
            if (side != Side::First && !next.is_batch()) || is_barred() {
                // Whoever is left where it is shall not be overtaken by those behind who want the same.
                self.ahead.extend(roots(&next.keys).cloned());
                place += 1;
                continue;
            }
            rows += next.weight.rows;
            bytes += next.weight.bytes;
            let fits = group.len() < MAX_GROUP_OPERATIONS && rows <= MAX_GROUP_ROWS && bytes <= MAX_GROUP_BYTES;
            if !fits && !group.is_empty() {
                break;
            }
            let Some(next) = self.waiting.remove(place) else { break };
            self.bytes -= next.weight.bytes;
            self.batches -= usize::from(next.is_batch());
            // One that was decided before was taken then; one whose caller gave up is dropped.
            if next.rounds > 0 || next.ticket.take() {
                group.push(next);
            }
        }
        let keys = group.iter().flat_map(|next: &Pending| roots(&next.keys));
        self.in_hand[side as usize].extend(keys.cloned());
        group
    }
}

/// Those of some keys whose rows a group locks to write them.
fn roots(keys: &[Key]) -> impl Iterator<Item = &Key> {
    keys.iter().filter(|key| matches!(key, Key::Job(_) | Key::Record(_) | Key::Resource(_)))
}

#[cfg(test)]
mod tests;
