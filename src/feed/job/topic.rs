//! The log of a followed job: its newest steps, once for all watches.
//!
//! A watch is a revision in this log and the steps it took to send next, so one whose client does not read costs next to nothing. A watch that falls
//! behind the beginning of the log reads history.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::watch;

use super::reads::HistoryPage;
use super::step::{JobStep, RevisionRange};
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::domain::time::Timestamp;
use crate::feed::shared_read::SharedRead;

/// Maximum number of steps in a log.
const MAX_STEPS: usize = 1_024;
/// Maximum size of the steps in a log, approximately.
const MAX_BYTES: usize = 1 << 20;
/// Maximum number of steps that a watch takes at once.
const STEPS_PER_TAKE: usize = 256;
/// Number of merged steps that are held for other watches that are as far behind.
const MAX_MERGED: usize = 4;

/// The log of one job.
pub struct Topic {
    pub key: JobKey,
    log: Mutex<StepLog>,
    /// Changes when followers have to look at the log.
    announced: watch::Sender<()>,
    /// Reads of history for watches that are behind the log.
    pub(super) pages: Arc<SharedRead<Option<Arc<HistoryPage>>>>,
    /// The earliest revision after which history was requested.
    requested: AtomicI64,
}

#[derive(Default)]
struct StepLog {
    newest: Option<Arc<Job>>,
    /// All steps after this revision are in `steps`.
    floor: i64,
    steps: VecDeque<Arc<JobStep>>,
    bytes: usize,
    merged: VecDeque<Arc<JobStep>>,
    is_deleted: bool,
    /// Whether followers have to be woken, and no caller was asked yet to arrange it.
    is_changed: bool,
}

/// What the log has after a revision.
pub enum StepsAfter {
    /// The next steps; more may follow.
    Steps(Vec<Arc<JobStep>>),
    /// The revision is the newest one that is known.
    Nothing,
    /// The log begins later: history has to be read.
    Older,
    /// The job was deleted.
    Gone,
}

impl Topic {
    /// The log of a job of which nothing is known yet.
    pub fn new(key: JobKey) -> Self {
        Self {
            key,
            log: Mutex::default(),
            announced: watch::Sender::new(()),
            pages: Arc::default(),
            requested: AtomicI64::new(i64::MAX),
        }
    }

    /// Requests history after a revision.
    pub(super) fn request_after(&self, revision: i64) {
        self.requested.fetch_min(revision, Ordering::AcqRel);
    }

    /// Takes the earliest revision after which history was requested since the last call.
    pub(super) fn take_requested_after(&self) -> i64 {
        self.requested.swap(i64::MAX, Ordering::AcqRel)
    }

    /// Follows announcements from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.announced.subscribe()
    }

    /// Wakes all followers. Returns how many were woken.
    pub fn announce(&self) -> usize {
        self.log.lock().is_changed = false;
        self.announced.send_replace(());
        self.announced.receiver_count()
    }

    /// The newest known state of the job. None: nothing is known.
    pub fn newest(&self) -> Option<Arc<Job>> {
        self.log.lock().newest.clone()
    }

    /// Whether the job has ended or was deleted.
    pub fn has_ended(&self) -> bool {
        let log = self.log.lock();
        log.is_deleted || log.newest.as_ref().is_some_and(|job| job.state.is_terminal())
    }

    /// The newest known revision. 0: none is known.
    pub fn head(&self) -> i64 {
        self.log.lock().head()
    }

    /// Whether a job is the followed one, and not one that was submitted again under its id.
    pub fn is_of(&self, job: &Job) -> bool {
        self.log.lock().newest.as_ref().is_none_or(|newest| newest.meta.create_time == job.meta.create_time)
    }

    /// Begins the log with a job that was read, if nothing is known yet.
    pub fn observe(&self, job: &Arc<Job>) {
        let mut log = self.log.lock();
        if log.newest.is_none() {
            log.floor = job.revision;
            log.newest = Some(job.clone());
        }
    }

    /// Adds what was committed or read. Returns whether the caller has to arrange for an announcement; it is arranged once for all
    /// that is added before it.
    pub fn add(&self, range: RevisionRange, now: Timestamp) -> bool {
        let mut log = self.log.lock();
        let head = log.head();
        if log.is_deleted || (log.newest.is_some() && range.job.revision <= head) {
            return false;
        }
        let job = range.job.clone();
        if range.from == job.revision || (log.newest.is_some() && range.from != head) {
            // What lies in between is not known here, so watches have to read it.
            log.steps.clear();
            log.bytes = 0;
            log.floor = job.revision;
        } else {
            if log.newest.is_none() {
                log.floor = range.from;
            }
            for step in range.steps(now) {
                log.push(step);
            }
        }
        log.newest = Some(job);
        !std::mem::replace(&mut log.is_changed, true)
    }

    /// Ends the log: the job was deleted. Returns whether the caller has to arrange for an announcement.
    pub fn end(&self) -> bool {
        let mut log = self.log.lock();
        log.is_deleted = true;
        !std::mem::replace(&mut log.is_changed, true)
    }

    /// The steps after a revision. With `conflate`, consecutive steps of progress are merged.
    pub fn after(&self, revision: i64, conflate: bool) -> StepsAfter {
        let mut log = self.log.lock();
        if log.is_deleted {
            return StepsAfter::Gone;
        }
        if revision >= log.head() {
            return StepsAfter::Nothing;
        }
        if revision < log.floor {
            return StepsAfter::Older;
        }
        let first = log.steps.partition_point(|step| step.revision <= revision);
        let steps: Vec<Arc<JobStep>> = log.steps.range(first..).cloned().collect();
        debug_assert!(
            steps.first().is_none_or(|first| first.previous <= revision),
            "no step after the floor is missing"
        );
        let mut steps = if conflate { log.conflated(steps) } else { steps };
        steps.truncate(STEPS_PER_TAKE);
        StepsAfter::Steps(steps)
    }
}

impl StepLog {
    fn head(&self) -> i64 {
        self.newest.as_ref().map_or(0, |job| job.revision)
    }

    fn push(&mut self, step: Arc<JobStep>) {
        debug_assert!(
            self.steps.back().is_none_or(|last| last.revision == step.previous),
            "a step follows the last one"
        );
        self.bytes += step.weight_bytes();
        self.steps.push_back(step);
        while self.steps.len() > MAX_STEPS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.steps.pop_front() else { break };
            self.bytes -= oldest.weight_bytes();
            self.floor = oldest.revision;
        }
    }

    /// Merges consecutive steps of progress. Watches that are equally far behind get the same merged step, so that it is encoded once.
    fn conflated(&mut self, steps: Vec<Arc<JobStep>>) -> Vec<Arc<JobStep>> {
        let mut conflated = Vec::new();
        for run in steps.chunk_by(|one, next| one.is_progress() && next.is_progress()) {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            if run.len() == 1 {
                conflated.push(first.clone());
                continue;
            }
            let known = self.merged.iter().find(|m| (m.previous, m.revision) == (first.previous, last.revision));
            let merged = known.cloned().or_else(|| JobStep::merged(run));
            let Some(merged) = merged else { continue };
            if !self.merged.iter().any(|known| Arc::ptr_eq(known, &merged)) {
                self.merged.truncate(MAX_MERGED - 1);
                self.merged.push_front(merged.clone());
            }
            conflated.push(merged);
        }
        conflated
    }
}
