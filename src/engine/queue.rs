//! The bounded wait before a lane, or before several that share it.
//!
//! While the group of one lane is being committed, the others decide and send theirs. Beside the first they take batches only, which
//! are worth it: many small operations are better off in one group. None takes an operation on a root that another has in hand, or that
//! waits before it for such a root; so they do not beat each other, and nobody is overtaken for ever. Nothing but speed rests on
//! that: what lanes write at once is proved by each commit, as between servers.

mod pending;
mod share;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use foldhash::HashSet;
use tokio::sync::Notify;

use super::group::{MAX_GROUP_BYTES, MAX_GROUP_OPERATIONS};
use super::pace::Pace;
use crate::domain::id::NamespaceId;
use crate::error::{Error, Result};
use crate::operation::Weight;
use crate::operation::overlay::Key;
pub use pending::{Pending, Ticket};
use share::{Amount, Shares};

/// When a refused operation is worth trying again: after what waits has been done, within these bounds.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(500);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

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

/// Two classes, each first come, first served. Urgent operations (those that keep work alive) go first and may use a last tenth of the queue;
/// others are refused once too much work waits, measured as time (see [`super::pace`]).
pub struct Queue {
    inner: Mutex<Inner>,
    /// For each side.
    arrived: [Notify; SIDES],
    max_operations: usize,
    max_bytes: usize,
}

/// Operations of one class, in the order of their arrival.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Pending>,
    rows: usize,
    /// How many of them are batches.
    batches: usize,
    /// What is of each namespace.
    shares: Shares,
}

#[derive(Default)]
struct Inner {
    /// For each [`Class`].
    lines: [Line; 2],
    bytes: usize,
    pace: Pace,
    /// The usual operation at the head was too large for what urgent ones left of the last group: the next group begins with it.
    usual_first: bool,
    /// The roots that each side has in hand.
    in_hand: [HashSet<Key>; SIDES],
    /// Those that somebody waits for who is left waiting; only of use while a group is taken, but it keeps its room.
    ahead: HashSet<Key>,
    closed: bool,
}

/// Which line of a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Urgent,
    Usual,
}

impl Pending {
    fn class(&self) -> Class {
        if self.operation.is_urgent() { Class::Urgent } else { Class::Usual }
    }
}

/// A group while it is being put together.
#[derive(Default)]
struct Taken {
    group: Vec<Pending>,
    rows: usize,
    bytes: usize,
}

/// What a group may hold.
#[derive(Clone, Copy)]
struct Room {
    operations: usize,
    rows: usize,
    bytes: usize,
}

impl Queue {
    /// `max_wait` is how much work may wait, as time, before new work is refused.
    pub fn new(max_operations: usize, max_bytes: usize, max_wait: Duration) -> Self {
        let inner = Mutex::new(Inner { pace: Pace::new(max_wait), ..Inner::default() });
        Self { inner, arrived: std::array::from_fn(|_| Notify::new()), max_operations, max_bytes }
    }

    /// Lets an operation wait, or turns it away.
    pub fn push(&self, pending: Pending) -> Result<()> {
        let mut inner = self.lock();
        self.refuse(&inner, &pending).map_or(Ok(()), Err)?;
        let is_batch = inner.add(pending);
        drop(inner);
        self.wake(is_batch);
        Ok(())
    }

    /// The same for several, which no lane sees before all are in. Returns why each was turned away, if it was.
    pub fn push_all(&self, pending: Vec<Pending>) -> Vec<Option<Error>> {
        let mut inner = self.lock();
        let mut has_batch = false;
        let mut refused = Vec::with_capacity(pending.len());
        for pending in pending {
            let refusal = self.refuse(&inner, &pending);
            if refusal.is_none() {
                has_batch |= inner.add(pending);
            }
            refused.push(refusal);
        }
        drop(inner);
        self.wake(has_batch);
        refused
    }

    /// Why an operation is turned away now, if it is.
    fn refuse(&self, inner: &Inner, pending: &Pending) -> Option<Error> {
        if inner.closed {
            return Some(Error::Draining);
        }
        let class = pending.class();
        let most = self.most(inner, class);
        let full = inner.len() >= most.operations || inner.bytes + pending.weight.bytes > most.bytes;
        let why = if full || (class == Class::Usual && inner.is_behind()) {
            "too many writes are waiting"
        } else if inner.lines[class as usize].shares.is_used_up(pending.namespace, most) {
            "too many writes of this namespace are waiting"
        } else {
            return None;
        };
        Some(Error::Overloaded { why, retry_after: inner.retry_after() })
    }

    /// When an operation of a namespace that is not urgent is worth trying again, if it would be refused now.
    pub fn overload(&self, namespace: Option<NamespaceId>) -> Option<Duration> {
        let inner = self.lock();
        let most = self.most(&inner, Class::Usual);
        let is_refused = inner.is_behind() || inner.lines[Class::Usual as usize].shares.is_used_up(namespace, most);
        is_refused.then(|| inner.retry_after())
    }

    /// What operations of a class may take of the queue.
    fn most(&self, inner: &Inner, class: Class) -> Amount {
        let (operations, bytes) = (self.max_operations, self.max_bytes);
        match class {
            Class::Urgent => Amount { operations, rows: usize::MAX, bytes },
            Class::Usual => Amount {
                operations: operations - operations / 10,
                rows: inner.pace.max_waiting_rows(),
                bytes: bytes - bytes / 10,
            },
        }
    }

    /// Passes on an operation that was accepted before; it is bounded by the queue it comes from.
    pub fn pass(&self, pending: Pending) {
        let is_batch = self.lock().add(pending);
        self.wake(is_batch);
    }

    /// Wakes who takes what has come.
    fn wake(&self, has_batch: bool) {
        self.arrived[Side::First as usize].notify_one();
        if has_batch {
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
                if inner.closed && (side != Side::First || inner.len() == 0) {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Notes how long a lane took for a group of so many rows.
    pub fn note_pace(&self, rows: usize, took: Duration) {
        self.lock().pace.note(rows, took);
    }

    /// What waited for a root that this side had in hand may be another's now.
    fn wake_others(&self, inner: &Inner, side: Side) {
        for (other, arrived) in self.arrived.iter().enumerate() {
            let waits = if other == Side::First as usize { inner.len() } else { inner.batches() };
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
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Line {
    fn add(&mut self, pending: Pending) {
        self.rows += pending.weight.rows;
        self.batches += usize::from(pending.is_batch());
        self.shares.add(pending.namespace, pending.weight);
        self.waiting.push_back(pending);
    }

    fn take(&mut self, place: usize) -> Option<Pending> {
        let taken = self.waiting.remove(place)?;
        self.rows -= taken.weight.rows;
        self.batches -= usize::from(taken.is_batch());
        self.shares.remove(taken.namespace, taken.weight);
        Some(taken)
    }
}

impl Room {
    /// So many quarters.
    fn part(self, quarters: usize) -> Self {
        let part = |whole: usize| whole / 4 * quarters;
        Self { operations: part(self.operations), rows: part(self.rows), bytes: part(self.bytes) }
    }

    /// So much more than what is taken.
    fn beside(self, taken: &Taken) -> Self {
        let (operations, rows) = (self.operations + taken.group.len(), self.rows + taken.rows);
        Self { operations, rows, bytes: self.bytes + taken.bytes }
    }
}

impl Taken {
    /// Whether one more fits. An operation that is larger than a group is a group of its own.
    fn has_room_for(&self, next: Weight, room: Room) -> bool {
        let fits = self.group.len() < room.operations
            && self.rows + next.rows <= room.rows
            && self.bytes + next.bytes <= room.bytes;
        fits || self.group.is_empty()
    }
}

impl Inner {
    /// Adds an operation to its line. Whether it is a batch.
    fn add(&mut self, pending: Pending) -> bool {
        let is_batch = pending.is_batch();
        self.bytes += pending.weight.bytes;
        let class = pending.class();
        self.lines[class as usize].add(pending);
        is_batch
    }

    fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    fn batches(&self) -> usize {
        self.lines.iter().map(|line| line.batches).sum()
    }

    fn rows(&self) -> usize {
        self.lines.iter().map(|line| line.rows).sum()
    }

    /// Whether so much work waits that more would be answered late.
    fn is_behind(&self) -> bool {
        self.rows() >= self.pace.max_waiting_rows()
    }

    fn retry_after(&self) -> Duration {
        self.pace.time_for(self.rows()).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
    }

    /// Takes what fits and touches no root that another side has in hand, or that somebody further ahead waits for.
    fn take_group(&mut self, side: Side) -> Vec<Pending> {
        self.in_hand[side as usize].clear();
        self.ahead.clear();
        let room = Room { operations: MAX_GROUP_OPERATIONS, rows: self.pace.max_group_rows(), bytes: MAX_GROUP_BYTES };
        let mut taken = Taken::default();
        if std::mem::take(&mut self.usual_first) {
            self.take_from(Class::Usual, side, room.part(1), &mut taken);
        }
        let (urgent_room, before) =
            (if self.lines[Class::Usual as usize].waiting.is_empty() { room } else { room.part(3) }, taken.group.len());
        self.take_from(Class::Urgent, side, urgent_room, &mut taken);
        // Urgent operations are not held up by a full group of others.
        let usual_room = if taken.group.len() == before { room } else { room.part(1).beside(&taken) };
        self.usual_first = self.take_from(Class::Usual, side, usual_room, &mut taken);
        let keys = taken.group.iter().flat_map(|next: &Pending| roots(&next.keys));
        self.in_hand[side as usize].extend(keys.cloned());
        taken.group
    }

    /// True if the next one was too large for what is left of the group.
    fn take_from(&mut self, class: Class, side: Side, room: Room, taken: &mut Taken) -> bool {
        let mut place = 0;
        let class = class as usize;
        let mut batches_behind = self.lines[class].batches;
        loop {
            let Some(next) = self.lines[class].waiting.get(place) else { return false };
            if side != Side::First && batches_behind == 0 {
                return false;
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
            if !taken.has_room_for(next.weight, room) {
                return true;
            }
            let Some(next) = self.lines[class].take(place) else { return false };
            self.bytes -= next.weight.bytes;
            taken.rows += next.weight.rows;
            taken.bytes += next.weight.bytes;
            // One that was decided before was taken then; one whose caller gave up is dropped.
            if next.rounds > 0 || next.ticket.take() {
                taken.group.push(next);
            }
        }
    }
}

/// Those of some keys whose rows a group locks to write them.
fn roots(keys: &[Key]) -> impl Iterator<Item = &Key> {
    keys.iter().filter(|key| key.is_root())
}

#[cfg(test)]
mod tests;
