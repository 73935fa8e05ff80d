//! One watch of the jobs that match a filter: the jobs, their steps, and which begin or cease to match.

use std::collections::{BTreeMap, VecDeque};

use foldhash::HashMap;
use std::sync::Arc;

use super::matching::MAX_JOBS;
use super::{Board, BoardChanges};
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::query::JobFilter;
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::feed::hub::Hub;
use crate::feed::job::follower::TopicFollower;
use crate::feed::job::step::JobStep;
use crate::feed::job::topic::StepsAfter;
use crate::feed::keepalive::KeepaliveTimer;
use crate::feed::open_watch::OpenWatch;
use crate::feed::shared_read::read_in_task;
use crate::feed::update_queue::{UpdateQueue, Weighed};
use crate::sending::{READ_BYTES, WatchMemory};
use crate::store::Store;

/// Number of jobs in one read of those that no longer match.
const JOBS_PER_READ: usize = 100;

/// An update of a watch of jobs.
pub enum BoardUpdate {
    /// A job that matches the filter.
    Job(Arc<Job>),
    /// The next step of a job that was sent before.
    Step(Arc<JobStep>),
    /// A job that no longer belongs to the watch.
    Removal {
        /// The job, as it was first sent.
        job: Arc<Job>,
        /// The revision sent last.
        revision: i64,
        /// Whether it was deleted. If not, it no longer matches.
        deleted: bool,
    },
    /// All jobs that matched at the beginning were sent; this is their number.
    CaughtUp(usize),
    /// Nothing changed for the keepalive interval.
    Keepalive,
}

/// A job that belongs to the watch.
struct WatchedJob {
    follower: TopicFollower,
    /// As it was first sent. Its name is needed for its removal.
    job: Arc<Job>,
    /// The revision sent last.
    cursor: i64,
}

/// A watch of the jobs that match a filter.
pub struct BoardWatcher {
    hub: Arc<Hub>,
    store: Store,
    namespace: NamespaceId,
    filter: JobFilter,
    board: Arc<Board>,
    watched: HashMap<JobKey, WatchedJob>,
    /// Changes that were taken from the board and are not sent yet.
    changed: VecDeque<(JobKey, Option<Arc<Job>>)>,
    queued: UpdateQueue<BoardUpdate>,
    keepalive: KeepaliveTimer,
    _open: OpenWatch,
}

impl BoardWatcher {
    /// Begins a watch with the jobs that match now.
    ///
    /// # Errors
    /// If more than [`MAX_JOBS`] match, or the database does not answer.
    pub async fn begin(
        hub: &Arc<Hub>,
        store: &Store,
        namespace: NamespaceId,
        filter: JobFilter,
        memory: WatchMemory,
    ) -> Result<Self> {
        // Before the list is read, so that no commit after it is missed.
        let board = hub.boards.add(namespace);
        let mut watcher = Self {
            hub: hub.clone(),
            store: store.clone(),
            namespace,
            filter,
            board,
            watched: HashMap::default(),
            changed: VecDeque::new(),
            queued: UpdateQueue::new(memory),
            keepalive: KeepaliveTimer::new(hub.settings.keepalive),
            _open: OpenWatch::begin(hub),
        };
        watcher.queued.reserve(READ_BYTES).await;
        let matching = hub.matching.jobs(store, namespace, &watcher.filter).await?;
        let count = matching.len();
        for job in matching.values() {
            watcher.add(job.clone())?;
        }
        watcher.queued.push_back(BoardUpdate::CaughtUp(count));
        Ok(watcher)
    }

    /// Waits for the next update.
    ///
    /// # Errors
    /// If more than [`MAX_JOBS`] match by now, or steps have to be read and the database does not answer.
    pub async fn next(&mut self) -> Result<BoardUpdate> {
        loop {
            if let Some(update) = self.queued.take() {
                self.keepalive.reset();
                return Ok(update);
            }
            // One job at a time, and one page of its steps at a time: no more than that is queued.
            if let Some((key, job)) = self.changed.pop_front() {
                self.apply(key, job).await?;
                continue;
            }
            let changes = tokio::select! {
                biased;
                changes = self.board.changed() => changes,
                () = self.keepalive.elapsed() => {
                    self.queued.push_back(BoardUpdate::Keepalive);
                    continue;
                }
            };
            match changes {
                BoardChanges::Jobs(changed) => self.changed.extend(changed),
                BoardChanges::All => self.list_again().await?,
            }
        }
    }

    /// Queues the updates of a job that changed.
    async fn apply(&mut self, key: JobKey, job: Option<Arc<Job>>) -> Result<()> {
        let Some(job) = job else {
            self.remove(key, true);
            return Ok(());
        };
        if self.watched.get(&key).is_some_and(|watched| watched.job.meta.create_time != job.meta.create_time) {
            // Deleted, and submitted again under its id.
            self.remove(key, true);
        }
        if !self.watched.contains_key(&key) {
            return if self.filter.matches(&job) { self.add(job) } else { Ok(()) };
        }
        if self.advance(key, &job).await? {
            self.changed.push_front((key, Some(job)));
        } else if !self.filter.matches(&job) {
            self.remove(key, false);
        }
        Ok(())
    }

    /// Lists the jobs that match again, and takes all of them for changed: more has changed than a board holds.
    async fn list_again(&mut self) -> Result<()> {
        let matching = self.hub.matching.jobs(&self.store, self.namespace, &self.filter).await?;
        let mut matching = BTreeMap::clone(&matching);
        let gone: Vec<JobKey> = self.watched.keys().filter(|key| !matching.contains_key(key)).copied().collect();
        for keys in gone.chunks(JOBS_PER_READ) {
            let (store, asked) = (self.store.clone(), keys.to_vec());
            let mut found = read_in_task(async move { store.jobs(&asked).await }).await?;
            matching.extend(keys.iter().filter_map(|key| Some((*key, found.remove(key)?))));
            self.changed.extend(keys.iter().filter(|key| !matching.contains_key(key)).map(|key| (*key, None)));
        }
        self.changed.extend(matching.into_iter().map(|(key, job)| (key, Some(job))));
        Ok(())
    }

    /// Adds a job to the watch.
    fn add(&mut self, job: Arc<Job>) -> Result<()> {
        if self.watched.len() >= MAX_JOBS {
            return Err(Refusal::TooManyWatched { limit: MAX_JOBS }.into());
        }
        let watched =
            WatchedJob { follower: TopicFollower::begin(&self.hub, job.key), job: job.clone(), cursor: job.revision };
        self.watched.insert(job.key, watched);
        self.queued.push_back(BoardUpdate::Job(job));
        self.hub.figures.snapshots_sent.inc();
        Ok(())
    }

    /// Removes a job from the watch.
    fn remove(&mut self, key: JobKey, deleted: bool) {
        if let Some(watched) = self.watched.remove(&key) {
            self.queued.push_back(BoardUpdate::Removal { job: watched.job, revision: watched.cursor, deleted });
        }
    }

    /// Queues the steps of a job up to a state of it. Returns whether there are more.
    async fn advance(&mut self, key: JobKey, job: &Job) -> Result<bool> {
        let Some(watched) = self.watched.get_mut(&key) else { return Ok(false) };
        if watched.cursor >= job.revision {
            return Ok(false);
        }
        let steps = match watched.follower.topic.after(watched.cursor, self.hub.settings.conflate) {
            StepsAfter::Steps(steps) => steps,
            StepsAfter::Gone => {
                // A job that was submitted again under its id has another topic.
                self.remove(key, true);
                return Ok(false);
            }
            StepsAfter::Older | StepsAfter::Nothing => {
                self.queued.reserve(READ_BYTES).await;
                let page = watched.follower.page(&self.store, watched.cursor).await?;
                let Some(page) = page.filter(|page| page.job.revision > watched.cursor) else { return Ok(false) };
                if page.gap_after(watched.cursor).is_some() {
                    watched.cursor = page.job.revision;
                    self.queued.push_back(BoardUpdate::Job(page.job.clone()));
                    return Ok(false);
                }
                page.steps.clone()
            }
        };
        for step in steps {
            if step.revision <= watched.cursor {
                continue;
            }
            self.queued.push_back(BoardUpdate::Step(step.after(watched.cursor)));
            watched.cursor = step.revision;
            self.hub.figures.steps_sent.inc();
        }
        Ok(watched.cursor < job.revision)
    }
}

impl Weighed for BoardUpdate {
    fn weight_bytes(&self) -> usize {
        match self {
            Self::Job(job) => job.weight_bytes(),
            Self::Step(step) => step.weight_bytes(),
            Self::Removal { .. } | Self::CaughtUp(_) | Self::Keepalive => 0,
        }
    }
}
