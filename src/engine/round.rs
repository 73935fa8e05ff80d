//! One round of a group: its decisions, its components, and what becomes of each component when the commit has ended.

use std::time::Duration;

use foldhash::HashSet;
use tracing::Instrument;
use uuid::Uuid;

use super::contention::ContentionLevel;
use super::group::{Components, Decided};
use super::install::install;
use super::loading::Basis;
use super::outcome::CommitOutcome;
use super::queue::Pending;
use super::shared::Shared;
use super::traced::GroupSpan;
use super::work::{Work, reply_all, retry};
use crate::error::Error;
use crate::failpoint;
use crate::figures::writer::LaneFigures;
use crate::operation;
use crate::operation::overlay::{Key, Overlay};
use crate::store::commit::{CommitMode, Plan, Prepared};
use crate::store::connection::Run;

/// Time that the commit of a group may take. Then the connection is given up and the outcome looked up.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// A group with its decisions, before and after its commit.
pub struct Round {
    decided: Vec<Decided>,
    /// Operations that could not be decided in this group.
    undecided: Vec<Pending>,
    overlay: Overlay,
    components: Components,
    /// Keys that were read from the database for this round.
    fresh: HashSet<Key>,
    span: GroupSpan,
}

impl Round {
    /// Decides a group in the order of its arrival.
    pub fn decide(group: Vec<Pending>, basis: Basis, mode: CommitMode, span: GroupSpan) -> Self {
        let mut overlay = Overlay::new(basis.tables, basis.loaded, basis.now, basis.cluster);
        let mut decided = Vec::with_capacity(group.len());
        let mut undecided = Vec::new();
        for mut pending in group {
            let outcome = operation::decide(&*pending.operation, &mut overlay);
            let access = overlay.end_operation(outcome.is_ok());
            if access.needs_next_group || !access.unloaded.is_empty() {
                pending.lacked_keys = !access.unloaded.is_empty();
                pending.more_keys.extend(access.unloaded);
                undecided.push(pending);
            } else {
                decided.push(Decided { pending, outcome, access });
            }
        }
        let plan = Plan { mode, lexemes: basis.lexemes, ..Plan::default() };
        let components = Components::of(&decided, &overlay, &basis.fresh, plan);
        Self { decided, undecided, overlay, components, fresh: basis.fresh, span }
    }

    /// Whether nothing has to be written or proved.
    pub fn is_settled(&self) -> bool {
        self.components.plan.is_empty()
    }

    /// Whether something is written, not only proved.
    pub fn writes(&self) -> bool {
        self.components.writes
    }

    /// Whether all of it are probes of health.
    pub fn is_probe(&self) -> bool {
        self.decided.iter().all(|one| one.pending.operation.is_probe())
    }

    /// Sends the group to the database.
    pub async fn commit(&self, client: &impl Run, prepared: &mut Prepared, group_id: Uuid) -> CommitOutcome {
        let is_counted = !self.is_probe();
        if is_counted && failpoint::hit("before_commit") {
            return CommitOutcome::Indeterminate;
        }
        let commit = self.components.plan.commit(client, prepared, group_id).instrument(self.span.write());
        match tokio::time::timeout(COMMIT_TIMEOUT, commit).await {
            Ok(Ok(_)) if is_counted && failpoint::hit("after_commit") => CommitOutcome::Indeterminate,
            Ok(Ok(committed)) => CommitOutcome::Applied(committed),
            Ok(Err(error)) => error.into(),
            Err(_) => CommitOutcome::Indeterminate,
        }
    }

    /// Installs the applied components in the cache, answers their operations, and returns the work that is left. `requeue` takes operations on rows
    /// that another server is writing. None: such operations are decided again here.
    pub fn finish(
        self,
        (shared, figures): (&Shared, &LaneFigures),
        outcome: CommitOutcome,
        requeue: Option<&dyn Fn(Pending)>,
    ) -> Vec<Work> {
        figures.groups.inc();
        figures.group_sizes.observe(self.decided.len() as u64);
        self.span.end(&outcome);
        match outcome {
            CommitOutcome::Applied(committed) => {
                if let Some((now, asked)) = committed.clock {
                    shared.clock.observe_answer(now, asked);
                }
                self.applied((shared, figures), &committed.components.into_iter().collect(), requeue)
            }
            CommitOutcome::Conflict | CommitOutcome::Blocked => {
                shared.contention.note_other_writer();
                let stale = self.forget(shared, |_| true);
                retry(self.into_group(), stale, &shared.contention.error())
            }
            CommitOutcome::InvalidData(what) => self.bisect(shared, &what),
            CommitOutcome::Failed(error) => self.fail(shared, &error),
            CommitOutcome::Indeterminate if self.writes() => {
                shared.figures.unknown.inc_by(self.decided.len() as u64);
                self.fail(shared, &Error::OutcomeUnknown)
            }
            CommitOutcome::Indeterminate => self.fail(shared, &Error::StoreUnavailable),
        }
    }

    fn applied(
        self,
        (shared, figures): (&Shared, &LaneFigures),
        applied: &HashSet<i32>,
        requeue: Option<&dyn Fn(Pending)>,
    ) -> Vec<Work> {
        let guarded = self.components.plan.components();
        debug_assert!(applied.is_subset(&guarded), "only components of the group are applied");
        let holds = |c: &i32| applied.contains(c) || !guarded.contains(c);
        install(shared, &self.overlay, &self.components.of_key, holds);
        let stale = self.forget(shared, |c| !holds(c));
        let mut conflicting = Vec::new();
        for (one, c) in self.decided.into_iter().zip(&self.components.of_operation) {
            if holds(c) {
                figures.operations.inc_by(u64::from(!one.pending.operation.is_probe()));
                figures.refused.inc_by(u64::from(one.outcome.is_err()));
                one.pending.answer(one.outcome.map_err(Error::from));
                continue;
            }
            figures.conflicts.inc();
            let written = &one.access.written;
            // A conflict on what was read for this round: another server writes it all the time. On cached state: reading it is enough.
            let was_read = written.iter().any(|key| self.fresh.contains(key));
            match requeue.filter(|_| was_read) {
                Some(requeue) => {
                    shared
                        .contention
                        .mark(ContentionLevel::Hot, written.iter().filter(|key| !matches!(key, Key::Request(_))));
                    requeue(one.pending);
                }
                None => {
                    shared.contention.mark(ContentionLevel::Foreign, written.iter().filter(|key| key.is_root()));
                    conflicting.push(one.pending);
                }
            }
        }
        conflicting.extend(self.undecided);
        retry(conflicting, stale, &Error::Conflict)
    }

    /// Drops from the cache all that some components bound or read. Returns those keys, whose cached state must not be used.
    fn forget(&self, shared: &Shared, which: impl Fn(&i32) -> bool) -> HashSet<Key> {
        let bound = self.components.of_key.iter().filter(|(_, c)| which(c)).map(|(key, _)| key.clone());
        let read = self.decided.iter().zip(&self.components.of_operation).filter(|(_, c)| which(c));
        let stale: HashSet<Key> = bound.chain(read.flat_map(|(one, _)| one.access.read.iter().cloned())).collect();
        for key in &stale {
            // Roots stay: of a known root only what changed has to be loaded.
            if !key.is_root() {
                shared.cache.remove(key);
            }
        }
        stale
    }

    /// Answers the whole group with an error. Nothing that it stood on is remembered.
    fn fail(self, shared: &Shared, error: &Error) -> Vec<Work> {
        self.drop_from_cache(shared);
        reply_all(self.into_group(), error)
    }

    /// Halves a group in which some row is refused, until that operation is alone. Its state is loaded again by the next that needs it, because
    /// that may be what is wrong.
    fn bisect(self, shared: &Shared, what: &str) -> Vec<Work> {
        if self.decided.len() + self.undecided.len() == 1 {
            self.drop_from_cache(shared);
            return reply_all(self.into_group(), &Error::bug(what));
        }
        let mut group: Vec<Pending> = self.into_group().collect();
        let second = group.split_off(group.len() / 2);
        vec![Work { group: second, ..Work::default() }, Work { group, ..Work::default() }]
    }

    fn drop_from_cache(&self, shared: &Shared) {
        self.components.of_key.iter().for_each(|(key, _)| shared.cache.remove(key));
    }

    /// What its commit is about, for a simulated database.
    #[cfg(test)]
    pub fn decided_state(&self) -> (&Overlay, &Components, &HashSet<Key>) {
        (&self.overlay, &self.components, &self.fresh)
    }

    /// All its operations, decided ones first.
    fn into_group(self) -> impl Iterator<Item = Pending> {
        self.decided.into_iter().map(|one| one.pending).chain(self.undecided)
    }
}
