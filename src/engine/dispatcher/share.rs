//! Which ready stages a server prefers while several servers take from one queue.
//!
//! Rendezvous by digits: the job's uid, read as a number in base `n` (the servers that are there), names one server after the other. A server
//! prefers the stages that name it early. So while all have workers each takes stages of its own, and where one has none, the others divide its
//! share instead of fighting for it.

use std::time::Duration;

use foldhash::HashSet;
use tokio::time::Instant;
use uuid::Uuid;

/// Digits that are looked at.
const DIGITS: u32 = 8;
/// How long stages are shared out after a race was lost.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// This server among those that are there.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    place: u64,
    servers: u64,
}

impl Share {
    /// The share of `server`. None: it is alone.
    pub fn of(server: Uuid, servers: &HashSet<Uuid>) -> Option<Self> {
        let place = servers.iter().filter(|other| **other < server).count() as u64;
        let servers = servers.len() as u64;
        (servers > 1).then_some(Self { place, servers })
    }

    /// The servers that are there.
    pub fn servers(&self) -> usize {
        usize::try_from(self.servers).unwrap_or(usize::MAX)
    }

    /// How many other servers a job's stages name before this one.
    pub fn distance(&self, uid: Uuid) -> u32 {
        // The last 8 bytes are random or hashed in both versions of uids.
        let mut digits = uid.as_u64_pair().1 & (u64::MAX >> 2);
        for distance in 0..DIGITS {
            if digits % self.servers == self.place {
                return distance;
            }
            digits /= self.servers;
        }
        DIGITS
    }
}

/// When this server last lost a stage to another one. Only then stages are shared out, so that a queue keeps its order where nobody is in the way.
#[derive(Debug, Default)]
pub struct LostRaces(Option<Instant>);

impl LostRaces {
    /// Notes that a race was lost.
    pub fn note(&mut self) {
        self.0 = Some(Instant::now());
    }

    /// Whether one was lost within [`SHARED_FOR`].
    pub fn is_recent(&self) -> bool {
        self.0.is_some_and(|at| at.elapsed() < SHARED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_prefer_different_stages_and_divide_what_one_leaves() {
        let servers: HashSet<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        let shares = [1, 2, 3].map(|n| Share::of(Uuid::from_u128(n), &servers).expect("several"));
        let uids: Vec<Uuid> = (0..3_000).map(|_| Uuid::new_v4()).collect();
        let own = |share: &Share| uids.iter().filter(|uid| share.distance(**uid) == 0).count();
        assert_eq!(shares.iter().map(own).sum::<usize>(), uids.len());
        assert!(shares.iter().all(|share| own(share) > 800));
        // What the third server leaves the first two want in different order.
        let left = uids.iter().filter(|uid| shares[2].distance(**uid) == 0);
        let (first, second): (Vec<Uuid>, Vec<Uuid>) =
            left.copied().partition(|uid| shares[0].distance(*uid) < shares[1].distance(*uid));
        assert!(first.len() > 350 && second.len() > 350, "{} and {}", first.len(), second.len());
        assert!(Share::of(Uuid::from_u128(1), &std::iter::once(Uuid::from_u128(1)).collect()).is_none());
    }
}
