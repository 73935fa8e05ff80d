//! A watch of one job that goes on by itself after the connection was lost, or the server has gone.

use std::time::{Duration, Instant};

use tonic::{Code, Status, Streaming};

use crate::cli::client::ApiClient;
use crate::cli::failure::{Failed, error_line};
use crate::cli::retry::{Patience, RetrySchedule};
use crate::proto::watch_job_response::Update;
use crate::proto::{self, StageState};

/// Timeout for opening a stream.
const OPENING: Duration = Duration::from_secs(15);
/// Age at which a stream counts as healthy even without messages, so that the retry delay starts again.
const STEADY: Duration = Duration::from_secs(10);

/// Maximum number of stages on a page.
const PAGE: i32 = 1_000;

/// An event of the watch.
#[derive(Debug)]
pub enum FollowEvent {
    /// A message, with its decoded content.
    Response(proto::WatchJobResponse, Unpacked),
    /// The watch broke off for this reason and is retried after the wait.
    Interrupted(String, Duration),
}

/// The decoded content of a message, as in the proto.
#[derive(Debug)]
pub enum Unpacked {
    Snapshot(Box<proto::Job>),
    Change(Box<proto::JobChange>),
    Gap { oldest: i64 },
    Keepalive,
}

/// A watch of one job that reconnects by itself.
#[derive(Debug)]
pub struct Follow {
    client: ApiClient,
    job_id: String,
    /// Last version received; 0 requests a snapshot.
    version: i64,
    retry: RetrySchedule,
    stream: Option<(Streaming<proto::WatchJobResponse>, Instant)>,
    pause: Option<Duration>,
    /// Whether a message was received. Until then an error is returned at once: after a typing mistake a retry is useless.
    has_begun: bool,
}

impl Follow {
    /// Watches a job that may not exist, on a server that may not answer.
    pub fn new(client: ApiClient, job_id: String, patience: &Patience) -> Self {
        let retry = RetrySchedule::new(patience);
        Self { client, job_id, version: 0, retry, stream: None, pause: None, has_begun: false }
    }

    /// Watches a job that is known to exist.
    pub fn begun(client: ApiClient, job_id: String, patience: &Patience) -> Self {
        Self { has_begun: true, ..Self::new(client, job_id, patience) }
    }

    /// Waits for the next event. Must not be called after the job has ended.
    ///
    /// # Errors
    /// Errors that a retry cannot mend, or that lasted longer than `--retry-for`.
    pub async fn next(&mut self) -> Result<FollowEvent, Failed> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        match self.read().await {
            Ok((response, unpacked)) => {
                self.has_begun = true;
                self.retry.works();
                match &unpacked {
                    Unpacked::Snapshot(job) => self.version = job.version,
                    Unpacked::Change(change) => self.version = change.version,
                    Unpacked::Gap { .. } | Unpacked::Keepalive => {}
                }
                Ok(FollowEvent::Response(response, unpacked))
            }
            Err(status) => self.broken(&status),
        }
    }

    /// Lists running stages and those in backoff, at most one page: the snapshot of a job too large for one message may lack them. Empty
    /// if the call fails; they then show when they change.
    pub async fn at_work(&self) -> Vec<proto::Stage> {
        let request = proto::ListStagesRequest {
            job_id: self.job_id.clone(),
            states: [StageState::Running, StageState::Backoff].map(Into::into).to_vec(),
            page_size: PAGE,
            ..Default::default()
        };
        let answer = self.client.jobs().list_stages(self.client.ask_within(OPENING, request)).await;
        answer.map(|answer| answer.into_inner().stages).unwrap_or_default()
    }

    async fn read(&mut self) -> Result<(proto::WatchJobResponse, Unpacked), Status> {
        if self.stream.is_none() {
            let request = proto::WatchJobRequest { job_id: self.job_id.clone(), from_version: self.version };
            let mut jobs = self.client.jobs();
            let opening = tokio::time::timeout(OPENING, jobs.watch_job(self.client.open(request)));
            // Later, bars may be on the terminal.
            let opened = if self.has_begun { opening.await } else { self.client.noticed(opening).await };
            let stream = opened.map_err(|_| Status::unavailable("no answer in time"))??.into_inner();
            self.stream = Some((stream, Instant::now()));
        }
        let message = match &mut self.stream {
            Some((stream, _)) => stream.message().await?,
            None => None,
        };
        let response = message.ok_or_else(|| Status::unavailable("the stream ended before the job"))?;
        let unpacked = unpack(&response).map_err(|error| Status::data_loss(error.to_string()))?;
        Ok((response, unpacked))
    }

    fn broken(&mut self, status: &Status) -> Result<FollowEvent, Failed> {
        if self.stream.take().is_some_and(|(_, opened)| opened.elapsed() >= STEADY) {
            self.retry.works();
        }
        let failed = || Failed::call(&self.client.server, status);
        if !self.has_begun {
            return Err(failed());
        }
        // This server knows fewer revisions than the one before, so they were lost: request a snapshot.
        if status.code() == Code::OutOfRange {
            self.version = 0;
        }
        let wait = self.retry.after(status).ok_or_else(failed)?;
        self.pause = Some(wait);
        Ok(FollowEvent::Interrupted(error_line(&self.client.server, status), wait))
    }
}

fn unpack(response: &proto::WatchJobResponse) -> Result<Unpacked, prost::DecodeError> {
    use prost::Message as _;
    Ok(match &response.update {
        Some(Update::Snapshot(job)) => Unpacked::Snapshot(Box::new(proto::Job::decode(job.clone())?)),
        Some(Update::Change(change)) => Unpacked::Change(Box::new(proto::JobChange::decode(change.clone())?)),
        Some(Update::Gap(gap)) => Unpacked::Gap { oldest: gap.oldest_version },
        // Unknown updates come from a newer server.
        Some(Update::Keepalive(_)) | None => Unpacked::Keepalive,
    })
}
