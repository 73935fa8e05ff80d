//! What keeps a server and its database tidy: old requests, history by days, idle connections.

use std::time::Duration;

use super::Chore;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::credential::{KEPT, RetireKeys};
use crate::store::walk::Walk;

/// Rows a sweep takes at once.
const BATCH: i64 = 1_000;
/// Looks for a round over all remembered requests, which lasts an hour then: they are kept for a day and up to an hour more.
const REQUEST_LOOKS: i64 = 360;
/// The same for outcomes of groups, which are kept for ten minutes and up to five more.
const GROUP_LOOKS: i64 = 30;

/// Forgets requests and group outcomes that nobody can ask for any more.
pub struct Forget {
    engine: Engine,
    requests: Walk,
    groups: Walk,
}

impl Forget {
    /// A forgetter.
    pub fn new(engine: Engine) -> Self {
        let (requests, groups) = (Walk::over("requests", REQUEST_LOOKS), Walk::over("write_groups", GROUP_LOOKS));
        Self { engine, requests, groups }
    }
}

impl Chore for Forget {
    const NAME: &'static str = "forget";
    const EVERY: Duration = Duration::from_secs(10);

    async fn run(&mut self) -> Result<usize> {
        let store = &self.engine.shared().store;
        let requests = store.forget_requests(&mut self.requests).await?;
        let groups = store.forget_groups(&mut self.groups).await?;
        Ok(requests + groups + store.forget_audit_events(BATCH).await?)
    }
}

/// Deletes credentials that ended long ago. That is an operation, since whoever creates one counts them.
pub struct RetireEnded {
    engine: Engine,
}

impl RetireEnded {
    /// For the credentials of an engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for RetireEnded {
    const NAME: &'static str = "retire_keys";
    const EVERY: Duration = Duration::from_secs(3_600);
    const FULL: usize = 1;

    async fn run(&mut self) -> Result<usize> {
        // There seldom is one, and nothing to do shall cost no group.
        if !self.engine.shared().store.has_ended_keys(KEPT).await? {
            return Ok(0);
        }
        Ok(usize::from(self.engine.execute(RetireKeys, None).await?.applied))
    }
}

/// Deletes history and request ids of deleted namespaces.
pub struct Sweep {
    engine: Engine,
}

impl Sweep {
    /// A sweeper.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Sweep {
    const NAME: &'static str = "sweep";
    const EVERY: Duration = Duration::from_secs(5);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().store.sweep_namespaces(BATCH).await
    }
}

/// Closes connections that nobody has used for long.
pub struct Retire {
    engine: Engine,
}

impl Retire {
    /// One who looks after the pool.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Retire {
    const NAME: &'static str = "retire";
    const EVERY: Duration = Duration::from_secs(60);
    // Each server has a pool of its own.
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        Ok(self.engine.shared().store.retire_idle())
    }
}

/// Makes the partitions of the coming days and drops those of long ago.
pub struct Partitions {
    engine: Engine,
    keep_days: i32,
}

impl Partitions {
    /// A keeper of history.
    pub fn new(engine: Engine, keep_days: i32) -> Self {
        Self { engine, keep_days }
    }
}

impl Chore for Partitions {
    const NAME: &'static str = "partitions";
    const EVERY: Duration = Duration::from_secs(3_600);

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().store.keep_partitions(self.keep_days).await
    }
}
