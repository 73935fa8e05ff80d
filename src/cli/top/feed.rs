//! The watch of all running jobs, read in the background and started again when it breaks off.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::Status;

use crate::cli::client::ApiClient;
use crate::cli::failure::{Failed, error_line};
use crate::cli::retry::{Patience, RetrySchedule};
use crate::proto;

/// Updates buffered until the next drawing; beyond that the stream waits.
const BUFFERED: usize = 1_024;
/// Age at which a stream counts as healthy, so that the retry delay starts again.
const STEADY: Duration = Duration::from_secs(10);

/// An event of the watch.
pub enum WatchEvent {
    /// The watch starts, or starts again: all running jobs follow.
    Started,
    /// A message of the server.
    Response(Box<proto::WatchJobsResponse>),
    /// The watch broke off for this reason and is retried.
    Interrupted(String),
    /// The watch cannot continue.
    Failed(Failed),
}

/// Starts to watch; ends when the receiver is dropped.
pub fn start(client: &ApiClient, patience: &Patience) -> mpsc::Receiver<WatchEvent> {
    let (sender, receiver) = mpsc::channel(BUFFERED);
    tokio::spawn(watch(client.clone(), RetrySchedule::new(patience), sender));
    receiver
}

async fn watch(client: ApiClient, mut retry: RetrySchedule, sender: mpsc::Sender<WatchEvent>) {
    let mut has_begun = false;
    loop {
        let opened = Instant::now();
        let Err(status) = read(&client, &sender, &mut has_begun).await else { return };
        if opened.elapsed() >= STEADY {
            retry.works();
        }
        let wait = retry.after(&status).filter(|_| has_begun);
        let event = match wait {
            Some(_) => WatchEvent::Interrupted(error_line(&client.server, &status)),
            None => WatchEvent::Failed(Failed::call(&client.server, &status)),
        };
        let Some(wait) = wait.filter(|_| !sender.is_closed()) else {
            let _gone = sender.send(event).await;
            return;
        };
        let _gone = sender.send(event).await;
        tokio::time::sleep(wait).await;
    }
}

/// Reads until the stream breaks off. `Ok`: the receiver was dropped.
async fn read(client: &ApiClient, sender: &mpsc::Sender<WatchEvent>, has_begun: &mut bool) -> Result<(), Status> {
    let request = proto::WatchJobsRequest { filter: "state = RUNNING".to_owned() };
    let mut jobs = client.jobs();
    let opening = jobs.watch_jobs(client.open(request));
    // Later, tables are on the terminal.
    let opened = if *has_begun { opening.await } else { client.noticed(opening).await };
    let mut stream = opened?.into_inner();
    let mut event = WatchEvent::Started;
    loop {
        if sender.send(event).await.is_err() {
            return Ok(());
        }
        let update = stream.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        *has_begun = true;
        event = WatchEvent::Response(Box::new(update));
    }
}
