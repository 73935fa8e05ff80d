//! Figures of jobs and attempts, counted from committed changes.

use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use super::Counter;
use super::kinds::LONG;
use super::kinds::{Histogram, Labelled};
use super::page::Page;
use super::queues::{AttemptEnd, CLASSES, Queues};
use super::sparse::Sparse;
use crate::domain::event::{EventKind, JobEvent, StageChange};
use crate::domain::id::StageNo;
use crate::domain::job::{Job, JobChanges, JobPhase};
use crate::domain::stage::StagePhase;
use crate::domain::time::Timestamp;

/// Ends of jobs in labels, in the order of [`end_place`].
const JOB_ENDS: &[&str] = &["succeeded", "failed", "cancelled"];
/// Ends of attempts in labels, in the order of [`AttemptEnd::place`], with one value for all failures.
const ATTEMPT_ENDS: &[&str] = &["succeeded", "released", "cancelled", "failed"];
/// Maximum number of log lines about failed jobs in each interval.
const FAILED_LINES: u32 = 5;

/// Figures of jobs. All of them only grow.
#[derive(Debug)]
pub struct JobFigures {
    /// The figures of each queue.
    pub queues: Queues,
    submitted: Counter,
    ended: Labelled<Counter>,
    attempts_started: Counter,
    durations: Labelled<Histogram>,
    retries: Labelled<Counter>,
    retry_waits: Labelled<Histogram>,
    leases_expired: Counter,
    failed_lines: Sparse,
}

impl Default for JobFigures {
    fn default() -> Self {
        let histogram = || Histogram::of_durations(LONG);
        Self {
            queues: Queues::default(),
            submitted: Counter::default(),
            ended: Labelled::new("state", JOB_ENDS, Counter::default),
            attempts_started: Counter::default(),
            durations: Labelled::new("state", ATTEMPT_ENDS, histogram),
            retries: Labelled::new("class", CLASSES, Counter::default),
            retry_waits: Labelled::new("class", CLASSES, histogram),
            leases_expired: Counter::default(),
            failed_lines: Sparse::of(FAILED_LINES),
        }
    }
}

/// A stage before a change.
#[derive(Clone, Copy)]
struct Before {
    phase: StagePhase,
    attempt: u32,
    started: Option<Timestamp>,
}

impl JobFigures {
    /// Counts the changes of a job by one commit. `base`: the job before; None: it is new.
    pub fn note(&self, base: Option<&Job>, job: &Job, changes: &JobChanges) {
        if changes.events.is_empty() {
            return;
        }
        let mut stages: HashMap<StageNo, Before> = HashMap::new();
        let mut phase = base.map(|base| base.state.phase());
        for event in &changes.events {
            if event.kind == EventKind::JobSubmitted {
                self.submitted.inc();
            }
            for change in &event.stages {
                let before = stages.get(&change.stage_no).copied().unwrap_or_else(|| before(base, change.stage_no));
                let after = self.stage_changed(job, event, change, before);
                stages.insert(change.stage_no, after);
            }
            if phase.replace(event.job_phase) != Some(event.job_phase) {
                self.job_entered(job, event);
            }
        }
    }

    fn stage_changed(&self, job: &Job, event: &JobEvent, change: &StageChange, before: Before) -> Before {
        let began = change.attempt > before.attempt;
        let runs = change.phase == StagePhase::Running;
        self.attempts_started.inc_by(u64::from(began));
        // A stage that was completed without a lease began and ended at once.
        if !runs && (began || before.phase == StagePhase::Running) {
            self.attempt_ended(job, event, change, before);
        }
        let started = if runs && (began || before.phase != StagePhase::Running) {
            Some(event.event_time)
        } else {
            before.started
        };
        Before { phase: change.phase, attempt: change.attempt, started }
    }

    fn attempt_ended(&self, job: &Job, event: &JobEvent, change: &StageChange, before: Before) {
        let failure = change.failure.as_ref();
        let end = match (change.phase, failure) {
            (StagePhase::Succeeded, _) => AttemptEnd::Succeeded,
            (_, Some(failure)) => AttemptEnd::Failed(failure.report.class),
            (StagePhase::Cancelled | StagePhase::Skipped, None) => AttemptEnd::Cancelled,
            (_, None) => AttemptEnd::Released,
        };
        if let Some(stage) = job.stages.get(change.stage_no) {
            self.queues.of(job.key.namespace, &stage.spec.queue).ended(end);
        }
        let took = before.started.map_or(Duration::ZERO, |started| started.until(event.event_time));
        self.durations.at(end.place().min(ATTEMPT_ENDS.len() - 1)).took(took);
        let Some(failure) = failure.filter(|_| change.phase != StagePhase::Succeeded) else { return };
        self.leases_expired.inc_by(u64::from(event.kind == EventKind::LeaseExpired));
        if let Some(wait) = failure.retry_wait {
            let place = failure.report.class as usize - 1;
            self.retries.at(place).inc();
            self.retry_waits.at(place).took(wait);
        }
    }

    fn job_entered(&self, job: &Job, event: &JobEvent) {
        let Some(place) = end_place(event.job_phase) else { return };
        self.ended.at(place).inc();
        if event.job_phase != JobPhase::Failed {
            return;
        }
        let Some(suppressed) = self.failed_lines.pass() else { return };
        let namespace = self.queues.namespace(job.key.namespace);
        let cause = event.stages.iter().filter(|stage| stage.phase == StagePhase::Failed).find_map(|stage| {
            let failure = stage.failure.as_ref()?;
            Some((&stage.stage_name, stage.attempt, failure.report.class, &failure.report.code))
        });
        // Without the worker's message: it may quote the input, which only readers of the job may see.
        tracing::info!(
            job_id = %job.meta.job_id,
            kind = %job.meta.kind,
            namespace,
            stage = cause.map(|(stage, ..)| tracing::field::display(stage)),
            attempt = cause.map(|(_, attempt, ..)| attempt),
            class = cause.map(|(_, _, class, _)| super::queues::class_name(class)),
            code = cause.map(|(.., code)| tracing::field::display(code)).filter(|_| cause.is_some_and(|(.., code)| !code.is_empty())),
            suppressed,
            "a job FAILED"
        );
    }

    /// Logs the number of failed jobs that had no line, if no line since then has said it.
    pub fn log_suppressed(&self) {
        if let Some(count) = self.failed_lines.take_suppressed() {
            tracing::info!(count, "more jobs FAILED");
        }
    }

    /// Adds the figures to a page, except those by queue.
    pub fn show(&self, page: &mut Page) {
        page.show("jobs_submitted", "Jobs that were submitted", &self.submitted);
        page.show("jobs_ended", "Jobs that ended, by state", &self.ended);
        page.show("attempts_started", "Attempts of stages that began", &self.attempts_started);
        page.show_seconds("attempt_duration", "How long attempts took, by how they ended", &self.durations);
        page.show("retries", "Failed attempts that are followed by another one, by failure class", &self.retries);
        page.show_seconds(
            "retry_wait",
            "The wait before the next attempt, by the class of the failure",
            &self.retry_waits,
        );
        page.show("leases_expired", "Attempts that ended because their holder was silent", &self.leases_expired);
    }
}

fn before(base: Option<&Job>, no: StageNo) -> Before {
    let stage = base.and_then(|base| base.stages.get(no));
    stage.map_or(Before { phase: StagePhase::Blocked, attempt: 0, started: None }, |stage| Before {
        phase: stage.phase(),
        attempt: stage.attempt,
        started: stage.start_time,
    })
}

fn end_place(phase: JobPhase) -> Option<usize> {
    match phase {
        JobPhase::Succeeded => Some(0),
        JobPhase::Failed => Some(1),
        JobPhase::Cancelled => Some(2),
        JobPhase::Pending | JobPhase::Running | JobPhase::Paused | JobPhase::Cancelling => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::failure::FailureClass::{Network, RateLimited};
    use crate::operation::tests::bench::Bench;
    use crate::operation::tests::build::{BuildStage, secs, stage};

    /// All figures as text, without those that are 0.
    fn page(figures: &Arc<JobFigures>) -> Vec<String> {
        let mut page = Page::default();
        figures.show(&mut page);
        figures.queues.name([(crate::operation::tests::build::NAMESPACE, "default".to_owned())]);
        let queues = figures.clone();
        page.measure(move |samples| queues.queues.sample(samples));
        let text = page.render().expect("text");
        text.lines().filter(|line| !line.ends_with(" 0") && !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// A history with every end of an attempt is counted commit by commit, and at once as in a group.
    #[test]
    fn counts_do_not_depend_on_how_changes_are_grouped() {
        let (alone, together) = (Arc::new(JobFigures::default()), Arc::new(JobFigures::default()));
        let mut bench = Bench::with(vec![
            stage("a").attempts(5),
            stage("b").attempts(1),
            stage("c").direct(),
            stage("d").after(&["a", "c"]),
        ]);
        let note_last = |bench: &Bench, base: Option<Arc<Job>>, since: usize| {
            let changes = JobChanges { events: bench.events[since..].to_vec(), ..JobChanges::default() };
            alone.note(base.as_deref(), &bench.job(), &changes);
        };
        note_last(&bench, None, 0);
        let steps: [fn(&mut Bench); 11] = [
            |bench| {
                bench.lease("a");
            },
            |bench| {
                bench.pass(secs(7));
                let token = bench.stage("a").token(bench.job().key.uid).expect("leased");
                bench.release(token).expect("released");
            },
            |bench| {
                let token = bench.lease("a");
                bench.fail(token, Network).expect("failed");
            },
            |bench| {
                bench.pass(secs(600));
                assert!(bench.wake(Some("a")));
            },
            |bench| {
                bench.lease("a");
            },
            |bench| {
                bench.pass(secs(600));
                bench.reap("a").expect("reaped");
            },
            |bench| {
                bench.pass(secs(600));
                bench.wake(Some("a"));
                let token = bench.lease("a");
                bench.complete(token).expect("completed");
            },
            // Begins and ends at once.
            |bench| drop(bench.complete("c").expect("completed")),
            |bench| {
                bench.lease("d");
            },
            |bench| {
                let token = bench.stage("d").token(bench.job().key.uid).expect("leased");
                bench.complete(token).expect("completed");
            },
            |bench| {
                let token = bench.lease("b");
                bench.fail(token, RateLimited).expect("failed for good");
            },
        ];
        for step in steps {
            let (base, since) = (bench.job(), bench.events.len());
            step(&mut bench);
            note_last(&bench, Some(base), since);
        }
        let changes = JobChanges { events: bench.events.clone(), ..JobChanges::default() };
        together.note(None, &bench.job(), &changes);
        let counted = page(&alone);
        assert_eq!(counted, page(&together));
        let ended = |state: &str, class: &str, count: u32| {
            let labels = format!(r#"{{namespace="default",queue="default",state="{state}",class="{class}"}}"#);
            let line = format!("interlock_attempts_ended_total{labels} {count}");
            assert!(counted.contains(&line), "{line} in {counted:#?}");
        };
        ended("succeeded", "", 3);
        ended("released", "", 1);
        ended("failed", "network", 1);
        ended("failed", "lease_expired", 1);
        ended("failed", "rate_limited", 1);
        for line in [
            "interlock_attempts_started_total 7",
            "interlock_leases_expired_total 1",
            r#"interlock_retries_total{class="network"} 1"#,
            r#"interlock_retries_total{class="lease_expired"} 1"#,
            r#"interlock_jobs_ended_total{state="failed"} 1"#,
            r#"interlock_attempt_duration_seconds_sum{state="released"} 7.0"#,
        ] {
            assert!(counted.iter().any(|counted| counted == line), "{line} in {counted:#?}");
        }
    }
}
