//! The heads of queues in memory: what can be leased next, without a query for each poll.
//!
//! Lanes note here what their commits made ready or ended, so that the heads stay true to what this server commits. What other servers did is
//! found by reads: when they hint at it, and now and then from the front of a queue. A stage that is picked is *in hand* until its lease is
//! committed or refused; nothing in the database marks it. If another server picks it too, one of the two commits and the other loses the race.
//!
//! **Invariants.** Bounded in queues, stages and notes; what is dropped is read again. Nothing rests on a head: the lease operation proves its job.

use std::num::NonZeroUsize;
use std::time::Duration;

use foldhash::{HashMap, HashSet};
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::head::Head;
use super::share::LostRaces;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::{Job, JobChanges};
use crate::domain::permit::ResourceKey;
use crate::domain::ready::{ReadyChange, ReadyPosition, ReadyStage};
use crate::domain::stage::Stage;
use crate::domain::time::Timestamp;
use crate::feed::QueueKey;
use crate::figures::dispatch::DispatchFigures;
use crate::store::ready::HeadRange;

/// Queues whose heads are known; the longest unused is forgotten.
const MAX_QUEUES: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is more than none");
/// Stages in all windows; beyond it the longest unused queues are forgotten.
const MAX_STAGES: usize = 400_000;
/// Stages in hand; beyond it none is picked.
const MAX_IN_HAND: usize = 100_000;
/// Notes that are kept while a read is in flight; beyond it what it found is not believed.
const MAX_NOTES: usize = 100_000;
/// What a queue's window is known by: stages that are leased alone stand apart, so that neither kind hides the other.
pub type WindowKey = (QueueKey, bool);

/// The heads of all queues that workers ask for.
#[derive(Default)]
pub struct Heads {
    /// What was read and lost.
    pub figures: DispatchFigures,
    inner: Mutex<HeadTable>,
    stirred: Notify,
}

/// What [`Heads`] protects.
pub struct HeadTable {
    queues: LruCache<QueueKey, Head>,
    stages: usize,
    /// Picked stages whose lease is neither committed nor refused; whether they can be leased no longer.
    in_hand: HashMap<(JobKey, StageNo), bool>,
    /// Queues in which something changed since the last look.
    dirty: HashSet<QueueKey>,
    /// Queues of which somebody hinted at a time when they could not be read from their fronts, and when they can.
    later: HashMap<QueueKey, Instant>,
    /// What was noted since the read in flight began. None: there is none.
    notes: Option<Vec<Note>>,
    /// Lost races.
    pub lost_races: LostRaces,
}

impl Default for HeadTable {
    fn default() -> Self {
        Self {
            queues: LruCache::new(MAX_QUEUES),
            stages: 0,
            in_hand: HashMap::default(),
            dirty: HashSet::default(),
            later: HashMap::default(),
            notes: None,
            lost_races: LostRaces::default(),
        }
    }
}

/// A change of one queue.
#[derive(Clone, Debug)]
enum Note {
    Added(ReadyStage),
    Ended(WindowKey, JobKey, StageNo),
}

impl Note {
    /// That a stage can no longer be leased.
    fn ended(stage: &ReadyStage) -> Self {
        Self::Ended((stage.queue_key(), stage.alone), stage.key, stage.stage_no)
    }
}

/// A job before and after a commit, and what changed. No job after: it was deleted.
pub type Committed<'a> = (Option<&'a Job>, Option<&'a Job>, &'a JobChanges);

impl Heads {
    /// Notes what a commit at a moment did to jobs. `has_line`: whether stages wait for a resource, so that new ones may wait behind them.
    pub fn note<'a>(
        &self,
        jobs: impl Iterator<Item = Committed<'a>>,
        now: Timestamp,
        has_line: &dyn Fn(ResourceKey) -> bool,
    ) {
        self.change(|inner| jobs.for_each(|job| inner.note_job(job, now, has_line)));
    }

    /// Notes that stages that waited for a resource can be picked again.
    pub fn woken(&self, stages: Vec<ReadyStage>) {
        self.change(|inner| stages.into_iter().for_each(|stage| inner.apply(Note::Added(stage))));
    }

    /// Notes that stages wait for a resource now.
    pub fn joined(&self, stages: Vec<ReadyStage>) {
        self.change(|inner| {
            for stage in stages {
                inner.apply(Note::ended(&stage));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut HeadTable)) {
        let mut inner = self.lock();
        change(&mut inner);
        let stirs = !inner.dirty.is_empty();
        drop(inner);
        if stirs {
            self.stirred.notify_one();
        }
    }

    /// Notes that stages of a queue may have become ready, at any place.
    pub fn hint(&self, queues: impl IntoIterator<Item = QueueKey>) {
        self.change(|inner| queues.into_iter().for_each(|queue| inner.hint(queue)));
    }

    /// Waits until something was noted.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Gives picked stages back that were not leased. With `lost` they are somebody else's now.
    pub fn give_back(&self, stages: impl IntoIterator<Item = ReadyStage>, lost: bool) {
        let mut inner = self.lock();
        for stage in stages {
            let ended = inner.in_hand.remove(&stage.id()).unwrap_or(true);
            if lost {
                self.figures.races_lost.inc();
                inner.lost_races.note();
                inner.apply(Note::ended(&stage));
            } else if !ended {
                inner.apply(Note::Added(stage));
            }
        }
    }

    /// Notes that picked stages were leased.
    pub fn leased<'a>(&self, stages: impl IntoIterator<Item = &'a ReadyStage>) {
        let mut inner = self.lock();
        for stage in stages {
            inner.in_hand.remove(&stage.id());
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, HeadTable> {
        self.inner.lock()
    }
}

impl HeadTable {
    /// The head of a queue, from now on known.
    pub fn head(&mut self, queue: &QueueKey) -> &mut Head {
        if !self.queues.contains(queue) {
            while self.queues.len() >= MAX_QUEUES.get() || self.stages > MAX_STAGES {
                let Some((_, forgotten)) = self.queues.pop_lru() else { break };
                self.stages -= forgotten.len();
            }
        }
        self.queues.get_or_insert_mut_ref(queue, Head::default)
    }

    /// The head of a queue, if it is known.
    pub fn known(&mut self, queue: &QueueKey) -> Option<&mut Head> {
        self.queues.peek_mut(queue)
    }

    /// Takes the queues in which something changed, or that can be read from their fronts by now.
    pub fn take_dirty(&mut self) -> HashSet<QueueKey> {
        let now = Instant::now();
        self.dirty.extend(self.later.extract_if(|_, at| *at <= now).map(|(queue, _)| queue));
        std::mem::take(&mut self.dirty)
    }

    /// Looks at a queue again after a while.
    pub fn look_later(&mut self, queue: QueueKey, wait: Duration) {
        self.later.insert(queue, Instant::now() + wait);
    }

    /// When the first queue is to be looked at again.
    pub fn next_look(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }

    /// Queues in which something changed.
    pub fn mark_dirty(&mut self, queues: impl IntoIterator<Item = QueueKey>) {
        self.dirty.extend(queues);
    }

    /// How many stages may still be picked.
    pub fn room(&self) -> usize {
        MAX_IN_HAND.saturating_sub(self.in_hand.len())
    }

    /// Takes a stage in hand.
    pub fn pick(&mut self, queue: &QueueKey, alone: bool, place: ReadyPosition) -> Option<ReadyStage> {
        let stage = self.queues.peek_mut(queue)?.window(alone).take(place)?;
        self.stages -= 1;
        self.in_hand.insert(stage.id(), false);
        Some(stage)
    }

    /// Takes more stages of the group of one in hand, at most `limit` of those that are known.
    pub fn pick_group(&mut self, head: &ReadyStage, limit: usize) -> Vec<ReadyStage> {
        let queue = head.queue_key();
        let Some(known) = self.queues.peek_mut(&queue) else { return Vec::new() };
        let stages = known.plain.take_group(head, limit);
        self.stages -= stages.len();
        self.in_hand.extend(stages.iter().map(|stage| (stage.id(), false)));
        stages
    }

    /// Takes those of some stages in hand that are not yet, at most `limit`.
    pub fn pick_found(&mut self, found: Vec<ReadyStage>, limit: usize) -> Vec<ReadyStage> {
        let mut picked = Vec::with_capacity(found.len().min(limit));
        for stage in found {
            if picked.len() >= limit {
                break;
            }
            if self.in_hand.contains_key(&stage.id()) {
                continue;
            }
            self.forget(&stage.queue_key(), stage.alone, &stage.id());
            self.in_hand.insert(stage.id(), false);
            picked.push(stage);
        }
        picked
    }

    /// Puts picked stages back where they were.
    pub fn put_back(&mut self, stages: impl IntoIterator<Item = ReadyStage>) {
        for stage in stages {
            if self.in_hand.remove(&stage.id()) == Some(false) {
                self.add(stage);
            }
        }
    }

    /// A read begins: what is noted from now on may be newer than what it finds.
    pub fn begin_read(&mut self) {
        self.notes = Some(Vec::new());
    }

    /// A read of some ranges that began at a moment ended, with what it found in each. None: it failed.
    pub fn end_read(&mut self, ranges: &[HeadRange], found: Option<&[Vec<ReadyStage>]>, began: Instant) {
        let notes = self.notes.take().unwrap_or_default();
        let Some(found) = found.filter(|_| notes.len() < MAX_NOTES) else { return };
        let cost = began.elapsed();
        for (range, stages) in ranges.iter().zip(found) {
            let Some(head) = self.queues.peek_mut(&(range.namespace, range.queue.clone())) else { continue };
            let before = head.len();
            let in_hand = &self.in_hand;
            let window = head.window(range.alone);
            window.learn(range.from, stages, range.limit, |stage| in_hand.contains_key(&stage.id()));
            head.was_read(range.from, began, cost);
            self.stages = self.stages + head.len() - before;
        }
        for note in notes {
            self.apply_now(note);
        }
    }

    fn hint(&mut self, queue: QueueKey) {
        if let Some(head) = self.queues.peek_mut(&queue) {
            head.is_hinted = true;
            self.dirty.insert(queue);
        }
    }

    fn note_job(
        &mut self,
        (base, job, changes): Committed<'_>,
        now: Timestamp,
        has_line: &dyn Fn(ResourceKey) -> bool,
    ) {
        let Some(job) = job else {
            // A deleted job has no stages to be leased.
            let base = base.into_iter();
            let stages = base.flat_map(|base| base.stages.iter().map(move |stage| (base, stage)));
            for (base, stage) in stages.filter(|(base, stage)| base.is_leasable(stage)) {
                self.end(base, stage);
            }
            return;
        };
        for stage in job.stages_to_look_at(base, changes) {
            let was = base.and_then(|base| Some((base, base.stages.get(stage.no)?)));
            match job.ready_change(base, stage) {
                ReadyChange::None => {}
                // Its row may stand in the line; only a read says so.
                ReadyChange::Created | ReadyChange::Became if job.first_resource(stage).is_some_and(has_line) => {
                    self.hint(job.queue_key(stage));
                }
                ReadyChange::Created | ReadyChange::Became => self.apply(Note::Added(job.ready_stage(stage, now))),
                ReadyChange::Replaced => {
                    was.into_iter().for_each(|(base, was)| self.end(base, was));
                    self.apply(Note::Added(job.ready_stage(stage, now)));
                }
                ReadyChange::Moved => {
                    was.into_iter().for_each(|(base, was)| self.move_stage((base, was), (job, stage)))
                }
                ReadyChange::Ended => was.into_iter().for_each(|(base, was)| self.end(base, was)),
            }
        }
        for no in changes.blocked.keys() {
            if let Some(stage) = job.stages.get(*no) {
                self.end(job, stage);
            }
        }
    }

    /// Moves a stage within its queue. Since when it is ready is known of those in the window; otherwise only its row says.
    fn move_stage(&mut self, (base, was): (&Job, &Stage), (job, stage): (&Job, &Stage)) {
        let queue = job.queue_key(stage);
        let known =
            self.queues.peek_mut(&queue).and_then(|head| head.window(was.is_suspect()).place(job.key.uid, was.no));
        self.end(base, was);
        match known {
            Some(place) => self.apply(Note::Added(job.ready_stage(stage, place.ready_at))),
            None => {
                if let Some(head) = self.queues.peek_mut(&queue) {
                    head.is_moved = true;
                    self.dirty.insert(queue);
                }
            }
        }
    }

    fn end(&mut self, job: &Job, stage: &Stage) {
        let queue = job.queue_key(stage);
        self.apply(Note::Ended((queue, stage.is_suspect()), job.key, stage.no));
    }

    /// Applies a note, and keeps it for the read in flight. Queues nobody asks for are of no interest.
    fn apply(&mut self, note: Note) {
        if let Some(notes) = self.notes.as_mut().filter(|notes| notes.len() < MAX_NOTES) {
            notes.push(note.clone());
        }
        self.apply_now(note);
    }

    fn apply_now(&mut self, note: Note) {
        match note {
            Note::Added(stage) => {
                let queue = stage.queue_key();
                if self.queues.contains(&queue) {
                    self.add(stage);
                    self.dirty.insert(queue);
                }
            }
            Note::Ended((queue, alone), key, no) => {
                if let Some(gone) = self.in_hand.get_mut(&(key, no)) {
                    *gone = true;
                }
                self.forget(&queue, alone, &(key, no));
            }
        }
    }

    fn add(&mut self, stage: ReadyStage) {
        let queue = stage.queue_key();
        if let Some(head) = self.queues.peek_mut(&queue) {
            let before = head.len();
            let alone = stage.alone;
            head.window(alone).add(stage);
            self.stages = self.stages + head.len() - before;
        }
    }

    fn forget(&mut self, queue: &QueueKey, alone: bool, (key, no): &(JobKey, StageNo)) {
        if let Some(head) = self.queues.peek_mut(queue)
            && head.window(alone).remove(key.uid, *no).is_some()
        {
            self.stages -= 1;
        }
    }
}

#[cfg(test)]
#[path = "heads_tests.rs"]
mod tests;
