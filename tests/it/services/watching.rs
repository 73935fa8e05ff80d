//! WatchJob: a snapshot or what is missing, then what is newer, up to the end.

use std::time::Duration;

use interlock::proto::{self, JobEventType, JobState, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

/// A job of two stages that has run to its end; returns its last version.
async fn a_film(api: &Api, job_id: &str) -> i64 {
    api.submit(new_job(job_id, vec![new_stage("voice"), new_stage_after("render", &["voice"])])).await;
    for _ in 0..2 {
        let lease = api.lease("default").await;
        for percent in [0.25, 0.5, 0.75] {
            api.progress(&lease, percent).await;
        }
        api.complete(&lease, json!({ "made": lease.stage_name })).await;
    }
    api.job_in(job_id, JobState::Succeeded).await.version
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_sends_a_snapshot_and_then_each_change() {
    let server = Server::start().await;
    let payload = struct_of(json!({ "script": "a" }));
    let stages = vec![new_stage("voice"), new_stage_after("render", &["voice"])];
    server.api.submit(proto::SubmitJobRequest { payload: payload.clone(), ..new_job("film", stages) }).await;
    let mut watch = Watch::begin(&server.api, "film", 0).await.expect("a watch");
    let snapshot = watch.next().await.expect("a snapshot").snapshot();
    assert_eq!((snapshot.version, snapshot.state(), &snapshot.payload), (1, JobState::Pending, &payload));
    assert_eq!(snapshot.stages.len(), 2);

    let lease = server.api.lease("default").await;
    let started = watch.change().await;
    assert_eq!((started.version, started.event_type()), (2, JobEventType::StageStarted));
    assert_eq!((started.state(), started.job_id.as_str(), started.run), (JobState::Running, "film", 1));
    let voice = &started.stages[0];
    assert_eq!((voice.name.as_str(), voice.state(), voice.attempt), ("voice", StageState::Running, 1));
    assert_eq!(voice.lease.as_ref().expect("a lease").worker_id, "worker");

    server.api.progress(&lease, 0.5).await;
    let step = watch.change().await;
    assert_eq!((step.version, step.event_type(), step.progress), (3, JobEventType::Unspecified, 0.25));
    assert_eq!(step.stages[0].progress, 0.5);
    server.api.complete(&lease, json!({ "url": "v" })).await;
    let completed = watch.change().await;
    assert_eq!(completed.event_type(), JobEventType::StageCompleted);
    let names: Vec<_> = completed.stages.iter().map(|stage| (stage.name.as_str(), stage.state())).collect();
    assert_eq!(names, [("voice", StageState::Succeeded), ("render", StageState::Ready)]);
    assert_eq!(completed.stage_counts.expect("counts").succeeded, 1);

    let lease = server.api.lease("default").await;
    server.api.complete(&lease, json!({})).await;
    let rest = watch.rest().await;
    let last = rest.last().expect("an end").clone().change();
    assert_eq!((last.state(), last.progress), (JobState::Succeeded, 1.0));
    assert_eq!(rest.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_from_any_version_with_every_change_of_a_state() {
    let server = Server::start().await;
    let last = a_film(&server.api, "film").await;
    let other = server.beside().await;
    let events: Vec<(i64, JobEventType)> =
        server.api.events("film").await.iter().map(|event| (event.version, event.event_type())).collect();
    for from in 1..last {
        for api in [&server.api, &other.api] {
            let received = Watch::begin(api, "film", from).await.expect("a watch").rest().await;
            let expected: Vec<_> = events.iter().copied().filter(|(version, _)| *version > from).collect();
            assert_eq!(state_changes(&received), expected, "from {from}");
            let end = received.last().expect("an end").clone().change();
            assert_eq!((end.version, end.state(), end.progress), (last, JobState::Succeeded, 1.0));
        }
    }
    // Changes read from history are those that were sent live.
    let received = Watch::begin(&other.api, "film", 1).await.expect("a watch").rest().await;
    let changes: Vec<proto::JobChange> = received.into_iter().map(WatchMessage::change).collect();
    let completed = &changes[1];
    assert_eq!((completed.state(), completed.progress), (JobState::Running, 0.5));
    let stages: Vec<_> = completed.stages.iter().map(|stage| (stage.name.as_str(), stage.state())).collect();
    assert_eq!(stages, [("voice", StageState::Succeeded), ("render", StageState::Ready)]);
    assert_eq!((completed.stages[0].progress, completed.stages[1].depends_on.len()), (1.0, 1));
    assert_eq!(changes[0].stages[0].lease.as_ref().expect("a lease").worker_id, "worker");

    assert!(Watch::begin(&server.api, "film", last).await.expect("a watch").rest().await.is_empty());
    let received = Watch::begin(&server.api, "film", 0).await.expect("a watch").rest().await;
    assert_eq!(received.len(), 1);
    assert!(received[0].clone().snapshot().stages[0].artifacts.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_watches_are_refused() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    let begin = async |job_id: &str, from_version| {
        let request = proto::WatchJobRequest { job_id: job_id.to_owned(), from_version };
        server.api.jobs().watch_job(request).await
    };
    refused(begin("nothing", 0).await, Code::NotFound, "JOB_NOT_FOUND");
    refused(begin("nothing", 5).await, Code::NotFound, "JOB_NOT_FOUND");
    field(begin("", 0).await, "job_id");
    field(begin("a b", 0).await, "job_id");
    field(begin("film", -1).await, "from_version");
    let received = refused(begin("film", 2).await, Code::OutOfRange, "VERSION_IN_FUTURE");
    assert_eq!(received.metadata["actual"], "1");
    let jobs = |filter: &str| proto::WatchJobsRequest { filter: filter.to_owned() };
    field(server.api.jobs().watch_jobs(jobs("state ~ x")).await, "filter");
    let elsewhere = within("nobody", proto::WatchJobRequest { job_id: "film".into(), from_version: 0 });
    refused(server.api.jobs().watch_job(elsewhere).await, Code::NotFound, "NAMESPACE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_watch_sends_keepalives() {
    let server = Server::with(|config| config.watch_keepalive = Duration::from_millis(50)).await;
    server.api.submit(new_job("film", Vec::new())).await;
    let mut watch = Watch::begin(&server.api, "film", 0).await.expect("a watch");
    watch.next().await.expect("a snapshot").snapshot();
    for _ in 0..3 {
        assert!(matches!(watch.next().await, Some(WatchMessage::Keepalive(1))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_history_is_reported_as_a_gap() {
    let server = Server::start().await;
    let last = a_film(&server.api, "film").await;
    let gone = "DELETE FROM job_events WHERE revision < 6";
    sql(server.database.url()).await.execute(gone, &[]).await.expect("deleted");
    let received = Watch::begin(&server.api, "film", 2).await.expect("a watch").rest().await;
    assert!(
        matches!(&received[..], [WatchMessage::Gap(5), WatchMessage::Snapshot(job)] if job.version == last),
        "{received:?}"
    );
    // Where nothing is missing, nothing is said.
    for from in [5, 6, last - 1] {
        let received = Watch::begin(&server.api, "film", from).await.expect("a watch").rest().await;
        assert!(received.iter().all(|received| matches!(received, WatchMessage::Change(_))), "{received:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_run_and_a_later_one_begins_in_the_next() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    let mut watch = Watch::begin(&server.api, "film", 1).await.expect("a watch");
    let cancel = proto::CancelJobRequest { job_id: "film".into(), ..Default::default() };
    let cancelled = ok(server.api.jobs().cancel_job(cancel).await).job.expect("a job").version;
    let retry = proto::RetryJobRequest { job_id: "film".into(), ..Default::default() };
    ok(server.api.jobs().retry_job(retry).await);
    let last = watch.change().await;
    assert_eq!((last.state(), last.version), (JobState::Cancelled, cancelled));
    assert!(watch.next().await.is_none());
    // The same from history, on a server that saw nothing of it.
    let other = server.beside().await;
    let received = Watch::begin(&other.api, "film", 1).await.expect("a watch").rest().await;
    assert_eq!(state_changes(&received).last(), Some(&(cancelled, JobEventType::CancelRequested)));
    let mut watch = Watch::begin(&other.api, "film", cancelled).await.expect("a watch");
    let retried = watch.change().await;
    assert_eq!((retried.event_type(), retried.run), (JobEventType::Retried, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_misses_no_change_of_a_state() {
    let server = Server::start().await;
    let mut stages: Vec<_> = (0..20).map(|i| new_stage(&format!("s{i}"))).collect();
    stages.iter_mut().for_each(|stage| stage.direct = true);
    server.api.submit(new_job("film", stages)).await;
    let watch = Watch::begin(&server.api, "film", 1).await.expect("a watch");
    for i in 0..20 {
        for step in 1..=60 {
            let request = proto::UpdateStageProgressRequest {
                target: Target::named("film", &format!("s{i}")),
                progress: Some(f64::from(step) / 100.0),
                message: Some("m".repeat(1_000)),
                ..Default::default()
            };
            ok(server.api.workers().update_stage_progress(request).await);
        }
        let request =
            proto::CompleteStageRequest { target: Target::named("film", &format!("s{i}")), ..Default::default() };
        ok(server.api.workers().complete_stage(request).await);
    }
    // Nothing was read up to here.
    let received = watch.rest().await;
    let expected: Vec<(i64, JobEventType)> =
        server.api.events("film").await.iter().skip(1).map(|event| (event.version, event.event_type())).collect();
    assert_eq!(state_changes(&received), expected);
    let steps = received.len() - expected.len();
    println!("{} changes of states, and 1180 steps of progress sent as {steps}", expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_have_a_budget_of_their_own_and_end_when_the_server_drains() {
    let server = Server::with(|config| {
        config.watch_streams_per_connection = 3;
        config.max_in_flight = 8;
    })
    .await;
    let last = server.api.submit(new_job("film", Vec::new())).await.version;
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(Watch::begin(&server.api, "film", last).await.expect("a watch"));
    }
    let request = proto::WatchJobRequest { job_id: "film".into(), from_version: 0 };
    let received = refused(server.api.jobs().watch_job(request).await, Code::ResourceExhausted, "STREAM_LIMIT");
    assert_eq!(received.metadata["limit"], "3");
    watches.pop();
    eventually("a place", async || Watch::begin(&server.api, "film", last).await.ok()).await;

    server.begin_stop();
    let status = watches[0].try_next().await.expect_err("an end");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let other = Server::over(server.database.clone(), |_| {}).await;
    let mut resumed = Watch::begin(&other.api, "film", watches[0].version).await.expect("a watch");
    other.api.lease("default").await;
    assert_eq!(resumed.change().await.event_type(), JobEventType::StageStarted);
}
