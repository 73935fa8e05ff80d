"""Results of writing segments, and the error that names a segment."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from google.rpc import status_pb2

from interlock.errors import InterlockError, InvalidArgument, from_status
from interlock.segments import Segment
from interlock.v1 import timeline_service_pb2

# The path of a field in a request that appends segments.
_PATH = re.compile(r"segments\[(\d+)\]\.?(.*)")


class SegmentSkip(enum.IntEnum):
    """Reason why an append did not change a segment; equal to the number of the protos."""

    UNKNOWN = timeline_service_pb2.SEGMENT_SKIP_UNSPECIFIED
    """A reason that this version of the package does not know, or a repeated call that had been applied."""
    SEQUENCE = timeline_service_pb2.SEGMENT_SKIP_SEQUENCE
    """The stored state has an equal or higher sequence: the segment was sent twice or is late."""
    FINAL = timeline_service_pb2.SEGMENT_SKIP_FINAL
    """The stored state is FINAL."""
    DELETED = timeline_service_pb2.SEGMENT_SKIP_DELETED
    """The segment was deleted."""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> SegmentSkip:
        return cls.UNKNOWN


@dataclass(frozen=True)
class SegmentResult:
    """Result of appending one segment."""

    key: str
    applied: bool
    """Whether the segment was stored."""
    skip: SegmentSkip | None
    """Reason why it was not stored. None: it was."""
    version: int
    """Version of the session at which the segment last changed. 0: not known, because an earlier try decided."""

    @classmethod
    def of(cls, result: timeline_service_pb2.SegmentResult) -> SegmentResult:
        """The result in a message."""
        return cls(result.key, result.applied, None if result.applied else SegmentSkip(result.skip), result.version)


@dataclass(frozen=True)
class SegmentWriteResult:
    """Result of one segment that was written independently of others."""

    key: str
    result: SegmentResult | None
    """None: the segment was refused."""
    error: InterlockError | None
    """Error of the refusal; `InvalidSegment` names the field. None: the segment was accepted."""


@dataclass(frozen=True)
class ImportFault:
    """A segment that an import refused."""

    index: int
    """Number of the segment in the import, from 0."""
    key: str
    error: InterlockError
    """Error of the refusal; `InvalidSegment` names the field."""


@dataclass(frozen=True)
class ImportResult:
    """Result of an import."""

    applied: int
    """Number of segments that were stored."""
    unchanged: int
    """Number of segments that were stored before, also by an earlier try of this import."""
    failed: int
    """Number of segments that were refused."""
    faults: tuple[ImportFault, ...]
    """The first 1,000 refusals, in the order of the import."""


class InvalidSegment(InvalidArgument):
    """A segment is wrong."""

    key: str
    """Key of the segment."""
    field: str
    """Path of the field within the segment, such as `end` or `words[3].start`. Empty: the segment as a whole."""

    @classmethod
    def of(cls, error: InvalidArgument, key: str, field: str) -> InvalidSegment:
        """The error about a segment."""
        invalid = cls(
            error.code,
            f"{error.message} (segment {key})",
            reason=error.reason,
            metadata=error.metadata,
            retry_after=error.retry_after,
            retry_forbidden=error.retry_forbidden,
            violations=error.violations,
        )
        invalid.key, invalid.field = key, field
        return invalid


@contextmanager
def naming_segments(segments: Sequence[Segment]) -> Iterator[None]:
    """Raises `InvalidSegment` in place of InvalidArgument about one of these segments."""
    try:
        yield
    except InvalidArgument as error:
        found = _PATH.fullmatch(error.violations[0].field) if error.violations else None
        if found is None or int(found[1]) >= len(segments):
            raise
        raise InvalidSegment.of(error, segments[int(found[1])].key, found[2]) from error.__cause__


def error_of(status: status_pb2.Status, key: str) -> InterlockError | None:
    """The error of the status of one segment, whose paths are those within the segment. None: the status is OK."""
    error = from_status(status)
    if isinstance(error, InvalidArgument) and error.violations:
        return InvalidSegment.of(error, key, error.violations[0].field)
    return error
