"""The client against the real server: each test has a queue of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import interlock
from interlock import Attempt, Client, FailureClass, StageError, StopReason, Worker
from interlock.handlers import Handler
from interlock.v1 import admin_service_pb2, common_pb2, job_pb2, job_service_pb2, worker_service_pb2


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4().hex}"


def spec(queue: str, name: str = "main", **fields: Any) -> job_pb2.StageSpec:
    return job_pb2.StageSpec(name=name, queue=queue, **fields)


@asynccontextmanager
async def working(client: Client, queue: str, handler: Handler, **options: Any) -> AsyncIterator[Worker]:
    worker = Worker(client, [queue], "w", **{"grace": 0.0, "poll_wait": 20.0, **options})
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(running, 20)


async def until(client: Client, job_id: str, holds: Callable[[job_pb2.Job], bool]) -> job_pb2.Job:
    """Reads the job until something holds, for at most 20 s."""

    async def look() -> job_pb2.Job:
        while not holds(job := await client.get_job(job_id)):
            await client.wait_job(job_id, timeout=0.05)
        return job

    return await asyncio.wait_for(look(), 20)


async def forever(attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def test_a_job_of_dependent_stages_goes_all_its_way(client: Client, queue: str) -> None:
    async def handler(attempt: Attempt) -> interlock.Completion:
        if attempt.stage_name == "voice":
            return interlock.Completion({"text": attempt.input["text"].upper(), "lang": attempt.payload["lang"]})
        said = attempt.dependencies["voice"].artifacts
        return interlock.Completion({"film": said["text"] + "!"}, job_result={"lang": said["lang"]}, message="cut")

    stages = [
        spec(queue, "voice", input=interlock.to_struct({"text": "hello"})),
        spec(queue, "render", depends_on=["voice"]),
    ]
    async with working(client, queue, handler):
        job = await client.submit_job("film", stages=stages, payload={"lang": "en"}, labels={"for": "test"})
        assert job.state == job_pb2.JOB_STATE_PENDING
        job = await client.wait_job(job.job_id, timeout=20)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.progress == 1
    assert interlock.from_struct(job.result) == {"lang": "en"}
    voice, render = job.stages
    assert interlock.from_struct(voice.artifacts) == {"text": "HELLO", "lang": "en"}
    assert interlock.from_struct(render.artifacts) == {"film": "HELLO!"}
    assert (render.attempt, render.message) == (1, "cut")


async def test_heartbeats_keep_a_lease_far_beyond_its_duration_and_carry_progress(client: Client, queue: str) -> None:
    go_on = asyncio.Event()

    async def handler(attempt: Attempt) -> dict[str, Any]:
        attempt.report(0.25, "quarter")
        await go_on.wait()
        return {}

    async with working(client, queue, handler, lease_duration=1):
        job = await client.submit_job("renewals", stages=[spec(queue)])
        job = await until(client, job.job_id, lambda job: job.stages[0].progress == 0.25)
        assert (job.stages[0].message, job.stages[0].lease.worker_id) == ("quarter", "w")
        first = job.stages[0].lease.expire_time.ToDatetime()

        def kept(job: job_pb2.Job) -> bool:
            return (job.stages[0].lease.expire_time.ToDatetime() - first).total_seconds() > 2.5

        await until(client, job.job_id, kept)
        go_on.set()
        job = await client.wait_job(job.job_id, timeout=20)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.stages[0].attempt == 1


async def test_a_failure_is_retried_by_its_class_and_then_recorded(client: Client, queue: str) -> None:
    attempts: list[int] = []

    async def handler(attempt: Attempt) -> None:
        attempts.append(attempt.number)
        if attempt.number == 1:
            raise StageError(FailureClass.SERVER_ERROR, "first", code="503")
        raise StageError(FailureClass.CLIENT_ERROR, "no such voice", code="voice_not_found", details={"voice": "x"})

    quick = common_pb2.RetryPolicy()
    quick.initial_backoff.FromMilliseconds(1)
    quick.jitter.FromMilliseconds(0)
    async with working(client, queue, handler):
        job = await client.submit_job("fails", stages=[spec(queue, retry_policy=quick)])
        job = await client.wait_job(job.job_id, timeout=20)
    assert attempts == [1, 2]
    assert job.state == job_pb2.JOB_STATE_FAILED
    failure = job.failure
    assert failure.failure_class == common_pb2.FAILURE_CLASS_CLIENT_ERROR
    assert (failure.message, failure.code, failure.stage_name) == ("no such voice", "voice_not_found", "main")
    assert (failure.attempt, failure.HasField("retry_wait")) == (2, False)
    assert interlock.from_struct(failure.details) == {"voice": "x"}


async def test_a_cancel_stops_the_handler(client: Client, queue: str) -> None:
    reasons: asyncio.Queue[StopReason | None] = asyncio.Queue()

    async def handler(attempt: Attempt) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            reasons.put_nowait(attempt.stop_reason)

    async with working(client, queue, handler, lease_duration=1):
        job = await client.submit_job("cancels", stages=[spec(queue), spec(queue, "next", depends_on=["main"])])
        await until(client, job.job_id, lambda job: job.stages[0].state == job_pb2.STAGE_STATE_RUNNING)
        job = await client.cancel_job(job.job_id, reason="enough", grace_period=15)
        assert job.state == job_pb2.JOB_STATE_CANCELLING
        assert await asyncio.wait_for(reasons.get(), 10) is StopReason.CANCELLED
        job = await client.wait_job(job.job_id, timeout=10)
    assert job.state == job_pb2.JOB_STATE_CANCELLED
    assert job.cancel_reason == "enough"
    assert [stage.state for stage in job.stages] == [job_pb2.STAGE_STATE_CANCELLED] * 2


async def test_a_shutdown_gives_the_stage_to_the_next_worker_without_losing_an_attempt(
    client: Client, queue: str
) -> None:
    async def finish(attempt: Attempt) -> dict[str, Any]:
        return {"attempt": attempt.number, "fence": attempt.fencing_token}

    job = await client.submit_job("moves", stages=[spec(queue)])
    async with working(client, queue, forever):
        await until(client, job.job_id, lambda job: job.stages[0].state == job_pb2.STAGE_STATE_RUNNING)
    async with working(client, queue, finish):
        job = await client.wait_job(job.job_id, timeout=10)
    artifacts = interlock.from_struct(job.stages[0].artifacts)
    assert artifacts["attempt"] == 1
    assert artifacts["fence"] >= 2


async def test_a_poll_that_is_cancelled_keeps_no_stage(client: Client, queue: str) -> None:
    async with working(client, queue, forever):
        pass
    job = await client.submit_job("free", stages=[spec(queue)])
    request = worker_service_pb2.LeaseStagesRequest(worker_id="v", queues=[queue])
    response = await client.call(client.workers.LeaseStages, request)
    assert [lease.job_id for lease in response.leases] == [job.job_id]


async def test_seven_parallel_stages_keep_every_artifact(client: Client, queue: str) -> None:
    async def handler(attempt: Attempt) -> dict[str, Any]:
        attempt.report(0.5)
        return {"name": attempt.stage_name}

    names = [f"voice-{number}" for number in range(7)]
    async with working(client, queue, handler, concurrency=7):
        job = await client.submit_job("seven", stages=[spec(queue, name) for name in names])
        job = await client.wait_job(job.job_id, timeout=20)
    assert [interlock.from_struct(stage.artifacts)["name"] for stage in job.stages] == names


async def test_errors_come_with_their_reason(client: Client, queue: str) -> None:
    with pytest.raises(interlock.NotFound) as missing:
        await client.get_job("unknown")
    assert missing.value.reason == "JOB_NOT_FOUND"
    assert missing.value.metadata["job_id"] == "unknown"

    with pytest.raises(interlock.InvalidArgument) as invalid:
        await client.submit_job("film", stages=[spec(queue), spec("bad queue", "b")])
    assert invalid.value.reason == "INVALID_FIELD"
    assert [violation.field for violation in invalid.value.violations] == ["stages[1].queue"]

    job = await client.submit_job("film", stages=[spec(queue)])
    with pytest.raises(interlock.AlreadyExists):
        await client.submit_job("film", job_id=job.job_id)
    update = job_service_pb2.UpdateJobRequest(job_id=job.job_id, priority=3, expected_version=9)
    with pytest.raises(interlock.VersionMismatch) as mismatch:
        await client.call(client.jobs.UpdateJob, update)
    assert mismatch.value.actual == job.version
    assert not mismatch.value.maybe_applied

    await client.cancel_job(job.job_id)
    with pytest.raises(interlock.InvalidTransition) as transition:
        await client.call(client.jobs.PauseJob, job_service_pb2.PauseJobRequest(job_id=job.job_id))
    assert transition.value.state == "CANCELLED"

    complete = worker_service_pb2.CompleteStageRequest(target=worker_service_pb2.StageTarget(lease_token="never-given"))
    with pytest.raises(interlock.InterlockError):
        await client.call(client.workers.CompleteStage, complete)


async def test_the_same_request_id_makes_one_job(client: Client, queue: str) -> None:
    request_id = str(uuid.uuid4())
    first = await client.submit_job("once", stages=[spec(queue)], request_id=request_id)
    again = await client.submit_job("once", stages=[spec(queue)], request_id=request_id)
    assert first.job_id == again.job_id
    with pytest.raises(interlock.InvalidArgument) as reused:
        await client.submit_job("other", stages=[spec(queue)], request_id=request_id)
    assert reused.value.reason == "REQUEST_ID_REUSED"


async def test_a_namespace_is_a_world_of_its_own(client: Client, queue: str) -> None:
    name = f"n-{uuid.uuid4().hex[:8]}"
    async with Client(client.address, namespace=name) as there:
        with pytest.raises(interlock.NotFound) as missing:
            await there.submit_job("film")
        assert missing.value.reason == "NAMESPACE_NOT_FOUND"
        # A worker cannot wait for that.
        with pytest.raises(interlock.NotFound):
            await asyncio.wait_for(Worker(there, [queue]).run(forever, handle_signals=False), 10)
        await client.call(client.admin.CreateNamespace, admin_service_pb2.CreateNamespaceRequest(name=name))
        job = await there.submit_job("film", stages=[spec(queue)])
        with pytest.raises(interlock.NotFound):
            await client.get_job(job.job_id)


@pytest.mark.parametrize("megabytes", [5, 20, 60])
async def test_a_request_that_is_too_large_is_refused_at_once_by_its_size(client: Client, megabytes: int) -> None:
    with pytest.raises(interlock.InvalidArgument) as refused:
        await client.submit_job("film", payload={"text": "x" * (megabytes << 20)}, timeout=10)
    assert refused.value.reason == "INVALID_FIELD"
    assert "bytes; at most 4194304 are accepted" in str(refused.value)
    # The connection goes on.
    assert (await client.submit_job("film")).kind == "film"
