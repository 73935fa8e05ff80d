//! The plans of reads before there are any statistics: rows are found by their whole key.

use tokio_postgres::SimpleQueryMessage;

use super::connection::{Client, READER_SETUP, Target, WRITER_SETUP};
use super::tests::database;

/// A job of 10,000 stages, with what may be below each, in tables that are not analyzed for as long as the test takes.
const LARGE_JOB: &str = "
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us)
    VALUES (1, '00000000-0000-8000-8000-000000000001', 'large', 'test', 1, 1, 2, 0, 0, now(), 0);
    INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress)
    SELECT namespace_id, job_uid, no, 1, 1, 2, 0, 0, 0 FROM jobs, generate_series(0, 9999) no;
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
    SELECT namespace_id, job_uid, stage_no, '{}', '[]' FROM stages;
    INSERT INTO stage_artifacts SELECT namespace_id, job_uid, stage_no, '{}' FROM stages;
    INSERT INTO leases SELECT namespace_id, job_uid, stage_no, job_uid, 'w', 1, now() FROM stages";

const UNANALYZED: [&str; 5] = ["jobs", "stages", "stage_specs", "stage_artifacts", "leases"];

/// A read, values for its parameters, and by which column (and those before it in the key) rows of which table are found.
struct PlannedRead {
    sql: &'static str,
    values: &'static str,
    found: &'static [(&'static str, &'static str)],
}

macro_rules! read {
    ($name:literal, $values:expr, $found:expr) => {
        PlannedRead { sql: include_str!(concat!("sql/", $name, ".sql")), values: $values, found: &$found }
    };
}

/// The job, as the values of `namespace_id = $1 AND job_uid = $2`, and as arrays of such.
macro_rules! job {
    ($more:literal) => {
        concat!("1, '00000000-0000-8000-8000-000000000001'", $more)
    };
}
macro_rules! jobs {
    ($more:literal) => {
        concat!("'{1}', '{00000000-0000-8000-8000-000000000001}'", $more)
    };
}

const READS: &[PlannedRead] = &[
    read!(
        "job/load_jobs",
        jobs!(", '{0}', '{2000-01-01}'"),
        [("jobs", "job_uid"), ("stages", "job_uid"), ("stage_specs", "stage_no"), ("leases", "stage_no")]
    ),
    read!("job/load_documents", jobs!(""), [("job_documents", "job_uid")]),
    read!("job/load_own_documents", jobs!(""), [("jobs", "job_uid")]),
    read!("job/load_revisions", jobs!(""), [("jobs", "job_uid")]),
    read!("request/load_requests", jobs!(""), [("requests", "request_id")]),
    read!("job/load_artifacts", jobs!(""), [("stage_artifacts", "job_uid")]),
    read!("lease/find_leases", jobs!(", '{7}', '{0}'"), [("leases", "stage_no"), ("jobs", "job_uid")]),
    read!("lease/load_leases", job!(""), [("leases", "job_uid")]),
    read!(
        "job/load_stage_documents",
        job!(", '{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}'"),
        [("stage_specs", "job_uid"), ("stage_artifacts", "stage_no")]
    ),
    read!("job/load_lease_documents", jobs!(", '{0}'"), [("stage_specs", "stage_no"), ("stage_artifacts", "stage_no")]),
    read!(
        "record/load_records",
        "'{1}', '{c}', '{r}', '{0}', '{2000-01-01}'",
        [("records", "record_id"), ("record_values", "record_id")]
    ),
    read!("session/load_sessions", jobs!(""), [("sessions", "session_uid")]),
    read!("session/load_segments", jobs!(", '{a}'"), [("segments", "key")]),
    read!("history/list_events", job!(", '2000-01-01', 0, 100"), [("job_events", "job_uid")]),
    read!("history/load_events", jobs!(", '{2000-01-01}', '{0}', 100"), [("job_events", "job_uid")]),
    read!("history/oldest_event", job!(", '2000-01-01'"), [("job_events", "job_uid")]),
];

async fn plan(client: &Client, read: &PlannedRead) -> Vec<String> {
    client.batch_execute(&format!("PREPARE read AS {}", read.sql)).await.expect("the statement");
    let rows =
        client.simple_query(&format!("EXPLAIN (COSTS off) EXECUTE read({})", read.values)).await.expect("a plan");
    client.batch_execute("DEALLOCATE read").await.expect("gone");
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.iter().filter_map(line).collect()
}

/// Looks at all scans of a plan: by the index that the primary key or history has, with a condition on the whole of what is known.
fn check(read: &PlannedRead, plan: &[String]) {
    let text = plan.join("\n");
    for (table, column) in read.found {
        // Partitions of history and their indexes begin with its name.
        let of_table = |line: &&String| {
            line.split(" on ").nth(1).is_some_and(|on| {
                let name = on.split(' ').next().unwrap_or_default();
                name == *table || *table == "job_events" && name.starts_with("job_events_")
            })
        };
        assert!(plan.iter().any(|line| of_table(&line)), "{table} is not read:\n{text}");
        for (i, line) in plan.iter().enumerate().filter(|(_, line)| of_table(line)) {
            let by_index =
                line.contains("Index Scan") || line.contains("Index Only Scan") || line.contains("Heap Scan");
            assert!(by_index, "{line} in\n{text}");
            let condition = plan.get(i + 1).map_or("", String::as_str);
            let by_key = condition.contains("Index Cond") || condition.contains("Recheck Cond");
            // Leases of a job that holds its stages in its own row: at most one for each of those few.
            let of_few = *table == "leases" && condition.contains("stages IS NOT NULL");
            let column = if of_few { "job_uid" } else { column };
            assert!(by_key && condition.contains(column), "{table} is not found by {column}:\n{text}");
        }
    }
}

#[tokio::test]
async fn reads_find_rows_by_their_keys_while_there_are_no_statistics() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect("").await.expect("Postgres listens");
    for table in UNANALYZED {
        let off = format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        client.batch_execute(&off).await.expect("a setting of the table");
    }
    // Lanes load by plans for any values, readers by plans for these values as long as they are new.
    for large in [false, true] {
        if large {
            client.batch_execute(LARGE_JOB).await.expect("the job");
        }
        for setup in [WRITER_SETUP, READER_SETUP] {
            let client = target.connect(setup).await.expect("Postgres listens");
            for read in READS {
                check(read, &plan(&client, read).await);
            }
        }
    }
}

/// More stages that are ready than a pick takes, half of them of the kind that is leased alone.
const LONG_QUEUE: &str = "
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, alone)
    SELECT 1, '00000000-0000-8000-8000-000000000001', no, 'default', 0, now(), no % 2 = 0 FROM generate_series(0, 99999) no;
    ANALYZE ready_stages";

#[tokio::test]
async fn pick_ready_reads_only_what_it_returns_of_a_long_queue() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect(READER_SETUP).await.expect("Postgres listens");
    client.batch_execute(LONG_QUEUE).await.expect("the queue");
    let values = "'{1,1}', '{default,default}', '{t,f}', '{-7,0}', '{-infinity,2000-01-01}', \
        '{00000000-0000-0000-0000-000000000000,00000000-0000-8000-8000-000000000001}', '{0,50000}', '{1,10}'";
    let pick = read!("ready/pick_ready", values, []);
    for setting in ["auto", "force_generic_plan"] {
        client.batch_execute(&format!("SET plan_cache_mode = {setting}")).await.expect("a setting");
        let text = plan(&client, &pick).await.join("\n");
        assert!(!text.contains("Seq Scan"), "{text}");
        let place =
            "(ROW((- priority), ready_at, job_uid, stage_no) >= ROW(w.rank, w.ready_at, w.job_uid, w.stage_no))";
        assert!(text.contains("Index Cond") && text.contains("(alone = w.alone)") && text.contains(place), "{text}");
        assert!(!text.contains("Sort"), "{text}");
    }
}
