//! LeaseStages with a `request_id`: a repeat gets the same leases, and never more of them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use interlock::proto::{self, LeaseDirective, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn poll(max_stages: i32, wait_ms: i64) -> proto::LeaseStagesRequest {
    proto::LeaseStagesRequest {
        worker_id: "worker".to_owned(),
        max_stages,
        wait: millis(wait_ms),
        lease_duration: seconds(3_600),
        request_id: request_id(),
        ..Default::default()
    }
}

async fn leased(api: &Api, request: &proto::LeaseStagesRequest) -> proto::LeaseStagesResponse {
    ok(api.workers().lease_stages(request.clone()).await)
}

fn tokens(response: &proto::LeaseStagesResponse) -> BTreeSet<String> {
    response.leases.iter().map(|lease| lease.lease_token.clone()).collect()
}

async fn release(api: &Api, lease_token: &str) {
    let target = proto::StageTarget::leased(lease_token);
    let request = proto::ReleaseStageRequest { target: Some(target), ..Default::default() };
    ok(api.workers().release_stage(request).await);
}

/// Jobs of one stage each, which are ready.
async fn submit(api: &Api, count: usize) {
    join_all((0..count).map(|i| api.submit(new_job(&format!("job-{i}"), Vec::new())))).await;
}

async fn running(api: &Api, jobs: usize) -> usize {
    let states = join_all((0..jobs).map(async |i| api.stage(&format!("job-{i}"), "main").await.state())).await;
    states.into_iter().filter(|state| *state == StageState::Running).count()
}

#[tokio::test]
async fn a_repeat_gets_the_leases_that_are_still_held() {
    let a = Server::start().await;
    let b = a.beside().await;
    // Two of one job and one of another.
    a.api.submit(new_job("film", vec![new_stage("voice"), new_stage("score")])).await;
    a.api.submit(new_job("clip", Vec::new())).await;
    a.api.submit(new_job("late", Vec::new())).await;
    let request = poll(3, 0);
    let first = leased(&a.api, &request).await;
    assert_eq!((first.leases.len(), first.replayed), (3, false));
    // On the same server and on another, for which it does not wait although it may.
    for api in [&a.api, &b.api, &b.api] {
        let again = leased(api, &proto::LeaseStagesRequest { wait: seconds(30), ..request.clone() }).await;
        assert!(again.replayed);
        assert_eq!(tokens(&again), tokens(&first));
        for lease in &again.leases {
            let before = first.leases.iter().find(|before| before.lease_token == lease.lease_token).expect("the same");
            assert_eq!((lease.fencing_token, lease.attempt), (before.fencing_token, before.attempt));
            assert_eq!((&lease.job_id, &lease.stage_name), (&before.job_id, &before.stage_name));
            assert!(lease.ttl.expect("a ttl").seconds >= 3_500);
        }
    }
    // What has ended is left out, and nothing comes in its place.
    a.api.complete(&first.leases[0], json!({})).await;
    release(&a.api, &first.leases[1].lease_token).await;
    let again = leased(&b.api, &request).await;
    assert_eq!((tokens(&again), again.replayed), ([first.leases[2].lease_token.clone()].into(), true));
    // When nothing is held any more it is a new call, and can be repeated too.
    a.api.complete(&first.leases[2], json!({})).await;
    let next = leased(&a.api, &request).await;
    assert_eq!((next.leases.len(), next.replayed), (2, false));
    assert!(tokens(&next).is_disjoint(&tokens(&first)));
    let again = leased(&b.api, &request).await;
    assert_eq!((tokens(&again), again.replayed), (tokens(&next), true));
}

#[tokio::test]
async fn repeat_of_a_call_without_leases_is_a_new_call() {
    let server = Server::start().await;
    let request = poll(1, 0);
    for _ in 0..2 {
        let response = leased(&server.api, &request).await;
        assert!(response.leases.is_empty() && !response.replayed);
    }
    submit(&server.api, 2).await;
    let first = leased(&server.api, &request).await;
    assert_eq!((first.leases.len(), first.replayed), (1, false));
    assert_eq!(tokens(&leased(&server.api, &request).await), tokens(&first));
    assert_eq!(running(&server.api, 2).await, 1);
}

#[tokio::test]
async fn another_content_under_the_same_request_id_is_refused() {
    let server = Server::start().await;
    submit(&server.api, 3).await;
    let request = poll(1, 0);
    leased(&server.api, &request).await;
    let more = proto::LeaseStagesRequest { max_stages: 2, ..request.clone() };
    let (code, reason) = (Code::InvalidArgument, "REQUEST_ID_REUSED");
    refused(server.api.workers().lease_stages(more).await, code, reason);
    let submit = proto::SubmitJobRequest { request_id: request.request_id.clone(), ..new_job("other", Vec::new()) };
    refused(server.api.jobs().submit_job(submit).await, code, reason);
    let submit = proto::SubmitJobRequest { request_id: request_id(), ..new_job("other", Vec::new()) };
    server.api.submit(submit.clone()).await;
    let used = proto::LeaseStagesRequest { request_id: submit.request_id, ..request };
    refused(server.api.workers().lease_stages(used).await, code, reason);
}

#[tokio::test]
async fn a_repeat_takes_the_place_of_the_call_that_waits() {
    let server = Server::start().await;
    let request = poll(1, 50_000);
    let first = tokio::spawn({
        let (api, request) = (server.api.clone(), request.clone());
        async move { leased(&api, &request).await }
    });
    server.api.polls_wait(1).await;
    let repeat = tokio::spawn({
        let (api, request) = (server.api.clone(), request.clone());
        async move { leased(&api, &request).await }
    });
    let first = first.await.expect("superseded");
    assert!(first.leases.is_empty() && !first.replayed);
    server.api.polls_wait(1).await;
    submit(&server.api, 2).await;
    assert_eq!(repeat.await.expect("served").leases.len(), 1);
    // One that does not wait ends one that does.
    let request = proto::LeaseStagesRequest { queues: texts(&["empty"]), ..poll(1, 50_000) };
    let waiting = tokio::spawn({
        let (api, request) = (server.api.clone(), request.clone());
        async move { leased(&api, &request).await }
    });
    server.api.polls_wait(1).await;
    assert!(leased(&server.api, &proto::LeaseStagesRequest { wait: None, ..request }).await.leases.is_empty());
    assert!(waiting.await.expect("superseded").leases.is_empty());
    assert_eq!(running(&server.api, 2).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_repeats_never_hold_more_leases_than_requested() {
    const ROUNDS: usize = 30;
    const MOST: usize = 3;
    let a = Server::start().await;
    let b = a.beside().await;
    let jobs = 6 * ROUNDS;
    submit(&a.api, jobs).await;
    for round in 0..ROUNDS {
        let request = poll(i32::try_from(MOST).expect("few"), 10_000);
        let calls = [&a.api, &b.api, &a.api, &b.api].map(|api| leased(api, &request));
        let responses = join_all(calls).await;
        let received: BTreeSet<String> = responses.iter().flat_map(tokens).collect();
        assert!((1..=MOST).contains(&received.len()), "round {round}: {received:?}");
        // No lease that a call returned is given back, and no lease is held that no call returned.
        let again = leased(&b.api, &request).await;
        assert_eq!((tokens(&again), again.replayed), (received.clone(), true), "round {round}");
        assert_eq!(running(&a.api, jobs).await, received.len(), "round {round}");
        for token in &received {
            release(&a.api, token).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_after_a_cancel_gets_the_held_leases_and_no_other_stays() {
    const ROUNDS: u64 = 80;
    let server = Server::start().await;
    let (mut found, mut replayed) = (0, 0);
    for round in 0..ROUNDS {
        let api = Api::connect(server.address).await;
        let job_id = format!("job-{round}");
        let request = proto::LeaseStagesRequest { queues: texts(&[&job_id]), ..poll(1, 50_000) };
        let calling = tokio::spawn({
            let (api, request) = (api.clone(), request.clone());
            async move { leased(&api, &request).await }
        });
        server.api.polls_wait(1).await;
        let stage = proto::StageSpec { queue: job_id.clone(), ..new_stage("main") };
        // At different moments, from before the lease is made until after it was delivered.
        let cancel = async {
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            calling.abort();
            leased(&api, &proto::LeaseStagesRequest { wait: None, ..request }).await
        };
        let (_, response) = futures::future::join(server.api.submit(new_job(&job_id, vec![stage])), cancel).await;
        found += response.leases.len();
        replayed += usize::from(response.replayed);
        for lease in &response.leases {
            // Whatever still happens to the first call, it does not take this away.
            server.api.polls_wait(0).await;
            assert_eq!(
                server.api.renew_lease(lease, None).await.directive(),
                LeaseDirective::Continue,
                "round {round}"
            );
            release(&server.api, &lease.lease_token).await;
        }
    }
    for round in 0..ROUNDS {
        eventually("the stage is ready again, and its attempt is not counted", async || {
            let stage = server.api.stage(&format!("job-{round}"), "main").await;
            (stage.state() == StageState::Ready && stage.attempt == 0).then_some(())
        })
        .await;
    }
    println!("{ROUNDS} callers cancelled and repeated: {found} got a lease, {replayed} that of the first call");
}

#[tokio::test]
async fn repeat_during_the_first_call_gets_its_leases() {
    let server = Server::start().await;
    submit(&server.api, 1).await;
    // So that the first call is served for a while.
    let other = sql(server.database.url()).await;
    other.batch_execute("BEGIN; SELECT FROM jobs FOR UPDATE").await.expect("the row is free");
    let request = poll(1, 50_000);
    let call = || {
        let (api, request) = (server.api.clone(), request.clone());
        tokio::spawn(async move { leased(&api, &request).await })
    };
    let first = call();
    eventually("the first call is being served", async || {
        let conflicts = server.api.statistics().await.writer.expect("figures").conflicts;
        (conflicts > 0).then_some(())
    })
    .await;
    let repeat = call();
    server.api.polls_wait(1).await;
    other.batch_execute("COMMIT").await.expect("the row is free again");
    let first = first.await.expect("served");
    assert_eq!(first.leases.len(), 1);
    let repeat = tokio::time::timeout(PATIENCE, repeat).await.expect("it does not wait any longer").expect("served");
    assert_eq!((tokens(&repeat), repeat.replayed), (tokens(&first), true));
}

#[tokio::test]
async fn repeat_that_waits_on_another_server_gets_the_leases() {
    let a = Server::start().await;
    let b = a.beside().await;
    let request = poll(1, 3_000);
    let calls = [&a, &b].map(|server| {
        let (api, request) = (server.api.clone(), request.clone());
        tokio::spawn(async move { leased(&api, &request).await })
    });
    a.api.polls_wait(1).await;
    b.api.polls_wait(1).await;
    submit(&a.api, 1).await;
    let [first, second] = calls;
    let (first, second) = (first.await.expect("served"), second.await.expect("served"));
    assert_eq!((tokens(&first), first.leases.len()), (tokens(&second), 1));
    assert!(first.replayed || second.replayed);
    assert_eq!(running(&a.api, 1).await, 1);
}
