"""Live captions: preliminary ones dimmed, and replaced in place by final ones."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from demo.screen import Panel
from interlock import (
    Segment,
    SegmentChanged,
    SegmentDeleted,
    SegmentKind,
    SessionEvent,
    SessionRemoved,
    SessionReplaced,
)


class Captions(Panel):
    """Shows the texts of a session, from the events of a watch. Without a terminal only the final ones, a line each."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        super().__init__(out)
        self.replaced = 0
        """Number of preliminary states that a later state replaced on the screen."""
        self._segments: dict[str, Segment] = {}
        self._settled: set[str] = set()
        """Keys of captions that have left the block."""

    def take(self, event: SessionEvent) -> None:
        """Shows what an event changes."""
        match event:
            case SegmentChanged(segment=segment) if segment.text:
                before = self._segments.get(segment.key)
                self.replaced += before is not None and not before.is_final
                self._segments[segment.key] = segment
            case SegmentDeleted(key=key):
                self._segments.pop(key, None)
            case SessionRemoved() | SessionReplaced():
                self._segments.clear()
        self._show()

    def finals(self) -> list[Segment]:
        """Final captions, in the order of the timeline."""
        return [segment for segment in self._ordered() if segment.is_final]

    def _show(self) -> None:
        waiting = [segment for segment in self._ordered() if segment.key not in self._settled]
        # What is final up to the first preliminary caption does not move any more.
        while waiting and waiting[0].is_final:
            segment = waiting.pop(0)
            self._settled.add(segment.key)
            self.say(_line(segment))
        if self._is_terminal:
            waiting = waiting[-max(1, shutil.get_terminal_size().lines - 1) :]
            dimmed = {index for index, segment in enumerate(waiting) if not segment.is_final}
            self._redraw([_line(segment) for segment in waiting], dimmed)

    def _ordered(self) -> list[Segment]:
        def place(segment: Segment) -> tuple[float, int]:
            return float("inf") if segment.start is None else segment.start, segment.arrival

        return sorted(self._segments.values(), key=place)


def _line(segment: Segment) -> str:
    if segment.kind is SegmentKind.TRANSLATION:
        return f"{'':14}{segment.language}: {segment.text}"
    minutes, seconds = divmod(segment.start or 0.0, 60)
    return f"{int(minutes):02}:{seconds:04.1f} {segment.speaker:6} {segment.text}"
