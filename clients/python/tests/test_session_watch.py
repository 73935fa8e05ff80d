"""Following a session, against a server that sends what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

import interlock
from interlock import Backoff, Client, SegmentChanged, SegmentDeleted, SessionChanged, SessionRemoved, SessionReplaced
from interlock.v1 import job_service_pb2, timeline_pb2, timeline_service_pb2
from tests.fake_server import FakeServer, Hang, Refusal
from tests.test_watch import soon

News = timeline_service_pb2.WatchSessionResponse
DRAINS = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING")


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with Client(server.address, namespace="here", backoff=Backoff(first=0.001, longest=0.002)) as client:
        yield client


def session(version: int, created: int = 1, *, title: str = "", ended: bool = False) -> News:
    state = timeline_pb2.SESSION_STATE_ENDED if ended else timeline_pb2.SESSION_STATE_OPEN
    sent = timeline_pb2.Session(session_id="s", title=title, state=state, version=version)
    sent.create_time.FromSeconds(created)
    return News(session=sent)


def changes(previous: int, version: int, *segments: str, deleted: tuple[str, ...] = ()) -> News:
    """Segments as KEY@VERSION."""
    sent = timeline_service_pb2.SegmentChanges(previous_version=previous, version=version, deleted_keys=deleted)
    for segment in segments:
        key, _, at = segment.partition("@")
        sent.segments.add(key=key, kind=timeline_pb2.SEGMENT_KIND_NOTE, version=int(at))
    return News(changes=sent)


def keepalive(version: int) -> News:
    return News(keepalive=job_service_pb2.WatchKeepalive(version=version))


REMOVAL = News(removal=timeline_service_pb2.SessionRemoval(session_id="s"))
RESET = News(reset=timeline_service_pb2.SessionReset(version=1))


def shown(event: interlock.SessionEvent) -> str:
    match event:
        case SessionChanged(session=it):
            return f"session {it.title or it.state}"
        case SegmentChanged(segment=it, version=version):
            return f"{it.key}@{it.version} to {version}"
        case SegmentDeleted(key=key, version=version):
            return f"{key} deleted to {version}"
        case SessionRemoved():
            return "removed"
        case SessionReplaced():
            return "replaced"


def asked(server: FakeServer) -> list[tuple[int, int]]:
    """Version and create time of each request."""
    return [(it.from_version, it.from_create_time.ToSeconds()) for it in server.of("WatchSession")]


async def read(client: Client, *expected: str, silence: float = 20) -> None:
    """Reads these, and nothing between them."""
    async with client.watch_session("s", silence=silence) as watch:
        for wanted in expected:
            assert shown(await soon(anext(watch))) == wanted
    with pytest.raises(StopAsyncIteration):
        await soon(anext(watch))


async def test_a_watch_has_an_event_for_each_change_and_ends_with_the_session(
    server: FakeServer, client: Client
) -> None:
    server.streams = [
        [
            *(session(3), changes(0, 3, "a@2", "b@3"), keepalive(3), changes(3, 4, deleted=("a",))),
            *(session(5, title="new"), session(6, title="new"), changes(5, 6, "b@6"), session(7, ended=True)),
        ]
    ]
    found = [shown(event) async for event in client.watch_session("s")]
    assert found == [
        *("session OPEN", "a@2 to 0", "b@3 to 3", "a deleted to 4", "session new", "b@6 to 6", "session ENDED")
    ]
    assert server.metadata[0]["interlock-namespace"] == "here"


async def test_a_watch_is_resumed_from_the_last_version(server: FakeServer, client: Client) -> None:
    server.streams = [
        [session(2), changes(0, 2, "a@2"), DRAINS],
        [session(2), changes(2, 4, "b@3", "a@4"), keepalive(6), DRAINS],
        [session(6), changes(6, 7, "c@7")],
        # A stream that ends before the session did is an interruption.
        [session(8, ended=True)],
    ]
    found = [shown(event) async for event in client.watch_session("s")]
    assert found == ["session OPEN", "a@2 to 2", "b@3 to 2", "a@4 to 4", "c@7 to 7", "session ENDED"]
    assert asked(server) == [(0, 0), (2, 1), (6, 1), (7, 1)]


async def test_a_version_that_came_in_part_is_not_delivered_twice(server: FakeServer, client: Client) -> None:
    """Where the changes of one version are several messages, only the last one has that version."""
    server.streams = [
        [session(9), changes(0, 8, "a@3", "b@9"), changes(8, 8, "c@9", deleted=("d",)), DRAINS],
        # In the meantime `c` has changed again.
        [session(10), changes(8, 10, "b@9", "e@9", "c@10", deleted=("d", "f")), Hang()],
    ]
    await read(
        client,
        *("session OPEN", "a@3 to 0", "b@9 to 8", "c@9 to 8", "d deleted to 8"),
        *("e@9 to 8", "c@10 to 8", "f deleted to 10"),
    )
    assert asked(server) == [(0, 0), (8, 1)]


async def test_a_session_that_is_deleted_and_created_again(server: FakeServer, client: Client) -> None:
    server.streams = [
        [REMOVAL, session(1), changes(0, 2, "a@2"), REMOVAL, DRAINS],
        # It still does not exist, which was delivered before; then another one is created.
        [REMOVAL, session(1, 5), changes(0, 2, "b@2"), DRAINS],
        # While the stream was broken, a third one took its place.
        [RESET, session(1, 9), changes(0, 2, "b@2"), Hang()],
    ]
    await read(
        client,
        *("removed", "session OPEN", "a@2 to 2", "removed", "session OPEN", "b@2 to 2"),
        *("replaced", "session OPEN", "b@2 to 2"),
    )
    assert asked(server) == [(0, 0), (0, 0), (2, 5)]


async def test_a_watch_is_resumed_within_the_session_that_took_the_place(server: FakeServer, client: Client) -> None:
    server.streams = [
        [session(8), changes(0, 8, "a@8"), RESET, session(3, 5), changes(0, 3, "a@3"), DRAINS],
        [session(4, 5), changes(3, 4, "b@4"), Hang()],
    ]
    await read(client, "session OPEN", "a@8 to 8", "replaced", "session OPEN", "a@3 to 3", "b@4 to 4")
    assert asked(server) == [(0, 0), (3, 5)]


async def test_a_silent_stream_is_resumed(server: FakeServer, client: Client) -> None:
    server.streams = [[session(2), changes(0, 2, "a@2"), Hang()], [session(3), changes(2, 3, "b@3"), Hang()]]
    await read(client, "session OPEN", "a@2 to 2", "b@3 to 3", silence=0.2)


async def test_a_watch_begins_after_what_the_caller_has(server: FakeServer, client: Client) -> None:
    server.streams = [[session(9, ended=True)], [session(9, ended=True)]]
    known = timeline_pb2.Session(session_id="s", version=7)
    known.create_time.FromSeconds(3)
    async for _ in client.watch_session(interlock.Session.of(known)):
        pass
    async for _ in client.watch_session("s", 8):
        pass
    assert asked(server) == [(7, 3), (8, 0)]
    with pytest.raises(ValueError, match="after its own version"):
        client.watch_session(interlock.Session.of(known), 7)


async def test_an_error_that_lasts_is_raised_after_the_patience(server: FakeServer, client: Client) -> None:
    server.streams = [[session(1), REMOVAL, DRAINS], *([[DRAINS]] * 1000)]
    watch = client.watch_session("s", patience=0.05)
    assert [shown(await soon(anext(watch))) for _ in range(2)] == ["session OPEN", "removed"]
    with pytest.raises(interlock.Unavailable):
        await soon(anext(watch))
    with pytest.raises(StopAsyncIteration):
        await soon(anext(watch))


async def test_what_a_new_stream_repeats_does_not_end_the_patience(server: FakeServer, client: Client) -> None:
    server.streams = [[session(2), changes(0, 1, "a@1"), changes(1, 1, "b@2"), DRAINS]]
    server.streams += [[session(2), DRAINS]] * 1000
    watch = client.watch_session("s", patience=0.05)
    assert [shown(await soon(anext(watch))) for _ in range(3)] == ["session OPEN", "a@1 to 1", "b@2 to 1"]
    with pytest.raises(interlock.Unavailable):
        await soon(anext(watch))


async def test_a_permanent_error_is_raised_at_once(server: FakeServer, client: Client) -> None:
    server.streams = [[Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="session_id")]]
    with pytest.raises(interlock.InvalidArgument):
        await soon(anext(client.watch_session("s")))
