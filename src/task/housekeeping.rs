//! Background jobs that delete what is no longer needed: remembered requests, history, credentials that ended, idle connections.

use std::time::Duration;

use super::job::BackgroundJob;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::credential::{KEPT, RetireKeys};
use crate::store::walk::Walk;

/// Maximum number of rows that one statement deletes.
const BATCH: i64 = 1_000;
/// Runs for a walk over all remembered requests, which takes an hour: they are kept for a day and up to an hour more.
const REQUEST_RUNS: i64 = 360;
/// Runs for a walk over all outcomes of groups, which takes five minutes: they are kept for ten minutes and up to five more.
const GROUP_RUNS: i64 = 30;

/// Deletes remembered requests, outcomes of groups and audit events that are older than they are kept.
pub struct RequestCleaner {
    engine: Engine,
    requests: Walk,
    groups: Walk,
}

impl RequestCleaner {
    /// Both walks begin at the first id.
    pub fn new(engine: Engine) -> Self {
        let (requests, groups) = (Walk::over("requests", REQUEST_RUNS), Walk::over("write_groups", GROUP_RUNS));
        Self { engine, requests, groups }
    }
}

impl BackgroundJob for RequestCleaner {
    const NAME: &'static str = "forget";
    const EVERY: Duration = Duration::from_secs(10);

    async fn run(&mut self) -> Result<usize> {
        let store = &self.engine.shared().store;
        let requests = store.forget_requests(&mut self.requests).await?;
        let groups = store.forget_groups(&mut self.groups).await?;
        Ok(requests + groups + store.forget_audit_events(BATCH).await?)
    }
}

/// Deletes credentials that ended long ago. That is an operation, because the creation of a credential counts them.
pub struct EndedKeyCleaner {
    engine: Engine,
}

impl EndedKeyCleaner {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for EndedKeyCleaner {
    const NAME: &'static str = "retire_keys";
    const EVERY: Duration = Duration::from_secs(3_600);
    const FULL: usize = 1;

    async fn run(&mut self) -> Result<usize> {
        // There rarely is one, and a run without one should commit nothing.
        if !self.engine.shared().store.has_ended_keys(KEPT).await? {
            return Ok(0);
        }
        Ok(usize::from(self.engine.execute(RetireKeys, None).await?.applied))
    }
}

/// Deletes history and request ids of deleted namespaces.
pub struct NamespaceCleaner {
    engine: Engine,
}

impl NamespaceCleaner {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for NamespaceCleaner {
    const NAME: &'static str = "sweep";
    const EVERY: Duration = Duration::from_secs(5);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().store.sweep_namespaces(BATCH).await
    }
}

/// Closes connections of the pools that were not used for long.
pub struct IdleConnections {
    engine: Engine,
}

impl IdleConnections {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for IdleConnections {
    const NAME: &'static str = "retire";
    const EVERY: Duration = Duration::from_secs(60);
    // Each server has its own pools.
    const SINGLETON: bool = false;

    async fn run(&mut self) -> Result<usize> {
        Ok(self.engine.shared().store.retire_idle())
    }
}

/// Creates the partitions of history for the coming days, and drops those that are older than history is kept.
pub struct Partitions {
    engine: Engine,
    keep_days: i32,
}

impl Partitions {
    /// Keeps history for `keep_days` days.
    pub fn new(engine: Engine, keep_days: i32) -> Self {
        Self { engine, keep_days }
    }
}

impl BackgroundJob for Partitions {
    const NAME: &'static str = "partitions";
    const EVERY: Duration = Duration::from_secs(3_600);

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().store.keep_partitions(self.keep_days).await
    }
}
