//! The current state of a watched job: what is drawn.

use std::collections::HashMap;

use super::read::failure_text;
use crate::cli::text::time;
use crate::proto::{self, JobState, StageCounts, StageState};

/// A watched job as it is drawn: its newest state, put together from a snapshot and changes.
#[derive(Debug, Default)]
pub struct Picture {
    pub job_id: String,
    pub kind: String,
    pub state: JobState,
    pub run: i32,
    pub progress: f64,
    /// Failure in one line. None: it has not failed.
    pub failure: Option<String>,
    /// Stages in the order in which they were added or received.
    pub stages: Vec<PictureLine>,
    places: HashMap<String, usize>,
    /// Counts by the server; used only if not all stages were sent.
    told_counts: Option<StageCounts>,
    is_cut: bool,
}

/// A stage of a watched job.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureLine {
    pub name: String,
    pub state: StageState,
    pub progress: f64,
    /// Message, failure or worker, depending on the state.
    pub note: String,
    version: i64,
}

impl PictureLine {
    fn of(stage: &proto::Stage) -> Self {
        let (name, state, progress) = (stage.name.clone(), stage.state(), stage.progress);
        Self { name, state, progress, note: note(stage), version: stage.version }
    }
}

impl Picture {
    /// Replaces everything by a snapshot.
    pub fn show(&mut self, job: &proto::Job) {
        *self = Self {
            job_id: job.job_id.clone(),
            kind: job.kind.clone(),
            state: job.state(),
            run: job.run,
            progress: job.progress,
            failure: job.failure.as_ref().map(failure_text),
            told_counts: job.stage_counts,
            is_cut: job.stages_truncated,
            ..Self::default()
        };
        job.stages.iter().for_each(|stage| self.put(stage));
    }

    pub fn change(&mut self, change: &proto::JobChange) {
        self.state = change.state();
        self.run = change.run;
        self.progress = change.progress;
        self.failure = change.failure.as_ref().map(failure_text);
        self.told_counts = change.stage_counts.or(self.told_counts);
        self.is_cut |= change.stages_truncated;
        change.stages.iter().for_each(|stage| self.put(stage));
    }

    /// Whether there are stages that were not sent.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Inserts or updates a stage; older data is ignored.
    pub fn put(&mut self, stage: &proto::Stage) {
        let line = PictureLine::of(stage);
        match self.places.get(&line.name) {
            Some(place) if self.stages[*place].version > line.version => {}
            Some(place) => self.stages[*place] = line,
            None => {
                self.places.insert(line.name.clone(), self.stages.len());
                self.stages.push(line);
            }
        }
    }

    /// Whether the job has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }

    /// How many stages are in each state, in the order in which [`super::plan`] lists them. What was counted here is
    /// right as long as all stages are known.
    pub fn counts(&self) -> Vec<(StageState, usize)> {
        let mut counted = StageCounts::default();
        for stage in &self.stages {
            *slot(&mut counted, stage.state) += 1;
        }
        let mut counts = self.told_counts.filter(|_| self.is_cut).unwrap_or(counted);
        let of = |state| (state, usize::try_from(*slot(&mut counts, state)).unwrap_or_default());
        LISTING_ORDER.into_iter().map(of).collect()
    }
}

/// Sort order: active stages first.
pub const LISTING_ORDER: [StageState; 8] = [
    StageState::Running,
    StageState::Backoff,
    StageState::Failed,
    StageState::Ready,
    StageState::Blocked,
    StageState::Succeeded,
    StageState::Skipped,
    StageState::Cancelled,
];

fn slot(counts: &mut StageCounts, state: StageState) -> &mut i32 {
    match state {
        StageState::Blocked => &mut counts.blocked,
        StageState::Ready => &mut counts.ready,
        StageState::Running => &mut counts.running,
        StageState::Backoff => &mut counts.backoff,
        StageState::Succeeded => &mut counts.succeeded,
        StageState::Failed => &mut counts.failed,
        StageState::Cancelled => &mut counts.cancelled,
        StageState::Skipped => &mut counts.skipped,
        StageState::Unspecified => &mut counts.total,
    }
}

/// Message, failure or worker of a stage, depending on its state.
fn note(stage: &proto::Stage) -> String {
    let mut parts = Vec::new();
    let why = stage.failure.as_ref().map(failure_text);
    match stage.state() {
        StageState::Running => {
            parts.extend(stage.lease.as_ref().map(|lease| lease.worker_id.clone()));
            if stage.attempt > 1 {
                parts.push(format!("attempt {} of {}", stage.attempt, stage.max_attempts));
            }
            parts.push(stage.message.clone());
        }
        StageState::Backoff => {
            parts.extend(why);
            parts.push(format!("again at {}", time(stage.next_attempt_time)));
        }
        StageState::Failed => parts.extend(why),
        StageState::Ready => parts.push(format!("queue {}", stage.queue)),
        StageState::Blocked if !stage.depends_on.is_empty() => {
            parts.push(format!("after {}", stage.depends_on.join(" ")));
        }
        StageState::Blocked => parts.push(format!("from {}", time(stage.next_attempt_time))),
        StageState::Succeeded | StageState::Cancelled | StageState::Skipped | StageState::Unspecified => {}
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, state: StageState) -> proto::Stage {
        proto::Stage { name: name.to_owned(), state: state.into(), ..Default::default() }
    }

    fn job(stages: Vec<proto::Stage>) -> proto::Job {
        proto::Job { job_id: "film".to_owned(), stages, run: 1, ..Default::default() }
    }

    fn count(picture: &Picture, state: StageState) -> usize {
        picture.counts().into_iter().find(|(counted, _)| *counted == state).map_or(0, |(_, count)| count)
    }

    #[test]
    fn changes_replace_stages_and_add_new_ones() {
        let mut picture = Picture::default();
        picture.show(&job(vec![stage("a", StageState::Running), stage("b", StageState::Blocked)]));
        let stages = vec![stage("a", StageState::Succeeded), stage("c", StageState::Ready)];
        picture.change(&proto::JobChange { state: JobState::Running.into(), stages, run: 1, ..Default::default() });
        let names: Vec<_> = picture.stages.iter().map(|stage| (&*stage.name, stage.state)).collect();
        assert_eq!(names, [("a", StageState::Succeeded), ("b", StageState::Blocked), ("c", StageState::Ready)]);
        assert_eq!(count(&picture, StageState::Succeeded), 1);
        assert!(!picture.has_ended());
    }

    #[test]
    fn where_stages_are_missing_the_server_counts() {
        let mut picture = Picture::default();
        let counts = StageCounts { total: 9_000, blocked: 9_000, ..Default::default() };
        let cut = proto::Job { stages_truncated: true, stage_counts: Some(counts), ..job(vec![]) };
        picture.show(&cut);
        assert_eq!(count(&picture, StageState::Blocked), 9_000);
        picture.change(&proto::JobChange { stages: vec![stage("a", StageState::Running)], ..Default::default() });
        assert_eq!(count(&picture, StageState::Blocked), 9_000, "counts do not follow from history");
        let counts = StageCounts { total: 9_000, blocked: 8_999, running: 1, ..Default::default() };
        picture.change(&proto::JobChange { stage_counts: Some(counts), ..Default::default() });
        assert_eq!((count(&picture, StageState::Blocked), count(&picture, StageState::Running)), (8_999, 1));
    }

    #[test]
    fn what_is_asked_for_beside_the_watch_does_not_turn_it_back() {
        let mut picture = Picture::default();
        picture.put(&proto::Stage { version: 5, ..stage("a", StageState::Succeeded) });
        picture.put(&proto::Stage { version: 4, ..stage("a", StageState::Running) });
        picture.put(&proto::Stage { version: 1, ..stage("b", StageState::Running) });
        assert_eq!((count(&picture, StageState::Succeeded), count(&picture, StageState::Running)), (1, 1));
    }

    #[test]
    fn a_note_says_what_matters_in_the_state() {
        let lease = proto::StageLease { worker_id: "w1".to_owned(), ..Default::default() };
        let running = proto::Stage {
            lease: Some(lease),
            attempt: 2,
            max_attempts: 3,
            message: "halfway".to_owned(),
            ..stage("a", StageState::Running)
        };
        assert_eq!(note(&running), "w1, attempt 2 of 3, halfway");
        let blocked =
            proto::Stage { depends_on: vec!["a".to_owned(), "b".to_owned()], ..stage("c", StageState::Blocked) };
        assert_eq!(note(&blocked), "after a b");
        let failure = proto::Failure { failure_class: 1, message: "it broke".to_owned(), ..Default::default() };
        let failed = proto::Stage { failure: Some(failure), ..stage("c", StageState::Failed) };
        assert_eq!(note(&failed), "SERVER_ERROR it broke");
        let failure =
            proto::Failure { failure_class: 2, attempt: 5, budget_used: 3, budget_max: 3, ..Default::default() };
        let failed = proto::Stage { failure: Some(failure.clone()), ..failed };
        assert_eq!(note(&failed), "RATE_LIMITED (3 of 3 attempts used)");
        let failed = proto::Stage { failure: Some(proto::Failure { budget_class: 2, ..failure }), ..failed };
        assert_eq!(note(&failed), "RATE_LIMITED (3 of 3 attempts for RATE_LIMITED used)");
    }
}
