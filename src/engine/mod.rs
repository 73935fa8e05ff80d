//! The one way to write: operations are decided on cached state, committed in groups, answered after the commit.
//!
//! Layout: `group` finds the components of decided operations, `planning` plans their commit, `install` does what follows from it; `queue` is the bounded
//! wait before the lanes, by the `pace` that was measured; a `lane` runs groups over one connection, one `round` of `work` at a time; `cache`, `clock`
//! and `contention` are shared by the lanes; `permits` is what follows from commits of resources; `dispatcher` hands ready stages to waiting workers.
//! [`Engine`] is the door.
//!
//! **Invariants.** Nothing is answered that was not decided on the version it was committed or proved at. The engine owns
//! a write from the moment a lane takes it: a caller that goes away abandons nothing. No lock is held across I/O.

pub mod cache;
pub mod clock;
mod contention;
pub mod dispatcher;
pub mod grace;
pub mod group;
mod install;
mod lane;
mod last_write;
mod loading;
mod outcome;
mod pace;
pub mod permits;
mod planning;
mod queue;
mod roots;
mod round;
mod settings;
mod shared;
mod traced;
mod work;

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
use lane::Lane;
use queue::{LaneId, Pending, Queue, Ticket};
pub use settings::EngineSettings;
pub use shared::Shared;

/// The door to all writes.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
}

/// The queue and the lanes that serve it.
struct Lanes {
    queue: Arc<Queue>,
    /// Empty once they drain.
    tasks: parking_lot::Mutex<Vec<(LaneId, JoinHandle<()>)>>,
}

/// Time that a write may take which shows that the database accepts writes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl Engine {
    /// Starts the lanes over a migrated store.
    pub fn start(store: Store, hub: Arc<Hub>, settings: EngineSettings) -> Self {
        let queue = Arc::new(Queue::new(settings.queue_operations, settings.queue_bytes));
        let shared = Arc::new(Shared::new(store, hub, settings));
        let lane = |id| (id, tokio::spawn(Lane::new(id, shared.clone(), queue.clone()).run()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let tasks = LaneId::ALL.into_iter().filter(|id| id.runs_on(cores)).map(lane).collect::<Vec<_>>();
        Self { shared, lanes: Arc::new(Lanes { queue, tasks: tasks.into() }) }
    }

    /// Executes an operation of the server itself: of a background loop, or one that follows from another. Rpcs use [`Self::execute_for`], because the
    /// audit log needs the requester.
    pub async fn execute(&self, operation: impl Operation, deadline: Option<Instant>) -> Result<Reply> {
        self.execute_for(Actor::Server, operation, deadline).await
    }

    /// Decides and commits an operation. `deadline` is the caller's.
    ///
    /// # Errors
    /// [`Error::Refused`] is the decision on current state, and changed nothing. [`Error::OutcomeUnknown`] and [`Error::DeadlineExceeded`] with
    /// [`WriteOutcome::Unknown`]: the operation may have been applied. After all others it was not.
    pub async fn execute_for(
        &self,
        actor: Actor,
        operation: impl Operation,
        deadline: Option<Instant>,
    ) -> Result<Reply> {
        let (pending, answer) = Pending::new(Box::new(operation), actor);
        let ticket = pending.ticket();
        self.lanes.queue.push(pending).inspect_err(|_| {
            self.shared.figures.rejected.inc();
        })?;
        self.answered(&ticket, answer, deadline).await
    }

    /// Executes operations of the server itself that are wanted together: they enter the queue as one, so that usually one group has them all. Each has a
    /// result of its own, in their order.
    pub async fn execute_all(&self, operations: impl IntoIterator<Item = impl Operation>) -> Vec<Result<Reply>> {
        let (pending, answers): (Vec<_>, Vec<_>) =
            operations.into_iter().map(|operation| Pending::new(Box::new(operation), Actor::Server)).unzip();
        let tickets: Vec<Ticket> = pending.iter().map(Pending::ticket).collect();
        let refusals = self.lanes.queue.push_all(pending);
        self.shared.figures.rejected.inc_by(refusals.iter().flatten().count() as u64);
        let mut replies = Vec::with_capacity(tickets.len());
        for ((ticket, answer), refusal) in tickets.iter().zip(answers).zip(refusals) {
            replies.push(match refusal {
                Some(error) => Err(error),
                None => self.answered(ticket, answer, None).await,
            });
        }
        replies
    }

    /// The answer to an operation in the queue.
    async fn answered(
        &self,
        ticket: &Ticket,
        mut answer: oneshot::Receiver<Result<Reply>>,
        deadline: Option<Instant>,
    ) -> Result<Reply> {
        let queue_end = Instant::now() + self.shared.settings.queue_timeout;
        let limit = deadline.map_or(queue_end, |deadline| deadline.min(queue_end));
        if let Ok(answer) = tokio::time::timeout_at(limit, &mut answer).await {
            return answer.unwrap_or(Err(Error::OutcomeUnknown));
        }
        let is_past_deadline = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if ticket.abandon() {
            self.shared.figures.rejected.inc();
            return Err(if is_past_deadline {
                Error::DeadlineExceeded(WriteOutcome::NotApplied)
            } else {
                let why = "the write waited in the queue for longer than the server allows";
                Error::Overloaded { why, retry_after: Duration::from_secs(1) }
            });
        }
        // A lane has it and will finish it, perhaps too late for this caller.
        let last = deadline.unwrap_or(queue_end + self.shared.settings.queue_timeout);
        match tokio::time::timeout_at(last, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Error::OutcomeUnknown)),
            Err(_) => Err(Error::DeadlineExceeded(WriteOutcome::Unknown)),
        }
    }

    /// Whether the database accepts writes: one was committed a moment ago, or a probe is now.
    pub async fn can_write(&self) -> bool {
        self.shared.last_write.is_recent() || self.execute(Probe, Some(Instant::now() + PROBE_TIMEOUT)).await.is_ok()
    }

    /// Whether a write was committed after a moment, and none failed since.
    pub fn wrote_since(&self, moment: Instant) -> bool {
        self.shared.last_write.is_after(moment)
    }

    /// State that the lanes share, for reads and figures.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A lower bound of the database's time.
    pub fn now(&self) -> crate::domain::time::Timestamp {
        self.shared.clock.now()
    }

    /// Operations that wait before each kind of lane, in the order of [`LaneKind::ALL`].
    pub fn queue_depths(&self) -> [usize; LaneKind::ALL.len()] {
        LaneKind::ALL.map(|kind| self.lanes.queue.len(kind))
    }

    /// When new work of a namespace is worth another attempt. None: it would be admitted now. Operations that keep accepted work alive may be
    /// admitted anyway.
    pub fn overload(&self, namespace: Option<NamespaceId>) -> Option<Duration> {
        let retry_after = self.lanes.queue.overload(namespace)?;
        self.shared.figures.rejected.inc();
        Some(retry_after)
    }

    /// Refuses new operations, finishes those that wait, and ends the lanes.
    pub async fn drain(&self) {
        let tasks = std::mem::take(&mut *self.lanes.tasks.lock());
        // Other lanes requeue operations before the locking lane, so it ends last.
        let (locking, others): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|(id, _)| id.kind == LaneKind::Locking);
        for lanes in [others, locking] {
            lanes.iter().for_each(|(id, _)| self.lanes.queue.close(id.kind));
            for (_, task) in lanes {
                let _ended = task.await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
