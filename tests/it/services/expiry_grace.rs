//! The grace after a start and after a loss of the database: what is from before is spared, and nothing else.

use std::time::Duration;

use interlock::config::Config;
use interlock::proto::{self, StageSpec, StageState};

use crate::harness::*;

/// A grace that no test outlasts.
const GRACE: u64 = 3_600;

/// Waits until the server has noted that the database is there, after so many rounds that it has noted already.
async fn database_found(api: &Api, rounds: i64) -> i64 {
    eventually("a round that found the database", async || {
        let loops = api.statistics().await.loops;
        let presence = loops.iter().find(|figures| figures.name == "presence").expect("the loop");
        Some(presence.runs - presence.failures).filter(|found| *found > rounds)
    })
    .await
}

/// Waits until so many leases and permits are over by the database's clock.
async fn are_over(database: &Database, count: i64) {
    let client = sql(database.url()).await;
    let over = "SELECT (SELECT count(*) FROM leases WHERE expires_at <= clock_timestamp()) \
        + (SELECT count(*) FROM permits WHERE expires_at <= clock_timestamp())";
    eventually("the end of what is held", async || {
        (client.query_one(over, &[]).await.expect("a row").get::<_, i64>(0) == count).then_some(())
    })
    .await;
}

fn queued(name: &str) -> StageSpec {
    StageSpec { queue: name.to_owned(), ..new_stage(name) }
}

async fn is_running(api: &Api, name: &str) -> bool {
    api.stage("film", name).await.state() == StageState::Running
}

/// What is free, for so many seconds.
async fn acquire_for(api: &Api, resource: &str, ttl: u64) -> proto::Permit {
    api.ask(proto::AcquirePermitRequest { ttl: seconds(ttl), ..acquire_request(vec![claim(resource)]) })
        .await
        .expect("free")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_older_leases_get_the_grace_and_newer_ones_expire() {
    let before = Server::start().await;
    before.api.submit(new_job("film", vec![queued("old"), queued("renewed"), queued("new")])).await;
    before.api.lease_for("old", 5).await;
    let renewed = before.api.lease_for("renewed", 5).await;
    let database = before.stop().await;
    let server = Server::over(database.clone(), |config| config.reap_grace = Duration::from_secs(GRACE)).await;
    database_found(&server.api, 0).await;
    are_over(&database, 2).await;
    server.api.lease_for("new", 1).await;
    assert_eq!(server.api.lease("new").await.attempt, 2, "it moves as soon as it has expired");
    assert!(is_running(&server.api, "old").await && is_running(&server.api, "renewed").await);
    // Once it is renewed it is as good as new: its holder was there.
    assert_eq!(server.api.renew_lease(&renewed, None).await.directive(), proto::LeaseDirective::Continue);
    assert_eq!(server.api.lease("renewed").await.attempt, 2);
    assert!(is_running(&server.api, "old").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_older_permits_get_the_grace_and_newer_ones_expire() {
    let before = Server::start().await;
    acquire_for(&before.api, "old", 4).await;
    let renewed = acquire_for(&before.api, "renewed", 4).await;
    let database = before.stop().await;
    let server = Server::over(database.clone(), |config| config.reap_grace = Duration::from_secs(GRACE)).await;
    database_found(&server.api, 0).await;
    are_over(&database, 2).await;
    acquire_for(&server.api, "new", 1).await;
    server.api.acquire("new").await;
    for resource in ["old", "renewed"] {
        server.api.ask(acquire_request(vec![claim(resource)])).await.expect_err("spared");
    }
    assert!(server.api.renew(&renewed).await);
    server.api.acquire("renewed").await;
    server.api.ask(acquire_request(vec![claim("old")])).await.expect_err("spared");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_older_leases_get_the_grace_and_newer_ones_expire() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let grace = |config: &mut Config| config.reap_grace = Duration::from_secs(GRACE);
    let server = Server::through(database.clone(), &proxy.url, grace).await;
    let rounds = database_found(&server.api, 0).await;
    server.api.submit(new_job("film", vec![queued("old"), queued("new")])).await;
    server.api.lease_for("old", 5).await;
    proxy.cut_to(Mode::Refuse);
    are_over(&database, 1).await;
    proxy.set(Mode::Pass);
    database_found(&server.api, rounds + 1).await;
    server.api.lease_for("new", 1).await;
    assert_eq!(server.api.lease("new").await.attempt, 2, "it moves as soon as it has expired");
    assert!(is_running(&server.api, "old").await);
}
