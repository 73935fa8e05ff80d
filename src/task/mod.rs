//! Bounded loops: what is due by the clock, and what nobody else cleans up.
//!
//! A loop looks, does at most so much, and rests. What concerns all servers one of them does, by turns. What it does to jobs are
//! operations like any other, so that two at work would do no harm either: they are refused to all but one.

mod due;
mod figures;
mod followed;
mod housekeeping;
mod lines;
mod permits;
mod step_back;
mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::error::Result;
use turn::Turn;

/// How the loops go about it.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// For so long after a start or a loss of the database leases and permits from before it are spared: living holders renew first.
    pub reap_grace: Duration,
    /// Days for which history is kept.
    pub history_days: i32,
}

/// What one loop did since the start.
#[derive(Clone, Debug)]
pub struct LoopFigures {
    /// Its name.
    pub name: &'static str,
    /// How often it looked.
    pub runs: u64,
    /// How often that failed.
    pub failures: u64,
    /// What it dealt with.
    pub items: u64,
    /// When it last looked.
    pub last_run: Option<Timestamp>,
}

#[derive(Default)]
struct Counters {
    runs: AtomicU64,
    failures: AtomicU64,
    items: AtomicU64,
    last_run: AtomicI64,
}

/// The loops of a server.
pub struct Loops {
    counters: Vec<(&'static str, Arc<Counters>)>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    turn: Arc<Turn>,
}

/// A loop's work: looks once and says how much it did.
pub(crate) trait Chore: Send + 'static {
    /// What it is called.
    const NAME: &'static str;
    /// How long it rests.
    const EVERY: Duration;

    /// Whether one server at a time does it for all.
    const BY_TURNS: bool = true;

    /// Looks once, bounded; returns how much there was.
    fn run(&mut self) -> impl Future<Output = Result<usize>> + Send;

    /// So much at once means that there is more: no rest.
    const FULL: usize = usize::MAX;

    /// It could not be found out whose turn it is: the database is away.
    fn interrupted(&mut self) {}
}

impl Loops {
    /// Starts all loops; they end with `shutdown`.
    pub fn start(engine: &Engine, settings: TaskSettings, shutdown: &CancellationToken) -> Self {
        engine.shared().grace.begin(settings.reap_grace);
        let turn = Arc::new(Turn::new(engine.shared().store.clone()));
        let mut loops = Self { counters: Vec::new(), tasks: Mutex::default(), turn };
        loops.add(due::Reaper::new(engine.clone()), engine, shutdown);
        loops.add(due::Scheduler::new(engine.clone()), engine, shutdown);
        loops.add(followed::FollowedRecords::new(engine.clone()), engine, shutdown);
        loops.add(followed::FollowedResources::new(engine.clone()), engine, shutdown);
        loops.add(permits::Presence::new(engine.clone()), engine, shutdown);
        loops.add(permits::PermitReaper::new(engine.clone()), engine, shutdown);
        loops.add(permits::ForgottenPermits::new(engine.clone()), engine, shutdown);
        loops.add(lines::StageLines::new(engine.clone()), engine, shutdown);
        loops.add(permits::IdleResources::new(engine.clone()), engine, shutdown);
        loops.add(step_back::StepBack::new(engine.clone()), engine, shutdown);
        loops.add(housekeeping::Retire::new(engine.clone()), engine, shutdown);
        loops.add(housekeeping::Forget::new(engine.clone()), engine, shutdown);
        loops.add(housekeeping::RetireEnded::new(engine.clone()), engine, shutdown);
        loops.add(housekeeping::Sweep::new(engine.clone()), engine, shutdown);
        loops.add(housekeeping::Partitions::new(engine.clone(), settings.history_days), engine, shutdown);
        loops.add(figures::ReadyQueues::new(engine.clone()), engine, shutdown);
        loops.add(figures::Figures::new(engine.clone()), engine, shutdown);
        loops
    }

    /// Whether this server does what concerns all, as far as it knows without asking.
    pub fn has_turn(&self) -> bool {
        self.turn.is_known_to_be_ours()
    }

    fn add<C: Chore>(&mut self, mut chore: C, engine: &Engine, shutdown: &CancellationToken) {
        let counters = Arc::new(Counters::default());
        self.counters.push((C::NAME, counters.clone()));
        let (engine, turn, shutdown) = (engine.clone(), self.turn.clone(), shutdown.clone());
        let task = tokio::spawn(async move {
            let mut rest = tokio::time::interval(C::EVERY);
            rest.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = rest.tick() => {}
                }
                while counters.count(once(&mut chore, &turn).await, engine.now(), C::NAME) >= C::FULL
                    && !shutdown.is_cancelled()
                {}
            }
        });
        self.tasks.lock().push(task);
    }

    /// What each loop did.
    pub fn snapshot(&self) -> Vec<LoopFigures> {
        self.counters.iter().map(|(name, counters)| counters.figures(name)).collect()
    }

    /// Waits until all have ended; they do after `shutdown`.
    pub async fn ended(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            let _ended = task.await;
        }
        self.turn.give_up().await;
    }
}

/// Looks once, if it is this server's turn.
async fn once<C: Chore>(chore: &mut C, turn: &Turn) -> Result<usize> {
    if C::BY_TURNS && !turn.is_ours().await.inspect_err(|_| chore.interrupted())? {
        return Ok(0);
    }
    chore.run().await
}

impl Counters {
    fn count(&self, outcome: Result<usize>, now: Timestamp, name: &'static str) -> usize {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.last_run.store(now.0, Ordering::Relaxed);
        match outcome {
            Ok(items) => {
                self.items.fetch_add(items as u64, Ordering::Relaxed);
                items
            }
            Err(error) => {
                // It comes back by itself, so a word in the log is enough.
                tracing::debug!(%error, name, "a background loop could not do its work");
                self.failures.fetch_add(1, Ordering::Relaxed);
                0
            }
        }
    }

    fn figures(&self, name: &'static str) -> LoopFigures {
        let last_run = self.last_run.load(Ordering::Relaxed);
        LoopFigures {
            name,
            runs: self.runs.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
            last_run: (last_run > 0).then_some(Timestamp(last_run)),
        }
    }
}
