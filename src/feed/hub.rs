//! Where commits come in: takes what lanes publish to the watches and waiting calls of this server, and to the other servers.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::board::Boards;
use super::board::matching::MatchingJobs;
use super::follow::{AllFollowers, OfferedKind, StateKey};
use super::job::holders::LeaseHolders;
use super::job::reads::JobSnapshot;
use super::job::step::RevisionRange;
use super::job::topic::Topic;
use super::job::topics::Topics;
use super::peers::hint::OutgoingHints;
use crate::domain::id::JobKey;
use crate::domain::job::{Job, JobChanges};
use crate::domain::ready::{QueueKey, ReadyStage};
use crate::domain::time::Timestamp;
use crate::figures::feed::FeedFigures;

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
    pub settings: FeedSettings,
    /// Counts of what was published and sent.
    pub figures: Arc<FeedFigures>,
    /// The sessions that hold leases on this server.
    pub holders: LeaseHolders,
    pub(super) topics: Topics,
    pub(super) boards: Boards,
    pub(super) followers: AllFollowers,
    /// Reads of jobs for watches that begin.
    pub(super) snapshots: Arc<Batch<JobKey, Arc<JobSnapshot>>>,
    /// Lists of jobs for watches that begin.
    pub(super) matching: MatchingJobs,
    /// Something was published that has to be announced.
    published: Notify,
    /// Queues with stages that can be leased, for the dispatcher.
    ready: Mutex<HashSet<QueueKey>>,
    ready_added: Notify,
    /// Another server granted permits to waiters of this one.
    pub(super) granted: Notify,
    pub(super) outgoing: OutgoingHints,
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
    pub(super) fn publish_read(&self, range: RevisionRange, now: Timestamp) {
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
    pub(super) fn publish_absence(&self, key: JobKey) {
        self.announce_if(self.topics.end(key));
        self.announce_if(self.boards.publish(key, None));
    }

    /// Ends the watches of a topic whose job was not found. A topic of a job that was submitted since then is left alone.
    pub(super) fn publish_absence_of(&self, topic: &Arc<Topic>) {
        if self.topics.get(&topic.key).is_some_and(|found| Arc::ptr_eq(&found, topic)) {
            self.publish_absence(topic.key);
        }
    }

    /// Makes the watches of all jobs list them again.
    pub(super) fn publish_all_jobs(&self) {
        self.announce_if(self.boards.publish_all());
    }

    /// Publishes a committed state of a kind that is followed by key. None: the key was deleted.
    pub fn publish_state<K: OfferedKind>(&self, key: &StateKey<K>, state: Option<&Arc<K::State>>) {
        self.announce_if(K::followers(&self.followers).publish(key, state));
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
    pub(super) async fn announce(self: Arc<Self>, end: CancellationToken) {
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
