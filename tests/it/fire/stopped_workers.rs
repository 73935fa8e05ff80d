//! Workers that are stopped past their lease and then go on: nothing they write under an old token is accepted.
//!
//! A stopped worker is one that sends no heartbeat. Two kinds of writes come from it. *Late* writes are sent when its
//! stages have surely been leased again; all of them must be refused. *Racing* writes are sent all the time from the
//! lease on, until one is refused; those that were accepted must have come before the next lease of the stage. What the
//! newest token may still do although its lease has expired, completing a stage that was not leased again, is counted
//! apart.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::{self, LeaseDirective, StageState};
use serde_json::json;

use super::answers::Answer;
use super::{any, scale};
use crate::harness::*;

/// Stages of a job.
const STAGES: usize = 25;
/// Jobs whose stages are taken over, for each unit of scale; four late writes for each of their stages.
const TAKEN_OVER: usize = 10;
/// Jobs whose stages are raced for.
const RACED: usize = 2;
/// Jobs whose stages are not leased again.
const ABANDONED: usize = 2;
/// The shortest that there is, in seconds.
const SHORT: u64 = 1;
/// The lease of those who go on beating, in seconds; several of these pass.
const LIVING: u64 = 2;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
const RENEWALS: usize = 20;
/// Longer than the test.
const LONG: u64 = 600;

async fn submit(apis: &[Api], queue: &str, jobs: usize) {
    let stage = |i| proto::StageSpec { queue: queue.to_owned(), ..new_stage_with_attempts(&format!("s{i}"), 5) };
    let job = |i| new_job(&format!("{queue}-{i}"), (0..STAGES).map(stage).collect());
    join_all((0..jobs).map(|i| any(apis).submit(job(i)))).await;
}

/// Leases the stages of a queue until each of so many was leased once; short leases can run out and come again meanwhile.
async fn lease(apis: &[Api], queue: &str, stages: usize, duration: u64) -> Vec<proto::Lease> {
    let mut leases: Vec<proto::Lease> = Vec::new();
    let mut missing = stages;
    while missing > 0 {
        let request = proto::LeaseStagesRequest {
            worker_id: format!("worker-{duration}"),
            queues: vec![queue.to_owned()],
            max_stages: i32::try_from(missing.min(100)).expect("at most 100"),
            wait: seconds(PATIENCE.as_secs()),
            lease_duration: seconds(duration),
            ..Default::default()
        };
        let more = ok(any(apis).workers().lease_stages(request).await).leases;
        assert!(!more.is_empty(), "{missing} of {stages} stages of {queue} were not leased in time");
        leases.extend(more);
        missing = stages - newest(&leases).len();
    }
    leases
}

/// The newest lease of each stage.
fn newest(leases: &[proto::Lease]) -> HashMap<(String, String), &proto::Lease> {
    let mut newest: HashMap<_, &proto::Lease> = HashMap::new();
    for lease in leases {
        let known = newest.entry(stage_of(lease)).or_insert(lease);
        if known.fencing_token < lease.fencing_token {
            *known = lease;
        }
    }
    newest
}

fn stage_of(lease: &proto::Lease) -> (String, String) {
    (lease.job_id.clone(), lease.stage_name.clone())
}

/// What a write under an old token came to: its version if it was accepted.
async fn stale_write(api: &Api, lease: &proto::Lease, which: usize) -> Option<i64> {
    let mut workers = api.workers();
    let answer = match which {
        0 => {
            let (progress, message) = (Some(0.9), Some("stale".to_owned()));
            let request =
                proto::UpdateStageProgressRequest { target: token(lease), progress, message, ..Default::default() };
            workers.update_stage_progress(request).await.map(|it| it.map(|it| it.applied_job_version))
        }
        1 => {
            let artifacts = struct_of(json!({ "by": "stale" }));
            let request = proto::CompleteStageRequest { target: token(lease), artifacts, ..Default::default() };
            workers.complete_stage(request).await.map(|it| it.map(|it| it.applied_job_version))
        }
        2 => {
            let failure = Some(failure(proto::FailureClass::ClientError));
            let request = proto::FailStageRequest { target: token(lease), failure, ..Default::default() };
            workers.fail_stage(request).await.map(|it| it.map(|it| it.applied_job_version))
        }
        3 => {
            let request = proto::ReleaseStageRequest { target: token(lease), ..Default::default() };
            workers.release_stage(request).await.map(|it| it.map(|it| it.applied_job_version))
        }
        _ => {
            let stages = vec![new_stage(&format!("{}-stale", lease.stage_name))];
            let request = proto::AddStagesRequest { target: token(lease), stages, ..Default::default() };
            workers.add_stages(request).await.map(|it| it.map(|it| it.applied_job_version))
        }
    };
    match Answer::of(answer) {
        Answer::Done(version) => Some(version),
        Answer::Refused(refusal) => {
            assert_eq!(refusal.reason, "LEASE_LOST", "{refusal:?}");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// Asserts that a renewal with an old token reports the lease as lost.
async fn assert_lease_lost(api: &Api, lease: &proto::Lease) {
    assert_eq!(api.renew_lease(lease, Some(0.9)).await.directive(), LeaseDirective::Lost);
}

/// Late writes: four for each stage that was leased again, and a renewal, while its new holder works and completes.
async fn late(apis: &[Api]) -> (usize, usize) {
    let jobs = TAKEN_OVER * scale();
    submit(apis, "taken-over", jobs).await;
    let old = lease(apis, "taken-over", jobs * STAGES, SHORT).await;
    let new = lease(apis, "taken-over", jobs * STAGES, LONG).await;
    assert_eq!(new.len(), jobs * STAGES, "a stage was leased twice at the same time");
    let (old, new) = (newest(&old), newest(&new));
    let each = old.into_iter().enumerate().map(|(i, (stage, old))| {
        let new = new[&stage];
        assert!(new.fencing_token > old.fencing_token);
        async move {
            let stale = async {
                // AddStages takes the place of a Release at times.
                let writes = [0, 1, 2, if i % 2 == 0 { 3 } else { 4 }];
                let writes = join_all(writes.map(|which| stale_write(any(apis), old, which)));
                let (writes, ()) = futures::join!(writes, assert_lease_lost(any(apis), old));
                writes
            };
            let fresh = async {
                let progress = any(apis).progress(new, 0.5).await;
                assert!(progress.applied);
                any(apis).complete(new, json!({ "by": "new" })).await
            };
            let (stale, completed) = futures::join!(stale, fresh);
            let stage = completed.stage.expect("the stage");
            assert_eq!((stage.state(), stage.artifacts), (StageState::Succeeded, struct_of(json!({ "by": "new" }))));
            (stale.len(), stale.into_iter().flatten().count())
        }
    });
    let counted = join_all(each).await;
    for i in 0..jobs {
        let job = apis[0].job(&format!("taken-over-{i}")).await;
        assert_eq!((job.state(), job.stages.len()), (proto::JobState::Succeeded, STAGES), "{}", job.job_id);
        assert!(job.stages.iter().all(|stage| stage.message != "stale"));
    }
    counted.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Racing writes: progress from the lease on until it is refused, while another worker waits for the stage. Returns the
/// number of writes accepted before the takeover, and after it.
async fn racing(apis: &[Api]) -> (usize, usize) {
    submit(apis, "raced", RACED).await;
    let old = lease(apis, "raced", RACED * STAGES, SHORT).await;
    let race = |lease: proto::Lease| async move {
        let mut accepted = Vec::new();
        for step in 1.. {
            let request = proto::UpdateStageProgressRequest {
                target: token(&lease),
                message: Some(format!("step {step}")),
                ..Default::default()
            };
            match Answer::of(any(apis).workers().update_stage_progress(request).await) {
                Answer::Done(answer) => accepted.push(answer.applied_job_version),
                Answer::Refused(refusal) if refusal.reason == "LEASE_LOST" => break,
                Answer::NotNow(reason) if reason == "CONFLICT" => {}
                other => panic!("{other:?}"),
            }
        }
        (stage_of(&lease), accepted)
    };
    let racing = join_all(old.into_iter().map(race));
    let (raced, new) = futures::join!(racing, lease(apis, "raced", RACED * STAGES, LONG));
    let taken = newest(&new);
    let (mut before, mut after) = (0, 0);
    for (stage, versions) in raced {
        before += versions.iter().filter(|version| **version < taken[&stage].job_version).count();
        after += versions.iter().filter(|version| **version >= taken[&stage].job_version).count();
    }
    (before, after)
}

/// Late completions of stages that were not leased again: allowed, but nothing else is. Returns how many were accepted.
async fn abandoned(apis: &[Api]) -> usize {
    submit(apis, "abandoned", ABANDONED).await;
    let leases = lease(apis, "abandoned", ABANDONED * STAGES, SHORT).await;
    for i in 0..ABANDONED {
        let reaped = |job: &proto::Job| job.stages.iter().all(|stage| stage.state() == StageState::Ready);
        apis[i % apis.len()].job_where(&format!("abandoned-{i}"), "all leases reaped", reaped).await;
    }
    let each = newest(&leases).into_values().map(|lease| async move {
        for which in [0, 2, 4] {
            assert_eq!(stale_write(any(apis), lease, which).await, None, "write {which}");
        }
        assert_lease_lost(any(apis), lease).await;
        let completed = any(apis).complete(lease, json!({ "by": "late" })).await;
        usize::from(completed.stage.expect("the stage").state() == StageState::Succeeded)
    });
    join_all(each).await.into_iter().sum()
}

/// Workers that are not stopped, amid all this: they renew through one server and another, and none may lose its lease
/// before that has run out. Returns how many renewals succeeded, and how many leases ran out because the machine was slow.
async fn living(apis: &[Api]) -> (usize, usize) {
    submit(apis, "living", 1).await;
    let leases = lease(apis, "living", STAGES, LIVING).await;
    let each = newest(&leases).into_values().map(|lease| async move {
        let mut renewals = 0;
        let mut renewed = Instant::now();
        let mut pause = tokio::time::interval(HEARTBEAT_EVERY);
        while renewals < RENEWALS {
            pause.tick().await;
            let sent = Instant::now();
            let received = any(apis).renew_lease(lease, None).await;
            if received.directive() == LeaseDirective::Lost {
                // A renewal is written only when a third of the time is used up, so this much is sure to be left after it.
                let sure = Duration::from_secs(LIVING) * 2 / 3;
                assert!(renewed.elapsed() >= sure, "lost {:?} after a renewal", renewed.elapsed());
                return (renewals, 1);
            }
            renewed = sent;
            renewals += 1;
        }
        (renewals, 0)
    });
    join_all(each).await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_a_stopped_worker_are_refused_after_its_lease_moved() {
    let first = Server::start().await;
    let second = first.beside().await;
    let apis = [first.api.clone(), second.api.clone()];
    let ((late, late_accepted), (before, after), completions, (renewals, ran_out)) =
        futures::join!(late(&apis), racing(&apis), abandoned(&apis), living(&apis));
    eprintln!(
        "stopped workers: {late} late writes, accepted {late_accepted}; racing writes accepted before the takeover \
         {before}, after it {after}; late completions of stages that were not leased again {completions} of {}; {renewals} renewals of the \
         living, false losses 0, run out {ran_out}",
        ABANDONED * STAGES
    );
    assert!(late >= 1_000 * scale() && before >= RACED * STAGES, "too little traffic");
    assert!(renewals >= STAGES * RENEWALS / 2, "too few renewals");
    assert_eq!((late_accepted, after), (0, 0));
    assert_eq!(completions, ABANDONED * STAGES);
}
