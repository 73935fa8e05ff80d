//! A lane runs groups, one after the other, over one connection: load, decide, commit, install, answer.
//!
//! An optimistic lane decides on cached state and lets the commit prove it; what another server was writing it passes on to
//! the locking lane, which takes the rows' locks first. Both decide the same way.

mod passing;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;
use futures::FutureExt;
use tokio::time::{Instant, timeout};
use tracing::Instrument;
use uuid::Uuid;

use super::loading::{begin, load};
use super::queue::{Pending, Queue, Side};
use super::roots::Roots;
use super::round::{COMMIT_TIMEOUT, Ended, Round, Wanted, Work};
use super::shared::Shared;
use super::traced::GroupSpan;
use super::undone::{Undone, away, unread};
use crate::error::Error;
use crate::failpoint;
use crate::figures::writer::{LaneFigures, LaneKind};
use crate::operation::overlay::Key;
use crate::store::commit::settle::settle;
use crate::store::commit::{CommitError, Committed};
use crate::store::connection::{Explained, Lane as Connection, Open, is_lock_timeout};
use crate::store::held::held_tables;

/// How long the outcome of a lost commit is looked for.
const SETTLE_FOR: Duration = Duration::from_secs(10);
/// How long reading what a group stands on may take, the wait for locks included.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the locking lane waits for a row that somebody else has locked.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long an optimistic lane does, which holds up everybody behind it: so long as a commit may take. It knows of nobody else who
/// writes the row, or it would not wait at all.
const PASSING_WAIT: Duration = Duration::from_millis(500);
/// How long one look may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a write waits for a row that a foreign session holds, after the wait for its lock.
const HELD_FOR: Duration = Duration::from_secs(8);
/// Between two looks whether it is free.
const HELD_PAUSE: Duration = Duration::from_millis(20);
/// Held rows that are remembered.
const MAX_HELD: usize = 1_000;
/// How long finding out which tables are held may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks whether they are free.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// How a lane goes about shared rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On cached state, proved by the commit.
    Optimistic,
    /// Locks first.
    Locking,
}

/// One lane.
pub struct Lane {
    mode: Mode,
    kind: LaneKind,
    figures: LaneFigures,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    side: Side,
    aside: Arc<Queue>,
    connection: Connection,
    /// Roots whose rows somebody holds for longer than a commit takes; one of the locking lane's.
    held: HashSet<Key>,
    /// When it was last looked which tables are held.
    looked: Option<Instant>,
}

/// What a group waits for that other sessions held when it was last tried.
#[derive(Clone, Copy, Default)]
struct Held {
    rows: bool,
    tables: bool,
}

impl Lane {
    /// A lane that takes from one queue and passes contended operations on to another.
    pub fn new(
        (mode, kind): (Mode, LaneKind),
        shared: Arc<Shared>,
        (queue, side): (Arc<Queue>, Side),
        aside: Arc<Queue>,
    ) -> Self {
        let lock_wait = if mode == Mode::Locking { LOCK_WAIT } else { PASSING_WAIT };
        let connection = Connection::new(shared.store.target.clone(), lock_wait);
        let figures = shared.figures.lane(kind);
        Self { mode, kind, figures, shared, queue, side, aside, connection, held: HashSet::default(), looked: None }
    }

    /// Serves the queue until it is closed and empty.
    pub async fn run(mut self) {
        while let Some(group) = self.queue.take_group(self.side).await {
            // A fault in one decision must not end the lane. The callers of its group are answered that the outcome is not known.
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
        let group = self.without_contended(group);
        let rows = group.iter().map(|pending| pending.weight.rows).sum();
        let mut todo = vec![Work { group, stale: HashSet::default() }];
        while let Some(work) = todo.pop() {
            todo.extend(self.round(work).await);
        }
        self.queue.note_pace(rows, began.elapsed());
    }

    fn without_contended(&self, group: Vec<Pending>) -> Vec<Pending> {
        if !self.passes_aside() {
            return group;
        }
        if !group.iter().all(|pending| pending.operation.is_probe()) && failpoint::hit("contend") {
            group.into_iter().for_each(|pending| self.pass_aside(pending));
            return Vec::new();
        }
        if self.shared.contended.is_empty() {
            return group;
        }
        let contended = &self.shared.contended;
        self.without(group, |pending| pending.keys().any(|key| contended.has(key)))
    }

    /// Passes on what needs a table that another session holds: in the locking lane it waits apart from all others.
    fn without_held(&self, group: Vec<Pending>) -> Vec<Pending> {
        let tables = &self.shared.held_tables;
        if tables.is_empty() {
            return group;
        }
        self.without(group, |pending| tables.among(pending.keys()) > 0)
    }

    /// Decides and commits a group once. Returns what must be decided again.
    async fn round(&mut self, mut work: Work) -> Vec<Work> {
        if self.passes_aside() {
            work.group = self.without_held(work.group);
        }
        if work.group.is_empty() {
            return Vec::new();
        }
        let group_id = Uuid::now_v7();
        let (round, mut ended) = match self.mode {
            Mode::Optimistic => match self.optimistic(work, group_id).await {
                Ok(done) => done,
                Err(undone) => {
                    let work = self.undone(undone).await;
                    return self.put_off(work).await;
                }
            },
            Mode::Locking => {
                let (work, held) = match self.apart(work) {
                    Ok(together) => together,
                    Err(parts) => return parts,
                };
                if held.tables && self.still_held(&work).await {
                    return self.wait_for_rows(vec![work], true).await;
                }
                match self.locking(work, held.rows, group_id).await {
                    Ok(done) => done,
                    Err(undone) if undone.is_broken => return self.undone(undone).await,
                    Err(undone) => return self.wait_for_rows(undone.work, held.rows).await,
                }
            }
        };
        if matches!(ended, Ended::Held) {
            self.look_at_tables().await;
        }
        if matches!(ended, Ended::Failed(Error::StoreUnavailable | Error::StoreReadOnly)) {
            // It may lead to a server that is ending, or takes no writes any more.
            self.connection.discard();
        }
        if matches!(ended, Ended::Lost) {
            self.connection.discard();
            if round.writes() {
                ended = self.settled(group_id).await;
            }
        }
        match &ended {
            Ended::Applied(_) if round.writes() => self.shared.last_write.done(),
            Ended::Failed(_) | Ended::Lost => self.shared.last_write.failed(),
            Ended::Applied(_) | Ended::Beaten | Ended::Held | Ended::Poisoned(_) => {}
        }
        if !round.is_probe() {
            failpoint::hit("before_reply");
        }
        let is_poisoned = matches!(ended, Ended::Poisoned(_));
        let aside = |pending| self.pass_aside(pending);
        let work = round.finish((&self.shared, &self.figures), ended, self.passes_aside().then_some(&aside));
        if is_poisoned { work } else { self.put_off(work).await }
    }

    async fn undone(&mut self, undone: Undone) -> Vec<Work> {
        if undone.is_broken {
            // What it was in the middle of ends with it.
            self.connection.discard();
            self.shared.last_write.failed();
        }
        if undone.is_held {
            self.look_at_tables().await;
        }
        undone.work
    }

    /// Finds out which tables other sessions hold, for all lanes.
    async fn look_at_tables(&mut self) {
        self.looked = Some(Instant::now());
        let Ok(open) = self.connection.open().await else { return };
        match timeout(LOOK_TIMEOUT, held_tables(&open.client)).await {
            Ok(Ok(tables)) => self.shared.held_tables.set(&tables),
            // As if none were: whoever waits for one finds out.
            Ok(Err(_)) | Err(_) => {
                self.shared.held_tables.set(&[]);
                self.connection.discard();
            }
        }
    }

    /// Whether other sessions still hold tables that a group needs.
    async fn still_held(&mut self, work: &Work) -> bool {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.look_at_tables().await;
        }
        work.group.iter().any(|pending| self.shared.held_tables.among(pending.keys()) > 0)
    }

    /// A group whose rows may all be waited for together, and what of it others held before; or the parts of a group, the
    /// last of which goes first: whoever needs what is held shall not hold up the others.
    fn apart(&self, work: Work) -> Result<(Work, Held), Vec<Work>> {
        let tables = &self.shared.held_tables;
        if self.held.is_empty() && tables.is_empty() {
            return Ok((work, Held::default()));
        }
        // By all that is held of what it needs: whoever needs one row shall not wait for the others of who needs several.
        let mut parts: BTreeMap<(u8, Vec<Key>), Vec<Pending>> = BTreeMap::new();
        for pending in work.group {
            let mut held: Vec<Key> = pending.keys().filter(|key| self.held.contains(key)).cloned().collect();
            held.sort_unstable();
            held.dedup();
            parts.entry((tables.among(pending.keys()), held)).or_default().push(pending);
        }
        let held = |(tables, rows): (u8, Vec<Key>)| Held { rows: !rows.is_empty(), tables: tables > 0 };
        let mut parts: Vec<_> = parts.into_iter().rev().map(|(what, group)| (held(what), group)).collect();
        match parts.pop() {
            Some((held, group)) if parts.is_empty() => Ok((Work { group, ..Work::default() }, held)),
            last => {
                let parts = parts.into_iter().chain(last);
                Err(parts.map(|(_, group)| Work { group, ..Work::default() }).collect())
            }
        }
    }

    /// Somebody holds rows of this work. The first time, it is found out whose they are by trying each root alone; those of
    /// held rows wait in the queue, where they are looked at now and then without being waited for.
    async fn wait_for_rows(&mut self, work: Vec<Work>, was_held: bool) -> Vec<Work> {
        if !was_held {
            self.look_at_tables().await;
            let waiting = || work.iter().flat_map(|work| &work.group);
            if waiting().any(|pending| self.shared.held_tables.among(pending.keys()) > 0) {
                return work;
            }
            if self.held.len() >= MAX_HELD {
                self.held.clear();
            }
            self.held.extend(waiting().flat_map(Pending::keys).filter(|key| key.is_root()).cloned());
            return work;
        }
        self.wait_in_queue(work, |_| {}).await
    }

    async fn optimistic(&mut self, mut work: Work, group_id: Uuid) -> Result<(Round, Ended), Undone> {
        let open = match self.connection.open().await {
            Ok(open) => open,
            Err(error) => return Err(away(work.group, &error)),
        };
        let span = GroupSpan::begin(&mut work.group, "optimistic", group_id);
        let wanted = Wanted::by(&work.group);
        let load = load(&self.shared, &open.client, &wanted, &work.stale, true).instrument(span.load());
        let basis = match timeout(LOAD_TIMEOUT, load).await {
            Ok(Ok(basis)) => basis,
            Ok(Err(error)) => return Err(unread(work, &error)),
            Err(_) => return Err(away(work.group, &Error::StoreUnavailable)),
        };
        let round = Round::decide(work.group, basis, !self.shared.rivals.are_about(), span);
        let began = Instant::now();
        let ended = if round.is_settled() {
            Ended::Applied(Committed { components: Vec::new(), told: None })
        } else {
            let ended = round.commit(&open.client, &mut open.prepared, group_id).await;
            self.figures.commits.took(began.elapsed());
            ended
        };
        Ok((round, ended))
    }

    async fn locking(&mut self, mut work: Work, is_held: bool, group_id: Uuid) -> Result<(Round, Ended), Undone> {
        let span = GroupSpan::begin(&mut work.group, "locking", group_id);
        let wanted = Wanted::by(&work.group);
        let roots = Roots::of(wanted.keys.iter().copied());
        let Open { client, prepared } = match self.connection.open().await {
            Ok(open) => open,
            Err(error) => return Err(away(work.group, &error)),
        };
        let begin = begin(&self.shared, client, &roots, !is_held, &wanted).instrument(span.load());
        let begun = timeout(LOAD_TIMEOUT, begin).await;
        let (transaction, basis) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) if is_lock_timeout(&error) => {
                return Err(Undone { work: vec![work], is_broken: false, is_held: true });
            }
            Ok(Err(error)) => return Err(unread(work, &error)),
            Err(_) => return Err(away(work.group, &Error::StoreUnavailable)),
        };
        wanted.keys.iter().for_each(|key| {
            self.held.remove(*key);
        });
        let round = Round::decide(work.group, basis, false, span);
        if round.is_settled() {
            return Ok((round, Ended::Applied(Committed { components: Vec::new(), told: None })));
        }
        let began = Instant::now();
        let ended = match round.commit(&transaction, prepared, group_id).await {
            Ended::Applied(committed) => match timeout(COMMIT_TIMEOUT, transaction.commit()).await {
                Ok(Ok(())) if failpoint::hit("after_locked_commit") => Ended::Lost,
                Ok(Ok(())) => Ended::Applied(committed),
                Ok(Err(error)) => CommitError::of(error).into(),
                Err(_) => Ended::Lost,
            },
            // Without its COMMIT nothing of it can have been written.
            Ended::Lost => Ended::Failed(Error::StoreUnavailable),
            ended => ended,
        };
        self.figures.commits.took(began.elapsed());
        Ok((round, ended))
    }

    /// Finds out what became of a group whose connection was lost while it was being committed.
    async fn settled(&mut self, group_id: Uuid) -> Ended {
        let until = Instant::now() + SETTLE_FOR;
        while Instant::now() < until {
            if failpoint::hit("settle") {
                self.connection.discard();
            } else if let Ok(open) = self.connection.open().await {
                match timeout(SETTLE_TIMEOUT, settle(&open.client, group_id)).await {
                    Ok(Ok(Some(components))) => {
                        return Ended::Applied(Committed { components, told: None });
                    }
                    Ok(Ok(None)) => return Ended::Beaten,
                    Ok(Err(error)) => {
                        tracing::debug!(error = %Explained(&error), "the outcome of a lost commit is not known yet");
                        self.connection.discard();
                    }
                    Err(_) => self.connection.discard(),
                }
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        Ended::Lost
    }
}
