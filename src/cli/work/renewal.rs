//! Keeps the lease of one attempt: heartbeats with progress, until the attempt must stop.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use crate::cli::client::ApiClient;
use crate::cli::failure::error_line;
use crate::cli::text::note;
use crate::proto::{HeartbeatRequest, Lease, LeaseDirective, LeaseRenewal, LeaseStatus};

/// Shortest time between two heartbeats: progress that comes faster is merged.
const MERGE: Duration = Duration::from_millis(500);
/// Delay after a heartbeat that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Deadline of a heartbeat.
const ANSWER: Duration = Duration::from_secs(5);
/// Where a lease does not say how long it lasts or how often to renew it, which every server does.
const USUAL: (Duration, Duration) = (Duration::from_secs(90), Duration::from_secs(10));

/// Progress of an attempt, as its program reported it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AttemptProgress {
    /// 0 to 1. None: not reported.
    pub progress: Option<f64>,
    /// None: not reported.
    pub message: Option<String>,
}

/// Why an attempt must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Its job is being cancelled, or has failed.
    Cancelled,
    /// Its lease is lost, or could not be renewed in time.
    Lost,
}

/// The heartbeats of one lease.
pub(super) struct Renewals<'a> {
    client: &'a ApiClient,
    lease_token: String,
    interval: Duration,
    latest: watch::Receiver<AttemptProgress>,
    /// Whether more progress can come.
    is_open: bool,
    expires: Instant,
    last: Instant,
    is_warned: bool,
}

impl<'a> Renewals<'a> {
    /// Heartbeats of a lease that was just granted, with the progress of `latest`.
    pub(super) fn new(client: &'a ApiClient, lease: &Lease, latest: watch::Receiver<AttemptProgress>) -> Self {
        let (ttl, interval) = (positive(lease.ttl, USUAL.0), positive(lease.heartbeat_interval, USUAL.1));
        let now = Instant::now();
        let lease_token = lease.lease_token.clone();
        Self { client, lease_token, interval, latest, is_open: true, expires: now + ttl, last: now, is_warned: false }
    }

    /// Time until the lease expires, by the last heartbeat.
    pub(super) fn left(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }

    /// Sends heartbeats until the attempt must stop.
    pub(super) async fn run(&mut self) -> StopReason {
        loop {
            self.due().await;
            match self.renew().await {
                Ok(status) => match status.directive() {
                    LeaseDirective::Cancel => return StopReason::Cancelled,
                    LeaseDirective::Lost => return StopReason::Lost,
                    // A pause is an advice to stop at the next good point, which only the program knows.
                    LeaseDirective::Pause | LeaseDirective::Continue | LeaseDirective::Unspecified => {}
                },
                Err(status) => self.warn(&status),
            }
            if Instant::now() >= self.expires {
                return StopReason::Lost;
            }
        }
    }

    /// Waits until the next heartbeat is due: after the interval, or after news of progress.
    async fn due(&mut self) {
        let due = (self.last + if self.is_warned { RETRY } else { self.interval }).min(self.expires);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = news(&mut self.latest, &mut self.is_open), if !self.is_warned => {
                tokio::time::sleep_until((self.last + MERGE).min(due)).await;
            }
        }
    }

    async fn renew(&mut self) -> Result<LeaseStatus, Status> {
        let AttemptProgress { progress, message } = self.latest.borrow_and_update().clone();
        let renewal = LeaseRenewal { lease_token: self.lease_token.clone(), progress, message };
        self.last = Instant::now();
        let bound = ANSWER.min(self.left().max(RETRY));
        let request = self.client.ask_within(bound, HeartbeatRequest { renewals: vec![renewal] });
        let answer = self.client.workers().heartbeat(request).await?.into_inner();
        let status = answer.statuses.into_iter().next().unwrap_or_default();
        self.expires = self.last + positive(status.ttl, self.interval);
        self.is_warned = false;
        Ok(status)
    }

    fn warn(&mut self, status: &Status) {
        if !std::mem::replace(&mut self.is_warned, true) {
            let line = error_line(&self.client.server, status);
            note(format!("{line}; the lease lasts for another {:.0} s", self.left().as_secs_f64()));
        }
    }
}

/// Waits for news; for ever once no more can come.
async fn news(latest: &mut watch::Receiver<AttemptProgress>, is_open: &mut bool) {
    if *is_open && latest.changed().await.is_ok() {
        return;
    }
    *is_open = false;
    std::future::pending::<()>().await;
}

/// A duration of a message; `usual` if it has none.
fn positive(duration: Option<prost_types::Duration>, usual: Duration) -> Duration {
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.filter(|duration| !duration.is_zero()).unwrap_or(usual)
}
