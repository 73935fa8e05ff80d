//! Aggregates: the roots with a version that operations decide on.
//!
//! An aggregate is loaded, locked, checked, written and published as a whole. This trait is what every room knows of one;
//! `operation::overlay` adds the key among all keys, `store::aggregate` the statements. `for_each_aggregate` lists them all.
//!
//! A new aggregate is a line in the list; `impl Aggregate` in its folder of `domain`; its operations, with readable names for reads and writes in
//! `operation/overlay/`; `impl Stored` in `store/aggregate/` over its SQL, whose parts are listed in `store/commit/plan.rs` with their columns; and its
//! service in `rpc`. Loading, cache, locks, components, checks and undo follow from the list. What is published besides is said in
//! `engine/install.rs`.

use std::fmt::Debug;
use std::hash::Hash;

use super::id::NamespaceId;
use super::time::Timestamp;

/// A root row with the rows below it.
pub trait Aggregate: Debug + Send + Sync + Sized + 'static {
    /// Primary key of the root row. Rows are locked in its order, so it is the same on all servers.
    type Key: Clone + Debug + Eq + Hash + Ord + Send + Sync;
    /// What a commit writes beside the new state, such as history. `()`: nothing.
    type Effects: Effects;

    /// Whether a commit may change rows below the root without a new version, such as the expiry of a permit.
    const HAS_UNVERSIONED_ROWS: bool = false;

    /// The namespace that a key is in. None: the aggregate belongs to the server as a whole.
    fn namespace(key: &Self::Key) -> Option<NamespaceId>;

    /// Counts the changes since the aggregate was created, from 1.
    fn version(&self) -> i64;

    /// When the aggregate was created. Tells it from another one that had the same key before.
    fn create_time(&self) -> Timestamp;

    /// About how much memory it takes, in bytes, for the bound of the cache.
    fn weight_bytes(&self) -> usize;

    /// Whether this is `base` with changes in unversioned rows alone.
    fn is_at_version_of(&self, base: &Self) -> bool {
        (self.version(), self.create_time()) == (base.version(), base.create_time())
    }
}

/// What a commit writes beside the new state of an aggregate.
pub trait Effects: Clone + Debug + Default + Send + Sync {
    /// Adds the effects of a later operation on the same aggregate.
    fn merge(&mut self, later: Self);
}

impl Effects for () {
    fn merge(&mut self, (): Self) {}
}

/// Calls the macro in brackets with the list of aggregates, behind what else is given: for each the name of its tables, its variant of `Key`, and its type.
/// The order of the list is the order in which root rows are locked.
macro_rules! for_each_aggregate {
    ([$($callback:tt)+] $($given:tt)*) => {
        $($callback)+! {
            $($given)*
            key_ring: KeyRing, $crate::domain::credential::KeyRing;
            resources: Resource, $crate::domain::permit::resource::Resource;
            jobs: Job, $crate::domain::job::Job;
            records: Record, $crate::domain::record::Record;
            sessions: Session, $crate::domain::session::Session;
            segments: Segment, $crate::domain::session::segment::Segment;
        }
    };
}
pub(crate) use for_each_aggregate;
