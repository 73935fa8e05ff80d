"""Following sessions on real servers, also while they are killed. All events have 20 s to come."""

from __future__ import annotations

import asyncio
import uuid

import pytest

import interlock
from interlock import (
    Client,
    Segment,
    SegmentChanged,
    SegmentDeleted,
    SegmentStatus,
    SessionChanged,
    SessionEvent,
    SessionRemoved,
    SessionReplaced,
    SessionWatch,
)
from tests.real_server import Database, beside
from tests.test_watch_servers import at, soon


@pytest.fixture
def session_id() -> str:
    return f"s-{uuid.uuid4().hex}"


class Captions:
    """What a front end shows: the segments by key, from events alone."""

    def __init__(self) -> None:
        self.shown: dict[str, Segment] = {}
        self.finals: list[str] = []
        """Keys in the order in which they became FINAL."""
        self.states: set[tuple[str, int]] = set()
        self.version = 0

    def take(self, event: SessionEvent) -> None:
        match event:
            case SegmentChanged(segment=segment, version=version):
                assert (segment.key, segment.version) not in self.states, "delivered twice"
                self.states.add((segment.key, segment.version))
                before = self.shown.get(segment.key)
                assert before is None or before.version < segment.version
                assert before is None or not before.is_final or segment.is_final
                if segment.is_final and (before is None or not before.is_final):
                    self.finals.append(segment.key)
                self.shown[segment.key] = segment
                assert version >= self.version
                self.version = version
            case SegmentDeleted(key=key, version=version):
                self.shown.pop(key, None)
                assert version >= self.version
                self.version = version
            case SessionRemoved() | SessionReplaced():
                self.shown.clear()
                self.version = 0
            case SessionChanged():
                pass


class Bot:
    """Speaks on end: interim states, then a FINAL, of one key after the other."""

    def __init__(self, client: Client, session_id: str) -> None:
        self.said: dict[str, str] = {}
        self._session = client.session(session_id)
        self._spoken = asyncio.Condition()
        self._stopping = False

    async def run(self) -> None:
        while not self._stopping:
            key, text = f"t{len(self.said)}", f"sentence {len(self.said)}"
            await self._session.interim(key, text[:4], start=len(self.said))
            await self._session.interim(key, text[:8], start=len(self.said))
            assert (await self._session.final(key, text, start=len(self.said))).applied
            async with self._spoken:
                self.said[key] = text
                self._spoken.notify_all()

    async def further(self, count: int) -> str:
        """Waits until it has said so many more, and returns the key of the last one."""
        enough = len(self.said) + count
        async with self._spoken:
            await soon(self._spoken.wait_for(lambda: len(self.said) >= enough))
        return f"t{enough - 1}"

    def stop(self) -> None:
        self._stopping = True


async def until_final(watch: SessionWatch, captions: Captions, key: str) -> None:
    """Reads until the FINAL of a key was shown."""
    while key not in captions.finals:
        captions.take(await soon(anext(watch)))


async def test_a_watch_of_a_meeting_goes_on_over_kills_and_restarts(
    client: Client, database: Database, session_id: str
) -> None:
    bot, captions = Bot(client, session_id), Captions()
    await client.create_session(session_id)
    speaking = asyncio.create_task(bot.run())
    try:
        with beside(database) as one, beside(database) as two:
            async with at(one, two) as there, there.watch_session(session_id) as watch:
                await until_final(watch, captions, await bot.further(3))
                # To the other one, back, and to one that comes only after a while without any event.
                await asyncio.to_thread(one.kill)
                await until_final(watch, captions, await bot.further(8))
                await asyncio.to_thread(one.start)
                await asyncio.to_thread(two.stop)
                await until_final(watch, captions, await bot.further(8))
                waits = asyncio.ensure_future(anext(watch))
                await asyncio.to_thread(one.kill)
                last = await bot.further(8)
                await asyncio.to_thread(two.start)
                captions.take(await soon(waits))
                await until_final(watch, captions, last)
                bot.stop()
                await soon(speaking)
                await client.end_session(session_id)
                async for event in watch:
                    captions.take(event)
                    last_event = event
    finally:
        speaking.cancel()
    assert isinstance(last_event, SessionChanged)
    assert last_event.session.has_ended
    # Each FINAL came, once, in order, and nothing else is shown.
    assert captions.finals == list(bot.said)
    assert {key: it.text for key, it in captions.shown.items()} == bot.said
    assert all(it.status is SegmentStatus.FINAL for it in captions.shown.values())


async def test_what_happens_without_a_stream_is_delivered_once(
    client: Client, database: Database, session_id: str
) -> None:
    async with client.session(session_id) as session:
        await session.append(*(Segment.note(key, "x") for key in ("same", "changed", "deleted")))
        with beside(database) as server:
            async with at(server) as there, there.watch_session(session_id) as watch:
                captions = Captions()
                while len(captions.shown) < 3:
                    captions.take(await soon(anext(watch)))
                waits = asyncio.ensure_future(anext(watch))
                await asyncio.to_thread(server.kill)
                await session.update(await session.get("changed"), text="y")
                await session.delete("deleted")
                await session.append(Segment.note("created", "x"))
                await session.interim("briefly", "x")
                await session.delete("briefly")
                await client.update_session(session_id, title="New")
                await asyncio.to_thread(server.start)
                events = [await soon(waits), *[await soon(anext(watch)) for _ in range(4)]]
    changed = {it.segment.key: it.segment.text for it in events if isinstance(it, SegmentChanged)}
    assert changed == {"changed": "y", "created": "x"}
    assert [it.key for it in events if isinstance(it, SegmentDeleted)] == ["deleted", "briefly"]
    assert [it.session.title for it in events if isinstance(it, SessionChanged)] == ["New"]


async def test_a_session_that_was_replaced_without_a_stream_is_shown_as_it_is(
    client: Client, database: Database, session_id: str
) -> None:
    async with client.session(session_id) as session:
        await session.append(Segment.note("a", "x"))
    with beside(database) as server:
        async with at(server) as there, there.watch_session(session_id) as watch:
            captions = Captions()
            while not captions.shown:
                captions.take(await soon(anext(watch)))
            waits = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(server.kill)
            await client.delete_session(session_id)
            # Its id is free as soon as its rows are gone.
            async with client.session(session_id, end_on_exit=True) as session:
                await session.append(Segment.note("b", "x"))
            await asyncio.to_thread(server.start)
            events = [await soon(waits)]
            async for event in watch:
                events.append(event)
    assert isinstance(events[0], SessionReplaced)
    assert [it.segment.key for it in events if isinstance(it, SegmentChanged)] == ["b"]


async def test_a_watch_begins_before_the_session_and_ends_with_it(client: Client, session_id: str) -> None:
    async with client.watch_session(session_id) as watch:
        assert await soon(anext(watch)) == SessionRemoved(session_id)
        async with client.session(session_id, title="Standup", end_on_exit=True) as session:
            await session.append(Segment.audio("a", "s3://x"), Segment.transcript("t", "x", parent="a"))
            await session.delete("a")
        events = [event async for event in watch]
    first, last = events[0], events[-1]
    assert isinstance(first, SessionChanged)
    assert isinstance(last, SessionChanged)
    assert (first.session.title, first.session.has_ended, last.session.has_ended) == ("Standup", False, True)
    captions = Captions()
    for event in events:
        captions.take(event)
    assert captions.shown.keys() == {"t"}

    # The whole again, and from any version that an event had.
    assert [type(it) for it in [event async for event in client.session(session_id).watch()]] == [
        *(SegmentChanged, SegmentDeleted, SessionChanged)
    ]
    later = [event async for event in client.watch_session(session_id, captions.version)]
    assert [type(it) for it in later] == [SessionChanged]
    ended = await client.get_session(session_id)
    assert [type(it) async for it in client.watch_session(ended)] == [SessionChanged]


async def test_a_session_that_is_deleted_is_removed(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        await session.append(Segment.note("a", "x"))
    async with client.watch_session(session_id) as watch:
        events = [await soon(anext(watch)) for _ in range(2)]
        assert [type(it) for it in events] == [SessionChanged, SegmentChanged]
        await client.delete_session(session_id)
        assert await soon(anext(watch)) == SessionRemoved(session_id)


async def test_a_name_that_no_session_can_have_is_refused(client: Client) -> None:
    with pytest.raises(interlock.InvalidArgument):
        await soon(anext(client.watch_session("no such id")))
