//! What statements read in tables that are large: as many pages as what they return needs, whatever statistics the planner has.

use std::collections::BTreeSet;

use tokio_postgres::SimpleQueryMessage;

use super::connection::{Client, READER_SETUP, Target, WRITER_SETUP};
use super::tests::{database, sql_files, statements};
use super::{commit, page_cost_tests};

/// Tables as after months: of each kind far more rows than any statement returns. Nothing is due.
const LARGE_TABLES: &str = "
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, end_time,
        expire_time, wakes_at, retention_us)
    SELECT 1, ('00000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'job-' || i, 'video', 5, 1, CASE WHEN i % 1000 > 0 THEN 5 ELSE 2 END, i % 3 - 1, 1,
        now() - i * interval '1 second', CASE WHEN i % 1000 > 0 THEN now() END, now() + interval '1 day', now() + interval '1 day', 0
    FROM generate_series(1, 60000) i;
    INSERT INTO job_documents SELECT namespace_id, job_uid, '{}', '{}' FROM jobs;
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, end_time,
        expire_time, wakes_at, retention_us, specs, stages, payload, inputs, artifacts)
    SELECT 1, ('50000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'small-' || i, 'video', 5, 1, 5, 0, 1,
        now() - i * interval '1 second', now(), now() + interval '1 day', now() + interval '1 day', 0,
        '[{\"depends_on\":[0]}]', '[{\"state\":5}]', '{}', '{\"0\":{}}', '{\"0\":{}}'
    FROM generate_series(1, 60000) i;
    INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress, wakes_at)
    SELECT namespace_id, job_uid, no, 5, 5, 5, 1, 1, 1, now() + interval '1 day' FROM job_documents, generate_series(0, 1) no;
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
    SELECT namespace_id, job_uid, stage_no, '{}', '[0]' FROM stages;
    INSERT INTO stage_artifacts SELECT namespace_id, job_uid, stage_no, '{}' FROM stages;
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, group_key, alone, resource_uid, blocked_on)
    SELECT 1, ('10000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 0,
        CASE WHEN i % 2 = 0 THEN 'bulk' ELSE 'q' || i END, 0, now(), 'g' || i % 20000, false,
        resource, CASE WHEN i % 3 = 0 THEN resource END
    FROM generate_series(1, 60000) i, LATERAL (
        SELECT ('40000000-0000-8000-8000-' || lpad(CASE WHEN i % 9 = 0 THEN i ELSE 1 END::text, 12, '0'))::uuid AS resource
        WHERE i % 3 = 0 OR i % 5 = 0 UNION ALL SELECT NULL WHERE i % 3 > 0 AND i % 5 > 0
    ) r;
    INSERT INTO leases SELECT 1, ('30000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 0, gen_random_uuid(), 'w', 1000000,
        now() + interval '1 hour', now() + interval '1 hour', 1
    FROM generate_series(1, 40000) i;
    INSERT INTO records SELECT 1, 'c', 'r' || i, 1, '{\"a\":[1,1]}', 0, now(), now() FROM generate_series(1, 60000) i;
    INSERT INTO resources
    SELECT 1, ('40000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'lock-' || i, 1, NULL, '{}', 1,
        now() + interval '1 day', now(), now() - (i % 2) * interval '2 days'
    FROM generate_series(1, 40000) i;
    INSERT INTO permits SELECT namespace_id, resource_uid, gen_random_uuid(), now() + interval '1 hour', '{}' FROM resources;
    INSERT INTO permit_waiters SELECT namespace_id, resource_uid, gen_random_uuid(), '{}' FROM resources;
    INSERT INTO sessions
    SELECT 1, ('60000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'session-' || i, NULL, NULL, CASE WHEN i = 8 THEN 3 ELSE 1 + i % 2 END,
        5, 1, 1, 0, now() - i * interval '1 second', now(), CASE WHEN i % 2 = 1 THEN now() END, CASE WHEN i % 2 = 1 THEN now() + interval '1 day' END
    FROM generate_series(1, 30000) i;
    INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, create_time, update_time)
    SELECT namespace_id, session_uid, 's' || i, i, i, 2, 2, 0, now(), now()
    FROM sessions, generate_series(1, CASE WHEN session_id = 'session-7' THEN 30000 WHEN session_id = 'session-8' THEN 3000 ELSE 1 END) i;
    INSERT INTO requests SELECT 1, gen_random_uuid(), gen_random_uuid(), '', 0, 1, true, now() FROM generate_series(1, 60000) i;
    INSERT INTO write_groups SELECT gen_random_uuid(), '{}', now(), (i::text)::xid8, '\\x00' FROM generate_series(1, 60000) i;
    INSERT INTO job_events (namespace_id, job_uid, revision, event_time, run, kind, job_state, stages)
    SELECT namespace_id, job_uid, no, now(), 1, 1, 1, '[]' FROM jobs, generate_series(1, 2) no;
    INSERT INTO namespaces (name) SELECT 'n' || i FROM generate_series(1, 5000) i;
    INSERT INTO audit_events (event_time, principal, method, target, details)
    SELECT now() - i * interval '1 minute', 'key:' || i % 100, 'CreateNamespace', 'n' || i, '{}' FROM generate_series(1, 60000) i;
    INSERT INTO api_keys (key_id, version, changed_version, secret_hash, label, roles, namespaces, rates, create_time, last_use_time)
    SELECT lpad(i::text, 8, 'k'), 1, i, sha256(i::text::bytea), '', '[]', '[]', '[]', now(), now() FROM generate_series(1, 5000) i;
    UPDATE key_ring SET version = 5000;
    INSERT INTO sessions (namespace_id, session_uid, session_id, labels, state, version, segment_count, arrivals, retention_us, create_time,
        update_time)
    SELECT 1, ('61000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 's' || i, '{\"team\":\"acme\"}', 1, 5, 1, 1, 0,
        now() - i * interval '1 second', now()
    FROM generate_series(1, 20000) i;
    INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, start_ns, end_ns, speaker, language, text,
        create_time, update_time, search_config)
    SELECT 1, ('61000000-0000-8000-8000-' || lpad(greatest(i - 40000, 1)::text, 12, '0'))::uuid, 'k' || i, i, i, 2, 2, 0,
        CASE WHEN i % 10 > 0 THEN i * 1000000000 END, CASE WHEN i % 1000 <> 1 THEN (i + CASE WHEN i % 1000 = 2 THEN 600 ELSE 5 END) * 1000000000 END,
        'Ann', 'en', 'common rare' || i, now(), now(), 'english'
    FROM generate_series(1::bigint, 60000) i;";

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
    ("jobs_since", "1, 100, 1000000", 120),
    ("session_version", "1, '61000000-0000-8000-8000-000000000001'", 10),
    // Steps at the beginning and in the middle of a session of 40,000 segments.
    ("timed_segments", "1, '61000000-0000-8000-8000-000000000001', -1, 0, 256", 100),
    ("timed_segments", "1, '61000000-0000-8000-8000-000000000001', 20000000000000, 20000, 256", 100),
    ("untimed_segments", "1, '61000000-0000-8000-8000-000000000001', 0, 256", 300),
    // The first use of a connection reads the dictionary.
    ("matching_words", "'{english,english}', '{running,far}', 'run'", 500),
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
