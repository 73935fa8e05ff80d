//! Hints that servers send each other after commits: which jobs have a newer revision, and which queues have work. A server that receives
//! a hint reads the state from the database.

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::ready::QueueKey;

/// Maximum number of jobs in the hints between two messages. With more, the other servers have to read all jobs that they follow.
const MAX_HINTED_JOBS: usize = 2_000;
/// Maximum number of queues in the hints between two messages. With more, the dispatchers of the other servers find the work later.
const MAX_HINTED_QUEUES: usize = 500;
/// Maximum size of a payload in bytes. Postgres accepts less than 8,000.
const MAX_PAYLOAD: usize = 7_900;
/// Upper bound of the bytes that one job or queue takes in a payload.
const MAX_ITEM: usize = 200;

/// How long another server counts as present after its last message.
const PRESENT_FOR: Duration = Duration::from_secs(7);

/// Hints that wait to be taken.
#[derive(Default)]
struct PendingHints {
    hints: Mutex<Hints>,
    filled: Notify,
}

/// Hints that are to be sent to the other servers.
#[derive(Default)]
pub struct OutgoingHints {
    pending: PendingHints,
    /// Whether other servers are present. If not, nothing is added.
    has_listeners: AtomicBool,
}

/// Hints that were received from other servers.
#[derive(Default)]
pub struct IncomingHints {
    pending: PendingHints,
    /// The other servers, each with the time of its last message.
    others: Mutex<HashMap<Uuid, Instant>>,
}

/// The hints of one message or more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Changed jobs with their newest revision. `i64::MAX`: the job was deleted.
    pub jobs: HashMap<JobKey, i64>,
    /// Queues with stages that can be leased.
    pub queues: HashSet<QueueKey>,
    /// Permits were granted to waiters of other servers. Which ones is not known: each server checks all its waiters.
    pub has_grants: bool,
    /// There were more jobs than fit.
    pub overflowed: bool,
}

/// One message as it is sent, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct HintMessage {
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "j")]
    jobs: Vec<(i32, Uuid, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "q")]
    queues: Vec<(i32, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "p")]
    has_grants: bool,
    #[serde(default, rename = "all")]
    overflowed: bool,
}

impl Hints {
    fn add_job(&mut self, job: JobKey, revision: i64) {
        if self.jobs.len() < MAX_HINTED_JOBS || self.jobs.contains_key(&job) {
            let newest = self.jobs.entry(job).or_default();
            *newest = revision.max(*newest);
        } else {
            self.overflowed = true;
        }
    }

    fn add_queue(&mut self, queue: QueueKey) {
        if self.queues.len() < MAX_HINTED_QUEUES {
            self.queues.insert(queue);
        }
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.queues.is_empty() && !self.overflowed && !self.has_grants
    }

    /// The payloads to send. Each begins with the id of the sender and is less than [`MAX_PAYLOAD`] bytes long.
    pub fn payloads(&self, server: Uuid) -> Vec<String> {
        let mut payloads = Vec::new();
        let mut message =
            HintMessage { overflowed: self.overflowed, has_grants: self.has_grants, ..HintMessage::default() };
        let mut items = 0;
        for (key, revision) in &self.jobs {
            message.jobs.push((key.namespace.0, key.uid, *revision));
            items += 1;
            if items * 70 > MAX_PAYLOAD - 2 * MAX_ITEM {
                payloads.push(payload(server, &std::mem::take(&mut message)));
                items = 0;
            }
        }
        let mut bytes = items * 70;
        for (namespace, queue) in &self.queues {
            message.queues.push((namespace.0, queue.to_string()));
            bytes += MAX_ITEM;
            if bytes > MAX_PAYLOAD - 2 * MAX_ITEM {
                payloads.push(payload(server, &std::mem::take(&mut message)));
                bytes = 0;
            }
        }
        if !message.jobs.is_empty() || !message.queues.is_empty() || message.overflowed || message.has_grants {
            payloads.push(payload(server, &message));
        }
        payloads
    }
}

fn payload(server: Uuid, message: &HintMessage) -> String {
    let text = serde_json::to_string(message).unwrap_or_default();
    format!("{} {text}", server.as_simple())
}

/// A payload without hints: the server is present.
pub fn hello(server: Uuid) -> String {
    payload(server, &HintMessage::default())
}

impl PendingHints {
    fn add(&self, add: impl FnOnce(&mut Hints)) {
        let mut hints = self.hints.lock();
        let was_empty = hints.is_empty();
        add(&mut hints);
        // The taker was woken when the first hint was added.
        let wakes = was_empty && !hints.is_empty();
        drop(hints);
        if wakes {
            self.filled.notify_one();
        }
    }

    /// Waits until there are hints, and takes them.
    async fn take(&self) -> Hints {
        loop {
            let hints = std::mem::take(&mut *self.hints.lock());
            if !hints.is_empty() {
                return hints;
            }
            self.filled.notified().await;
        }
    }
}

impl OutgoingHints {
    /// Sets whether other servers are present.
    pub fn set_listeners(&self, are_present: bool) {
        self.has_listeners.store(are_present, Ordering::Relaxed);
    }

    /// Adds a committed job, with the queues in which it made stages ready.
    pub fn add_job(&self, job: JobKey, revision: i64, ready: impl Iterator<Item = QueueKey>) {
        if !self.has_listeners.load(Ordering::Relaxed) {
            return;
        }
        self.pending.add(|hints| {
            hints.add_job(job, revision);
            ready.for_each(|queue| hints.add_queue(queue));
        });
    }

    /// Adds queues with stages that can be leased.
    pub fn add_queues(&self, queues: impl Iterator<Item = QueueKey>) {
        if self.has_listeners.load(Ordering::Relaxed) {
            self.pending.add(|hints| queues.for_each(|queue| hints.add_queue(queue)));
        }
    }

    /// Adds that a waiter of another server was granted a permit.
    pub fn add_grant(&self) {
        self.pending.add(|hints| hints.has_grants = true);
    }

    /// Waits until there are hints to send, and takes them.
    pub async fn take(&self) -> Hints {
        self.pending.take().await
    }
}

impl IncomingHints {
    /// Adds the hints of a payload. Payloads of this server, and those that cannot be read, are ignored. Returns whether this is the first
    /// payload of another server.
    pub fn add(&self, server: Uuid, payload: &str) -> bool {
        let Some((from, text)) = payload.split_once(' ') else { return false };
        let Some(from) = Uuid::try_parse(from).ok().filter(|from| *from != server) else { return false };
        let Ok(message) = serde_json::from_str::<HintMessage>(text) else { return false };
        let is_new = self.others.lock().insert(from, Instant::now()).is_none();
        self.pending.add(|hints| {
            for (namespace, uid, revision) in message.jobs {
                hints.add_job(JobKey { namespace: NamespaceId(namespace), uid }, revision);
            }
            for (namespace, queue) in message.queues {
                hints.add_queue((NamespaceId(namespace), queue.as_str().into()));
            }
            hints.overflowed |= message.overflowed;
            hints.has_grants |= message.has_grants;
        });
        is_new
    }

    /// Whether other servers are present.
    pub fn has_others(&self) -> bool {
        let mut others = self.others.lock();
        others.retain(|_, received| received.elapsed() < PRESENT_FOR);
        !others.is_empty()
    }

    /// Notes that hints may have been lost, so all followed jobs have to be read.
    pub fn add_loss(&self) {
        self.pending.add(|hints| hints.overflowed = true);
    }

    /// Waits until hints were received, and takes them.
    pub async fn take(&self) -> Hints {
        self.pending.take().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hints_arrive_complete_in_payloads_that_postgres_accepts() {
        let (outgoing, incoming) = (OutgoingHints::default(), IncomingHints::default());
        let (server, other) = (Uuid::new_v4(), Uuid::new_v4());
        outgoing.set_listeners(true);
        let queue = |i: i32| (NamespaceId(1), format!("{}{i}", "q".repeat(120)).as_str().into());
        for i in 0..1_000 {
            let key = JobKey { namespace: NamespaceId(i), uid: Uuid::new_v4() };
            outgoing.add_job(key, i64::from(i) + 1, std::iter::once(queue(i % 100)));
            outgoing.add_job(key, i64::MAX - 1, std::iter::empty());
        }
        let sent = outgoing.take().await;
        assert_eq!((sent.jobs.len(), sent.queues.len(), sent.overflowed), (1_000, 100, false));
        for payload in sent.payloads(server) {
            assert!(payload.len() < 8_000, "{}", payload.len());
            incoming.add(server, &payload);
            assert!(incoming.pending.hints.lock().jobs.is_empty(), "a server ignores its own hints");
        }
        assert!(!incoming.has_others());
        let new: Vec<bool> = sent.payloads(server).iter().map(|payload| incoming.add(other, payload)).collect();
        assert!(new[0] && !new[1] && incoming.has_others());
        assert_eq!(incoming.take().await, sent);
        for nonsense in ["", "x", "x {}", "x {\"j\":1}", "\u{e4}\u{e4} ["] {
            incoming.add(other, nonsense);
        }
        assert!(incoming.pending.hints.lock().is_empty());
    }

    #[tokio::test]
    async fn hints_of_too_many_jobs_say_that_there_are_more() {
        let outgoing = OutgoingHints::default();
        let key = JobKey { namespace: NamespaceId(1), uid: Uuid::new_v4() };
        outgoing.add_job(key, 1, std::iter::empty());
        assert!(outgoing.pending.hints.lock().is_empty(), "without other servers nothing is added");
        outgoing.set_listeners(true);
        for _ in 0..=MAX_HINTED_JOBS {
            outgoing.add_job(JobKey { namespace: NamespaceId(1), uid: Uuid::new_v4() }, 1, std::iter::empty());
        }
        let sent = outgoing.take().await;
        assert!(sent.overflowed && sent.jobs.len() == MAX_HINTED_JOBS);
        assert!(sent.payloads(Uuid::new_v4()).iter().any(|payload| payload.contains("\"all\":true")));
    }
}
