"""Following records, against a server that tells what the test says."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import interlock
from interlock import Backoff, Client, RecordUpdate
from interlock.records import Record
from interlock.v1 import job_service_pb2, record_pb2, record_service_pb2
from tests.fake_server import FakeServer, Hang, Refusal
from tests.test_watch import soon

Code = grpc.StatusCode
News = record_service_pb2.WatchRecordsResponse
KEEPALIVE = News(keepalive=job_service_pb2.WatchKeepalive())


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[Client]:
    async with Client(server.address, namespace="here", backoff=Backoff(first=0.001, longest=0.002)) as client:
        yield client


def record(record_id: str, created: int = 1, **versions: int) -> News:
    """A record with fields that have their versions as values, created at a given second."""
    sent = record_pb2.Record(collection="c", record_id=record_id, version=max(versions.values()))
    sent.create_time.FromSeconds(created)
    for name, version in versions.items():
        sent.fields[name].number_value = version
        sent.field_versions[name] = version
    return News(record=sent)


def change(record_id: str, previous: int, version: int, *names: str, removed: tuple[str, ...] = ()) -> News:
    """These fields have the version as their value now."""
    sent = record_service_pb2.RecordChange(
        collection="c", record_id=record_id, previous_version=previous, version=version, removed_fields=removed
    )
    for name in names:
        sent.fields[name].number_value = version
        sent.field_versions[name] = version
    return News(change=sent)


def removal(record_id: str, version: int = 0) -> News:
    return News(removal=record_service_pb2.RecordRemoval(collection="c", record_id=record_id, version=version))


def update(record_id: str, fields: dict[str, int] | None, changed: str, removed: str = "") -> RecordUpdate:
    now = None if fields is None else Record("c", record_id, {**fields}, max(fields.values()), {**fields})
    return RecordUpdate("c", record_id, now, frozenset(changed), frozenset(removed))


def asked(server: FakeServer) -> list[dict[str, tuple[int, int] | None]]:
    """What each request said of the records: their version, and the second at which they were made. None: nothing."""
    requests = server.of("WatchRecords")
    assert {it.collection for request in requests for it in request.records} == {"c"}
    return [
        {
            it.record_id: (it.from_version, it.from_create_time.ToSeconds())
            if it.from_version or it.HasField("from_create_time")
            else None
            for it in request.records
        }
        for request in requests
    ]


async def read(client: Client, *expected: RecordUpdate, silence: float = 20) -> None:
    """Reads these, and nothing between them."""
    async with client.watch_records([("c", "a"), ("c", "b")], silence=silence) as watch:
        for wanted in expected:
            assert await soon(anext(watch)) == wanted
    with pytest.raises(StopAsyncIteration):
        await soon(anext(watch))


async def test_a_watch_tells_each_record_after_each_change(server: FakeServer, client: Client) -> None:
    server.streams = [
        [
            *(record("a", x=1, y=2), KEEPALIVE, removal("b"), change("a", 2, 5, "y", "z", removed=("x",))),
            # Created, deleted, created again with another version of the same field; and deleted and created as one.
            *(record("b", 2, x=1), removal("b", 1), record("b", 3, x=2), record("b", 4, y=2), change("b", 2, 3, "y")),
            Hang(),
        ]
    ]
    await read(
        client,
        *(update("a", {"x": 1, "y": 2}, "xy"), update("b", None, ""), update("a", {"y": 5, "z": 5}, "yz", "x")),
        *(update("b", {"x": 1}, "x"), update("b", None, "", "x"), update("b", {"x": 2}, "x")),
        *(update("b", {"y": 2}, "y", "x"), update("b", {"y": 3}, "y")),
    )
    assert asked(server) == [{"a": None, "b": None}]
    assert server.metadata[0]["interlock-namespace"] == "here"


async def test_a_watch_is_resumed_from_what_was_received(server: FakeServer, client: Client) -> None:
    drains = Refusal(Code.UNAVAILABLE, "DRAINING")
    server.streams = [
        [record("a", x=1, y=2), removal("b"), change("a", 2, 3, "z"), drains],
        # No state of `a`, because it is known: its next change follows the last delivered state.
        [removal("b"), change("a", 3, 4, "x", removed=("y",)), record("b", 2, x=1), drains],
        [removal("a", 4), drains],
        [removal("a"), change("b", 1, 2, "y"), Hang()],
    ]
    await read(
        client,
        *(update("a", {"x": 1, "y": 2}, "xy"), update("b", None, ""), update("a", {"x": 1, "y": 2, "z": 3}, "z")),
        *(update("a", {"x": 4, "z": 3}, "x", "y"), update("b", {"x": 1}, "x"), update("a", None, "", "xz")),
        update("b", {"x": 1, "y": 2}, "y"),
    )
    assert asked(server) == [
        *({"a": None, "b": None}, {"a": (3, 1), "b": None}),
        *({"a": (4, 1), "b": (1, 2)}, {"a": None, "b": (1, 2)}),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        [Refusal(Code.UNAVAILABLE, "DRAINING", pushback_ms=1)],
        [Refusal(Code.UNAVAILABLE, "")],
        [Refusal(Code.RESOURCE_EXHAUSTED, "STREAM_LIMIT", pushback_ms=1)],
        [Refusal(Code.CANCELLED, "")],
        [Refusal(Code.INTERNAL, "")],
        [],
        [Hang()],
        [change("a", 1, 4, "x")],
    ],
    ids=["DRAINING", "UNAVAILABLE", "STREAM_LIMIT", "CANCELLED", "INTERNAL", "ended", "silent", "chain"],
)
async def test_a_watch_that_begins_again_tells_what_differs(
    server: FakeServer, client: Client, broken: list[Any]
) -> None:
    server.streams = [
        [record("a", x=1, y=2), removal("b"), *broken],
        broken,
        [record("a", x=1, y=2), removal("b"), *broken],
        # Changed and created; then deleted; then the same again.
        [record("a", x=1, y=4), record("b", x=1), *broken],
        [removal("a"), record("b", x=1), *broken],
        [removal("a"), record("b", x=1), change("b", 1, 2, "y"), Hang()],
    ]
    await read(
        client,
        *(update("a", {"x": 1, "y": 2}, "xy"), update("b", None, "")),
        *(update("a", {"x": 1, "y": 4}, "y"), update("b", {"x": 1}, "x")),
        *(update("a", None, "", "xy"), update("b", {"x": 1, "y": 2}, "y")),
        silence=0.3,
    )


async def test_a_record_of_the_same_version_can_be_another(server: FakeServer, client: Client) -> None:
    server.streams = [
        [record("a", 1, x=1), removal("b"), Refusal(Code.UNAVAILABLE, "DRAINING")],
        [record("a", 2, y=1), removal("b"), change("a", 1, 2, "z"), Hang()],
    ]
    await read(
        client,
        *(update("a", {"x": 1}, "x"), update("b", None, "")),
        *(update("a", {"y": 1}, "y", "x"), update("a", {"y": 1, "z": 2}, "z")),
    )


@pytest.mark.parametrize("ends", ["at once", "after a change that does not follow"])
@pytest.mark.parametrize("sent", [record("a", x=1), removal("a")], ids=["record", "absence"])
async def test_a_server_that_tells_nothing_new_is_given_up(
    server: FakeServer, client: Client, sent: News, ends: str
) -> None:
    end = Refusal(Code.UNAVAILABLE, "DRAINING") if ends == "at once" else change("a", 7, 8, "x")
    server.streams = [[sent, end] for _ in range(10_000)]
    watch = client.watch_records([("c", "a")], patience=0.2)
    assert (await soon(anext(watch))).record_id == "a"
    with pytest.raises(interlock.Unavailable, match="DRAINING" if ends == "at once" else "version 7 of a was never"):
        await soon(anext(watch))


async def test_what_waiting_does_not_change_ends_a_watch(server: FakeServer, client: Client) -> None:
    server.streams = [
        [record("a", x=1), Refusal(Code.UNAVAILABLE, "DRAINING")],
        [Refusal(Code.INVALID_ARGUMENT, "INVALID_FIELD", field="records[0].record_id")],
    ]
    watch = client.watch_records([("c", "a")])
    assert (await soon(anext(watch))).record_id == "a"
    with pytest.raises(interlock.InvalidArgument) as raised:
        await soon(anext(watch))
    assert [violation.field for violation in raised.value.violations] == ["records[0].record_id"]
    with pytest.raises(StopAsyncIteration):
        await soon(anext(watch))
    assert len(server.calls) == 2


async def test_a_wait_that_is_cancelled_loses_nothing(server: FakeServer, client: Client) -> None:
    server.streams = [[record("a", x=1), Hang()]]
    async with client.watch_records([("c", "a")]) as watch:
        assert (await soon(anext(watch))).record_id == "a"
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(watch), 0.02)
        assert (len(server.calls), server.left) == (1, 0)
    await server.until(lambda: server.left == 1)


async def test_whoever_leaves_the_loop_ends_the_call(server: FakeServer, client: Client) -> None:
    gc.disable()
    try:
        server.streams = [[record("a", x=1), Hang()]]
        async for _ in client.watch_records([("c", "a")]):
            break
        await server.until(lambda: server.left == 1)
    finally:
        gc.enable()
