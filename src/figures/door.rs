//! Calls that are refused, by the reason that their callers are told; and when the certificate that callers see expires.

use super::{Counter, Gauge, Labelled, Page};

/// Metadata in which who makes an error names its reason for the layer that counts it, which takes it out again: it never leaves the server.
pub const REASON_HEADER: &str = "interlock-counted-reason";

/// Reasons of errors, as in `ErrorInfo`. What is not among them counts as the last.
pub const REASONS: &[&str] = &[
    "INVALID_FIELD",
    "REQUEST_ID_REUSED",
    "JOB_NOT_FOUND",
    "RECORD_NOT_FOUND",
    "STAGE_NOT_FOUND",
    "NAMESPACE_NOT_FOUND",
    "JOB_ALREADY_EXISTS",
    "STAGE_ALREADY_EXISTS",
    "NAMESPACE_ALREADY_EXISTS",
    "NAMESPACE_NOT_EMPTY",
    "REVISION_IN_FUTURE",
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

/// Why the server closed a connection that its client may have wanted to keep.
#[derive(Clone, Copy, Debug)]
pub enum Closed {
    /// All places were taken.
    ServerFull,
    /// Its address had its share of the places.
    AddressFull,
    /// Too many TLS handshakes were going on, in all or at its address.
    HandshakesFull,
    /// Its TLS handshake failed, or it spoke what the port does not.
    HandshakeFailed,
    /// Nothing was said in time for the first bytes.
    Silent,
    /// It carried no calls.
    Idle,
    /// It sent far more frames than its calls explain.
    Flooded,
}

impl Closed {
    /// How many reasons there are.
    pub const COUNT: usize = CLOSED.len();
}

/// The values of the label, in the order of [`Closed`].
const CLOSED: &[&str] =
    &["server_full", "address_full", "handshakes_full", "handshake_failed", "silent", "idle", "flooded"];

/// Figures of the front door.
#[derive(Debug)]
pub struct DoorFigures {
    refused: Labelled<Counter>,
    closed: Labelled<Counter>,
    /// Connections that are open now.
    pub connections: Gauge,
    /// When the certificate that callers see expires, as seconds since 1970; 0: there is none.
    pub certificate_expires: Gauge,
}

impl Default for DoorFigures {
    fn default() -> Self {
        let refused = Labelled::new("reason", REASONS, Counter::default);
        let closed = Labelled::new("reason", CLOSED, Counter::default);
        Self { refused, closed, connections: Gauge::default(), certificate_expires: Gauge::default() }
    }
}

impl DoorFigures {
    /// Counts a call that was refused.
    pub fn refused(&self, reason: &str) {
        let place = REASONS.iter().position(|known| *known == reason);
        self.refused.at(place.unwrap_or(REASONS.len() - 1)).inc();
    }

    /// Counts a connection that the server closed.
    pub fn closed(&self, reason: Closed) {
        self.closed.at(reason as usize).inc();
    }

    /// Puts them on a page.
    pub fn show(&self, page: &mut Page) {
        page.show("refusals", "Calls that ended with an error, by the reason in its ErrorInfo", &self.refused);
        page.show("connections", "Connections of callers that are open", &self.connections);
        page.show(
            "connections_closed",
            "Connections that the server closed before their client did, by reason",
            &self.closed,
        );
        let expires = self.certificate_expires.clone();
        page.measure(move |samples| {
            let known = Some(expires.get()).filter(|expires| *expires > 0);
            let help = "When the certificate that callers see expires, as seconds since 1970; absent without one";
            let none: [(&str, &str); 0] = [];
            samples.gauges_in_seconds("certificate_expiry", help, known.map(|expires| (none, expires as f64)))
        });
    }
}
