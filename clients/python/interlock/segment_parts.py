"""Words and files of a segment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from interlock.documents import described, seconds, to_duration
from interlock.stages import Seconds
from interlock.v1 import timeline_pb2


@dataclass(frozen=True, init=False)
class Word:
    """A word of a segment's text."""

    text: str
    start: float | None = None
    """Seconds from the start of the session. None: not known."""
    end: float | None = None
    """Seconds from the start of the session. None: not known."""
    confidence: float | None = None
    """0 to 1. None: not known."""

    def __init__(
        self, text: str, start: Seconds | None = None, end: Seconds | None = None, confidence: float | None = None
    ) -> None:
        """A word with its times, in seconds or as timedelta."""
        assign(self, "text", text)
        assign(self, "start", start)
        assign(self, "end", end)
        assign(self, "confidence", confidence)
        times_to_seconds(self, "start", "end")

    @classmethod
    def of(cls, word: timeline_pb2.SegmentWord) -> Word:
        """The word in a message."""
        return cls(
            word.text,
            seconds(word.start) if word.HasField("start") else None,
            seconds(word.end) if word.HasField("end") else None,
            word.confidence if word.HasField("confidence") else None,
        )


@dataclass(frozen=True)
class Content:
    """A file of a segment: its `uri`, or its bytes as `data`, of at most 256 KiB."""

    uri: str | None = None
    data: bytes | None = field(default=None, repr=False)
    size_bytes: int | None = None
    """Size of the file. None: not known, or that of `data`."""
    sha256: str = ""
    """64 hexadecimal digits. Empty: not known, or that of `data`."""
    media_type: str = ""
    """Media type, such as `audio/ogg`. Empty: not known."""

    @classmethod
    def of(cls, content: timeline_pb2.SegmentContent) -> Content:
        """The file in a message."""
        return cls(
            content.uri if content.HasField("uri") else None,
            content.inline_data if content.HasField("inline_data") else None,
            content.size_bytes if content.HasField("size_bytes") else None,
            content.sha256,
            content.media_type,
        )

    def to_message(self) -> timeline_pb2.SegmentContent:
        """The file as a message.

        Raises:
            ValueError: it has neither a uri nor data, or both.
        """
        if (self.uri is None) == (self.data is None):
            raise ValueError("a Content has either a uri or data")
        message = timeline_pb2.SegmentContent(
            size_bytes=self.size_bytes, sha256=self.sha256, media_type=self.media_type
        )
        if self.uri is not None:
            message.uri = self.uri
        if self.data is not None:
            message.inline_data = self.data
        return message


def word_messages(words: Iterable[Word]) -> list[timeline_pb2.SegmentWord]:
    """Words as messages.

    Raises:
        TypeError, ValueError: an element is not a Word, or has a value that can never be accepted.
    """
    messages = []
    for index, word in enumerate(words):
        if not isinstance(word, Word):
            raise TypeError(f"[{index}] is {described(word)}, not a Word")
        message = timeline_pb2.SegmentWord(text=word.text, confidence=word.confidence)
        if word.start is not None:
            message.start.CopyFrom(to_duration(word.start))
        if word.end is not None:
            message.end.CopyFrom(to_duration(word.end))
        messages.append(message)
    return messages


def times_to_seconds(owner: object, *names: str) -> None:
    """Converts attributes of a dataclass that is being made from timedelta to seconds."""
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, timedelta):
            assign(owner, name, value.total_seconds())


def assign(owner: object, name: str, value: object) -> None:
    """Assigns an attribute of a frozen dataclass that is being made."""
    object.__setattr__(owner, name, value)
