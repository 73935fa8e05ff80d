//! Permits whose time is up, resources at which something is due; and which servers are there.

use std::time::Duration;

use super::Chore;
use super::due::execute_all;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::permits::resource::{Change, ChangeResource};
use crate::operation::permits::wake::WakeResource;
use crate::store::walk::Walk;

/// What a loop takes at once.
const BATCH: i64 = 500;
/// Looks for a round over all permits, which lasts a minute then.
const PERMIT_LOOKS: i64 = 12;
/// The same for all resources: an hour.
const IDLE_LOOKS: i64 = 60;

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
        let due = shared.store.due_resources(BATCH).await?;
        execute_all(&self.engine, due.into_iter().map(|key| WakeResource { key, is_overdue: true })).await
    }
}

/// Ends permits that were not renewed for ten minutes after they expired.
pub struct ForgottenPermits {
    engine: Engine,
    walk: Walk,
}

impl ForgottenPermits {
    /// At the beginning of a round.
    pub fn new(engine: Engine) -> Self {
        Self { engine, walk: Walk::over("permits", PERMIT_LOOKS) }
    }
}

impl Chore for ForgottenPermits {
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
    /// At the beginning of a round.
    pub fn new(engine: Engine) -> Self {
        Self { engine, walk: Walk::over("resources", IDLE_LOOKS) }
    }
}

impl Chore for IdleResources {
    const NAME: &'static str = "idle_resources";
    const EVERY: Duration = Duration::from_secs(60);

    async fn run(&mut self) -> Result<usize> {
        let idle = self.engine.shared().store.idle_resources(&mut self.walk).await?;
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
        let presence = greeted.inspect_err(|_| shared.grace.lost())?;
        shared.grace.found(presence.now);
        let others = presence.servers.len().saturating_sub(1);
        shared.permits.set_servers(presence.servers, presence.has_older, asked);
        Ok(others)
    }
}
