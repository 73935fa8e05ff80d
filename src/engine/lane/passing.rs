//! What a lane does not go on with by itself: most pass it on to the locking lane. The lane of heartbeats passes nothing on, but tries again a
//! little later, behind what has come since.

use tokio::time::Instant;

use super::{HELD_FOR, HELD_PAUSE, Lane, Mode};
use crate::engine::queue::Pending;
use crate::engine::round::Work;
use crate::error::Error;
use crate::figures::writer::LaneKind;

impl Lane {
    /// Whether it passes operations on to the locking lane.
    pub(super) fn passes_aside(&self) -> bool {
        self.mode == Mode::Optimistic && self.kind != LaneKind::Leases
    }

    /// Passes some of a group on to the locking lane; returns the others.
    pub(super) fn without(&self, group: Vec<Pending>, passed: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let (passed, kept): (Vec<Pending>, Vec<Pending>) = group.into_iter().partition(passed);
        passed.into_iter().for_each(|pending| self.pass_aside(pending));
        kept
    }

    pub(super) fn pass_aside(&self, mut pending: Pending) {
        self.shared.figures.contended.inc();
        pending.rounds = pending.rounds.max(1);
        self.aside.pass(pending);
    }

    /// In the lane of heartbeats, puts off what has to be decided again: renewals wait for no lock, so trying at once would be in vain as long as
    /// the other session has it. Other lanes go on with it.
    pub(super) async fn put_off(&self, work: Vec<Work>) -> Vec<Work> {
        if self.kind != LaneKind::Leases || work.is_empty() {
            return work;
        }
        self.wait_in_queue(work, |pending| pending.rounds = 1).await
    }

    /// Work whose rows another session holds waits in the queue, up to [`HELD_FOR`] in all. `change`: what is changed of what waits.
    pub(super) async fn wait_in_queue(&self, work: Vec<Work>, change: fn(&mut Pending)) -> Vec<Work> {
        for mut pending in work.into_iter().flat_map(|work| work.group) {
            if pending.held_since.get_or_insert_with(Instant::now).elapsed() < HELD_FOR {
                change(&mut pending);
                self.queue.pass(pending);
            } else {
                pending.answer(Err(Error::Conflict));
            }
        }
        tokio::time::sleep(HELD_PAUSE).await;
        Vec::new()
    }
}
