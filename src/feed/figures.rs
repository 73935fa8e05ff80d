//! Who watches, as a figure.

use std::sync::Arc;

use super::Hub;

/// Somebody who watches, until he no longer does.
pub struct Watching(Arc<Hub>);

impl Watching {
    /// Counts him.
    pub fn begin(hub: &Arc<Hub>) -> Self {
        hub.figures.watchers.inc();
        Self(hub.clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.figures.watchers.dec();
    }
}
