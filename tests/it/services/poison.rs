//! Work that kills its worker: what is leased along with it is not lost with it.

use interlock::proto::{self, StageOnFailure, StageSpec, StageState};
use serde_json::json;

use crate::harness::*;

const POISON: &str = "s7";

fn stages(count: usize) -> Vec<StageSpec> {
    let spec = |i| StageSpec {
        group_key: "batch".to_owned(),
        on_failure: StageOnFailure::Continue.into(),
        lease_duration: seconds(1),
        ..new_stage_with_attempts(&format!("s{i}"), 3)
    };
    (0..count).map(spec).collect()
}

fn poll(same_group: bool) -> proto::LeaseStagesRequest {
    proto::LeaseStagesRequest {
        worker_id: "mortal".to_owned(),
        max_stages: 10,
        wait: seconds(1),
        same_group,
        ..Default::default()
    }
}

/// Works as a process that the poison kills, with all that it has leased in one reply.
async fn work(servers: [&Server; 2], same_group: bool) {
    let first = servers[0].api.lease_now("default", 10).await;
    assert_eq!(first.len(), 10, "the worker dies for the first time, with ten stages");
    for round in 0.. {
        let api = &servers[round % 2].api;
        if api.job("film").await.stage_counts.is_some_and(|counts| counts.succeeded + counts.failed == counts.total) {
            return;
        }
        let leases = ok(api.workers().lease_stages(poll(same_group)).await).leases;
        if leases.iter().any(|lease| lease.attempt > 1) {
            assert_eq!(leases.len(), 1, "a stage whose lease has expired is leased alone");
        }
        if leases.iter().all(|lease| lease.stage_name != POISON) {
            for lease in leases {
                api.complete(&lease, json!({})).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_stage_fails_alone_of_ten_leased_together() {
    for same_group in [false, true] {
        let server = Server::start().await;
        let other = server.beside().await;
        server.api.submit(new_job("film", stages(10))).await;
        work([&server, &other], same_group).await;
        let job = server.api.job("film").await;
        for stage in &job.stages {
            let expected = if stage.name == POISON { StageState::Failed } else { StageState::Succeeded };
            assert_eq!(stage.state(), expected, "{}", stage.name);
        }
        assert_eq!(stage(&job, POISON).attempt, 3);
    }
}

#[tokio::test]
async fn backoff_applies_from_the_second_expiry_on() {
    let server = Server::start().await;
    let policy = proto::RetryPolicy { initial_backoff: seconds(3_600), max_backoff: seconds(86_400), ..at_once(3) };
    let stage = StageSpec { retry_policy: Some(policy), ..new_stage("a") };
    server.api.submit(new_job("film", vec![stage])).await;
    server.api.lease_for("default", 1).await;
    assert_eq!(server.api.lease_for("default", 1).await.attempt, 2, "at once after the first");
    let backoff = |job: &proto::Job| job.stages[0].state() == StageState::Backoff;
    let job = server.api.job_where("film", "the backoff", backoff).await;
    assert_eq!(job.stages[0].failure.as_ref().and_then(|failure| failure.retry_wait), seconds(7_200));
}
