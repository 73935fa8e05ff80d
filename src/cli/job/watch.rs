//! `interlock job watch`: follows a job to its end, as bars, lines or JSON.

use std::pin::pin;
use std::process::ExitCode;

use clap::Args;
use console::Term;

use super::bars::Bars;
use super::follow::{Follow, FollowEvent, Unpacked};
use super::lines;
use super::picture::Picture;
use crate::cli::client::ApiClient;
use crate::cli::failure::{Exit, Failed};
use crate::cli::json;
use crate::cli::output::Output;
use crate::cli::retry::Patience;
use crate::cli::text::{job_state, note, plain, say};
use crate::proto::{self, JobState};

/// The job to watch.
#[derive(Debug, Args)]
pub(super) struct WatchCommand {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
    #[command(flatten)]
    patience: Patience,
}

impl WatchCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        run(Follow::new(client.clone(), self.job_id, &self.patience), output).await
    }
}

/// How a watch is shown.
enum View {
    Bars(Bars),
    Lines,
    Json,
}

/// Follows a job to its end. The exit code is 1 if it did not succeed.
pub(super) async fn run(mut follow: Follow, output: Output) -> anyhow::Result<ExitCode> {
    let mut view = match output {
        Output::Json => View::Json,
        Output::Text if Term::stdout().is_term() => View::Bars(Bars::new()),
        Output::Text => View::Lines,
    };
    let mut picture = Picture::default();
    while !picture.has_ended() {
        match next(&mut follow, &mut view, &picture).await {
            Ok(FollowEvent::Response(response, unpacked)) => {
                match &unpacked {
                    Unpacked::Snapshot(job) => picture.show(job),
                    Unpacked::Change(change) => picture.change(change),
                    Unpacked::Gap { .. } | Unpacked::Keepalive => {}
                }
                if matches!((&view, &unpacked), (View::Bars(_), Unpacked::Snapshot(_))) && picture.is_cut() {
                    follow.at_work().await.iter().for_each(|stage| picture.put(stage));
                }
                view.show(&response, &unpacked, &picture)?;
            }
            Ok(FollowEvent::Interrupted(why, wait)) => {
                view.trouble(&format!("{why}; again in {:.1} s", wait.as_secs_f64()));
            }
            Err(failed) => {
                view.end(&picture);
                return Err(failed.into());
            }
        }
    }
    view.end(&picture);
    if picture.state == JobState::Succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    let why = picture.failure.map(|why| format!(": {why}")).unwrap_or_default();
    note(plain(&format!("{} {}{why}", picture.job_id, job_state(picture.state))));
    Ok(Exit::NotSucceeded.into())
}

/// Waits for the next event, and draws the bars meanwhile.
async fn next(follow: &mut Follow, view: &mut View, picture: &Picture) -> Result<FollowEvent, Failed> {
    let mut next = pin!(follow.next());
    loop {
        match view {
            View::Bars(bars) => tokio::select! {
                biased;
                () = bars.due() => bars.draw(picture),
                event = &mut next => return event,
            },
            View::Lines | View::Json => return next.await,
        }
    }
}

impl View {
    fn show(&mut self, response: &proto::WatchJobResponse, news: &Unpacked, picture: &Picture) -> anyhow::Result<()> {
        match self {
            View::Bars(bars) => bars.touch(),
            View::Json => say(json::text(response)?)?,
            View::Lines => match news {
                Unpacked::Snapshot(job) => say(lines::snapshot(job, picture))?,
                Unpacked::Change(change) => say(lines::change(change, picture))?,
                Unpacked::Gap { oldest } => say(format!("       history before version {oldest} was deleted"))?,
                Unpacked::Keepalive => {}
            },
        }
        Ok(())
    }

    /// Reports that the watch broke off: on the standard error where programs read the output.
    fn trouble(&mut self, why: &str) {
        match self {
            View::Bars(bars) => bars.trouble(why.to_owned()),
            View::Lines | View::Json => note(why),
        }
    }

    fn end(&mut self, picture: &Picture) {
        if let View::Bars(bars) = self {
            bars.end(picture);
        }
    }
}
