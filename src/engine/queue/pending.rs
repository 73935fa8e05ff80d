//! An operation on its way through the queue and the lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::audit::Actor;
use crate::domain::id::NamespaceId;
use crate::engine::traced::Traced;
use crate::error::Result;
use crate::figures::writer::LaneKind;
use crate::operation::overlay::Key;
use crate::operation::{self, Operation, Reply, Weight};

/// Rows from which on an operation is a batch, for which the lanes beside the first are worth it.
const BATCH_ROWS: usize = 100;
/// Above these an operation goes by the bulk lane, so that small ones do not wait for it.
const BULK_ROWS: usize = 2_000;
const BULK_BYTES: usize = 1 << 20;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const ABANDONED: u8 = 2;

/// Who owns an operation: its caller can abandon it only before a lane takes it.
#[derive(Clone, Debug)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Takes the operation back from the queue. False: a lane has it.
    pub fn abandon(&self) -> bool {
        self.0.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// An operation that waits, or that a lane has, with the way to its caller.
pub struct Pending {
    pub operation: Box<dyn Operation>,
    /// The requester, for the audit log.
    pub actor: Actor,
    pub weight: Weight,
    /// The keys that the operation names itself; asked in the caller's task, which saves the lane's time.
    pub(super) keys: Vec<Key>,
    /// How often it was decided already.
    pub rounds: u32,
    /// Keys that decisions turned out to need beside [`Self::keys`].
    pub more_keys: Vec<Key>,
    /// Whether the last decision lacked keys; such a round was not lost to another writer.
    pub lacked_keys: bool,
    /// When it entered the queue.
    pub queued: Instant,
    /// Since when it waits for a row or table that another session holds. None: it does not.
    pub blocked_since: Option<Instant>,
    /// Its spans. None: its call is not traced.
    pub traced: Option<Box<Traced>>,
    answer: oneshot::Sender<Result<Reply>>,
    pub(super) ticket: Ticket,
    /// The namespace whose share of the queue it takes. None: it takes no share.
    pub(super) namespace: Option<NamespaceId>,
}

impl Pending {
    /// An operation that waits from now on, and the receiver of its answer.
    pub fn new(operation: Box<dyn Operation>, actor: Actor) -> (Self, oneshot::Receiver<Result<Reply>>) {
        let (answer, receiver) = oneshot::channel();
        let (weight, keys) = (operation.weight(), operation::keys(&*operation));
        let ticket = Ticket(Arc::new(AtomicU8::new(WAITING)));
        let namespace = keys.iter().find_map(Key::namespace);
        let traced = Traced::begin(&*operation);
        let pending = Self {
            operation,
            actor,
            weight,
            keys,
            rounds: 0,
            more_keys: Vec::new(),
            lacked_keys: false,
            queued: Instant::now(),
            blocked_since: None,
            traced,
            answer,
            ticket,
            namespace,
        };
        (pending, receiver)
    }

    /// All keys that it is known to need; a key can be there twice.
    pub fn keys(&self) -> impl Iterator<Item = &Key> + Clone {
        self.keys.iter().chain(&self.more_keys)
    }

    /// The kind of lane that takes it first.
    pub(super) fn kind(&self) -> LaneKind {
        if self.operation.only_leases() {
            LaneKind::Leases
        } else if self.weight.rows > BULK_ROWS || self.weight.bytes > BULK_BYTES {
            LaneKind::Bulk
        } else {
            LaneKind::Main
        }
    }

    pub(super) fn is_batch(&self) -> bool {
        self.weight.rows >= BATCH_ROWS || self.weight.bytes > BULK_BYTES
    }

    /// The caller's hold on it.
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// Answers the caller, if it still listens.
    pub fn answer(self, answer: Result<Reply>) {
        let _gone = self.answer.send(answer);
    }
}
