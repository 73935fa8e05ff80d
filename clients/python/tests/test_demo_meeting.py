"""The meeting of the demo as a person runs it, against the real server."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from demo import minutes, programs
from demo.captions import Captions
from demo.script import spoken
from interlock import Client, Segment, SegmentChanged, SegmentKind, SegmentStatus
from tests.real_server import real_server
from tests.subtitles import parse_webvtt

_CLIENT = Path(__file__).resolve().parents[1]
_MEETING_SECONDS = 50.0


async def demo(address: str, output: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo", "meeting", "--address", address, "--output", str(output), *arguments),
        cwd=_CLIENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_the_meeting_is_recorded_as_it_was_said(tmp_path: Path) -> None:
    assert programs.missing(["espeak-ng"]) is None, programs.missing(["espeak-ng"])
    with real_server() as address:
        process = await demo(address, tmp_path, "--speed", "10")
        output, _ = await asyncio.wait_for(process.communicate(), _MEETING_SECONDS)
        text = output.decode()
        assert process.returncode == 0, text
        async with Client(address) as client:
            (session,) = [it async for it in client.list_sessions('labels.demo = "yes"')]
            segments = [it async for it in client.session(session.session_id).timeline()]

    assert session.has_ended
    assert session.title in text
    transcripts = [it for it in segments if it.kind is SegmentKind.TRANSCRIPT]
    assert len(transcripts) == 8
    assert {it.speaker for it in transcripts} == {"Anna", "Ben", "Clara"}
    assert {it.language for it in transcripts} == {"en", "de"}
    assert len(segments) == 24
    assert all(it.is_final and it.end is not None for it in segments)

    # Each caption is shown once, in the order of the meeting, and only when it is final.
    lines = re.findall(r"^(?:\d\d:\d\d\.\d \w+ +| +(?:en|de): )(.+)$", text, re.MULTILINE)
    assert lines == [it.text for it in segments if it.kind is not SegmentKind.AUDIO]

    # The files are what the page of the demo says, by a parser that is not the demo's.
    (directory,) = tmp_path.iterdir()
    for language in ("en", "de"):
        cues = parse_webvtt((directory / f"meeting.{language}.vtt").read_bytes())
        said = [it for it in segments if it.language == language]
        assert [(cue.start, cue.end, cue.speaker, cue.text) for cue in cues] == [
            (it.start, it.end, it.speaker, it.text) for it in said
        ]
        assert len(cues) == 8
    unchanged = re.search(r"sent: \d+; (\d+) were late or repeated", text)
    assert unchanged is not None
    assert int(unchanged[1]) > 0


async def test_an_interrupted_meeting_ends_at_once_and_stays_open(tmp_path: Path) -> None:
    with real_server() as address:
        process = await demo(address, tmp_path, "--speed", "0.1")
        assert process.stdout is not None

        async def interrupted() -> bytes:
            assert process.stdout is not None
            before = await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            return before + await process.stdout.read()

        text = (await asyncio.wait_for(interrupted(), _MEETING_SECONDS)).decode()
        assert await process.wait() == 130, text
        assert "the session stays open" in text
        assert "Traceback" not in text
        async with Client(address) as client:
            (session,) = [it async for it in client.list_sessions()]
    assert not session.has_ended


async def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    process = await demo("127.0.0.1:1", tmp_path, "--patience", "0.5")
    output, _ = await asyncio.wait_for(process.communicate(), _MEETING_SECONDS)
    assert process.returncode == 2
    assert "make run" in output.decode()
    assert list(tmp_path.iterdir()) == []


async def test_the_script_is_a_meeting_of_two_languages(tmp_path: Path) -> None:
    script = await spoken(tmp_path)
    assert script.speakers == ["Anna", "Ben", "Clara"]
    starts = [turn.start for turn in script.turns]
    assert starts == sorted(starts)
    assert all(turn.end - turn.start > 0.3 for turn in script.turns)
    # Somebody interrupts.
    assert any(after.start < before.end for before, after in zip(script.turns, script.turns[1:], strict=False))
    assert all(turn.recording.size_bytes == os.path.getsize(tmp_path / f"{turn.key}.wav") for turn in script.turns)


def test_an_export_that_differs_from_what_was_said_is_a_fault() -> None:
    said = [(0.0, 1.0, "Anna", "one"), (2.0, 3.0, "Ben", "a < b")]
    webvtt = (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v Anna>one\n\n00:00:02.000 --> 00:00:03.000\n<v Ben>a &lt; b\n\n"
    )
    exported = minutes.cues(webvtt)
    assert minutes.compared("x", said, exported) == []
    assert minutes.compared("x", said, exported[:1]) == ["x lacks (2.0, 3.0, 'Ben', 'a < b')"]
    assert minutes.compared("x", said[:1], exported) == ["x has (2.0, 3.0, 'Ben', 'a < b'), which was not said"]
    assert "another order, or twice" in minutes.compared("x", said, [exported[0], *exported])[0]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def caption(key: str, text: str, start: float, *, final: bool = True) -> SegmentChanged:
    status = SegmentStatus.FINAL if final else SegmentStatus.INTERIM
    return SegmentChanged(Segment.transcript(key, text, status=status, start=start, speaker="Anna"), 1)


def test_preliminary_captions_are_dimmed_and_replaced_in_place() -> None:
    out = Terminal()
    captions = Captions(out)

    def drawn(event: SegmentChanged) -> str:
        before = len(out.getvalue())
        captions.take(event)
        return out.getvalue()[before:]

    assert drawn(caption("t1", "he", 1, final=False)) == "\x1b[2K\x1b[2m00:01.0 Anna   he\x1b[0m\n"
    assert drawn(caption("t1", "hello", 1, final=False)) == "\x1b[1A\x1b[2K\x1b[2m00:01.0 Anna   hello\x1b[0m\n"
    # A final caption after a preliminary one waits, so that the order of the meeting is kept.
    assert drawn(caption("t2", "Yes.", 2)) == (
        "\x1b[1A\x1b[2K\x1b[2m00:01.0 Anna   hello\x1b[0m\n\x1b[2K00:02.0 Anna   Yes.\n"
    )
    # The block is cleared, and what is final stays above it.
    assert drawn(caption("t1", "Hello.", 1)) == "\x1b[2A\x1b[J00:01.0 Anna   Hello.\n00:02.0 Anna   Yes.\n"
    assert drawn(caption("t3", "and", 3, final=False)) == "\x1b[2K\x1b[2m00:03.0 Anna   and\x1b[0m\n"
    assert [it.text for it in captions.finals()] == ["Hello.", "Yes."]
    assert captions.replaced == 2


def test_without_a_terminal_only_final_captions_are_shown() -> None:
    out = io.StringIO()
    captions = Captions(out)
    captions.take(caption("t1", "he", 1, final=False))
    captions.take(caption("t1", "Hello.", 1))
    assert out.getvalue() == "00:01.0 Anna   Hello.\n"


@pytest.mark.parametrize("speed", ["0", "-1"])
async def test_a_speed_is_greater_than_0(tmp_path: Path, speed: str) -> None:
    process = await demo("127.0.0.1:1", tmp_path, "--speed", speed)
    output, _ = await asyncio.wait_for(process.communicate(), _MEETING_SECONDS)
    assert process.returncode == 2
    assert "--speed is greater than 0" in output.decode()
