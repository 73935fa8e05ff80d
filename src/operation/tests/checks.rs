//! What must hold of every job, and of every step from one state of it to the next. Each check is written from what the
//! semantics promise and shares no code with the transitions.
//!
//! Weights and progress in these tests are sums of few powers of two, so that incremental sums equal recomputed ones.

use crate::domain::event::{EventKind, JobEvent};
use crate::domain::job::{Job, JobState};
use crate::domain::stage::{DependsWhen, OnFailure, Stage, StagePhase, StageState};
use crate::domain::time::Timestamp;
use crate::operation::tests::bench::Outcome;

/// Operations on resources, which change no job where no attempt holds a permit.
const OF_RESOURCES: &[&str] = &["acquire_permit", "release_permit", "wake_resource", "clear_stages", "sync_stage_head"];

/// One operation and its outcome, with the state before and after it.
pub fn step(
    operation: &str,
    before: Option<&Job>,
    after: Option<&Job>,
    outcome: &Outcome,
    events: &[JobEvent],
    now: Timestamp,
) {
    let of_job = !OF_RESOURCES.contains(&operation);
    let applied = of_job && outcome.as_ref().is_ok_and(|reply| reply.applied && reply.replayed.is_none());
    match (before, after) {
        (None, None) => {}
        (None, Some(job)) => {
            assert!(applied && (job.revision, job.run) == (1, 1), "a job begins at revision 1 in run 1");
            assert!(job.stages.iter().all(|stage| stage.version == 1), "stages begin at version 1");
            sound(job, now);
        }
        (Some(job), None) => assert!(applied && job.state.is_terminal(), "only what has ended is deleted"),
        (Some(before), Some(after)) => {
            assert_eq!(
                after.revision - before.revision,
                i64::from(applied),
                "one revision for what was applied, else none"
            );
            versions(before, after, operation == "redeliver_leases");
            finality(before, after, events);
            progress(before, after);
            history(before, after, events);
            sound(after, now);
        }
    }
}

/// A stage without what a renewal changes.
fn face(stage: &Stage) -> Stage {
    let mut stage = stage.clone();
    if let StageState::Running(attempt) = &mut stage.state
        && let Some(lease) = &mut attempt.lease
    {
        lease.expires_at = Timestamp(0);
    }
    stage
}

fn differ(a: &Stage, b: &Stage) -> bool {
    let (a, b) = (face(a), face(b));
    let words = |s: &Stage| (s.attempt, s.fencing_token, s.token_secret, s.outcome_digest, s.start_time, s.end_time);
    words(&a) != words(&b)
        || a.state != b.state
        || a.depends_on != b.depends_on
        || (a.parent, a.plan_digest, &a.required_by) != (b.parent, b.plan_digest, &b.required_by)
        || a.progress.to_bits() != b.progress.to_bits()
        || a.message != b.message
        || a.failure != b.failure
}

/// Each changed stage's version grows by one, no other's but that of a lease that is delivered again.
fn versions(before: &Job, after: &Job, redelivers: bool) {
    for stage in after.stages.iter() {
        let Some(old) = before.stages.get(stage.no) else {
            assert_eq!((stage.version, stage.changed_revision), (1, after.revision), "an added stage is new");
            continue;
        };
        let redelivered = redelivers && stage.version != old.version;
        assert!(!redelivered || !differ(old, stage) && stage.lease().is_some(), "a held lease, as it was");
        let changed = redelivered || differ(old, stage);
        assert_eq!(stage.version - old.version, i64::from(changed), "{}: one version for a change", stage.spec.name);
        let revision = if changed { after.revision } else { old.changed_revision };
        assert_eq!(stage.changed_revision, revision, "{}: the revision of its last change", stage.spec.name);
        let grants = stage.fencing_token - old.fencing_token;
        let begun = changed && stage.phase() == StagePhase::Running && old.phase() != StagePhase::Running;
        assert!(grants == 0 || grants == 1, "fencing tokens never go back and never jump");
        assert!(!begun || grants == 1, "each attempt has a new fencing token");
    }
}

/// Within a run what has ended stays as it is.
fn finality(before: &Job, after: &Job, events: &[JobEvent]) {
    assert!(after.run == before.run || after.run == before.run + 1);
    if after.run != before.run {
        assert!(before.state.is_terminal(), "only what has ended is run again");
        return;
    }
    if before.state.is_terminal() {
        assert_eq!((before.state, before.end_time), (after.state, after.end_time), "a terminal job is final");
    }
    // But for what its parent adds again, and what was skipped because of that.
    let adds = |event: &JobEvent| matches!(event.kind, EventKind::StagesAdded | EventKind::StageCompleted);
    let is_planned_again = before.state.is_active() && events.iter().any(adds);
    for old in before.stages.iter().filter(|stage| stage.phase().is_terminal()) {
        let mut stage = Stage::clone(&after.stages[old.no]);
        let may_begin_again = is_planned_again && matches!(old.phase(), StagePhase::Failed | StagePhase::Skipped);
        if old.phase() == StagePhase::Succeeded && is_planned_again {
            stage.parent = old.parent;
        }
        assert!(may_begin_again || !differ(old, &stage), "{}: a terminal stage is final", old.spec.name);
    }
    if let JobState::Cancelling { .. } = before.state {
        let held = matches!(after.state, JobState::Cancelling { .. } | JobState::Cancelled);
        assert!(held, "CANCELLING always ends CANCELLED");
    }
}

/// A job's progress never decreases within a run, a stage's never within an attempt.
fn progress(before: &Job, after: &Job) {
    if before.run != after.run {
        return;
    }
    assert!(after.progress >= before.progress, "the job's progress fell: {} to {}", before.progress, after.progress);
    for old in before.stages.iter().filter(|stage| stage.phase() == StagePhase::Running) {
        let stage = &after.stages[old.no];
        let same_attempt = stage.phase() == StagePhase::Running && stage.fencing_token == old.fencing_token;
        assert!(!same_attempt || stage.progress >= old.progress, "{}: progress fell", old.spec.name);
    }
}

/// Each revision in which a state changed has one event that lists what changed; progress alone has none.
fn history(before: &Job, after: &Job, events: &[JobEvent]) {
    let entered = |stage: &&Stage| {
        let old = before.stages.get(stage.no).map(|old| (old.phase(), old.attempt));
        old != Some((stage.phase(), stage.attempt))
    };
    let changed: Vec<u32> = after.stages.iter().map(|stage| &**stage).filter(entered).map(|stage| stage.no).collect();
    let recorded: Vec<&JobEvent> = events.iter().filter(|event| event.revision == after.revision).collect();
    let new = after.revision != before.revision;
    if new && (before.state != after.state || !changed.is_empty()) {
        assert_eq!(recorded.len(), 1, "one event for a revision that changes states");
    }
    if let (true, [event]) = (new, &recorded[..]) {
        assert_eq!(event.stages.iter().map(|stage| stage.stage_no).collect::<Vec<_>>(), changed);
        assert_eq!((event.run, event.job_phase), (after.run, after.state.phase()));
        assert_ne!(event.kind, EventKind::JobSubmitted);
    }
}

/// What holds of a job at any time.
pub fn sound(job: &Job, now: Timestamp) {
    derived(job);
    let terminal = job.state.is_terminal();
    assert_eq!(terminal, job.stages.iter().all(|stage| stage.phase().is_terminal()), "{:?}", job.state);
    assert_eq!((job.end_time.is_some(), job.expire_time.is_some()), (terminal, terminal));
    assert!((0.0..=1.0).contains(&job.progress));
    let failed =
        job.stages.iter().any(|stage| ended_unsuccessfully(stage) && stage.spec.on_failure == OnFailure::FailJob);
    match job.state {
        JobState::Pending => assert!(job.start_time.is_none() && !failed && job.failure.is_none()),
        JobState::Running => assert!(job.start_time.is_some() && !failed && job.failure.is_none()),
        JobState::Paused { .. } => assert!(!failed && job.failure.is_none()),
        JobState::Failing { .. } => assert!(job.failure.is_some()),
        JobState::Cancelling { .. } | JobState::Cancelled => assert!(job.failure.is_none()),
        JobState::Succeeded => assert!(!failed && job.failure.is_none() && job.progress >= 1.0),
        JobState::Failed => assert!(job.failure.is_some()),
    }
    for stage in job.stages.iter() {
        stage_is_sound(job, stage, now);
    }
}

/// `pending`, names, arrows and sums equal those computed from the stages alone.
fn derived(job: &Job) {
    let mut computed = job.clone();
    computed.derive();
    assert_eq!(computed.tally, job.tally, "the sums are those of the stages");
    for stage in job.stages.iter() {
        assert_eq!(stage.pending, computed.stages[stage.no].pending, "{}: what it waits for", stage.spec.name);
        assert_eq!(job.graph.find(&stage.spec.name), Some(stage.no));
        let sorted = |numbers: &[u32]| {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(
            sorted(job.graph.dependents(stage.no)),
            sorted(computed.graph.dependents(stage.no)),
            "the dependents"
        );
    }
}

/// Its parent has it not in its plan.
fn is_unplanned(stage: &Stage) -> bool {
    stage.parent.is_some_and(|parent| parent.fencing_token == 0)
}

fn ended_unsuccessfully(stage: &Stage) -> bool {
    let is_withdrawn = stage.phase() == StagePhase::Skipped && is_unplanned(stage);
    !is_withdrawn && matches!(stage.phase(), StagePhase::Failed | StagePhase::Cancelled | StagePhase::Skipped)
}

fn stage_is_sound(job: &Job, stage: &Stage, now: Timestamp) {
    let name = &stage.spec.name;
    let dependencies: Vec<&Stage> = stage.depends_on.iter().map(|&no| &job.stages[no]).collect();
    let ended = dependencies.iter().all(|stage| stage.phase().is_terminal());
    let hopeless =
        stage.spec.depends_when == DependsWhen::AllSucceeded && dependencies.iter().any(|s| ended_unsuccessfully(s));
    let most = stage.spec.retry.max_attempts(&stage.failures);
    assert!(stage.attempt <= most, "{name}: attempt {} of {most}", stage.attempt);
    assert_eq!(stage.end_time.is_some(), stage.phase().is_terminal(), "{name}");
    assert!(stage.end_time.is_none_or(|at| at <= now) && stage.start_time.is_none_or(|at| at <= now));
    match &stage.state {
        StageState::Blocked => {
            assert!(job.state.is_active() && !hopeless, "{name} is BLOCKED for ever");
            assert!(!ended || job.opens_at.is_some() || is_unplanned(stage), "{name} is BLOCKED by nothing");
            let parent = stage.parent.map(|parent| &job.stages[parent.no]);
            let waits = is_unplanned(stage) && parent.is_some_and(|parent| parent.phase().is_terminal());
            assert!(!waits, "{name} waits for a parent that has ended");
        }
        StageState::Ready | StageState::Backoff { .. } => {
            assert!(job.state.is_active() && job.opens_at.is_none(), "{name} waits for a worker in a job that ends");
            assert!(ended && !hopeless, "{name} is {:?} before what it depends on", stage.phase());
            assert!(!is_unplanned(stage), "{name} is {:?} although no plan has it", stage.phase());
        }
        StageState::Running(attempt) => {
            assert!(ended && !hopeless && !job.state.is_terminal());
            assert!(stage.attempt > 0 && stage.start_time.is_some());
            assert_eq!(attempt.lease.is_some(), stage.token_secret.is_some(), "{name}: who holds it has a token");
        }
        StageState::Succeeded => {
            assert!(!hopeless || stage.attempt > 0);
            assert!((stage.progress, stage.failure.is_none()) == (1.0, true));
        }
        StageState::Failed => assert!(stage.failure.is_some() && stage.attempt > 0, "{name} failed without a failure"),
        StageState::Cancelled => assert!(!job.state.is_active() && job.state != JobState::Succeeded),
        StageState::Skipped => {
            assert!(stage.attempt == 0, "{name} is SKIPPED although it has been tried");
            assert!(hopeless || is_unplanned(stage) || !job.state.is_active(), "{name} is SKIPPED for no reason");
        }
    }
}
