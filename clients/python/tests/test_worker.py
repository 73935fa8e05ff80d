"""The worker, against a scripted server."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

import interlock
from interlock import Attempt, FailureClass, StageError, StopReason
from interlock.failures import failure_of
from interlock.handlers import Handler
from interlock.v1 import common_pb2, worker_service_pb2
from tests.fake_server import FakeServer, Refusal, fake_server


@asynccontextmanager
async def working(handler: Handler, **options: Any) -> AsyncIterator[tuple[FakeServer, interlock.Worker]]:
    """A server and a worker with this handler; in the end the worker must stop in good order."""
    async with fake_server() as server:
        backoff = interlock.Backoff(first=0.001, longest=0.01)
        async with interlock.Client(server.address, backoff=backoff) as client:
            worker = interlock.Worker(client, ["q"], "w", **options)
            running = asyncio.create_task(worker.run(handler, handle_signals=False))
            yield server, worker
            worker.stop()
            await asyncio.wait_for(running, 10)


def called(server: FakeServer, name: str, count: int = 1) -> Callable[[], bool]:
    return lambda: len(server.of(name)) >= count


async def forever(attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def test_artifacts_of_a_coroutine_function_complete_the_stage() -> None:
    async def handler(attempt: Attempt) -> dict[str, Any]:
        return {"double": attempt.input["n"] * 2, "attempt": attempt.number, "fence": attempt.fencing_token}

    async with working(handler, lease_duration=20) as (server, _):
        server.offer(n=21)
        await server.until(called(server, "CompleteStage"))
        complete = server.of("CompleteStage")[0]
        assert interlock.from_struct(complete.artifacts) == {"double": 42, "attempt": 1, "fence": 7}
        assert complete.target.lease_token == "t"
        lease = server.of("LeaseStages")[0]
        assert (lease.worker_id, list(lease.queues), lease.max_stages) == ("w", ["q"], 1)
        assert lease.lease_duration.seconds == 20


async def test_a_plain_function_works_in_a_thread_while_the_leases_are_kept() -> None:
    release = threading.Event()

    def handler(attempt: Attempt) -> interlock.Completion:
        attempt.report(0.5, "half")
        assert release.wait(10)
        return interlock.Completion(job_result={"film": "a.mp4"}, message="done")

    async with working(handler) as (server, _):
        server.offer(interval=0.05)
        await server.until(called(server, "Heartbeat", 3))
        release.set()
        await server.until(called(server, "CompleteStage"))
        complete = server.of("CompleteStage")[0]
        assert not complete.HasField("artifacts")
        assert interlock.from_struct(complete.job_result) == {"film": "a.mp4"}
        assert complete.message == "done"
        said = [(renewal.progress, renewal.message) for call in server.of("Heartbeat") for renewal in call.renewals]
        assert (0.5, "half") in said
        assert said.count((0.5, "half")) == 1


async def test_progress_is_reported_before_a_heartbeat_is_due() -> None:
    async def handler(attempt: Attempt) -> None:
        for step in range(1, 101):
            attempt.report(step / 100)
        await asyncio.Event().wait()

    async with working(handler, grace=0.0) as (server, _):
        server.offer(interval=10)
        await server.until(called(server, "Heartbeat"))
        assert [renewal.progress for renewal in server.of("Heartbeat")[0].renewals] == [1.0]


async def test_several_stages_at_once_share_their_heartbeats() -> None:
    async with working(forever, concurrency=3, grace=0.0) as (server, _):
        for token in "abc":
            server.offer(token, interval=0.05)
        await server.until(lambda: any(len(call.renewals) == 3 for call in server.of("Heartbeat")))
    assert {call.target.lease_token for call in server.of("ReleaseStage")} == {"a", "b", "c"}


async def test_while_a_stage_that_is_leased_alone_runs_no_other_is_leased() -> None:
    release = asyncio.Event()

    async def handler(attempt: Attempt) -> None:
        if attempt.lease.isolated:
            await release.wait()

    async with working(handler, concurrency=3) as (server, _):
        server.offer("a", isolated=True, interval=0.02)
        await server.until(called(server, "Heartbeat"))
        server.offer("b")
        await server.until(called(server, "Heartbeat", 5))
        assert len(server.of("LeaseStages")) == 1
        release.set()
        await server.until(called(server, "CompleteStage", 2))
        assert [call.target.lease_token for call in server.of("CompleteStage")] == ["a", "b"]


@pytest.mark.parametrize(
    ("directive", "reason", "reports"),
    [
        (worker_service_pb2.LEASE_DIRECTIVE_LOST, StopReason.LOST, []),
        (worker_service_pb2.LEASE_DIRECTIVE_CANCEL, StopReason.CANCELLED, ["ReleaseStage"]),
    ],
)
async def test_a_directive_cancels_the_handler(
    directive: worker_service_pb2.LeaseDirective.ValueType, reason: StopReason, reports: list[str]
) -> None:
    ended = asyncio.Event()
    attempts: list[Attempt] = []

    async def handler(attempt: Attempt) -> None:
        attempts.append(attempt)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with working(handler) as (server, _):
        server.directive = lambda token: directive
        server.offer()
        await asyncio.wait_for(ended.wait(), 10)
        # It asks for more work when it is done with this.
        await server.until(called(server, "LeaseStages", 2))
        assert attempts[0].stop_reason is reason
        ends = {"CompleteStage", "FailStage", "ReleaseStage"}
        assert [name for name, _ in server.calls if name in ends] == reports


async def test_a_thread_that_checks_stops_too() -> None:
    def handler(attempt: Attempt) -> None:
        assert attempt.wait_stopped(10)
        attempt.report(0.7)

    async with working(handler) as (server, _):
        server.directive = lambda token: worker_service_pb2.LEASE_DIRECTIVE_CANCEL
        server.offer()
        await server.until(called(server, "ReleaseStage"))


async def test_a_pause_is_an_advice() -> None:
    seen = asyncio.Event()

    async def handler(attempt: Attempt) -> dict[str, Any]:
        while not attempt.is_paused:  # noqa: ASYNC110 - the attribute is what is tested
            await asyncio.sleep(0.01)
        seen.set()
        return {}

    async with working(handler) as (server, _):
        server.directive = lambda token: worker_service_pb2.LEASE_DIRECTIVE_PAUSE
        server.offer()
        await asyncio.wait_for(seen.wait(), 10)
        await server.until(called(server, "CompleteStage"))


async def test_a_lease_that_cannot_be_renewed_is_given_up_when_it_ends() -> None:
    stopped = asyncio.Event()

    async def handler(attempt: Attempt) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(handler) as (server, _):
        server.heartbeats_fail = True
        server.offer(ttl=0.3, interval=0.1)
        await asyncio.wait_for(stopped.wait(), 10)
    assert server.of("ReleaseStage") == []


async def test_what_a_handler_raises_fails_the_stage() -> None:
    async def handler(attempt: Attempt) -> None:
        raise StageError(FailureClass.RATE_LIMITED, "slow\0 down", 7.5, code="429", details={"limit": 3})

    async with working(handler) as (server, _):
        server.offer()
        await server.until(called(server, "FailStage"))
        failure = server.of("FailStage")[0].failure
        assert failure.failure_class == common_pb2.FAILURE_CLASS_RATE_LIMITED
        assert (failure.message, failure.code) == ("slow down", "429")
        assert (failure.retry_after.seconds, failure.retry_after.nanos) == (7, 500_000_000)
        assert interlock.from_struct(failure.details) == {"limit": 3}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError("late"), FailureClass.TIMEOUT),
        (asyncio.TimeoutError(), FailureClass.TIMEOUT),
        (ConnectionResetError("gone"), FailureClass.NETWORK),
        (KeyError("bug"), FailureClass.INTERNAL),
        (StageError(FailureClass.CLIENT_ERROR, "x" * 10_000, details={"bad": object()}), FailureClass.CLIENT_ERROR),
    ],
)
def test_exceptions_have_a_failure_class(error: Exception, expected: FailureClass) -> None:
    failure = failure_of(error)
    assert int(failure.failure_class) == expected
    assert len(failure.message) <= 4096
    assert ("traceback" in failure.details.fields) == (not isinstance(error, StageError))


async def test_a_result_that_is_no_document_fails_the_stage() -> None:
    async def handler(attempt: Attempt) -> Any:
        return {"bytes": b"no"} if attempt.input["n"] == 1 else "no mapping"

    async with working(handler) as (server, _):
        server.offer("a", n=1)
        server.offer("b", n=2)
        await server.until(called(server, "FailStage", 2))
        classes = {call.failure.failure_class for call in server.of("FailStage")}
        assert classes == {common_pb2.FAILURE_CLASS_CLIENT_ERROR}


async def test_artifacts_that_the_server_refuses_fail_the_stage() -> None:
    async def handler(attempt: Attempt) -> dict[str, Any]:
        return {}

    async with working(handler) as (server, _):
        server.refusals = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="artifacts")]
        server.offer()
        await server.until(called(server, "FailStage"))
        assert "artifacts" not in server.of("FailStage")[0].failure.details.fields


async def test_a_completion_is_repeated_until_it_is_answered() -> None:
    async def handler(attempt: Attempt) -> dict[str, Any]:
        return {"a": 1}

    async with working(handler) as (server, _):
        server.refusals = [Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", pushback_ms=1) for _ in range(20)]
        server.offer()
        await server.until(called(server, "CompleteStage", 21))
        assert len({call.request_id for call in server.of("CompleteStage")}) == 1


async def test_a_shutdown_lets_handlers_end_within_the_grace() -> None:
    finish = asyncio.Event()

    async def handler(attempt: Attempt) -> dict[str, Any]:
        await finish.wait()
        return {}

    async with working(handler) as (server, worker):
        server.offer()
        await server.until(called(server, "Heartbeat"))
        worker.stop()
        finish.set()
        await server.until(called(server, "CompleteStage"))
    assert len(server.of("CompleteStage")) == 1
    assert server.of("ReleaseStage") == []


async def test_sigterm_releases_what_does_not_end() -> None:
    async with fake_server() as server, interlock.Client(server.address) as client:
        worker = interlock.Worker(client, ["q"], grace=0.05)
        running = asyncio.create_task(worker.run(forever))
        server.offer()
        await server.until(called(server, "Heartbeat"))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 10)
    assert [call.target.lease_token for call in server.of("ReleaseStage")] == ["t"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert len(server.of("LeaseStages")) == 1


async def test_cancelling_run_gives_everything_back() -> None:
    async with fake_server() as server, interlock.Client(server.address) as client:
        worker = interlock.Worker(client, ["q"], grace=0.0, concurrency=2)
        running = asyncio.create_task(worker.run(forever, handle_signals=False))
        server.offer()
        await server.until(called(server, "Heartbeat"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 10)
    assert len(server.of("ReleaseStage")) == 1


async def test_a_request_for_work_is_repeated_under_its_id_until_there_is_a_response() -> None:
    async def handler(attempt: Attempt) -> None:
        pass

    async with fake_server() as server:
        # The first is repeated by the call, the second is an answer about which the call can do nothing more.
        server.no_work.append(Refusal(grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"))
        server.no_work.append(Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"))
        async with interlock.Client(server.address, backoff=interlock.Backoff(first=0.001, longest=0.01)) as client:
            worker = interlock.Worker(client, ["q"], "w")
            running = asyncio.create_task(worker.run(handler, handle_signals=False))
            server.offer("a")
            server.offer("b")
            await server.until(lambda: called(server, "CompleteStage", 2)() and called(server, "LeaseStages", 5)())
            worker.stop()
            await asyncio.wait_for(running, 10)
        polls = server.of("LeaseStages")
        assert polls[0] == polls[1] == polls[2]
        # One for each lease, and the last one, which is repeated without a wait when the worker stops.
        ids = [poll.request_id for poll in polls[2:]]
        assert len(ids) == 4
        assert ids[2] == ids[3]
        assert len(set(ids)) == 3
        assert not polls[-1].HasField("wait")


async def test_a_lease_whose_response_was_not_received_is_released_when_the_worker_stops() -> None:
    async with fake_server() as server, interlock.Client(server.address) as client:
        worker = interlock.Worker(client, ["q"], "w")
        running = asyncio.create_task(worker.run(forever, handle_signals=False))
        await server.until(called(server, "LeaseStages"))
        server.granted.append(worker_service_pb2.Lease(lease_token="late"))
        worker.stop()
        await asyncio.wait_for(running, 10)
        assert [call.target.lease_token for call in server.of("ReleaseStage")] == ["late"]
