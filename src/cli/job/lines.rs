//! A watched job where the output is no terminal: one line per message.

use super::picture::Picture;
use super::read::failure_text;
use crate::cli::text::{count, job_state, percent, plain, stage_state};
use crate::proto::{self, JobEventType, StageState};

/// Maximum number of stages named in a line.
const NAMED: usize = 5;

/// The line of a snapshot: when the watch starts, or starts again.
pub fn snapshot(job: &proto::Job, picture: &Picture) -> String {
    let states: Vec<_> = picture
        .counts()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", stage_state(state).to_lowercase()))
        .collect();
    let total = picture.counts().iter().map(|(_, count)| count).sum();
    line(job.version, picture, &format!("{}: {}", count(total, "stage"), states.join(", ")))
}

/// The line of a change.
pub fn change(change: &proto::JobChange, picture: &Picture) -> String {
    let mut parts: Vec<_> = change.stages.iter().take(NAMED).map(|stage| one(stage, change)).collect();
    if change.stages.len() > NAMED {
        parts.push(format!("and {} more", change.stages.len() - NAMED));
    }
    if parts.is_empty() {
        let event = change.event_type().as_str_name();
        parts.push(event.strip_prefix("JOB_EVENT_TYPE_").unwrap_or(event).to_lowercase().replace('_', " "));
    }
    if picture.has_ended() {
        parts.extend(change.failure.as_ref().map(|failure| format!("failed by {}", failure_text(failure))));
    }
    line(change.version, picture, &parts.join("; "))
}

fn line(version: i64, picture: &Picture, news: &str) -> String {
    let (state, done) = (job_state(picture.state), percent(picture.progress));
    plain(format!("{version:>5}  {state:<10} {done:>4}  {news}").trim_end())
}

/// A changed stage, with its progress or its new state.
fn one(stage: &proto::Stage, change: &proto::JobChange) -> String {
    let mut text = stage.name.clone();
    let is_step = change.event_type() == JobEventType::Unspecified && stage.state() == StageState::Running;
    text += &if is_step { format!(" {}", percent(stage.progress)) } else { format!(" {}", stage_state(stage.state())) };
    match (&stage.lease, &stage.failure) {
        (Some(lease), _) if !is_step && stage.state() == StageState::Running => {
            text += &format!(" on {}", lease.worker_id);
        }
        (_, Some(failure)) if stage.state() != StageState::Running => text += &format!(" ({})", failure_text(failure)),
        _ => {}
    }
    if is_step && !stage.message.is_empty() {
        text += &format!(" ({})", stage.message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Failure, JobState, StageLease};

    fn stage(state: StageState) -> proto::Stage {
        let lease = StageLease { worker_id: "w1".into(), ..Default::default() };
        proto::Stage {
            name: "voice".into(),
            state: state.into(),
            progress: 0.5,
            lease: Some(lease),
            ..Default::default()
        }
    }

    fn line_of(event: JobEventType, stages: Vec<proto::Stage>) -> String {
        let state = JobState::Running.into();
        let news = proto::JobChange {
            version: 7,
            state,
            progress: 0.25,
            event_type: event.into(),
            stages,
            ..Default::default()
        };
        let mut picture = Picture::default();
        picture.change(&news);
        change(&news, &picture)
    }

    #[test]
    fn a_line_says_what_changed() {
        let started = line_of(JobEventType::StageStarted, vec![stage(StageState::Running)]);
        assert_eq!(started, "    7  RUNNING     25%  voice RUNNING on w1");
        let step = proto::Stage { message: "half\nway".into(), ..stage(StageState::Running) };
        assert_eq!(line_of(JobEventType::Unspecified, vec![step]), "    7  RUNNING     25%  voice 50% (half way)");
        let failure = Failure { failure_class: 1, code: "503".into(), message: "gone".into(), ..Default::default() };
        let failed = proto::Stage { failure: Some(failure), lease: None, ..stage(StageState::Backoff) };
        let line = line_of(JobEventType::StageFailed, vec![failed]);
        assert_eq!(line, "    7  RUNNING     25%  voice BACKOFF (SERVER_ERROR 503 gone)");
        assert_eq!(line_of(JobEventType::CancelRequested, vec![]), "    7  RUNNING     25%  cancel requested");
    }

    #[test]
    fn a_line_is_short_however_many_stages_change() {
        let line = line_of(JobEventType::CancelRequested, vec![stage(StageState::Cancelled); 1_000]);
        assert!(line.ends_with("; and 995 more") && line.len() < 200, "{line}");
    }
}
