//! The running jobs: what the watch sent of them, and the stages that were listed.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::proto::watch_jobs_response::Update;
use crate::proto::{self, StageState};

#[derive(Default)]
pub struct Running {
    jobs: BTreeMap<String, RunningJob>,
    /// Whether the watch has sent all jobs that ran when it started.
    pub is_caught_up: bool,
}

pub struct RunningJob {
    /// Its current state, without stages.
    pub job: proto::Job,
    /// Its running stages by name. Incomplete until they were listed.
    pub stages: BTreeMap<String, proto::Stage>,
    /// Whether `stages` is complete.
    is_known: bool,
}

impl RunningJob {
    /// The job with its running stages.
    pub fn whole(&self) -> proto::Job {
        proto::Job { stages: self.stages.values().cloned().collect(), ..self.job.clone() }
    }

    fn put(&mut self, stage: proto::Stage) {
        if stage.state() == StageState::Running {
            self.stages.insert(stage.name.clone(), stage);
        } else {
            self.stages.remove(&stage.name);
        }
    }
}

impl Running {
    /// Applies a message of the watch.
    pub fn update(&mut self, update: proto::WatchJobsResponse) {
        match update.update {
            Some(Update::Job(job)) => {
                let running = RunningJob { job, stages: BTreeMap::new(), is_known: false };
                self.jobs.insert(running.job.job_id.clone(), running);
            }
            Some(Update::Change(change)) => {
                // One that cannot be read would be a bug of the server; the rest can still be shown.
                if let Ok(change) = proto::JobChange::decode(change) {
                    self.change(change);
                }
            }
            Some(Update::Removal(removal)) => {
                self.jobs.remove(&removal.job_id);
            }
            Some(Update::CaughtUp(_)) => self.is_caught_up = true,
            Some(Update::Keepalive(_)) | None => {}
        }
    }

    fn change(&mut self, change: proto::JobChange) {
        let Some(running) = self.jobs.get_mut(&change.job_id) else { return };
        let job = &mut running.job;
        (job.state, job.version, job.progress) = (change.state, change.version, change.progress);
        job.run = change.run;
        job.stage_counts = change.stage_counts.or(job.stage_counts);
        job.failure = change.failure;
        running.is_known &= !change.stages_truncated;
        change.stages.into_iter().for_each(|stage| running.put(stage));
    }

    /// Sets the running stages of a job, as they were just listed. Later messages of the watch are applied on top: it sends every change of a
    /// state.
    pub fn found(&mut self, job_id: &str, stages: Vec<proto::Stage>) {
        let Some(running) = self.jobs.get_mut(job_id) else { return };
        running.is_known = true;
        running.stages = stages.into_iter().map(|stage| (stage.name.clone(), stage)).collect();
    }

    /// The number of running jobs.
    pub fn count(&self) -> usize {
        self.jobs.len()
    }

    /// At most `limit` jobs, the longest running first.
    pub fn first(&self, limit: usize) -> impl Iterator<Item = &RunningJob> {
        let mut jobs: Vec<_> = self.jobs.values().collect();
        jobs.sort_by_key(|running| running.job.start_time.map_or((i64::MAX, 0), |time| (time.seconds, time.nanos)));
        jobs.into_iter().take(limit)
    }

    /// At most `count` ids of the first `limit` jobs whose stages were not listed yet.
    pub fn unknown(&self, limit: usize, count: usize) -> Vec<String> {
        let unknown = self.first(limit).filter(|running| !running.is_known);
        unknown.take(count).map(|running| running.job.job_id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{JobRemoval, WatchCaughtUp};

    fn apply(running: &mut Running, update: Update) {
        running.update(proto::WatchJobsResponse { update: Some(update) });
    }

    fn job(job_id: &str, started: i64) -> Update {
        let start_time = Some(prost_types::Timestamp { seconds: started, nanos: 0 });
        Update::Job(proto::Job { job_id: job_id.into(), start_time, ..Default::default() })
    }

    fn stage(name: &str, state: StageState) -> proto::Stage {
        proto::Stage { name: name.into(), state: state.into(), ..Default::default() }
    }

    fn change(job_id: &str, stages: Vec<proto::Stage>) -> Update {
        let change = proto::JobChange { job_id: job_id.into(), progress: 0.5, stages, ..Default::default() };
        Update::Change(change.encode_to_vec().into())
    }

    #[test]
    fn stages_come_and_go_with_the_changes() {
        let mut running = Running::default();
        apply(&mut running, job("b", 1));
        apply(&mut running, job("a", 2));
        apply(&mut running, Update::CaughtUp(WatchCaughtUp { jobs: 2 }));
        assert!(running.is_caught_up);
        assert_eq!(running.unknown(10, 10), ["b", "a"], "the one that runs longest first");
        assert_eq!(running.unknown(1, 10), ["b"]);

        running.found("b", vec![stage("x", StageState::Running)]);
        assert_eq!(running.unknown(10, 10), ["a"]);
        apply(&mut running, change("b", vec![stage("x", StageState::Succeeded), stage("y", StageState::Running)]));
        let first = running.first(1).next().expect("a job").whole();
        assert_eq!((first.stages.len(), &*first.stages[0].name, first.progress), (1, "y", 0.5));

        apply(&mut running, Update::Removal(JobRemoval { job_id: "b".into(), ..Default::default() }));
        assert_eq!(running.count(), 1);
        apply(&mut running, change("b", vec![]));
        assert_eq!(running.count(), 1);
    }
}
