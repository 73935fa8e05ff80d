"""Records and commits, against the real server."""

from __future__ import annotations

import asyncio
import uuid

import pytest

import interlock
from interlock import Attempt, Client, Completion, Field, Worker, record_update
from interlock.v1 import job_pb2, job_service_pb2, permit_pb2, worker_service_pb2


async def test_fields_change_by_operations(client: Client, collection: str) -> None:
    made = await client.update_record(
        collection,
        "a",
        Field("title").set("Rain"),
        Field("views").increment(2),
        Field("log").append("x", {"y": 1}),
        Field("tags").add_to_set("a", "a"),
        Field("best").maximum(3.5),
        Field("least").minimum(-1),
        Field("meta").merge({"size": {"w": 1}, "gone": None}),
        allow_missing=True,
    )
    expected = {
        "title": "Rain",
        "views": 2,
        "log": ["x", {"y": 1}],
        "tags": ["a"],
        "best": 3.5,
        "least": -1,
        "meta": {"size": {"w": 1}},
    }
    assert (made.fields, made.version) == (expected, 1)
    changed = await client.update_record(collection, "a", Field("title").unset(), Field("log").remove("x"))
    assert changed == await client.get_record(collection, "a")
    assert (changed.fields["log"], changed.field_versions["log"], "title" in changed.fields) == ([{"y": 1}], 2, False)


async def test_versions_are_compared(client: Client, collection: str) -> None:
    first = await client.update_record(collection, "a", Field("n").set(1), allow_missing=True, expected_version=0)
    with pytest.raises(interlock.VersionMismatch) as mismatch:
        await client.update_record(collection, "a", Field("n").set(2), expected_version=7)
    assert (mismatch.value.actual, mismatch.value.current) == (first.version, None)
    with pytest.raises(interlock.VersionMismatch) as mismatch:
        await client.update_record(collection, "a", Field("n").set(2), expected_version=7, return_current=True)
    assert mismatch.value.current == first
    with pytest.raises(interlock.VersionMismatch) as mismatch:
        await client.delete_record(collection, "a", expected_version=7, return_current=True)
    assert mismatch.value.current == first
    with pytest.raises(interlock.VersionMismatch):
        await client.update_record(collection, "a", Field("n", expected_version=0).set(2))
    with pytest.raises(interlock.PreconditionFailed) as wrong:
        await client.update_record(collection, "a", Field("n").append(1))
    assert wrong.value.reason == "WRONG_TYPE"
    await client.delete_record(collection, "a")
    with pytest.raises(interlock.NotFound):
        await client.get_record(collection, "a")


async def test_many_at_once_and_in_pages(client: Client, collection: str) -> None:
    updates = [record_update(collection, f"r{i:04}", Field("n").set(i), allow_missing=True) for i in range(500)]
    assert [record.fields["n"] for record in await client.update_records(updates)] == list(range(500))
    found = [record.record_id async for record in client.list_records(collection, "fields.n >= 498")]
    assert found == ["r0498", "r0499"]
    results = await client.write_records(
        [
            record_update(collection, "r0000", Field("n").increment()),
            record_update(collection, "none", Field("n").increment()),
        ]
    )
    assert [result.status.code for result in results] == [0, 5]


async def test_a_commit_is_done_as_a_whole(client: Client, collection: str) -> None:
    write = record_update(collection, "a", Field("n").increment(), allow_missing=True)
    job_id = f"j-{uuid.uuid4().hex}"
    submit = job_service_pb2.SubmitJobRequest(kind="film", job_id=job_id)
    results = await client.commit([write, submit])
    assert (results[0].record.version, results[1].job.job_id) == (1, job_id)
    with pytest.raises(interlock.AlreadyExists) as refused:
        await client.commit([write, submit])
    assert refused.value.metadata["index"] == "1"
    assert (await client.get_record(collection, "a")).version == 1
    with pytest.raises(ValueError, match="GetJobRequest"):
        await client.commit([job_service_pb2.GetJobRequest(job_id=job_id)])
    queue = f"q-{uuid.uuid4().hex}"
    await client.submit_job("film", stages=[job_pb2.StageSpec(name="main", queue=queue)])
    poll = worker_service_pb2.LeaseStagesRequest(worker_id="w", queues=[queue])
    lease = (await client.call(client.workers.LeaseStages, poll)).leases[0]
    await client.commit([write], lease_fence=lease.lease_token)
    await client.call(
        client.workers.ReleaseStage,
        worker_service_pb2.ReleaseStageRequest(target=worker_service_pb2.StageTarget(lease_token=lease.lease_token)),
    )
    with pytest.raises(interlock.LeaseLost):
        await client.commit([write], lease_fence=lease.lease_token)
    # An empty token, such as that of a denial, never means that nothing is required.
    for fences in ({"lease_fence": ""}, {"permit_fence": permit_pb2.Permit().permit_token}):
        with pytest.raises(interlock.InvalidArgument) as empty:
            await client.commit([write], **fences)
        assert [violation.field for violation in empty.value.violations] == list(fences)
    assert (await client.get_record(collection, "a")).version == 2


async def test_a_worker_commits_more_than_its_stage(client: Client, collection: str) -> None:
    queue = f"q-{uuid.uuid4().hex}"

    async def handler(attempt: Attempt) -> Completion:
        # The first time the field is of another type, and nothing of it is done.
        name = "text" if attempt.number == 1 else "n"
        write = record_update(collection, "a", Field(name).increment())
        return Completion({"by": attempt.number}, also=[write])

    await client.update_record(collection, "a", Field("text").set("x"), allow_missing=True)
    retry = {"initial_backoff": {"seconds": 0}, "jitter": {"seconds": 0}}
    job = await client.submit_job(
        "film",
        stages=[job_pb2.StageSpec(name="main", queue=queue, retry_policy=retry)],  # type: ignore[arg-type]
    )
    worker = Worker(client, [queue], "w", grace=0.0)
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    ended = await client.wait_job(job.job_id, timeout=20)
    worker.stop()
    await asyncio.wait_for(running, 20)
    assert (ended.state, ended.stages[0].attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    assert interlock.from_struct(ended.stages[0].artifacts) == {"by": 2}
    assert (await client.get_record(collection, "a")).fields == {"text": "x", "n": 1}
