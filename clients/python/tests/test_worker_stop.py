"""Workers that stop, and servers that are killed, at any moment: no lease is left behind. Against the real server."""

from __future__ import annotations

import asyncio
import random
import time
import uuid

import interlock
from interlock import Attempt, Client, Worker
from interlock.v1 import job_pb2
from tests.real_server import Database, beside

ROUNDS = 200
LANES = 8
KILLS = 12


async def whole(client: Client) -> float:
    """How many seconds it takes from the start of a worker to the end of the stage that becomes ready for it."""
    queue = f"q-{uuid.uuid4().hex}"

    async def handler(attempt: Attempt) -> None:
        pass

    worker = Worker(client, [queue], "w")
    began = time.monotonic()
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    job = await client.submit_job("film", stages=[job_pb2.StageSpec(name="main", queue=queue)])
    await client.wait_job(job.job_id)
    took = time.monotonic() - began
    worker.stop()
    await running
    return took


async def stop_once(client: Client, moments: random.Random, longest: list[float]) -> str:
    """One worker that stops while a stage becomes ready for it. What became of the stage."""
    latest = 1.5 * await whole(client)
    queue = f"q-{uuid.uuid4().hex}"

    async def handler(attempt: Attempt) -> None:
        await asyncio.sleep(moments.uniform(0, latest / 5))

    worker = Worker(client, [queue], "w", lease_duration=3600, grace=0.0)
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    submitting = asyncio.create_task(client.submit_job("film", stages=[job_pb2.StageSpec(name="main", queue=queue)]))
    await asyncio.sleep(moments.uniform(0, latest))
    began = time.monotonic()
    if moments.random() < 0.5:
        worker.stop()
    else:
        running.cancel()
    await asyncio.wait([running], timeout=20)
    assert running.done()
    longest.append(time.monotonic() - began)
    job = await submitting
    deadline = time.monotonic() + 20
    while True:
        stage = (await client.get_job(job.job_id)).stages[0]
        # What the server gives back by itself may take a moment.
        if stage.state != job_pb2.STAGE_STATE_RUNNING:
            break
        assert time.monotonic() < deadline, f"a lease was left behind: {stage}"
        await asyncio.sleep(0.01)
    assert stage.state in (job_pb2.STAGE_STATE_READY, job_pb2.STAGE_STATE_SUCCEEDED)
    assert stage.attempt == (stage.state == job_pb2.STAGE_STATE_SUCCEEDED), "what is given back is not counted"
    return job_pb2.StageState.Name(stage.state)


async def test_workers_that_stop_at_any_moment_leave_no_lease_behind(server_address: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    ends: list[str] = []
    longest: list[float] = []

    async def lane(number: int) -> None:
        moments = random.Random(seed + number)
        async with interlock.Client(server_address) as client:
            for _ in range(ROUNDS // LANES):
                ends.append(await stop_once(client, moments, longest))

    await asyncio.gather(*map(lane, range(LANES)))
    longest.sort()
    print(
        {end: ends.count(end) for end in set(ends)}, "stops took at most", longest[-1], "median", longest[ROUNDS // 2]
    )
    assert longest[ROUNDS // 2] < 1.0
    assert len(set(ends)) == 2, "too early or too late, every time"


async def test_a_worker_whose_server_is_killed_gets_its_leases_from_the_next(database: Database) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    queue = f"q-{uuid.uuid4().hex}"

    async def handler(attempt: Attempt) -> None:
        pass

    with beside(database) as killed:
        backoff = interlock.Backoff(first=0.01, longest=0.1)
        async with (
            interlock.Client(database.address) as client,
            interlock.Client(killed.address, backoff=backoff) as own,
        ):
            latest = await whole(own)
            worker = Worker(own, [queue], "w", lease_duration=3600)
            running = asyncio.create_task(worker.run(handler, handle_signals=False))
            for round in range(KILLS):
                job = await client.submit_job("film", stages=[job_pb2.StageSpec(name="main", queue=queue)])
                await asyncio.sleep(moments.uniform(0, latest))
                await asyncio.to_thread(killed.kill)
                await asyncio.to_thread(killed.start)
                job = await client.wait_job(job.job_id, timeout=40)
                # A granted lease with a lost response would be held for an hour.
                assert job.state == job_pb2.JOB_STATE_SUCCEEDED, f"round {round}: {job.stages[0]}"
                assert job.stages[0].attempt == 1
            worker.stop()
            await asyncio.wait_for(running, 20)
