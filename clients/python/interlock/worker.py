"""The worker: leases stages, runs a handler on each, renews the leases and sends the outcomes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from interlock.arguments import names, wait_seconds
from interlock.client import Client
from interlock.connection import LONGEST_WAIT, WAIT_MARGIN
from interlock.documents import to_duration
from interlock.ending import Raised, ending, tell
from interlock.errors import (
    Conflict,
    DeadlineExceeded,
    InterlockError,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from interlock.handlers import AnyFunction, Handler, Handlers, is_coroutine_function
from interlock.heartbeat import Heartbeats
from interlock.lease import Attempt, Outcome, StopReason
from interlock.outcomes import Outcomes
from interlock.tracing import attempt_span
from interlock.v1 import worker_service_pb2
from interlock.watchdog import Watchdog

log = logging.getLogger("interlock.worker")

# Errors that a worker retries. Any other is permanent, such as a namespace that does not exist.
_PASSING = (Unavailable, ResourceExhausted, Conflict, DeadlineExceeded, Internal)
_PAUSE = 1.0
# The most stages in one LeaseStages. A worker with a large concurrency asks once this share of it is free.
_STAGES = 100
_FREE_SHARE = 4
# Seconds for a stopping worker to find out the leases of its last request and give them back.
_GIVE_BACK = 5.0
# Seconds for cancelled handlers and their outcomes at a shutdown.
_LAST = 10.0


@dataclass(frozen=True)
class _Leased:
    at: float
    leases: list[worker_service_pb2.Lease]


@dataclass(frozen=True)
class _Parts:
    """Parts shared by all attempts of a run."""

    handlers: Handlers
    heartbeats: Heartbeats
    outcomes: Outcomes


class Worker:
    """Leases stages from queues and runs a handler on each.

    Handlers are registered by `handler`, or one for all stages is given to `run`. A handler gets the `Attempt`, the
    stage's input as a dataclass or pydantic model, or both, and returns the stage's artifacts (a dict, a dataclass, a
    model), a `Completion`, or None. A coroutine function runs in the
    event loop and must not block it; a plain function runs in a thread of its own. It fails the attempt by raising
    `StageError`, or anything else, which counts as a bug of the worker: the log and the failure have the traceback.
    A return value that cannot be stored fails the attempt as CLIENT_ERROR. SystemExit fails the attempt too and does
    not end the worker; KeyboardInterrupt does both. When the lease is lost or the job is cancelled, a coroutine is
    cancelled, and a plain function is stopped by `Attempt.check` or `Attempt.report`.
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
        """Checks and stores the options.

        Args:
            client: connection to use.
            queues: names of the queues to lease from.
            worker_id: name of the worker, for people and the history. None: host and process id.
            concurrency: most stages to work on at once. Outcomes of many small stages are sent together, and the next
                stages are leased meanwhile.
            lease_duration: time until a lease expires without a heartbeat. None: 90 s.
            poll_wait: seconds that the server holds a request for work, at most 50; larger values become 50.
            grace: seconds for handlers to end at a shutdown before their stages are given back.

        Raises:
            TypeError: `queues` is a single str.
            ValueError: a time is not a number.
        """
        self.client = client
        self.queues = names(queues, "queues")
        self.worker_id = worker_id or f"{socket.gethostname()}:{os.getpid()}"
        # By this the server tells a worker that was restarted from a second one of the same id.
        self._instance_id = str(uuid.uuid4())
        self.concurrency = concurrency
        self.grace = wait_seconds(grace, "grace")
        self._lease_duration = None if lease_duration is None else to_duration(lease_duration)
        self._poll_wait = min(wait_seconds(poll_wait, "poll_wait"), LONGEST_WAIT)
        self._handlers = Handlers()
        self._running: dict[asyncio.Task[None], Attempt] = {}
        # Number of running attempts with a handler that has not ended.
        self._handling = 0
        self._stopping = asyncio.Event()
        # Set when a handler or a task ends, and when the worker is to stop.
        self._changed = asyncio.Event()
        # The pending request for work, kept until its leases have handlers; its request id makes repeats safe.
        self._request: worker_service_pb2.LeaseStagesRequest | None = None

    def handler(self, stage: str = "*", *, kind: str = "*") -> Callable[[AnyFunction], AnyFunction]:
        """Registers the function below for a stage, as in `@worker.handler("voice")`.

        A stage without a handler fails as INTERNAL with the code NO_HANDLER. Parameters of the function get the attempt
        (without a type, or of type `Attempt`), the stage's input (of a dataclass or a pydantic model, or named
        `input`), or the job's payload (named `payload`). An input that does not fit its type fails the stage as
        CLIENT_ERROR.

        Args:
            stage: name of the stage. `voice-*`: all names that begin so. `*`: all that have no handler of their own.
            kind: kind of the job, in the same form.

        Raises:
            ValueError: there is a handler for both already.
            TypeError: a parameter of the function gets nothing from an attempt.
        """
        if not isinstance(stage, str) or not isinstance(kind, str):
            raise TypeError('write @worker.handler("STAGE"), or @worker.handler() for all stages')

        def add(function: AnyFunction) -> AnyFunction:
            self._handlers.add(stage, kind, function)
            return function

        return add

    def stop(self) -> None:
        """Starts the shutdown: no more work is leased. A second call stops waiting for the handlers."""
        if self._stopping.is_set():
            self._stop_handlers()
        self._stopping.set()
        self._changed.set()

    async def run(self, handler: Callable[..., Any] | None = None, *, handle_signals: bool = True) -> None:
        """Works until `stop`, or until SIGTERM or SIGINT if `handle_signals`. After it no stage stays leased.

        Args:
            handler: handler of the stages that have none of their own. None: none.
            handle_signals: whether SIGTERM and SIGINT stop the worker.

        Raises:
            ValueError: there is no handler.
            InterlockError: work can never be leased, for example because the namespace does not exist.
        """
        handlers = self._handlers.with_default(handler)
        heartbeats = Heartbeats(self.client)
        beating = asyncio.create_task(heartbeats.run(), name="interlock heartbeats")
        try:
            with _signals(self.stop if handle_signals else None), Watchdog(self._running.values):
                # Who reads this may send the signal.
                where = f"{', '.join(self.queues)} at {self.client.address}"
                log.info("worker %s takes stages of %s, %d at once", self.worker_id, where, self.concurrency)
                log.info("worker %s has handlers for %s", self.worker_id, handlers.described())
                try:
                    await self._take_work(_Parts(handlers, heartbeats, Outcomes(self.client)))
                finally:
                    time_left = f" and have {self.grace:g} s to end" if self._running else ""
                    text = "worker %s takes no more stages; %d are running%s"
                    log.info(text, self.worker_id, len(self._running), time_left)
                    await self._drain()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            log.info("worker %s has stopped", self.worker_id)

    async def _take_work(self, parts: _Parts) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        polling: asyncio.Task[_Leased | None] | None = None
        try:
            while not self._stopping.is_set():
                self._changed.clear()
                room = self._room()
                if room <= 0:
                    await self._changed.wait()
                    continue
                polling = asyncio.create_task(self._lease(room))
                await asyncio.wait([stopping, polling], return_when=asyncio.FIRST_COMPLETED)
                if not polling.done():
                    break
                leased = polling.result()
                if leased is not None:
                    for lease in leased.leases:
                        attempt = Attempt(lease, leased_at=leased.at, wake=parts.heartbeats.wake)
                        self._start(attempt, parts)
                    self._request = None
        finally:
            stopping.cancel()
            if polling is not None and polling.cancel():
                await asyncio.gather(polling, return_exceptions=True)
            await self._give_back()

    async def _lease(self, count: int) -> _Leased | None:
        """Leases of one request for work. None: the request or its response was lost."""
        if self._request is None:
            self._request = worker_service_pb2.LeaseStagesRequest(
                worker_id=self.worker_id,
                queues=self.queues,
                max_stages=count,
                wait=to_duration(self._poll_wait),
                lease_duration=self._lease_duration,
                request_id=str(uuid.uuid4()),
                instance_id=self._instance_id,
            )
        try:
            timeout = self._poll_wait + WAIT_MARGIN
            response = await self.client.call(self.client.workers.LeaseStages, self._request, timeout=timeout)
        except _PASSING as error:
            log.warning("no work could be asked for: %s", error)
            await asyncio.sleep(_PAUSE)
            return None
        except InterlockError:
            # The request was refused, so there are no leases to give back.
            self._request = None
            raise
        if response.worker_id_shared:
            log.warning("another running worker is called %s too: give each its own worker_id", self.worker_id)
        # Leases count from the response; its travel time is short compared with any lease.
        return _Leased(time.monotonic(), list(response.leases))

    async def _give_back(self) -> None:
        """Releases the leases of the last request if its response was not received."""
        if self._request is None:
            return
        # A repeat without a wait returns the leases of the request, and ends the request if it still waits.
        self._request.ClearField("wait")
        try:
            response = await self.client.call(self.client.workers.LeaseStages, self._request, timeout=_GIVE_BACK)
            releases = [
                worker_service_pb2.ReleaseStageRequest(
                    target=worker_service_pb2.StageTarget(lease_token=it.lease_token)
                )
                for it in response.leases
            ]
            calls = [self.client.call(self.client.workers.ReleaseStage, it, timeout=_GIVE_BACK) for it in releases]
            for result in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
        except InterlockError as error:
            log.warning("leases of the last request for work may be left to expire: %s", error)
        self._request = None

    def _start(self, attempt: Attempt, parts: _Parts) -> None:
        async def work() -> None:
            try:
                await self._work(parts.handlers.find(attempt), attempt, parts.outcomes)
            finally:
                parts.heartbeats.remove(attempt)

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[task]
            self._changed.set()

        parts.heartbeats.add(attempt)
        name = f"{attempt.job_id}/{attempt.stage_name}"
        task = asyncio.create_task(work(), name=name)
        self._running[task] = attempt
        self._handling += 1
        task.add_done_callback(ended)

    def _handled(self) -> None:
        """Notes that a handler has ended and its outcome is to be sent."""
        self._handling -= 1
        self._changed.set()

    def _room(self) -> int:
        """Number of stages to ask for now. 0: none yet."""
        # A stage that may kill this process runs alone, so that it takes no other stages with it.
        if any(attempt.lease.isolated for attempt in self._running.values()):
            return 0
        # Stages can run while outcomes are sent; a worker with a concurrency of 1 sends its outcome first.
        telling = len(self._running) - self._handling
        most = self.concurrency if self.concurrency > 1 else 0
        if telling > most:
            return 0
        free = self.concurrency - self._handling
        # A large worker does not ask for single stages.
        return min(free, _STAGES) if free * _FREE_SHARE >= self.concurrency else 0

    async def _work(self, handler: Handler, attempt: Attempt, outcomes: Outcomes) -> None:
        with attempt_span(attempt, self.worker_id) as failed:
            handling = asyncio.create_task(_call(handler, attempt), name=f"{attempt.stage_name} handler")
            if is_coroutine_function(handler):
                attempt.task = handling
            try:
                await asyncio.wait([handling])
            finally:
                handling.cancel()
                self._handled()
            attempt.is_reporting_end = True
            result = Raised(asyncio.CancelledError()) if handling.cancelled() else handling.result()
            if isinstance(result, Raised):
                failed(result.error)
                if isinstance(result.error, KeyboardInterrupt):
                    # The program is to end; by itself asyncio would end its loop before the outcome is sent.
                    self.stop()
            request = ending(attempt, result)
            if request is None:
                log.warning("%s of %s stopped: %s", attempt.stage_name, attempt.job_id, StopReason.LOST.value)
                return
            await tell(outcomes, attempt, request)

    async def _drain(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self.grace)
        if self._running:
            self._stop_handlers()
            await asyncio.wait(self._running, timeout=_LAST)
        # No server answers, or a handler does not stop. The leases expire.
        for task, attempt in list(self._running.items()):
            log.error("%s of %s did not end in time", attempt.stage_name, attempt.job_id)
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _stop_handlers(self) -> None:
        for attempt in self._running.values():
            attempt.stop(StopReason.SHUTDOWN)


async def _call(handler: Handler, attempt: Attempt) -> Outcome | Raised:
    """Return value or exception of the handler. Only a cancellation is raised here."""
    try:
        if is_coroutine_function(handler):
            return await cast(Callable[[Attempt], Awaitable[Outcome]], handler)(attempt)
        # `to_thread` copies the context of this task.
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


@contextmanager
def _signals(stop: Callable[[], None] | None) -> Any:
    """Installs `stop` for SIGTERM and SIGINT in the event loop; removes it at the end."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT) if stop is not None else ()
    for number in signals:
        loop.add_signal_handler(number, cast(Callable[[], None], stop))
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
