//! Keys of which something was seen lately, forgotten by themselves.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::operation::overlay::Key;

/// How many keys are remembered at most; more are not taken in until old ones have gone, which costs their operations a
/// round more.
const MAX_KEYS: usize = 50_000;

/// Keys with the moment at which each was last marked.
pub struct Recent {
    marked: Mutex<Marked>,
    lasting: Duration,
}

#[derive(Default)]
struct Marked {
    keys: HashMap<Key, Instant>,
    /// When the last was marked.
    latest: Option<Instant>,
}

impl Recent {
    /// Marks that last so long.
    pub fn new(lasting: Duration) -> Self {
        Self { marked: Mutex::default(), lasting }
    }

    /// Marks keys from now on.
    pub fn mark<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let (mut marked, now) = (self.lock(), Instant::now());
        if marked.keys.len() >= MAX_KEYS {
            marked.keys.retain(|_, at| now.duration_since(*at) < self.lasting);
        }
        if marked.keys.len() < MAX_KEYS {
            marked.keys.extend(keys.cloned().map(|key| (key, now)));
            marked.latest = Some(now);
        }
    }

    /// Whether no key is marked, which is asked first because it is usual.
    pub fn is_empty(&self) -> bool {
        let mut marked = self.lock();
        if marked.latest.is_some_and(|latest| latest.elapsed() >= self.lasting) {
            *marked = Marked::default();
        }
        marked.keys.is_empty()
    }

    /// Whether a key is marked.
    pub fn has(&self, key: &Key) -> bool {
        let mut marked = self.lock();
        match marked.keys.get(key) {
            Some(at) if at.elapsed() < self.lasting => true,
            Some(_) => {
                marked.keys.remove(key);
                false
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::NamespaceId;

    #[test]
    fn marks_are_forgotten_by_themselves() {
        let key = Key::Namespace(NamespaceId(1));
        for (lasting, lasts) in [(Duration::from_secs(600), true), (Duration::ZERO, false)] {
            let recent = Recent::new(lasting);
            assert!(recent.is_empty() && !recent.has(&key));
            recent.mark([&key].into_iter());
            assert_eq!((recent.has(&key), recent.has(&Key::Namespace(NamespaceId(2)))), (lasts, false));
            recent.mark([&key].into_iter());
            assert_eq!(!recent.is_empty(), lasts);
        }
    }
}
