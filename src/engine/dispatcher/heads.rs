//! The heads of queues in memory: the next stages to lease, without a query for each poll.
//!
//! Lanes note here the stages that their commits made ready or ended, so that the heads agree with the commits of this server. Changes by other
//! servers are found by reads: after a hint, and at intervals from the front of a queue. A picked stage is *in hand* until its lease is
//! committed or refused; nothing in the database marks it. If another server picks it too, one of the two commits and the other loses the race.
//!
//! **Invariants.** Queues, stages and notes are bounded; dropped ones are read again. A wrong head does no harm: each lease proves its job.

use std::num::NonZeroUsize;
use std::time::Duration;

use foldhash::{HashMap, HashSet};
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::head::Head;
use super::share::OtherServers;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::{Job, JobChanges};
use crate::domain::permit::ResourceKey;
use crate::domain::ready::{QueueKey, ReadyChange, ReadyPosition, ReadyStage};
use crate::domain::stage::Stage;
use crate::domain::time::Timestamp;
use crate::figures::dispatch::DispatchFigures;
use crate::store::ready::HeadRange;

/// Queues with a head, at most. Beyond it, the least recently used head is evicted.
const MAX_QUEUES: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is more than none");
/// Stages in all windows. Beyond it, the least recently used heads are evicted when a queue is added.
const MAX_STAGES: usize = 400_000;
/// Stages in hand, at most. At this number none is picked.
const MAX_IN_HAND: usize = 100_000;
/// Notes kept while a read is in flight. At this number the result of the read is discarded.
const MAX_NOTES: usize = 100_000;
/// Key of a window: its queue, and whether it holds the stages that are leased alone. Each kind has its own window, so that neither hides the other.
pub type WindowKey = (QueueKey, bool);

/// The heads of all queues that workers poll.
#[derive(Default)]
pub struct Heads {
    /// Counters of reads and lost races.
    pub figures: DispatchFigures,
    inner: Mutex<HeadTable>,
    stirred: Notify,
}

/// State of [`Heads`] under its lock.
pub struct HeadTable {
    queues: LruCache<QueueKey, Head>,
    stages: usize,
    /// Picked stages whose lease is neither committed nor refused. True: the stage has ended since it was picked and can no longer be leased.
    in_hand: HashMap<(JobKey, StageNo), bool>,
    /// Queues that changed since the last look.
    dirty: HashSet<QueueKey>,
    /// Queues that the claimer looks at again, and when: after the pause before a read from the front, or when another server's stages may be taken.
    later: HashMap<QueueKey, Instant>,
    /// Notes since the read in flight began. None: no read is in flight.
    notes: Option<Vec<Note>>,
    /// Last lost race, and when another server was last known.
    pub others: OtherServers,
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
            others: OtherServers::default(),
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
    /// Note that a stage can no longer be leased.
    fn ended(stage: &ReadyStage) -> Self {
        Self::Ended((stage.queue_key(), stage.alone), stage.key, stage.stage_no)
    }
}

/// A job before and after a commit, and its changes. None before: it was created. None after: it was deleted.
pub type CommittedJob<'a> = (Option<&'a Job>, Option<&'a Job>, &'a JobChanges);

impl Heads {
    /// Notes the changes of jobs by a commit at `now`. `has_line` returns whether stages wait for a resource, so that new ones may wait behind them.
    pub fn note<'a>(
        &self,
        jobs: impl Iterator<Item = CommittedJob<'a>>,
        now: Timestamp,
        has_line: &dyn Fn(ResourceKey) -> bool,
    ) {
        self.change(|inner| jobs.for_each(|job| inner.note_job(job, now, has_line)));
    }

    /// Notes that stages no longer wait for a resource and can be picked again.
    pub fn woken(&self, stages: Vec<ReadyStage>) {
        self.change(|inner| stages.into_iter().for_each(|stage| inner.apply(Note::Added(stage))));
    }

    /// Notes that stages joined the wait queue of a resource and cannot be picked.
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
        let has_changed = !inner.dirty.is_empty();
        drop(inner);
        if has_changed {
            self.stirred.notify_one();
        }
    }

    /// Notes that stages of these queues may have become ready, at any position.
    pub fn hint(&self, queues: impl IntoIterator<Item = QueueKey>) {
        self.change(|inner| queues.into_iter().for_each(|queue| inner.hint(queue)));
    }

    /// Waits until a queue has changed.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Puts picked stages that were not leased back. With `lost` they are removed, because another server leased them or they are no longer ready.
    pub fn give_back(&self, stages: impl IntoIterator<Item = ReadyStage>, lost: bool) {
        let mut inner = self.lock();
        for stage in stages {
            let ended = inner.in_hand.remove(&stage.id()).unwrap_or(true);
            if lost {
                self.figures.races_lost.inc();
                inner.others.note_lost_race();
                inner.apply(Note::ended(&stage));
            } else if !ended {
                inner.apply(Note::Added(stage));
            }
        }
    }

    /// Notes that picked stages were leased. They are no longer in hand.
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
    /// The head of a queue; created empty if it does not exist.
    pub fn head(&mut self, queue: &QueueKey) -> &mut Head {
        if !self.queues.contains(queue) {
            while self.queues.len() >= MAX_QUEUES.get() || self.stages > MAX_STAGES {
                let Some((_, evicted)) = self.queues.pop_lru() else { break };
                self.stages -= evicted.len();
            }
        }
        self.queues.get_or_insert_mut_ref(queue, Head::default)
    }

    /// The head of a queue. None: the queue has none.
    pub fn known(&mut self, queue: &QueueKey) -> Option<&mut Head> {
        self.queues.peek_mut(queue)
    }

    /// Takes the queues that changed, and those whose time in `later` has come.
    pub fn take_dirty(&mut self) -> HashSet<QueueKey> {
        let now = Instant::now();
        self.dirty.extend(self.later.extract_if(|_, at| *at <= now).map(|(queue, _)| queue));
        std::mem::take(&mut self.dirty)
    }

    /// Schedules a look at a queue after `wait`.
    pub fn look_later(&mut self, queue: QueueKey, wait: Duration) {
        self.later.insert(queue, Instant::now() + wait);
    }

    /// Time of the first scheduled look. None: there is none.
    pub fn next_look(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }

    /// Marks queues for the next look.
    pub fn mark_dirty(&mut self, queues: impl IntoIterator<Item = QueueKey>) {
        self.dirty.extend(queues);
    }

    /// Stages that may still be picked.
    pub fn room(&self) -> usize {
        MAX_IN_HAND.saturating_sub(self.in_hand.len())
    }

    /// Takes the stage at a position in hand. None: it is not in the window.
    pub fn pick(&mut self, queue: &QueueKey, alone: bool, place: ReadyPosition) -> Option<ReadyStage> {
        let stage = self.queues.peek_mut(queue)?.window(alone).take(place)?;
        self.stages -= 1;
        self.in_hand.insert(stage.id(), false);
        Some(stage)
    }

    /// Takes known stages of the group of `head` in hand, at most `limit`.
    pub fn pick_group(&mut self, head: &ReadyStage, limit: usize) -> Vec<ReadyStage> {
        let queue = head.queue_key();
        let Some(known) = self.queues.peek_mut(&queue) else { return Vec::new() };
        let stages = known.plain.take_group(head, limit);
        self.stages -= stages.len();
        self.in_hand.extend(stages.iter().map(|stage| (stage.id(), false)));
        stages
    }

    /// Takes those of `found` in hand that are not yet in hand, at most `limit`.
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

    /// Puts picked stages back into their windows, unless they have ended since.
    pub fn put_back(&mut self, stages: impl IntoIterator<Item = ReadyStage>) {
        for stage in stages {
            if self.in_hand.remove(&stage.id()) == Some(false) {
                self.add(stage);
            }
        }
    }

    /// Begins a read. Notes from now on may be newer than its result.
    pub fn begin_read(&mut self) {
        self.notes = Some(Vec::new());
    }

    /// Ends a read of `ranges` that started at `began`. `found` has the stages of each range. None: the read failed.
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
        (base, job, changes): CommittedJob<'_>,
        now: Timestamp,
        has_line: &dyn Fn(ResourceKey) -> bool,
    ) {
        let Some(job) = job else {
            // No stage of a deleted job can be leased.
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
                // The stage may wait for the resource behind others; only its row shows that.
                ReadyChange::Created | ReadyChange::Became if job.first_resource(stage).is_some_and(has_line) => {
                    self.hint(job.queue_key(stage));
                }
                ReadyChange::Created | ReadyChange::Became => self.apply(Note::Added(job.ready_stage(stage, now))),
                ReadyChange::Replaced => {
                    was.into_iter().for_each(|(base, was)| self.end(base, was));
                    self.apply(Note::Added(job.ready_stage(stage, now)));
                }
                ReadyChange::Moved => {
                    was.into_iter().for_each(|(base, was)| self.move_stage((base, was), (job, stage)));
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

    /// Moves a stage within its queue. Its ready time is known if it is in a window; otherwise only its row has it, and the queue is read.
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

    /// Applies a note, and keeps it for the read in flight. Notes of queues without a head change nothing.
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
                if let Some(has_ended) = self.in_hand.get_mut(&(key, no)) {
                    *has_ended = true;
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
