"""Results of a search in segments."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.segments import Segment
from interlock.v1 import timeline_service_pb2


@dataclass(frozen=True)
class SearchResult:
    """A segment that matches a search."""

    session_id: str
    segment: Segment
    """The segment without words, metadata and inline data."""
    rank: float
    """Higher is better. Comparable only within one search."""
    snippet: str
    """Part of the text around the matches, at most 400 characters, with `…` where the text goes on."""
    matches: tuple[tuple[int, int], ...]
    """Start and end of each match in the snippet, in order: `snippet[start:end]`."""

    @classmethod
    def of(cls, result: timeline_service_pb2.SearchResult) -> SearchResult:
        """The result in a message."""
        matches = tuple((match.start, match.end) for match in result.matches)
        return cls(result.session_id, Segment.of(result.segment), result.rank, result.snippet, matches)

    @property
    def matched(self) -> tuple[str, ...]:
        """The matches as texts."""
        return tuple(self.snippet[start:end] for start, end in self.matches)

    def highlighted(self, before: str = "**", after: str = "**") -> str:
        """The snippet with marks around the matches. For HTML, escape the parts of the snippet yourself."""
        parts, done = [], 0
        for start, end in self.matches:
            parts += [self.snippet[done:start], before, self.snippet[start:end], after]
            done = end
        return "".join([*parts, self.snippet[done:]])
