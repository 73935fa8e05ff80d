"""Sessions and their statistics."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from interlock.documents import seconds
from interlock.segments import SegmentKind
from interlock.times import from_timestamp
from interlock.v1 import timeline_pb2, timeline_service_pb2


class SessionState(enum.IntEnum):
    """State of a session; equal to the number of the protos."""

    UNKNOWN = timeline_pb2.SESSION_STATE_UNSPECIFIED
    """A state that this version of the package does not know."""
    OPEN = timeline_pb2.SESSION_STATE_OPEN
    ENDED = timeline_pb2.SESSION_STATE_ENDED

    def __str__(self) -> str:
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> SessionState:
        return cls.UNKNOWN


@dataclass(frozen=True)
class Session:
    """A session as of one read, without its segments."""

    session_id: str
    title: str
    """Empty: none."""
    labels: dict[str, str]
    state: SessionState
    version: int
    """Grows by 1 with each change of the session or its segments."""
    segment_count: int
    """Number of segments, deleted ones not counted."""
    create_time: datetime
    update_time: datetime
    """Time at which it or one of its segments last changed."""
    end_time: datetime | None
    """None: it is OPEN."""
    retention: float
    """Seconds from its end to its deletion."""
    expire_time: datetime | None
    """Time at which it will be deleted. None: it is OPEN."""

    @property
    def has_ended(self) -> bool:
        """Whether appends are refused."""
        return self.state is SessionState.ENDED

    @classmethod
    def of(cls, session: timeline_pb2.Session) -> Session:
        """The session in a message."""
        return cls(
            session_id=session.session_id,
            title=session.title,
            labels=dict(session.labels),
            state=SessionState(session.state),
            version=session.version,
            segment_count=session.segment_count,
            create_time=from_timestamp(session.create_time),
            update_time=from_timestamp(session.update_time),
            end_time=from_timestamp(session.end_time) if session.HasField("end_time") else None,
            retention=seconds(session.retention),
            expire_time=from_timestamp(session.expire_time) if session.HasField("expire_time") else None,
        )


@dataclass(frozen=True)
class SpeakerStatistics:
    """Figures of one speaker, of transcripts."""

    speaker: str
    """Empty: not known."""
    segment_count: int
    word_count: int
    spoken: float
    """Seconds spoken; overlaps count once."""
    untimed_count: int
    """Number of segments whose start or end is not known; `spoken` lacks them."""


@dataclass(frozen=True)
class LanguageStatistics:
    """Figures of one language."""

    language: str
    """Empty: not known."""
    segment_count: int
    """Number of segments with a text."""
    word_count: int


@dataclass(frozen=True)
class KindStatistics:
    """Figures of one kind of segments."""

    kind: SegmentKind
    segment_count: int
    interim_count: int
    """Number of them that are INTERIM."""


@dataclass(frozen=True)
class SessionStatistics:
    """Figures of a session."""

    speakers: tuple[SpeakerStatistics, ...]
    """By name, at most 1,000."""
    languages: tuple[LanguageStatistics, ...]
    """By tag, at most 1,000."""
    kinds: tuple[KindStatistics, ...]
    """Those that have segments."""
    session_version: int
    """Version of the session at which they were read."""
    other_speakers_segment_count: int
    """Number of transcripts of speakers that are not listed."""
    other_languages_segment_count: int
    """Number of segments with a text of languages that are not listed."""

    @classmethod
    def of(cls, found: timeline_service_pb2.GetSessionStatisticsResponse) -> SessionStatistics:
        """The figures in a message."""
        return cls(
            speakers=tuple(
                SpeakerStatistics(it.speaker, it.segment_count, it.word_count, seconds(it.spoken), it.untimed_count)
                for it in found.speakers
            ),
            languages=tuple(LanguageStatistics(it.language, it.segment_count, it.word_count) for it in found.languages),
            kinds=tuple(KindStatistics(SegmentKind(it.kind), it.segment_count, it.interim_count) for it in found.kinds),
            session_version=found.session_version,
            other_speakers_segment_count=found.other_speakers_segment_count,
            other_languages_segment_count=found.other_languages_segment_count,
        )
