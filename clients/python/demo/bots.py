"""A bot of the meeting: streams what one speaker says, over a network that repeats and reorders messages."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable

from demo.script import Turn
from interlock import Client, Segment, SegmentStatus

# Share of messages that are sent twice, and of preliminary ones that come only after the FINAL.
_TWICE, _LATE = 0.3, 0.15
# Seconds of the meeting that a message takes at most, and a late one at least.
_DELAY, _LATE_DELAY = 0.6, 1.5


class Clock:
    """Time of the meeting, which can run faster than the day."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._start = time.monotonic()

    async def until(self, seconds: float) -> None:
        """Waits for a moment of the meeting."""
        await asyncio.sleep(self._start + seconds / self._speed - time.monotonic())

    async def pass_by(self, seconds: float) -> None:
        """Waits for a time of the meeting."""
        await asyncio.sleep(seconds / self._speed)


class Bot:
    """Streams the turns of one speaker, with its own connection. Counts no sequences: the client does."""

    def __init__(self, client: Client, session_id: str, turns: Iterable[Turn], clock: Clock, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        """Numbers of segments sent, and of those that changed nothing because they were late or repeated."""
        self._session = client.session(session_id)
        self._turns = list(turns)
        self._clock = clock
        self._random = random.Random(seed)
        self._sends: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Says all turns; returns when all messages have arrived."""
        try:
            for turn in self._turns:
                await self._say(turn)
            await asyncio.gather(*self._sends)
        finally:
            for send in self._sends:
                send.cancel()

    async def _say(self, turn: Turn) -> None:
        words = turn.text.split()
        for count in range(1, len(words)):
            await self._clock.until(turn.start + (turn.end - turn.start) * count / len(words))
            # The number of this state is that of the moment at which it is made, not of its arrival.
            state = Segment.transcript(
                turn.key,
                " ".join(words[:count]),
                status=SegmentStatus.INTERIM,
                speaker=turn.speaker,
                language=turn.language,
                start=turn.start,
            )
            is_late = self._random.random() < _LATE
            self._send(_LATE_DELAY if is_late else self._random.uniform(0, _DELAY), state)
        await self._clock.until(turn.end)
        start, end, speaker, translation = turn.start, turn.end, turn.speaker, turn.translation_language
        sound = Segment.audio(f"{turn.key}/sound", content=turn.recording, start=start, end=end, speaker=speaker)
        said = Segment.transcript(
            turn.key, turn.text, language=turn.language, parent=sound, start=start, end=end, speaker=speaker
        )
        translated = Segment.translation(
            f"{turn.key}/{translation}",
            turn.translation,
            language=translation,
            parent=said,
            start=start,
            end=end,
            speaker=speaker,
        )
        self._send(self._random.uniform(0, _DELAY), sound, said, translated)

    def _send(self, delay: float, *segments: Segment) -> None:
        """Sends a set after a delay, and perhaps once more, without waiting for it."""
        for again in range(2 if self._random.random() < _TWICE else 1):
            self._sends.append(asyncio.ensure_future(self._arrive(delay + again * _DELAY, segments)))

    async def _arrive(self, delay: float, segments: tuple[Segment, ...]) -> None:
        await self._clock.pass_by(delay)
        for result in await self._session.append(*segments):
            self.counts["sent"] += 1
            self.counts["unchanged"] += not result.applied
