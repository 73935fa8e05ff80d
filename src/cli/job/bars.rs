//! A watched job in a terminal: a bar for the job, and one for each stage that fits.

use std::time::{Duration, Instant};

use console::{Term, measure_text_width, pad_str, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::picture::Picture;
use super::plan::{BarPlan, plan};
use crate::cli::text::{job_state, percent, plain, stage_state};
use crate::proto::{JobState, StageState};

/// Steps of a bar.
const STEPS: u64 = 1_000;
/// Width of a bar in characters.
const BAR: usize = 24;
/// Maximum width of a name in characters.
const NAME: usize = 32;
/// Interval of drawing; more often would only flicker.
const EVERY: Duration = Duration::from_millis(100);

/// Progress bars of a watched job.
pub struct Bars {
    multi: MultiProgress,
    term: Term,
    rows: Vec<ProgressBar>,
    /// Whether a change is not drawn yet.
    stale: bool,
    drawn: Instant,
    /// Why the watch broke off, until it goes on.
    trouble: Option<String>,
}

/// One line, ready to be drawn.
struct BarRow {
    style: &'static str,
    progress: f64,
    prefix: String,
    message: String,
}

impl Bars {
    /// Bars on the standard output.
    pub fn new() -> Self {
        // Drawing is paced here, so that the last state is never left out; what the library draws by itself is too much.
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(1));
        let drawn = Instant::now().checked_sub(EVERY).unwrap_or_else(Instant::now);
        Self { multi, term: Term::stdout(), rows: Vec::new(), stale: false, drawn, trouble: None }
    }

    /// Marks that the job has changed.
    pub fn touch(&mut self) {
        (self.stale, self.trouble) = (true, None);
    }

    /// Shows why the watch broke off.
    pub fn trouble(&mut self, why: String) {
        (self.stale, self.trouble) = (true, Some(why));
    }

    /// Waits until it is time to draw; for ever if nothing has changed.
    pub async fn due(&self) {
        if !self.stale {
            return std::future::pending().await;
        }
        tokio::time::sleep_until((self.drawn + EVERY).into()).await;
    }

    /// Draws the job and the stages that fit.
    pub fn draw(&mut self, picture: &Picture) {
        (self.stale, self.drawn) = (false, Instant::now());
        let (height, width) = self.term.size();
        // The job's own line, that about trouble, and the one the cursor is on.
        let room = usize::from(height).saturating_sub(3).max(1);
        // Before the first snapshot there is nothing to show but trouble.
        let has_snapshot = !picture.job_id.is_empty();
        let mut rows = if has_snapshot { rows(picture, &plan(picture, room), usize::from(width)) } else { Vec::new() };
        if let Some(trouble) = &self.trouble {
            let message = truncate_str(&plain(trouble), usize::from(width.saturating_sub(1)), "…").into_owned();
            rows.push(BarRow { style: "{msg:.yellow}", progress: 0.0, prefix: String::new(), message });
        }
        while self.rows.len() > rows.len() {
            if let Some(row) = self.rows.pop() {
                self.multi.remove(&row);
            }
        }
        while self.rows.len() < rows.len() {
            self.rows.push(self.multi.add(ProgressBar::new(STEPS)));
        }
        for (bar, row) in self.rows.iter().zip(rows) {
            bar.set_style(style(row.style));
            bar.set_prefix(row.prefix);
            bar.set_message(row.message);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1")]
            bar.set_position((row.progress.clamp(0.0, 1.0) * STEPS as f64) as u64);
        }
        // One of them draws them all.
        self.rows.iter().take(1).for_each(ProgressBar::force_draw);
    }

    /// Leaves the last drawing where it is.
    pub fn end(&mut self, picture: &Picture) {
        self.touch();
        self.draw(picture);
        self.rows.iter().for_each(ProgressBar::abandon);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏░")
}

fn rows(picture: &Picture, plan: &BarPlan, width: usize) -> Vec<BarRow> {
    let names = plan.stages.iter().map(|line| measure_text_width(&line.name) + 2);
    let name = names.chain([measure_text_width(&picture.job_id)]).max().unwrap_or(0).min(NAME);
    let job_style = match picture.state {
        JobState::Succeeded => "{prefix:.bold} {bar:24.green/dim} {msg}",
        JobState::Failed | JobState::Cancelled => "{prefix:.bold} {bar:24.red/dim} {msg}",
        _ => "{prefix:.bold} {bar:24.cyan/dim} {msg}",
    };
    let row = |style, text: &str, progress, state, note: &str| {
        let message =
            format!("{} {state}  {}", pad_str(&percent(progress), 4, console::Alignment::Right, None), plain(note));
        let left = width.saturating_sub(name + BAR + 3);
        BarRow {
            style,
            progress,
            prefix: pad_str(text, name, console::Alignment::Left, Some("…")).into_owned(),
            message: truncate_str(message.trim_end(), left, "…").into_owned(),
        }
    };
    let note = picture.failure.clone().unwrap_or_else(|| picture.kind.clone());
    let mut rows = vec![row(job_style, &picture.job_id, picture.progress, job_state(picture.state), &note)];
    rows.extend(plan.stages.iter().map(|line| {
        let style = match line.state {
            StageState::Succeeded => "{prefix} {bar:24.green/dim} {msg}",
            StageState::Failed | StageState::Cancelled => "{prefix} {bar:24.red/dim} {msg}",
            StageState::Backoff => "{prefix} {bar:24.yellow/dim} {msg}",
            StageState::Running => "{prefix} {bar:24.cyan/dim} {msg}",
            _ => "{prefix:.dim} {bar:24.dim} {msg:.dim}",
        };
        row(style, &format!("  {}", line.name), line.progress, stage_state(line.state), &line.note)
    }));
    if let Some(others) = &plan.others {
        let message = truncate_str(others, width.saturating_sub(1), "…").into_owned();
        rows.push(BarRow { style: "{msg:.dim}", progress: 0.0, prefix: String::new(), message });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let stage = |index: i32| proto::Stage {
            name: format!("a-stage-with-a-rather-long-name-{index}"),
            state: StageState::Running.into(),
            message: "ü".repeat(200) + "\x1b[2J\n",
            progress: 0.5,
            ..Default::default()
        };
        let mut picture = Picture::default();
        picture.show(&proto::Job { job_id: "film".into(), stages: (0..50).map(stage).collect(), ..Default::default() });
        for width in [20, 80, 200] {
            let plan = plan(&picture, 10);
            let rows = rows(&picture, &plan, width);
            assert_eq!(rows.len(), 1 + 9 + 1);
            for row in &rows {
                let bar = if row.prefix.is_empty() { 0 } else { BAR + 2 };
                let taken = measure_text_width(&row.prefix) + bar + measure_text_width(&row.message);
                assert!(taken < width.max(NAME + BAR + 4), "{} {}", row.prefix, row.message);
                assert!(!row.message.contains(char::is_control));
            }
        }
    }
}
