//! Names and attributes of the spans of traces. `telemetry` exports them; while traces are off none is made, at the cost of a load and a
//! comparison.

use std::sync::Arc;

use http::HeaderMap;
use tracing::field::Empty;
use tracing::{Level, Span};
use uuid::Uuid;

/// The target of all spans. Logs leave it out, traces take nothing else.
pub const TARGET: &str = "interlock::spans";

/// Decides by the headers of a call whether it is traced. None: it is not traced.
pub type Sampler = Arc<dyn Fn(&HeaderMap) -> Option<Sampled> + Send + Sync>;

/// Decision of the sampler to trace a call.
pub struct Sampled {
    /// Whether the caller requested the trace; else the call is part of the sampled share.
    pub is_callers_choice: bool,
    /// Makes its span a child of the caller's.
    pub set_parent: SetParent,
}

/// Makes a new span part of its caller's trace, or leaves it the first of its own.
pub type SetParent = Box<dyn FnOnce(&Span) + Send>;

/// Whether traces are on.
pub fn are_on() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO)
}

/// The span of the current call. None: it is not traced.
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

/// Time that an operation waits in the queue.
pub fn queue_wait(call: &Span, operation: &str) -> Span {
    tracing::info_span!(target: TARGET, parent: call, "queue wait", interlock.operation = operation)
}

/// Time in which a lane decides and commits an operation, as part of a group.
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

/// Time in which a group loads its rows.
pub fn load(group: &Span) -> Span {
    child(
        group,
        || tracing::info_span!(target: TARGET, parent: group, "load", otel.kind = "client", db.system = "postgresql"),
    )
}

/// Time of the commit statement of a group.
pub fn write(group: &Span) -> Span {
    child(
        group,
        || tracing::info_span!(target: TARGET, parent: group, "write", otel.kind = "client", db.system = "postgresql"),
    )
}

fn child(parent: &Span, span: impl FnOnce() -> Span) -> Span {
    if parent.is_disabled() { Span::none() } else { span() }
}
