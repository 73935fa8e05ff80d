"""Retries of calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from interlock.errors import Conflict, DeadlineExceeded, InterlockError, ResourceExhausted, Unavailable, from_rpc_error

Result = TypeVar("Result")


@dataclass(frozen=True)
class Backoff:
    """Full jitter: the wait before retry n is random between 0 and `min(longest, first * 2 ** n)` seconds.

    If the server asks for a wait, the random wait is added to it, so that clients refused together do not come back
    together.
    """

    first: float = 0.1
    longest: float = 5.0

    def wait(self, retry: int, asked: float | None) -> float:
        """Seconds before retry number `retry`, from 0. `asked`: wait that the server asks for. None: none."""
        bound = min(self.longest, self.first * 2 ** min(retry, 30))
        return (asked or 0.0) + random.uniform(0, bound)


def can_be_repeated(error: InterlockError) -> bool:
    """Whether a retry of the call, which must be safe to repeat, can succeed."""
    if isinstance(error, Unavailable):
        # OUTCOME_UNKNOWN forbids retries of calls without a request id. All calls of this package are safe to repeat.
        return not error.retry_forbidden or error.reason == "OUTCOME_UNKNOWN"
    return isinstance(error, Conflict | ResourceExhausted) and not error.retry_forbidden


async def repeat(
    attempt: Callable[[float], Awaitable[Result]],
    *,
    timeout: float,
    backoff: Backoff,
    notice: Callable[[InterlockError], InterlockError] = lambda error: error,
) -> Result:
    """Repeats a call until it succeeds, fails permanently, or `timeout` seconds are over.

    `attempt` gets the remaining seconds. The call must be safe to repeat. `notice` gets each error and returns the one
    to raise in its place.

    Raises:
        InterlockError: the last failure.
    """
    deadline = time.monotonic() + timeout
    retry = 0
    last: InterlockError | None = None
    while True:
        try:
            return await attempt(max(0.001, deadline - time.monotonic()))
        except grpc.aio.AioRpcError as raised:
            error = notice(from_rpc_error(raised))
            cause = raised
        if isinstance(error, DeadlineExceeded) and last is not None and not error.reason:
            # The timeout passed during a retry; the error before it says more.
            raise last from cause
        if not can_be_repeated(error):
            raise error from cause
        wait = backoff.wait(retry, error.retry_after)
        if time.monotonic() + wait >= deadline:
            raise error from cause
        last = error
        retry += 1
        await asyncio.sleep(wait)
