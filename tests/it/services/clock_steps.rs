//! The database's clock steps back an hour, or a host whose clock is an hour behind takes over: to the server it is as if all that
//! is stored lies an hour further ahead, which is how it is made here.

use std::time::Duration;

use interlock::proto::{self, BreakerState, FailureClass, PermitBlockReason, StageState};
use serde_json::Value;

use crate::harness::*;

const HOUR_MICROS: i64 = 3_600_000_000;

/// Moves every stored instant an hour ahead.
async fn step_back(database: &Database) {
    let client = sql(database.url()).await;
    let columns = "SELECT c.table_name::text, c.column_name::text, c.data_type::text
        FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
            AND c.table_name NOT LIKE 'job_events%' AND c.table_name NOT LIKE 'refinery%'
            AND c.data_type IN ('timestamp with time zone', 'json')";
    for row in client.query(columns, &[]).await.expect("columns") {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if kind != "json" {
            let shift =
                format!("UPDATE {table} SET {column} = {column} + interval '1 hour' WHERE {column} IS NOT NULL");
            client.execute(&shift, &[]).await.expect("shifted");
            continue;
        }
        let read = format!("SELECT ctid::text, {column}::text FROM {table} WHERE {column} IS NOT NULL");
        for row in client.query(&read, &[]).await.expect("documents") {
            let (place, text): (String, String) = (row.get(0), row.get(1));
            let shifted = later(serde_json::from_str(&text).expect("JSON")).to_string();
            let write = format!("UPDATE {table} SET {column} = $1::text::json WHERE ctid = $2::text::tid");
            client.execute(&write, &[&shifted, &place]).await.expect("shifted");
        }
    }
}

/// Instants in documents are microseconds since 1970.
fn later(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(micros) if micros > 1_500_000_000_000_000 => (micros + HOUR_MICROS).into(),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(later).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, later(value))).collect(),
        other => other,
    }
}

/// The server after the step.
async fn stepped(server: Server) -> Server {
    let database = server.stop().await;
    step_back(&database).await;
    Server::over(database, |_| {}).await
}

fn micros(duration: Option<&prost_types::Duration>) -> Option<i64> {
    duration.map(|duration| duration.seconds * 1_000_000 + i64::from(duration.nanos) / 1_000)
}

#[tokio::test]
async fn after_a_step_back_rates_fill_and_breakers_close_in_their_own_time() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("rate", rate(1, 1_000, 1)).await;
    let interval = proto::ResourcePolicy { min_interval: seconds(1), ..Default::default() };
    api.set_policy("interval", interval).await;
    let breaker = proto::CircuitBreaker { failure_threshold: Some(1), open_duration: seconds(1), ..Default::default() };
    api.set_policy("breaker", proto::ResourcePolicy { breaker: Some(breaker), ..Default::default() }).await;
    for name in ["rate", "interval"] {
        let permit = api.acquire(name).await;
        api.release(&permit).await;
    }
    let permit = api.acquire("breaker").await;
    api.release_failed(&permit, FailureClass::ServerError).await;
    assert_eq!(api.resource("breaker").await.breaker_state(), BreakerState::Open);

    let server = stepped(server).await;
    for name in ["rate", "interval", "breaker"] {
        let permit = server.api.acquire(name).await;
        server.api.release(&permit).await;
    }
    assert_eq!(server.api.resource("breaker").await.breaker_state(), BreakerState::Closed);
    server.api.set_policy("rate", rate(1, 3_600_000, 1)).await;
    let denied = server.api.ask(acquire_request(vec![claim("rate")])).await.expect_err("no tokens");
    assert_eq!(denied.blockers[0].reason(), PermitBlockReason::Rate);
}

#[tokio::test]
async fn after_a_step_back_the_lock_of_a_dead_holder_expires_in_its_own_time() {
    let server = Server::start().await;
    let ttl = |ttl| proto::AcquirePermitRequest { ttl: seconds(ttl), ..acquire_request(vec![claim("doc")]) };
    server.api.ask(ttl(2)).await.expect("free");
    let renewed =
        server.api.ask(proto::AcquirePermitRequest { claims: vec![claim("other")], ..ttl(10) }).await.expect("free");

    let server = stepped(server).await;
    let denied = server.api.ask(ttl(2)).await.expect_err("held");
    let after = micros(denied.retry_after.as_ref()).expect("it is known when");
    assert!(after <= 2_000_000, "after {after} µs");
    let renew = proto::RenewPermitsRequest { permit_tokens: vec![renewed.permit_token.clone()], ..Default::default() };
    let status = ok(server.api.permits().renew_permits(renew).await).statuses.remove(0);
    let left = micros(status.ttl.as_ref()).expect("held");
    assert!(!status.lost && (8_000_000..=10_000_000).contains(&left), "{left} µs left");
    // Without a further call the waiter is served.
    server.api.acquire("doc").await;
}

#[tokio::test]
async fn after_a_step_back_waiters_are_served_without_a_further_call() {
    let server = Server::start().await;
    let short = proto::AcquirePermitRequest { ttl: seconds(3), ..acquire_request(vec![claim("doc")]) };
    server.api.ask(short).await.expect("free");
    let waiting = tokio::spawn({
        let api = server.api.clone();
        async move { api.acquire("doc").await }
    });
    server.api.waits_for("doc", 1).await;
    // Below the running server, whose alarm is set for an hour too late.
    step_back(&server.database).await;
    waiting.await.expect("served");
}

#[tokio::test]
async fn after_a_step_back_leases_and_backoffs_end_in_their_own_time() {
    let server = Server::start().await;
    let api = &server.api;
    let stages = ["dead", "alive", "failing"].map(new_stage).to_vec();
    api.submit(new_job("film", stages)).await;
    let poll = || proto::LeaseStagesRequest {
        worker_id: "w".into(),
        max_stages: 3,
        lease_duration: seconds(4),
        ..Default::default()
    };
    let leases = ok(api.workers().lease_stages(poll()).await).leases;
    let of = |name: &str| leases.iter().find(|lease| lease.stage_name == name).expect("leased").clone();
    let fail = proto::FailStageRequest {
        target: token(&of("failing")),
        failure: Some(failure(FailureClass::ServerError)),
        ..Default::default()
    };
    ok(api.workers().fail_stage(fail).await);
    assert_eq!(api.stage("film", "failing").await.state(), StageState::Backoff);

    let server = stepped(server).await;
    let renewal = proto::LeaseRenewal { lease_token: of("alive").lease_token, ..Default::default() };
    let mut seen = (false, false);
    eventually("the end of the dead lease and of the backoff", async || {
        let status =
            ok(server.api.workers().heartbeat(proto::HeartbeatRequest { renewals: vec![renewal.clone()] }).await);
        let status = &status.statuses[0];
        assert_eq!(status.directive(), proto::LeaseDirective::Continue, "who renews keeps its lease");
        let left = micros(status.ttl.as_ref()).expect("held");
        assert!(left <= 9_000_000, "{left} µs left");
        seen.0 |= server.api.stage("film", "dead").await.state() == StageState::Ready;
        seen.1 |= server.api.stage("film", "failing").await.state() == StageState::Ready;
        (seen == (true, true)).then_some(())
    })
    .await;
    // A job of before the step goes on by the clock as it is.
    let lease = ok(server.api.workers().lease_stages(poll()).await).leases.remove(0);
    let left = micros(lease.ttl.as_ref()).expect("a time");
    assert!(left <= 4_000_000, "{left} µs left");
    tokio::time::timeout(Duration::from_secs(60), server.stop()).await.expect("stopped");
}
