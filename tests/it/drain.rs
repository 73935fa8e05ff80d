//! SIGTERM: health says so, polls are answered, what was begun is committed, and the program ends well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use interlock::proto;
use serde_json::json;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn drain_finishes_calls_that_have_begun() {
    let database = Database::fresh().await;
    let program = Program::start(&database).await;
    let api = program.api.clone();
    let stages = (0..4_000).map(|i| proto::StageSpec { direct: true, ..new_stage(&format!("s{i}")) });
    api.submit(new_job("film", stages.collect())).await;

    let mut health = api.health().watch(HealthCheckRequest::default()).await.expect("a watch").into_inner();
    let status = health.message().await.expect("no error").expect("a status").status();
    assert_eq!(status, ServingStatus::Serving);
    // Ten workers and ten clients wait.
    let polls: Vec<_> = (0..10)
        .map(|_| {
            let (api, wait) = (api.clone(), seconds(60));
            let poll = proto::LeaseStagesRequest { worker_id: "w".into(), wait, ..Default::default() };
            tokio::spawn(async move { ok(api.workers().lease_stages(poll).await).leases })
        })
        .collect();
    let waits: Vec<_> = (0..10)
        .map(|_| {
            let (api, wait) = (api.clone(), seconds(60));
            let wait = proto::WaitJobRequest { job_id: "film".into(), wait };
            tokio::spawn(async move { ok(api.jobs().wait_job(wait).await).terminal })
        })
        .collect();
    api.polls_wait(10).await;
    // Others write all the time; each notes its replies.
    let next = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (api, next) = (api.clone(), next.clone());
            tokio::spawn(async move {
                let mut answered = Vec::new();
                loop {
                    let name = format!("s{}", next.fetch_add(1, Ordering::Relaxed));
                    let request = proto::CompleteStageRequest {
                        target: Target::named("film", &name),
                        artifacts: struct_of(json!({ "of": name })),
                        ..Default::default()
                    };
                    match api.workers().complete_stage(request).await {
                        Ok(_) => answered.push(name),
                        // The connection takes no more calls, which is the client's own word; a new one finds no server.
                        Err(status) => {
                            let is_its_own = std::error::Error::source(&status).is_some();
                            assert!(is_its_own || status.code() == Code::Unavailable, "{status:?}");
                            return answered;
                        }
                    }
                }
            })
        })
        .collect();
    eventually("some work", async || (next.load(Ordering::Relaxed) > 300).then_some(())).await;

    let began = Instant::now();
    program.terminate();
    let received = tokio::time::timeout(PATIENCE, health.message()).await.expect("news of the health in time");
    let received = received.expect("no error").map(|status| status.status());
    assert_eq!(received, Some(ServingStatus::NotServing));
    for poll in polls {
        assert_eq!(poll.await.expect("answered in good order"), []);
    }
    for wait in waits {
        assert!(!wait.await.expect("answered in good order"));
    }
    let mut answered = BTreeSet::new();
    for writer in writers {
        answered.extend(writer.await.expect("no panic"));
    }
    drop((health, api));
    assert_eq!(program.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    println!("{} completions were answered; it ended after {:?}", answered.len(), began.elapsed());

    let server = Server::over(database, |_| {}).await;
    let mut request = proto::ListStagesRequest { job_id: "film".into(), page_size: 1_000, ..Default::default() };
    request.states = vec![proto::StageState::Succeeded.into()];
    let mut done = BTreeSet::new();
    loop {
        let page = ok(server.api.jobs().list_stages(request.clone()).await);
        for stage in page.stages {
            assert_eq!(stage.artifacts, struct_of(json!({ "of": stage.name })));
            done.insert(stage.name);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(answered, done, "what was answered was done, and what was done was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_without_clients_ends_at_once() {
    let database = Database::fresh().await;
    let program = Program::start(&database).await;
    program.api.submit(new_job("film", Vec::new())).await;
    let began = Instant::now();
    program.terminate();
    assert_eq!(program.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_drains_when_its_standard_input_ends() {
    let database = Database::fresh().await;
    let mut program = Program::with_flags(&database, &["--until-stdin-closes"]).await;
    program.api.submit(new_job("film", Vec::new())).await;
    program.close_stdin();
    assert_eq!(program.ended().await, Some(0));
}
