//! What is told of one job to all who watch it: its newest steps, once for everybody.
//!
//! A watcher is a revision in this log and what it took from it to say next, so that one who does not read costs next to nothing. Who falls behind the beginning of
//! the log reads history.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::coalesce::Coalesce;
use super::step::{Span, Step};
use super::watcher::Page;
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::domain::time::Timestamp;

/// Steps that are kept of a job, and their bytes, roughly.
const MAX_STEPS: usize = 1_024;
const MAX_BYTES: usize = 1 << 20;
/// Steps that a watcher gets at once.
const AT_ONCE: usize = 256;
/// Merged steps that are kept for the next watcher who is as far behind.
const MERGED: usize = 4;

/// A watched job.
pub struct Topic {
    /// Which job.
    pub key: JobKey,
    log: Mutex<Log>,
    /// Moves when there is something new.
    announced: watch::Sender<()>,
    /// What is missing, for those who are behind.
    pub(super) pages: Arc<Coalesce<Option<Arc<Page>>>>,
    /// The earliest revision after which somebody asks for a page.
    asked: AtomicI64,
}

#[derive(Default)]
struct Log {
    newest: Option<Arc<Job>>,
    /// What came after this revision is in `steps`.
    floor: i64,
    steps: VecDeque<Arc<Step>>,
    bytes: usize,
    merged: VecDeque<Arc<Step>>,
    is_gone: bool,
    /// There is something that has not been announced.
    is_dirty: bool,
}

/// What comes after a revision.
pub enum After {
    /// These, and perhaps more.
    Steps(Vec<Arc<Step>>),
    /// Nothing is known.
    Nothing,
    /// More than is kept: history knows.
    Older,
    /// The job was deleted.
    Gone,
}

impl Topic {
    /// A job of which nothing is known yet.
    pub fn new(key: JobKey) -> Self {
        Self {
            key,
            log: Mutex::default(),
            announced: watch::Sender::new(()),
            pages: Arc::default(),
            asked: AtomicI64::new(i64::MAX),
        }
    }

    /// Says that somebody needs what came after a revision.
    pub(super) fn ask_after(&self, revision: i64) {
        self.asked.fetch_min(revision, Ordering::AcqRel);
    }

    /// The earliest revision that was asked after since the last time.
    pub(super) fn asked_after(&self) -> i64 {
        self.asked.swap(i64::MAX, Ordering::AcqRel)
    }

    /// Hears of announcements from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.announced.subscribe()
    }

    /// Wakes everybody; returns how many that were.
    pub fn announce(&self) -> usize {
        self.log().is_dirty = false;
        self.announced.send_replace(());
        self.announced.receiver_count()
    }

    /// The newest state that was told of.
    pub fn newest(&self) -> Option<Arc<Job>> {
        self.log().newest.clone()
    }

    /// Whether the job has come to an end, or is gone.
    pub fn has_ended(&self) -> bool {
        let log = self.log();
        log.is_gone || log.newest.as_ref().is_some_and(|job| job.state.is_terminal())
    }

    /// The newest revision that was told of; 0 if none was.
    pub fn head(&self) -> i64 {
        self.log().head()
    }

    /// Whether this is the job that is followed, and not one that was made under its id after a deletion.
    pub fn is_of(&self, job: &Job) -> bool {
        self.log().newest.as_ref().is_none_or(|newest| newest.meta.create_time == job.meta.create_time)
    }

    /// What a reader has just seen, so that the log has a beginning.
    pub fn observe(&self, job: &Arc<Job>) {
        let mut log = self.log();
        if log.newest.is_none() {
            log.floor = job.revision;
            log.newest = Some(job.clone());
        }
    }

    /// Adds what was committed. True if somebody has to announce it, which is asked of the first to add something.
    pub fn add(&self, span: Span, now: Timestamp) -> bool {
        let mut log = self.log();
        let head = log.head();
        if log.is_gone || (log.newest.is_some() && span.job.revision <= head) {
            return false;
        }
        let job = span.job.clone();
        if span.from == job.revision || (log.newest.is_some() && span.from != head) {
            // Something in between is not known here: it will be read.
            log.steps.clear();
            log.bytes = 0;
            log.floor = job.revision;
        } else {
            if log.newest.is_none() {
                log.floor = span.from;
            }
            for step in span.steps(now) {
                log.push(step);
            }
        }
        log.newest = Some(job);
        !std::mem::replace(&mut log.is_dirty, true)
    }

    /// The job is gone. True if somebody has to announce it.
    pub fn end(&self) -> bool {
        let mut log = self.log();
        log.is_gone = true;
        !std::mem::replace(&mut log.is_dirty, true)
    }

    /// What comes after a revision; steps of progress that follow each other are merged if the reader wants it.
    pub fn after(&self, revision: i64, conflate: bool) -> After {
        let mut log = self.log();
        if log.is_gone {
            return After::Gone;
        }
        if revision >= log.head() {
            return After::Nothing;
        }
        if revision < log.floor {
            return After::Older;
        }
        let first = log.steps.partition_point(|step| step.revision <= revision);
        let steps: Vec<Arc<Step>> = log.steps.range(first..).cloned().collect();
        let mut steps = if conflate { log.conflated(steps) } else { steps };
        steps.truncate(AT_ONCE);
        After::Steps(steps)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock()
    }
}

impl Log {
    fn head(&self) -> i64 {
        self.newest.as_ref().map_or(0, |job| job.revision)
    }

    fn push(&mut self, step: Arc<Step>) {
        self.bytes += step.weight_bytes();
        self.steps.push_back(step);
        while self.steps.len() > MAX_STEPS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.steps.pop_front() else { break };
            self.bytes -= oldest.weight_bytes();
            self.floor = oldest.revision;
        }
    }

    /// Merges steps of progress that follow each other. Watchers who are equally far behind get the same step, so that it is
    /// encoded once.
    fn conflated(&mut self, steps: Vec<Arc<Step>>) -> Vec<Arc<Step>> {
        let mut conflated = Vec::new();
        for run in steps.chunk_by(|one, next| one.is_progress() && next.is_progress()) {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            if run.len() == 1 {
                conflated.push(first.clone());
                continue;
            }
            let known = self.merged.iter().find(|m| (m.previous, m.revision) == (first.previous, last.revision));
            let merged = known.cloned().or_else(|| Step::merged(run));
            let Some(merged) = merged else { continue };
            if !self.merged.iter().any(|known| Arc::ptr_eq(known, &merged)) {
                self.merged.truncate(MERGED - 1);
                self.merged.push_front(merged.clone());
            }
            conflated.push(merged);
        }
        conflated
    }
}
