"""Following jobs on real servers, also while they are killed. All news have 20 s to come."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable
from itertools import pairwise
from typing import TypeVar

import pytest

import interlock
from interlock import Attempt, Backoff, CaughtUp, Client, JobAppeared, JobChanged, JobRemoved, JobUpdate, Worker
from interlock.v1 import job_pb2, job_service_pb2, worker_service_pb2
from interlock.watch import JobWatch
from tests.real_server import Beside, Database, beside

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
Result = TypeVar("Result")


async def soon(awaitable: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaitable, 20)


def at(*servers: Beside | Database) -> Client:
    """A client that finds one of them."""
    return Client("ipv4:" + ",".join(server.address for server in servers), backoff=Backoff(first=0.05, longest=0.2))


async def submit(client: Client, *names: str, **fields: str) -> job_pb2.Job:
    """A job with stages that are written by name."""
    stages = [job_pb2.StageSpec(name=name, direct=True) for name in names]
    return await client.submit_job("watched", stages=stages, labels=fields)


async def progress(client: Client, job: job_pb2.Job, stage: str, value: float) -> int:
    request = worker_service_pb2.UpdateStageProgressRequest(progress=value)
    request.target.stage_ref.job_id, request.target.stage_ref.stage_name = job.job_id, stage
    return (await client.call(client.workers.UpdateStageProgress, request)).job_version


async def complete(client: Client, job: job_pb2.Job, *stages: str) -> None:
    for stage in stages:
        request = worker_service_pb2.CompleteStageRequest(artifacts=interlock.to_struct({"of": stage}))
        request.target.stage_ref.job_id, request.target.stage_ref.stage_name = job.job_id, stage
        await client.call(client.workers.CompleteStage, request)


async def history(client: Client, job: job_pb2.Job) -> list[int]:
    """The versions in which a state changed."""
    request = job_service_pb2.ListJobEventsRequest(job_id=job.job_id, page_size=1000)
    return [event.version for event in (await client.call(client.jobs.ListJobEvents, request)).events]


async def up_to(watch: JobWatch, version: int) -> list[JobUpdate]:
    """What comes, to a version."""
    updates: list[JobUpdate] = []
    while not updates or updates[-1].version < version:
        updates.append(await soon(anext(watch)))
    return updates


async def rest(watch: JobWatch) -> list[JobUpdate]:
    async def read() -> list[JobUpdate]:
        return [update async for update in watch]

    return await soon(read())


def check(updates: list[JobUpdate], events: Iterable[int]) -> None:
    """Nothing twice, nothing backwards, nothing missing; the chain holds."""
    for before, after in pairwise(updates):
        assert after.version > before.version
        assert after.job.run > before.job.run or after.job.progress >= before.job.progress
        if after.change is not None:
            assert after.change.previous_version == before.version
    states = [it.version for it in updates if it.change is not None and it.change.event_type != 0]
    first, last = updates[0], updates[-1]
    since = first.version if first.change is None else first.change.previous_version
    assert states == [version for version in events if since < version <= last.version]
    assert not any(update.gap for update in updates)


async def test_a_job_is_followed_from_its_snapshot_to_its_end(client: Client) -> None:
    job = await submit(client, "voice", "image")
    async with client.watch(job.job_id) as watch:
        first = await soon(anext(watch))
        assert (first.change, first.job) == (None, await client.get_job(job.job_id))
        second = (await up_to(watch, await progress(client, job, "voice", 0.5)))[-1]
        assert [stage.progress for stage in second.job.stages] == [0.5, 0]
        assert (first.job.progress, second.job.progress) == (0, 0.25)
        await complete(client, job, "voice", "image")
        updates = [first, second, *await rest(watch)]
    check(updates[1:], await history(client, job))
    final, read = updates[-1].job, await client.get_job(job.job_id)
    assert (final.state, final.progress, final.version) == (SUCCEEDED, 1, read.version)
    assert final.stage_counts == read.stage_counts
    # What changes do not carry.
    for stage in read.stages:
        stage.ClearField("artifacts")
    assert [*final.stages] == [*read.stages]


async def test_a_watch_that_begins_after_the_end(client: Client) -> None:
    job = await submit(client, "main")
    await complete(client, job, "main")
    job = await client.get_job(job.job_id)
    (update,) = await rest(client.watch(job.job_id))
    assert update.job == job
    assert await rest(client.watch(job)) == []
    assert [it.progress async for it in client.progress(job.job_id)] == [1]
    # Another run goes on from there, to its own end.
    retry = job_service_pb2.RetryJobRequest(job_id=job.job_id, from_stage="main")
    await client.call(client.jobs.RetryJob, retry)
    await complete(client, job, "main")
    updates = await rest(client.watch(job))
    check(updates, await history(client, job))
    assert [updates[0].job.run, updates[0].job.progress, updates[-1].job.state] == [2, 0, SUCCEEDED]
    assert not updates[0].job.HasField("end_time")


async def test_a_watch_resumes_from_every_version_and_from_the_job(client: Client) -> None:
    job = await submit(client, "voice", "image")
    await progress(client, job, "voice", 0.5)
    await complete(client, job, "voice", "image")
    events = await history(client, job)
    last = await client.get_job(job.job_id)
    for version in range(1, last.version):
        updates = await rest(client.watch(job.job_id, from_version=version))
        assert updates[0].change is not None
        assert updates[0].change.previous_version == version
        assert updates[0].job.stages_truncated
        check(updates, events)
        assert (updates[-1].version, updates[-1].job.progress) == (last.version, 1)
    updates = await rest(client.watch(job))
    check(updates, events)
    final = updates[-1].job
    assert (final.kind, final.stages_truncated, final.stage_counts) == ("watched", False, last.stage_counts)
    assert [(stage.name, stage.state, stage.version) for stage in final.stages] == [
        (stage.name, stage.state, stage.version) for stage in last.stages
    ]


async def test_history_that_is_gone_is_a_gap(client: Client, database: Database) -> None:
    job = await submit(client, "voice", "music", "image")
    await complete(client, job, "voice", "music")
    job = await client.get_job(job.job_id)
    gone = f"SELECT namespace_id, job_uid FROM jobs WHERE job_id = '{job.job_id}'"
    database.run(f"DELETE FROM job_events WHERE (namespace_id, job_uid) IN ({gone}) AND revision < {job.version}")
    watch = client.watch(job.job_id, from_version=1)
    update = await soon(anext(watch))
    assert (update.gap, update.change, update.job) == (True, None, job)
    await complete(client, job, "image")
    check(await rest(watch), await history(client, job))


async def test_what_cannot_be_watched(client: Client) -> None:
    with pytest.raises(interlock.NotFound) as missing:
        await soon(anext(client.watch("unknown")))
    assert (missing.value.reason, missing.value.metadata["job_id"]) == ("JOB_NOT_FOUND", "unknown")
    with pytest.raises(interlock.InvalidArgument):
        await soon(anext(client.watch("no such id")))
    with pytest.raises(interlock.InvalidArgument):
        await soon(anext(client.watch_jobs("state ~ x")))
    job = await submit(client, "main")
    with pytest.raises(interlock.VersionInFuture) as future:
        await soon(anext(client.watch(job.job_id, from_version=5)))
    assert future.value.actual == 1

    # One that is deleted meanwhile: its end is delivered first.
    watch = client.watch(job)
    waits = asyncio.ensure_future(rest(watch))
    other = client.watch(job.job_id)
    assert (await soon(anext(other))).version == 1
    await client.cancel_job(job.job_id)
    assert [update.job.state for update in await waits] == [job_pb2.JOB_STATE_CANCELLED]
    await client.call(client.jobs.DeleteJob, job_service_pb2.DeleteJobRequest(job_id=job.job_id))
    with pytest.raises(interlock.NotFound):
        await rest(client.watch(job))


async def test_a_watch_goes_on_over_a_kill_and_a_restart(client: Client, database: Database) -> None:
    names = [f"s{number}" for number in range(6)]
    job = await submit(client, *names)
    with beside(database) as server:
        async with at(server) as there, there.watch(job.job_id) as watch:
            updates = await up_to(watch, 1)
            for number in (0, 1):
                await progress(client, job, names[2 * number], 0.5)
                await complete(client, job, names[2 * number])
                updates += await up_to(watch, (await client.get_job(job.job_id)).version)
                await asyncio.to_thread(server.kill)
                # While no server delivers it.
                await complete(client, job, names[2 * number + 1])
                waits = asyncio.ensure_future(anext(watch))
                await asyncio.to_thread(server.start)
                updates.append(await soon(waits))
            await complete(client, job, "s4", "s5")
            updates += await rest(watch)
    check(updates, await history(client, job))
    assert [update.version for update in updates if update.change is None] == [1]
    assert updates[-1].job.state == SUCCEEDED


async def test_a_watch_moves_to_another_server(client: Client, database: Database) -> None:
    """Drained and then killed: the other one goes on where it was, at once."""
    names = [f"s{number}" for number in range(4)]
    job = await submit(client, *names)
    with beside(database) as one, beside(database) as two:
        async with at(one, two) as there, there.watch(job.job_id) as watch:
            updates = await up_to(watch, 1)
            for server, end in ((one, one.stop), (two, two.kill)):
                # Written through one server, delivered by the other.
                await complete(client, job, *names[:1])
                updates += await up_to(watch, (await client.get_job(job.job_id)).version)
                waits = asyncio.ensure_future(anext(watch))
                await asyncio.to_thread(end)
                await complete(client, job, names[1])
                if server is two:
                    await asyncio.to_thread(one.start)
                updates.append(await soon(waits))
                names = names[2:]
            updates += await rest(watch)
    check(updates, await history(client, job))
    assert updates[-1].job.state == SUCCEEDED


async def test_many_watchers_of_a_busy_job_on_two_servers_see_the_same(client: Client, database: Database) -> None:
    queue = f"q-{uuid.uuid4().hex}"

    async def handler(attempt: Attempt) -> dict[str, str]:
        for step in range(5):
            attempt.report(step / 5)
            await client.get_job(attempt.job_id)
        return {"of": attempt.stage_name}

    with beside(database) as server:
        async with at(server) as there:
            stages = [job_pb2.StageSpec(name=f"s{number}", queue=queue) for number in range(20)]
            job = await client.submit_job("busy", stages=stages)
            watches = [asyncio.ensure_future(rest((client, there)[n % 2].watch(job.job_id))) for n in range(10)]
            worker = Worker(there, [queue], "w", concurrency=8, grace=0.0)
            running = asyncio.create_task(worker.run(handler, handle_signals=False))
            received = await asyncio.gather(*watches)
            worker.stop()
            await soon(running)
    events = await history(client, job)
    for updates in received:
        check(updates, events)
        final = updates[-1].job
        assert (final.state, final.progress, final.stage_counts.succeeded) == (SUCCEEDED, 1, 20)
        assert all(stage.state == job_pb2.STAGE_STATE_SUCCEEDED for stage in final.stages)


async def test_progress_only_grows_and_names_who_works(client: Client) -> None:
    job = await submit(client, "voice", "image")
    watch = client.progress(job.job_id)
    first = await soon(anext(watch))
    assert (first.progress, int(first.state), first.running) == (0, job_pb2.JOB_STATE_PENDING, ())
    await progress(client, job, "voice", 0.5)
    received = [first]
    while received[-1].progress < 0.25:
        received.append(await soon(anext(watch)))
    assert [(stage.name, stage.progress) for stage in received[-1].running] == [("voice", 0.5)]
    # A change that is none here.
    await client.call(client.jobs.UpdateJob, job_service_pb2.UpdateJobRequest(job_id=job.job_id, priority=3))
    await complete(client, job, "voice", "image")
    received += [it async for it in watch]
    assert [it.progress for it in received] == sorted(it.progress for it in received)
    assert all(before != after for before, after in pairwise(received))
    assert (received[-1].progress, received[-1].has_ended, received[-1].running) == (1, True, ())


async def test_jobs_appear_change_and_go(client: Client, database: Database) -> None:
    label = uuid.uuid4().hex
    old = await submit(client, "main", board=label)
    with beside(database) as server:
        where = f"labels.board = {label} AND (state = PENDING OR state = RUNNING)"
        async with at(server) as there, there.watch_jobs(where) as watch:
            received = [await soon(anext(watch)) for _ in range(2)]
            assert [type(event) for event in received] == [JobAppeared, CaughtUp]

            new = await submit(client, "main", board=label)
            event = await soon(anext(watch))
            assert isinstance(event, JobAppeared)
            assert event.job.job_id == new.job_id

            await progress(client, new, "main", 0.5)
            while event.job.progress < 0.5:
                event = await soon(anext(watch))
                assert isinstance(event, JobChanged)
            assert event.job.state == job_pb2.JOB_STATE_RUNNING

            # What happens while the server is away is delivered as differences only.
            await asyncio.to_thread(server.kill)
            waits = asyncio.ensure_future(anext(watch))
            await complete(client, new, "main")
            await progress(client, old, "main", 0.25)
            await asyncio.to_thread(server.start)
            event = await soon(waits)
            assert isinstance(event, JobChanged)
            assert (event.job.job_id, event.job.progress, event.change) == (old.job_id, 0.25, None)
            event = await soon(anext(watch))
            assert isinstance(event, JobRemoved)
            assert (event.job.job_id, event.deleted) == (new.job_id, None)

            await complete(client, old, "main")
            while not isinstance(event, JobRemoved) or event.job.job_id == new.job_id:
                event = await soon(anext(watch))
            assert (event.job.job_id, event.deleted) == (old.job_id, False)
