//! The check that a session belongs to its connection. Behind a pooler in transaction mode it does not: each transaction runs in any free session,
//! so settings, prepared statements, LISTEN and advisory locks are lost, or belong to another connection.

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::connection::{DbError, DbResult};

/// How often sessions are compared. Whichever session a pooler chooses (the one used last, the one used first, or another client's), one of these
/// rounds finds another session.
const ROUNDS: usize = 3;

/// Poolers that the server cannot work with; each text completes "the database at HOST".
const SHARED: &str = "is behind a connection pooler in transaction or statement mode, where sessions are shared; set the pooler to session \
    mode, or connect to Postgres directly";
const PGPOOL: &str = "is behind Pgpool-II, which confuses the answers to statements that are sent one behind the other; use PgBouncer in \
    session mode, or connect to Postgres directly";

/// The pooler between this server and Postgres that it cannot work with, found by two connections to one host. None: there is none.
pub async fn fault(first: &tokio_postgres::Client, second: &tokio_postgres::Client) -> DbResult<Option<&'static str>> {
    if are_shared(first, second).await? {
        return Ok(Some(SHARED));
    }
    // Pgpool-II responds to this by itself; Postgres knows no such setting.
    match first.simple_query("SHOW pool_version").await {
        Ok(_) => Ok(Some(PGPOOL)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether two connections share sessions. A session is identified by its process. While the second is in the middle of a
/// transaction, which keeps its session, the first must still have its own; and after it.
async fn are_shared(first: &tokio_postgres::Client, second: &tokio_postgres::Client) -> DbResult<bool> {
    let own = process(first, "").await?;
    for _ in 0..ROUNDS {
        let other = match process(second, "BEGIN; ").await {
            Ok(other) => other,
            // In statement mode there are no transactions.
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => return Ok(true),
            Err(error) => return Err(error),
        };
        let during = process(first, "").await?;
        second.batch_execute("COMMIT").await?;
        let after = process(first, "").await?;
        if own == other || own != during || own != after {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The process of a session, asked in the simple protocol, which needs no prepared statement.
async fn process(client: &tokio_postgres::Client, before: &str) -> Result<Option<String>, DbError> {
    let answer = client.simple_query(&format!("{before}SELECT pg_backend_pid()")).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(row)
}
