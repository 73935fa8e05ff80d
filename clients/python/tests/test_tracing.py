"""One trace from a worker through the group commit of the server, read from a collector."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
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
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from interlock import Attempt, Client, Field, NotFound, ServerError, Worker
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


def calls(rpc: str) -> Callable[[Span], bool]:
    """Whether a span is the client's of an rpc."""
    return lambda span: span.name.endswith(f"/{rpc}") and span.kind == Span.SPAN_KIND_CLIENT


def serves(rpc: str) -> Callable[[Span], bool]:
    """Whether a span is the server's of an rpc."""
    return lambda span: span.name.endswith(f"/{rpc}") and span.kind != Span.SPAN_KIND_CLIENT


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

            calling = await spans.span("the call of SubmitJob", calls("SubmitJob"))
            assert calling.parent_span_id == studio.get_span_context().span_id.to_bytes(8, "big")
            submit = await spans.span("SubmitJob", serves("SubmitJob"))
            assert (submit.trace_id, submit.parent_span_id) == (calling.trace_id, calling.span_id)

            attempt = await spans.span("the attempt", named("attempt voice"))
            assert attempt.kind == Span.SPAN_KIND_CONSUMER
            assert attribute(attempt, "interlock.job_id") == job.job_id
            assert attribute(attempt, "interlock.worker_id") == "w-1"
            assert not attempt.parent_span_id
            studio_id = studio.get_span_context().span_id.to_bytes(8, "big")
            assert [(link.trace_id, link.span_id) for link in attempt.links] == [(calling.trace_id, studio_id)]

            completing = await spans.span("the call of CompleteStage", calls("CompleteStage"))
            assert (completing.trace_id, completing.parent_span_id) == (attempt.trace_id, attempt.span_id)
            complete = await spans.span("CompleteStage", serves("CompleteStage"))
            assert (complete.trace_id, complete.parent_span_id) == (completing.trace_id, completing.span_id)
            assert attribute(complete, "interlock.namespace") == "default"
            speaking = await spans.span("the span of the handler itself", named("speak"))
            assert (speaking.trace_id, speaking.parent_span_id) == (attempt.trace_id, attempt.span_id)
            updating = await spans.span("the call of UpdateRecord", calls("UpdateRecord"))
            assert updating.parent_span_id == speaking.span_id
            update = await spans.span("UpdateRecord", serves("UpdateRecord"))
            assert update.parent_span_id == updating.span_id

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


@pytest.fixture
def finished(provider: TracerProvider) -> InMemorySpanExporter:
    """The spans that have ended."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


async def test_calls_have_client_spans_with_their_status(
    finished: InMemorySpanExporter, provider: TracerProvider, client: Client
) -> None:
    with provider.get_tracer("test").start_as_current_span("studio") as studio:
        job = await client.submit_job("film")
        with pytest.raises(NotFound):
            await client.get_job("absent")
    spans = {span.name: span for span in finished.get_finished_spans()}
    submit, get = spans["interlock.v1.JobService/SubmitJob"], spans["interlock.v1.JobService/GetJob"]
    for span in (submit, get):
        assert span.kind is trace.SpanKind.CLIENT
        assert span.parent == studio.get_span_context()
        assert span.attributes is not None
        assert span.attributes["rpc.service"] == "interlock.v1.JobService"
    assert submit.attributes is not None
    assert submit.attributes["rpc.grpc.status_code"] == 0
    assert submit.status.is_unset
    assert get.attributes is not None
    assert get.attributes["rpc.grpc.status_code"] == 5
    assert get.attributes["interlock.reason"] == "JOB_NOT_FOUND"
    assert get.status.status_code is trace.StatusCode.ERROR
    assert job.labels["traceparent"].split("-")[2] == format(studio.get_span_context().span_id, "016x")


async def test_without_a_current_span_nothing_changes(
    finished: InMemorySpanExporter, provider: TracerProvider, client: Client
) -> None:
    job = await client.submit_job("film", labels={"customer": "acme"})
    assert dict((await client.get_job(job.job_id)).labels) == {"customer": "acme"}
    assert finished.get_finished_spans() == ()


async def test_a_request_id_of_the_caller_can_be_repeated_from_another_span(
    provider: TracerProvider, client: Client
) -> None:
    request_id, jobs = str(uuid.uuid4()), []
    for name in ("first", "second"):
        with provider.get_tracer("test").start_as_current_span(name):
            jobs.append(await client.submit_job("film", request_id=request_id))
    assert jobs[0].job_id == jobs[1].job_id
    assert not jobs[0].labels


async def test_a_label_that_is_no_traceparent_is_no_link(
    finished: InMemorySpanExporter, provider: TracerProvider, client: Client
) -> None:
    stage = job_pb2.StageSpec(name="voice", queue="traced-label")
    await client.submit_job("film", stages=[stage], labels={"traceparent": "mine"})
    worker = Worker(client, ["traced-label"])
    await worker.run(lambda attempt: worker.stop(), handle_signals=False)
    [attempt] = [span for span in finished.get_finished_spans() if span.name == "attempt voice"]
    assert attempt.links == ()


def test_without_opentelemetry_all_works_and_nothing_is_named() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None  # As if it were not installed: importing it raises ImportError.
from interlock import Client, Worker
from interlock.tracing import attempt_span, call_span, with_trace, with_trace_label
assert with_trace_label({"a": "b"}, None) == {"a": "b"}
with call_span(None):
    pass
assert with_trace((("a", "b"),)) == (("a", "b"),)
with attempt_span(None, "w") as failed:
    failed(ValueError())
"""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=60)
