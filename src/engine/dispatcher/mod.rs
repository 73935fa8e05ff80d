//! Hands ready stages to workers that wait in memory.
//!
//! Layout: `waiting` is the line of polls; `heads` is what is known of the first stages of each queue, each in a `window`; `claim` brings the two
//! together and reads what is not known; `leasing` leases what was picked through the engine, one operation per job; `share` divides stages
//! among servers that lose races to each other.
//!
//! A waiting worker costs no query. The claimer looks when a worker arrives, when a commit here made stages ready, when another server hints that its did,
//! and now and then. A lease whose worker has gone meanwhile is released and its attempt not counted.

mod claim;
mod head;
pub mod heads;
mod leasing;
mod share;
mod waiting;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::Engine;
use crate::domain::id::{LeaseToken, Name, NamespaceId, StageNo};
use crate::domain::job::{Job, StageCredential};
use crate::domain::request::RequestIdentity;
use crate::error::{Error, Result};
use crate::feed::QueueKey;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::target::StageTarget;
use crate::spans;
use waiting::{Waiter, Waiting};

/// Polls that may wait at once.
const MAX_WAITING: usize = 20_000;
/// How long a poll that does not wait may take to be served.
const SERVING: Duration = Duration::from_secs(30);
/// How long a poll that is being served at the end of its wait may still take; then its leases are released. The response comes within a
/// second after the wait, and what a lease refers to has to be read in that time too.
const LAST_SERVING: Duration = Duration::from_millis(500);
/// How many queues are remembered as polled; beyond it the long unpolled are forgotten.
const MAX_POLLED: usize = 10_000;
/// After this a queue counts as never polled.
const POLLED_FOR: Duration = Duration::from_secs(600);

/// A worker's wish.
#[derive(Clone, Debug)]
pub struct Poll {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Who it is, by its own word.
    pub worker_id: Name,
    /// Queues it serves, at least one.
    pub queues: Vec<Name>,
    /// Stages it takes at most, at least one.
    pub max_stages: usize,
    /// How long it waits for the first.
    pub wait: Duration,
    /// The lease it wants where the stage has no wish of its own.
    pub lease_duration: Option<Duration>,
    /// Whether it wants only stages of one group beside the first.
    pub same_group: bool,
    /// Its call's deadline.
    pub deadline: Option<Instant>,
    /// Its `request_id`. None: what it is granted is not remembered.
    pub request: Option<PollRequest>,
}

/// The `request_id` of a poll.
#[derive(Clone, Copy, Debug)]
pub struct PollRequest {
    /// What was asked under it.
    pub identity: RequestIdentity,
    /// How often calls of it were granted leases of which none is held any more.
    pub round: u32,
}

/// How a poll ended.
pub enum PollEnd {
    /// With leases; none when the wait is over.
    Leased(Leases),
    /// Another call of its `request_id` was granted leases, which are remembered. It has the leases here beside.
    GrantedBefore(Leases),
    /// Another call of its `request_id` came and waits in its place.
    Superseded,
}

/// A stage that was leased to the worker.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The job just after.
    pub job: Arc<Job>,
    /// The stage.
    pub stage_no: StageNo,
}

/// Leases on their way to a worker. Dropped before [`Leases::hand_over`], they are released.
pub struct Leases {
    items: Vec<Leased>,
    engine: Engine,
    /// Whether they are remembered under a `request_id`, with which another call may have delivered them meanwhile.
    repeatable: bool,
}

/// Hands out ready stages.
pub struct Dispatcher {
    engine: Engine,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    polled: Mutex<HashMap<QueueKey, Instant>>,
    is_closed: AtomicBool,
}

impl Dispatcher {
    /// A dispatcher over an engine; [`Dispatcher::run`] makes it work.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            polled: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Waits for stages and leases them; none when the wait is over.
    pub async fn lease(&self, poll: Poll) -> Result<PollEnd> {
        self.note_poll(&poll);
        let nothing = || PollEnd::Leased(Leases::on_the_way(&self.engine, Vec::new()));
        let until = Instant::now() + poll.wait;
        // The answer has to travel, so it leaves a little before the caller stops listening.
        let until = poll.deadline.map_or(until, |deadline| until.min(deadline - Duration::from_millis(20)));
        let (answer, mut leased) = oneshot::channel();
        let queues = queues(&poll);
        let id = {
            let mut waiting = self.waiting();
            if self.is_closed.load(Ordering::Acquire) {
                return Err(Error::Draining);
            }
            if waiting.len() >= MAX_WAITING {
                let retry_after = Duration::from_secs(5);
                return Err(Error::Overloaded { why: "too many polls are waiting", retry_after });
            }
            // The call before it has gone, or is superfluous.
            if let Some(before) = poll.request.and_then(|request| waiting.take_request(request.identity.key)) {
                let _gone = before.answer.send(Ok(PollEnd::Superseded));
            }
            let (once, since) = (poll.wait.is_zero(), Instant::now());
            waiting.add(Waiter { once, poll, since, answer, span: spans::current_call() })
        };
        self.engine.shared().heads.lock().mark_dirty(queues);
        let guard = Leaving { dispatcher: self, id };
        self.arrived.notify_one();
        // A poll that does not wait is answered by the first look that includes it.
        let patience = if until <= Instant::now() { Instant::now() + SERVING } else { until };
        if let Ok(answer) = tokio::time::timeout_at(patience, &mut leased).await {
            return answer.unwrap_or(Err(Error::Draining));
        }
        if self.waiting().remove(guard.id).is_some() {
            return Ok(nothing());
        }
        // It is being served just now.
        match tokio::time::timeout(LAST_SERVING, leased).await {
            Ok(answer) => answer.unwrap_or_else(|_| Ok(nothing())),
            Err(_) => Ok(nothing()),
        }
    }

    /// How long ago somebody asked for work of a queue here.
    pub fn last_poll(&self, namespace: NamespaceId, queue: &str) -> Option<Duration> {
        let polled = self.polled.lock();
        if self.waiting().wants(namespace, queue) {
            return Some(Duration::ZERO);
        }
        polled.get(&(namespace, queue.into())).map(Instant::elapsed)
    }

    /// Polls that wait now.
    pub fn waiting_polls(&self) -> usize {
        self.waiting().len()
    }

    fn note_poll(&self, poll: &Poll) {
        let mut polled = self.polled.lock();
        if polled.len() >= MAX_POLLED {
            polled.retain(|_, at| at.elapsed() < POLLED_FOR);
        }
        if polled.len() < MAX_POLLED {
            let now = Instant::now();
            polled.extend(queues(poll).into_iter().map(|queue| (queue, now)));
        }
    }

    fn waiting(&self) -> parking_lot::MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }
}

/// The queues of a poll.
fn queues(poll: &Poll) -> Vec<QueueKey> {
    poll.queues.iter().map(|queue| (poll.namespace, queue.clone())).collect()
}

/// Takes a poll out of the line when its call ends, however it ends.
struct Leaving<'a> {
    dispatcher: &'a Dispatcher,
    id: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.dispatcher.waiting().remove(self.id);
    }
}

impl Leases {
    /// The leased stages.
    pub fn items(&self) -> &[Leased] {
        &self.items
    }

    /// Leases of an engine on their way.
    pub fn on_the_way(engine: &Engine, items: Vec<Leased>) -> Self {
        Self { items, engine: engine.clone(), repeatable: false }
    }

    /// The same, of a call with a `request_id`: they are released only if no other call of it has delivered them since.
    pub fn repeatable(engine: &Engine, items: Vec<Leased>) -> Self {
        Self { items, engine: engine.clone(), repeatable: true }
    }

    /// The worker has the first so many, as far as can be known; the others are released.
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
                    // Its lease will expire by itself.
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
