//! The clients of a server and their token buckets, bounded in number.
//!
//! A client is the principal of a call. Without credentials, it is the namespace that the call names together with the
//! address of its peer.
//! The two kinds are stored apart, so that callers without a credential cannot evict those with one.
//!
//! **Bound.** Each kind has at most [`MAX_CLIENTS`] entries; the client that called least recently is removed first. A
//! removed client starts with full buckets. It gains nothing by that if it has paused for the time that a burst takes
//! to refill (2 s at the default rates), so it matters only if [`MAX_CLIENTS`] others call within that time.
//!
//! **Made-up namespaces.** A client that varies the namespace would have full buckets each time. So of one address,
//! [`NEWCOMERS`] namespaces get buckets of their own, and one more each second; all further ones share the buckets of
//! the address.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use super::bucket::{Bucket, ClassRate, RateClock};
use crate::admission::methods::CallClass;
use crate::admission::peer::network_of;
use crate::domain::access::{Principal, RateLimits};
use crate::domain::short::Short;

/// Maximum number of clients remembered with a credential, and the same number without.
pub(super) const MAX_CLIENTS: usize = 10_000;
/// Number of parts of a map, each with a lock of its own.
const SHARDS: usize = 16;
/// Number of namespaces of one address without credentials that get buckets of their own at once.
const NEWCOMERS: u32 = 128;

/// Rates of each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientRates {
    /// Limit of reads. None: no limit.
    pub read: Option<ClassRate>,
    /// Limit of writes; a batch counts its items. None: no limit.
    pub write: Option<ClassRate>,
    /// Limit of watches opened. None: no limit.
    pub watch: Option<ClassRate>,
    /// Limit of heartbeats, ends of attempts, renewals and releases; a batch counts its items. None: no limit.
    pub essential: Option<ClassRate>,
}

impl ClientRates {
    fn of(&self, class: CallClass) -> Option<ClassRate> {
        match class {
            CallClass::Read => self.read,
            CallClass::Write => self.write,
            CallClass::Watch => self.watch,
            CallClass::Essential => self.essential,
        }
    }

    /// Replaces rates by those that a credential has of its own.
    fn with(self, own: RateLimits) -> Self {
        let rate = |own: Option<u32>, usual| own.map(ClassRate::per_second).or(usual);
        ClientRates {
            read: rate(own.read, self.read),
            write: rate(own.write, self.write),
            watch: rate(own.watch, self.watch),
            essential: rate(own.essential, self.essential),
        }
    }
}

/// Buckets of one client.
#[derive(Debug)]
pub(super) struct RateClient<C: RateClock> {
    /// Name of the principal, or namespace and address.
    pub(super) name: String,
    /// Limits of the credential; a change replaces the buckets.
    own: RateLimits,
    buckets: [Option<Bucket<C>>; CallClass::ALL.len()],
    /// Calls refused, by class.
    pub(super) refused: [AtomicU64; CallClass::ALL.len()],
    /// Bounds the namespaces of this address that get buckets of their own. None: this client is not a whole address.
    newcomers: Option<Bucket<C>>,
}

impl<C: RateClock> RateClient<C> {
    fn new(name: String, rates: ClientRates, own: RateLimits, clock: &C) -> Self {
        let rates = rates.with(own);
        let bucket = |class: CallClass| rates.of(class).map(|rate| Bucket::new(rate, clock.clone()));
        RateClient { name, own, buckets: CallClass::ALL.map(bucket), refused: Default::default(), newcomers: None }
    }

    /// Bucket of a class. None: no limit.
    pub(super) fn bucket(&self, class: CallClass) -> Option<&Bucket<C>> {
        self.buckets[class as usize].as_ref()
    }

    pub(super) fn note_refused(&self, class: CallClass) {
        self.refused[class as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Client without a credential. `namespace` None: all namespaces of the address that have no buckets of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stranger {
    /// Network of the address by [`network_of`]: an IPv4 address, or the first 64 bits of an IPv6 address.
    address: u128,
    namespace: Option<Short>,
}

/// All clients that called lately.
#[derive(Debug)]
pub(super) struct Clients<C: RateClock> {
    rates: ClientRates,
    clock: C,
    principals: BoundedMap<Arc<str>, C>,
    strangers: BoundedMap<Stranger, C>,
}

impl<C: RateClock> Clients<C> {
    pub(super) fn new(rates: ClientRates, clock: C) -> Self {
        Clients { rates, clock, principals: BoundedMap::new(), strangers: BoundedMap::new() }
    }

    /// Client of a principal.
    pub(super) fn principal(&self, principal: &Principal) -> Arc<RateClient<C>> {
        let mut known = self.principals.shard(&principal.name);
        match known.get(&principal.name) {
            Some(client) if client.own == principal.rates => client.clone(),
            Some(_) | None => {
                let client = RateClient::new(principal.name.to_string(), self.rates, principal.rates, &self.clock);
                let client = Arc::new(client);
                known.put(principal.name.clone(), client.clone());
                client
            }
        }
    }

    /// Client without a credential, by namespace and address. `namespace` None: the name is not valid; `peer` None: the
    /// address is unknown.
    pub(super) fn stranger(&self, namespace: Option<&str>, peer: Option<IpAddr>) -> Arc<RateClient<C>> {
        let address = peer.map_or(0, network_of);
        let stranger = Stranger { address, namespace: namespace.map(Short::from) };
        // All clients of an address are in one shard, so that one lock is enough.
        let mut known = self.strangers.shard(&address);
        if let Some(client) = known.get(&stranger) {
            return client.clone();
        }
        let of_address = Stranger { address, namespace: None };
        let common = known.get_or_insert(of_address, || {
            let mut client = RateClient::new(name(None, peer), self.rates, RateLimits::default(), &self.clock);
            client.newcomers = Some(Bucket::new(newcomers(), self.clock.clone()));
            Arc::new(client)
        });
        let has_room = || common.newcomers.as_ref().is_some_and(|newcomers| newcomers.take_one().is_ok());
        if stranger.namespace.is_none() || !has_room() {
            return common.clone();
        }
        let client = RateClient::new(name(namespace, peer), self.rates, RateLimits::default(), &self.clock);
        let client = Arc::new(client);
        known.put(stranger, client.clone());
        client
    }

    /// Calls `look` with each remembered client.
    pub(super) fn each(&self, mut look: impl FnMut(&RateClient<C>)) {
        self.principals.each(&mut look);
        self.strangers.each(&mut look);
    }
}

/// Rate of one per second with a burst of `NEWCOMERS`.
fn newcomers() -> ClassRate {
    let items = std::num::NonZeroU32::new(NEWCOMERS / 2).unwrap_or(std::num::NonZeroU32::MIN);
    ClassRate { items, period: Duration::from_secs(u64::from(NEWCOMERS / 2)) }
}

fn name(namespace: Option<&str>, peer: Option<IpAddr>) -> String {
    let address = peer.map_or_else(|| "unknown address".to_owned(), |peer| peer.to_canonical().to_string());
    format!("{} {address}", namespace.unwrap_or("*"))
}

type Shard<K, C> = LruCache<K, Arc<RateClient<C>>, RandomState>;

/// A map that removes the least recently used entry.
#[derive(Debug)]
struct BoundedMap<K: Hash + Eq, C: RateClock> {
    hasher: RandomState,
    shards: [Mutex<Shard<K, C>>; SHARDS],
}

impl<K: Hash + Eq, C: RateClock> BoundedMap<K, C> {
    fn new() -> Self {
        let capacity = NonZeroUsize::new(MAX_CLIENTS / SHARDS).unwrap_or(NonZeroUsize::MIN);
        let shard = |_| Mutex::new(LruCache::with_hasher(capacity, RandomState::default()));
        BoundedMap { hasher: RandomState::default(), shards: std::array::from_fn(shard) }
    }

    /// Shard of the key `by`.
    fn shard(&self, by: &impl Hash) -> MutexGuard<'_, Shard<K, C>> {
        let shard = self.hasher.hash_one(by) % SHARDS as u64;
        self.shards[shard as usize].lock()
    }

    fn each(&self, look: &mut impl FnMut(&RateClient<C>)) {
        for shard in &self.shards {
            shard.lock().iter().for_each(|(_, client)| look(client));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::domain::access::Roles;

    fn clients() -> (Clients<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rates = ClientRates { write: Some(ClassRate::per_second(2)), ..ClientRates::default() };
        (Clients::new(rates, clock.clone()), clock)
    }

    fn count(clients: &Clients<FakeRelativeClock>) -> usize {
        let mut count = 0;
        clients.each(|_| count += 1);
        count
    }

    /// True if a write passes.
    fn writes(client: &RateClient<FakeRelativeClock>) -> bool {
        client.bucket(CallClass::Write).is_none_or(|bucket| bucket.take_one().is_ok())
    }

    fn v4(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn principal(name: &str, write: Option<u32>) -> Principal {
        let rates = RateLimits { write, ..RateLimits::default() };
        Principal { name: name.into(), roles: Roles::NONE, namespaces: [].into(), rates }
    }

    #[test]
    fn clients_are_identified_by_principal_else_by_namespace_and_address() {
        let (clients, _) = clients();
        let empty = |client: &RateClient<FakeRelativeClock>| while writes(client) {};
        empty(&clients.stranger(Some("a"), v4(1)));
        assert!(!writes(&clients.stranger(Some("a"), v4(1))));
        assert!(writes(&clients.stranger(Some("b"), v4(1))) && writes(&clients.stranger(Some("a"), v4(2))));
        empty(&clients.principal(&principal("key:a", None)));
        assert!(!writes(&clients.principal(&principal("key:a", None))));
        assert!(writes(&clients.principal(&principal("key:b", None))));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let (clients, _) = clients();
        let client = |address: &str| clients.stranger(Some("a"), Some(address.parse().expect("an address")));
        assert!(Arc::ptr_eq(&client("2001:db8:1:2::1"), &client("2001:db8:1:2:ffff::9")));
        assert!(!Arc::ptr_eq(&client("2001:db8:1:2::1"), &client("2001:db8:1:3::1")));
        assert!(Arc::ptr_eq(&client("::ffff:10.0.0.1"), &client("10.0.0.1")));
    }

    #[test]
    fn a_credential_has_rates_of_its_own_and_new_ones_at_once() {
        let (clients, _) = clients();
        let burst = |write| {
            let client = clients.principal(&principal("key:a", write));
            std::iter::from_fn(|| writes(&client).then_some(())).take(1_000).count()
        };
        assert_eq!((burst(None), burst(None)), (4, 0));
        assert_eq!((burst(Some(50)), burst(Some(50))), (100, 0));
        assert_eq!(burst(Some(3)), 6);
    }

    #[test]
    fn the_number_of_clients_is_bounded_and_credentials_are_not_forgotten_for_strangers() {
        let (clients, _) = clients();
        let known = clients.principal(&principal("key:a", None));
        for i in 0..100_000 {
            clients.stranger(Some("a"), v4(i));
        }
        let count = count(&clients);
        assert!((MAX_CLIENTS / 2..=MAX_CLIENTS + 1).contains(&count), "{count}");
        assert!(Arc::ptr_eq(&known, &clients.principal(&principal("key:a", None))));
    }

    #[test]
    fn made_up_namespaces_share_the_buckets_of_their_address() {
        let (clients, clock) = clients();
        let mut passed = 0;
        for i in 0..10_000 {
            passed += usize::from(writes(&clients.stranger(Some(&i.to_string()), v4(1))));
        }
        // One token of each newcomer, and the burst of the address.
        assert_eq!(passed, NEWCOMERS as usize + 4);
        assert_eq!(count(&clients), NEWCOMERS as usize + 1);
        assert!(writes(&clients.stranger(Some("0"), v4(1))), "those with buckets keep them");
        assert!(writes(&clients.stranger(Some("0"), v4(2))), "other addresses are not concerned");
        clock.advance(Duration::from_secs(1));
        assert_eq!(clients.stranger(Some("later"), v4(1)).name, "later 0.0.0.1");
        assert_eq!(clients.stranger(Some("more"), v4(1)).name, "* 0.0.0.1");
        assert_eq!(clients.stranger(None, v4(1)).name, "* 0.0.0.1");
    }
}
