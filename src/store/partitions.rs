//! History is kept by whole days: partitions are made a week ahead and dropped whole.

use deadpool_postgres::ClientWrapper;

use super::connection::unavailable;
use crate::error::{Error, Result};

/// Days ahead for which partitions exist after [`ensure`].
const AHEAD_DAYS: i32 = 7;

/// Makes the partitions from yesterday to a week ahead, by the database's clock in UTC. Several servers may do so at once.
pub async fn ensure(client: &ClientWrapper) -> Result<()> {
    let days = "SELECT to_char(day, 'YYYYMMDD'), to_char(day, 'YYYY-MM-DD'), to_char(day + interval '1 day', 'YYYY-MM-DD') \
        FROM generate_series(date_trunc('day', now() AT TIME ZONE 'UTC') - interval '1 day', \
        date_trunc('day', now() AT TIME ZONE 'UTC') + make_interval(days => $1), interval '1 day') AS day";
    for row in client.query(days, &[&AHEAD_DAYS]).await.map_err(|error| unavailable(&error))? {
        let (name, from, to): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        // A partition's bounds cannot be parameters; these three texts come from the database's own calendar.
        let create = format!(
            "CREATE TABLE IF NOT EXISTS job_events_{name} PARTITION OF job_events \
             FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
        );
        if let Err(error) = client.batch_execute(&create).await {
            let twin = error.code().is_some_and(|code| matches!(code.code(), "42P07" | "23505" | "42P17"));
            if !twin {
                return Err(unavailable(&error));
            }
        }
    }
    Ok(())
}

/// Drops the partitions of days that ended more than `keep_days` ago. Returns how many.
pub async fn drop_old(client: &ClientWrapper, keep_days: i32) -> Result<usize> {
    let names =
        client.query(include_str!("sql/list_partitions.sql"), &[]).await.map_err(|error| unavailable(&error))?;
    let oldest =
        "SELECT 'job_events_' || to_char((now() AT TIME ZONE 'UTC') - make_interval(days => $1 + 1), 'YYYYMMDD')";
    let oldest: String = client.query_one(oldest, &[&keep_days]).await.map_err(|error| unavailable(&error))?.get(0);
    let mut dropped = 0;
    for name in names.iter().map(|row| row.get::<_, String>(0)).filter(|name| *name < oldest) {
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Error::bug(format!("a partition has the name {name:?}")));
        }
        client.batch_execute(&format!("DROP TABLE IF EXISTS {name}")).await.map_err(|error| unavailable(&error))?;
        dropped += 1;
    }
    Ok(dropped)
}
