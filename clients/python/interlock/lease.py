"""The stage as a handler sees it, and the outcome that it returns."""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from google.protobuf.message import Message

from interlock.documents import from_struct, seconds
from interlock.failures import cut
from interlock.stages import AnyStage
from interlock.v1 import common_pb2, job_pb2, worker_service_pb2


class StopReason(enum.Enum):
    """Reason why a handler has to stop."""

    LOST = "the lease is lost"
    CANCELLED = "the job is being cancelled or has failed"
    SHUTDOWN = "the worker is shutting down"


class StageStopped(Exception):
    """Raised by `Attempt.check` in a handler that has to stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Completion:
    """An outcome with more than artifacts, returned by a handler."""

    artifacts: Any = None
    """Output stored with the stage, at most 64 KiB as JSON: a dict, a dataclass or a pydantic model. None: none."""
    job_result: Any = None
    """New result of the job, in the same form. None: unchanged."""
    message: str = ""
    """Text for people, cut off at 1 KiB. Empty: none."""
    add_stages: Iterable[AnyStage] = field(default=())
    """New stages of the same job, as dicts or messages, added in the same commit."""
    also: Iterable[Message] = field(default=())
    """Further requests of the same commit, all or none, such as from `record_update`, or a `SubmitJobRequest`."""


Outcome: TypeAlias = Mapping[str, Any] | Completion | Any | None
"""Return value of a handler: artifacts (a dict, a dataclass, a pydantic model), or a `Completion`. None: none."""


@dataclass(frozen=True)
class Dependency:
    """Outcome of a stage that this one depends on."""

    name: str
    succeeded: bool
    artifacts: Mapping[str, Any]
    failure: common_pb2.Failure | None


class Attempt:
    """One attempt at one stage, under a lease that the worker keeps alive.

    `report` and `check` are thread-safe.
    """

    def __init__(self, lease: worker_service_pb2.Lease, *, leased_at: float, wake: Callable[[], None]) -> None:
        """Called by the worker. `leased_at` is the start of the lease on the monotonic clock."""
        self.lease = lease
        self.renewal = _Renewal(lease, leased_at)
        self._wake = wake
        self._stop_reason: StopReason | None = None
        self._stopped = threading.Event()
        self.stopped_at: float | None = None
        """When the handler had to stop, on the monotonic clock. None: it can go on."""
        self.task: asyncio.Task[Any] | None = None
        """Task of the handler. None: it has none that can be cancelled."""
        self.is_reporting_end = False
        """Whether the handler has ended and only its outcome is still to be sent."""
        self.is_paused = False
        """Whether the job is paused; the handler should stop at a suitable point."""

    @property
    def job_id(self) -> str:
        """Job id."""
        return self.lease.job_id

    @property
    def stage_name(self) -> str:
        """The stage's name."""
        return self.lease.stage_name

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self.lease.kind

    @property
    def queue(self) -> str:
        """Queue of the stage."""
        return self.lease.queue

    @property
    def number(self) -> int:
        """Number of the attempt, from 1."""
        return self.lease.attempt

    @property
    def fencing_token(self) -> int:
        """Fencing token. Strictly increases with each lease of the stage; third parties can refuse older ones."""
        return self.lease.fencing_token

    @cached_property
    def permits(self) -> dict[str, int]:
        """Fencing tokens, by resource, of the permits that the stage requires. The permits end with the lease."""
        return {grant.resource: grant.fencing_token for grant in self.lease.permits}

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The job's payload."""
        return from_struct(self.lease.payload)

    @cached_property
    def input(self) -> dict[str, Any]:
        """The stage's input."""
        return from_struct(self.lease.input)

    @cached_property
    def dependencies(self) -> dict[str, Dependency]:
        """The stages that this one depends on, by name."""
        return {
            item.name: Dependency(
                name=item.name,
                succeeded=item.state == job_pb2.STAGE_STATE_SUCCEEDED,
                artifacts=from_struct(item.artifacts),
                failure=item.failure if item.HasField("failure") else None,
            )
            for item in self.lease.dependencies
        }

    @property
    def stop_reason(self) -> StopReason | None:
        """Reason why the handler has to stop. None: it can go on."""
        return self._stop_reason

    def report(self, progress: float | None = None, message: str | None = None) -> None:
        """Reports progress, 0 to 1, and a message. Returns at once; the next heartbeat carries both.

        Of several reports between two heartbeats the last one counts.

        Raises:
            ValueError: the progress is not a number from 0 to 1.
            StageStopped: see `check`.
        """
        if progress is not None and not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress is a number from 0 to 1, not {progress}")
        self.check()
        self.renewal.say(progress, message)
        self._wake()

    def check(self) -> None:
        """Raises if the handler has to stop; for plain functions, because a thread cannot be cancelled.

        Raises:
            StageStopped: the handler has to stop.
        """
        if self._stop_reason is not None:
            raise StageStopped(self._stop_reason)

    def wait_stopped(self, timeout: float | None = None) -> bool:
        """Blocks a thread until the handler has to stop, at most `timeout` seconds; returns whether it has to."""
        return self._stopped.wait(timeout)

    def stop(self, reason: StopReason) -> None:
        """Cancels the handler. Called by the worker, in its event loop. Only LOST replaces an earlier reason."""
        if self.is_reporting_end:
            return
        first = self._stop_reason is None
        if first or reason is StopReason.LOST:
            self._stop_reason = reason
        self._stopped.set()
        if first:
            self.stopped_at = time.monotonic()
        if first and self.task is not None:
            self.task.cancel()


class _Renewal:
    """Expiry of a lease, its next renewal, and the progress to send. Times are on the monotonic clock."""

    def __init__(self, lease: worker_service_pb2.Lease, leased_at: float) -> None:
        self.token = lease.lease_token
        self.interval = max(0.05, seconds(lease.heartbeat_interval))
        self.expires_at = leased_at + seconds(lease.ttl)
        self.due_at = leased_at + self.interval
        self.told_at = 0.0
        self._lock = threading.Lock()
        self._progress: float | None = None
        self._message: str | None = None

    def say(self, progress: float | None, message: str | None) -> None:
        with self._lock:
            if progress is not None:
                self._progress = progress
            if message is not None:
                self._message = cut(message, 1024)

    @property
    def has_news(self) -> bool:
        with self._lock:
            return self._progress is not None or self._message is not None

    def take(self) -> worker_service_pb2.LeaseRenewal:
        """The renewal to send now."""
        with self._lock:
            renewal = worker_service_pb2.LeaseRenewal(
                lease_token=self.token, progress=self._progress, message=self._message
            )
            self._progress = self._message = None
        self.told_at = time.monotonic()
        return renewal

    def give_back(self, renewal: worker_service_pb2.LeaseRenewal) -> None:
        """Takes back a renewal that was not sent. Reports since then are newer and win."""
        with self._lock:
            if self._progress is None and renewal.HasField("progress"):
                self._progress = renewal.progress
            if self._message is None and renewal.HasField("message"):
                self._message = renewal.message
