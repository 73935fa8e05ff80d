//! Server streams that a command opens again by itself after they broke off.

use std::time::{Duration, Instant};

use tonic::{Response, Status, Streaming};

use super::client::ApiClient;
use super::failure::{Failed, error_line};
use super::retry::{Patience, RetrySchedule};
use super::text::note;

/// Age at which a stream counts as healthy even without messages, so that the retry delay starts again.
const STEADY: Duration = Duration::from_secs(10);
/// Timeout for opening a stream again.
const OPENING: Duration = Duration::from_secs(15);

/// A stream of messages that is opened again after it broke off.
#[derive(Debug)]
pub struct SteadyStream<'a, T> {
    client: &'a ApiClient,
    retry: RetrySchedule,
    stream: Option<(Streaming<T>, Instant)>,
    /// Whether a message was received. Until then an error is returned at once: after a typing mistake a retry is useless.
    has_begun: bool,
}

impl<'a, T> SteadyStream<'a, T> {
    /// A stream that is not open yet.
    pub fn new(client: &'a ApiClient, patience: &Patience) -> Self {
        Self { client, retry: RetrySchedule::new(patience), stream: None, has_begun: false }
    }

    /// The next message. `open` opens the stream where the last message left it. Why it broke off is printed on the standard error.
    ///
    /// # Errors
    /// Errors that a retry cannot mend, or that lasted longer than `--retry-for`.
    pub async fn next(
        &mut self,
        open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
    ) -> Result<T, Failed> {
        self.next_or(open, |why| note(why)).await
    }

    /// As [`Self::next`], with `trouble` in place of the standard error.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_or(
        &mut self,
        mut open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
        mut trouble: impl FnMut(&str),
    ) -> Result<T, Failed> {
        loop {
            let status = match self.read(&mut open).await {
                Ok(message) => {
                    self.has_begun = true;
                    self.retry.works();
                    return Ok(message);
                }
                Err(status) => status,
            };
            if self.stream.take().is_some_and(|(_, opened)| opened.elapsed() >= STEADY) {
                self.retry.works();
            }
            let wait = self.retry.after(&status).filter(|_| self.has_begun);
            let Some(wait) = wait else { return Err(Failed::call(&self.client.server, &status)) };
            trouble(&format!("{}; again in {:.1} s", error_line(&self.client.server, &status), wait.as_secs_f64()));
            tokio::time::sleep(wait).await;
        }
    }

    async fn read(
        &mut self,
        open: &mut impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
    ) -> Result<T, Status> {
        if self.stream.is_none() {
            let opened = if self.has_begun {
                let opening = tokio::time::timeout(OPENING, open()).await;
                opening.unwrap_or_else(|_| Err(Status::unavailable("no answer in time")))
            } else {
                self.client.noticed(open()).await
            };
            self.stream = Some((opened?.into_inner(), Instant::now()));
        }
        let message = match &mut self.stream {
            Some((stream, _)) => stream.message().await?,
            None => None,
        };
        message.ok_or_else(|| Status::unavailable("the stream ended"))
    }
}
