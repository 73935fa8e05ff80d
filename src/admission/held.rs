//! Bytes of a message that were received and that its body does not pass on yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that a body of another protocol holds until its message is complete. In the extensions of its request; they count
/// as bytes that are arriving.
#[derive(Clone, Debug, Default)]
pub struct HeldBytes(Arc<AtomicUsize>);

impl HeldBytes {
    /// Sets how many bytes are held now.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes are held now.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
