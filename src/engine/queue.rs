//! The bounded wait of operations before the lanes: one queue with a section for each kind of lane.
//!
//! Layout: `lane_id` are the lanes; `section` is the wait before the lanes of one kind, with a lock of its own; `pending` is an operation on its way; `share` divides a section
//! among namespaces; `bytes` is the bound of all sections together.

mod bytes;
mod lane_id;
mod pending;
mod section;
mod share;

use std::sync::Arc;
use std::time::Duration;

use super::pace::{MAX_BULK_WAIT, MAX_WAIT};
use crate::domain::id::NamespaceId;
use crate::error::{Error, Result};
use crate::figures::writer::LaneKind;
use bytes::ByteBound;
pub use lane_id::LaneId;
pub use pending::{Pending, Ticket};
use section::Section;

/// Operations that wait for a lane.
pub struct Queue {
    /// In the order of [`LaneKind::ALL`].
    sections: [Section; LaneKind::ALL.len()],
    #[cfg(test)]
    bytes: Arc<ByteBound>,
}

impl Queue {
    /// An empty queue. `max_operations` bounds each kind of lane, `max_bytes` all of them together.
    pub fn new(max_operations: usize, max_bytes: usize) -> Self {
        let bytes = Arc::new(ByteBound::new(max_bytes));
        let section = |kind| {
            let bytes = bytes.clone();
            // Large operations leave room for small ones.
            let (max_wait, max_bytes) = match kind {
                LaneKind::Bulk => (MAX_BULK_WAIT, max_bytes / 4 * 3),
                LaneKind::Main | LaneKind::Locking | LaneKind::Leases => (MAX_WAIT, max_bytes),
            };
            Section::new(max_operations, max_bytes, max_wait, bytes)
        };
        Self {
            sections: LaneKind::ALL.map(section),
            #[cfg(test)]
            bytes,
        }
    }

    /// Lets an operation wait for the kind of lane that it belongs to.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too much waits, [`Error::Draining`] after [`Self::close`].
    pub fn push(&self, pending: Pending) -> Result<()> {
        self.section(pending.kind()).push(pending)
    }

    /// The same for several, in their order. If all belong to the main lanes, none is taken before all are in. Each refusal is in the place of its
    /// operation.
    pub fn push_all(&self, pending: Vec<Pending>) -> Vec<Option<Error>> {
        if pending.iter().all(|pending| pending.kind() == LaneKind::Main) {
            return self.section(LaneKind::Main).push_all(pending);
        }
        pending.into_iter().map(|pending| self.push(pending).err()).collect()
    }

    /// Lets an operation wait that a lane has taken before; never refused, since it was admitted then.
    pub fn requeue(&self, kind: LaneKind, pending: Pending) {
        self.section(kind).requeue(pending);
    }

    /// The next group of a lane, which has done with the group before: all that waits, as far as it fits. None: the section is closed and holds nothing
    /// more for this lane.
    pub async fn take_group(&self, lane: LaneId) -> Option<Vec<Pending>> {
        self.section(lane.kind).take_group(lane).await
    }

    /// Notes how long a lane of a kind took for a group of so many rows, from the queue to the replies.
    pub fn note_pace(&self, kind: LaneKind, rows: usize, took: Duration) {
        self.section(kind).note_pace(rows, took);
    }

    /// When new work of a namespace is worth another attempt. None: it would be admitted now. Urgent operations may be admitted anyway.
    pub fn overload(&self, namespace: Option<NamespaceId>) -> Option<Duration> {
        self.section(LaneKind::Main).overload(namespace)
    }

    /// Refuses new operations of a kind from now on; those that wait are still taken.
    pub fn close(&self, kind: LaneKind) {
        self.section(kind).close();
    }

    /// Operations that wait for a kind of lane.
    pub fn len(&self, kind: LaneKind) -> usize {
        self.section(kind).len()
    }

    /// Takes the next group of a lane without waiting; empty if there is none.
    #[cfg(test)]
    pub fn take(&self, lane: LaneId) -> Vec<Pending> {
        self.section(lane.kind).take(lane)
    }

    fn section(&self, kind: LaneKind) -> &Section {
        &self.sections[kind as usize]
    }
}

#[cfg(test)]
mod tests;
