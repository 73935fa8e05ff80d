//! The kinds of state that are followed. A new kind implements [`FollowedKind`] and [`OfferedKind`], and gets a field of [`AllFollowers`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::followers::Followers;
use super::{FollowedKind, StateRead, StateVersion};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::record::{Record, RecordKey};
use crate::domain::session::{Session, SessionKey};
use crate::domain::short::Short;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;

/// The watches of each kind on this server.
#[derive(Default)]
pub struct AllFollowers {
    records: Arc<Followers<FollowedRecords>>,
    resources: Arc<Followers<FollowedResources>>,
    sessions: Arc<Followers<FollowedSessions>>,
}

impl AllFollowers {
    /// Wakes the watches of what was published since the last call. Returns how many were woken.
    pub fn announce(&self) -> usize {
        self.records.announce() + self.resources.announce() + self.sessions.announce()
    }
}

/// A kind of state of which [`AllFollowers`] has the watches.
pub trait OfferedKind: FollowedKind {
    /// The watches of this kind.
    fn followers(all: &AllFollowers) -> &Arc<Followers<Self>>;
}

/// Records, for WatchRecords.
pub struct FollowedRecords;

impl FollowedKind for FollowedRecords {
    type State = Record;
    /// Versions of the fields.
    type Summary = BTreeMap<Short, i64>;

    const PACE: Duration = Duration::ZERO;

    fn summary(record: &Record) -> Self::Summary {
        record.fields.iter().map(|(name, field)| (name.clone(), field.version)).collect()
    }

    async fn read(store: Store, known: Vec<(RecordKey, StateVersion)>) -> Result<Vec<StateRead<Record>>> {
        let pair = |(key, known): (RecordKey, StateVersion)| (key, (known.version, known.create_time));
        let (keys, at): (Vec<RecordKey>, Vec<(i64, Timestamp)>) = known.into_iter().map(pair).unzip();
        store.look_at_records(&keys, &at).await
    }
}

impl OfferedKind for FollowedRecords {
    fn followers(all: &AllFollowers) -> &Arc<Followers<Self>> {
        &all.records
    }
}

/// Resources, for WatchResource.
pub struct FollowedResources;

impl FollowedKind for FollowedResources {
    type State = Resource;
    type Summary = ();

    /// A busy resource changes with every permit, and each update carries all of it.
    const PACE: Duration = Duration::from_millis(50);

    fn summary(_resource: &Resource) {}

    async fn read(store: Store, known: Vec<(ResourceKey, StateVersion)>) -> Result<Vec<StateRead<Resource>>> {
        let keys: Vec<ResourceKey> = known.iter().map(|(key, _)| *key).collect();
        let mut found = store.resources(&keys).await?;
        let read = |(key, known): (ResourceKey, StateVersion)| match found.remove(&key) {
            None => StateRead::Missing,
            Some(resource) if StateVersion::of(&*resource) == known => StateRead::Unchanged,
            Some(resource) => StateRead::Changed(resource),
        };
        Ok(known.into_iter().map(read).collect())
    }
}

impl OfferedKind for FollowedResources {
    fn followers(all: &AllFollowers) -> &Arc<Followers<Self>> {
        &all.resources
    }
}

/// Sessions, for WatchSession. Their segments are among their last changes, or are read by version.
pub struct FollowedSessions;

impl FollowedKind for FollowedSessions {
    type State = Session;
    type Summary = ();

    const PACE: Duration = Duration::ZERO;

    fn summary(_session: &Session) {}

    async fn read(store: Store, known: Vec<(SessionKey, StateVersion)>) -> Result<Vec<StateRead<Session>>> {
        let pair = |(key, known): (SessionKey, StateVersion)| (key, (known.version, known.create_time));
        let (keys, at): (Vec<SessionKey>, Vec<(i64, Timestamp)>) = known.into_iter().map(pair).unzip();
        store.look_at_sessions(&keys, &at).await
    }
}

impl OfferedKind for FollowedSessions {
    fn followers(all: &AllFollowers) -> &Arc<Followers<Self>> {
        &all.sessions
    }
}
