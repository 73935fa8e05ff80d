//! A database of records in memory: what it does with a group is what the commit statement does.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use uuid::Uuid;

use crate::domain::record::{Record, RecordKey};
use crate::engine::outcome::CommitOutcome;
use crate::engine::round::Round;
use crate::operation::overlay::Key;
use crate::store::commit::{CommitMode, Committed};

/// A session that holds row locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// The locking lane of a server.
    Server(usize),
    /// A session that is no server.
    Foreign,
}

#[derive(Default)]
pub struct Database {
    pub records: HashMap<RecordKey, Arc<Record>>,
    locks: HashMap<RecordKey, Session>,
    /// The components of each group that was committed. None: the group can never be committed.
    groups: HashMap<Uuid, Option<Vec<i32>>>,
}

impl Database {
    pub fn version(&self, key: &RecordKey) -> i64 {
        self.records.get(key).map_or(0, |record| record.version)
    }

    /// Locks rows, all or none. False: another session holds one.
    pub fn lock<'a>(&mut self, session: Session, keys: impl Iterator<Item = &'a RecordKey> + Clone) -> bool {
        if keys.clone().any(|key| self.is_locked(key, session)) {
            return false;
        }
        self.locks.extend(keys.filter(|key| self.records.contains_key(key)).map(|key| (key.clone(), session)));
        true
    }

    pub fn unlock(&mut self, session: Session) {
        self.locks.retain(|_, holder| *holder != session);
    }

    fn is_locked(&self, key: &RecordKey, session: Session) -> bool {
        self.locks.get(key).is_some_and(|holder| *holder != session)
    }

    /// Commits the components that stand on current rows.
    pub fn commit(&mut self, session: Session, group_id: Uuid, mode: CommitMode, round: &Round) -> CommitOutcome {
        let (overlay, components, fresh) = round.decided_state();
        let records = &overlay.tables.records;
        let mut failed: HashSet<i32> = HashSet::default();
        for (key, c) in &components.of_key {
            let Key::Record(key) = key else { continue };
            let written = records.change(key);
            let is_update = written.is_some_and(|written| written.after.is_some());
            if written.is_none() && fresh.contains(&Key::Record(key.clone())) {
                continue;
            }
            let base = records.base(key);
            let at = |record: &Arc<Record>| (record.version, record.create_time);
            let is_current = base.map(at) == self.records.get(key).map(at);
            let is_locked = written.is_some() && self.is_locked(key, session);
            if mode == CommitMode::AllOrNothing && base.is_some() && is_update {
                if is_locked {
                    return CommitOutcome::Blocked;
                }
                if !is_current {
                    return CommitOutcome::Conflict;
                }
            }
            if is_locked || !is_current {
                failed.insert(*c);
            }
        }
        let mut applied: Vec<i32> = components.plan.components().into_iter().collect();
        applied.retain(|c| !failed.contains(c));
        if round.writes() {
            if self.groups.contains_key(&group_id) {
                return CommitOutcome::Conflict;
            }
            self.groups.insert(group_id, Some(applied.clone()));
        }
        for (key, _) in components.of_key.iter().filter(|(_, c)| applied.contains(c)) {
            if let Key::Record(key) = key
                && let Some(after) = records.change(key)
            {
                let after = after.after.clone().expect("the simulation deletes nothing");
                assert!(after.version > self.version(key), "versions grow");
                self.records.insert(key.clone(), after);
            }
        }
        CommitOutcome::Applied(Committed { components: applied, clock: None })
    }

    /// The outcome of a group whose connection was lost. If it was not committed, it never will be.
    pub fn resolve(&mut self, group_id: Uuid) -> CommitOutcome {
        match self.groups.entry(group_id).or_insert(None) {
            Some(components) => CommitOutcome::Applied(Committed { components: components.clone(), clock: None }),
            None => CommitOutcome::Conflict,
        }
    }
}
