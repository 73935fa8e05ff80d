//! All credentials, in memory, at most a few seconds old.
//!
//! A call needs no query for its credential: `credentials.rs` reads changes round by round. An unknown credential may be new: its call waits for
//! the next round, which is started at once. A flood of unknown ids therefore causes rounds, at a bounded rate, and no queries of its own.
//!
//! **Invariants.** The end of a credential (revoked, expired, secret replaced, deleted) cancels the token of all calls
//! that it admitted. `Debug` output contains nothing that helps to guess a secret.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::figures::Failures;
use crate::domain::access::Principal;
use crate::domain::credential::{
    ApiKey, KeyChanges, KeyId, KeyState, KeyText, Proof, SecretHash, SecretMatch, verify_unknown,
};
use crate::domain::id::Name;
use crate::domain::time::Timestamp;

/// Time for which an unknown credential is refused without a round. A regular round has run by then.
const ABSENT: Duration = Duration::from_secs(2);
/// Maximum number of unknown credentials remembered.
const MAX_ABSENT: usize = 4_096;
/// Maximum number of calls that wait for a round; beyond it they are refused with a retry delay.
const MAX_WAITING: usize = 256;
/// Maximum wait of a call for a round.
const ROUND_WAIT: Duration = Duration::from_secs(1);

/// Returns the current time by the database's clock.
pub type DatabaseClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The credential that a caller presents.
#[derive(Clone)]
pub(super) enum ShownCredential {
    /// The id and secret of an API key, from `authorization`.
    Key(KeyText),
    /// The names in a client certificate.
    Certificate(Arc<[String]>),
}

/// The principal of a call, and the end of its credential.
pub(super) struct KeySession {
    pub(super) principal: Arc<Principal>,
    /// Cancelled when the credential is valid no longer.
    pub(super) ended: CancellationToken,
}

/// Result of looking up a credential.
pub(super) enum KeyLookup {
    /// A valid credential, with the principal of the call.
    Valid(KeySession),
    /// The credential matches but is valid no longer.
    Ended(KeyState),
    /// The secret is wrong.
    WrongSecret,
    /// The credential is not in memory.
    Unknown,
}

/// All credentials in memory, and the calls that wait for the next round.
pub struct KnownKeys {
    clock: DatabaseClock,
    ring: RwLock<Ring>,
    rounds: watch::Sender<Rounds>,
    /// Notified when a call needs a round.
    wanted: Notify,
    waiting: Semaphore,
    absent: Mutex<HashMap<u64, Instant>>,
    hasher: foldhash::fast::RandomState,
    pub(super) failures: Failures,
}

#[derive(Default)]
struct Ring {
    version: i64,
    by_id: HashMap<KeyId, Arc<Entry>>,
    /// Credentials that are not revoked, by certificate name.
    by_certificate: HashMap<Name, KeyId>,
}

/// What the server keeps of one credential: the key, who it stands for, and the tokens that end its calls.
struct Entry {
    key: Arc<ApiKey>,
    principal: Arc<Principal>,
    /// Cancelled to end the calls of the newest secret, or of the certificate.
    newest: CancellationToken,
    /// Cancelled to end the calls of the secret before the last rotation.
    previous: CancellationToken,
    was_used: AtomicBool,
}

/// Rounds of reading changes from the database.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// True if the last round succeeded.
    is_fresh: bool,
    /// True once a round has succeeded.
    is_loaded: bool,
}

impl std::fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownKeys").field("rounds", &*self.rounds.borrow()).finish_non_exhaustive()
    }
}

impl KnownKeys {
    /// Creates an empty set: until the first round, calls with a credential are refused with a retry delay.
    pub fn new(clock: DatabaseClock) -> Self {
        Self {
            clock,
            ring: RwLock::default(),
            rounds: watch::Sender::new(Rounds::default()),
            wanted: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            absent: Mutex::default(),
            hasher: foldhash::fast::RandomState::default(),
            failures: Failures::default(),
        }
    }

    /// Creates an empty set that is never read: for servers without a database.
    pub fn unread() -> Self {
        Self::new(Arc::new(|| Timestamp(0)))
    }

    /// Counters of refused calls, by reason.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// The number of known credentials, including ended ones.
    pub fn len(&self) -> usize {
        self.ring.read().by_id.len()
    }

    /// True if no credential is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version of the key ring up to which all changes are known. 0: none.
    pub fn version(&self) -> i64 {
        self.ring.read().version
    }

    /// Starts a round: it reads data newer than every call that waits for it.
    pub fn begin_round(&self) {
        self.rounds.send_modify(|rounds| rounds.begun += 1);
    }

    /// Ends the round and applies the changes. None: the database could not be read; known credentials stay valid until they expire.
    pub fn end_round(&self, changes: Option<KeyChanges>) {
        let is_fresh = changes.is_some();
        let now = (self.clock)();
        {
            let mut ring = self.ring.write();
            if let Some(changes) = changes {
                ring.apply(changes);
            }
            ring.by_id.values().for_each(|entry| entry.end_what_has_ended(now));
        }
        self.absent.lock().retain(|_, until| Instant::now() < *until);
        self.rounds.send_modify(|rounds| {
            rounds.ended = rounds.begun;
            rounds.is_fresh = is_fresh;
            rounds.is_loaded |= is_fresh;
        });
    }

    /// Waits until a call needs a round.
    pub async fn round_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Requests a round and waits for one that started after this call. False: it did not end within `ROUND_WAIT`, or the read failed.
    pub async fn refreshed(&self) -> bool {
        let mut rounds = self.rounds.subscribe();
        let round = rounds.borrow().begun + 1;
        self.wanted.notify_one();
        let ended = tokio::time::timeout(ROUND_WAIT, rounds.wait_for(|rounds| rounds.ended >= round)).await;
        matches!(ended, Ok(Ok(rounds)) if rounds.is_fresh)
    }

    /// Ids of the credentials used since the last call of this function.
    pub fn take_used(&self) -> Vec<KeyId> {
        let ring = self.ring.read();
        let used = ring.by_id.iter().filter(|(_, entry)| entry.was_used.swap(false, Ordering::Relaxed));
        used.map(|(id, _)| *id).collect()
    }

    /// Looks up a credential among the known ones.
    pub(super) fn find(&self, shown: &ShownCredential) -> KeyLookup {
        match shown {
            ShownCredential::Key(text) => self.find_key(text),
            ShownCredential::Certificate(names) => self.find_certificate(names),
        }
    }

    /// Looks up an unknown credential after a round. None: too many calls wait, or the round failed.
    pub(super) async fn find_after_round(&self, shown: &ShownCredential) -> Option<KeyLookup> {
        let absent = self.absence(shown);
        if self.absent.lock().get(&absent).is_some_and(|until| Instant::now() < *until) {
            return Some(KeyLookup::Unknown);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        if !self.refreshed().await {
            return None;
        }
        let found = self.find(shown);
        if matches!(found, KeyLookup::Unknown) {
            let mut memory = self.absent.lock();
            if memory.len() < MAX_ABSENT {
                memory.insert(absent, Instant::now() + ABSENT);
            }
        }
        Some(found)
    }

    fn find_key(&self, text: &KeyText) -> KeyLookup {
        let Some(entry) = self.ring.read().by_id.get(&text.id).cloned() else {
            // This takes the same time as a known key, so that timing does not reveal ids.
            verify_unknown(&text.secret);
            return KeyLookup::Unknown;
        };
        let now = (self.clock)();
        match entry.key.match_secret(&text.secret, now) {
            Some(SecretMatch::Newest) => entry.session(now, &entry.newest),
            Some(SecretMatch::Previous) => entry.session(now, &entry.previous),
            None => KeyLookup::WrongSecret,
        }
    }

    /// Looks up the first name that has a credential.
    fn find_certificate(&self, names: &[String]) -> KeyLookup {
        let entry = {
            let ring = self.ring.read();
            let id = names.iter().find_map(|name| ring.by_certificate.get(name.as_str()));
            id.and_then(|id| ring.by_id.get(id).cloned())
        };
        entry.map_or(KeyLookup::Unknown, |entry| entry.session((self.clock)(), &entry.newest))
    }

    fn absence(&self, shown: &ShownCredential) -> u64 {
        match shown {
            ShownCredential::Key(text) => self.hasher.hash_one(text.id),
            ShownCredential::Certificate(names) => self.hasher.hash_one(names),
        }
    }
}

impl Ring {
    fn apply(&mut self, changes: KeyChanges) {
        let mut before = HashMap::default();
        if changes.is_whole {
            before = std::mem::take(&mut self.by_id);
            self.by_certificate.clear();
        }
        for key in changes.keys {
            let old = before.remove(&key.id).or_else(|| self.by_id.remove(&key.id));
            self.put(key, old.as_deref());
        }
        // A credential that is missing from the full list was deleted.
        before.values().for_each(|entry| entry.end());
        self.version = changes.version;
    }

    fn put(&mut self, key: Arc<ApiKey>, old: Option<&Entry>) {
        if let Some(name) = key.certificate() {
            if key.revoke_time.is_none() {
                self.by_certificate.insert(name.clone(), key.id);
            } else if self.by_certificate.get(name) == Some(&key.id) {
                self.by_certificate.remove(name);
            }
        }
        self.by_id.insert(key.id, Arc::new(Entry::new(key, old)));
    }
}

impl Entry {
    /// Creates a new or changed credential. Calls of secrets that it still has continue; the others end.
    fn new(key: Arc<ApiKey>, old: Option<&Entry>) -> Entry {
        let [newest, previous] = hashes(&key);
        let token = |hash: Option<SecretHash>| old.and_then(|old| old.token_of(hash)).cloned().unwrap_or_default();
        let entry = Entry {
            newest: token(newest),
            previous: token(previous),
            principal: Arc::new(key.principal()),
            was_used: AtomicBool::new(old.is_some_and(|old| old.was_used.load(Ordering::Relaxed))),
            key,
        };
        if let Some(old) = old {
            for (token, hash) in [&old.newest, &old.previous].into_iter().zip(hashes(&old.key)) {
                if hash != newest && hash != previous {
                    token.cancel();
                }
            }
        }
        entry
    }

    /// Token of the calls of a secret, or of the certificate if `hash` is None.
    /// None: the credential has no such secret.
    fn token_of(&self, hash: Option<SecretHash>) -> Option<&CancellationToken> {
        match (hashes(&self.key), hash) {
            ([None, _], None) => Some(&self.newest),
            ([newest, _], Some(_)) if newest == hash => Some(&self.newest),
            ([_, previous], Some(_)) if previous == hash => Some(&self.previous),
            _ => None,
        }
    }

    fn session(&self, now: Timestamp, ended: &CancellationToken) -> KeyLookup {
        match self.key.state(now) {
            KeyState::Active => {}
            state @ (KeyState::Expired | KeyState::Revoked) => return KeyLookup::Ended(state),
        }
        // A store by every call would move the cache line between the processors.
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
        KeyLookup::Valid(KeySession { principal: Arc::clone(&self.principal), ended: ended.clone() })
    }

    fn end_what_has_ended(&self, now: Timestamp) {
        if self.key.state(now) != KeyState::Active {
            self.end();
        }
        let Proof::Secret { previous: Some(previous), .. } = &self.key.proof else { return };
        if previous.until <= now {
            self.previous.cancel();
        }
    }

    fn end(&self) {
        self.newest.cancel();
        self.previous.cancel();
    }
}

/// Hashes of the newest secret and of the one before it.
fn hashes(key: &ApiKey) -> [Option<SecretHash>; 2] {
    match &key.proof {
        Proof::Secret { hash, previous } => [Some(*hash), previous.as_ref().map(|previous| previous.hash)],
        Proof::Certificate(_) => [None, None],
    }
}

#[cfg(test)]
mod tests;
