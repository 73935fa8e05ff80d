//! Effects that are reverted unless the response that reports them was sent in full.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// A callback in the extensions of a response. It runs when the last byte has been passed to the connection. If the
/// caller disconnects before, the callback is dropped with the values it owns, which revert the effect in `Drop`.
#[derive(Clone)]
pub struct UntilSent(Arc<Mutex<Option<Sent>>>);

type Sent = Box<dyn FnOnce() + Send>;

impl UntilSent {
    /// Creates a callback that runs once the response has been sent in full.
    pub fn new(sent: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(sent)))))
    }

    /// Runs the callback once.
    pub fn sent(&self) {
        let sent = self.0.lock().take();
        if let Some(sent) = sent {
            sent();
        }
    }
}

impl fmt::Debug for UntilSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UntilSent")
    }
}
