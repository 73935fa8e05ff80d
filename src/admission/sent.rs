//! What must be undone unless the answer that tells of it was sent to its end.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Goes with a response, in its extensions. When the last byte was handed to the connection, it is told so; if the caller
/// has gone before, it is dropped, and with it what it holds, which undoes itself.
#[derive(Clone)]
pub struct UntilSent(Arc<Mutex<Option<Sent>>>);

type Sent = Box<dyn FnOnce() + Send>;

impl UntilSent {
    /// Something with what to do once the answer was sent.
    pub fn new(sent: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(sent)))))
    }

    /// The answer was sent.
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
