"""A worker of many small stages: outcomes together, leases in between, the single rpcs where that is better."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import grpc

import interlock
from interlock import Attempt, FailureClass, StageError
from interlock.v1 import job_pb2
from tests.fake_server import FakeServer, Refusal
from tests.test_worker import called, working


def reported(server: FakeServer) -> Counter[str]:
    """How often the outcome of each lease was sent."""
    tokens: Counter[str] = Counter()
    for name, request in server.calls:
        if name in {"CompleteStage", "FailStage", "ReleaseStage"}:
            tokens[request.target.lease_token] += 1
        elif name == "CompleteStages":
            outcomes = (getattr(it, it.WhichOneof("outcome")) for it in request.outcomes)
            tokens.update(it.target.lease_token for it in outcomes)
    return tokens


async def test_outcomes_that_come_together_are_reported_together() -> None:
    async def handler(attempt: Attempt) -> dict[str, Any] | None:
        if attempt.lease.lease_token == "7":
            raise StageError(FailureClass.RATE_LIMITED, "slow down")
        return {"n": attempt.lease.lease_token}

    async with working(handler, concurrency=50) as (server, _):
        for i in range(50):
            server.offer(str(i))
        await server.until(lambda: len(reported(server)) == 50)
        batches = server.of("CompleteStages")
        assert sum(len(call.outcomes) for call in batches) >= 40
        assert not any(call.HasField("request_id") for call in batches)
        outcomes = [it for call in batches for it in call.outcomes]
        ids = {getattr(it, it.WhichOneof("outcome")).request_id for it in outcomes}
        assert len(ids) == len(outcomes)
        assert "" not in ids
        assert set(reported(server).values()) == {1}
        failed = [it.fail_stage for call in batches for it in call.outcomes if it.WhichOneof("outcome") == "fail_stage"]
        failed += server.of("FailStage")
        assert [it.target.lease_token for it in failed] == ["7"]


async def test_an_outcome_that_cannot_be_applied_now_is_reported_again_alone() -> None:
    async def handler(attempt: Attempt) -> None:
        await asyncio.sleep(0)

    async with working(handler, concurrency=20) as (server, _):
        server.refused_outcomes["3"] = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        server.refused_outcomes["4"] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="artifacts")
        server.refused_outcomes["5"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")
        for i in range(20):
            server.offer(str(i))
        await server.until(lambda: sum(reported(server).values()) == 22)
        again = {token for token, count in reported(server).items() if count == 2}
        # An outcome that is refused permanently is reported as a failure.
        assert again == {"3", "4"}


async def test_a_server_without_batches_gets_one_outcome_per_call() -> None:
    async def handler(attempt: Attempt) -> None:
        await asyncio.sleep(0)

    async with working(handler, concurrency=20) as (server, _):
        server.lacks = {"CompleteStages"}
        for i in range(40):
            server.offer(str(i))
        await server.until(lambda: len(server.of("CompleteStage")) >= 39 and len(reported(server)) == 40)


async def test_one_stage_at_a_time_is_reported_before_the_next_is_leased() -> None:
    async def handler(attempt: Attempt) -> None:
        pass

    async with working(handler, concurrency=1) as (server, _):
        for i in range(5):
            server.offer(str(i))
        await server.until(called(server, "CompleteStage", 5))
        order = [name for name, _ in server.calls if name in {"LeaseStages", "CompleteStage"}]
        assert order[:10] == ["LeaseStages", "CompleteStage"] * 5
        assert server.of("CompleteStages") == []


async def test_a_thousand_stages_of_the_real_server_succeed(client: interlock.Client) -> None:
    queue = f"many-{uuid.uuid4().hex}"
    stages = [job_pb2.StageSpec(name=f"s{i}", queue=queue) for i in range(1_000)]
    job = await client.submit_job("many", stages=stages)

    async def handler(attempt: Attempt) -> dict[str, Any]:
        return {"name": attempt.stage_name}

    worker = interlock.Worker(client, [queue], concurrency=100)
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    ended = await client.wait_job(job.job_id, timeout=60)
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED
    worker.stop()
    await asyncio.wait_for(running, 20)
    stage = next(stage for stage in (await client.get_job(job.job_id)).stages if stage.name == "s500")
    assert interlock.from_struct(stage.artifacts) == {"name": "s500"}
