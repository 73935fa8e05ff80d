//! What is known in memory of the first ready stages of one queue.

use std::collections::BTreeMap;
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;
use uuid::Uuid;

use super::share::Share;
use crate::domain::id::StageNo;
use crate::domain::ready::{ReadyPosition, ReadyStage};

/// Stages of one window.
pub const MAX_ROWS: usize = 2_000;
/// How long stages that another server prefers are left to it.
pub const LEFT_FOR: Duration = Duration::from_millis(50);

/// How far a queue is known, from its front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It was not read yet.
    #[default]
    Nothing,
    /// Up to this place, which is included.
    To(ReadyPosition),
    /// To its end.
    End,
}

/// A stage, and since when it is known.
#[derive(Debug)]
struct Known {
    stage: ReadyStage,
    since: Instant,
}

/// The first ready stages of a queue, those in hand excepted: all up to `reach`, as far as this server knows.
#[derive(Debug, Default)]
pub struct Window {
    rows: BTreeMap<ReadyPosition, Known>,
    places: HashMap<(Uuid, StageNo), ReadyPosition>,
    reach: Reach,
    /// The last stage that was taken.
    taken: Option<ReadyPosition>,
}

impl Window {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// From where it is to be read on. None: it is known to its end.
    pub fn rest(&self) -> Option<ReadyPosition> {
        match self.reach {
            Reach::Nothing => Some(ReadyPosition::FRONT),
            Reach::To(place) => Some(place),
            Reach::End => None,
        }
    }

    /// From where it is to be read to find what others made ready lately: so long before the last stage that was taken.
    pub fn cursor(&self, slack: Duration) -> ReadyPosition {
        let taken = self.taken.filter(|taken| self.first().is_none_or(|first| *taken < first));
        let place = taken.or(self.first()).unwrap_or(ReadyPosition::FRONT);
        ReadyPosition { ready_at: place.ready_at.before(slack), uid: Uuid::nil(), stage_no: 0, ..place }
    }

    /// Stages that are known; with a share those that this server prefers.
    pub fn available(&self, share: Option<&Share>) -> usize {
        share.map_or(self.rows.len(), |share| self.rows.keys().filter(|place| share.distance(place.uid) == 0).count())
    }

    /// Whether stages beyond those that are known here may be ready.
    pub fn is_cut(&self) -> bool {
        self.rest().is_some()
    }

    /// The first stage known.
    pub fn first(&self) -> Option<ReadyPosition> {
        self.rows.keys().next().copied()
    }

    /// Adds a stage, unless it lies beyond what is known. Whether it was added.
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

    /// The place of a stage, if it is known.
    pub fn place(&self, uid: Uuid, stage_no: StageNo) -> Option<ReadyPosition> {
        self.places.get(&(uid, stage_no)).copied()
    }

    /// Removes a stage and returns it.
    pub fn remove(&mut self, uid: Uuid, stage_no: StageNo) -> Option<ReadyStage> {
        let place = self.places.remove(&(uid, stage_no))?;
        self.rows.remove(&place).map(|known| known.stage)
    }

    /// Takes note of what a read of at most `limit` stages from a place on found, in order; those in hand are left out.
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
        // Otherwise what lies between was not read.
        if Reach::To(from) <= self.reach || from == ReadyPosition::FRONT {
            self.reach = self.reach.max(extent);
        }
        for stage in found.iter().filter(|stage| !in_hand(stage)) {
            let since = replaced.get(&stage.place()).copied().unwrap_or_else(Instant::now);
            self.add_known(Known { stage: stage.clone(), since });
        }
    }

    /// The stage that is handed out next. With a share it is, of those of the highest priority, one that the fewest other servers prefer; one that another
    /// server prefers only with `any`, or after it was left to it for a while.
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

    /// Takes out the stage at a place.
    pub fn take(&mut self, place: ReadyPosition) -> Option<ReadyStage> {
        self.taken = Some(place);
        self.remove(place.uid, place.stage_no)
    }

    /// Takes out the first stages of the group of one, at most `limit`.
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
