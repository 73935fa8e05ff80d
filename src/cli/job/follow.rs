//! A watch of one job that goes on by itself after the connection was lost, or the server has gone.

use std::time::{Duration, Instant};

use tonic::{Code, Status, Streaming};

use crate::cli::client::Client;
use crate::cli::failure::{Failed, told};
use crate::cli::retry::{Patience, Retry};
use crate::proto::watch_job_response::Update;
use crate::proto::{self, StageState};

/// For a stream to begin.
const OPENING: Duration = Duration::from_secs(15);
/// A stream that has lived for so long has worked, even if nothing happened on it.
const STEADY: Duration = Duration::from_secs(10);

/// The most stages on a page.
const PAGE: i32 = 1_000;

/// What comes next.
#[derive(Debug)]
pub enum News {
    /// A message, unpacked.
    Told(proto::WatchJobResponse, Unpacked),
    /// Nothing for now: the watch broke off, for this reason, and is tried again after a wait.
    Broken(String, Duration),
}

/// What the message holds.
#[derive(Debug)]
#[allow(missing_docs)] // As in the proto.
pub enum Unpacked {
    Snapshot(Box<proto::Job>),
    Change(Box<proto::JobChange>),
    Gap { oldest: i64 },
    Keepalive,
}

/// A watch.
#[derive(Debug)]
pub struct Follow {
    client: Client,
    job_id: String,
    /// The version told last; 0 asks for a snapshot.
    version: i64,
    retry: Retry,
    stream: Option<(Streaming<proto::WatchJobResponse>, Instant)>,
    pause: Option<Duration>,
    /// Whether there is something to go on with. Until then a failure is told at once: who mistypes shall not wait.
    has_begun: bool,
}

impl Follow {
    /// Of a job that may not be there, on a server that may not be there.
    pub fn new(client: Client, job_id: String, patience: &Patience) -> Self {
        let retry = Retry::new(patience);
        Self { client, job_id, version: 0, retry, stream: None, pause: None, has_begun: false }
    }

    /// Of a job that is known to be there.
    pub fn begun(client: Client, job_id: String, patience: &Patience) -> Self {
        Self { has_begun: true, ..Self::new(client, job_id, patience) }
    }

    /// What comes next. After the job has ended, do not ask again.
    ///
    /// # Errors
    /// What trying again does not mend, or has not mended for too long.
    pub async fn next(&mut self) -> Result<News, Failed> {
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
                Ok(News::Told(response, unpacked))
            }
            Err(status) => self.broken(&status),
        }
    }

    /// The stages that are at work, up to a page of them: of a job that is too large for one message, the snapshot may
    /// not have them. Without an answer they show when they change.
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
            let stream = opening.await.map_err(|_| Status::unavailable("no answer in time"))??.into_inner();
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

    fn broken(&mut self, status: &Status) -> Result<News, Failed> {
        if self.stream.take().is_some_and(|(_, opened)| opened.elapsed() >= STEADY) {
            self.retry.works();
        }
        let failed = || Failed::call(&self.client.server, status);
        if !self.has_begun {
            return Err(failed());
        }
        // This server knows less than the one before, which can only have been lost: begin anew.
        if status.code() == Code::OutOfRange {
            self.version = 0;
        }
        let wait = self.retry.after(status).ok_or_else(failed)?;
        self.pause = Some(wait);
        Ok(News::Broken(told(&self.client.server, status), wait))
    }
}

fn unpack(response: &proto::WatchJobResponse) -> Result<Unpacked, prost::DecodeError> {
    use prost::Message as _;
    Ok(match &response.update {
        Some(Update::Snapshot(job)) => Unpacked::Snapshot(Box::new(proto::Job::decode(job.clone())?)),
        Some(Update::Change(change)) => Unpacked::Change(Box::new(proto::JobChange::decode(change.clone())?)),
        Some(Update::Gap(gap)) => Unpacked::Gap { oldest: gap.oldest_version },
        // One that a newer server sends is nothing that this program knows of.
        Some(Update::Keepalive(_)) | None => Unpacked::Keepalive,
    })
}
