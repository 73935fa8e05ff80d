//! The statements of an aggregate: how it is loaded and locked, and what it adds to the plan of a commit.

use std::sync::Arc;

use foldhash::HashMap;

use super::commit::Plan;
use super::pg::connection::{DbResult, Run};
use super::pg::held::Tables;
use crate::domain::aggregate::Aggregate;
use crate::domain::time::Timestamp;

/// An aggregate that has tables. `c` is the component of the group that a check or a write belongs to.
pub trait Stored: Aggregate {
    /// The tables of root and children, by which operations are found that need a table which another session holds.
    const TABLES: Tables;

    /// Loads aggregates as they are now; there is no entry for one that does not exist. Of those in `known` only what changed need be read.
    fn load(
        client: &impl Run,
        keys: &[Self::Key],
        known: &HashMap<Self::Key, Arc<Self>>,
    ) -> impl Future<Output = DbResult<HashMap<Self::Key, Arc<Self>>>> + Send;

    /// Locks root rows, in the order of `keys`, which are sorted. With `wait` it waits for each lock, else it fails where another session holds one.
    fn lock(client: &impl Run, keys: &[Self::Key], wait: bool) -> impl Future<Output = DbResult<()>> + Send;

    /// Plans the check that the aggregate still is at the version of `base`. None: that there still is none.
    fn check_version(plan: &mut Plan, c: i32, key: &Self::Key, base: Option<&Self>);

    /// The same, and keeps others from changing it until the commit is done.
    fn share_lock(plan: &mut Plan, c: i32, key: &Self::Key, base: Option<&Self>);

    /// Plans the writes that turn `base` into `after`, with the checks they need. None: there is none before, or none after.
    fn write(
        plan: &mut Plan,
        c: i32,
        key: &Self::Key,
        states: (Option<&Self>, Option<&Self>),
        effects: &Self::Effects,
        now: Timestamp,
    );
}
