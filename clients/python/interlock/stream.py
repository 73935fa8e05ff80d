"""Streams of updates that are restarted when they break."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from interlock.errors import DeadlineExceeded, InterlockError, ResourceExhausted, Unavailable, from_rpc_error
from interlock.outage import Outage
from interlock.retry import Backoff

Response = TypeVar("Response")
Item = TypeVar("Item")
Call = grpc.aio.UnaryStreamCall[Any, Response]

# Seconds after which a stream counts as working even without a message, so that its end is a new failure.
_STOOD_SECONDS = 5.0


def can_be_resumed(error: InterlockError, *, has_worked: bool) -> bool:
    """Whether a stream with this error is to be restarted.

    Proxies and stopping servers also end streams with CANCELLED, UNKNOWN or INTERNAL, without a reason of Interlock. If
    no message ever came, such an error rather means a wrong address or proxy, which retries would only hide.
    """
    match error:
        case Unavailable():
            return not error.retry_forbidden
        case DeadlineExceeded():
            return True
        case ResourceExhausted():
            # Without a time to retry it is a fixed limit, which a wait does not change.
            return error.retry_after is not None and not error.retry_forbidden
    broken = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
    return has_worked and error.code in broken and not error.reason


class ChainBroken(Exception):
    """The server sent a message that does not follow from the ones before."""


class _Opening(Generic[Response]):
    """One call of the rpc, and its pending read."""

    def __init__(self, call: Call[Response]) -> None:
        self.call = call
        self.stands_since: float | None = None
        """Time of the initial metadata, on the monotonic clock. None: no answer yet."""
        self.reading: asyncio.Task[Any] | None = None
        self.asked_at = 0.0

    def read(self) -> asyncio.Task[Any]:
        """The pending read, or a new one."""
        if self.reading is None:
            self.reading = asyncio.ensure_future(self._read())
            self.asked_at = time.monotonic()
        return self.reading

    async def _read(self) -> Any:
        if self.stands_since is None:
            await self.call.initial_metadata()
            self.stands_since = time.monotonic()
        return await self.call.read()

    def end(self) -> None:
        """Cancels the call and its pending read."""
        self.call.cancel()
        if self.reading is not None:
            self.reading.cancel()


class Stream(Generic[Response]):
    """A stream that is restarted when it breaks, after a random wait plus the wait that the server asks for.

    A cancelled read loses no message: the next read continues it.
    """

    def __init__(
        self,
        begin: Callable[[], Call[Response]],
        *,
        backoff: Backoff,
        silence: float,
        patience: float | None,
        outage: Outage,
    ) -> None:
        """Prepares the stream; the first read opens it. `begin` is called for each start."""
        self._outage = outage
        self._begin = begin
        self._backoff = backoff
        self._silence = silence
        self._patience = patience
        self._opening: _Opening[Response] | None = None
        self._has_worked = False
        self._retry = 0
        self._failing_since: float | None = None
        self._not_before = 0.0
        self.is_closed = False

    def __del__(self) -> None:
        # Leaving an `async for` does not call `close`, and the pending read would keep the call open.
        self._drop()

    async def read(self) -> Response | None:
        """The next message. None: the server ended the stream with OK, or it was closed.

        Raises:
            InterlockError: the stream cannot be resumed, or not within `patience` seconds.
        """
        while not self.is_closed:
            if self._opening is None:
                wait = self._not_before - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                    continue
                self._opening = _Opening(self._begin())
            opening = self._opening
            reading = opening.read()
            # Not `wait_for`: cancelling the read would cancel its call.
            await asyncio.wait({reading}, timeout=max(0.0, opening.asked_at + self._silence - time.monotonic()))
            if self.is_closed:
                break
            if not reading.done():
                opening.stands_since = None
                self.broke(f"nothing was heard for {self._silence:g} s")
                continue
            opening.reading = None
            if reading.cancelled():
                self.close()
                raise InterlockError(grpc.StatusCode.CANCELLED, "the client was closed")
            try:
                message = reading.result()
            except grpc.aio.AioRpcError as raised:
                self._failed(self._outage.notice(from_rpc_error(raised)), raised)
                continue
            if message is not grpc.aio.EOF:
                self._outage.is_over()
                response: Response = message
                return response
            self._drop()
            return None
        return None

    async def read_on(self) -> Response | None:
        """As `read`, for endless streams: a stream that the server ends is restarted. None: it was closed."""
        while (message := await self.read()) is None and not self.is_closed:
            self.broke("the stream ended")
        return message

    def confirm(self) -> None:
        """Marks the last message as in order; earlier failures do not count any more."""
        self._has_worked = True
        self._retry = 0
        self._failing_since = None

    def broke(self, why: str) -> None:
        """Marks the stream as inconsistent; the next read restarts it."""
        self._failed(Unavailable(grpc.StatusCode.UNAVAILABLE, why), None)

    def close(self) -> None:
        """Ends the stream; reads return None."""
        self.is_closed = True
        self._drop()

    def _failed(self, error: InterlockError, cause: BaseException | None) -> None:
        now = time.monotonic()
        stands_since = None if self._opening is None else self._opening.stands_since
        if stands_since is not None and now - stands_since > _STOOD_SECONDS:
            self.confirm()
        self._drop()
        if not can_be_resumed(error, has_worked=self._has_worked):
            self.is_closed = True
            raise error from cause
        wait = self._backoff.wait(self._retry, error.retry_after)
        self._retry += 1
        if self._failing_since is None:
            self._failing_since = now
        if self._patience is not None and now + wait - self._failing_since > self._patience:
            self.is_closed = True
            raise error from cause
        self._not_before = now + wait

    def _drop(self) -> None:
        if self._opening is not None:
            self._opening.end()
            self._opening = None


class Watch(ABC, Generic[Item]):
    """An async iterator of updates.

    Leaving the `async for` ends the stream once the iterator has no references; `async with` ends it at once. A
    cancelled `__anext__`, as by `asyncio.wait_for`, loses no update.
    """

    def __aiter__(self) -> Watch[Item]:
        return self

    @abstractmethod
    async def __anext__(self) -> Item: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""

    async def __aenter__(self) -> Watch[Item]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
