//! `interlock top`: what runs now, on which workers.

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
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tonic::{Code, Status};

use self::feed::News;
use self::figures::Figures;
use self::running::Running;
use super::client::{Client, Connection};
use super::failure::Failed;
use super::retry::Patience;
use super::text::say;
use super::{Output, json};
use crate::proto::{self, StageState};

/// Between two drawings, and two looks at the server's figures.
const EVERY: Duration = Duration::from_secs(1);
/// Jobs whose stages are asked for at once, and in one tick.
const LOOKS: usize = 8;
/// For each of these questions, which are asked again anyway.
const ANSWER: Duration = Duration::from_secs(2);
/// For the first answers, without which there is nothing to show.
const FIRST: Duration = Duration::from_secs(15);
/// The most stages of a job that are asked for.
const STAGES: i32 = 1_000;

/// Show what runs now, by queue, worker and job, once a second until it is interrupted.
#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    connection: Connection,
    /// Show it once and end. So it is, too, where the output is no terminal or JSON.
    #[arg(long)]
    once: bool,
    /// The stages of how many jobs are looked at, those that run longest first.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    jobs: u16,
    #[command(flatten)]
    patience: Patience,
}

impl Top {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let news = feed::start(&client, &self.patience);
        let top = Looker { client, limit: usize::from(self.jobs), running: Running::default() };
        let is_table = self.connection.output == Output::Table;
        if is_table && !self.once && Term::stdout().is_term() {
            top.live(news).await?;
        } else {
            top.once(news, is_table).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Looks at a server.
struct Looker {
    client: Client,
    /// The stages of how many jobs are looked at.
    limit: usize,
    running: Running,
}

impl Looker {
    async fn once(mut self, mut news: mpsc::Receiver<News>, is_table: bool) -> anyhow::Result<()> {
        let caught_up = async {
            while !self.running.is_caught_up {
                match news.recv().await {
                    Some(News::Told(update)) => self.running.update(*update),
                    Some(News::Failed(failed)) => return Err(failed),
                    Some(News::Began) => self.running = Running::default(),
                    Some(News::Broken(_)) => {}
                    None => return Ok(()),
                }
            }
            Ok(())
        };
        let silent = Failed::call(&self.client.server, &Status::unavailable("no answer in time"));
        tokio::time::timeout(FIRST, caught_up).await.map_err(|_| silent)??;
        while self.look(FIRST).await? > 0 {}
        let statistics = self.statistics(FIRST).await?;
        if is_table {
            let figures = Figures::of(&statistics, None);
            for line in screen::lines(&self.running, self.limit, &self.client, &figures, None, super::text::width()) {
                say(line)?;
            }
            return Ok(());
        }
        let jobs: anyhow::Result<Vec<_>> =
            self.running.first(self.limit).map(|job| json::value(&job.whole())).collect();
        let shown = json!({
            "server": self.client.server,
            "namespace": self.client.namespace,
            "runningJobs": self.running.count(),
            "jobs": jobs?,
            "statistics": json::value(&statistics)?,
        });
        Ok(say(shown.to_string())?)
    }

    async fn live(mut self, mut news: mpsc::Receiver<News>) -> anyhow::Result<()> {
        let term = Term::buffered_stdout();
        term.clear_screen()?;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = None;
        let mut before = None;
        loop {
            tokio::select! {
                told = news.recv() => match told {
                    Some(News::Began) => self.running = Running::default(),
                    Some(News::Told(update)) => {
                        trouble = None;
                        self.running.update(*update);
                    }
                    Some(News::Broken(why)) => trouble = Some(why),
                    Some(News::Failed(failed)) => return Err(failed.into()),
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    // What fails here is asked again at the next tick; the watch tells of trouble.
                    let _left = self.look(ANSWER).await;
                    let statistics = self.statistics(ANSWER).await.unwrap_or_default();
                    let figures = Figures::of(&statistics, before.as_ref());
                    before = Some(statistics);
                    self.draw(&term, &figures, trouble.as_deref())?;
                }
            }
        }
    }

    fn draw(&self, term: &Term, figures: &Figures, trouble: Option<&str>) -> anyhow::Result<()> {
        let (height, width) = term.size();
        let lines = screen::lines(&self.running, self.limit, &self.client, figures, trouble, Some(usize::from(width)));
        term.move_cursor_to(0, 0)?;
        for line in lines.iter().take(usize::from(height).saturating_sub(1)) {
            term.clear_line()?;
            term.write_line(line)?;
        }
        term.clear_to_end_of_screen()?;
        Ok(term.flush()?)
    }

    /// Asks for the running stages of some jobs of which they are not known; says of how many they were asked.
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
                // It has gone meanwhile, as the watch will tell.
                Err(status) if status.code() == Code::NotFound => Vec::new(),
                Err(status) => return Err(Failed::call(&self.client.server, &status)),
            };
            self.running.found(job_id, stages);
        }
        Ok(unknown.len())
    }

    /// The figures of the server; none for a key that may see its own namespaces alone.
    async fn statistics(&self, bound: Duration) -> Result<proto::GetStatisticsResponse, Failed> {
        let request = self.client.ask_within(bound, proto::GetStatisticsRequest {});
        match self.client.admin().get_statistics(request).await {
            Err(status) if status.code() == Code::PermissionDenied => Ok(proto::GetStatisticsResponse::default()),
            answer => self.client.told(answer),
        }
    }
}
