//! Leases ready stages to workers whose polls wait in memory.
//!
//! Layout: `waiting` holds the waiting polls; `heads` holds the first stages of each queue, in the `window`s of a `head`; `claim` assigns stages
//! to polls and reads what the heads lack; `leasing` leases picked stages through the engine, with one operation per job; `share` divides stages
//! among servers that lose races to each other.
//!
//! A waiting poll costs no query. The claimer looks when a poll arrives, when a commit of this server made stages ready, when another server
//! hints at ready stages, and every 500 ms. A lease whose worker has gone before it got it is released, and its attempt is not counted.

mod claim;
mod head;
pub mod heads;
mod leasing;
mod share;
mod waiting;
mod window;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::Engine;
use crate::domain::id::{LeaseToken, Name, NamespaceId, StageNo};
use crate::domain::job::{Job, StageCredential};
use crate::domain::ready::QueueKey;
use crate::domain::request::RequestIdentity;
use crate::error::{Error, Result};
use crate::operation::end_stage::{End, EndStage};
use crate::operation::target::StageTarget;
use crate::spans;
use waiting::{Waiting, WaitingPoll};

/// Polls that may wait at once. Beyond it a poll is refused as overload.
const MAX_WAITING: usize = 20_000;
/// Time in which a poll with a wait of 0 has to be served.
const SERVING: Duration = Duration::from_secs(30);
/// Further time for a poll that is being served when its wait ends; after it the leases are released. The response has to be sent within a second
/// after the wait, and the documents of the leases are read in that second too.
const LAST_SERVING: Duration = Duration::from_millis(500);
/// Queues for which the last poll is remembered, at most. Beyond it, the queue that was not polled for the longest time is removed, and counts as never polled.
const MAX_POLLED: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is more than none");

/// A request of a worker for leases.
#[derive(Clone, Debug)]
pub struct Poll {
    /// Namespace of the queues.
    pub namespace: NamespaceId,
    /// Worker that asks, as it names itself.
    pub worker_id: Name,
    /// Queues to take stages from, at least 1.
    pub queues: Vec<Name>,
    /// Stages to lease, at most; at least 1.
    pub max_stages: usize,
    /// Time to wait for the first stage. 0: the poll ends after one look.
    pub wait: Duration,
    /// Duration of the leases. The stage's own duration takes precedence. None: the default duration.
    pub lease_duration: Option<Duration>,
    /// Whether further stages must belong to the group of the first one.
    pub same_group: bool,
    /// Deadline of the call. None: it has none.
    pub deadline: Option<Instant>,
    /// The `request_id` of the call. None: its leases are not remembered.
    pub request: Option<PollRequest>,
}

/// The `request_id` of a poll.
#[derive(Clone, Copy, Debug)]
pub struct PollRequest {
    /// Key and digest of the request.
    pub identity: RequestIdentity,
    /// Number of the round, from 0: how many times calls with the `request_id` were granted leases of which none is held any more.
    pub round: u32,
}

/// Result of a poll.
pub enum PollEnd {
    /// Leases. Empty: the wait ended without a stage.
    Leased(Leases),
    /// Another call with the same `request_id` was granted leases, which are remembered. Contains the leases granted to this call besides.
    GrantedBefore(Leases),
    /// Another call with the same `request_id` arrived and waits instead of this one.
    Superseded,
}

/// A stage that was leased to a worker.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Job after the commit of the lease.
    pub job: Arc<Job>,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
}

/// Leases on their way to a worker. Those dropped before [`Leases::hand_over`] are released.
pub struct Leases {
    items: Vec<Leased>,
    engine: Engine,
    /// Whether the leases are remembered under a `request_id`. Another call with it may have delivered them meanwhile.
    repeatable: bool,
}

/// Leases ready stages to waiting polls.
pub struct Dispatcher {
    engine: Engine,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    polled: Mutex<LruCache<QueueKey, Instant>>,
    is_closed: AtomicBool,
}

impl Dispatcher {
    /// A dispatcher over an engine. It serves polls while [`Dispatcher::run`] runs.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            polled: Mutex::new(LruCache::new(MAX_POLLED)),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Waits for stages and leases them. Ends without leases if none became ready within the wait.
    pub async fn lease(&self, poll: Poll) -> Result<PollEnd> {
        self.note_poll(&poll);
        let nothing = || PollEnd::Leased(Leases::on_the_way(&self.engine, Vec::new()));
        let until = Instant::now() + poll.wait;
        // The response leaves 20 ms before the deadline of the call, so that it arrives in time.
        let until = poll.deadline.map_or(until, |deadline| until.min(deadline - Duration::from_millis(20)));
        let (answer, mut leased) = oneshot::channel();
        let queues = queues(&poll);
        let id = {
            let mut waiting = self.waiting.lock();
            if self.is_closed.load(Ordering::Acquire) {
                return Err(Error::Draining);
            }
            if waiting.len() >= MAX_WAITING {
                let retry_after = Duration::from_secs(5);
                return Err(Error::Overloaded { why: "too many polls are waiting", retry_after });
            }
            // An earlier call with the same request_id has been given up by its caller or is redundant.
            if let Some(earlier) = poll.request.and_then(|request| waiting.take_request(request.identity.key)) {
                let _gone = earlier.answer.send(Ok(PollEnd::Superseded));
            }
            let (once, since) = (poll.wait.is_zero(), Instant::now());
            // Under the same lock as the poll is added: a look that covers the poll must also cover its queues.
            self.engine.shared().heads.lock().mark_dirty(queues);
            waiting.add(WaitingPoll { once, poll, since, entry: 0, answer, span: spans::current_call() })
        };
        let guard = Leaving { dispatcher: self, id };
        self.arrived.notify_one();
        // A poll with a wait of 0 is answered by the first look that includes it.
        let answer_by = if until <= Instant::now() { Instant::now() + SERVING } else { until };
        if let Ok(answer) = tokio::time::timeout_at(answer_by, &mut leased).await {
            return answer.unwrap_or(Err(Error::Draining));
        }
        if self.waiting.lock().remove(guard.id).is_some() {
            return Ok(nothing());
        }
        // The poll is being served.
        match tokio::time::timeout(LAST_SERVING, leased).await {
            Ok(answer) => answer.unwrap_or_else(|_| Ok(nothing())),
            Err(_) => Ok(nothing()),
        }
    }

    /// Time since the last poll of a queue on this server; 0 while one waits. None: no poll is remembered.
    pub fn last_poll(&self, namespace: NamespaceId, queue: &str) -> Option<Duration> {
        let polled = self.polled.lock();
        if self.waiting.lock().wants(namespace, queue) {
            return Some(Duration::ZERO);
        }
        polled.peek(&(namespace, queue.into())).map(Instant::elapsed)
    }

    /// Number of waiting polls.
    pub fn waiting_polls(&self) -> usize {
        self.waiting.lock().len()
    }

    fn note_poll(&self, poll: &Poll) {
        let mut polled = self.polled.lock();
        let now = Instant::now();
        for queue in queues(poll) {
            polled.put(queue, now);
        }
    }
}

/// Keys of the queues of a poll.
fn queues(poll: &Poll) -> Vec<QueueKey> {
    poll.queues.iter().map(|queue| (poll.namespace, queue.clone())).collect()
}

/// Removes a poll from the waiting ones when this is dropped, because its call ended or was cancelled.
struct Leaving<'a> {
    dispatcher: &'a Dispatcher,
    id: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.dispatcher.waiting.lock().remove(self.id);
    }
}

impl Leases {
    pub fn items(&self) -> &[Leased] {
        &self.items
    }

    /// Leases of a call without a `request_id`.
    pub fn on_the_way(engine: &Engine, items: Vec<Leased>) -> Self {
        Self { items, engine: engine.clone(), repeatable: false }
    }

    /// Leases of a call with a `request_id`. A lease is released only if its stage is unchanged, so not if another call has delivered it since.
    pub fn repeatable(engine: &Engine, items: Vec<Leased>) -> Self {
        Self { items, engine: engine.clone(), repeatable: true }
    }

    /// Takes the first `first` leases as delivered to the worker. The others are released.
    pub fn hand_over(mut self, first: usize) -> Vec<Leased> {
        self.items.drain(..first.min(self.items.len())).collect()
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        for leased in self.items.drain(..) {
            let stage = &leased.job.stages[leased.stage_no];
            let Some(token) = stage.token(leased.job.key.uid) else { continue };
            let expected_version = self.repeatable.then_some(stage.version);
            let engine = self.engine.clone();
            tokio::spawn(async move {
                if let Err(error) = release(&engine, &leased.job, token, expected_version).await {
                    // The lease expires by itself.
                    tracing::debug!(%error, "a lease whose worker had gone was not released");
                }
            });
        }
    }
}

async fn release(engine: &Engine, job: &Job, token: LeaseToken, expected_version: Option<i64>) -> Result<()> {
    let target =
        StageTarget { key: job.key, job_id: job.meta.job_id.clone(), credential: StageCredential::Token(token) };
    let digest = Uuid::nil();
    let give_back = EndStage { target, end: End::Release, digest, expected_version, request: None };
    engine.execute(give_back, None).await.map(drop)
}
