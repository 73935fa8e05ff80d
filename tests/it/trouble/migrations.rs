//! A schema that is being made: servers killed in the middle of it, and servers that begin at once.

use std::process::Stdio;

use futures::future::join_all;
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
