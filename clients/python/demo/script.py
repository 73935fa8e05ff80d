"""The meeting of the demo: who says what and when, spoken by espeak-ng."""

from __future__ import annotations

import asyncio
import hashlib
import json
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import programs
from interlock import Content

_WORDS_PER_MINUTE = "170"
# Voices that espeak-ng speaks at once.
_AT_ONCE = 2


@dataclass(frozen=True)
class Turn:
    """What one speaker says without a break."""

    key: str
    speaker: str
    language: str
    text: str
    translation: str
    """The text in the other language."""
    start: float
    """Seconds from the start of the meeting, whole milliseconds."""
    end: float
    recording: Content

    @property
    def translation_language(self) -> str:
        """Language of the translation."""
        return "de" if self.language == "en" else "en"

    def text_in(self, language: str) -> str:
        """The text, or its translation."""
        return self.text if language == self.language else self.translation


@dataclass(frozen=True)
class Script:
    """A meeting."""

    title: str
    turns: tuple[Turn, ...]
    """In the order of their starts."""

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, in the order of their first turns."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))


async def spoken(directory: Path) -> Script:
    """Speaks the turns into files, whose lengths make the times of the meeting.

    Raises:
        StageError: espeak-ng failed, or is not installed.
    """
    script = json.loads((Path(__file__).parent / "meeting.json").read_text(encoding="utf-8"))
    places = asyncio.Semaphore(_AT_ONCE)

    async def speak(number: int, turn: dict[str, Any]) -> Path:
        speaker, file = script["speakers"][turn["speaker"]], directory / f"turn-{number}.wav"
        voice = ("-v", speaker["voice"], "-p", str(speaker["pitch"]), "-s", _WORDS_PER_MINUTE)
        async with places:
            await programs.run("espeak-ng", *voice, "-w", file, turn["text"])
        return file

    files = await asyncio.gather(*(speak(number, turn) for number, turn in enumerate(script["turns"], 1)))
    turns: list[Turn] = []
    end = 0.0
    for number, (turn, file) in enumerate(zip(script["turns"], files, strict=True), 1):
        # A pause below 0 interrupts the speaker before.
        start = round(max(0.0, end + turn["pause"]), 3)
        end = round(start + _seconds(file), 3)
        language = script["speakers"][turn["speaker"]]["language"]
        recording = _recording(file)
        turns.append(
            Turn(f"turn-{number}", turn["speaker"], language, turn["text"], turn["translation"], start, end, recording)
        )
    return Script(script["title"], tuple(turns))


def _seconds(file: Path) -> float:
    with wave.open(str(file), "rb") as sound:
        return sound.getnframes() / sound.getframerate()


def _recording(file: Path) -> Content:
    sound = file.read_bytes()
    return Content(
        uri=file.as_uri(),
        size_bytes=len(sound),
        sha256=hashlib.sha256(sound).hexdigest(),
        media_type="audio/wav",
    )
