"""Renewal of leases, and cancellation of handlers that have to stop.

One task serves all leases of a worker and renews those that are due in one call. Heartbeats carry the progress, at most
once in `NEWS_INTERVAL` per lease. A lease that expires without a renewal counts as lost, because another worker may
have it. Safety does not depend on this: the server refuses all but the newest token.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress

from interlock.client import Client
from interlock.documents import seconds
from interlock.errors import InterlockError
from interlock.lease import Attempt, StopReason
from interlock.v1 import worker_service_pb2

log = logging.getLogger("interlock.worker")

NEWS_INTERVAL = 0.2
# Seconds to wait after a heartbeat that failed with all its retries.
_PAUSE = 0.5
# The most renewals that one Heartbeat may carry.
_RENEWALS = 1_000


class Heartbeats:
    """The heartbeats of one worker. `run` is a task beside the handlers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._attempts: dict[str, Attempt] = {}
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def add(self, attempt: Attempt) -> None:
        """Starts to renew the lease."""
        self._attempts[attempt.lease.lease_token] = attempt
        self._woken.set()

    def remove(self, attempt: Attempt) -> None:
        """Stops renewing the lease."""
        self._attempts.pop(attempt.lease.lease_token, None)

    def wake(self) -> None:
        """Signals that there is progress to send. Thread-safe."""
        self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Renews the leases until cancelled."""
        while True:
            self._woken.clear()
            now = time.monotonic()
            due = [attempt for attempt in self._attempts.values() if _next(attempt) <= now][:_RENEWALS]
            if due:
                await self._renew(due)
                continue
            next_at = min(map(_next, self._attempts.values()), default=None)
            # Before Python 3.11 this is not the built-in TimeoutError.
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), None if next_at is None else next_at - now)

    async def _renew(self, attempts: list[Attempt]) -> None:
        renewals = [attempt.renewal.take() for attempt in attempts]
        sent_at = time.monotonic()
        limit = min(attempt.renewal.interval for attempt in attempts)
        request = worker_service_pb2.HeartbeatRequest(renewals=renewals)
        try:
            response = await self._client.call(self._client.workers.Heartbeat, request, timeout=limit)
        except InterlockError as error:
            log.warning("a heartbeat failed: %s", error)
            self._missed(zip(attempts, renewals, strict=True))
            return
        for attempt, status in zip(attempts, response.statuses, strict=True):
            _apply(attempt, status, sent_at)

    def _missed(self, missed: Iterable[tuple[Attempt, worker_service_pb2.LeaseRenewal]]) -> None:
        now = time.monotonic()
        for attempt, renewal in missed:
            attempt.renewal.give_back(renewal)
            attempt.renewal.told_at = now + _PAUSE
            attempt.renewal.due_at = now + _PAUSE
            if now >= attempt.renewal.expires_at:
                log.warning("%s of %s: the lease could not be renewed", attempt.stage_name, attempt.job_id)
                attempt.stop(StopReason.LOST)


def _next(attempt: Attempt) -> float:
    """The time of the next renewal, on the monotonic clock."""
    renewal = attempt.renewal
    if renewal.has_news:
        return min(renewal.due_at, renewal.told_at + NEWS_INTERVAL)
    return renewal.due_at


def _apply(attempt: Attempt, status: worker_service_pb2.LeaseStatus, sent_at: float) -> None:
    renewal = attempt.renewal
    renewal.due_at = sent_at + renewal.interval
    if status.directive == worker_service_pb2.LEASE_DIRECTIVE_LOST:
        attempt.stop(StopReason.LOST)
        return
    renewal.expires_at = sent_at + seconds(status.ttl)
    attempt.is_paused = status.directive == worker_service_pb2.LEASE_DIRECTIVE_PAUSE
    if status.directive == worker_service_pb2.LEASE_DIRECTIVE_CANCEL:
        attempt.stop(StopReason.CANCELLED)
