"""Leases stages and runs a handler on each: heartbeats beside it, its outcome told, all in order at the end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeAlias, cast

from interlock.arguments import names, wait_seconds
from interlock.client import Client
from interlock.connection import LONGEST_WAIT, WAIT_MARGIN
from interlock.documents import to_duration
from interlock.ending import Raised, ending, tell
from interlock.errors import Conflict, DeadlineExceeded, Internal, ResourceExhausted, Unavailable
from interlock.heartbeat import Heartbeats
from interlock.lease import Attempt, Outcome, StopReason
from interlock.v1 import worker_service_pb2

log = logging.getLogger("interlock.worker")

Handler: TypeAlias = Callable[[Attempt], Awaitable[Outcome]] | Callable[[Attempt], Outcome]

# What a worker survives; anything else means that it can never get work, such as a namespace that does not exist.
_PASSING = (Unavailable, ResourceExhausted, Conflict, DeadlineExceeded, Internal)
_PAUSE = 1.0
# How long handlers that were told to stop, and their reports, get at a shutdown.
_LAST = 10.0


class Worker:
    """Takes stages from queues and has a handler work on them.

    The handler gets an `Attempt` and returns the stage's artifacts, or a `Completion`. A coroutine function runs in the
    event loop and must not block it; a plain function runs in a thread of its own. It fails the attempt by raising
    `StageError`, or anything else, which counts as a bug of the worker: the log and the failure have the traceback.
    What it returns and cannot be stored fails the attempt as CLIENT_ERROR. SystemExit fails the attempt too and does
    not end the worker; KeyboardInterrupt does both. When the lease is lost or the job is cancelled, a coroutine is
    cancelled, and a plain function finds out by `Attempt.check` or `Attempt.report`.
    """

    def __init__(
        self,
        client: Client,
        queues: Iterable[str] = ("default",),
        worker_id: str | None = None,
        *,
        concurrency: int = 1,
        lease_duration: float | timedelta | None = None,
        poll_wait: float = 30.0,
        grace: float = 10.0,
    ) -> None:
        """Describes the worker.

        Args:
            client: the connection.
            queues: where to take stages from.
            worker_id: for people and for the history. None: host and process id.
            concurrency: how many stages to work on at once.
            lease_duration: how long a stage stays ours without a sign of life. None: 90 s.
            poll_wait: how many seconds the server holds a request for work; more than 50 are 50.
            grace: how many seconds handlers get to end at a shutdown before their stages are given back.

        Raises:
            TypeError: `queues` is one text.
            ValueError: a time is no number.
        """
        self.client = client
        self.queues = names(queues, "queues")
        self.worker_id = worker_id or f"{socket.gethostname()}:{os.getpid()}"
        self.concurrency = concurrency
        self.grace = wait_seconds(grace, "grace")
        self._lease_duration = None if lease_duration is None else to_duration(lease_duration)
        self._poll_wait = min(wait_seconds(poll_wait, "poll_wait"), LONGEST_WAIT)
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begins the shutdown: no more work is taken. A second time, it does not wait for the handlers any longer."""
        if self._stopping.is_set():
            self._stop_handlers()
        self._stopping.set()

    async def run(self, handler: Handler, *, handle_signals: bool = True) -> None:
        """Works until `stop`, or until SIGTERM or SIGINT if `handle_signals`; then nothing is left leased.

        Raises:
            InterlockError: no work can ever be had, for example since the namespace does not exist.
        """
        heartbeats = Heartbeats(self.client)
        beating = asyncio.create_task(heartbeats.run(), name="interlock heartbeats")
        try:
            with _signals(self.stop if handle_signals else None):
                try:
                    await self._take_work(handler, heartbeats)
                finally:
                    await self._drain()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _take_work(self, handler: Handler, heartbeats: Heartbeats) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        polling: asyncio.Task[tuple[float, list[worker_service_pb2.Lease]]] | None = None
        try:
            while not self._stopping.is_set():
                # What may kill this process is to take no more along than it has to.
                is_alone = any(attempt.lease.alone for attempt in self._running.values())
                if is_alone or len(self._running) >= self.concurrency:
                    await asyncio.wait([stopping, *self._running], return_when=asyncio.FIRST_COMPLETED)
                    continue
                polling = asyncio.create_task(self._lease(self.concurrency - len(self._running)))
                await asyncio.wait([stopping, polling], return_when=asyncio.FIRST_COMPLETED)
                if not polling.done():
                    break
                leased_at, leases = polling.result()
                for lease in leases:
                    self._start(handler, Attempt(lease, leased_at=leased_at, wake=heartbeats.wake), heartbeats)
        finally:
            stopping.cancel()
            # The server gives back what it leased to a call that was cancelled.
            if polling is not None and polling.cancel():
                await asyncio.gather(polling, return_exceptions=True)

    async def _lease(self, count: int) -> tuple[float, list[worker_service_pb2.Lease]]:
        request = worker_service_pb2.LeaseStagesRequest(
            worker_id=self.worker_id,
            queues=self.queues,
            max_stages=count,
            wait=to_duration(self._poll_wait),
            lease_duration=self._lease_duration,
        )
        try:
            timeout = self._poll_wait + WAIT_MARGIN
            response = await self.client.call(self.client.workers.LeaseStages, request, timeout=timeout)
        except _PASSING as error:
            log.warning("no work could be asked for: %s", error)
            await asyncio.sleep(_PAUSE)
            return 0.0, []
        # The answer is as old as its way here, which is short beside any lease.
        return time.monotonic(), list(response.leases)

    def _start(self, handler: Handler, attempt: Attempt, heartbeats: Heartbeats) -> None:
        async def work() -> None:
            try:
                await self._work(handler, attempt)
            finally:
                heartbeats.remove(attempt)

        heartbeats.add(attempt)
        name = f"{attempt.job_id}/{attempt.stage_name}"
        task = asyncio.create_task(work(), name=name)
        self._running[task] = attempt
        task.add_done_callback(self._running.pop)

    async def _work(self, handler: Handler, attempt: Attempt) -> None:
        handling = asyncio.create_task(_call(handler, attempt), name=f"{attempt.stage_name} handler")
        if _is_coroutine_function(handler):
            attempt.task = handling
        try:
            await asyncio.wait([handling])
        finally:
            handling.cancel()
        attempt.is_reporting_end = True
        result = Raised(asyncio.CancelledError()) if handling.cancelled() else handling.result()
        if isinstance(result, Raised) and isinstance(result.error, KeyboardInterrupt):
            # Somebody wants the program to end; asyncio alone would end its loop before the outcome is told.
            self.stop()
        request = ending(attempt, result)
        if request is None:
            log.warning("%s of %s stopped: %s", attempt.stage_name, attempt.job_id, StopReason.LOST.value)
            return
        await tell(self.client, attempt, request)

    async def _drain(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self.grace)
        if self._running:
            self._stop_handlers()
            await asyncio.wait(self._running, timeout=_LAST)
        # Without a server, or with a handler that does not stop. The leases expire.
        for task, attempt in list(self._running.items()):
            log.error("%s of %s did not end in time", attempt.stage_name, attempt.job_id)
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _stop_handlers(self) -> None:
        for attempt in self._running.values():
            attempt.stop(StopReason.SHUTDOWN)


async def _call(handler: Handler, attempt: Attempt) -> Outcome | Raised:
    """What the handler returns or raises. Only a cancel is raised here."""
    try:
        if _is_coroutine_function(handler):
            return await cast(Callable[[Attempt], Awaitable[Outcome]], handler)(attempt)
        # The context of this task goes along.
        return await asyncio.to_thread(_called, cast(Callable[[Attempt], Outcome], handler), attempt)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return Raised(error)


def _called(handler: Callable[[Attempt], Outcome], attempt: Attempt) -> Outcome | Raised:
    try:
        return handler(attempt)
    except BaseException as error:
        return Raised(error)


def _is_coroutine_function(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


@contextmanager
def _signals(stop: Callable[[], None] | None) -> Any:
    """Has SIGTERM and SIGINT call `stop`, in the event loop; afterwards they are as before."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT) if stop is not None else ()
    for number in signals:
        loop.add_signal_handler(number, cast(Callable[[], None], stop))
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
