"""Streams of news that go on when their connection does not."""

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

# A stream that stood for so long was a good one, also if nothing was to be told: what breaks it is a new failure.
_STOOD_SECONDS = 5.0


def can_be_resumed(error: InterlockError, *, has_worked: bool) -> bool:
    """Whether a stream that ended like this is to be begun again.

    Proxies and servers that go down also end streams by CANCELLED, UNKNOWN or INTERNAL, without a reason of ours. If
    nothing ever came, that is rather a mistake in how the server is reached, which waiting would only hide.
    """
    match error:
        case Unavailable():
            return not error.retry_forbidden
        case DeadlineExceeded():
            return True
        case ResourceExhausted():
            # Without a time to come back it is a limit that waiting does not change.
            return error.retry_after is not None and not error.retry_forbidden
    broken = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
    return has_worked and error.code in broken and not error.reason


class ChainBroken(Exception):
    """The server told something that does not follow from what it told before."""


class _Opening(Generic[Response]):
    """One call of the rpc, and the read that is under way."""

    def __init__(self, call: Call[Response]) -> None:
        self.call = call
        self.stands_since: float | None = None
        """When the server began to answer."""
        self.reading: asyncio.Task[Any] | None = None
        self.asked_at = 0.0

    def read(self) -> asyncio.Task[Any]:
        """The read that is under way, or a new one."""
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
        """Ends it, whatever it does."""
        self.call.cancel()
        if self.reading is not None:
            self.reading.cancel()


class Stream(Generic[Response]):
    """A stream that is begun again when it breaks: after a random wait, and what the server asks for.

    A read that is cancelled loses nothing: the next one goes on with it.
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
        """Describes it; the first read begins it. `begin` is called each time."""
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
        # Whoever leaves an `async for` does not say so, and the read that is under way would keep the call.
        self._drop()

    async def read(self) -> Response | None:
        """The next message. None: the server has ended the stream in good order, or it was closed.

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
            # Not `wait_for`: a read that is cancelled would take its call along.
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
        """As `read`, for news that have no end: a stream that the server ends is begun again. None: it was closed."""
        while (message := await self.read()) is None and not self.is_closed:
            self.broke("the stream ended")
        return message

    def confirm(self) -> None:
        """What was read was in order: what failed before is forgotten."""
        self._has_worked = True
        self._retry = 0
        self._failing_since = None

    def broke(self, why: str) -> None:
        """The stream is not to be trusted: it is begun again by the next read."""
        self._failed(Unavailable(grpc.StatusCode.UNAVAILABLE, why), None)

    def close(self) -> None:
        """Ends it; reads give None."""
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
    """News as an async iterator.

    Leaving the `async for` ends the stream as soon as nobody holds the iterator; `async with` ends it at once. A
    `__anext__` that is cancelled, as by `asyncio.wait_for`, loses nothing.
    """

    def __aiter__(self) -> Watch[Item]:
        return self

    @abstractmethod
    async def __anext__(self) -> Item: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Ends the stream; whoever waits for news sees the end."""

    async def __aenter__(self) -> Watch[Item]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
