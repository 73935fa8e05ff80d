//! Finds commits of other servers to followed states: reads the versions of all of them, many at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::StateRead;
use super::kinds::{FollowedRecords, FollowedResources, FollowedSessions, OfferedKind};
use crate::error::Result;
use crate::feed::hub::Hub;
use crate::store::Store;

/// Time between two polls.
const EVERY: Duration = Duration::from_millis(250);
/// Keys in one read.
const KEYS_PER_READ: usize = 500;

/// Starts one poll for each kind. They run until `end` is cancelled.
pub fn start_polls(hub: &Arc<Hub>, store: &Store, end: &CancellationToken) -> Vec<JoinHandle<()>> {
    // What other servers commit is not found later because calls use up the connections for reads.
    let store = store.for_background();
    vec![
        tokio::spawn(poll::<FollowedRecords>(hub.clone(), store.clone(), end.clone())),
        tokio::spawn(poll::<FollowedResources>(hub.clone(), store.clone(), end.clone())),
        tokio::spawn(poll::<FollowedSessions>(hub.clone(), store, end.clone())),
    ]
}

/// Polls the followed states of one kind until `end` is cancelled.
async fn poll<K: OfferedKind>(hub: Arc<Hub>, store: Store, end: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = poll_once::<K>(&hub, &store).await {
            // The next poll finds the same changes.
            tracing::debug!(%error, kind = std::any::type_name::<K>(), "followed states were not read");
        }
    }
}

async fn poll_once<K: OfferedKind>(hub: &Hub, store: &Store) -> Result<()> {
    for known in K::followers(&hub.followers).known().chunks(KEYS_PER_READ) {
        let reads = K::read(store.clone(), known.to_vec()).await?;
        for ((key, _), read) in known.iter().zip(reads) {
            match read {
                StateRead::Unchanged => {}
                StateRead::Changed(state) => hub.publish_state::<K>(key, Some(&state)),
                StateRead::Missing => hub.publish_state::<K>(key, None),
            }
        }
    }
    Ok(())
}
