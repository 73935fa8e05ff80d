//! The kinds of state that are followed. A new kind is one implementation of [`FollowedKind`] and one line in each function of [`AllFollowers`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::poll::poll;
use super::{FollowedKind, Followers, StateRead, StateVersion};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::record::{Record, RecordKey};
use crate::domain::short::Short;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::feed::Hub;
use crate::store::Store;
use crate::store::load::Look;

/// The watches of each kind on this server.
#[derive(Default)]
pub struct AllFollowers {
    records: Arc<Followers<FollowedRecords>>,
    resources: Arc<Followers<FollowedResources>>,
}

impl AllFollowers {
    /// Wakes the watches of what was published since the last call. Returns how many were woken.
    pub fn announce(&self) -> usize {
        self.records.announce() + self.resources.announce()
    }

    /// Starts one poll for each kind. They run until `end` is cancelled.
    pub fn start_polls(hub: &Arc<Hub>, store: &Store, end: &CancellationToken) -> Vec<JoinHandle<()>> {
        // What other servers commit is not found later because calls use up the connections for reads.
        let store = store.for_background();
        vec![
            tokio::spawn(poll::<FollowedRecords>(hub.clone(), store.clone(), end.clone())),
            tokio::spawn(poll::<FollowedResources>(hub.clone(), store, end.clone())),
        ]
    }
}

/// Records, for WatchRecords.
pub struct FollowedRecords;

impl FollowedKind for FollowedRecords {
    type Key = RecordKey;
    type State = Record;
    /// Versions of the fields.
    type Summary = BTreeMap<Short, i64>;

    const PACE: Duration = Duration::ZERO;

    fn version(record: &Record) -> StateVersion {
        StateVersion { version: record.version, create_time: record.create_time }
    }

    fn summary(record: &Record) -> Self::Summary {
        record.fields.iter().map(|(name, field)| (name.clone(), field.version)).collect()
    }

    fn weight_bytes(record: &Record) -> usize {
        record.weight_bytes()
    }

    fn followers(hub: &Hub) -> &Arc<Followers<Self>> {
        &hub.followers.records
    }

    async fn read(store: Store, known: Vec<(RecordKey, StateVersion)>) -> Result<Vec<StateRead<Record>>> {
        let pair = |(key, known): (RecordKey, StateVersion)| (key, (known.version, known.create_time));
        let (keys, at): (Vec<RecordKey>, Vec<(i64, Timestamp)>) = known.into_iter().map(pair).unzip();
        let read = |look| match look {
            Look::Missing => StateRead::Missing,
            Look::Unchanged => StateRead::Unchanged,
            Look::Changed(record) => StateRead::Changed(Arc::new(record)),
        };
        Ok(store.look_at_records(&keys, &at).await?.into_iter().map(read).collect())
    }
}

/// Resources, for WatchResource.
pub struct FollowedResources;

impl FollowedKind for FollowedResources {
    type Key = ResourceKey;
    type State = Resource;
    type Summary = ();

    /// A busy resource changes with every permit, and each update carries all of it.
    const PACE: Duration = Duration::from_millis(50);

    fn version(resource: &Resource) -> StateVersion {
        StateVersion { version: resource.version, create_time: resource.create_time }
    }

    fn summary(_resource: &Resource) {}

    fn weight_bytes(resource: &Resource) -> usize {
        resource.weight_bytes()
    }

    fn followers(hub: &Hub) -> &Arc<Followers<Self>> {
        &hub.followers.resources
    }

    async fn read(store: Store, known: Vec<(ResourceKey, StateVersion)>) -> Result<Vec<StateRead<Resource>>> {
        let keys: Vec<ResourceKey> = known.iter().map(|(key, _)| *key).collect();
        let mut found = store.resources(&keys).await?;
        let read = |(key, known): (ResourceKey, StateVersion)| match found.remove(&key) {
            None => StateRead::Missing,
            Some(resource) if Self::version(&resource) == known => StateRead::Unchanged,
            Some(resource) => StateRead::Changed(resource),
        };
        Ok(known.into_iter().map(read).collect())
    }
}
