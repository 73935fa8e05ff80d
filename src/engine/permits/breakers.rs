//! Circuit breakers that are not closed, as far as commits of this server know.

use foldhash::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::domain::id::Name;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::breaker::BreakerPhase;
use crate::domain::permit::resource::Resource;
use crate::domain::time::Timestamp;

/// Breakers that are remembered at most; more are not listed.
const MAX_OPEN: usize = 1_000;

/// Breakers that are open or half open, with the names of their resources.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<HashMap<ResourceKey, Name>>);

impl Breakers {
    /// The resources whose breaker is not closed, in no order.
    pub fn open(&self) -> Vec<(ResourceKey, Name)> {
        self.lock().iter().map(|(key, name)| (*key, name.clone())).collect()
    }

    /// Notes the state of a resource. None: it does not exist.
    pub fn observe(&self, key: ResourceKey, resource: Option<&Resource>, now: Timestamp) {
        let mut open = self.lock();
        match resource.filter(|resource| !matches!(phase(resource, now), None | Some(BreakerPhase::Closed))) {
            Some(resource) if open.len() < MAX_OPEN => {
                open.insert(key, resource.name.clone());
            }
            Some(_) => {}
            None if open.is_empty() => {}
            None => {
                open.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceKey, Name>> {
        self.0.lock()
    }
}

/// The phase of a resource's breaker. None: it has no breaker.
pub fn phase(resource: &Resource, now: Timestamp) -> Option<BreakerPhase> {
    let has_breaker = resource.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
    // One that was not used yet is closed.
    has_breaker.then(|| resource.state.breaker.as_ref().map_or(BreakerPhase::Closed, |breaker| breaker.phase(now)))
}
