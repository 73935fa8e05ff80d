"""The connection to a server, and calls of any rpc through it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from interlock.access import Access, Pem
from interlock.arguments import pairs
from interlock.outage import Outage
from interlock.retry import Backoff, repeat
from interlock.stream import Call, Stream
from interlock.tracing import call_span, with_trace
from interlock.v1 import (
    admin_service_pb2_grpc,
    job_service_pb2_grpc,
    permit_service_pb2_grpc,
    record_service_pb2_grpc,
    timeline_service_pb2_grpc,
    transaction_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Servers of gRPC's core library punish pings on connections without calls, and more of them than these.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # A short backoff, so that a restarted server is found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # This package retries by itself, because only it knows which calls are safe.
    ("grpc.enable_retries", 0),
)
# The longest wait in seconds of one LeaseStages, WaitJob or AcquirePermit, and the margin of the call's deadline over
# it. Proxies usually close streams that are silent for 60 s, so longer waits are made of several calls.
LONGEST_WAIT = 50.0
WAIT_MARGIN = 10.0
# Three times the default keepalive of the server (20 s).
SILENCE = 60.0
# Longer than a failover of the database or a restart of a server takes.
PATIENCE = 120.0


class Connection:
    """Base of `Client`: the channel, the stubs, and calls with retries."""

    def __init__(
        self,
        address: str | None = None,
        *,
        namespace: str | None = None,
        api_key: str | None = None,
        ca: Pem | None = None,
        certificate: Pem | None = None,
        private_key: Pem | None = None,
        timeout: float = 30.0,
        backoff: Backoff | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Iterable[tuple[str, str]] = (),
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """Prepares the connection; the first call opens it.

        If no server answers, `interlock.client` logs a warning within a second, and calls are retried until their
        timeout, so a server that restarts, or starts later than this program, is found.

        Args:
            address: `https://HOST:PORT`, or without TLS `http://HOST:PORT` or `HOST:PORT`, or any name that gRPC
                resolves, such as `ipv4:10.0.0.1:50051,10.0.0.2:50051` for two servers, of which the first that answers
                is used. None: INTERLOCK_SERVER, else `127.0.0.1:50051`.
            namespace: namespace of jobs, queues, records and resources. None: INTERLOCK_NAMESPACE, else `default`.
            api_key: sent with each call as `authorization: Bearer KEY`, over plaintext too, with a warning in the log
                unless the server is on this machine. None: INTERLOCK_API_KEY, else none.
            ca: the certificate authorities that the server is checked against: the path of a PEM file, or its content
                as bytes. None: INTERLOCK_CA, else those that gRPC comes with.
            certificate: the client certificate to show, with its chain, in the same form. None: INTERLOCK_CERT, else
                none.
            private_key: its private key, in the same form. None: INTERLOCK_CERT_KEY.
            timeout: seconds for one call, retries included, unless the call says otherwise.
            backoff: waits between retries.
            credentials: TLS credentials in place of `ca`, `certificate` and `private_key`, with any address but http.
            metadata: pairs of key and value sent with each call.
            options: channel options, added to those of this package; on a conflict these apply.

        Raises:
            ValueError: `address`, a TLS file or the key can never work, such as an address without a port.
            OSError: a PEM file cannot be read.
            TypeError: an element of `metadata` is not a pair.
        """
        access = Access(
            address,
            namespace=namespace,
            api_key=api_key,
            ca=ca,
            certificate=certificate,
            private_key=private_key,
            credentials=credentials,
        )
        self.address = access.address
        self.timeout = timeout
        self._outage = Outage(self.address, self._until_ready)
        self._backoff = backoff or Backoff()
        self._metadata: tuple[tuple[str, str], ...] = tuple(
            (str(key), value) for key, value in pairs(metadata, "metadata", '[("key", "value")]')
        )
        if access.namespace is not None:
            self._metadata += (("interlock-namespace", access.namespace),)
        if access.authorization is not None and all(key.lower() != "authorization" for key, _ in self._metadata):
            # Not as call credentials, which gRPC refuses to send to a plaintext server.
            self._metadata += (("authorization", access.authorization),)
        defaults: dict[str, Any] = dict(_OPTIONS)
        if "," in access.target:
            # Without this gRPC sends the whole list as the authority, which is not a valid name.
            defaults["grpc.default_authority"] = access.target.partition(":")[2].partition(",")[0]
        merged = [*{**defaults, **dict(options)}.items()]
        if access.credentials is None:
            self.channel = grpc.aio.insecure_channel(access.target, options=merged)
        else:
            self.channel = grpc.aio.secure_channel(access.target, access.credentials, options=merged)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.workers = worker_service_pb2_grpc.WorkerServiceStub(self.channel)
        self.records = record_service_pb2_grpc.RecordServiceStub(self.channel)
        self.transactions = transaction_service_pb2_grpc.TransactionServiceStub(self.channel)
        self.permits = permit_service_pb2_grpc.PermitServiceStub(self.channel)
        self.timelines = timeline_service_pb2_grpc.TimelineServiceStub(self.channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._outage.close()
        await self.channel.close()

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        """Calls any unary rpc, as in `client.call(client.jobs.PauseJob, PauseJobRequest(job_id=...))`.

        All retries carry the same request id: the one of the request, or a new one.

        Raises:
            InterlockError: the error of the last try.
        """
        request = with_request_id(request)

        async def attempt(remaining: float) -> Response:
            return await method(request, timeout=remaining, metadata=with_trace(self._metadata))

        with call_span(request):
            return await self._repeat(attempt, self.timeout if timeout is None else timeout)

    async def _pages(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Any
    ) -> AsyncIterator[Response]:
        """Iterates over the pages of a list. The request gets the token of each page after the first."""
        while True:
            page: Any = await self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _repeat(self, attempt: Callable[[float], Awaitable[Result]], timeout: float) -> Result:
        """Repeats an attempt as `repeat` does, and tells the log whether a server answers."""

        async def answered(remaining: float) -> Result:
            result = await attempt(remaining)
            self._outage.is_over()
            return result

        return await repeat(answered, timeout=timeout, backoff=self._backoff, notice=self._outage.notice)

    async def _until_ready(self) -> None:
        """Waits until a new connection stands. One that stands already leads to no server, as of a proxy."""
        ready = grpc.ChannelConnectivity.READY
        state = before = self.channel.get_state()
        while state is not ready or before is ready:
            await self.channel.wait_for_state_change(state)
            before, state = state, self.channel.get_state()

    def _stream(
        self, begin: Callable[[], Call[Any]], *, silence: float = SILENCE, patience: float | None = PATIENCE
    ) -> Stream[Any]:
        """A stream that is restarted when it breaks."""
        return Stream(begin, backoff=self._backoff, silence=silence, patience=patience, outage=self._outage)


def with_request_id(request: Request) -> Request:
    """A copy of the request with a new request id, if its field for one is unset; the server refuses an empty id."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.HasField("request_id"):
        return request
    if isinstance(request, worker_service_pb2.CompleteStagesRequest) and not request.all_or_none:
        # CompleteStages: each outcome has a request id of its own.
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    setattr(copy, "request_id", str(uuid.uuid4()))  # noqa: B010
    return copy
