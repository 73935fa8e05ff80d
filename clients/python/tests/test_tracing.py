"""One trace from a worker through the group commit of the server, read from a collector."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from interlock import Attempt, Client, Field, ServerError, Worker
from interlock.v1 import job_pb2
from tests.real_server import Database, beside

Span = trace_pb2.Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._came = asyncio.Event()

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self._came.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def span(self, what: str, is_it: Callable[[Span], bool]) -> Span:
        """Waits for a span."""
        while True:
            self._came.clear()
            for span in self.spans:
                if is_it(span):
                    return span
            try:
                await asyncio.wait_for(self._came.wait(), 30)
            except asyncio.TimeoutError:
                raise AssertionError(f"not in time: {what}; there is {[span.name for span in self.spans]}") from None


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield collector, f"http://127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """What a program sets up to have its spans sent; here for one test."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield provider
    provider.shutdown()


def named(name: str) -> Callable[[Span], bool]:
    """Whether a span has this name."""
    return lambda span: span.name == name


def attribute(span: Span, key: str) -> Any:
    """An attribute of a span. None: it has none of this name."""
    for found in span.attributes:
        if found.key == key:
            return getattr(found.value, str(found.value.WhichOneof("value")))
    return None


async def test_a_trace_goes_from_the_handler_through_the_group_commit(
    collector: tuple[Collector, str], provider: TracerProvider, database: Database
) -> None:
    spans, url = collector
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, insecure=True), schedule_delay_millis=100))
    arguments = ("--otlp-endpoint", url, "--otlp-sample-ratio", "0")
    with beside(database, *arguments) as server:
        async with Client(server.address, namespace="default") as client:
            with provider.get_tracer("test").start_as_current_span("studio") as studio:
                job = await client.submit_job("film", stages=[job_pb2.StageSpec(name="voice", queue="traced")])
            worker = Worker(client, ["traced"], "w-1")

            async def speak(attempt: Attempt) -> None:
                with provider.get_tracer("test").start_as_current_span("speak"):
                    await client.update_record("films", attempt.job_id, Field("url").set("s3"), allow_missing=True)
                worker.stop()

            await worker.run(speak, handle_signals=False)
            await client.get_job(job.job_id)

            submit = await spans.span("SubmitJob", named("interlock.v1.JobService/SubmitJob"))
            assert submit.parent_span_id == studio.get_span_context().span_id.to_bytes(8, "big")

            attempt = await spans.span("the attempt", named("attempt voice"))
            assert attempt.kind == Span.SPAN_KIND_CONSUMER
            assert attribute(attempt, "interlock.job_id") == job.job_id
            assert attribute(attempt, "interlock.worker_id") == "w-1"
            assert not attempt.parent_span_id

            complete = await spans.span("CompleteStage", named("interlock.v1.WorkerService/CompleteStage"))
            assert (complete.trace_id, complete.parent_span_id) == (attempt.trace_id, attempt.span_id)
            assert attribute(complete, "interlock.namespace") == "default"
            speaking = await spans.span("the span of the handler itself", named("speak"))
            assert (speaking.trace_id, speaking.parent_span_id) == (attempt.trace_id, attempt.span_id)
            update = await spans.span("UpdateRecord", named("interlock.v1.RecordService/UpdateRecord"))
            assert update.parent_span_id == speaking.span_id

            def links_to_it(span: Span) -> bool:
                links = ((link.trace_id, link.span_id) for link in span.links)
                return span.name == "group commit" and (complete.trace_id, complete.span_id) in links

            group = await spans.span("the group", links_to_it)
            assert attribute(group, "interlock.outcome") == "applied"
            # The call was made outside of any span.
            assert not any(span.name.endswith("GetJob") for span in spans.spans)


async def test_a_handler_that_fails_is_an_error_of_its_span(
    collector: tuple[Collector, str], provider: TracerProvider, client: Client
) -> None:
    spans, url = collector
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, insecure=True), schedule_delay_millis=100))
    await client.submit_job("film", stages=[job_pb2.StageSpec(name="voice", queue="traced-failing")])
    worker = Worker(client, ["traced-failing"])

    def speak(attempt: Attempt) -> None:
        worker.stop()
        raise ServerError("HTTP 503")

    await worker.run(speak, handle_signals=False)
    attempt = await spans.span("the attempt", lambda span: span.name == "attempt voice")
    assert attempt.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert [event.name for event in attempt.events] == ["exception"]


def test_without_opentelemetry_all_works_and_nothing_is_named() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None  # As if it were not installed: importing it raises ImportError.
from interlock import Client, Worker
from interlock.tracing import attempt_span, with_trace
assert with_trace((("a", "b"),)) == (("a", "b"),)
with attempt_span(None, "w") as failed:
    failed(ValueError())
"""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=60)
