//! The namespaces by name: a small bounded memory, so that a call costs no query for its namespace.
//!
//! **Invariants.** An answer is at most [`FRESH`] older than a query that confirmed it (plus the time of one query:
//! one call renews an entry while others go on with what is known). A name that was not found is believed absent for
//! [`ABSENT`] only. The memory never holds more than [`MAX_ENTRIES`] names, whatever strangers ask for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::domain::id::{Name, NamespaceId};
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::store::Store;

/// How long a found namespace is believed to exist.
const FRESH: Duration = Duration::from_secs(10);
/// How long a namespace that was not found is believed not to exist.
const ABSENT: Duration = Duration::from_secs(1);
/// How long renewing what is known may hold up a call.
const RENEWAL: Duration = Duration::from_millis(250);
/// How many names are remembered at most.
const MAX_ENTRIES: usize = 4_096;

/// The directory of namespaces.
pub struct Namespaces {
    store: Store,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known(HashMap<Name, Entry>);

#[derive(Clone, Copy)]
struct Entry {
    /// `None`: there is no such namespace.
    id: Option<NamespaceId>,
    until: Instant,
}

/// The answer of the cache.
#[derive(Debug, PartialEq, Eq)]
enum Recall {
    /// The namespace exists, or does not.
    Known(Option<NamespaceId>),
    /// The namespace existed; the caller has to check whether it still does.
    Stale(NamespaceId),
    /// The cache has no answer; the database has to be asked.
    Nothing,
}

impl Namespaces {
    /// An empty directory of namespaces.
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The number of a namespace.
    pub async fn id(&self, name: &str) -> Result<NamespaceId> {
        let recall = self.known.lock().recall(name, Instant::now());
        let found = match recall {
            Recall::Known(id) => id,
            // Without the database the call will fail where it needs it; that is the better error. And a heartbeat needs no
            // reader, so it does not wait for one.
            Recall::Stale(id) => match tokio::time::timeout(RENEWAL, self.look_up(name)).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) | Err(_) => Some(id),
            },
            Recall::Nothing => self.look_up(name).await?,
        };
        found.ok_or_else(|| Refusal::NamespaceNotFound { name: name.to_owned() }.into())
    }

    /// The number of a namespace as it is remembered. None: it is not, or there is no such namespace.
    pub fn remembered(&self, name: &str) -> Option<NamespaceId> {
        self.known.lock().0.get(name)?.id
    }

    /// Forgets a name that was created or deleted here.
    pub fn forget(&self, name: &str) {
        self.known.lock().0.remove(name);
    }

    /// In a box, because it is seldom needed and every call would have to carry the room for it.
    fn look_up<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<NamespaceId>>> {
        Box::pin(async move {
            let id = self.store.namespace(name).await?.map(|namespace| namespace.id);
            self.known.lock().note(name, id, Instant::now());
            Ok(id)
        })
    }
}

impl Known {
    /// What is known of a name. Who gets [`Recall::Stale`] is the only one for a while.
    fn recall(&mut self, name: &str, now: Instant) -> Recall {
        match self.0.get_mut(name) {
            Some(entry) if now < entry.until => Recall::Known(entry.id),
            Some(Entry { id: Some(id), until }) => {
                *until = now + FRESH;
                Recall::Stale(*id)
            }
            Some(Entry { id: None, .. }) | None => Recall::Nothing,
        }
    }

    fn note(&mut self, name: &str, id: Option<NamespaceId>, now: Instant) {
        if self.0.len() >= MAX_ENTRIES {
            self.0.retain(|_, entry| entry.id.is_some() && now < entry.until);
        }
        if self.0.len() < MAX_ENTRIES {
            let until = now + if id.is_some() { FRESH } else { ABSENT };
            self.0.insert(name.into(), Entry { id, until });
        }
        debug_assert!(self.0.len() <= MAX_ENTRIES, "callers cannot make it grow");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: NamespaceId = NamespaceId(7);

    #[test]
    fn a_namespace_is_known_for_a_while_and_renewed_by_one() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!(known.recall("a", now), Recall::Nothing);
        known.note("a", Some(ID), now);
        assert_eq!(known.recall("a", now), Recall::Known(Some(ID)));
        assert_eq!(known.recall("a", now + FRESH), Recall::Stale(ID));
        assert_eq!(known.recall("a", now + FRESH), Recall::Known(Some(ID)), "others need not ask too");
        known.note("a", None, now + FRESH);
        assert_eq!(known.recall("a", now + FRESH), Recall::Known(None));
        assert_eq!(known.recall("a", now + FRESH + ABSENT), Recall::Nothing);
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.note("real", Some(ID), now);
        for i in 0..3 * MAX_ENTRIES {
            known.note(&format!("guess-{i}"), None, now);
        }
        assert!(known.0.len() <= MAX_ENTRIES);
        assert_eq!(known.recall("real", now), Recall::Known(Some(ID)));
    }
}
