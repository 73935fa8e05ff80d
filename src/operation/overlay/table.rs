//! One kind of aggregate in an overlay: as loaded, as the group has changed it, and how to take an operation's changes back.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::aggregate::{Aggregate, Effects as _};

/// The aggregates of one kind that a group may look at.
#[derive(Debug)]
pub struct AggregateTable<A: Aggregate> {
    /// As they are in the database. None: there is none under this key.
    loaded: HashMap<A::Key, Option<Arc<A>>>,
    changed: HashMap<A::Key, Change<A>>,
    /// Writes of the operation that is being decided, in their order.
    undo_log: Vec<Undo<A>>,
}

/// An aggregate as the group leaves it.
#[derive(Clone, Debug)]
pub struct Change<A: Aggregate> {
    /// Its new state. None: it is deleted.
    pub after: Option<Arc<A>>,
    /// What is written beside it.
    pub effects: A::Effects,
}

/// One write of an operation.
#[derive(Debug)]
struct Undo<A: Aggregate> {
    key: A::Key,
    /// What was there before. None: nothing had changed the aggregate yet.
    before: Option<Option<Arc<A>>>,
    /// Become part of the change when the operation is applied.
    effects: A::Effects,
}

impl<A: Aggregate> Default for AggregateTable<A> {
    fn default() -> Self {
        Self { loaded: HashMap::default(), changed: HashMap::default(), undo_log: Vec::new() }
    }
}

impl<A: Aggregate> AggregateTable<A> {
    /// Makes room for aggregates that are about to be loaded.
    pub fn reserve(&mut self, additional: usize) {
        self.loaded.reserve(additional);
    }

    /// Puts an aggregate in as the database has it. None: there is none under this key.
    pub fn load(&mut self, key: A::Key, found: Option<Arc<A>>) {
        self.loaded.insert(key, found);
    }

    /// The aggregate as it was loaded, before all changes of the group. None: there is none, or it was not loaded.
    pub fn base(&self, key: &A::Key) -> Option<&Arc<A>> {
        self.loaded.get(key)?.as_ref()
    }

    /// What the group makes of an aggregate. None: it stays as it is.
    pub fn change(&self, key: &A::Key) -> Option<&Change<A>> {
        self.changed.get(key)
    }

    /// All that the group changes.
    #[cfg(test)]
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (&A::Key, &Change<A>)> {
        self.changed.iter()
    }

    /// The aggregate as earlier writes have left it; inside, None: there is none. None: it was neither loaded nor written.
    pub fn current(&self, key: &A::Key) -> Option<Option<&Arc<A>>> {
        match self.changed.get(key) {
            Some(change) => Some(change.after.as_ref()),
            None => self.loaded.get(key).map(Option::as_ref),
        }
    }

    /// Whether an earlier operation of the group has written the aggregate.
    pub fn is_changed_by_earlier(&self, key: &A::Key) -> bool {
        let is_changed_before = |undo: &Undo<A>| undo.before.is_some();
        self.changed.contains_key(key)
            && self.undo_log.iter().find(|undo| undo.key == *key).is_none_or(is_changed_before)
    }

    /// Writes an aggregate. None: it is deleted.
    pub fn put(&mut self, key: A::Key, after: Option<Arc<A>>, effects: A::Effects) {
        use std::collections::hash_map::Entry;
        let before = match self.changed.entry(key.clone()) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().after, after)),
            Entry::Vacant(entry) => {
                entry.insert(Change { after, effects: A::Effects::default() });
                None
            }
        };
        self.undo_log.push(Undo { key, before, effects });
    }

    /// Makes the writes of the operation part of the group.
    pub(super) fn release(&mut self) {
        // Without effects there is nothing to add, and a batch of records has many writes.
        if size_of::<A::Effects>() == 0 {
            return self.undo_log.clear();
        }
        for undo in self.undo_log.drain(..) {
            let change = self.changed.get_mut(&undo.key).expect("what was written is changed");
            change.effects.merge(undo.effects);
        }
    }

    /// Takes the writes of the operation back, the last one first. Returns their keys.
    pub(super) fn roll_back(&mut self) -> impl Iterator<Item = A::Key> {
        let Self { changed, undo_log, .. } = self;
        undo_log.drain(..).rev().map(|undo| {
            match undo.before {
                Some(before) => changed.get_mut(&undo.key).expect("what was written is changed").after = before,
                None => drop(changed.remove(&undo.key)),
            }
            undo.key
        })
    }

    /// Whether no operation is in the middle of its writes.
    pub(super) fn is_settled(&self) -> bool {
        self.undo_log.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::NamespaceId;
    use crate::domain::time::Timestamp;

    /// An aggregate with a list of notes as effects.
    #[derive(Debug, PartialEq)]
    struct Counter(i64);

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Notes(Vec<&'static str>);

    impl crate::domain::aggregate::Effects for Notes {
        fn merge(&mut self, later: Self) {
            self.0.extend(later.0);
        }
    }

    impl Aggregate for Counter {
        type Key = u32;
        type Effects = Notes;

        fn namespace(_: &u32) -> Option<NamespaceId> {
            None
        }

        fn version(&self) -> i64 {
            self.0
        }

        fn create_time(&self) -> Timestamp {
            Timestamp(0)
        }

        fn weight_bytes(&self) -> usize {
            0
        }
    }

    fn put(table: &mut AggregateTable<Counter>, key: u32, version: Option<i64>, note: &'static str) {
        table.put(key, version.map(|version| Arc::new(Counter(version))), Notes(vec![note]));
    }

    fn current(table: &AggregateTable<Counter>, key: u32) -> Option<Option<i64>> {
        table.current(&key).map(|found| found.map(|counter| counter.0))
    }

    fn loaded() -> AggregateTable<Counter> {
        let mut table = AggregateTable::default();
        table.load(1, Some(Arc::new(Counter(7))));
        table.load(2, None);
        table
    }

    #[test]
    fn an_aggregate_is_absent_present_or_not_loaded() {
        let table = loaded();
        assert_eq!([1, 2, 3].map(|key| current(&table, key)), [Some(Some(7)), Some(None), None]);
    }

    #[test]
    fn roll_back_restores_what_earlier_operations_left() {
        let mut table = loaded();
        put(&mut table, 1, Some(8), "first");
        table.release();
        put(&mut table, 1, Some(9), "second");
        put(&mut table, 1, None, "third");
        put(&mut table, 2, Some(1), "fourth");
        assert_eq!([1, 2].map(|key| current(&table, key)), [Some(None), Some(Some(1))]);
        assert_eq!(table.roll_back().collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!([1, 2].map(|key| current(&table, key)), [Some(Some(8)), Some(None)]);
        assert_eq!(table.change(&1).map(|change| &change.effects), Some(&Notes(vec!["first"])));
        assert!(table.change(&2).is_none() && table.is_settled());
    }

    #[test]
    fn release_adds_the_effects_of_all_writes_in_order() {
        let mut table = loaded();
        put(&mut table, 1, Some(8), "first");
        put(&mut table, 1, Some(9), "second");
        table.release();
        put(&mut table, 1, None, "third");
        table.release();
        let change = table.change(&1).expect("it is changed");
        assert_eq!((change.after.as_deref(), &change.effects), (None, &Notes(vec!["first", "second", "third"])));
        assert_eq!(table.base(&1).map(|base| base.0), Some(7), "what was loaded stays");
    }

    #[test]
    fn writes_of_the_operation_itself_are_none_of_an_earlier_one() {
        let mut table = loaded();
        put(&mut table, 1, Some(8), "first");
        assert!(!table.is_changed_by_earlier(&1));
        table.release();
        assert!(table.is_changed_by_earlier(&1) && !table.is_changed_by_earlier(&2));
        put(&mut table, 1, None, "second");
        assert!(table.is_changed_by_earlier(&1));
    }
}
