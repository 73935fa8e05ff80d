"""Calls for the timelines of sessions."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from interlock.arguments import names
from interlock.connection import PATIENCE, SILENCE
from interlock.documents import staleness
from interlock.segment_arguments import numbers
from interlock.segment_import import ImportMessage, import_all
from interlock.segment_results import ImportResult
from interlock.segment_search import SearchResult
from interlock.segments import Segment, SegmentKind
from interlock.session_calls import SessionCalls
from interlock.session_handle import SessionHandle
from interlock.session_watch import SessionNews, SessionWatch
from interlock.sessions import Session
from interlock.stages import Seconds
from interlock.stream import Call, Stream
from interlock.timeline_export import TimelineExport
from interlock.times import to_timestamp
from interlock.tracing import with_trace
from interlock.v1 import timeline_service_pb2

Result = TypeVar("Result")


class TimelineCalls(SessionCalls):
    """Methods of `Client` for the timelines of sessions."""

    def session(
        self,
        session_id: str | None = None,
        *,
        title: str = "",
        labels: Mapping[str, str] | None = None,
        retention: Seconds | None = None,
        end_on_exit: bool = False,
    ) -> SessionHandle:
        """A session to write to, created if it does not exist: `async with client.session("standup-7") as s:`.

        A session that exists stays as it is; `update_session` changes title and labels.

        Args:
            session_id: id that matches `[A-Za-z0-9._:-]{1,128}`. None: the server chooses one, `s.session_id`.
            title: title of a new session, at most 1 KiB. Empty: none.
            labels: labels of a new session, at most 64. None: none.
            retention: time from the end of a new session to its deletion, 0 to 3,650 days. None: 365 days.
            end_on_exit: whether the session is ended if the body ends without an exception. After an exception or a
                cancellation it stays open, so that another program, or the next start of this one, can continue it.

        Raises:
            AlreadyExists: a session of this id is being deleted, and was not gone within the timeout of the client.
        """

        async def open_or_create() -> Session:
            return await self._open_or_create(session_id, title, labels, retention)

        return SessionHandle(self, session_id, open_or_create, self._export, end_on_exit=end_on_exit)

    async def search(
        self,
        query: str,
        *,
        filter: str = "",
        kinds: Iterable[SegmentKind] = (),
        speakers: Iterable[str] = (),
        languages: Iterable[str] = (),
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: int | None = None,
        max_staleness: Seconds | None = None,
    ) -> AsyncIterator[SearchResult]:
        """Iterates over FINAL segments that have all words of a query, best first, page by page.

        Args:
            query: words in any order; `"quoted words"` follow each other, and `-word` must not be there.
            filter: filter of sessions, as in `list_sessions`. Empty: all sessions.
            kinds: only these. Empty: all.
            speakers: only these, at most 50. Empty: all.
            languages: only these, at most 50; `en` also matches `en-GB`. Empty: all.
            start_time: only segments that were stored then or later, with a time zone. None: all.
            end_time: only segments that were stored before, with a time zone. None: all.
            limit: most results. None: all.
            max_staleness: how old the answer may be, 0 to 60 s, so that a read replica can give it. None: current.

        Raises:
            InvalidArgument: the query or the filter is malformed.
        """
        left = limit
        request = timeline_service_pb2.SearchSegmentsRequest(
            query=query,
            filter=filter,
            kinds=numbers(kinds, "kinds", SegmentKind),
            speakers=names(speakers, "speakers"),
            languages=names(languages, "languages"),
            start_time=None if start_time is None else to_timestamp(start_time, "start_time"),
            end_time=None if end_time is None else to_timestamp(end_time, "end_time"),
            max_staleness=staleness(max_staleness),
        )
        while left is None or left > 0:
            request.page_size = 100 if left is None else min(100, left)
            page = await self.call(self.timelines.SearchSegments, request)
            for result in page.results:
                yield SearchResult.of(result)
            if not page.next_page_token:
                return
            if left is not None:
                left -= len(page.results)
            request.page_token = page.next_page_token

    async def import_segments(
        self,
        session_id: str,
        segments: AsyncIterable[Segment] | Iterable[Segment],
        *,
        allow_missing: bool = False,
        timeout: float = 60.0,
    ) -> ImportResult:
        """Stores any number of segments, each independently, such as those of an existing recording.

        They are sent in parts of up to 8,000 segments; a part that fails is sent again, and memory holds one part. Safe
        to repeat as a whole.

        Args:
            session_id: id of the session.
            segments: an iterable or async iterable. A plain iterable must not block.
            allow_missing: whether a missing session is created.
            timeout: seconds for one part, retries included.

        Raises:
            InvalidTransition: the session has ended.
            NotFound: the session does not exist.
            InterlockError: a part failed; `imported` of the error says how much is stored.
        """

        async def send(part: list[ImportMessage]) -> timeline_service_pb2.ImportSegmentsResponse:
            async def attempt(remaining: float) -> timeline_service_pb2.ImportSegmentsResponse:
                metadata = with_trace(self._metadata)
                return await self.timelines.ImportSegments(iter(part), timeout=remaining, metadata=metadata)

            return await self._repeat(attempt, timeout)

        return await import_all(segments, session_id, allow_missing, send)

    def watch_session(
        self,
        session: str | Session,
        from_version: int = 0,
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> SessionWatch:
        """Follows a session and its segments to its end: `async for event in client.watch_session("standup-7")`.

        The first events are the session and all segments that it has, or `SessionRemoved` if it does not exist yet;
        further ones follow each change. INTERIM states can be merged, and a correction with the state that it corrects;
        each FINAL state and each deletion is delivered. The iterator ends after the `SessionChanged` that is ENDED.
        A broken stream is resumed from the last delivered version, on any server, and no state is delivered twice.

        Args:
            session: id of the session; or the session as `get_session` returns it: then only later changes are
                delivered.
            from_version: `version` of the last event that the caller has. 0: all segments.
            silence: as in `watch`.
            patience: as in `watch`.

        Raises:
            InterlockError: resuming failed for `patience` seconds, or the error is permanent. Raised by the iterator.
        """
        if isinstance(session, str):
            start = timeline_service_pb2.WatchSessionRequest(session_id=session, from_version=from_version)
        elif from_version:
            raise ValueError("a session begins after its own version")
        else:
            start = timeline_service_pb2.WatchSessionRequest(
                session_id=session.session_id,
                from_version=session.version,
                from_create_time=to_timestamp(session.create_time, "create_time"),
            )

        def begin(request: timeline_service_pb2.WatchSessionRequest) -> Call[SessionNews]:
            return self.timelines.WatchSession(request, metadata=with_trace(self._metadata))

        def stream(again: Callable[[], Call[SessionNews]]) -> Stream[SessionNews]:
            return self._stream(again, silence=silence, patience=patience)

        return SessionWatch(begin, stream, start)

    def _export(self, request: timeline_service_pb2.ExportTimelineRequest, silence: float) -> TimelineExport:
        def begin() -> Call[timeline_service_pb2.ExportTimelineResponse]:
            return self.timelines.ExportTimeline(request, metadata=with_trace(self._metadata))

        def repeat(attempt: Callable[[float], Awaitable[Result]]) -> Awaitable[Result]:
            return self._repeat(attempt, self.timeout)

        return TimelineExport(begin, repeat, silence)
