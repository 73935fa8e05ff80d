//! A schema that is being made: servers killed in the middle of it, and servers that begin at once.

use std::process::Stdio;

use futures::future::join_all;
use interlock::proto::StageSpec;
use tokio::process::{Child, Command};

use crate::harness::*;

const SERVERS: usize = 4;

fn migrate(database: &Database) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interlock"));
    command.arg("migrate").env("INTERLOCK_DATABASE_URL", database.url());
    command.stdout(Stdio::null()).kill_on_drop(true).spawn().expect("the program")
}

/// How many migrations are noted, and how many of them more than once.
async fn noted(database: &Database) -> (i64, i64) {
    let noted = "SELECT count(DISTINCT version), count(*) - count(DISTINCT version) FROM refinery_schema_history";
    let row = sql(database.url()).await.query_one(noted, &[]).await.expect("a row");
    (row.get(0), row.get(1))
}

fn migrations() -> i64 {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).expect("the migrations");
    i64::try_from(folder.count()).expect("not so many")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_in_its_middle_is_made_good_by_the_next() {
    // In the middle of the first migration, and of the second when the first is committed.
    for (table, before) in [("stages", None), ("turns", Some(1))] {
        let (database, _cluster) = Database::empty().await;
        let foreign = sql(database.url()).await;
        foreign.batch_execute(&format!("BEGIN; CREATE TABLE {table} ()")).await.expect("a table nobody sees");
        let looks = sql(database.url()).await;
        let waiting = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%CREATE%TABLE%'";
        let mut killed = migrate(&database);
        eventually("a migration that waits in its middle", async || {
            (looks.query_one(waiting, &[]).await.expect("a row").get::<_, i64>(0) == 1).then_some(())
        })
        .await;
        killed.kill().await.expect("it runs");
        foreign.batch_execute("ROLLBACK").await.expect("no table");
        let status = tokio::time::timeout(PATIENCE, migrate(&database).wait()).await;
        assert!(status.expect("in time").expect("a status").success(), "{table}");
        assert_eq!(noted(&database).await, (migrations(), 0), "{table}");
        if let Some(first) = before {
            let order = "SELECT version FROM refinery_schema_history ORDER BY applied_on LIMIT 1";
            let row = looks.query_one(order, &[]).await.expect("a row");
            assert_eq!(row.get::<_, i32>(0), first, "the first migration stayed");
        }
        let server = Server::over(database, |_| {}).await;
        server.api.submit(new_job("job", vec![new_stage("s")])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_begin_at_once_migrate_once() {
    let (database, _cluster) = Database::empty().await;
    let servers = join_all((0..SERVERS).map(|_| Program::start(&database))).await;
    assert_eq!(noted(&database).await, (migrations(), 0));
    for (i, server) in servers.iter().enumerate() {
        server.api.submit(new_job(&format!("job-{i}"), vec![new_stage("s")])).await;
    }
    for server in &servers {
        for i in 0..SERVERS {
            assert_eq!(server.api.job(&format!("job-{i}")).await.stages.len(), 1);
        }
    }
}

/// What V18 changed, undone, with stages that wait as the versions before had them.
const BEFORE_LINES: &str = "
    DROP INDEX ready_stages_by_resource, ready_stages_blocked;
    ALTER TABLE ready_stages DROP COLUMN resource_uid, DROP COLUMN amount, ADD COLUMN blocked_until timestamptz;
    UPDATE ready_stages SET blocked_until = now() + interval '10 seconds' WHERE blocked_on IS NOT NULL;
    CREATE INDEX ready_stages_blocked ON ready_stages (blocked_on, namespace_id, priority DESC, ready_at, job_uid, stage_no)
        WHERE blocked_on IS NOT NULL;
    CREATE INDEX ready_stages_forgotten ON ready_stages (blocked_until) WHERE blocked_on IS NOT NULL;
    UPDATE resources
    SET state = (state::jsonb - 'stages' || jsonb_build_object('turn', (state::jsonb -> 'stages') || '{\"called_until\": 1}'))::json
    WHERE state -> 'stages' IS NOT NULL;
    DELETE FROM refinery_schema_history WHERE version = 18";

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_waited_under_the_version_before_go_on() {
    let server = Server::start().await;
    let (_, held) = (server.api.acquire("free").await, server.api.acquire("held").await);
    for (i, resource) in ["free", "held", "free", "held"].into_iter().enumerate() {
        let stage = StageSpec { permits: vec![claim(resource)], queue: resource.to_owned(), ..new_stage("s") };
        server.api.submit(new_job(&format!("{resource}-{i}"), vec![stage])).await;
        assert!(server.api.lease_now(resource, 10).await.is_empty());
    }
    let client = sql(server.database.url()).await;
    let database = server.stop().await;
    client.batch_execute(BEFORE_LINES).await.expect("the schema of before");
    // One resource is free by now.
    let gone = "DELETE FROM permits WHERE resource_uid = (SELECT resource_uid FROM resources WHERE name = 'free')";
    assert_eq!(client.execute(gone, &[]).await.expect("a permit"), 1);
    let server = Server::over(database, |_| {}).await;
    for _ in 0..2 {
        let lease = server.api.lease("free").await;
        server.api.complete(&lease, serde_json::json!({})).await;
    }
    assert!(server.api.lease_now("held", 10).await.is_empty());
    server.api.release(&held).await;
    for _ in 0..2 {
        let lease = server.api.lease("held").await;
        server.api.complete(&lease, serde_json::json!({})).await;
    }
}
