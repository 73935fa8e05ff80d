//! Watches across servers, and of many jobs at once.

use std::time::Instant;

use interlock::proto::watch_jobs_response::Update;
use interlock::proto::{self, JobState};
use prost::Message;
use serde_json::json;
use tonic::Streaming;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_commits_of_another_server() {
    let a = Server::start().await;
    for listen_notify in [true, false] {
        let b = Server::over(a.database.clone(), |config| config.listen_notify = listen_notify).await;
        let job_id = format!("film-{listen_notify}");
        a.api.submit(new_job(&job_id, Vec::new())).await;
        let mut watch = Watch::begin(&b.api, &job_id, 0).await.expect("a watch");
        watch.next().await.expect("a snapshot").snapshot();
        let lease = a.api.lease("default").await;
        watch.change().await;
        let mut waits = Vec::new();
        for percent in 1..=20 {
            let begun = Instant::now();
            a.api.progress(&lease, f64::from(percent) / 100.0).await;
            watch.change().await;
            waits.push(begun.elapsed());
        }
        a.api.complete(&lease, json!({})).await;
        assert!(matches!(watch.rest().await.last(), Some(WatchMessage::Change(change)) if change.progress == 1.0));
        waits.sort();
        println!(
            "listen_notify = {listen_notify}: from call to news on the other server {:?}, at most {:?}",
            waits[10], waits[19]
        );
        b.stop().await;
    }
}

/// A watch of jobs.
struct Board(Streaming<proto::WatchJobsResponse>);

impl Board {
    async fn begin(api: &Api, filter: &str) -> Board {
        let request = proto::WatchJobsRequest { filter: filter.to_owned() };
        Board(ok(api.jobs().watch_jobs(request).await))
    }

    async fn next(&mut self) -> Update {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await.expect("news in time");
        next.expect("no error").expect("no end").update.expect("an update")
    }

    async fn job(&mut self) -> proto::Job {
        match self.next().await {
            Update::Job(job) => job,
            other => panic!("{other:?} is no job"),
        }
    }

    async fn change(&mut self) -> proto::JobChange {
        match self.next().await {
            Update::Change(change) => proto::JobChange::decode(change).expect("a change"),
            other => panic!("{other:?} is no change"),
        }
    }

    async fn removal(&mut self) -> (String, bool) {
        match self.next().await {
            Update::Removal(removal) => (removal.job_id, removal.deleted),
            other => panic!("{other:?} is no removal"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_shows_jobs_that_begin_to_match_change_and_cease_to() {
    let a = Server::start().await;
    let b = a.beside().await;
    a.api.submit(new_job("old", Vec::new())).await;
    a.api.submit(proto::SubmitJobRequest { kind: "slides".into(), ..new_job("other", vec![new_stage("s")]) }).await;
    let mut boards = Vec::new();
    for server in [&a, &b] {
        let mut board = Board::begin(&server.api, "kind = film AND (state = PENDING OR state = RUNNING)").await;
        assert_eq!(board.job().await.job_id, "old");
        assert!(matches!(board.next().await, Update::CaughtUp(proto::WatchCaughtUp { jobs: 1 })));
        boards.push(board);
    }
    let cancel = |job_id: &str| proto::CancelJobRequest { job_id: job_id.to_owned(), ..Default::default() };
    ok(a.api.jobs().cancel_job(cancel("old")).await);
    ok(a.api.jobs().cancel_job(cancel("other")).await);
    for board in &mut boards {
        let change = board.change().await;
        assert_eq!((change.job_id.as_str(), change.state()), ("old", JobState::Cancelled));
        assert_eq!(board.removal().await, ("old".to_owned(), false));
    }
    a.api.submit(new_job("new", Vec::new())).await;
    for board in &mut boards {
        let job = board.job().await;
        assert_eq!((job.job_id.as_str(), job.state(), job.stages.len()), ("new", JobState::Pending, 0));
    }
    let lease = b.api.lease("default").await;
    for board in &mut boards {
        assert_eq!(board.change().await.state(), JobState::Running);
    }
    b.api.progress(&lease, 0.5).await;
    for board in &mut boards {
        assert_eq!(board.change().await.progress, 0.5);
    }
    // Begins to match again, in its next run.
    b.api.complete(&lease, json!({})).await;
    for board in &mut boards {
        assert_eq!(board.change().await.state(), JobState::Succeeded);
        assert_eq!(board.removal().await, ("new".to_owned(), false));
    }
    let retry = proto::RetryJobRequest { job_id: "old".into(), ..Default::default() };
    ok(b.api.jobs().retry_job(retry).await);
    for board in &mut boards {
        assert_eq!(board.job().await.run, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_without_a_filter_sees_deletions() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    let mut board = Board::begin(&server.api, "").await;
    assert_eq!(board.job().await.job_id, "film");
    assert!(matches!(board.next().await, Update::CaughtUp(_)));
    let cancel = proto::CancelJobRequest { job_id: "film".into(), ..Default::default() };
    ok(server.api.jobs().cancel_job(cancel).await);
    assert_eq!(board.change().await.state(), JobState::Cancelled);
    let delete = proto::DeleteJobRequest { job_id: "film".into(), ..Default::default() };
    ok(server.api.jobs().delete_job(delete).await);
    assert_eq!(board.removal().await, ("film".to_owned(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_finds_commits_without_a_hint() {
    // This server sends no hint, like one that was killed between its commit and its hint.
    let silent = Server::with(|config| config.listen_notify = false).await;
    let b = silent.beside().await;
    let mut board = Board::begin(&b.api, "kind = film").await;
    assert!(matches!(board.next().await, Update::CaughtUp(_)));
    silent.api.submit(new_job("film", Vec::new())).await;
    assert_eq!(board.job().await.job_id, "film");
    let lease = silent.api.lease("default").await;
    assert_eq!(board.change().await.state(), JobState::Running);
    silent.api.progress(&lease, 0.5).await;
    assert_eq!(board.change().await.progress, 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_on_a_server_that_has_just_started_misses_nothing() {
    let a = Server::start().await;
    for round in 0..10 {
        let b = a.beside().await;
        let mut board = Board::begin(&b.api, &format!("labels.round = r{round}")).await;
        assert!(matches!(board.next().await, Update::CaughtUp(proto::WatchCaughtUp { jobs: 0 })));
        let labels = [("round".to_owned(), format!("r{round}"))].into();
        let job_id = format!("film-{round}");
        a.api.submit(proto::SubmitJobRequest { labels, ..new_job(&job_id, Vec::new()) }).await;
        assert_eq!(board.job().await.job_id, job_id);
        b.stop().await;
    }
}
