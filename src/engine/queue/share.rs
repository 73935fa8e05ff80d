//! The shares of namespaces in a section of the queue, so that none fills it.
//!
//! A namespace may have as much waiting as is free for all others (dynamic thresholds, Choudhury
//! and Hahne 1998). Of n namespaces that flood, each gets one part of n + 1. While nothing of another waits, a namespace may have all but an eighth,
//! which is what another finds free when it comes.

use foldhash::HashMap;

use crate::domain::id::NamespaceId;
use crate::operation::Weight;

/// A namespace that is alone leaves one part in this many free.
const LEFT_PART: usize = 8;

/// An amount of waiting work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) operations: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// What waits in one class of a section, in all and of each namespace.
#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Amount,
    by_namespace: HashMap<NamespaceId, Amount>,
}

impl Shares {
    pub(super) fn add(&mut self, namespace: Option<NamespaceId>, weight: Weight) {
        self.all.add(weight);
        if let Some(namespace) = namespace {
            self.by_namespace.entry(namespace).or_default().add(weight);
        }
    }

    pub(super) fn remove(&mut self, namespace: Option<NamespaceId>, weight: Weight) {
        self.all.remove(weight);
        let Some(namespace) = namespace else { return };
        let Some(own) = self.by_namespace.get_mut(&namespace) else { return };
        own.remove(weight);
        if own.operations == 0 {
            debug_assert_eq!(*own, Amount::default(), "what came in has gone out");
            self.by_namespace.remove(&namespace);
        }
    }

    /// Whether a namespace has as much waiting as it may; `most` may wait in all. Operations of no namespace have no share.
    pub(super) fn is_used_up(&self, namespace: Option<NamespaceId>, most: Amount) -> bool {
        // A namespace of which nothing waits may always add something.
        let Some(own) = namespace.and_then(|namespace| self.by_namespace.get(&namespace)) else { return false };
        let is_alone = own.operations == self.all.operations;
        let share = |most: usize, all: usize| if is_alone { most - most / LEFT_PART } else { most.saturating_sub(all) };
        own.operations >= share(most.operations, self.all.operations)
            || own.rows >= share(most.rows, self.all.rows)
            || own.bytes >= share(most.bytes, self.all.bytes)
    }
}

impl Amount {
    fn add(&mut self, weight: Weight) {
        self.operations += 1;
        self.rows += weight.rows;
        self.bytes += weight.bytes;
    }

    fn remove(&mut self, weight: Weight) {
        self.operations -= 1;
        self.rows -= weight.rows;
        self.bytes -= weight.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Amount = Amount { operations: 800, rows: 8_000, bytes: 80_000 };

    /// Adds operations of each namespace in rotation until all are refused. Returns how many each has then.
    fn flood(shares: &mut Shares, namespaces: &[i32], weight: Weight) -> Vec<usize> {
        let mut counts = vec![0; namespaces.len()];
        loop {
            let mut added = false;
            for (namespace, count) in namespaces.iter().zip(&mut counts) {
                let namespace = Some(NamespaceId(*namespace));
                if *count < MOST.operations && !shares.is_used_up(namespace, MOST) {
                    shares.add(namespace, weight);
                    (added, *count) = (true, *count + 1);
                }
            }
            if !added {
                return counts;
            }
        }
    }

    #[test]
    fn one_namespace_may_have_nearly_all_and_several_that_flood_share() {
        let weight = Weight { rows: 1, bytes: 1 };
        assert_eq!(flood(&mut Shares::default(), &[1], weight), [700]);
        for count in flood(&mut Shares::default(), &[1, 2, 3], weight) {
            assert!((199..=201).contains(&count), "{count} of 800");
        }
    }

    #[test]
    fn each_bound_is_shared() {
        assert_eq!(flood(&mut Shares::default(), &[1], Weight { rows: 100, bytes: 1 }), [70]);
        assert_eq!(flood(&mut Shares::default(), &[1], Weight { rows: 1, bytes: 1_000 }), [70]);
    }

    #[test]
    fn namespace_that_comes_while_another_floods_finds_room_and_the_other_gives_way() {
        let (mut shares, weight) = (Shares::default(), Weight { rows: 1, bytes: 1 });
        assert_eq!(flood(&mut shares, &[1], weight), [700]);
        assert_eq!(flood(&mut shares, &[2], weight), [50], "half of what is free");
        // While the queue is worked off, the one with more gets nothing new until both have as much.
        (0..400).for_each(|_| shares.remove(Some(NamespaceId(1)), weight));
        assert!(shares.is_used_up(Some(NamespaceId(1)), Amount { operations: 600, ..MOST }));
        assert!(!shares.is_used_up(Some(NamespaceId(2)), Amount { operations: 600, ..MOST }));
    }

    #[test]
    fn namespaces_without_work_are_forgotten_and_work_of_no_namespace_has_no_share() {
        let (mut shares, weight) = (Shares::default(), Weight::SMALL);
        shares.add(None, weight);
        shares.add(Some(NamespaceId(1)), weight);
        shares.remove(Some(NamespaceId(1)), weight);
        shares.remove(None, weight);
        assert!(shares.by_namespace.is_empty() && shares.all == Amount::default());
        assert!(!shares.is_used_up(None, Amount::default()));
    }
}
