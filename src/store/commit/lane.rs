//! The connection of a writer lane, with the commit statements that are prepared on it.

use std::time::Duration;

use super::Prepared;
use crate::error::{Error, Result};
use crate::store::pg::connection::{Client, Target, WRITER_SETUP};

/// The connection of one writer lane, and what it has prepared.
pub struct LaneConnection {
    target: Target,
    lock_wait: Duration,
    open: Option<OpenLane>,
}

/// An open connection of a lane.
pub struct OpenLane {
    /// It runs the statements of the lane.
    pub client: Client,
    /// The commit statements that are prepared on it.
    pub prepared: Prepared,
}

impl LaneConnection {
    /// A lane that connects when it is first used. `lock_wait`: how long its statements wait for a lock.
    pub fn new(target: Target, lock_wait: Duration) -> Self {
        Self { target, lock_wait, open: None }
    }

    /// The open connection. A new one is made if there is none or it was lost.
    pub async fn open(&mut self) -> Result<&mut OpenLane> {
        if self.open.as_ref().is_none_or(|open| open.client.is_closed()) {
            let setup = format!("{WRITER_SETUP}; SET lock_timeout = {}", self.lock_wait.as_millis());
            let client = self.target.connect(&setup).await?;
            self.open = Some(OpenLane { client, prepared: Prepared::default() });
        }
        self.open.as_mut().ok_or(Error::StoreUnavailable)
    }

    /// Closes the connection, for its state is unknown.
    pub fn discard(&mut self) {
        self.open = None;
    }
}
