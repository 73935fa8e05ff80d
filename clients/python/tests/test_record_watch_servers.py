"""Following records on real servers, also while they are killed. All news have 20 s to come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import interlock
from interlock import Client, Field, Record, RecordUpdate
from interlock.record_watch import RecordsNews, RecordsWatch
from tests.real_server import Database, beside
from tests.test_watch_servers import at, soon


def overheard(client: Client, patch: pytest.MonkeyPatch) -> list[RecordsNews]:
    """All that servers tell the record watches of a client from now on, but signs of life."""
    messages: list[RecordsNews] = []
    begin = client.records.WatchRecords

    def begun(*args: Any, **options: Any) -> Any:
        call = begin(*args, **options)
        take = call.read

        async def read() -> Any:
            message = await take()
            if isinstance(message, RecordsNews) and not message.HasField("keepalive"):
                messages.append(message)
            return message

        patch.setattr(call, "read", read)
        return call

    patch.setattr(client.records, "WatchRecords", begun)
    return messages


def subject(news: RecordsNews) -> str:
    return news.record.record_id or news.change.record_id or news.removal.record_id


class Writer:
    """Changes one record on end, through its own client, and remembers what each change left."""

    def __init__(self, client: Client, collection: str) -> None:
        self.left: list[Record] = []
        """The record at version 1, 2 and so on."""
        self._client = client
        self._collection = collection
        self._written = asyncio.Condition()
        self._stopping = False

    async def run(self) -> None:
        while not self._stopping:
            step = len(self.left)
            # Fields come, change and go, one or two at a time.
            changes = [Field(f"f{step % 7}").set(step)]
            if step % 3 == 2:
                changes.append(Field(f"f{(step + 3) % 7}").unset())
            record = await self._client.update_record(self._collection, "busy", *changes, allow_missing=True)
            async with self._written:
                self.left.append(record)
                assert record.version == len(self.left)
                self._written.notify_all()

    async def further(self, versions: int) -> int:
        """Waits until it has written so many more. Returns the version that the record has at least."""
        enough = len(self.left) + versions
        async with self._written:
            await soon(self._written.wait_for(lambda: len(self.left) >= enough))
        return enough

    def stop(self) -> None:
        self._stopping = True

    def check(self, updates: list[RecordUpdate]) -> None:
        """Nothing twice, nothing backwards, nothing missing: each update is what the writer left, and tells why."""
        fields: dict[str, int] = {}
        version = 0
        for update in updates:
            assert update.record is not None
            assert update.record.version > version
            version = update.record.version
            assert update.record == self.left[version - 1]
            assert update.changed == {
                name for name, at in update.record.field_versions.items() if fields.get(name) != at
            }
            assert update.removed == fields.keys() - update.record.fields.keys()
            fields = update.record.field_versions


async def up_to(watch: RecordsWatch, version: int) -> list[RecordUpdate]:
    """What comes, to a version of the only record."""
    updates: list[RecordUpdate] = []
    while not updates or updates[-1].record is None or updates[-1].record.version < version:
        updates.append(await soon(anext(watch)))
    return updates


async def test_a_deletion_through_another_server_is_sent(client: Client, database: Database, collection: str) -> None:
    with beside(database) as server:
        async with at(server) as there, there.watch_records([(collection, "a")]) as watch:
            assert (await soon(anext(watch))).record is None
            made = await client.update_record(collection, "a", Field("x").set(1), allow_missing=True)
            assert (await soon(anext(watch))).record == made
            await client.delete_record(collection, "a")
            # By the contract it takes about a second.
            assert (await asyncio.wait_for(anext(watch), 5)).record is None


@pytest.mark.parametrize("written", ["here", "elsewhere"])
async def test_records_are_sent_as_they_are_and_after_what_becomes_of_them(
    client: Client, database: Database, collection: str, written: str
) -> None:
    with beside(database) as server:
        async with at(database if written == "here" else server) as there:
            old = await client.update_record(collection, "a", Field("x").set([1, {"y": None}]), allow_missing=True)
            async with there.watch_records([(collection, "b"), (collection, "a")]) as watch:
                received = {update.record_id: update for update in [await soon(anext(watch)), await soon(anext(watch))]}
                assert received["a"] == RecordUpdate(collection, "a", old, frozenset({"x"}), frozenset())
                assert received["b"] == RecordUpdate(collection, "b", None, frozenset(), frozenset())

                changes = [Field("x").unset(), Field("n").increment(2), Field("text").set("…")]
                new = await client.update_record(collection, "a", *changes)
                update = await soon(anext(watch))
                assert update == RecordUpdate(collection, "a", new, frozenset({"n", "text"}), frozenset({"x"}))
                # Every update has its own.
                assert received["a"].record == old

                # Deleted through this server, and where it was made.
                for value, deleter in (("first", there), ("second", client)):
                    made = await client.update_record(collection, "b", Field(value).set(value), allow_missing=True)
                    update = await soon(anext(watch))
                    assert update == RecordUpdate(collection, "b", made, frozenset({value}), frozenset())
                    await deleter.delete_record(collection, "b")
                    update = await soon(anext(watch))
                    assert update == RecordUpdate(collection, "b", None, frozenset(), frozenset({value}))

                # Its deletion and creation can be one update; the old fields are gone either way.
                await client.delete_record(collection, "a")
                again = await client.update_record(collection, "a", Field("n").set(2), allow_missing=True)
                updates = await up_to(watch, again.version)
                assert updates[-1].record == again
                assert updates[-1].changed == {"n"}
                assert frozenset().union(*(update.removed for update in updates)) >= {"text"}


async def test_a_watch_of_a_busy_record_goes_on_over_kills_and_restarts(
    client: Client, database: Database, collection: str
) -> None:
    writer = Writer(client, collection)
    writing = asyncio.create_task(writer.run())
    try:
        with beside(database) as one, beside(database) as two:
            async with at(one, two) as there, there.watch_records([(collection, "busy")]) as watch:
                updates = await up_to(watch, await writer.further(5))
                # To the other one, back, and to one that comes only after a while without any update.
                await asyncio.to_thread(one.kill)
                updates += await up_to(watch, await writer.further(20))
                await asyncio.to_thread(one.start)
                await asyncio.to_thread(two.stop)
                updates += await up_to(watch, await writer.further(20))
                waits = asyncio.ensure_future(anext(watch))
                await asyncio.to_thread(one.kill)
                await writer.further(20)
                await asyncio.to_thread(two.start)
                updates.append(await soon(waits))
                updates += await up_to(watch, await writer.further(20))
                writer.stop()
                await soon(writing)
                if updates[-1].record != writer.left[-1]:
                    updates += await up_to(watch, len(writer.left))
    finally:
        writing.cancel()
    writer.check(updates)
    assert updates[-1].record == await client.get_record(collection, "busy")


async def test_what_happens_without_a_stream_is_sent_once(
    client: Client, database: Database, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is away, so that it all falls into one gap: only differences are delivered."""
    ids = ["same", "changed", "deleted", "again", "created", "briefly"]
    for record_id in ids[:4]:
        await client.update_record(collection, record_id, Field("x").set(1), allow_missing=True)
    with beside(database) as server:
        async with at(server) as there, there.watch_records((collection, it) for it in ids) as watch:
            messages = overheard(there, monkeypatch)
            first = [await soon(anext(watch)) for _ in ids]
            assert {it.record_id: it.record is not None for it in first} == {it: it in ids[:4] for it in ids}
            waits = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(server.kill)
            messages.clear()

            changed = await client.update_record(collection, "changed", Field("y").set(2))
            await client.delete_record(collection, "deleted")
            # At the same version as the delivered record, so that the version alone does not distinguish them.
            await client.delete_record(collection, "again")
            again = await client.update_record(collection, "again", Field("y").set(2), allow_missing=True)
            assert again.version == 1
            created = await client.update_record(collection, "created", Field("x").set(1), allow_missing=True)
            await client.update_record(collection, "briefly", Field("x").set(1), allow_missing=True)
            await client.delete_record(collection, "briefly")

            await asyncio.to_thread(server.start)
            received = [await soon(waits), *[await soon(anext(watch)) for _ in range(3)]]
            assert {it.record_id: (it.record, {*it.changed}, {*it.removed}) for it in received} == {
                "changed": (changed, {"y"}, set()),
                "deleted": (None, set(), {"x"}),
                "again": (again, {"y"}, {"x"}),
                "created": (created, {"x"}, set()),
            }
            # It goes on from there, with what is there now.
            for record_id in ("same", "again"):
                now = await client.update_record(collection, record_id, Field("z").set(3))
                update = await soon(anext(watch))
                assert update == RecordUpdate(collection, record_id, now, frozenset({"z"}), frozenset())
            # Nothing was left out here: the server was silent about what had not changed, but for what is not there.
            said = [(it.WhichOneof("update"), subject(it)) for it in messages]
            assert sorted(said[:5]) == [
                *(("record", "again"), ("record", "changed"), ("record", "created")),
                *(("removal", "briefly"), ("removal", "deleted")),
            ]
            assert said[5:] == [("change", "same"), ("change", "again")]


async def test_a_hundred_records_can_be_watched_and_no_more(client: Client, collection: str) -> None:
    records = [(collection, f"r{number}") for number in range(100)]
    async with client.watch_records(records) as watch:
        received = [await soon(anext(watch)) for _ in records]
        assert {(it.collection, it.record_id) for it in received} == {*records}
        await client.update_record(collection, "r99", Field("x").set(1), allow_missing=True)
        assert (await soon(anext(watch))).record_id == "r99"
    with pytest.raises(interlock.InvalidArgument):
        await soon(anext(client.watch_records([*records, (collection, "r100")])))


async def test_records_that_cannot_be_watched(client: Client, server_address: str) -> None:
    for records, field in (
        ([], "records"),
        ([("c", "a"), ("c", "a")], "records[1].record_id"),
        ([("c", "a"), ("c", "no such id")], "records[1].record_id"),
        ([("", "a")], "records[0].collection"),
    ):
        watch = client.watch_records(records)
        with pytest.raises(interlock.InvalidArgument) as invalid:
            await soon(anext(watch))
        assert [violation.field for violation in invalid.value.violations] == [field]
        with pytest.raises(StopAsyncIteration):
            await soon(anext(watch))
    async with Client(server_address, namespace="empty") as empty:
        with pytest.raises(interlock.NotFound):
            await soon(anext(empty.watch_records([("c", "a")])))
