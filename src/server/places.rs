//! Places for connections and for TLS handshakes: their number on a server, and the share of each network address.
//!
//! Invariants:
//! - At most `limit` places are taken.
//! - The share of an address is the number of places free for all others, or all but an eighth while the others have
//!   next to none (see [`fair_share`]); at least 16. So clients without credentials at one address cannot block others.
//! - A connection that carried a call with a valid credential counts towards the limit, but not towards the share of
//!   its address: many workers can be behind one address.
//! - The map has an entry for an address only while places count towards its share, so it is bounded by `limit`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::admission::{fair_share, network_of};

/// All places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    limit: u32,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: u32,
    by_network: HashMap<u128, u32>,
}

/// A taken place; dropping gives it back.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    places: Arc<Places>,
    /// Network that this place counts for. None: it counts for no network any more.
    network: Option<u128>,
}

/// Reason why no place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All places of the server are taken.
    Server,
    /// The share of the address is used up.
    Address,
}

impl Places {
    pub(super) fn new(limit: u32) -> Arc<Places> {
        Arc::new(Places { limit, taken: Mutex::default() })
    }

    /// Takes a place for a peer at this address. Peers with an unknown address count as one network.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<ConnectionPlace, Full> {
        let network = address.map_or(0, network_of);
        let mut taken = self.taken.lock();
        if taken.total >= self.limit {
            return Err(Full::Server);
        }
        let (total, own) = (taken.total, taken.by_network.get(&network).copied().unwrap_or_default());
        if own >= fair_share(self.limit, total, own) {
            return Err(Full::Address);
        }
        taken.total += 1;
        *taken.by_network.entry(network).or_default() += 1;
        debug_assert!(taken.total <= self.limit, "at most `limit` places are taken");
        debug_assert!(taken.by_network.len() <= taken.total as usize, "an address with an entry has a place");
        Ok(ConnectionPlace { places: Arc::clone(self), network: Some(network) })
    }
}

impl Taken {
    fn leave(&mut self, network: u128) {
        let Some(count) = self.by_network.get_mut(&network) else { return };
        *count -= 1;
        if *count == 0 {
            self.by_network.remove(&network);
        }
    }
}

impl ConnectionPlace {
    /// Removes the place from the share of its address.
    pub(super) fn leave_share(&mut self) {
        if let Some(network) = self.network.take() {
            self.places.taken.lock().leave(network);
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.leave_share();
        self.places.taken.lock().total -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    /// Takes places at an address until one is refused.
    fn greedy(places: &Arc<Places>, address: u32) -> (Vec<ConnectionPlace>, Full) {
        let mut held = Vec::new();
        loop {
            match places.take(at(address)) {
                Ok(place) => held.push(place),
                Err(full) => return (held, full),
            }
        }
    }

    #[test]
    fn one_address_leaves_places_to_others() {
        let places = Places::new(800);
        let (first, full) = greedy(&places, 1);
        assert_eq!((first.len(), full), (700, Full::Address), "alone: all but an eighth");
        let (second, full) = greedy(&places, 2);
        assert_eq!((second.len(), full), (50, Full::Address), "half of what is free");
        assert!(places.take(at(1)).is_err(), "the first has far more than its share now");
        assert!(places.take(at(3)).is_ok());
        drop((first, second));
        let taken = places.taken.lock();
        assert!(taken.total == 0 && taken.by_network.is_empty(), "{taken:?}");
    }

    #[test]
    fn the_limit_holds_however_many_addresses_there_are() {
        let places = Places::new(100);
        let held: Vec<ConnectionPlace> = (0..1_000).filter_map(|address| places.take(at(address)).ok()).collect();
        assert_eq!(held.len(), 100);
        assert_eq!(places.take(at(5_000)).map(drop), Err(Full::Server));
    }

    #[test]
    fn whoever_has_shown_a_credential_counts_towards_the_limit_alone() {
        let places = Places::new(100);
        let mut held = Vec::new();
        while let Ok(mut place) = places.take(at(1)) {
            place.leave_share();
            place.leave_share();
            held.push(place);
        }
        assert_eq!(held.len(), 100);
        assert_eq!(places.take(at(1)).map(drop), Err(Full::Server));
        held.pop();
        assert!(places.take(at(2)).is_ok());
        drop(held);
        assert_eq!(places.taken.lock().total, 0);
    }

    #[test]
    fn an_ipv6_network_has_one_share() {
        let places = Places::new(100);
        let address = |text: &str| Some(text.parse().expect("an address"));
        let held: Vec<ConnectionPlace> =
            (0..200).map_while(|i| places.take(address(&format!("2001:db8::{i:x}"))).ok()).collect();
        assert_eq!(held.len(), 88, "all but an eighth");
        assert!(places.take(address("2001:db8:0:1::1")).is_ok());
    }
}
