//! The wait before the lanes of one kind.
//!
//! While the group of one lane is being committed, the others decide and send theirs. Lanes beside the first take batches only, because many
//! small operations are better off in one group; the second takes all once enough wait for a group of its own. No lane takes an operation on a root that another lane works on, or that an operation
//! ahead waits for; so lanes do not invalidate each other's decisions, and no operation is overtaken for ever. Only speed rests on
//! that: each commit proves what it stood on, as between servers.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;
use tokio::sync::Notify;

use super::bytes::ByteBound;
use super::lane_id::LaneId;
use super::pending::Pending;
use super::share::{Amount, Shares};
use crate::domain::id::NamespaceId;
use crate::engine::group::{MAX_GROUP_BYTES, MAX_GROUP_OPERATIONS};
use crate::engine::pace::Pace;
use crate::error::{Error, Result};
use crate::operation::Weight;
use crate::operation::overlay::Key;

/// Bounds of the time after which a refused operation is worth another attempt: when what waits now will have been done.
pub(super) const MIN_RETRY_AFTER: Duration = Duration::from_millis(500);
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Waiting operations from which on the second lane takes any, not only batches: enough for a group beside that of the first.
pub(super) const MIN_OVERLAPPING_OPERATIONS: usize = 128;
/// Waiting rows from which on it does so too, where each operation has many.
const MIN_OVERLAPPING_ROWS: usize = 384;

/// Lanes of one kind at most.
const MAX_LANES: usize = 3;

/// Operations of two classes, each first come, first served. Urgent ones (those that keep work alive) go first and may use a last tenth of the
/// section; others are refused once too much work waits, measured as time (see [`crate::engine::pace`]).
pub(super) struct Section {
    inner: Mutex<Inner>,
    /// One for each lane, by its place.
    arrived: [Notify; MAX_LANES],
    max_operations: usize,
    max_bytes: usize,
    /// Shared by all sections.
    bytes: Arc<ByteBound>,
}

/// Operations of one class, in the order of their arrival.
#[derive(Default)]
struct Fifo {
    waiting: VecDeque<Pending>,
    rows: usize,
    /// How many of them are batches.
    batches: usize,
    /// What waits of each namespace.
    shares: Shares,
}

#[derive(Default)]
pub(super) struct Inner {
    /// One for each [`Class`], in its order.
    fifos: [Fifo; 2],
    pub(super) bytes: usize,
    pub(super) pace: Pace,
    /// The first usual operation was too large for what urgent ones left of the last group: the next group begins with it.
    usual_first: bool,
    /// The roots that each lane works on, by its place.
    pub(super) busy_roots: [HashSet<Key>; MAX_LANES],
    /// Roots of operations that were passed over; used only while a group is taken, and kept to reuse its memory.
    awaited_roots: HashSet<Key>,
    closed: bool,
}

/// The class of an operation, which is also its place in [`Inner::fifos`].
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
struct NextGroup {
    group: Vec<Pending>,
    rows: usize,
    bytes: usize,
}

/// What a group may hold.
#[derive(Clone, Copy)]
struct GroupLimits {
    operations: usize,
    rows: usize,
    bytes: usize,
}

impl Section {
    /// An empty section. `max_bytes` bounds it beside `bytes`, which all sections share; `max_wait` is the work that may wait, as time, before
    /// new work is refused.
    pub(super) fn new(max_operations: usize, max_bytes: usize, max_wait: Duration, bytes: Arc<ByteBound>) -> Self {
        let inner = Mutex::new(Inner { pace: Pace::new(max_wait), ..Inner::default() });
        Self { inner, arrived: std::array::from_fn(|_| Notify::new()), max_operations, max_bytes, bytes }
    }

    pub(super) fn push(&self, pending: Pending) -> Result<()> {
        let mut inner = self.lock();
        self.admit(&inner, &pending)?;
        let is_batch = inner.add(pending);
        let is_long = inner.is_long();
        drop(inner);
        self.wake(is_batch, is_long);
        Ok(())
    }

    /// Lets several operations in, which no lane sees before all are. Each refusal is in the place of its operation.
    pub(super) fn push_all(&self, pending: Vec<Pending>) -> Vec<Option<Error>> {
        let mut inner = self.lock();
        let mut has_batch = false;
        let mut refusals = Vec::with_capacity(pending.len());
        for pending in pending {
            let admitted = self.admit(&inner, &pending);
            if admitted.is_ok() {
                has_batch |= inner.add(pending);
            }
            refusals.push(admitted.err());
        }
        let is_long = inner.is_long();
        drop(inner);
        self.wake(has_batch, is_long);
        refusals
    }

    /// Whether an operation may wait. If so, its bytes are reserved.
    fn admit(&self, inner: &Inner, pending: &Pending) -> Result<()> {
        if inner.closed {
            return Err(Error::Draining);
        }
        let (class, bytes) = (pending.class(), pending.weight.bytes);
        let most = self.most(inner, class);
        let is_full = inner.len() >= most.operations || inner.bytes > 0 && inner.bytes + bytes > most.bytes;
        let why = if is_full || class == Class::Usual && inner.is_behind() {
            "too many writes are waiting"
        } else if inner.fifos[class as usize].shares.is_used_up(pending.namespace, most) {
            "too many writes of this namespace are waiting"
        } else if !self.bytes.reserve(bytes, if class == Class::Urgent { 0 } else { self.bytes.urgent_part() }) {
            "too many bytes of writes are waiting"
        } else {
            return Ok(());
        };
        Err(Error::Overloaded { why, retry_after: inner.retry_after() })
    }

    /// When an operation of a namespace that is not urgent is worth another attempt. None: it would be admitted now.
    pub(super) fn overload(&self, namespace: Option<NamespaceId>) -> Option<Duration> {
        let inner = self.lock();
        let most = self.most(&inner, Class::Usual);
        let is_refused = inner.is_behind() || inner.fifos[Class::Usual as usize].shares.is_used_up(namespace, most);
        is_refused.then(|| inner.retry_after())
    }

    /// What operations of a class may take of the section.
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

    pub(super) fn requeue(&self, pending: Pending) {
        let mut inner = self.lock();
        self.bytes.add(pending.weight.bytes);
        let is_batch = inner.add(pending);
        let is_long = inner.is_long();
        drop(inner);
        self.wake(is_batch, is_long);
    }

    /// Wakes the lanes that take what has arrived. `is_long`: see [`Inner::is_long`].
    fn wake(&self, has_batch: bool, is_long: bool) {
        let takes = [true, has_batch || is_long, has_batch];
        self.arrived.iter().zip(takes).filter(|(_, takes)| *takes).for_each(|(arrived, _)| arrived.notify_one());
    }

    pub(super) async fn take_group(&self, lane: LaneId) -> Option<Vec<Pending>> {
        loop {
            let arrived = self.arrived[lane.place].notified();
            {
                let mut inner = self.lock();
                let was_busy = !inner.busy_roots[lane.place].is_empty();
                let group = inner.take_group(lane, &self.bytes);
                if was_busy {
                    self.wake_others(&inner, lane);
                }
                if !group.is_empty() {
                    return Some(group);
                }
                if inner.closed && (lane.place > 0 || inner.len() == 0) {
                    return None;
                }
            }
            arrived.await;
        }
    }

    pub(super) fn note_pace(&self, rows: usize, took: Duration) {
        self.lock().pace.note(rows, took);
    }

    /// Wakes the other lanes, which may take now what waited for a root that this one worked on.
    pub(super) fn wake_others(&self, inner: &Inner, lane: LaneId) {
        for (place, arrived) in self.arrived.iter().enumerate() {
            let takes = if inner.takes_any(place) { inner.len() } else { inner.batches() };
            if place != lane.place && takes > 0 {
                arrived.notify_one();
            }
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.iter().for_each(Notify::notify_one);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Takes a group for a lane, which has done with the one before.
    #[cfg(test)]
    pub(super) fn take(&self, lane: LaneId) -> Vec<Pending> {
        self.lock().take_group(lane, &self.bytes)
    }
}

impl Fifo {
    fn add(&mut self, pending: Pending) {
        self.rows += pending.weight.rows;
        self.batches += usize::from(pending.is_batch());
        self.shares.add(pending.namespace, pending.weight);
        self.waiting.push_back(pending);
    }

    fn remove(&mut self, place: usize) -> Option<Pending> {
        let taken = self.waiting.remove(place)?;
        self.rows -= taken.weight.rows;
        self.batches -= usize::from(taken.is_batch());
        self.shares.remove(taken.namespace, taken.weight);
        debug_assert!(!self.waiting.is_empty() || (self.rows, self.batches) == (0, 0), "sums of nothing are 0");
        Some(taken)
    }
}

impl GroupLimits {
    /// Some quarters of it.
    fn quarters(self, count: usize) -> Self {
        let part = |whole: usize| whole / 4 * count;
        Self { operations: part(self.operations), rows: part(self.rows), bytes: part(self.bytes) }
    }

    /// This much more than what is taken already.
    fn beyond(self, taken: &NextGroup) -> Self {
        let (operations, rows) = (self.operations + taken.group.len(), self.rows + taken.rows);
        Self { operations, rows, bytes: self.bytes + taken.bytes }
    }
}

impl NextGroup {
    /// Whether one more fits. An operation that is larger than a group is a group of its own.
    fn has_room_for(&self, next: Weight, limits: GroupLimits) -> bool {
        let fits = self.group.len() < limits.operations
            && self.rows + next.rows <= limits.rows
            && self.bytes + next.bytes <= limits.bytes;
        fits || self.group.is_empty()
    }
}

impl Inner {
    /// Adds an operation behind the others of its class. Returns whether it is a batch.
    fn add(&mut self, pending: Pending) -> bool {
        let is_batch = pending.is_batch();
        self.bytes += pending.weight.bytes;
        self.fifos[pending.class() as usize].add(pending);
        is_batch
    }

    pub(super) fn len(&self) -> usize {
        self.fifos.iter().map(|fifo| fifo.waiting.len()).sum()
    }

    pub(super) fn batches(&self) -> usize {
        self.fifos.iter().map(|fifo| fifo.batches).sum()
    }

    pub(super) fn rows(&self) -> usize {
        self.fifos.iter().map(|fifo| fifo.rows).sum()
    }

    /// Whether enough waits for a group of the second lane beside that of the first.
    fn is_long(&self) -> bool {
        self.len() >= MIN_OVERLAPPING_OPERATIONS || self.rows() >= MIN_OVERLAPPING_ROWS
    }

    /// Whether a lane takes any operation now. If not, it takes batches only.
    fn takes_any(&self, place: usize) -> bool {
        place == 0 || place == 1 && self.is_long()
    }

    /// Whether so much work waits that more would be answered late.
    fn is_behind(&self) -> bool {
        self.rows() >= self.pace.max_waiting_rows()
    }

    fn retry_after(&self) -> Duration {
        self.pace.time_for(self.rows()).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
    }

    /// Takes what fits and touches no root that another lane works on, or that an operation ahead waits for.
    fn take_group(&mut self, lane: LaneId, bytes: &ByteBound) -> Vec<Pending> {
        self.busy_roots[lane.place].clear();
        self.awaited_roots.clear();
        let limits =
            GroupLimits { operations: MAX_GROUP_OPERATIONS, rows: self.pace.max_group_rows(), bytes: MAX_GROUP_BYTES };
        let (before, any) = (self.bytes, self.takes_any(lane.place));
        let mut taken = NextGroup::default();
        if std::mem::take(&mut self.usual_first) {
            self.take_from(Class::Usual, any, limits.quarters(1), &mut taken);
        }
        let has_usual = !self.fifos[Class::Usual as usize].waiting.is_empty();
        let (urgent_limits, usual) = (if has_usual { limits.quarters(3) } else { limits }, taken.group.len());
        self.take_from(Class::Urgent, any, urgent_limits, &mut taken);
        // A group with urgent operations stays short, so that they are answered soon.
        let has_urgent = taken.group.len() > usual;
        let usual_limits = if has_urgent { limits.quarters(1).beyond(&taken) } else { limits };
        self.usual_first = self.take_from(Class::Usual, any, usual_limits, &mut taken);
        let keys = taken.group.iter().flat_map(|next: &Pending| roots(&next.keys));
        self.busy_roots[lane.place].extend(keys.cloned());
        bytes.release(before - self.bytes);
        taken.group
    }

    /// Takes operations of one class: any, or batches only. True if the next one was too large for what is left of the group.
    fn take_from(&mut self, class: Class, any: bool, limits: GroupLimits, taken: &mut NextGroup) -> bool {
        let mut place = 0;
        let class = class as usize;
        let mut batches_behind = self.fifos[class].batches;
        loop {
            let Some(next) = self.fifos[class].waiting.get(place) else { return false };
            if !any && batches_behind == 0 {
                return false;
            }
            batches_behind -= usize::from(next.is_batch());
            let is_barred = || {
                let others = || self.busy_roots.iter().filter(|keys| !keys.is_empty()).chain([&self.awaited_roots]);
                roots(&next.keys).any(|key| others().any(|keys| keys.contains(key)))
            };
            if !any && !next.is_batch() || is_barred() {
                // Operations behind it on the same roots must not overtake it.
                self.awaited_roots.extend(roots(&next.keys).cloned());
                place += 1;
                continue;
            }
            if !taken.has_room_for(next.weight, limits) {
                return true;
            }
            let Some(next) = self.fifos[class].remove(place) else { return false };
            self.bytes -= next.weight.bytes;
            taken.rows += next.weight.rows;
            taken.bytes += next.weight.bytes;
            // One that was decided before was taken then; one that its caller abandoned is dropped.
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
