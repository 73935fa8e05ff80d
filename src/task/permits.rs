//! Background jobs for permits and resources; and the presence of servers.

use std::time::Duration;

use super::job::{BackgroundJob, execute_all};
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::permits::resource::{ChangeResource, ResourceChange};
use crate::operation::permits::wake::WakeResource;
use crate::store::walk::Walk;

/// Maximum number of resources in one run.
const BATCH: i64 = 500;
/// Runs for a walk over all permits, which takes a minute.
const PERMIT_RUNS: i64 = 12;
/// Runs for a walk over all resources, which takes an hour.
const IDLE_RUNS: i64 = 60;

/// Wakes resources whose stored alarm is due. The alarms that servers hold in memory are earlier, but are lost when a server is killed.
pub struct PermitReaper {
    engine: Engine,
}

impl PermitReaper {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for PermitReaper {
    const NAME: &'static str = "permit_reaper";
    const EVERY: Duration = Duration::from_millis(500);

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let due = shared.store.due_resources(BATCH).await?;
        execute_all(&self.engine, due.into_iter().map(|key| WakeResource { key, is_overdue: true })).await
    }
}

/// Ends permits that were not renewed for ten minutes after they expired. Until then a permit ends only when its amount is needed.
pub struct ForgottenPermits {
    engine: Engine,
    walk: Walk,
}

impl ForgottenPermits {
    pub fn new(engine: Engine) -> Self {
        Self { engine, walk: Walk::over("permits", PERMIT_RUNS) }
    }
}

impl BackgroundJob for ForgottenPermits {
    const NAME: &'static str = "forgotten_permits";
    const EVERY: Duration = Duration::from_secs(5);

    async fn run(&mut self) -> Result<usize> {
        let due = self.engine.shared().store.due_permits(&mut self.walk).await?;
        execute_all(&self.engine, due.into_iter().map(|key| WakeResource { key, is_overdue: false })).await
    }
}

/// Removes locks that were not used for a day.
pub struct IdleResources {
    engine: Engine,
    walk: Walk,
}

impl IdleResources {
    pub fn new(engine: Engine) -> Self {
        Self { engine, walk: Walk::over("resources", IDLE_RUNS) }
    }
}

impl BackgroundJob for IdleResources {
    const NAME: &'static str = "idle_resources";
    const EVERY: Duration = Duration::from_secs(60);

    async fn run(&mut self) -> Result<usize> {
        let idle = self.engine.shared().store.idle_resources(&mut self.walk).await?;
        let forget = |key| ChangeResource {
            key,
            resource: "".into(),
            change: ResourceChange::Forget,
            expected_version: None,
            request: None,
        };
        execute_all(&self.engine, idle.into_iter().map(forget)).await
    }
}

/// Registers this server as present, and reads which others are. It also detects an outage of the database and its end: leases and permits
/// from before are then spared for a while, so that their holders can renew first.
pub struct ServerPresence {
    engine: Engine,
}

impl ServerPresence {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for ServerPresence {
    const NAME: &'static str = "presence";
    const EVERY: Duration = Duration::from_secs(1);
    const SINGLETON: bool = false;

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let asked = self.engine.now();
        let greeted = shared.store.greet_servers(shared.permits.server).await;
        let presence = greeted.inspect_err(|_| shared.grace.lost())?;
        shared.grace.found(presence.now);
        let others = presence.servers.len().saturating_sub(1);
        shared.permits.set_servers(presence.servers, presence.has_older, asked);
        Ok(others)
    }
}
