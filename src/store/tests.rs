//! Every statement is prepared against the migrated schema.

use std::time::Duration;

use super::Store;
use super::connection::{Run, Target};
use super::migrate::migrate;
use super::pool::PoolSettings;
use crate::dev::{TestCluster, TestDatabase};

/// A migrated database of one's own.
pub(crate) async fn database() -> TestDatabase {
    let cluster = TestCluster::shared().await.expect("Postgres starts");
    let migrated = |url: String| async move {
        migrate(&Target::parse(&url).expect("our own URL")).await.expect("the migrations run");
        Ok::<(), crate::dev::Error>(())
    };
    cluster.database(migrated).await.expect("a copy of the template")
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let mut prepared = 0;
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sql")).expect("the folder of the SQL")
    {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let sql = std::fs::read_to_string(&path).expect("text");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(sql.starts_with(&format!("-- {name}: ")), "{name} begins with its name and what it is for");
        client.anew(&sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        prepared += 1;
    }
    assert!(prepared > 15, "only {prepared} files were found");
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = database().await;
    let applied = migrate(&Target::parse(database.url()).expect("our own URL")).await.expect("a second run");
    assert_eq!(applied, Vec::<String>::new());
}

#[tokio::test]
async fn partitions_wait_for_nobody_who_reads_history_for_long() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let store = Store::new(target.clone(), PoolSettings::default()).expect("a pool");
    let client = target.connect("").await.expect("Postgres listens");
    let last = "SELECT 'job_events_' || to_char((now() AT TIME ZONE 'UTC') + interval '7 days', 'YYYYMMDD')";
    let last: String = client.query_one(last, &[]).await.expect("a name").get(0);
    let old = "CREATE TABLE job_events_20200101 PARTITION OF job_events \
        FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-01-02 00:00:00+00')";
    client.batch_execute(&format!("{old}; DROP TABLE {last}")).await.expect("one too many, one too few");
    let exists = async |name: &str| {
        let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await.expect("an answer");
        row.get::<_, bool>(0)
    };

    // As a backup does for hours.
    let reader = target.connect("").await.expect("Postgres listens");
    reader.batch_execute("BEGIN; SELECT count(*) FROM job_events").await.expect("a read");
    let kept = tokio::time::timeout(Duration::from_secs(10), store.keep_partitions(30)).await.expect("no wait");
    assert_eq!(kept.expect("done as far as it could be"), 0);
    assert!(exists("job_events_20200101").await && !exists(&last).await);

    reader.batch_execute("COMMIT").await.expect("done");
    assert_eq!(store.keep_partitions(30).await.expect("kept"), 1);
    assert!(!exists("job_events_20200101").await && exists(&last).await);
}
