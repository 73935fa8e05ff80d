//! Figures of the front door: errors by reason, connections, and the expiry of the server's certificate.

use super::kinds::Labelled;
use super::page::Page;
use super::{Counter, Gauge};

/// Metadata in which the maker of an error names its reason for the layer that counts it. That layer removes it, so it never leaves the server.
pub const REASON_HEADER: &str = "interlock-counted-reason";

/// Reasons of errors, as in `ErrorInfo`. Any other reason is counted as the last one.
pub const REASONS: &[&str] = &[
    "INVALID_FIELD",
    "REQUEST_ID_REUSED",
    "JOB_NOT_FOUND",
    "RECORD_NOT_FOUND",
    "SESSION_NOT_FOUND",
    "SEGMENT_NOT_FOUND",
    "STAGE_NOT_FOUND",
    "NAMESPACE_NOT_FOUND",
    "JOB_ALREADY_EXISTS",
    "SESSION_ALREADY_EXISTS",
    "STAGE_ALREADY_EXISTS",
    "NAMESPACE_ALREADY_EXISTS",
    "NAMESPACE_NOT_EMPTY",
    "VERSION_IN_FUTURE",
    "STREAM_LIMIT",
    "VERSION_MISMATCH",
    "WRONG_TYPE",
    "LIMIT_EXCEEDED",
    "CONFLICT",
    "LEASE_LOST",
    "PERMIT_LOST",
    "PERMIT_DENIED",
    "RESOURCE_NOT_FOUND",
    "RESOURCE_IN_USE",
    "INVALID_TRANSITION",
    "OVERLOADED",
    "DEADLINE_EXCEEDED",
    "STORE_UNAVAILABLE",
    "DRAINING",
    "OUTCOME_UNKNOWN",
    "INTERNAL",
    "UNIMPLEMENTED",
    "SERVICE_NOT_FOUND",
    "RATE_LIMITED",
    "CREDENTIAL_INVALID",
    "ROLE_DENIED",
    "KEY_NOT_FOUND",
    "KEY_ALREADY_EXISTS",
    "OTHER",
];

/// Why the server closed a connection before its client did.
#[derive(Clone, Copy, Debug)]
pub enum Closed {
    /// The server had its maximum number of connections.
    ServerFull,
    /// The address had its maximum number of connections.
    AddressFull,
    /// Too many TLS handshakes were under way, in all or from the address.
    HandshakesFull,
    /// The TLS handshake failed, or the client spoke another protocol.
    HandshakeFailed,
    /// The client did not send its first bytes in time.
    Silent,
    /// The connection had no calls for too long.
    Idle,
    /// The client sent far more frames than its calls need.
    Flooded,
}

impl Closed {
    /// How many reasons there are.
    pub const COUNT: usize = CLOSED.len();
}

/// Values of the label, in the order of [`Closed`].
const CLOSED: &[&str] =
    &["server_full", "address_full", "handshakes_full", "handshake_failed", "silent", "idle", "flooded"];

/// Figures of slow watches. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct UnreadFigures {
    /// Bytes that were loaded for watches and not taken by their clients.
    pub bytes: Gauge,
    /// Number of watches that were closed because their clients read nothing and others waited for memory.
    pub closed: Counter,
}

/// Figures of the front door.
#[derive(Debug)]
pub struct DoorFigures {
    refused: Labelled<Counter>,
    closed: Labelled<Counter>,
    /// Number of open connections.
    pub connections: Gauge,
    /// Expiry of the server's certificate, in seconds since 1970. 0: there is none.
    pub certificate_expires: Gauge,
    /// Slow watches.
    pub unread: UnreadFigures,
}

impl Default for DoorFigures {
    fn default() -> Self {
        let refused = Labelled::new("reason", REASONS, Counter::default);
        let closed = Labelled::new("reason", CLOSED, Counter::default);
        Self {
            refused,
            closed,
            connections: Gauge::default(),
            certificate_expires: Gauge::default(),
            unread: UnreadFigures::default(),
        }
    }
}

impl DoorFigures {
    /// Counts a call that ended with an error.
    pub fn refused(&self, reason: &str) {
        let place = REASONS.iter().position(|known| *known == reason);
        self.refused.at(place.unwrap_or(REASONS.len() - 1)).inc();
    }

    /// Counts a connection that the server closed.
    pub fn closed(&self, reason: Closed) {
        self.closed.at(reason as usize).inc();
    }

    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("refusals", "Calls that ended with an error, by the reason in its ErrorInfo", &self.refused);
        page.show("connections", "Connections of callers that are open", &self.connections);
        page.show(
            "connections_closed",
            "Connections that the server closed before their client did, by reason",
            &self.closed,
        );
        let help = "Bytes that were loaded for watches and not taken by their clients";
        page.show("watch_unread_bytes", help, &self.unread.bytes);
        let help = "Watches that were closed because their clients read nothing while others waited for memory";
        page.show("watches_closed", help, &self.unread.closed);
        let expires = self.certificate_expires.clone();
        page.measure(move |samples| {
            let known = Some(expires.get()).filter(|expires| *expires > 0);
            let help = "Expiry of the server's certificate, in seconds since 1970; absent without one";
            let none: [(&str, &str); 0] = [];
            samples.gauges_in_seconds("certificate_expiry", help, known.map(|expires| (none, expires as f64)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_unknown_reasons_are_counted_as_other_and_each_closed_has_its_label() {
        let (figures, mut page) = (DoorFigures::default(), Page::default());
        figures.refused("CONFLICT");
        figures.refused("a reason of tomorrow");
        figures.closed(Closed::Flooded);
        figures.show(&mut page);
        let text = page.render().expect("text");
        for line in [
            r#"interlock_refusals_total{reason="CONFLICT"} 1"#,
            r#"interlock_refusals_total{reason="OTHER"} 1"#,
            r#"interlock_connections_closed_total{reason="flooded"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert_eq!(Closed::Flooded as usize, CLOSED.len() - 1);
    }
}
