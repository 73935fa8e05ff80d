//! Circuit breakers that are not closed, as far as commits of this server know.

use foldhash::HashMap;
use parking_lot::Mutex;

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
        self.0.lock().iter().map(|(key, name)| (*key, name.clone())).collect()
    }

    /// Notes the state of a resource. None: it does not exist.
    pub fn observe(&self, key: ResourceKey, resource: Option<&Resource>, now: Timestamp) {
        let mut open = self.0.lock();
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
}

/// The phase of a resource's breaker. None: it has no breaker.
pub fn phase(resource: &Resource, now: Timestamp) -> Option<BreakerPhase> {
    let has_breaker = resource.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
    // One that was not used yet is closed.
    has_breaker.then(|| resource.state.breaker.as_ref().map_or(BreakerPhase::Closed, |breaker| breaker.phase(now)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::failure::FailureClass;
    use crate::domain::id::NamespaceId;
    use crate::domain::permit::breaker::Breaker;
    use crate::domain::permit::policy::{BreakerPolicy, Policy};

    const NOW: Timestamp = Timestamp(1_000_000);

    /// A resource whose breaker has opened. `policy` None: it has no breaker any more.
    fn opened(number: usize, policy: Option<BreakerPolicy>) -> Resource {
        let name: Name = format!("r{number}").into();
        let mut resource = Resource::new(ResourceKey::of(NamespaceId(1), &name), name, 0, NOW);
        let (rules, mut breaker) =
            (BreakerPolicy { failure_threshold: 1, ..BreakerPolicy::default() }, Breaker::default());
        let pass = breaker.granted(&rules, NOW);
        breaker.ended(&rules, Some(FailureClass::ServerError), pass, 1, NOW);
        resource.state.breaker = Some(breaker);
        resource.policy = policy.map(|breaker| Arc::new(Policy { breaker: Some(breaker), ..Policy::default() }));
        resource
    }

    #[test]
    fn open_breakers_are_listed_until_the_resource_loses_them_or_is_deleted() {
        let (breakers, policy) = (Breakers::default(), Some(BreakerPolicy::default()));
        let (one, other) = (opened(1, policy.clone()), opened(2, policy));
        breakers.observe(one.key, Some(&one), NOW);
        breakers.observe(other.key, Some(&other), NOW);
        assert_eq!(breakers.open().len(), 2);
        breakers.observe(one.key, Some(&opened(1, None)), NOW);
        assert_eq!(breakers.open(), [(other.key, other.name.clone())]);
        breakers.observe(other.key, None, NOW);
        assert!(breakers.open().is_empty());
    }

    #[test]
    fn listed_breakers_are_bounded() {
        let breakers = Breakers::default();
        for number in 0..=MAX_OPEN {
            let resource = opened(number, Some(BreakerPolicy::default()));
            breakers.observe(resource.key, Some(&resource), NOW);
        }
        assert_eq!(breakers.open().len(), MAX_OPEN);
    }
}
