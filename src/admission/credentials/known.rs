//! The credentials as this server knows them: all of them, in memory, at most a few seconds old.
//!
//! A call asks no database for its credential. Who keeps this up to date applies what changed, round by round. A credential that is not known
//! may be a new one: its call waits for the next round, which is asked for at once. So a flood of unknown ids causes rounds, whose number is
//! bounded, and no query of its own.
//!
//! **Invariants.** The end of a credential (revoked, expired, its secret replaced, deleted) cancels the token of all calls that were let in by it.
//! Nothing here can be printed that would help to guess a secret.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::figures::Failures;
use crate::domain::access::Principal;
use crate::domain::credential::{
    ApiKey, KeyChanges, KeyId, KeyState, KeyText, Proof, SecretHash, SecretMatch, verify_unknown,
};
use crate::domain::id::Name;
use crate::domain::time::Timestamp;

/// How long a credential that was not found is believed not to exist. By then a round has been made that nobody asked for.
const ABSENT: Duration = Duration::from_secs(2);
/// Credentials of which that is remembered at most.
const MAX_ABSENT: usize = 4_096;
/// Calls that wait for a round at most; beyond it they are told to come back.
const MAX_WAITING: usize = 256;
/// How long a call waits for a round.
const ROUND_WAIT: Duration = Duration::from_secs(1);

/// The time, as the database's clock would tell it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a caller has shown.
#[derive(Clone)]
pub(super) enum Shown {
    /// The id and secret of an API key, from `authorization`.
    Key(KeyText),
    /// The names in a client certificate.
    Certificate(Arc<[String]>),
}

/// Whom a call is made as, and when that ends.
pub(super) struct Session {
    pub(super) principal: Arc<Principal>,
    /// Cancelled when the credential is valid no longer.
    pub(super) ended: CancellationToken,
}

/// What became of what a caller has shown.
pub(super) enum Found {
    /// A valid credential, with the principal of the call.
    Valid(Session),
    /// It would be right, and is valid no longer.
    Ended(KeyState),
    /// The secret is another one.
    WrongSecret,
    /// There is no such credential here.
    Unknown,
}

/// The memory of all credentials, and the calls that wait for it to be read again.
pub struct KnownKeys {
    clock: Clock,
    ring: RwLock<Ring>,
    rounds: watch::Sender<Rounds>,
    /// Somebody wants a round now.
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
    /// Of those that are not revoked.
    by_certificate: HashMap<Name, KeyId>,
}

/// One credential.
struct Entry {
    key: Arc<ApiKey>,
    principal: Arc<Principal>,
    /// Ends the calls of the newest secret, or of the certificate.
    newest: CancellationToken,
    /// Ends the calls of the secret before the last rotation.
    previous: CancellationToken,
    was_used: AtomicBool,
}

/// Rounds that were made.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// Whether the last one succeeded.
    is_fresh: bool,
    /// Whether one ever did.
    is_loaded: bool,
}

impl std::fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownKeys").field("rounds", &*self.rounds.borrow()).finish_non_exhaustive()
    }
}

impl KnownKeys {
    /// A memory into which nothing was read yet: whoever shows a credential is told to come back.
    pub fn new(clock: Clock) -> Self {
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

    /// One into which nothing will ever be read.
    pub fn unread() -> Self {
        Self::new(Arc::new(|| Timestamp(0)))
    }

    /// Calls that were refused here, and why.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// How many credentials are known, ended ones included.
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version of the key ring up to which all changes are known. 0: nothing is.
    pub fn version(&self) -> i64 {
        self.read().version
    }

    /// A round begins: what it reads is newer than any call that has asked for it.
    pub fn begin_round(&self) {
        self.rounds.send_modify(|rounds| rounds.begun += 1);
    }

    /// The round ends with what changed. None: nothing could be read, and what is known goes on; expiry does too.
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
        self.absent().retain(|_, until| Instant::now() < *until);
        self.rounds.send_modify(|rounds| {
            rounds.ended = rounds.begun;
            rounds.is_fresh = is_fresh;
            rounds.is_loaded |= is_fresh;
        });
    }

    /// Waits until somebody wants a round.
    pub async fn round_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Asks for a round, and waits until one that began after this has ended. False: it did not end in time, or could read nothing.
    pub async fn refreshed(&self) -> bool {
        let mut rounds = self.rounds.subscribe();
        let round = rounds.borrow().begun + 1;
        self.wanted.notify_one();
        let ended = tokio::time::timeout(ROUND_WAIT, rounds.wait_for(|rounds| rounds.ended >= round)).await;
        matches!(ended, Ok(Ok(rounds)) if rounds.is_fresh)
    }

    /// Those that were used since this was last asked.
    pub fn take_used(&self) -> Vec<KeyId> {
        let ring = self.read();
        let used = ring.by_id.iter().filter(|(_, entry)| entry.was_used.swap(false, Ordering::Relaxed));
        used.map(|(id, _)| *id).collect()
    }

    /// What is known of what a caller has shown.
    pub(super) fn find(&self, shown: &Shown) -> Found {
        match shown {
            Shown::Key(text) => self.find_key(text),
            Shown::Certificate(names) => self.find_certificate(names),
        }
    }

    /// The same after a round, for what is not known. None: that cannot be found out now.
    pub(super) async fn find_after_round(&self, shown: &Shown) -> Option<Found> {
        let absent = self.absence(shown);
        if self.absent().get(&absent).is_some_and(|until| Instant::now() < *until) {
            return Some(Found::Unknown);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        if !self.refreshed().await {
            return None;
        }
        let found = self.find(shown);
        if matches!(found, Found::Unknown) {
            let mut memory = self.absent();
            if memory.len() < MAX_ABSENT {
                memory.insert(absent, Instant::now() + ABSENT);
            }
        }
        Some(found)
    }

    fn find_key(&self, text: &KeyText) -> Found {
        let Some(entry) = self.read().by_id.get(&text.id).cloned() else {
            // As long as it takes with a key that is there.
            verify_unknown(&text.secret);
            return Found::Unknown;
        };
        let now = (self.clock)();
        match entry.key.match_secret(&text.secret, now) {
            Some(SecretMatch::Newest) => entry.session(now, &entry.newest),
            Some(SecretMatch::Previous) => entry.session(now, &entry.previous),
            None => Found::WrongSecret,
        }
    }

    /// The first of the names that stands for a credential is the one.
    fn find_certificate(&self, names: &[String]) -> Found {
        let entry = {
            let ring = self.read();
            let id = names.iter().find_map(|name| ring.by_certificate.get(name.as_str()));
            id.and_then(|id| ring.by_id.get(id).cloned())
        };
        entry.map_or(Found::Unknown, |entry| entry.session((self.clock)(), &entry.newest))
    }

    fn absence(&self, shown: &Shown) -> u64 {
        match shown {
            Shown::Key(text) => self.hasher.hash_one(text.id),
            Shown::Certificate(names) => self.hasher.hash_one(names),
        }
    }

    fn read(&self) -> parking_lot::RwLockReadGuard<'_, Ring> {
        self.ring.read()
    }

    fn absent(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.absent.lock()
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
        // What is not among all of them was deleted.
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
    /// A new or changed credential. Calls of secrets that it still has go on; the others end.
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

    /// The token of the calls of a secret; of the certificate, if there is no secret. None: it has no such secret.
    fn token_of(&self, hash: Option<SecretHash>) -> Option<&CancellationToken> {
        match (hashes(&self.key), hash) {
            ([None, _], None) => Some(&self.newest),
            ([newest, _], Some(_)) if newest == hash => Some(&self.newest),
            ([_, previous], Some(_)) if previous == hash => Some(&self.previous),
            _ => None,
        }
    }

    fn session(&self, now: Timestamp, ended: &CancellationToken) -> Found {
        match self.key.state(now) {
            KeyState::Active => {}
            state @ (KeyState::Expired | KeyState::Revoked) => return Found::Ended(state),
        }
        // A store by every call would make the processors pass the line around.
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
        Found::Valid(Session { principal: Arc::clone(&self.principal), ended: ended.clone() })
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

/// Of the newest secret and of the one before it.
fn hashes(key: &ApiKey) -> [Option<SecretHash>; 2] {
    match &key.proof {
        Proof::Secret { hash, previous } => [Some(*hash), previous.as_ref().map(|previous| previous.hash)],
        Proof::Certificate(_) => [None, None],
    }
}

#[cfg(test)]
mod tests;
