//! Many writers on few and on many jobs through several servers: every answer is true, and nothing is lost or doubled.
//!
//! What is known at the end: each applied write returned its version, so the whole life of a job can be put together. A
//! version was current from an instant within the call that made it to an instant within the call that made the next
//! one. An answer that names a version, be it a read or a refusal, must name one that can have been current between its
//! request and its arrival.

mod leases;
mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use futures::future::join_all;
use interlock::proto::{self, JobEventType};

use super::answers::Answer;
use super::{any, scale};
use crate::harness::*;
use ledger::Ledger;

/// Who writes by name.
const WRITERS: usize = 96;
/// Who leases, writes under the lease, and gives back or completes.
const WORKERS: usize = 32;
/// Calls of each writer, for each unit of scale.
const CALLS: usize = 24;
/// Stages for workers, over all jobs, for each unit of scale.
const STAGES: usize = 96;

/// What everybody knows and counts.
struct Scene {
    apis: Vec<Api>,
    jobs: Vec<String>,
    ledger: Ledger,
    /// The writers are done, so the workers may stop.
    over: AtomicBool,
    /// Answers that ask to come again: allowed, but not for many.
    conflicts: AtomicU64,
    /// Refusals that cannot be true here.
    false_refusals: AtomicU64,
    heartbeats: AtomicU64,
}

impl Scene {
    fn api(&self) -> &Api {
        any(&self.apis)
    }

    /// Counts an answer that is no success.
    fn note(&self, answer: Answer<()>) {
        match answer {
            Answer::Done(()) => {}
            Answer::NotNow(reason) => {
                // A deadlock would come as a bug's INTERNAL or as a conflict; anything but a conflict is wrong here.
                assert_eq!(reason, "CONFLICT");
                self.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            Answer::Refused(refusal) => {
                eprintln!("false: {refusal:?}");
                self.false_refusals.fetch_add(1, Ordering::Relaxed);
            }
            Answer::Unknown(what) => panic!("nothing is broken here: {what}"),
        }
    }
}

/// A change of a job that no other call makes.
fn update(job_id: &str, writer: usize, call: usize, expected_version: Option<i64>) -> proto::UpdateJobRequest {
    proto::UpdateJobRequest {
        job_id: job_id.to_owned(),
        labels: labels(&[("by", &format!("{writer}.{call}"))]),
        expected_version,
        ..Default::default()
    }
}

/// One call of a writer: an update, mostly one that expects what somebody saw last, progress by name, or a read.
async fn write_once(scene: &Scene, writer: usize, call: usize) {
    let job = rand::random_range(0..scene.jobs.len());
    let (api, job_id) = (scene.api(), &scene.jobs[job]);
    let sent = Instant::now();
    match rand::random_range(0..10) {
        0 | 1 => {
            let read = api.job(job_id).await;
            scene.ledger.saw(job, read.version, sent);
        }
        2 | 3 => {
            let request = proto::UpdateStageProgressRequest {
                target: Target::named(job_id, "direct"),
                message: Some(format!("{writer}.{call}")),
                ..Default::default()
            };
            match Answer::of(api.workers().update_stage_progress(request).await) {
                Answer::Done(answer) => scene.ledger.applied(job, answer.applied_job_version, sent),
                other => scene.note(other.nothing()),
            }
        }
        4 => match Answer::of(api.jobs().update_job(update(job_id, writer, call, None)).await) {
            Answer::Done(answer) => scene.ledger.applied(job, answer.applied_version, sent),
            other => scene.note(other.nothing()),
        },
        _ => {
            let expected = scene.ledger.newest(job);
            match Answer::of(api.jobs().update_job(update(job_id, writer, call, Some(expected))).await) {
                Answer::Done(answer) => {
                    assert_eq!(answer.applied_version, expected + 1, "it applies only at the version expected");
                    scene.ledger.applied(job, answer.applied_version, sent);
                }
                Answer::Refused(refusal) if refusal.reason == "VERSION_MISMATCH" => {
                    assert_eq!(refusal.number("expected"), expected);
                    scene.ledger.refused(job, expected, refusal.number("actual"), sent);
                }
                other => scene.note(other.nothing()),
            }
        }
    }
}

/// The versions of a job that no client was told of: of grants that came after the wait of their call, and of the releases by which the server gave
/// their stages back. All others belong to a client.
async fn untold(scene: &Scene, job: usize, last: i64) -> BTreeSet<i64> {
    let untold = scene.ledger.untold(job, last);
    if untold.is_empty() {
        return untold;
    }
    let mut given = BTreeMap::new();
    for event in scene.api().events(&scene.jobs[job]).await {
        if untold.contains(&event.version) {
            let step = match event.event_type() {
                JobEventType::StageStarted => 1,
                JobEventType::StageReleased => -1,
                _ => panic!("nobody was told of {event:?}"),
            };
            event.stage_changes.into_iter().for_each(|change| *given.entry(change.stage_name).or_insert(0) += step);
        }
    }
    assert!(given.values().all(|count| *count == 0), "granted to nobody and not given back: {given:?}");
    untold
}

async fn run(servers: &[Server], jobs: usize) {
    let started = Instant::now();
    let apis: Vec<Api> = servers.iter().map(|server| server.api.clone()).collect();
    let queue = format!("queue-{jobs}");
    let stages = (STAGES * scale()).div_ceil(jobs);
    let stage = |i| proto::StageSpec { queue: queue.clone(), ..new_stage_with_attempts(&format!("s{i}"), 20) };
    let direct = proto::StageSpec { direct: true, ..new_stage("direct") };
    let job = |i| new_job(&format!("job-{jobs}-{i}"), (0..stages).map(stage).chain([direct.clone()]).collect());
    let submitted = join_all((0..jobs).map(|i| any(&apis).submit(job(i)))).await;
    let scene = Arc::new(Scene {
        apis,
        jobs: submitted.into_iter().map(|job| job.job_id).collect(),
        ledger: Ledger::new(jobs),
        over: AtomicBool::new(false),
        conflicts: AtomicU64::new(0),
        false_refusals: AtomicU64::new(0),
        heartbeats: AtomicU64::new(0),
    });
    let floor = leases::Floor::default();
    let workers = (0..WORKERS).map(|_| tokio::spawn(leases::work(scene.clone(), queue.clone(), floor.clone())));
    let workers: Vec<_> = workers.collect();
    let write = |writer| {
        let scene = scene.clone();
        tokio::spawn(async move {
            for call in 0..CALLS * scale() {
                write_once(&scene, writer, call).await;
            }
        })
    };
    for writer in (0..WRITERS).map(write).collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    scene.over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("no panic");
    }
    let reads = scene.jobs.iter().map(|job_id| async { any(&scene.apis).job(job_id).await.version });
    let last = join_all(reads).await;
    let untold = join_all(last.iter().enumerate().map(|(job, last)| untold(&scene, job, *last))).await;
    let received = scene.ledger.check(&last, &untold);
    let [conflicts, false_refusals, heartbeats] =
        [&scene.conflicts, &scene.false_refusals, &scene.heartbeats].map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{} writers, {} servers, {jobs} jobs: {received}, {} leases of which at most one at a time, {heartbeats} heartbeats, \
         CONFLICT {conflicts}, false refusals {false_refusals}, {:.1} s",
        WRITERS + WORKERS,
        servers.len(),
        floor.granted(),
        started.elapsed().as_secs_f64(),
    );
    assert_eq!(false_refusals, 0);
    assert!(conflicts * 50 <= received.applied as u64, "{conflicts} were sent away");
    let calls = WRITERS * CALLS * scale();
    assert!(received.applied >= calls / 3 && floor.granted() >= STAGES * scale(), "too little traffic");
    assert!(jobs > 8 || received.refused >= calls / 20, "too few refusals");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_responses_to_128_writers_match_the_stored_state() {
    let first = Server::start().await;
    let servers = [first.beside().await, first.beside().await, first];
    for jobs in [1, 8, 1_000] {
        run(&servers, jobs).await;
    }
}
