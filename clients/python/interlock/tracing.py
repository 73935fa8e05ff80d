"""Traces with OpenTelemetry: client spans of calls, and a span for each attempt of a worker, linked to the job's trace.

Without the package `opentelemetry-api` this module does nothing. With it, spans are recorded if the program
has set up an SDK of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.message import Message

from interlock.errors import InterlockError

if TYPE_CHECKING:
    from interlock.lease import Attempt

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True
    # Jobs carry the format of W3C, whatever the program propagates.
    _W3C = TraceContextTextMapPropagator()

Metadata: TypeAlias = tuple[tuple[str, str], ...]

# Name of the tracer.
_NAME = "interlock"
TRACE_LABEL = "traceparent"
"""Label of a job with the span that submitted it."""
# Labels that a job may have.
_MAX_LABELS = 64


def with_trace(metadata: Metadata) -> Metadata:
    """The metadata of a call with the `traceparent` of the current span."""
    if not _IS_INSTALLED:
        return metadata
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    # HTTP/2 header names are lowercase.
    return metadata + tuple((key.lower(), value) for key, value in carrier.items())


def with_trace_label(labels: Mapping[str, str] | None, request_id: str | None) -> Mapping[str, str]:
    """The labels of a new job with its trace, if there is a current span.

    A submission with a request id of the caller is left as it is: repeated from another span, it would have other
    content, and be refused.
    """
    labels = labels or {}
    if not _IS_INSTALLED or request_id is not None or TRACE_LABEL in labels or len(labels) >= _MAX_LABELS:
        return labels
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    # Empty without a current span.
    return {**labels, TRACE_LABEL: carrier["traceparent"]} if carrier else labels


@contextmanager
def call_span(request: Message) -> Iterator[None]:
    """The client span of a unary call with all its retries. Without a current span there is none."""
    if not _IS_INSTALLED or not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    service, method = _rpc(request)
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span(
        f"{service}/{method}",
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except InterlockError as error:
            span.set_attribute("rpc.grpc.status_code", error.code.value[0])
            if error.reason:
                span.set_attribute("interlock.reason", error.reason)
            span.set_status(trace.StatusCode.ERROR, str(error))
            raise
        span.set_attribute("rpc.grpc.status_code", 0)


def _rpc(request: Message) -> tuple[str, str]:
    """Full name of the service, and name of the rpc, that takes such a request."""
    found = request.DESCRIPTOR
    for service in found.file.services_by_name.values():
        for method in service.methods:
            if method.input_type is found:
                return service.full_name, method.name
    return found.file.package, found.name.removesuffix("Request")


@contextmanager
def outside_of_traces() -> Iterator[None]:
    """Context without a span, for tasks that serve several callers."""
    if not _IS_INSTALLED:
        yield
        return
    token = context.attach(context.Context())
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def attempt_span(attempt: Attempt, worker_id: str) -> Iterator[Callable[[BaseException], None]]:
    """The span of an attempt, until its outcome is sent.

    It starts a trace, with a link to the span that submitted the job: a lease belongs to no call. Yields a function
    that records the error of the handler.
    """
    if not _IS_INSTALLED:
        yield lambda _: None
        return
    attributes: dict[str, str | int] = {
        "interlock.job_id": attempt.job_id,
        "interlock.stage_name": attempt.stage_name,
        "interlock.kind": attempt.kind,
        "interlock.queue": attempt.queue,
        "interlock.attempt": attempt.number,
        "interlock.worker_id": worker_id,
    }
    carrier = {"traceparent": attempt.lease.labels.get(TRACE_LABEL, "")}
    submitter = trace.get_current_span(_W3C.extract(carrier, context.Context())).get_span_context()
    links = [trace.Link(submitter)] if submitter.is_valid else []
    tracer = trace.get_tracer(_NAME)
    name, kind = f"attempt {attempt.stage_name}", trace.SpanKind.CONSUMER
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes, links=links) as span:

        def failed(error: BaseException) -> None:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)

        yield failed
