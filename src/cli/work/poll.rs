//! Asks for work until there is some, past outages of the server.

use std::time::{Duration, Instant};

use tonic::Status;
use uuid::Uuid;

use super::outcome::release;
use super::worker::Worker;
use crate::cli::failure::{Failed, error_line};
use crate::cli::pending::PendingStages;
use crate::cli::retry::RetrySchedule;
use crate::cli::text::note;
use crate::proto::{Lease, LeaseStagesRequest};

/// How long the server holds a call without work.
const WAIT: Duration = Duration::from_secs(30);
/// How much later than its wait a call is given up.
const MARGIN: Duration = Duration::from_secs(10);
/// Deadline of the call that finds out which leases an interrupted call was granted.
const GIVE_BACK: Duration = Duration::from_secs(5);
/// How long an outage may last: a worker waits for its server.
const OUTAGE: Duration = Duration::from_secs(u32::MAX as u64);
/// Jobs whose stages are listed for a hint, and the deadline of each of these calls.
const HINT: (usize, Duration) = (16, Duration::from_secs(2));

/// Leases stages.
pub(super) struct Poller<'a> {
    worker: &'a Worker,
    retry: RetrySchedule,
    /// Whether the server has answered. Until then an error ends the worker: after a typing mistake a retry is useless.
    has_begun: bool,
    is_warned: bool,
    /// By this the server tells a restarted worker from a second one of the same name.
    instance_id: Uuid,
    /// When a stage was last leased, or the worker started.
    worked: Instant,
}

impl<'a> Poller<'a> {
    /// A poller that has not asked yet.
    pub(super) fn new(worker: &'a Worker) -> Self {
        let retry = RetrySchedule::within(OUTAGE);
        let instance_id = Uuid::new_v4();
        Self { worker, retry, has_begun: false, is_warned: false, instance_id, worked: Instant::now() }
    }

    /// Leases 1 to `max` stages. None: the worker drains, or was idle for long enough; `is_idle` says whether no program runs.
    ///
    /// # Errors
    /// Errors that a retry cannot mend.
    pub(super) async fn lease(&mut self, max: usize, is_idle: impl Fn() -> bool) -> Result<Option<Vec<Lease>>, Failed> {
        let idle_limit = self.worker.options.exit_when_idle;
        loop {
            // The first answer comes at once, so that a mistake is reported at once.
            let wait = if self.has_begun { idle_limit.map_or(WAIT, |limit| limit.min(WAIT)) } else { Duration::ZERO };
            let is_first = !self.has_begun;
            let Some(leases) = self.ask(self.request(max, wait)).await? else { return Ok(None) };
            if !leases.is_empty() {
                self.worked = Instant::now();
                return Ok(Some(leases));
            }
            if is_first {
                self.say_what_is_waited_for().await;
            }
            if idle_limit.is_some_and(|limit| is_idle() && self.worked.elapsed() >= limit) {
                return Ok(None);
            }
        }
    }

    fn request(&self, max: usize, wait: Duration) -> LeaseStagesRequest {
        let options = &self.worker.options;
        LeaseStagesRequest {
            worker_id: options.worker_id.clone(),
            queues: options.queues.clone(),
            max_stages: i32::try_from(max).unwrap_or(i32::MAX),
            wait: wait.try_into().ok(),
            lease_duration: options.lease_duration,
            request_id: Some(Uuid::new_v4().to_string()),
            instance_id: Some(self.instance_id.to_string()),
            ..Default::default()
        }
    }

    /// Makes a call until its response is known. None: the worker drains.
    async fn ask(&mut self, request: LeaseStagesRequest) -> Result<Option<Vec<Lease>>, Failed> {
        loop {
            let answer = tokio::select! {
                biased;
                () = self.worker.drain.cancelled() => {
                    self.give_back(request).await;
                    return Ok(None);
                }
                answer = self.call(request.clone()) => answer,
            };
            let status = match answer {
                Ok(leases) => {
                    self.works();
                    return Ok(Some(leases));
                }
                Err(status) => status,
            };
            let failed = || Failed::call(&self.worker.client.server, &status);
            if !self.has_begun {
                return Err(failed());
            }
            let wait = self.retry.after(&status).ok_or_else(failed)?;
            if !std::mem::replace(&mut self.is_warned, true) {
                note(format!("{}; asking again until it responds", error_line(&self.worker.client.server, &status)));
            }
            tokio::select! {
                () = self.worker.drain.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn call(&self, request: LeaseStagesRequest) -> Result<Vec<Lease>, Status> {
        let client = &self.worker.client;
        let wait = request.wait.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or_default();
        let mut workers = client.workers();
        let call = workers.lease_stages(client.ask_within(wait + MARGIN, request));
        let answer = if wait.is_zero() { client.noticed(call).await } else { call.await };
        let answer = answer?.into_inner();
        if answer.worker_id_shared {
            let name = &self.worker.options.worker_id;
            note(format!("warning: another running worker is called {name} too: give each its own --worker-id"));
        }
        Ok(answer.leases)
    }

    fn works(&mut self) {
        self.retry.works();
        if std::mem::take(&mut self.is_warned) {
            note(format!("{} responds again", self.worker.client.server));
        }
        self.has_begun = true;
    }

    /// Gives back what an interrupted call was granted: the same call without a wait says what that is.
    async fn give_back(&self, request: LeaseStagesRequest) {
        if !self.has_begun || self.is_warned {
            return;
        }
        let client = &self.worker.client;
        let request = client.ask_within(GIVE_BACK, LeaseStagesRequest { wait: None, ..request });
        match client.workers().lease_stages(request).await {
            Ok(answer) => {
                for lease in answer.into_inner().leases {
                    release(self.worker, &lease.lease_token).await;
                }
            }
            Err(status) => {
                let line = error_line(&client.server, &status);
                note(format!("warning: leases of the last call may last until they expire: {line}"));
            }
        }
    }

    /// Says once that no stage is ready, and where one is.
    async fn say_what_is_waited_for(&self) {
        let (client, queues) = (&self.worker.client, &self.worker.options.queues);
        let (jobs, bound) = HINT;
        let pending = PendingStages::read(client, jobs, bound).await.ok();
        if let Some(hint) = pending.and_then(|pending| pending.elsewhere(queues)) {
            note(hint);
        }
        let (queues, server, namespace) = (queues.join(", "), &client.server, &client.namespace);
        note(format!("waiting for stages of {queues} at {server}, namespace {namespace}"));
    }
}
