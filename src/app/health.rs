//! Health of the server: reported to the health service, the metrics port and, when it changes, the log.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::engine::Engine;
use crate::store::Store;
use crate::store::health::Health;

/// Interval of the check.
const EVERY: Duration = Duration::from_secs(1);
/// Time without a refusal after which an overload counts as ended.
const CALM: Duration = Duration::from_secs(5);

/// Checks the health and reports it.
pub(super) struct Reporter {
    pub health: HealthReporter,
    pub engine: Engine,
    pub store: Store,
    /// True while the health service reports SERVING.
    pub serving: watch::Sender<bool>,
    pub shutdown: CancellationToken,
}

/// Service names for the health service; the empty name is the server as a whole.
fn full_name(service: &str) -> String {
    if service.is_empty() { String::new() } else { format!("interlock.v1.{service}") }
}

impl Reporter {
    /// Reports SERVING exactly while writes succeed, and NOT_SERVING otherwise and from the beginning of the drain on.
    pub(super) async fn run(self) {
        let names =
            ["", "JobService", "WorkerService", "RecordService", "PermitService", "TransactionService", "AdminService"]
                .map(full_name);
        let (mut reported, mut log) = (None, Log::new(&self.engine));
        loop {
            // The drain does not wait for a running check: watchers of the health are notified before they are ended.
            let ready = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => false,
                ready = self.is_ready() => ready,
            };
            let drains = self.shutdown.is_cancelled();
            let serves = ready && !drains;
            if reported != Some(serves) {
                let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                for name in &names {
                    self.health.set_service_status(name, status).await;
                }
                self.serving.send_replace(serves);
                reported = Some(serves);
            }
            if drains {
                return;
            }
            log.note_health(ready, &self.store);
            log.note_overload(&self.engine);
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// True if writes succeed and history has room for the next days. If only the connection of the health check fails,
    /// the server stays ready while the lanes have their connections.
    async fn is_ready(&self) -> bool {
        let engine = &self.engine;
        let (can_write, found) = tokio::join!(engine.can_write(), self.store.look(|moment| engine.wrote_since(moment)));
        self.store.target.figures.up.set(i64::from(can_write));
        can_write && found != Health::Bad
    }
}

/// Log lines about changes of health, and about overload as an episode.
struct Log {
    /// Readiness at the last check, and the time since it last changed. None: not checked yet.
    ready: Option<(bool, Instant)>,
    rejected: u64,
    overload: Option<Overload>,
}

struct Overload {
    began: Instant,
    last: Instant,
    /// Operations that were rejected before the episode.
    rejected_before: u64,
}

impl Log {
    fn new(engine: &Engine) -> Self {
        Self { ready: None, rejected: engine.shared().figures.rejected.get(), overload: None }
    }

    fn note_health(&mut self, ready: bool, store: &Store) {
        let now = Instant::now();
        let since = match self.ready {
            Some((was, _)) if was == ready => return,
            Some((_, since)) => Some(since),
            None => None,
        };
        self.ready = Some((ready, now));
        let seconds = since.map(|since| (now - since).as_secs_f64());
        let trouble = store.target.figures.trouble();
        match (ready, seconds) {
            (true, None) => tracing::info!("serving: the database takes writes"),
            (true, Some(after_seconds)) => {
                tracing::info!(after_seconds, trouble, "serving again: the database takes writes");
            }
            (false, served_seconds) => {
                tracing::warn!(served_seconds, trouble, "not serving: the database takes no writes");
            }
        }
        if ready {
            store.target.figures.forget_trouble();
        }
    }

    fn note_overload(&mut self, engine: &Engine) {
        let (now, rejected) = (Instant::now(), engine.shared().figures.rejected.get());
        let before = std::mem::replace(&mut self.rejected, rejected);
        match &mut self.overload {
            None if rejected > before => {
                tracing::warn!(
                    refused = rejected - before,
                    "overload begins: new work is refused because too much waits"
                );
                self.overload = Some(Overload { began: now, last: now, rejected_before: before });
            }
            Some(overload) if rejected > before => overload.last = now,
            Some(overload) if now - overload.last >= CALM => {
                let lasted_seconds = (overload.last - overload.began).as_secs_f64();
                let refused = rejected - overload.rejected_before;
                tracing::info!(lasted_seconds, refused, "overload is over");
                self.overload = None;
            }
            None | Some(_) => {}
        }
    }
}
