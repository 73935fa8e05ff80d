"""Sessions and their segments on a real server."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

import interlock
from interlock import (
    Client,
    Content,
    Field,
    InvalidSegment,
    Segment,
    SegmentKind,
    SegmentResult,
    SegmentSkip,
    SegmentStatus,
    SessionHandle,
    Untimed,
    Word,
    record_update,
    segments_append,
)
from interlock.sequences import Sequences

INTERIM, FINAL = SegmentStatus.INTERIM, SegmentStatus.FINAL


@pytest.fixture
def session_id() -> str:
    """A session that no other test knows."""
    return f"s-{uuid.uuid4().hex}"


async def keys(session: SessionHandle) -> list[str]:
    return [segment.key async for segment in session.timeline()]


async def test_a_session_is_created_if_it_is_missing(client: Client, session_id: str) -> None:
    async with client.session(session_id, title="Standup", labels={"team": "a"}, retention=timedelta(days=1)) as first:
        await first.append(Segment.note("n", "x"))
    # It exists, and stays as it is.
    async with client.session(session_id, title="Another") as second:
        assert await keys(second) == ["n"]
    session = await client.get_session(session_id)
    assert (session.title, session.labels, session.retention) == ("Standup", {"team": "a"}, 86_400)
    assert (session.state, session.segment_count, session.version) == (interlock.SessionState.OPEN, 1, 2)
    assert session.end_time is None


async def test_the_server_chooses_an_id(client: Client) -> None:
    session = client.session()
    with pytest.raises(RuntimeError, match="use it with `async with`"):
        _ = session.session_id
    async with session:
        assert (await client.get_session(session.session_id)).segment_count == 0


async def test_a_session_is_ended_on_a_clean_exit_only(client: Client, session_id: str) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with client.session(session_id, end_on_exit=True):
            raise ValueError("mine")
    assert not (await client.get_session(session_id)).has_ended

    async def cancelled() -> None:
        async with client.session(session_id, end_on_exit=True):
            inside.set()
            await asyncio.Event().wait()

    inside = asyncio.Event()
    task = asyncio.create_task(cancelled())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (await client.get_session(session_id)).has_ended

    async with client.session(session_id):
        pass
    assert not (await client.get_session(session_id)).has_ended

    async with client.session(session_id, end_on_exit=True) as session:
        assert not (await client.get_session(session_id)).has_ended
    assert (await client.get_session(session_id)).has_ended
    async with client.session(session_id, end_on_exit=True) as session:
        # To end it again is no error.
        assert (await session.end()).has_ended
    with pytest.raises(interlock.InvalidTransition) as ended:
        await session.append(Segment.note("n", "x"))
    assert ended.value.state == "ENDED"


async def test_a_set_is_stored_whole_or_not_at_all(client: Client, session_id: str) -> None:
    audio = Segment.audio("a1", Content(data=b"sound", media_type="audio/ogg").data, start=0, end=2.5)
    transcript = Segment.transcript(
        "t1", "Good morning", start=0, end=2.5, speaker="Anna", language="en", parent=audio, words=[Word("Good", 0, 1)]
    )
    german = Segment.translation("t1/de", "Guten Morgen", start=0, end=2.5, language="de", parent=transcript)
    wrong = Segment.translation("t1/fr", "Bonjour", start=2.5, end=0, language="fr", parent=transcript)
    async with client.session(session_id) as session:
        with pytest.raises(InvalidSegment, match=r"end: must not be before start.*\(segment t1/fr\)") as refused:
            await session.append(audio, transcript, german, wrong)
        assert (refused.value.key, refused.value.field) == ("t1/fr", "end")
        assert refused.value.reason == "INVALID_FIELD"
        assert await keys(session) == []

        results = await session.append(audio, transcript, german)
        assert [(it.key, it.applied, it.skip, it.version) for it in results] == [
            (key, True, None, 2) for key in ("a1", "t1", "t1/de")
        ]
        read = await session.get("t1")
        assert read == replace(
            transcript,
            version=2,
            arrival=2,
            stored_sequence=transcript.to_message().sequence,
            create_time=read.create_time,
            update_time=read.update_time,
        )
        # The same set again, as after a lost response.
        assert not any(result.applied for result in await session.append(audio, transcript, german))
        assert (await client.get_session(session_id)).version == 2


async def test_segments_are_written_independently(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        first, second, third, fourth = await session.write(
            Segment.note("n1", "x", start=timedelta(seconds=1)),
            Segment.note("n2", "x", words=[Word("x"), Word("y", 2, 1)]),
            Segment.note("n3", "x", parent="n2"),
            Segment.note("n4", "x", parent="n1"),
        )
        assert (first.result, first.error) == (SegmentResult("n1", True, None, 2), None)
        assert isinstance(second.error, InvalidSegment)
        assert (second.result, second.error.key, second.error.field) == (None, "n2", "words[1].end")
        assert isinstance(third.error, InvalidSegment)
        assert third.error.field == "parent_key"
        assert fourth.error is None
        assert await keys(session) == ["n1", "n4"]


async def test_a_bot_that_counts_nothing_does_not_lose_its_final(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        for text in ("he", "hell", "hello"):
            assert (await session.interim("t1", text, speaker="Anna", language="en", start=1)).applied
        final = await session.final("t1", "Hello.", speaker="Anna", language="en", start=1, end=2)
        assert final.applied
        late = await session.interim("t1", "hello")
        assert (late.applied, late.skip, late.version) == (False, SegmentSkip.SEQUENCE, final.version)
        twice = await session.final("t1", "Hello!")
        assert (twice.applied, twice.skip) == (False, SegmentSkip.FINAL)
        assert (await session.get("t1")).text == "Hello."
        with pytest.raises(TypeError, match="the status is FINAL"):
            await session.final("t2", "x", status=INTERIM)


async def test_states_that_arrive_in_any_order_and_twice_leave_the_final(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        states = [Segment.transcript("t1", f"text {number}", status=INTERIM) for number in range(8)]
        final = Segment.transcript("t1", "text")
        sent = [*states, *states, final, final]
        random.Random(7).shuffle(sent)
        await asyncio.gather(*(session.append(state) for state in sent))
        now = await session.get("t1")
        assert (now.text, now.status, now.arrival) == ("text", FINAL, 1)

        # Without the FINAL the newest state stays.
        states = [Segment.transcript("t2", f"text {number}", status=INTERIM) for number in range(8)]
        newest_first = [await session.append(state) for state in reversed(states)]
        assert [result.applied for (result,) in newest_first] == [True] + [False] * 7
        assert (await session.get("t2")).text == "text 7"


async def test_a_bot_that_starts_again_replaces_what_it_left(
    client: Client, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client.session(session_id) as session:
        await session.interim("t1", "before")
        await session.append(Segment.transcript("t2", "before", status=INTERIM, sequence=2**61))
        # Another process knows nothing of the numbers so far.
        monkeypatch.setattr("interlock.segments.sequences", Sequences())
        assert (await session.interim("t1", "after")).applied
        # Also where another program counted higher, or the clock is behind.
        monkeypatch.setattr("interlock.segments.sequences", Sequences(lambda: 0))
        assert (await session.final("t1", "final")).applied
        assert (await session.final("t2", "final")).applied


async def test_a_segment_is_corrected(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        await session.final("t1", "Helo", speaker="Anna", start=1, end=2, words=[Word("Helo")], confidence=0.5)
        read = await session.get("t1")
        await session.end()
        corrected = await session.update(read, text="Hello", words=None, speaker=None, end=timedelta(seconds=3))
        assert (corrected.text, corrected.words, corrected.speaker, corrected.end) == ("Hello", (), "", 3)
        # Fields that are not named stay.
        assert (corrected.start, corrected.confidence, corrected.status) == (1, 0.5, FINAL)
        assert await session.get("t1") == corrected
        with pytest.raises(interlock.VersionMismatch) as changed:
            await session.update(read, text="Hallo")
        assert changed.value.actual == corrected.version
        with pytest.raises(interlock.InvalidTransition):
            await session.update(corrected, status=INTERIM)
        with pytest.raises(InvalidSegment) as invalid:
            await session.update("t1", expected_version=corrected.version, confidence=2)
        assert (invalid.value.key, invalid.value.field) == ("t1", "confidence")

        with pytest.raises(interlock.VersionMismatch):
            await session.delete(read)
        await session.delete(corrected)
        with pytest.raises(interlock.NotFound):
            await session.get("t1")
        with pytest.raises(interlock.NotFound):
            await session.delete("t1")


async def test_a_deleted_segment_stays_deleted(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        await session.interim("t1", "secret")
        await session.delete("t1")
        (late,) = await session.append(Segment.transcript("t1", "secret"))
        assert (late.applied, late.skip) == (False, SegmentSkip.DELETED)
        assert await keys(session) == []


async def test_a_timeline_is_in_order_and_filtered(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        await session.append(
            Segment.note("untimed", "x"),
            Segment.transcript("late", "x", start=20, end=25, speaker="Ben", language="en-GB"),
            Segment.transcript("early", "x", start=0, end=5, speaker="Anna", language="de"),
            Segment.transcript("open", "x", start=4, speaker="Anna", language="en", status=INTERIM),
            Segment.translation("early/en", "x", start=0, end=5, language="en", parent="early"),
        )

        async def found(*args: float, **filters: object) -> list[str]:
            return [it.key async for it in session.timeline(*args, **filters)]  # type: ignore[arg-type]

        assert await found() == ["early", "early/en", "open", "late", "untimed"]
        assert await found(5, 20) == ["open", "untimed"]
        assert await found(5, 20, untimed=Untimed.EXCLUDE) == ["open"]
        assert await found(untimed=Untimed.ONLY) == ["untimed"]
        assert await found(kinds=[SegmentKind.TRANSLATION, SegmentKind.NOTE]) == ["early/en", "untimed"]
        assert await found(languages=["en"]) == ["early/en", "open", "late"]
        assert await found(speakers=["Anna"], statuses=[FINAL]) == ["early"]
        with pytest.raises(TypeError, match=r"kinds is a list, such as \[SegmentKind.AUDIO\]"):
            await found(kinds=SegmentKind.NOTE)
        with pytest.raises(TypeError, match=r"write \['en'\] in place of 'en'"):
            await found(languages="en")
        with pytest.raises(interlock.NotFound):
            await keys(client.session("no-such-session"))


async def test_many_segments_are_imported_and_read_in_pages(client: Client, session_id: str) -> None:
    def recorded() -> list[Segment]:
        segments = [Segment.note(f"n{number:04}", "x", start=number) for number in range(1_200)]
        segments[700] = Segment.note("n0700", "x", start=2, end=1)
        return segments

    result = await client.import_segments(session_id, recorded(), allow_missing=True)
    assert (result.applied, result.unchanged, result.failed) == (1_199, 0, 1)
    (fault,) = result.faults
    assert isinstance(fault.error, InvalidSegment)
    assert (fault.index, fault.key, fault.error.field) == (700, "n0700", "end")
    again = await client.session(session_id).import_segments(recorded())
    assert (again.applied, again.unchanged, again.failed) == (0, 1_199, 1)
    assert await keys(client.session(session_id)) == [f"n{it:04}" for it in range(1_200) if it != 700]
    with pytest.raises(interlock.NotFound):
        await client.import_segments("no-such-session", recorded())


async def test_statistics_are_by_speaker_language_and_kind(client: Client, session_id: str) -> None:
    async with client.session(session_id) as session:
        await session.append(
            Segment.transcript("t1", "one two three", start=0, end=4, speaker="Anna", language="en"),
            Segment.transcript("t2", "four", start=3, end=5, speaker="Anna", language="en"),
            Segment.transcript("t3", "fünf", start=3, speaker="Ben", language="de", status=INTERIM),
        )
        found = await session.statistics()
    assert found.speakers == (
        interlock.SpeakerStatistics("Anna", 2, 4, 5.0, 0),
        interlock.SpeakerStatistics("Ben", 1, 1, 0.0, 1),
    )
    assert found.languages == (interlock.LanguageStatistics("de", 1, 1), interlock.LanguageStatistics("en", 2, 4))
    assert found.kinds == (interlock.KindStatistics(SegmentKind.TRANSCRIPT, 3, 1),)


async def test_sessions_are_listed_updated_and_deleted(client: Client, session_id: str) -> None:
    team = uuid.uuid4().hex
    made = [await client.create_session(f"{session_id}-{it}", labels={"team": team}) for it in range(3)]
    await client.end_session(made[0].session_id)
    listed = [it.session_id async for it in client.list_sessions(f'labels.team = "{team}" AND state = OPEN')]
    assert listed == [made[2].session_id, made[1].session_id]
    updated = await client.update_session(made[1].session_id, title="New", expected_version=made[1].version)
    assert (updated.title, updated.labels, updated.version) == ("New", {"team": team}, made[1].version + 1)
    cleared = await client.update_session(made[1].session_id, title="", labels={})
    assert (cleared.title, cleared.labels) == ("", {})
    with pytest.raises(interlock.VersionMismatch):
        await client.update_session(made[1].session_id, title="x", expected_version=1)
    with pytest.raises(interlock.AlreadyExists):
        await client.create_session(made[1].session_id)
    await client.delete_session(made[1].session_id)
    with pytest.raises(interlock.NotFound):
        await client.get_session(made[1].session_id)


async def test_segments_are_stored_together_with_other_writes(client: Client, session_id: str, collection: str) -> None:
    append = segments_append(session_id, Segment.note("n", "x"), allow_missing=True)
    edited = record_update(collection, "r", Field("n").increment(), allow_missing=True)
    refused = record_update(collection, "none", Field("n").increment())
    with pytest.raises(interlock.NotFound):
        await client.commit([append, refused])
    with pytest.raises(interlock.NotFound):
        await client.get_session(session_id)
    first, _ = await client.commit([append, edited])
    assert [(it.key, it.applied) for it in first.segments] == [("n", True)]
    wrong = segments_append(session_id, Segment.note("m", "x", end=-1))
    with pytest.raises(interlock.InvalidArgument) as invalid:
        await client.commit([edited, wrong])
    assert [it.field for it in invalid.value.violations] == ["operations[1].append_segments.segments[0].end"]
