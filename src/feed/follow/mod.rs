//! Watches of keyed state that send its newest version: records, resources and sessions. Watches of jobs are not among them: they send every step.
//!
//! Layout: [`FollowedKind`] is what a kind of state has to provide, `kinds` are those there are; `followers` knows which keys are followed on
//! this server and at which version; `state_watcher` is one watch; `poll` finds what other servers commit.
//!
//! **Invariants.** A commit of this server is published after it was committed, and costs a lane one lookup and one entry in a set, however
//! many watches there are. A published state is a hint: the versions that a watch sends of one state grow strictly, and whether a key was deleted or
//! created again is always read from the database. A poll finds what was not published.

mod followers;
mod kinds;
mod poll;
mod state_watcher;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::domain::aggregate::Aggregate;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;

pub use crate::store::load::StateRead;
pub(super) use kinds::{AllFollowers, OfferedKind};
pub use kinds::{FollowedRecords, FollowedResources, FollowedSessions};
pub(super) use poll::start_polls;
pub use state_watcher::{ResumePoint, StateUpdate, StateWatcher};

/// A kind of state that is followed by key.
pub trait FollowedKind: Sized + Send + Sync + 'static {
    /// What is stored under a key.
    type State: Aggregate;
    /// The part of a sent state that is needed to describe its next change.
    type Summary: Send + Sync;

    /// Minimum time between two updates of one watch, beside the tick of the feed.
    const PACE: Duration;

    /// Summarizes a state that is about to be sent.
    fn summary(state: &Self::State) -> Self::Summary;

    /// Reads states, each of which is known at a version ([`StateVersion::NONE`]: not known). The results are in the order of `known`.
    ///
    /// # Errors
    /// If the database does not answer.
    fn read(
        store: Store,
        known: Vec<(StateKey<Self>, StateVersion)>,
    ) -> impl Future<Output = Result<Vec<StateRead<Self::State>>>> + Send;
}

/// The key of a followed state.
pub type StateKey<K> = <<K as FollowedKind>::State as Aggregate>::Key;

/// Version of a state, with the time at which its key was created: a key that was deleted and created again counts its versions from 1 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateVersion {
    /// Grows by one with each change.
    pub version: i64,
    /// When the key was created.
    pub create_time: Timestamp,
}

impl StateVersion {
    /// The version of a key that does not exist, or of which nothing is known.
    pub const NONE: Self = Self { version: 0, create_time: Timestamp(0) };

    /// The version of a state.
    pub fn of(state: &impl Aggregate) -> Self {
        Self { version: state.version(), create_time: state.create_time() }
    }
}
