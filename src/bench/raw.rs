//! The same work in the simplest SQL: fields of records updated one at a time or a hundred at once, and session locks.

use std::time::{Duration, Instant};

use super::load::{Sample, micros};
use crate::store::connection::{Run, Target};

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS raw_records (record_id text PRIMARY KEY, version bigint NOT NULL, \
    fields jsonb NOT NULL) WITH (fillfactor = 50); TRUNCATE raw_records";
const FILL_SQL: &str = "INSERT INTO raw_records SELECT 'r' || i, 1, (SELECT jsonb_object_agg('platform_' || f, 1000000) \
    FROM generate_series(0, $2::int8 - 1) f) FROM generate_series(0, $1::int8 - 1) i";
const UPDATE_SQL: &str = "UPDATE raw_records SET version = version + 1, \
    fields = jsonb_set(fields, array[$2::text], to_jsonb((fields ->> $2::text)::float8 + 1)) WHERE record_id = $1::text";
const UNNEST_SQL: &str = "UPDATE raw_records r SET version = r.version + 1, \
    fields = jsonb_set(r.fields, array[$2::text], to_jsonb((r.fields ->> $2::text)::float8 + 1)) \
    FROM unnest($1::text[]) AS v(record_id) WHERE r.record_id = v.record_id";

/// Creates a separate table of records, with the fields of each as one object.
pub async fn prepare_records(url: &str, records: u64, fields: u64) -> anyhow::Result<()> {
    let client = Target::parse(url)?.connect(RECORDS).await?;
    client.rows(FILL_SQL, &[&i64::try_from(records)?, &i64::try_from(fields)?]).await?;
    Ok(())
}

/// Updates a field of one record, or of a batch of records, per transaction, over `connections` connections with
/// separate records each.
pub async fn update_records(
    url: &str,
    connections: usize,
    records: u64,
    batch: u64,
    run: Duration,
    field: impl Fn(u64) -> String + Clone + Send + 'static,
) -> anyhow::Result<Sample> {
    let target = Target::parse(url)?;
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(target.connect("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off").await?);
    }
    let started = Instant::now();
    let (every, own) = (connections as u64, records / connections as u64);
    let mut tasks = Vec::with_capacity(connections);
    for (i, client) in clients.into_iter().enumerate() {
        let field = field.clone();
        tasks.push(tokio::spawn(async move {
            let (first, mut latencies) = (i as u64, Vec::new());
            for n in 0_u64.. {
                if started.elapsed() >= run {
                    break;
                }
                let sent = Instant::now();
                let field = field(n);
                // Spread over the table, like the server's updates.
                let record = |k| first + (n * batch + k) % own * every;
                let mut ids: Vec<String> = (0..batch).map(|k| format!("r{}", record(k))).collect();
                match ids.pop() {
                    Some(id) if ids.is_empty() => client.rows(UPDATE_SQL, &[&id, &field]).await?,
                    last => {
                        ids.extend(last);
                        client.rows(UNNEST_SQL, &[&ids, &field]).await?
                    }
                };
                latencies.push(micros(sent.elapsed()));
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut sample = Sample::default();
    for task in tasks {
        sample.latencies.extend(task.await??);
    }
    sample.calls = sample.latencies.len() as u64 * batch;
    (sample.applied, sample.took) = (sample.calls, started.elapsed());
    sample.latencies.sort_unstable();
    Ok(sample)
}

/// Takes and releases one session lock, over `connections` connections.
pub async fn advisory_locks(url: &str, connections: usize, run: Duration) -> anyhow::Result<Sample> {
    let target = Target::parse(url)?;
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(target.connect("").await?);
    }
    let started = Instant::now();
    let mut tasks = Vec::with_capacity(connections);
    for client in clients {
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < run {
                let sent = Instant::now();
                client.rows("SELECT pg_advisory_lock(4711)", &[]).await?;
                client.rows("SELECT pg_advisory_unlock(4711)", &[]).await?;
                latencies.push(micros(sent.elapsed()));
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut sample = Sample::default();
    for task in tasks {
        sample.latencies.extend(task.await??);
    }
    (sample.calls, sample.took) = (sample.latencies.len() as u64, started.elapsed());
    sample.applied = sample.calls;
    sample.latencies.sort_unstable();
    Ok(sample)
}
