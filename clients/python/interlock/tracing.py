"""Traces with OpenTelemetry: calls carry the current span, and each attempt of a worker has a span.

Without the package `opentelemetry-api` this module does nothing. With it, spans are recorded if the program
has set up an SDK of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from interlock.lease import Attempt

try:
    from opentelemetry import context, propagate, trace
except ImportError:
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True

Metadata: TypeAlias = tuple[tuple[str, str], ...]

# Name of the tracer.
_NAME = "interlock"


def with_trace(metadata: Metadata) -> Metadata:
    """The metadata of a call with the `traceparent` of the current span."""
    if not _IS_INSTALLED:
        return metadata
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    # HTTP/2 header names are lowercase.
    return metadata + tuple((key.lower(), value) for key, value in carrier.items())


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
    """The span of an attempt, until its outcome is sent. It starts a trace, because a lease belongs to no call.

    Yields a function that records the error of the handler.
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
    tracer = trace.get_tracer(_NAME)
    name, kind = f"attempt {attempt.stage_name}", trace.SpanKind.CONSUMER
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:

        def failed(error: BaseException) -> None:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)

        yield failed
