//! Workers on Work streams while servers are killed and streams are reset: every stage is completed exactly once.
//!
//! A worker sends an outcome until it has a result, on one stream after the other. The results are compared with the database: each stage
//! has succeeded, with one completion in the history of its job.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use interlock::dev::{Durability, TestCluster};
use interlock::proto::{self, WorkRequest};
use tonic::{Code, Request};

use super::fleet::Fleet;
use super::scale;
use crate::harness::*;

const SERVERS: usize = 3;
const WORKERS: usize = 6;
/// Jobs for each unit of scale.
const JOBS: usize = 100;
/// Stages of a job.
const STAGES: usize = 100;
/// Kills for each unit of scale.
const KILLS: usize = 3;
const CAPACITY: i32 = 60;
/// So that leases that a killed server had on their way come again soon.
const LEASE_SECONDS: u64 = 3;
/// One in so many messages is followed by a reset of the stream.
const RESETS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(20);

struct Scene {
    fleet: Fleet,
    over: AtomicBool,
    /// Outcomes that were acknowledged as applied for the first time.
    completed: AtomicUsize,
    /// Outcomes that had been applied when they were sent again.
    replayed: AtomicUsize,
    /// Outcomes of leases that had been lost.
    lost: AtomicUsize,
    streams: AtomicUsize,
}

/// What a result says about an outcome.
enum Verdict {
    Ended,
    Again,
}

impl Scene {
    fn judge(&self, result: &proto::StageOutcomeResult) -> Verdict {
        let code = Code::from(result.status.as_ref().expect("a status").code);
        let counter = match code {
            Code::Ok if result.replayed => &self.replayed,
            Code::Ok => &self.completed,
            // Somebody else has the stage, or has had it.
            Code::FailedPrecondition => &self.lost,
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted => return Verdict::Again,
            other => panic!("{other:?}: {result:?}"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Verdict::Ended
    }

    async fn work(self: Arc<Self>) {
        // Leases whose outcome was sent and has no result.
        let mut unreported = VecDeque::new();
        while !self.over.load(Ordering::Relaxed) {
            let mut first = begin("default", CAPACITY);
            first.begin.as_mut().expect("a beginning").lease_duration = seconds(LEASE_SECONDS);
            match Session::try_open(&self.fleet.api(), Request::new(first)).await {
                Ok(session) => {
                    self.streams.fetch_add(1, Ordering::Relaxed);
                    self.serve(session, &mut unreported).await;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Works on one stream until it breaks.
    async fn serve(&self, mut session: Session, unreported: &mut VecDeque<proto::Lease>) {
        let again: Vec<_> = unreported.iter().map(completed).collect();
        for outcomes in again.chunks(500) {
            if !session.try_send(WorkRequest { outcomes: outcomes.to_vec(), ..Default::default() }).await {
                return;
            }
        }
        while !self.over.load(Ordering::Relaxed) {
            match tokio::time::timeout(Duration::from_millis(200), session.read()).await {
                Err(_) => continue,
                Ok(Ok(true)) => {}
                Ok(Ok(false) | Err(_)) => return,
            }
            let mut more: Vec<proto::Lease> = session.leases.drain(..).collect();
            for result in session.results.drain(..) {
                let lease = unreported.pop_front().expect("no result without an outcome");
                if let Verdict::Again = self.judge(&result) {
                    more.push(lease);
                }
            }
            let mut message = WorkRequest { leases_received: Some(session.received), ..Default::default() };
            for lease in more {
                message.outcomes.push(completed(&lease));
                unreported.push_back(lease);
                if rand::random_ratio(1, 10) && !session.try_send(std::mem::take(&mut message)).await {
                    return;
                }
            }
            if !session.try_send(message).await || rand::random_ratio(1, RESETS) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_stages_are_completed_exactly_once_each() {
    let cluster = TestCluster::own(Durability::Full).await.expect("a Postgres");
    let database = Database::fresh_in(&cluster).await;
    let fleet = Fleet::start(database.clone(), SERVERS).await;
    let (jobs, stages) = (JOBS * scale(), JOBS * STAGES * scale());
    let specs: Vec<_> = (0..STAGES).map(|i| new_stage_with_attempts(&format!("s{i}"), 100)).collect();
    for job in 0..jobs {
        fleet.api().submit(new_job(&format!("job-{job}"), specs.clone())).await;
    }
    let zero = AtomicUsize::default;
    let over = AtomicBool::new(false);
    let (completed, replayed, lost, streams) = (zero(), zero(), zero(), zero());
    let scene = Arc::new(Scene { fleet, over, completed, replayed, lost, streams });
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(scene.clone().work())).collect();
    let received = || scene.completed.load(Ordering::Relaxed) + scene.replayed.load(Ordering::Relaxed);
    let kills = KILLS * scale();
    for kill in 0..kills {
        let enough = stages * (kill + 1) / (kills + 2);
        eventually("some completions", async || (received() >= enough).then_some(())).await;
        let works = async |api: &Api| api.jobs().list_jobs(proto::ListJobsRequest::default()).await.is_ok();
        scene.fleet.kill(kill % SERVERS, works).await;
    }
    let client = sql(database.url()).await;
    let count = async |query: &str| client.query_one(query, &[]).await.expect("a query").get::<_, i64>(0) as usize;
    let succeeded = async || count("SELECT count(*) FROM stages WHERE state = 5").await;
    eventually("all stages", async || (succeeded().await == stages).then_some(())).await;
    scene.over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("no panic");
    }
    let completions = count("SELECT count(*) FROM job_events WHERE kind = 11").await;
    let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{completions} completions in history; {} acknowledged, {} repeated, {} of lost leases; {} streams, {kills} kills",
        load(&scene.completed),
        load(&scene.replayed),
        load(&scene.lost),
        load(&scene.streams),
    );
    assert_eq!(completions, stages, "each stage was completed once");
    assert!(load(&scene.completed) <= stages);
    assert!(load(&scene.streams) > WORKERS * 2);
}
