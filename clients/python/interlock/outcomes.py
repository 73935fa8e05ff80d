"""Delivery of the ends of attempts: single ends by their own rpc, several waiting ends by one CompleteStages.

An end is sent at once while few calls are in flight; ends that arrive meanwhile are sent together when a call is done.
So a worker of few long stages makes one call per stage, and a worker of many small stages makes few calls.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from interlock.client import Client
from interlock.connection import with_request_id
from interlock.errors import DeadlineExceeded, InterlockError, from_status
from interlock.retry import can_be_repeated
from interlock.tracing import outside_of_traces
from interlock.v1 import transaction_service_pb2, worker_service_pb2

# Calls in flight at a time.
_CALLS = 4
# Up to this many waiting outcomes are sent one by one.
_FEW = 4
# The most outcomes in one CompleteStages, and the most bytes of them.
_OUTCOMES = 500
_BYTES = 1 << 20
# The shortest timeout of a call in seconds, however long its outcome has waited.
_SHORTEST = 1.0

_FIELDS: dict[type[Message], str] = {
    worker_service_pb2.CompleteStageRequest: "complete_stage",
    worker_service_pb2.FailStageRequest: "fail_stage",
    worker_service_pb2.ReleaseStageRequest: "release_stage",
}


@dataclass(frozen=True)
class _Waiting:
    """An end that waits to be sent. If the result of `sent` is True, its waiter sends it alone."""

    request: Message
    size: int
    deadline: float
    sent: asyncio.Future[bool]


class Outcomes:
    """The ends of the attempts of one worker."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: deque[_Waiting] = deque()
        self._calls = asyncio.Semaphore(_CALLS)
        self._sending: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()
        # False once the server has refused CompleteStages as unknown.
        self._has_batches = True

    async def send(self, request: Message, *, timeout: float) -> None:
        """Sends the request that ends an attempt, with retries for `timeout` seconds.

        Raises:
            InterlockError: the error of the last try.
        """
        deadline = time.monotonic() + timeout
        # Also for ends sent in a batch: each may be sent again.
        request = with_request_id(request)
        if type(request) not in _FIELDS or not self._has_batches:
            await self._alone(request, deadline)
            return
        sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, request.ByteSize(), deadline, sent))
        if self._sending is None or self._sending.done():
            # A batch belongs to no single attempt.
            with outside_of_traces():
                self._sending = asyncio.create_task(self._send_all(), name="interlock outcomes")
        try:
            is_alone = await sent
        except asyncio.CancelledError:
            if sent.done() and not sent.cancelled() and sent.exception() is None and sent.result():
                self._calls.release()
            raise
        if is_alone:
            try:
                await self._alone(request, deadline)
            finally:
                self._calls.release()

    async def _send_all(self) -> None:
        while self._waiting:
            await self._calls.acquire()
            batch = self._take(_OUTCOMES if len(self._waiting) > _FEW else 1)
            if len(batch) > 1:
                task = asyncio.create_task(self._together(batch), name="interlock outcomes together")
                self._batches.add(task)
                task.add_done_callback(self._batches.discard)
            elif batch:
                batch[0].sent.set_result(True)
            else:
                self._calls.release()

    def _take(self, most: int) -> list[_Waiting]:
        """The next ends, as many as one call holds, without those that have no waiter any more."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < most:
            if batch and size + self._waiting[0].size > _BYTES:
                break
            waiting = self._waiting.popleft()
            if not waiting.sent.done():
                batch.append(waiting)
                size += waiting.size
        return batch

    async def _together(self, batch: list[_Waiting]) -> None:
        request = worker_service_pb2.CompleteStagesRequest()
        for waiting in batch:
            getattr(request.outcomes.add(), _FIELDS[type(waiting.request)]).CopyFrom(waiting.request)
        try:
            timeout = _left(max(waiting.deadline for waiting in batch))
            response = await self._client.call(self._client.workers.CompleteStages, request, timeout=timeout)
            alone = _told(batch, response)
        except InterlockError as error:
            alone = self._refused(batch, error)
        finally:
            self._calls.release()
        for waiting in alone:
            await self._calls.acquire()
            if waiting.sent.done():
                self._calls.release()
            else:
                waiting.sent.set_result(True)

    def _refused(self, batch: list[_Waiting], error: InterlockError) -> list[_Waiting]:
        """The ends to send alone after the server has refused a whole batch."""
        if error.code is grpc.StatusCode.UNIMPLEMENTED:
            self._has_batches = False
        if can_be_repeated(error) or isinstance(error, DeadlineExceeded):
            for waiting in batch:
                _done(waiting, error)
            return []
        # The batch may be too large.
        return batch

    async def _alone(self, request: Message, deadline: float) -> None:
        methods: dict[type[Message], Any] = {
            worker_service_pb2.CompleteStageRequest: self._client.workers.CompleteStage,
            worker_service_pb2.FailStageRequest: self._client.workers.FailStage,
            worker_service_pb2.ReleaseStageRequest: self._client.workers.ReleaseStage,
            transaction_service_pb2.CommitRequest: self._client.transactions.Commit,
        }
        await self._client.call(methods[type(request)], request, timeout=_left(deadline))


def _told(batch: list[_Waiting], response: worker_service_pb2.CompleteStagesResponse) -> list[_Waiting]:
    """Gives each waiter its result; returns the ends to send again, alone."""
    again: list[_Waiting] = []
    for waiting, result in zip(batch, response.results, strict=True):
        error = from_status(result.status)
        if error is not None and can_be_repeated(error):
            again.append(waiting)
        else:
            _done(waiting, error)
    return again


def _left(deadline: float) -> float:
    return max(_SHORTEST, deadline - time.monotonic())


def _done(waiting: _Waiting, error: InterlockError | None = None) -> None:
    if waiting.sent.done():
        return
    if error is None:
        waiting.sent.set_result(False)
    else:
        waiting.sent.set_exception(error)
