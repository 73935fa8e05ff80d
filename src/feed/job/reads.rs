//! Reads for watches of one job: snapshots and pages of history, shared by the watches that need them at the same time.

use std::sync::Arc;

use super::step::{JobStep, RevisionRange, SharedEncoding};
use crate::domain::documents::JobDocuments;
use crate::domain::event::JobEvent;
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::error::Result;
use crate::store::Store;

/// Maximum number of events in one page of history.
pub(super) const EVENTS_PER_PAGE: u32 = 1_000;

/// A job with its documents, as it was read for the watches that began at the same time.
pub struct JobSnapshot {
    pub job: Arc<Job>,
    /// Payload, result, context and artifacts.
    pub documents: JobDocuments,
    pub encoded: SharedEncoding,
}

impl JobSnapshot {
    /// A job as it was read.
    pub fn new(job: Arc<Job>, documents: JobDocuments) -> Self {
        Self { job, documents, encoded: SharedEncoding::default() }
    }

    /// Approximate size in memory.
    pub fn weight_bytes(&self) -> usize {
        let JobDocuments { payload, result, artifacts, context } = &self.documents;
        let documents = payload.iter().chain(result).chain(artifacts.values()).map(|document| document.len());
        self.job.weight_bytes()
            + documents.sum::<usize>()
            + context.as_ref().map_or(0, |context| context.weight_bytes())
    }
}

/// Steps that were read from the database, for watches that are behind the log of a topic.
pub struct HistoryPage {
    /// The revision they come after.
    pub from: i64,
    /// The steps. The last one leads to `job`, unless there is more history.
    pub steps: Vec<Arc<JobStep>>,
    /// Whether more history follows.
    pub has_more: bool,
    /// The job as it was read.
    pub job: Arc<Job>,
    /// The revision of the oldest event of the job. None: it has none.
    pub oldest: Option<i64>,
}

impl HistoryPage {
    /// Reads what happened after a revision. None: there is no such job.
    pub(super) async fn read(store: &Store, key: JobKey, from: i64) -> Result<Option<Arc<Self>>> {
        let Some(found) = store.changes_after(key, from, EVENTS_PER_PAGE).await? else { return Ok(None) };
        let (job, oldest, has_more) = (found.job, found.oldest, found.has_more);
        let steps = if has_more {
            history(from, &job, found.events)
        } else if job.revision > from {
            RevisionRange::read(from, job.clone(), found.events).steps(found.now)
        } else {
            Vec::new()
        };
        Ok(Some(Arc::new(Self { from, steps, has_more, job, oldest })))
    }

    /// Whether the page has steps after a revision, or shows that there are none.
    pub fn serves(&self, revision: i64) -> bool {
        self.from <= revision && (!self.has_more || self.steps.last().is_some_and(|last| last.revision > revision))
    }

    /// The oldest revision after which history is complete, if events after `revision` have been dropped. None: nothing is missing.
    pub fn gap_after(&self, revision: i64) -> Option<i64> {
        match self.oldest {
            // A job's first revision is an event: history is complete.
            Some(1) => None,
            Some(oldest) => (revision + 1 < oldest).then_some(oldest - 1),
            None => (revision < self.job.revision).then_some(self.job.revision),
        }
    }
}

/// Steps that are described by history alone.
fn history(from: i64, job: &Arc<Job>, events: Vec<Arc<JobEvent>>) -> Vec<Arc<JobStep>> {
    let mut previous = from;
    let step = |event: Arc<JobEvent>| {
        let before = std::mem::replace(&mut previous, event.revision);
        Arc::new(JobStep::of_history(before, job.clone(), event))
    };
    events.into_iter().map(step).collect()
}
