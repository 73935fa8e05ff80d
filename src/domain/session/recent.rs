//! The last changes of a session's segments. They let a watch send what a commit changed without a read.

use std::sync::Arc;

use super::segment::Segment;

/// Segments that are remembered, at most.
const MAX_RECENT: usize = 64;
/// Memory that they take, at most, in bytes.
const MAX_RECENT_BYTES: usize = 256 << 10;

/// States of segments in the order of their changes. Complete since a version of the session.
#[derive(Clone, Debug)]
pub struct RecentChanges {
    since: i64,
    segments: Vec<Arc<Segment>>,
    bytes: usize,
}

impl RecentChanges {
    /// No changes: the session is at this version.
    pub fn since(version: i64) -> Self {
        Self { since: version, segments: Vec::new(), bytes: 0 }
    }

    /// Adds the segments that a version changed. Forgets the oldest versions where there are too many.
    pub fn add(&mut self, changed: &[Arc<Segment>]) {
        self.segments.extend_from_slice(changed);
        self.bytes += changed.iter().map(|segment| segment.weight_bytes()).sum::<usize>();
        let mut forgotten = 0;
        while self.bytes > MAX_RECENT_BYTES || self.segments.len() - forgotten > MAX_RECENT {
            // A version is forgotten as a whole.
            let Some(first) = self.segments.get(forgotten) else { break };
            self.since = first.version;
            while let Some(segment) = self.segments.get(forgotten).filter(|segment| segment.version == self.since) {
                self.bytes -= segment.weight_bytes();
                forgotten += 1;
            }
        }
        self.segments.drain(..forgotten);
    }

    /// The newest states of the segments that changed after a version, in the order of their changes. None: not all of them are remembered.
    pub fn after(&self, version: i64) -> Option<Vec<Arc<Segment>>> {
        if version < self.since {
            return None;
        }
        let mut newest: Vec<Arc<Segment>> = Vec::new();
        for segment in self.segments.iter().rev().take_while(|segment| segment.version > version) {
            if newest.iter().all(|newer| newer.key != segment.key) {
                newest.push(segment.clone());
            }
        }
        newest.reverse();
        Some(newest)
    }

    /// Approximate memory of the remembered segments, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::segment::tests::segment;

    fn changed(key: &str, version: i64) -> Arc<Segment> {
        Arc::new(Segment { version, ..segment(key) })
    }

    fn keys(recent: &RecentChanges, version: i64) -> Option<Vec<String>> {
        Some(recent.after(version)?.iter().map(|segment| segment.key.key.to_string()).collect())
    }

    #[test]
    fn only_the_newest_state_of_a_segment_is_returned() {
        let mut recent = RecentChanges::since(3);
        recent.add(&[changed("a", 4), changed("b", 4)]);
        recent.add(&[changed("a", 5)]);
        assert_eq!(keys(&recent, 3), Some(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(keys(&recent, 4), Some(vec!["a".to_owned()]));
        assert_eq!((keys(&recent, 5), keys(&recent, 2)), (Some(Vec::new()), None));
    }

    #[test]
    fn versions_are_forgotten_as_a_whole() {
        let mut recent = RecentChanges::since(0);
        recent.add(&[changed("a", 1), changed("b", 1)]);
        for version in 2..=MAX_RECENT as i64 {
            recent.add(&[changed("c", version)]);
        }
        assert_eq!((recent.segments.len(), recent.since), (MAX_RECENT - 1, 1));
        assert!(recent.after(0).is_none() && recent.after(1).is_some());
        let many: Vec<Arc<Segment>> = (0..=MAX_RECENT).map(|i| changed(&i.to_string(), 99)).collect();
        recent.add(&many);
        assert_eq!((recent.segments.len(), recent.since, recent.bytes), (0, 99, 0));
    }
}
