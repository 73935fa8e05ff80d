//! A look at the database, over a connection of its own: that all others are busy is no illness.

use std::time::Duration;

use tokio::time::Instant;

use super::Store;
use super::connection::{Client, DbError, Run};
use super::no_connection::NoConnection;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is kept between two looks.
#[derive(Default)]
pub struct Pulse {
    /// The connection.
    client: Option<Client>,
    /// When the last look ended, if it found no database.
    silent_until: Option<Instant>,
}

/// What a look found.
struct Found {
    client: Client,
    is_ready: bool,
    is_writable: bool,
}

/// Why a look found nothing.
enum NotSeen {
    /// The database refuses, so it is there.
    Refused,
    /// It says nothing.
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

/// What a look at the database found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can be written, and has room for the history of the next days.
    Good,
    /// One of these is not so.
    Bad,
    /// The look itself was refused or not answered, which may be a matter of its connection alone.
    Unknown,
}

impl Store {
    /// Looks at the database. Whether writes are done `wrote` knows better, which says it of those since a moment.
    ///
    /// The look decides for all others how long a database that says nothing is waited for. Connections that are older than a look
    /// without an answer are given up, unless something was written meanwhile; and once there is an answer, those that were made before
    /// the silence was over: the database may have heard nothing of what was sent over them.
    pub async fn look(&self, wrote: impl Fn(Instant) -> bool) -> Health {
        let Ok(mut pulse) = self.pulse.try_lock() else { return Health::Unknown };
        let began = Instant::now();
        // Put back only when the look was good.
        let idle = pulse.client.take().filter(|client| !client.is_closed());
        let found = match tokio::time::timeout(PATIENCE, self.found(idle)).await {
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
            // A primary that was demoted: what is connected to it would stay with it.
            self.renew();
        }
        if found.is_ready { Health::Good } else { Health::Bad }
    }

    async fn found(&self, idle: Option<Client>) -> Result<Found, NotSeen> {
        let client = match idle {
            Some(client) => client,
            None => self.target.open("SET statement_timeout = '5s'; SET timezone = 'UTC'").await?,
        };
        let rows = client.rows(include_str!("sql/health.sql"), &[]).await?;
        let (is_ready, is_writable) = rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
        Ok(Found { client, is_ready, is_writable })
    }
}
