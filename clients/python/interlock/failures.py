"""Failures: exceptions of handlers and of bodies of permits, and the class of each."""

from __future__ import annotations

import asyncio
import enum
import socket
import traceback
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

from google.protobuf import duration_pb2

from interlock.documents import DOCUMENT_BYTES, described, shown, to_duration, to_struct
from interlock.errors import PermitDenied
from interlock.v1 import common_pb2

# Limits of the server.
_MESSAGE_BYTES = 4096
_CODE_BYTES = 128
_LONGEST_RETRY = timedelta(hours=24)
# Bytes of the end of a traceback that the details of a failure hold; `interlock job get` shows them.
_TRACEBACK_BYTES = 4096
# Errors of HTTP packages that no built-in class is a base of.
_TIMEOUTS = frozenset(
    {"httpx.TimeoutException", "requests.Timeout", "urllib3.TimeoutError", "aiohttp.ServerTimeoutError"}
)
_NETWORK = frozenset(
    {"httpx.TransportError", "requests.ConnectionError", "aiohttp.ClientConnectionError", "aiohttp.ClientPayloadError"}
    | {"requests.ChunkedEncodingError", "urllib3.HTTPError", "urllib.URLError", "http.HTTPException"}
)
_RESPONSES = frozenset(
    {"httpx.HTTPStatusError", "requests.HTTPError", "aiohttp.ClientResponseError", "urllib.HTTPError"}
)


class FailureClass(enum.IntEnum):
    """Class of a failure; the server decides by it whether and when to retry the stage."""

    SERVER_ERROR = common_pb2.FAILURE_CLASS_SERVER_ERROR
    RATE_LIMITED = common_pb2.FAILURE_CLASS_RATE_LIMITED
    NETWORK = common_pb2.FAILURE_CLASS_NETWORK
    CLIENT_ERROR = common_pb2.FAILURE_CLASS_CLIENT_ERROR
    TIMEOUT = common_pb2.FAILURE_CLASS_TIMEOUT
    CANCELLED = common_pb2.FAILURE_CLASS_CANCELLED
    INTERNAL = common_pb2.FAILURE_CLASS_INTERNAL

    def __str__(self) -> str:
        return self.name


class StageError(Exception):
    """Raised by a handler, or in the body of a permit, to report a failure with a class."""

    def __init__(
        self,
        failure_class: FailureClass,
        message: str,
        retry_after: float | None = None,
        *,
        code: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Initializes the failure.

        Args:
            failure_class: class that decides the retry, and that permits report.
            message: text for people, cut off at 4 KiB.
            retry_after: seconds that a called service asked to wait, 0 to 24 h. None: not known.
            code: application code, at most 128 bytes. Empty: none.
            details: further facts, at most 64 KiB as JSON. None: none.

        Values that the server would refuse are left out or shortened when the failure is reported, and the message
        names them.
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
    """The failure for an exception of a handler or of the body of a permit. Never raises.

    Values that the server would refuse are left out or shortened, and the message names them.
    """
    notes: list[str] = []
    if isinstance(error, StageError):
        # A subclass need not have called `StageError.__init__`.
        known_class = _class(getattr(error, "failure_class", None), notes)
        failure = new_failure(
            known_class, text_of(getattr(error, "message", error)), text_of(getattr(error, "code", ""))
        )
        _set_retry_after(failure, getattr(error, "retry_after", None), notes)
        _set_details(failure, getattr(error, "details", None), notes)
    elif isinstance(error, PermitDenied):
        # The called services did not fail: INTERNAL does not count against the resources of other permits.
        failure = new_failure(FailureClass.INTERNAL, str(error), error.reason)
        _set_retry_after(failure, error.retry_after, notes)
    else:
        name = type(error).__name__
        answered = _answered(error)
        if answered is None:
            failure = new_failure(_class_of(error), f"{name}: {text_of(error)}", name)
        else:
            failure = new_failure(answered.failure_class, f"{name}: {text_of(error)}", answered.code)
            _set_retry_after(failure, answered.retry_after, notes)
        _set_details(failure, {"traceback": _trace(error)}, notes)
    return with_notes(failure, notes)


def new_failure(failure_class: FailureClass, message: str, code: str = "") -> common_pb2.Failure:
    """A failure with message and code cut to the limits of the server."""
    number = cast(common_pb2.FailureClass.ValueType, int(failure_class))
    code = "".join(" " if unicodedata.category(it) == "Cc" else it for it in code[:_CODE_BYTES])
    return common_pb2.Failure(failure_class=number, message=cut(message, _MESSAGE_BYTES), code=cut(code, _CODE_BYTES))


def with_notes(failure: common_pb2.Failure, notes: Iterable[str]) -> common_pb2.Failure:
    """The failure with notes about missing values at the end of its message."""
    if note := cut("; ".join(notes), _MESSAGE_BYTES // 4):
        message = cut(failure.message, _MESSAGE_BYTES - len(note.encode()) - 3)
        failure.message = f"{message} ({note})" if message else note
    return failure


def cut(text: str, limit: int) -> str:
    """The beginning of a text, at most `limit` bytes of UTF-8, without the characters that the server refuses."""
    encoded = text[:limit].replace("\0", "").encode("utf-8", "replace")
    return encoded[:limit].decode("utf-8", "ignore")


def _class(given: Any, notes: list[str]) -> FailureClass:
    try:
        return FailureClass(given)
    except ValueError:
        notes.append(f"failure_class was {shown(given)}, which is none, and became INTERNAL")
        return FailureClass.INTERNAL


def _class_of(error: BaseException) -> FailureClass:
    if isinstance(error, TimeoutError | asyncio.TimeoutError) or _is_one_of(error, _TIMEOUTS):
        return FailureClass.TIMEOUT
    if isinstance(error, ConnectionError | socket.gaierror) or _is_one_of(error, _NETWORK):
        return FailureClass.NETWORK
    return FailureClass.INTERNAL


def _answered(error: BaseException) -> StageError | None:
    """The failure for the error of `raise_for_status` of an HTTP package. None: it is another error."""
    if not _is_one_of(error, _RESPONSES):
        return None
    from interlock.http import failure_from_response

    try:
        # The error of aiohttp and urllib has the status and the headers itself.
        response = getattr(error, "response", None)
        return failure_from_response(error if response is None else response)
    except Exception:
        return None


def _is_one_of(error: BaseException, names: frozenset[str]) -> bool:
    """Whether an error has one of these classes, by name, so that their packages need not be installed."""
    return any(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" in names for kind in type(error).__mro__)


def _set_retry_after(failure: common_pb2.Failure, given: Any, notes: list[str]) -> None:
    if given is None:
        return
    try:
        wait = given / timedelta(seconds=1) if isinstance(given, timedelta) else float(given)
        failure.retry_after.CopyFrom(_bounded(wait, notes))
    except Exception:
        notes.append(f"retry_after was {shown(given)}, which is no number of seconds, and was left out")


def _bounded(wait: float, notes: list[str]) -> duration_pb2.Duration:
    if wait < 0:
        notes.append(f"retry_after was {wait:g} s and became 0 s")
        return duration_pb2.Duration()
    if wait > _LONGEST_RETRY.total_seconds():
        notes.append(f"retry_after was {wait:g} s and became 24 h")
        return to_duration(_LONGEST_RETRY)
    return to_duration(wait)


def _set_details(failure: common_pb2.Failure, given: Any, notes: list[str]) -> None:
    if given is None:
        return
    try:
        failure.details.CopyFrom(to_struct(given, limit=DOCUMENT_BYTES))
    except BaseException as bad:
        notes.append(f"details were left out: {text_of(bad)}")


def text_of(value: object) -> str:
    """The `str` of a value. Never raises."""
    try:
        return str(value)
    except BaseException as bad:
        return f"{described(value)} that cannot be shown, since its __str__ raises {type(bad).__name__}"


def _trace(error: BaseException) -> str:
    """The end of the traceback, which has the failing line."""
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as bad:
        return f"the traceback cannot be shown: {text_of(bad)}"
    # As in `cut`, but the beginning is cut off.
    encoded = trace[-_TRACEBACK_BYTES:].replace("\0", "").encode("utf-8", "replace")
    return encoded[-_TRACEBACK_BYTES:].decode("utf-8", "ignore")
