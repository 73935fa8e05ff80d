//! A look at the database's health, over a connection of its own: that all others are busy is no illness.

use std::time::Duration;

use tokio::time::Instant;

use super::Store;
use super::connection::{Client, DbResult, Run};

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

impl Store {
    /// Whether the database answers, can be written, and has room for the history of the next days.
    ///
    /// The look also decides for all others how long a database that says nothing is waited for. Connections that are older than a
    /// look without an answer are given up, and once there is one, those that were made before the silence was over: the database may
    /// have heard nothing of what was sent over them.
    pub async fn is_ready(&self) -> bool {
        let Ok(mut pulse) = self.pulse.try_lock() else { return false };
        let began = Instant::now();
        // Put back only when the look was good.
        let idle = pulse.client.take().filter(|client| !client.is_closed());
        let found = match tokio::time::timeout(PATIENCE, self.look(idle)).await {
            Ok(Ok(found)) => found,
            // It refuses, so it is there.
            Ok(Err(error)) if error.code().is_some() => return false,
            Ok(Err(_)) | Err(_) => {
                *pulse = Pulse { client: None, silent_until: Some(Instant::now()) };
                self.target.lost_since(began);
                return false;
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
        found.is_ready
    }

    async fn look(&self, idle: Option<Client>) -> DbResult<Found> {
        let client = match idle {
            Some(client) => client,
            None => self.target.open("SET statement_timeout = '5s'; SET timezone = 'UTC'").await?,
        };
        let rows = client.rows(include_str!("sql/health.sql"), &[]).await?;
        let (is_ready, is_writable) = rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
        Ok(Found { client, is_ready, is_writable })
    }
}
