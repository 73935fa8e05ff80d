//! What lies further ahead than it can, because the database's clock stepped back or another host's, which is slower, took over.

use std::time::Duration;

use super::Chore;
use super::due::execute_all;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::permits::wake::WakeResource;
use crate::operation::wake::Wake;
use crate::store::walk::Walk;

/// What one look takes at once of each table.
const BATCH: i64 = 500;

/// Brings it back, where nobody comes by who would. See `domain/permit/step_back.rs`.
pub struct StepBack {
    engine: Engine,
    /// The steps of the clock that were dealt with; `None` before the first look.
    steps: Option<u64>,
    /// The steps that the round under way deals with. `None`: there is none.
    round: Option<Round>,
}

/// One round through all tables that have a time, a bounded number of pages at a time.
struct Round {
    steps: u64,
    resources: Walk,
    permits: Walk,
    stages: Walk,
    jobs: Walk,
    leases: Walk,
}

impl StepBack {
    /// One who looks for it.
    pub fn new(engine: Engine) -> Self {
        Self { engine, steps: None, round: None }
    }
}

impl Chore for StepBack {
    const NAME: &'static str = "step_back";
    const EVERY: Duration = Duration::from_secs(5);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        // Reads everything that has a time, so only after a step.
        let steps = self.engine.shared().clock.steps();
        if self.round.is_none() && Some(steps) == self.steps {
            return Ok(0);
        }
        let round = self.round.get_or_insert_with(|| Round::new(steps));
        let place = round.place();
        let changed = round.look(&self.engine).await?;
        if !round.is_over() {
            // There is more: no rest, unless what was found cannot be changed now.
            let goes_on = changed > 0 || round.place() != place;
            return Ok(if goes_on { changed.max(Self::FULL) } else { 0 });
        }
        self.steps = Some(round.steps);
        self.round = None;
        Ok(changed)
    }
}

impl Round {
    /// A round that takes as few looks as are bounded.
    fn new(steps: u64) -> Self {
        let over = |table| Walk::over(table, 1);
        Self {
            steps,
            resources: over("resources"),
            permits: over("permits"),
            stages: over("stages"),
            jobs: over("jobs"),
            leases: over("leases"),
        }
    }

    fn walks(&self) -> [&Walk; 5] {
        [&self.resources, &self.permits, &self.stages, &self.jobs, &self.leases]
    }

    fn is_over(&self) -> bool {
        self.walks().into_iter().all(Walk::is_over)
    }

    /// How far all of them have come.
    fn place(&self) -> i64 {
        self.walks().into_iter().map(Walk::place).sum()
    }

    /// Looks at the next pages of each table that is not done. Returns how much was changed.
    async fn look(&mut self, engine: &Engine) -> Result<usize> {
        let store = &engine.shared().store;
        let mut changed = 0;
        if !self.resources.is_over() {
            let keys = store.resources_ahead(&mut self.resources, BATCH).await?;
            changed += execute_all(engine, keys.into_iter().map(|key| WakeResource { key, is_overdue: false })).await?;
        }
        if !self.permits.is_over() {
            let keys = store.permits_ahead(&mut self.permits, BATCH).await?;
            changed += execute_all(engine, keys.into_iter().map(|key| WakeResource { key, is_overdue: false })).await?;
        }
        if !self.stages.is_over() {
            let stages = store.stages_ahead(&mut self.stages, BATCH).await?;
            let wake = |(key, stage_no)| Wake { key, stage_no: Some(stage_no), jitter: rand::random() };
            changed += execute_all(engine, stages.into_iter().map(wake)).await?;
        }
        if !self.jobs.is_over() {
            let timers = store.jobs_ahead(&mut self.jobs, BATCH).await?;
            let wake = |(key, stage_no)| Wake { key, stage_no, jitter: rand::random() };
            changed += execute_all(engine, timers.into_iter().map(wake)).await?;
        }
        if !self.leases.is_over() {
            changed += store.shorten_leases(&mut self.leases, BATCH).await?;
        }
        Ok(changed)
    }
}
