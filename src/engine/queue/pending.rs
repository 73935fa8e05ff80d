//! An operation on its way through a queue, and who has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::audit::Actor;
use crate::domain::id::NamespaceId;
use crate::engine::traced::Traced;
use crate::error::Result;
use crate::operation::overlay::Key;
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

    pub(super) fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// An operation on its way, with whom to tell.
pub struct Pending {
    pub operation: Box<dyn Operation>,
    /// Who asked for it.
    pub actor: Actor,
    pub weight: Weight,
    /// What it says itself that it may look at; asked by the caller's task, which saves the lane's time.
    pub(super) keys: Vec<Key>,
    /// How often it was decided already.
    pub rounds: u32,
    /// What it was found to need beside its keys.
    pub more: Vec<Key>,
    /// It was decided without all that it needs, which is no round that was lost to others.
    pub was_blind: bool,
    /// Since when it waits to be taken.
    pub queued: Instant,
    /// Since when it waits for a row that a foreign session holds.
    pub held_since: Option<Instant>,
    /// Its spans. None: its call is not traced.
    pub traced: Option<Box<Traced>>,
    answer: oneshot::Sender<Result<Reply>>,
    pub(super) ticket: Ticket,
    /// The namespace it is about, of which each has a share of the queue. None: none.
    pub(super) namespace: Option<NamespaceId>,
}

impl Pending {
    pub fn new(operation: Box<dyn Operation>, actor: Actor) -> (Self, oneshot::Receiver<Result<Reply>>) {
        let (answer, receiver) = oneshot::channel();
        let (weight, keys) = (operation.weight(), operation::keys(&*operation));
        let ticket = Ticket(Arc::new(AtomicU8::new(WAITING)));
        let namespace = keys.iter().find_map(Key::namespace);
        let (more, was_blind, queued, traced) = (Vec::new(), false, Instant::now(), Traced::begin(&*operation));
        let pending = Self {
            operation,
            actor,
            weight,
            keys,
            rounds: 0,
            more,
            was_blind,
            queued,
            held_since: None,
            traced,
            answer,
            ticket,
            namespace,
        };
        (pending, receiver)
    }

    /// Everything it may look at, as far as is known.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().chain(&self.more)
    }

    pub(super) fn is_batch(&self) -> bool {
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
