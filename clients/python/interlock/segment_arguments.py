"""Requests about segments, made from the arguments of the client."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, TypeVar

from google.protobuf import field_mask_pb2

from interlock.arguments import items, names
from interlock.documents import described, shown, staleness, to_duration
from interlock.segment_parts import Content, Word
from interlock.segments import MESSAGE_FIELDS, Segment, SegmentKind, SegmentStatus, set_field
from interlock.stages import Seconds
from interlock.v1 import timeline_pb2, timeline_service_pb2

Number = TypeVar("Number", bound=enum.IntEnum)
# Fields that a correction can change.
_CHANGEABLE = [name for name in MESSAGE_FIELDS if name not in ("key", "kind", "sequence")]


class Untimed(enum.IntEnum):
    """Treatment of segments that have no start; equal to the number of the protos."""

    INCLUDE = timeline_service_pb2.UNTIMED_INCLUDE
    """They match any range, and come after all others."""
    EXCLUDE = timeline_service_pb2.UNTIMED_EXCLUDE
    ONLY = timeline_service_pb2.UNTIMED_ONLY
    """Only they match; the range must be open."""

    def __str__(self) -> str:
        return self.name


class SegmentChanges(TypedDict, total=False):
    """Fields to correct. Missing: stays as it is. None: removed. `SegmentFields` has their meaning."""

    text: str | None
    status: SegmentStatus
    start: Seconds | None
    end: Seconds | None
    speaker: str | None
    language: str | None
    parent: str | Segment | None
    words: Iterable[Word] | None
    confidence: float | None
    content: Content | None
    metadata: Mapping[str, Any] | None


def segments_append(
    session_id: str, *segments: Segment, allow_missing: bool = False
) -> timeline_service_pb2.AppendSegmentsRequest:
    """An append for `Client.commit` or `Completion.also`: the segments are stored together with other writes.

    Args:
        session_id: id of the session.
        segments: 1 to 500 segments with different keys.
        allow_missing: whether a missing session is created.
    """
    return timeline_service_pb2.AppendSegmentsRequest(
        session_id=session_id, segments=segment_messages(segments), allow_missing=allow_missing
    )


def segment_messages(segments: Iterable[Segment]) -> list[timeline_pb2.Segment]:
    """Segments as messages.

    Raises:
        TypeError, ValueError: an element is not a Segment, or has a value that can never be accepted.
    """
    messages = []
    for index, segment in enumerate(segments):
        if not isinstance(segment, Segment):
            raise TypeError(f"segments[{index}] is {described(segment)}, not a Segment")
        messages.append(segment.to_message())
    return messages


def segment_update(
    session_id: str, segment: Segment | str, expected_version: int | None, changes: SegmentChanges
) -> timeline_service_pb2.UpdateSegmentRequest:
    """A correction of a segment.

    Raises:
        TypeError: a field does not exist or cannot be changed.
        ValueError: there are no changes, or no version is given.
    """
    key, version = key_and_version(segment, expected_version)
    if version is None:
        raise ValueError(f"segment {key}: give the segment as `get` returns it, or its version as `expected_version`")
    if not changes:
        raise ValueError(f"segment {key}: no field to change is given")
    given: Mapping[str, Any] = changes
    message = timeline_pb2.Segment(key=key)
    for name, value in given.items():
        if name not in _CHANGEABLE:
            raise TypeError(f"segment {key}: {shown(name)} cannot be changed; {', '.join(_CHANGEABLE)} can")
        if value is not None:
            set_field(message, name, value, key)
    return timeline_service_pb2.UpdateSegmentRequest(
        session_id=session_id,
        segment=message,
        update_mask=field_mask_pb2.FieldMask(paths=[MESSAGE_FIELDS[name] for name in given]),
        expected_version=version,
    )


def key_and_version(segment: Segment | str, expected_version: int | None) -> tuple[str, int | None]:
    """The key of a segment, and the version that it must have: the given one, or that of the segment. None: any."""
    if isinstance(segment, str):
        return segment, expected_version
    return segment.key, expected_version if expected_version is not None else segment.version or None


def timeline_query(
    session_id: str,
    start: Seconds | None,
    end: Seconds | None,
    *,
    kinds: Iterable[SegmentKind],
    languages: Iterable[str],
    speakers: Iterable[str],
    statuses: Iterable[SegmentStatus],
    untimed: Untimed,
    max_staleness: Seconds | None,
) -> timeline_service_pb2.QueryTimelineRequest:
    """A query of the first page of a timeline."""
    return timeline_service_pb2.QueryTimelineRequest(
        session_id=session_id,
        start=None if start is None else to_duration(start),
        end=None if end is None else to_duration(end),
        untimed=untimed.value,
        kinds=numbers(kinds, "kinds", SegmentKind),
        languages=names(languages, "languages"),
        speakers=names(speakers, "speakers"),
        statuses=numbers(statuses, "statuses", SegmentStatus),
        page_size=1_000,
        max_staleness=staleness(max_staleness),
    )


def numbers(given: Iterable[Number], parameter: str, kind: type[Number]) -> list[Any]:
    """Checks a list of values of an enum.

    Raises:
        TypeError: it is a single value, or an element is of another type.
    """
    listed = items(given, parameter, f"[{kind.__name__}.{[*kind][1].name}]")
    for index, item in enumerate(listed):
        if not isinstance(item, kind):
            raise TypeError(f"{parameter}[{index}] is {described(item)}, not a {kind.__name__}")
    return [item.value for item in listed]
