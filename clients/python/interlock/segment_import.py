"""Imports of many segments, in parts that can be repeated."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

from interlock.documents import described
from interlock.errors import InterlockError
from interlock.segment_results import ImportFault, ImportResult, error_of
from interlock.segments import Segment
from interlock.v1 import timeline_service_pb2

# Most segments of a message.
_SEGMENTS = 500
# Bytes after which a message, and a part of the import, is sent. A part is held in memory until it is stored.
_MESSAGE_BYTES = 1024 * 1024
_PART_BYTES = 8 * _MESSAGE_BYTES
_PART_MESSAGES = 16
# Most faults that a result has.
_FAULTS = 1_000

ImportMessage = timeline_service_pb2.ImportSegmentsRequest
SendPart = Callable[[list[ImportMessage]], Awaitable[timeline_service_pb2.ImportSegmentsResponse]]


async def import_all(
    segments: AsyncIterable[Segment] | Iterable[Segment], session_id: str, allow_missing: bool, send: SendPart
) -> ImportResult:
    """Sends all segments, part by part. `send` sends a part, and repeats it if it fails."""
    result = ImportResult(0, 0, 0, ())
    async for part in _parts(_messages(_iterated(segments), session_id, allow_missing)):
        try:
            response = await send(part)
        except InterlockError as error:
            error.imported = _sum(result, _imported_before(error))
            stored = error.imported.applied + error.imported.unchanged
            advice = "are stored; some of those that follow may be"
            error.args = (f"{error} ({stored} segments of the import {advice})",)
            raise
        result = _sum(result, response)
    return result


def _sum(result: ImportResult, response: timeline_service_pb2.ImportSegmentsResponse) -> ImportResult:
    """The sum of a result and of what became of the next part."""
    before = result.applied + result.unchanged + result.failed
    faults = list(result.faults)
    for fault in response.faults[: _FAULTS - len(faults)]:
        error = error_of(fault.status, fault.key)
        assert error is not None
        faults.append(ImportFault(before + fault.index, fault.key, error))
    return ImportResult(
        result.applied + response.applied_count,
        result.unchanged + response.unchanged_count,
        result.failed + response.failed_count,
        tuple(faults),
    )


def _imported_before(error: InterlockError) -> timeline_service_pb2.ImportSegmentsResponse:
    """What the server says of the messages before the one that failed. Zero: nothing."""

    def count(name: str) -> int:
        given = error.metadata.get(name, "")
        return int(given) if given.isdecimal() else 0

    return timeline_service_pb2.ImportSegmentsResponse(
        applied_count=count("applied_count"),
        unchanged_count=count("unchanged_count"),
        failed_count=count("failed_count"),
    )


async def _iterated(segments: AsyncIterable[Segment] | Iterable[Segment]) -> AsyncIterator[Segment]:
    if isinstance(segments, AsyncIterable):
        async for segment in segments:
            yield segment
    elif isinstance(segments, Iterable):
        for segment in segments:
            yield segment
    else:
        raise TypeError(f"segments is an iterable of Segment, not {described(segments)}")


async def _messages(
    segments: AsyncIterator[Segment], session_id: str, allow_missing: bool
) -> AsyncIterator[ImportMessage]:
    def empty() -> ImportMessage:
        return ImportMessage(session_id=session_id, allow_missing=allow_missing)

    message, size = empty(), 0
    async for segment in segments:
        added = segment.to_message()
        bytes_of_it = added.ByteSize()
        if message.segments and (len(message.segments) >= _SEGMENTS or size + bytes_of_it > _MESSAGE_BYTES):
            yield message
            message, size = empty(), 0
        message.segments.append(added)
        size += bytes_of_it
    if message.segments:
        yield message


async def _parts(messages: AsyncIterator[ImportMessage]) -> AsyncIterator[list[ImportMessage]]:
    part: list[ImportMessage] = []
    size = 0
    async for message in messages:
        part.append(message)
        size += message.ByteSize()
        if len(part) >= _PART_MESSAGES or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
