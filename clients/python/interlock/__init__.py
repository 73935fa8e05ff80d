"""Client of Interlock: submit jobs of stages, write workers that lease them, lose nothing.

A thin layer over the generated stubs of `interlock.v1`: every rpc can be called with the messages of the protos through
`Client.call`, which adds request ids, retries and typed errors; `Worker` adds leases, heartbeats and shutdown, and
`Client.permit` locks, limits, rates and breakers that all share; `Client.session` timelines of meetings.
"""

import interlock._environment  # noqa: F401
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
from interlock.http import expect_ok, failure_from_response
from interlock.lease import Attempt, Completion, StageStopped, StopReason
from interlock.permits import AnyClaim, Claim, Permit, PermitMode, permit_claims, permit_release
from interlock.record_watch import RecordsWatch, RecordUpdate
from interlock.records import Field, Record, record_update
from interlock.resources import AdaptiveLimit, Breaker, Rate, ResourceWatch
from interlock.retry import Backoff
from interlock.segment_arguments import SegmentChanges, Untimed, segments_append
from interlock.segment_parts import Content, Word
from interlock.segment_results import (
    ImportFault,
    ImportResult,
    InvalidSegment,
    SegmentResult,
    SegmentSkip,
    SegmentWriteResult,
)
from interlock.segment_search import SearchResult
from interlock.segments import Segment, SegmentFields, SegmentKind, SegmentStatus
from interlock.session_handle import SessionHandle
from interlock.session_watch import (
    SegmentChanged,
    SegmentDeleted,
    SessionChanged,
    SessionEvent,
    SessionRemoved,
    SessionReplaced,
    SessionWatch,
)
from interlock.sessions import (
    KindStatistics,
    LanguageStatistics,
    Session,
    SessionState,
    SessionStatistics,
    SpeakerStatistics,
)
from interlock.stages import RetryPolicy, RetryRule, Stage, job_submission
from interlock.states import JobState, StageState
from interlock.timeline_export import ExportFormat, TimelineExport
from interlock.watch import JobProgress, JobUpdate, JobWatch, ProgressWatch, RunningStage
from interlock.worker import Worker

__all__ = [
    "AdaptiveLimit",
    "AlreadyExists",
    "AnyClaim",
    "Attempt",
    "Backoff",
    "BlockReason",
    "Breaker",
    "CaughtUp",
    "Claim",
    "Client",
    "Completion",
    "Conflict",
    "Content",
    "DeadlineExceeded",
    "ExportFormat",
    "FailureClass",
    "Field",
    "FieldViolation",
    "HeldPermit",
    "ImportFault",
    "ImportResult",
    "InterlockError",
    "Internal",
    "InvalidArgument",
    "InvalidSegment",
    "InvalidTransition",
    "JobAppeared",
    "JobChanged",
    "JobProgress",
    "JobRemoved",
    "JobState",
    "JobUpdate",
    "JobWatch",
    "JobsEvent",
    "JobsWatch",
    "KindStatistics",
    "LanguageStatistics",
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
    "RetryPolicy",
    "RetryRule",
    "RunningStage",
    "SearchResult",
    "Segment",
    "SegmentChanged",
    "SegmentChanges",
    "SegmentDeleted",
    "SegmentFields",
    "SegmentKind",
    "SegmentResult",
    "SegmentSkip",
    "SegmentStatus",
    "SegmentWriteResult",
    "ServerError",
    "Session",
    "SessionChanged",
    "SessionEvent",
    "SessionHandle",
    "SessionRemoved",
    "SessionReplaced",
    "SessionState",
    "SessionStatistics",
    "SessionWatch",
    "SpeakerStatistics",
    "Stage",
    "StageError",
    "StageState",
    "StageStopped",
    "StopReason",
    "TimelineExport",
    "Unauthenticated",
    "Unavailable",
    "Untimed",
    "VersionInFuture",
    "VersionMismatch",
    "Word",
    "Worker",
    "expect_ok",
    "failure_from_response",
    "from_struct",
    "job_submission",
    "permit_claims",
    "permit_release",
    "record_update",
    "segments_append",
    "to_struct",
]
