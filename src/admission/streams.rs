//! Maximum number of open watches: on a server, in one namespace and on one connection.
//!
//! Watches have a budget of their own, since they stay open for hours and cost little: a thousand open pages must not
//! keep workers from their calls, and busy workers must not close the pages. Of all watches each namespace has its
//! share, see `namespace`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use parking_lot::Mutex;
use tonic::{Code, Status};

use super::refusal::Outcome;
use super::shares::{self, ConnectionShare};
use super::{namespace, refusal};

/// Retry delay. A place becomes free when a client closes a watch.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Maximum number of open watches.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// On the whole server.
    pub total: u32,
    /// Maximum number in one namespace.
    pub per_namespace: u32,
    /// On one HTTP/2 connection.
    pub per_connection: u32,
}

/// The open watches of a server.
#[derive(Debug)]
pub(super) struct Streams {
    limits: StreamLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_namespace: HashMap<String, u32>,
}

/// A taken place; dropping gives it back.
#[derive(Debug)]
pub(super) struct StreamPlace {
    streams: Arc<Streams>,
    namespace: String,
    connection: ConnectionShare,
}

impl Streams {
    pub(super) fn new(limits: StreamLimits) -> Arc<Streams> {
        Arc::new(Streams { limits, open: Mutex::default() })
    }

    /// Takes a place for a watch. Error: a limit is reached.
    pub(super) fn take<B>(self: &Arc<Self>, request: &Request<B>) -> Result<StreamPlace, Status> {
        let namespace = namespace::of(request).unwrap_or_default().to_owned();
        let connection = shares::of(request);
        let mut open = self.open.lock();
        let of_namespace = open.by_namespace.get(&namespace).copied().unwrap_or_default();
        // This counter changes only under the lock.
        let of_connection = connection.0.watches.load(Ordering::Relaxed);
        let bounds = [
            (of_connection, self.limits.per_connection, "on this connection"),
            (of_namespace, self.limits.per_namespace, "in this namespace"),
            (of_namespace, namespace::fair_share(self.limits.total, open.total, of_namespace), "in this namespace"),
            (open.total, self.limits.total, "on this server"),
        ];
        if let Some((_, limit, scope)) = bounds.into_iter().find(|(taken, limit, _)| taken >= limit) {
            return Err(too_many(limit, scope));
        }
        open.total += 1;
        *open.by_namespace.entry(namespace.clone()).or_default() += 1;
        connection.0.watches.fetch_add(1, Ordering::Relaxed);
        Ok(StreamPlace { streams: Arc::clone(self), namespace, connection })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.total -= 1;
        self.connection.0.watches.fetch_sub(1, Ordering::Relaxed);
        if let Some(taken) = open.by_namespace.get_mut(&self.namespace) {
            *taken -= 1;
            if *taken == 0 {
                open.by_namespace.remove(&self.namespace);
            }
        }
    }
}

pub(super) fn too_many(limit: u32, scope: &str) -> Status {
    refusal(Code::ResourceExhausted, "STREAM_LIMIT", Outcome::NotApplied, format!("too many streams are open {scope}"))
        .with("limit", limit.to_string())
        .retry_after(RETRY_AFTER)
        .into_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(namespace: &str, connection: &ConnectionShare) -> Request<()> {
        let mut request = Request::builder().header("interlock-namespace", namespace).body(()).expect("a request");
        request.extensions_mut().insert(connection.clone());
        request
    }

    #[test]
    fn each_bound_holds_and_places_come_back() {
        let streams = Streams::new(StreamLimits { total: 4, per_namespace: 3, per_connection: 2 });
        let connections = [ConnectionShare::default(), ConnectionShare::default(), ConnectionShare::default()];
        let take = |namespace: &str, connection: usize| streams.take(&request(namespace, &connections[connection]));
        let why = |refused: Result<StreamPlace, Status>| refused.expect_err("a refusal").message().to_owned();
        let mut held = vec![take("a", 0).expect("free"), take("a", 0).expect("free")];
        assert!(why(take("b", 0)).contains("connection"));
        held.push(take("a", 1).expect("free"));
        assert!(why(take("a", 1)).contains("namespace"));
        held.push(take("b", 1).expect("free"));
        assert!(why(take("c", 2)).contains("server"));
        held.clear();
        assert_eq!(streams.open.lock().total, 0);
        assert!(streams.open.lock().by_namespace.is_empty());
        assert!(connections.iter().all(|connection| connection.0.watches.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_namespace_with_many_watches_leaves_room_for_others() {
        let streams = Streams::new(StreamLimits { total: 800, per_namespace: 800, per_connection: 800 });
        let take = |namespace: &str| streams.take(&request(namespace, &ConnectionShare::default()));
        let held: Vec<StreamPlace> = std::iter::from_fn(|| take("a").ok()).collect();
        assert_eq!(held.len(), 700);
        let others: Vec<StreamPlace> = std::iter::from_fn(|| take("b").ok()).collect();
        assert_eq!(others.len(), 50, "half of what is free");
        assert!(take("a").is_err());
        drop(held);
        take("a").expect("places came back");
    }
}
