//! A lane runs groups over one connection, one after the other: load, decide, commit, install, answer.
//!
//! Layout: `deciding` are the two ways to decide a group: on cached state that the commit proves, or below row locks; `contended` is what becomes of
//! operations on keys and tables that others write or lock; `resolving` finds out the outcome of a commit whose connection was lost.

mod contended;
mod deciding;
mod resolving;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;
use futures::FutureExt;
use tokio::time::Instant;
use uuid::Uuid;

use super::outcome::CommitOutcome;
use super::queue::{LaneId, Pending, Queue};
use super::round::Round;
use super::shared::Shared;
use super::work::{Retry, Work};
use crate::error::Error;
use crate::failpoint;
use crate::figures::writer::{LaneFigures, LaneKind};
use crate::store::commit::lane::LaneConnection;

/// Time that the locking lane waits for a row lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Time that other lanes wait for a row lock, while all operations behind wait too: as long as a commit may take. They wait only where no other
/// writer is known.
const OPTIMISTIC_LOCK_WAIT: Duration = Duration::from_millis(500);

/// A loop over the groups of one kind of lane, with its connection.
pub struct Lane {
    id: LaneId,
    figures: LaneFigures,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    connection: LaneConnection,
    /// When this lane last looked which tables other sessions hold. None: never.
    tables_read: Option<Instant>,
}

impl Lane {
    /// A lane over the queue; it connects when it has its first group.
    pub fn new(id: LaneId, shared: Arc<Shared>, queue: Arc<Queue>) -> Self {
        let lock_wait = if id.kind == LaneKind::Locking { LOCK_WAIT } else { OPTIMISTIC_LOCK_WAIT };
        let connection = LaneConnection::new(shared.store.target.clone(), lock_wait);
        let figures = shared.figures.lane(id.kind);
        Self { id, figures, shared, queue, connection, tables_read: None }
    }

    /// Serves the queue until it is closed and holds nothing more for this lane.
    pub async fn run(mut self) {
        while let Some(group) = self.queue.take_group(self.id).await {
            // A fault in one decision must not end the lane. The callers of its group are answered with OUTCOME_UNKNOWN.
            if AssertUnwindSafe(self.serve(group)).catch_unwind().await.is_err() {
                tracing::error!("a lane panicked; the outcome of its group is not known");
                self.connection.discard();
            }
        }
    }

    async fn serve(&mut self, group: Vec<Pending>) {
        let began = Instant::now();
        for pending in group.iter().filter(|pending| pending.rounds == 0) {
            self.figures.queue_waits.took(began.duration_since(pending.queued));
        }
        let group = self.without_hot(group);
        let rows = group.iter().map(|pending| pending.weight.rows).sum();
        let mut todo = vec![Work { group, stale: HashSet::default() }];
        while let Some(work) = todo.pop() {
            todo.extend(self.round(work).await);
        }
        self.queue.note_pace(self.id.kind, rows, began.elapsed());
    }

    /// Decides and commits a group once. Returns what must be decided again.
    async fn round(&mut self, mut work: Work) -> Vec<Work> {
        work.group = self.without_blocked_tables(work.group);
        if work.group.is_empty() {
            return Vec::new();
        }
        let group_id = Uuid::now_v7();
        let (round, outcome) = if self.id.kind == LaneKind::Locking {
            let (work, blocked) = match self.apart(work) {
                Ok(together) => together,
                Err(parts) => return parts,
            };
            if blocked.has_tables() && self.tables_are_blocked(&work).await {
                return self.wait_in_queue(vec![work]).await;
            }
            match self.decide_locked(work, !blocked.has_rows(), group_id).await {
                Ok(done) => done,
                Err(retry) if retry.is_broken => return self.on_retry(retry).await,
                Err(retry) if blocked.has_rows() => return self.wait_for_rows(retry.work).await,
                Err(retry) => return self.on_lock_timeout(retry.work).await,
            }
        } else {
            match self.decide_optimistically(work, group_id).await {
                Ok(done) => done,
                Err(retry) => {
                    let work = self.on_retry(retry).await;
                    return self.put_off(work).await;
                }
            }
        };
        self.finish(round, outcome, group_id).await
    }

    /// Draws the conclusions from the end of a commit. Returns what must be decided again.
    async fn finish(&mut self, round: Round, mut outcome: CommitOutcome, group_id: Uuid) -> Vec<Work> {
        match &outcome {
            CommitOutcome::Blocked => self.read_blocked_tables().await,
            CommitOutcome::Indeterminate => {
                self.connection.discard();
                if round.writes() {
                    outcome = self.resolve(group_id).await;
                }
            }
            // The connection may lead to a server that is ending, or that takes no writes any more.
            CommitOutcome::Failed(Error::StoreUnavailable | Error::StoreReadOnly) => self.connection.discard(),
            CommitOutcome::Applied(_)
            | CommitOutcome::Conflict
            | CommitOutcome::InvalidData(_)
            | CommitOutcome::Failed(_) => {}
        }
        match &outcome {
            CommitOutcome::Applied(_) if round.writes() => {
                self.shared.last_write.succeeded();
                self.shared.contention.note_write();
            }
            CommitOutcome::Failed(_) | CommitOutcome::Indeterminate => self.shared.last_write.failed(),
            CommitOutcome::Applied(_)
            | CommitOutcome::Conflict
            | CommitOutcome::Blocked
            | CommitOutcome::InvalidData(_) => {}
        }
        if !round.is_probe() {
            failpoint::hit("before_reply");
        }
        let is_invalid = matches!(outcome, CommitOutcome::InvalidData(_));
        let requeue = |pending| self.requeue_locking(pending);
        let work = round.finish((&self.shared, &self.figures), outcome, self.requeues().then_some(&requeue));
        // The halves of a group with invalid data are not decided any later.
        if is_invalid { work } else { self.put_off(work).await }
    }

    /// Draws the conclusions from a group that could not be decided. Returns what is tried again.
    async fn on_retry(&mut self, retry: Retry) -> Vec<Work> {
        if retry.is_broken {
            // Its transaction, if there is one, ends with the connection.
            self.connection.discard();
            self.shared.last_write.failed();
        }
        if retry.is_blocked {
            self.read_blocked_tables().await;
        }
        retry.work
    }
}

#[cfg(test)]
mod tests;
