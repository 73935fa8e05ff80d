//! A schema that is being made: servers killed in the middle of it, servers that begin at once, and jobs of the version before.

use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use futures::future::join_all;
use interlock::proto::{self, JobState, StageSpec};
use interlock::store::connection::Target;
use interlock::store::migrate::migrate_to;
use serde_json::json;
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
        foreign.batch_execute(&format!("BEGIN; CREATE TABLE {table} ()")).await.expect("a table that is not committed");
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

/// Reverts what came since V17, with blocked stages as earlier versions stored them.
const BEFORE_LINES: &str = "
    DROP TABLE segments, sessions;
    DROP FUNCTION segment_vector, set_segment_vector;
    ALTER TABLE write_groups DROP COLUMN xid, DROP COLUMN history;
    ALTER TABLE job_events ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
    CREATE INDEX job_events_by_xid ON job_events USING brin (((xid::text)::bigint)) WITH (pages_per_range = 16, autosummarize = on);
    DROP INDEX ready_stages_by_resource, ready_stages_blocked, ready_stages_waiting, jobs_with_timer, stages_with_timer;
    ALTER TABLE ready_stages DROP COLUMN resource_uid, DROP COLUMN amount, ADD COLUMN blocked_until timestamptz;
    UPDATE ready_stages SET blocked_until = now() + interval '10 seconds' WHERE blocked_on IS NOT NULL;
    CREATE INDEX ready_stages_blocked ON ready_stages (blocked_on, namespace_id, priority DESC, ready_at, job_uid, stage_no)
        WHERE blocked_on IS NOT NULL;
    CREATE INDEX ready_stages_forgotten ON ready_stages (blocked_until) WHERE blocked_on IS NOT NULL;
    UPDATE resources
    SET state = (state::jsonb - 'stages' || jsonb_build_object('turn', (state::jsonb -> 'stages') || '{\"called_until\": 1}'))::json
    WHERE state -> 'stages' IS NOT NULL;
    DELETE FROM refinery_schema_history WHERE version >= 17";

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

/// Jobs as the version before wrote them: one is ready, one leased until the next hour, one waits for the end of a backoff, one has come to its
/// second stage, one is done. Their ids are their keys.
const OLD_JOBS: &str = r#"
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, start_time, end_time,
        retention_us)
    SELECT 1, id::uuid, id, name, 3, 1, state, 0, 0, now() - interval '1 min', now(), CASE WHEN state = 5 THEN now() END, 3600000000
    FROM (VALUES (1, 'ready', 1), (2, 'leased', 2), (3, 'backoff', 2), (4, 'second', 2), (5, 'done', 5)) AS v(n, name, state),
        LATERAL (SELECT '01890000-0000-7000-8000-00000000000' || n AS id) i;
    INSERT INTO job_documents SELECT namespace_id, job_uid, '{"of":"payload"}', CASE WHEN state = 5 THEN '{"of":"result"}'::json END FROM jobs;
    INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, token_secret, progress, wakes_at)
    SELECT 1, j.job_uid, v.no, 2, 2, v.state, v.attempt, v.attempt, CASE WHEN v.state = 3 THEN j.job_uid END, 0,
        CASE WHEN v.state = 4 THEN now() END
    FROM (VALUES ('ready', 0, 2, 0), ('leased', 0, 3, 1), ('backoff', 0, 4, 1), ('second', 0, 5, 1), ('second', 1, 2, 0), ('done', 0, 5, 1))
        AS v(name, no, state, attempt)
    JOIN jobs j ON j.kind = v.name;
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on, input)
    SELECT 1, s.job_uid, s.stage_no, json_build_object('name', 's' || s.stage_no, 'queue', j.kind, 'weight', 1.0),
        CASE WHEN s.stage_no = 0 THEN '[]' ELSE '[0]' END::json, json_build_object('of', 'input')
    FROM stages s JOIN jobs j USING (namespace_id, job_uid);
    INSERT INTO stage_artifacts SELECT namespace_id, job_uid, stage_no, '{"of":"artifacts"}' FROM stages WHERE state = 5;
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at)
    SELECT s.namespace_id, s.job_uid, s.stage_no, j.kind, 0, now() FROM stages s JOIN jobs j USING (namespace_id, job_uid) WHERE s.state = 2;
    INSERT INTO leases SELECT namespace_id, job_uid, stage_no, token_secret, 'worker', 60000000, now() + interval '1 hour'
    FROM stages WHERE state = 3"#;

/// The token of the first attempt at the first stage, as `OLD_JOBS` has it.
fn old_token(job_id: &str) -> String {
    let uid = u128::from_str_radix(&job_id.replace('-', ""), 16).expect("a UUID").to_be_bytes();
    URL_SAFE_NO_PAD.encode([&uid[..], &0u32.to_be_bytes(), &1i64.to_be_bytes(), &uid].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_have_rows_for_few_stages_go_on_after_an_upgrade() {
    let (database, _cluster) = Database::empty().await;
    migrate_to(&Target::parse(database.url()).expect("our own URL"), 12).await;
    let client = sql(database.url()).await;
    client.batch_execute(OLD_JOBS).await.expect("jobs of the version before");
    let server = Program::start(&database).await;
    assert_eq!(noted(&database).await, (migrations(), 0));
    let api = &server.api;
    let id = |n: u32| format!("01890000-0000-7000-8000-00000000000{n}");

    let done = api.job(&id(5)).await;
    assert_eq!((done.state(), &done.payload, &done.result), (JobState::Succeeded, &of("payload"), &of("result")));
    assert_eq!(stage(&done, "s0").artifacts, of("artifacts"));
    assert_eq!(api.stage(&id(5), "s0").await.input, of("input"));
    for queue in ["ready", "backoff", "second"] {
        let lease = api.lease(queue).await;
        assert_eq!((&lease.payload, &lease.input), (&of("payload"), &of("input")));
        let artifacts: Vec<_> = lease.dependencies.iter().map(|it| it.artifacts.clone()).collect();
        assert_eq!(artifacts, if queue == "second" { vec![of("artifacts")] } else { Vec::new() });
        api.complete(&lease, json!({ "of": "new" })).await;
    }
    let held = proto::Lease { lease_token: old_token(&id(2)), ..Default::default() };
    assert_eq!(api.renew_lease(&held, Some(0.5)).await.directive(), proto::LeaseDirective::Continue);
    api.complete(&held, json!({ "of": "new" })).await;
    for n in 1..=4 {
        let job = api.job(&id(n)).await;
        assert_eq!((job.state(), &job.stages.last().expect("a stage").artifacts), (JobState::Succeeded, &of("new")));
    }
    let retry = proto::RetryJobRequest { job_id: id(5), from_stage: "s0".into(), ..Default::default() };
    ok(api.jobs().retry_job(retry).await);
    let job = api.job(&id(5)).await;
    assert_eq!((job.result.clone(), stage(&job, "s0").artifacts.clone()), (None, None));
    api.complete(&api.lease("done").await, json!({})).await;
    // They keep their rows, and new jobs have rows or hold their stages, not both.
    api.submit(new_job("new", vec![new_stage("s")])).await;
    let shape = "SELECT count(*) FROM jobs WHERE (stages IS NULL) = EXISTS (SELECT FROM stages s WHERE s.job_uid = jobs.job_uid)";
    let row = client.query_one(shape, &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 6);
    for n in 1..=5 {
        ok(api.jobs().delete_job(proto::DeleteJobRequest { job_id: id(n), ..Default::default() }).await);
    }
    let row = client.query_one("SELECT count(*) FROM stages, stage_specs, job_documents", &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 0);
}

fn of(what: &str) -> Option<prost_types::Struct> {
    struct_of(json!({ "of": what }))
}

/// A session with a final segment, as the version before wrote it.
const OLD_SEGMENT: &str = "
    INSERT INTO sessions (namespace_id, session_uid, session_id, state, version, segment_count, arrivals, retention_us, create_time, update_time)
    VALUES (1, '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000001', 1, 1, 1, 1, 0, now(), now());
    INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, language, text, create_time, update_time,
        search_config, search_text)
    VALUES (1, '01890000-0000-7000-8000-000000000001', 'KEY', 1, 1, 2, 2, 0, 'en', 'The plans', now(), now(), 'english', 'the plans')";

#[tokio::test(flavor = "multi_thread")]
async fn segments_of_the_version_before_are_found_after_an_upgrade() {
    let (database, _cluster) = Database::empty().await;
    migrate_to(&Target::parse(database.url()).expect("our own URL"), 22).await;
    let client = sql(database.url()).await;
    client.batch_execute(&OLD_SEGMENT.replace("KEY", "old")).await.expect("a segment of the version before");
    let server = Program::start(&database).await;
    // A server of the version before is still at work.
    let (_, insert) = OLD_SEGMENT.split_once(';').expect("two statements");
    client.batch_execute(&insert.replace("KEY", "late")).await.expect("a segment of the version before");
    let request = proto::SearchSegmentsRequest { query: "plan".to_owned(), ..Default::default() };
    let found = ok(server.api.timelines().search_segments(request).await).results;
    let mut keys: Vec<String> = found.into_iter().map(|result| result.segment.expect("a segment").key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["late", "old"]);
}
