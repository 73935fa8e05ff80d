//! The ready stages that a server prefers while several servers take from one queue.
//!
//! The digits of the job's uid, as a number in base `n` (the number of live servers), rank the servers for its stages, like rendezvous hashing
//! (Thaler and Ravishankar). A server prefers the stages that rank it first. While all servers have workers, each takes its own stages. If a
//! server has no workers, the others divide its share and do not contend for it.

use std::time::Duration;

use foldhash::HashSet;
use tokio::time::Instant;
use uuid::Uuid;

/// Digits of a uid that are compared.
const DIGITS: u32 = 8;
/// Time for which servers share stages after a lost race.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// Place of this server among the live servers.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    place: u64,
    servers: u64,
}

impl Share {
    /// Share of `server`. None: there is no other server.
    pub fn of(server: Uuid, servers: &HashSet<Uuid>) -> Option<Self> {
        let place = servers.iter().filter(|other| **other < server).count() as u64;
        let servers = servers.len() as u64;
        (servers > 1).then_some(Self { place, servers })
    }

    /// Number of live servers, at least 2.
    pub fn servers(&self) -> usize {
        usize::try_from(self.servers).unwrap_or(usize::MAX)
    }

    /// Digits of the job's uid before the first that names this server, 0 to 8. 0: the server prefers the stages of the job.
    pub fn distance(&self, uid: Uuid) -> u32 {
        // The lower 64 bits, without the two bits of the variant, are random or hashed in both versions of uids.
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

/// What this server has noticed of other servers that take from the same queues.
#[derive(Debug, Default)]
pub struct OtherServers {
    /// Time of the last lost race for a stage. None: none was lost. Without a recent loss stages are not shared, so that a queue keeps its order.
    race_lost_at: Option<Instant>,
    /// Time at which another server was last known. None: none was.
    known_at: Option<Instant>,
}

impl OtherServers {
    /// Records a lost race.
    pub fn note_lost_race(&mut self) {
        self.race_lost_at = Some(Instant::now());
    }

    /// Whether a race was lost within the last 10 s ([`SHARED_FOR`]).
    pub fn lost_race_recently(&self) -> bool {
        self.race_lost_at.is_some_and(|at| at.elapsed() < SHARED_FOR)
    }

    /// Records that another server is known now.
    pub fn note_known(&mut self) {
        self.known_at = Some(Instant::now());
    }

    /// Whether another server was known within the last `period`.
    pub fn known_within(&self, period: Duration) -> bool {
        self.known_at.is_some_and(|at| at.elapsed() < period)
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
        // The first two servers prefer the stages of the third in different order.
        let left = uids.iter().filter(|uid| shares[2].distance(**uid) == 0);
        let (first, second): (Vec<Uuid>, Vec<Uuid>) =
            left.copied().partition(|uid| shares[0].distance(*uid) < shares[1].distance(*uid));
        assert!(first.len() > 350 && second.len() > 350, "{} and {}", first.len(), second.len());
        assert!(Share::of(Uuid::from_u128(1), &std::iter::once(Uuid::from_u128(1)).collect()).is_none());
    }
}
