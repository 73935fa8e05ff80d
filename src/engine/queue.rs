//! The bounded wait before a lane.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::group::{MAX_GROUP_BYTES, MAX_GROUP_OPERATIONS, MAX_GROUP_ROWS};
use super::world::Key;
use crate::error::{Error, Result};
use crate::operation::{self, Operation, Reply, Weight};

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
        let weight = operation.weight();
        let ticket = Ticket(Arc::new(AtomicU8::new(WAITING)));
        (
            Self { operation, weight, rounds: 0, more: Vec::new(), was_blind: false, held_since: None, answer, ticket },
            receiver,
        )
    }

    /// Everything it may look at, as far as is known.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = operation::keys(&*self.operation);
        keys.extend(self.more.iter().cloned());
        keys
    }

    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// Tells the caller; one that has gone hears nothing.
    pub fn answer(self, answer: Result<Reply>) {
        let _gone = self.answer.send(answer);
    }
}

/// First come, first served, with a last tenth that only urgent operations may use.
pub struct Queue {
    inner: Mutex<Inner>,
    arrived: Notify,
    max_operations: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Pending>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub fn new(max_operations: usize, max_bytes: usize) -> Self {
        Self { inner: Mutex::default(), arrived: Notify::new(), max_operations, max_bytes }
    }

    /// Lets an operation wait, or turns it away.
    pub fn push(&self, pending: Pending) -> Result<()> {
        let mut inner = self.lock();
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
        inner.bytes += pending.weight.bytes;
        inner.waiting.push_back(pending);
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Passes on an operation that was accepted before; it is bounded by the queue it comes from.
    pub fn pass(&self, pending: Pending) {
        let mut inner = self.lock();
        inner.bytes += pending.weight.bytes;
        inner.waiting.push_back(pending);
        drop(inner);
        self.arrived.notify_one();
    }

    /// The next group, as many as are waiting and fit; `None` when the queue is closed and empty.
    pub async fn take_group(&self) -> Option<Vec<Pending>> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut inner = self.lock();
                let group = inner.take_group();
                if !group.is_empty() {
                    return Some(group);
                }
                if inner.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Lets nobody in any more; who waits is still served.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn take_group(&mut self) -> Vec<Pending> {
        let mut group = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(next) = self.waiting.front() {
            rows += next.weight.rows;
            bytes += next.weight.bytes;
            let fits = group.len() < MAX_GROUP_OPERATIONS && rows <= MAX_GROUP_ROWS && bytes <= MAX_GROUP_BYTES;
            if !fits && !group.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            self.bytes -= next.weight.bytes;
            // One that was decided before was taken then; one whose caller gave up is dropped.
            if next.rounds > 0 || next.ticket.take() {
                group.push(next);
            }
        }
        group
    }
}
