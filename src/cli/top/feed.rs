//! The watch of all jobs that run, read in the background and begun anew when it breaks off.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::Status;

use crate::cli::client::Client;
use crate::cli::failure::{Failed, told};
use crate::cli::retry::{Patience, Retry};
use crate::proto;

/// News that wait for the next drawing; beyond that the stream waits.
const WAITING: usize = 1_024;
/// A stream that has lived for so long has worked.
const STEADY: Duration = Duration::from_secs(10);

/// What comes next.
pub enum News {
    /// The watch begins, or begins anew: all jobs that run are told of.
    Began,
    /// What it tells.
    Told(Box<proto::WatchJobsResponse>),
    /// It broke off, for this reason, and is tried again.
    Broken(String),
    /// It cannot go on.
    Failed(Failed),
}

/// Begins to watch; ends when nobody listens any more.
pub fn start(client: &Client, patience: &Patience) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(watch(client.clone(), Retry::new(patience), sender));
    receiver
}

async fn watch(client: Client, mut retry: Retry, sender: mpsc::Sender<News>) {
    let mut has_begun = false;
    loop {
        let opened = Instant::now();
        let Err(status) = read(&client, &sender, &mut has_begun).await else { return };
        if opened.elapsed() >= STEADY {
            retry.works();
        }
        let wait = retry.after(&status).filter(|_| has_begun);
        let news = match wait {
            Some(_) => News::Broken(told(&client.server, &status)),
            None => News::Failed(Failed::call(&client.server, &status)),
        };
        let Some(wait) = wait.filter(|_| !sender.is_closed()) else {
            let _gone = sender.send(news).await;
            return;
        };
        let _gone = sender.send(news).await;
        tokio::time::sleep(wait).await;
    }
}

/// Reads until the stream breaks off; well only if nobody listens any more.
async fn read(client: &Client, sender: &mpsc::Sender<News>, has_begun: &mut bool) -> Result<(), Status> {
    let request = proto::WatchJobsRequest { filter: "state = RUNNING".to_owned() };
    let mut stream = client.jobs().watch_jobs(client.open(request)).await?.into_inner();
    let mut news = News::Began;
    loop {
        if sender.send(news).await.is_err() {
            return Ok(());
        }
        let update = stream.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        *has_begun = true;
        news = News::Told(Box::new(update));
    }
}
