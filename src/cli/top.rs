//! `interlock top`: what is ready and what runs now, on which workers.

mod feed;
mod figures;
mod running;
mod screen;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use console::Term;
use futures::future::join_all;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tonic::{Code, Status};

use self::feed::WatchEvent;
use self::figures::StatisticsLine;
use self::running::Running;
use super::client::{ApiClient, Connection};
use super::failure::{EXIT_CODES, Failed};
use super::json;
use super::output::Output;
use super::pending::PendingStages;
use super::retry::Patience;
use super::text::say;
use crate::proto::{self, StageState};

/// Interval of drawing and of reading the server's statistics.
const EVERY: Duration = Duration::from_secs(1);
/// Maximum number of jobs whose stages are listed per tick, all at once.
const LOOKS: usize = 8;
/// Deadline of these calls, which are repeated with each tick anyway.
const ANSWER: Duration = Duration::from_secs(2);
/// Deadline of the first answers, without which there is nothing to show.
const FIRST: Duration = Duration::from_secs(15);
/// Maximum number of stages listed of a job.
const STAGES: i32 = 1_000;
/// Maximum number of jobs whose ready stages are counted by queue.
const PENDING_JOBS: usize = 200;
/// Interval of counting ready stages.
const PENDING_EVERY: Duration = Duration::from_secs(3);

/// Show what is ready and what runs now, by queue, worker and job, once a second until it is interrupted.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Top {
    #[command(flatten)]
    connection: Connection,
    /// Print once and exit. The default where the output is JSON or no terminal.
    #[arg(long)]
    once: bool,
    /// Number of jobs whose stages are shown, the longest running first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    jobs: u16,
    #[command(flatten)]
    patience: Patience,
}

impl Top {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let events = feed::start(&client, &self.patience);
        let top = Looker { client, limit: usize::from(self.jobs), running: Running::default() };
        let is_table = self.connection.output == Output::Text;
        if is_table && !self.once && Term::stdout().is_term() {
            top.live(events).await?;
        } else {
            top.once(events, is_table).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads the state of a server.
struct Looker {
    client: ApiClient,
    /// Number of jobs whose stages are shown.
    limit: usize,
    running: Running,
}

impl Looker {
    async fn once(mut self, mut events: mpsc::Receiver<WatchEvent>, is_table: bool) -> anyhow::Result<()> {
        let caught_up = async {
            while !self.running.is_caught_up {
                match events.recv().await {
                    Some(WatchEvent::Response(update)) => self.running.update(*update),
                    Some(WatchEvent::Failed(failed)) => return Err(failed),
                    Some(WatchEvent::Started) => self.running = Running::default(),
                    Some(WatchEvent::Interrupted(_)) => {}
                    None => return Ok(()),
                }
            }
            Ok(())
        };
        let silent = Failed::call(&self.client.server, &Status::unavailable("no answer in time"));
        tokio::time::timeout(FIRST, caught_up).await.map_err(|_| silent)??;
        while self.look(FIRST).await? > 0 {}
        let statistics = self.statistics(FIRST).await?;
        let pending = PendingStages::read(&self.client, PENDING_JOBS, FIRST).await?;
        if is_table {
            let figures = StatisticsLine::of(&statistics, None);
            let lines = self.lines(&pending, &figures, None, super::text::width());
            return Ok(lines.iter().try_for_each(say)?);
        }
        let jobs: anyhow::Result<Vec<_>> =
            self.running.first(self.limit).map(|job| json::value(&job.whole())).collect();
        let shown = json!({
            "server": self.client.server,
            "namespace": self.client.namespace,
            "runningJobs": self.running.count(),
            "jobs": jobs?,
            "readyStages": pending.document(),
            "statistics": json::value(&statistics)?,
        });
        Ok(say(shown.to_string())?)
    }

    async fn live(mut self, mut events: mpsc::Receiver<WatchEvent>) -> anyhow::Result<()> {
        let term = Term::buffered_stdout();
        term.clear_screen()?;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = None;
        let mut before = None;
        let pending = pending(self.client.clone());
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(WatchEvent::Started) => self.running = Running::default(),
                    Some(WatchEvent::Response(update)) => {
                        trouble = None;
                        self.running.update(*update);
                    }
                    Some(WatchEvent::Interrupted(why)) => trouble = Some(why),
                    Some(WatchEvent::Failed(failed)) => return Err(failed.into()),
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    // A failure here is retried with the next tick; the watch reports that the server is away.
                    let _left = self.look(ANSWER).await;
                    let statistics = self.statistics(ANSWER).await.unwrap_or_default();
                    let figures = StatisticsLine::of(&statistics, before.as_ref());
                    before = Some(statistics);
                    self.draw(&term, &pending.borrow(), &figures, trouble.as_deref())?;
                }
            }
        }
    }

    fn lines(
        &self,
        pending: &PendingStages,
        figures: &StatisticsLine,
        trouble: Option<&str>,
        width: Option<usize>,
    ) -> Vec<String> {
        let view = screen::View { running: &self.running, limit: self.limit, pending, figures, trouble };
        screen::lines(&view, &self.client, width)
    }

    fn draw(
        &self,
        term: &Term,
        pending: &PendingStages,
        figures: &StatisticsLine,
        trouble: Option<&str>,
    ) -> anyhow::Result<()> {
        let (height, width) = term.size();
        let lines = self.lines(pending, figures, trouble, Some(usize::from(width)));
        term.move_cursor_to(0, 0)?;
        for line in lines.iter().take(usize::from(height).saturating_sub(1)) {
            term.clear_line()?;
            term.write_line(line)?;
        }
        term.clear_to_end_of_screen()?;
        Ok(term.flush()?)
    }

    /// Lists the running stages of jobs of which they are not known yet. Returns the number of these jobs.
    async fn look(&mut self, bound: Duration) -> Result<usize, Failed> {
        let unknown = self.running.unknown(self.limit, LOOKS);
        let client = &self.client;
        let looks = unknown.iter().map(|job_id| async move {
            let request = proto::ListStagesRequest {
                job_id: job_id.clone(),
                states: vec![StageState::Running.into()],
                page_size: STAGES,
                ..Default::default()
            };
            client.jobs().list_stages(client.ask_within(bound, request)).await
        });
        let answers = join_all(looks).await;
        for (job_id, answer) in unknown.iter().zip(answers) {
            let stages = match answer {
                Ok(answer) => answer.into_inner().stages,
                // The job was deleted meanwhile; the watch will say so.
                Err(status) if status.code() == Code::NotFound => Vec::new(),
                Err(status) => return Err(Failed::call(&self.client.server, &status)),
            };
            self.running.found(job_id, stages);
        }
        Ok(unknown.len())
    }

    /// The statistics of the server; empty for a key that may see its own namespaces only.
    async fn statistics(&self, bound: Duration) -> Result<proto::GetStatisticsResponse, Failed> {
        let request = self.client.ask_within(bound, proto::GetStatisticsRequest {});
        match self.client.noticed(self.client.admin().get_statistics(request)).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) if status.code() == Code::PermissionDenied => Ok(proto::GetStatisticsResponse::default()),
            Err(status) => Err(Failed::call(&self.client.server, &status)),
        }
    }
}

/// Counts ready stages again and again, until the receiver is dropped.
fn pending(client: ApiClient) -> watch::Receiver<PendingStages> {
    let (sender, receiver) = watch::channel(PendingStages::default());
    tokio::spawn(async move {
        while !sender.is_closed() {
            // A failure leaves the counts as they were; the watch reports that the server is away.
            if let Ok(pending) = PendingStages::read(&client, PENDING_JOBS, ANSWER).await {
                sender.send_replace(pending);
            }
            tokio::time::sleep(PENDING_EVERY).await;
        }
    });
    receiver
}
