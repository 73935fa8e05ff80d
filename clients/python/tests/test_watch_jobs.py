"""Following many jobs, against a server that tells what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import interlock
from interlock import Backoff, CaughtUp, Client, JobAppeared, JobChanged, JobRemoved
from interlock.v1 import job_pb2, job_service_pb2
from tests.fake_server import FakeServer, Hang, Refusal
from tests.test_watch import soon

Code = grpc.StatusCode
RUNNING = job_pb2.JOB_STATE_RUNNING


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with Client(server.address, backoff=Backoff(first=0.001, longest=0.002)) as client:
        yield client


def board(**update: Any) -> job_service_pb2.WatchJobsResponse:
    return job_service_pb2.WatchJobsResponse(**update)


def a_job(job_id: str, version: int, created: int = 1) -> job_service_pb2.WatchJobsResponse:
    job = job_pb2.Job(job_id=job_id, version=version, state=RUNNING, run=1)
    job.create_time.FromSeconds(created)
    return board(job=job)


async def test_watched_jobs_are_compared_when_the_stream_begins_again(server: FakeServer, client: Client) -> None:
    caught_up = board(caught_up=job_service_pb2.WatchCaughtUp(jobs=4))
    further = job_service_pb2.JobChange(job_id="a", previous_version=1, version=2, state=RUNNING, run=1, progress=0.5)
    removal = job_service_pb2.JobRemoval(job_id="e", version=1, deleted=True)
    dead = Refusal(Code.UNAVAILABLE, "DRAINING")
    server.streams = [
        [a_job("a", 1), dead],
        [a_job("a", 1), a_job("b", 1), a_job("c", 1), a_job("d", 1), caught_up, board(change=further), dead],
        # The same, further, gone, another one of the same id, and a new one.
        [a_job("a", 2), a_job("b", 4), a_job("d", 1, 2), a_job("e", 1), caught_up, board(removal=removal)],
    ]
    received: list[tuple[Any, ...]] = []
    async with client.watch_jobs("kind = film") as watch:
        while len(received) < 12:
            match await soon(anext(watch)):
                case JobAppeared(job):
                    received.append(("+", job.job_id, job.version))
                case JobChanged(job, change):
                    received.append(("*", job.job_id, job.version, job.progress, change is not None))
                case JobRemoved(job, deleted):
                    received.append(("-", job.job_id, deleted))
                case CaughtUp(jobs):
                    received.append(("=", jobs))
    assert received == [
        *(("+", "a", 1), ("+", "b", 1), ("+", "c", 1), ("+", "d", 1), ("=", 4), ("*", "a", 2, 0.5, True)),
        *(("*", "b", 4, 0, False), ("-", "d", True), ("+", "d", 1), ("+", "e", 1), ("-", "c", None)),
        ("-", "e", True),
    ]
    assert [request.filter for request in server.of("WatchJobs")] == ["kind = film"] * 3


async def test_watched_jobs_that_do_not_follow_are_read_again(server: FakeServer, client: Client) -> None:
    caught_up = board(caught_up=job_service_pb2.WatchCaughtUp(jobs=1))
    hole = job_service_pb2.JobChange(job_id="a", previous_version=8, version=9, state=RUNNING, run=1)
    server.streams = [
        [a_job("a", 2), caught_up, board(change=hole), Hang()],
        [a_job("a", 10), caught_up, board(keepalive={}), Hang()],
    ]
    watch = client.watch_jobs()
    events = [await soon(anext(watch)) for _ in range(3)]
    assert [type(event) for event in events] == [JobAppeared, CaughtUp, JobChanged]
    assert len(server.calls) == 2
    server.refusals = [Refusal(Code.RESOURCE_EXHAUSTED, "STREAM_LIMIT", metadata={"limit": "10000"})]
    with pytest.raises(interlock.ResourceExhausted):
        await soon(anext(client.watch_jobs()))
