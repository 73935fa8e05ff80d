//! What statements read in tables that are large: as many pages as what they return needs, whatever statistics the planner has.

use std::collections::BTreeSet;

use tokio_postgres::SimpleQueryMessage;

use super::connection::{Client, READER_SETUP, Target, WRITER_SETUP};
use super::tests::{database, sql_files, statements};
use super::{commit, page_cost_tests};

/// Tables as after months: of each kind far more rows than any statement returns. Nothing is due.
const LARGE_TABLES: &str = include_str!("cost_tests/large_tables.sql");

/// Tables whose statistics the test decides about.
const TABLES: &[&str] = &[
    "jobs",
    "job_documents",
    "stages",
    "stage_specs",
    "stage_artifacts",
    "ready_stages",
    "leases",
    "records",
    "record_values",
    "resources",
    "permits",
    "permit_waiters",
    "requests",
    "write_groups",
    "namespaces",
    "audit_events",
    "api_keys",
    "sessions",
    "segments",
];

/// A statement of `sql/`, values for its parameters, and how many pages it may touch.
type CostedStatement = (&'static str, &'static str, u64);

const KEY: &str = "'{1}', '{00000000-0000-8000-8000-000000000007}'";
const SMALL: &str = "'{1}', '{50000000-0000-8000-8000-000000000007}'";
/// Pages of a look of a walk, what is found by key for the rows on them, and their rows where they are deleted.
const LOOK: u64 = 80;

/// Every statement that runs while nothing unusual happens.
const STATEMENTS: &[CostedStatement] = &[
    ("due_jobs", "500", 10),
    ("due_stages", "500", 10),
    ("due_resources", "500", 10),
    // Other statements of the test leave dead entries in its index.
    ("due_leases", "500, NULL, NULL", 100),
    ("postpone_leases", "2000, NULL, 5, NULL", 10),
    ("due_permits", "600000000, 0, 64", LOOK),
    ("jobs_ahead", "500, 0, 64", LOOK),
    ("stages_ahead", "500, 0, 64", LOOK),
    ("resources_ahead", "500, 0, 64", LOOK),
    ("permits_ahead", "500, 0, 64", LOOK),
    // All leases of the test lie ahead: 500 are changed.
    ("shorten_leases", "500, 0, 64", 8_000),
    ("forget_requests", "0, 64", LOOK),
    ("forget_groups", "0, 64", LOOK),
    ("forget_audit_events", "1000", 20),
    ("forget_remains", "", 150),
    // There are at most 10,000 credentials.
    ("changed_keys", "5000", 200),
    ("ended_keys", "7776000000000", 200),
    ("find_leases", "'{1}', '{30000000-0000-8000-8000-000000000007}', '{0}', '{0}'", 10),
    ("find_keys", "'kkkkkk17', NULL", 200),
    ("list_keys", "NULL, NULL, 50", 200),
    ("lock_key_ring", "", 10),
    ("try_lock_key_ring", "", 10),
    ("note_key_use", "'{kkkkkk17}'", 20),
    ("list_audit_events", "now(), 5, NULL, NULL, NULL, NULL, 50, 10000", 800),
    ("list_audit_events", "now(), 5, 'key:unknown', NULL, NULL, NULL, 50, 10000", 800),
    ("sweep_events", "1000", 50),
    ("sweep_requests", "1000", 50),
    ("table_pages", "'requests'", 10),
    ("find_namespaces", "'{}', '{n17}'", 10),
    ("release_leader_lease", "'x', '00000000-0000-8000-8000-000000000001'", 5),
    (
        "granted_permits",
        "'{1}', '{40000000-0000-8000-8000-000000000007}', '{40000000-0000-8000-8000-000000000007}'",
        10,
    ),
    ("greet_servers", "'00000000-0000-8000-8000-000000000001'", 20),
    ("group_components", "'00000000-0000-8000-8000-000000000001'", 10),
    ("health", "", 200),
    ("leave_servers", "'00000000-0000-8000-8000-000000000001'", 10),
    ("list_events", "1, '00000000-0000-8000-8000-000000000007', now() - interval '1 hour', 0, 100", 100),
    ("list_namespaces", "'n1', 50, '{n,\"\"}', '{n~,~}'", 300),
    ("list_partitions", "", 100),
    ("list_resources", "1, '', 'lock-7', 'lock-8', 50", 60),
    // Of 100 queues a page of each where there are as many; and the one caller and stage of the other resource.
    (
        "list_waiters",
        "1, '40000000-0000-8000-8000-000000000001', 2147483647, now(), '00000000-0000-0000-0000-000000000000', 0, 51",
        1_500,
    ),
    (
        "list_waiters",
        "1, '40000000-0000-8000-8000-000000000009', 0, '2020-01-01', '00000000-0000-0000-0000-000000000000', 0, 51",
        60,
    ),
    ("count_waiters", "1, '40000000-0000-8000-8000-000000000001', 10000", 12_000),
    ("load_artifacts", KEY, 15),
    // Of a job that holds its stages: no page of the tables of others.
    ("load_artifacts", SMALL, 5),
    ("load_documents", SMALL, 5),
    ("load_jobs", "'{1}', '{50000000-0000-8000-8000-000000000007}', '{0}', '{2000-01-01}'", 10),
    ("load_own_documents", SMALL, 5),
    ("load_documents", KEY, 10),
    ("load_events", "'{1}', '{00000000-0000-8000-8000-000000000007}', '{2000-01-01}', '{0}', 100", 100),
    ("load_jobs", "'{1}', '{00000000-0000-8000-8000-000000000007}', '{0}', '{2000-01-01}'", 40),
    ("load_lease_documents", "'{1}', '{00000000-0000-8000-8000-000000000007}', '{1}'", 20),
    ("load_leases", "1, '30000000-0000-8000-8000-000000000007'", 10),
    ("load_namespaces", "'{1}', '{}'", 40),
    ("load_records", "'{1}', '{c}', '{r7}', '{0}', '{2000-01-01}'", 10),
    ("load_requests", "'{1}', '{00000000-0000-8000-8000-000000000007}'", 10),
    ("load_resources", "'{1}', '{40000000-0000-8000-8000-000000000007}'", 20),
    ("load_revisions", KEY, 10),
    ("load_sessions", "'{1}', '{60000000-0000-8000-8000-000000000007}'", 10),
    ("load_segments", "'{1}', '{60000000-0000-8000-8000-000000000007}', '{s9}'", 10),
    ("segments_after", "1, '60000000-0000-8000-8000-000000000007', 20000, 0, 500, 1000000", 600),
    // Each is found, and marked as deleted on its page.
    ("delete_segments", "1, '60000000-0000-8000-8000-000000000008', 100", 800),
    ("delete_segments", "1, '60000000-0000-8000-8000-000000000007', 100", 20),
    ("expired_sessions", "100", 10),
    ("load_stage_documents", "1, '00000000-0000-8000-8000-000000000007', '{0,1}'", 20),
    ("lock_jobs", KEY, 10),
    ("lock_records", "'{1}', '{c}', '{r7}'", 10),
    ("lock_sessions", "'{1}', '{60000000-0000-8000-8000-000000000007}'", 10),
    ("try_lock_sessions", "'{1}', '{60000000-0000-8000-8000-000000000007}'", 10),
    ("lock_resources", "'{1}', '{40000000-0000-8000-8000-000000000007}'", 10),
    ("try_lock_jobs", KEY, 10),
    ("try_lock_records", "'{1}', '{c}', '{r7}'", 10),
    ("try_lock_resources", "'{1}', '{40000000-0000-8000-8000-000000000007}'", 10),
    ("oldest_event", "1, '00000000-0000-8000-8000-000000000007', now() - interval '1 hour'", 100),
    ("pick_group", "1, 'bulk', 'g4', 16", 30),
    (
        "pick_ready",
        "'{1,1,1}', '{bulk,bulk,q7}', '{t,f,f}', '{-2147483647,0,0}', '{1970-01-01,2020-01-01,2020-01-01}', \
            '{00000000-0000-0000-0000-000000000000,00000000-0000-0000-0000-000000000000,00000000-0000-0000-0000-000000000000}', \
            '{0,0,0}', '{1,16,16}'",
        40,
    ),
    ("join_lines", "'{1}', '{40000000-0000-8000-8000-000000000001}', 16", 400),
    // Nothing to wake in the first, as many as are wanted in each of a hundred queues of the second.
    ("wake_stages", "'{1}', '{40000000-0000-8000-8000-000000000001}', '{16}', '{1}', '{f}', '{NULL}'", 700),
    ("wake_stages", "'{1}', '{40000000-0000-8000-8000-000000000009}', '{16}', '{1}', '{t}', '{NULL}'", 400),
    ("next_lines", "'00000000-0000-0000-0000-000000000000', 1, 20", 2_000),
    // 200 queues, each found by the index, and up to 500 stages of each.
    ("ready_queues", "200, 100000", 5_000),
    ("names_of_namespaces", "'{1}'", 10),
    // 1,000 queues of all namespaces, of which this one has none after the first 51, or as many.
    ("queue_names", "1, '', 51, 1000", 1_500),
    ("queue_names", "2, '', 51, 1000", 12_000),
    // As many ready and as many waiting stages of the first queue as are counted, and of the others one each.
    ("count_queues", "1, '{bulk,q1,q3,q9}', 10000, 50000", 25_000),
    // 5,000 leases, each with what was submitted of its stage.
    ("leased_queues", "1, 5000", 40_000),
    // The same for the 10,000 leases of one worker.
    ("list_workers", "1, '', 51, 10000, 10", 80_000),
    // 60 jobs that have not ended have timers, and 120,000 stages have one, of which 5,000 are looked at and none is in a backoff.
    ("delayed_queues", "1, 5000, 20000", 12_000),
    ("list_collections", "1, '', 51, 10000, 50000", 25_000),
    ("jobs_since", "1, 100, 1000000", 120),
    ("session_version", "1, '61000000-0000-8000-8000-000000000001'", 10),
    // Steps at the beginning and in the middle of a session of 40,000 segments.
    ("timed_segments", "1, '61000000-0000-8000-8000-000000000001', -1, 0, 256", 100),
    ("timed_segments", "1, '61000000-0000-8000-8000-000000000001', 20000000000000, 20000, 256", 100),
    ("untimed_segments", "1, '61000000-0000-8000-8000-000000000001', 0, 256", 300),
    // The first use of a connection reads the dictionary.
    ("matching_words", "'{english,english}', '{running,far}', 'run'", 500),
    ("learn_lexemes", "'{english,simple}', '{running,far}'", 500),
    ("search_words", "'{english,simple}', ARRAY['''running'''], NULL", 500),
    ("log_position", "", 20),
    ("replica_position", "", 20),
    ("has_replayed", "1", 20),
    ("resolve_commit", "gen_random_uuid()", 30),
    ("acquire_leader_lease", "'x', '00000000-0000-8000-8000-000000000001', 3", 10),
];

/// Statements whose cost may grow, and why.
const MAY_GROW: &[(&str, &str)] = &[
    ("idle_resources", "bounded by a walk, but looks below each lock that it finds idle"),
    ("held_tables", "reads the locks of the database, and only after a statement has waited in vain"),
    ("inspect_indexes", "`interlock doctor`, once for each run of the program"),
    ("inspect_instance", "the same"),
    ("inspect_schema", "the same"),
    ("inspect_settings", "the same"),
    ("inspect_slots", "the same"),
    ("inspect_standbys", "the same"),
    ("inspect_tables", "the same"),
    ("inspect_transactions", "the same"),
];

/// The pages that a statement touched, and its plan. What it did is undone.
async fn touched(client: &Client, (name, sql): (&str, &str), values: &str) -> (u64, String) {
    let call = if values.is_empty() { "costed".to_owned() } else { format!("costed({values})") };
    let explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off)";
    let all = format!("BEGIN; PREPARE costed AS {sql}; {explain} EXECUTE {call}; ROLLBACK; DEALLOCATE costed");
    let rows = client.simple_query(&all).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let line = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    let plan: Vec<String> = rows.into_iter().filter_map(line).collect();
    (pages(&plan), plan.join("\n"))
}

/// The pages that the execution of a plan touched.
pub(super) fn pages(plan: &[String]) -> u64 {
    // The first line about buffers is of the whole execution; those of planning come last.
    let buffers =
        plan.iter().take_while(|line| !line.starts_with("Planning")).find(|line| line.contains("Buffers: shared"));
    let pages = |kind: &str| {
        let count =
            buffers.and_then(|line| line.split(kind).nth(1)).map(|rest| rest.split(' ').next().unwrap_or_default());
        count.map_or(0, |count| count.parse::<u64>().expect("a count"))
    };
    pages("hit=") + pages("read=")
}

async fn check(client: &Client, statistics: &str) {
    let above: Vec<String> = above(client).await.into_iter().map(|(_, text)| text).collect();
    assert!(above.is_empty(), "{statistics}: {}", above.join("\n\n"));
}

/// The statements that touch more pages than they may.
async fn above(client: &Client) -> Vec<(&'static str, String)> {
    let (mut above, statements) = (Vec::new(), statements());
    for (name, values, bound) in STATEMENTS {
        let (pages, plan) = touched(client, (name, &statements[*name]), values).await;
        if pages > *bound {
            above.push((*name, format!("{name} touched {pages} pages, more than {bound}:\n{plan}")));
        }
    }
    above
}

/// A connection to tables of which no statistics are made by themselves.
async fn connect(target: &Target, setup: &str) -> Client {
    target.connect(setup).await.expect("Postgres listens")
}

async fn by_hand(client: &Client) {
    for table in TABLES {
        let off = format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        client.batch_execute(&off).await.expect("a setting of the table");
    }
}

#[tokio::test]
async fn statements_read_what_they_return_without_statistics() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = connect(&target, READER_SETUP).await;
    by_hand(&client).await;
    client.batch_execute(LARGE_TABLES).await.expect("the tables");
    check(&client, "never analyzed").await;
    page_cost_tests::check(&client, "never analyzed", 1).await;
    let generic = connect(&target, WRITER_SETUP).await;
    check(&generic, "never analyzed, any values").await;
    commit::tests::check(&generic, "never analyzed").await;
}

#[tokio::test]
async fn statements_read_what_they_return_with_old_and_new_statistics() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = connect(&target, READER_SETUP).await;
    by_hand(&client).await;
    client.batch_execute("ANALYZE").await.expect("statistics of empty tables");
    client.batch_execute(LARGE_TABLES).await.expect("the tables");
    let generic = connect(&target, WRITER_SETUP).await;
    check(&client, "analyzed while empty").await;
    page_cost_tests::check(&client, "analyzed while empty", 1).await;
    check(&generic, "analyzed while empty, any values").await;
    commit::tests::check(&generic, "analyzed while empty").await;
    client.batch_execute("ANALYZE").await.expect("statistics");
    check(&client, "analyzed").await;
    page_cost_tests::check(&client, "analyzed", 1).await;
    page_cost_tests::frequent_words_are_not_looked_up(&target).await;
    check(&generic, "analyzed, any values").await;
    commit::tests::check(&generic, "analyzed").await;
    churn_under_an_old_snapshot(&target, &client).await;
}

/// What changes in a while, of which nothing can be removed: timers that came, leases that were renewed, rows that were deleted.
const CHURN: &str = "
    UPDATE jobs SET wakes_at = now() - interval '1 minute' WHERE job_uid < '00000000-0000-8000-8000-000000020000';
    UPDATE jobs SET wakes_at = now() + interval '1 day' WHERE job_uid < '00000000-0000-8000-8000-000000020000';
    UPDATE stages SET wakes_at = now() - interval '1 minute' WHERE job_uid < '00000000-0000-8000-8000-000000020000';
    UPDATE stages SET wakes_at = now() + interval '1 day' WHERE job_uid < '00000000-0000-8000-8000-000000020000';
    UPDATE leases SET expires_at = expires_at + interval '1 second';
    UPDATE records SET update_time = now() WHERE record_id < 'r3';
    DELETE FROM requests WHERE request_id < '80000000-0000-0000-0000-000000000000';
    DELETE FROM jobs WHERE job_uid > '00000000-0000-8000-8000-000000050000' AND job_uid < '50000000-0000-8000-8000-000000000000';";

/// Statements whose cost grows with what an old snapshot keeps from being removed, and why.
const GROW_WITH_DEAD_ROWS: &[(&str, &str)] = &[
    ("due_jobs", "passes over the timers that came since the snapshot was taken: jobs with a start time or a timeout"),
    ("due_stages", "the same: backoffs, and attempts with a timeout"),
    (
        "load_namespaces",
        "asks whether there is a job, and passes over those that are dead; only where a namespace is deleted",
    ),
];

async fn churn_under_an_old_snapshot(target: &Target, client: &Client) {
    let old = connect(target, READER_SETUP).await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM namespaces")
        .await
        .expect("a snapshot");
    client.batch_execute(CHURN).await.expect("changes");
    let above = above(client).await;
    let unexpected: Vec<&String> = above
        .iter()
        .filter(|(name, _)| !GROW_WITH_DEAD_ROWS.iter().any(|(grows, _)| grows == name))
        .map(|(_, text)| text)
        .collect();
    assert!(unexpected.is_empty(), "under an old snapshot: {unexpected:#?}");
    page_cost_tests::check(client, "under an old snapshot", 3).await;
    old.batch_execute("ROLLBACK").await.expect("the end");
}

#[test]
fn every_statement_has_a_bound_or_a_reason() {
    let names: BTreeSet<String> = statements().into_keys().collect();
    let listed: BTreeSet<String> = STATEMENTS
        .iter()
        .map(|(name, ..)| *name)
        .chain(MAY_GROW.iter().map(|(name, _)| *name))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, listed);
}

#[tokio::test]
async fn no_index_condition_is_volatile() {
    let database = database().await;
    let client = connect(&Target::parse(database.url()).expect("our own URL"), READER_SETUP).await;
    let indexed = "SELECT DISTINCT a.attname::text FROM pg_index i
        JOIN pg_class t ON t.oid = i.indrelid AND t.relnamespace = current_schema()::regnamespace
        JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.atttypid = 'timestamptz'::regtype";
    let rows = client.query(indexed, &[]).await.expect("the columns of indexes");
    let columns: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(columns.contains("wakes_at") && columns.contains("create_time"), "{columns:?}");
    // Parts of the commit statement find rows by their keys, and read the clock after they have locked them.
    let pages = sql_files(2).into_iter().filter(|path| path.iter().any(|folder| folder == "pages"));
    for path in sql_files(1).into_iter().chain(pages) {
        let sql = std::fs::read_to_string(&path).expect("text");
        let condition = sql.split_once("WHERE").map_or("", |(_, condition)| condition);
        let words: Vec<&str> = condition.split_whitespace().collect();
        for three in words.windows(3).filter(|three| three[2].contains("clock_timestamp()")) {
            let column = three[0].trim_start_matches('(').split('.').next_back().unwrap_or_default();
            let compares = ["<", "<=", ">", ">=", "="].contains(&three[1]);
            assert!(!(compares && columns.contains(column)), "{}: {}", path.display(), three.join(" "));
        }
    }
}
