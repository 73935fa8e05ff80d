//! Spans of traces: their names and attributes. Where they go is decided by `telemetry`; while traces are off none is made, and asking for
//! one costs a load and a comparison.

use std::sync::Arc;

use http::HeaderMap;
use tracing::field::Empty;
use tracing::{Level, Span};
use uuid::Uuid;

/// The target of all spans. Logs leave it out, traces take nothing else.
pub const TARGET: &str = "interlock::spans";

/// Decides by the headers of a call whether it is traced. None: it is not.
pub type Sampler = Arc<dyn Fn(&HeaderMap) -> Option<Sampled> + Send + Sync>;

/// A call that is to be traced.
pub struct Sampled {
    /// Whether its caller asks for that; else it belongs to the share that is traced by setting.
    pub is_callers_choice: bool,
    /// Puts its span where it belongs.
    pub set_parent: SetParent,
}

/// Makes a new span part of its caller's trace, or leaves it the first of its own.
pub type SetParent = Box<dyn FnOnce(&Span) + Send>;

/// Whether traces are on.
pub fn are_on() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO)
}

/// The span of the call that is handled now. None: it is not traced.
pub fn current_call() -> Option<Span> {
    if !are_on() {
        return None;
    }
    let span = Span::current();
    span.metadata().is_some_and(|metadata| metadata.target() == TARGET).then_some(span)
}

/// The span of one rpc, from the arrival of its headers until its status is sent. `path` is `/package.Service/Method`.
pub fn call(path: &str) -> Span {
    let name = path.trim_start_matches('/');
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "call",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        network.peer.address = Empty,
        interlock.namespace = Empty,
        interlock.principal = Empty,
        interlock.reason = Empty,
    )
}

/// The time that an operation of a call waits before a lane takes it.
pub fn queue_wait(call: &Span, operation: &str) -> Span {
    tracing::info_span!(target: TARGET, parent: call, "queue wait", interlock.operation = operation)
}

/// The time in which a lane decides and commits an operation of a call, as part of a group.
pub fn commit(call: &Span, operation: &str, lane: &str, group_id: Uuid) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: call,
        "commit",
        interlock.operation = operation,
        interlock.lane = lane,
        interlock.group_id = %group_id,
    )
}

/// A group, from the moment at which a lane takes it until its operations are answered. It begins a trace of its own, because it has as many
/// causes as operations; these are its links.
pub fn group(lane: &str, group_id: Uuid, operations: usize, rows: usize) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "group commit",
        otel.status_code = Empty,
        interlock.lane = lane,
        interlock.group_id = %group_id,
        interlock.operations = operations,
        interlock.rows = rows,
        interlock.outcome = Empty,
    )
}

/// Reading what a group stands on.
pub fn load(group: &Span) -> Span {
    child(
        group,
        || tracing::info_span!(target: TARGET, parent: group, "load", otel.kind = "client", db.system = "postgresql"),
    )
}

/// The statement that proves and writes a group.
pub fn write(group: &Span) -> Span {
    child(
        group,
        || tracing::info_span!(target: TARGET, parent: group, "write", otel.kind = "client", db.system = "postgresql"),
    )
}

fn child(parent: &Span, span: impl FnOnce() -> Span) -> Span {
    if parent.is_disabled() { Span::none() } else { span() }
}
