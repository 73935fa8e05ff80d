"""Writing and reading timelines while servers are killed and started again. Each step has 30 s."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import pytest

from interlock import (
    Attempt,
    Client,
    Completion,
    ExportFormat,
    JobState,
    Segment,
    SegmentStatus,
    Worker,
    segments_append,
)
from tests.real_server import Database, beside
from tests.subtitles import parse_webvtt
from tests.test_watch_servers import at

Result = TypeVar("Result")


@pytest.fixture
def session_id() -> str:
    return f"s-{uuid.uuid4().hex}"


async def soon(awaitable: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaitable, 30)


async def test_bots_go_on_while_their_servers_are_killed(client: Client, database: Database, session_id: str) -> None:
    said: list[str] = []
    enough = asyncio.Condition()

    async def speak(bot: Client, speaker: int) -> None:
        async with bot.session(session_id) as session:
            for number in range(1_000_000):
                if stopping.is_set():
                    return
                key = f"{speaker}/{number}"
                await session.interim(key, "…", start=number)
                translation = Segment.translation(f"{key}/de", f"Satz {key}", parent=key, language="de", start=number)
                results = await session.append(Segment.transcript(key, f"sentence {key}", start=number), translation)
                # A repeated call says what its first try did.
                assert [result.applied for result in results] == [True, True], results
                async with enough:
                    said.append(key)
                    enough.notify_all()

    async def further(count: int) -> None:
        wanted = len(said) + count
        async with enough:
            await soon(enough.wait_for(lambda: len(said) >= wanted or any(task.done() for task in tasks)))

    stopping = asyncio.Event()
    with beside(database) as one, beside(database) as two:
        async with at(one, two) as first, at(two, one) as second:
            tasks = [asyncio.create_task(speak(bot, number)) for number, bot in enumerate((first, second))]
            try:
                await further(6)
                await asyncio.to_thread(one.kill)
                await further(10)
                await asyncio.to_thread(one.start)
                await asyncio.to_thread(two.kill)
                await further(10)
                await asyncio.to_thread(two.start)
                stopping.set()
                await soon(asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
    segments = {it.key: it async for it in client.session(session_id).timeline()}
    assert segments.keys() == {*said, *(f"{key}/de" for key in said)}
    assert all(it.status is SegmentStatus.FINAL for it in segments.values())
    assert {key: segments[key].text for key in said} == {key: f"sentence {key}" for key in said}


async def test_an_import_goes_on_after_a_kill(client: Client, database: Database, session_id: str) -> None:
    count = 12_000
    with beside(database) as server:
        async with at(server) as there:
            has_begun = asyncio.Event()

            async def recorded() -> AsyncIterator[Segment]:
                for number in range(count):
                    if number == count - 1:
                        # The first part is stored, and the second one is complete only after the kill.
                        has_begun.set()
                        await has_restarted.wait()
                    yield Segment.note(f"n{number}", "x", start=number)

            has_restarted = asyncio.Event()
            importing = asyncio.create_task(there.import_segments(session_id, recorded(), allow_missing=True))
            await asyncio.wait_for(has_begun.wait(), 60)
            await asyncio.to_thread(server.kill)
            has_restarted.set()
            await asyncio.to_thread(server.start)
            result = await asyncio.wait_for(importing, 60)
    assert (result.applied + result.unchanged, result.failed) == (count, 0)
    assert (await client.get_session(session_id)).segment_count == count


async def test_an_export_goes_on_after_a_kill(client: Client, database: Database, session_id: str) -> None:
    # More than the buffers between server and client hold.
    text = "x" * 4_000
    transcripts = (Segment.transcript(f"t{it}", f"{it} {text}", start=it) for it in range(1_000))
    await client.import_segments(session_id, transcripts, allow_missing=True)
    with beside(database) as server:
        async with at(server) as there:
            export = there.session(session_id).export(ExportFormat.WEBVTT)
            begun, killed = asyncio.Event(), asyncio.Event()
            parts = export._parts

            async def slow() -> AsyncIterator[bytes]:
                async for part in parts():
                    yield part
                    begun.set()
                    await killed.wait()

            export._parts = slow  # type: ignore[method-assign]
            reading = asyncio.create_task(export.read())
            await soon(begun.wait())
            await asyncio.to_thread(server.kill)
            killed.set()
            await asyncio.to_thread(server.start)
            cues = parse_webvtt(await asyncio.wait_for(reading, 60))
    assert [cue.text.partition(" ")[0] for cue in cues] == [str(number) for number in range(1_000)]


async def test_a_stage_is_completed_together_with_what_it_heard(client: Client, session_id: str) -> None:
    queue = f"q-{uuid.uuid4().hex}"
    worker = Worker(client, [queue])

    @worker.handler("transcribe")
    async def transcribe(attempt: Attempt) -> Completion:
        worker.stop()
        heard = Segment.transcript(attempt.job_id, "Good morning", language="en")
        return Completion({"words": 2}, also=[segments_append(session_id, heard, allow_missing=True)])

    job = await client.submit_job("recording", stages=[{"name": "transcribe", "queue": queue}])
    await soon(worker.run(handle_signals=False))
    assert JobState((await client.get_job(job.job_id)).state) is JobState.SUCCEEDED
    assert (await client.session(session_id).get(job.job_id)).text == "Good morning"
