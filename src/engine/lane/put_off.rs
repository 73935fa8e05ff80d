//! The lane of heartbeats passes nothing on: what another session is writing is tried again there a little later, behind what has come since.

use tokio::time::Instant;

use super::{HELD_FOR, HELD_PAUSE, Lane, Mode};
use crate::engine::round::Work;
use crate::error::Error;
use crate::figures::writer::LaneKind;

impl Lane {
    /// Whether it passes operations on to the locking lane.
    pub(super) fn passes_aside(&self) -> bool {
        self.mode == Mode::Optimistic && self.kind != LaneKind::Leases
    }

    /// In the lane of heartbeats, puts off what has to be decided again: renewals wait for no lock, so trying at once would be in vain as long as
    /// the other session has it. Other lanes go on with it.
    pub(super) async fn put_off(&self, work: Vec<Work>) -> Vec<Work> {
        if self.kind != LaneKind::Leases || work.is_empty() {
            return work;
        }
        for mut pending in work.into_iter().flat_map(|work| work.group) {
            if pending.held_since.get_or_insert_with(Instant::now).elapsed() < HELD_FOR {
                pending.rounds = 1;
                self.queue.pass(pending);
            } else {
                pending.answer(Err(Error::Conflict));
            }
        }
        tokio::time::sleep(HELD_PAUSE).await;
        Vec::new()
    }
}
