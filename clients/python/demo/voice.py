"""Stage `voice-N`: the text of a scene, spoken into a WAV file."""

from __future__ import annotations

import re
import wave
from pathlib import Path
from typing import Any

from demo import programs
from demo.pipeline import FRAME_RATE
from interlock import Attempt

_WORDS_PER_MINUTE = 165
_PAUSE_SECONDS = 0.3


async def speak(attempt: Attempt, directory: Path) -> dict[str, Any]:
    """Speaks sentence by sentence, which makes the steps of the progress."""
    sentences = re.split(r"(?<=[.!?])\s+", attempt.input["text"].strip())
    target = directory / f"{attempt.stage_name}.wav"
    unfinished = target.with_suffix(f".{attempt.fencing_token}.part")
    parts: list[bytes] = []
    rate = width = 0
    for index, sentence in enumerate(sentences):
        attempt.report(index / len(sentences), f"sentence {index + 1} of {len(sentences)}")
        await programs.run("espeak-ng", "-v", "en-gb", "-s", str(_WORDS_PER_MINUTE), "-w", unfinished, sentence)
        with wave.open(str(unfinished), "rb") as spoken:
            rate, width = spoken.getframerate(), spoken.getsampwidth() * spoken.getnchannels()
            parts.append(spoken.readframes(spoken.getnframes()))
        parts.append(bytes(int(_PAUSE_SECONDS * rate) * width))

    sound = b"".join(parts)
    # Up to the next whole frame of the film.
    frame_bytes = rate * width // FRAME_RATE
    sound += bytes(-len(sound) % frame_bytes)
    with wave.open(str(unfinished), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(sound)
    # A late attempt replaces the file by an equivalent one; no reader sees a partial file.
    unfinished.replace(target)
    return {
        "file": str(target),
        "duration_seconds": len(sound) / width / rate,
        "bytes": target.stat().st_size,
        "sentences": len(sentences),
    }
