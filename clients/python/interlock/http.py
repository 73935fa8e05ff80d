"""Failures for HTTP responses and errors of httpx, aiohttp, requests and urllib, none of which is imported."""

from __future__ import annotations

import re
import time
from datetime import timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

from interlock.failures import FailureClass, RateLimited, ServerError, StageError

Response = TypeVar("Response")

# The longest `retry_after` that the server accepts, in seconds.
_LONGEST = 86_400.0


def expect_ok(response: Response) -> Response:
    """Returns the response if its status is below 400, as in `reply = expect_ok(await client.post(url))`.

    Raises:
        StageError: see `failure_from_response`.
    """
    if _status(response) >= HTTPStatus.BAD_REQUEST:
        raise failure_from_response(response)
    return response


def failure_from_response(response: Any, message: str | None = None) -> StageError:
    """The failure for an HTTP response, to be raised by a handler.

    429 is RATE_LIMITED, 408 TIMEOUT, 500 and above SERVER_ERROR, all else CLIENT_ERROR, which is not retried.
    `Retry-After`, in seconds or as a date, replaces the backoff. The code is the status.

    Args:
        response: response of httpx, aiohttp, requests or urllib, or anything with `status` or `status_code` and
            `headers`.
        message: text for people. None: the status and the address without its query.

    Raises:
        TypeError: it is no response.
    """
    status = _status(response)
    if message is None:
        # Neither the query nor a user, which can contain secrets.
        address = re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", str(getattr(response, "url", "") or ""))[0])
        reason = getattr(response, "reason_phrase", None) or getattr(response, "reason", None) or _phrase(status)
        message = f"HTTP {status} {reason}".rstrip() + (f" from {address}" if address else "")
    code, retry_after = str(status), _retry_after(response)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(message, retry_after=retry_after, code=code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(message, retry_after=retry_after, code=code)
    is_timeout = status == HTTPStatus.REQUEST_TIMEOUT
    return StageError(
        FailureClass.TIMEOUT if is_timeout else FailureClass.CLIENT_ERROR, message, retry_after, code=code
    )


def _status(response: Any) -> int:
    for name in ("status_code", "status", "code"):
        status = getattr(response, name, None)
        if isinstance(status, int):
            return int(status)
    raise TypeError(f"{type(response).__name__} is no HTTP response: it has no status_code and no status")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _retry_after(response: Any) -> float | None:
    """Seconds of the header `Retry-After`. None: there is none, or it cannot be read."""
    headers = getattr(response, "headers", None) or {}
    # Headers of these packages ignore case; those of a plain dict do not.
    header = next((value for name, value in headers.items() if str(name).lower() == "retry-after"), None)
    if header is None:
        return None
    try:
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", str(header)):
            wait = float(header)
        else:
            date = parsedate_to_datetime(str(header))
            wait = (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - time.time()
    except (TypeError, ValueError):
        return None
    return min(max(0.0, wait), _LONGEST)
