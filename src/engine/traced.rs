//! The spans of writes: those of an operation whose call is traced, and that of the group it is committed in.

use tracing::Span;
use uuid::Uuid;

use super::queue::Pending;
use super::round::Ended;
use crate::operation::Operation;
use crate::spans;

/// The spans of one operation of a traced call.
pub struct Traced {
    call: Span,
    /// What happens to it now: it waits, or it is decided and committed.
    phase: Span,
}

impl Traced {
    /// An operation that begins to wait. None: the call that is handled now is not traced, or there is none.
    pub fn begin(operation: &dyn Operation) -> Option<Box<Self>> {
        let call = spans::current_call()?;
        let phase = spans::queue_wait(&call, operation.name());
        Some(Box::new(Self { call, phase }))
    }
}

/// The span of one round of a group. None where no call of the group is traced.
pub struct GroupSpan(Span);

impl GroupSpan {
    /// Begins the span of a group that a lane has taken, and links it to the calls of its operations.
    pub fn begin(group: &mut [Pending], lane: &'static str, group_id: Uuid) -> Self {
        if !spans::are_on() || group.iter().all(|pending| pending.traced.is_none()) {
            return Self(Span::none());
        }
        let rows = group.iter().map(|pending| pending.weight.rows).sum();
        let span = spans::group(lane, group_id, group.len(), rows);
        for pending in group {
            if let Some(traced) = &mut pending.traced {
                span.follows_from(&traced.call);
                traced.phase = spans::commit(&traced.call, pending.operation.name(), lane, group_id);
            }
        }
        Self(span)
    }

    /// A span for reading what the group stands on.
    pub fn load(&self) -> Span {
        spans::load(&self.0)
    }

    /// A span for its statement.
    pub fn write(&self) -> Span {
        spans::write(&self.0)
    }

    /// Notes how the commit ended.
    pub fn end(&self, ended: &Ended) {
        if self.0.is_disabled() {
            return;
        }
        let (outcome, is_fault) = match ended {
            Ended::Applied(_) => ("applied", false),
            Ended::Beaten => ("beaten", false),
            Ended::Held => ("held", false),
            Ended::Failed(_) => ("failed", true),
            Ended::Poisoned(_) => ("refused by the database", true),
            Ended::Lost => ("unknown", true),
        };
        self.0.record("interlock.outcome", outcome);
        if is_fault {
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
