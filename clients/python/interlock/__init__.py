"""Client of Interlock: submit jobs of stages, write workers that lease them, lose nothing.

A thin layer over the generated stubs of `interlock.v1`: every rpc can be called with the messages of the protos through
`Client.call`, which adds request ids, retries and typed errors; `Worker` adds leases, heartbeats and shutdown.
"""

from interlock.board import CaughtUp, JobAppeared, JobChanged, JobRemoved, JobsEvent, JobsWatch
from interlock.client import Client
from interlock.documents import from_struct, to_struct
from interlock.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    FieldViolation,
    InterlockError,
    Internal,
    InvalidArgument,
    InvalidTransition,
    LeaseLost,
    NotFound,
    PreconditionFailed,
    ResourceExhausted,
    RevisionInFuture,
    Unavailable,
    VersionMismatch,
)
from interlock.lease import Attempt, Completion, FailureClass, StageError, StageStopped, StopReason
from interlock.records import Field, Record, record_update
from interlock.retry import Backoff
from interlock.watch import JobProgress, JobUpdate, JobWatch, ProgressWatch, RunningStage
from interlock.worker import Worker

__all__ = [
    "AlreadyExists",
    "Attempt",
    "Backoff",
    "CaughtUp",
    "Client",
    "Completion",
    "Conflict",
    "DeadlineExceeded",
    "FailureClass",
    "Field",
    "FieldViolation",
    "InterlockError",
    "Internal",
    "InvalidArgument",
    "InvalidTransition",
    "JobAppeared",
    "JobChanged",
    "JobProgress",
    "JobRemoved",
    "JobUpdate",
    "JobWatch",
    "JobsEvent",
    "JobsWatch",
    "LeaseLost",
    "NotFound",
    "PreconditionFailed",
    "ProgressWatch",
    "Record",
    "ResourceExhausted",
    "RevisionInFuture",
    "RunningStage",
    "StageError",
    "StageStopped",
    "StopReason",
    "Unavailable",
    "VersionMismatch",
    "Worker",
    "from_struct",
    "record_update",
    "to_struct",
]
