//! Callers that wait on this server for a permit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::permit::resource::Resource;
use crate::domain::permit::{Granted, Permit, ResourceKey};

/// A message to a waiting caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its permit was granted at all of its resources.
    Granted(Vec<Granted>),
    /// It has to check what became of its permit.
    Check,
}

/// Waiting callers, by the id of the permit.
#[derive(Default)]
pub struct Waits {
    /// The size of `waiting`, read without its lock.
    count: AtomicUsize,
    waiting: Mutex<HashMap<Uuid, WaitState>>,
}

struct WaitState {
    resources: Vec<ResourceKey>,
    /// Grants so far; a permit is granted once each of `resources` has one.
    granted: Vec<Granted>,
    signals: mpsc::Sender<Signal>,
}

/// A waiting caller, until it is dropped.
pub struct Wait {
    waits: Arc<Waits>,
    id: Uuid,
    signals: mpsc::Receiver<Signal>,
}

impl Waits {
    /// Begins to wait for a permit. Called before the permit is asked for, so that no signal is missed.
    pub fn begin(self: &Arc<Self>, id: Uuid, resources: Vec<ResourceKey>) -> Wait {
        // Room for one grant and one check. A check covers all signals before it.
        let (sender, signals) = mpsc::channel(2);
        let before = self.waiting.lock().insert(id, WaitState { resources, granted: Vec::new(), signals: sender });
        debug_assert!(before.is_none(), "each attempt has an id of its own");
        self.count.fetch_add(1, Ordering::Release);
        Wait { waits: self.clone(), id, signals }
    }

    /// Whether no caller waits here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Callers that wait here.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Notes that a permit was granted at one resource, and signals its caller once that was the last one.
    pub fn granted(&self, resource: &Resource, permit: &Permit) {
        let mut waiting = self.waiting.lock();
        let Some(waits) = waiting.get_mut(&permit.id) else { return };
        waits.granted.push(Granted {
            key: resource.key,
            resource: resource.name.clone(),
            fencing_token: permit.fencing_token,
            expires_at: permit.expires_at,
        });
        if waits.granted.len() == waits.resources.len() {
            let granted = std::mem::take(&mut waits.granted);
            // A caller with unread signals checks anyway.
            let _full = waits.signals.try_send(Signal::Granted(granted));
        }
    }

    /// Lets a caller check what became of its permit.
    pub fn check(&self, id: &Uuid) {
        if let Some(waits) = self.waiting.lock().get(id) {
            let _full = waits.signals.try_send(Signal::Check);
        }
    }

    /// All permits that callers wait for here, with the first resource of each.
    pub fn all(&self) -> Vec<(ResourceKey, Uuid)> {
        let waiting = self.waiting.lock();
        waiting.iter().filter_map(|(id, waits)| Some((*waits.resources.first()?, *id))).collect()
    }
}

impl Wait {
    /// Waits for a signal.
    pub async fn signal(&mut self) -> Signal {
        // The sender lives as long as this receiver.
        self.signals.recv().await.unwrap_or(Signal::Check)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waits.waiting.lock().remove(&self.id);
        self.waits.count.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::domain::id::{Name, NamespaceId};
    use crate::domain::permit::PermitClaim;
    use crate::domain::permit::resource::PermitTerms;
    use crate::domain::time::Timestamp;

    /// A resource with a permit that was granted under an id.
    fn granted(name: &str, id: Uuid) -> (Resource, Arc<Permit>) {
        let mut resource = Resource::new(ResourceKey::of(NamespaceId(1), name), name.into(), 0, Timestamp(1));
        let ttl = std::time::Duration::from_secs(10);
        let terms = PermitTerms { id, all: Vec::new(), holder: Name::from("h"), ttl, expires_at: None, lease: None };
        resource.grant(&PermitClaim { resource: name.into(), amount: 1, mode: None }, terms, Timestamp(1));
        let permit = resource.held_permits().next().expect("it was granted").clone();
        (resource, permit)
    }

    #[test]
    fn a_caller_is_signalled_once_its_permit_is_granted_at_all_resources() {
        let (waits, id) = (Arc::new(Waits::default()), Uuid::from_u128(1));
        let both = [granted("a", id), granted("b", id)];
        let mut wait = waits.begin(id, both.iter().map(|(resource, _)| resource.key).collect());
        assert_eq!(waits.all(), [(both[0].0.key, id)]);
        waits.granted(&both[0].0, &both[0].1);
        assert!(wait.signal().now_or_never().is_none(), "one resource of two");
        waits.granted(&both[1].0, &both[1].1);
        let Some(Signal::Granted(grants)) = wait.signal().now_or_never() else { panic!("no grant") };
        assert_eq!(grants.iter().map(|grant| grant.key).collect::<Vec<_>>(), both.map(|(resource, _)| resource.key));
    }

    #[test]
    fn a_caller_that_has_gone_waits_no_longer() {
        let (waits, id) = (Arc::new(Waits::default()), Uuid::from_u128(1));
        let (resource, permit) = granted("a", id);
        let mut wait = waits.begin(id, vec![resource.key]);
        waits.check(&Uuid::from_u128(2));
        assert!(wait.signal().now_or_never().is_none(), "the check was for another caller");
        (0..3).for_each(|_| waits.check(&id));
        assert_eq!(wait.signal().now_or_never(), Some(Signal::Check));
        assert_eq!(waits.len(), 1);
        drop(wait);
        waits.granted(&resource, &permit);
        assert!(waits.is_empty() && waits.all().is_empty());
    }
}
