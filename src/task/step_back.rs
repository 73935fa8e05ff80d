//! Background job for stored times that lie too far ahead, after the database's clock stepped back or a host with a slower clock took over.

use std::time::Duration;

use super::job::{BackgroundJob, execute_all};
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::permits::wake::WakeResource;
use crate::operation::wake::Wake;
use crate::store::walk::Walk;

/// Maximum number of rows of each table in one run.
const BATCH: i64 = 500;

/// Corrects stored times that no other write has corrected. See `domain/permit/step_back.rs`.
pub struct StepBack {
    engine: Engine,
    /// Number of steps of the clock that were dealt with. None: no round has ended yet.
    steps: Option<u64>,
    /// The round under way.
    round: Option<CorrectionRound>,
}

/// One walk over each table that stores times, a bounded number of pages in each run.
struct CorrectionRound {
    steps: u64,
    resources: Walk,
    permits: Walk,
    stages: Walk,
    jobs: Walk,
    leases: Walk,
}

impl StepBack {
    /// Begins with a round, since the clock may have stepped back before the start.
    pub fn new(engine: Engine) -> Self {
        Self { engine, steps: None, round: None }
    }
}

impl BackgroundJob for StepBack {
    const NAME: &'static str = "step_back";
    const EVERY: Duration = Duration::from_secs(5);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        // A round reads whole tables, so there is one only after a step.
        let steps = self.engine.shared().clock.steps();
        if self.round.is_none() && Some(steps) == self.steps {
            return Ok(0);
        }
        let round = self.round.get_or_insert_with(|| CorrectionRound::new(steps));
        let place = round.place();
        let changed = round.run(&self.engine).await?;
        if !round.is_over() {
            // The next run follows at once, unless nothing that was found can be changed now.
            let goes_on = changed > 0 || round.place() != place;
            return Ok(if goes_on { changed.max(Self::FULL) } else { 0 });
        }
        self.steps = Some(round.steps);
        self.round = None;
        Ok(changed)
    }
}

impl CorrectionRound {
    /// A round that takes as few runs as their bounds allow.
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

    /// Sum of the places of all walks.
    fn place(&self) -> i64 {
        self.walks().into_iter().map(Walk::place).sum()
    }

    /// Reads the next pages of each walk that is not over. Returns how much was changed.
    async fn run(&mut self, engine: &Engine) -> Result<usize> {
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
