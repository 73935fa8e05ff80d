//! LeaseStages and Heartbeat: who gets what, when, with which documents.

use std::time::{Duration, Instant};

use interlock::proto::{self, FailureClass, LeaseDirective, StageOnFailure, StageSpec, StageState};
use serde_json::json;

use crate::harness::*;

fn poll(queues: &[&str], max_stages: i32, wait_ms: i64) -> proto::LeaseStagesRequest {
    proto::LeaseStagesRequest {
        worker_id: "worker".to_owned(),
        queues: texts(queues),
        max_stages,
        wait: millis(wait_ms),
        ..Default::default()
    }
}

fn queued(name: &str, queue: &str) -> StageSpec {
    StageSpec { queue: queue.to_owned(), ..new_stage(name) }
}

#[tokio::test]
async fn lease_has_all_that_a_worker_needs() {
    let server = Server::start().await;
    let optional = StageSpec { on_failure: StageOnFailure::Continue.into(), ..queued("optional", "first") };
    let render = StageSpec {
        depends_on: texts(&["voice", "optional"]),
        depends_when: proto::StageDependsWhen::AllFinished.into(),
        input: struct_of(json!({ "codec": "h264" })),
        group_key: "g".into(),
        lease_duration: seconds(40),
        ..queued("render", "second")
    };
    let request = proto::SubmitJobRequest {
        payload: struct_of(json!({ "title": "Cats" })),
        labels: labels(&[("customer", "acme")]),
        ..new_job("film", vec![queued("voice", "first"), optional, render])
    };
    server.api.submit(request.clone()).await;
    for lease in server.api.lease_now("first", 2).await {
        match &*lease.stage_name {
            "voice" => drop(server.api.complete(&lease, json!({ "wav": "s3://v" })).await),
            _ => drop(server.api.fail(&lease, failure(FailureClass::ClientError)).await),
        }
    }
    let lease = ok(server.api.workers().lease_stages(poll(&["second"], 1, 0)).await).leases.pop().expect("a lease");
    assert_eq!((&*lease.job_id, &*lease.stage_name, &*lease.kind), ("film", "render", "film"));
    assert_eq!((&*lease.queue, &*lease.group_key), ("second", "g"));
    assert_eq!((lease.attempt, lease.max_attempts, lease.fencing_token), (1, 3, 1));
    assert_eq!((&lease.payload, &lease.labels), (&request.payload, &request.labels));
    assert_eq!(lease.input, request.stages[2].input);
    assert!(!lease.lease_token.is_empty() && lease.lease_token.len() <= 64);
    assert_eq!(lease.heartbeat_interval.map(|it| it.seconds), Some(10), "less than a third of the stage's own 40 s");
    let ttl = lease.ttl.expect("a ttl");
    assert!((35..=40).contains(&ttl.seconds), "{ttl:?}");
    let mut dependencies = lease.dependencies.clone();
    dependencies.sort_by(|a, b| a.name.cmp(&b.name));
    let [optional, voice] = &dependencies[..] else { panic!("{dependencies:?}") };
    assert_eq!((voice.state(), &voice.artifacts), (StageState::Succeeded, &struct_of(json!({ "wav": "s3://v" }))));
    assert_eq!(optional.state(), StageState::Failed);
    assert_eq!(optional.failure.as_ref().map(|it| it.failure_class()), Some(FailureClass::ClientError));
    let job = server.api.job("film").await;
    assert_eq!(job.version, lease.job_version);
    let shown = stage(&job, "render").lease.clone().expect("everybody sees who works on it");
    assert_eq!((&*shown.worker_id, shown.fencing_token), ("worker", 1));
    assert_eq!(shown.expire_time, lease.expire_time);
}

#[tokio::test]
async fn a_poll_that_waits_is_answered_by_a_job_that_comes_later() {
    let server = Server::start().await;
    let waiting = tokio::spawn({
        let api = server.api.clone();
        async move { ok(api.workers().lease_stages(poll(&["default"], 1, 60_000)).await).leases }
    });
    server.api.polls_wait(1).await;
    let began = Instant::now();
    server.api.submit(new_job("film", Vec::new())).await;
    let leases = waiting.await.expect("no panic");
    assert_eq!(leases.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.api.polls_wait(0).await;
}

#[tokio::test]
async fn a_poll_without_work_is_answered_when_its_wait_is_over() {
    let server = Server::start().await;
    for wait_ms in [0, 200] {
        let began = Instant::now();
        assert_eq!(ok(server.api.workers().lease_stages(poll(&[], 1, wait_ms)).await).leases, []);
        assert!(began.elapsed() >= Duration::from_millis(wait_ms.unsigned_abs()));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn max_stages_and_queues_bound_the_leases_of_a_call() {
    let server = Server::start().await;
    let stages = (0..6).map(|i| queued(&format!("s{i}"), ["red", "green", "blue"][i % 3])).collect();
    server.api.submit(new_job("film", stages)).await;
    let lease = async |queues: &[&str], max| ok(server.api.workers().lease_stages(poll(queues, max, 0)).await).leases;
    assert_eq!(lease(&[], 100).await, [], "the default queue is empty");
    let two = lease(&["red", "blue", "red"], 3).await;
    assert_eq!(two.len(), 3);
    assert!(two.iter().all(|lease| lease.queue != "green"));
    assert_eq!(lease(&["red", "blue"], 0).await.len(), 1, "0 means 1");
    assert_eq!(lease(&["red", "blue"], 100).await, []);
    assert_eq!(lease(&["green"], 100).await.len(), 2);
}

#[tokio::test]
async fn higher_priority_comes_first_then_what_is_older() {
    let server = Server::start().await;
    for (job_id, priority) in [("c", 0), ("a", 0), ("z", 1_000), ("b", 0), ("y", -1_000)] {
        server.api.submit(proto::SubmitJobRequest { priority, ..new_job(job_id, Vec::new()) }).await;
    }
    let mut order = Vec::new();
    while let Some(lease) = server.api.lease_now("default", 1).await.pop() {
        order.push(lease.job_id);
    }
    assert_eq!(order, ["z", "c", "a", "b", "y"]);
}

#[tokio::test]
async fn same_group_means_one_queue_and_one_group() {
    let server = Server::start().await;
    let grouped = |name: &str, queue: &str, group: &str| StageSpec { group_key: group.into(), ..queued(name, queue) };
    let stages = vec![
        grouped("a1", "edit", "doc-a"),
        grouped("b1", "edit", "doc-b"),
        grouped("a2", "edit", "doc-a"),
        grouped("other-queue", "draw", "doc-a"),
        queued("single-1", "edit"),
        queued("single-2", "edit"),
    ];
    server.api.submit(new_job("one", stages)).await;
    // A group reaches across jobs.
    server.api.submit(new_job("two", vec![grouped("a3", "edit", "doc-a")])).await;
    let mut batches = Vec::new();
    loop {
        let request = proto::LeaseStagesRequest { same_group: true, ..poll(&["edit", "draw"], 10, 0) };
        let leases = ok(server.api.workers().lease_stages(request).await).leases;
        if leases.is_empty() {
            break;
        }
        let mut names: Vec<_> = leases.into_iter().map(|lease| lease.stage_name).collect();
        names.sort();
        batches.push(names.join(" "));
    }
    batches.sort();
    assert_eq!(batches, ["a1 a2 a3", "b1", "other-queue", "single-1", "single-2"]);
}

#[tokio::test]
async fn direct_stages_are_never_leased() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![StageSpec { direct: true, ..new_stage("mine") }])).await;
    assert_eq!(server.api.lease_now("default", 100).await, []);
    assert_eq!(server.api.stage("film", "mine").await.state(), StageState::Ready);
}

#[tokio::test]
async fn each_renewal_of_a_heartbeat_succeeds_or_fails_alone() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a"), new_stage("b"), new_stage("c")])).await;
    let leases = server.api.lease_now("default", 3).await;
    server.api.complete(&leases[1], json!({})).await;
    let renewals = leases.iter().map(|lease| proto::LeaseRenewal {
        lease_token: lease.lease_token.clone(),
        progress: Some(0.25),
        message: Some("busy".into()),
    });
    let request = proto::HeartbeatRequest { renewals: renewals.collect() };
    let statuses = ok(server.api.workers().heartbeat(request).await).statuses;
    let directives: Vec<_> = statuses.iter().map(|status| status.directive()).collect();
    use LeaseDirective::{Continue, Lost};
    assert_eq!(directives, [Continue, Lost, Continue]);
    assert_eq!((&statuses[1].expire_time, &statuses[1].ttl, statuses[1].job_version), (&None, &None, 0));
    let job = server.api.job("film").await;
    assert_eq!(statuses.iter().map(|status| status.job_version).max(), Some(job.version));
    for name in [&leases[0].stage_name, &leases[2].stage_name] {
        assert_eq!((stage(&job, name).progress, &*stage(&job, name).message), (0.25, "busy"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_share_a_queue_and_run_each_stage_once() {
    let server = Server::start().await;
    let stages = (0..300).map(|i| new_stage(&format!("s{i}"))).collect();
    server.api.submit(new_job("film", stages)).await;
    let workers = (0..10).map(async |_| {
        let api = Api::connect(server.address).await;
        let mut done = Vec::new();
        loop {
            let leases = ok(api.workers().lease_stages(poll(&["default"], 4, 0)).await).leases;
            if leases.is_empty() {
                return done;
            }
            for lease in leases {
                assert_eq!((lease.attempt, lease.fencing_token), (1, 1));
                api.complete(&lease, json!({})).await;
                done.push(lease.stage_name);
            }
        }
    });
    let mut done = futures::future::join_all(workers).await.concat();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 300);
    assert_eq!(server.api.job("film").await.state(), proto::JobState::Succeeded);
}
