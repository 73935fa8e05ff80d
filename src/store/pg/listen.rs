//! The connection for hints between servers: LISTEN receives, NOTIFY sends. No other transaction notifies, since a NOTIFY makes commits wait for
//! each other.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres::AsyncMessage;

use super::connection::unavailable;
use super::target::{CONNECT_TIMEOUT, Dialled, Target};
use crate::error::{Error, Result};

/// Messages that may wait to be received. With more, the connection counts as lost, and the receiver reads everything again.
const MAX_WAITING: usize = 10_000;
/// How long sending may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost hint costs only time, so sending does not wait for the disk.
const SETUP: &str = "SET synchronous_commit = off; LISTEN interlock_hints";

/// An open connection that receives hints.
pub struct Listener {
    client: tokio_postgres::Client,
    heard: mpsc::Receiver<String>,
}

impl Listener {
    /// Connects and subscribes to hints.
    pub async fn open(target: &Target) -> Result<Self> {
        let open = async {
            let made = Instant::now();
            let Dialled { client, mut connection, host } = target.dial().await?;
            let (tell, heard) = mpsc::channel(MAX_WAITING);
            let away = target.clone();
            let carried = async move {
                let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
                while let Some(Ok(message)) = futures::StreamExt::next(&mut messages).await {
                    if let AsyncMessage::Notification(note) = message
                        && tell.try_send(note.payload().to_owned()).is_err()
                    {
                        return;
                    }
                }
            };
            tokio::spawn(async move {
                tokio::select! {
                    () = carried => {}
                    () = away.lost_after(made) => {}
                }
            });
            target.prove(&client, host).await?;
            client.batch_execute(SETUP).await.map_err(|error| unavailable(&error))?;
            Ok(Self { client, heard })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, open).await.map_err(|_| Error::StoreUnavailable)?
    }

    /// The next message of any server. None: the connection is lost.
    pub async fn hear(&mut self) -> Option<String> {
        self.heard.recv().await
    }

    /// Sends messages to all servers.
    pub async fn notify(&self, payloads: &[String]) -> Result<()> {
        let sql = "SELECT pg_notify('interlock_hints', payload) FROM unnest($1::text[]) AS payload";
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.client.execute(sql, &[&payloads])).await;
        sent.map_err(|_| Error::StoreUnavailable)?.map(drop).map_err(|error| unavailable(&error))
    }
}
