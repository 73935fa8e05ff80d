//! What lies further ahead than it can, because the database's clock stepped back or another host's, which is slower, took over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Chore;
use super::due::execute_all;
use crate::domain::permit::ResourceKey;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::permits::wake::WakeResource;
use crate::operation::wake::Wake;

/// What the loop takes at once.
const BATCH: i64 = 500;

/// Brings it back, where nobody comes by who would. See `domain/permit/step_back.rs`.
pub struct StepBack {
    engine: Engine,
    /// The steps of the clock that were dealt with; `None` before the first look.
    steps: Option<u64>,
}

impl StepBack {
    /// One who looks for it.
    pub fn new(engine: Engine) -> Self {
        Self { engine, steps: None }
    }
}

impl Chore for StepBack {
    const NAME: &'static str = "step_back";
    const EVERY: Duration = Duration::from_secs(5);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        let store = &self.engine.shared().store;
        let steps = self.engine.shared().clock.steps();
        // Reads everything that has a time, so only after a step, and until nothing more is found.
        if Some(steps) == self.steps {
            return Ok(0);
        }
        let ahead: BTreeSet<ResourceKey> = store.resources_ahead(BATCH).await?.into_iter().collect();
        let timers = store.timers_ahead(BATCH).await?;
        let found = ahead.len().max(timers.len());
        let woken =
            execute_all(&self.engine, ahead.into_iter().map(|key| WakeResource { key, is_overdue: false })).await?;
        let wakes = timers.into_iter().map(|(key, stage_no)| Wake { key, stage_no, jitter: rand::random() });
        let woken = woken + execute_all(&self.engine, wakes).await?;
        let shortened = store.step_back(BATCH).await?;
        if found.max(shortened) < Self::FULL {
            self.steps = Some(steps);
        }
        Ok(woken + shortened)
    }
}
