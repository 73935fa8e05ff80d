//! One round of a group: decided operations, their components, and what becomes of each when the commit has ended.

use std::time::Duration;

use foldhash::{HashSet, HashSetExt};
use tracing::Instrument;
use uuid::Uuid;

use super::group::{Components, Decided};
use super::install::install;
use super::loading::Basis;
use super::queue::Pending;
use super::shared::Shared;
use super::traced::GroupSpan;
use crate::error::Error;
use crate::failpoint;
use crate::feed::follow::FollowedRecords;
use crate::figures::Sparse;
use crate::figures::writer::LaneFigures;
use crate::operation;
use crate::operation::overlay::{Key, Overlay};
use crate::store::commit::{CommitError, Committed, Prepared};
use crate::store::connection::{Fault, Run};

/// How often one operation is decided before it is told that others were faster.
const MAX_ROUNDS: u32 = 6;
/// How many keys beside its own an operation may turn out to need.
const MAX_MORE: usize = 10_000;
/// How long the commit of a group may take; beyond it the connection is given up and the outcome looked for.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Operations to be decided, and what must be loaded anew for it.
#[derive(Default)]
pub struct Work {
    pub group: Vec<Pending>,
    pub stale: HashSet<Key>,
}

/// How a group's commit ended.
pub enum Ended {
    /// The components that hold.
    Applied(Committed),
    /// Surely nothing was written; it is worth deciding again on newer state.
    Beaten,
    /// The same, because another session held a row or a table.
    Held,
    /// Surely nothing was written, and trying again at once is no use.
    Failed(Error),
    /// Surely nothing was written, because the content of some row was refused.
    Poisoned(String),
    /// The connection was lost; it may have been written.
    Lost,
}

/// A decided group.
pub struct Round {
    decided: Vec<Decided>,
    /// Operations that cannot be in one group with earlier ones.
    waiting: Vec<Pending>,
    overlay: Overlay,
    components: Components,
    /// What was read for this round.
    fresh: HashSet<Key>,
    span: GroupSpan,
}

impl Round {
    /// Decides a group in the order of its arrival. `alone` is whether nobody else is known to write what this server writes.
    pub fn decide(group: Vec<Pending>, basis: Basis, alone: bool, span: GroupSpan) -> Self {
        let mut overlay = Overlay::new(basis.tables, basis.loaded, basis.now, basis.cluster);
        let mut decided = Vec::with_capacity(group.len());
        let mut waiting = Vec::new();
        for mut pending in group {
            let outcome = operation::decide(&*pending.operation, &mut overlay);
            let access = overlay.end_operation(outcome.is_ok());
            if access.needs_next_group || !access.unloaded.is_empty() {
                pending.was_blind = !access.unloaded.is_empty();
                pending.more.extend(access.unloaded);
                waiting.push(pending);
            } else {
                decided.push(Decided { pending, outcome, access });
            }
        }
        let components = Components::of(&decided, &overlay, &basis.fresh, alone);
        Self { decided, waiting, overlay, components, fresh: basis.fresh, span }
    }

    /// Whether the database need not be asked at all.
    pub fn is_settled(&self) -> bool {
        self.components.plan.is_empty()
    }

    /// Whether something is written, not only proved.
    pub fn writes(&self) -> bool {
        self.components.writes
    }

    /// Whether nothing but that writes are done is to be shown.
    pub fn is_probe(&self) -> bool {
        self.decided.iter().all(|one| one.pending.operation.is_probe())
    }

    /// Sends the group to the database.
    pub async fn commit(&self, client: &impl Run, prepared: &mut Prepared, group_id: Uuid) -> Ended {
        let is_counted = !self.is_probe();
        if is_counted && failpoint::hit("before_commit") {
            return Ended::Lost;
        }
        let commit = self.components.plan.commit(client, prepared, group_id).instrument(self.span.write());
        match tokio::time::timeout(COMMIT_TIMEOUT, commit).await {
            Ok(Ok(_)) if is_counted && failpoint::hit("after_commit") => Ended::Lost,
            Ok(Ok(committed)) => Ended::Applied(committed),
            Ok(Err(error)) => error.into(),
            Err(_) => Ended::Lost,
        }
    }

    /// Installs what holds, answers everybody who can be answered, and returns what must be decided again. `pass_aside` takes
    /// operations on rows that others are writing, where there is somebody to take them.
    pub fn finish(
        self,
        (shared, figures): (&Shared, &LaneFigures),
        ended: Ended,
        pass_aside: Option<&dyn Fn(Pending)>,
    ) -> Vec<Work> {
        figures.groups.inc();
        figures.group_sizes.observe(self.decided.len() as u64);
        self.span.end(&ended);
        match ended {
            Ended::Applied(committed) => {
                if let Some((now, asked)) = committed.told {
                    shared.clock.observe_answer(now, asked);
                }
                self.applied((shared, figures), &committed.components.into_iter().collect(), pass_aside)
            }
            Ended::Beaten | Ended::Held => {
                shared.rivals.seen();
                let stale = self.forget(shared, |_| true);
                let group = self.decided.into_iter().map(|one| one.pending).chain(self.waiting);
                again(group, stale, &Error::Conflict)
            }
            Ended::Poisoned(what) => self.bisected(shared, &what),
            Ended::Failed(error) => self.failed(shared, &error),
            Ended::Lost if self.writes() => {
                shared.figures.unknown.inc_by(self.decided.len() as u64);
                self.failed(shared, &Error::OutcomeUnknown)
            }
            Ended::Lost => self.failed(shared, &Error::StoreUnavailable),
        }
    }

    fn applied(
        self,
        (shared, figures): (&Shared, &LaneFigures),
        holds: &HashSet<i32>,
        pass_aside: Option<&dyn Fn(Pending)>,
    ) -> Vec<Work> {
        let guarded = self.components.plan.components();
        let held = |c: &i32| holds.contains(c) || !guarded.contains(c);
        install(shared, &self.overlay, &self.components.of_key, held);
        let stale = self.forget(shared, |c| !held(c));
        let mut beaten = Vec::new();
        for (one, c) in self.decided.into_iter().zip(&self.components.of_operation) {
            if held(c) {
                figures.operations.inc_by(u64::from(!one.pending.operation.is_probe()));
                figures.refused.inc_by(u64::from(one.outcome.is_err()));
                one.pending.answer(one.outcome.map_err(Error::from));
                continue;
            }
            figures.conflicts.inc();
            if one.access.written.iter().any(Key::is_root) {
                shared.rivals.seen();
            }
            // Beaten although it was just read: somebody else is writing it all the time. Beaten on what was remembered: it
            // is enough to look again.
            let rivalled = one.access.written.iter().any(|key| self.fresh.contains(key));
            match pass_aside.filter(|_| rivalled) {
                Some(pass_aside) => {
                    shared.contended.mark(one.access.written.iter().filter(|key| !matches!(key, Key::Request(_))));
                    pass_aside(one.pending);
                }
                None => {
                    shared.visited.mark(one.access.written.iter().filter(|key| key.is_root()));
                    beaten.push(one.pending);
                }
            }
        }
        beaten.extend(self.waiting);
        again(beaten.into_iter(), stale, &Error::Conflict)
    }

    /// Drops keys of some components from the cache, and everything those components read besides.
    fn forget(&self, shared: &Shared, which: impl Fn(&i32) -> bool) -> HashSet<Key> {
        let bound = self.components.of_key.iter().filter(|(_, c)| which(c)).map(|(key, _)| key.clone());
        let read = self.decided.iter().zip(&self.components.of_operation).filter(|(_, c)| which(c));
        let stale: HashSet<Key> = bound.chain(read.flat_map(|(one, _)| one.access.read.iter().cloned())).collect();
        for key in &stale {
            // What is known of a root saves loading all of it again; only its being current is in doubt.
            if !key.is_root() {
                shared.cache.remove(key);
            }
        }
        stale
    }

    fn failed(self, shared: &Shared, error: &Error) -> Vec<Work> {
        for (key, _) in &self.components.of_key {
            shared.cache.remove(key);
        }
        for pending in self.decided.into_iter().map(|one| one.pending).chain(self.waiting) {
            pending.answer(Err(error.clone()));
        }
        Vec::new()
    }

    /// Halves a group in which some row is refused, until that operation is alone. What it was decided on may be what is wrong, so it is
    /// loaded again by whoever needs it next.
    fn bisected(self, shared: &Shared, what: &str) -> Vec<Work> {
        let mut group: Vec<Pending> = self.decided.into_iter().map(|one| one.pending).chain(self.waiting).collect();
        if group.len() == 1 {
            self.components.of_key.iter().for_each(|(key, _)| shared.cache.remove(key));
            group.into_iter().for_each(|pending| pending.answer(Err(Error::bug(what))));
            return Vec::new();
        }
        let second = group.split_off(group.len() / 2);
        vec![Work { group: second, ..Work::default() }, Work { group, ..Work::default() }]
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Beaten => Self::Beaten,
            Fault::Held => Self::Held,
            Fault::Poisoned(what) => Self::Poisoned(what),
            Fault::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<CommitError> for Ended {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::RolledBack(fault) => fault.into(),
            CommitError::Lost(error) => {
                static LINES: Sparse = Sparse::of(1);
                if let Some(suppressed) = LINES.pass() {
                    tracing::warn!(%error, suppressed, "the connection was lost during a commit");
                }
                Self::Lost
            }
        }
    }
}

/// Operations for another round, but for those that had enough of them.
pub fn again(group: impl Iterator<Item = Pending>, stale: HashSet<Key>, spent: &Error) -> Vec<Work> {
    let mut work = Work { group: Vec::new(), stale };
    for mut pending in group {
        // What is looked up is then here, so this comes to an end by itself; the bound is for what nobody has thought of.
        let was_blind = std::mem::take(&mut pending.was_blind) && pending.more.len() <= MAX_MORE;
        pending.rounds += u32::from(!was_blind);
        if pending.rounds >= MAX_ROUNDS {
            pending.answer(Err(spent.clone()));
        } else {
            work.group.push(pending);
        }
    }
    if work.group.is_empty() { Vec::new() } else { vec![work] }
}

/// What a group may look at.
pub struct Wanted<'a> {
    /// Everything.
    pub keys: HashSet<&'a Key>,
    /// Jobs that the group makes under ids that nobody can have used.
    pub created: HashSet<&'a Key>,
}

impl<'a> Wanted<'a> {
    /// By a group.
    pub fn by(group: &'a [Pending]) -> Self {
        let most = group.iter().map(|pending| pending.keys().count()).sum();
        let mut wanted = Self { keys: HashSet::with_capacity(most), created: HashSet::default() };
        for pending in group {
            for key in pending.keys() {
                if matches!(key, Key::Job(job) if pending.operation.creates(job)) {
                    wanted.created.insert(key);
                }
                wanted.keys.insert(key);
            }
        }
        wanted
    }
}

/// Answers a whole group with one error.
pub fn fail(group: Vec<Pending>, error: &Error) -> Vec<Work> {
    for pending in group {
        pending.answer(Err(error.clone()));
    }
    Vec::new()
}
