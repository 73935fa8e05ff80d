//! What happens after a commit, and only then: who waits is told.
//!
//! Layout: `step` is one piece of news; `topic` is the log of one watched job; `watcher` reads it for one stream; `board` is what
//! changes among all jobs, for `board_watcher`; `coalesce` makes one read of many of the same thing, `batch` one of many of different things,
//! `matching` lists the jobs of a filter for `board_watcher`; `hint` is what servers tell each other and `remote` what is done about it. [`Hub`] is where commits come in.
//!
//! **Invariants.** A watcher holds a revision and what it is about to say, a page at most, so that one who does not read costs
//! next to nothing; it never stands still with a lock or a connection. Nothing rests on a hint: a
//! lost one costs time, never truth, because everybody who waits is also looked after by a poll. Lanes only put into the
//! hub; waking, encoding and sending is done by others.

mod batch;
pub mod board;
pub mod board_watcher;
mod coalesce;
mod figures;
pub mod hint;
pub mod holders;
mod matching;
mod quiet;
pub mod remote;
pub mod step;
pub mod topic;
pub mod watcher;

use foldhash::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::{Job, JobChanges};
use crate::domain::ready::ReadyStage;
use crate::domain::time::Timestamp;
use crate::figures::feed::FeedFigures;
use crate::store::Store;
pub use coalesce::detached;
pub use quiet::Quiet;

use batch::Batch;
use board::Boards;
use hint::Outgoing;
use holders::Holders;
use matching::Matching;
use remote::Remote;
use step::Span;
use topic::Topic;
use watcher::Snapshot;

/// A queue of a namespace.
pub type QueueKey = (NamespaceId, Name);

/// How the feed goes about it.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// Watchers are woken at most this often, and more rarely if they are thousands; what comes in between is told together.
    pub tick: Duration,
    /// After so long without news a watcher hears that the stream lives.
    pub keepalive: Duration,
    /// Whether steps of progress are merged for watchers who are behind.
    pub conflate: bool,
    /// Whether servers tell each other of commits (LISTEN and NOTIFY). If not, they find out by polling.
    pub listen: bool,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self { tick: Duration::from_millis(4), keepalive: Duration::from_secs(20), conflate: true, listen: true }
    }
}

/// What waking one watcher costs, roughly: with thousands of them ticks are longer, so that more is told at once and a
/// crowd costs no more than a share of the machine.
const WAKING: Duration = Duration::from_micros(5);
/// The longest that news wait for company.
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// Tells who waits on this server of commits.
#[derive(Default)]
pub struct Hub {
    /// How it goes about it.
    pub settings: FeedSettings,
    /// What it did.
    pub figures: Arc<FeedFigures>,
    topics: Mutex<HashMap<JobKey, Followed>>,
    dirty: Mutex<Vec<Arc<Topic>>>,
    boards: Boards,
    /// The sessions that hold leases here.
    pub holders: Holders,
    /// Jobs as they are, for watches that begin.
    snapshots: Arc<Batch<JobKey, Arc<Snapshot>>>,
    matching: Matching,
    stir: Notify,
    ready: Mutex<HashSet<QueueKey>>,
    ready_hint: Notify,
    grants: Notify,
    outgoing: Outgoing,
}

/// What keeps a hub going.
pub struct Feed {
    end: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Feed {
    /// Starts to wake who waits, to talk with other servers, and to look at what they did.
    pub fn start(hub: &Arc<Hub>, store: &Store) -> Self {
        let end = CancellationToken::new();
        let remote = Arc::new(Remote::new(hub.clone(), store.clone()));
        let mut tasks = vec![tokio::spawn(hub.clone().announce(end.clone()))];
        if hub.settings.listen {
            let (remote, end) = (remote.clone(), end.clone());
            tasks.push(tokio::spawn(async move { remote.talk(end).await }));
        }
        let ends = end.clone();
        tasks.push(tokio::spawn(async move { remote.look(ends).await }));
        Self { end, tasks }
    }

    /// Ends it all.
    pub async fn stop(self) {
        self.end.cancel();
        for task in self.tasks {
            let _ended = task.await;
        }
    }
}

/// A topic and how many follow it.
struct Followed {
    topic: Arc<Topic>,
    followers: usize,
}

/// Follows one job; when the last follower of a job goes, nothing of it is kept.
pub struct Follower {
    hub: Arc<Hub>,
    /// The job.
    pub topic: Arc<Topic>,
    heard: watch::Receiver<()>,
}

impl Hub {
    /// A hub that nobody follows yet.
    pub fn new(settings: FeedSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Tells of a committed job: what it was before, and what changed.
    pub fn publish(&self, base: Option<&Arc<Job>>, job: &Arc<Job>, changes: &JobChanges, now: Timestamp) {
        let from = base.map_or(0, |base| base.revision);
        if from == job.revision {
            // Only leases were extended.
            return;
        }
        if let Some(topic) = self.topic(&job.key) {
            let events = changes.events.iter().cloned().map(Arc::new).collect();
            let stages = changes.stages.iter().copied().collect();
            self.add(topic, Span { from, job: job.clone(), events, stages, is_copy: false }, now);
        }
        self.holders.note_commit(base, job);
        self.tell_boards(job);
        let ready = job
            .stages_to_look_at(base.map(|base| &**base), changes)
            .filter(|stage| job.is_leasable(stage))
            .map(|stage| job.queue_key(stage));
        self.outgoing.note(job.key, job.revision, ready);
    }

    /// Tells of what another server did to a job that is followed here.
    pub fn publish_remote(&self, span: Span, now: Timestamp) {
        self.tell_boards(&span.job);
        if let Some(topic) = self.topic(&span.job.key) {
            self.add(topic, span, now);
        }
    }

    /// Tells that there is work in these queues that was not made ready by commits of this server, or was before.
    pub fn publish_ready(&self, queues: Vec<QueueKey>) {
        if !queues.is_empty() {
            lock(&self.ready).extend(queues);
            self.ready_hint.notify_one();
        }
    }

    /// Tells other servers that stages can be picked again.
    pub fn publish_woken(&self, stages: &[ReadyStage]) {
        self.outgoing.note_queues(stages.iter().map(|stage| stage.queue_key()));
    }

    /// Tells the other servers that somebody who waits there was granted a permit.
    pub fn announce_grants(&self) {
        self.outgoing.note_grant();
    }

    /// Notes that another server has granted permits to somebody who waits.
    pub fn note_grants(&self) {
        self.grants.notify_one();
    }

    /// Waits until another server has granted permits to somebody who waits.
    pub async fn grants_heard(&self) {
        self.grants.notified().await;
    }

    /// Tells that a job was deleted by a commit of this server.
    pub fn publish_deletion(&self, key: JobKey) {
        self.outgoing.note(key, i64::MAX, std::iter::empty());
        self.publish_absence(key);
    }

    /// Tells that a job is gone: who follows it stops.
    pub fn publish_absence(&self, key: JobKey) {
        self.end_topic(key);
        if self.boards.note(key, None) {
            self.stir.notify_one();
        }
    }

    /// The same, as seen by somebody who looked for the job of this topic: one that was made since is not meant.
    pub fn publish_absence_of(&self, topic: &Arc<Topic>) {
        if self.topic(&topic.key).is_some_and(|found| Arc::ptr_eq(&found, topic)) {
            self.publish_absence(topic.key);
        }
    }

    fn end_topic(&self, key: JobKey) {
        let followed = lock(&self.topics).remove(&key);
        if let Some(followed) = followed
            && followed.topic.end()
        {
            self.stir(followed.topic);
        }
    }

    /// Begins to follow a job.
    pub fn follow(self: &Arc<Self>, key: JobKey) -> Follower {
        let mut topics = lock(&self.topics);
        let new = || Followed { topic: Arc::new(Topic::new(key)), followers: 0 };
        let followed = topics.entry(key).or_insert_with(new);
        followed.followers += 1;
        let topic = followed.topic.clone();
        let heard = topic.subscribe();
        Follower { hub: self.clone(), topic, heard }
    }

    /// The topics that somebody follows.
    pub fn followed(&self) -> Vec<Arc<Topic>> {
        lock(&self.topics).values().map(|followed| followed.topic.clone()).collect()
    }

    /// The topic of a job, if somebody follows it.
    pub fn topic(&self, key: &JobKey) -> Option<Arc<Topic>> {
        lock(&self.topics).get(key).map(|followed| followed.topic.clone())
    }

    /// Waits until it is told that there is work, and says in which queues.
    pub async fn ready(&self) -> HashSet<QueueKey> {
        loop {
            let hint = self.ready_hint.notified();
            let ready = std::mem::take(&mut *lock(&self.ready));
            if !ready.is_empty() {
                return ready;
            }
            hint.await;
        }
    }

    /// Wakes who has something to hear, once per tick, until it is told to end. The first news after a rest goes out at once.
    pub async fn announce(self: Arc<Self>, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = self.stir.notified() => {}
            }
            let dirty = std::mem::take(&mut *lock(&self.dirty));
            let woken: usize = dirty.iter().map(|topic| topic.announce()).sum();
            self.boards.announce();
            let rest = WAKING * u32::try_from(woken).unwrap_or(u32::MAX);
            tokio::time::sleep(rest.clamp(self.settings.tick, LONGEST_TICK)).await;
        }
    }

    /// Tells of a job that somebody has just read, if it is newer than what was told.
    pub fn learn(&self, job: &Arc<Job>, now: Timestamp) {
        if let Some(topic) = self.topic(&job.key) {
            topic.observe(job);
            if topic.head() < job.revision {
                self.add(topic, Span::unknown(job.clone()), now);
            }
        }
    }

    fn add(&self, topic: Arc<Topic>, span: Span, now: Timestamp) {
        if !topic.is_of(&span.job) {
            // Made anew after a deletion, of which this server may hear in any order.
            if topic.newest().is_some_and(|newest| newest.meta.create_time < span.job.meta.create_time) {
                self.end_topic(topic.key);
            }
        } else if topic.add(span, now) {
            self.stir(topic);
        }
    }

    fn stir(&self, topic: Arc<Topic>) {
        lock(&self.dirty).push(topic);
        self.stir.notify_one();
    }

    /// Tells those who look at all jobs that anything may have changed.
    pub fn let_boards_look(&self) {
        if self.boards.note_loss() {
            self.stir.notify_one();
        }
    }

    fn tell_boards(&self, job: &Arc<Job>) {
        if self.boards.note(job.key, Some(job)) {
            self.stir.notify_one();
        }
    }
}

impl Follower {
    /// Waits until there may be something new.
    pub async fn heard(&mut self) {
        // The topic holds the other end as long as this follower holds the topic.
        let _open = self.heard.changed().await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut topics = lock(&self.hub.topics);
        let key = self.topic.key;
        // After a deletion the entry can be of another topic.
        let Some(followed) = topics.get_mut(&key).filter(|found| Arc::ptr_eq(&found.topic, &self.topic)) else {
            return;
        };
        followed.followers -= 1;
        if followed.followers == 0 {
            topics.remove(&key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
