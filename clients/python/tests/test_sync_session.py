"""Sessions with the blocking client, on a real server."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import interlock
from interlock import ExportFormat, InvalidSegment, Segment, SegmentChanged, SessionChanged, sync
from tests.subtitles import parse_webvtt


@pytest.fixture
def blocking(server_address: str) -> Iterator[sync.Client]:
    with sync.Client(server_address) as client:
        yield client


def test_a_session_has_all_public_methods_of_the_asyncio_one() -> None:
    for asyncio_class, blocking_class in (
        (interlock.SessionHandle, sync.SessionHandle),
        (interlock.TimelineExport, sync.TimelineExport),
    ):
        for name, method in inspect.getmembers(asyncio_class, inspect.isfunction):
            if not name.startswith("_"):
                assert hasattr(blocking_class, name), f"{blocking_class.__name__} lacks {name}"
                assert getattr(blocking_class, name).__doc__ or not method.__doc__


def test_a_session_is_written_read_and_ended(blocking: sync.Client, tmp_path: Path) -> None:
    with blocking.session(title="Standup", end_on_exit=True) as session:
        audio = Segment.audio("a1", "s3://x", start=0, end=2)
        results = session.append(audio, Segment.transcript("t1", "Hello", start=0, end=2, language="en", parent=audio))
        assert [result.applied for result in results] == [True, True]
        assert session.interim("t2", "go", start=3).applied
        assert session.final("t2", "Goodbye", start=3, end=4, language="en").applied
        assert isinstance(session.write(Segment.note("n", "x", end=-1))[0].error, InvalidSegment)
        corrected = session.update(session.get("t1"), text="Hello there")
        assert session.get("t1") == corrected
        session.delete("a1")
        assert [segment.text for segment in session.timeline()] == ["Hello there", "Goodbye"]
        assert session.statistics().languages[0].word_count == 3
        export = session.export(ExportFormat.WEBVTT, "en")
        assert [cue.text for cue in parse_webvtt(export.read())] == ["Hello there", "Goodbye"]
        assert b"".join(export) == export.save(tmp_path / "x.vtt").read_bytes()
        found = list(blocking.search("goodbye", filter=f'session_id = "{session.session_id}"'))
        assert [result.matched for result in found] == [("Goodbye",)]
        with session.watch() as events:
            assert isinstance(next(events), SessionChanged)
    assert blocking.get_session(session.session_id).has_ended
    assert session.session_id in [it.session_id for it in blocking.list_sessions("state = ENDED")]
    blocking.delete_session(session.session_id)
    with pytest.raises(interlock.NotFound):
        list(session.timeline())


def test_a_session_is_not_ended_after_an_exception(blocking: sync.Client) -> None:
    with pytest.raises(ValueError, match="mine"), blocking.session(end_on_exit=True) as session:
        raise ValueError("mine")
    assert not blocking.get_session(session.session_id).has_ended


def test_an_import_may_block(blocking: sync.Client) -> None:
    """The iterable runs beside the event loop, and may use the client itself."""
    source = blocking.create_session().session_id

    def recorded() -> Iterator[Segment]:
        assert threading.current_thread().name != "interlock clients"
        for number in range(700):
            if number % 100 == 0:
                blocking.session(source).append(Segment.note(f"n{number}", "read"))
            yield Segment.note(f"n{number}", "x")

    with blocking.session() as session:
        assert session.import_segments(recorded()).applied == 700
    result = blocking.import_segments(f"{session.session_id}-copy", session.timeline(), allow_missing=True)
    assert result.applied == 700
    assert len(list(blocking.session(source).timeline())) == 7


def test_captions_are_followed_in_a_thread(blocking: sync.Client) -> None:
    with blocking.session(end_on_exit=True) as session:
        received: list[str] = []

        def follow() -> None:
            for event in blocking.watch_session(session.session_id):
                if isinstance(event, SegmentChanged) and event.segment.is_final:
                    received.append(event.segment.text)

        reader = threading.Thread(target=follow)
        reader.start()
        for number in range(5):
            session.interim(f"t{number}", "…")
            session.final(f"t{number}", f"sentence {number}")
    reader.join(20)
    assert not reader.is_alive()
    assert received == [f"sentence {number}" for number in range(5)]
