"""Conversion between Python values and documents (`google.protobuf.Struct`).

Models of pydantic are recognised by their methods; this package never imports it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import reprlib
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from google.protobuf import duration_pb2, struct_pb2

# The largest n for which a double holds every whole number up to n exactly.
_EXACT = 2**53
# Limits of the server: levels of objects and lists, and bytes as JSON of artifacts, results and details.
DEPTH = 32
DOCUMENT_BYTES = 64 * 1024
# Characters of a path that an error shows.
_PATH_CHARACTERS = 200


def to_struct(document: Any, *, limit: int | None = None) -> struct_pb2.Struct:
    """The document as a message. Numbers become doubles, tuples lists, enums their values, dates texts in ISO 8601.

    Args:
        document: a mapping with texts as keys, a dataclass or a pydantic model, nested at most 32 levels deep.
        limit: bytes as JSON. A document that is clearly larger is refused here, others by the server. None: no limit.

    Raises:
        TypeError: the document is not a mapping.
        ValueError: a value is not JSON, is a whole number beyond ±2^53, or is a str that is not UTF-8 or has a NUL;
            or the document is nested too deep or too large. The message names the place.
    """
    document = _plain(document)
    if not isinstance(document, Mapping):
        raise TypeError(
            f"a document is a mapping with texts as keys, a dataclass or a pydantic model, not {described(document)}"
        )
    struct = struct_pb2.Struct()
    _Writer(limit).mapping(struct, document, "", 1)
    return struct


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The message as a document. Whole numbers become `int`, because a double does not record the original type."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def to_duration(value: float | timedelta) -> duration_pb2.Duration:
    """Seconds, or a timedelta, as a message.

    Raises:
        ValueError: the value is not a finite number, or is beyond 10,000 years.
    """
    duration = duration_pb2.Duration()
    try:
        duration.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"a duration is a finite number of seconds or a timedelta, not {shown(value)}") from None
    return duration


def staleness(value: float | timedelta | None) -> duration_pb2.Duration | None:
    """How old the answer of a read may be, as a message. None: it is current."""
    return None if value is None else to_duration(value)


def seconds(duration: duration_pb2.Duration) -> float:
    """Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def to_value(value: Any, path: str) -> struct_pb2.Value:
    """One value as a message; `path` is its place in the document, for errors.

    Raises:
        ValueError: as `to_struct`.
    """
    message = struct_pb2.Value()
    _Writer(None).value(message, value, path, 0)
    return message


def to_number(value: float, path: str) -> float:
    """One number as a double; `path` is its place in the document, for errors.

    Raises:
        ValueError: the value is a whole number beyond ±2^53, which a double may not hold exactly.
    """
    if isinstance(value, int) and abs(value) > _EXACT:
        raise ValueError(
            f"{_at(path)}{shown(value)} is beyond ±2^53, where doubles are not exact; send it as text, or as a float"
        )
    return value


def is_model(kind: object) -> bool:
    """Whether a type is a model of pydantic."""
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_dump")


def is_typed(kind: object) -> bool:
    """Whether a type is a dataclass or a model of pydantic."""
    return is_model(kind) or (isinstance(kind, type) and dataclasses.is_dataclass(kind))


def _plain(value: Any) -> Any:
    """A value of a type that JSON lacks as one that it has; what is in it stays. Others are returned as they are."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, date):
        return value.isoformat()
    if is_model(type(value)):
        return value.model_dump(mode="json")
    if is_typed(type(value)):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def described(value: object) -> str:
    """The kind of a value for errors: `None`, or its type with an article."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def shown(value: object) -> str:
    """The beginning of a value, for errors. Never raises."""
    try:
        return reprlib.repr(value)
    except Exception:
        return described(value)


class _Writer:
    """Fills messages in place: copies of nested ones take time with each level, and fail at some depth."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._bytes = 0
        """Lower bound of the JSON bytes written so far."""

    def mapping(self, struct: struct_pb2.Struct, document: Mapping[str, Any], path: str, depth: int) -> None:
        self._enter(path, depth)
        for key, item in document.items():
            if not isinstance(key, str):
                raise ValueError(f"{_at(path)}the key {shown(key)} is {described(key)}; keys are texts")
            inner = f"{path}.{key}" if path else key
            self._text(key, inner)
            self._count(1, inner)
            self.value(struct.fields[key], item, inner, depth)

    def value(self, message: struct_pb2.Value, value: Any, path: str, depth: int) -> None:
        match value:
            case None:
                message.null_value = struct_pb2.NULL_VALUE
                self._count(4, path)
            case bool():
                message.bool_value = value
                self._count(4, path)
            case float() if not math.isfinite(value):
                raise ValueError(f"{_at(path)}JSON has no {float(value)}")
            case int() | float():
                message.number_value = to_number(value, path)
                self._count(1, path)
            case str():
                self._text(value, path)
                message.string_value = value
            case Mapping():
                message.struct_value.SetInParent()
                self.mapping(message.struct_value, value, path, depth + 1)
            case list() | tuple():
                message.list_value.SetInParent()
                self._enter(path, depth + 1)
                for index, item in enumerate(value):
                    self.value(message.list_value.values.add(), item, f"{path}[{index}]", depth + 1)
            case _ if (plain := _plain(value)) is not value:
                self.value(message, plain, path, depth)
            case _:
                kinds = "texts, numbers, booleans, None, lists and mappings"
                raise ValueError(f"{_at(path)}{described(value)} cannot be part of a document; {kinds} can")

    def _enter(self, path: str, depth: int) -> None:
        if depth > DEPTH:
            raise ValueError(f"{_at(path)}mappings and lists are nested more than {DEPTH} levels deep, or endlessly")
        self._count(2, path)

    def _text(self, text: str, path: str) -> None:
        if "\0" in text:
            raise ValueError(f"{_at(path)}a NUL character is not allowed")
        try:
            self._count(len(text.encode()) + 2, path)
        except UnicodeEncodeError as bad:
            raise ValueError(f"{_at(path)}the text is not UTF-8: {bad.reason} at character {bad.start}") from None

    def _count(self, size: int, path: str) -> None:
        # A lower bound: commas and escapes are not counted.
        self._bytes += size
        if self._limit is not None and self._bytes > self._limit:
            raise ValueError(f"{_at(path)}the document has more than {self._limit} bytes as JSON up to here")


def _at(path: str) -> str:
    """The beginning of an error about the value at a path."""
    start = path[:_PATH_CHARACTERS]
    # Keys can contain unprintable characters.
    start = "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in start)
    cut_off = "…" if len(path) > _PATH_CHARACTERS else ""
    return f"{start}{cut_off}: " if path else ""


def from_value(value: struct_pb2.Value) -> Any:
    """The message as a value; whole numbers become `int`."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case _:
            return None
