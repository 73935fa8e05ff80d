//! The count of open watches.

use std::sync::Arc;

use super::hub::Hub;

/// Counts one open watch until it is dropped.
pub(super) struct OpenWatch(Arc<Hub>);

impl OpenWatch {
    /// Counts one more open watch.
    pub fn begin(hub: &Arc<Hub>) -> Self {
        hub.figures.watchers.inc();
        Self(hub.clone())
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.figures.watchers.dec();
    }
}
