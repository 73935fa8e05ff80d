//! The end of a credential: on all servers within five seconds, for calls that wait and streams that are open too.

use std::time::{Duration, Instant};

use interlock::proto::{self, Role};
use tonic::{Code, Status};

use super::scene::*;
use crate::harness::*;

/// The time within which a revoked key stops working on every server.
const BOUND: Duration = Duration::from_secs(5);

fn watch(job_id: &str) -> proto::WatchJobRequest {
    proto::WatchJobRequest { job_id: job_id.to_owned(), ..Default::default() }
}

/// Opens a watch with a key and reads its first message.
async fn open(server: &Server, key: &Key, job_id: &str) -> tonic::Streaming<proto::WatchJobResponse> {
    let mut stream = ok(server.api.jobs().watch_job(keyed(key, watch(job_id))).await);
    stream.message().await.expect("no error").expect("a snapshot");
    stream
}

/// How a watch ends.
pub async fn end_of(mut stream: tonic::Streaming<proto::WatchJobResponse>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the watch ended without a status"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("an end in time")
}

#[track_caller]
fn has_ended(status: &Status) {
    let outcome = Outcome::of(status);
    assert_eq!((outcome.code, outcome.reason.as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"), "{outcome:?}");
    assert!(outcome.message.contains("valid no longer"), "{}", outcome.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_a_credential_ends_its_work_stream_and_releases_unconfirmed_leases() {
    let scene = Scene::start().await;
    scene.open.api.submit(new_job("film", vec![new_stage("a"), new_stage("b")])).await;
    let key = scene.key(&[Role::Work], &["*"]).await;
    let mut session = Session::try_open(&scene.server.api, keyed(&key, begin("default", 2))).await.expect("a stream");
    session.take(2).await;
    session.send(proto::WorkRequest { leases_received: Some(1), ..Default::default() }).await;
    let revoked = Instant::now();
    scene.revoke(&key).await;
    has_ended(&session.ended().await.expect("an end"));
    assert!(revoked.elapsed() < BOUND, "{:?}", revoked.elapsed());
    let ready = |job: &proto::Job| job.stages.iter().any(|stage| stage.state() == proto::StageState::Ready);
    let job = scene.open.api.job_where("film", "the other is given back", ready).await;
    assert!(job.stages.iter().any(|stage| stage.state() == proto::StageState::Running), "one is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_all_servers_and_ends_watches_and_waiting_calls() {
    let scene = Scene::start().await;
    let second = guarded(&scene.open).await;
    let api = &scene.open.api;
    api.submit(new_job("film", vec![new_stage("cut")])).await;
    let key = scene.key(&[Role::Submit, Role::Work], &["*"]).await;
    let other = scene.key(&[Role::Read], &["*"]).await;
    let watches = [open(&scene.server, &key, "film").await, open(&second, &key, "film").await];
    let kept = open(&second, &other, "film").await;
    let waits = {
        let wait = proto::WaitJobRequest { job_id: "film".to_owned(), wait: seconds(50) };
        let poll = proto::LeaseStagesRequest {
            worker_id: "w".to_owned(),
            queues: texts(&["nothing"]),
            wait: seconds(50),
            ..Default::default()
        };
        let (mut jobs, mut workers) = (scene.server.api.jobs(), second.api.workers());
        let (wait, poll) = (keyed(&key, wait), keyed(&key, poll));
        tokio::spawn(async move { tokio::join!(jobs.wait_job(wait), workers.lease_stages(poll)) })
    };
    let waiting =
        async || (second.api.statistics_with(&scene.key(&[Role::Operate], &["*"]).await).await == 1).then_some(());
    eventually("a call that waits", waiting).await;

    let revoked = Instant::now();
    scene.revoke(&key).await;
    let [first, second_end] = watches.map(|watch| tokio::spawn(end_of(watch)));
    for end in [first, second_end] {
        has_ended(&end.await.expect("no panic"));
    }
    let (wait, poll) = waits.await.expect("no panic");
    has_ended(&wait.expect_err("it ended"));
    let poll = poll.expect_err("it ended");
    has_ended(&poll);
    // Whether it had got something just then its caller cannot know.
    assert_eq!(Outcome::of(&poll).metadata["outcome"], "UNKNOWN");
    let took = revoked.elapsed();
    println!("all had ended after {took:?}");
    assert!(took < BOUND, "{took:?}");
    for server in [&scene.server, &second] {
        let outcome = call(&server.api, "/interlock.v1.AdminService/GetServerInfo", &bearer(&key), &[]).await;
        outcome.is_invalid("GetServerInfo", "was revoked");
    }
    // The other key's watch is open and tells what happens.
    let cancel = proto::CancelJobRequest { job_id: "film".to_owned(), ..Default::default() };
    ok(api.jobs().cancel_job(cancel).await);
    let mut kept = kept;
    while kept.message().await.expect("no error").is_some() {}
}

trait Waiting {
    /// How many LeaseStages calls wait, as a key can read it.
    async fn statistics_with(&self, key: &Key) -> i64;
}

impl Waiting for Api {
    async fn statistics_with(&self, key: &Key) -> i64 {
        let received = ok(self.admin().get_statistics(keyed(key, proto::GetStatisticsRequest {})).await);
        received.dispatcher.expect("a dispatcher").waiting_polls
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_valid_in_its_grace_and_not_after() {
    let scene = Scene::start().await;
    scene.open.api.submit(new_job("film", vec![new_stage("cut")])).await;
    let old = scene.key(&[Role::Read], &["*"]).await;
    let info = async |key: &Key| {
        scene.server.api.admin().get_server_info(keyed(key, proto::GetServerInfoRequest {})).await.map(drop)
    };
    info(&old).await.expect("valid");
    let old_watch = open(&scene.server, &old, "film").await;
    let rotated = Instant::now();
    let new = scene.rotate(&old, 4_000).await;
    eventually("the new secret", async || info(&new).await.ok()).await;
    let new_watch = open(&scene.server, &new, "film").await;
    // Only if this machine was fast enough is the grace still on.
    let in_grace = info(&old).await;
    if rotated.elapsed() < Duration::from_secs(4) {
        in_grace.expect("the old secret is valid in its grace");
    }
    has_ended(&end_of(old_watch).await);
    let took = rotated.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(4) + BOUND).contains(&took), "{took:?}");
    let refused = Outcome::of(&info(&old).await.expect_err("the grace is over"));
    refused.is_invalid("the old secret", "no such API key, or its secret is another one");
    info(&new).await.expect("the new secret is valid");
    // Without a grace the secret of before ends with the rotation.
    let rotated = Instant::now();
    let newer = scene.rotate(&new, 0).await;
    has_ended(&end_of(new_watch).await);
    assert!(rotated.elapsed() < BOUND, "{:?}", rotated.elapsed());
    info(&new).await.expect_err("it was replaced");
    info(&newer).await.expect("the newest is valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_ends_an_open_watch() {
    let scene = Scene::start().await;
    scene.open.api.submit(new_job("film", vec![new_stage("cut")])).await;
    let began = Instant::now();
    let request = proto::CreateKeyRequest {
        label: "short".to_owned(),
        roles: vec![Role::Read as i32],
        namespaces: texts(&["*"]),
        ttl: seconds(4),
        ..Default::default()
    };
    let key = scene.key_of(request).await;
    let watch = open(&scene.server, &key, "film").await;
    has_ended(&end_of(watch).await);
    let took = began.elapsed();
    assert!((Duration::from_millis(3_900)..Duration::from_secs(4) + BOUND).contains(&took), "{took:?}");
    scene.key_is(&key, "has expired").await;
}
