//! Keys of which something was seen lately, forgotten by themselves.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::world::Key;

/// How many keys are remembered at most; more are not taken in until old ones have gone, which costs their operations a
/// round more.
const MAX_KEYS: usize = 50_000;

/// Keys with the moment at which each was last marked.
pub struct Recent {
    marked: Mutex<HashMap<Key, Instant>>,
    lasting: Duration,
}

impl Recent {
    /// Marks that last so long.
    pub fn new(lasting: Duration) -> Self {
        Self { marked: Mutex::default(), lasting }
    }

    /// Marks keys from now on.
    pub fn mark<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let (mut marked, now) = (self.lock(), Instant::now());
        if marked.len() >= MAX_KEYS {
            marked.retain(|_, at| now.duration_since(*at) < self.lasting);
        }
        if marked.len() < MAX_KEYS {
            marked.extend(keys.cloned().map(|key| (key, now)));
        }
    }

    /// Whether any key is marked at all, which is asked first because it is rare.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether a key is marked.
    pub fn has(&self, key: &Key) -> bool {
        let mut marked = self.lock();
        match marked.get(key) {
            Some(at) if at.elapsed() < self.lasting => true,
            Some(_) => {
                marked.remove(key);
                false
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.marked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
