//! The updates that a watch has loaded and not sent, charged to the budget of watches.

use std::collections::VecDeque;

use crate::sending::{SMALL_BYTES, WatchMemory};

/// An update with an approximate size.
pub trait Weighed {
    /// Approximate memory in bytes, that of its encoding included.
    fn weight_bytes(&self) -> usize;
}

/// The queue of a watch.
pub struct UpdateQueue<U> {
    updates: VecDeque<U>,
    bytes: usize,
    /// Bytes that are charged. None: memory was reserved for what is being loaded.
    charged: Option<usize>,
    memory: WatchMemory,
}

impl<U: Weighed> UpdateQueue<U> {
    /// An empty queue.
    pub fn new(memory: WatchMemory) -> Self {
        Self { updates: VecDeque::new(), bytes: 0, charged: Some(0), memory }
    }

    /// Approximate size of the updates.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waits for memory for a load; see [`WatchMemory::reserve`]. The reservation ends with [`Self::take`].
    pub async fn reserve(&mut self, bytes: usize) {
        if bytes > SMALL_BYTES {
            self.charged = None;
            self.memory.reserve(bytes).await;
        }
    }

    /// Adds an update.
    pub fn push_back(&mut self, update: U) {
        self.bytes += update.weight_bytes();
        self.updates.push_back(update);
    }

    /// Takes the next update. The load before, if any, is over.
    pub fn take(&mut self) -> Option<U> {
        let update = self.updates.pop_front();
        // As much as was loaded until the last of it is taken: the update is encoded next.
        let charged = if self.bytes > SMALL_BYTES { self.bytes } else { 0 };
        if self.charged != Some(charged) {
            self.memory.set_queued(charged);
            self.charged = Some(charged);
        }
        self.bytes -= update.as_ref().map_or(0, Weighed::weight_bytes);
        update
    }
}
