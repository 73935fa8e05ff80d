//! Partitions of history, one for each day: created a week ahead, and dropped whole.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;

use crate::error::{Error, Result};
use crate::store::pg::connection::{DbResult, is_lock_timeout, unavailable};

/// Days ahead for which partitions exist after [`ensure`].
const AHEAD_DAYS: i32 = 7;
/// How long a change of partitions may delay writers of history.
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Creates the partitions from yesterday to a week ahead, by the database's clock in UTC. Several servers may do so at once. Partitions that cannot
/// be created because history is being read are left for the next time.
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
        match change(client, &create).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let twin = error.code().is_some_and(|code| matches!(code.code(), "42P07" | "23505" | "42P17"));
                if !twin {
                    return Err(unavailable(&error));
                }
            }
        }
    }
    Ok(())
}

/// Drops the partitions of days that ended more than `keep_days` ago. Returns how many; partitions that cannot be dropped because history is being
/// read are left for the next time.
pub async fn drop_old(client: &ClientWrapper, keep_days: i32) -> Result<usize> {
    let names = client
        .query(include_str!("../sql/history/list_partitions.sql"), &[])
        .await
        .map_err(|error| unavailable(&error))?;
    let oldest =
        "SELECT 'job_events_' || to_char((now() AT TIME ZONE 'UTC') - make_interval(days => $1 + 1), 'YYYYMMDD')";
    let oldest: String = client.query_one(oldest, &[&keep_days]).await.map_err(|error| unavailable(&error))?.get(0);
    let mut dropped = 0;
    for name in names.iter().map(|row| row.get::<_, String>(0)).filter(|name| *name < oldest) {
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Error::bug(format!("a partition has the name {name:?}")));
        }
        if !change(client, &format!("DROP TABLE IF EXISTS {name}")).await.map_err(|error| unavailable(&error))? {
            break;
        }
        dropped += 1;
    }
    Ok(dropped)
}

/// Creates or drops a partition; false if history is locked for longer than [`LOCK_WAIT`]. Both lock all of history, and while they wait for the
/// lock every writer of history waits behind them: a backup would block the server for as long as it takes. So they wait briefly and are
/// tried again later.
async fn change(client: &ClientWrapper, sql: &str) -> DbResult<bool> {
    // Both statements are one transaction, to which the setting is confined.
    match client.batch_execute(&format!("SET LOCAL lock_timeout = {}; {sql}", LOCK_WAIT.as_millis())).await {
        Ok(()) => Ok(true),
        Err(error) if is_lock_timeout(&error) => {
            tracing::info!(
                "partitions of history are not changed now: another session has locked history; they are changed later"
            );
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
