//! The bound on bytes of user objects that wait, in all sections of a queue together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that wait, and how many may.
#[derive(Debug)]
pub(super) struct ByteBound {
    waiting: AtomicUsize,
    most: usize,
}

impl ByteBound {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: AtomicUsize::new(0), most }
    }

    /// Adds bytes; false if they do not fit, which then are not added. `reserved` bytes of the bound are left free. What does not fit into an empty
    /// queue is let in alone.
    pub(super) fn reserve(&self, bytes: usize, reserved: usize) -> bool {
        let most = self.most.saturating_sub(reserved);
        let add = |waiting: usize| (waiting == 0 || waiting + bytes <= most).then_some(waiting + bytes);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Adds bytes that were let in before.
    pub(super) fn add(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: usize) {
        let before = self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes leave a queue that holds {before}");
    }

    /// A tenth of the bound, for urgent operations alone.
    pub(super) fn urgent_part(&self) -> usize {
        self.most / 10
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_fit_up_to_the_bound_and_one_operation_always() {
        let bound = ByteBound::new(1_000);
        assert!(bound.reserve(5_000, bound.urgent_part()), "alone");
        assert!(!bound.reserve(1, 0));
        bound.release(5_000);
        assert!(bound.reserve(900, bound.urgent_part()));
        assert!(!bound.reserve(1, bound.urgent_part()), "the last tenth is for urgent operations");
        assert!(bound.reserve(100, 0) && !bound.reserve(1, 0));
        bound.add(50);
        bound.release(1_050);
        assert_eq!(bound.waiting(), 0);
    }
}
