//! Watches one job for one stream: a snapshot or the missing steps, then what is newer, up to the job's end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::figures::Watching;
use super::quiet::Quiet;
use super::step::{Encoded, Span, Step};
use super::topic::After;
use super::{Follower, Hub};
use crate::domain::documents::JobDocuments;
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;

/// Events that are read at once to catch up.
pub(super) const PAGE: u32 = 1_000;

/// What is told.
pub enum News {
    /// The job as it is now.
    Snapshot(Arc<Snapshot>),
    /// What came next.
    Step(Arc<Step>),
    /// History does not reach back; a snapshot follows.
    Gap {
        /// The oldest revision after which nothing is missing.
        oldest: i64,
    },
    /// Nothing, up to this revision.
    Keepalive(i64),
}

/// A job with its documents, as it was read for all who asked at the same time.
pub struct Snapshot {
    /// The job.
    pub job: Arc<Job>,
    /// What belongs to it.
    pub documents: JobDocuments,
    /// Its encoding.
    pub encoded: Encoded,
}

impl Snapshot {
    /// A job as it was read.
    pub fn new(job: Arc<Job>, documents: JobDocuments) -> Self {
        Self { job, documents, encoded: Encoded::default() }
    }
}

/// Steps that were read from the database for those who are behind the log of a topic.
pub struct Page {
    /// The revision they come after.
    pub from: i64,
    /// The steps; the last leads to the job as it was read, unless there is more history.
    pub steps: Vec<Arc<Step>>,
    /// Whether more history follows.
    pub has_more: bool,
    /// The job as it was read.
    pub job: Arc<Job>,
    /// The revision of the oldest event of the job.
    pub oldest: Option<i64>,
}

impl Page {
    async fn read(store: &Store, key: JobKey, from: i64) -> Result<Option<Arc<Self>>> {
        let Some(found) = store.changes_after(key, from, PAGE).await? else { return Ok(None) };
        let (job, oldest, has_more) = (found.job, found.oldest, found.has_more);
        let steps = if has_more {
            history(from, &job, found.events)
        } else if job.revision > from {
            Span::read(from, job.clone(), found.events).steps(found.now)
        } else {
            Vec::new()
        };
        Ok(Some(Arc::new(Self { from, steps, has_more, job, oldest })))
    }

    /// Whether there is something in it for one who was told up to a revision, or proof that there is nothing.
    pub fn serves(&self, revision: i64) -> bool {
        self.from <= revision && (!self.has_more || self.steps.last().is_some_and(|last| last.revision > revision))
    }

    /// The revision that history reaches back to, if events after this one have been dropped.
    pub fn gap_after(&self, revision: i64) -> Option<i64> {
        match self.oldest {
            // A job's first revision is an event: history is complete.
            Some(1) => None,
            Some(oldest) => (revision + 1 < oldest).then_some(oldest - 1),
            None => (revision < self.job.revision).then_some(self.job.revision),
        }
    }
}

/// Watches one job.
pub struct Watcher {
    hub: Arc<Hub>,
    store: Store,
    job_id: Name,
    follower: Follower,
    /// The revision that was told last.
    cursor: i64,
    /// When the job was made, once it was read.
    made: Option<Timestamp>,
    queued: VecDeque<News>,
    quiet: Quiet,
    is_over: bool,
    began: Instant,
    _watching: Watching,
}

impl Watcher {
    /// Begins after a revision; 0 begins with a snapshot.
    ///
    /// # Errors
    /// If there is no such job, or it has not come to the revision yet.
    pub async fn begin(hub: &Arc<Hub>, store: &Store, key: JobKey, job_id: Name, from: i64) -> Result<Self> {
        // First, so that nothing is missed between the look and the wait.
        let follower = hub.follow(key);
        let mut watcher = Self {
            hub: hub.clone(),
            store: store.clone(),
            job_id,
            follower,
            cursor: from,
            made: None,
            queued: VecDeque::new(),
            quiet: Quiet::new(hub.settings.keepalive),
            is_over: false,
            began: Instant::now(),
            _watching: Watching::begin(hub),
        };
        if from == 0 {
            watcher.queue_snapshot().await?;
        } else {
            watcher.catch_up(true).await?;
        }
        Ok(watcher)
    }

    /// The next piece of news; `None` after the job's end.
    ///
    /// # Errors
    /// If the job was deleted, or the database is away and this watcher is behind.
    pub async fn next(&mut self) -> Result<Option<News>> {
        loop {
            if let Some(news) = self.queued.pop_front() {
                self.quiet.broken();
                return Ok(Some(news));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.follower.topic.after(self.cursor, self.hub.settings.conflate) {
                After::Steps(steps) => {
                    self.note_lag(&steps);
                    self.queue_steps(&steps);
                }
                After::Older => self.catch_up(false).await?,
                After::Gone => return Err(self.missing()),
                After::Nothing => {
                    tokio::select! {
                        biased;
                        () = self.follower.heard() => {}
                        () = self.quiet.lasts() => self.queued.push_back(News::Keepalive(self.cursor)),
                    }
                }
            }
        }
    }

    /// Of what was committed since this watch began: the rest it asked for.
    fn note_lag(&self, steps: &[Arc<Step>]) {
        let now = Instant::now();
        for step in steps.iter().filter(|step| step.known_since >= self.began) {
            self.hub.figures.lag.took(now.duration_since(step.known_since));
        }
    }

    fn queue_steps(&mut self, steps: &[Arc<Step>]) {
        for step in steps {
            if step.revision <= self.cursor {
                continue;
            }
            self.queued.push_back(News::Step(step.after(self.cursor)));
            self.cursor = step.revision;
            self.hub.figures.steps_told.inc();
            if step.phase().is_terminal() {
                // A later run is another watch.
                self.is_over = true;
                return;
            }
        }
    }

    async fn queue_snapshot(&mut self) -> Result<()> {
        let snapshot = self.follower.snapshot(&self.store).await?.ok_or_else(|| self.missing())?;
        self.is_same(&snapshot.job)?;
        self.cursor = snapshot.job.revision;
        self.is_over = snapshot.job.state.is_terminal();
        self.queued.push_back(News::Snapshot(snapshot));
        self.hub.figures.snapshots_told.inc();
        Ok(())
    }

    async fn catch_up(&mut self, at_first: bool) -> Result<()> {
        let page = self.follower.page(&self.store, self.cursor).await?.ok_or_else(|| self.missing())?;
        self.is_same(&page.job)?;
        if page.job.revision < self.cursor {
            // Later it can only be another job of the same id.
            let (from, actual) = (self.cursor, page.job.revision);
            return Err(if at_first { Refusal::RevisionInFuture { from, actual }.into() } else { self.missing() });
        }
        if let Some(oldest) = page.gap_after(self.cursor) {
            self.queued.push_back(News::Gap { oldest });
            self.hub.figures.gaps_told.inc();
            return self.queue_snapshot().await;
        }
        self.queue_steps(&page.steps);
        // What was read up to the end is the end, also if nothing was missing.
        self.is_over |= !page.has_more && page.job.revision == self.cursor && page.job.state.is_terminal();
        Ok(())
    }

    /// A job that was made under the id of the watched one after a deletion is another.
    fn is_same(&mut self, job: &Job) -> Result<()> {
        let made = *self.made.get_or_insert(job.meta.create_time);
        if made == job.meta.create_time && self.follower.topic.is_of(job) { Ok(()) } else { Err(self.missing()) }
    }

    fn missing(&self) -> crate::error::Error {
        Refusal::JobNotFound { job_id: self.job_id.to_string() }.into()
    }
}

impl Follower {
    /// The job as it is, read once for all who ask at the same time, together with other jobs; `None` if there is no such job.
    pub(super) async fn snapshot(&self, store: &Store) -> Result<Option<Arc<Snapshot>>> {
        let (hub, store) = (self.hub.clone(), store.clone());
        let read = move |keys: Vec<JobKey>| {
            let (hub, store) = (hub.clone(), store.clone());
            async move {
                hub.figures.snapshots_read.inc();
                let found = store.jobs_with_documents(&keys).await?.into_iter();
                Ok(found.map(|(key, (job, documents))| (key, Arc::new(Snapshot::new(job, documents)))).collect())
            }
        };
        let snapshot = self.hub.snapshots.ask(self.topic.key, read).await?;
        if let Some(snapshot) = &snapshot {
            self.topic.observe(&snapshot.job);
        }
        Ok(snapshot)
    }

    /// What came after a revision, read once for all who ask at the same time; `None` if there is no such job.
    pub(super) async fn page(&self, store: &Store, revision: i64) -> Result<Option<Arc<Page>>> {
        let (topic, hub, store) = (self.topic.clone(), self.hub.clone(), store.clone());
        topic.ask_after(revision);
        let read = move || {
            let (topic, hub, store) = (topic.clone(), hub.clone(), store.clone());
            async move {
                hub.figures.histories_read.inc();
                // All who ask by now are served, those who are furthest behind too.
                Page::read(&store, topic.key, topic.asked_after().min(revision)).await
            }
        };
        let usable = |page: &Option<Arc<Page>>| page.as_ref().is_none_or(|page| page.serves(revision));
        let page = self.topic.pages.read(usable, read).await?;
        if let Some(page) = &page {
            self.topic.observe(&page.job);
        }
        Ok(page)
    }
}

fn history(from: i64, job: &Arc<Job>, events: Vec<Arc<crate::domain::event::JobEvent>>) -> Vec<Arc<Step>> {
    let mut previous = from;
    let step = |event: Arc<crate::domain::event::JobEvent>| {
        let before = std::mem::replace(&mut previous, event.revision);
        Arc::new(Step::of_history(before, job.clone(), event))
    };
    events.into_iter().map(step).collect()
}
