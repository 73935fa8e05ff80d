//! A queue as one narrow table: rows are claimed with SKIP LOCKED and completed by a second statement, each in a
//! durable transaction of its own.
//!
//! It is as good as such a queue usually is: a partial index of ready rows, prepared statements, and the requested
//! number of rows per statement. A claim is committed before the work, as a lease is, so a crash loses none.

use std::time::Instant;

use anyhow::Context;

use super::load::Sample;
use crate::store::connection::{Client, Run, Target};

const TABLE: &str = "DROP TABLE IF EXISTS plain_queue; CREATE TABLE plain_queue (id bigint PRIMARY KEY, \
    state smallint NOT NULL, worker smallint) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)";
const INDEX: &str = "CREATE INDEX plain_queue_ready ON plain_queue (id) WHERE state = 0";
const FILL_SQL: &str = "INSERT INTO plain_queue SELECT i, 0 FROM generate_series(1, $1::int8) i";
const CLAIM_SQL: &str = "UPDATE plain_queue SET state = 1, worker = 1 WHERE id = ANY (ARRAY(SELECT id FROM plain_queue \
    WHERE state = 0 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING id";
const COMPLETE_SQL: &str = "UPDATE plain_queue SET state = 2 WHERE id = ANY ($1::int8[])";

/// Creates the table with `rows` ready rows.
pub async fn prepare(url: &str, rows: usize) -> anyhow::Result<()> {
    let client = Target::parse(url)?.connect(TABLE).await?;
    client.batch_execute(INDEX).await?;
    client.rows(FILL_SQL, &[&i64::try_from(rows)?]).await?;
    client.batch_execute("VACUUM ANALYZE plain_queue").await?;
    Ok(())
}

/// Drains the table over `connections` connections, with `claim` rows per claim.
pub async fn drain(url: &str, connections: usize, claim: i64) -> anyhow::Result<Sample> {
    let target = Target::parse(url)?;
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(target.connect("SET plan_cache_mode = force_generic_plan").await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(drain_alone(client, claim))).collect();
    let mut drained = 0;
    for task in tasks {
        drained += task.await??;
    }
    Ok(Sample { calls: drained, applied: drained, took: started.elapsed(), latencies: Vec::new() })
}

/// Number of completed rows.
pub async fn done(url: &str) -> anyhow::Result<i64> {
    let client = Target::parse(url)?.connect("").await?;
    let rows = client.rows("SELECT count(*) FROM plain_queue WHERE state = 2", &[]).await?;
    Ok(rows.first().context("Postgres returned no total")?.get(0))
}

async fn drain_alone(client: Client, claim: i64) -> anyhow::Result<u64> {
    let mut drained = 0;
    loop {
        let claimed = client.rows(CLAIM_SQL, &[&claim]).await?;
        if claimed.is_empty() {
            return Ok(drained);
        }
        let ids: Vec<i64> = claimed.iter().map(|row| row.get(0)).collect();
        client.rows(COMPLETE_SQL, &[&ids]).await?;
        drained += claimed.len() as u64;
    }
}
