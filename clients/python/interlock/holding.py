"""Permits held while a body of code runs: renewed in the background, and released with the outcome of the body.

One task renews all held permits of a client; permits that are due at the same time go into one call. A permit that
expires without a renewal counts as lost, because another holder may have it. Safety does not depend on this, but on
fencing tokens and on the `permit_fence` of a commit.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import grpc

from interlock.documents import seconds
from interlock.errors import InterlockError, PermitLost
from interlock.failures import FailureClass
from interlock.permits import Permit, new_outcome, outcome_of
from interlock.tracing import outside_of_traces
from interlock.v1 import permit_pb2, permit_service_pb2

log = logging.getLogger("interlock.permits")

Renew = Callable[[permit_service_pb2.RenewPermitsRequest, float], Awaitable[permit_service_pb2.RenewPermitsResponse]]
Release = Callable[[str, permit_pb2.PermitOutcome], Awaitable[bool]]

# The most tokens that one RenewPermits may carry.
_TOKENS = 1_000
# Seconds to wait after a renewal that failed with all its retries; less for permits that end soon.
_PAUSE = 0.5
# The shortest timeout of a renewal, even if the permit has expired by the local clock: it may still be free.
_LEAST = 0.1
# Seconds that pending releases get when the client is closed.
_LAST = 2.0


class _Holding:
    """Expiry and next renewal of a permit. Times are on the monotonic clock."""

    def __init__(self, permit: Permit, on_loss: Callable[[], object]) -> None:
        self.permit = permit
        self.due_at = self.expires_at = math.inf
        self.is_renewing = False
        self.is_lost = False
        self.endings = 0
        """Calls in flight that end the permit: during these, 'not held' does not mean lost."""
        self.has_ended = False
        """Whether the permit was released."""
        self._interval = math.inf
        self._on_loss = on_loss
        self.lasts(permit.ttl, time.monotonic())

    def lasts(self, ttl: float | None, since: float) -> None:
        """Sets the expiry to `ttl` seconds after `since`."""
        if ttl is None:
            self.due_at = self.expires_at = math.inf
            return
        self.expires_at = since + ttl
        self._interval = max(0.05, ttl / 3)
        # Rounded up to a grid, so that permits with the same ttl are due together.
        grid = 2.0 ** math.floor(math.log2(self._interval / 4))
        self.due_at = math.ceil((since + self._interval) / grid) * grid

    def missed(self) -> None:
        """Handles a failed renewal."""
        now = time.monotonic()
        self.due_at = now + min(_PAUSE, self._interval / 2)
        if now >= self.expires_at:
            self.lose()

    def lose(self) -> None:
        """Marks the permit as lost, unless a call in flight ends it."""
        if self.endings or self.has_ended or self.is_lost:
            self.due_at = time.monotonic() + _PAUSE
            return
        log.warning("the permit of %s is lost", ", ".join(self.permit.fencing_tokens))
        self.is_lost = True
        self._on_loss()


class Keeper:
    """Renews the permits of one client, and waits for its background tasks at the end."""

    def __init__(self, renew: Renew) -> None:
        self._renew = renew
        self._holdings: dict[str, _Holding] = {}
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._renewals: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[Any]] = set()

    def add(self, holding: _Holding) -> None:
        """Starts to renew the permit."""
        self._holdings[holding.permit.token] = holding
        self._woken.set()
        if self._running is None or self._running.done():
            with outside_of_traces():
                self._running = asyncio.create_task(self._run(), name="interlock permits")

    def remove(self, holding: _Holding) -> None:
        """Stops renewing the permit."""
        self._holdings.pop(holding.permit.token, None)
        self._woken.set()

    @contextmanager
    def ending(self, tokens: Iterable[str]) -> Iterator[None]:
        """Wraps a call that ends these permits if it succeeds."""
        holdings = [holding for token in tokens if (holding := self._holdings.get(token))]
        for holding in holdings:
            holding.endings += 1
        try:
            yield
        except BaseException:
            for holding in holdings:
                holding.endings -= 1
                holding.due_at = time.monotonic()
            self._woken.set()
            raise
        for holding in holdings:
            holding.has_ended = True
            self.remove(holding)

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Starts a task that continues if its caller is cancelled."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Stops all renewals, and waits briefly for background tasks."""
        for task in (self._running, *self._renewals):
            if task is not None:
                task.cancel()
        await self.idle(_LAST)
        for task in self._background:
            task.cancel()

    async def idle(self, timeout: float | None = None) -> None:
        """Waits until no background task runs, at most `timeout` seconds. None: no limit."""
        if self._background:
            await asyncio.wait(self._background, timeout=timeout)

    async def _run(self) -> None:
        while self._holdings:
            self._woken.clear()
            now = time.monotonic()
            idle = [holding for holding in self._holdings.values() if not holding.is_renewing]
            due = [holding for holding in idle if holding.due_at <= now][:_TOKENS]
            if due:
                # In a task of its own, so that a call that hangs does not delay other permits.
                for holding in due:
                    holding.is_renewing = True
                renewal = asyncio.create_task(self._renew_all(due))
                self._renewals.add(renewal)
                renewal.add_done_callback(self._renewals.discard)
                continue
            next_at = min((holding.due_at for holding in idle), default=math.inf)
            # Before Python 3.11 this is not the built-in TimeoutError.
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), None if next_at == math.inf else next_at - now)

    async def _renew_all(self, holdings: list[_Holding]) -> None:
        request = permit_service_pb2.RenewPermitsRequest(permit_tokens=[it.permit.token for it in holdings])
        sent_at = time.monotonic()
        limit = max(_LEAST, min(holding.expires_at for holding in holdings) - sent_at)
        try:
            response = await self._renew(request, limit)
        except InterlockError as error:
            log.warning("permits could not be renewed: %s", error)
            for holding in holdings:
                holding.missed()
        else:
            for holding, status in zip(holdings, response.statuses, strict=True):
                if status.lost:
                    holding.lose()
                else:
                    holding.lasts(seconds(status.ttl) if status.HasField("ttl") else None, sent_at)
        finally:
            for holding in holdings:
                holding.is_renewing = False
                if holding.is_lost:
                    self.remove(holding)
            self._woken.set()


class HeldPermit:
    """The permit that `Client.permit` returns, held in the body of one `async with`.

    It is renewed at each third of its ttl. When it is lost, the task that runs the body is cancelled, and the
    `async with` raises `PermitLost`, as `asyncio.timeout` raises TimeoutError; code that cannot be cancelled, such as a
    thread, calls `check`. At the end of the body the permit is released with an outcome: success, or the class of the
    exception that left the body, as for a handler. `StageError` has a class, timeouts are TIMEOUT, connection errors
    NETWORK, and a cancellation or any other exception says nothing about the resource. The exception is raised on.
    """

    def __init__(self, acquire: Callable[[], Awaitable[Permit]], release: Release, keeper: Keeper) -> None:
        """Called by the client."""
        self._acquire = acquire
        self._release = release
        self._keeper = keeper
        self._is_used = False
        self._held: _Holding | None = None
        self._outcome: permit_pb2.PermitOutcome | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancels = 0
        """Pending cancellations of the task at the start of the body."""

    @property
    def token(self) -> str:
        """Permit token, such as for `permit_fence` of `Client.commit`."""
        return self._holding.permit.token

    @property
    def fencing_tokens(self) -> dict[str, int]:
        """Fencing token by resource. Strictly increases with each grant; third parties can refuse older ones."""
        return self._holding.permit.fencing_tokens

    @property
    def is_lost(self) -> bool:
        """Whether another holder may have the permit."""
        return self._holding.is_lost

    def check(self) -> None:
        """Raises if the permit is lost; for code that asyncio cannot cancel. Thread-safe.

        Raises:
            PermitLost: the body has to stop.
        """
        if self.is_lost:
            raise self._lost()

    def report(
        self,
        failure_class: FailureClass | None = None,
        *,
        retry_after: float | None = None,
        latency: float | None = None,
    ) -> None:
        """Sets the outcome of the use, in place of the one derived from the end of the body. The last report counts.

        Args:
            failure_class: class of the failure. None: success.
            retry_after: seconds that the called service asked to wait. None: not known.
            latency: seconds that the use took. None: the time from grant to release.
        """
        self._outcome = new_outcome(failure_class, retry_after=retry_after, latency=latency)

    async def __aenter__(self) -> HeldPermit:
        if self._is_used:
            raise RuntimeError("this permit was used before; ask the client for another one")
        self._is_used = True
        permit = await self._acquire()
        self._task = asyncio.current_task()
        assert self._task is not None
        if sys.version_info >= (3, 11):
            self._cancels = self._task.cancelling()
        self._held = _Holding(permit, self._task.cancel)
        self._keeper.add(self._held)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        holding = self._holding
        # From here on a loss does not cancel the task any more.
        holding.endings += 1
        try:
            if holding.is_lost:
                if await self._is_cancelled_by_others():
                    return
                if error is None or isinstance(error, asyncio.CancelledError):
                    raise self._lost() from error
            elif not holding.has_ended:
                outcome = self._outcome if self._outcome is not None else outcome_of(error)
                lost = await asyncio.shield(self._keeper.begin(self._end(outcome)))
                if lost is not None and error is None:
                    raise lost
        finally:
            self._keeper.remove(holding)

    async def _end(self, outcome: permit_pb2.PermitOutcome) -> PermitLost | None:
        try:
            await self._release(self.token, outcome)
        except PermitLost as lost:
            log.warning("the permit of %s was lost before it was released", ", ".join(self.fencing_tokens))
            return lost
        except InterlockError as failed:
            # The permit expires instead.
            log.warning("the permit of %s could not be released: %s", ", ".join(self.fencing_tokens), failed)
        return None

    async def _is_cancelled_by_others(self) -> bool:
        """Withdraws our cancellation; returns whether others remain. Not known in Python 3.10."""
        if sys.version_info >= (3, 11):
            assert self._task is not None
            if self._task.uncancel() > self._cancels:
                return True
        # The body can end before the cancellation arrives; before Python 3.13 the next await would then receive it.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return False

    def _lost(self) -> PermitLost:
        resources = ", ".join(self.fencing_tokens)
        message = f"the permit of {resources} has expired or was revoked"
        return PermitLost(
            grpc.StatusCode.FAILED_PRECONDITION, message, reason="PERMIT_LOST", metadata={"outcome": "NOT_APPLIED"}
        )

    @property
    def _holding(self) -> _Holding:
        if self._held is None:
            raise RuntimeError("the permit is not held: use it with `async with`")
        return self._held
