//! Other servers: sends and receives hints of commits, and reads followed jobs when a hint came and in polls.
//!
//! Layout: `hint` is what servers send each other.

pub(super) mod hint;

use foldhash::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::hint::{Hints, IncomingHints, hello};
use super::hub::Hub;
use super::job::step::RevisionRange;
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::error::Result;
use crate::store::Store;
use crate::store::listen::Listener;

/// Minimum time between two messages with hints.
const SEND_EVERY: Duration = Duration::from_millis(10);
/// Time between two messages that say that this server is present.
const HELLO_EVERY: Duration = Duration::from_secs(2);
/// Time between two attempts to connect.
const RECONNECT_EVERY: Duration = Duration::from_millis(500);
/// Number of jobs in one read.
const JOBS_PER_READ: usize = 500;
/// Number of jobs in one read of revisions.
const REVISIONS_PER_READ: usize = 1_000;
/// Maximum number of events in one read of jobs. With more, watches read history themselves.
const EVENTS_PER_READ: u32 = 5_000;
/// Maximum number of groups, and of jobs in them, that one poll for WatchJobs reads. With more, all jobs are listed again.
const GROUPS_PER_POLL: u32 = 2_000;
const JOBS_PER_POLL: u32 = 20_000;
/// Groups are remembered for ten minutes. After a longer pause than this, all jobs are listed again.
const MAX_HORIZON_AGE: Duration = Duration::from_secs(300);
/// Time between two polls of followed jobs without hints.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// Time between two polls of followed jobs with hints: for hints that were lost.
const POLL_WITH_HINTS_EVERY: Duration = Duration::from_secs(1);

/// How far history was read for boards.
#[derive(Clone, Copy)]
struct Horizon {
    /// The transaction to continue from.
    xid: i64,
    /// When it was read.
    read_at: Instant,
}

/// The other servers of the database, as seen from this one.
pub struct Peers {
    hub: Arc<Hub>,
    store: Store,
    server: Uuid,
    incoming: IncomingHints,
}

impl Peers {
    /// Knows of no other server yet.
    pub fn new(hub: Arc<Hub>, store: Store) -> Self {
        Self { hub, store, server: Uuid::new_v4(), incoming: IncomingHints::default() }
    }

    /// Exchanges hints until `end` is cancelled.
    pub async fn exchange_hints(&self, end: CancellationToken) {
        while !end.is_cancelled() {
            if let Ok(listener) = Listener::open(&self.store.target).await {
                // Hints that were sent before this connection are lost.
                self.incoming.add_loss();
                tokio::select! {
                    () = end.cancelled() => return,
                    () = self.exchange_over(listener) => {}
                }
            }
            tokio::select! {
                () = end.cancelled() => return,
                () = sleep(RECONNECT_EVERY) => {}
            }
        }
    }

    /// Exchanges hints over one connection until it is lost.
    async fn exchange_over(&self, mut listener: Listener) {
        let mut sent = Instant::now();
        let mut presence = tokio::time::interval(HELLO_EVERY);
        presence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = presence.tick() => {
                    self.hub.outgoing.set_listeners(self.incoming.has_others());
                    if self.send(&listener, &[hello(self.server)]).await.is_err() {
                        return;
                    }
                }
                received = listener.hear() => match received {
                    Some(payload) => {
                        self.hub.figures.hints_received.inc();
                        if self.incoming.add(self.server, &payload) {
                            // So that the new server learns of this one at once.
                            presence.reset_immediately();
                        }
                    }
                    None => return,
                },
                hints = self.hints_to_send(sent) => {
                    sent = Instant::now();
                    if self.send(&listener, &hints.payloads(self.server)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&self, listener: &Listener, payloads: &[String]) -> Result<()> {
        self.hub.figures.hints_sent.inc_by(payloads.len() as u64);
        listener.notify(payloads).await.inspect_err(|error| tracing::debug!(%error, "hints were not sent"))
    }

    async fn hints_to_send(&self, last_sent: Instant) -> Hints {
        tokio::time::sleep_until(last_sent + SEND_EVERY).await;
        self.hub.outgoing.take().await
    }

    /// Reads jobs of which hints came, and polls all followed jobs, until `end` is cancelled.
    pub async fn follow(&self, end: CancellationToken) {
        let every = if self.hub.settings.listen { POLL_WITH_HINTS_EVERY } else { POLL_EVERY };
        let mut poll = tokio::time::interval(every);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut horizon = None;
        loop {
            let read = tokio::select! {
                () = end.cancelled() => return,
                hints = self.incoming.take() => self.apply(hints).await,
                _ = poll.tick() => self.poll(&mut horizon).await,
            };
            if let Err(error) = read {
                // The next poll finds the same changes.
                tracing::debug!(%error, "commits of other servers were not read");
            }
        }
    }

    async fn apply(&self, hints: Hints) -> Result<()> {
        self.hub.publish_ready(hints.queues.into_iter().collect());
        if hints.has_grants {
            self.hub.granted.notify_one();
        }
        if hints.overflowed {
            return self.poll_followed().await;
        }
        hints.jobs.iter().for_each(|(key, _)| self.hub.holders.note_written(*key));
        let is_newer = |(key, revision): &(JobKey, i64)| match self.hub.topics.get(key) {
            Some(topic) => topic.head() < *revision,
            None => self.hub.boards.has(key.namespace),
        };
        let keys: Vec<JobKey> = hints.jobs.into_iter().filter(is_newer).map(|(key, _)| key).collect();
        self.refresh(&keys).await
    }

    /// Finds commits without hints.
    async fn poll(&self, horizon: &mut Option<Horizon>) -> Result<()> {
        self.poll_followed().await?;
        let read_at = Instant::now();
        // Without boards, only the horizon moves on.
        let known = horizon.filter(|known| !self.hub.boards.is_empty() && known.read_at.elapsed() < MAX_HORIZON_AGE);
        let (xid, groups, jobs) = known.map_or((0, 0, 0), |known| (known.xid, GROUPS_PER_POLL, JOBS_PER_POLL));
        let written = self.store.jobs_since(xid, groups, jobs).await?;
        if known.is_none() || written.is_cut {
            // What is skipped may have been committed after a board was listed.
            self.hub.publish_all_jobs();
        } else {
            let is_newer = |(key, (version, is_new)): &(JobKey, (i64, bool))| {
                self.hub.boards.has(key.namespace) && (*is_new || self.hub.boards.seen(key) < *version)
            };
            let newer: Vec<JobKey> = written.jobs.into_iter().filter(is_newer).map(|(key, _)| key).collect();
            self.refresh(&newer).await?;
        }
        // After the reads, so that what could not be read is found again.
        *horizon = Some(Horizon { xid: written.next, read_at });
        Ok(())
    }

    /// Reads the revisions of all followed jobs, and the jobs that have a newer one.
    async fn poll_followed(&self) -> Result<()> {
        for topics in self.hub.topics.all().chunks(REVISIONS_PER_READ) {
            let keys: Vec<JobKey> = topics.iter().map(|topic| topic.key).collect();
            // Before the read, so that a commit that is published meanwhile is not taken for a step back.
            let known: Vec<_> = topics.iter().map(|topic| topic.newest()).collect();
            let revisions = self.store.revisions(&keys).await?;
            let mut newer = Vec::new();
            for (topic, known) in topics.iter().zip(known) {
                let Some((revision, create_time)) = revisions.get(&topic.key) else {
                    self.hub.publish_absence_of(topic);
                    continue;
                };
                let is_other = known.as_ref().is_some_and(|known| known.meta.create_time != *create_time);
                if is_other || known.is_none_or(|known| known.revision < *revision) {
                    newer.push(topic.key);
                }
            }
            self.refresh(&newer).await?;
        }
        Ok(())
    }

    /// Reads jobs and publishes their changes.
    async fn refresh(&self, keys: &[JobKey]) -> Result<()> {
        for keys in keys.chunks(JOBS_PER_READ) {
            let newest = |key: &JobKey| Some((*key, self.hub.topics.get(key)?.newest()?));
            let known: HashMap<JobKey, Arc<Job>> = keys.iter().filter_map(newest).collect();
            let mut found = self.store.changes_since(keys, &known, EVENTS_PER_READ).await?;
            self.hub.figures.refreshed.inc_by(keys.len() as u64);
            for key in keys {
                let Some(changes) = found.jobs.remove(key) else {
                    self.hub.publish_absence(*key);
                    continue;
                };
                let (job, now) = (changes.job, found.now);
                if known.get(key).is_some_and(|known| known.meta.create_time < job.meta.create_time) {
                    // Deleted, and submitted again under its id.
                    self.hub.publish_absence(*key);
                }
                let range = match known.get(key) {
                    Some(known) if !changes.has_more && is_same(known, &job) => {
                        RevisionRange::read(known.revision, job, changes.events)
                    }
                    Some(_) | None => RevisionRange::unknown(job),
                };
                self.hub.publish_read(range, now);
            }
        }
        Ok(())
    }
}

/// Whether a job is a later state of a known one, and not one that was submitted again under its id.
fn is_same(known: &Job, job: &Job) -> bool {
    known.meta.create_time == job.meta.create_time && known.revision <= job.revision
}
