"""Exports of a real server, read by strict parsers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import interlock
from interlock import Client, ExportFormat, Segment, SegmentStatus, SessionHandle
from tests.subtitles import Cue, parse_srt, parse_webvtt


@pytest.fixture
async def session(client: Client) -> AsyncIterator[SessionHandle]:
    """A meeting with what breaks careless exports."""
    async with client.session() as session:
        await session.append(
            Segment.audio("a1", "s3://standup/1.ogg", start=0, end=2),
            Segment.transcript("t1", "Good morning", start=0, end=2.5, speaker="Anna", language="en", parent="a1"),
            Segment.translation("t1/de", "Guten Morgen", start=0, end=2.5, speaker="Anna", language="de", parent="t1"),
            # Without an end: until the next start of the speaker, or 5 s.
            Segment.transcript("t2", "a < b && c > d", start=3, speaker="Ben", language="en"),
            Segment.transcript("t3", "00:00:01.000 --> 00:00:02.000", start=4, speaker="Ben", language="en"),
            Segment.transcript(
                "t4", "<v Eve>one\n\n\r\ntwo -->\n", start=5, end=5, speaker="A <b> & --", language="en"
            ),
            Segment.transcript("t5", "東京\u2028🎉", start=3_600, end=3_601.25, language="ja"),
            Segment.transcript("t6", "When was it?", speaker="Anna", language="en"),
            Segment.transcript("t7", "not yet", start=7, end=8, language="en", status=SegmentStatus.INTERIM),
            Segment.transcript("t8", " \n ", start=8, end=9, language="en"),
        )
        yield session


async def test_webvtt_is_accepted_by_a_strict_parser(session: SessionHandle) -> None:
    assert parse_webvtt(await session.export(ExportFormat.WEBVTT).read()) == [
        Cue(0, 2.5, "Anna", "Good morning"),
        Cue(3, 4, "Ben", "a < b && c > d"),
        Cue(4, 9, "Ben", "00:00:01.000 --> 00:00:02.000"),
        Cue(5, 5.001, "A <b> & --", "<v Eve>one\ntwo -->"),
        Cue(3600, 3601.25, "", "東京\u2028🎉"),
    ]
    assert parse_webvtt(await session.export(ExportFormat.WEBVTT, "de").read()) == [Cue(0, 2.5, "Anna", "Guten Morgen")]
    assert parse_webvtt(await session.export(ExportFormat.WEBVTT, "fr").read()) == []


async def test_srt_is_accepted_by_a_strict_parser(session: SessionHandle) -> None:
    cues = parse_srt(await session.export(ExportFormat.SRT, "en").read())
    assert [(cue.start, cue.end) for cue in cues] == [(0, 2.5), (3, 4), (4, 9), (5, 5.001)]
    assert [cue.text for cue in cues[:2]] == ["Anna: Good morning", "Ben: a < b && c > d"]


async def test_text_has_what_has_no_time_too(session: SessionHandle) -> None:
    lines = (await session.export(ExportFormat.TEXT, "en").read()).decode().splitlines()
    assert lines[0] == "Anna: Good morning"
    assert lines[-1] == "Anna: When was it?"
    assert len(lines) == 5


async def test_json_lines_are_read_in_parts(session: SessionHandle) -> None:
    parts = [part async for part in session.export(ExportFormat.JSON_LINES, "de")]
    assert [json.loads(line) for line in b"".join(parts).splitlines()] == [
        {
            "key": "t1/de",
            "kind": "SEGMENT_KIND_TRANSLATION",
            "start": "0s",
            "end": "2.500s",
            "speaker": "Anna",
            "language": "de",
            "text": "Guten Morgen",
        }
    ]


async def test_an_export_is_saved(session: SessionHandle, tmp_path: Path) -> None:
    path = await session.export(ExportFormat.WEBVTT, "en").save(tmp_path / "standup.vtt")
    assert parse_webvtt(path.read_bytes())[0].text == "Good morning"
    with pytest.raises(FileNotFoundError):
        await session.export(ExportFormat.WEBVTT).save(tmp_path / "none" / "standup.vtt")


async def test_a_large_export_comes_in_many_parts(client: Client) -> None:
    async with client.session() as session:
        await client.import_segments(
            session.session_id, (Segment.transcript(f"t{it}", f"{it} " + "x" * 200, start=it) for it in range(1_500))
        )
        export = session.export(ExportFormat.WEBVTT)
        parts = [part async for part in export]
        assert len(parts) > 3
        assert len(parse_webvtt(b"".join(parts))) == 1_500


async def test_an_export_of_a_missing_session_is_an_error(client: Client, tmp_path: Path) -> None:
    export = client.session("no-such-session").export(ExportFormat.WEBVTT)
    with pytest.raises(interlock.NotFound):
        await export.read()
    with pytest.raises(interlock.NotFound):
        await export.save(tmp_path / "x.vtt")
    with pytest.raises(interlock.NotFound):
        async for _ in export:
            pass
    assert list(tmp_path.iterdir()) == []
