"""Blocking counterparts of asyncio methods: one event loop in a thread, for all clients of a process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from interlock.stream import Watch as AsyncWatch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Item = TypeVar("Item")
Inner_co = TypeVar("Inner_co", covariant=True)


class Loop:
    """An event loop in a thread, for all clients of the process.

    One for all, never closed before the process ends: calls of grpc can end after their client, and need their loop.
    """

    _shared: Loop | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="interlock clients", daemon=True)
        self._thread.start()

    @classmethod
    def shared(cls) -> Loop:
        """The loop of this process."""
        with cls._lock:
            # The thread does not exist in a forked process.
            if cls._shared is None or cls._shared._process != os.getpid():
                cls._shared = cls()
            return cls._shared

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Starts the work.

        Raises:
            RuntimeError: the caller is in the event loop.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call inside of the clients' own event loop would wait for itself for ever")
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of the work. A KeyboardInterrupt cancels it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class Facade(Protocol[Inner_co]):
    """A blocking object over an asyncio one."""

    _loop: Loop

    @property
    def asyncio(self) -> Inner_co:
        """The asyncio object, in the loop of the other thread."""
        ...


def blocking(
    method: Callable[Concatenate[Inner_co, Arguments], Awaitable[Result]],
) -> Callable[Concatenate[Facade[Inner_co], Arguments], Result]:
    """The method of the asyncio class as a blocking one."""

    @functools.wraps(method)
    def call(self: Facade[Inner_co], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        async def work() -> Result:
            return await method(self.asyncio, *args, **kwargs)

        return self._loop.run(work())

    return call


def pages(
    method: Callable[Concatenate[Inner_co, Arguments], AsyncIterator[Item]],
) -> Callable[Concatenate[Facade[Inner_co], Arguments], Iterator[Item]]:
    """The method of the asyncio class as one that returns an iterator."""

    @functools.wraps(method)
    def iterate(self: Facade[Inner_co], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Iterator[Item]:
        items = cast(AsyncGenerator[Item, None], method(self.asyncio, *args, **kwargs))

        async def following() -> tuple[Item] | None:
            with suppress(StopAsyncIteration):
                return (await anext(items),)
            return None

        try:
            while (item := self._loop.run(following())) is not None:
                yield item[0]
        finally:
            self._loop.run(_closed(items))

    return iterate


async def _closed(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


def watching(
    method: Callable[Concatenate[Inner_co, Arguments], AsyncWatch[Item]],
) -> Callable[Concatenate[Facade[Inner_co], Arguments], Watch[Item]]:
    """The method of the asyncio class as one that returns a blocking watch."""

    @functools.wraps(method)
    def watch(self: Facade[Inner_co], /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Watch[Item]:
        async def begin() -> AsyncWatch[Item]:
            return method(self.asyncio, *args, **kwargs)

        return Watch(self._loop, self._loop.run(begin()))

    return watch


class Watch(Generic[Item]):
    """An iterator of updates. `with` or `close` ends its stream; another thread may call `close`."""

    def __init__(self, loop: Loop, watch: AsyncWatch[Item]) -> None:
        """Called by the client."""
        self._loop = loop
        self._watch = watch

    def __iter__(self) -> Watch[Item]:
        return self

    def __next__(self) -> Item:
        return self.next()

    def next(self, timeout: float | None = None) -> Item:
        """The next update.

        Args:
            timeout: most seconds to wait; no update is lost. None: no limit.

        Raises:
            StopIteration: the watch has ended.
            TimeoutError: no update came in time.
        """

        async def following() -> Item:
            try:
                return await asyncio.wait_for(anext(self._watch), timeout)
            except asyncio.TimeoutError:
                # Before Python 3.11 it is another class.
                raise TimeoutError(f"no update came within {timeout:g} s") from None

        try:
            return self._loop.run(following())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""
        self._loop.run(self._close())

    async def _close(self) -> None:
        await self._watch.aclose()

    def __enter__(self) -> Watch[Item]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
