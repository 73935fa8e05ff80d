//! Health checks of the database, over a connection of their own: busy connections do not make the database unhealthy.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Client, DbError, Run};
use super::no_connection::NoConnection;
use crate::store::Store;

/// How long a health check may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is kept between two health checks.
#[derive(Default)]
pub struct Pulse {
    /// The connection. None: the last check failed, or there was none.
    client: Option<Client>,
    /// When the last check ended, if the database did not respond.
    silent_until: Option<Instant>,
}

/// What a health check found.
struct CheckedDatabase {
    client: Client,
    is_ready: bool,
    is_writable: bool,
}

/// Why a health check found nothing.
enum NotSeen {
    /// The database is there and returned an error.
    Refused,
    /// The database did not respond.
    Silent,
}

impl From<NoConnection> for NotSeen {
    fn from(none: NoConnection) -> Self {
        if none.is_refusal() { Self::Refused } else { Self::Silent }
    }
}

impl From<DbError> for NotSeen {
    fn from(error: DbError) -> Self {
        if error.code().is_some() { Self::Refused } else { Self::Silent }
    }
}

/// The result of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The database accepts writes, and history has partitions for the next days.
    Good,
    /// It does not accept writes, or history has no partitions.
    Bad,
    /// The check got an error or no response, which may be due to its connection alone.
    Unknown,
}

impl Store {
    /// Checks the health of the database. `wrote`: whether any write succeeded since a moment.
    ///
    /// The check bounds how long every statement waits for a database that does not respond. Connections older than a check without a response
    /// are closed, unless a write succeeded meanwhile. Once the database responds again, connections that were made before are closed too: it may
    /// never have received what was sent over them.
    pub async fn look(&self, wrote: impl Fn(Instant) -> bool) -> Health {
        let Ok(mut pulse) = self.pulse.try_lock() else { return Health::Unknown };
        let began = Instant::now();
        // Put back only when the database accepts writes.
        let idle = pulse.client.take().filter(|client| !client.is_closed());
        let found = match tokio::time::timeout(TIMEOUT, self.found(idle)).await {
            Ok(Ok(found)) => found,
            Ok(Err(NotSeen::Refused)) => return Health::Unknown,
            Ok(Err(NotSeen::Silent)) | Err(_) => {
                if !wrote(began) {
                    pulse.silent_until = Some(Instant::now());
                    self.target.lost_since(began);
                }
                return Health::Unknown;
            }
        };
        if let Some(silent_until) = pulse.silent_until.take() {
            self.target.lost_since(silent_until);
        }
        if found.is_writable {
            pulse.client = Some(found.client);
        } else {
            // The primary was demoted: existing connections would stay with it.
            self.renew();
        }
        if found.is_ready { Health::Good } else { Health::Bad }
    }

    async fn found(&self, idle: Option<Client>) -> Result<CheckedDatabase, NotSeen> {
        let client = match idle {
            Some(client) => client,
            None => self.target.open("SET statement_timeout = '5s'; SET timezone = 'UTC'").await?,
        };
        let rows = client.rows(include_str!("../sql/database/health.sql"), &[]).await?;
        let (is_ready, is_writable) = rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
        Ok(CheckedDatabase { client, is_ready, is_writable })
    }
}
