//! Watchers under fire: random disconnects and resumes on one server or another, servers and Postgres killed.
//!
//! Each watch checks every message by itself: versions strictly increase, each change names the one before, progress never
//! goes back, nothing comes after the end. When all is over, history says which changes of states there were, and each
//! watcher must have received each change after its snapshot exactly once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use interlock::dev::{Durability, TestCluster};
use interlock::proto::{self, FailureClass, JobEventType};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::answers::{Answer, Refusal};
use super::fleet::{Fleet, once};
use super::{any, scale};
use crate::harness::*;

const SERVERS: usize = 2;
const JOBS: usize = 5;
const WATCHERS: usize = 50;
/// Stages of a job; each can fail often before the end.
const STAGES: usize = 4;
const ATTEMPTS: i32 = 100;
/// Kills, for each unit of scale; every third is one of Postgres.
const KILLS: usize = 3;
/// Changes that must be received between two kills.
const BETWEEN: usize = 1_000;
/// How long a watcher without an answer goes on asking.
const PAUSE: Duration = Duration::from_millis(20);

/// The fleet and what all tasks of the test share.
struct Scene {
    fleet: Fleet,
    over: AtomicBool,
    changes: AtomicUsize,
    disconnects: AtomicUsize,
    broken: AtomicUsize,
}

/// What one watcher received of one job.
struct Record {
    job: String,
    /// The version of its snapshot.
    from: i64,
    state_changes: Vec<(i64, JobEventType)>,
}

/// Counts of all watchers together.
#[derive(Default)]
struct Report {
    changes: usize,
    state_changes: usize,
    disconnects: usize,
    broken: usize,
    server_kills: usize,
    postgres_kills: usize,
    missing_or_twice: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{WATCHERS} watchers of {JOBS} jobs on {SERVERS} servers: {} changes received, {} of them of states; {} disconnects, \
             {} streams broken by {} kills of servers and {} of Postgres; changes of states missing or received twice: {}",
            self.changes,
            self.state_changes,
            self.disconnects,
            self.broken,
            self.server_kills,
            self.postgres_kills,
            self.missing_or_twice,
        )
    }
}

fn job_id(number: usize) -> String {
    format!("job-{number}")
}

/// One that does something to a job until all is over, then brings it to its end.
async fn writer(scene: Arc<Scene>, job_id: String) {
    let stage = |i: usize| format!("s{i}");
    let mut progress = [0.0_f64; STAGES];
    let mut step = 0;
    while !scene.over.load(Ordering::Relaxed) {
        step += 1;
        let i = step % STAGES;
        progress[i] = (progress[i] + 0.01).min(0.99);
        let update = proto::UpdateStageProgressRequest {
            target: Target::named(&job_id, &stage(i)),
            progress: Some(progress[i]),
            request_id: request_id(),
            ..Default::default()
        };
        tell(&scene.fleet, update, async |api, update| api.workers().update_stage_progress(update).await).await;
        if step % 40 == 0 {
            let fail = proto::FailStageRequest {
                target: Target::named(&job_id, &stage(i)),
                failure: Some(failure(FailureClass::ServerError)),
                request_id: request_id(),
                ..Default::default()
            };
            progress[i] = 0.0;
            tell(&scene.fleet, fail, async |api, fail| api.workers().fail_stage(fail).await).await;
        } else if step % 7 == 0 {
            let pause =
                proto::PauseJobRequest { job_id: job_id.clone(), request_id: request_id(), ..Default::default() };
            tell(&scene.fleet, pause, async |api, pause| api.jobs().pause_job(pause).await).await;
            let resume =
                proto::ResumeJobRequest { job_id: job_id.clone(), request_id: request_id(), ..Default::default() };
            tell(&scene.fleet, resume, async |api, resume| api.jobs().resume_job(resume).await).await;
        }
    }
    for i in 0..STAGES {
        let complete = proto::CompleteStageRequest {
            target: Target::named(&job_id, &stage(i)),
            request_id: request_id(),
            ..Default::default()
        };
        tell(&scene.fleet, complete, async |api, complete| api.workers().complete_stage(complete).await).await;
    }
}

/// Sends a write until it is done; one that came too late for a retry, or after the last attempt, counts as done.
async fn tell<R: Clone, T>(
    fleet: &Fleet,
    request: R,
    call: impl AsyncFn(Api, R) -> Result<tonic::Response<T>, Status>,
) {
    let (_answer, _unknown): (Result<T, Refusal>, usize) =
        fleet.until_answered(request, |api, request| call(api, request)).await;
}

/// One that watches a job to its end, and hangs up now and then.
async fn watcher(scene: Arc<Scene>, job: String) -> Record {
    let (mut from, mut at, mut state_changes) = (0, 0, Vec::new());
    loop {
        let mut watch = match once(begin(&scene.fleet.api(), &job, at)).await {
            Answer::Done(watch) => watch,
            Answer::Refused(refusal) => panic!("a watch from {at} was refused: {refusal:?}"),
            Answer::Unknown(_) | Answer::NotNow(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let patience = rand::random_range(1..400);
        for _ in 0..patience {
            match watch.try_next().await {
                Ok(Some(WatchMessage::Snapshot(job))) => {
                    assert_eq!(at, 0, "a snapshot without having asked for one");
                    from = job.version;
                }
                Ok(Some(WatchMessage::Change(change))) => {
                    scene.changes.fetch_add(1, Ordering::Relaxed);
                    if change.event_type() != JobEventType::Unspecified {
                        state_changes.push((change.version, change.event_type()));
                    }
                }
                Ok(Some(WatchMessage::Keepalive(_))) => {}
                Ok(Some(WatchMessage::Gap(oldest))) => panic!("a gap up to {oldest} after {at}"),
                Ok(None) => return Record { job, from, state_changes },
                Err(status) => {
                    assert!(is_resumable(&status), "{status:?}");
                    scene.broken.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            at = watch.version;
        }
        scene.disconnects.fetch_add(1, Ordering::Relaxed);
    }
}

async fn begin(api: &Api, job_id: &str, from: i64) -> Result<tonic::Response<Watch>, Status> {
    Watch::begin(api, job_id, from).await.map(tonic::Response::new)
}

/// What tells a client to watch again: the server or its database went away, or the connection to it.
fn is_resumable(status: &Status) -> bool {
    let is_ours = status.get_error_details().error_info().is_some();
    !(is_ours && status.code() == Code::Internal)
        && matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::ResourceExhausted
        )
}

async fn works(api: &Api) -> bool {
    let request = proto::GetJobRequest { job_id: job_id(0), ..Default::default() };
    let answer = tokio::time::timeout(Duration::from_secs(1), api.jobs().get_job(request)).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_miss_no_change_and_see_no_older_revision() {
    let cluster = TestCluster::own(Durability::Full).await.expect("a Postgres");
    let fleet = Fleet::start(Database::fresh_in(&cluster).await, SERVERS).await;
    for number in 0..JOBS {
        let stages = (0..STAGES)
            .map(|i| proto::StageSpec { direct: true, ..new_stage_with_attempts(&format!("s{i}"), ATTEMPTS) });
        fleet.api().submit(new_job(&job_id(number), stages.collect())).await;
    }
    let scene = Arc::new(Scene {
        fleet,
        over: AtomicBool::new(false),
        changes: AtomicUsize::new(0),
        disconnects: AtomicUsize::new(0),
        broken: AtomicUsize::new(0),
    });
    let writers: Vec<_> = (0..JOBS).map(|number| tokio::spawn(writer(scene.clone(), job_id(number)))).collect();
    let watchers: Vec<_> = (0..WATCHERS).map(|i| tokio::spawn(watcher(scene.clone(), job_id(i % JOBS)))).collect();
    let mut report = Report::default();
    for kill in 0..KILLS * scale() {
        changes_arrive(&scene, BETWEEN).await;
        if kill % 3 == 2 {
            cluster.postgres().kill().await;
            cluster.postgres().start_again().await.expect("it recovers");
            report.postgres_kills += 1;
        } else {
            scene.fleet.kill(kill % SERVERS, works).await;
            report.server_kills += 1;
        }
    }
    changes_arrive(&scene, BETWEEN).await;
    scene.over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let truth = history(any(&scene.fleet.apis())).await;
    for watcher in watchers {
        let record = tokio::time::timeout(PATIENCE, watcher).await.expect("the end in time").expect("no violation");
        let due: Vec<_> = truth[&record.job].iter().copied().filter(|(version, _)| *version > record.from).collect();
        report.state_changes += due.len();
        report.missing_or_twice += usize::from(record.state_changes != due);
    }
    report.changes = scene.changes.load(Ordering::Relaxed);
    report.disconnects = scene.disconnects.load(Ordering::Relaxed);
    report.broken = scene.broken.load(Ordering::Relaxed);
    eprintln!("{report}");
    assert_eq!(report.missing_or_twice, 0);
    assert!(report.changes > report.state_changes && report.state_changes > 10 * WATCHERS, "too little happened");
    assert!(report.disconnects > WATCHERS && report.broken > 0, "too little happened");
}

/// Waits until watchers received `changes` more changes.
async fn changes_arrive(scene: &Scene, changes: usize) {
    let before = scene.changes.load(Ordering::Relaxed);
    eventually("news", async || (scene.changes.load(Ordering::Relaxed) >= before + changes).then_some(())).await;
}

/// The changes of states of each job.
async fn history(api: &Api) -> BTreeMap<String, Vec<(i64, JobEventType)>> {
    let mut history = BTreeMap::new();
    for number in 0..JOBS {
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = proto::ListJobEventsRequest {
                job_id: job_id(number),
                page_size: 1_000,
                page_token,
                ..Default::default()
            };
            let page = ok(api.jobs().list_job_events(request).await);
            events.extend(page.events.iter().map(|event| (event.version, event.event_type())));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        history.insert(job_id(number), events);
    }
    history
}
