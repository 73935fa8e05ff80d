//! Leases that are renewed through several servers, which are killed one after the other: none of them is lost, and those of silent workers are
//! taken all the while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use interlock::dev::Durability;
use interlock::proto::{self, FailureClass, LeaseDirective, StageState};
use tokio::time::MissedTickBehavior;

use super::answers::Answer;
use super::fleet::{Fleet, once};
use super::scale;
use crate::harness::*;

const SERVERS: usize = 3;
/// Kills of servers, for each unit of scale.
const KILLS: usize = 4;
/// Workers that send heartbeats, each with so many leases, of as many jobs as workers.
const WORKERS: usize = 6;
const LEASES: usize = 50;
/// How long a lease lasts, in seconds; several of these pass.
const LEASE: u64 = 5;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(300);
/// Calls that must be answered between two kills.
const BETWEEN: usize = 60;

/// What the workers counted.
#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    repeated: AtomicUsize,
    is_over: AtomicBool,
}

/// Sends the heartbeats of some leases until it is over. One that is not answered is sent again, to any server.
async fn keep(fleet: &Fleet, leases: &[proto::Lease], counts: &Counts) {
    let renewal =
        |lease: &proto::Lease| proto::LeaseRenewal { lease_token: lease.lease_token.clone(), ..Default::default() };
    let request = proto::HeartbeatRequest { renewals: leases.iter().map(renewal).collect() };
    let mut tick = tokio::time::interval(HEARTBEAT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !counts.is_over.load(Ordering::Relaxed) {
        tick.tick().await;
        let statuses = loop {
            let (api, request) = (fleet.api(), request.clone());
            match once(async { api.workers().heartbeat(request).await }).await {
                Answer::Done(answer) => break answer.statuses,
                Answer::Refused(refusal) => panic!("{refusal:?}"),
                Answer::Unknown(_) | Answer::NotNow(_) => counts.repeated.fetch_add(1, Ordering::Relaxed),
            };
        };
        for (lease, status) in leases.iter().zip(statuses) {
            assert_eq!(status.directive(), LeaseDirective::Continue, "{} of {}", lease.stage_name, lease.job_id);
        }
        counts.answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_leases_outlive_their_servers_and_silent_ones_expire() {
    let cluster = interlock::dev::TestCluster::own(Durability::Full).await.expect("a Postgres");
    let fleet = Fleet::start(Database::fresh_in(&cluster).await, SERVERS).await;
    let (api, counts) = (fleet.api(), Counts::default());
    let mut leases = Vec::new();
    for queue in (0..WORKERS).map(|i| format!("kept-{i}")).chain(["silent".to_owned()]) {
        let stage = |i| proto::StageSpec { queue: queue.clone(), ..new_stage_with_attempts(&format!("s{i}"), 1) };
        api.submit(new_job(&queue, (0..LEASES).map(stage).collect())).await;
        let request = proto::LeaseStagesRequest {
            worker_id: queue.clone(),
            queues: vec![queue],
            max_stages: i32::try_from(LEASES).expect("few"),
            lease_duration: seconds(LEASE),
            ..Default::default()
        };
        leases.push(ok(api.workers().lease_stages(request).await).leases);
    }
    leases.pop();
    assert!(leases.iter().all(|leases| leases.len() == LEASES));
    let probe = async |api: &Api| {
        api.jobs().get_job(proto::GetJobRequest { job_id: "silent".into(), ..Default::default() }).await.is_ok()
    };
    let killing = async {
        for kill in 0..KILLS * scale() {
            let before = counts.answered.load(Ordering::Relaxed);
            let enough = async || (counts.answered.load(Ordering::Relaxed) >= before + BETWEEN).then_some(());
            eventually("some heartbeats", enough).await;
            fleet.kill(kill % SERVERS, probe).await;
        }
        // Each of the silent ones had one attempt, which has ended with its lease.
        let silent = fleet.api().job_in("silent", proto::JobState::Failed).await;
        counts.is_over.store(true, Ordering::Relaxed);
        silent
    };
    let (silent, _kept) = futures::join!(killing, join_all(leases.iter().map(|leases| keep(&fleet, leases, &counts))));
    let expired = silent.stages.iter().filter_map(|stage| stage.failure.as_ref());
    assert!(expired.clone().count() > 0);
    assert!(expired.clone().all(|failure| failure.failure_class() == FailureClass::LeaseExpired));
    for i in 0..WORKERS {
        for stage in fleet.api().job(&format!("kept-{i}")).await.stages {
            assert_eq!((stage.state(), stage.attempt, stage.failure), (StageState::Running, 1, None));
        }
    }
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    eprintln!("kept leases: {} heartbeats answered, {} sent again", count(&counts.answered), count(&counts.repeated));
}
