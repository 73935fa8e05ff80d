//! The one way to write: operations are decided on cached state, committed in groups, answered after the commit.
//!
//! Layout: `group` finds the components of decided operations, `planning` plans their commit, `install` does what follows from it; `lane`
//! runs groups over one connection, one `round` at a time; `queue` is the bounded wait before a lane, by the `pace` that was measured; `cache` and `clock` are shared by the lanes;
//! `permits` is what follows from commits of resources; `dispatcher` hands ready stages to waiting workers. [`Engine`] is the door.
//!
//! **Invariants.** Nothing is answered that was not decided on the version it was committed or proved at. The engine owns
//! a write from the moment a lane takes it: a caller that goes away abandons nothing. No lock is held across I/O.

pub mod cache;
pub mod clock;
pub mod dispatcher;
pub mod grace;
pub mod group;
mod held;
mod install;
mod lane;
mod last_write;
mod loading;
mod pace;
pub mod permits;
mod planning;
mod queue;
mod recent;
mod roots;
mod round;
mod shared;
mod traced;
mod undone;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::domain::audit::Actor;
use crate::domain::id::NamespaceId;
use crate::error::{Error, Result, WriteOutcome};
use crate::feed::Hub;
use crate::figures::writer::LaneKind;
use crate::operation::probe::Probe;
use crate::operation::{Operation, Reply};
use crate::store::Store;
use lane::{Lane, Mode};
use pace::{MAX_BULK_WAIT, MAX_WAIT};
use queue::{Pending, Queue, Side, Ticket};
pub use shared::Shared;

/// Bounds of the engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Operations that may wait before a lane; a tenth is kept for heartbeats and the ends of attempts.
    pub queue_operations: usize,
    /// Bytes that may wait before a lane.
    pub queue_bytes: usize,
    /// How long an operation may wait there.
    pub queue_wait: Duration,
    /// Entries of the cache.
    pub cache_entries: usize,
    /// Bytes of the cache.
    pub cache_bytes: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            queue_operations: 8_192,
            queue_bytes: 64 << 20,
            queue_wait: Duration::from_secs(30),
            cache_entries: 50_000,
            cache_bytes: 64 << 20,
        }
    }
}

/// The door to all writes.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
}

struct Lanes {
    main: Arc<Queue>,
    bulk: Arc<Queue>,
    leases: Arc<Queue>,
    contended: Arc<Queue>,
    tasks: std::sync::Mutex<Tasks>,
}

/// Lanes that run.
#[derive(Default)]
struct Tasks {
    /// All but the contended lane, to which most of them pass operations on.
    passing: Vec<JoinHandle<()>>,
    contended: Option<JoinHandle<()>>,
}

/// Operations larger than this go beside the main lane, so that they hold nobody up.
const BULK_ROWS: usize = 2_000;
const BULK_BYTES: usize = 1 << 20;
/// How long a write may take that shows that writes are done.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl Engine {
    /// Starts the lanes over a migrated store.
    pub fn start(store: Store, hub: Arc<Hub>, settings: EngineSettings) -> Self {
        let queue = |max_wait| Arc::new(Queue::new(settings.queue_operations, settings.queue_bytes, max_wait));
        let (main, bulk, leases) = (queue(MAX_WAIT), queue(MAX_BULK_WAIT), queue(MAX_WAIT));
        let contended = queue(MAX_WAIT);
        let shared = Arc::new(Shared::new(store, hub, settings));
        let lane = |(mode, kind), from: &Arc<Queue>, side| {
            tokio::spawn(Lane::new((mode, kind), shared.clone(), (from.clone(), side), contended.clone()).run())
        };
        let passing = vec![
            lane((Mode::Optimistic, LaneKind::Main), &main, Side::First),
            lane((Mode::Optimistic, LaneKind::Main), &main, Side::Second),
            lane((Mode::Optimistic, LaneKind::Main), &main, Side::Third),
            lane((Mode::Optimistic, LaneKind::Bulk), &bulk, Side::First),
            lane((Mode::Optimistic, LaneKind::Leases), &leases, Side::First),
        ];
        let tasks =
            Tasks { passing, contended: Some(lane((Mode::Locking, LaneKind::Locking), &contended, Side::First)) };
        Self { shared, lanes: Arc::new(Lanes { main, bulk, leases, contended, tasks: tasks.into() }) }
    }

    /// Executes an operation of the server itself: of a loop, or one that follows from another. Rpcs use [`Self::execute_for`], which says who
    /// asks; what the audit log notes needs it.
    pub async fn execute(&self, operation: impl Operation, deadline: Option<Instant>) -> Result<Reply> {
        self.execute_for(Actor::Server, operation, deadline).await
    }

    /// Decides and commits an operation. Its answer is true at the version it stands on; an error says whether the
    /// operation can have been applied. `deadline` is the caller's.
    pub async fn execute_for(
        &self,
        actor: Actor,
        operation: impl Operation,
        deadline: Option<Instant>,
    ) -> Result<Reply> {
        let (pending, answer) = Pending::new(Box::new(operation), actor);
        let ticket = pending.ticket();
        self.queue_of(&pending).push(pending).inspect_err(|_| {
            self.shared.figures.rejected.inc();
        })?;
        self.answered(&ticket, answer, deadline).await
    }

    /// Executes operations of the server itself that are wanted together: they enter the queue as one, so that usually one group has them all. Each has an answer of
    /// its own, in their order.
    pub async fn execute_all(&self, operations: impl IntoIterator<Item = impl Operation>) -> Vec<Result<Reply>> {
        let (mut waiting, mut main) = (Vec::new(), Vec::new());
        for operation in operations {
            let (pending, answer) = Pending::new(Box::new(operation), Actor::Server);
            waiting.push((pending.ticket(), answer, None));
            main.push(pending);
        }
        let is_usual = main.iter().all(|pending| Arc::ptr_eq(self.queue_of(pending), &self.lanes.main));
        let refused = if is_usual {
            self.lanes.main.push_all(main)
        } else {
            main.into_iter().map(|pending| self.queue_of(&pending).push(pending).err()).collect()
        };
        self.shared.figures.rejected.inc_by(refused.iter().flatten().count() as u64);
        waiting.iter_mut().zip(refused).for_each(|((.., refusal), refused)| *refusal = refused);
        let mut replies = Vec::with_capacity(waiting.len());
        for (ticket, answer, refusal) in waiting {
            replies.push(match refusal {
                Some(error) => Err(error),
                None => self.answered(&ticket, answer, None).await,
            });
        }
        replies
    }

    fn queue_of(&self, pending: &Pending) -> &Arc<Queue> {
        let large = pending.weight.rows > BULK_ROWS || pending.weight.bytes > BULK_BYTES;
        match (pending.operation.only_leases(), large) {
            (true, _) => &self.lanes.leases,
            (false, true) => &self.lanes.bulk,
            (false, false) => &self.lanes.main,
        }
    }

    /// The answer to an operation in a queue.
    async fn answered(
        &self,
        ticket: &Ticket,
        mut answer: oneshot::Receiver<Result<Reply>>,
        deadline: Option<Instant>,
    ) -> Result<Reply> {
        let patience = Instant::now() + self.shared.settings.queue_wait;
        let limit = deadline.map_or(patience, |deadline| deadline.min(patience));
        if let Ok(answer) = tokio::time::timeout_at(limit, &mut answer).await {
            return answer.unwrap_or(Err(Error::OutcomeUnknown));
        }
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if ticket.abandon() {
            self.shared.figures.rejected.inc();
            return Err(if late {
                Error::DeadlineExceeded(WriteOutcome::NotApplied)
            } else {
                Error::Overloaded { why: "waited too long for its turn", retry_after: Duration::from_secs(1) }
            });
        }
        // A lane has it. It will be answered, but perhaps not for this caller.
        let last = deadline.unwrap_or(patience + self.shared.settings.queue_wait);
        match tokio::time::timeout_at(last, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Error::OutcomeUnknown)),
            Err(_) => Err(Error::DeadlineExceeded(WriteOutcome::Unknown)),
        }
    }

    /// Whether writes are done: one was a moment ago, or one of no consequence is now.
    pub async fn can_write(&self) -> bool {
        self.shared.last_write.is_recent() || self.execute(Probe, Some(Instant::now() + PROBE_TIMEOUT)).await.is_ok()
    }

    /// Whether a write was done after a moment, and none failed since.
    pub fn wrote_since(&self, moment: Instant) -> bool {
        self.shared.last_write.is_after(moment)
    }

    /// What the lanes share, for reads and figures.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The database's time, as far as it is known.
    pub fn now(&self) -> crate::domain::time::Timestamp {
        self.shared.clock.now()
    }

    /// Operations that wait before a lane now, by kind of lane in the order of [`LaneKind::ALL`].
    pub fn queue_depths(&self) -> [usize; 4] {
        [&self.lanes.main, &self.lanes.bulk, &self.lanes.contended, &self.lanes.leases].map(|queue| queue.len())
    }

    /// When new work of a namespace is worth trying again, if it is refused now because too much of it waits; what keeps accepted work alive is
    /// still taken.
    pub fn overload(&self, namespace: Option<NamespaceId>) -> Option<Duration> {
        let retry_after = self.lanes.main.overload(namespace)?;
        self.shared.figures.rejected.inc();
        Some(retry_after)
    }

    /// Takes no new operations, finishes those it has, and ends.
    pub async fn drain(&self) {
        let tasks = std::mem::take(&mut *self.lanes.tasks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        self.lanes.main.close();
        self.lanes.bulk.close();
        self.lanes.leases.close();
        for task in tasks.passing {
            let _ended = task.await;
        }
        // Nobody passes anything on to it any more.
        self.lanes.contended.close();
        if let Some(task) = tasks.contended {
            let _ended = task.await;
        }
    }
}

#[cfg(test)]
mod tests;
