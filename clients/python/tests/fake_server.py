"""A server for tests of the client alone: real gRPC, answers as the test tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from interlock.documents import to_duration, to_struct
from interlock.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    record_pb2,
    record_service_pb2,
    record_service_pb2_grpc,
    timeline_pb2,
    timeline_service_pb2,
    timeline_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

CONTINUE = worker_service_pb2.LEASE_DIRECTIVE_CONTINUE


class Refusal(Exception):
    """What a call is to fail with, in the form of the real server; without a reason as from a proxy."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        *,
        metadata: Mapping[str, str] | None = None,
        pushback_ms: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.message = f"refused: {reason}…"
        details: list[Message] = []
        if reason:
            pairs = {"outcome": "NOT_APPLIED", **(metadata or {})}
            details.append(error_details_pb2.ErrorInfo(reason=reason, domain="interlock", metadata=pairs))
        self.trailers: list[tuple[str, str | bytes]] = []
        if field is not None:
            violation = error_details_pb2.BadRequest.FieldViolation(field=field, description="is wrong")
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if pushback_ms is not None:
            self.trailers.append(("grpc-retry-pushback-ms", str(pushback_ms)))
        if pushback_ms is not None and pushback_ms >= 0:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(pushback_ms)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        self.status = status_pb2.Status(code=code.value[0], message=self.message, details=packed)
        self.trailers.append(("grpc-status-details-bin", self.status.SerializeToString()))


class Hang:
    """In the script of a stream: nothing comes any more, until the client ends it."""


Script = Sequence[Message | Refusal | Hang]


class FakeServer(
    job_service_pb2_grpc.JobServiceServicer,
    record_service_pb2_grpc.RecordServiceServicer,
    timeline_service_pb2_grpc.TimelineServiceServicer,
    worker_service_pb2_grpc.WorkerServiceServicer,
):
    """Hands out the leases that are put into it, and remembers all calls."""

    def __init__(self) -> None:
        self.address = ""
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.refusals: list[Refusal] = []
        """The next calls, except for work and by heartbeat, fail with these."""
        self.lacks: set[str] = set()
        """Rpcs that it does not know."""
        self.refused_outcomes: dict[str, Refusal] = {}
        """The next outcomes in CompleteStages, by lease token, are refused with these."""
        self.streams: list[Script] = []
        """What the next watches tell; after its last message a stream ends with OK."""
        self.no_work: list[Refusal] = []
        """The next calls for work fail with these."""
        self.granted: list[worker_service_pb2.Lease] = []
        """Leases returned to a repeated LeaseStages without a wait, as granted before."""
        self.left = 0
        """Streams that the client has ended."""
        self.work: asyncio.Queue[worker_service_pb2.Lease] = asyncio.Queue()
        self.directive: Callable[[str], worker_service_pb2.LeaseDirective.ValueType] = lambda token: CONTINUE
        self.heartbeats_fail = False
        self.stop: Callable[[], Awaitable[None]]
        """Ends it and all calls."""
        self._called = asyncio.Condition()

    def offer(
        self, token: str = "t", *, ttl: float = 10.0, interval: float = 0.05, isolated: bool = False, **fields: Any
    ) -> None:
        """Something to lease."""
        lease = worker_service_pb2.Lease(
            lease_token=token,
            fencing_token=7,
            job_id="job",
            stage_name=f"stage-{token}",
            attempt=1,
            input=to_struct(fields),
            ttl=to_duration(ttl),
            heartbeat_interval=to_duration(interval),
            isolated=isolated,
        )
        self.work.put_nowait(lease)

    def of(self, name: str) -> list[Any]:
        """The calls of one rpc so far."""
        return [request for called, request in self.calls if called == name]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something is true after a call, for at most 10 s."""
        async with self._called:
            await asyncio.wait_for(self._called.wait_for(holds), 10)

    async def _note(self, name: str, request: Message, context: Any) -> None:
        async with self._called:
            self.calls.append((name, request))
            self.metadata.append(dict(context.invocation_metadata()))
            self._called.notify_all()
        if name in self.lacks:
            await self._refuse(context, Refusal(grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"))
        if name not in {"LeaseStages", "Heartbeat"} and self.refusals:
            await self._refuse(context, self.refusals.pop(0))

    @staticmethod
    async def _refuse(context: Any, refusal: Refusal) -> None:
        await context.abort(refusal.code, refusal.message, tuple(refusal.trailers))

    async def GetJob(self, request: Any, context: Any) -> Any:
        await self._note("GetJob", request, context)
        return job_service_pb2.GetJobResponse(job=job_pb2.Job(job_id=request.job_id))

    async def WaitJob(self, request: Any, context: Any) -> Any:
        await self._note("WaitJob", request, context)
        await asyncio.sleep(request.wait.ToMilliseconds() / 1e3)
        return job_service_pb2.WaitJobResponse(job=job_pb2.Job(job_id=request.job_id))

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in self._play("WatchJob", request, context):
            yield message

    async def WatchJobs(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in self._play("WatchJobs", request, context):
            yield message

    async def WatchRecords(self, request: Any, context: Any) -> AsyncIterator[Any]:
        asked = {(it.collection, it.record_id): it for it in request.records}
        async for message in self._play("WatchRecords", request, context):
            update = getattr(message, message.WhichOneof("update"))
            held = None if message.HasField("keepalive") else asked.pop((update.collection, update.record_id), None)
            # So that a script can say how records are, as the real server finds them, not what is new to the client.
            if held is not None and message.HasField("record") and _has(held, update):
                continue
            yield message

    async def WatchSession(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in self._play("WatchSession", request, context):
            yield message

    async def ExportTimeline(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for message in self._play("ExportTimeline", request, context):
            yield message

    async def ImportSegments(self, requests: Any, context: Any) -> Any:
        messages = [message async for message in requests]
        await self._note("ImportSegments", messages[0], context)
        count = sum(len(message.segments) for message in messages)
        return timeline_service_pb2.ImportSegmentsResponse(applied_count=count)

    async def CreateSession(self, request: Any, context: Any) -> Any:
        await self._note("CreateSession", request, context)
        return timeline_service_pb2.CreateSessionResponse(session=timeline_pb2.Session(session_id=request.session_id))

    async def GetSession(self, request: Any, context: Any) -> Any:
        await self._note("GetSession", request, context)
        return timeline_service_pb2.GetSessionResponse(session=timeline_pb2.Session(session_id=request.session_id))

    async def _play(self, name: str, request: Any, context: Any) -> AsyncIterator[Message]:
        script = self.streams.pop(0) if self.streams else [Hang()]
        await self._note(name, request, context)
        for item in script:
            match item:
                case Refusal():
                    await self._refuse(context, item)
                case Hang():
                    try:
                        await asyncio.Event().wait()
                    finally:
                        self.left += 1
                        async with self._called:
                            self._called.notify_all()
                case _:
                    yield item

    async def SubmitJob(self, request: Any, context: Any) -> Any:
        await self._note("SubmitJob", request, context)
        return job_service_pb2.SubmitJobResponse(job=job_pb2.Job(job_id="new", kind=request.kind))

    async def LeaseStages(self, request: Any, context: Any) -> Any:
        await self._note("LeaseStages", request, context)
        if self.no_work:
            await self._refuse(context, self.no_work.pop(0))
        if not request.wait.ToMilliseconds():
            return worker_service_pb2.LeaseStagesResponse(leases=self.granted, replayed=bool(self.granted))
        leases = [await self.work.get()]
        while len(leases) < request.max_stages and not self.work.empty():
            leases.append(self.work.get_nowait())
        return worker_service_pb2.LeaseStagesResponse(leases=leases)

    async def Heartbeat(self, request: Any, context: Any) -> Any:
        await self._note("Heartbeat", request, context)
        if self.heartbeats_fail:
            await self._refuse(context, Refusal(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"))
        statuses = []
        for renewal in request.renewals:
            directive = self.directive(renewal.lease_token)
            statuses.append(worker_service_pb2.LeaseStatus(directive=directive, ttl=to_duration(10)))
        return worker_service_pb2.HeartbeatResponse(statuses=statuses)

    async def CompleteStage(self, request: Any, context: Any) -> Any:
        await self._note("CompleteStage", request, context)
        return worker_service_pb2.CompleteStageResponse(applied=True)

    async def CompleteStages(self, request: Any, context: Any) -> Any:
        await self._note("CompleteStages", request, context)
        results = []
        for outcome in request.outcomes:
            token = getattr(outcome, outcome.WhichOneof("outcome")).target.lease_token
            refusal = self.refused_outcomes.pop(token, None)
            status = status_pb2.Status() if refusal is None else refusal.status
            results.append(worker_service_pb2.StageOutcomeResult(status=status, applied=refusal is None))
        return worker_service_pb2.CompleteStagesResponse(results=results)

    async def FailStage(self, request: Any, context: Any) -> Any:
        await self._note("FailStage", request, context)
        return worker_service_pb2.FailStageResponse(applied=True)

    async def ReleaseStage(self, request: Any, context: Any) -> Any:
        await self._note("ReleaseStage", request, context)
        return worker_service_pb2.ReleaseStageResponse(applied=True)


def _has(held: record_service_pb2.WatchedRecord, record: record_pb2.Record) -> bool:
    """Whether a client that asks like this has the record as it is."""
    is_same = not held.HasField("from_create_time") or held.from_create_time == record.create_time
    return is_same and held.from_version == record.version


@asynccontextmanager
async def fake_server(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[FakeServer]:
    """Starts one on a port of its own, with TLS if there are credentials."""
    fake = FakeServer()  # type: ignore[abstract]  # The rpcs that are left out are UNIMPLEMENTED.
    server = grpc.aio.server()
    fake.stop = lambda: server.stop(None)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(fake, server)
    record_service_pb2_grpc.add_RecordServiceServicer_to_server(fake, server)
    timeline_service_pb2_grpc.add_TimelineServiceServicer_to_server(fake, server)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(fake, server)
    port = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    fake.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
