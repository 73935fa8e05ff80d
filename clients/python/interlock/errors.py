"""Errors by the reason that the server sends in `google.rpc.ErrorInfo`.

The class says what to do; `reason` is the exact reason of the protos.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2, status_pb2

from interlock.documents import seconds
from interlock.records import Record
from interlock.v1 import error_pb2, job_pb2, permit_pb2

if TYPE_CHECKING:
    from interlock.segment_results import ImportResult

_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"
_DOMAIN = "interlock"


@dataclass(frozen=True)
class FieldViolation:
    """A fault of one field of a request."""

    field: str
    description: str


class InterlockError(Exception):
    """A call failed. Base of all errors that a call raises."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        retry_forbidden: bool = False,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        """The reason, such as `JOB_NOT_FOUND`. Empty: the error is not the server's, such as a refused connection."""
        self.metadata: Mapping[str, str] = metadata or {}
        self.retry_after = retry_after
        """Seconds to wait before the same call can succeed. None: not known."""
        self.retry_forbidden = retry_forbidden
        """Whether a call that is not safe to repeat must not be repeated."""
        self.violations = violations
        self.current: Record | job_pb2.Job | job_pb2.Stage | None = None
        """Current object after a version mismatch of a request with `return_current`. None: unset, or above 3 KiB."""
        self.imported: ImportResult | None = None
        """What became of the segments before the error of `import_segments`: those are stored, and of the next ones
        some may be. Import all again: those that are stored are not stored twice. None: another call failed."""

    @property
    def maybe_applied(self) -> bool:
        """Whether a write may have been applied; a repeat with the same request id shows it."""
        return self.metadata.get("outcome") != "NOT_APPLIED"


class InvalidArgument(InterlockError):
    """The request is wrong; `violations` names the fields. Also a request id that was used for another request."""


class Unauthenticated(InterlockError):
    """The API key or client certificate is missing, unknown, expired or revoked."""


class PermissionDenied(InterlockError):
    """The credential is valid and does not permit this call; `roles` names those that do."""

    @property
    def roles(self) -> str:
        """The roles of which one is needed, separated by commas. Empty: not known."""
        return self.metadata.get("roles", "")


class NotFound(InterlockError):
    """The job, stage, record, resource or namespace does not exist."""


class AlreadyExists(InterlockError):
    """An object with this name exists already."""


class PreconditionFailed(InterlockError):
    """The state does not allow the call."""


class LeaseLost(PreconditionFailed):
    """The lease is not the newest of its stage: stop the work."""


class PermitLost(PreconditionFailed):
    """The permit has expired or was revoked, and another holder may have one: stop the work."""


class InvalidTransition(PreconditionFailed):
    """The job or stage is in a state that does not allow the call."""

    @property
    def state(self) -> str:
        """The current state, such as `SUCCEEDED`."""
        return self.metadata.get("state", "")


class VersionMismatch(InterlockError):
    """The version is not the expected one: decide again on `current`, or read again where that is None."""

    @property
    def actual(self) -> int:
        """The current version."""
        return int(self.metadata["actual"])


class VersionInFuture(InterlockError):
    """The job has not reached the version given as known, so it is another job with the same id."""

    @property
    def actual(self) -> int:
        """The current version."""
        return int(self.metadata["actual"])


class Conflict(InterlockError):
    """The call lost to concurrent writes until its timeout."""


class ResourceExhausted(InterlockError):
    """The server is overloaded, or a limit of this client is reached."""


class DeadlineExceeded(InterlockError):
    """The deadline passed; `maybe_applied` says whether a write may have happened."""


class Unavailable(InterlockError):
    """No server answers, the server is draining, or it has lost its database."""


class BlockReason(enum.IntEnum):
    """Reason why a resource blocks a permit."""

    UNKNOWN = permit_pb2.PERMIT_BLOCK_REASON_UNSPECIFIED
    """A reason that this version of the package does not know."""
    HELD = permit_pb2.PERMIT_BLOCK_REASON_HELD
    CAPACITY = permit_pb2.PERMIT_BLOCK_REASON_CAPACITY
    RATE = permit_pb2.PERMIT_BLOCK_REASON_RATE
    INTERVAL = permit_pb2.PERMIT_BLOCK_REASON_INTERVAL
    BREAKER_OPEN = permit_pb2.PERMIT_BLOCK_REASON_BREAKER_OPEN

    def __str__(self) -> str:
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> BlockReason:
        return cls.UNKNOWN


@dataclass(frozen=True)
class PermitBlocker:
    """A resource that blocks a permit."""

    resource: str
    reason: BlockReason
    retry_after: float | None
    """Seconds until RATE, INTERVAL or BREAKER_OPEN is over, or the first holder's permit expires. None: not known."""


class PermitDenied(InterlockError):
    """The permit was not granted within the wait; `blockers` names each resource that blocks it."""

    def __init__(self, blockers: tuple[PermitBlocker, ...], retry_after: float | None) -> None:
        said = ", ".join(f"{blocker.resource} {blocker.reason.name}" for blocker in blockers)
        after = "" if retry_after is None else f"; try again in {retry_after:g} s"
        super().__init__(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"{said}{after}",
            reason="PERMIT_DENIED",
            metadata={"outcome": "NOT_APPLIED"},
            retry_after=retry_after,
        )
        self.blockers = blockers

    @classmethod
    def of(cls, denial: permit_pb2.PermitDenial) -> PermitDenied:
        """The error for a message."""
        blockers = tuple(
            PermitBlocker(
                blocker.resource,
                BlockReason(blocker.reason),
                seconds(blocker.retry_after) if blocker.HasField("retry_after") else None,
            )
            for blocker in denial.blockers
        )
        return cls(blockers, seconds(denial.retry_after) if denial.HasField("retry_after") else None)


class Internal(InterlockError):
    """A bug in the server; the message has an id that is also in the log of the server."""


_BY_REASON: dict[str, type[InterlockError]] = {
    "LEASE_LOST": LeaseLost,
    "PERMIT_LOST": PermitLost,
    "INVALID_TRANSITION": InvalidTransition,
    "VERSION_MISMATCH": VersionMismatch,
    "CONFLICT": Conflict,
    "VERSION_IN_FUTURE": VersionInFuture,
}
_BY_CODE: dict[grpc.StatusCode, type[InterlockError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.INTERNAL: Internal,
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
# What gRPC itself says in place of UNAVAILABLE if the connection is lost while a stream is sent.
_BROKEN_SENDING = (grpc.StatusCode.INTERNAL, "Internal error from Core")


def from_rpc_error(error: grpc.aio.AioRpcError) -> InterlockError:
    """The typed error for an error of gRPC."""
    if (error.code(), error.details()) == _BROKEN_SENDING:
        return _typed(
            grpc.StatusCode.UNAVAILABLE, "the connection was lost while the request was sent", status_pb2.Status()
        )
    trailers = {key: value for key, value in error.trailing_metadata() or ()}
    status = status_pb2.Status()
    details = trailers.get(_DETAILS)
    if isinstance(details, bytes):
        status.ParseFromString(details)
    return _typed(error.code(), error.details() or "", status, _milliseconds(trailers.get(_PUSHBACK)))


def from_status(status: status_pb2.Status) -> InterlockError | None:
    """The typed error for the status of one result of a batch. None: the status is OK."""
    if status.code == 0:
        return None
    return _typed(_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def _typed(
    code: grpc.StatusCode, message: str, status: status_pb2.Status, pushback: int | None = None
) -> InterlockError:
    info, retry_after, violations, current = _details(status)
    forbidden = False
    if pushback is not None:
        forbidden = pushback < 0
        retry_after = retry_after if forbidden else pushback / 1e3
    reason = info.reason if info.domain == _DOMAIN else ""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, InterlockError)
    raised = kind(
        code,
        message,
        reason=reason,
        metadata=dict(info.metadata),
        retry_after=retry_after,
        retry_forbidden=forbidden,
        violations=violations,
    )
    raised.current = current
    return raised


def _details(
    status: status_pb2.Status,
) -> tuple[
    error_details_pb2.ErrorInfo,
    float | None,
    tuple[FieldViolation, ...],
    Record | job_pb2.Job | job_pb2.Stage | None,
]:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad = error_details_pb2.BadRequest()
    state = error_pb2.CurrentState()
    retry_after = None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif not detail.Unpack(info) and not detail.Unpack(bad):
            detail.Unpack(state)
    violations = tuple(FieldViolation(item.field, item.description) for item in bad.field_violations)
    return info, retry_after, violations, _current(state)


def _current(state: error_pb2.CurrentState) -> Record | job_pb2.Job | job_pb2.Stage | None:
    match state.WhichOneof("state"):
        case "record":
            return Record.of(state.record)
        case "job":
            return state.job
        case "stage":
            return state.stage
        case _:
            return None


def _milliseconds(value: str | bytes | None) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        # An unreadable value forbids retries, as in the retries of gRPC.
        return -1
