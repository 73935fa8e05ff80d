//! What servers tell each other after commits: which jobs have a newer revision, and which queues have work. Only hints: who
//! gets one looks for himself.

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::QueueKey;
use crate::domain::id::{JobKey, NamespaceId};

/// Jobs that are told of between two messages; with more, the others are told to look at all that they follow.
const MAX_JOBS: usize = 2_000;
/// Queues that are told of.
const MAX_QUEUES: usize = 500;
/// Postgres takes payloads of less than 8,000 bytes.
const MAX_PAYLOAD: usize = 7_900;
/// The most that one job or queue takes in a payload.
const MAX_ITEM: usize = 200;

/// How long a server counts as there after it was heard.
const THERE_FOR: Duration = Duration::from_secs(7);

/// News that wait to be taken by one.
#[derive(Default)]
struct Mailbox {
    news: Mutex<News>,
    stir: Notify,
}

/// What is to be told to others.
#[derive(Default)]
pub struct Outgoing {
    mailbox: Mailbox,
    /// Nothing is noted while there are no others.
    has_listeners: AtomicBool,
}

/// What others told.
#[derive(Default)]
pub struct Incoming {
    mailbox: Mailbox,
    /// The other servers, and when each was heard last.
    others: Mutex<HashMap<Uuid, Instant>>,
}

/// Jobs with their newest revision (the largest number for one that is gone), and queues with work.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Jobs that changed.
    pub jobs: HashMap<JobKey, i64>,
    /// Queues that have work.
    pub queues: HashSet<QueueKey>,
    /// Somebody who waits at another server was granted a permit; whoever has such waiters looks after them all.
    pub has_grants: bool,
    /// There was more than could be noted.
    pub overflowed: bool,
}

/// One message, in the form it travels in.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Message {
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "j")]
    jobs: Vec<(i32, Uuid, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "q")]
    queues: Vec<(i32, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "p")]
    has_grants: bool,
    #[serde(default, rename = "all")]
    overflowed: bool,
}

impl News {
    fn note(&mut self, job: JobKey, revision: i64) {
        if self.jobs.len() < MAX_JOBS || self.jobs.contains_key(&job) {
            let newest = self.jobs.entry(job).or_default();
            *newest = revision.max(*newest);
        } else {
            self.overflowed = true;
        }
    }

    fn note_queue(&mut self, queue: QueueKey) {
        // Work that is not told of is found by the dispatchers' own looks.
        if self.queues.len() < MAX_QUEUES {
            self.queues.insert(queue);
        }
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.queues.is_empty() && !self.overflowed && !self.has_grants
    }

    /// As payloads that say whose they are; each is small enough to be sent.
    pub fn payloads(&self, server: Uuid) -> Vec<String> {
        let mut payloads = Vec::new();
        let mut message = Message { overflowed: self.overflowed, has_grants: self.has_grants, ..Message::default() };
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

fn payload(server: Uuid, message: &Message) -> String {
    let text = serde_json::to_string(message).unwrap_or_default();
    format!("{} {text}", server.as_simple())
}

/// Says that a server is there, and no more.
pub fn hello(server: Uuid) -> String {
    payload(server, &Message::default())
}

impl Mailbox {
    fn put(&self, note: impl FnOnce(&mut News)) {
        let mut news = self.news.lock();
        let was_empty = news.is_empty();
        note(&mut news);
        // Whoever waits was woken by what was there before.
        let wakes = was_empty && !news.is_empty();
        drop(news);
        if wakes {
            self.stir.notify_one();
        }
    }

    /// Waits until there is something, and takes it.
    async fn take(&self) -> News {
        loop {
            let news = std::mem::take(&mut *self.news.lock());
            if !news.is_empty() {
                return news;
            }
            self.stir.notified().await;
        }
    }
}

impl Outgoing {
    /// Whether anybody listens, so that it is worth noting something.
    pub fn listen(&self, anybody: bool) {
        self.has_listeners.store(anybody, Ordering::Relaxed);
    }

    /// Notes a commit.
    pub fn note(&self, job: JobKey, revision: i64, ready: impl Iterator<Item = QueueKey>) {
        if !self.has_listeners.load(Ordering::Relaxed) {
            return;
        }
        self.mailbox.put(|news| {
            news.note(job, revision);
            ready.for_each(|queue| news.note_queue(queue));
        });
    }

    /// Notes queues that have work.
    pub fn note_queues(&self, queues: impl Iterator<Item = QueueKey>) {
        if self.has_listeners.load(Ordering::Relaxed) {
            self.mailbox.put(|news| queues.for_each(|queue| news.note_queue(queue)));
        }
    }

    /// Notes that a waiter of another server was granted a permit.
    pub fn note_grant(&self) {
        self.mailbox.put(|news| news.has_grants = true);
    }

    /// Waits until there is something to tell, and takes it.
    pub async fn take(&self) -> News {
        self.mailbox.take().await
    }
}

impl Incoming {
    /// Notes what another server told; what it told to itself, or what nobody understands, is nothing. True if that server has
    /// not been heard before.
    pub fn note(&self, server: Uuid, payload: &str) -> bool {
        let Some((from, text)) = payload.split_once(' ') else { return false };
        let Some(from) = Uuid::try_parse(from).ok().filter(|from| *from != server) else { return false };
        let Ok(message) = serde_json::from_str::<Message>(text) else { return false };
        let is_new = self.others.lock().insert(from, Instant::now()).is_none();
        self.mailbox.put(|news| {
            for (namespace, uid, revision) in message.jobs {
                news.note(JobKey { namespace: NamespaceId(namespace), uid }, revision);
            }
            for (namespace, queue) in message.queues {
                news.note_queue((NamespaceId(namespace), queue.as_str().into()));
            }
            news.overflowed |= message.overflowed;
            news.has_grants |= message.has_grants;
        });
        is_new
    }

    /// Whether other servers are there.
    pub fn has_others(&self) -> bool {
        let mut others = self.others.lock();
        others.retain(|_, heard| heard.elapsed() < THERE_FOR);
        !others.is_empty()
    }

    /// Something may have been missed: everything has to be looked at.
    pub fn note_loss(&self) {
        self.mailbox.put(|news| news.overflowed = true);
    }

    /// Waits until something was told, and takes it.
    pub async fn take(&self) -> News {
        self.mailbox.take().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_arrives_whole_in_payloads_that_can_be_sent() {
        let (outgoing, incoming) = (Outgoing::default(), Incoming::default());
        let (server, other) = (Uuid::new_v4(), Uuid::new_v4());
        outgoing.listen(true);
        let queue = |i: i32| (NamespaceId(1), format!("{}{i}", "q".repeat(120)).as_str().into());
        for i in 0..1_000 {
            let key = JobKey { namespace: NamespaceId(i), uid: Uuid::new_v4() };
            outgoing.note(key, i64::from(i) + 1, std::iter::once(queue(i % 100)));
            outgoing.note(key, i64::MAX - 1, std::iter::empty());
        }
        let told = outgoing.take().await;
        assert_eq!((told.jobs.len(), told.queues.len(), told.overflowed), (1_000, 100, false));
        for payload in told.payloads(server) {
            assert!(payload.len() < 8_000, "{}", payload.len());
            incoming.note(server, &payload);
            assert!(incoming.mailbox.news.lock().jobs.is_empty(), "what a server told itself");
        }
        assert!(!incoming.has_others());
        let new: Vec<bool> = told.payloads(server).iter().map(|payload| incoming.note(other, payload)).collect();
        assert!(new[0] && !new[1] && incoming.has_others());
        assert_eq!(incoming.take().await, told);
        for nonsense in ["", "x", "x {}", "x {\"j\":1}", "\u{e4}\u{e4} ["] {
            incoming.note(other, nonsense);
        }
        assert!(incoming.mailbox.news.lock().is_empty());
    }

    #[tokio::test]
    async fn more_than_can_be_noted_is_told_as_such() {
        let outgoing = Outgoing::default();
        let key = JobKey { namespace: NamespaceId(1), uid: Uuid::new_v4() };
        outgoing.note(key, 1, std::iter::empty());
        assert!(outgoing.mailbox.news.lock().is_empty(), "nothing is noted for nobody");
        outgoing.listen(true);
        for _ in 0..=MAX_JOBS {
            outgoing.note(JobKey { namespace: NamespaceId(1), uid: Uuid::new_v4() }, 1, std::iter::empty());
        }
        let told = outgoing.take().await;
        assert!(told.overflowed && told.jobs.len() == MAX_JOBS);
        assert!(told.payloads(Uuid::new_v4()).iter().any(|payload| payload.contains("\"all\":true")));
    }
}
