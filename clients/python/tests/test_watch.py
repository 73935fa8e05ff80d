"""Following jobs, against a server that tells what the test says."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import grpc
import pytest

import interlock
from interlock import Backoff, Client, JobUpdate, to_struct
from interlock.v1 import job_pb2, job_service_pb2
from tests.fake_server import FakeServer, Hang, Refusal

Code = grpc.StatusCode
RUNNING, SUCCEEDED = job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED
Result = TypeVar("Result")


async def soon(awaitable: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaitable, 20)


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with Client(server.address, namespace="here", backoff=Backoff(first=0.001, longest=0.002)) as client:
        yield client


def snapshot(version: int, **fields: Any) -> job_service_pb2.WatchJobResponse:
    fields = {"state": RUNNING, "run": 1, **fields}
    return job_service_pb2.WatchJobResponse(snapshot=job_pb2.Job(job_id="job", version=version, **fields))


def change(previous: int, version: int, **fields: Any) -> job_service_pb2.WatchJobResponse:
    fields = {"state": RUNNING, "run": 1, **fields}
    change = job_service_pb2.JobChange(job_id="job", previous_version=previous, version=version, **fields)
    return job_service_pb2.WatchJobResponse(change=change)


def end(previous: int, version: int) -> job_service_pb2.WatchJobResponse:
    return change(previous, version, state=SUCCEEDED, progress=1.0)


def keepalive(version: int) -> job_service_pb2.WatchJobResponse:
    return job_service_pb2.WatchJobResponse(keepalive=job_service_pb2.WatchKeepalive(version=version))


async def all_of(watch: AsyncIterator[JobUpdate]) -> list[JobUpdate]:
    return [update async for update in watch]


def seen(updates: list[JobUpdate]) -> list[tuple[int, bool, bool]]:
    """Version, whether it was read as a whole, gap."""
    return [(update.version, update.change is None, update.gap) for update in updates]


def asked(server: FakeServer) -> list[int]:
    return [request.from_version for request in server.of("WatchJob")]


async def test_a_watch_tells_the_job_after_each_change_and_ends_with_it(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(3), keepalive(3), change(3, 4, progress=0.5), end(4, 7), change(7, 8)]]
    updates = await soon(all_of(client.watch("job")))
    assert seen(updates) == [(3, True, False), (4, False, False), (7, False, False)]
    assert [update.job.progress for update in updates] == [0, 0.5, 1]
    assert (updates[-1].job.state, updates[-1].job.job_id) == (SUCCEEDED, "job")
    assert asked(server) == [0]
    assert server.metadata[0]["interlock-namespace"] == "here"


@pytest.mark.parametrize(
    "broken",
    [
        Refusal(Code.UNAVAILABLE, "DRAINING", pushback_ms=1),
        Refusal(Code.UNAVAILABLE, "STORE_UNAVAILABLE"),
        Refusal(Code.UNAVAILABLE, ""),
        Refusal(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        Refusal(Code.RESOURCE_EXHAUSTED, "OVERLOADED", pushback_ms=1),
        Refusal(Code.RESOURCE_EXHAUSTED, "STREAM_LIMIT", pushback_ms=1),
        Refusal(Code.CANCELLED, ""),
        Refusal(Code.UNKNOWN, ""),
        Refusal(Code.INTERNAL, ""),
    ],
    ids=lambda refusal: f"{refusal.code.name} {refusal.reason}",
)
async def test_a_broken_watch_goes_on_after_the_last_version(
    server: FakeServer, client: Client, broken: Refusal
) -> None:
    # Also a stream that breaks before its first message, and one that repeats messages.
    server.streams = [[snapshot(3), change(3, 5), broken], [broken], [change(3, 5), change(5, 6)], [end(6, 7)]]
    updates = await soon(all_of(client.watch("job")))
    assert seen(updates) == [(3, True, False), (5, False, False), (6, False, False), (7, False, False)]
    # The third stream ended in good order, though the job had not.
    assert asked(server) == [0, 5, 5, 6]


async def test_a_watch_waits_for_its_server_but_tells_at_once_what_is_wrong(server: FakeServer, client: Client) -> None:
    server.streams = [[Refusal(Code.UNAVAILABLE, "")], [], [snapshot(3, state=SUCCEEDED)]]
    assert seen(await soon(all_of(client.watch("job")))) == [(3, True, False)]
    # Such as a proxy that speaks something else.
    server.streams = [[Refusal(Code.INTERNAL, "")]]
    with pytest.raises(interlock.Internal):
        await soon(anext(client.watch("job")))


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(Code.NOT_FOUND, "JOB_NOT_FOUND"), interlock.NotFound),
        (Refusal(Code.INVALID_ARGUMENT, "INVALID_FIELD", field="job_id"), interlock.InvalidArgument),
        (Refusal(Code.OUT_OF_RANGE, "VERSION_IN_FUTURE", metadata={"actual": "2"}), interlock.VersionInFuture),
        (Refusal(Code.RESOURCE_EXHAUSTED, "STREAM_LIMIT"), interlock.ResourceExhausted),
        (Refusal(Code.UNAVAILABLE, "DRAINING", pushback_ms=-1), interlock.Unavailable),
        (Refusal(Code.INTERNAL, "INTERNAL"), interlock.Internal),
        (Refusal(Code.UNAUTHENTICATED, "CREDENTIAL_INVALID"), interlock.InterlockError),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
async def test_what_waiting_does_not_change_ends_a_watch(
    server: FakeServer, client: Client, refusal: Refusal, kind: type[interlock.InterlockError]
) -> None:
    server.streams = [[snapshot(3), refusal]]
    watch = client.watch("job")
    assert (await soon(anext(watch))).version == 3
    with pytest.raises(kind) as raised:
        await soon(anext(watch))
    assert raised.value.reason == refusal.reason
    assert len(server.calls) == 1
    with pytest.raises(StopAsyncIteration):
        await soon(anext(watch))


async def test_a_watch_gives_up_when_it_fails_on_end(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(3)], *([Refusal(Code.UNAVAILABLE, "STORE_UNAVAILABLE")] for _ in range(10_000))]
    start = time.monotonic()
    watch = client.watch("job", patience=0.3)
    assert (await soon(anext(watch))).version == 3
    with pytest.raises(interlock.Unavailable) as raised:
        await soon(anext(watch))
    assert raised.value.reason == "STORE_UNAVAILABLE"
    assert time.monotonic() - start >= 0.29
    assert len(server.calls) > 3
    # What the server asks for is longer than that.
    server.streams = [[Refusal(Code.UNAVAILABLE, "DRAINING", pushback_ms=1_000)]]
    with pytest.raises(interlock.Unavailable):
        await soon(anext(client.watch("job", patience=0.3)))


async def test_a_watch_waits_as_long_as_the_server_says(server: FakeServer, client: Client) -> None:
    server.streams = [[Refusal(Code.UNAVAILABLE, "DRAINING", pushback_ms=300)], [snapshot(1, state=SUCCEEDED)]]
    start = time.monotonic()
    assert len(await soon(all_of(client.watch("job")))) == 1
    assert time.monotonic() - start >= 0.3


async def test_a_silent_stream_is_dead_and_signs_of_life_keep_it(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(1), keepalive(1), Hang()], [Hang()], [end(1, 2)]]
    updates = await soon(all_of(client.watch("job", silence=0.2)))
    assert seen(updates) == [(1, True, False), (2, False, False)]
    assert asked(server) == [0, 1, 1]
    await server.until(lambda: server.left == 2)

    with pytest.raises(interlock.Unavailable, match=r"nothing was heard for 0.1 s"):
        await soon(anext(client.watch("job", silence=0.1, patience=0.25)))


@pytest.mark.parametrize("news", [change(4, 5), keepalive(5)], ids=["change", "keepalive"])
async def test_a_broken_chain_is_read_again_as_a_whole(server: FakeServer, client: Client, news: Any) -> None:
    server.streams = [[snapshot(3), news, Hang()], [snapshot(6), change(6, 7), Hang()]]
    watch = client.watch("job")
    updates = [await soon(anext(watch)) for _ in range(3)]
    assert seen(updates) == [(3, True, False), (6, True, True), (7, False, False)]
    assert asked(server) == [0, 0]


async def test_what_is_read_again_is_not_yielded_twice(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(3), change(4, 5)], [snapshot(3), end(3, 6)]]
    assert seen(await soon(all_of(client.watch("job")))) == [(3, True, False), (6, False, True)]


async def test_a_server_that_always_breaks_the_chain_is_given_up(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(version), change(0, version + 1), Hang()] for version in range(1, 10_000)]
    with pytest.raises(interlock.Unavailable, match="was never received"):
        await soon(all_of(client.watch("job", patience=0.2)))


async def test_a_gap_is_flagged_on_the_snapshot_that_follows(server: FakeServer, client: Client) -> None:
    gap = job_service_pb2.WatchJobResponse(gap=job_service_pb2.WatchGap(oldest_version=8))
    server.streams = [[gap, Refusal(Code.UNAVAILABLE, "DRAINING")], [gap, snapshot(9), end(9, 10)]]
    updates = await soon(all_of(client.watch("job", from_version=2)))
    assert seen(updates) == [(9, True, True), (10, False, False)]
    assert asked(server) == [2, 2]


async def test_another_job_of_the_same_id_is_not_taken_for_it(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(9), change(1, 2)], [snapshot(2), Hang()]]
    watch = client.watch("job")
    assert (await soon(anext(watch))).version == 9
    with pytest.raises(interlock.VersionInFuture) as raised:
        await soon(anext(watch))
    assert raised.value.actual == 2


async def test_changes_are_applied_to_the_stages_by_name(server: FakeServer, client: Client) -> None:
    def stage(name: str, version: int, state: job_pb2.StageState.ValueType, **fields: Any) -> job_pb2.Stage:
        return job_pb2.Stage(name=name, version=version, state=state, **fields)

    done, runs, waits = job_pb2.STAGE_STATE_SUCCEEDED, job_pb2.STAGE_STATE_RUNNING, job_pb2.STAGE_STATE_BLOCKED
    stages = [stage("a", 4, done, artifacts=to_struct({"n": 1})), stage("b", 2, runs), stage("c", 1, waits)]
    counts = job_pb2.StageCounts(total=3, succeeded=1, running=1, blocked=1)
    failure = {"failure": {"message": "no"}}
    server.streams = [
        [
            snapshot(5, stages=stages, stage_counts=counts, progress=0.5, result=to_struct({"old": 1})),
            # From history: no counts, and no progress if it is old.
            change(5, 6, stages=[stage("a", 4, done), stage("b", 3, runs, progress=0.5), stage("d", 1, runs)]),
            change(6, 7, stages=[stage("c", 2, runs)], stage_counts=job_pb2.StageCounts(total=9), **failure),
            change(7, 8, stages=[stage("a", 5, waits)], run=2, progress=0.1, stages_truncated=True),
            end(8, 9),
        ]
    ]
    first, second, third, fourth, last = await soon(all_of(client.watch("job")))
    assert first.job.stages[1].progress == 0
    assert [(it.name, it.state, it.progress) for it in second.job.stages] == [
        *(("a", done, 0), ("b", runs, 0.5), ("c", waits, 0), ("d", runs, 0))
    ]
    assert second.job.stages[0].artifacts == to_struct({"n": 1})
    assert second.job.stage_counts == job_pb2.StageCounts(total=4, succeeded=1, running=2, blocked=1)
    assert (second.job.progress, second.job.result) == (0.5, to_struct({"old": 1}))
    assert (third.job.stage_counts.total, third.job.failure.message) == (9, "no")
    # Another run: the job starts again.
    assert (fourth.job.run, fourth.job.progress) == (2, 0.1)
    assert not fourth.job.HasField("result")
    assert not fourth.job.HasField("failure")
    assert not fourth.job.stages[0].HasField("artifacts")
    assert (third.job.stages_truncated, fourth.job.stages_truncated) == (False, True)
    assert last.job.stage_counts.total == 9


async def test_a_watch_from_a_version_has_what_the_changes_say(server: FakeServer, client: Client) -> None:
    stage = job_pb2.Stage(name="a", state=job_pb2.STAGE_STATE_RUNNING)
    server.streams = [[change(4, 5, stages=[stage]), end(5, 6)], []]
    first, _ = await soon(all_of(client.watch("job", from_version=4)))
    assert (first.job.job_id, first.job.stages_truncated, [*first.job.stages]) == ("job", True, [stage])
    assert await soon(all_of(client.watch("job", from_version=6))) == []

    # One who has the job gives it, and has it whole.
    job = job_pb2.Job(job_id="job", version=4, run=1, state=RUNNING, kind="film", stages=[stage])
    server.streams = [[end(4, 5)]]
    (update,) = await soon(all_of(client.watch(job)))
    assert (update.job.kind, len(update.job.stages), update.job.state) == ("film", 1, SUCCEEDED)
    assert (job.version, job.state) == (4, RUNNING)
    assert asked(server) == [4, 6, 4]
    with pytest.raises(ValueError, match="its own version"):
        client.watch(job, from_version=2)


async def test_news_that_nobody_waited_for_to_the_end_are_not_lost(server: FakeServer, client: Client) -> None:
    server.streams = [[snapshot(1), Hang()]]
    async with client.watch("job") as watch:
        assert (await soon(anext(watch))).version == 1
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(watch), 0.02)
        assert (len(server.calls), server.left) == (1, 0)
    await server.until(lambda: server.left == 1)


async def test_a_dropped_watch_logs_nothing_when_its_stream_ends(
    server: FakeServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.streams = [[snapshot(1), Hang()]]
    watch = client.watch("job")
    assert (await soon(anext(watch))).version == 1
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(watch), 0.02)
    reading = watch._stream._opening.reading if watch._stream._opening else None
    assert reading is not None
    await server.stop()
    await soon(asyncio.wait({reading}))
    del watch, reading
    gc.collect()
    assert caplog.records == []


async def test_whoever_leaves_the_loop_ends_the_call(server: FakeServer, client: Client) -> None:
    gc.disable()
    try:
        server.streams = [[snapshot(1), Hang()], [snapshot(1), Hang()]]
        async for _ in client.watch("job"):
            break
        await server.until(lambda: server.left == 1)

        waits = asyncio.ensure_future(all_of(client.watch("job")))
        await server.until(lambda: len(server.calls) == 2)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        del waits
        await server.until(lambda: server.left == 2)
    finally:
        gc.enable()


async def test_whoever_waits_sees_the_end_when_it_is_closed(server: FakeServer, client: Client) -> None:
    server.streams = [[Hang()], [Hang()]]
    watch = client.watch("job")
    waits = asyncio.ensure_future(all_of(watch))
    await server.until(lambda: len(server.calls) == 1)
    await watch.aclose()
    assert await soon(waits) == []

    waits = asyncio.ensure_future(all_of(client.watch("job")))
    await server.until(lambda: len(server.calls) == 2)
    await client.close()
    with pytest.raises(interlock.InterlockError, match="closed"):
        await soon(waits)


async def test_progress_is_yielded_when_it_has_changed(server: FakeServer, client: Client) -> None:
    def stage(progress: float, state: job_pb2.StageState.ValueType = job_pb2.STAGE_STATE_RUNNING) -> job_pb2.Stage:
        lease = job_pb2.StageLease(worker_id="w")
        return job_pb2.Stage(name="a", state=state, progress=progress, message="cut", lease=lease)

    server.streams = [
        [
            snapshot(1, stages=[stage(0.2)], progress=0.2),
            change(1, 2, progress=0.2, event_type=job_service_pb2.JOB_EVENT_TYPE_UPDATED),
            change(2, 3, progress=0.2, stages=[stage(0.3)]),
            change(3, 4, progress=1, state=SUCCEEDED, stages=[stage(1, job_pb2.STAGE_STATE_SUCCEEDED)]),
        ]
    ]
    received = [progress async for progress in client.progress("job")]
    first = (interlock.RunningStage("a", 0.2, "cut", "w"),)
    assert [(it.progress, int(it.state), it.has_ended) for it in received] == [
        *((0.2, RUNNING, False), (0.2, RUNNING, False), (1, SUCCEEDED, True))
    ]
    assert received[0].running == first
    assert [stage.progress for stage in received[1].running] == [0.3]
    assert received[2].running == ()
