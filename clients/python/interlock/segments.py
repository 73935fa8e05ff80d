"""Segments of a session: sound, transcripts, translations and notes."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, cast

from interlock.documents import from_struct, seconds, to_duration, to_struct
from interlock.segment_parts import Content, Word, assign, times_to_seconds, word_messages
from interlock.sequences import sequences
from interlock.stages import Seconds
from interlock.times import from_timestamp
from interlock.v1 import timeline_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SegmentKind(enum.IntEnum):
    """Kind of a segment; equal to the number of the protos."""

    UNKNOWN = timeline_pb2.SEGMENT_KIND_UNSPECIFIED
    """A kind that this version of the package does not know."""
    AUDIO = timeline_pb2.SEGMENT_KIND_AUDIO
    TRANSCRIPT = timeline_pb2.SEGMENT_KIND_TRANSCRIPT
    TRANSLATION = timeline_pb2.SEGMENT_KIND_TRANSLATION
    NOTE = timeline_pb2.SEGMENT_KIND_NOTE

    def __str__(self) -> str:
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> SegmentKind:
        return cls.UNKNOWN


class SegmentStatus(enum.IntEnum):
    """Whether a segment is expected to change; equal to the number of the protos."""

    UNKNOWN = timeline_pb2.SEGMENT_STATUS_UNSPECIFIED
    """A status that this version of the package does not know."""
    INTERIM = timeline_pb2.SEGMENT_STATUS_INTERIM
    FINAL = timeline_pb2.SEGMENT_STATUS_FINAL

    def __str__(self) -> str:
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> SegmentStatus:
        return cls.UNKNOWN


class SegmentFields(TypedDict, total=False):
    """Fields of a segment beside key, kind and text."""

    status: SegmentStatus
    """Missing: FINAL."""
    start: Seconds | None
    """Time from the start of the session, 0 to 7 days. Missing or None: not known, which differs from 0."""
    end: Seconds | None
    """Time from the start of the session, not before `start`. Missing or None: not known."""
    speaker: str
    """At most 256 bytes. Missing: not known."""
    language: str
    """BCP 47 tag of the text, such as `en` or `pt-BR`. Missing: not known."""
    parent: str | Segment | None
    """The segment that this one was made from, or its key. Stored already, or in the same call. Missing: none."""
    words: Iterable[Word]
    """Words of the text with their times, at most 2,000. Missing: not known."""
    confidence: float | None
    """0 to 1. Missing: not known."""
    content: Content | None
    """The recording or another file. Missing: none."""
    metadata: Mapping[str, Any] | None
    """Document of the caller, at most 64 KiB as JSON. Missing: none."""
    sequence: int | None
    """As in `Segment.sequence`. Missing or None: the client counts."""


@dataclass(frozen=True)
class Segment:
    """A segment to send, or as it was read. `SegmentFields` has the meaning and limits of the fields.

    Times may be given in seconds or as timedelta, and are seconds afterwards.
    """

    key: str
    """Key, unique in the session: what is sent twice is stored once."""
    kind: SegmentKind
    text: str = ""
    status: SegmentStatus = SegmentStatus.FINAL
    start: float | None = None
    end: float | None = None
    speaker: str = ""
    language: str = ""
    parent: str | None = None
    words: tuple[Word, ...] = field(default=(), repr=False)
    confidence: float | None = None
    content: Content | None = None
    metadata: Mapping[str, Any] | None = None
    sequence: int | None = None
    """Number of this state among the states of the key: an INTERIM state is replaced only by one with a higher number.
    None: INTERIM states are numbered in the order in which the objects are made, so that an object that is sent twice
    or too late changes nothing; and a FINAL state replaces any INTERIM one. Always None in a segment that was read."""
    version: int = 0
    """Version of the session at which the segment last changed, for corrections. 0: not read from the server."""
    stored_sequence: int = 0
    """Sequence of the state that was read."""
    arrival: int = 0
    """Number of its arrival in the session, from 1. 0: not read from the server."""
    create_time: datetime | None = field(default=None, repr=False)
    """Time at which its first state was stored. None: not read from the server."""
    update_time: datetime | None = field(default=None, repr=False)
    """Time at which its last state was stored. None: not read from the server."""
    _counted: int = field(init=False, repr=False, compare=False, default=0)
    """The sequence if the caller gave none. Not copied by `dataclasses.replace`, which makes another state."""

    def __post_init__(self) -> None:
        times_to_seconds(self, "start", "end")
        parent: object = self.parent
        assign(self, "parent", parent.key if isinstance(parent, Segment) else parent)
        assign(self, "words", tuple(self.words))
        if self.sequence is None:
            assign(self, "_counted", sequences.next(is_final=self.status != SegmentStatus.INTERIM))

    @classmethod
    def audio(cls, key: str, source: str | bytes | None = None, **fields: Unpack[SegmentFields]) -> Segment:
        """A piece of sound. `source`: its URI or its bytes; `content` can say more about it. None: neither is known."""
        if source is not None and "content" in fields:
            raise TypeError(f"segment {key}: give the source or the content, which has it")
        match source:
            case str():
                fields["content"] = Content(uri=source)
            case bytes():
                fields["content"] = Content(data=source)
        return cls(key, SegmentKind.AUDIO, **cast(Any, fields))

    @classmethod
    def transcript(cls, key: str, text: str, **fields: Unpack[SegmentFields]) -> Segment:
        """What was said, in the language of the speaker."""
        return cls(key, SegmentKind.TRANSCRIPT, text, **cast(Any, fields))

    @classmethod
    def translation(cls, key: str, text: str, **fields: Unpack[SegmentFields]) -> Segment:
        """What was said, in another language."""
        return cls(key, SegmentKind.TRANSLATION, text, **cast(Any, fields))

    @classmethod
    def note(cls, key: str, text: str, **fields: Unpack[SegmentFields]) -> Segment:
        """A remark about the session."""
        return cls(key, SegmentKind.NOTE, text, **cast(Any, fields))

    @property
    def is_final(self) -> bool:
        """Whether no append replaces it any more."""
        return self.status == SegmentStatus.FINAL

    @property
    def duration(self) -> float | None:
        """Seconds from start to end. None: one of them is not known."""
        return None if self.start is None or self.end is None else self.end - self.start

    @classmethod
    def of(cls, segment: timeline_pb2.Segment) -> Segment:
        """The segment in a message."""
        return cls(
            key=segment.key,
            kind=SegmentKind(segment.kind),
            text=segment.text,
            status=SegmentStatus(segment.status),
            start=seconds(segment.start) if segment.HasField("start") else None,
            end=seconds(segment.end) if segment.HasField("end") else None,
            speaker=segment.speaker,
            language=segment.language,
            parent=segment.parent_key if segment.HasField("parent_key") else None,
            words=tuple(Word.of(word) for word in segment.words),
            confidence=segment.confidence if segment.HasField("confidence") else None,
            content=Content.of(segment.content) if segment.HasField("content") else None,
            metadata=from_struct(segment.metadata) if segment.HasField("metadata") else None,
            stored_sequence=segment.sequence,
            version=segment.version,
            arrival=segment.arrival,
            create_time=from_timestamp(segment.create_time) if segment.HasField("create_time") else None,
            update_time=from_timestamp(segment.update_time) if segment.HasField("update_time") else None,
        )

    def to_message(self) -> timeline_pb2.Segment:
        """The segment as a message, without the fields that the server sets.

        Raises:
            TypeError, ValueError: a value can never be accepted; the message names segment and field.
        """
        message = timeline_pb2.Segment()
        values = {name: value for name in MESSAGE_FIELDS if (value := getattr(self, name)) not in (None, "", ())}
        if self.sequence is None:
            values["sequence"] = self._counted
        for name, value in values.items():
            set_field(message, name, value, self.key)
        return message


# Fields of `Segment` that requests have, with their names in the message.
MESSAGE_FIELDS = {
    **{name: name for name in ("key", "kind", "text", "status", "start", "end", "speaker", "language")},
    **{"parent": "parent_key", "words": "words", "confidence": "confidence", "content": "content"},
    **{"metadata": "metadata", "sequence": "sequence"},
}


def set_field(message: timeline_pb2.Segment, name: str, value: Any, key: object) -> None:
    """Sets a field of a message to a value of the field of `Segment` with this name.

    Raises:
        TypeError, ValueError: the value can never be accepted; the message names segment and field.
    """
    try:
        match name:
            case "start" | "end":
                getattr(message, name).CopyFrom(to_duration(value))
            case "parent":
                message.parent_key = value.key if isinstance(value, Segment) else value
            case "words":
                message.words.extend(word_messages(value))
            case "content":
                message.content.CopyFrom(value.to_message())
            case "metadata":
                message.metadata.CopyFrom(to_struct(value))
            case _:
                setattr(message, name, value)
    except TypeError as bad:
        raise TypeError(f"segment {key}: {name}: {bad}") from None
    except ValueError as bad:
        raise ValueError(f"segment {key}: {name}: {bad}") from None
