"""Client of Interlock: submit jobs of stages, write workers that lease them, lose nothing.

A thin layer over the generated stubs of `interlock.v1`: every rpc can be called with the messages of the protos through
`Client.call`, which adds request ids, retries and typed errors; `Worker` adds leases, heartbeats and shutdown, and
`Client.permit` locks, limits, rates and breakers that all share.
"""

from interlock.board import CaughtUp, JobAppeared, JobChanged, JobRemoved, JobsEvent, JobsWatch
from interlock.client import Client
from interlock.documents import from_struct, to_struct
from interlock.errors import (
    AlreadyExists,
    BlockReason,
    Conflict,
    DeadlineExceeded,
    FieldViolation,
    InterlockError,
    Internal,
    InvalidArgument,
    InvalidTransition,
    LeaseLost,
    NotFound,
    PermissionDenied,
    PermitBlocker,
    PermitDenied,
    PermitLost,
    PreconditionFailed,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    VersionInFuture,
    VersionMismatch,
)
from interlock.failures import FailureClass, RateLimited, ServerError, StageError
from interlock.holding import HeldPermit
from interlock.lease import Attempt, Completion, StageStopped, StopReason
from interlock.permits import Claim, Permit, PermitMode, permit_claims, permit_release
from interlock.record_watch import RecordsWatch, RecordUpdate
from interlock.records import Field, Record, record_update
from interlock.resources import AdaptiveLimit, Breaker, Rate, ResourceWatch
from interlock.retry import Backoff
from interlock.watch import JobProgress, JobUpdate, JobWatch, ProgressWatch, RunningStage
from interlock.worker import Worker

__all__ = [
    "AdaptiveLimit",
    "AlreadyExists",
    "Attempt",
    "Backoff",
    "BlockReason",
    "Breaker",
    "CaughtUp",
    "Claim",
    "Client",
    "Completion",
    "Conflict",
    "DeadlineExceeded",
    "FailureClass",
    "Field",
    "FieldViolation",
    "HeldPermit",
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
    "PermissionDenied",
    "Permit",
    "PermitBlocker",
    "PermitDenied",
    "PermitLost",
    "PermitMode",
    "PreconditionFailed",
    "ProgressWatch",
    "Rate",
    "RateLimited",
    "Record",
    "RecordUpdate",
    "RecordsWatch",
    "ResourceExhausted",
    "ResourceWatch",
    "RunningStage",
    "ServerError",
    "StageError",
    "StageStopped",
    "StopReason",
    "Unauthenticated",
    "Unavailable",
    "VersionInFuture",
    "VersionMismatch",
    "Worker",
    "from_struct",
    "permit_claims",
    "permit_release",
    "record_update",
    "to_struct",
]
