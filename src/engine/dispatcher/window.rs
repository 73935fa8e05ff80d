//! The first ready stages of one queue, of one kind, in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;
use uuid::Uuid;

use super::share::Share;
use crate::domain::id::StageNo;
use crate::domain::ready::{ReadyPosition, ReadyStage};

/// Stages in one window, at most.
pub const MAX_ROWS: usize = 2_000;
/// Time for which stages that another server prefers are left to it.
pub const LEFT_FOR: Duration = Duration::from_millis(50);

/// Extent of the known part of a queue, from its front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No part is known.
    #[default]
    Nothing,
    /// Up to and including this position.
    To(ReadyPosition),
    /// The window reaches to the end of the queue.
    End,
}

/// A stage, and the time at which it became known.
#[derive(Debug)]
struct Known {
    stage: ReadyStage,
    since: Instant,
}

/// The first ready stages of a queue, without those in hand: all up to `reach`, as far as this server knows.
#[derive(Debug, Default)]
pub struct Window {
    rows: BTreeMap<ReadyPosition, Known>,
    places: HashMap<(Uuid, StageNo), ReadyPosition>,
    reach: Reach,
    /// Position of the last stage that was taken. None: none was taken.
    taken: Option<ReadyPosition>,
}

impl Window {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Position from which a read extends the window. None: the queue is known to its end.
    pub fn rest(&self) -> Option<ReadyPosition> {
        match self.reach {
            Reach::Nothing => Some(ReadyPosition::FRONT),
            Reach::To(place) => Some(place),
            Reach::End => None,
        }
    }

    /// Position from which a read finds stages that other servers made ready lately: `slack` before the last stage taken, or before the first known
    /// one if that precedes it or none was taken. The front if there is neither.
    pub fn cursor(&self, slack: Duration) -> ReadyPosition {
        let taken = self.taken.filter(|taken| self.first().is_none_or(|first| *taken < first));
        let place = taken.or(self.first()).unwrap_or(ReadyPosition::FRONT);
        ReadyPosition { ready_at: place.ready_at.before(slack), uid: Uuid::nil(), stage_no: 0, ..place }
    }

    /// Number of known stages; with a share, of those that this server prefers.
    pub fn available(&self, share: Option<&Share>) -> usize {
        share.map_or(self.rows.len(), |share| self.rows.keys().filter(|place| share.distance(place.uid) == 0).count())
    }

    /// Whether the queue may have ready stages beyond the known part.
    pub fn is_cut(&self) -> bool {
        self.rest().is_some()
    }

    /// Position of the first known stage. None: no stage is known.
    pub fn first(&self) -> Option<ReadyPosition> {
        self.rows.keys().next().copied()
    }

    /// Adds a stage, unless it lies beyond the known part. Returns whether it was added.
    pub fn add(&mut self, stage: ReadyStage) -> bool {
        self.add_known(Known { stage, since: Instant::now() })
    }

    fn add_known(&mut self, known: Known) -> bool {
        let place = known.stage.place();
        if Reach::To(place) > self.reach {
            return false;
        }
        self.remove(place.uid, place.stage_no);
        self.places.insert((place.uid, place.stage_no), place);
        self.rows.insert(place, known);
        self.trim();
        true
    }

    /// Position of a stage. None: it is not known.
    pub fn place(&self, uid: Uuid, stage_no: StageNo) -> Option<ReadyPosition> {
        self.places.get(&(uid, stage_no)).copied()
    }

    /// Removes a stage and returns it. None: it is not known.
    pub fn remove(&mut self, uid: Uuid, stage_no: StageNo) -> Option<ReadyStage> {
        let place = self.places.remove(&(uid, stage_no))?;
        self.rows.remove(&place).map(|known| known.stage)
    }

    /// Replaces the range of a read, from `from` to the last stage found, with its result. `found` is sorted and has at most `limit` stages; fewer
    /// mean that the read reached the end. Stages in hand are left out.
    pub fn learn(
        &mut self,
        from: ReadyPosition,
        found: &[ReadyStage],
        limit: usize,
        in_hand: impl Fn(&ReadyStage) -> bool,
    ) {
        let extent = match found.last() {
            Some(last) if found.len() >= limit => Reach::To(last.place()),
            Some(_) | None => Reach::End,
        };
        let known = self.rows.range(from..).map(|(place, known)| (*place, known.since));
        let replaced: HashMap<ReadyPosition, Instant> =
            known.take_while(|(place, _)| Reach::To(*place) <= extent).collect();
        for place in replaced.keys() {
            self.remove(place.uid, place.stage_no);
        }
        // A read that begins beyond the known part leaves a gap, so the known part stays as it is.
        if Reach::To(from) <= self.reach || from == ReadyPosition::FRONT {
            self.reach = self.reach.max(extent);
        }
        for stage in found.iter().filter(|stage| !in_hand(stage)) {
            let since = replaced.get(&stage.place()).copied().unwrap_or_else(Instant::now);
            self.add_known(Known { stage: stage.clone(), since });
        }
    }

    /// Position of the stage to take next. With a share: among the stages of the highest priority, the first that this server prefers. If there is
    /// none, the one with the smallest distance that has been known for [`LEFT_FOR`], or with `any` regardless of that. None: there is none.
    pub fn next(&self, share: Option<&Share>, any: bool) -> Option<ReadyPosition> {
        let (first, _) = self.rows.first_key_value()?;
        let Some(share) = share else { return Some(*first) };
        let mut best: Option<(u32, ReadyPosition)> = None;
        for (place, known) in self.rows.iter().take_while(|(place, _)| place.rank == first.rank) {
            let distance = share.distance(place.uid);
            if distance == 0 {
                return Some(*place);
            }
            if best.is_none_or(|(least, _)| distance < least) && (any || known.since.elapsed() >= LEFT_FOR) {
                best = Some((distance, *place));
            }
        }
        best.map(|(_, place)| place)
    }

    /// Removes the stage at a position as taken and returns it. None: it is not known.
    pub fn take(&mut self, place: ReadyPosition) -> Option<ReadyStage> {
        self.taken = Some(place);
        self.remove(place.uid, place.stage_no)
    }

    /// Removes the first stages of the group of `head` as taken and returns them, at most `limit`.
    pub fn take_group(&mut self, head: &ReadyStage, limit: usize) -> Vec<ReadyStage> {
        let of_group =
            |stage: &&ReadyStage| stage.key.namespace == head.key.namespace && stage.group_key == head.group_key;
        let places: Vec<ReadyPosition> =
            self.rows.values().map(|known| &known.stage).filter(of_group).take(limit).map(ReadyStage::place).collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    fn trim(&mut self) {
        while self.rows.len() > MAX_ROWS
            && let Some((last, _)) = self.rows.pop_last()
        {
            self.places.remove(&(last.uid, last.stage_no));
            self.reach = self.rows.keys().next_back().map_or(Reach::Nothing, |last| Reach::To(*last));
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
