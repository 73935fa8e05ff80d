"""Errors by reason, as the server tells them in `google.rpc.ErrorInfo`.

The class says what to do about it; `reason` is the exact one of the protos.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2

from interlock.documents import seconds
from interlock.records import Record
from interlock.v1 import error_pb2, job_pb2, permit_pb2

_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"
_DOMAIN = "interlock"


@dataclass(frozen=True)
class FieldViolation:
    """What is wrong with one field of a request."""

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
        """How many seconds to wait before the same call can succeed. None: not said."""
        self.retry_forbidden = retry_forbidden
        """Whether a call that is not safe to repeat must not be repeated."""
        self.violations = violations
        self.current: Record | job_pb2.Job | job_pb2.Stage | None = None
        """What a version was compared with, where the request set `return_current`. None: not asked, or above 3 KiB."""

    @property
    def maybe_applied(self) -> bool:
        """Whether a write may have happened all the same; repeat it with the same request id to find out."""
        return self.metadata.get("outcome") != "NOT_APPLIED"


class InvalidArgument(InterlockError):
    """The request is wrong; `violations` names the fields. Also a request id that was used for another request."""


class Unauthenticated(InterlockError):
    """The API key or client certificate is missing, unknown, expired or revoked."""


class PermissionDenied(InterlockError):
    """The credential is valid and does not permit this; `roles` says which one does."""

    @property
    def roles(self) -> str:
        """The roles of which one is needed, with commas between. Empty: not said."""
        return self.metadata.get("roles", "")


class NotFound(InterlockError):
    """The job, the stage, the record, the resource or the namespace does not exist."""


class AlreadyExists(InterlockError):
    """Something of this name exists already."""


class PreconditionFailed(InterlockError):
    """The state does not allow it."""


class LeaseLost(PreconditionFailed):
    """The lease is not the newest of its stage: stop the work."""


class PermitLost(PreconditionFailed):
    """The permit has expired or was revoked, and somebody else may have one by now: stop the work."""


class InvalidTransition(PreconditionFailed):
    """The job or stage is in a state that does not allow this; `state` says which."""

    @property
    def state(self) -> str:
        """The state it is in, such as `SUCCEEDED`."""
        return self.metadata.get("state", "")


class VersionMismatch(InterlockError):
    """The version is not the expected one: decide again on `current`, or read again where that is None."""

    @property
    def actual(self) -> int:
        """The version it has."""
        return int(self.metadata["actual"])


class VersionInFuture(InterlockError):
    """The job has not come to the version that was named as known, so it is another of the same id."""

    @property
    def actual(self) -> int:
        """The version it has."""
        return int(self.metadata["actual"])


class Conflict(InterlockError):
    """Other writers were in the way, and all retries are spent."""


class ResourceExhausted(InterlockError):
    """The server is overloaded, or a limit of this client is reached."""


class DeadlineExceeded(InterlockError):
    """The deadline passed; `maybe_applied` says whether a write may have happened."""


class Unavailable(InterlockError):
    """There is no server, it is draining, or it has lost its database."""


class BlockReason(enum.IntEnum):
    """What is in the way of a permit."""

    UNKNOWN = permit_pb2.PERMIT_BLOCK_REASON_UNSPECIFIED
    """One that this version does not know."""
    HELD = permit_pb2.PERMIT_BLOCK_REASON_HELD
    CAPACITY = permit_pb2.PERMIT_BLOCK_REASON_CAPACITY
    RATE = permit_pb2.PERMIT_BLOCK_REASON_RATE
    INTERVAL = permit_pb2.PERMIT_BLOCK_REASON_INTERVAL
    BREAKER_OPEN = permit_pb2.PERMIT_BLOCK_REASON_BREAKER_OPEN

    @classmethod
    def _missing_(cls, value: object) -> BlockReason:
        return cls.UNKNOWN


@dataclass(frozen=True)
class PermitBlocker:
    """A resource that is in the way of a permit."""

    resource: str
    reason: BlockReason
    retry_after: float | None
    """Seconds until RATE, INTERVAL or BREAKER_OPEN is over, or the first holder's permit expires. None: not known."""


class PermitDenied(InterlockError):
    """The permit cannot be had now, or could not while there was time to wait; `blockers` says what is in the way."""

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
        """The error of a message."""
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
    """A bug in the server; the message holds an id that its log has too."""


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


def from_rpc_error(error: grpc.aio.AioRpcError) -> InterlockError:
    """The typed error for what gRPC raised."""
    trailers = {key: value for key, value in error.trailing_metadata() or ()}
    status = status_pb2.Status()
    details = trailers.get(_DETAILS)
    if isinstance(details, bytes):
        status.ParseFromString(details)
    return _typed(error.code(), error.details() or "", status, _milliseconds(trailers.get(_PUSHBACK)))


def from_status(status: status_pb2.Status) -> InterlockError | None:
    """The typed error for the status of one of many results. None: it is OK."""
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
        # What cannot be read forbids, as gRPC's own retries have it.
        return -1
