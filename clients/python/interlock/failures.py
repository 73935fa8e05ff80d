"""How work fails: what a handler, or the body of a permit, raises, and the class of failure that it means."""

from __future__ import annotations

import asyncio
import enum
import socket
import traceback
from collections.abc import Mapping
from typing import Any, cast

from interlock.documents import to_duration, to_struct
from interlock.errors import PermitDenied
from interlock.v1 import common_pb2


class FailureClass(enum.IntEnum):
    """What kind of failure ended an attempt; the server decides by it whether and when the stage is tried again."""

    SERVER_ERROR = common_pb2.FAILURE_CLASS_SERVER_ERROR
    RATE_LIMITED = common_pb2.FAILURE_CLASS_RATE_LIMITED
    NETWORK = common_pb2.FAILURE_CLASS_NETWORK
    CLIENT_ERROR = common_pb2.FAILURE_CLASS_CLIENT_ERROR
    TIMEOUT = common_pb2.FAILURE_CLASS_TIMEOUT
    CANCELLED = common_pb2.FAILURE_CLASS_CANCELLED
    INTERNAL = common_pb2.FAILURE_CLASS_INTERNAL


class StageError(Exception):
    """Raised by a handler to fail its attempt in a known way, or in the body of a permit to end it in one."""

    def __init__(
        self,
        failure_class: FailureClass,
        message: str,
        retry_after: float | None = None,
        *,
        code: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Describes the failure.

        Args:
            failure_class: decides about the retry, and what permits report.
            message: for people; what exceeds 4 KiB is cut off.
            retry_after: how many seconds a called service asked to wait.
            code: of your own choice, at most 128 bytes.
            details: anything that helps to understand it, at most 64 KiB as JSON.
        """
        super().__init__(message)
        self.failure_class = failure_class
        self.message = message
        self.retry_after = retry_after
        self.code = code
        self.details = details


class ServerError(StageError):
    """A called service failed, like HTTP 5xx."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Arguments are those of `StageError`."""
        super().__init__(FailureClass.SERVER_ERROR, message, retry_after, code=code, details=details)


class RateLimited(StageError):
    """A called service asked to slow down, like HTTP 429."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Arguments are those of `StageError`."""
        super().__init__(FailureClass.RATE_LIMITED, message, retry_after, code=code, details=details)


def failure_of(error: BaseException) -> common_pb2.Failure:
    """The failure that an exception of a handler means, or one of the body of a permit."""
    if isinstance(error, StageError):
        failure = new_failure(error.failure_class, error.message, error.code)
        if error.retry_after is not None:
            failure.retry_after.CopyFrom(to_duration(error.retry_after))
        if error.details is not None:
            try:
                failure.details.CopyFrom(to_struct(error.details))
            except ValueError as bad:
                failure.details.CopyFrom(to_struct({"unreadable": str(bad)}))
        return failure
    if isinstance(error, PermitDenied):
        # Nothing has failed, least of all what other permits are for: INTERNAL says nothing about them.
        failure = new_failure(FailureClass.INTERNAL, str(error), error.reason)
        if error.retry_after is not None:
            failure.retry_after.CopyFrom(to_duration(error.retry_after))
        return failure
    name = type(error).__name__
    message = f"{name}: {error}"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return new_failure(FailureClass.TIMEOUT, message, name)
    if isinstance(error, ConnectionError | socket.gaierror):
        return new_failure(FailureClass.NETWORK, message, name)
    failure = new_failure(FailureClass.INTERNAL, message, name)
    trace = "".join(traceback.format_exception(error))
    failure.details.CopyFrom(to_struct({"traceback": cut(trace[-16_000:], 16_000)}))
    return failure


def new_failure(failure_class: FailureClass, message: str, code: str = "") -> common_pb2.Failure:
    """A failure; what is too long is cut off."""
    number = cast(common_pb2.FailureClass.ValueType, int(failure_class))
    return common_pb2.Failure(failure_class=number, message=cut(message, 4096), code=cut(code, 128))


def cut(text: str, limit: int) -> str:
    """The beginning of a text, at most `limit` bytes of UTF-8, without the characters that the server refuses."""
    encoded = text.replace("\0", "").encode("utf-8", "replace")
    return encoded[:limit].decode("utf-8", "ignore")
