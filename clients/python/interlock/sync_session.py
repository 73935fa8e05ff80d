"""The blocking `SessionHandle`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Any

import interlock
from interlock.blocking import Loop, blocking, pages, watching

# Segments that are taken from a blocking iterable at once.
_BATCH = 500


class TimelineExport:
    """As `interlock.TimelineExport`, blocking."""

    def __init__(self, loop: Loop, export: interlock.TimelineExport) -> None:
        """Called by the session."""
        self._loop = loop
        self.asyncio = export
        """The export in the loop of the other thread."""

    def __iter__(self) -> Iterator[bytes]:
        """Parts of the file, which can end anywhere."""
        return _parts(self)

    read = blocking(interlock.TimelineExport.read)
    save = blocking(interlock.TimelineExport.save)


_parts = pages(interlock.TimelineExport.__aiter__)


class SessionHandle:
    """As `interlock.SessionHandle`, blocking, for all threads of a program.

    `with` creates the session if it does not exist.
    """

    def __init__(self, loop: Loop, session: interlock.SessionHandle) -> None:
        """Called by the client."""
        self._loop = loop
        self.asyncio = session
        """The handle in the loop of the other thread."""

    @property
    def session_id(self) -> str:
        """Id of the session."""
        return self.asyncio.session_id

    def __enter__(self) -> SessionHandle:
        self._loop.run(self.asyncio.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self.asyncio.__aexit__(kind, error, trace))

    append = blocking(interlock.SessionHandle.append)
    write = blocking(interlock.SessionHandle.write)
    interim = blocking(interlock.SessionHandle.interim)
    final = blocking(interlock.SessionHandle.final)
    get = blocking(interlock.SessionHandle.get)
    update = blocking(interlock.SessionHandle.update)
    delete = blocking(interlock.SessionHandle.delete)
    timeline = pages(interlock.SessionHandle.timeline)
    statistics = blocking(interlock.SessionHandle.statistics)
    watch = watching(interlock.SessionHandle.watch)
    end = blocking(interlock.SessionHandle.end)

    def import_segments(self, segments: Iterable[interlock.Segment]) -> interlock.ImportResult:
        """Stores any number of segments. The iterable may block: it runs in a thread of its own."""
        return self._loop.run(self.asyncio.import_segments(pulled(segments)))

    def export(self, format: interlock.ExportFormat, language: str = "", **options: Any) -> TimelineExport:
        """The FINAL texts as a file: `s.export(ExportFormat.WEBVTT, "en").save("standup.vtt")`.

        Arguments are those of `interlock.SessionHandle.export`.
        """
        return TimelineExport(self._loop, self.asyncio.export(format, language, **options))


async def pulled(segments: Iterable[interlock.Segment]) -> AsyncIterator[interlock.Segment]:
    """The elements of a blocking iterable, taken in other threads, so that it does not block the event loop."""
    iterator = iter(segments)

    def batch() -> list[interlock.Segment]:
        return list(itertools.islice(iterator, _BATCH))

    while found := await asyncio.to_thread(batch):
        for segment in found:
            yield segment
