"""The check of the meeting's exports: they have what was said, no more and no less."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path

from demo.script import Script
from interlock import Client, ExportFormat, SegmentKind, SessionHandle

_TIMES = re.compile(r"(\d+):(\d+):(\d+\.\d+) --> (\d+):(\d+):(\d+\.\d+)")
_VOICE = re.compile(r"<v ([^>]+)>(.*)")
Cue = tuple[float, float, str, str]
"""Start, end, speaker and text."""


async def check(client: Client, session: SessionHandle, script: Script, directory: Path) -> list[str]:
    """Saves the exports, and returns what is wrong with them, with the statistics and the search. Empty: nothing."""
    faults: list[str] = []
    for language in ("en", "de"):
        path = await session.export(ExportFormat.WEBVTT, language).save(directory / f"meeting.{language}.vtt")
        said = [(turn.start, turn.end, turn.speaker, turn.text_in(language)) for turn in script.turns]
        faults += compared(path.name, said, cues(path.read_text(encoding="utf-8")))
    async for segment in session.timeline():
        if not segment.is_final:
            faults.append(f"{segment.key} is still preliminary: {segment.text}")
    statistics = await session.statistics()
    if {it.kind: it.segment_count for it in statistics.kinds} != dict.fromkeys(
        list(SegmentKind)[1:4], len(script.turns)
    ):
        faults.append(f"the statistics count {statistics.kinds}")
    turns = {name: sum(turn.speaker == name for turn in script.turns) for name in script.speakers}
    if {it.speaker: it.segment_count for it in statistics.speakers} != turns:
        faults.append(f"the statistics count {statistics.speakers}")
    # Each in a form that the text does not have.
    for word, text in (("trains", "The freight train"), ("Züge", "Zwei Züge"), ("signals", "wait at the signal")):
        found = [it.segment.text async for it in client.search(word, filter=f'session_id = "{session.session_id}"')]
        if not any(text in it for it in found):
            faults.append(f"the search for {word} finds {found}")
    return faults


def cues(webvtt: str) -> list[Cue]:
    """The cues of a file of WebVTT."""
    found = []
    for block in webvtt.split("\n\n")[1:]:
        times, _, text = block.partition("\n")
        match, voice = _TIMES.fullmatch(times), _VOICE.fullmatch(text)
        if match is not None and voice is not None:
            numbers = [float(it) for it in match.groups()]
            start, end = (numbers[it] * 3600 + numbers[it + 1] * 60 + numbers[it + 2] for it in (0, 3))
            found.append((round(start, 3), round(end, 3), html.unescape(voice[1]), html.unescape(voice[2])))
    return found


def compared(name: str, said: Iterable[Cue], exported: Iterable[Cue]) -> list[str]:
    """Differences between what was said and what was exported."""
    said, exported = list(said), list(exported)
    faults = [f"{name} lacks {cue}" for cue in said if cue not in exported]
    faults += [f"{name} has {cue}, which was not said" for cue in exported if cue not in said]
    if not faults and said != exported:
        faults.append(f"{name} has the cues in another order, or twice: {exported}")
    return faults
