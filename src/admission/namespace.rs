//! The namespace that a call names, whether or not it exists, and the share that each namespace has of a server.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use http::Request;
use parking_lot::{Mutex, MutexGuard};

use crate::domain::short::Short;

/// Metadata key that chooses the namespace.
pub const NAMESPACE: &str = "interlock-namespace";
/// Namespace of calls that choose none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Maximum length of a name, in bytes.
pub(super) const MAX_BYTES: usize = 63;

/// Name of the namespace of a call. None: the name is not valid, so the call will be refused.
pub(super) fn of<B>(request: &Request<B>) -> Option<&str> {
    let Some(name) = request.headers().get(NAMESPACE) else { return Some(DEFAULT_NAMESPACE) };
    name.to_str().ok().filter(|name| !name.is_empty() && name.len() <= MAX_BYTES)
}

/// Number of parts of the counts, each with a lock of its own.
const SHARDS: usize = 16;
/// Part of the places left free by a namespace that is alone: 1/8.
const LEFT_PART: u32 = 8;
/// Places that each may always have, if any are free.
const ALWAYS: u32 = 16;

/// Maximum number of places for one namespace or network address. `limit`: all places; `taken`: those in use; `own`:
/// those of them in use by this namespace or address. The share is the number of places still free for all others, as
/// with connections (see `shares`). While the others have at most 16, the share is all but an eighth, which is what a
/// newcomer finds free. It is never below 16.
pub fn fair_share(limit: u32, taken: u32, own: u32) -> u32 {
    let is_alone = taken.saturating_sub(own) <= ALWAYS;
    let share = if is_alone { limit - limit / LEFT_PART } else { limit.saturating_sub(taken) };
    share.max(ALWAYS)
}

/// Number of places in use by each namespace. A namespace without places takes no memory.
#[derive(Debug, Default)]
pub(super) struct NamespaceCounts {
    hasher: RandomState,
    shards: [Mutex<HashMap<Short, u32, RandomState>>; SHARDS],
}

impl NamespaceCounts {
    /// Adds one. Returns the count before.
    pub(super) fn add(&self, namespace: &Short) -> u32 {
        let mut counts = self.shard(namespace);
        let count = counts.entry(namespace.clone()).or_default();
        *count += 1;
        *count - 1
    }

    /// Subtracts one; a count of 0 is removed.
    pub(super) fn remove(&self, namespace: &Short) {
        let mut counts = self.shard(namespace);
        let Some(count) = counts.get_mut(namespace) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(namespace);
        }
    }

    fn shard(&self, namespace: &Short) -> MutexGuard<'_, HashMap<Short, u32, RandomState>> {
        let shard = self.hasher.hash_one(namespace) % SHARDS as u64;
        self.shards[shard as usize].lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(namespace: &[u8]) -> Request<()> {
        Request::builder().header(NAMESPACE, namespace).body(()).expect("a request")
    }

    #[test]
    fn a_call_names_its_namespace() {
        assert_eq!(of(&Request::new(())), Some("default"));
        assert_eq!(of(&request(b"team-a")), Some("team-a"));
        for bad in [&b""[..], &[b'x'; 64], "é".as_bytes()] {
            assert_eq!(of(&request(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_share_is_what_is_free_for_all_others() {
        assert_eq!(fair_share(800, 0, 0), 700, "alone");
        assert_eq!(fair_share(800, 700, 690), 700, "next to alone");
        assert_eq!(fair_share(800, 700, 600), 100, "with others");
        assert_eq!(fair_share(800, 800, 100), ALWAYS, "nothing is free");
        assert_eq!(fair_share(8, 8, 8), ALWAYS, "the limit itself is looked at elsewhere");
    }

    #[test]
    fn counts_come_back() {
        let counts = NamespaceCounts::default();
        let (a, b) = (Short::from("a"), Short::from("b"));
        assert_eq!((counts.add(&a), counts.add(&a), counts.add(&b)), (0, 1, 0));
        counts.remove(&a);
        assert_eq!(counts.add(&a), 1);
        for namespace in [&a, &a, &b] {
            counts.remove(namespace);
        }
        assert!(counts.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
