//! Connection poolers: those that keep sessions apart work, those that share them are refused with a sentence.

use interlock::config::Config;
use interlock::proto;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::load::{Load, health};
use crate::harness::*;

/// What a server says that does not start over a database.
async fn refusal(url: &str) -> String {
    let started = interlock::app::start(&Config::default(), url, CancellationToken::new()).await;
    format!("{:#}", started.err().expect("it does not start"))
}

/// A server behind a pooler does what it does without: writes, reads, leases, and hints between servers.
async fn works(pooler: &Pooler, database: Database) {
    let server = Server::through(database.clone(), &pooler.url, |_| {}).await;
    let other = Server::through(database, &pooler.url, |_| {}).await;
    let load = Load::start(&server.api, 8).await;
    let stage = proto::StageSpec { queue: "watched".to_owned(), ..new_stage("s") };
    server.api.submit(new_job("watched", vec![stage])).await;
    let watch = Watch::begin(&server.api, "watched", 0).await.expect("a watch");
    let lease = other.api.lease("watched").await;
    other.api.complete(&lease, serde_json::json!({})).await;
    let received = watch.rest().await;
    assert!(received.len() >= 2, "{received:?}");
    let received = load.end("behind a pooler").await;
    assert!(received.errors.is_empty(), "{:?}", received.errors);
    assert_eq!(health(&server.api).await, ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_session_mode_works() {
    let database = Database::fresh().await;
    let pooler = Pooler::bouncer(&database, "session").await;
    works(&pooler, database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_transaction_or_statement_mode_is_refused_at_the_start() {
    let database = Database::fresh().await;
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::bouncer(&database, mode).await;
        let said = refusal(&pooler.url).await;
        assert!(said.contains("behind a connection pooler in transaction or statement mode"), "{mode}: {said}");
        assert!(said.contains("set the pooler to session mode, or connect to Postgres directly"), "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pgpool_is_refused_at_the_start() {
    let database = Database::fresh().await;
    for mode in ["raw", "streaming_replication"] {
        let pooler = Pooler::pgpool(&database, mode).await;
        let said = refusal(&pooler.url).await;
        assert!(said.contains("is behind Pgpool-II"), "{mode}: {said}");
        assert!(said.contains("use PgBouncer in session mode, or connect to Postgres directly"), "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_refused_when_the_server_reconnects() {
    let database = Database::fresh().await;
    let mut pooler = Pooler::bouncer(&database, "session").await;
    let server = Server::through(database, &pooler.url, |_| {}).await;
    server.api.submit(new_job("before", vec![new_stage("s")])).await;
    pooler.set_mode("transaction").await;
    eventually("health", async || (health(&server.api).await == ServingStatus::NotServing).then_some(())).await;
    let request = new_job("refused", vec![new_stage("s")]);
    refused(server.api.jobs().submit_job(request).await, Code::Unavailable, "STORE_UNAVAILABLE");
    pooler.set_mode("session").await;
    eventually("health", async || (health(&server.api).await == ServingStatus::Serving).then_some(())).await;
    server.api.submit(new_job("after", vec![new_stage("s")])).await;
    let before = proto::GetJobRequest { job_id: "before".to_owned(), ..Default::default() };
    eventually("a read", async || server.api.jobs().get_job(before.clone()).await.ok().map(drop)).await;
}
