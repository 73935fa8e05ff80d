//! Watches all jobs of a filter for one stream: those that match, their steps, and those that begin or cease to match.

use std::collections::{BTreeMap, VecDeque};

use foldhash::HashMap;
use std::sync::Arc;

use super::board::{Board, Look};
use super::coalesce::detached;
use super::figures::Watching;
use super::quiet::Quiet;
use super::step::Step;
use super::topic::After;
use super::{Follower, Hub};
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::query::JobFilter;
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::store::Store;

/// Jobs that one stream may watch.
pub const MAX_JOBS: usize = 10_000;
/// Jobs that do not match any more and are read at once.
const GONE: usize = 100;

/// What is told.
pub enum BoardNews {
    /// A job that matches.
    Job(Arc<Job>),
    /// What came next for one that was told of.
    Step(Arc<Step>),
    /// A job that is not told of any more.
    Removal {
        /// Which.
        job: Arc<Job>,
        /// The revision told last.
        revision: i64,
        /// Whether it was deleted.
        deleted: bool,
    },
    /// All that matched at the beginning were told of.
    CaughtUp(usize),
    /// Nothing for a while.
    Keepalive,
}

/// A job that was told of.
struct Told {
    follower: Follower,
    /// As it was told at first; its name is needed when it goes.
    job: Arc<Job>,
    /// The revision told last.
    cursor: i64,
}

/// Watches many jobs.
pub struct BoardWatcher {
    hub: Arc<Hub>,
    store: Store,
    namespace: NamespaceId,
    filter: JobFilter,
    board: Arc<Board>,
    told: HashMap<JobKey, Told>,
    /// What was heard and not yet looked at.
    changed: VecDeque<(JobKey, Option<Arc<Job>>)>,
    queued: VecDeque<BoardNews>,
    quiet: Quiet,
    _watching: Watching,
}

impl BoardWatcher {
    /// Begins with the jobs that match now.
    ///
    /// # Errors
    /// If too many match.
    pub async fn begin(hub: &Arc<Hub>, store: &Store, namespace: NamespaceId, filter: JobFilter) -> Result<Self> {
        // First, so that nothing is missed between the look and the wait.
        let board = hub.boards.put_up(namespace);
        let mut watcher = Self {
            hub: hub.clone(),
            store: store.clone(),
            namespace,
            filter,
            board,
            told: HashMap::default(),
            changed: VecDeque::new(),
            queued: VecDeque::new(),
            quiet: Quiet::new(hub.settings.keepalive),
            _watching: Watching::begin(hub),
        };
        let matching = hub.matching.jobs(store, namespace, &watcher.filter).await?;
        let count = matching.len();
        for job in matching.values() {
            watcher.welcome(job.clone())?;
        }
        watcher.queued.push_back(BoardNews::CaughtUp(count));
        Ok(watcher)
    }

    /// The next piece of news.
    ///
    /// # Errors
    /// If too many jobs match by now, or the database is away and steps have to be read.
    pub async fn next(&mut self) -> Result<BoardNews> {
        loop {
            if let Some(news) = self.queued.pop_front() {
                self.quiet.broken();
                return Ok(news);
            }
            // One job at a time, and of one that is far behind a page at a time: what waits here is no more than that.
            if let Some((key, job)) = self.changed.pop_front() {
                self.note(key, job).await?;
                continue;
            }
            let look = tokio::select! {
                biased;
                look = self.board.look() => look,
                () = self.quiet.lasts() => {
                    self.queued.push_back(BoardNews::Keepalive);
                    continue;
                }
            };
            match look {
                Look::Changed(changed) => self.changed.extend(changed),
                Look::All => self.look_at_all().await?,
            }
        }
    }

    async fn note(&mut self, key: JobKey, job: Option<Arc<Job>>) -> Result<()> {
        let Some(job) = job else {
            self.dismiss(key, true);
            return Ok(());
        };
        if self.told.get(&key).is_some_and(|told| told.job.meta.create_time != job.meta.create_time) {
            // Deleted, and made anew under its id.
            self.dismiss(key, true);
        }
        if !self.told.contains_key(&key) {
            return if self.filter.matches(&job) { self.welcome(job) } else { Ok(()) };
        }
        if self.advance(key, &job).await? {
            self.changed.push_front((key, Some(job)));
        } else if !self.filter.matches(&job) {
            self.dismiss(key, false);
        }
        Ok(())
    }

    /// More has changed than a board holds: what matches is read again, and all of it is looked at.
    async fn look_at_all(&mut self) -> Result<()> {
        let matching = self.hub.matching.jobs(&self.store, self.namespace, &self.filter).await?;
        let mut matching = BTreeMap::clone(&matching);
        let gone: Vec<JobKey> = self.told.keys().filter(|key| !matching.contains_key(key)).copied().collect();
        for keys in gone.chunks(GONE) {
            let (store, asked) = (self.store.clone(), keys.to_vec());
            let mut found = detached(async move { store.jobs(&asked).await }).await?;
            matching.extend(keys.iter().filter_map(|key| Some((*key, found.remove(key)?))));
            self.changed.extend(keys.iter().filter(|key| !matching.contains_key(key)).map(|key| (*key, None)));
        }
        self.changed.extend(matching.into_iter().map(|(key, job)| (key, Some(job))));
        Ok(())
    }

    fn welcome(&mut self, job: Arc<Job>) -> Result<()> {
        if self.told.len() >= MAX_JOBS {
            return Err(Refusal::TooManyWatched { limit: MAX_JOBS }.into());
        }
        let told = Told { follower: self.hub.follow(job.key), job: job.clone(), cursor: job.revision };
        self.told.insert(job.key, told);
        self.queued.push_back(BoardNews::Job(job));
        self.hub.figures.snapshots_told.inc();
        Ok(())
    }

    fn dismiss(&mut self, key: JobKey, deleted: bool) {
        if let Some(told) = self.told.remove(&key) {
            self.queued.push_back(BoardNews::Removal { job: told.job, revision: told.cursor, deleted });
        }
    }

    /// Tells what became of a job up to a state of it; true if there is more to tell.
    async fn advance(&mut self, key: JobKey, job: &Job) -> Result<bool> {
        let Some(told) = self.told.get_mut(&key) else { return Ok(false) };
        if told.cursor >= job.revision {
            return Ok(false);
        }
        let steps = match told.follower.topic.after(told.cursor, self.hub.settings.conflate) {
            After::Steps(steps) => steps,
            After::Gone => {
                // It may be there again, under another topic.
                self.dismiss(key, true);
                return Ok(false);
            }
            After::Older | After::Nothing => {
                let page = told.follower.page(&self.store, told.cursor).await?;
                let Some(page) = page.filter(|page| page.job.revision > told.cursor) else { return Ok(false) };
                if page.gap_after(told.cursor).is_some() {
                    told.cursor = page.job.revision;
                    self.queued.push_back(BoardNews::Job(page.job.clone()));
                    return Ok(false);
                }
                page.steps.clone()
            }
        };
        for step in steps {
            if step.revision <= told.cursor {
                continue;
            }
            self.queued.push_back(BoardNews::Step(step.after(told.cursor)));
            told.cursor = step.revision;
            self.hub.figures.steps_told.inc();
        }
        Ok(told.cursor < job.revision)
    }
}
