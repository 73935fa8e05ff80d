//! A lane runs groups, one after the other, over one connection: load, decide, commit, install, answer.
//!
//! An optimistic lane decides on cached state and lets the commit prove it; what another server was writing it passes on to
//! the locking lane, which takes the rows' locks first. Both decide the same way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::HashSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::loading::{Basis, load};
use super::queue::{Pending, Queue, Side};
use super::roots::Roots;
use super::round::{COMMIT_TIMEOUT, Ended, Round, Wanted, Work, again, fail};
use super::shared::Shared;
use super::world::Key;
use crate::error::Error;
use crate::failpoint;
use crate::store::commit::settle::settle;
use crate::store::commit::{CommitError, Committed};
use crate::store::connection::{
    Client, DbError, DbResult, Fault, Lane as Connection, Open, Transaction, is_lock_timeout,
};

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
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    side: Side,
    aside: Arc<Queue>,
    connection: Connection,
    /// Roots whose rows somebody holds for longer than a commit takes; one of the locking lane's.
    held: HashSet<Key>,
}

/// What was not decided, and whether the connection is of no more use.
struct Undone {
    work: Vec<Work>,
    is_broken: bool,
}

impl Lane {
    /// A lane that takes from one queue and passes contended operations on to another.
    pub fn new(mode: Mode, shared: Arc<Shared>, (queue, side): (Arc<Queue>, Side), aside: Arc<Queue>) -> Self {
        let lock_wait = if mode == Mode::Locking { LOCK_WAIT } else { PASSING_WAIT };
        let connection = Connection::new(shared.store.target.clone(), lock_wait);
        Self { mode, shared, queue, side, aside, connection, held: HashSet::default() }
    }

    /// Serves the queue until it is closed and empty.
    pub async fn run(mut self) {
        while let Some(group) = self.queue.take_group(self.side).await {
            let (group, began) = (self.without_contended(group), Instant::now());
            let rows = group.iter().map(|pending| pending.weight.rows).sum();
            let mut todo = vec![Work { group, stale: HashSet::default() }];
            while let Some(work) = todo.pop() {
                todo.extend(self.round(work).await);
            }
            self.queue.note_pace(rows, began.elapsed());
        }
    }

    fn without_contended(&self, group: Vec<Pending>) -> Vec<Pending> {
        if self.mode == Mode::Locking {
            return group;
        }
        if failpoint::hit("contend") {
            group.into_iter().for_each(|pending| self.pass_aside(pending));
            return Vec::new();
        }
        if self.shared.contended.is_empty() {
            return group;
        }
        let contended = &self.shared.contended;
        let is_contended = |pending: &Pending| pending.keys().any(|key| contended.has(key));
        let (contended, free): (Vec<Pending>, Vec<Pending>) = group.into_iter().partition(is_contended);
        contended.into_iter().for_each(|pending| self.pass_aside(pending));
        free
    }

    fn pass_aside(&self, mut pending: Pending) {
        self.shared.figures.contended.fetch_add(1, Ordering::Relaxed);
        pending.rounds = pending.rounds.max(1);
        self.aside.pass(pending);
    }

    /// Decides and commits a group once. Returns what must be decided again.
    async fn round(&mut self, work: Work) -> Vec<Work> {
        if work.group.is_empty() {
            return Vec::new();
        }
        let group_id = Uuid::now_v7();
        let (round, mut ended) = match self.mode {
            Mode::Optimistic => match self.optimistic(work, group_id).await {
                Ok(done) => done,
                Err(undone) => return self.undone(undone),
            },
            Mode::Locking => {
                let (work, is_held) = match self.apart(work) {
                    Ok(together) => together,
                    Err(parts) => return parts,
                };
                match self.locking(work, is_held, group_id).await {
                    Ok(done) => done,
                    Err(undone) if undone.is_broken => return self.undone(undone),
                    Err(undone) => return self.wait_for_rows(undone.work, is_held).await,
                }
            }
        };
        if matches!(ended, Ended::Failed(Error::StoreUnavailable)) {
            // It may lead to a server that is ending, or takes no writes any more.
            self.connection.discard();
        }
        if matches!(ended, Ended::Lost) {
            self.connection.discard();
            if round.writes() {
                ended = self.settled(group_id).await;
            }
        }
        failpoint::hit("before_reply");
        let aside = |pending| self.pass_aside(pending);
        round.finish(&self.shared, ended, (self.mode == Mode::Optimistic).then_some(&aside))
    }

    fn undone(&mut self, undone: Undone) -> Vec<Work> {
        if undone.is_broken {
            // What it was in the middle of ends with it.
            self.connection.discard();
        }
        undone.work
    }

    /// A group whose rows may all be waited for together, and whether somebody held them before; or the parts of a group, the
    /// last of which goes first: whoever needs a held row shall not hold up the others.
    fn apart(&self, work: Work) -> Result<(Work, bool), Vec<Work>> {
        if self.held.is_empty() {
            return Ok((work, false));
        }
        // By all that is held of what it needs: whoever needs one row shall not wait for the others of who needs several.
        let mut parts: BTreeMap<Vec<Key>, Vec<Pending>> = BTreeMap::new();
        for pending in work.group {
            let mut held: Vec<Key> = pending.keys().filter(|key| self.held.contains(key)).cloned().collect();
            held.sort_unstable();
            held.dedup();
            parts.entry(held).or_default().push(pending);
        }
        let mut parts: Vec<_> = parts.into_iter().rev().map(|(held, group)| (!held.is_empty(), group)).collect();
        match parts.pop() {
            Some((is_held, group)) if parts.is_empty() => Ok((Work { group, ..Work::default() }, is_held)),
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
            if self.held.len() >= MAX_HELD {
                self.held.clear();
            }
            let waiting = work.iter().flat_map(|work| &work.group);
            self.held.extend(waiting.flat_map(Pending::keys).filter(|key| is_root(key)).cloned());
            return work;
        }
        for mut pending in work.into_iter().flat_map(|work| work.group) {
            if pending.held_since.get_or_insert_with(Instant::now).elapsed() < HELD_FOR {
                self.queue.pass(pending);
            } else {
                pending.answer(Err(Error::Conflict));
            }
        }
        tokio::time::sleep(HELD_PAUSE).await;
        Vec::new()
    }

    async fn optimistic(&mut self, work: Work, group_id: Uuid) -> Result<(Round, Ended), Undone> {
        let open = match self.connection.open().await {
            Ok(open) => open,
            Err(error) => return Err(away(work.group, &error)),
        };
        let wanted = Wanted::by(&work.group);
        let basis = match timeout(LOAD_TIMEOUT, load(&self.shared, &open.client, &wanted, &work.stale, true)).await {
            Ok(Ok(basis)) => basis,
            Ok(Err(error)) => return Err(unread(work, &error)),
            Err(_) => return Err(away(work.group, &Error::StoreUnavailable)),
        };
        let round = Round::decide(work.group, basis, !self.shared.rivals.are_about());
        let ended = if round.is_settled() {
            Ended::Applied(Committed { components: Vec::new(), told: None })
        } else {
            round.commit(&open.client, &mut open.prepared, group_id).await
        };
        Ok((round, ended))
    }

    async fn locking(&mut self, work: Work, is_held: bool, group_id: Uuid) -> Result<(Round, Ended), Undone> {
        let wanted = Wanted::by(&work.group);
        let roots = Roots::of(wanted.keys.iter().copied());
        let Open { client, prepared } = match self.connection.open().await {
            Ok(open) => open,
            Err(error) => return Err(away(work.group, &error)),
        };
        let begun = timeout(LOAD_TIMEOUT, begin(&self.shared, client, &roots, !is_held, &wanted)).await;
        let (transaction, basis) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) if is_lock_timeout(&error) => return Err(Undone { work: vec![work], is_broken: false }),
            Ok(Err(error)) => return Err(unread(work, &error)),
            Err(_) => return Err(away(work.group, &Error::StoreUnavailable)),
        };
        wanted.keys.iter().for_each(|key| {
            self.held.remove(*key);
        });
        let round = Round::decide(work.group, basis, false);
        if round.is_settled() {
            return Ok((round, Ended::Applied(Committed { components: Vec::new(), told: None })));
        }
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
                        tracing::debug!(%error, "the outcome of a lost commit is not known yet");
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

/// Whether a key is that of a row which is locked before it is decided on.
fn is_root(key: &Key) -> bool {
    match key {
        Key::Job(_) | Key::Record(_) | Key::Resource(_) => true,
        Key::Request(_) | Key::Namespace(_) | Key::NamespaceName(_) => false,
    }
}

/// Takes the locks of contended roots in a transaction, then loads what is below them: a statement of its own, which sees
/// what the wait for the locks was for.
async fn begin<'a>(
    shared: &Shared,
    client: &'a mut Client,
    roots: &Roots,
    wait: bool,
    wanted: &Wanted<'_>,
) -> DbResult<(Transaction<'a>, Basis)> {
    let transaction = client.transaction().await?;
    roots.lock(&transaction, wait).await?;
    failpoint::hit("after_lock");
    let basis = load(shared, &transaction, wanted, &HashSet::default(), false).await?;
    failpoint::hit("after_load");
    Ok((transaction, basis))
}

/// Nothing was written yet: the group is tried again on a new connection, or a refusal is told.
fn unread(work: Work, error: &DbError) -> Undone {
    let work = match Fault::of(error) {
        Fault::Beaten => again(work.group.into_iter(), work.stale, &Error::Conflict),
        Fault::Failed(error) => again(work.group.into_iter(), work.stale, &error),
        Fault::Poisoned(what) => fail(work.group, &Error::bug(what)),
    };
    Undone { work, is_broken: true }
}

/// The database is not there, and everybody is told so.
fn away(group: Vec<Pending>, error: &Error) -> Undone {
    Undone { work: fail(group, error), is_broken: true }
}
