//! Operations on keys and tables that others write or lock. Most lanes requeue them before the locking lane. There they are tried apart from each
//! other, until a bound. The lane of heartbeats requeues nothing there: it tries again a little later, behind what has come since.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Lane;
use crate::engine::contention::{Blocked, ContentionLevel};
use crate::engine::queue::Pending;
use crate::engine::work::Work;
use crate::error::Error;
use crate::failpoint;
use crate::figures::writer::LaneKind;
use crate::store::held::held_tables;

/// Time that an operation waits for rows and tables that other sessions hold, after the first wait for their locks. Then the answer is
/// CONFLICT.
const BLOCKED_TIMEOUT: Duration = Duration::from_secs(8);
/// Pause of a lane before it tries again what is blocked.
const BLOCKED_PAUSE: Duration = Duration::from_millis(20);
/// Time that reading which tables are held may take.
const TABLES_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which the held tables are not read again.
const TABLES_EVERY: Duration = Duration::from_millis(100);

impl Lane {
    /// Whether it requeues operations before the locking lane.
    pub(super) fn requeues(&self) -> bool {
        matches!(self.id.kind, LaneKind::Main | LaneKind::Bulk)
    }

    /// Moves an operation to the locking lane.
    pub(super) fn requeue_locking(&self, mut pending: Pending) {
        debug_assert!(self.requeues(), "{:?} keeps what it takes", self.id);
        self.shared.figures.contended.inc();
        pending.rounds = pending.rounds.max(1);
        self.queue.requeue(LaneKind::Locking, pending);
    }

    /// Moves operations on hot keys to the locking lane. Returns the others.
    pub(super) fn without_hot(&self, group: Vec<Pending>) -> Vec<Pending> {
        if !self.requeues() {
            return group;
        }
        if !group.iter().all(|pending| pending.operation.is_probe()) && failpoint::hit("contend") {
            group.into_iter().for_each(|pending| self.requeue_locking(pending));
            return Vec::new();
        }
        let contention = &self.shared.contention;
        if !contention.has_any(ContentionLevel::Hot) {
            return group;
        }
        self.without(group, |pending| contention.is_at(ContentionLevel::Hot, pending.keys()))
    }

    /// Moves operations that need a table which another session holds to the locking lane. Returns the others.
    pub(super) fn without_blocked_tables(&self, group: Vec<Pending>) -> Vec<Pending> {
        let contention = &self.shared.contention;
        if !self.requeues() || !contention.has_blocked_tables() {
            return group;
        }
        self.without(group, |pending| contention.needs_blocked_table(pending.keys()))
    }

    fn without(&self, group: Vec<Pending>, is_contended: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let (contended, others): (Vec<Pending>, Vec<Pending>) = group.into_iter().partition(is_contended);
        contended.into_iter().for_each(|pending| self.requeue_locking(pending));
        others
    }

    /// A group whose operations are blocked by the same rows and tables, usually none, and those. Otherwise the group in such parts; the last goes
    /// first, and those that nothing blocks before the others. So an operation waits for what it needs itself, and for nothing else.
    pub(super) fn apart(&self, work: Work) -> Result<(Work, Blocked), Vec<Work>> {
        let contention = &self.shared.contention;
        if !contention.has_any(ContentionLevel::Blocked) && !contention.has_blocked_tables() {
            return Ok((work, Blocked::default()));
        }
        let mut parts: BTreeMap<Blocked, Vec<Pending>> = BTreeMap::new();
        for pending in work.group {
            parts.entry(contention.blocked(pending.keys())).or_default().push(pending);
        }
        match parts.pop_first() {
            Some((blocked, group)) if parts.is_empty() => Ok((Work { group, ..Work::default() }, blocked)),
            first => {
                let groups = parts.into_values().rev().chain(first.map(|(_, group)| group));
                Err(groups.map(|group| Work { group, ..Work::default() }).collect())
            }
        }
    }

    /// A row of this work stayed locked. Unless a table is the cause, all its roots are marked: tried one by one, those that can be locked lose the
    /// mark again.
    pub(super) async fn on_lock_timeout(&mut self, work: Vec<Work>) -> Vec<Work> {
        self.read_blocked_tables().await;
        self.mark_blocked(&work);
        work
    }

    pub(super) fn mark_blocked(&self, work: &[Work]) {
        let contention = &self.shared.contention;
        let waiting = || work.iter().flat_map(|work| &work.group);
        if !waiting().any(|pending| contention.needs_blocked_table(pending.keys())) {
            contention.mark(ContentionLevel::Blocked, waiting().flat_map(Pending::keys).filter(|key| key.is_root()));
        }
    }

    /// A row that was blocked still is.
    pub(super) async fn wait_for_rows(&self, work: Vec<Work>) -> Vec<Work> {
        self.keep_blocked(&work);
        self.wait_in_queue(work).await
    }

    pub(super) fn keep_blocked(&self, work: &[Work]) {
        let contention = &self.shared.contention;
        for pending in work.iter().flat_map(|work| &work.group) {
            contention.mark(ContentionLevel::Blocked, contention.blocked(pending.keys()).rows());
        }
    }

    /// In the lane of heartbeats, puts off what has to be decided again: renewals wait for no lock, so they would fail until the other
    /// session ends. Other lanes go on with it.
    pub(super) async fn put_off(&self, mut work: Vec<Work>) -> Vec<Work> {
        if self.id.kind != LaneKind::Leases || work.is_empty() {
            return work;
        }
        work.iter_mut().flat_map(|work| &mut work.group).for_each(|pending| pending.rounds = 1);
        self.wait_in_queue(work).await
    }

    /// Lets work wait in the lane's own queue, up to [`BLOCKED_TIMEOUT`] in all.
    pub(super) async fn wait_in_queue(&self, work: Vec<Work>) -> Vec<Work> {
        self.requeue_blocked(work);
        tokio::time::sleep(BLOCKED_PAUSE).await;
        Vec::new()
    }

    pub(super) fn requeue_blocked(&self, work: Vec<Work>) {
        for mut pending in work.into_iter().flat_map(|work| work.group) {
            if pending.blocked_since.get_or_insert_with(Instant::now).elapsed() < BLOCKED_TIMEOUT {
                self.queue.requeue(self.id.kind, pending);
            } else {
                pending.answer(Err(Error::Conflict));
            }
        }
    }

    /// Reads which tables other sessions hold, for all lanes.
    pub(super) async fn read_blocked_tables(&mut self) {
        self.tables_read = Some(Instant::now());
        let Ok(open) = self.connection.open().await else { return };
        match timeout(TABLES_TIMEOUT, held_tables(&open.client)).await {
            Ok(Ok(tables)) => self.shared.contention.set_tables(&tables),
            // As if none were held: the next statement that needs one fails and leads here again.
            Ok(Err(_)) | Err(_) => {
                self.shared.contention.set_tables(&[]);
                self.connection.discard();
            }
        }
    }

    /// Whether other sessions still hold tables that a group needs.
    pub(super) async fn tables_are_blocked(&mut self, work: &Work) -> bool {
        if self.tables_read.is_none_or(|read| read.elapsed() >= TABLES_EVERY) {
            self.read_blocked_tables().await;
        }
        work.group.iter().any(|pending| self.shared.contention.needs_blocked_table(pending.keys()))
    }
}
