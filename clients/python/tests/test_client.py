"""Errors, retries and documents, against a scripted server."""

from __future__ import annotations

import time
from datetime import timedelta

import grpc
import pytest

import interlock
from interlock.documents import seconds, to_duration
from interlock.errors import from_rpc_error
from interlock.v1 import job_service_pb2
from tests.fake_server import FakeServer, Refusal, fake_server

FAST = interlock.Backoff(first=0.001, longest=0.002)
Code = grpc.StatusCode


def client(server: FakeServer, **options: object) -> interlock.Client:
    return interlock.Client(server.address, backoff=FAST, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.INVALID_ARGUMENT, "INVALID_FIELD", interlock.InvalidArgument),
        (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED", interlock.InvalidArgument),
        (Code.NOT_FOUND, "JOB_NOT_FOUND", interlock.NotFound),
        (Code.ALREADY_EXISTS, "JOB_ALREADY_EXISTS", interlock.AlreadyExists),
        (Code.ABORTED, "VERSION_MISMATCH", interlock.VersionMismatch),
        (Code.FAILED_PRECONDITION, "LEASE_LOST", interlock.LeaseLost),
        (Code.FAILED_PRECONDITION, "INVALID_TRANSITION", interlock.InvalidTransition),
        (Code.FAILED_PRECONDITION, "NAMESPACE_NOT_EMPTY", interlock.PreconditionFailed),
        (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", interlock.DeadlineExceeded),
        (Code.INTERNAL, "INTERNAL", interlock.Internal),
        (Code.UNAUTHENTICATED, "CREDENTIAL_INVALID", interlock.Unauthenticated),
        (Code.PERMISSION_DENIED, "ROLE_DENIED", interlock.PermissionDenied),
    ],
)
async def test_an_error_has_the_type_of_its_reason_and_is_not_repeated(
    code: Code, reason: str, kind: type[interlock.InterlockError]
) -> None:
    async with fake_server() as server, client(server) as it:
        server.refusals = [Refusal(code, reason, metadata={"actual": "4"})]
        with pytest.raises(interlock.InterlockError) as raised:
            await it.get_job("a")
        assert type(raised.value) is kind
        assert (raised.value.code, raised.value.reason) == (code, reason)
        assert raised.value.message == f"refused: {reason}…"
        assert not raised.value.maybe_applied
        assert len(server.calls) == 1


async def test_an_error_says_what_a_program_needs() -> None:
    async with fake_server() as server, client(server) as it:
        server.refusals = [
            Refusal(Code.ABORTED, "VERSION_MISMATCH", metadata={"expected": "3", "actual": "4"}),
            Refusal(Code.INVALID_ARGUMENT, "INVALID_FIELD", field="stages[2].name"),
            Refusal(Code.FAILED_PRECONDITION, "INVALID_TRANSITION", metadata={"state": "FAILED"}),
        ]
        with pytest.raises(interlock.VersionMismatch) as mismatch:
            await it.get_job("a")
        assert mismatch.value.actual == 4
        with pytest.raises(interlock.InvalidArgument) as invalid:
            await it.get_job("a")
        assert invalid.value.violations == (interlock.FieldViolation("stages[2].name", "is wrong"),)
        with pytest.raises(interlock.InvalidTransition) as transition:
            await it.get_job("a")
        assert transition.value.state == "FAILED"


async def test_retries_carry_the_same_request_id_until_the_call_succeeds() -> None:
    async with fake_server() as server, client(server) as it:
        server.refusals = [
            Refusal(Code.UNAVAILABLE, "STORE_UNAVAILABLE", pushback_ms=1),
            Refusal(Code.UNAVAILABLE, "OUTCOME_UNKNOWN", pushback_ms=-1),
            Refusal(Code.ABORTED, "CONFLICT", pushback_ms=1),
            Refusal(Code.RESOURCE_EXHAUSTED, "OVERLOADED", pushback_ms=1),
        ]
        job = await it.submit_job("video")
        assert job.kind == "video"
        ids = [request.request_id for request in server.of("SubmitJob")]
        assert len(ids) == 5
        assert len(set(ids)) == 1
        assert len(ids[0]) == 36


async def test_a_request_id_of_the_caller_is_kept_and_the_request_left_alone() -> None:
    async with fake_server() as server, client(server) as it:
        request = job_service_pb2.SubmitJobRequest(kind="video")
        await it.call(it.jobs.SubmitJob, request)
        assert request.request_id == ""
        await it.submit_job("video", request_id="mine")
        assert server.of("SubmitJob")[1].request_id == "mine"


async def test_pushback_is_waited_for_and_can_forbid() -> None:
    async with fake_server() as server, client(server) as it:
        server.refusals = [Refusal(Code.RESOURCE_EXHAUSTED, "OVERLOADED", pushback_ms=150)]
        start = time.monotonic()
        await it.get_job("a")
        assert time.monotonic() - start >= 0.15

        server.refusals = [Refusal(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", pushback_ms=-1)]
        with pytest.raises(interlock.ResourceExhausted):
            await it.get_job("a")


async def test_no_retry_begins_that_could_not_end_in_time() -> None:
    async with fake_server() as server, client(server, timeout=5.0) as it:
        server.refusals = [Refusal(Code.UNAVAILABLE, "DRAINING", pushback_ms=60_000)]
        with pytest.raises(interlock.Unavailable) as raised:
            await it.get_job("a")
        assert raised.value.retry_after == 60
        assert len(server.calls) == 1


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    # A port of our own without a listener.
    async with fake_server() as server:
        address = server.address
    async with interlock.Client(address, backoff=FAST, timeout=0.3) as it:
        with pytest.raises(interlock.Unavailable) as raised:
            await it.get_job("a")
        assert raised.value.reason == ""


async def test_the_namespace_goes_along() -> None:
    async with fake_server() as server, client(server, namespace="studio") as it:
        await it.get_job("a")
        assert server.metadata[0]["interlock-namespace"] == "studio"


def test_full_jitter_stays_within_its_bounds() -> None:
    backoff = interlock.Backoff(first=1.0, longest=4.0)
    for retry, bound in [(0, 1.0), (1, 2.0), (2, 4.0), (9, 4.0), (10_000, 4.0)]:
        waits = [backoff.wait(retry, None) for _ in range(200)]
        assert min(waits) >= 0 and max(waits) <= bound
        assert max(waits) - min(waits) > bound / 4
        assert all(10 <= backoff.wait(retry, 10.0) <= 10 + bound for _ in range(50))


def test_documents_come_back_as_they_were() -> None:
    document = {"a": 1, "b": 1.5, "c": [True, None, "x", {"d": -3}], "e": {"f": []}, "big": 2**53}
    assert interlock.from_struct(interlock.to_struct(document)) == document
    assert type(interlock.from_struct(interlock.to_struct({"n": 2.0}))["n"]) is int
    assert interlock.from_struct(interlock.to_struct({"t": (1, 2)})) == {"t": [1, 2]}


@pytest.mark.parametrize("value", [2**53 + 1, b"bytes", object(), {"deep": [{1, 2}]}])
def test_what_is_no_document_is_refused_with_its_path(value: object) -> None:
    with pytest.raises(ValueError, match=r"^key"):
        interlock.to_struct({"key": value})


@pytest.mark.parametrize("operation", ["increment", "maximum", "minimum"])
def test_whole_numbers_that_a_double_cannot_hold_are_refused(operation: str) -> None:
    change = getattr(interlock.Field("views"), operation)
    assert getattr(change(2**53), operation) == 2**53
    assert getattr(change(-0.5), operation) == -0.5
    with pytest.raises(ValueError, match=r"^views: -9007199254740993 is beyond"):
        change(-(2**53) - 1)


def test_durations() -> None:
    assert seconds(to_duration(1.5)) == 1.5
    assert seconds(to_duration(timedelta(minutes=2))) == 120


def test_a_connection_lost_while_a_stream_is_sent_can_be_tried_again() -> None:
    broken = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="Internal error from Core"
    )
    assert isinstance(from_rpc_error(broken), interlock.Unavailable)
    of_a_server = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="internal error 5f"
    )
    assert isinstance(from_rpc_error(of_a_server), interlock.Internal)
