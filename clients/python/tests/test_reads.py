"""Lists of jobs, and reads that may be old."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import interlock
from interlock import Client, ExportFormat, Field, JobState, Segment
from interlock.v1 import worker_service_pb2


async def first(items: AsyncIterator[object]) -> None:
    """Reads one item."""
    async for _ in items:
        return
    raise AssertionError("there is none")


async def test_jobs_are_listed_page_by_page(client: Client) -> None:
    team = uuid.uuid4().hex
    made = [await client.submit_job("film", labels={"team": team}, priority=priority) for priority in (1, 3, 2)]
    listed = [job.job_id async for job in client.list_jobs(f'labels.team = "{team}"', order_by="priority desc")]
    assert listed == [made[1].job_id, made[2].job_id, made[0].job_id]
    with pytest.raises(interlock.InvalidArgument):
        await first(client.list_jobs("nonsense ="))


async def test_queues_and_collections_are_listed(client: Client, collection: str) -> None:
    queue = uuid.uuid4().hex
    await client.submit_job("film", stages=[{"name": name, "queue": queue} for name in ("a", "b")])
    await client.update_record(collection, "r", Field("n").set(1), allow_missing=True)
    queues = {it.name: it async for it in client.list_queues()}
    assert (queues[queue].ready_count, queues[queue].leased_count) == (2, 0)
    assert queues[queue].HasField("oldest_ready_time")
    assert not queues[queue].ready_count_capped
    leasing = worker_service_pb2.LeaseStagesRequest(worker_id=f"worker {queue}", queues=[queue])
    await client.call(client.workers.LeaseStages, leasing)
    workers = {it.worker_id: it async for it in client.list_workers()}
    assert (workers[f"worker {queue}"].lease_count, list(workers[f"worker {queue}"].queues)) == (1, [queue])
    collections = {it.name: it.record_count async for it in client.list_collections()}
    assert collections[collection] == 1


async def test_a_job_is_paused_resumed_retried_explained_and_deleted(client: Client) -> None:
    queue = uuid.uuid4().hex
    job = await client.submit_job("film", stages=[{"name": "main", "queue": queue}])
    assert JobState((await client.pause_job(job.job_id, expected_version=job.version)).state) is JobState.PAUSED
    with pytest.raises(interlock.VersionMismatch):
        await client.resume_job(job.job_id, expected_version=job.version)
    assert JobState((await client.resume_job(job.job_id)).state) is JobState.PENDING
    assert queue in (await client.explain_job(job.job_id)).headline
    with pytest.raises(interlock.InvalidTransition):
        await client.retry_job(job.job_id)
    with pytest.raises(interlock.InvalidTransition):
        await client.delete_job(job.job_id)
    await client.cancel_job(job.job_id, grace_period=0)
    assert (await client.retry_job(job.job_id)).run == 2
    await client.cancel_job(job.job_id, grace_period=0)
    await client.delete_job(job.job_id)
    with pytest.raises(interlock.NotFound):
        await client.get_job(job.job_id)


async def test_each_read_carries_how_old_its_answer_may_be(client: Client, collection: str) -> None:
    job = await client.submit_job("film", stages=[{"name": name, "queue": collection} for name in ("a", "b")])
    leasing = worker_service_pb2.LeaseStagesRequest(worker_id=collection, queues=[collection])
    await client.call(client.workers.LeaseStages, leasing)
    await client.update_record(collection, "r", Field("n").set(1), allow_missing=True)
    async with client.session(uuid.uuid4().hex) as session:
        await session.append(Segment.note("a", "x"))
    reads: dict[str, Callable[..., Awaitable[Any]]] = {
        "get_job": lambda **age: client.get_job(job.job_id, **age),
        "list_jobs": lambda **age: first(client.list_jobs(**age)),
        "list_queues": lambda **age: first(client.list_queues(**age)),
        "list_workers": lambda **age: first(client.list_workers(**age)),
        "list_collections": lambda **age: first(client.list_collections(**age)),
        "get_record": lambda **age: client.get_record(collection, "r", **age),
        "list_records": lambda **age: first(client.list_records(collection, **age)),
        "get_session": lambda **age: client.get_session(session.session_id, **age),
        "list_sessions": lambda **age: first(client.list_sessions(**age)),
        "get": lambda **age: session.get("a", **age),
        "timeline": lambda **age: first(session.timeline(**age)),
        "statistics": session.statistics,
        "export": lambda **age: session.export(ExportFormat.TEXT, **age).read(),
    }
    for name, read in reads.items():
        await read(max_staleness=1)
        # Beyond what the server takes.
        with pytest.raises(interlock.InvalidArgument) as refused:
            await read(max_staleness=3_600)
        assert [it.field for it in refused.value.violations] == ["max_staleness"], name
