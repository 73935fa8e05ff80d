//! Every statement is prepared against the migrated schema.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Store;
use super::connection::{Explained, Run, Target};
use super::migrate::{migrate, migrate_to};
use super::pool::PoolSettings;
use super::ready::HeadRange;
use super::table::{JOBS, RECORDS, RESOURCES, SESSIONS};
use crate::config::Config;
use crate::dev::{Durability, TestCluster, TestDatabase};
use crate::domain::id::NamespaceId;
use crate::domain::ready::{ReadyPosition, ReadyStage};

/// A migrated database of one's own.
pub(crate) async fn database() -> TestDatabase {
    let cluster = TestCluster::shared().await.expect("Postgres starts");
    let migrated = |url: String| async move {
        migrate(&Target::parse(&url).expect("our own URL")).await.expect("the migrations run");
        Ok::<(), crate::dev::DevError>(())
    };
    cluster.database(migrated).await.expect("a copy of the template")
}

/// The statements of the store by name: the files of the aggregates' folders in `sql/`, and those of the template that locks rows. What is put
/// together from parts (`commit/`, `pages/`) is tested where that is done.
pub(super) fn statements() -> BTreeMap<String, String> {
    let mut statements = BTreeMap::new();
    for path in sql_files(1).into_iter().filter(|path| !path.iter().any(|folder| folder == "template")) {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let sql = std::fs::read_to_string(&path).expect("text");
        assert!(sql.starts_with(&format!("-- {name}: ")), "{name} begins with its name and what it is for");
        assert!(statements.insert(name, sql).is_none(), "{} has a name of its own", path.display());
    }
    for table in [&JOBS, &RECORDS, &RESOURCES, &SESSIONS] {
        statements.insert(format!("lock_{}", table.name), table.lock_statement(true));
        statements.insert(format!("try_lock_{}", table.name), table.lock_statement(false));
    }
    statements
}

/// The files below `sql/` that are so many folders deep.
pub(super) fn sql_files(depth: usize) -> Vec<PathBuf> {
    let mut level = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sql")];
    for _ in 0..=depth {
        let entries =
            |folder: PathBuf| std::fs::read_dir(folder).expect("a folder of SQL").map(|e| e.expect("an entry").path());
        level = level.into_iter().filter(|path| path.is_dir()).flat_map(entries).collect();
    }
    level.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    assert!(!level.is_empty());
    level
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let statements = statements();
    for (name, sql) in &statements {
        client.prepare_new(sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    assert!(statements.len() > 60, "only {} files were found", statements.len());
}

#[tokio::test]
async fn explained_errors_contain_what_postgres_returned() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let error = client.batch_execute("SELECT round(1.5::float8, 1)").await.expect_err("no such function");
    let text = Explained(&error).to_string();
    let begins = "ERROR: function round(double precision, integer) does not exist (SQLSTATE 42883; hint: No function";
    assert!(text.starts_with(begins), "{text}");
    let nowhere = Target::parse("host=/nowhere user=me").expect("pairs").connect("").await.map(drop);
    let text = nowhere.expect_err("no database").to_string();
    assert_eq!(text, "/nowhere:5432: error connecting to server: No such file or directory (os error 2)");
}

#[tokio::test]
async fn credentials_are_read_while_all_other_connections_are_in_use() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let few = PoolSettings {
        max_connections: 2,
        acquire_timeout: Duration::from_millis(100),
        ..PoolSettings::from(&Config::default())
    };
    let store = Store::new(target, few).expect("a pool");
    let mut held = Vec::new();
    for pool in [&store.reads, &store.repeats, &store.reserved] {
        while let Ok(client) = pool.get().await {
            held.push(client);
        }
    }
    assert_eq!(held.len(), 2 + super::RESERVED);
    let changes = store.credentials_changed_since(0).await.expect("a connection of its own");
    assert!(changes.is_whole);
}

#[tokio::test]
async fn second_migration_run_changes_nothing() {
    let database = database().await;
    let applied = migrate(&Target::parse(database.url()).expect("our own URL")).await.expect("a second run");
    assert_eq!(applied, Vec::<String>::new());
}

/// Paused jobs with timeouts, and ready stages of which the last attempt ended with the lease, or otherwise, or of which there was none.
const SIXTH: &str = r#"
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us,
        timeout_us, times_out_at, opens_at, wakes_at)
    SELECT 1, ('00000000-0000-8000-8000-00000000000' || n)::uuid, 'job' || n, 'test', 1, 1, state, 0, 0, now(), 0, 3600000000,
        now() + ends, now() + opens, now() + coalesce(opens, ends)
    FROM (VALUES (1, 3, interval '50 min', NULL), (2, 3, interval '2 h', interval '1 h'), (3, 3, interval '-1 min', NULL),
        (4, 2, interval '50 min', NULL)) AS v(n, state, ends, opens);
    INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress, failure)
    SELECT 1, '00000000-0000-8000-8000-000000000004', no, 1, 1, 2, 1, 1, 0, failure::json
    FROM (VALUES (0, NULL), (1, '{"class":"SERVER_ERROR"}'), (2, '{"class":"LEASE_EXPIRED"}')) AS v(no, failure);
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at)
    SELECT namespace_id, job_uid, stage_no, 'default', 0, now() FROM stages"#;

#[tokio::test]
async fn migration_7_stops_timeouts_of_paused_jobs_and_marks_stages_that_are_leased_alone() {
    let cluster = TestCluster::own(Durability::None).await.expect("Postgres starts");
    let sixth = |url: String| async move {
        migrate_to(&Target::parse(&url).expect("our own URL"), 6).await;
        Ok::<(), crate::dev::DevError>(())
    };
    let database = cluster.database(sixth).await.expect("a copy of the template");
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect("").await.expect("Postgres listens");
    client.batch_execute(SIXTH).await.expect("rows of the sixth version");
    migrate(&target).await.expect("the migrations run");
    let left =
        "SELECT round(timeout_left_us / 60e6)::int4, times_out_at IS NULL, wakes_at IS NULL FROM jobs ORDER BY job_id";
    let rows = client.query(left, &[]).await.expect("the jobs");
    let left: Vec<(Option<i32>, bool, bool)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let (delayed, running) = ((Some(60), true, false), (None, false, false));
    assert_eq!(left, [(Some(50), true, true), delayed, (Some(0), true, true), running]);
    let rows = client.query("SELECT alone FROM ready_stages ORDER BY stage_no", &[]).await.expect("the stages");
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<bool>>(), [false, false, true]);
}

#[tokio::test]
async fn migration_13_keeps_ready_stages_that_were_reserved() {
    let cluster = TestCluster::own(Durability::None).await.expect("Postgres starts");
    let twelfth = |url: String| async move {
        migrate_to(&Target::parse(&url).expect("our own URL"), 12).await;
        Ok::<(), crate::dev::DevError>(())
    };
    let database = cluster.database(twelfth).await.expect("a copy of the template");
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect("").await.expect("Postgres listens");
    let rows = "INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, reserved_by, reserved_until)
        SELECT 1, gen_random_uuid(), no, 'default', no % 2, now() + no * interval '1 s', by, now() + interval '5 s'
        FROM generate_series(0, 9) no, (VALUES (gen_random_uuid())) v(by)";
    client.batch_execute(rows).await.expect("rows of the twelfth version");
    migrate(&target).await.expect("the migrations run");
    let store = Store::new(target.clone(), (&Config::default()).into()).expect("a pool");
    let from = ReadyPosition::FRONT;
    let range = HeadRange { namespace: NamespaceId(1), queue: "default".into(), alone: false, from, limit: 100 };
    let found = store.ready_heads(&[range]).await.expect("a read").remove(0);
    let order: Vec<u32> = found.iter().map(|stage| stage.stage_no).collect();
    assert_eq!(order, [1, 3, 5, 7, 9, 0, 2, 4, 6, 8]);
    assert!(found.is_sorted_by_key(ReadyStage::place));
}

#[tokio::test]
async fn partition_changes_do_not_wait_for_a_long_read_of_history() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let store = Store::new(target.clone(), (&Config::default()).into()).expect("a pool");
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
