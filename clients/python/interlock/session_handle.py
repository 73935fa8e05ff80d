"""The handle of a session: writing, reading and correcting its segments."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from interlock.connection import PATIENCE, SILENCE
from interlock.documents import staleness
from interlock.errors import InvalidArgument
from interlock.segment_arguments import (
    SegmentChanges,
    Untimed,
    key_and_version,
    segment_messages,
    segment_update,
    segments_append,
    timeline_query,
)
from interlock.segment_results import (
    ImportResult,
    InvalidSegment,
    SegmentResult,
    SegmentWriteResult,
    error_of,
    naming_segments,
)
from interlock.segments import Segment, SegmentFields, SegmentKind, SegmentStatus
from interlock.session_watch import SessionWatch
from interlock.sessions import Session, SessionStatistics
from interlock.stages import Seconds
from interlock.timeline_export import ExportFormat, TimelineExport
from interlock.v1 import timeline_service_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from interlock.timeline_calls import TimelineCalls

Begin = Callable[[timeline_service_pb2.ExportTimelineRequest, float], TimelineExport]


class SessionHandle:
    """The session that `Client.session` returns: `async with` creates it if it does not exist.

    Without `async with`, it is a handle of a session that exists. It has no state of its own: several handles of one
    session, also in several programs, may be used at once.
    """

    def __init__(
        self,
        client: TimelineCalls,
        session_id: str | None,
        open_or_create: Callable[[], Awaitable[Session]],
        export: Begin,
        *,
        end_on_exit: bool,
    ) -> None:
        """Called by the client."""
        self._client = client
        self._session_id = session_id
        self._open_or_create = open_or_create
        self._export = export
        self._end_on_exit = end_on_exit

    @property
    def session_id(self) -> str:
        """Id of the session."""
        if self._session_id is None:
            raise RuntimeError("the session has no id before it is created: use it with `async with`")
        return self._session_id

    async def __aenter__(self) -> SessionHandle:
        self._session_id = (await self._open_or_create()).session_id
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error, also a cancellation, the caller may want to go on: an end cannot be taken back.
        if self._end_on_exit and error is None:
            await self.end()

    async def append(self, *segments: Segment) -> list[SegmentResult]:
        """Stores 1 to 500 segments as one set, all or none, as in `s.append(audio, transcript, *translations)`.

        A segment that changes nothing, because it was stored before or is late, is no error: `applied` of its result is
        false, and `skip` says why.

        Raises:
            InvalidSegment: a segment is wrong; `key` and `field` name it.
            InvalidTransition: the session has ended.
            NotFound: the session does not exist.
        """
        request = segments_append(self.session_id, *segments)
        with naming_segments(segments):
            response = await self._client.call(self._client.timelines.AppendSegments, request)
        return [SegmentResult.of(result) for result in response.results]

    async def write(self, *segments: Segment) -> list[SegmentWriteResult]:
        """Stores 1 to 500 segments independently, in their order: one that is refused does not affect the others.

        If the call was repeated because its response was lost, `applied` can be false for what the first try stored.

        Raises:
            InvalidTransition: the session has ended.
            NotFound: the session does not exist.
        """
        request = timeline_service_pb2.WriteSegmentsRequest(
            session_id=self.session_id, segments=segment_messages(segments)
        )
        response = await self._client.call(self._client.timelines.WriteSegments, request)
        return [
            SegmentWriteResult(
                segment.key,
                SegmentResult.of(written.result) if written.HasField("result") else None,
                error_of(written.status, segment.key),
            )
            for segment, written in zip(segments, response.results, strict=True)
        ]

    async def import_segments(self, segments: AsyncIterable[Segment] | Iterable[Segment]) -> ImportResult:
        """Stores any number of segments; arguments and errors are those of `Client.import_segments`."""
        return await self._client.import_segments(self.session_id, segments)

    async def interim(self, key: str, text: str, **fields: Unpack[SegmentFields]) -> SegmentResult:
        """Stores a preliminary transcript, in place of an earlier one with this key. Errors are those of `append`.

        It replaces the states that this program sent before. It is not stored, without an error, if the transcript is
        FINAL already.
        """
        return await self._transcribe(key, text, SegmentStatus.INTERIM, fields)

    async def final(self, key: str, text: str, **fields: Unpack[SegmentFields]) -> SegmentResult:
        """Stores the final transcript, in place of a preliminary one with this key. Errors are those of `append`.

        It replaces each preliminary state, of whichever program, and none replaces it; `update` corrects it.
        """
        return await self._transcribe(key, text, SegmentStatus.FINAL, fields)

    async def get(self, key: str, *, max_staleness: Seconds | None = None) -> Segment:
        """Reads one segment. `max_staleness`: as in `timeline`.

        Raises:
            NotFound: the segment does not exist or was deleted.
        """
        request = timeline_service_pb2.GetSegmentRequest(
            session_id=self.session_id, key=key, max_staleness=staleness(max_staleness)
        )
        return Segment.of((await self._client.call(self._client.timelines.GetSegment, request)).segment)

    async def update(
        self, segment: Segment | str, *, expected_version: int | None = None, **changes: Unpack[SegmentChanges]
    ) -> Segment:
        """Corrects fields of a segment, also of a FINAL one, as in `s.update(await s.get("t1"), text="Hello")`.

        Args:
            segment: the segment as it was read, or its key.
            expected_version: required version of the segment. None: that of `segment`.
            changes: the new values. None removes a value; fields that are not named stay.

        Raises:
            VersionMismatch: the segment has changed since: read it again.
            InvalidSegment: a value is wrong; `field` names it.
            InvalidTransition: a FINAL segment cannot become INTERIM.
            NotFound: the session or the segment does not exist.
        """
        request = segment_update(self.session_id, segment, expected_version, changes)
        key = request.segment.key
        try:
            response = await self._client.call(self._client.timelines.UpdateSegment, request)
        except InvalidArgument as error:
            path = error.violations[0].field if error.violations else ""
            if not path.startswith("segment."):
                raise
            raise InvalidSegment.of(error, key, path.removeprefix("segment.")) from error.__cause__
        # It is missing if the call was repeated, and the segment was deleted in between.
        return Segment.of(response.segment) if response.HasField("segment") else await self.get(key)

    async def delete(self, segment: Segment | str, *, expected_version: int | None = None) -> None:
        """Deletes a segment for good: its key is not used again. Segments made from it stay.

        Args:
            segment: the segment as it was read, which must not have changed since; or its key.
            expected_version: required version of the segment. None: that of `segment`, and of a key any.

        Raises:
            VersionMismatch: the segment has changed since.
            NotFound: the session or the segment does not exist.
        """
        key, version = key_and_version(segment, expected_version)
        request = timeline_service_pb2.DeleteSegmentRequest(
            session_id=self.session_id, key=key, expected_version=version
        )
        await self._client.call(self._client.timelines.DeleteSegment, request)

    async def timeline(
        self,
        start: Seconds | None = None,
        end: Seconds | None = None,
        *,
        kinds: Iterable[SegmentKind] = (),
        languages: Iterable[str] = (),
        speakers: Iterable[str] = (),
        statuses: Iterable[SegmentStatus] = (),
        untimed: Untimed = Untimed.INCLUDE,
        max_staleness: Seconds | None = None,
    ) -> AsyncIterator[Segment]:
        """Iterates over the segments in the order of their start, page by page; those without a start come last.

        Args:
            start: only segments that may overlap the range from here on; an unknown end counts as open. None: all.
            end: only segments that start before this moment, which is after `start`. None: to the end.
            kinds: only these. Empty: all.
            languages: only these, at most 50; `en` also matches `en-GB`. Empty: all.
            speakers: only these, at most 50. Empty: all.
            statuses: only these. Empty: all.
            untimed: treatment of segments without a start.
            max_staleness: how old the answer may be, 0 to 60 s, so that a read replica can give it. None: current.

        Raises:
            NotFound: the session does not exist.
        """
        request = timeline_query(
            self.session_id,
            start,
            end,
            kinds=kinds,
            languages=languages,
            speakers=speakers,
            statuses=statuses,
            untimed=untimed,
            max_staleness=max_staleness,
        )
        async for page in self._client._pages(self._client.timelines.QueryTimeline, request):
            for segment in page.segments:
                yield Segment.of(segment)

    async def statistics(self, *, max_staleness: Seconds | None = None) -> SessionStatistics:
        """Figures by speaker, language and kind. `max_staleness`: as in `timeline`."""
        request = timeline_service_pb2.GetSessionStatisticsRequest(
            session_id=self.session_id, max_staleness=staleness(max_staleness)
        )
        return SessionStatistics.of(await self._client.call(self._client.timelines.GetSessionStatistics, request))

    def export(
        self,
        format: ExportFormat,
        language: str = "",
        *,
        max_staleness: Seconds | None = None,
        silence: float = SILENCE,
    ) -> TimelineExport:
        """The FINAL texts as a file: `await s.export(ExportFormat.WEBVTT, "en").save("standup.vtt")`.

        Args:
            format: subtitles, which have only segments with a start, or text.
            language: language of the texts, as in `timeline`. Empty: transcripts in their own languages.
            max_staleness: as in `timeline`.
            silence: seconds without a part after which DeadlineExceeded is raised.
        """
        request = timeline_service_pb2.ExportTimelineRequest(
            session_id=self.session_id,
            language=language,
            format=format.value,
            max_staleness=staleness(max_staleness),
        )
        return self._export(request, silence)

    def watch(self, *, silence: float = SILENCE, patience: float | None = PATIENCE) -> SessionWatch:
        """Follows the session; arguments and errors are those of `Client.watch_session`."""
        return self._client.watch_session(self.session_id, silence=silence, patience=patience)

    async def end(self) -> Session:
        """Ends the session: appends are refused from now on. A session that has ended is not changed."""
        return await self._client.end_session(self.session_id)

    async def _transcribe(self, key: str, text: str, status: SegmentStatus, fields: SegmentFields) -> SegmentResult:
        if "status" in fields:
            raise TypeError(f"segment {key}: the status is {status}; write Segment.transcript for another")
        segment = Segment.transcript(key, text, **cast(Any, {**fields, "status": status}))
        return (await self.append(segment))[0]
