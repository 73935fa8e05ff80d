//! A worker on a Work stream.

use std::collections::VecDeque;
use std::time::Instant;

use interlock::proto::{self, WorkBegin, WorkRequest, WorkResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::{Api, PATIENCE, texts};

/// The client's side of a stream. Dropped, its connection stays and the stream is reset.
pub struct Session {
    requests: Option<mpsc::Sender<WorkRequest>>,
    responses: Streaming<WorkResponse>,
    pub leases: VecDeque<proto::Lease>,
    pub results: VecDeque<proto::StageOutcomeResult>,
    pub statuses: VecDeque<proto::WorkStatus>,
    pub is_draining: bool,
    pub shares_worker_id: bool,
    /// The number of leases received.
    pub received: i64,
}

/// The first message of a worker of one queue.
pub fn begin(queue: &str, capacity: i32) -> WorkRequest {
    let begin = WorkBegin { worker_id: "worker".to_owned(), queues: texts(&[queue]), ..Default::default() };
    WorkRequest { begin: Some(begin), capacity: Some(capacity), ..Default::default() }
}

impl Session {
    pub async fn open(api: &Api, first: WorkRequest) -> Session {
        Self::try_open(api, Request::new(first)).await.expect("an open stream")
    }

    /// Opens a stream, with the metadata of a request.
    pub async fn try_open(api: &Api, first: Request<WorkRequest>) -> Result<Session, Status> {
        let (requests, messages) = mpsc::channel(64);
        let (metadata, extensions, first) = first.into_parts();
        requests.send(first).await.expect("room");
        let request = Request::from_parts(metadata, extensions, ReceiverStream::new(messages));
        let responses = api.workers().work(request).await?.into_inner();
        Ok(Session {
            requests: Some(requests),
            responses,
            leases: VecDeque::new(),
            results: VecDeque::new(),
            statuses: VecDeque::new(),
            is_draining: false,
            shares_worker_id: false,
            received: 0,
        })
    }

    pub async fn send(&self, message: WorkRequest) {
        assert!(self.try_send(message).await, "the stream has ended");
    }

    /// Sends a message. False: the stream has ended.
    pub async fn try_send(&self, message: WorkRequest) -> bool {
        let requests = self.requests.as_ref().expect("the stream is open on this side");
        tokio::time::timeout(PATIENCE, requests.send(message)).await.expect("room in time").is_ok()
    }

    pub async fn tell(&self, outcomes: Vec<proto::StageOutcome>) {
        self.send(WorkRequest { outcomes, ..Default::default() }).await;
    }

    /// Confirms the leases that came.
    pub async fn confirm(&self) {
        self.send(WorkRequest { leases_received: Some(self.received), ..Default::default() }).await;
    }

    /// Ends the requests of the stream.
    pub fn close(&mut self) {
        self.requests = None;
    }

    /// Reads one message. False: the stream has ended with OK.
    pub async fn read(&mut self) -> Result<bool, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("a message in time")?;
        let Some(message) = message else { return Ok(false) };
        self.received += i64::try_from(message.leases.len()).expect("few");
        self.leases.extend(message.leases);
        self.results.extend(message.results);
        self.statuses.extend(message.statuses);
        self.is_draining |= message.draining;
        self.shares_worker_id |= message.worker_id_shared;
        Ok(true)
    }

    /// Reads until something holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Session) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(self.read().await.expect(what), "the stream ended before: {what}");
            assert!(Instant::now() < deadline, "not in time: {what}");
        }
    }

    /// Waits for `count` leases and returns them.
    pub async fn take(&mut self, count: usize) -> Vec<proto::Lease> {
        self.until("leases", |session| session.leases.len() >= count).await;
        self.leases.drain(..count).collect()
    }

    /// The results of so many outcomes.
    pub async fn results(&mut self, count: usize) -> Vec<proto::StageOutcomeResult> {
        self.until("results", |session| session.results.len() >= count).await;
        self.results.drain(..count).collect()
    }

    /// Waits for the status of one renewal.
    pub async fn status(&mut self) -> proto::WorkStatus {
        self.until("a status", |session| !session.statuses.is_empty()).await;
        self.statuses.pop_front().expect("a status")
    }

    /// The status that the stream ends with. None: OK.
    pub async fn ended(&mut self) -> Option<Status> {
        loop {
            match self.read().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}
