//! Permits whose time is up, resources at which something is due, stages that nobody has woken; and which servers are there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Chore;
use super::due::execute_all;
use crate::domain::permit::ResourceKey;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::permits::resource::{Change, ChangeResource};
use crate::operation::permits::wake::WakeResource;

/// What a loop takes at once.
const BATCH: i64 = 500;

/// A net below the alarms of the servers, which are lost with them.
pub struct PermitReaper {
    engine: Engine,
}

impl PermitReaper {
    /// A reaper.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for PermitReaper {
    const NAME: &'static str = "permit_reaper";
    const EVERY: Duration = Duration::from_millis(500);

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let due: BTreeSet<ResourceKey> = shared
            .store
            .due_permits(BATCH)
            .await?
            .into_iter()
            .chain(shared.store.due_resources(BATCH).await?)
            .collect();
        let woken = execute_all(&self.engine, due.into_iter().map(|key| WakeResource { key })).await?;
        let unblocked = shared.store.unblock_stages(BATCH).await?;
        let found = woken + unblocked.len();
        shared.hub.publish_ready(unblocked);
        Ok(found)
    }
}

/// Removes locks that nobody has used for a day.
pub struct IdleResources {
    engine: Engine,
}

impl IdleResources {
    /// One who looks for them.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for IdleResources {
    const NAME: &'static str = "idle_resources";
    const EVERY: Duration = Duration::from_secs(60);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        let idle = self.engine.shared().store.idle_resources(BATCH).await?;
        let forget = |key| ChangeResource {
            key,
            resource: "".into(),
            change: Change::Forget,
            expected_version: None,
            request: None,
        };
        execute_all(&self.engine, idle.into_iter().map(forget)).await
    }
}

/// Says that this server is there, and hears who else is. It also notices that the database is away, and that it is back: what was leased
/// or permitted before is then spared for a while, since its holders renew first.
pub struct Presence {
    engine: Engine,
}

impl Presence {
    /// Of a server that was just started.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Presence {
    const NAME: &'static str = "presence";
    const EVERY: Duration = Duration::from_secs(1);
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let asked = self.engine.now();
        let greeted = shared.store.greet_servers(shared.permits.server).await;
        let (servers, now) = greeted.inspect_err(|_| shared.grace.lost())?;
        shared.grace.found(now);
        let others = servers.len().saturating_sub(1);
        shared.permits.set_servers(servers, asked);
        Ok(others)
    }
}
