//! What happens after a commit: watches and waiting calls are woken, on this server and on others.
//!
//! Layout: `job` are watches of one job, which send every step; `board` are watches of all jobs that match a filter; `follow` are watches of
//! records and resources, which send the newest version. All of them follow keys, get what lanes publish after a commit, are woken together, and
//! share their reads: `shared_read` is one read of the same thing, `batch` one read of many things. `peers` are the other servers: hints and
//! polls. `keepalive` and `open_watch` are what all streams have. [`Hub`] is where commits come in.
//!
//! **Invariants.** A watch holds a revision and what it is about to send, a page at most, so one whose client does not read costs next to
//! nothing; it never waits for its client with a lock or a connection. Hints may be lost: that costs time, never a change, because a poll
//! finds all that is followed. Lanes only put into the hub; waking, encoding and sending is done by other tasks.

mod batch;
pub mod board;
pub mod follow;
pub mod job;
mod keepalive;
mod open_watch;
mod peers;
mod shared_read;

use foldhash::HashSet;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::{Job, JobChanges};
use crate::domain::ready::ReadyStage;
use crate::domain::time::Timestamp;
use crate::figures::feed::FeedFigures;
use crate::store::Store;
use batch::Batch;
use board::Boards;
use board::matching::MatchingJobs;
use follow::{AllFollowers, FollowedKind};
use job::holders::LeaseHolders;
use job::reads::JobSnapshot;
use job::step::RevisionRange;
use job::topic::Topic;
pub use job::topics::TopicFollower;
use job::topics::Topics;
pub use keepalive::KeepaliveTimer;
use peers::Peers;
use peers::hint::OutgoingHints;

/// A queue of a namespace.
pub type QueueKey = (NamespaceId, Name);

/// Settings of the feed.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// Minimum time between two updates of a watch. Longer where thousands are woken; commits in between are sent together.
    pub tick: Duration,
    /// Time without an update after which a watch sends a keepalive.
    pub keepalive: Duration,
    /// Whether consecutive steps of progress are merged for watches that are behind.
    pub conflate: bool,
    /// Whether servers send each other hints of commits (LISTEN and NOTIFY). If not, they find commits of others by polls.
    pub listen: bool,
}

/// Approximate cost of waking one watch. With thousands of them ticks are longer, so that they take no more than a share of the machine.
const COST_OF_WAKING: Duration = Duration::from_micros(5);
/// Maximum length of a tick.
const MAX_TICK: Duration = Duration::from_millis(50);
/// Maximum number of snapshots in one read. Those of large jobs are megabytes.
const SNAPSHOTS_PER_READ: usize = 32;

/// Takes what lanes publish after a commit to the watches and waiting calls of this server, and to the other servers.
pub struct Hub {
    /// The settings.
    pub settings: FeedSettings,
    /// Counts of what was published and sent.
    pub figures: Arc<FeedFigures>,
    /// The sessions that hold leases on this server.
    pub holders: LeaseHolders,
    topics: Topics,
    boards: Boards,
    followers: AllFollowers,
    /// Reads of jobs for watches that begin.
    snapshots: Arc<Batch<JobKey, Arc<JobSnapshot>>>,
    /// Lists of jobs for watches that begin.
    matching: MatchingJobs,
    /// Something was published that has to be announced.
    published: Notify,
    /// Queues with stages that can be leased, for the dispatcher.
    ready: Mutex<HashSet<QueueKey>>,
    ready_added: Notify,
    /// Another server granted permits to waiters of this one.
    granted: Notify,
    outgoing: OutgoingHints,
}

/// The tasks of the feed.
pub struct Feed {
    end: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Feed {
    /// Starts the tasks that wake watches, exchange hints and poll for commits of other servers.
    pub fn start(hub: &Arc<Hub>, store: &Store) -> Self {
        let end = CancellationToken::new();
        let peers = Arc::new(Peers::new(hub.clone(), store.clone()));
        let mut tasks = vec![tokio::spawn(hub.clone().announce(end.clone()))];
        if hub.settings.listen {
            let (peers, end) = (peers.clone(), end.clone());
            tasks.push(tokio::spawn(async move { peers.exchange_hints(end).await }));
        }
        let ends = end.clone();
        tasks.push(tokio::spawn(async move { peers.follow(ends).await }));
        tasks.extend(AllFollowers::start_polls(hub, store, &end));
        Self { end, tasks }
    }

    /// Ends the tasks.
    pub async fn stop(self) {
        self.end.cancel();
        for task in self.tasks {
            let _ended = task.await;
        }
    }
}

impl Hub {
    /// A hub without watches.
    pub fn new(settings: FeedSettings) -> Self {
        Self {
            settings,
            figures: Arc::default(),
            holders: LeaseHolders::default(),
            topics: Topics::default(),
            boards: Boards::default(),
            followers: AllFollowers::default(),
            snapshots: Arc::new(Batch::new(SNAPSHOTS_PER_READ)),
            matching: MatchingJobs::default(),
            published: Notify::new(),
            ready: Mutex::default(),
            ready_added: Notify::new(),
            granted: Notify::new(),
            outgoing: OutgoingHints::default(),
        }
    }

    /// Publishes a job that this server committed. `base`: the job before; None: it is new.
    pub fn publish(&self, base: Option<&Arc<Job>>, job: &Arc<Job>, changes: &JobChanges, now: Timestamp) {
        let from = base.map_or(0, |base| base.revision);
        if from == job.revision {
            // Only leases were extended.
            return;
        }
        if let Some(topic) = self.topics.get(&job.key) {
            let events = changes.events.iter().cloned().map(Arc::new).collect();
            let stages = changes.stages.iter().copied().collect();
            let range = RevisionRange { from, job: job.clone(), events, stages, is_copy: false };
            self.announce_if(self.topics.publish(topic, range, now));
        }
        self.holders.note_commit(base, job);
        self.announce_if(self.boards.publish(job.key, Some(job)));
        let ready = job
            .stages_to_look_at(base.map(|base| &**base), changes)
            .filter(|stage| job.is_leasable(stage))
            .map(|stage| job.queue_key(stage));
        self.outgoing.add_job(job.key, job.revision, ready);
    }

    /// Publishes changes that were read from the database, of a job that another server committed.
    fn publish_read(&self, range: RevisionRange, now: Timestamp) {
        self.announce_if(self.boards.publish(range.job.key, Some(&range.job)));
        if let Some(topic) = self.topics.get(&range.job.key) {
            self.announce_if(self.topics.publish(topic, range, now));
        }
    }

    /// Publishes a job that a call has read, if it is newer than what is known of it.
    pub fn publish_found(&self, job: &Arc<Job>, now: Timestamp) {
        if let Some(topic) = self.topics.get(&job.key) {
            topic.observe(job);
            if topic.head() < job.revision {
                self.announce_if(self.topics.publish(topic, RevisionRange::unknown(job.clone()), now));
            }
        }
    }

    /// Publishes the deletion of a job that this server committed.
    pub fn publish_deletion(&self, key: JobKey) {
        self.outgoing.add_job(key, i64::MAX, std::iter::empty());
        self.publish_absence(key);
    }

    /// Ends the watches of a job that does not exist.
    fn publish_absence(&self, key: JobKey) {
        self.announce_if(self.topics.end(key));
        self.announce_if(self.boards.publish(key, None));
    }

    /// Ends the watches of a topic whose job was not found. A topic of a job that was submitted since then is left alone.
    fn publish_absence_of(&self, topic: &Arc<Topic>) {
        if self.topics.get(&topic.key).is_some_and(|found| Arc::ptr_eq(&found, topic)) {
            self.publish_absence(topic.key);
        }
    }

    /// Makes the watches of all jobs list them again.
    fn publish_all_jobs(&self) {
        self.announce_if(self.boards.publish_all());
    }

    /// Publishes a committed state of a kind that is followed by key. None: the key was deleted.
    pub fn publish_state<K: FollowedKind>(&self, key: &K::Key, state: Option<&Arc<K::State>>) {
        self.announce_if(K::followers(self).publish(key, state));
    }

    /// Publishes queues with stages that became ready without a commit of this server, or were ready before.
    pub fn publish_ready(&self, queues: Vec<QueueKey>) {
        if !queues.is_empty() {
            self.ready.lock().extend(queues);
            self.ready_added.notify_one();
        }
    }

    /// Publishes to other servers that stages can be picked again.
    pub fn publish_woken(&self, stages: &[ReadyStage]) {
        self.outgoing.add_queues(stages.iter().map(|stage| stage.queue_key()));
    }

    /// Publishes to other servers that permits were granted to their waiters.
    pub fn publish_grants(&self) {
        self.outgoing.add_grant();
    }

    /// Waits until there are queues with stages that were published as ready, and takes them.
    pub async fn ready(&self) -> HashSet<QueueKey> {
        loop {
            let added = self.ready_added.notified();
            let ready = std::mem::take(&mut *self.ready.lock());
            if !ready.is_empty() {
                return ready;
            }
            added.await;
        }
    }

    /// Waits until another server has granted permits to waiters of this one.
    pub async fn granted(&self) {
        self.granted.notified().await;
    }

    /// Begins to follow a job.
    pub fn follow(self: &Arc<Self>, key: JobKey) -> TopicFollower {
        TopicFollower::begin(self, key)
    }

    /// Number of jobs that are followed.
    pub fn followed_jobs(&self) -> usize {
        self.topics.len()
    }

    fn announce_if(&self, is_needed: bool) {
        if is_needed {
            self.published.notify_one();
        }
    }

    /// Wakes the watches of what was published, once in each tick, until `end` is cancelled. What is published after a pause is announced at
    /// once.
    async fn announce(self: Arc<Self>, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = self.published.notified() => {}
            }
            let woken = self.topics.announce() + self.followers.announce();
            self.boards.announce();
            let pause = COST_OF_WAKING * u32::try_from(woken).unwrap_or(u32::MAX);
            tokio::time::sleep(pause.clamp(self.settings.tick, MAX_TICK)).await;
        }
    }
}

/// With the settings of a server, for tests.
#[cfg(test)]
impl Default for Hub {
    fn default() -> Self {
        Self::new((&crate::config::Config::default()).into())
    }
}
