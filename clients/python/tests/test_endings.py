"""Whatever a handler returns or raises, its stage ends with a reason of its own, against the real server."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

import interlock
from interlock import Attempt, Client, Completion, FailureClass, RateLimited, ServerError, StageError, Worker
from interlock.v1 import job_pb2, job_service_pb2

# A stage ends at once; this is what a busy machine may add. Its lease of 90 s ends far later.
SOON = 20.0


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"x": 1}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


def deep_stage() -> job_pb2.StageSpec:
    """Deeper than any message may be, made in a way in which only sending it fails."""
    spec = job_pb2.StageSpec(name="a")
    inner = spec.input
    for _ in range(200):
        inner = inner.fields["a"].struct_value
    inner.SetInParent()
    return spec


def cyclic() -> dict[str, Any]:
    document: dict[str, Any] = {}
    document["self"] = [document]
    return document


class Endless(Mapping[str, Any]):
    """Never comes to its end."""

    def __getitem__(self, key: str) -> Any:
        return 1

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"key-{number}"

    def __len__(self) -> int:
        return sys.maxsize


class Broken(Mapping[str, Any]):
    """Raises what ends a program when it is read."""

    def __getitem__(self, key: str) -> Any:
        raise SystemExit(3)

    def __iter__(self) -> Iterator[str]:
        raise SystemExit(3)

    def __len__(self) -> int:
        return 1


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class WithoutInit(StageError):
    def __init__(self) -> None:
        Exception.__init__(self, "made without StageError.__init__")


async def ends(client: Client, handler: Callable[[Attempt], Any]) -> job_pb2.Stage:
    """How a stage with a single attempt ends."""
    queue = f"q-{uuid.uuid4().hex}"
    worker = Worker(client, [queue], "w", grace=0.0)
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    try:
        spec = job_pb2.StageSpec(name="main", queue=queue)
        spec.retry_policy.max_attempts = 1
        job = await client.submit_job("ends", stages=[spec])
        began = time.monotonic()
        job = await client.wait_job(job.job_id, timeout=SOON)
        assert time.monotonic() - began < SOON
        assert not running.done(), "the worker has ended"
        return job.stages[0]
    finally:
        worker.stop()
        await asyncio.wait_for(running, SOON)


RETURNED: dict[str, tuple[Callable[[], Any], str]] = {
    "a text": (lambda: "done", "it is a str, not a mapping"),
    "a list": (lambda: [1], "it is a list, not a mapping"),
    "bytes": (lambda: b"done", "it is a bytes, not a mapping"),
    "a class": (lambda: dict, "it is a type, not a mapping"),
    "40 levels": (lambda: nested(40), "nested more than 32 levels deep"),
    "300 levels": (lambda: nested(300), "nested more than 32 levels deep"),
    "a cycle": (cyclic, "nested more than 32 levels deep, or endlessly"),
    "NaN": (lambda: {"a": math.nan}, "a: JSON has no nan"),
    "infinity": (lambda: {"a": [1, -math.inf]}, "a[1]: JSON has no -inf"),
    "a whole number": (lambda: {"a": 10**5000}, " is beyond ±2^53"),
    "a set": (lambda: {"a": {"b": {1}}}, "a.b: a set cannot be part of a document"),
    "bytes inside": (lambda: {"a": b"x"}, "a: a bytes cannot be part of a document"),
    "an object": (lambda: {"a": object()}, "a: an object cannot be part of a document"),
    "a number as key": (lambda: {"a": {1: 2}}, "a: the key 1 is an int; keys are texts"),
    "a surrogate": (lambda: {"a": "\ud800"}, "a: the text is not UTF-8"),
    "a surrogate as key": (lambda: {"\ud800": 1}, "the text is not UTF-8"),
    "a NUL": (lambda: {"a": "x\0y"}, "a: a NUL character is not allowed"),
    "too large": (lambda: {"a": "x" * 65_536}, "more than 65536 bytes as JSON"),
    "too large by escapes": (lambda: {"a": '"' * 40_000}, "more than 65536 bytes as JSON"),
    "5 MiB": (lambda: {"a": "x" * (5 << 20)}, "more than 65536 bytes as JSON"),
    "an endless mapping": (Endless, "more than 65536 bytes as JSON"),
    "a mapping that exits": (Broken, "cannot be stored: 3"),
    "a result": (lambda: Completion(job_result=nested(40)), "job_result: "),
    "a result that is a list": (lambda: Completion(job_result=[1]), "job_result: a document is a mapping"),
    "a message that is none": (lambda: Completion(message=5), "message is an int, not a text"),  # type: ignore[arg-type]
    "stages by name": (lambda: Completion(add_stages="abc"), "add_stages is a list"),  # type: ignore[arg-type]
    "stages that are none": (lambda: Completion(add_stages=["a"]), "add_stages[0] is a str, not a dict"),  # type: ignore[list-item]
    "stages without end": (
        lambda: Completion(add_stages=iter(job_pb2.StageSpec, None)),
        "add_stages has more than 10,000 elements",
    ),
    "a stage that the server refuses": (
        lambda: Completion(add_stages=[job_pb2.StageSpec(name="a b")]),
        "add_stages[0].name",
    ),
    "a stage with a deep input": (
        lambda: Completion(add_stages=[deep_stage()]),
        "cannot be stored",
    ),
    "too much in one message": (
        lambda: Completion(also=[job_service_pb2.SubmitJobRequest(kind="k" * (3 << 20))] * 2),
        "as a message it has 6,",
    ),
    "what no commit does": (
        lambda: Completion(also=[job_service_pb2.GetJobRequest()]),
        "GetJobRequest cannot be part of a commit",
    ),
    "what a commit refuses": (
        lambda: Completion(also=[job_service_pb2.SubmitJobRequest(kind="")]),
        "kind",
    ),
}


@pytest.mark.parametrize("case", RETURNED)
async def test_what_a_handler_returns_and_cannot_be_stored_is_reported_as_that(client: Client, case: str) -> None:
    make, expected = RETURNED[case]

    async def handler(attempt: Attempt) -> Any:
        return make()

    stage = await ends(client, handler)
    failure = stage.failure
    assert stage.state == job_pb2.STAGE_STATE_FAILED
    assert expected in failure.message
    assert int(failure.failure_class) in (FailureClass.CLIENT_ERROR, FailureClass.INTERNAL)


async def test_a_stage_that_exists_already_fails_the_stage_that_adds_it(client: Client) -> None:
    async def handler(attempt: Attempt) -> Completion:
        return Completion(add_stages=[job_pb2.StageSpec(name="main")])

    failure = (await ends(client, handler)).failure
    assert int(failure.failure_class) in (FailureClass.INTERNAL, FailureClass.CLIENT_ERROR)
    assert "main" in failure.message


async def test_a_plain_function_that_returns_a_coroutine_fails_with_what_to_write(client: Client) -> None:
    async def handler(attempt: Attempt) -> None: ...

    failure = (await ends(client, lambda attempt: handler(attempt))).failure  # noqa: PLW0108 - that is what is tested
    assert "give the worker the coroutine function itself" in failure.message


RAISED: dict[str, tuple[Callable[[], BaseException], FailureClass, str]] = {
    "SystemExit": (lambda: SystemExit(3), FailureClass.INTERNAL, "SystemExit: 3"),
    "GeneratorExit": (GeneratorExit, FailureClass.INTERNAL, "GeneratorExit: "),
    "StopIteration": (lambda: StopIteration("x"), FailureClass.INTERNAL, "StopIteration"),
    "StopAsyncIteration": (StopAsyncIteration, FailureClass.INTERNAL, "StopAsyncIteration"),
    "RecursionError": (RecursionError, FailureClass.INTERNAL, "RecursionError: "),
    "BaseException": (lambda: BaseException("b"), FailureClass.INTERNAL, "BaseException: b"),
    "a cancel": (asyncio.CancelledError, FailureClass.CANCELLED, "it cancelled itself"),
    "without a text": (Unshowable, FailureClass.INTERNAL, "Unshowable: an Unshowable that cannot be shown"),
    "a surrogate": (lambda: ValueError("\ud800 bad"), FailureClass.INTERNAL, "ValueError: ? bad"),
    "a NUL": (lambda: ValueError("a\0b"), FailureClass.INTERNAL, "ValueError: ab"),
    "5 MiB": (lambda: ValueError("x" * (5 << 20)), FailureClass.INTERNAL, "ValueError: xxx"),
    "TimeoutError": (lambda: TimeoutError("late"), FailureClass.TIMEOUT, "TimeoutError: late"),
    "without init": (WithoutInit, FailureClass.INTERNAL, "made without StageError.__init__"),
    "an unknown class": (
        lambda: StageError(99, "x"),  # type: ignore[arg-type]
        FailureClass.INTERNAL,
        "x (failure_class was 99, which is none, and became INTERNAL)",
    ),
    "a class as text": (lambda: StageError("TIMEOUT", "x"), FailureClass.INTERNAL, "x (failure_class was 'TIMEOUT'"),  # type: ignore[arg-type]
    "a message that is none": (lambda: ServerError(5), FailureClass.SERVER_ERROR, "5"),  # type: ignore[arg-type]
    "retry_after NaN": (
        lambda: ServerError("HTTP 503", retry_after=math.nan),
        FailureClass.SERVER_ERROR,
        "HTTP 503 (retry_after was nan, which is no number of seconds, and was left out)",
    ),
    "retry_after infinite": (
        lambda: RateLimited("slow", retry_after=math.inf),
        FailureClass.RATE_LIMITED,
        "slow (retry_after was inf s and became 24 h)",
    ),
    "retry_after of days": (
        lambda: RateLimited("slow", retry_after=1e9),
        FailureClass.RATE_LIMITED,
        "slow (retry_after was 1e+09 s and became 24 h)",
    ),
    "retry_after negative": (
        lambda: RateLimited("slow", retry_after=-1),
        FailureClass.RATE_LIMITED,
        "slow (retry_after was -1 s and became 0 s)",
    ),
    "retry_after text": (
        lambda: ServerError("HTTP 503", retry_after="soon"),  # type: ignore[arg-type]
        FailureClass.SERVER_ERROR,
        "HTTP 503 (retry_after was 'soon', which is no number of seconds, and was left out)",
    ),
    "retry_after timedelta": (
        lambda: RateLimited("slow", retry_after=timedelta(seconds=2)),  # type: ignore[arg-type]
        FailureClass.RATE_LIMITED,
        "slow",
    ),
    "details too deep": (
        lambda: ServerError("HTTP 503", details=nested(40)),
        FailureClass.SERVER_ERROR,
        "HTTP 503 (details were left out: ",
    ),
    "details of bytes": (
        lambda: ServerError("HTTP 503", details={"body": b"x"}),
        FailureClass.SERVER_ERROR,
        "HTTP 503 (details were left out: body: a bytes cannot be part of a document",
    ),
    "details that are a text": (
        lambda: ServerError("HTTP 503", details="body"),  # type: ignore[arg-type]
        FailureClass.SERVER_ERROR,
        "HTTP 503 (details were left out: a document is a mapping",
    ),
    "details that exit": (
        lambda: ServerError("HTTP 503", details=Broken()),
        FailureClass.SERVER_ERROR,
        "HTTP 503 (details were left out: 3)",
    ),
    "details too large": (
        lambda: ServerError("HTTP 503", details={"body": "x" * 65_536}),
        FailureClass.SERVER_ERROR,
        "HTTP 503 (details were left out: ",
    ),
    "details too large by escapes": (
        lambda: ServerError("HTTP 503", details={"body": '"' * 40_000}),
        FailureClass.SERVER_ERROR,
        "HTTP 503 (details and retry_after were left out: ",
    ),
}


@pytest.mark.parametrize("is_plain", [False, True], ids=["coroutine", "thread"])
@pytest.mark.parametrize("case", RAISED)
async def test_what_a_handler_raises_keeps_its_class_code_and_message(
    client: Client, case: str, is_plain: bool
) -> None:
    make, expected_class, expected = RAISED[case]

    def fail() -> None:
        error = make()
        if isinstance(error, StageError):
            error.code = "of\nmine"
        raise error

    async def handler(attempt: Attempt) -> None:
        fail()

    def plain(attempt: Attempt) -> None:
        fail()

    failure = (await ends(client, plain if is_plain else handler)).failure
    if case == "StopIteration" and not is_plain:
        # Python itself makes that of it.
        expected = "RuntimeError: coroutine raised StopIteration"
    assert int(failure.failure_class) == expected_class
    assert failure.message.startswith(expected)
    assert len(failure.message.encode()) <= 4096
    if isinstance(make(), StageError):
        assert failure.code == "of mine"
    elif expected_class is not FailureClass.CANCELLED:
        trace = failure.details.fields["traceback"].string_value
        assert len(trace.encode()) <= 4096
        assert case in ("5 MiB", "StopIteration") or "in fail" in trace
    has_wait = "24 h)" in expected or " 0 s)" in expected or "timedelta" in case
    assert failure.HasField("retry_after") == has_wait


async def test_a_failure_of_a_service_is_tried_again_whatever_it_says_of_the_wait(client: Client) -> None:
    queue = f"q-{uuid.uuid4().hex}"
    attempts: list[int] = []

    async def handler(attempt: Attempt) -> dict[str, Any]:
        attempts.append(attempt.number)
        if attempt.number == 1:
            raise ServerError("HTTP 503", retry_after=math.nan, details={"body": object()})
        return {}

    spec = job_pb2.StageSpec(name="main", queue=queue)
    spec.retry_policy.initial_backoff.FromMilliseconds(1)
    spec.retry_policy.jitter.FromMilliseconds(0)
    worker = Worker(client, [queue], "w", grace=0.0)
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    job = await client.submit_job("ends", stages=[spec])
    job = await client.wait_job(job.job_id, timeout=SOON)
    worker.stop()
    await asyncio.wait_for(running, SOON)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert attempts == [1, 2]


async def test_a_keyboard_interrupt_fails_the_stage_and_ends_the_worker_in_order(client: Client) -> None:
    queue = f"q-{uuid.uuid4().hex}"

    async def handler(attempt: Attempt) -> None:
        raise KeyboardInterrupt

    spec = job_pb2.StageSpec(name="main", queue=queue)
    spec.retry_policy.max_attempts = 1
    job = await client.submit_job("ends", stages=[spec])
    await asyncio.wait_for(Worker(client, [queue]).run(handler, handle_signals=False), SOON)
    job = await client.get_job(job.job_id)
    assert job.failure.code == "KeyboardInterrupt"


async def test_the_log_of_the_worker_has_the_traceback(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(attempt: Attempt) -> None:
        try:
            raise KeyError("url")
        except KeyError as error:
            raise ServerError("no url") from error

    with caplog.at_level(logging.INFO, "interlock.worker"):
        stage = await ends(client, handler)
    records = [record for record in caplog.records if "failed: no url" in record.getMessage()]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert stage.name in records[0].getMessage()
    assert "KeyError: 'url'" in caplog.text and "test_endings.py" in caplog.text


def test_a_failure_never_fails_itself() -> None:
    for make, _, _ in RAISED.values():
        interlock.failures.failure_of(make())
