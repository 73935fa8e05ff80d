//! Bytes of a message that were received and that its body does not pass on yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a body of another protocol holds until its message is complete. In the extensions of its request; it counts as
/// bytes that are arriving.
#[derive(Clone, Debug, Default)]
pub struct HeldBytes(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    received: AtomicUsize,
    memory: AtomicUsize,
}

impl HeldBytes {
    /// Sets how many bytes are held now, and how many the buffer takes that they are in.
    pub fn set(&self, received: usize, memory: usize) {
        self.0.received.store(received, Ordering::Relaxed);
        self.0.memory.store(memory, Ordering::Relaxed);
    }

    /// How many bytes are held now.
    pub fn received(&self) -> usize {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Size of the buffer that they are in.
    pub fn memory(&self) -> usize {
        self.0.memory.load(Ordering::Relaxed)
    }
}
