//! A look at the database's health, over a connection of its own: that all others are busy is no illness.

use std::time::Duration;

use tokio::sync::Mutex;

use super::Store;
use super::connection::{Client, Run};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The connection between two looks.
pub type Pulse = Mutex<Option<Client>>;

impl Store {
    /// Whether the database answers, can be written, and has room for the history of the next days.
    pub async fn is_ready(&self) -> bool {
        let Ok(mut pulse) = self.pulse.try_lock() else { return false };
        // Put back only when the look was good.
        let idle = pulse.take().filter(|client| !client.is_closed());
        let look = async {
            let client = match idle {
                Some(client) => client,
                None => self.target.connect("SET statement_timeout = '5s'; SET timezone = 'UTC'").await.ok()?,
            };
            let rows = client.rows(include_str!("sql/health.sql"), &[]).await.ok()?;
            let (is_ready, is_writable) = rows.first().map(|row| (row.get::<_, bool>(0), row.get::<_, bool>(1)))?;
            Some((client, is_ready, is_writable))
        };
        let Ok(Some((client, is_ready, is_writable))) = tokio::time::timeout(PATIENCE, look).await else {
            return false;
        };
        if is_writable {
            *pulse = Some(client);
        } else {
            // A primary that was demoted: what is connected to it would stay with it.
            self.reads.renew();
        }
        is_ready
    }
}
