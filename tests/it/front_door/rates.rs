//! Rate limits of clients, from outside: exactly so many calls pass, each refusal says when to come back, and each is counted.
//!
//! Rates by the hour do not come back while a test runs, so its counts are exact.

use std::time::Duration;

use interlock::config::{Auth, CallRate, Config};
use interlock::proto::{self, GetStatisticsResponse};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::credentials::scene::{Key, keyed_within};
use crate::harness::*;

fn rate(text: &str) -> CallRate {
    text.parse().expect("a rate")
}

/// A server with limits on what is named, such as `("write", "5/h")`.
async fn limited(rates: &'static [(&str, &str)]) -> Server {
    Server::with(|config: &mut Config| {
        for (class, text) in rates {
            let limit = match *class {
                "read" => &mut config.rate_limit_read,
                "write" => &mut config.rate_limit_write,
                "watch" => &mut config.rate_limit_watch,
                "essential" => &mut config.rate_limit_essential,
                other => panic!("no class {other}"),
            };
            *limit = rate(text);
        }
    })
    .await
}

/// Accepted and refused calls of a class.
fn counted(statistics: &GetStatisticsResponse, class: &str) -> (i64, i64) {
    let classes = &statistics.rate_limits.as_ref().expect("rate limits").classes;
    let found = classes.iter().find(|found| found.class == class).expect("every class is reported");
    (found.accepted, found.refused)
}

/// What a refusal says: class, limit and what is left.
#[track_caller]
fn limit_of(status: &Status) -> [String; 3] {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!((status.code(), &*info.reason), (Code::ResourceExhausted, "RATE_LIMITED"), "{}", status.message());
    assert_eq!(info.metadata["outcome"], "NOT_APPLIED");
    ["class", "limit", "remaining"].map(|key| info.metadata[key].clone())
}

fn wait_of(status: &Status) -> Duration {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("a RetryInfo")
}

async fn submit(api: &Api, namespace: &str) -> Result<(), Status> {
    let request = within(namespace, new_job("", vec![new_stage("voice")]));
    api.jobs().submit_job(request).await.map(drop)
}

async fn submit_batch(api: &Api, jobs: usize) -> Result<(), Status> {
    let jobs = vec![new_job("", vec![new_stage("voice")]); jobs];
    let request = proto::BatchSubmitJobsRequest { jobs, ..Default::default() };
    api.jobs().batch_submit_jobs(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_passes_exactly_and_refused_calls_are_counted_and_not_applied() {
    let server = limited(&[("write", "10/h")]).await;
    let answers = futures::future::join_all((0..100).map(|_| submit(&server.api, "default"))).await;
    let refusals: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refusals.len(), 80);
    for status in &refusals {
        assert_eq!(limit_of(status), ["write", "10/h", "0"]);
        assert!(wait_of(status) <= Duration::from_secs(360), "a token each six minutes");
    }
    assert_eq!(server.column("SELECT count(*)::text FROM jobs").await, ["20"]);
    let statistics = server.api.statistics().await;
    assert_eq!(counted(&statistics, "write"), (20, 80));
    assert_eq!(counted(&statistics, "read"), (0, 0), "reads have no limit here, so they are not counted");
    let clients = statistics.rate_limits.expect("rate limits").clients;
    let received: Vec<_> = clients.iter().map(|client| (&*client.client, &*client.class, client.refused)).collect();
    assert_eq!(received, [("default 127.0.0.1", "write", 80)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn call_after_exactly_the_returned_delay_passes() {
    let server = limited(&[("write", "2/s")]).await;
    let mut refused = 0;
    for _ in 0..12 {
        let Err(status) = submit(&server.api, "default").await else { continue };
        refused += 1;
        let wait = wait_of(&status);
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        let pushback: u64 = status
            .metadata()
            .get("grpc-retry-pushback-ms")
            .expect("a pushback")
            .to_str()
            .expect("digits")
            .parse()
            .expect("digits");
        assert_eq!(u128::from(pushback), wait.as_nanos().div_ceil(1_000_000));
        tokio::time::sleep(wait).await;
        submit(&server.api, "default").await.expect("the wait is over");
    }
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_whose_writes_are_refused_keeps_its_leases() {
    let server = limited(&[("write", "5/h"), ("essential", "1000/s")]).await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("voice"), new_stage("music")])).await;
    let leases = api.lease_now("default", 2).await;
    assert_eq!(leases.len(), 2);
    while submit(api, "default").await.is_ok() {}
    for _ in 0..100 {
        limit_of(&submit(api, "default").await.expect_err("used up"));
        for lease in &leases {
            assert_eq!(api.renew_lease(lease, Some(0.5)).await.directive(), proto::LeaseDirective::Continue);
        }
    }
    for lease in &leases {
        api.complete(lease, serde_json::json!({})).await;
    }
    api.job_in("film", proto::JobState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_its_items() {
    let server = limited(&[("write", "50/h"), ("essential", "50/h"), ("read", "50/h")]).await;
    let api = &server.api;
    submit_batch(api, 70).await.expect("within the burst");
    let status = submit_batch(api, 40).await.expect_err("30 are left");
    // One was charged before the message was read.
    assert_eq!(limit_of(&status), ["write", "50/h", "29"]);
    submit_batch(api, 29).await.expect("that many are left");
    limit_of(&submit(api, "default").await.expect_err("none is left"));
    assert_eq!(server.column("SELECT count(*)::text FROM jobs").await, ["99"]);

    let renewals = vec![proto::LeaseRenewal { lease_token: "x".to_owned(), ..Default::default() }; 101];
    let status = api.workers().heartbeat(proto::HeartbeatRequest { renewals }).await.expect_err("more than the burst");
    assert_eq!(limit_of(&status)[0], "essential");
    assert!(status.message().contains("a batch of 101 exceeds the essential burst of 100"), "{}", status.message());
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("a pushback"), "-1");

    let records = vec![proto::RecordRef { collection: COLLECTION.to_owned(), record_id: "a".to_owned() }; 60];
    let get = async || {
        api.records()
            .batch_get_records(proto::BatchGetRecordsRequest { records: records.clone(), ..Default::default() })
            .await
    };
    assert_eq!(ok(get().await).missing.len(), 60);
    assert_eq!(limit_of(&get().await.expect_err("40 are left"))[0], "read");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_have_a_class_of_their_own() {
    let server = limited(&[("watch", "2/h")]).await;
    server.api.submit(new_job("film", vec![new_stage("voice")])).await;
    let watch = async || {
        let request = proto::WatchJobRequest { job_id: "film".to_owned(), ..Default::default() };
        server.api.jobs().watch_job(request).await
    };
    for left in ["3", "2", "1", "0"] {
        let response = watch().await.expect("within the burst");
        assert_eq!(response.metadata().get("ratelimit-remaining").expect("what is left"), left);
    }
    assert_eq!(limit_of(&watch().await.expect_err("none is left")), ["watch", "2/h", "0"]);
    server.api.job("film").await;
    assert_eq!(counted(&server.api.statistics().await, "watch"), (4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_at_one_address_are_clients_of_their_own_and_made_up_ones_share() {
    let server = limited(&[("write", "2/h")]).await;
    while submit(&server.api, "default").await.is_ok() {}
    let mut passed = 0;
    for i in 0..400 {
        let status = submit(&server.api, &format!("made-up-{i}")).await.expect_err("there is no such namespace");
        passed += usize::from(status.code() == Code::NotFound);
        limit_of(&submit(&server.api, "default").await.expect_err("still used up"));
    }
    // 127 newcomers beside `default`, perhaps some that came with time, and the burst that all others share.
    assert!((131..200).contains(&passed), "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_and_servers_without_limits_refuse_nothing() {
    let server = limited(&[("read", "1/h")]).await;
    let check = async || {
        let request = tonic_health::pb::HealthCheckRequest::default();
        server.api.health().check(request).await
    };
    for _ in 0..100 {
        ok(check().await);
    }
    let server = Server::start().await;
    for _ in 0..100 {
        submit(&server.api, "default").await.expect("no limit");
    }
}

/// A key for all namespaces, perhaps with a rate for its writes.
async fn key(open: &Server, role: proto::Role, write: Option<i32>) -> Key {
    let request = proto::CreateKeyRequest {
        label: "test".to_owned(),
        roles: vec![role.into()],
        namespaces: texts(&["*"]),
        rate_limits: write.map(|_| proto::KeyRateLimits { write, ..Default::default() }),
        ..Default::default()
    };
    let created = ok(open.api.admin().create_key(request).await);
    Key { id: created.key.expect("a key").key_id, token: created.bearer_token }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_a_client_in_all_namespaces_and_may_have_rates_of_its_own() {
    let open = Server::start().await;
    let request = proto::CreateNamespaceRequest { name: "other".to_owned(), ..Default::default() };
    ok(open.api.admin().create_namespace(request).await);
    let server = Server::over(open.database.clone(), |config| {
        config.auth = Some(Auth::Required);
        config.rate_limit_write = rate("10/h");
    })
    .await;
    let (usual, own) =
        (key(&open, proto::Role::Submit, None).await, key(&open, proto::Role::Submit, Some(1_000)).await);
    // The server reads of new keys within a moment.
    let submit = async |key: &Key, namespace: &str| {
        eventually("an answer", async || {
            let request = keyed_within(key, namespace, new_job("", vec![new_stage("voice")]));
            let answer = server.api.jobs().submit_job(request).await;
            (answer.as_ref().err().map(Status::code) != Some(Code::Unauthenticated)).then_some(answer)
        })
        .await
    };
    for i in 0..20 {
        ok(submit(&usual, if i % 2 == 0 { "default" } else { "other" }).await);
    }
    for namespace in ["default", "other"] {
        assert_eq!(limit_of(&submit(&usual, namespace).await.expect_err("used up")), ["write", "10/h", "0"]);
    }
    for _ in 0..100 {
        ok(submit(&own, "default").await);
    }
    let request = keyed_within(&own, "default", proto::BatchSubmitJobsRequest::default());
    let status = server.api.jobs().batch_submit_jobs(request).await.expect_err("an empty batch");
    assert_eq!(status.code(), Code::InvalidArgument, "it passed its limit: {status:?}");
    // The server without credentials has figures of its own, so the one with limits is asked.
    let operator = key(&open, proto::Role::Operate, None).await;
    let statistics = eventually("statistics", async || {
        let request = keyed_within(&operator, "default", proto::GetStatisticsRequest {});
        server.api.admin().get_statistics(request).await.ok()
    })
    .await;
    let clients = statistics.into_inner().rate_limits.expect("rate limits").clients;
    let received: Vec<_> = clients.into_iter().map(|client| (client.client, client.refused)).collect();
    assert_eq!(received, [(format!("key:{}", usual.id), 2)]);
}

#[tokio::test]
async fn each_outcome_of_complete_stages_is_charged() {
    let server = limited(&[("essential", "10/h")]).await;
    let stages = (0..30).map(|i| new_stage(&format!("s{i}"))).collect();
    server.api.submit(new_job("film", stages)).await;
    let leases = server.api.lease_now("default", 30).await;
    let complete = async |leases: &[proto::Lease]| {
        let outcomes = leases.iter().map(completed).collect();
        let request = proto::CompleteStagesRequest { outcomes, ..Default::default() };
        server.api.workers().complete_stages(request).await
    };
    ok(complete(&leases[..15]).await);
    let status = complete(&leases[15..]).await.expect_err("more than is left");
    assert_eq!(limit_of(&status), ["essential", "10/h", "4"]);
    assert_eq!(server.column("SELECT count(*)::text FROM stages WHERE state = 5").await, ["15"]);
    ok(complete(&leases[15..19]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_on_a_work_stream_wait_for_the_rate() {
    let server = limited(&[("essential", "20/s")]).await;
    let stages = (0..80).map(|i| new_stage(&format!("s{i}"))).collect();
    server.api.submit(new_job("film", stages)).await;
    let mut session = Session::open(&server.api, begin("default", 80)).await;
    let leases = session.take(80).await;
    let began = std::time::Instant::now();
    session.tell(leases.iter().map(completed).collect()).await;
    assert!(session.results(80).await.iter().all(|result| result.applied));
    // A burst of 40, of which the first message has taken one, then 20 a second.
    assert!(began.elapsed() > Duration::from_millis(1_800), "{:?}", began.elapsed());
}

#[tokio::test]
async fn work_streams_are_counted_among_the_streams_of_a_connection() {
    let server = Server::with(|config| config.watch_streams_per_connection = 2).await;
    let first = Session::open(&server.api, begin("none", 1)).await;
    let _second = Session::open(&server.api, begin("none", 1)).await;
    let third = Session::try_open(&server.api, tonic::Request::new(begin("none", 1))).await;
    refused(third.map(|_| tonic::Response::new(())), Code::ResourceExhausted, "STREAM_LIMIT");
    drop(first);
    eventually("its place comes back", async || {
        Session::try_open(&server.api, tonic::Request::new(begin("none", 1))).await.ok().map(drop)
    })
    .await;
}
