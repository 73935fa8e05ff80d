//! What statements read in tables that are large: as many pages as what they return needs, whatever statistics the planner has.

use std::collections::BTreeSet;

use tokio_postgres::SimpleQueryMessage;

use super::connection::{Client, READER_SETUP, Target, WRITER_SETUP};
use super::tests::database;

/// Tables as after months: of each kind far more rows than any statement returns. Nothing is due.
const LARGE_TABLES: &str = "
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, end_time,
        expire_time, wakes_at, retention_us)
    SELECT 1, ('00000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'job-' || i, 'video', 5, 1, 5, 0, 1,
        now() - i * interval '1 second', now(), now() + interval '1 day', now() + interval '1 day', 0
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
    INSERT INTO requests SELECT 1, gen_random_uuid(), gen_random_uuid(), '', 0, 1, true, now() FROM generate_series(1, 60000) i;
    INSERT INTO write_groups SELECT gen_random_uuid(), '{}', now() FROM generate_series(1, 60000) i;
    INSERT INTO job_events (namespace_id, job_uid, revision, event_time, run, kind, job_state, stages)
    SELECT namespace_id, job_uid, no, now(), 1, 1, 1, '[]' FROM jobs, generate_series(1, 2) no;
    INSERT INTO namespaces (name) SELECT 'n' || i FROM generate_series(1, 5000) i;
    INSERT INTO audit_events (event_time, principal, method, target, details)
    SELECT now() - i * interval '1 minute', 'key:' || i % 100, 'CreateNamespace', 'n' || i, '{}' FROM generate_series(1, 60000) i;
    INSERT INTO api_keys (key_id, version, changed_version, secret_hash, label, roles, namespaces, rates, create_time, last_use_time)
    SELECT lpad(i::text, 8, 'k'), 1, i, sha256(i::text::bytea), '', '[]', '[]', '[]', now(), now() FROM generate_series(1, 5000) i;
    UPDATE key_ring SET version = 5000;";

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
];

/// A statement of `sql/`, values for its parameters, and how many pages it may touch.
type Statement = (&'static str, &'static str, u64);

const KEY: &str = "'{1}', '{00000000-0000-8000-8000-000000000007}'";
const SMALL: &str = "'{1}', '{50000000-0000-8000-8000-000000000007}'";
/// Pages of a look of a walk, what is found by key for the rows on them, and their rows where they are deleted.
const LOOK: u64 = 80;

/// Every statement that runs while nothing unusual happens.
const STATEMENTS: &[Statement] = &[
    ("due_jobs", "500", 10),
    ("due_stages", "500", 10),
    ("due_resources", "500", 10),
    ("due_leases", "500, NULL, NULL", 10),
    ("postpone_leases", "2000, NULL, 5, NULL", 10),
    ("due_permits", "600000000, 0, 64", LOOK),
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
    ("list_audit_events", "now(), 5, 'key:nobody', NULL, NULL, NULL, 50, 10000", 800),
    ("sweep_events", "1000", 50),
    ("sweep_requests", "1000", 50),
    ("table_pages", "'requests'", 10),
    ("find_namespaces", "'{}', '{n17}'", 10),
    ("free_turn", "'x', '00000000-0000-8000-8000-000000000001'", 5),
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
    ("list_namespaces", "'n1', 50, '{}', '{n}'", 60),
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
    ("load_stage_documents", "1, '00000000-0000-8000-8000-000000000007', '{0,1}'", 20),
    ("lock_jobs", KEY, 10),
    ("lock_records", "'{1}', '{c}', '{r7}'", 10),
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
    ("settle_group", "gen_random_uuid()", 30),
    ("take_turn", "'x', '00000000-0000-8000-8000-000000000001', 3", 10),
];

/// Statements whose cost may grow, and why.
const MAY_GROW: &[(&str, &str)] = &[
    ("idle_resources", "bounded by a walk, but looks below each lock that it finds idle"),
    ("held_tables", "reads the locks of the database, and only after a statement has waited in vain"),
    ("jobs_ahead", "reads what has a time, only after the clock stepped back"),
    ("resources_ahead", "the same"),
    ("stages_ahead", "the same"),
    ("shorten_leases", "the same"),
    ("jobs_since", "reads the history of the moment, found by a range index over its days"),
    ("list_jobs", "the filter decides"),
    ("list_records", "the filter decides"),
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
async fn touched(client: &Client, name: &str, values: &str) -> (u64, String) {
    let path = format!("{}/src/store/sql/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    let sql = std::fs::read_to_string(path).expect("a statement of ours");
    let call = if values.is_empty() { "costed".to_owned() } else { format!("costed({values})") };
    let explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off)";
    let all = format!("BEGIN; PREPARE costed AS {sql}; {explain} EXECUTE {call}; ROLLBACK; DEALLOCATE costed");
    let rows = client.simple_query(&all).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let line = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    let plan: Vec<String> = rows.into_iter().filter_map(line).collect();
    // The first line about buffers is of the whole execution; those of planning come last.
    let buffers =
        plan.iter().take_while(|line| !line.starts_with("Planning")).find(|line| line.contains("Buffers: shared"));
    let pages = |kind: &str| {
        let count =
            buffers.and_then(|line| line.split(kind).nth(1)).map(|rest| rest.split(' ').next().unwrap_or_default());
        count.map_or(0, |count| count.parse::<u64>().expect("a count"))
    };
    (pages("hit=") + pages("read="), plan.join("\n"))
}

async fn check(client: &Client, statistics: &str) {
    let mut above = Vec::new();
    for (name, values, bound) in STATEMENTS {
        let (pages, plan) = touched(client, name, values).await;
        if pages > *bound {
            above.push(format!("{name} touched {pages} pages, more than {bound}:\n{plan}"));
        }
    }
    assert!(above.is_empty(), "{statistics}: {}", above.join("\n\n"));
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
    check(&connect(&target, WRITER_SETUP).await, "never analyzed, any values").await;
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
    check(&generic, "analyzed while empty, any values").await;
    client.batch_execute("ANALYZE").await.expect("statistics");
    check(&client, "analyzed").await;
    check(&generic, "analyzed, any values").await;
}

#[test]
fn every_statement_has_a_bound_or_a_reason() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sql");
    let names = std::fs::read_dir(folder).expect("the folder of the SQL").filter_map(|entry| {
        let path = entry.expect("a file").path();
        path.extension().is_some_and(|extension| extension == "sql").then_some(path)
    });
    let names: BTreeSet<String> =
        names.filter_map(|path| path.file_stem().and_then(|name| name.to_str()).map(str::to_owned)).collect();
    let listed: BTreeSet<String> = STATEMENTS
        .iter()
        .map(|(name, ..)| *name)
        .chain(MAY_GROW.iter().map(|(name, _)| *name))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, listed);
}
