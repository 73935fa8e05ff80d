"""The connection to a server, and how any rpc is called through it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from interlock.access import Access, Pem
from interlock.arguments import pairs
from interlock.outage import Outage
from interlock.retry import Backoff, repeat
from interlock.stream import Call, Stream
from interlock.tracing import with_trace
from interlock.v1 import (
    admin_service_pb2_grpc,
    job_service_pb2_grpc,
    permit_service_pb2_grpc,
    record_service_pb2_grpc,
    transaction_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Servers of gRPC's core library punish pings on connections without calls, and more of them than these.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # A server that restarts is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Retries are ours: only we know which calls are safe.
    ("grpc.enable_retries", 0),
)
# The longest wait in seconds that one LeaseStages, WaitJob or AcquirePermit asks for, and how much later the call's
# deadline is than that. Proxies usually end what has been silent for 60 s. Longer waits are made of several calls.
LONGEST_WAIT = 50.0
WAIT_MARGIN = 10.0
# A server says every 20 s that a stream lives. This is three times that.
SILENCE = 60.0
# Longer than a failover of the database takes, and the restart of a server.
PATIENCE = 120.0


class Connection:
    """What `Client` is made of: the channel, the stubs, and calls that are repeated."""

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
        """Describes the connection; it is made by the first call.

        If no server answers, the log says so within a second, as a warning of `interlock.client`, and calls go on
        trying until their time is over: a server that restarts, or starts later than this program, is found.

        Args:
            address: `https://HOST:PORT`, or without TLS `http://HOST:PORT` or `HOST:PORT`, or any name that gRPC
                resolves, such as `ipv4:10.0.0.1:50051,10.0.0.2:50051` for two servers, of which the first that answers
                is used. None: INTERLOCK_SERVER, else `127.0.0.1:50051`.
            namespace: where jobs and queues live. None: INTERLOCK_NAMESPACE, else `default`.
            api_key: sent with each call as `authorization: Bearer KEY`, over plaintext too, with a warning in the log
                unless the server is on this machine. None: INTERLOCK_API_KEY, else none.
            ca: the certificate authorities that the server is checked against: the path of a PEM file, or its content
                as bytes. None: INTERLOCK_CA, else those that gRPC comes with.
            certificate: the client certificate to show, with its chain, in the same form. None: INTERLOCK_CERT, else
                none.
            private_key: its private key, in the same form. None: INTERLOCK_CERT_KEY.
            timeout: seconds for one call, retries included, unless the call says otherwise.
            backoff: the waits between retries.
            credentials: for TLS, in place of `ca`, `certificate` and `private_key`, with any address but http.
            metadata: sent with each call.
            options: for the channel, besides and over those of this package.

        Raises:
            ValueError: `address` can never work, such as one without a port, or the files of TLS or the key cannot.
            OSError: a PEM file cannot be read.
            TypeError: `metadata` is not pairs.
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
        self._outage = Outage(self.address)
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
            # Else the whole list would be sent as the name of the server, which is none.
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
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def close(self) -> None:
        """Ends the connection; calls that are under way are cancelled."""
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
            InterlockError: what the server said last.
        """
        request = with_request_id(request)

        async def attempt(remaining: float) -> Response:
            response = await method(request, timeout=remaining, metadata=with_trace(self._metadata))
            self._outage.is_over()
            return response

        return await repeat(
            attempt,
            timeout=self.timeout if timeout is None else timeout,
            backoff=self._backoff,
            notice=self._outage.notice,
        )

    def _stream(
        self, begin: Callable[[], Call[Any]], *, silence: float = SILENCE, patience: float | None = PATIENCE
    ) -> Stream[Any]:
        """A stream that is begun again when it breaks."""
        return Stream(begin, backoff=self._backoff, silence=silence, patience=patience, outage=self._outage)


def with_request_id(request: Request) -> Request:
    """The request with a request id, if it has room for one and has none; the server refuses one that is empty."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.HasField("request_id"):
        return request
    if isinstance(request, worker_service_pb2.CompleteStagesRequest) and not request.all_or_none:
        # Then each outcome can have one of its own.
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    setattr(copy, "request_id", str(uuid.uuid4()))  # noqa: B010
    return copy
