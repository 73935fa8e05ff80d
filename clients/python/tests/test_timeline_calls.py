"""Calls for timelines that break, against a server that answers as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import interlock
from interlock import Backoff, Client, ExportFormat, Segment
from interlock.v1 import timeline_service_pb2
from tests.fake_server import FakeServer, Hang, Refusal
from tests.test_watch import soon

DRAINS = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING")
TAKEN = Refusal(grpc.StatusCode.ALREADY_EXISTS, "SESSION_ALREADY_EXISTS")
MISSING = Refusal(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with Client(server.address, backoff=Backoff(first=0.001, longest=0.002)) as client:
        yield client


def part(data: str) -> timeline_service_pb2.ExportTimelineResponse:
    return timeline_service_pb2.ExportTimelineResponse(data=data.encode())


async def test_a_session_that_exists_is_used_as_it_is(server: FakeServer, client: Client) -> None:
    server.refusals = [TAKEN]
    async with client.session("s") as session:
        assert session.session_id == "s"
    assert [name for name, _ in server.calls] == ["CreateSession", "GetSession"]


async def test_a_session_that_is_being_deleted_is_waited_for(server: FakeServer, client: Client) -> None:
    server.refusals = [TAKEN, MISSING, TAKEN, MISSING]
    async with client.session("s"):
        pass
    assert [name for name, _ in server.calls] == [*(["CreateSession", "GetSession"] * 2), "CreateSession"]
    # Each is a call of its own: a repeat under the same id would get the same answer.
    assert len({request.request_id for request in server.of("CreateSession")}) == 3


async def test_a_session_that_is_deleted_for_too_long_is_an_error(server: FakeServer) -> None:
    server.refusals = [TAKEN, MISSING] * 1_000
    async with Client(server.address, timeout=0.1) as client:
        with pytest.raises(interlock.AlreadyExists):
            async with client.session("s"):
                pass


async def test_an_export_that_breaks_begins_again(server: FakeServer, client: Client, tmp_path: Path) -> None:
    server.streams = [[part("WEB"), DRAINS], [part("WEB"), part("VTT")]] * 2
    export = client.session("s").export(ExportFormat.WEBVTT)
    assert await soon(export.read()) == b"WEBVTT"
    saved = await soon(export.save(tmp_path / "s.vtt"))
    assert saved.read_bytes() == b"WEBVTT"
    assert [it.name for it in tmp_path.iterdir()] == ["s.vtt"]


async def test_an_export_in_parts_is_repeated_only_before_its_first_part(server: FakeServer, client: Client) -> None:
    server.streams = [[DRAINS], [part("WEB"), DRAINS]]
    received = []
    with pytest.raises(interlock.Unavailable):
        async for data in client.session("s").export(ExportFormat.WEBVTT):
            received.append(data)
    assert received == [b"WEB"]


async def test_an_export_that_fails_leaves_the_file_as_it_was(
    server: FakeServer, client: Client, tmp_path: Path
) -> None:
    target = tmp_path / "s.vtt"
    target.write_text("before")
    server.streams = [[part("WEB"), MISSING]]
    with pytest.raises(interlock.NotFound):
        await soon(client.session("s").export(ExportFormat.WEBVTT).save(target))
    assert [(it.name, it.read_text()) for it in tmp_path.iterdir()] == [("s.vtt", "before")]


async def test_a_silent_export_is_an_error(server: FakeServer, client: Client) -> None:
    server.streams = [[part("WEB"), Hang()]]
    with pytest.raises(interlock.DeadlineExceeded, match=r"no part of the export came for 0\.1 s"):
        await soon(client.session("s").export(ExportFormat.WEBVTT, silence=0.1).read())
    await server.until(lambda: server.left == 1)


async def test_an_import_sends_bounded_parts_and_repeats_the_one_that_failed(
    server: FakeServer, client: Client
) -> None:
    async def recorded() -> AsyncIterator[Segment]:
        for number in range(9_000):
            yield Segment.note(f"n{number}", "x")

    server.refusals = [DRAINS]
    result = await asyncio.wait_for(client.import_segments("s", recorded()), 60)
    assert (result.applied, result.unchanged, result.failed) == (9_000, 0, 0)
    parts = server.of("ImportSegments")
    assert [(it.session_id, it.segments[0].key) for it in parts] == [("s", "n0"), ("s", "n0"), ("s", "n8000")]
    assert all(len(it.segments) == 500 for it in parts)


async def test_an_import_that_fails_says_how_much_is_stored(server: FakeServer, client: Client) -> None:
    counts = {"applied_count": "400", "unchanged_count": "90", "failed_count": "10"}
    ended = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION", metadata=counts)

    async def recorded() -> AsyncIterator[Segment]:
        for number in range(8_001):
            yield Segment.note(f"n{number}", "x")
        # The first part is stored.
        server.refusals = [ended]
        yield Segment.note("last", "x")

    with pytest.raises(interlock.InvalidTransition, match="8490 segments of the import are stored") as failed:
        await asyncio.wait_for(client.import_segments("s", recorded()), 60)
    assert failed.value.imported == interlock.ImportResult(8_400, 90, 10, ())
    # Errors of other calls say nothing of an import.
    server.refusals = [MISSING]
    with pytest.raises(interlock.NotFound) as missing:
        await client.get_job("none")
    assert missing.value.imported is None


async def test_an_import_of_nothing_makes_no_call(server: FakeServer, client: Client) -> None:
    assert await client.import_segments("s", []) == interlock.ImportResult(0, 0, 0, ())
    assert server.calls == []
    with pytest.raises(TypeError, match="segments is an iterable of Segment, not an int"):
        await client.import_segments("s", 7)  # type: ignore[arg-type]


async def test_large_segments_are_sent_in_small_messages(server: FakeServer, client: Client) -> None:
    large = [Segment.audio(f"a{number}", bytes(200_000)) for number in range(12)]
    await soon(client.import_segments("s", large))
    # Five of them are about 1 MB.
    assert len(server.of("ImportSegments")[0].segments) == 5
