//! The loop of one stream, its events and their handling. `leasing` has the messages that the server sends without a request.

mod leasing;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join, pending};
use futures::stream::{FuturesOrdered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::held::Held;
use super::{Message, message, token_of};
use crate::admission::StreamCharge;
use crate::domain::id::{JobKey, LeaseToken};
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::engine::dispatcher::Leases;
use crate::error::{Error, Result};
use crate::feed::KeepaliveTimer;
use crate::proto;
use crate::rpc::caller::Caller;
use crate::rpc::convert::worker::WorkParameters;
use crate::rpc::limits::OUTCOMES_PER_CALL;
use crate::rpc::stage_writes::StageWrite;
use crate::rpc::streams::unread;
use crate::rpc::{heartbeat, outcomes};

/// Unanswered outcomes and renewals. At this number no further message is read.
const UNANSWERED_ITEMS: usize = 1_000;
/// Bytes of unanswered messages. At this size no further message is read.
const UNANSWERED_BYTES: usize = 1 << 20;
/// Unanswered messages. At this number no further message is read.
const UNANSWERED_MESSAGES: usize = 64;
/// Pause after a poll that failed.
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// Time in which a worker can report outcomes after the server has begun to drain.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Phase of a stream.
enum Phase {
    Open,
    /// The server stops. No more leases are sent, and the stream ends at this time or when no lease is held.
    Draining(Instant),
    /// No further message is read. The stream ends with this status once all unanswered messages are answered. None: OK.
    Ending(Option<Status>),
}

/// Result of one message.
struct Handled {
    results: Vec<proto::StageOutcomeResult>,
    statuses: Vec<(LeaseToken, proto::LeaseStatus)>,
    /// Leases that the outcomes of the message ended.
    ended: Vec<LeaseToken>,
    items: usize,
    bytes: usize,
}

type Polled = Result<(Leases, Vec<proto::Lease>)>;
type Seen = Vec<(JobKey, Result<Option<Arc<Job>>>)>;

enum Event {
    Handled(Result<Handled>),
    Polled(Polled),
    Seen(Seen),
    Received(std::result::Result<Option<proto::WorkRequest>, Status>),
    Drain,
    Keepalive,
    /// A timer has elapsed or the inbox has notices; the next iteration of the loop handles them.
    Woken,
    /// The reader of the responses is gone: the client disconnected, or its credential or deadline expired.
    Gone,
}

/// State of one stream.
pub struct WorkSession {
    caller: Caller,
    begin: WorkParameters,
    charge: Option<StreamCharge>,
    inbound: Streaming<proto::WorkRequest>,
    responses: mpsc::Sender<proto::WorkResponse>,
    capacity: usize,
    held: Held,
    phase: Phase,
    /// Unanswered messages, in the order of arrival.
    handling: FuturesOrdered<BoxFuture<'static, Result<Handled>>>,
    unanswered_items: usize,
    unanswered_bytes: usize,
    polling: Option<BoxFuture<'static, Polled>>,
    /// End of the pause after a failed poll. None: there is no pause.
    rests_until: Option<Instant>,
    looking: Option<BoxFuture<'static, Seen>>,
    looks_at: Option<Instant>,
    keepalive: KeepaliveTimer,
}

/// The reader of the responses is gone or has stopped reading.
struct Gone;

impl WorkSession {
    pub fn new(
        caller: Caller,
        begin: WorkParameters,
        charge: Option<StreamCharge>,
        inbound: Streaming<proto::WorkRequest>,
        responses: mpsc::Sender<proto::WorkResponse>,
    ) -> Self {
        let services = &caller.services;
        Self {
            held: Held::new(services.engine.clone(), caller.namespace),
            keepalive: KeepaliveTimer::new(services.hub.settings.keepalive),
            caller,
            begin,
            charge,
            inbound,
            responses,
            capacity: 1,
            phase: Phase::Open,
            handling: FuturesOrdered::new(),
            unanswered_items: 0,
            unanswered_bytes: 0,
            polling: None,
            rests_until: None,
            looking: None,
            looks_at: None,
        }
    }

    /// Serves the stream to its end. Returns its status. None: OK.
    pub async fn run(mut self, first: Message) -> Option<Status> {
        // The worker runs as long as its stream.
        let (_runs, worker_id_shared) = self.caller.instance_call(&self.begin.worker_id, self.begin.instance_id);
        let began = self.send(proto::WorkResponse { worker_id_shared, ..Default::default() }).await;
        if let Err(refusal) = self.take(first) {
            return Some(Error::from(refusal).into());
        }
        if began.is_err() {
            return Some(stalled());
        }
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            let event = self.next().await;
            if self.on(event).await.is_err() {
                return Some(stalled());
            }
        }
    }

    /// Final status of the stream, where an inner None is OK. None: the stream continues.
    fn end(&mut self) -> Option<Option<Status>> {
        if !self.handling.is_empty() {
            return None;
        }
        match &mut self.phase {
            Phase::Ending(status) => Some(status.take()),
            Phase::Draining(_) if self.held.len() == 0 => Some(Some(Error::Draining.into())),
            Phase::Draining(_) | Phase::Open => None,
        }
    }

    async fn next(&mut self) -> Event {
        self.poll_for_leases();
        self.look_at_jobs();
        let reads = !matches!(self.phase, Phase::Ending(_))
            && self.handling.len() < UNANSWERED_MESSAGES
            && self.unanswered_items < UNANSWERED_ITEMS
            && self.unanswered_bytes < UNANSWERED_BYTES;
        let shutdown = &self.caller.services.shutdown;
        let is_open = matches!(self.phase, Phase::Open);
        let drained = match self.phase {
            Phase::Draining(until) => Some(until),
            Phase::Open | Phase::Ending(_) => None,
        };
        let timer = [drained, self.rests_until, self.looks_at].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = self.responses.closed() => Event::Gone,
            Some(handled) = self.handling.next() => Event::Handled(handled),
            polled = done(&mut self.polling) => Event::Polled(polled),
            seen = done(&mut self.looking) => Event::Seen(seen),
            received = self.inbound.message(), if reads => Event::Received(received),
            () = shutdown.cancelled(), if is_open => Event::Drain,
            () = self.held.inbox().filled() => Event::Woken,
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => Event::Woken,
            () = self.keepalive.elapsed() => Event::Keepalive,
        }
    }

    async fn on(&mut self, event: Event) -> std::result::Result<(), Gone> {
        match event {
            Event::Handled(handled) => self.acknowledge(handled).await,
            Event::Polled(polled) => self.deliver(polled).await,
            Event::Seen(seen) => self.send_statuses(seen).await,
            Event::Received(received) => {
                self.receive(received);
                Ok(())
            }
            Event::Drain => {
                self.phase = Phase::Draining(Instant::now() + DRAIN_GRACE);
                self.polling = None;
                self.send(proto::WorkResponse { draining: true, ..Default::default() }).await
            }
            Event::Keepalive => self.send(proto::WorkResponse::default()).await,
            Event::Woken => {
                self.note_time();
                Ok(())
            }
            Event::Gone => Err(Gone),
        }
    }

    fn note_time(&mut self) {
        let now = Instant::now();
        if matches!(self.phase, Phase::Draining(until) if until <= now) {
            self.finish(Some(Error::Draining.into()));
        }
        if self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
        }
    }

    /// Ends the stream with this status once all unanswered messages are answered. None: OK.
    fn finish(&mut self, status: Option<Status>) {
        self.polling = None;
        self.phase = Phase::Ending(status);
    }

    fn receive(&mut self, received: std::result::Result<Option<proto::WorkRequest>, Status>) {
        let message = match received {
            Ok(Some(given)) => message(self.caller.namespace, given).and_then(|message| self.take(message)),
            Ok(None) => return self.finish(None),
            Err(status) => return self.finish(Some(unread(status))),
        };
        if let Err(refusal) = message {
            self.finish(Some(Error::from(refusal).into()));
        }
    }

    /// Applies the capacity and receipts of a message, and starts its outcomes and renewals.
    fn take(&mut self, message: Message) -> std::result::Result<(), Refusal> {
        let Message { capacity, leases_received, outcomes, renewals, bytes } = message;
        if let Some(received) = leases_received {
            let sent = self.held.sent();
            if received > sent {
                let why = format!("is {received}, but {sent} leases were sent on this stream");
                return Err(Refusal::field("leases_received", why));
            }
            self.held.confirm_first(received);
        }
        if let Some(capacity) = capacity {
            if capacity < self.capacity {
                // The poll may ask for too many stages. Leases that it is granted now are released.
                self.polling = None;
            }
            self.capacity = capacity;
        }
        let tokens: Vec<Option<LeaseToken>> = outcomes.iter().map(token_of).collect();
        let renewed = renewals.iter().map(|renewal| &renewal.token);
        tokens.iter().flatten().chain(renewed).for_each(|token| self.held.confirm(token));
        let items = outcomes.len() + renewals.len();
        self.unanswered_items += items;
        self.unanswered_bytes += bytes;
        let (caller, charge) = (self.caller.clone(), self.charge.clone());
        self.handling.push_back(Box::pin(async move {
            if let Some(charge) = charge {
                charge.take(items.max(1)).await;
            }
            let renewed_tokens: Vec<LeaseToken> = renewals.iter().map(|renewal| renewal.token).collect();
            let (written, renewed) = join(outcomes::each(&caller, outcomes), heartbeat::renew(&caller, renewals)).await;
            let ended = tokens.into_iter().zip(&written).filter_map(|(token, written)| token.filter(|_| ends(written)));
            let ended = ended.collect();
            // A failed renewal has no status, so that the worker sends it again.
            let statuses = renewed_tokens.into_iter().zip(renewed.unwrap_or_default()).collect();
            Ok(Handled { results: outcomes::results(written, None)?, statuses, ended, items, bytes })
        }));
        Ok(())
    }

    /// Sends the results of a message, together with those of following messages that are done too.
    async fn acknowledge(&mut self, handled: Result<Handled>) -> std::result::Result<(), Gone> {
        let mut response = proto::WorkResponse::default();
        let mut next = Some(handled);
        while let Some(handled) = next.take() {
            let handled = match handled {
                Ok(handled) => handled,
                Err(error) => {
                    self.finish(Some(error.into()));
                    break;
                }
            };
            self.unanswered_items -= handled.items;
            self.unanswered_bytes -= handled.bytes;
            handled.ended.iter().for_each(|token| self.held.end(token));
            response.results.extend(handled.results);
            for (token, status) in handled.statuses {
                self.held.note(&token, status.directive());
                response.statuses.push(work_status(&token, status));
            }
            if response.results.len() + response.statuses.len() < OUTCOMES_PER_CALL {
                next = self.handling.next().now_or_never().flatten();
            }
        }
        if response == proto::WorkResponse::default() {
            return Ok(());
        }
        self.send(response).await
    }

    /// Sends a response. Fails if the reader does not make room for it within the keepalive interval.
    async fn send(&mut self, response: proto::WorkResponse) -> std::result::Result<(), Gone> {
        self.keepalive.reset();
        match timeout(self.caller.services.hub.settings.keepalive, self.responses.send(response)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

/// Waits for the future in a slot, then empties the slot. Never ends if the slot is empty.
async fn done<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return pending().await };
    let output = future.await;
    *slot = None;
    output
}

/// Whether the lease of an outcome has ended: the outcome was applied, or refused because the lease was lost or the transition is invalid.
fn ends(written: &Result<StageWrite>) -> bool {
    matches!(written, Ok(_) | Err(Error::Refused(Refusal::LeaseLost | Refusal::InvalidTransition { .. })))
}

fn work_status(token: &LeaseToken, status: proto::LeaseStatus) -> proto::WorkStatus {
    proto::WorkStatus { lease_token: token.to_string(), status: Some(status) }
}

/// Status of a stream whose reader stopped reading. It arrives if the reader continues.
fn stalled() -> Status {
    Error::Overloaded { why: "the worker did not read what was sent to it", retry_after: POLL_PAUSE }.into()
}
