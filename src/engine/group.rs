//! Finds the components of a group: operations that share a key that one of them writes.
//!
//! They share the final row of that key, so they are committed together or not at all. Components are independent of each other.

use foldhash::{HashMap, HashMapExt, HashSet};

use super::planning::Planner;
use super::queue::Pending;
use crate::domain::refusal::Refusal;
use crate::operation::Reply;
use crate::operation::overlay::{Key, Overlay, ReadWriteSet};
use crate::store::commit::Plan;

/// Most operations in a group.
pub const MAX_GROUP_OPERATIONS: usize = 1_024;
/// Most bytes of user objects in a group.
pub const MAX_GROUP_BYTES: usize = 1 << 20;

/// An operation with the response it gets if its component is committed.
pub struct Decided {
    pub pending: Pending,
    pub outcome: Result<Reply, Refusal>,
    pub access: ReadWriteSet,
}

/// The components of a group, and what they check and write.
pub struct Components {
    /// The component of each decided operation.
    pub of_operation: Vec<i32>,
    /// The component of each key that a component writes or depends on, sorted by key, which is the order in which rows are locked.
    pub of_key: Vec<(Key, i32)>,
    /// Whether anything is written, not only checked.
    pub writes: bool,
    /// The checks and writes of all components.
    pub plan: Plan,
}

impl Components {
    /// Finds the components and fills the empty plan. Keys in `fresh` were read from the database for this group and need no check
    /// where they were only read.
    pub fn of(decided: &[Decided], overlay: &Overlay, fresh: &HashSet<Key>, plan: Plan) -> Self {
        let most = decided.iter().map(|one| one.access.written.len()).sum();
        let mut union = Union { nodes: HashMap::with_capacity(most), ..Union::default() };
        let nodes = union.nodes_of(decided.iter().map(|one| &one.access));
        let of_operation: Vec<i32> = nodes.iter().map(|node| union.root(*node)).collect();
        let mut planner = Planner::new(overlay, fresh, plan);
        planner.plan_operations(decided, &of_operation, |key| union.writes(key));
        let of_key = union.into_roots();
        planner.plan_keys(&of_key);
        Self { of_operation, of_key, writes: most > 0, plan: planner.plan }
    }
}

/// Union-find over keys, with path halving: keys that one operation uses are in one set.
#[derive(Default)]
struct Union<'a> {
    parents: Vec<i32>,
    nodes: HashMap<&'a Key, i32>,
    /// Nodes with a smaller number are keys that are written.
    written: i32,
}

impl<'a> Union<'a> {
    /// A member of the set of each operation. The set has all keys that the operation wrote, those it read that others write, and all it read
    /// if it wrote nothing.
    fn nodes_of(&mut self, accesses: impl Iterator<Item = &'a ReadWriteSet> + Clone) -> Vec<i32> {
        let mut sets: Vec<Option<i32>> = accesses.clone().map(|access| self.join(None, &access.written)).collect();
        self.written = self.next();
        for (access, set) in accesses.clone().zip(&mut sets) {
            let only_reads = access.written.is_empty();
            let ties: Vec<&Key> = access.read.iter().filter(|key| only_reads || self.writes(key)).collect();
            *set = self.join(*set, ties);
        }
        let nodes: Vec<i32> = sets.into_iter().map(|set| set.unwrap_or_else(|| self.add())).collect();
        debug_assert!(
            accesses.zip(&nodes).all(|(access, node)| access.written.iter().all(|key| self.is_in_set_of(key, *node))),
            "all that an operation writes is in its component"
        );
        nodes
    }

    fn is_in_set_of(&self, key: &Key, node: i32) -> bool {
        let root = |mut node: i32| {
            while self.parents[place(node)] != node {
                node = self.parents[place(node)];
            }
            node
        };
        self.nodes.get(key).is_some_and(|of_key| root(*of_key) == root(node))
    }

    /// Whether any operation writes a key.
    fn writes(&self, key: &Key) -> bool {
        self.nodes.get(key).is_some_and(|node| *node < self.written)
    }

    /// Joins keys into a set, if there is one yet. Returns a member.
    fn join(&mut self, mut set: Option<i32>, keys: impl IntoIterator<Item = &'a Key>) -> Option<i32> {
        for key in keys {
            let next = self.next();
            let node = *self.nodes.entry(key).or_insert(next);
            if node == next {
                self.add();
            }
            if let Some(set) = set {
                let (a, b) = (self.root(set), self.root(node));
                self.parents[place(a)] = b;
            }
            set = Some(node);
        }
        set
    }

    /// The node that is added next.
    fn next(&self) -> i32 {
        i32::try_from(self.parents.len()).expect("a group has few operations")
    }

    fn add(&mut self) -> i32 {
        let node = self.next();
        self.parents.push(node);
        node
    }

    fn root(&mut self, mut node: i32) -> i32 {
        while self.parents[place(node)] != node {
            self.parents[place(node)] = self.parents[place(self.parents[place(node)])];
            node = self.parents[place(node)];
        }
        node
    }

    /// The set of each key, in the order of keys.
    fn into_roots(mut self) -> Vec<(Key, i32)> {
        let mut nodes: Vec<(&Key, i32)> = std::mem::take(&mut self.nodes).into_iter().collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(key, node)| (key.clone(), self.root(node))).collect()
    }
}

/// Where a node stands among the parents.
fn place(node: i32) -> usize {
    node as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{JobKey, NamespaceId};

    fn key(number: u128) -> Key {
        Key::Job(JobKey { namespace: NamespaceId(1), uid: uuid::Uuid::from_u128(number) })
    }

    fn keys(numbers: &[u128]) -> Vec<Key> {
        numbers.iter().map(|number| key(*number)).collect()
    }

    /// The number of the component of each operation, which reads and writes these keys; numbers count from 0 in the order of operations.
    fn components(accesses: &[(&[u128], &[u128])]) -> Vec<usize> {
        let access = |(read, written): &(&[u128], &[u128])| ReadWriteSet {
            read: keys(read),
            written: keys(written),
            ..ReadWriteSet::default()
        };
        let accesses: Vec<ReadWriteSet> = accesses.iter().map(access).collect();
        let mut union = Union::default();
        let nodes = union.nodes_of(accesses.iter());
        let roots: Vec<i32> = nodes.iter().map(|node| union.root(*node)).collect();
        let mut seen: Vec<i32> = Vec::new();
        roots.iter().for_each(|root| {
            if !seen.contains(root) {
                seen.push(*root);
            }
        });
        roots.iter().map(|root| seen.iter().position(|seen| seen == root).expect("it was seen")).collect()
    }

    #[test]
    fn operations_that_write_one_key_are_one_component() {
        assert_eq!(components(&[(&[], &[1]), (&[], &[2]), (&[], &[1, 3]), (&[], &[3])]), [0, 1, 0, 0]);
    }

    #[test]
    fn a_reader_joins_the_writer_of_its_key() {
        assert_eq!(components(&[(&[1], &[2]), (&[], &[1]), (&[3], &[4])]), [0, 0, 1]);
    }

    #[test]
    fn operations_that_read_one_key_which_none_writes_are_apart_if_they_write() {
        assert_eq!(components(&[(&[1], &[2]), (&[1], &[3])]), [0, 1]);
        assert_eq!(components(&[(&[1], &[]), (&[1], &[]), (&[], &[])]), [0, 0, 1]);
    }
}
