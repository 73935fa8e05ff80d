//! Spans of writes: two for each operation of a traced call, and one for the group that it is committed in.

use tracing::Span;
use uuid::Uuid;

use super::outcome::CommitOutcome;
use super::queue::Pending;
use crate::operation::Operation;
use crate::spans;

/// The spans of one operation of a traced call.
pub struct Traced {
    call: Span,
    /// Its phase: the wait in the queue, or its share of a commit.
    phase: Span,
}

impl Traced {
    /// Begins the span of an operation's wait. None: this task handles no traced call.
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

    /// The span of loading the state of the group.
    pub fn load(&self) -> Span {
        spans::load(&self.0)
    }

    /// The span of the commit statement.
    pub fn write(&self) -> Span {
        spans::write(&self.0)
    }

    /// Notes how the commit ended.
    pub fn end(&self, outcome: &CommitOutcome) {
        if self.0.is_disabled() {
            return;
        }
        let (label, is_fault) = match outcome {
            CommitOutcome::Applied(_) => ("applied", false),
            CommitOutcome::Conflict => ("conflict", false),
            CommitOutcome::Blocked => ("blocked", false),
            CommitOutcome::Failed(_) => ("failed", true),
            CommitOutcome::InvalidData(_) => ("invalid data", true),
            CommitOutcome::Indeterminate => ("unknown", true),
        };
        self.0.record("interlock.outcome", label);
        if is_fault {
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
