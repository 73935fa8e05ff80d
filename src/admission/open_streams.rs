//! Streams without a credential (watches of the health service, and reflection): a budget of their own, so that clients
//! without credentials can neither open unlimited numbers of them nor use up the streams of callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tonic::Status;

use super::shares::ConnectionShare;
use super::streams::too_many;

/// Maximum number of open streams on a server.
const TOTAL: u32 = 4_096;
/// Maximum number of open streams on one connection. Clients that check the health of a connection have one.
const PER_CONNECTION: u32 = 16;

/// The open streams of a server.
#[derive(Debug, Default)]
pub(super) struct OpenStreams(AtomicU32);

/// A taken place; dropping gives it back.
#[derive(Debug)]
pub(super) struct OpenPlace {
    streams: Arc<OpenStreams>,
    connection: ConnectionShare,
}

impl OpenStreams {
    /// Takes a place for a stream. Error: the limit of the connection or of the server is reached.
    pub(super) fn take(self: &Arc<Self>, connection: ConnectionShare) -> Result<OpenPlace, Status> {
        let total = self.0.fetch_add(1, Ordering::Relaxed);
        let own = connection.0.open_streams.fetch_add(1, Ordering::Relaxed);
        // From here on, dropping the place releases both counts.
        let place = OpenPlace { streams: Arc::clone(self), connection };
        match (own >= PER_CONNECTION, total >= TOTAL) {
            (true, _) => Err(too_many(PER_CONNECTION, "without a credential on this connection")),
            (false, true) => Err(too_many(TOTAL, "without a credential on this server")),
            (false, false) => Ok(place),
        }
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.streams.0.fetch_sub(1, Ordering::Relaxed);
        self.connection.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_the_server_have_so_many_places_and_get_them_back() {
        let streams = Arc::new(OpenStreams::default());
        let greedy = |connection: &ConnectionShare| -> Vec<OpenPlace> {
            (0..2 * PER_CONNECTION).map_while(|_| streams.take(connection.clone()).ok()).collect()
        };
        let first = ConnectionShare::default();
        let held = greedy(&first);
        assert_eq!(held.len(), PER_CONNECTION as usize);
        let others: Vec<_> = (0..TOTAL).map(|_| greedy(&ConnectionShare::default())).collect();
        assert_eq!(others.iter().map(Vec::len).sum::<usize>() + held.len(), TOTAL as usize);
        drop((held, others));
        assert_eq!(streams.0.load(Ordering::Relaxed), 0);
        assert!(streams.take(first).is_ok());
    }
}
