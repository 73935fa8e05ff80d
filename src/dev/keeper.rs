//! Restarts the private Postgres of `interlock dev` when it ends: there is no service manager to do it.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::DevError;
use super::postgres::{Postgres, tail};
use super::process::Process;

/// Starts, none of which lasted, before it is given up.
const STARTS: u32 = 5;
/// The pause before the second of them; each further one is twice as long. The first is made at once.
const PAUSE: Duration = Duration::from_millis(250);
/// A start that lasted so long was a good one.
const LASTING: Duration = Duration::from_secs(60);
/// Between two looks whether it runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Postgres {
    /// Starts it again whenever it ends by itself. Returns when that is no use, with the reason.
    pub async fn keep_running(&self) -> DevError {
        let mut starts = 0;
        loop {
            let began = Instant::now();
            let status = self.ended().await;
            if began.elapsed() >= LASTING {
                starts = 0;
            }
            let mut last = DevError::Program { program: "postgres", status, output: tail(&self.log()) };
            loop {
                tracing::warn!(error = %last, "Postgres is started again");
                if starts == STARTS {
                    return DevError::Ended { starts, last: Box::new(last) };
                }
                tokio::time::sleep(pause(starts)).await;
                starts += 1;
                match self.start_again().await {
                    Ok(()) => break,
                    Err(error) => last = error,
                }
                // One that runs and does not answer is in the way of the next.
                self.kill().await;
            }
        }
    }

    async fn ended(&self) -> ExitStatus {
        loop {
            if let Some(status) = self.with_process(Process::status) {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How long to wait after so many starts.
fn pause(starts: u32) -> Duration {
    starts.checked_sub(1).map_or(Duration::ZERO, |before| PAUSE * 2_u32.pow(before))
}
