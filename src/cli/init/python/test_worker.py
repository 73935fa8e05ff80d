"""Tests of the worker with a real server. `interlock_server` and `interlock_namespace` are fixtures of the client."""

import asyncio

from interlock import Client, FailureClass, JobState, from_struct
from interlock.testing import DevServer
from submit import stages
from worker import new_worker

WITHIN = 30  # seconds


async def ended_job(server: DevServer, namespace: str, text: str):
    """Submits a job, and returns it when it has ended."""
    async with Client(server.address, namespace=namespace) as client:
        worker = new_worker(client)
        working = asyncio.create_task(worker.run(handle_signals=False))
        job = await client.submit_job("text", stages=stages(text, seconds_per_word=0))
        job = await client.wait_job(job.job_id, timeout=WITHIN)
        worker.stop()
        await working
        return job


def test_words_and_letters_are_counted(interlock_server: DevServer, interlock_namespace: str) -> None:
    job = asyncio.run(ended_job(interlock_server, interlock_namespace, "to be or not"))
    assert job.state == JobState.SUCCEEDED
    count, average = (from_struct(stage.artifacts) for stage in job.stages)
    assert count == {"words": 4, "letters": 9}
    assert average == {"letters_per_word": 2.25}


def test_a_text_without_words_fails_at_once(interlock_server: DevServer, interlock_namespace: str) -> None:
    job = asyncio.run(ended_job(interlock_server, interlock_namespace, " "))
    assert job.state == JobState.FAILED
    [failure] = [stage.failure for stage in job.stages if stage.name == "count"]
    assert (failure.failure_class, failure.code) == (FailureClass.CLIENT_ERROR, "NO_WORDS")


def test_a_cancelled_job_stops_its_handler(interlock_server: DevServer, interlock_namespace: str) -> None:
    async def cancelled_job():
        async with Client(interlock_server.address, namespace=interlock_namespace) as client:
            worker = new_worker(client)
            working = asyncio.create_task(worker.run(handle_signals=False))
            job = await client.submit_job("text", stages=stages("one two", seconds_per_word=WITHIN))
            async for now in client.progress(job):
                if now.running:
                    break
            await client.cancel_job(job.job_id, reason="a test")
            job = await client.wait_job(job.job_id, timeout=WITHIN)
            worker.stop()
            await working
            return job

    assert asyncio.run(cancelled_job()).state == JobState.CANCELLED
